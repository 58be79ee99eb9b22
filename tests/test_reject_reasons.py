"""Every reason for a refusal, a cancel or a reduction is produced by an engine, and the lists of contracts agree."""

from collections.abc import Callable, Iterable
from enum import IntEnum
from types import ModuleType

import msgspec
import pytest

from clob.v1 import batch_pb2, control_pb2, event_pb2, frame_pb2, market_pb2, operation_pb2, state_pb2
from exchange.domain import commands, control, events, markets, operations, rejects
from exchange.domain.commands import (
    AllocateFunds,
    Batch,
    CancelAllOrders,
    CancelOrder,
    OrderType,
    ReduceOrder,
    ReleaseFunds,
    ReplaceOrder,
    RequestWithdrawal,
    SelfTradePrevention,
    Side,
    SignedBatch,
    TimeInForce,
)
from exchange.domain.control import OpenAccount, RegisterKey, RevokeKey, SignedRegistration
from exchange.domain.events import CancelReason, Event, OrderCancelled, OrderReduced, ReduceReason
from exchange.domain.limits import (
    ACCOUNTS_PER_USER_MAX,
    FRAME_LINKS_MAX,
    KEYS_PER_USER_MAX,
    LINK_TRANSFERS_MAX,
    OPEN_WITHDRAWALS_PER_ACCOUNT_MAX,
    TIMERS_MAX,
)
from exchange.domain.markets import Asset, MarketState, ShardSettings
from exchange.domain.operations import (
    AllocationPolicy,
    CancelOrders,
    CloseWithdrawal,
    DefineAsset,
    DefineMarket,
    DefineShard,
    Deposit,
    Link,
    Operation,
    OperatorRole,
    RaiseControlFloor,
    RaiseRules,
    RotateOperatorKey,
    SetMarketState,
    SetShardSettings,
    Transfer,
)
from exchange.domain.rejects import RejectReason
from exchange.domain.signing import key_id_of
from exchange.domain.state import KeyState, Timer
from exchange.engine.choice import ENGINES
from exchange.engine.port import EngineFactory
from exchange.engine.reference import control_from_checkpoint
from exchange.local.control_venue import ControlVenue, signed_link
from exchange.local.venue import UNSIGNED, VALIDITY_MS, Venue
from exchange.wire.checkpoint import read_shard_checkpoint, write_checkpoint
from exchange.wire.messages import encode
from tests.support.exchange import opened_control
from tests.support.markets import (
    ALICE,
    ALICES_BID,
    BOB,
    BOBS_ASK,
    BOOK,
    QUOTE,
    SMALL_ORDER_KEY,
    UNBANDED,
    funded_venue,
    limit,
    open_venue,
    refusals,
    signed_operation,
)

Events = tuple[Event, ...]
Case = Callable[[EngineFactory], Events]
GTC, IOC, FOK = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK
UNKNOWN = 99
NO_LIMITS = ShardSettings(max_validity_ms=60_000, live_nonces_per_key_max=1_000, open_orders_per_account_max=1_000)

# --- cases of a trading shard, in the book of `open_venue` -----------------------------------------------------------

ORDER = limit(Side.BUY, 2, 95)
"""An order that the book of `open_venue` takes."""


def place(**changes: int) -> Case:
    """Return what becomes of ORDER, changed like this, when Alice sends it."""
    return lambda factory: open_venue(factory).trade(ALICE, msgspec.structs.replace(ORDER, **changes))


def send(*sent: commands.Command) -> Case:
    return lambda factory: open_venue(factory).trade(ALICE, *sent)


def place_in(state: MarketState) -> Case:
    def case(factory: EngineFactory) -> Events:
        venue = open_venue(factory)
        venue.operate(OperatorRole.MARKET, SetMarketState(1, state))
        return venue.trade(ALICE, ORDER)

    return case


def place_under(settings: ShardSettings) -> Case:
    def case(factory: EngineFactory) -> Events:
        venue = open_venue(factory)
        venue.operate(OperatorRole.MARKET, SetShardSettings(settings))
        return venue.trade(ALICE, ORDER)

    return case


def act(action: operations.OperatorAction, role: OperatorRole = OperatorRole.MARKET) -> Case:
    return lambda factory: open_venue(factory).operate(role, action)


def enter_batch(make: Callable[[Venue], SignedBatch]) -> Case:
    def case(factory: EngineFactory) -> Events:
        venue = open_venue(factory)
        return venue.enter(make(venue))

    return case


def valid_for(milliseconds: int) -> Callable[[Venue], SignedBatch]:
    def make(venue: Venue) -> SignedBatch:
        payload = encode(Batch(ALICE, 1, 1_000, venue.now_us // 1000 + milliseconds, (ORDER,)))
        return SignedBatch(venue.trader(ALICE).key_id, payload, UNSIGNED)

    return make


def batch_for_another_shard(venue: Venue) -> SignedBatch:
    payload = encode(Batch(ALICE, 2, 1_000, venue.now_us // 1000 + VALIDITY_MS, (ORDER,)))
    return SignedBatch(venue.trader(ALICE).key_id, payload, UNSIGNED)


def one_nonce_two_batches(factory: EngineFactory) -> Events:
    venue = open_venue(factory)
    venue.enter(venue.batch(ALICE, ORDER, nonce=1_000))
    return venue.enter(venue.batch(ALICE, CancelAllOrders(), nonce=1_000))


def batch_below_the_floor(factory: EngineFactory) -> Events:
    venue = open_venue(factory)
    venue.operate(OperatorRole.TREASURY, RaiseControlFloor(1))
    return venue.trade(ALICE, ORDER)


def batch_of_a_full_entry(factory: EngineFactory) -> Events:
    """Credits of links alone reach ENTRY_WORK_MAX, so the batch behind them finds no room."""
    venue = open_venue(factory)
    transfers = (Transfer(BOB, QUOTE, 1),) * LINK_TRANSFERS_MAX
    links = tuple(venue.link(*transfers) for _ in range(FRAME_LINKS_MAX))
    return venue.enter(venue.batch(ALICE, ORDER), links=links)


def second_link_first(factory: EngineFactory) -> Events:
    venue = open_venue(factory)
    link = Link(0, 1, sequence=3, source_n=3, transfers=(Transfer(ALICE, QUOTE, 1),))
    return venue.enter(links=(signed_link(venue.environment, link),))


def operate_as(role: int, sequence: int) -> Case:
    """Return what becomes of an operation in a shard whose market role has used the sequence number 1."""

    def case(factory: EngineFactory) -> Events:
        venue = open_venue(factory)
        operation = Operation(1, role, sequence, (SetMarketState(1, MarketState.OPEN),))
        return venue.enter(operations=(signed_operation(venue, operation, OperatorRole.MARKET),))

    return case


def fill_then_replace_with_less(factory: EngineFactory) -> Events:
    venue = open_venue(factory)
    venue.trade(BOB, limit(Side.SELL, 2, 90))
    return venue.trade(ALICE, ReplaceOrder(client_order_id=ALICES_BID, quantity_lots=2))


def lower_the_floor(factory: EngineFactory) -> Events:
    venue = open_venue(factory)
    return venue.operate(OperatorRole.TREASURY, RaiseControlFloor(5), RaiseControlFloor(4))


def one_timer_too_many(factory: EngineFactory) -> Events:
    venue = open_venue(factory)
    later_us = venue.now_us + 1
    timers = tuple(Timer(later_us, number, 1, MarketState.OPEN) for number in range(1, TIMERS_MAX + 1))
    state = read_shard_checkpoint(venue.engine.checkpoint())
    state = msgspec.structs.replace(state, timers=timers, last_timer=TIMERS_MAX)
    venue.engine = factory.from_checkpoint(write_checkpoint(state))
    return venue.operate(OperatorRole.MARKET, SetMarketState(1, MarketState.HALTED, later_us))


# --- cases of shard 0: Alice has 1,000 units of QUOTE in the treasury -------------------------------------------------


def in_control(*actions: operations.OperatorAction, role: OperatorRole = OperatorRole.MARKET) -> Case:
    return lambda _engine: opened_control()[0].operate(role, *actions)


def alice_asks(*sent: commands.Command) -> Case:
    def case(_engine: EngineFactory) -> Events:
        control_venue, account, key = opened_control()
        return control_venue.command(key, account, *sent)

    return case


def register(make: Callable[[ControlVenue], RegisterKey]) -> Case:
    def case(_engine: EngineFactory) -> Events:
        control_venue, _, _ = opened_control()
        return control_venue.ask(make(control_venue))

    return case


def command_of_an_unknown_key(_engine: EngineFactory) -> Events:
    control_venue, account, _ = opened_control()
    return control_venue.command(control_venue.key("mallory"), account, OpenAccount(1))


def command_with_a_bad_signature(_engine: EngineFactory) -> Events:
    control_venue, account, key = opened_control()
    signed = control_venue.batch(key, account, OpenAccount(1))
    return control_venue.enter(batches=(msgspec.structs.replace(signed, signature=UNSIGNED),))


def command_for_somebody_elses_account(_engine: EngineFactory) -> Events:
    control_venue, _, key = opened_control()
    bobs_account, _ = control_venue.new_user("bob")
    return control_venue.command(key, bobs_account, AllocateFunds(QUOTE, 1, 1))


def command_of_a_revoked_key(_engine: EngineFactory) -> Events:
    control_venue, account, key = opened_control()
    control_venue.operate(OperatorRole.TREASURY, RevokeKey(key.key_id))
    return control_venue.command(key, account, OpenAccount(1))


def new_key_by_a_key_of_one_account(_engine: EngineFactory) -> Events:
    control_venue, account, key = opened_control()
    narrow = control_venue.key("alice's phone")
    control_venue.command(key, account, control_venue.registration(narrow, user=1, account=account))
    return control_venue.command(narrow, account, OpenAccount(1))


def one_request_id_two_bodies(_engine: EngineFactory) -> Events:
    control_venue, _, _ = opened_control()
    request_id = control_venue.request_id()
    control_venue.ask(control_venue.registration(control_venue.key("bob")), request_id)
    return control_venue.ask(control_venue.registration(control_venue.key("carol")), request_id)


def operation_without_a_request_id(_engine: EngineFactory) -> Events:
    control_venue, _, _ = opened_control()
    operation = control_venue.operation(OperatorRole.MARKET, DefineShard(3), request_id=b"")
    return control_venue.enter(operations=(operation,))


def one_key_too_many(_engine: EngineFactory) -> Events:
    control_venue, account, key = opened_control()
    unused = (bytes([1]) + number.to_bytes(31, "big") for number in range(KEYS_PER_USER_MAX - 1))
    keys = [KeyState(key_id_of(public_key), public_key, user=1, revoked=True) for public_key in unused]
    state = msgspec.structs.replace(
        control_venue.state, keys=tuple(sorted([*control_venue.state.keys, *keys], key=lambda known: known.key_id))
    )
    control_venue.engine = control_from_checkpoint(write_checkpoint(state))
    another = control_venue.registration(control_venue.key("another"), user=1)
    return control_venue.command(key, account, another)


TREASURY = OperatorRole.TREASURY
REJECTIONS: dict[RejectReason, Case] = {
    RejectReason.MALFORMED: enter_batch(lambda _: SignedBatch(bytes(16), b"\xff", UNSIGNED)),
    RejectReason.WRONG_SHARD: enter_batch(batch_for_another_shard),
    RejectReason.BATCH_EXPIRED: enter_batch(valid_for(0)),
    RejectReason.VALIDITY_TOO_LONG: enter_batch(valid_for(60_001)),
    RejectReason.NONCE_REUSED: one_nonce_two_batches,
    RejectReason.TOO_MANY_NONCES: place_under(msgspec.structs.replace(NO_LIMITS, live_nonces_per_key_max=1)),
    RejectReason.STALE_CONTROL: batch_below_the_floor,
    RejectReason.UNKNOWN_KEY: command_of_an_unknown_key,
    RejectReason.BAD_SIGNATURE: command_with_a_bad_signature,
    RejectReason.ACCOUNT_NOT_OF_KEY: command_for_somebody_elses_account,
    RejectReason.ENTRY_WORK_LIMIT: batch_of_a_full_entry,
    RejectReason.NOT_FOR_THIS_SHARD: send(AllocateFunds(QUOTE, 1, 2)),
    RejectReason.UNKNOWN_MARKET: place(market=UNKNOWN),
    RejectReason.MARKET_HALTED: place_in(MarketState.HALTED),
    RejectReason.MARKET_CANCEL_ONLY: place_in(MarketState.CANCEL_ONLY),
    RejectReason.MARKET_POST_ONLY: place_in(MarketState.POST_ONLY),
    RejectReason.INVALID_SIDE: place(side=3),
    RejectReason.INVALID_ORDER_TYPE: place(order_type=0),
    RejectReason.INVALID_TIME_IN_FORCE: place(order_type=OrderType.MARKET, time_in_force=GTC),
    RejectReason.INVALID_POST_ONLY: place(post_only=True, time_in_force=IOC),
    RejectReason.INVALID_SELF_TRADE_PREVENTION: place(self_trade_prevention=6),
    RejectReason.INVALID_QUANTITY: place(quantity_lots=0),
    RejectReason.INVALID_PRICE: place(price_ticks=0),
    RejectReason.NO_PROTECTION_PRICE: place(market=UNBANDED.market, order_type=OrderType.MARKET, price_ticks=0),
    RejectReason.PRICE_OUTSIDE_BAND: place(price_ticks=205),
    RejectReason.PRICE_OFF_TICK: place(price_ticks=96),
    RejectReason.QUANTITY_OFF_LOT: place(quantity_lots=3),
    RejectReason.DUPLICATE_CLIENT_ORDER_ID: place(client_order_id=ALICES_BID),
    RejectReason.TOO_MANY_OPEN_ORDERS: place_under(msgspec.structs.replace(NO_LIMITS, open_orders_per_account_max=1)),
    RejectReason.AMOUNT_TOO_LARGE: place(price_ticks=200, quantity_lots=2**53 - 2),
    RejectReason.INSUFFICIENT_FUNDS: place(quantity_lots=10**10),
    RejectReason.POST_ONLY_WOULD_TRADE: place(price_ticks=100, post_only=True),
    RejectReason.FOK_NOT_FILLABLE: place(price_ticks=100, quantity_lots=12, time_in_force=FOK),
    RejectReason.INVALID_ORDER_REFERENCE: send(CancelOrder(order_id=1, client_order_id=ALICES_BID)),
    RejectReason.UNKNOWN_ORDER: send(CancelOrder(client_order_id=BOBS_ASK)),
    RejectReason.QUANTITY_NOT_ABOVE_FILLED: fill_then_replace_with_less,
    RejectReason.INVALID_AMOUNT: send(ReleaseFunds(QUOTE, 0)),
    RejectReason.UNKNOWN_ASSET: alice_asks(AllocateFunds(UNKNOWN, 1, 1)),
    RejectReason.UNKNOWN_SHARD: alice_asks(AllocateFunds(QUOTE, 1, UNKNOWN)),
    RejectReason.INVALID_DESTINATION: alice_asks(RequestWithdrawal(QUOTE, 1, "")),
    RejectReason.LINK_GAP: second_link_first,
    RejectReason.SEQUENCE_GAP: operate_as(OperatorRole.MARKET, sequence=3),
    RejectReason.SEQUENCE_USED: operate_as(OperatorRole.MARKET, sequence=1),
    RejectReason.UNKNOWN_ROLE: operate_as(role=4, sequence=1),
    RejectReason.ROLE_NOT_ALLOWED: act(SetMarketState(1, MarketState.OPEN), OperatorRole.TREASURY),
    RejectReason.INVALID_MARKET: act(DefineMarket(msgspec.structs.replace(BOOK, maker_fee_ppm=1_000_001))),
    RejectReason.MARKET_FIELD_FIXED: act(DefineMarket(msgspec.structs.replace(BOOK, base_units_per_lot=2))),
    RejectReason.INVALID_MARKET_STATE: act(SetMarketState(1, 5)),
    RejectReason.INVALID_SETTINGS: act(SetShardSettings(ShardSettings())),
    RejectReason.FLOOR_WOULD_FALL: lower_the_floor,
    RejectReason.INVALID_SCOPE: act(CancelOrders(side=Side.BUY)),
    RejectReason.TOO_MANY_TIMERS: one_timer_too_many,
    RejectReason.RULES_WOULD_NOT_RISE: act(RaiseRules(1), OperatorRole.RECOVERY),
    RejectReason.INVALID_PUBLIC_KEY: act(RotateOperatorKey(SMALL_ORDER_KEY)),
    RejectReason.KEY_EXISTS: register(lambda venue: venue.registration(venue.key("alice"))),
    RejectReason.KEY_REVOKED: command_of_a_revoked_key,
    RejectReason.UNKNOWN_USER: alice_asks(OpenAccount(UNKNOWN)),
    RejectReason.UNKNOWN_ACCOUNT: in_control(Deposit(UNKNOWN, QUOTE, 1, AllocationPolicy.NONE), role=TREASURY),
    RejectReason.REQUEST_ID_REUSED: one_request_id_two_bodies,
    RejectReason.REQUEST_ID_MISSING: operation_without_a_request_id,
    RejectReason.ALREADY_DEFINED: in_control(DefineAsset(Asset(3, "USD", 2))),
    RejectReason.INVALID_DEFINITION: in_control(DefineShard(4096)),
    RejectReason.DEPOSITS_TOO_LARGE: in_control(
        Deposit(1, QUOTE, 2**63 - 1_000, AllocationPolicy.NONE), role=OperatorRole.TREASURY
    ),
    RejectReason.INVALID_POLICY: in_control(Deposit(1, QUOTE, 1, AllocationPolicy.EVEN, to_shard=1), role=TREASURY),
    RejectReason.UNKNOWN_WITHDRAWAL: in_control(CloseWithdrawal(1), role=TREASURY),
    RejectReason.INVALID_REGISTRATION: register(lambda _: RegisterKey(SignedRegistration(b"\xff", UNSIGNED))),
    RejectReason.KEY_SCOPE_TOO_NARROW: new_key_by_a_key_of_one_account,
    RejectReason.TOO_MANY_ACCOUNTS: alice_asks(*[OpenAccount(1)] * ACCOUNTS_PER_USER_MAX),
    RejectReason.TOO_MANY_KEYS: one_key_too_many,
    RejectReason.TOO_MANY_WITHDRAWALS: alice_asks(
        *[RequestWithdrawal(QUOTE, 1, "bank")] * (OPEN_WITHDRAWALS_PER_ACCOUNT_MAX + 1)
    ),
}


# --- cases of orders that end or shrink -------------------------------------------------------------------------------


def alice_takes(quantity_lots: int, mode: SelfTradePrevention, own_ask_lots: int) -> Case:
    """Return what becomes of Alice's buy at 100 when her own ask stands before Bob's."""

    def case(factory: EngineFactory) -> Events:
        venue = open_venue(factory)
        venue.trade(ALICE, limit(Side.SELL, own_ask_lots, 95))
        taker = limit(Side.BUY, quantity_lots, 100)
        return venue.trade(ALICE, msgspec.structs.replace(taker, self_trade_prevention=mode))

    return case


def taker_of_more_makers_than_one_command_may_meet(factory: EngineFactory) -> Events:
    venue = funded_venue(factory, UNBANDED)
    for _ in range(2):
        venue.trade(BOB, *[limit(Side.SELL, 1, 100, market=2)] * 600)
    return venue.trade(ALICE, limit(Side.BUY, 1_200, 100, market=2))


CANCELS: dict[CancelReason, Case] = {
    CancelReason.REQUESTED: send(CancelOrder(client_order_id=ALICES_BID)),
    CancelReason.CANCEL_ALL: send(CancelAllOrders()),
    CancelReason.OPERATOR: act(CancelOrders(account=ALICE)),
    CancelReason.IMMEDIATE_OR_CANCEL: place(time_in_force=IOC),
    CancelReason.SELF_TRADE: alice_takes(4, SelfTradePrevention.CANCEL_TAKER, own_ask_lots=2),
    CancelReason.MATCH_LIMIT: taker_of_more_makers_than_one_command_may_meet,
}
REDUCTIONS: dict[ReduceReason, Case] = {
    ReduceReason.REQUESTED: send(ReduceOrder(client_order_id=ALICES_BID, quantity_lots=2)),
    ReduceReason.SELF_TRADE: alice_takes(2, SelfTradePrevention.DECREMENT, own_ask_lots=4),
}


@pytest.fixture(params=sorted(ENGINES))
def factory(request: pytest.FixtureRequest) -> EngineFactory:
    return ENGINES[request.param]


@pytest.mark.parametrize("reason", RejectReason, ids=lambda reason: reason.name)
def test_every_reject_reason_is_produced_by_its_case_and_no_other(reason: RejectReason, factory: EngineFactory) -> None:
    assert refusals(REJECTIONS[reason](factory)) == [reason]


@pytest.mark.parametrize("reason", CancelReason, ids=lambda reason: reason.name)
def test_every_cancel_reason_is_produced_by_its_case(reason: CancelReason, factory: EngineFactory) -> None:
    assert [event.reason for event in CANCELS[reason](factory) if isinstance(event, OrderCancelled)] == [reason]


@pytest.mark.parametrize("reason", ReduceReason, ids=lambda reason: reason.name)
def test_every_reduce_reason_is_produced_by_its_case(reason: ReduceReason, factory: EngineFactory) -> None:
    assert [event.reason for event in REDUCTIONS[reason](factory) if isinstance(event, OrderReduced)] == [reason]


def test_each_list_of_reasons_has_exactly_the_cases_above() -> None:
    assert (set(REJECTIONS), set(CANCELS), set(REDUCTIONS)) == (set(RejectReason), set(CancelReason), set(ReduceReason))


def test_domain_and_contracts_list_the_same_names_and_numbers() -> None:
    assert _domain_enums((commands, control, events, markets, operations, rejects)) == _contract_enums(
        (batch_pb2, control_pb2, event_pb2, frame_pb2, market_pb2, operation_pb2, state_pb2)
    )


def _domain_enums(modules: Iterable[ModuleType]) -> dict[str, dict[str, int]]:
    return {
        name: {member.name: member.value for member in value}
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, IntEnum) and value is not IntEnum
    }


def _contract_enums(modules: Iterable[ModuleType]) -> dict[str, dict[str, int]]:
    """Return the enums of the contracts without their prefixes, and without zero, which is UNSPECIFIED in all."""
    found: dict[str, dict[str, int]] = {}
    for module in modules:
        for enum in module.DESCRIPTOR.enum_types_by_name.values():
            prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
            assert all(value.name.startswith(prefix) for value in enum.values)
            found[enum.name] = {value.name.removeprefix(prefix): value.number for value in enum.values if value.number}
    return found
