"""What an operator asks of the database and changes about lanes."""
