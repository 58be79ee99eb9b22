"""From executions to settled money: folds execution frames into balances and checks that they add up."""
