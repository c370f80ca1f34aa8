"""The verdict on a record: pure functions, without Spark."""
