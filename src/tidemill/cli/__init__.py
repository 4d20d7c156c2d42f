"""The outside: the program `tidemill`, one file per verb. It asks `admin`, as `app` opens it.

A verb imports what it needs when it is called.
"""
