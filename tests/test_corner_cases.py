"""What is decided where rules meet: repetitions after changes, plans, emergencies, limits of work, damaged states."""

import msgspec
import pytest

from exchange.domain.commands import CancelAllOrders, PlaceOrder, ReplaceOrder, Side, TimeInForce
from exchange.domain.events import (
    BatchResult,
    CommandRejected,
    Event,
    FundsSent,
    MarketStateChanged,
    OrderAccepted,
    Trade,
)
from exchange.domain.limits import ENTRY_WORK_MAX, LINK_TRANSFERS_MAX, OPERATION_ACTIONS_MAX
from exchange.domain.markets import DEFAULT_SETTINGS, LotRule, MarketState
from exchange.domain.operations import (
    AllocationPolicy,
    DefineShard,
    Deposit,
    OperatorRole,
    RaiseControlFloor,
    SetMarketState,
    SetShardSettings,
    Transfer,
)
from exchange.domain.rejects import RejectReason
from exchange.domain.state import ShardState
from exchange.engine.port import EngineFactory
from exchange.local.control_venue import carried_by
from exchange.local.venue import Venue
from exchange.wire.checkpoint import CheckpointError, read_shard_checkpoint, write_checkpoint
from tests.support.exchange import opened_control
from tests.support.markets import ALICE, BOB, BOOK, QUOTE, funded_venue, limit, refusals

FREE = msgspec.structs.replace(BOOK, tick_table=(), lot_table=(), band_low_ticks=0, band_high_ticks=0)
MARKET, TREASURY = OperatorRole.MARKET, OperatorRole.TREASURY


def trades(events: tuple[Event, ...]) -> list[Trade]:
    return [event for event in events if isinstance(event, Trade)]


def test_an_executed_batch_is_answered_as_a_repetition_whatever_was_changed_since(engine: EngineFactory) -> None:
    venue = funded_venue(engine, FREE)
    batch = venue.batch(ALICE, limit(Side.BUY, 1, 100))
    venue.enter(batch)
    n = venue.engine.position
    venue.operate(MARKET, SetShardSettings(msgspec.structs.replace(DEFAULT_SETTINGS, max_validity_ms=1)))
    venue.operate(TREASURY, RaiseControlFloor(9))
    assert venue.enter(batch) == (BatchResult(1, repeat_n=n, repeat_batch=1),)


def test_a_replacement_at_a_price_with_larger_lots_must_be_a_multiple_of_them(engine: EngineFactory) -> None:
    venue = funded_venue(engine, msgspec.structs.replace(FREE, lot_table=(LotRule(1, 1), LotRule(100, 10))))
    venue.trade(ALICE, limit(Side.BUY, 3, 50, client_order_id=1))
    assert refusals(venue.trade(ALICE, ReplaceOrder(client_order_id=1, price_ticks=100))) == [
        RejectReason.QUANTITY_OFF_LOT
    ]


def test_a_replacement_that_loses_priority_pays_the_fees_of_the_day(engine: EngineFactory) -> None:
    venue = funded_venue(engine, msgspec.structs.replace(FREE, taker_fee_ppm=0))
    venue.trade(ALICE, limit(Side.BUY, 1, 90, client_order_id=1))
    venue.trade(BOB, limit(Side.SELL, 10, 100))
    venue.define_markets(msgspec.structs.replace(FREE, taker_fee_ppm=1_000))
    (trade,) = trades(venue.trade(ALICE, ReplaceOrder(client_order_id=1, price_ticks=100, quantity_lots=10)))
    notional = 10 * 100 * FREE.quote_units_per_tick_lot
    assert trade.taker_fee_quote_units == -(-notional * 1_000 // 1_000_000)


def test_a_halt_is_not_undone_by_what_was_planned_before(engine: EngineFactory) -> None:
    venue = funded_venue(engine, FREE)
    venue.operate(MARKET, SetMarketState(1, MarketState.OPEN, venue.now_us + 1_000_000))
    venue.operate(MARKET, SetMarketState(1, MarketState.HALTED))
    venue.now_us += 2_000_000
    assert refusals(venue.trade(ALICE, limit(Side.BUY, 1, 100))) == [RejectReason.MARKET_HALTED]


def test_new_settings_of_a_market_leave_its_state_alone(engine: EngineFactory) -> None:
    venue = funded_venue(engine, FREE)
    venue.operate(MARKET, SetMarketState(1, MarketState.HALTED))
    venue.define_markets(msgspec.structs.replace(FREE, taker_fee_ppm=7, state=MarketState.OPEN))
    assert refusals(venue.trade(ALICE, limit(Side.BUY, 1, 100))) == [RejectReason.MARKET_HALTED]


def test_static_edges_that_leave_the_last_trade_behind_count_alone(engine: EngineFactory) -> None:
    venue = funded_venue(engine, msgspec.structs.replace(FREE, band_ppm=100_000))
    venue.trade(ALICE, limit(Side.BUY, 1, 1_000))
    venue.trade(BOB, limit(Side.SELL, 1, 1_000))
    venue.define_markets(msgspec.structs.replace(FREE, band_ppm=100_000, band_low_ticks=100, band_high_ticks=500))
    assert refusals(venue.trade(ALICE, limit(Side.BUY, 1, 501))) == [RejectReason.PRICE_OUTSIDE_BAND]
    assert refusals(venue.trade(ALICE, limit(Side.BUY, 1, 500))) == []


def test_looking_for_makers_is_work_even_when_the_order_is_refused(engine: EngineFactory) -> None:
    venue = funded_venue(engine, FREE)
    venue.enter(*(venue.batch(BOB, *[limit(Side.SELL, 1, 100)] * 500) for _ in range(2)))
    hungry = PlaceOrder(
        1, Side.BUY, 1, TimeInForce.FOK, price_ticks=100, quantity_lots=1_001 * FREE.quote_units_per_tick_lot
    )
    looks = ENTRY_WORK_MAX // 1_000 + 1
    first, later = venue.batch(ALICE, *[hungry] * (looks + 1)), venue.batch(BOB, CancelAllOrders())
    events = venue.enter(first, later)
    reasons = [event.reason for event in events if isinstance(event, CommandRejected)]
    assert reasons == [RejectReason.FOK_NOT_FILLABLE] * looks + [RejectReason.ENTRY_WORK_LIMIT]
    assert events[-1] == BatchResult(2, RejectReason.ENTRY_WORK_LIMIT)
    assert refusals(venue.enter(later)) == []


def test_deposits_that_are_spread_over_many_shards_stay_within_the_work_of_an_entry() -> None:
    control, account, _ = opened_control()
    control.operate(MARKET, *(DefineShard(shard) for shard in range(10, 110)))
    shards = len(control.state.shards)
    deposits = [Deposit(account, QUOTE, 10 * shards, AllocationPolicy.EVEN)] * OPERATION_ACTIONS_MAX
    events = control.operate(TREASURY, *deposits)
    assert ENTRY_WORK_MAX <= len(events) < ENTRY_WORK_MAX + shards + OPERATION_ACTIONS_MAX
    assert set(refusals(events)) == {RejectReason.ENTRY_WORK_LIMIT}


def test_what_an_entry_sends_to_a_shard_needs_few_links(engine: EngineFactory) -> None:
    control, account, _ = opened_control()
    deposits = [Deposit(account, QUOTE, 1, AllocationPolicy.ONE_SHARD, 1)] * (LINK_TRANSFERS_MAX - 1)
    one, more = (control.operation(TREASURY, *deposits[:count]) for count in (1_000, 100))
    events = control.enter(operations=(one, more))
    links = carried_by(events, 0, control.engine.position)
    assert [len(link.transfers) for link in links] == [LINK_TRANSFERS_MAX, 1_100 - LINK_TRANSFERS_MAX]
    assert [link.sequence for link in links] == [links[0].sequence, links[0].sequence + 1]
    assert all(isinstance(event, FundsSent) for event in events if hasattr(event, "link_sequence"))


def _open_orders(engine: EngineFactory) -> ShardState:
    venue = Venue(engine)
    venue.define_markets(FREE)
    venue.credit(Transfer(ALICE, QUOTE, 10**9))
    assert isinstance(venue.trade(ALICE, limit(Side.BUY, 1, 100))[1], OrderAccepted)
    assert isinstance(venue.operate(MARKET, SetMarketState(1, MarketState.POST_ONLY))[1], MarketStateChanged)
    return read_shard_checkpoint(venue.engine.checkpoint())


def test_a_checkpoint_that_contradicts_itself_is_not_loaded(engine: EngineFactory) -> None:
    state = _open_orders(engine)
    (alice,) = state.accounts
    (balance,) = alice.balances
    richer = msgspec.structs.replace(balance, locked_units=balance.locked_units + 1)
    damaged = msgspec.structs.replace(state, accounts=(msgspec.structs.replace(alice, balances=(richer,)),))
    with pytest.raises(CheckpointError, match="I-03"):
        engine.from_checkpoint(write_checkpoint(damaged))
    engine.from_checkpoint(write_checkpoint(state))
