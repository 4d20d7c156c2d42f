"""0 prepare, on Kafka: the topics, how each must be set up, and what differs."""
