"""What runs: the service, its queries, retention, and what starts the JVM and the Python workers of Spark."""
