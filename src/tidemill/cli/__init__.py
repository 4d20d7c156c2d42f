"""The command line: the program `tidemill`, one file per verb. It calls `admin`, as `app` opens it.

A verb imports what it needs when it is called.
"""
