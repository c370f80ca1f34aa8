"""What the make targets call. Each reads the files; none needs Spark or a running service."""
