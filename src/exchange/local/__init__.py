"""A whole venue in this process, without a network: what demos, replays, scenarios and tests run on."""
