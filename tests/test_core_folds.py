"""The core's ledger and market-data fold: after every frame they say what the Python ones say, and refuse the same."""

import json
import random
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from clob.v1.frame_pb2 import ExecutionFrame as FrameMessage
from exchange.domain.commands import ReleaseFunds, RequestWithdrawal, Side
from exchange.domain.events import Event, Trade
from exchange.domain.frames import ExecutionFrame
from exchange.domain.operations import AllocationPolicy, CloseWithdrawal, Deposit, OperatorRole, SweepFees, Transfer
from exchange.domain.record import Record
from exchange.engine.choice import engine_named
from exchange.engine.port import RawEntry
from exchange.flow.seeded import SeededFlow
from exchange.local.control_venue import ControlVenue
from exchange.local.flow_venue import execute_on, open_flow_venue
from exchange.local.venue import Venue
from exchange.marketdata.book import Order
from exchange.marketdata.chain import FoldError, FoldReason
from exchange.marketdata.fold import Applied, ShardFold
from exchange.settlement.database import link_of
from exchange.settlement.frames import read_frame
from exchange.settlement.ledger import (
    KINDS,
    Draft,
    Ledger,
    LedgerError,
    LedgerReason,
    LinkAnswer,
    MarketUnits,
    SentLink,
    WithdrawalChange,
    owner_of,
)
from exchange.wire.checkpoint import read_shard_checkpoint
from exchange.wire.errors import UnknownFormatError, WireError
from exchange.wire.hashing import chain_hash
from exchange.wire.messages import decode, encode
from tests.support.exchange import opened_control
from tests.support.markets import ALICE, BOB, QUOTE, UNBANDED, funded_venue, limit
from tests.test_reference_properties import Exchange, TradingShard

core = pytest.importorskip("exchange_core", reason="the core is not built: make core")
from exchange.marketdata.core_fold import CoreShardFold  # noqa: E402 - it needs the module
from exchange.settlement.core_ledger import CoreLedger  # noqa: E402

REFERENCE = engine_named("reference")
VECTORS = json.loads((Path(__file__).parent / "vectors" / "executions.json").read_text(encoding="utf-8"))["logs"]
QUIET = list(HealthCheck)
NOT_WATCHED, EVERY_FRAME, EVERY_COMMAND = 0, 1, 2
HOSTILE = (0, 1, 2, 3, 7, 100, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


def flowed(seed: int, markets: int, commands: int) -> tuple[bytes, list[bytes], list[RawEntry]]:
    """Return genesis, frames and entries of a seeded flow, several batches to an entry here and there."""
    flow = SeededFlow(seed, markets)
    venue = open_flow_venue(flow, REFERENCE)
    list(flow.run(commands, lambda command: execute_on(venue, command)))
    return venue.genesis, venue.frames, venue.entries


def log_of(vector: dict[str, Any]) -> tuple[bytes, list[bytes], list[RawEntry]]:
    entries = [
        RawEntry(int(entry["n"]), int(entry["t_us"]), bytes.fromhex(entry["order_frame"]))
        for entry in vector["entries"]
    ]
    frames = [bytes.fromhex(entry["execution_frame"]) for entry in vector["entries"]]
    return bytes.fromhex(vector["genesis"]), frames, entries


def treasury_log() -> tuple[bytes, list[bytes], list[RawEntry]]:
    """Return a log of shard 0 with deposits, withdrawals that were asked for, paid and given back, and fees."""
    control, account, key = opened_control()
    control.command(key, account, *(RequestWithdrawal(QUOTE, units, f"bank {units}") for units in (10, 20, 30)))
    control.operate(OperatorRole.TREASURY, CloseWithdrawal(1, paid=True), CloseWithdrawal(2, paid=False))
    control.operate(OperatorRole.TREASURY, Deposit(account, QUOTE, 11, AllocationPolicy.EVEN))
    return control.genesis, control.frames, control.entries


def traded_log() -> tuple[bytes, list[bytes], list[RawEntry]]:
    """Return a log with fees, a reduced order, one that was replaced, money that went out, and swept fees."""
    venue = funded_venue(REFERENCE, msgspec.structs.replace(UNBANDED, maker_fee_ppm=10_000, taker_fee_ppm=20_000))
    venue.trade(ALICE, limit(Side.SELL, 5, 100, market=2), limit(Side.BUY, 5, 90, market=2))
    venue.trade(BOB, limit(Side.BUY, 3, 110, market=2), ReleaseFunds(QUOTE, 5))
    venue.trade(BOB, limit(Side.SELL, 1, 80, market=2), ReleaseFunds(QUOTE, 6))
    venue.operate(OperatorRole.TREASURY, SweepFees(QUOTE))
    return venue.genesis, venue.frames, venue.entries


# --- ledger ---------------------------------------------------------------------------------------------------------


class RememberingLedger(Ledger):
    """The Python ledger; it remembers what it adopted last."""

    last: Draft

    def adopt(self, draft: Draft) -> None:
        self.last = draft
        super().adopt(draft)


def in_parts(seed: int, length: int) -> list[tuple[int, int]]:
    """Return where parts of random length begin and end."""
    draw = random.Random(seed)
    edges = sorted({0, length, *(draw.randint(0, length) for _ in range(length // 3))})
    return list(pairwise(edges))


def assert_same_draft(ours: Any, expected: Draft, frames: Sequence[bytes]) -> None:
    """Compare columns with a draft of the Python ledger, and with what the protobuf library reads in the frames."""
    assert (ours.after_n, ours.after_hash) == (expected.after_n, expected.after_hash)
    assert (ours.n, ours.t_us, ours.chain_hash) == (expected.n, expected.t_us, expected.chain_hash)
    kinds, holders, assets, units = ours.units
    owners = list(zip(kinds, holders, assets, strict=True))
    assert owners == sorted(expected.units)
    assert dict(zip(owners, units, strict=True)) == expected.units
    markets, *columns = ours.markets
    assert markets == sorted(expected.markets)
    assert dict(zip(markets, map(MarketUnits._make, zip(*columns, strict=True)), strict=True)) == expected.markets
    assert list(zip(*ours.links_in, strict=True)) == sorted(expected.links_in.items())
    assert list(zip(*ours.links_out, strict=True)) == sorted(expected.links_out.items())
    assert list(map(sent_link, ours.sent)) == list(expected.sent.values())
    assert [LinkAnswer(*row) for row in zip(*ours.answers, strict=True)] == expected.answers
    assert [WithdrawalChange(*row) for row in ours.withdrawals] == expected.withdrawals
    read = [read_frame(frame) for frame in frames]
    rows = list(zip(*ours.frames, strict=True))
    assert len(rows) == len(read)
    for (n, t_us, events, changes_markets), frame in zip(rows, read, strict=True):
        assert (n, t_us, events, changes_markets) == (frame.n, frame.t_us, frame.events, frame.changes_markets)


def sent_link(row: tuple[int, int, int, int, list[tuple[int, int, int]]]) -> SentLink:
    to_shard, sequence, source_n, debited_us, transfers = row
    return SentLink(to_shard, sequence, source_n, debited_us, tuple(Transfer(*transfer) for transfer in transfers))


def assert_same_ledger(ours: Any, expected: Ledger) -> None:
    assert (ours.shard, ours.n, ours.t_us, ours.chain_hash) == (
        expected.shard,
        expected.n,
        expected.t_us,
        expected.chain_hash,
    )
    holdings = [
        ((*owner_of(holder, asset),), units)
        for (holder, asset), units in sorted(
            expected.holdings().items(), key=lambda item: owner_of(item[0][0], item[0][1])
        )
    ]
    *owner, units = ours.holdings()
    assert list(zip(zip(*owner, strict=True), units, strict=True)) == holdings
    assert set(ours.partners()) == expected.partners()
    for shard in expected.partners():
        assert ours.last_link_from(shard) == expected.last_link_from(shard)
        assert ours.last_link_to(shard) == expected.last_link_to(shard)


def settle_both(
    genesis: bytes, frames: list[bytes], entries: list[RawEntry] | None, parts: list[tuple[int, int]]
) -> None:
    """Settle a log part by part with both ledgers, by the strict way and by the one for proven frames."""
    expected, ours, proven = RememberingLedger(genesis), core.Ledger(genesis), core.Ledger(genesis)
    for start, end in parts:
        part = frames[start:end]
        answered = entries[start:end] if entries is not None else None
        expected.apply(part, answered)
        draft = ours.fold(part, answered)
        assert_same_draft(draft, expected.last, part)
        ours.adopt(draft)
        assert_same_ledger(ours, expected)
        draft = proven.fold_proven(part, expected.chain_hash)
        assert_same_draft(draft, expected.last, part)
        proven.adopt(draft)
    assert_same_ledger(proven, expected)


@pytest.mark.parametrize("seed", range(4))
def test_ledger_has_the_same_columns_after_every_part_of_a_flow(seed: int) -> None:
    genesis, frames, entries = flowed(seed, 1 + 3 * seed, 400)
    settle_both(genesis, frames, entries, in_parts(seed, len(frames)))


@pytest.mark.parametrize("make", [treasury_log, traded_log])
def test_ledger_has_the_same_columns_after_every_frame(make: Callable[[], Any]) -> None:
    genesis, frames, entries = make()
    settle_both(genesis, frames, entries, [(n, n + 1) for n in range(len(frames))])
    settle_both(genesis, frames, None, [(0, len(frames))])


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_ledger_has_the_same_columns_over_the_vectors(vector: dict[str, Any]) -> None:
    genesis, frames, entries = log_of(vector)
    settle_both(genesis, frames, entries, [(n, n + 1) for n in range(len(frames))])


class SettledExchange(Exchange):
    """Shard 0 and two trading shards with their links, settled by both ledgers."""

    factory = REFERENCE

    def __init__(self) -> None:
        super().__init__()
        venues: list[ControlVenue | Venue] = [self.control, *self.shards.values()]
        self.settled = [(venue, RememberingLedger(venue.genesis), core.Ledger(venue.genesis)) for venue in venues]

    @invariant()
    def ledgers_say_the_same(self) -> None:
        for venue, expected, ours in self.settled:
            frames, entries = venue.frames[expected.n :], venue.entries[expected.n :]
            if frames:
                expected.apply(frames, entries)
                draft = ours.fold(frames, entries)
                assert_same_draft(draft, expected.last, frames)
                ours.adopt(draft)
            assert_same_ledger(ours, expected)


def test_ledgers_of_shards_that_send_each_other_money_are_the_same() -> None:
    run_state_machine_as_test(
        SettledExchange,
        settings=settings(max_examples=10, stateful_step_count=20, deadline=None, suppress_health_check=QUIET),
    )


def test_ledger_goes_on_from_rows() -> None:
    genesis, frames, entries = flowed(7, 3, 200)
    whole = RememberingLedger(genesis)
    whole.apply(frames[:100], entries[:100])
    first = whole.last
    kinds, holders, assets = zip(*first.units, strict=True)
    markets = list(zip(*((market, *units) for market, units in first.markets.items()), strict=True))
    ours = core.Ledger(
        genesis,
        first.n,
        first.t_us,
        first.chain_hash,
        units=(bytes(kinds), holders, assets, list(first.units.values())),
        markets=tuple(markets),
        links_in=(list(first.links_in), list(first.links_in.values())),
        links_out=(list(first.links_out), list(first.links_out.values())),
    )
    assert_same_ledger(ours, whole)
    whole.apply(frames[100:], entries[100:])
    ours.adopt(ours.fold(frames[100:]))
    assert_same_ledger(ours, whole)


@pytest.mark.parametrize("entries_len", [0, 1, 3])
def test_frames_are_not_folded_beside_fewer_or_more_entries(entries_len: int) -> None:
    genesis, frames, entries = traded_log()
    with pytest.raises(ValueError, match=f"SHAPE: {entries_len} entries for 2 frames; give the entry"):
        core.Ledger(genesis).fold(frames[:2], entries[:entries_len])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"n": 1}, "SHAPE: no chain_hash; give that of frame 1, 32 bytes"),
        ({"units": ([1, 1], [1, 2], [1], [5, 5])}, "SHAPE: units: 1 rows of asset beside 2 of kind"),
        ({"units": ([1, 1], [1, 2], [1, 1], [5])}, "SHAPE: units: 1 rows of units beside 2 of kind"),
        ({"markets": ([], [1], [2], [1], [1])}, "SHAPE: markets: 1 rows of base_asset beside 0 of market"),
        ({"links_in": ([1, 2], [1])}, "SHAPE: links_in: 1 rows of last_sequence beside 2 of shard"),
        ({"links_out": ([], [1])}, "SHAPE: links_out: 1 rows of last_sequence beside 0 of shard"),
        ({"units": ([1, 0, 1], [1, 1, 1], [1, 1, 1], [5, 6, 7])}, "ROW_TWICE: units: row 2 is"),
        ({"markets": ([1, 1], [1, 1], [2, 2], [1, 1], [1, 1])}, "ROW_TWICE: markets: row 1 is"),
        ({"links_in": ([2, 2], [1, 1])}, "ROW_TWICE: links_in: row 1 is"),
        ({"links_out": ([2, 3, 2], [1, 1, 1])}, "ROW_TWICE: links_out: row 2 is"),
    ],
)
def test_rows_that_no_ledger_has_are_refused(rows: dict[str, Any], message: str) -> None:
    genesis, _, _ = traded_log()
    with pytest.raises(ValueError, match=f"^{message}"):
        core.Ledger(genesis, **rows)


def test_draft_of_another_position_is_not_adopted() -> None:
    genesis, frames, _ = traded_log()
    ours = core.Ledger(genesis)
    draft = ours.fold(frames[:2])
    ours.adopt(draft)
    with pytest.raises(ValueError, match=r"DRAFT_POSITION: the draft is of frames after 0, .* fold again"):
        ours.adopt(draft)


def test_link_of_a_draft_is_the_body_that_the_treasury_signs() -> None:
    genesis, frames, entries = traded_log()
    expected = RememberingLedger(genesis)
    expected.apply(frames, entries)
    for row, sent in zip(core.Ledger(genesis).fold(frames).sent, expected.last.sent.values(), strict=True):
        assert encode(link_of(1, sent_link(row))) == encode(link_of(1, sent))


# --- what the ledger refuses ----------------------------------------------------------------------------------------


def refusal_of(call: Callable[..., object], *arguments: object) -> tuple[Any, ...] | None:
    """Return what a ledger or a fold says that it refuses; None: it refuses nothing."""
    try:
        call(*arguments)
    except (core.LedgerStop, core.FoldStop) as stop:
        reason, n, detail = stop.args
        return reason, n, detail
    except (LedgerError, FoldError) as error:
        return str(error.reason), error.n, str(error).split(": ", 2)[2]
    except (core.UnknownFormat, UnknownFormatError):
        return ("UNKNOWN_FORMAT",)
    return None


def assert_same_refusal(ours: tuple[Any, ...] | None, expected: tuple[Any, ...] | None, hint: str) -> None:
    """Compare reason, position and words; bytes that are no frame are described as closely as is simple."""
    if expected is not None and expected[0] in ("MALFORMED_FRAME", "UNKNOWN_EVENT"):
        assert ours is not None, hint
        assert ours[:2] == expected[:2], hint
    else:
        assert ours == expected, hint


def rechained(frames: Sequence[bytes], n: int, frame: ExecutionFrame) -> list[bytes]:
    """Return the log with frame n replaced and all hashes made to fit again: what a wrong engine would write."""
    changed = list(frames[: n - 1])
    last = decode(ExecutionFrame, frames[n - 1]).previous_hash
    for place in range(n - 1, len(frames)):
        read = frame if place == n - 1 else decode(ExecutionFrame, frames[place])
        if place > n - 1 or frame.previous_hash == last:
            read = msgspec.structs.replace(read, previous_hash=last)
        changed.append(encode(read))
        last = chain_hash(changed[-1])
    return changed


def spoilt_event(draw: random.Random, event: Event) -> Event:
    """Return an event with one number changed."""
    numbers = [name for name in event.__struct_fields__ if isinstance(getattr(event, name), int)]
    if not numbers:
        return event
    name = draw.choice(numbers)
    there = getattr(event, name)
    if isinstance(there, bool):
        return msgspec.structs.replace(event, **{name: not there})
    return msgspec.structs.replace(event, **{name: draw.choice([*HOSTILE, there + 1, max(0, there - 1), there * 2])})


def spoilt_frame(draw: random.Random, frame: ExecutionFrame) -> ExecutionFrame:
    """Return a frame with something about it changed that may or may not matter."""
    events = list(frame.events)
    what = draw.randrange(8)
    if what == 0:
        name = draw.choice(["n", "t_us", "rules"])
        return msgspec.structs.replace(frame, **{name: draw.choice([1, 2, getattr(frame, name) + 1])})
    if what == 1:
        return msgspec.structs.replace(frame, previous_hash=bytes(32))
    if what == 2 and len(events) > 1:
        events.pop(draw.randrange(len(events)))
    elif what == 3 and events:
        events.insert(draw.randrange(len(events) + 1), draw.choice(events))
    elif events:
        place = draw.randrange(len(events))
        events[place] = spoilt_event(draw, events[place])
    return msgspec.structs.replace(frame, events=tuple(events))


def spoilt_logs(seed: int, frames: list[bytes], count: int) -> list[tuple[int, list[bytes]]]:
    """Return logs of an engine that is wrong in one frame; encodable ones only, with the place of that frame."""
    draw = random.Random(seed)
    found: list[tuple[int, list[bytes]]] = []
    while len(found) < count:
        n = draw.randint(1, len(frames))
        try:
            found.append((n, rechained(frames, n, spoilt_frame(draw, decode(ExecutionFrame, frames[n - 1])))))
        except WireError:
            continue
    return found


def mangled(draw: random.Random, data: bytes) -> bytes:
    """Return bytes with a few of them changed, gone or added."""
    out = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(out))
        what = draw.randrange(4)
        if what == 0:
            out[place] ^= 1 << draw.randrange(8)
        elif what == 1:
            out[place] = draw.randrange(256)
        elif what == 2:
            del out[place : place + draw.randint(1, 4)]
        else:
            out.insert(place, draw.randrange(256))
        if not out:
            return b"\0"
    return bytes(out)


@pytest.mark.parametrize("seed", range(6))
def test_ledger_refuses_the_logs_of_wrong_engines_for_the_same_reasons(seed: int) -> None:
    genesis, frames, _ = (flowed(seed, 2, 25), traded_log(), treasury_log())[seed % 3]
    reasons = set()
    for n, log in spoilt_logs(seed, frames, 150):
        expected, ours = RememberingLedger(genesis), core.Ledger(genesis)
        wanted = refusal_of(expected.apply, log)
        assert_same_refusal(refusal_of(ours.fold, log), wanted, f"seed {seed}, frame {n}")
        if wanted is None:
            draft = ours.fold(log)
            assert_same_draft(draft, expected.last, log)
            ours.adopt(draft)
        assert_same_ledger(ours, expected)
        reasons.add(wanted and wanted[0])
    assert len(reasons) > 3


@pytest.mark.parametrize("seed", range(4))
def test_ledger_refuses_mangled_bytes_for_the_same_reasons(seed: int) -> None:
    genesis, frames, _ = (traded_log(), treasury_log())[seed % 2]
    draw = random.Random(seed)
    for _ in range(300):
        n = draw.randrange(len(frames))
        log = [*frames[:n], mangled(draw, frames[n])]
        expected, ours = Ledger(genesis), core.Ledger(genesis)
        wanted = refusal_of(expected.apply, log)
        assert_same_refusal(refusal_of(ours.fold, log), wanted, f"seed {seed}: {log[n].hex()}")


def test_ledger_refuses_an_entry_that_a_frame_does_not_answer() -> None:
    genesis, frames, entries = traded_log()
    wrong = [*entries[:-1], entries[-1]._replace(t_us=entries[-1].t_us + 1)]
    wanted = refusal_of(Ledger(genesis).apply, frames, wrong)
    assert wanted is not None
    assert wanted[0] == LedgerReason.INPUT_MISMATCH
    assert refusal_of(core.Ledger(genesis).fold, frames, wrong) == wanted


def test_amounts_that_no_integer_of_the_core_holds_are_refused_in_the_same_words() -> None:
    genesis, frames, _ = traded_log()
    read = (decode(ExecutionFrame, data) for data in frames)
    n, frame = next((f.n, f) for f in read if any(isinstance(event, Trade) for event in f.events))
    for side in Side:
        for same_account in (False, True):
            huge = {"price_ticks": 2**64 - 1, "quantity_lots": 2**64 - 1, "taker_side": int(side)}
            events = tuple(
                msgspec.structs.replace(
                    event, **huge, maker_account=event.taker_account if same_account else event.maker_account
                )
                if isinstance(event, Trade)
                else event
                for event in frame.events
            )
            log = rechained(frames, n, msgspec.structs.replace(frame, events=events))
            expected, ours = RememberingLedger(genesis), core.Ledger(genesis)
            wanted = refusal_of(expected.apply, log)
            assert refusal_of(ours.fold, log) == wanted
            assert (wanted is None) == same_account


def test_reasons_of_the_core_are_those_of_the_python_ledger_and_fold() -> None:
    assert {*core.LEDGER_REASONS, "RECEIVER_AHEAD", "INVARIANT"} == set(LedgerReason)
    assert {*core.FOLD_REASONS, "UNKNOWN_WITHDRAWAL", "INVARIANT"} == set(FoldReason)
    assert len(KINDS) == 6


class Panicked:
    """Stands for what the core keeps after a panic: every call raises it again (`running.rs` has the core's test)."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def raise_it_again(*_: object) -> Any:
            raise core.Stop("INVARIANT", "the core panicked: a test asked for it")

        return raise_it_again


def test_panic_in_the_core_stops_the_ledger_like_any_other_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    venue = funded_venue(REFERENCE, UNBANDED)
    ledger = CoreLedger(venue.genesis)
    ledger.apply(venue.frames[:1])
    draft, _ = ledger.fold_proven(venue.frames[1:2], chain_hash(venue.frames[1]))
    monkeypatch.setattr(ledger, "_core", Panicked())
    for call in (
        lambda: ledger.apply(venue.frames[1:]),
        lambda: ledger.fold_proven(venue.frames[1:2], chain_hash(venue.frames[1])),
        lambda: ledger.adopt(draft),
    ):
        with pytest.raises(LedgerError, match="a test asked for it") as error:
            call()
        assert (error.value.reason, error.value.shard, error.value.n) == (LedgerReason.INVARIANT, venue.shard, 2)
    assert (ledger.n, ledger.chain_hash) == (1, chain_hash(venue.frames[0]))


def test_panic_in_the_core_stops_the_fold_like_any_other_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    venue = funded_venue(REFERENCE, UNBANDED)
    fold = CoreShardFold.from_genesis(venue.genesis)
    fold.apply(venue.frames[0])
    monkeypatch.setattr(fold, "core", Panicked())
    past = FrameMessage.FromString(venue.frames[0])
    for call in (lambda: fold.apply(venue.frames[1]), lambda: fold.take_in_the_past(past, venue.frames[0])):
        with pytest.raises(FoldError, match="a test asked for it") as error:
            call()
        assert (error.value.reason, error.value.shard, error.value.n) == (FoldReason.INVARIANT, venue.shard, 2)


# --- market data ----------------------------------------------------------------------------------------------------


def order_row(order: Order) -> Any:
    return (
        (
            order.order_id,
            order.client_order_id,
            order.account,
            order.book.market,
            order.side,
            order.price_ticks,
            order.open_lots,
            order.filled_lots,
        ),
        (
            order.post_only,
            order.self_trade_prevention,
            order.maker_fee_ppm,
            order.taker_fee_ppm,
            order.maker_prepaid_ppm,
            order.taker_prepaid_ppm,
        ),
        (order.origin_n, order.origin_batch, order.origin_command),
    )


def assert_same_fold(ours: Any, expected: ShardFold) -> None:
    """Compare all that two folds say."""
    assert (ours.shard, ours.n, ours.t_us, ours.chain_hash) == (
        expected.shard,
        expected.n,
        expected.t_us,
        expected.chain_hash,
    )
    assert ours.settings == tuple(getattr(expected.settings, name) for name in expected.settings.__struct_fields__)
    assert ours.links_in == expected.links_in
    assert ours.links_out == expected.links_out
    assert {(to, n): [tuple(part) for part in parts] for to, n, parts in ours.sent} == expected.sent
    assert ours.markets() == sorted(expected.books)
    for market, book in expected.books.items():
        assert ours.last_of(market) == (book.market_seq, book.last_price_ticks)
        bids, asks = ours.depth(market)
        assert bids == book.depth(Side.BUY)
        assert asks == book.depth(Side.SELL)
        assert ours.depth(market, 2) == (bids[:2], asks[:2])
        encoded, state = ours.market(market)
        assert state == book.settings.state
        settings_then = type(book.settings).FromString(encoded)
        settings_then.state = state
        assert settings_then == book.settings
        trades, complete_after = ours.trades_after(market, 0, 10_000)
        assert trades == list(book.tape)
        assert complete_after == book.tape.complete_after
    assert ours.open_orders_len == len(expected.orders)
    assert ours.accounts() == sorted(expected.accounts)
    for account in expected.accounts:
        assert ours.account_seq(account) == expected.account_seq(account)
        assert ours.balances(account) == [(asset, *units) for asset, units in expected.balances(account).items()]
        assert ours.open_orders(account) == [order_row(order) for order in expected.open_orders(account)]


def change_rows(applied: Applied) -> list[Any]:
    return [
        (
            change.market,
            change.previous_market_seq,
            change.market_seq,
            change.state,
            change.last_price_ticks,
            sorted(change.bids),
            sorted(change.asks),
        )
        for change in applied.changes
    ]


def trade_rows(applied: Applied) -> list[Any]:
    trades = [wrapped.trade for wrapped in applied.frame.events if wrapped.WhichOneof("event") == "trade"]
    return [(t.market, t.market_seq, t.trade_id, t.price_ticks, t.quantity_lots) for t in trades]


def assert_same_applied(ours: Any, expected: list[Applied]) -> None:
    """Compare the columns of some frames with what the Python fold says of each."""
    rows = list(zip(*ours.frames, strict=True))
    assert [row[:3] for row in rows] == [(one.n, one.t_us, len(one.frame.events)) for one in expected]
    accounts, places_end, places = ours.accounts
    places_start = [0, *places_end]
    trades, changes = list(zip(*ours.trades, strict=True)), ours.changes
    starts = (0, 0, 0)
    for row, one in zip(rows, expected, strict=True):
        (account, trade, change), ends = starts, row[3:]
        assert [
            (accounts[place], places[places_start[place] : places_end[place]]) for place in range(account, ends[0])
        ] == list(one.accounts.items())
        # The side is the taker's order's, which tapes show; nobody compares it with what the event says.
        assert [row[:5] for row in trades[trade : ends[1]]] == trade_rows(one)
        assert {row[0] for row in trades[trade : ends[1]]} == one.traded
        assert changes[change : ends[2]] == change_rows(one)
        starts = ends
    assert starts == (len(accounts), len(trades), len(changes))


class BothFolds:
    """The two folds of a shard, with all books watched command by command."""

    def __init__(self, genesis: bytes) -> None:
        self.expected = ShardFold.from_genesis(genesis)
        self.ours = core.ShardFold.from_genesis(genesis)

    def restart(self, state: Record) -> None:
        """Start again from a checkpoint."""
        self.expected = ShardFold(state)  # type: ignore[arg-type]
        self.ours = core.ShardFold.from_state(encode(state))
        self.watch()

    def watch(self) -> None:
        for market, book in self.expected.books.items():
            if not book.watched:
                book.watched = True
                self.ours.watch(market, EVERY_COMMAND)

    def apply(self, frames: Sequence[bytes]) -> None:
        expected = [self.expected.apply(frame) for frame in frames]
        ours = self.ours.apply(list(frames))
        assert ours.stop is None
        assert_same_applied(ours, expected)
        self.watch()


@pytest.mark.parametrize("seed", range(4))
def test_fold_says_the_same_after_every_frame_of_a_flow(seed: int) -> None:
    genesis, frames, _ = flowed(seed, 1 + 3 * seed, 300)
    both = BothFolds(genesis)
    for frame in frames:
        both.apply([frame])
        assert_same_fold(both.ours, both.expected)


def test_fold_says_the_same_after_parts_of_a_flow_of_any_length() -> None:
    genesis, frames, _ = flowed(11, 5, 2_000)
    both = BothFolds(genesis)
    for start, end in in_parts(11, len(frames)):
        both.apply(frames[start:end])
    assert_same_fold(both.ours, both.expected)


@pytest.mark.parametrize("vector", [v for v in VECTORS if "control" not in v["name"]], ids=lambda v: v["name"])
def test_fold_says_the_same_over_the_vectors(vector: dict[str, Any]) -> None:
    genesis, frames, _ = log_of(vector)
    both = BothFolds(genesis)
    for frame in frames:
        both.apply([frame])
        assert_same_fold(both.ours, both.expected)


class FoldedShard(TradingShard):
    """Everything that can enter a trading shard, folded by both."""

    factory = REFERENCE

    def __init__(self) -> None:
        super().__init__()
        self.both = BothFolds(self.venue.genesis)

    @rule()
    def start_the_folds_again_from_a_checkpoint(self) -> None:
        self.catch_up()
        self.both.restart(read_shard_checkpoint(self.venue.engine.checkpoint()))

    def catch_up(self) -> None:
        self.both.apply(self.venue.frames[self.both.expected.n :])

    @invariant()
    def folds_say_the_same(self) -> None:
        self.catch_up()
        assert_same_fold(self.both.ours, self.both.expected)


def test_fold_says_the_same_whatever_enters() -> None:
    run_state_machine_as_test(
        FoldedShard,
        settings=settings(max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=QUIET),
    )


def test_changes_by_frame_are_those_of_its_commands_together() -> None:
    genesis, frames, _ = flowed(5, 2, 400)
    by_frame, by_command = core.ShardFold.from_genesis(genesis), core.ShardFold.from_genesis(genesis)
    for frame in frames:
        merged = by_frame.apply([frame]).changes
        together: dict[int, Any] = {}
        for market, before, after, state, last_price, bids, asks in by_command.apply([frame]).changes:
            earlier = together.setdefault(market, (before, {}, {}))
            earlier[1].update((level[0], level) for level in bids)
            earlier[2].update((level[0], level) for level in asks)
            together[market] = (*earlier[:3], after, state, last_price)
        assert sorted(merged) == [
            (market, before, after, state, last_price, [bids[p] for p in sorted(bids)], [asks[p] for p in sorted(asks)])
            for market, (before, bids, asks, after, state, last_price) in sorted(together.items())
        ]
        for market in by_frame.markets():
            by_frame.watch(market, EVERY_FRAME)
            by_command.watch(market, EVERY_COMMAND)


def test_tape_and_transit_of_the_past_are_taken_in() -> None:
    """As the reader fills in what the bus has from before a checkpoint."""
    flow = SeededFlow(9, 3)
    venue = open_flow_venue(flow, REFERENCE)
    list(flow.run(600, lambda command: execute_on(venue, command)))
    both = BothFolds(venue.genesis)
    both.restart(read_shard_checkpoint(venue.engine.checkpoint()))
    for frame in venue.frames[-400:]:
        both.expected.take_in_the_past(FrameMessage.FromString(frame), frame)
        both.ours.take_in_the_past(frame)
    assert_same_fold(both.ours, both.expected)
    for market, book in both.expected.books.items():
        for seq in (0, 1, book.market_seq // 2, book.market_seq):
            assert both.ours.trades_after(market, seq, 5)[0] == list(book.tape.after(seq, 5))
            assert both.ours.trades_before(market, seq, 5)[0] == list(book.tape.before(seq, 5))


# --- what does not follow -------------------------------------------------------------------------------------------


def fold_refusals(genesis: bytes, log: Sequence[bytes]) -> tuple[Any, Any]:
    """Return what both folds say of a log, having compared what they did with the frames before."""
    expected, ours = ShardFold.from_genesis(genesis), core.ShardFold.from_genesis(genesis)
    applied: list[Applied] = []
    wanted = refusal_of(applied.extend, map(expected.apply, log))
    found = ours.apply(list(log))
    if wanted is None:
        assert_same_fold(ours, expected)
    else:
        again = ShardFold.from_genesis(genesis)
        applied = [again.apply(frame) for frame in log[: len(found.frames[0])]]
    assert_same_applied(found, applied)
    return found.stop, wanted


@pytest.mark.parametrize("seed", range(6))
def test_fold_stops_at_the_logs_of_wrong_engines_for_the_same_reasons(seed: int) -> None:
    genesis, frames, _ = (flowed(seed, 2, 25), traded_log())[seed % 2]
    reasons = set()
    for n, log in spoilt_logs(seed, frames, 200):
        found, wanted = fold_refusals(genesis, log)
        assert_same_refusal(found, wanted, f"seed {seed}, frame {n}")
        reasons.add(wanted and wanted[0])
    assert len(reasons) > 5


@pytest.mark.parametrize("seed", range(3))
def test_fold_stops_at_mangled_bytes(seed: int) -> None:
    """The protobuf library reads more than canonical bytes; what both read, both judge alike."""
    genesis, frames, _ = traded_log()
    draw = random.Random(seed)
    for _ in range(300):
        n = draw.randrange(len(frames))
        log = [*frames[:n], mangled(draw, frames[n])]
        ours = core.ShardFold.from_genesis(genesis)
        stop = ours.apply(log).stop
        if stop is not None and stop[0] == "MALFORMED_FRAME":
            assert stop[1] == n + 1
            continue
        found, wanted = fold_refusals(genesis, log)
        assert_same_refusal(found, wanted, f"seed {seed}: {log[n].hex()}")


def test_fold_that_stopped_goes_no_further() -> None:
    genesis, frames, _ = traded_log()
    ours = core.ShardFold.from_genesis(genesis)
    assert ours.apply([frames[0], frames[2]]).stop[:2] == ("FRAME_GAP", 2)
    assert ours.apply([frames[1]]).stop is not None


# --- what Python has to do ------------------------------------------------------------------------------------------


def calls_of(work: Callable[[], object]) -> int:
    """Return how many functions of ours run during some work; a collection of garbage calls others now and then."""
    calls = 0

    def count(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call" and "exchange" in Path(frame.f_code.co_filename).parts

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def test_python_does_as_much_for_a_long_frame_as_for_a_short_one() -> None:
    counted = []
    for orders in (4, 400):
        venue = funded_venue(REFERENCE, UNBANDED)
        sell, buy = limit(Side.SELL, 1, 100, market=2), limit(Side.BUY, 1, 100, market=2)
        venue.trade(ALICE, sell)
        venue.enter(*(venue.batch((ALICE, BOB)[place % 2], (sell, buy)[place % 2]) for place in range(orders)))
        *before, frame = venue.frames
        ledger, fold = CoreLedger(venue.genesis), CoreShardFold.from_genesis(venue.genesis)
        ledger.apply(before)
        for data in before:
            fold.apply(data)
        fold.books[2].watched = True
        applied: list[Applied] = []
        after = chain_hash(frame)
        counted.append(
            (
                calls_of(partial(ledger.fold_proven, [frame], after)),
                calls_of(lambda: applied.append(fold.apply(frame))),  # noqa: B023 - it runs here
            )
        )
        assert len(applied[0].frame.events) > orders
    assert counted[0] == counted[1]
    assert min(counted[0]) > 0
