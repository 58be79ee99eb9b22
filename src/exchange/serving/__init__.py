"""What every process of the exchange has: its port, its life, its logs, metrics and errors."""
