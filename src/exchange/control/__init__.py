"""Shard 0 as services see it: who has which key, which markets there are and where. A fold over its executions."""
