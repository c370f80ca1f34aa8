"""What is declared: a feed, its parts, and the types of its columns."""
