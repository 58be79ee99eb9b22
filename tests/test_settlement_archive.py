"""The archive: what it gives back is what was put in, whatever a crash has left of its end."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

from exchange.bus.entries import ExecutionsEntry, OrdersEntry, Stamp
from exchange.domain.commands import PlaceOrder, Side
from exchange.domain.operations import Transfer
from exchange.engine.choice import engine_named
from exchange.local.venue import Venue
from exchange.settlement import archive as archive_module
from exchange.settlement.archive import Archive, Archived, ArchiveError, Place, rows_of
from exchange.settlement.names import PLAIN, ROW, Naming
from exchange.settlement.namings import NAMINGS
from tests.support.markets import ALICE, BASE, BOB, QUOTE, UNBANDED

RECORDS = 12


@pytest.fixture(scope="module")
def logged() -> list[Archived]:
    """Return the entries of a shard: two that open it, then one batch of one order each."""
    venue = Venue(engine_named("reference"), signed=False)
    venue.define_markets(UNBANDED)
    venue.credit(Transfer(ALICE, BASE, 50), Transfer(BOB, QUOTE, 10_000))
    for place in range(RECORDS - 2):
        venue.now_us += 1_000_000
        account, side = ((ALICE, Side.SELL), (BOB, Side.BUY))[place % 2]
        venue.trade(account, PlaceOrder(UNBANDED.market, side, 1, price_ticks=100, quantity_lots=1))
    entries = []
    for entry, frame in zip(venue.entries, venue.frames, strict=True):
        orders = OrdersEntry(entry.n, entry.t_us, entry.order_frame, bytes(32), "ingress-1", entry.n, 100 * entry.n)
        entries.append(Archived(orders, ExecutionsEntry(entry.n, frame, Stamp(1, 2, 3, entry.n, 90 * entry.n, 4))))
    return entries


class Named(NamedTuple):
    key_id: bytes
    nonce: int
    n: int
    batch: int


def names_of(entries: list[Archived]) -> list[Named]:
    return list(map(Named._make, ROW.iter_unpack(rows_of(entries, PLAIN))))


NAMING = {"now": PLAIN}


@pytest.fixture(autouse=True, params=sorted(NAMINGS))
def naming(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Naming:
    """Have the archives of a test name and find batches in each way that there is."""
    naming = NAMINGS[request.param]
    monkeypatch.setitem(NAMING, "now", naming)
    return naming


def open_archive(folder: Path, *, is_durable: bool = False, segment_names: int = 4) -> Archive:
    return Archive(folder, 1, is_durable=is_durable, segment_names=segment_names, naming=NAMING["now"])


def filled(folder: Path, logged: list[Archived], **options: int) -> Archive:
    archive = open_archive(folder, **options)  # type: ignore[arg-type]
    for entry in logged:
        archive.append([entry], rows_of([entry]))
    return archive


@pytest.fixture
def archive(tmp_path: Path, logged: list[Archived], naming: Naming) -> Iterator[Archive]:
    made = filled(tmp_path, logged)
    yield made
    made.close()


def test_entries_come_back_byte_for_byte_from_every_segment(archive: Archive, logged: list[Archived]) -> None:
    assert (archive.first_n, archive.last_n) == (1, RECORDS)
    assert list(archive.read_range(1, RECORDS)) == logged
    assert [archive.read(n) for n in range(1, RECORDS + 1)] == logged
    assert archive.read(RECORDS + 1) is None
    assert archive.read(0) is None
    assert (archive.first_us, archive.last_us) == (logged[0].orders.t_us, logged[-1].orders.t_us)
    assert len(list(archive.folder.glob("*.segment"))) == 3


def test_batches_are_found_by_key_and_nonce_in_closed_and_open_segments(
    archive: Archive, logged: list[Archived]
) -> None:
    for named in names_of(logged):
        assert archive.places(named.key_id, named.nonce) == [Place(named.n, named.batch)]
    assert archive.places(bytes(16), 1) == []


def test_batches_are_looked_for_only_in_the_span_of_time_that_is_named(
    archive: Archive, logged: list[Archived]
) -> None:
    first, last = names_of(logged)[0], names_of(logged)[-1]
    assert archive.places(first.key_id, first.nonce, to_us=logged[0].orders.t_us) == [Place(first.n, 1)]
    assert archive.places(first.key_id, first.nonce, from_us=logged[-1].orders.t_us) == []
    assert archive.places(last.key_id, last.nonce, from_us=logged[-1].orders.t_us) == [Place(last.n, 1)]


def test_archive_that_is_opened_again_is_the_same_and_goes_on(tmp_path: Path, logged: list[Archived]) -> None:
    filled(tmp_path, logged[:-1]).close()
    again = open_archive(tmp_path)
    assert list(again.read_range(1, RECORDS)) == logged[:-1]
    for named in names_of(logged[:-1]):
        assert again.places(named.key_id, named.nonce) == [Place(named.n, named.batch)]
    again.append(logged[-1:], rows_of(logged[-1:]))
    assert again.read(RECORDS) == logged[-1]
    again.close()


@pytest.mark.parametrize("cut", [1, 7, 60, 200])
def test_torn_end_is_cut_off_and_written_again(tmp_path: Path, logged: list[Archived], cut: int) -> None:
    filled(tmp_path, logged, segment_names=1_000).close()
    (path,) = (tmp_path / "shard-1").glob("*.segment")
    path.write_bytes(path.read_bytes()[:-cut])
    again = open_archive(tmp_path)
    assert again.last_n == RECORDS - 1
    again.append(logged[-1:], rows_of(logged[-1:]))
    assert list(again.read_range(1, RECORDS)) == logged
    again.close()


def test_segment_of_which_only_a_part_of_the_head_was_written_is_begun_again(
    tmp_path: Path, logged: list[Archived]
) -> None:
    filled(tmp_path, logged[:6]).close()
    (tmp_path / "shard-1" / f"{7:020d}.segment").write_bytes(b"clob")
    again = open_archive(tmp_path)
    assert again.last_n == 6
    again.append(logged[6:7], b"")
    assert again.read(7) == logged[6]
    again.close()


def test_lost_index_is_made_again(tmp_path: Path, logged: list[Archived]) -> None:
    filled(tmp_path, logged).close()
    for path in (tmp_path / "shard-1").glob("*.index"):
        path.unlink()
    again = open_archive(tmp_path)
    assert list(again.read_range(1, RECORDS)) == logged
    named = names_of(logged)[0]
    assert again.places(named.key_id, named.nonce) == [Place(named.n, named.batch)]
    again.close()


def test_damage_in_the_middle_is_told_and_not_read(tmp_path: Path, logged: list[Archived]) -> None:
    filled(tmp_path, logged).close()
    first = min((tmp_path / "shard-1").glob("*.segment"))
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(bytes(data))
    again = open_archive(tmp_path)
    with pytest.raises(ArchiveError, match="is damaged at entry"):
        list(again.read_range(1, RECORDS))
    again.close()


def test_missing_segment_is_told(tmp_path: Path, logged: list[Archived]) -> None:
    filled(tmp_path, logged).close()
    second = sorted((tmp_path / "shard-1").glob("*.segment"))[1]
    second.unlink()
    with pytest.raises(ArchiveError, match="ARCHIVE_GAP"):
        open_archive(tmp_path)


def test_entry_that_is_not_the_next_one_is_refused(archive: Archive, logged: list[Archived]) -> None:
    with pytest.raises(ArchiveError, match="ARCHIVE_GAP"):
        archive.append(logged[:1], b"")


def test_archive_begins_where_it_is_first_given_something(tmp_path: Path, logged: list[Archived]) -> None:
    archive = open_archive(tmp_path)
    archive.append(logged[5:], rows_of(logged[5:]))
    assert (archive.first_n, archive.last_n) == (6, RECORDS)
    assert archive.read(5) is None
    archive.close()


def test_old_segments_are_dropped_whole_and_never_those_that_are_still_needed(
    tmp_path: Path, logged: list[Archived]
) -> None:
    archive = filled(tmp_path, logged, segment_names=2)
    archive.drop_before(logged[-1].orders.t_us, keep_n=5)
    assert archive.first_n == 5
    assert list(archive.read_range(1, RECORDS)) == logged[4:]
    archive.drop_before(logged[8].orders.t_us, keep_n=100)
    assert archive.first_n <= 9
    archive.close()
    again = open_archive(tmp_path)
    assert again.first_n == archive.first_n
    again.close()


def test_durable_archive_keeps_the_same_bytes(tmp_path: Path, logged: list[Archived]) -> None:
    archive = filled(tmp_path, logged, is_durable=True)
    assert list(archive.read_range(1, RECORDS)) == logged
    archive.close()


# --- readers in other threads ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def before_each_line(then: Callable[[], None]) -> Iterator[None]:
    """Do something before each line that the archive's module runs, as another thread could."""

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != archive_module.__file__:
            return None
        if event == "line":
            then()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def test_reader_sees_only_whole_entries_at_each_step_of_the_writer(tmp_path: Path, logged: list[Archived]) -> None:
    archive = open_archive(tmp_path)
    seen: list[int] = []
    done = 0

    def look() -> None:
        # What was appended before is there with its names; the entry of now is there whole, or not at all.
        last_n = archive.last_n
        assert done <= last_n <= done + 1
        assert list(archive.read_range(1, RECORDS)) == logged[:last_n]
        assert archive.first_n == 1
        for named in names_of(logged[:last_n]):
            assert Place(named.n, named.batch) in archive.places(named.key_id, named.nonce)
        seen.append(last_n)

    for entry in logged:
        with before_each_line(look):
            archive.append([entry], rows_of([entry]))
        done += 1
    assert set(seen) >= set(range(RECORDS))
    assert len(list(archive.folder.glob("*.index"))) == 2
    archive.close()


@pytest.mark.parametrize("question", ["places", "read_range"])
def test_segment_that_is_closed_at_any_step_of_a_reader_is_not_missed(
    tmp_path: Path, logged: list[Archived], question: str
) -> None:
    named = names_of(logged)[0]
    closed_at: set[int] = set()
    for step in range(1, 1_000):
        archive = filled(tmp_path / str(step), logged[:5])
        lines = 0

        def close_segment(archive: Archive = archive, step: int = step) -> None:
            nonlocal lines
            lines += 1
            if lines == step:
                archive.append(logged[5:6], rows_of(logged[5:6]))
                assert len(list(archive.folder.glob("*.index"))) == 1
                closed_at.add(step)

        with before_each_line(close_segment):
            if question == "places":
                assert set(archive.places(named.key_id, named.nonce)) == {Place(named.n, named.batch)}
            else:
                assert list(archive.read_range(1, 5)) == logged[:5]
        archive.close()
        if lines < step:
            break
    assert len(closed_at) > 5
