"""What runs: the service, its queries, retention."""
