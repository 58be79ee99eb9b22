"""The execution of a shard's log: checkpoints, the loop that reads, applies and commits, and what is asked of it."""
