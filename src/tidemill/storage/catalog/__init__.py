"""0 prepare, on TimescaleDB: the present tables, as values."""
