"""0 prepare, on Kafka: the topics, their settings, and the differences."""
