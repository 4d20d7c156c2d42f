"""Revisions of the database: finding them, and bringing a database to them."""
