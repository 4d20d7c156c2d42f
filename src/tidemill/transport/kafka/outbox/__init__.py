"""3 out, on Kafka: a lane's only publisher, and what its topics hold already."""
