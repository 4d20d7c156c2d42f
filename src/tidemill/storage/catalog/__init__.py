"""0 prepare, on TimescaleDB: the tables that are there, as values."""
