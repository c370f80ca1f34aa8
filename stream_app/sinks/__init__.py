"""What writes a micro-batch. Each module states its delivery guarantee."""
