"""3 publish, on TimescaleDB: the rows that the relay reads."""
