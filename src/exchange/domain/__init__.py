"""Pure nouns of the exchange: what exists, in which units and within which bounds. Imports nothing of the project."""
