"""Outcomes of commands that came by HTTP, and single documents that their commands depend on."""
