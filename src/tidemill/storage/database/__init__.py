"""The database access of every workflow: pools, sessions, errors, named statements, statements made from tables."""
