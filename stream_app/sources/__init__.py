"""The only two places that call readStream: a Kafka topic, and the files of a layer."""
