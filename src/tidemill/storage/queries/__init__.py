"""5 answer, on TimescaleDB: documents, pages and counts as JSON that PostgreSQL makes."""
