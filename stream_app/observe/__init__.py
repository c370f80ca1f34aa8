"""What is known of the running service, and how others learn of it."""
