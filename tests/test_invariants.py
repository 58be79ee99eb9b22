"""The checkers of invariants find what they say: each breach below is one altered value in a sound state."""

import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import pytest

import exchange.domain.invariants
import exchange.reference
from exchange.domain.commands import AllocateFunds, ReleaseFunds, RequestWithdrawal, Side
from exchange.domain.invariants import INVARIANTS, broken_between, broken_in_control, broken_in_shard
from exchange.domain.markets import MarketState
from exchange.domain.operations import (
    AllocationPolicy,
    CloseWithdrawal,
    Deposit,
    OperatorRole,
    SetMarketState,
)
from exchange.domain.state import AssetAmount, ControlState, PendingCancelAll, ShardState
from exchange.engine.choice import engine_named
from exchange.engine.port import EngineFactory
from exchange.engine.reference import control_from_checkpoint
from exchange.local.control_venue import ControlVenue, carried_by, signed_link
from exchange.local.venue import Venue
from exchange.wire.checkpoint import CheckpointError, read_shard_checkpoint, write_checkpoint
from tests.support.exchange import opened_control
from tests.support.markets import ALICE, BOB, BOOK, QUOTE, limit, open_venue

REFERENCE = Path(exchange.reference.__path__[0])
NAME = re.compile(r"I-\d\d")
Alter = Callable[[Any], Any]


def put(path: str, value: Any) -> Alter:
    """Return a function that gives a state with one value replaced: `path` as `books.0.bids.1.price_ticks`.

    Where the value is a function it gets the present one.
    """

    def alter(record: Any, steps: tuple[str, ...] = tuple(path.split("."))) -> Any:
        if not steps:
            return value(record) if callable(value) else value
        step, rest = steps[0], steps[1:]
        if isinstance(record, tuple):
            place = int(step)
            return (*record[:place], alter(record[place], rest), *record[place + 1 :])
        return msgspec.structs.replace(record, **{step: alter(getattr(record, step), rest)})

    return alter


def backwards(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return values[::-1]


def twice(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return (values[0], *values)


@pytest.fixture(scope="module")
def shard() -> ShardState:
    """Return a shard with two bids at different prices, asks, fees, a timer, nonces and links both ways."""
    venue = open_venue(engine_named("reference"))
    venue.define_markets(msgspec.structs.replace(BOOK, maker_fee_ppm=100, taker_fee_ppm=333))
    venue.trade(ALICE, limit(Side.BUY, 2, 95), limit(Side.BUY, 2, 60, market=2, client_order_id=5))
    venue.trade(BOB, limit(Side.SELL, 4, 105), limit(Side.SELL, 2, 95), ReleaseFunds(QUOTE, 5))
    venue.operate(OperatorRole.MARKET, SetMarketState(1, MarketState.HALTED, venue.now_us + 10))
    venue.trade(ALICE, limit(Side.BUY, 2, 95))
    state = read_shard_checkpoint(venue.engine.checkpoint())
    assert broken_in_shard(state) == []
    return state


@pytest.fixture(scope="module")
def control() -> ControlState:
    """Return shard 0 with two users, two accounts of one, and a withdrawal that is open."""
    control_venue, account, key = opened_control()
    control_venue.new_user("bob")
    control_venue.command(key, account, RequestWithdrawal(QUOTE, 100, "bank"), AllocateFunds(QUOTE, 10, 1))
    assert broken_in_control(control_venue.state) == []
    return control_venue.state


GENESIS_BREACHES: list[tuple[str, Alter]] = [
    ("I-13", put("core.genesis.environment", "Local")),
    ("I-13", put("core.genesis.environment", "")),
    ("I-13", put("core.genesis.settings.max_validity_ms", 0)),
    ("I-13", put("core.genesis.operators", backwards)),
    ("I-13", put("core.genesis.operators.0.last_sequence", 1)),
    ("I-13", put("core.genesis.operators.0.last_digest", bytes(32))),
]
OFF_CURVE = put("core.genesis.operators.0.public_key", bytes([2]) + bytes(31))
"""No point has this y: what an engine finds, and no checker of a state that knows no curve."""
SHARD_BREACHES: list[tuple[str, Alter]] = [
    *GENESIS_BREACHES,
    ("I-02", put("accounts.0.balances.0.free_units", 2**63)),
    ("I-02", put("fees.0.amount_units", 2**63)),
    ("I-03", put("accounts.0.balances.1.locked_units", lambda units: units - 1)),
    ("I-03", put("books.0.bids.0.open_lots", lambda lots: lots + 2)),
    ("I-03", put("books.0.bids.0.maker_fee_ppm", 1_000)),
    ("I-03", put("accounts", lambda accounts: accounts[:1])),
    ("I-04", put("books.0.bids.0.price_ticks", 100)),
    ("I-05", put("books.0.bids", backwards)),
    ("I-05", put("books.0.asks", backwards)),
    ("I-06", put("books.0.last_price_ticks", 2**53)),
    ("I-07", put("books.0.asks.0.open_lots", 0)),
    ("I-07", put("books.0.asks.0.filled_lots", 2**53 - 1)),
    ("I-08", put("last_order", 1)),
    ("I-08", put("books.0.bids", twice)),
    ("I-08", put("books.1.bids.0.client_order_id", 11)),
    ("I-08", put("books.0.asks.0.order_id", lambda order_id: order_id + (1 << 52))),
    ("I-09", put("books.0.market_seq", 3)),
    ("I-09", put("accounts.0.account_seq", 3)),
    ("I-10", put("core.nonces.0.valid_until_ms", 0)),
    ("I-10", put("core.nonces.0.n", 1_000)),
    ("I-11", put("core.links_in.0.digests", ())),
    ("I-11", put("core.links_out.0.last_sequence", 0)),
    ("I-13", put("books", backwards)),
    ("I-13", put("books.0.market.shard", 2)),
    ("I-13", put("books.0.bids.0.self_trade_prevention", 0)),
    ("I-13", put("accounts", backwards)),
    ("I-13", put("accounts.0.balances", backwards)),
    ("I-13", put("accounts.0.balances.0.free_units", 0)),
    ("I-13", put("core.nonces", backwards)),
    ("I-13", put("core.operators", backwards)),
    ("I-13", put("core.settings.max_validity_ms", 0)),
    ("I-13", put("fees", (AssetAmount(1, 0),))),
    ("I-13", put("timers", twice)),
    ("I-13", put("timers.0.market", 99)),
    ("I-13", put("pending", (PendingCancelAll(cancel_all_id=1, account=ALICE),))),
    ("I-18", put("books.0.bids.0.maker_prepaid_ppm", 1_000_000)),
    ("I-18", put("books.0.bids.0.taker_fee_ppm", 1_000_001)),
    ("I-20", put("core.n", 2**64 - 1)),
    ("I-20", put("last_order", 2**51)),
    ("I-20", put("last_trade", 2**64 - 1)),
    ("I-20", put("books.0.market_seq", 2**64 - 1)),
    ("I-20", put("accounts.0.account_seq", 2**64 - 1)),
    ("I-20", put("last_cancel_all", 2**64 - 1)),
    ("I-20", put("last_timer", 2**64 - 1)),
    ("I-20", put("core.operators.0.last_sequence", 2**64 - 1)),
    ("I-20", put("core.links_in.0.last_sequence", 2**64 - 1)),
    ("I-20", put("core.links_out.0.last_sequence", 2**64 - 1)),
]
CONTROL_BREACHES: list[tuple[str, Alter]] = [
    *GENESIS_BREACHES,
    ("I-02", put("treasury.0.balances.0.amount_units", 2**63)),
    ("I-02", put("totals.0.withdrawn_units", 1_001)),
    ("I-02", put("withdrawals.0.amount_units", 0)),
    ("I-09", put("treasury.0.account_seq", 0)),
    ("I-13", put("assets", backwards)),
    ("I-13", put("assets.0.symbol", "USD")),
    ("I-13", put("shards.0.tag", "s2")),
    ("I-13", put("shards.0.tag", "S1")),
    ("I-13", put("markets.0.base_asset", 99)),
    ("I-13", put("markets.0.shard", 99)),
    ("I-13", put("withdrawals.0.destination", "")),
    ("I-13", put("requests", backwards)),
    ("I-13", put("requests.0.n", 1_000)),
    ("I-13", put("keys", backwards)),
    ("I-17", put("users.0.accounts", (2,))),
    ("I-17", put("users", lambda users: users[:1])),
    ("I-17", put("keys.0.public_key", bytes(32))),
    ("I-17", put("keys.0.user", 99)),
    ("I-17", put("last_account", 99)),
    ("I-20", put("last_user", 2**51)),
    ("I-17", put("last_user", 2**50)),
    ("I-17", put("last_account", 2**50)),
    ("I-20", put("last_account", 2**51)),
    ("I-20", put("last_withdrawal", 2**64 - 1)),
    ("I-20", put("treasury.0.account_seq", 2**64 - 1)),
]


@pytest.mark.parametrize(("name", "alter"), SHARD_BREACHES)
def test_a_breach_in_a_shard_is_found(shard: ShardState, name: str, alter: Alter) -> None:
    assert name in _names(broken_in_shard(alter(shard)))


@pytest.mark.parametrize(("name", "alter"), CONTROL_BREACHES)
def test_a_breach_in_shard_0_is_found(control: ControlState, name: str, alter: Alter) -> None:
    assert name in _names(broken_in_control(alter(control)))


@pytest.mark.parametrize("alter", [alter for name, alter in SHARD_BREACHES if name == "I-20"])
def test_no_engine_loads_a_state_whose_counters_are_beyond_reach(
    shard: ShardState, engine: EngineFactory, alter: Alter
) -> None:
    with pytest.raises(CheckpointError, match=r"^CHECKPOINT_INVARIANT: I-20 .*; take an older checkpoint"):
        engine.from_checkpoint(write_checkpoint(alter(shard)))


@pytest.mark.parametrize("alter", [alter for _, alter in GENESIS_BREACHES] + [OFF_CURVE])
def test_no_engine_loads_a_state_with_a_genesis_that_none_starts_from(
    shard: ShardState, engine: EngineFactory, alter: Alter
) -> None:
    with pytest.raises(CheckpointError, match=r"^CHECKPOINT_INVARIANT: I-13 genesis: .*; take an older checkpoint"):
        engine.from_checkpoint(write_checkpoint(alter(shard)))


@pytest.mark.parametrize("alter", [alter for _, alter in GENESIS_BREACHES] + [OFF_CURVE])
def test_shard_0_is_not_loaded_with_a_genesis_that_it_cannot_start_from(control: ControlState, alter: Alter) -> None:
    with pytest.raises(CheckpointError, match=r"^CHECKPOINT_INVARIANT: I-13 genesis: .*; take an older checkpoint"):
        control_from_checkpoint(write_checkpoint(alter(control)))


# --- between shards ---------------------------------------------------------------------------------------------------


@pytest.fixture
def exchange_with_money_on_its_way() -> tuple[ControlVenue, Venue]:
    """Return shard 0 and shard 1: 100 arrived of 300 sent, 7 released, 50 paid, 20 to be paid, 1,000 deposited."""
    control_venue, account, key = opened_control()
    shard_1 = Venue(engine_named("reference"), signed=False)
    for units in (100, 200):
        sent = control_venue.command(key, account, AllocateFunds(QUOTE, units, 1))
        if units == 100:
            for link in carried_by(sent, 0, control_venue.engine.position):
                shard_1.enter(links=(signed_link("local", link),))
    shard_1.trade(account, ReleaseFunds(QUOTE, 7))
    control_venue.command(key, account, RequestWithdrawal(QUOTE, 50, "bank"), RequestWithdrawal(QUOTE, 20, "bank"))
    control_venue.operate(OperatorRole.TREASURY, CloseWithdrawal(1, paid=True))
    return control_venue, shard_1


def test_money_in_transit_and_set_aside_is_counted(
    exchange_with_money_on_its_way: tuple[ControlVenue, Venue],
) -> None:
    control_venue, shard_1 = exchange_with_money_on_its_way
    assert broken_between(control_venue.state, [_state(shard_1)]) == []


@pytest.mark.parametrize(
    ("of_control", "of_shard", "line"),
    [
        (put("totals.0.deposited_units", 999), None, "I-01 asset 2: 743 units kept and 207 in transit"),
        (put("totals.0.withdrawn_units", 51), None, "I-01 asset 2"),
        (put("treasury.0.balances.0.amount_units", 629), None, "I-01 asset 2"),
        (put("withdrawals", ()), None, "I-01 asset 2"),
        (put("core.links_out.0.sent.0.amount_units", 299), None, "I-01 asset 2"),
        (None, put("accounts.0.balances.0.free_units", 94), "I-01 asset 2"),
        (None, put("fees", (AssetAmount(9, 1),)), "I-01 asset 9: 1 units kept and 0 in transit"),
        (None, put("core.links_in.0.last_sequence", 3), "I-11 shard 1 received link 3 of shard 0, which has sent 2"),
        (None, put("core.links_in.0.received.0.amount_units", 301), "I-11 shard 1 received more of asset 2"),
        (put("core.links_out", ()), None, "I-11 shard 1 received link 1 of shard 0, which has sent none"),
    ],
)
def test_money_that_was_made_or_lost_is_found(
    exchange_with_money_on_its_way: tuple[ControlVenue, Venue],
    of_control: Alter | None,
    of_shard: Alter | None,
    line: str,
) -> None:
    control_venue, shard_1 = exchange_with_money_on_its_way
    control_state, shard_state = control_venue.state, _state(shard_1)
    broken = broken_between(
        of_control(control_state) if of_control else control_state,
        [of_shard(shard_state) if of_shard else shard_state],
    )
    assert any(found.startswith(line) for found in broken), broken


def test_totals_of_links_may_wrap_around_2_64() -> None:
    control_venue, account, key = opened_control()
    control_venue.operate(OperatorRole.TREASURY, Deposit(account, QUOTE, 2**62, AllocationPolicy.NONE))
    shard_1 = Venue(engine_named("reference"), signed=False)
    for _ in range(5):
        there = control_venue.command(key, account, AllocateFunds(QUOTE, 2**62, 1))
        shard_1.enter(links=(signed_link("local", carried_by(there, 0, 1)[0]),))
        back = shard_1.trade(account, ReleaseFunds(QUOTE, 2**62))
        control_venue.enter(links=(signed_link("local", carried_by(back, 1, 1)[0]),))
        assert broken_between(control_venue.state, [_state(shard_1)]) == []
    assert control_venue.state.core.links_out[0].sent == (AssetAmount(QUOTE, 2**62),)


# --- the table --------------------------------------------------------------------------------------------------------


def test_every_invariant_that_is_named_has_its_number_in_the_table() -> None:
    sources = [Path(exchange.domain.invariants.__file__), *sorted(REFERENCE.glob("*.py"))]
    named = set(chain.from_iterable(NAME.findall(source.read_text()) for source in sources))
    assert named == set(INVARIANTS)
    asserted = {
        name
        for source in REFERENCE.glob("*.py")
        for name in re.findall(r"invariant\([^\"]*\"([^\"]*)\"", source.read_text())
    }
    assert asserted
    assert asserted <= set(INVARIANTS)


def test_invariants_are_numbered_from_1_on() -> None:
    assert list(INVARIANTS) == [f"I-{number:02}" for number in range(1, len(INVARIANTS) + 1)]


def _state(venue: Venue) -> ShardState:
    return read_shard_checkpoint(venue.engine.checkpoint())


def _names(broken: list[str]) -> set[str]:
    return {line.split()[0] for line in broken}
