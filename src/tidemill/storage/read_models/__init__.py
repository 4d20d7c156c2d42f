"""4 remember and 5 answer, on TimescaleDB: rows of read models, rebuilding them, reading pages of them."""
