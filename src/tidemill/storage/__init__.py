"""Adapter: TimescaleDB. The only place with SQL, beside the table declarations of `contexts`."""
