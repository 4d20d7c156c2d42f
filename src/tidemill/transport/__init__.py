"""Adapter: Kafka, Avro, and the schema registry. Only `app` imports it."""
