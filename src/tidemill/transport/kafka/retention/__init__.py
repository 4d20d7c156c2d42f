"""6 archive, on Kafka: the archive's topics for an archiver."""
