"""4 project and 5 answer, on TimescaleDB: rows of read models, rebuilding them, reading pages of them."""
