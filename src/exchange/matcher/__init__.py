"""The market-matcher: one shard's loop, and what operators ask of it."""
