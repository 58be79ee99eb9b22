"""Market data: execution frames folded into books, trades and private feeds, and the services that tell of them."""
