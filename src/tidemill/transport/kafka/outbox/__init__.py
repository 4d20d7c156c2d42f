"""3 publish, on Kafka: a lane's only publisher, and the present content of its topics."""
