"""The first rule that is broken is the reason (ARCHITECTURE.md, section 6).

A ladder starts with something that breaks every rule at once. Each rung is the reason that is given and what is mended
then, so a rung is reached only while all rules below it are still broken: one ladder compares all pairs of its rules.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from exchange.domain.commands import (
    AllocateFunds,
    Batch,
    CancelAllOrders,
    CancelOrder,
    Command,
    OrderType,
    PlaceOrder,
    ReduceOrder,
    ReleaseFunds,
    ReplaceOrder,
    RequestWithdrawal,
    Side,
    SignedBatch,
    TimeInForce,
)
from exchange.domain.control import OpenAccount, RegisterKey, Registration, RevokeKey, SignedRegistration
from exchange.domain.events import BatchResult, CancelAllAccepted, CommandRejected, Event, OrderAccepted, OrderReplaced
from exchange.domain.limits import ENTRY_WORK_MAX, LINK_TRANSFERS_MAX
from exchange.domain.markets import DEFAULT_SETTINGS, Market, MarketState, ShardSettings
from exchange.domain.operations import (
    AllocationPolicy,
    CancelOrders,
    DefineMarket,
    DefineShard,
    Deposit,
    Link,
    Operation,
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
from exchange.domain.rejects import RejectReason as R
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.domain.state import ShardState
from exchange.engine.choice import ENGINES
from exchange.engine.port import EngineFactory
from exchange.local.control_venue import KeyPair
from exchange.local.venue import UNSIGNED, VALIDITY_MS, Venue, operator_seed
from exchange.reference.signing import sign
from exchange.wire.checkpoint import read_shard_checkpoint
from exchange.wire.messages import decode, encode
from tests.support.exchange import opened_control
from tests.support.markets import (
    ALICE,
    ALICES_BID,
    BASE,
    BOB,
    BOOK,
    QUOTE,
    RICH,
    SMALL_ORDER_KEY,
    enter_under,
    funded_venue,
    limit,
    open_venue,
    refusals,
    signed_operation,
)

POOR = 33
"""An account that owns nothing at first."""
UNKNOWN = 99
TOO_MUCH = 2**53
MOST = 2**53 - 1

Mend = dict[str, Any] | Callable[[], object]
"""What ends a breach: new values for fields of what is sent, or something done to the venue."""


@pytest.fixture(params=sorted(ENGINES))
def factory(request: pytest.FixtureRequest) -> EngineFactory:
    return ENGINES[request.param]


@dataclass
class Sent:
    """A record that is sent again and again, each time with one breach less."""

    record: Any
    send: Callable[[Any], tuple[Event, ...]]

    def climb(self, *rungs: tuple[R, Mend]) -> tuple[Event, ...]:
        """Check each rung, mend, go on; return what happens when nothing is broken any more."""
        for reason, mend in rungs:
            assert refusals(self.send(self.record)) == [reason]
            if callable(mend):
                mend()
            else:
                self.record = msgspec.structs.replace(self.record, **mend)
        events = self.send(self.record)
        assert refusals(events) == []
        return events


def sent_by(venue: Venue, account: int, command: Command) -> Sent:
    """Return a command that an account sends, and check that every refusal changes nothing but event numbers."""

    def send(changed: Command) -> tuple[Event, ...]:
        before = read_shard_checkpoint(venue.engine.checkpoint())
        events = venue.trade(account, changed)
        if any(isinstance(event, CommandRejected) for event in events):
            assert _unnumbered(read_shard_checkpoint(venue.engine.checkpoint())) == _unnumbered(before)
        return events

    return Sent(command, send)


def _unnumbered(state: ShardState) -> ShardState:
    """Return the state without what an entry changes that refuses its command (invariant I-19)."""
    core = msgspec.structs.replace(state.core, n=0, chain_hash=b"", nonces=())
    accounts = tuple(msgspec.structs.replace(account, account_seq=0) for account in state.accounts if account.balances)
    return msgspec.structs.replace(state, core=core, accounts=accounts)


def set_state(venue: Venue, state: MarketState) -> Callable[[], object]:
    return lambda: venue.operate(OperatorRole.MARKET, SetMarketState(BOOK.market, state))


def set_open_orders_max(venue: Venue, most: int) -> Callable[[], object]:
    settings = msgspec.structs.replace(DEFAULT_SETTINGS, open_orders_per_account_max=most)
    return lambda: venue.operate(OperatorRole.MARKET, SetShardSettings(settings))


# --- commands of traders ----------------------------------------------------------------------------------------------


def test_a_limit_order_is_refused_for_the_first_rule_that_it_breaks(factory: EngineFactory) -> None:
    venue = open_venue(factory)
    venue.credit(Transfer(POOR, QUOTE, 100))
    venue.trade(POOR, limit(Side.BUY, 1, 5, market=2, client_order_id=7))
    set_open_orders_max(venue, 1)()
    set_state(venue, MarketState.HALTED)()
    everything_wrong = PlaceOrder(
        market=UNKNOWN,
        side=3,
        order_type=3,
        time_in_force=4,
        post_only=False,
        self_trade_prevention=6,
        price_ticks=TOO_MUCH,
        quantity_lots=TOO_MUCH + 1,
        client_order_id=7,
    )
    order = sent_by(venue, POOR, everything_wrong)

    def open_for_a_post_only_order() -> None:
        set_state(venue, MarketState.OPEN)()
        order.record = msgspec.structs.replace(order.record, post_only=True)

    events = order.climb(
        (R.UNKNOWN_MARKET, {"market": BOOK.market}),
        (R.MARKET_HALTED, set_state(venue, MarketState.CANCEL_ONLY)),
        (R.MARKET_CANCEL_ONLY, set_state(venue, MarketState.POST_ONLY)),
        (R.MARKET_POST_ONLY, open_for_a_post_only_order),
        (R.INVALID_SIDE, {"side": Side.BUY}),
        (R.INVALID_ORDER_TYPE, {"order_type": OrderType.LIMIT}),
        (R.INVALID_TIME_IN_FORCE, {"time_in_force": TimeInForce.FOK}),
        (R.INVALID_POST_ONLY, {"time_in_force": TimeInForce.GTC}),
        (R.INVALID_SELF_TRADE_PREVENTION, {"self_trade_prevention": 0}),
        (R.INVALID_QUANTITY, {"quantity_lots": MOST}),
        (R.INVALID_PRICE, {"price_ticks": 203}),
        (R.PRICE_OUTSIDE_BAND, {"price_ticks": 198}),
        (R.PRICE_OFF_TICK, {"price_ticks": 195}),
        (R.QUANTITY_OFF_LOT, {"quantity_lots": MOST - 1}),
        (R.DUPLICATE_CLIENT_ORDER_ID, {"client_order_id": 8}),
        (R.TOO_MANY_OPEN_ORDERS, set_open_orders_max(venue, 2)),
        (R.AMOUNT_TOO_LARGE, {"quantity_lots": 12}),
        (R.INSUFFICIENT_FUNDS, lambda: venue.credit(Transfer(POOR, QUOTE, RICH))),
        (R.POST_ONLY_WOULD_TRADE, {"post_only": False, "time_in_force": TimeInForce.FOK}),
        (R.FOK_NOT_FILLABLE, {"time_in_force": TimeInForce.GTC}),
    )
    assert isinstance(events[1], OrderAccepted)


def test_a_market_order_needs_a_protection_price_before_its_lots_are_looked_at(factory: EngineFactory) -> None:
    banded = msgspec.structs.replace(BOOK, band_high_ticks=0)
    venue = funded_venue(factory, banded, accounts=(BOB,))
    venue.trade(BOB, limit(Side.SELL, 10, 100))
    buy = PlaceOrder(BOOK.market, Side.BUY, OrderType.MARKET, quantity_lots=0)
    events = sent_by(venue, POOR, buy).climb(
        (R.INVALID_QUANTITY, {"quantity_lots": 3}),
        (R.NO_PROTECTION_PRICE, lambda: venue.define_markets(BOOK)),
        (R.QUANTITY_OFF_LOT, {"quantity_lots": 2}),
        (R.INSUFFICIENT_FUNDS, lambda: venue.credit(Transfer(POOR, QUOTE, 2 * 200 * 10))),
    )
    assert isinstance(events[1], OrderAccepted)
    assert events[1].price_ticks == BOOK.band_high_ticks


def test_a_cancel_is_refused_for_the_first_rule_that_it_breaks(factory: EngineFactory) -> None:
    venue = open_venue(factory)
    set_state(venue, MarketState.HALTED)()
    sent_by(venue, ALICE, CancelOrder(order_id=UNKNOWN, client_order_id=UNKNOWN)).climb(
        (R.INVALID_ORDER_REFERENCE, {"order_id": 0}),
        (R.UNKNOWN_ORDER, {"client_order_id": ALICES_BID}),
        (R.MARKET_HALTED, set_state(venue, MarketState.CANCEL_ONLY)),
    )


def test_a_reduction_is_refused_for_the_first_rule_that_it_breaks(factory: EngineFactory) -> None:
    venue = open_venue(factory)
    set_state(venue, MarketState.HALTED)()
    sent_by(venue, ALICE, ReduceOrder()).climb(
        (R.INVALID_ORDER_REFERENCE, {"client_order_id": UNKNOWN}),
        (R.UNKNOWN_ORDER, {"client_order_id": ALICES_BID}),
        (R.MARKET_HALTED, set_state(venue, MarketState.CANCEL_ONLY)),
        (R.INVALID_QUANTITY, {"quantity_lots": 1}),
        (R.QUANTITY_OFF_LOT, {"quantity_lots": 2}),
    )


def test_a_replacement_is_refused_for_the_first_rule_that_it_breaks(factory: EngineFactory) -> None:
    venue = open_venue(factory)
    venue.credit(Transfer(POOR, QUOTE, 4 * 90 * 10))
    venue.trade(POOR, limit(Side.BUY, 4, 90, client_order_id=7))
    venue.trade(ALICE, CancelOrder(client_order_id=ALICES_BID))
    venue.trade(BOB, limit(Side.SELL, 2, 90))
    set_state(venue, MarketState.HALTED)()
    wrong = ReplaceOrder(price_ticks=TOO_MUCH, quantity_lots=TOO_MUCH + 1)
    order = sent_by(venue, POOR, wrong)
    events = order.climb(
        (R.INVALID_ORDER_REFERENCE, {"client_order_id": UNKNOWN}),
        (R.UNKNOWN_ORDER, {"client_order_id": 7}),
        (R.MARKET_HALTED, set_state(venue, MarketState.CANCEL_ONLY)),
        (R.MARKET_CANCEL_ONLY, set_state(venue, MarketState.POST_ONLY)),
        (R.MARKET_POST_ONLY, set_state(venue, MarketState.OPEN)),
        (R.INVALID_QUANTITY, {"quantity_lots": 1}),
        (R.INVALID_PRICE, {"price_ticks": 203}),
        (R.QUANTITY_NOT_ABOVE_FILLED, {"quantity_lots": MOST}),
        (R.PRICE_OUTSIDE_BAND, {"price_ticks": 198}),
        (R.PRICE_OFF_TICK, {"price_ticks": 195}),
        (R.QUANTITY_OFF_LOT, {"quantity_lots": MOST - 1}),
        (R.AMOUNT_TOO_LARGE, {"quantity_lots": 40}),
        (R.INSUFFICIENT_FUNDS, lambda: venue.credit(Transfer(POOR, QUOTE, RICH))),
    )
    assert isinstance(events[1], OrderReplaced)


def test_a_post_only_order_must_be_paid_before_it_must_not_take(factory: EngineFactory) -> None:
    venue = open_venue(factory)
    venue.credit(Transfer(POOR, QUOTE, 2 * 90 * 10))
    venue.trade(POOR, msgspec.structs.replace(limit(Side.BUY, 2, 90, client_order_id=7), post_only=True))
    sent_by(venue, POOR, ReplaceOrder(client_order_id=7, price_ticks=100)).climb(
        (R.INSUFFICIENT_FUNDS, lambda: venue.credit(Transfer(POOR, QUOTE, RICH))),
        (R.POST_ONLY_WOULD_TRADE, {"price_ticks": 95}),
    )


def test_a_mass_cancel_is_refused_for_the_first_rule_that_it_breaks(factory: EngineFactory) -> None:
    venue = open_venue(factory)
    set_state(venue, MarketState.HALTED)()
    sent_by(venue, ALICE, CancelAllOrders(market=UNKNOWN, side=3)).climb(
        (R.UNKNOWN_MARKET, {"market": BOOK.market}),
        (R.MARKET_HALTED, set_state(venue, MarketState.CANCEL_ONLY)),
        (R.INVALID_SIDE, {"side": Side.BUY}),
    )


def test_a_release_is_refused_for_the_first_rule_that_it_breaks(factory: EngineFactory) -> None:
    venue = open_venue(factory)
    sent_by(venue, POOR, ReleaseFunds(QUOTE, 2**63)).climb(
        (R.INVALID_AMOUNT, {"amount_units": 2**63 - 1}),
        (R.INSUFFICIENT_FUNDS, lambda: venue.credit(Transfer(POOR, QUOTE, 2**63 - 1))),
    )


def test_a_command_beyond_the_work_of_an_entry_is_refused_before_it_is_read(factory: EngineFactory) -> None:
    venue = open_venue(factory)
    events = venue.enter(venue.batch(ALICE, AllocateFunds(), PlaceOrder()), links=_work(venue, ENTRY_WORK_MAX - 1))
    assert refusals(events) == [R.ENTRY_WORK_LIMIT, R.ENTRY_WORK_LIMIT]


def test_a_fill_or_kill_order_that_is_refused_has_done_the_work_of_looking(factory: EngineFactory) -> None:
    venue = open_venue(factory)
    venue.trade(BOB, *[limit(Side.SELL, 2, 105)] * 10)
    killed = msgspec.structs.replace(limit(Side.BUY, 1_000, 105), time_in_force=TimeInForce.FOK)
    batch = venue.batch(ALICE, killed, CancelAllOrders())
    events = venue.enter(batch, links=_work(venue, ENTRY_WORK_MAX - 10))
    assert refusals(events) == [R.FOK_NOT_FILLABLE, R.ENTRY_WORK_LIMIT]


def test_a_batch_beyond_the_work_of_an_entry_is_refused_and_may_be_sent_again(factory: EngineFactory) -> None:
    venue = open_venue(factory)
    batch = venue.batch(ALICE, CancelAllOrders())
    assert refusals(venue.enter(batch, links=_work(venue, ENTRY_WORK_MAX))) == [R.ENTRY_WORK_LIMIT]
    assert refusals(venue.enter(batch)) == []


def _work(venue: Venue, events: int) -> tuple[SignedLink, ...]:
    """Return links that cause so many events."""
    transfer = Transfer(BOB, QUOTE, 1)
    whole, rest = divmod(events, 1 + LINK_TRANSFERS_MAX)
    lengths = [LINK_TRANSFERS_MAX] * whole + [rest - 1] * (rest > 1)
    return tuple(venue.link(*[transfer] * length) for length in lengths)


# --- batches, links and operations ------------------------------------------------------------------------------------


def test_a_batch_is_refused_for_the_first_rule_that_it_breaks(factory: EngineFactory) -> None:
    venue = Venue(factory, signed=False)
    control_n = 0
    now_ms = venue.now_us // 1000

    def send(batch: Batch) -> tuple[Event, ...]:
        payload = encode(batch) if batch.commands else b"\xff"
        return enter_under(venue, control_n, SignedBatch(venue.trader(ALICE).key_id, payload, UNSIGNED))

    def catch_up() -> None:
        nonlocal control_n
        control_n = 1

    first = Batch(ALICE, 1, nonce=1, valid_until_ms=now_ms + 1, commands=(CancelAllOrders(),))
    assert refusals(send(first)) == []
    venue.operate(OperatorRole.MARKET, SetShardSettings(_live_nonces(1)))
    venue.operate(OperatorRole.TREASURY, RaiseControlFloor(1))
    Sent(Batch(ALICE, shard=2, nonce=1, valid_until_ms=now_ms), send).climb(
        (R.MALFORMED, {"commands": (CancelAllOrders(side=Side.BUY),)}),
        (R.WRONG_SHARD, {"shard": 1}),
        (R.NONCE_REUSED, {"nonce": 2}),
        (R.BATCH_EXPIRED, {"valid_until_ms": now_ms + 60_001}),
        (R.VALIDITY_TOO_LONG, {"valid_until_ms": now_ms + 60_000}),
        (R.STALE_CONTROL, catch_up),
        (R.TOO_MANY_NONCES, lambda: venue.operate(OperatorRole.MARKET, SetShardSettings(_live_nonces(2)))),
    )


def _live_nonces(most: int) -> ShardSettings:
    return msgspec.structs.replace(DEFAULT_SETTINGS, live_nonces_per_key_max=most)


def test_a_batch_that_is_refused_as_a_whole_does_not_use_its_nonce(factory: EngineFactory) -> None:
    venue = Venue(factory, signed=False)
    venue.operate(OperatorRole.MARKET, SetShardSettings(_live_nonces(1)))
    venue.operate(OperatorRole.TREASURY, RaiseControlFloor(1))
    too_long = venue.batch(ALICE, CancelAllOrders(), nonce=1, valid_for_ms=60_001)
    stale = venue.batch(ALICE, CancelAllOrders(), nonce=2)
    beyond = venue.batch(ALICE, CancelAllOrders(), nonce=3)

    assert refusals(enter_under(venue, 1, too_long)) == [R.VALIDITY_TOO_LONG]
    assert refusals(enter_under(venue, 0, stale)) == [R.STALE_CONTROL]
    assert _nonces(venue) == []

    assert refusals(enter_under(venue, 1, stale)) == []
    assert refusals(enter_under(venue, 1, beyond)) == [R.TOO_MANY_NONCES]
    assert _nonces(venue) == [2]

    venue.now_us += VALIDITY_MS * 1000
    assert refusals(enter_under(venue, 1, too_long, stale)) == [R.BATCH_EXPIRED]
    assert _nonces(venue) == [1]


def test_a_batch_burns_its_nonce_whatever_becomes_of_its_commands(factory: EngineFactory) -> None:
    venue = Venue(factory, signed=False)
    hopeless = venue.batch(ALICE, CancelOrder(order_id=UNKNOWN), nonce=1)
    assert refusals(venue.enter(hopeless)) == [R.UNKNOWN_ORDER]
    assert venue.enter(hopeless) == (BatchResult(batch=1, repeat_n=1, repeat_batch=1),)
    assert refusals(venue.enter(venue.batch(ALICE, CancelAllOrders(), nonce=1))) == [R.NONCE_REUSED]


def test_a_batch_that_comes_twice_in_one_entry_is_executed_once(factory: EngineFactory) -> None:
    venue = Venue(factory, signed=False)
    batch = venue.batch(ALICE, CancelAllOrders())
    events = venue.enter(batch, batch)
    assert events[-1] == BatchResult(batch=2, repeat_n=1, repeat_batch=1)
    assert sum(isinstance(event, CancelAllAccepted) for event in events) == 1


def test_a_nonce_is_remembered_to_the_last_moment_at_which_its_batch_is_valid(factory: EngineFactory) -> None:
    venue = Venue(factory, signed=False)
    batch = venue.batch(ALICE, CancelAllOrders(), nonce=1)
    venue.enter(batch)
    venue.now_us += VALIDITY_MS * 1000 - 1
    assert venue.enter(batch) == (BatchResult(batch=1, repeat_n=1, repeat_batch=1),)
    assert refusals(venue.enter(venue.batch(ALICE, CancelAllOrders(), nonce=1))) == [R.NONCE_REUSED]
    venue.now_us += 1
    assert refusals(venue.enter(batch)) == [R.BATCH_EXPIRED]
    assert refusals(venue.enter(venue.batch(ALICE, CancelAllOrders(), nonce=1))) == []


def test_a_nonce_is_of_its_key_alone(factory: EngineFactory) -> None:
    venue = Venue(factory, signed=False)
    by_both = [venue.batch(account, CancelAllOrders(), nonce=0) for account in (ALICE, BOB)]
    assert refusals(venue.enter(*by_both)) == []


def _nonces(venue: Venue) -> list[int]:
    return [live.nonce for live in read_shard_checkpoint(venue.engine.checkpoint()).core.nonces]


def test_a_link_is_refused_for_the_first_rule_that_it_breaks(factory: EngineFactory) -> None:
    venue = Venue(factory)
    role = OperatorRole.MARKET

    def send(link: Link) -> tuple[Event, ...]:
        payload = encode(link) if link.transfers else b"\xff"
        covered = signed_bytes(SignedKind.LINK, venue.environment, payload)
        return venue.enter(links=(SignedLink(payload, sign(operator_seed(venue.environment, role), covered)),))

    def sign_as_the_treasury() -> None:
        nonlocal role
        role = OperatorRole.TREASURY

    Sent(Link(from_shard=0, to_shard=2, sequence=2, source_n=1), send).climb(
        (R.MALFORMED, {"transfers": (Transfer(ALICE, QUOTE, 1),)}),
        (R.WRONG_SHARD, {"to_shard": 1}),
        (R.BAD_SIGNATURE, sign_as_the_treasury),
        (R.LINK_GAP, {"sequence": 1}),
    )


@pytest.mark.parametrize(("sequence", "reason"), [(1, R.SEQUENCE_USED), (3, R.SEQUENCE_GAP)])
def test_an_operation_is_refused_for_the_first_rule_that_it_breaks(
    factory: EngineFactory, sequence: int, reason: R
) -> None:
    venue = funded_venue(factory, BOOK)
    signer = OperatorRole.TREASURY

    def send(operation: Operation) -> tuple[Event, ...]:
        if not operation.actions:
            return venue.enter(operations=(SignedOperation(b"\xff", UNSIGNED),))
        return venue.enter(operations=(signed_operation(venue, operation, signer),))

    def sign_as_the_market_role() -> None:
        nonlocal signer
        signer = OperatorRole.MARKET

    Sent(Operation(shard=2, role=4, sequence=sequence), send).climb(
        (R.MALFORMED, {"actions": (SetMarketState(BOOK.market, MarketState.HALTED),)}),
        (R.WRONG_SHARD, {"shard": 1}),
        (R.UNKNOWN_ROLE, {"role": OperatorRole.MARKET}),
        (R.BAD_SIGNATURE, sign_as_the_market_role),
        (reason, {"sequence": 2}),
    )


def test_an_action_is_for_its_role_before_it_is_for_its_shard_and_before_its_own_rules(factory: EngineFactory) -> None:
    venue = open_venue(factory)
    wrong_role = venue.operate(OperatorRole.MARKET, Deposit(), SweepFees(UNKNOWN))
    assert refusals(wrong_role) == [R.ROLE_NOT_ALLOWED, R.ROLE_NOT_ALLOWED]
    wrong_shard = venue.operate(OperatorRole.TREASURY, Deposit(), SweepFees(UNKNOWN))
    assert refusals(wrong_shard) == [R.NOT_FOR_THIS_SHARD, R.INVALID_AMOUNT]


def test_a_market_is_refused_for_the_first_rule_that_it_breaks(factory: EngineFactory) -> None:
    venue = open_venue(factory)

    def define(market: Market) -> tuple[Event, ...]:
        return venue.define_markets(market)

    Sent(msgspec.structs.replace(BOOK, shard=2, state=0, symbol="XRP-USD"), define).climb(
        (R.INVALID_MARKET, {"state": MarketState.OPEN}),
        (R.WRONG_SHARD, {"shard": 1}),
        (R.MARKET_FIELD_FIXED, {"symbol": BOOK.symbol}),
    )


@pytest.mark.parametrize(
    ("action", "ladder"),
    [
        (
            SetMarketState(UNKNOWN, state=5),
            [(R.UNKNOWN_MARKET, {"market": BOOK.market}), (R.INVALID_MARKET_STATE, {"state": MarketState.OPEN})],
        ),
        (
            CancelOrders(side=3),
            [
                (R.INVALID_SCOPE, {"market": UNKNOWN}),
                (R.UNKNOWN_MARKET, {"market": BOOK.market}),
                (R.INVALID_SIDE, {"side": Side.SELL}),
            ],
        ),
    ],
    ids=["set_market_state", "cancel_orders"],
)
def test_an_action_of_the_market_role_is_refused_for_the_first_rule_that_it_breaks(
    factory: EngineFactory, action: OperatorAction, ladder: list[tuple[R, Mend]]
) -> None:
    venue = open_venue(factory)
    Sent(action, lambda changed: venue.operate(OperatorRole.MARKET, changed)).climb(*ladder)


# --- shard 0 ----------------------------------------------------------------------------------------------------------


def test_a_batch_to_shard_0_is_refused_for_the_first_rule_that_it_breaks() -> None:
    control, account, key = opened_control()
    bobs_account, bobs_key = control.new_user("bob")
    control.enter(batches=(control.batch(bobs_key, bobs_account, OpenAccount(2), nonce=1),))
    control.operate(OperatorRole.TREASURY, RevokeKey(bobs_key.key_id))
    named = signer = control.key("mallory")
    now_ms = control.now_us // 1000

    def send(batch: Batch) -> tuple[Event, ...]:
        payload = encode(batch) if batch.commands else b"\xff"
        signature = sign(signer.seed, signed_bytes(SignedKind.BATCH, control.environment, payload))
        return control.enter(batches=(SignedBatch(named.key_id, payload, signature),))

    def name_bobs_key() -> None:
        nonlocal named
        named = bobs_key

    def sign_with_it() -> None:
        nonlocal signer
        signer = bobs_key

    def let_alice_send_it() -> None:
        nonlocal named, signer
        named = signer = key
        batch.record = msgspec.structs.replace(batch.record, account=account)

    batch = Sent(Batch(account, shard=1, nonce=1, valid_until_ms=now_ms), send)
    batch.climb(
        (R.MALFORMED, {"commands": (OpenAccount(1),)}),
        (R.WRONG_SHARD, {"shard": 0}),
        (R.UNKNOWN_KEY, name_bobs_key),
        (R.BAD_SIGNATURE, sign_with_it),
        (R.ACCOUNT_NOT_OF_KEY, {"account": bobs_account}),
        (R.NONCE_REUSED, {"nonce": 2}),
        (R.KEY_REVOKED, let_alice_send_it),
        (R.BATCH_EXPIRED, {"valid_until_ms": now_ms + 60_001}),
        (R.VALIDITY_TOO_LONG, {"valid_until_ms": now_ms + 60_000}),
    )


def test_a_batch_that_was_executed_is_a_repetition_even_after_its_key_was_revoked() -> None:
    control, account, key = opened_control()
    batch = control.batch(key, account, OpenAccount(1))
    control.enter(batches=(batch,))
    n = control.engine.position
    control.operate(OperatorRole.TREASURY, RevokeKey(key.key_id))
    assert control.enter(batches=(batch,)) == (BatchResult(batch=1, repeat_n=n, repeat_batch=1),)


@pytest.mark.parametrize(
    ("command", "ladder"),
    [
        (
            AllocateFunds(asset=UNKNOWN, to_shard=UNKNOWN),
            [
                (R.INVALID_AMOUNT, {"amount_units": 1_001}),
                (R.UNKNOWN_ASSET, {"asset": QUOTE}),
                (R.UNKNOWN_SHARD, {"to_shard": 2}),
                (R.INSUFFICIENT_FUNDS, {"amount_units": 1_000}),
            ],
        ),
        (
            RequestWithdrawal(asset=UNKNOWN, amount_units=2**63, destination="x" * 129),
            [
                (R.INVALID_AMOUNT, {"amount_units": 2**63 - 1}),
                (R.UNKNOWN_ASSET, {"asset": QUOTE}),
                (R.INVALID_DESTINATION, {"destination": "x" * 128}),
                (R.INSUFFICIENT_FUNDS, {"amount_units": 1_000}),
            ],
        ),
    ],
    ids=["allocate", "withdraw"],
)
def test_a_command_to_the_treasury_is_refused_for_the_first_rule_that_it_breaks(
    command: Command, ladder: list[tuple[R, Mend]]
) -> None:
    control, account, key = opened_control()
    Sent(command, lambda changed: control.command(key, account, changed)).climb(*ladder)


def test_a_registration_is_refused_for_the_first_rule_that_it_breaks() -> None:
    control, account, key = opened_control()
    narrow, new = control.key("alice's phone"), control.key("alice's laptop")
    control.command(key, account, control.registration(narrow, user=1, account=account))
    signer, prover = narrow, control.key("mallory")

    def send(registration: Registration) -> tuple[Event, ...]:
        payload = encode(registration) if registration.public_key else b"\xff"
        proof = sign(prover.seed, signed_bytes(SignedKind.REGISTER, control.environment, payload))
        return control.command(signer, account, RegisterKey(SignedRegistration(payload, proof)))

    def sign_with_a_key_of_all_accounts() -> None:
        nonlocal signer
        signer = key

    def prove(owner: KeyPair) -> Callable[[], None]:
        def change() -> None:
            nonlocal prover
            prover = owner

        return change

    def register_a_new_key() -> None:
        prove(new)()
        request.record = msgspec.structs.replace(request.record, public_key=new.public_key)

    request = Sent(Registration(user=UNKNOWN, account=UNKNOWN), send)
    request.climb(
        (R.KEY_SCOPE_TOO_NARROW, sign_with_a_key_of_all_accounts),
        (R.INVALID_REGISTRATION, {"public_key": SMALL_ORDER_KEY}),
        (R.INVALID_PUBLIC_KEY, {"public_key": key.public_key}),
        (R.BAD_SIGNATURE, prove(key)),
        (R.KEY_EXISTS, register_a_new_key),
        (R.UNKNOWN_USER, {"user": 1}),
        (R.UNKNOWN_ACCOUNT, {"account": account}),
    )


def test_a_deposit_is_refused_for_the_first_rule_that_it_breaks() -> None:
    control, account, _ = opened_control()
    wrong = Deposit(UNKNOWN, UNKNOWN, amount_units=0, allocate=4, to_shard=UNKNOWN)
    Sent(wrong, lambda changed: control.operate(OperatorRole.TREASURY, changed)).climb(
        (R.INVALID_AMOUNT, {"amount_units": 2**63 - 1}),
        (R.UNKNOWN_ACCOUNT, {"account": account}),
        (R.UNKNOWN_ASSET, {"asset": QUOTE}),
        (R.INVALID_POLICY, {"allocate": AllocationPolicy.EVEN}),
        (R.INVALID_POLICY, {"allocate": AllocationPolicy.ONE_SHARD}),
        (R.UNKNOWN_SHARD, {"to_shard": 2}),
        (R.DEPOSITS_TOO_LARGE, {"amount_units": 2**63 - 1 - 1_000}),
    )


def test_a_listing_is_refused_for_the_first_rule_that_it_breaks() -> None:
    control, _, _ = opened_control()
    wrong = msgspec.structs.replace(BOOK, state=0, base_asset=UNKNOWN, shard=UNKNOWN, symbol="XRP-USD")
    second = msgspec.structs.replace(BOOK, market=2, symbol="XRP-USD")

    def send(market: Market) -> tuple[Event, ...]:
        return control.operate(OperatorRole.MARKET, DefineMarket(market))

    assert refusals(send(second)) == []
    Sent(wrong, send).climb(
        (R.INVALID_MARKET, {"state": MarketState.OPEN}),
        (R.UNKNOWN_ASSET, {"base_asset": BASE}),
        (R.UNKNOWN_SHARD, {"shard": 2}),
        (R.ALREADY_DEFINED, {"symbol": BOOK.symbol}),
        (R.MARKET_FIELD_FIXED, {"shard": 1}),
    )


def test_an_operation_in_shard_0_is_refused_for_the_first_rule_that_it_breaks() -> None:
    control, _, _ = opened_control()
    used = control.operation(OperatorRole.MARKET, DefineShard(3))
    used_id = decode(Operation, used.payload).request_id
    control.enter(operations=(used,))
    signer = OperatorRole.TREASURY

    def send(operation: Operation) -> tuple[Event, ...]:
        payload = encode(operation)
        covered = signed_bytes(SignedKind.OPERATOR, control.environment, payload)
        seed = operator_seed(control.environment, signer)
        return control.enter(operations=(SignedOperation(payload, sign(seed, covered)),))

    def sign_as_the_market_role() -> None:
        nonlocal signer
        signer = OperatorRole.MARKET

    Sent(Operation(shard=1, role=4, sequence=9, actions=(DefineShard(4),)), send).climb(
        (R.REQUEST_ID_MISSING, {"request_id": used_id}),
        (R.WRONG_SHARD, {"shard": 0}),
        (R.UNKNOWN_ROLE, {"role": OperatorRole.MARKET}),
        (R.BAD_SIGNATURE, sign_as_the_market_role),
        (R.REQUEST_ID_REUSED, {"request_id": bytes(16)}),
        (R.SEQUENCE_GAP, {"sequence": 1}),
        (R.SEQUENCE_USED, {"sequence": 3}),
    )
