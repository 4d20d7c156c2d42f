"""Bytes as Kafka and Avro write them: what the adapters of both encode by hand."""
