"""What holds for every engine on every input, and what holds between shards: Hypothesis tries to find the exception.

`tests.support.naive` reads the log alone and checks every event; `exchange.domain.invariants` checks every state. The
long runs take CLOB_TEST_SIZE times as many examples.
"""

import os
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from exchange.domain.commands import (
    AllocateFunds,
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
    SignedBatch,
    TimeInForce,
)
from exchange.domain.control import OpenAccount
from exchange.domain.events import (
    Event,
)
from exchange.domain.frames import FORMAT, OrderFrame
from exchange.domain.invariants import broken_in_shard
from exchange.domain.markets import LotRule, Market, MarketState, ShardSettings, TickRule
from exchange.domain.operations import (
    CancelOrders,
    DefineMarket,
    OperatorAction,
    OperatorRole,
    RaiseControlFloor,
    SetMarketState,
    SetShardSettings,
    SignedLink,
    SignedOperation,
    SweepFees,
    Transfer,
)
from exchange.engine.choice import ENGINES
from exchange.engine.port import EngineFactory
from exchange.local.venue import Venue
from exchange.wire.checkpoint import read_shard_checkpoint
from exchange.wire.messages import encode
from tests.support.naive import LogReader

SIZE = int(os.environ.get("CLOB_TEST_SIZE", "1"))
ACCOUNTS = (1, 2, 3)
MARKETS = (
    Market(1, 1, "BTC-USD", 1, 2, 10, 7, maker_fee_ppm=333, taker_fee_ppm=777, state=MarketState.OPEN),
    Market(
        market=2,
        shard=1,
        symbol="ETH-USD",
        base_asset=3,
        quote_asset=2,
        base_units_per_lot=1,
        quote_units_per_tick_lot=1,
        tick_table=(TickRule(1, 1), TickRule(100, 5)),
        lot_table=(LotRule(1, 1), LotRule(101, 2)),
        band_low_ticks=90,
        band_high_ticks=115,
        band_ppm=80_000,
        maker_fee_ppm=0,
        taker_fee_ppm=1_000_000,
        state=MarketState.OPEN,
    ),
    Market(3, 1, "USD-BTC", 2, 1, 3, 1, maker_fee_ppm=999_999, taker_fee_ppm=1, state=MarketState.OPEN),
)
"""Odd fees, tables and bands, and a market that trades the assets of another the other way round."""
ASSETS = (1, 2, 3)

# --- what enters ------------------------------------------------------------------------------------------------------

hostile = st.sampled_from([0, 1, 2**32 - 1, 2**53 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1])
markets = st.sampled_from([1, 1, 1, 2, 2, 3, 3])
names = st.sampled_from([0, 0, 0, 0, 1, 2, 3])
prices = st.integers(97, 104)
"""Near each other, so that orders meet; those of market 2 from 100 on must be multiples of 5."""
quantities = st.integers(1, 12)
enum_values = st.integers(0, 9)
"""Members of any enum, and numbers that mean nothing."""


def mostly(*weighted: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Return a strategy that takes each of the others as often as its weight says (`one_of` cannot be weighted)."""
    return st.sampled_from([chosen for weight, chosen in weighted for _ in range(weight)]).flatmap(lambda one: one)


def spoiled(sound: st.SearchStrategy[Any], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for what is sound but for one field, which gets a value that may be anything."""
    spoilt = st.sampled_from(sorted(fields)).flatmap(lambda name: st.tuples(st.just(name), fields[name]))
    return st.builds(lambda record, change: msgspec.structs.replace(record, **dict([change])), sound, spoilt)


resting_orders = st.builds(
    PlaceOrder,
    market=markets,
    side=st.sampled_from(Side),
    order_type=st.just(OrderType.LIMIT),
    post_only=st.sampled_from([False, False, False, True]),
    self_trade_prevention=st.sampled_from([0, *SelfTradePrevention]),
    price_ticks=prices,
    quantity_lots=quantities,
    client_order_id=names,
)
takers = st.builds(
    PlaceOrder,
    market=markets,
    side=st.sampled_from(Side),
    order_type=st.sampled_from([OrderType.LIMIT, OrderType.LIMIT, OrderType.MARKET]),
    time_in_force=st.sampled_from([TimeInForce.IOC, TimeInForce.FOK]),
    self_trade_prevention=st.sampled_from([0, *SelfTradePrevention]),
    price_ticks=prices,
    quantity_lots=st.integers(1, 60),
)
places = mostly((3, resting_orders), (1, takers))
odd_places = spoiled(
    places,
    market=st.sampled_from([0, 99]),
    side=enum_values,
    order_type=enum_values,
    time_in_force=enum_values,
    post_only=st.booleans(),
    self_trade_prevention=enum_values,
    price_ticks=st.one_of(st.integers(85, 120), hostile),
    quantity_lots=hostile,
)
references = st.integers(1, 30)
"""Which open order is meant, by its place among all that are open; beyond them: an unknown order."""
cancels = st.builds(CancelOrder, order_id=references)
reductions = st.builds(ReduceOrder, order_id=references, quantity_lots=quantities)
replacements = st.builds(
    ReplaceOrder,
    order_id=references,
    price_ticks=st.one_of(st.just(0), prices),
    quantity_lots=st.one_of(st.just(0), quantities),
)
changes = mostly((1, cancels), (2, reductions), (4, replacements))
odd_changes = spoiled(changes, order_id=st.sampled_from([0, 31]), client_order_id=names)
odd_replacements = spoiled(replacements, price_ticks=hostile, quantity_lots=hostile)
others = st.one_of(
    st.builds(CancelAllOrders, market=st.sampled_from([0, 1, 2, 3, 99]), side=st.integers(0, 3)),
    st.builds(
        ReleaseFunds, asset=st.sampled_from([*ASSETS, 99]), amount_units=st.one_of(st.integers(1, 3_000), hostile)
    ),
    st.just(AllocateFunds(1, 1, 2)),
    st.just(OpenAccount(1)),
)
commands = mostly((12, places), (3, odd_places), (5, changes), (1, odd_changes), (1, odd_replacements), (1, others))
batches = st.lists(commands, min_size=1, max_size=8)
accounts = st.sampled_from(ACCOUNTS)
actions_of_the_market_role = st.one_of(
    st.builds(SetMarketState, st.sampled_from([1, 2, 3, 99]), enum_values),
    st.builds(
        lambda market, **settings: DefineMarket(msgspec.structs.replace(market, **settings)),
        st.sampled_from(MARKETS),
        maker_fee_ppm=st.sampled_from([0, 1, 1_000, 1_000_000, 1_000_001]),
        taker_fee_ppm=st.sampled_from([0, 1, 2_500, 1_000_000]),
        band_ppm=st.sampled_from([0, 1, 50_000, 1_000_000]),
    ),
    st.builds(
        CancelOrders,
        account=st.sampled_from([0, *ACCOUNTS, 99]),
        market=st.sampled_from([0, 1, 2, 3, 99]),
        side=st.integers(0, 3),
    ),
    st.builds(
        ShardSettings,
        max_validity_ms=st.just(60_000),
        live_nonces_per_key_max=st.sampled_from([0, 1, 5, 1_000]),
        open_orders_per_account_max=st.sampled_from([0, 1, 3, 1_000]),
    ).map(SetShardSettings),
    st.builds(SweepFees, st.sampled_from(ASSETS)),
)
ALL_WELL: list[OperatorAction] = [
    *(DefineMarket(market) for market in MARKETS),
    SetShardSettings(ShardSettings(60_000, 1_000, 1_000)),
]
"""What ends every disturbance by the market role."""


class TradingShard(RuleBasedStateMachine):
    """A trading shard under everything that can enter it."""

    factory: EngineFactory

    def __init__(self) -> None:
        super().__init__()
        self.venue = Venue(self.factory, signed=False)
        self.reader = LogReader()
        self.known_batches: list[SignedBatch] = []
        self.known_links: list[SignedLink] = []
        self.floor = 0
        self.state = read_shard_checkpoint(self.venue.engine.checkpoint())

    @initialize(funds=st.sampled_from([10**9, 10**9, 10**9, 40_000]), makers=st.lists(resting_orders, max_size=20))
    def open(self, funds: int, makers: list[Command]) -> None:
        self.operate(OperatorRole.MARKET, *ALL_WELL)
        self.credit([Transfer(account, asset, funds) for account in ACCOUNTS for asset in ASSETS])
        for place, maker in enumerate(makers):
            self.enter(self.batch(ACCOUNTS[place % len(ACCOUNTS)], [maker]))

    # --- rules ------------------------------------------------------------------------------------------------------

    @rule(account=accounts, sent=batches)
    def trade(self, account: int, sent: list[Command]) -> None:
        self.enter(self.batch(account, sent))

    @rule(first=batches, second=batches)
    def trade_in_one_frame(self, first: list[Command], second: list[Command]) -> None:
        self.enter(self.batch(1, first), self.batch(2, second), self.batch(1, first))

    @rule(account=accounts, makers=st.lists(resting_orders, min_size=1, max_size=12))
    def make(self, account: int, makers: list[Command]) -> None:
        self.enter(self.batch(account, makers))

    @rule(account=accounts, taker=takers)
    def take(self, account: int, taker: PlaceOrder) -> None:
        self.enter(self.batch(account, [taker]))

    @precondition(lambda self: self.reader.orders)
    @rule(change=changes)
    def change_own_order(self, change: CancelOrder | ReduceOrder | ReplaceOrder) -> None:
        there = sorted(self.reader.orders)
        order_id = there[change.order_id % len(there)]
        own = msgspec.structs.replace(change, order_id=order_id)
        self.enter(self.venue.batch(self.reader.orders[order_id].account, own))

    @rule(which=st.integers(0, 9), sent=batches, account=accounts)
    def use_a_nonce_again(self, which: int, sent: list[Command], account: int) -> None:
        earlier = self.known_batches[-1 - which : len(self.known_batches) - which]
        self.enter(*earlier, self.venue.batch(account, *self.named(sent), nonce=1 + which))

    @rule(account=accounts, milliseconds=st.sampled_from([-1, 0, 60_000, 60_001]), behind=st.integers(0, 1))
    def send_at_the_edge_of_what_is_valid(self, account: int, milliseconds: int, behind: int) -> None:
        batch = self.venue.batch(account, CancelAllOrders(3), valid_for_ms=milliseconds)
        self.enter(batch, control_n=max(0, self.floor - behind))

    @rule(microseconds=st.sampled_from([0, 1, 1_000, 30_000_000, 86_400_000_000]))
    def let_time_pass(self, microseconds: int) -> None:
        self.venue.now_us += microseconds
        had_work = self.venue.engine.has_due_work(self.venue.now_us)
        events = self.enter()
        assert bool(events) == had_work, "a clock entry is due exactly when an empty entry does something"

    @rule(
        market=st.sampled_from([1, 2, 3]),
        state=st.sampled_from(MarketState),
        after_us=st.sampled_from([1, 1_000, 2**62]),
    )
    def schedule_market_state(self, market: int, state: int, after_us: int) -> None:
        self.operate(OperatorRole.MARKET, SetMarketState(market, state, self.venue.now_us + after_us))

    @rule(actions=st.lists(actions_of_the_market_role, min_size=1, max_size=3), sent=batches)
    def disturb(self, actions: list[OperatorAction], sent: list[Command]) -> None:
        self.operate(OperatorRole.MARKET, *actions)
        self.enter(self.batch(1, sent), self.batch(2, sent))
        self.nothing_is_broken()
        self.operate(OperatorRole.MARKET, *ALL_WELL)

    @rule(asset=st.sampled_from([*ASSETS, 99]), floor=st.integers(0, 3))
    def sweep_fees_and_raise_the_floor(self, asset: int, floor: int) -> None:
        self.operate(OperatorRole.TREASURY, SweepFees(asset), RaiseControlFloor(floor))
        self.floor = max(self.floor, floor)

    @rule(
        account=st.sampled_from([0, *ACCOUNTS]),
        asset=st.sampled_from(ASSETS),
        units=st.integers(1, 20_000),
        again=st.integers(0, 9),
    )
    def receive_a_link_an_old_one_and_one_too_early(self, account: int, asset: int, units: int, again: int) -> None:
        self.credit([Transfer(account, asset, units)])
        too_early = self.venue.link(Transfer(1, 1, 1), sequence=len(self.known_links) + 2)
        self.enter(links=(self.known_links[-1 - again % len(self.known_links)], too_early))

    @rule(frame=st.binary(max_size=40))
    def enter_garbage(self, frame: bytes) -> None:
        self.reader.read((), self.venue.enter_raw(b"\xff" + frame).events)

    @rule()
    def go_on_from_a_checkpoint(self) -> None:
        checkpoint = self.venue.engine.checkpoint()
        before = self.venue.engine.state_hash()
        self.venue.engine = self.factory.from_checkpoint(checkpoint)
        assert self.venue.engine.state_hash() == before
        assert self.venue.engine.checkpoint() == checkpoint

    # --- what holds after every entry -------------------------------------------------------------------------------

    @invariant()
    def nothing_is_broken(self) -> None:
        self.state = read_shard_checkpoint(self.venue.engine.checkpoint())
        assert broken_in_shard(self.state) == []
        self.reader.check(self.state)

    def teardown(self) -> None:
        """Replay the log: another engine, without the checkpoints on the way, gives the same bytes."""
        replayed = self.factory.from_genesis(self.venue.genesis)
        assert replayed.apply(self.venue.entries) == self.venue.frames
        assert replayed.state_hash() == self.venue.engine.state_hash()
        assert replayed.chain_hash == self.venue.engine.chain_hash

    # --- how it enters ----------------------------------------------------------------------------------------------

    def named(self, sent: Sequence[Command]) -> list[Command]:
        """Return the commands with the places of open orders replaced by their order_ids."""
        there = sorted(self.reader.orders)
        return [
            msgspec.structs.replace(command, order_id=_order_id(there, command.order_id))
            if isinstance(command, (CancelOrder, ReduceOrder, ReplaceOrder))
            else command
            for command in sent
        ]

    def batch(self, account: int, sent: Sequence[Command]) -> SignedBatch:
        batch = self.venue.batch(account, *self.named(sent))
        self.known_batches.append(batch)
        return batch

    def operate(self, role: OperatorRole, *actions: OperatorAction) -> None:
        self.enter(operations=(self.venue.operation(role, *actions),))

    def credit(self, transfers: list[Transfer]) -> None:
        self.known_links.append(self.venue.link(*transfers))
        self.enter(links=(self.known_links[-1],))

    def enter(
        self,
        *signed: SignedBatch,
        links: tuple[SignedLink, ...] = (),
        operations: tuple[SignedOperation, ...] = (),
        control_n: int | None = None,
    ) -> tuple[Event, ...]:
        """Enter a frame, verified under the floor unless told otherwise, and have what happened checked."""
        n = self.venue.engine.position + 1
        verified_under = self.floor if control_n is None else control_n
        frame = OrderFrame(FORMAT, bytes(16), n, self.venue.now_us, verified_under, signed, links, operations)
        events = self.venue.enter_raw(encode(frame)).events
        self.reader.read(signed, events)
        return events


def _order_id(there: list[int], place: int) -> int:
    """Return no name for place 0, that of an open order, or one that was never given."""
    if place == 0:
        return 0
    return there[place - 1] if place <= len(there) else 2**64 - place


def _run(machine: Any, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )


def _machine_on(factory: EngineFactory) -> type[TradingShard]:
    return type("TradingShard", (TradingShard,), {"factory": factory})


@pytest.fixture(params=sorted(ENGINES))
def factory(request: pytest.FixtureRequest) -> EngineFactory:
    return ENGINES[request.param]


def test_a_trading_shard_keeps_every_invariant_whatever_enters(factory: EngineFactory) -> None:
    _run(_machine_on(factory), examples=60, steps=40)


@pytest.mark.long
def test_a_trading_shard_keeps_every_invariant_for_long(factory: EngineFactory) -> None:
    _run(_machine_on(factory), examples=1_000 * SIZE, steps=100)
