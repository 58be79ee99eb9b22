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
    RequestWithdrawal,
    SelfTradePrevention,
    Side,
    SignedBatch,
    TimeInForce,
)
from exchange.domain.control import OpenAccount
from exchange.domain.events import (
    CancelAllDone,
    CancelReason,
    CommandRejected,
    Event,
    OrderAccepted,
    OrderCancelled,
    Trade,
)
from exchange.domain.frames import FORMAT, ExecutionFrame, OrderFrame
from exchange.domain.invariants import broken_between, broken_in_control, broken_in_shard
from exchange.domain.limits import (
    COMMAND_EVENTS_MAX,
    ENTRY_WORK_MAX,
    FRAME_OPERATIONS_MAX,
    OPERATION_ACTIONS_MAX,
    PENDING_EVENTS_MAX,
)
from exchange.domain.markets import Asset, LotRule, Market, MarketState, ShardSettings, TickRule
from exchange.domain.operations import (
    AllocationPolicy,
    CancelOrders,
    CloseWithdrawal,
    DefineAsset,
    DefineMarket,
    DefineShard,
    Deposit,
    OperatorAction,
    OperatorRole,
    PayOutFees,
    RaiseControlFloor,
    SetMarketState,
    SetShardSettings,
    SignedLink,
    SignedOperation,
    SweepFees,
    Transfer,
)
from exchange.domain.rejects import RejectReason
from exchange.domain.units import CONTROL_SHARD
from exchange.engine.choice import ENGINES
from exchange.engine.port import EngineFactory
from exchange.engine.reference import control_from_checkpoint
from exchange.local.control_venue import ControlVenue, KeyPair, carried_by, signed_link
from exchange.local.venue import Venue
from exchange.wire.checkpoint import read_shard_checkpoint
from exchange.wire.messages import decode, encode
from tests.support.markets import ALICE, BASE, BOB, QUOTE, UNBANDED, funded_venue, limit, refusals
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
amounts = st.one_of(st.integers(1, 60_000), hostile)
enum_values = st.integers(0, 9)
"""Members of any enum, and numbers that mean nothing."""


def mostly(*weighted: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Return a strategy that takes each of the others as often as its weight says (`one_of` cannot be weighted)."""
    choices = [chosen for weight, chosen in weighted for _ in range(weight)]
    return st.integers(0, len(choices) - 1).flatmap(lambda place: choices[place])


def spoiled(sound: st.SearchStrategy[Any], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for what is sound but for one field, which gets a value that may be anything."""
    changes_of_one = st.sampled_from(sorted(fields)).flatmap(lambda name: st.fixed_dictionaries({name: fields[name]}))
    return st.builds(lambda record, change: msgspec.structs.replace(record, **change), sound, changes_of_one)


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
    quantity_lots=st.integers(1, 24),
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
    *(SetMarketState(market.market, MarketState.OPEN) for market in MARKETS),
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
        self.poor = 1_000
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

    @rule(order=resting_orders)
    def enter_with_just_enough_funds(self, order: PlaceOrder) -> None:
        """What the refusal says is needed must be enough, whatever the order trades and however it is rounded."""
        self.poor += 1
        for event in self.enter(self.venue.batch(self.poor, order)):
            if isinstance(event, CommandRejected) and event.reason == RejectReason.INSUFFICIENT_FUNDS:
                if event.required_units > 1:
                    self.credit([Transfer(self.poor, event.asset, event.required_units - 1)])
                short = self.enter(self.venue.batch(self.poor, order))
                self.credit([Transfer(self.poor, event.asset, 1)])
                enough = self.enter(self.venue.batch(self.poor, order))
                assert (refusals(short), refusals(enough)[:1]) in (
                    ([RejectReason.INSUFFICIENT_FUNDS], []),
                    ([RejectReason.INSUFFICIENT_FUNDS], [RejectReason.POST_ONLY_WOULD_TRADE]),
                )

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


# --- money between shards ---------------------------------------------------------------------------------------------


owners = st.sampled_from([1, 2])
deposits = st.builds(
    Deposit,
    account=owners,
    asset=st.sampled_from(ASSETS),
    amount_units=st.integers(1, 50_000),
    allocate=st.sampled_from([AllocationPolicy.EVEN, AllocationPolicy.NONE]),
)
odd_deposits = spoiled(
    deposits,
    account=st.just(99),
    asset=st.just(99),
    amount_units=hostile,
    allocate=enum_values,
    to_shard=st.integers(0, 3),
)


class Exchange(RuleBasedStateMachine):
    """Shard 0 and two trading shards, with links that are sent late, again, too early or for a long time not at all."""

    factory: EngineFactory

    def __init__(self) -> None:
        super().__init__()
        self.control = ControlVenue()
        self.shards = {number: Venue(self.factory, shard=number, signed=False) for number in (1, 2)}
        self.keys: dict[int, KeyPair] = {}
        self.sent: dict[tuple[int, int], list[SignedLink]] = {}

    @initialize()
    def open(self) -> None:
        self.control.operate(OperatorRole.MARKET, *(DefineAsset(Asset(asset, f"A{asset}", 0)) for asset in ASSETS))
        self.control.operate(OperatorRole.MARKET, DefineShard(1), DefineShard(2))
        for number, shard in self.shards.items():
            shard.define_markets(*(msgspec.structs.replace(market, shard=number) for market in MARKETS))
        self.keys = dict(self.control.new_user(name) for name in ("alice", "bob"))
        for account in self.keys:
            for asset in ASSETS:
                self.operate(Deposit(account, asset, 100_000, AllocationPolicy.EVEN))
                self.operate(Deposit(account, asset, 100_000, AllocationPolicy.NONE))
        for channel in list(self.sent):
            self.deliver_all(channel)

    # --- rules ------------------------------------------------------------------------------------------------------

    @rule(deposit=mostly((3, deposits), (1, odd_deposits)))
    def deposit(self, deposit: Deposit) -> None:
        self.operate(deposit)

    @rule(account=owners, asset=st.sampled_from(ASSETS), units=amounts, to_shard=st.sampled_from([1, 1, 2, 2, 0, 3]))
    def allocate(self, account: int, asset: int, units: int, to_shard: int) -> None:
        self.command(account, AllocateFunds(asset, units, to_shard), AllocateFunds(asset, 1, to_shard))

    @rule(account=owners, asset=st.sampled_from(ASSETS), units=amounts)
    def withdraw(self, account: int, asset: int, units: int) -> None:
        self.command(account, RequestWithdrawal(asset, units, "bank"))

    @rule(which=st.integers(0, 3), paid=st.booleans())
    def close_withdrawal_and_one_that_is_closed(self, which: int, paid: bool) -> None:
        there = [withdrawal.withdrawal for withdrawal in self.control.state.withdrawals] or [0]
        one = CloseWithdrawal(there[which % len(there)], paid)
        self.operate(one, one)

    @rule(account=owners, asset=st.sampled_from(ASSETS), units=st.integers(1, 50))
    def pay_out_fees(self, account: int, asset: int, units: int) -> None:
        self.operate(PayOutFees(account, asset, units))

    @rule(shard=st.sampled_from([1, 2]), account=owners, orders=st.lists(places, max_size=12))
    def trade(self, shard: int, account: int, orders: list[Command]) -> None:
        self.carry(shard, self.shards[shard].trade(account, CancelAllOrders(3), *orders))

    @rule(shard=st.sampled_from([1, 2]), account=owners, asset=st.sampled_from(ASSETS), units=amounts)
    def release(self, shard: int, account: int, asset: int, units: int) -> None:
        self.carry(shard, self.shards[shard].trade(account, ReleaseFunds(asset, units), ReleaseFunds(asset, units)))

    @rule(shard=st.sampled_from([1, 2]))
    def sweep_fees(self, shard: int) -> None:
        sweeps = (SweepFees(asset) for asset in ASSETS)
        self.carry(shard, self.shards[shard].operate(OperatorRole.TREASURY, *sweeps))

    @rule(channel=st.integers(0, 3))
    def deliver_backwards(self, channel: int) -> None:
        """Deliver the last links of a channel, the newest first: too early, the next one, or old."""
        name = sorted(self.sent)[channel % len(self.sent)]
        for link in self.sent[name][-3:][::-1]:
            self.deliver(name, link)

    @rule(channel=st.integers(0, 3))
    def deliver_everything(self, channel: int) -> None:
        """Deliver a channel from its first link on, as a sender does that does not know what has arrived."""
        self.deliver_all(sorted(self.sent)[channel % len(self.sent)])

    @rule(shard=st.integers(0, 2))
    def go_on_from_a_checkpoint(self, shard: int) -> None:
        if shard == CONTROL_SHARD:
            self.control.engine = control_from_checkpoint(self.control.engine.checkpoint())
        else:
            venue = self.shards[shard]
            venue.engine = self.factory.from_checkpoint(venue.engine.checkpoint())

    # --- what holds after every entry -------------------------------------------------------------------------------

    @invariant()
    def no_money_is_made_or_lost(self) -> None:
        control = self.control.state
        states = [read_shard_checkpoint(shard.engine.checkpoint()) for shard in self.shards.values()]
        assert broken_in_control(control) == []
        assert [broken_in_shard(state) for state in states] == [[], []]
        assert broken_between(control, states) == []

    def teardown(self) -> None:
        """Deliver everything: nothing is in transit any more, and receivers have what senders sent."""
        for channel in self.sent:
            self.deliver_all(channel)
        self.no_money_is_made_or_lost()
        cores = [self.control.state.core]
        cores += [read_shard_checkpoint(shard.engine.checkpoint()).core for shard in self.shards.values()]
        sent = {
            (core.genesis.shard, out.to_shard): (out.last_sequence, out.sent)
            for core in cores
            for out in core.links_out
        }
        received = {
            (link.from_shard, core.genesis.shard): (link.last_sequence, link.received)
            for core in cores
            for link in core.links_in
        }
        assert sent == received

    # --- how it enters ----------------------------------------------------------------------------------------------

    def operate(self, *actions: OperatorAction) -> None:
        self.carry(CONTROL_SHARD, self.control.operate(OperatorRole.TREASURY, *actions))

    def command(self, account: int, *sent: Command) -> None:
        self.carry(CONTROL_SHARD, self.control.command(self.keys[account], account, *sent))

    def carry(self, shard: int, events: Sequence[Event]) -> None:
        """Sign a link for all that was sent. Nothing is delivered yet."""
        n = self.control.engine.position if shard == CONTROL_SHARD else self.shards[shard].engine.position
        for link in carried_by(events, shard, n):
            self.sent.setdefault((shard, link.to_shard), []).append(signed_link("local", link))

    def deliver_all(self, channel: tuple[int, int]) -> None:
        for link in self.sent[channel]:
            self.deliver(channel, link)

    def deliver(self, channel: tuple[int, int], link: SignedLink) -> None:
        _, to_shard = channel
        if to_shard == CONTROL_SHARD:
            self.control.enter(links=(link,))
        else:
            self.shards[to_shard].enter(links=(link,))


# --- more than one command or entry can hold --------------------------------------------------------------------------


def test_a_mass_cancel_of_more_orders_than_a_command_may_cancel_goes_on_in_the_following_entries(
    factory: EngineFactory,
) -> None:
    venue, reader = _crowded(factory, orders=3_000)
    lengths = [len(_enter(venue, reader, venue.batch(BOB, CancelAllOrders())))]
    while venue.engine.has_due_work(venue.now_us):
        lengths.append(len(_enter(venue, reader)))
    assert venue.engine.open_orders(BOB) == []
    # One event is always left for the end: 1,022 cancels behind the acceptance, then 1,023, then the others.
    assert lengths == [1 + COMMAND_EVENTS_MAX - 1, PENDING_EVENTS_MAX - 1, 3_000 - 1_022 - 1_023 + 1]


def test_orders_placed_after_a_mass_cancel_outlive_it(factory: EngineFactory) -> None:
    venue, reader = _crowded(factory, orders=1_500)
    later = limit(Side.SELL, 1, 101, market=2)
    _enter(venue, reader, venue.batch(BOB, CancelAllOrders(), later))
    _enter(venue, reader, venue.batch(BOB, later))
    assert [order.price_ticks for order in venue.engine.open_orders(BOB)] == [101, 101]


def test_a_mass_cancel_goes_on_in_equal_bytes_after_a_restore(factory: EngineFactory) -> None:
    venue, reader = _crowded(factory, orders=2_100)
    _enter(venue, reader, venue.batch(BOB, CancelAllOrders()))
    venue.engine = factory.from_checkpoint(venue.engine.checkpoint())
    _enter(venue, reader)
    _enter(venue, reader)
    replayed = factory.from_genesis(venue.genesis)
    assert replayed.apply(venue.entries) == venue.frames
    assert replayed.checkpoint() == venue.engine.checkpoint()


def test_two_mass_cancels_under_way_end_in_the_order_in_which_they_came(factory: EngineFactory) -> None:
    venue, reader = _crowded(factory, orders=2_500)
    _enter(venue, reader, venue.batch(BOB, CancelAllOrders(side=Side.SELL), CancelAllOrders()))
    ended: list[CancelAllDone] = []
    while venue.engine.has_due_work(venue.now_us):
        ended += [event for event in _enter(venue, reader) if isinstance(event, CancelAllDone)]
    assert [(done.cancel_all_id, done.cancelled_orders) for done in ended] == [(1, 1_478), (2, 1_022)]


def test_a_halt_stops_a_traders_mass_cancel_but_not_the_exchanges(factory: EngineFactory) -> None:
    venue, reader = _crowded(factory, orders=2_000)
    halt = venue.operation(OperatorRole.MARKET, SetMarketState(2, MarketState.HALTED))
    reader.read((), venue.enter(operations=(halt,)))
    kept = _enter(venue, reader, venue.batch(BOB, CancelAllOrders()))
    assert kept[-1] == CancelAllDone(cancel_all_id=1, cancelled_orders=0, account=BOB, account_seq=2_004)
    by_the_exchange = venue.operation(OperatorRole.MARKET, CancelOrders(market=2))
    reader.read((), venue.enter(operations=(by_the_exchange,)))
    while venue.engine.has_due_work(venue.now_us):
        _enter(venue, reader)
    assert venue.engine.open_orders(BOB) == []


def test_a_mass_cancel_of_the_exchange_goes_no_further_than_its_entry_may(factory: EngineFactory) -> None:
    venue, reader = _crowded(factory, orders=100)
    noise = [SetMarketState(2, MarketState.OPEN)] * OPERATION_ACTIONS_MAX
    full = [venue.operation(OperatorRole.MARKET, *noise) for _ in range(FRAME_OPERATIONS_MAX - 1)]
    events_before = (FRAME_OPERATIONS_MAX - 1) * (1 + OPERATION_ACTIONS_MAX)
    some = noise[: ENTRY_WORK_MAX - events_before - 10]
    last = venue.operation(OperatorRole.MARKET, *some, CancelOrders(market=2))
    events = venue.enter(operations=(*full, last))
    reader.read((), events)
    cancelled = [event for event in events if isinstance(event, OrderCancelled)]
    # Ten events are left: the operation's result and the acceptance, seven cancels, and one is kept for the end.
    assert len(cancelled) == 7
    assert len(events) == ENTRY_WORK_MAX - 1
    assert len(_enter(venue, reader)) == 93 + 1
    assert venue.engine.open_orders(BOB) == []


def test_a_taker_meets_as_many_makers_as_a_command_may_and_its_rest_is_cancelled(factory: EngineFactory) -> None:
    venue, reader = _crowded(factory, orders=1_100)
    events = _enter(venue, reader, venue.batch(ALICE, limit(Side.BUY, 1_100, 100, market=2)))
    caused = events[1:]
    assert [type(event) for event in caused] == [OrderAccepted, *[Trade] * 1_021, OrderCancelled]
    last = caused[-1]
    assert isinstance(last, OrderCancelled)
    assert (last.reason, last.cancelled_lots) == (CancelReason.MATCH_LIMIT, 1_100 - 1_021)
    assert len(caused) <= COMMAND_EVENTS_MAX


@pytest.mark.parametrize("quantity_lots", [1_021, 1_022])
def test_fill_or_kill_knows_how_many_makers_a_command_may_meet(factory: EngineFactory, quantity_lots: int) -> None:
    venue, reader = _crowded(factory, orders=1_100)
    order = limit(Side.BUY, quantity_lots, 100, market=2)
    killed = msgspec.structs.replace(order, time_in_force=TimeInForce.FOK)
    events = _enter(venue, reader, venue.batch(ALICE, killed))
    assert refusals(events) == ([] if quantity_lots == 1_021 else [RejectReason.FOK_NOT_FILLABLE])


def test_an_account_that_owns_all_there_is_can_trade_with_itself(factory: EngineFactory) -> None:
    venue = Venue(factory, signed=False)
    venue.define_markets(msgspec.structs.replace(UNBANDED, quote_units_per_tick_lot=1))
    venue.credit(Transfer(ALICE, BASE, 2**63 - 1), Transfer(ALICE, QUOTE, 2**63 - 1))
    both = [limit(side, 5, 7, market=2) for side in Side]
    willing = [msgspec.structs.replace(order, self_trade_prevention=SelfTradePrevention.NONE) for order in both]
    assert isinstance(venue.trade(ALICE, *willing)[-1], Trade)
    assert venue.engine.balances(ALICE) == {BASE: (2**63 - 1, 0), QUOTE: (2**63 - 1, 0)}


def test_an_order_that_takes_and_then_rests_pays_fees_that_are_rounded_up_twice(factory: EngineFactory) -> None:
    cheap = msgspec.structs.replace(UNBANDED, maker_fee_ppm=1, taker_fee_ppm=1)
    venue = funded_venue(factory, cheap, accounts=(BOB,))
    venue.trade(BOB, limit(Side.SELL, 1, 100, market=2))
    venue.credit(Transfer(ALICE, QUOTE, 2_001))
    order = limit(Side.BUY, 2, 100, market=2)
    assert refusals(venue.trade(ALICE, order)) == [RejectReason.INSUFFICIENT_FUNDS]
    venue.credit(Transfer(ALICE, QUOTE, 1))
    assert refusals(venue.trade(ALICE, order)) == []
    assert venue.engine.balances(ALICE) == {BASE: (1, 0), QUOTE: (0, 1_001)}


def _crowded(factory: EngineFactory, orders: int) -> tuple[Venue, LogReader]:
    """Return a venue where Bob offers one lot at 100 in as many orders, and a reader of its log so far."""
    venue, reader = funded_venue(factory, UNBANDED), LogReader()
    for frame in venue.frames:
        reader.read((), decode(ExecutionFrame, frame).events)
    while orders:
        some = min(orders, 1_000)
        _enter(venue, reader, venue.batch(BOB, *[limit(Side.SELL, 1, 100, market=2)] * some))
        orders -= some
    return venue, reader


def _enter(venue: Venue, reader: LogReader, *batches: SignedBatch) -> tuple[Event, ...]:
    events = venue.enter(*batches)
    reader.read(batches, events)
    state = read_shard_checkpoint(venue.engine.checkpoint())
    assert broken_in_shard(state) == []
    reader.check(state)
    return events


# --- the runs ---------------------------------------------------------------------------------------------------------


def _run(machine: Any, factory: EngineFactory, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        type(machine.__name__, (machine,), {"factory": factory}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )


@pytest.fixture(params=sorted(ENGINES))
def factory(request: pytest.FixtureRequest) -> EngineFactory:
    return ENGINES[request.param]


def test_a_trading_shard_keeps_every_invariant_whatever_enters(factory: EngineFactory) -> None:
    _run(TradingShard, factory, examples=50, steps=40)


def test_money_is_never_made_or_lost_between_shards(factory: EngineFactory) -> None:
    _run(Exchange, factory, examples=25, steps=30)


@pytest.mark.long
def test_a_trading_shard_keeps_every_invariant_for_long(factory: EngineFactory) -> None:
    _run(TradingShard, factory, examples=1_000 * SIZE, steps=100)


@pytest.mark.long
def test_money_is_never_made_or_lost_between_shards_for_long(factory: EngineFactory) -> None:
    _run(Exchange, factory, examples=500 * SIZE, steps=60)
