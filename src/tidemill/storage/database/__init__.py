"""The database as every workflow uses it: pools, sessions, errors, named statements, statements made from tables."""
