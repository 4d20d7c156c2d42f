"""Lanes, shown and decided about when they stand."""
