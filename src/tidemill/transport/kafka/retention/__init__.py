"""6 let go, on Kafka: the archive's topics as an archiver uses them."""
