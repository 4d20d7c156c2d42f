"""3 out, on TimescaleDB: what the relay reads."""
