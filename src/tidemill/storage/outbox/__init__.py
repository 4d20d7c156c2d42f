"""3 outbox, on TimescaleDB: the rows that the relay reads."""
