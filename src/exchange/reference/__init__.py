"""The executable specification: what a shard does with an entry, written to be read. Imports the domain only.

Start with `shard` for the order of things in an entry, `orders` for the rules of commands and their precedence,
`matching` for trading, `core` for nonces, links and operations, and `control` for shard 0.
"""
