"""6 let go, on TimescaleDB: the registry of slices, and rows read, measured and brought back."""
