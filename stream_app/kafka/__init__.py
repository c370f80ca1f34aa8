"""What we ask the broker ourselves."""
