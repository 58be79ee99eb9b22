"""Two engines, the same entries: random and adversarial ones, made from a seed, and everything they say compared.

`python -m tests.differential --help` runs it; `world` and `making` say what enters, `pair` what is compared, `coverage`
what must have occurred, `cases` how a difference is kept, made small and replayed, `planted` whether it finds bugs.
"""
