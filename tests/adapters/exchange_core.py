"""The published features of exchange-core (Gherkin) as scenarios of ours.

Prices, sizes and balances of the features are integers already. Their symbols are these:

    ETH_XBT   an exchange pair: a lot is 100,000 units of ETH, a tick costs 10 units of XBT per lot
              (7 lots at 30,000 cost 2,100,000 XBT and 700,000 ETH; 500 at 18,500 leave 1,500,000 of 94,000,000)
    EUR_USD   a contract on margin: who sells it needs no EUR

Where exchange-core differs from a spot engine by design, a step does not mean the same here. Each such step is listed in
`DEPARTURES` with what is played in its place; every one of them has to occur in the features, and nothing else is left
out but the column `reservePrice` and `bidderHoldPrice`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

MARKETS: Final[list[dict[str, Any]]] = [
    {
        "symbol": "ETH_XBT",
        "base": "ETH",
        "quote": "XBT",
        "base_units_per_lot": 100_000,
        "quote_units_per_tick_lot": 10,
    },
    {"symbol": "EUR_USD", "base": "EUR", "quote": "USD"},
]
MARGIN_CONTRACTS: Final = {"EUR_USD"}
REASONS: Final = {"RISK_NSF": "INSUFFICIENT_FUNDS"}
SIDES: Final = {"ASK": "sell", "BID": "buy"}


@dataclass(frozen=True)
class Departure:
    """What is played for a sentence of a scenario.

    Attributes:
        scenario: name of the scenario in the feature.
        sentence: the sentence, word for word.
        table: the first row below it that differs, or nothing.
        played: the sentence that is played for it.
        played_table: the row that is played for `table`.
        why: what exchange-core does that a spot engine without reserve price does not.
    """

    scenario: str
    sentence: str
    played: str
    why: str
    table: tuple[str, ...] = ()
    played_table: tuple[str, ...] = ()


_MOVE: Final = "move orders UP and DOWN"
_HOLD: Final = "a bid is held at its reservePrice there, at its own price here"
DEPARTURES: Final = (
    Departure(
        scenario=_MOVE,
        sentence="A client Bob could not place an BID order 203 at 18000@500 "
        "(type: GTC, symbol: ETH_XBT, reservePrice: 19000) due to RISK_NSF",
        played="A client Bob could not place an BID order 203 at 19000@500 (type: GTC, symbol: ETH_XBT) due to RISK_NSF",
        why=f"{_HOLD}: the bid is placed at 19000, where the hold is the same",
    ),
    Departure(
        scenario=_MOVE,
        sentence="A balance of a client Bob:",
        table=("XBT", "1500000"),
        played="A balance of a client Bob:",
        played_table=("XBT", "4000000"),
        why=f"{_HOLD}: 94,000,000 - 500 x 18,000 x 10 are free",
    ),
    Departure(
        scenario=_MOVE,
        sentence="A client Bob could not move a price to 18501 of the order 203 "
        "due to MATCHING_MOVE_FAILED_PRICE_OVER_RISK_LIMIT",
        played="A client Bob could not move a price to 18801 of the order 203 due to RISK_NSF",
        why="a move above reservePrice is refused there; here funds are the limit, 94,000,000 / (500 x 10) = 18,800",
    ),
    Departure(
        scenario=_MOVE,
        sentence="A balance of a client Bob:",
        table=("XBT", "1500000"),
        played="A balance of a client Bob:",
        played_table=("XBT", "4000000"),
        why=f"{_HOLD}: after the refused move the same as before it",
    ),
    Departure(
        scenario=_MOVE,
        sentence="A client Bob moves a price to 17500 of the order 203",
        played="A client Bob moves a price to 17500 of the order 203",
        why="the hold falls with the price here, so the balance that follows is another",
    ),
    Departure(
        scenario=_MOVE,
        sentence="A balance of a client Bob:",
        table=("XBT", "1500000"),
        played="A balance of a client Bob:",
        played_table=("XBT", "6500000"),
        why=f"{_HOLD}: 94,000,000 - 500 x 17,500 x 10 are free",
    ),
)
