"""A Kafka connection as both clients take it, and what the service asks the broker itself."""
