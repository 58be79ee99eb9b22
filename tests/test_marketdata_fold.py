"""The folds of market data: after every entry they say what the engine says, from any checkpoint on."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant, rule, run_state_machine_as_test
from msgspec.structs import replace

from clob.v1.frame_pb2 import ExecutionFrame as FrameMessage
from exchange.domain.commands import CancelAllOrders, ReleaseFunds, RequestWithdrawal, Side
from exchange.domain.operations import CloseWithdrawal, OperatorRole
from exchange.domain.state import RestingOrder, ShardState
from exchange.engine.choice import engine_named
from exchange.flow.seeded import SeededFlow
from exchange.local.flow_venue import execute_on, open_flow_venue
from exchange.local.venue import Venue
from exchange.marketdata.book import Order
from exchange.marketdata.chain import FoldError, FoldReason
from exchange.marketdata.fold import ShardFold
from exchange.marketdata.folds import FOLDS
from exchange.marketdata.treasury import TreasuryFold
from exchange.wire.checkpoint import read_control_checkpoint, read_shard_checkpoint
from tests.support.exchange import opened_control
from tests.support.markets import ALICE, BOB, QUOTE, UNBANDED, funded_venue, limit
from tests.test_reference_properties import Exchange, TradingShard

REFERENCE = engine_named("reference")


@pytest.fixture(params=FOLDS, autouse=True)
def every_fold(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every test fold with each kind of fold there is here, one after another."""
    monkeypatch.setattr(sys.modules[__name__], "ShardFold", FOLDS[request.param])


def state_of(venue: Venue) -> ShardState:
    return read_shard_checkpoint(venue.engine.checkpoint())


def resting(order: Order) -> RestingOrder:
    """Return an order of a fold as the state has it, with what only the order's command says left out."""
    return RestingOrder(
        order.order_id,
        order.client_order_id,
        order.account,
        order.price_ticks,
        order.open_lots,
        order.filled_lots,
        order.post_only,
        order.self_trade_prevention,
        order.maker_fee_ppm,
        order.taker_fee_ppm,
        order.maker_prepaid_ppm,
        order.taker_prepaid_ppm,
    )


def assert_equals_state(fold: ShardFold, state: ShardState) -> None:
    """Compare all that a fold knows with the engine's own state."""
    assert (fold.n, fold.t_us, fold.chain_hash) == (state.core.n, state.core.t_us, state.core.chain_hash)
    assert fold.settings == state.core.settings
    assert {k: v for k, v in fold.links_in.items() if v} == {
        link.from_shard: link.last_sequence for link in state.core.links_in if link.last_sequence
    }
    assert fold.links_out == {link.to_shard: link.last_sequence for link in state.core.links_out}
    assert sorted(fold.books) == [book.market.market for book in state.books]
    known: dict[int, RestingOrder] = {}
    for book in state.books:
        folded = fold.books[book.market.market]
        assert (folded.market_seq, folded.last_price_ticks) == (book.market_seq, book.last_price_ticks)
        assert folded.settings.state == book.market.state
        assert folded.settings.maker_fee_ppm == book.market.maker_fee_ppm
        for side, orders in ((Side.BUY, book.bids), (Side.SELL, book.asks)):
            levels: dict[int, tuple[int, int]] = {}
            for order in orders:
                lots, count = levels.get(order.price_ticks, (0, 0))
                levels[order.price_ticks] = lots + order.open_lots, count + 1
                known[order.order_id] = order
            assert folded.depth(side) == [(price, *level) for price, level in levels.items()]
    assert set(fold.orders) == set(known)
    for order_id, folded_order in fold.orders.items():
        expected = known[order_id]
        if not folded_order.self_trade_prevention:
            expected = replace(expected, self_trade_prevention=0)
        assert resting(folded_order) == expected
    assert {account: owner.account_seq for account, owner in fold.accounts.items()} == {
        account.account: account.account_seq for account in state.accounts
    }
    for account in state.accounts:
        assert fold.balances(account.account) == {
            balance.asset: (balance.free_units, balance.locked_units) for balance in account.balances
        }
        ids = [order.order_id for order in fold.open_orders(account.account)]
        assert ids == sorted(order.order_id for order in known.values() if order.account == account.account)


# --- the fold equals the engine ---------------------------------------------------------------------------------------


def folded_flow(seed: int, markets: int, commands: int, every: int, restart_every: int) -> ShardFold:
    """Run a seeded flow, fold each frame as it comes, compare now and then, start again from checkpoints on the way."""
    flow = SeededFlow(seed, markets)
    venue = open_flow_venue(flow, REFERENCE)
    fold = ShardFold.from_genesis(venue.genesis)
    for frame in venue.frames:
        fold.apply(frame)
    for command in flow.run(commands, lambda command: execute_on(venue, command)):
        fold.apply(venue.frames[-1])
        if command.number % every == 0:
            assert_equals_state(fold, state_of(venue))
        if command.number % restart_every == 0:
            fold = ShardFold(state_of(venue))
    assert_equals_state(fold, state_of(venue))
    return fold


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fold_equals_the_engine_after_every_entry_of_a_flow(seed: int) -> None:
    folded_flow(seed, markets=3, commands=400, every=1, restart_every=10_000)


def test_fold_that_starts_again_from_checkpoints_equals_the_engine() -> None:
    folded_flow(seed=4, markets=5, commands=1_500, every=50, restart_every=333)


class FoldedShard(TradingShard):
    """Everything that can enter a trading shard, folded."""

    factory = REFERENCE

    def __init__(self) -> None:
        super().__init__()
        self.fold = ShardFold.from_genesis(self.venue.genesis)

    @rule()
    def start_the_fold_again_from_a_checkpoint(self) -> None:
        self.catch_up()
        self.fold = ShardFold(state_of(self.venue))

    def catch_up(self) -> None:
        for frame in self.venue.frames[self.fold.n :]:
            self.fold.apply(frame)

    @invariant()
    def fold_says_what_the_engine_says(self) -> None:
        self.catch_up()
        assert_equals_state(self.fold, state_of(self.venue))


def test_fold_equals_the_engine_whatever_enters() -> None:
    run_state_machine_as_test(
        FoldedShard,
        settings=settings(
            max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


class FoldedExchange(Exchange):
    """Shard 0 and two trading shards with their links, folded."""

    factory = REFERENCE

    def __init__(self) -> None:
        super().__init__()
        self.treasury = TreasuryFold.from_genesis(self.control.genesis)
        self.folds = {number: ShardFold.from_genesis(venue.genesis) for number, venue in self.shards.items()}

    @rule()
    def start_the_folds_again_from_checkpoints(self) -> None:
        self.folds_say_what_the_engines_say()
        self.treasury = TreasuryFold(read_control_checkpoint(self.control.engine.checkpoint()))
        self.folds = {number: ShardFold(state_of(venue)) for number, venue in self.shards.items()}

    @invariant()
    def folds_say_what_the_engines_say(self) -> None:
        for frame in self.control.frames[self.treasury.n :]:
            self.treasury.apply(frame)
        for number, venue in self.shards.items():
            for frame in venue.frames[self.folds[number].n :]:
                self.folds[number].apply(frame)
            assert_equals_state(self.folds[number], state_of(venue))
        state = self.control.state
        assert (self.treasury.n, self.treasury.chain_hash) == (state.core.n, state.core.chain_hash)
        assert self.treasury.shards == {entry.shard: entry.tag for entry in state.shards}
        assert sorted(self.treasury.assets) == [asset.asset for asset in state.assets]
        there = {account.account: account for account in state.treasury}
        for account, owner in self.treasury.accounts.items():
            expected = {b.asset: (b.amount_units, 0) for b in there[account].balances} if account in there else {}
            assert self.treasury.balances(account) == expected
            assert owner.account_seq == (there[account].account_seq if account in there else 0)
        opened = [w for account in self.keys for w in self.treasury.open_withdrawals(account)]
        assert sorted((w.withdrawal, w.account, w.asset, w.amount_units, w.destination) for w in opened) == [
            (w.withdrawal, w.account, w.asset, w.amount_units, w.destination) for w in state.withdrawals
        ]


def test_folds_of_shards_that_send_each_other_money_equal_their_engines() -> None:
    run_state_machine_as_test(
        FoldedExchange,
        settings=settings(
            max_examples=10, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


# --- what does not follow stops the fold ------------------------------------------------------------------------------


def traded_frames() -> tuple[bytes, list[bytes]]:
    """Return genesis and frames of a venue where Bob bought from Alice with fees, some rests, and money went out."""
    venue = funded_venue(REFERENCE, replace(UNBANDED, maker_fee_ppm=10_000, taker_fee_ppm=20_000))
    venue.trade(ALICE, limit(Side.SELL, 5, 100, market=2), limit(Side.BUY, 5, 90, market=2))
    venue.trade(BOB, limit(Side.BUY, 3, 110, market=2), ReleaseFunds(QUOTE, 5))
    venue.trade(ALICE, CancelAllOrders())
    return venue.genesis, venue.frames


Spoil = Callable[[FrameMessage], object]


def event_named(frame: FrameMessage, name: str) -> Any:
    return next(getattr(event, name) for event in frame.events if event.WhichOneof("event") == name)


SPOILT: list[tuple[FoldReason, int, Spoil]] = [
    (FoldReason.FRAME_GAP, 3, lambda frame: setattr(frame, "n", 9)),
    (FoldReason.CHAIN_BROKEN, 3, lambda frame: setattr(frame, "previous_hash", bytes(32))),
    (FoldReason.TIME_BACKWARDS, 3, lambda frame: setattr(frame, "t_us", 1)),
    (FoldReason.UNKNOWN_RULES, 3, lambda frame: setattr(frame, "rules", 2)),
    (FoldReason.MALFORMED_FRAME, 3, lambda frame: setattr(frame, "format", 2)),
    (FoldReason.UNKNOWN_EVENT, 3, lambda frame: frame.events.add()),
    (FoldReason.UNKNOWN_EVENT, 3, lambda frame: frame.events.add().user_created.SetInParent()),
    (FoldReason.UNKNOWN_MARKET, 3, lambda frame: setattr(event_named(frame, "trade"), "market", 9)),
    (FoldReason.UNKNOWN_ORDER, 3, lambda frame: setattr(event_named(frame, "trade"), "maker_order_id", 9)),
    (FoldReason.UNKNOWN_ORDER, 3, lambda frame: setattr(event_named(frame, "trade"), "taker_order_id", 9)),
    (FoldReason.UNKNOWN_ORDER, 4, lambda frame: setattr(event_named(frame, "order_cancelled"), "order_id", 9)),
    (FoldReason.SEQUENCE_GAP, 3, lambda frame: setattr(event_named(frame, "trade"), "market_seq", 9)),
    (FoldReason.SEQUENCE_GAP, 3, lambda frame: setattr(event_named(frame, "trade"), "taker_account_seq", 99)),
    (FoldReason.FEE_MISMATCH, 3, lambda frame: setattr(event_named(frame, "trade"), "maker_fee_quote_units", 29)),
    (FoldReason.FEE_MISMATCH, 3, lambda frame: setattr(event_named(frame, "trade"), "taker_fee_quote_units", 0)),
    (FoldReason.ORDER_MISMATCH, 3, lambda frame: setattr(event_named(frame, "trade"), "price_ticks", 101)),
    (FoldReason.ORDER_MISMATCH, 3, lambda frame: setattr(event_named(frame, "trade"), "quantity_lots", 6)),
    (FoldReason.ORDER_MISMATCH, 4, lambda frame: setattr(event_named(frame, "order_cancelled"), "cancelled_lots", 1)),
    (FoldReason.ORDER_MISMATCH, 2, lambda frame: setattr(event_named(frame, "order_accepted"), "time_in_force", 2)),
    (FoldReason.ORDER_MISMATCH, 2, lambda frame: setattr(event_named(frame, "order_accepted"), "order_id", 2**52 + 2)),
    (FoldReason.OVERDRAWN, 3, lambda frame: setattr(event_named(frame, "funds_sent"), "amount_units", 2**62)),
    (FoldReason.LINK_GAP, 3, lambda frame: setattr(event_named(frame, "funds_sent"), "link_sequence", 2)),
    (FoldReason.LINK_GAP, 1, lambda frame: setattr(event_named(frame, "link_result"), "sequence", 2)),
]


@pytest.mark.parametrize(("reason", "which", "spoil"), SPOILT)
def test_what_does_not_follow_stops_the_fold(reason: FoldReason, which: int, spoil: Spoil) -> None:
    """`which` is the place of the spoilt frame: 0 markets, 1 funds, 2 makers, 3 the taker, 4 the mass cancel."""
    genesis, frames = traded_frames()
    fold = ShardFold.from_genesis(genesis)
    frame = FrameMessage.FromString(frames[which])
    spoil(frame)
    for data in frames[:which]:
        fold.apply(data)
    with pytest.raises(FoldError) as caught:
        fold.apply(frame.SerializeToString())
    assert caught.value.reason is reason
    assert (caught.value.shard, caught.value.n) == (1, which + 1)


def test_an_order_of_another_market_is_none_of_this_one() -> None:
    venue = funded_venue(REFERENCE, UNBANDED, replace(UNBANDED, market=3, symbol="OTHER"))
    venue.trade(ALICE, limit(Side.SELL, 5, 100, market=2))
    venue.trade(ALICE, CancelAllOrders())
    fold = ShardFold.from_genesis(venue.genesis)
    for data in venue.frames[:-1]:
        fold.apply(data)
    frame = FrameMessage.FromString(venue.frames[-1])
    cancelled = event_named(frame, "order_cancelled")
    cancelled.market, cancelled.market_seq = 3, fold.books[3].market_seq + 1
    with pytest.raises(FoldError) as caught:
        fold.apply(frame.SerializeToString())
    assert caught.value.reason is FoldReason.UNKNOWN_ORDER


def test_every_reason_to_stop_has_a_test() -> None:
    """UNKNOWN_WITHDRAWAL is shard 0's, INVARIANT the core's; both have tests of their own."""
    elsewhere = {FoldReason.UNKNOWN_WITHDRAWAL, FoldReason.INVARIANT}
    assert {reason for reason, _, _ in SPOILT} | elsewhere == set(FoldReason)


def test_withdrawal_that_is_not_open_stops_the_treasury() -> None:
    control, account, key = opened_control()
    control.command(key, account, RequestWithdrawal(QUOTE, 10, "bank"))
    control.operate(OperatorRole.TREASURY, CloseWithdrawal(1, paid=True))
    fold = TreasuryFold.from_genesis(control.genesis)
    for data in control.frames[:-1]:
        fold.apply(data)
    frame = FrameMessage.FromString(control.frames[-1])
    event_named(frame, "withdrawal_closed").withdrawal = 2
    with pytest.raises(FoldError) as caught:
        fold.apply(frame.SerializeToString())
    assert caught.value.reason is FoldReason.UNKNOWN_WITHDRAWAL


def test_withdrawals_are_open_then_paid_or_given_back() -> None:
    control, account, key = opened_control()
    control.command(key, account, *(RequestWithdrawal(QUOTE, units, "bank") for units in (10, 20, 30)))
    control.operate(OperatorRole.TREASURY, CloseWithdrawal(1, paid=True), CloseWithdrawal(2, paid=False))
    fold = TreasuryFold.from_genesis(control.genesis)
    for data in control.frames:
        fold.apply(data)
    requested, closed = len(control.frames) - 1, control.now_us
    assert [(w.withdrawal, w.state, w.requested_n, w.closed_us) for w in fold.withdrawals_of[account]] == [
        (1, 2, requested, closed),
        (2, 3, requested, closed),
        (3, 1, requested, 0),
    ]
    assert fold.balances(account) == {QUOTE: (960, 0)}
