"""Batches by name: the core and Python give the same rows, the same samples, and find the same places."""

import random
from collections.abc import Sequence

import pytest

from exchange.domain.commands import Batch, Side, SignedBatch
from exchange.domain.limits import KEY_ID_BYTES
from exchange.engine.choice import engine_named
from exchange.settlement.frames import MALFORMED, read_frame
from exchange.settlement.names import NAME_BYTES, PLAIN, ROW, NameIndex, PlainIndex
from exchange.settlement.namings import NAMINGS, naming_with
from exchange.wire.messages import encode
from tests.support.markets import ALICE, BOB, UNBANDED, funded_venue, limit

core = pytest.importorskip("exchange_core", reason="the core is not built: make core")
from tests.test_core_folds import VECTORS, flowed, log_of, traded_log, treasury_log  # noqa: E402 - needs the module

CORE = NAMINGS["core"]
Entries = tuple[list[bytes], list[bytes]]


def refusing_log() -> Entries:
    """Return a log of batches that are executed, repeated, refused with and without a name, and of a refused frame."""
    venue = funded_venue(engine_named("reference"), UNBANDED)
    bid = limit(Side.BUY, 1, 90, market=2)
    first = venue.batch(ALICE, bid)
    other = venue.batch(ALICE, limit(Side.BUY, 2, 90, market=2), nonce=1)
    broken = SignedBatch(first.key_id, first.payload + b"\0", first.signature)
    late = venue.batch(BOB, bid, valid_for_ms=-1)
    zero = venue.batch(BOB, bid, nonce=0)
    huge = venue.batch(BOB, bid, nonce=2**64 - 1)
    other_shard = encode(Batch(BOB, 0, 7, venue.now_us // 1000 + 1_000, (bid,)))
    venue.enter(first, broken, late, venue.batch(BOB, bid))
    venue.enter(first, zero, huge)
    venue.enter(first, other, SignedBatch(late.key_id, other_shard, late.signature), *(venue.batch(BOB, bid),) * 2)
    venue.enter()
    return [entry.order_frame for entry in venue.entries], venue.frames


def logs() -> list[Entries]:
    parts = [refusing_log()]
    for _, frames, entries in (*map(log_of, VECTORS), treasury_log(), traded_log(), flowed(3, 2, 300)):
        parts.append(([entry.order_frame for entry in entries], frames))
    return parts


@pytest.mark.parametrize("log", logs())
def test_core_and_python_name_the_same_batches_and_show_the_same_of_them(log: Entries) -> None:
    draw = random.Random(5)
    plain, ours = PLAIN.name_batches(*log), CORE.name_batches(*log)
    assert ours.rows == plain.rows
    assert len(ours) == len(plain)
    everything = range(len(plain))
    for chosen in (everything, [], sorted(draw.sample(everything, len(plain) // 3))):
        assert ours.executed(chosen) == plain.executed(chosen)


def test_batch_that_is_malformed_has_no_name_and_a_repetition_is_left_out() -> None:
    order_frames, frames = refusing_log()
    verdicts = [verdict for frame in frames for verdict in read_frame(frame).verdicts]
    assert sum(verdict.reason == MALFORMED for verdict in verdicts) >= 1
    assert any(verdict.reason not in (0, MALFORMED) for verdict in verdicts)
    names = CORE.name_batches(order_frames, frames)
    assert len(names) == len(verdicts)
    assert len(names.rows) // ROW.size == sum(verdict.reason != MALFORMED for verdict in verdicts)
    assert len(names.executed(range(len(names)))) == sum(not verdict.reason for verdict in verdicts)
    rows = list(ROW.iter_unpack(names.rows))
    assert {nonce for _, nonce, _, _ in rows} >= {0, 2**64 - 1}


def test_frames_that_do_not_belong_together_are_refused() -> None:
    order_frames, frames = refusing_log()
    with pytest.raises(ValueError, match="SHAPE"):
        CORE.name_batches(order_frames, frames[:-1])
    with pytest.raises(ValueError, match="MALFORMED_FRAME"):
        CORE.name_batches(order_frames[:1] * len(frames), frames)
    with pytest.raises(ValueError, match="MALFORMED_FRAME"):
        CORE.name_batches(order_frames, [frame[:-1] for frame in frames])
    names = CORE.name_batches(order_frames, frames)
    with pytest.raises(ValueError, match="MALFORMED_FRAME"):
        names.executed([len(names)])


def rows_of_chance(draw: random.Random, names: Sequence[bytes], first_n: int) -> bytes:
    """Return rows of some entries, names coming more than once."""
    found = [
        draw.choice(names) + n.to_bytes(8, "big") + place.to_bytes(4, "big")
        for n in range(first_n, first_n + 3)
        for place in range(1, draw.randint(0, 9) + 1)
    ]
    return b"".join(found)


@pytest.mark.parametrize("seed", range(5))
def test_both_indexes_find_the_same_places_while_rows_come(seed: int) -> None:
    draw = random.Random(seed)
    names = [draw.randbytes(NAME_BYTES) for _ in range(100)]
    plain, ours = PlainIndex(), core.NameIndex()
    everything: list[bytes] = []
    for step in range(120):
        rows = rows_of_chance(draw, names, 1 + 3 * step)
        plain.add(rows)
        ours.add(rows)
        everything += [rows[start : start + ROW.size] for start in range(0, len(rows), ROW.size)]
        name = draw.choice(names)
        expected = [ROW.unpack(row)[2:] for row in everything if row.startswith(name)]
        assert plain.places(name) == ours.places(name) == expected
        assert len(plain) == len(ours) == len(everything)
    assert plain.sorted_rows() == ours.sorted_rows() == b"".join(sorted(everything))


@pytest.mark.parametrize("engine", sorted(NAMINGS))
def test_index_without_rows_finds_nothing(engine: str) -> None:
    index: NameIndex = NAMINGS[engine].new_index()
    index.add(b"")
    assert (len(index), index.places(bytes(NAME_BYTES)), index.sorted_rows()) == (0, [], b"")


def test_index_of_the_core_refuses_what_is_no_row_and_no_name() -> None:
    index = core.NameIndex()
    with pytest.raises(ValueError, match="SHAPE"):
        index.add(bytes(ROW.size - 1))
    with pytest.raises(ValueError, match="SHAPE"):
        index.places(bytes(KEY_ID_BYTES))


def test_an_engine_without_a_way_of_its_own_names_in_python() -> None:
    assert naming_with("another") is PLAIN
    assert naming_with("core") is CORE
