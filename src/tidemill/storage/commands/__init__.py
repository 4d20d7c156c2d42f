"""1 intake, on TimescaleDB: claims, the batch transaction, the generations of the log."""
