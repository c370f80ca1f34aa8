"""Realistic test traffic for the feeds. Kafka is the only contract with stream_app, never imported here."""
