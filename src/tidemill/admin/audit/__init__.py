"""The audit: what goes into a hop must come out of it."""
