"""The checks before a process runs: its lanes, and whether its tables are as declared."""
