"""One file per process that serves, and what all of them share."""
