"""An always-on Spark Structured Streaming service: a Kafka topic into bronze, quarantine, silver, gold and CSV."""
