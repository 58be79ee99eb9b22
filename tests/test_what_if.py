"""What-if on a part of a shard says what the whole shard would: compared over random shards and questions."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from exchange.domain.commands import (
    Batch,
    CancelAllOrders,
    CancelOrder,
    Command,
    OrderType,
    PlaceOrder,
    ReduceOrder,
    ReleaseFunds,
    ReplaceOrder,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from exchange.domain.events import BatchResult, Event
from exchange.domain.frames import FORMAT, ExecutionFrame, OrderFrame
from exchange.domain.markets import MarketState
from exchange.domain.operations import CancelOrders, OperatorRole, SetMarketState, Transfer
from exchange.engine.port import EngineFactory, RawEntry
from exchange.local.venue import Venue
from exchange.wire.messages import decode, encode
from tests.support.markets import BASE, BOOK, QUOTE, UNBANDED, limit

ACCOUNTS = range(1, 6)


@dataclass
class Drawing:
    """Draws commands from a seed."""

    random: random.Random

    def command(self) -> Command:
        draw = self.random
        reference = (0, draw.randint(1, 12)) if draw.random() < 0.7 else (2**52 + draw.randint(1, 40), 0)
        makers: list[Callable[[], Command]] = [
            self.place,
            self.place,
            self.place,
            lambda: CancelOrder(*reference),
            lambda: ReduceOrder(*reference, draw.randint(1, 5)),
            lambda: ReplaceOrder(*reference, 5 * draw.randint(15, 25), 2 * draw.randint(1, 8)),
            lambda: CancelAllOrders(draw.choice([0, 0, 1, 2]), draw.choice([0, 1, 2])),
            lambda: ReleaseFunds(draw.choice([BASE, QUOTE]), draw.choice([1, 10**9])),
        ]
        return draw.choice(makers)()

    def place(self) -> PlaceOrder:
        draw = self.random
        return PlaceOrder(
            market=draw.choice([1, 2, 3]),
            side=draw.choice([1, 2]),
            order_type=draw.choice([OrderType.LIMIT, OrderType.LIMIT, OrderType.MARKET]),
            time_in_force=draw.choice([0, 0, TimeInForce.IOC, TimeInForce.FOK]),
            post_only=draw.random() < 0.1,
            self_trade_prevention=draw.choice([0, *SelfTradePrevention]),
            price_ticks=5 * draw.randint(15, 25),
            quantity_lots=2 * draw.randint(1, 6),
            client_order_id=draw.choice([0, draw.randint(1, 12)]),
        )


def drawn_venue(factory: EngineFactory, drawing: Drawing) -> Venue:
    """Return a shard with two markets and what came of sixty random batches."""
    venue = Venue(factory, signed=False)
    venue.define_markets(BOOK, UNBANDED)
    venue.credit(*(Transfer(account, asset, 20_000) for account in ACCOUNTS for asset in (BASE, QUOTE)))
    for _ in range(60):
        venue.now_us += 1_000
        venue.trade(drawing.random.choice(ACCOUNTS), drawing.command())
    return venue


def in_full(factory: EngineFactory, venue: Venue, batches: list[tuple[int, list[Command]]], t_us: int) -> list[Event]:
    """Return the events of these batches on a copy of the whole shard."""
    whole = factory.from_checkpoint(venue.engine.checkpoint())
    venue.now_us = t_us
    signed = tuple(venue.batch(account, *commands, valid_for_ms=30_000) for account, commands in batches)
    frame = OrderFrame(FORMAT, bytes(16), 1, t_us, batches=signed)
    return list(decode(ExecutionFrame, whole.apply([RawEntry(whole.position + 1, t_us, encode(frame))])[0]).events)


def in_part(venue: Venue, batches: list[tuple[int, list[Command]]], t_us: int) -> list[Event]:
    """Return the events of these batches by what-if."""
    asked = [encode(Batch(account, 1, 1, 1, tuple(commands))) for account, commands in batches]
    return list(decode(ExecutionFrame, venue.engine.what_if(asked, t_us).run()).events)


@pytest.mark.parametrize("seed", range(60))
def test_a_part_of_the_shard_says_what_the_whole_would(engine: EngineFactory, seed: int) -> None:
    drawing = Drawing(random.Random(seed))
    venue = drawn_venue(engine, drawing)
    before = venue.engine.state_hash()
    batches = [
        (drawing.random.choice(ACCOUNTS), [drawing.command() for _ in range(drawing.random.randint(1, 6))])
        for _ in range(drawing.random.randint(1, 4))
    ]
    t_us = venue.now_us + 1_000
    assert in_part(venue, batches, t_us) == in_full(engine, venue, batches, t_us), f"seed {seed}"
    assert venue.engine.state_hash() == before


def test_due_timers_of_the_markets_that_are_asked_about_fire_first(engine: EngineFactory) -> None:
    venue = drawn_venue(engine, Drawing(random.Random(1)))
    due_us = venue.now_us + 5_000
    venue.operate(OperatorRole.MARKET, SetMarketState(1, MarketState.HALTED, due_us))
    batches: list[tuple[int, list[Command]]] = [(1, [limit(Side.BUY, 2, 100)])]
    for t_us in (due_us - 1, due_us):
        assert in_part(venue, batches, t_us) == in_full(engine, venue, batches, t_us)


def test_a_mass_cancel_under_way_goes_on_first(engine: EngineFactory) -> None:
    venue = Venue(engine, signed=False)
    venue.define_markets(BOOK, UNBANDED)
    venue.credit(*(Transfer(account, asset, 10**12) for account in ACCOUNTS for asset in (BASE, QUOTE)))
    for market in (UNBANDED.market, BOOK.market):
        for _ in range(6):
            venue.trade(1, *[limit(Side.SELL, 2, 150, market=market)] * 200)
    venue.operate(OperatorRole.MARKET, CancelOrders(account=1))
    assert venue.engine.has_due_work(venue.now_us)
    batches: list[tuple[int, list[Command]]] = [(2, [limit(Side.BUY, 2, 150)])]
    assert in_part(venue, batches, venue.now_us) == in_full(engine, venue, batches, venue.now_us)


def test_an_order_meets_as_many_as_it_could_in_the_whole_book(engine: EngineFactory) -> None:
    venue = Venue(engine, signed=False)
    venue.define_markets(UNBANDED)
    venue.credit(*(Transfer(account, asset, 10**12) for account in ACCOUNTS for asset in (BASE, QUOTE)))
    for account in (1, 3):
        for _ in range(2):
            venue.trade(account, *[limit(Side.SELL, 1, 100, market=2)] * 900)
    cancel = CancelAllOrders(market=2)
    sweep = PlaceOrder(2, Side.BUY, OrderType.LIMIT, price_ticks=100, quantity_lots=2_000)
    batches: list[tuple[int, list[Command]]] = [(1, [cancel]), (2, [sweep, sweep])]
    found = in_part(venue, batches, venue.now_us)
    assert found == in_full(engine, venue, batches, venue.now_us)
    assert sum(isinstance(event, BatchResult) for event in found) == 2


def test_what_if_of_a_shard_in_the_past_is_at_the_shards_own_time(engine: EngineFactory) -> None:
    venue = drawn_venue(engine, Drawing(random.Random(2)))
    copy = venue.engine.what_if([encode(Batch(1, 1, 1, 1, (limit(Side.BUY, 2, 100),)))], 1)
    assert copy.position == (venue.engine.position, venue.now_us, venue.engine.chain_hash)
    assert decode(ExecutionFrame, copy.run()).t_us == venue.now_us
