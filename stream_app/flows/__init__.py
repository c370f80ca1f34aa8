"""A flow: one streaming query, its names and paths, and the lineage of its files."""
