"""The audit: what goes into a step must come out of it."""
