"""The outside by HTTP: how a process is, and its metrics."""
