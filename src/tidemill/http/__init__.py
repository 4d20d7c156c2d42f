"""HTTP: the health of a process, and its metrics."""
