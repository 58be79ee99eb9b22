"""A central limit order book: the order path of an exchange, from a trader's signed order to settled money."""
