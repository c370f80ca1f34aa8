"""The batch path's tables: what has landed, judged by the feeds' contracts, and what joins make of it."""
