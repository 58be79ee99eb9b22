"""Order flow for the demo: a recorded day where sample files are there, and a seeded flow; with all that they need."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from exchange.domain.commands import Command
from exchange.domain.markets import Asset, Market, MarketState
from exchange.domain.operations import Transfer
from exchange.engine.port import EngineFactory
from exchange.flow.lobster import BookRow, LobsterError, LobsterPair
from exchange.flow.lobster_driver import LobsterDriver, check_seed
from exchange.flow.seeded import QUOTE_ASSET, SeededFlow
from exchange.local.flow_venue import record_flow

SAMPLE_DATA_VARIABLE: Final = "CLOB_SAMPLE_DATA"
SEEDED_MARKETS: Final = 8
SEEDED_SHARD: Final = 1
LOBSTER_SHARD: Final = 2
LOBSTER_MAKERS: Final = 16
"""Accounts 1 to this many own the recorded orders that rest."""
LOBSTER_TAKERS: Final = 8
"""As many accounts after those send the aggressors, so that no recorded trade is one with oneself."""
STOCK_FUNDS_UNITS: Final = 10**12
DOLLAR_FUNDS_UNITS: Final = 10**17
DOLLAR_UNITS_PER_TICK: Final = 100
"""A tick of LOBSTER is 1/10,000 dollar, a unit of USD 1/1,000,000."""


class SampleDataError(ValueError):
    """CLOB_SAMPLE_DATA names no folder."""


class Order(NamedTuple):
    """Commands that an account signs together."""

    account: int
    commands: tuple[Command, ...]


class Message(NamedTuple):
    """What comes at one moment; `book` is what the market's book must be afterwards, None: not known."""

    time_us: int
    orders: tuple[Order, ...]
    book: BookRow | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Order flow for a shard, with all it needs.

    Attributes:
        name: where it comes from, for people.
        shard: it trades in.
        assets, markets: to define; USD is there already.
        funding: what traders deposit before they trade.
        messages: the flow, in order of time.
    """

    name: str
    shard: int
    assets: tuple[Asset, ...]
    markets: tuple[Market, ...]
    funding: tuple[Transfer, ...]
    messages: Iterator[Message]


def find_lobster_pair(rows: int) -> LobsterPair | None:
    """Return the pair of sample files that shows most levels of those that have most of so many rows, if there is one.

    Raises:
        SampleDataError: CLOB_SAMPLE_DATA names no folder.
        LobsterError: a pair in the folder that CLOB_SAMPLE_DATA names cannot be read.
    """
    named = os.environ.get(SAMPLE_DATA_VARIABLE)
    folder = Path(named) if named else Path(__file__).parents[4] / "shared" / "data"
    if not folder.is_dir():
        if named:
            raise SampleDataError(
                f"{SAMPLE_DATA_VARIABLE} is {named}, which is no folder; name one that has LOBSTER files, or unset it"
            )
        return None
    pairs = []
    for messages in sorted(folder.rglob("*message*.csv*")):
        book = messages.with_name(messages.name.replace("message", "orderbook"))
        if book.is_file():
            try:
                pairs.append(LobsterPair(messages, book))
            except LobsterError:
                if named:
                    raise
    return max(pairs, key=lambda pair: (min(rows, pair.rows_total), pair.levels), default=None)


def lobster_source(pair: LobsterPair, rows: int) -> Source:
    """Return the first rows of a pair as the flow of LOBSTER_SHARD, its one market numbered after the seeded ones."""
    stock = Asset(SEEDED_MARKETS + 2, "STOCK", 0)
    market = Market(
        market=SEEDED_MARKETS + 1,
        shard=LOBSTER_SHARD,
        symbol="STOCK-USD",
        base_asset=stock.asset,
        quote_asset=QUOTE_ASSET,
        base_units_per_lot=1,
        quote_units_per_tick_lot=DOLLAR_UNITS_PER_TICK,
        maker_fee_ppm=10,
        taker_fee_ppm=30,
        state=MarketState.OPEN,
    )
    traders = range(1, LOBSTER_MAKERS + LOBSTER_TAKERS + 1)
    return Source(
        name=f"LOBSTER {pair.messages.name}, first {min(rows, pair.rows_total):,} messages, {pair.levels} levels",
        shard=LOBSTER_SHARD,
        assets=(stock,),
        markets=(market,),
        funding=tuple(
            Transfer(account, asset, units)
            for account in traders
            for asset, units in ((QUOTE_ASSET, DOLLAR_FUNDS_UNITS), (stock.asset, STOCK_FUNDS_UNITS))
        ),
        messages=_lobster_messages(pair, rows, market.market),
    )


def _lobster_messages(pair: LobsterPair, rows: int, market: int) -> Iterator[Message]:
    driver = LobsterDriver(market, pair.levels)
    for row in islice(pair.rows(), rows):
        if row.number == 1:
            check_seed(pair.book, row)
        step = driver.step(row)
        taker = LOBSTER_MAKERS + 1 + row.number % LOBSTER_TAKERS
        orders = [Order(taker, (step.take,))] if step.take is not None else []
        orders += [Order(_maker_of(command), (command,)) for command in step.rest]
        yield Message(row.message.time_ns // 1000, tuple(orders), row.book)


def _maker_of(command: Command) -> int:
    """Return the account of a recorded order: its commands all name its client_order_id."""
    client_order_id: int = getattr(command, "client_order_id", 0)
    assert client_order_id > 0
    return 1 + client_order_id % LOBSTER_MAKERS


def seeded_source(seed: int, commands: int, factory: EngineFactory) -> Source:
    """Return a seeded flow over SEEDED_MARKETS markets as the flow of SEEDED_SHARD."""
    flow = SeededFlow(seed, SEEDED_MARKETS, SEEDED_SHARD)
    recorded = record_flow(flow, commands, factory)
    return Source(
        name=f"seeded flow, seed {seed}, {commands:,} commands, {SEEDED_MARKETS} markets",
        shard=SEEDED_SHARD,
        assets=tuple(asset for asset in flow.assets if asset.asset != QUOTE_ASSET),
        markets=flow.markets,
        funding=flow.funding(),
        messages=(Message(sent.time_us, (Order(sent.account, (sent.command,)),)) for sent in recorded),
    )
