"""One file per process that serves, and what they share."""
