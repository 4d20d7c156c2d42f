"""5 answer, on TimescaleDB: documents, pages, counts and progress; what is sent is JSON that PostgreSQL makes."""
