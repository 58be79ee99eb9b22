"""The only place where bytes get a meaning: strict decoding, frames, hashes, checkpoints."""
