"""The outside: the program `tidemill`, one file per verb. It knows only `app`, and imports it when a verb is called."""
