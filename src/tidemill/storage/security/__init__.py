"""2 decide, on TimescaleDB: the data keys of rows, and the names of the master keys that wrap them."""
