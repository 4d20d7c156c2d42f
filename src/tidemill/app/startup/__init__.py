"""What is looked at before a process works: its lanes, and whether its tables are as declared."""
