"""The Kafka clients of every workflow: started, watched, read from, closed, and their errors translated."""
