"""Order flow for the demo: seeded flows, one a shard, a recorded day where there is one, and all that they need."""

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
from exchange.flow.lobster import BookRow, LobsterError, LobsterPair, Row
from exchange.flow.lobster_driver import LobsterDriver, Step, check_seed
from exchange.flow.seeded import LIVELY, QUOTE_ASSET, SeededFlow
from exchange.local.flow_venue import execute_on, open_flow_venue

SAMPLE_DATA_VARIABLE: Final = "CLOB_SAMPLE_DATA"
LOBSTER_MAKERS: Final = 16
"""Traders 1 to this many own the recorded orders that rest."""
LOBSTER_TAKERS: Final = 8
"""As many traders after those send the aggressors, so that no recorded trade is one with oneself."""
LOBSTER_TRADERS: Final = range(1, LOBSTER_MAKERS + LOBSTER_TAKERS + 1)
STOCK_FUNDS_UNITS: Final = 10**12
DOLLAR_FUNDS_UNITS: Final = 10**16
SEEDED_FUNDS_UNITS: Final = 10**14
"""Of each asset for each seeded trader: no flow exhausts it, and what 10,000 traders deposit stays below 2^63."""
DOLLAR_UNITS_PER_TICK: Final = 100
"""A tick of LOBSTER is 1/10,000 dollar, a unit of USD 1/1,000,000."""


class SampleDataError(ValueError):
    """CLOB_SAMPLE_DATA names no folder."""


class Order(NamedTuple):
    """A command that a trader, numbered from 1, signs on its own."""

    trader: int
    command: Command


@dataclass(frozen=True, slots=True)
class Source:
    """Order flow for a shard, with all it needs.

    Attributes:
        name: where it comes from, for people.
        shard: it trades in; nothing else trades there, so that orders get the ids that the flow names.
        seeded: it was made here, from a seed.
        assets, markets: to define; USD is there already.
        funding: what traders deposit before they trade; `account` is the trader.
        orders: the flow, in order.
        last_book: what the book of the one market must be at the end; None: not known.
    """

    name: str
    shard: int
    seeded: bool
    assets: tuple[Asset, ...]
    markets: tuple[Market, ...]
    funding: tuple[Transfer, ...]
    orders: tuple[Order, ...]
    last_book: BookRow | None = None


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


def lobster_source(pair: LobsterPair, rows: int, shard: int, market: int, asset: int) -> Source:
    """Return the first rows of a pair as the flow of a shard, in one market of its own."""
    stock = Asset(asset, "STOCK", 0)
    listed = Market(
        market=market,
        shard=shard,
        symbol="STOCK-USD",
        base_asset=stock.asset,
        quote_asset=QUOTE_ASSET,
        base_units_per_lot=1,
        quote_units_per_tick_lot=DOLLAR_UNITS_PER_TICK,
        maker_fee_ppm=10,
        taker_fee_ppm=30,
        state=MarketState.OPEN,
    )
    orders: list[Order] = []
    book = BookRow([], [])
    for row, step in islice(lobster_steps(pair, LobsterDriver(market, pair.levels)), rows):
        orders += orders_of_step(row, step)
        book = row.book
    return Source(
        name=f"LOBSTER {pair.messages.name}, first {min(rows, pair.rows_total):,} messages, {pair.levels} levels",
        shard=shard,
        seeded=False,
        assets=(stock,),
        markets=(listed,),
        funding=tuple(
            Transfer(trader, asset, units)
            for trader in LOBSTER_TRADERS
            for asset, units in ((QUOTE_ASSET, DOLLAR_FUNDS_UNITS), (stock.asset, STOCK_FUNDS_UNITS))
        ),
        orders=tuple(orders),
        last_book=book,
    )


def lobster_steps(pair: LobsterPair, driver: LobsterDriver) -> Iterator[tuple[Row, Step]]:
    """Yield each row of a pair with what it asks of the exchange.

    Raises:
        LobsterError: a row is malformed, or row 1 is not a book.
    """
    for row in pair.rows():
        if row.number == 1:
            check_seed(pair.book, row)
        yield row, driver.step(row)


def orders_of_step(row: Row, step: Step) -> list[Order]:
    """Return what a row asks as orders of LOBSTER_TRADERS: first the aggressor, then those that rest."""
    takes = [] if step.take is None else [Order(LOBSTER_MAKERS + 1 + row.number % LOBSTER_TAKERS, step.take)]
    return [*takes, *(Order(_maker_of(command), command) for command in step.rest)]


def _maker_of(command: Command) -> int:
    """Return the trader of a recorded order: its commands all name its client_order_id."""
    client_order_id: int = getattr(command, "client_order_id", 0)
    assert client_order_id > 0
    return 1 + client_order_id % LOBSTER_MAKERS


def seeded_source(
    seed: int,
    commands: int,
    shard: int,
    first_market: int,
    markets: int,
    traders: int,
    factory: EngineFactory,
) -> Source:
    """Return a seeded flow as the flow of a shard.

    Args:
        seed: of the flow.
        commands: how many.
        shard: that trades it.
        first_market: number of its first market.
        markets: how many it has.
        traders: how many trade.
        factory: of the engine that the flow is made against.
    """
    flow = SeededFlow(seed, markets, shard, LIVELY, first_market=first_market, accounts=traders)
    venue = open_flow_venue(flow, factory, keep_log=False)
    made = list(flow.run(commands, lambda command: execute_on(venue, command)))
    # Only who trades in a market needs funds for it: 21,000 markets for everybody would be a million deposits.
    assets_of = {market.market: (market.base_asset, market.quote_asset) for market in flow.markets}
    needed: set[tuple[int, int]] = set()
    for sent in made:
        market = getattr(sent.command, "market", 0)
        if market:
            needed.update((sent.account, asset) for asset in assets_of[market])
        if asset := getattr(sent.command, "asset", 0):
            needed.add((sent.account, asset))
    funding = [
        Transfer(account, asset, SEEDED_FUNDS_UNITS)
        for account, asset in sorted((owner.account, owner.asset) for owner in flow.funding())
        if (account, asset) in needed
    ]
    return Source(
        name=f"seeded flow, seed {seed}, {commands:,} commands, {markets:,} markets",
        shard=shard,
        seeded=True,
        assets=tuple(asset for asset in flow.assets if asset.asset != QUOTE_ASSET),
        markets=flow.markets,
        funding=tuple(funding),
        orders=tuple(Order(sent.account, sent.command) for sent in made),
    )
