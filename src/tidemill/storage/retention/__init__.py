"""6 archive, on TimescaleDB: the registry of slices, and rows read, measured and restored."""
