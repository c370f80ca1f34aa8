"""A flow: one streaming query, its names and paths, and the chain of its files."""
