"""Adapter: TimescaleDB. The only place, beside `contexts`' table declarations, where SQL is known."""
