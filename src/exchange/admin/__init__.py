"""What operators do: users, keys, markets and money, and how the exchange is doing. Runs inside settlement-plane."""
