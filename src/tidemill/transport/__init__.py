"""Adapter: Kafka, Avro, and the schema registry. Nobody but `app` imports it."""
