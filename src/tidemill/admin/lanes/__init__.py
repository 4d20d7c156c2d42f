"""Lanes: shown, and resumed when they are stopped."""
