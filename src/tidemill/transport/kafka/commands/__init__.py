"""1 intake, on Kafka: the command topic as a member of its group, and replies."""
