"""The ledgers: what they fold equals what engines hold, and what does not fit is refused whole."""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from exchange.domain.commands import AllocateFunds, PlaceOrder, ReleaseFunds, RequestWithdrawal, Side
from exchange.domain.events import Event, FundsCredited, FundsSent, LinkResult, MarketDefined, Trade
from exchange.domain.frames import ExecutionFrame
from exchange.domain.operations import (
    AllocationPolicy,
    CloseWithdrawal,
    Deposit,
    Link,
    OperatorRole,
    SweepFees,
    Transfer,
)
from exchange.domain.state import ControlState, ShardState
from exchange.domain.units import CONTROL_SHARD
from exchange.engine.choice import engine_named
from exchange.flow.seeded import SeededFlow
from exchange.local.control_venue import ControlVenue, carried_by, signed_link
from exchange.local.flow_venue import execute_on, open_flow_venue
from exchange.local.venue import Venue
from exchange.settlement.audit import audit, differences_between
from exchange.settlement.ledger import (
    DEPOSITS,
    EXCHANGE,
    OPEN_WITHDRAWALS,
    PAYMENTS,
    Holder,
    HolderKind,
    Ledger,
    LedgerError,
    LedgerReason,
)
from exchange.settlement.ledgers import LEDGERS
from exchange.wire.checkpoint import read_shard_checkpoint
from exchange.wire.errors import UnknownFormatError
from exchange.wire.hashing import chain_hash
from exchange.wire.messages import decode, encode
from tests.support.exchange import opened_control
from tests.support.markets import ALICE, BASE, BOB, QUOTE, UNBANDED

REFERENCE = engine_named("reference")


@pytest.fixture(params=LEDGERS, autouse=True)
def every_ledger(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every test open each kind of ledger there is here, one after another."""
    monkeypatch.setattr(sys.modules[__name__], "Ledger", LEDGERS[request.param])


FEES = replace(UNBANDED, maker_fee_ppm=10_000, taker_fee_ppm=20_000)


def state_of(venue: Venue) -> ShardState:
    return read_shard_checkpoint(venue.engine.checkpoint())


def traded_venue() -> Venue:
    """Return a venue after Bob bought 3 lots from Alice at 100 ticks, with fees of 1 % and 2 %."""
    venue = Venue(REFERENCE, signed=False)
    venue.define_markets(FEES)
    venue.credit(Transfer(ALICE, BASE, 50), Transfer(BOB, QUOTE, 10_000))
    venue.trade(ALICE, PlaceOrder(FEES.market, Side.SELL, 1, price_ticks=100, quantity_lots=5))
    venue.trade(BOB, PlaceOrder(FEES.market, Side.BUY, 1, price_ticks=110, quantity_lots=3))
    return venue


def flowed_venue(seed: int, markets: int, commands: int) -> Venue:
    flow = SeededFlow(seed, markets)
    venue = open_flow_venue(flow, REFERENCE)
    list(flow.run(commands, lambda command: execute_on(venue, command)))
    return venue


def settled(venue: Venue) -> Ledger:
    ledger = Ledger(venue.genesis)
    ledger.apply(venue.frames, venue.entries)
    return ledger


# --- what it says ---------------------------------------------------------------------------------------------------


def test_trade_moves_base_notional_and_fees_and_holds_do_not_matter() -> None:
    ledger = settled(traded_venue())
    assert ledger.balances(ALICE) == {BASE: 47, QUOTE: 2_970}
    assert ledger.balances(BOB) == {BASE: 3, QUOTE: 6_940}
    assert ledger.by_asset(EXCHANGE) == {QUOTE: 90}
    assert ledger.by_asset(Holder(HolderKind.OTHER_SHARD_IN, CONTROL_SHARD)) == {BASE: -50, QUOTE: -10_000}
    assert (ledger.n, ledger.last_link_from(CONTROL_SHARD), ledger.last_link_to(CONTROL_SHARD)) == (4, 1, 0)


def test_every_posting_has_its_counter_posting() -> None:
    totals: Counter[int] = Counter()
    for (_, asset), units in settled(flowed_venue(3, 4, 300)).holdings().items():
        totals[asset] += units
    assert set(totals.values()) == {0}


def test_released_funds_and_swept_fees_go_out_by_links() -> None:
    venue = traded_venue()
    venue.trade(ALICE, ReleaseFunds(QUOTE, 70))
    venue.operate(OperatorRole.TREASURY, SweepFees(QUOTE))
    ledger = settled(venue)
    assert ledger.by_asset(Holder(HolderKind.OTHER_SHARD_OUT, CONTROL_SHARD)) == {QUOTE: 160}
    assert ledger.last_link_to(CONTROL_SHARD) == 2
    assert ledger.by_asset(EXCHANGE) == {}
    assert differences_between(ledger, state_of(venue)) == []


def test_link_that_comes_twice_or_too_early_moves_nothing() -> None:
    venue = traded_venue()
    before = settled(venue).holdings()
    venue.enter(links=(venue.link(Transfer(ALICE, BASE, 1), sequence=9),))
    again = Link(CONTROL_SHARD, 1, 1, 1, (Transfer(ALICE, BASE, 50), Transfer(BOB, QUOTE, 10_000)))
    venue.enter(links=(signed_link(venue.environment, again),))
    assert settled(venue).holdings() == before


# --- it is what engines hold ----------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**32), markets=st.integers(1, 8), parts=st.lists(st.integers(1, 40), min_size=1, max_size=9)
)
def test_ledger_equals_the_engine_after_every_part_of_a_flow(seed: int, markets: int, parts: list[int]) -> None:
    flow = SeededFlow(seed, markets)
    venue = open_flow_venue(flow, REFERENCE)
    ledger = Ledger(venue.genesis)
    for part in parts:
        list(flow.run(part, lambda command: execute_on(venue, command)))
        done = ledger.n
        ledger.apply(venue.frames[done:], venue.entries[done:])
        assert differences_between(ledger, state_of(venue)) == []
        assert audit([ledger], [state_of(venue)]).balanced
    for account in flow.accounts:
        engine = {asset: free + locked for asset, (free, locked) in venue.engine.balances(account).items()}
        assert ledger.balances(account) == {asset: units for asset, units in engine.items() if units}


def test_frames_one_by_one_and_all_at_once_make_the_same_ledger() -> None:
    venue = flowed_venue(11, 3, 200)
    one_by_one = Ledger(venue.genesis)
    for frame in venue.frames:
        one_by_one.apply([frame])
    at_once = settled(venue)
    assert one_by_one.holdings() == at_once.holdings()
    assert one_by_one.chain_hash == at_once.chain_hash == venue.engine.chain_hash


class Exchange:
    """Shard 0 and shard 1, where Alice has an account with money in the treasury."""

    def __init__(self) -> None:
        self.control, self.alice, self.key = opened_control()
        self.venue = Venue(REFERENCE, signed=False)
        self.venue.define_markets(FEES)

    def send_to_shard(self, units: int) -> Link:
        events = self.control.command(self.key, self.alice, AllocateFunds(QUOTE, units, 1))
        return carried_by(events, CONTROL_SHARD, self.control.engine.position)[0]

    def receive(self, link: Link) -> None:
        self.venue.enter(links=(signed_link(self.venue.environment, link),))

    def ledgers(self) -> list[Ledger]:
        shard0 = Ledger(self.control.genesis)
        shard0.apply(self.control.frames, self.control.entries)
        return [shard0, settled(self.venue)]

    def states(self) -> list[ShardState | ControlState]:
        return [self.control.state, state_of(self.venue)]


def test_audit_adds_up_treasury_transit_shards_and_withdrawals_and_counts_what_is_on_its_way() -> None:
    exchange = Exchange()
    exchange.receive(exchange.send_to_shard(300))
    exchange.send_to_shard(50)
    exchange.venue.trade(exchange.alice, ReleaseFunds(QUOTE, 20))
    control = exchange.control
    for units in (100, 40, 7):
        control.command(exchange.key, exchange.alice, RequestWithdrawal(QUOTE, units, "bank"))
    control.operate(OperatorRole.TREASURY, CloseWithdrawal(1, paid=True), CloseWithdrawal(2, paid=False))

    ledgers = exchange.ledgers()
    found = audit(ledgers, exchange.states())

    (line,) = found.lines
    assert (line.treasury_units, line.open_withdrawal_units, line.transit_units) == (543, 7, 70)
    assert (line.shard_units, line.fee_units, line.in_units, line.out_units) == (280, 0, 1_000, 100)
    assert (line.difference_units, found.balanced) == (0, True)
    assert ledgers[0].by_asset(DEPOSITS) == {QUOTE: -1_000}
    assert ledgers[0].by_asset(OPEN_WITHDRAWALS) == {QUOTE: 7}
    assert ledgers[0].by_asset(PAYMENTS) == {QUOTE: 100}


def test_deposit_to_all_shards_is_on_its_way_to_those_audited_and_has_left_for_the_others() -> None:
    exchange = Exchange()
    exchange.control.operate(OperatorRole.TREASURY, Deposit(exchange.alice, QUOTE, 11, AllocationPolicy.EVEN))
    found = audit(exchange.ledgers(), exchange.states())
    (line,) = found.lines
    assert (line.treasury_units, line.transit_units, line.in_units, line.out_units) == (1_000, 6, 1_011, 5)
    assert found.balanced


def test_shard_that_received_what_nobody_sent_stops_the_audit() -> None:
    exchange = Exchange()
    exchange.venue.credit(Transfer(exchange.alice, QUOTE, 5))
    with pytest.raises(LedgerError) as stopped:
        audit(exchange.ledgers(), exchange.states())
    assert stopped.value.reason is LedgerReason.RECEIVER_AHEAD


def test_link_that_arrives_larger_than_it_was_sent_is_not_balanced() -> None:
    exchange = Exchange()
    link = exchange.send_to_shard(50)
    exchange.receive(replace(link, transfers=(Transfer(exchange.alice, QUOTE, 51),)))
    found = audit(exchange.ledgers(), exchange.states())
    assert not found.balanced
    assert found.lines[0].difference_units == 1


def test_audit_names_the_account_and_the_asset_that_an_engine_and_its_log_disagree_about() -> None:
    venue = traded_venue()
    state = state_of(venue)
    alice = state.accounts[0]
    (base, quote) = alice.balances
    richer = replace(alice, balances=(base, replace(quote, free_units=quote.free_units + 1)))
    found = audit([settled(venue)], [replace(state, accounts=(richer, *state.accounts[1:]))])
    assert not found.balanced
    assert [line.difference_units for line in found.lines] == [0, 1]
    assert [(one.what, one.ledger, one.engine) for one in found.differences] == [("account 1, asset 2", "2970", "2971")]


def test_frame_that_is_missing_at_the_end_is_a_difference_of_position_and_chain() -> None:
    venue = traded_venue()
    ledger = Ledger(venue.genesis)
    ledger.apply(venue.frames[:-1], venue.entries[:-1])
    found = differences_between(ledger, state_of(venue))
    assert [one.what for one in found[:2]] == ["position", "chain hash"]


# --- what it refuses ------------------------------------------------------------------------------------------------


def rechained(venue: Venue, change: Callable[[ExecutionFrame], ExecutionFrame], n: int) -> list[bytes]:
    """Return the log with frame n changed and all hashes made to fit again: what a wrong engine would write."""
    frames, last = [], decode(ExecutionFrame, venue.frames[0]).previous_hash
    for data in venue.frames:
        frame = replace(decode(ExecutionFrame, data), previous_hash=last)
        frames.append(encode(change(frame) if frame.n == n else frame))
        last = chain_hash(frames[-1])
    return frames


def with_events(change: Callable[[Event], Event | None]) -> Callable[[ExecutionFrame], ExecutionFrame]:
    """Return a change of a frame that changes each event, or leaves it out."""
    return lambda frame: replace(frame, events=tuple(new for event in frame.events if (new := change(event))))


def refused(venue: Venue, frames: Sequence[bytes]) -> LedgerReason:
    """Return why the frames are refused, having checked that nothing of them was applied."""
    ledger = Ledger(venue.genesis)
    with pytest.raises(LedgerError) as stopped:
        ledger.apply(frames)
    assert (ledger.n, ledger.holdings()) == (0, {})
    assert ledger.chain_hash == Ledger(venue.genesis).chain_hash
    ledger.apply(venue.frames)
    return stopped.value.reason


def test_gap_repetition_and_wrong_order_are_refused() -> None:
    venue = traded_venue()
    first, second, third, fourth = venue.frames
    assert refused(venue, [first, third, fourth]) is LedgerReason.FRAME_GAP
    assert refused(venue, [first, first]) is LedgerReason.FRAME_GAP
    assert refused(venue, [second, first]) is LedgerReason.FRAME_GAP


def test_frame_that_was_changed_breaks_the_chain_at_the_next_one() -> None:
    venue = traded_venue()
    credited = with_events(
        lambda event: replace(event, amount_units=event.amount_units + 1) if isinstance(event, FundsCredited) else event
    )
    changed = encode(credited(decode(ExecutionFrame, venue.frames[1])))
    assert refused(venue, [venue.frames[0], changed, *venue.frames[2:]]) is LedgerReason.CHAIN_BROKEN


def test_log_of_another_environment_is_refused_at_its_first_frame() -> None:
    other = Venue(REFERENCE, environment="other", signed=False)
    other.define_markets(FEES)
    assert refused(traded_venue(), other.frames) is LedgerReason.CHAIN_BROKEN


def test_frame_that_answers_another_entry_is_refused() -> None:
    venue = traded_venue()
    entries = [*venue.entries[:-1], venue.entries[-1]._replace(t_us=venue.now_us + 1)]
    ledger = Ledger(venue.genesis)
    with pytest.raises(LedgerError) as stopped:
        ledger.apply(venue.frames, entries)
    assert (stopped.value.reason, stopped.value.n, ledger.n) == (LedgerReason.INPUT_MISMATCH, 4, 0)


def test_bytes_that_are_no_frame_are_refused() -> None:
    venue = traded_venue()
    assert refused(venue, [venue.frames[0], venue.frames[1][:-1]]) is LedgerReason.MALFORMED_FRAME
    assert refused(venue, [venue.frames[0] + b"\0"]) is LedgerReason.MALFORMED_FRAME
    with pytest.raises(UnknownFormatError):
        Ledger(venue.genesis).apply([b"\x08\x02" + venue.frames[0][2:]])


def without(kind: type[Event]) -> Callable[[ExecutionFrame], ExecutionFrame]:
    return with_events(lambda event: None if isinstance(event, kind) else event)


@pytest.mark.parametrize(
    ("n", "change", "reason"),
    [
        (3, lambda frame: replace(frame, t_us=1), LedgerReason.TIME_BACKWARDS),
        (3, lambda frame: replace(frame, rules=2), LedgerReason.UNKNOWN_RULES),
        (1, without(MarketDefined), LedgerReason.UNKNOWN_MARKET),
        (2, without(LinkResult), LedgerReason.CREDIT_WITHOUT_LINK),
        (2, without(FundsCredited), LedgerReason.OVERDRAWN),
        (
            4,
            with_events(lambda event: replace(event, quantity_lots=51) if isinstance(event, Trade) else event),
            LedgerReason.OVERDRAWN,
        ),
        (
            2,
            with_events(lambda event: replace(event, sequence=2) if isinstance(event, LinkResult) else event),
            LedgerReason.LINK_GAP,
        ),
        (
            2,
            with_events(lambda event: replace(event, from_shard=7) if isinstance(event, FundsCredited) else event),
            LedgerReason.CREDIT_WITHOUT_LINK,
        ),
        (
            2,
            with_events(
                lambda event: replace(event, amount_units=2**63) if isinstance(event, FundsCredited) else event
            ),
            LedgerReason.AMOUNT_TOO_LARGE,
        ),
        (
            4,
            lambda frame: replace(frame, events=(*frame.events, FundsSent(0, 1, 9, BASE, 1, 0, 3))),
            LedgerReason.LINK_GAP,
        ),
    ],
)
def test_log_of_an_engine_that_is_wrong_is_refused(
    n: int, change: Callable[[ExecutionFrame], ExecutionFrame], reason: LedgerReason
) -> None:
    venue = traded_venue()
    assert refused(venue, rechained(venue, change, n)) is reason


def test_trade_of_an_engine_that_cheats_is_found_by_the_audit() -> None:
    venue = traded_venue()
    cheating = with_events(lambda event: replace(event, price_ticks=99) if isinstance(event, Trade) else event)
    ledger = Ledger(venue.genesis)
    ledger.apply(rechained(venue, cheating, 4))
    found = audit([ledger], [state_of(venue)])
    assert not found.balanced
    assert {"account 1, asset 2", "account 2, asset 2", "chain hash"} == {one.what for one in found.differences}


def test_every_reason_to_stop_is_produced_by_a_test() -> None:
    here = Path(__file__)
    text = "".join(path.read_text(encoding="utf-8") for path in (here, here.with_name("test_core_folds.py")))
    assert [reason for reason in LedgerReason if f"LedgerReason.{reason.name}" not in text] == []


def test_control_venue_is_settled_like_any_shard() -> None:
    control, alice, _ = opened_control()
    assert isinstance(control, ControlVenue)
    ledger = Ledger(control.genesis)
    ledger.apply(control.frames, control.entries)
    assert ledger.balances(alice) == {QUOTE: 1_000}
    assert differences_between(ledger, control.state) == []
