"""1 in, on TimescaleDB: claims, the batch transaction, the generations of the log."""
