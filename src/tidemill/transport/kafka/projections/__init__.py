"""4 remember, on Kafka: the event topic, all partitions of it."""
