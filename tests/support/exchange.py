"""Shard 0 as an exchange has it when it opens: assets, shards, a market, and Alice with money in the treasury."""

from exchange.domain.markets import Asset
from exchange.domain.operations import (
    AllocationPolicy,
    DefineAsset,
    DefineMarket,
    DefineShard,
    Deposit,
    OperatorRole,
)
from exchange.local.control_venue import ControlVenue, KeyPair
from tests.support.markets import BASE, BOOK, QUOTE


def opened_control() -> tuple[ControlVenue, int, KeyPair]:
    """Return shard 0, Alice's account with 1,000 units of QUOTE in the treasury, and her key."""
    control = ControlVenue()
    control.operate(
        OperatorRole.MARKET,
        DefineAsset(Asset(BASE, "BTC", 8)),
        DefineAsset(Asset(QUOTE, "USD", 2)),
        DefineShard(1),
        DefineShard(2),
        DefineMarket(BOOK),
    )
    account, key = control.new_user("alice")
    control.operate(OperatorRole.TREASURY, Deposit(account, QUOTE, 1_000, AllocationPolicy.NONE))
    return control, account, key
