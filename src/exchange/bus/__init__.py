"""The message bus: a pair of streams per shard on Redis or Valkey, and the scripts that are their only writers."""
