"""1 in, on Kafka: the command topic as a member of its group, and replies."""
