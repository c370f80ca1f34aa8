"""The whole stack on this machine without Docker: set-up, Kafka broker, producer and app. `make run` starts here."""
