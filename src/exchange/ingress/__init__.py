"""The traders' and operators' door: verifies signatures, frames batches per shard, answers with what became of them."""
