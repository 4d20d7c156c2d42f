"""4 project, on Kafka: all partitions of the event topic."""
