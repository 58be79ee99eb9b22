"""The settler on a real bus: what it settles, what stops it, and that a crash anywhere changes nothing."""

import contextlib
import errno
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from exchange.bus.client import Bus
from exchange.bus.entries import CommitFrame, ExecutionsEntry, OrdersEntry, Stamp
from exchange.bus.errors import BusUnavailable
from exchange.bus.keys import BusKey, BusKeys, seal
from exchange.domain.commands import PlaceOrder, ReleaseFunds, RequestWithdrawal, Side, SignedBatch
from exchange.domain.events import FundsSent
from exchange.domain.frames import FORMAT, ExecutionFrame, OrderFrame
from exchange.domain.markets import Asset
from exchange.domain.operations import (
    AllocationPolicy,
    CloseWithdrawal,
    DefineAsset,
    Deposit,
    OperatorRole,
)
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.engine.choice import engine_named
from exchange.engine.port import RawEntry
from exchange.execution.checkpoints import CheckpointStore
from exchange.local.venue import Venue
from exchange.reference.signing import sign
from exchange.settlement import settler as settler_module
from exchange.settlement.archive import Archive, Archived
from exchange.settlement.checkpointing import CheckpointPolicy
from exchange.settlement.database import Database
from exchange.settlement.money import add_up
from exchange.settlement.settler import READ_FRAMES, Round, Settler, SettlerSettings
from exchange.settlement.shard import control_n_max
from exchange.wire.hashing import chain_hash
from exchange.wire.messages import decode, encode
from loadtest.bench_settlement import BUS_KEY, Log, MemoryBus
from tests.support import bus_venue
from tests.support.bus_venue import INGRESS, KEY, BusExchange
from tests.support.markets import BASE, QUOTE
from tests.support.markets import UNBANDED as BOOK
from tests.support.servers import BusServer

WAIT_S = 20
NO_CHECKPOINTS = CheckpointPolicy(10**9, 10**12, 10**6)


def eventually(holds: Callable[[], object], what: str = "") -> None:
    ends_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < ends_s, f"not in time: {what}"
        time.sleep(0.005)


class Running:
    """A settler that runs."""

    def __init__(self, exchange: BusExchange, folder: Path, settings: SettlerSettings, keys: BusKeys) -> None:
        self.rounds: list[Round] = []
        self.bus = Bus.connect(exchange.address)
        self.settler = Settler(
            self.bus,
            exchange.environment,
            engine_named("reference"),
            exchange.store,
            keys,
            folder / "settlement.db",
            folder / "archive",
            settings,
            self.rounds.append,
        )
        self.settler.start()

    def settled(self, shard: int, n: int) -> None:
        def reached() -> bool:
            progress = self.settler.progress.get(shard)
            assert not self.settler.fatal, self.settler.fatal
            assert progress is None or not progress.stopped, progress.stopped
            return progress is not None and progress.n >= n

        eventually(reached, f"shard {shard} settled to {n}")

    def stopped(self, shard: int) -> str:
        eventually(lambda: shard in self.settler.progress and self.settler.progress[shard].stopped, "stopped")
        return self.settler.progress[shard].stopped

    def end(self) -> None:
        self.settler.stop()
        self.settler.join(WAIT_S)
        assert not self.settler.is_alive()
        self.bus.close()


@contextlib.contextmanager
def settling(
    exchange: BusExchange,
    folder: Path,
    *,
    verify_one_in: int = 0,
    checkpoints: CheckpointPolicy = NO_CHECKPOINTS,
    tail_entries: int = 0,
    tail_bytes: int = 10**12,
    keys: BusKeys | None = None,
) -> Iterator[Running]:
    settings = SettlerSettings(
        verify_one_in=verify_one_in,
        interval_s=0,
        tail_entries=tail_entries,
        tail_bytes=tail_bytes,
        checkpoints=checkpoints,
    )
    running = Running(exchange, folder, settings, keys or BusKeys.of(KEY))
    try:
        yield running
    finally:
        running.end()


@pytest.fixture
def exchange(valkey_server: BusServer, tmp_path: Path) -> Iterator[BusExchange]:
    made = BusExchange(valkey_server.address, tmp_path, shards=2, markets=(BOOK,))
    made.control.operate(OperatorRole.MARKET, DefineAsset(Asset(BASE, "BTC", 8)), DefineAsset(Asset(QUOTE, "USD", 2)))
    yield made
    made.close()


def funded(exchange: BusExchange) -> tuple[int, int]:
    """Return two accounts with 10,000 of both assets in each shard."""
    accounts = [exchange.new_user(name)[0] for name in ("alice", "bob")]
    for account in accounts:
        exchange.deposit(account, BASE, 10_000)
        exchange.deposit(account, QUOTE, 10_000)
    return accounts[0], accounts[1]


def trade(exchange: BusExchange, seller: int, buyer: int, lots: int = 1) -> None:
    shard = exchange.shards[BOOK.shard]
    shard.trade(seller, PlaceOrder(BOOK.market, Side.SELL, 1, price_ticks=100, quantity_lots=lots))
    shard.trade(buyer, PlaceOrder(BOOK.market, Side.BUY, 1, price_ticks=100, quantity_lots=lots))


def last_n(exchange: BusExchange, shard: int) -> int:
    return (exchange.shards[shard] if shard else exchange.control).venue.engine.position


def all_settled(exchange: BusExchange, running: Running) -> None:
    for shard in (0, *exchange.shards):
        running.settled(shard, last_n(exchange, shard))


def balances(folder: Path) -> dict[tuple[int, int, int, int], int]:
    with contextlib.closing(sqlite3.connect(folder / "settlement.db")) as db:
        rows = db.execute("SELECT shard, kind, holder, asset, units FROM balances").fetchall()
    return {(shard, kind, holder, asset): int(units) for shard, kind, holder, asset, units in rows}


# --- what it settles ------------------------------------------------------------------------------------------------


def test_everything_that_is_executed_is_settled_audited_archived_and_balances(
    exchange: BusExchange, tmp_path: Path
) -> None:
    alice, bob = funded(exchange)
    trade(exchange, alice, bob, 3)
    with settling(exchange, tmp_path) as running:
        all_settled(exchange, running)
        settler = running.settler

        def ask() -> object:
            return add_up([s for n in (0, 1, 2) if (s := settler.settlement(n))], [0, 1, 2], [BASE, QUOTE])

        money = settler.call(ask).result(WAIT_S)
        assert money.is_balanced, money  # type: ignore[attr-defined]
        lines = {line.asset: line for line in money.lines}  # type: ignore[attr-defined]
        assert lines[BASE].deposited_units == lines[BASE].shards_units == 40_000
        assert settler.transactions < sum(last_n(exchange, shard) for shard in (0, 1, 2))
        archive = settler.archive(1)
        assert archive is not None
        assert [one.executions.frame for one in archive.read_range(1, 99)] == exchange.shards[1].frames
    settlement = settler.settlement(1)
    assert settlement is not None
    assert settlement.ledger.balances(alice)[BASE] == 10_000 - 3 * BOOK.base_units_per_lot


def test_shard_that_is_defined_later_is_settled_too(exchange: BusExchange, tmp_path: Path) -> None:
    with settling(exchange, tmp_path) as running:
        all_settled(exchange, running)
        exchange.add_shard(3)
        alice, _ = exchange.new_user("alice")
        exchange.deposit(alice, QUOTE, 5)
        all_settled(exchange, running)
        assert set(running.settler.progress) == {0, 1, 2, 3}


def test_sent_links_are_told_and_outstanding_until_their_receiver_is_settled(
    exchange: BusExchange, tmp_path: Path
) -> None:
    alice, _ = funded(exchange)
    with settling(exchange, tmp_path) as running:
        all_settled(exchange, running)
        assert running.settler.call(running.settler.links).result(WAIT_S) == []
        shard = exchange.shards[1]
        events = shard.trade(alice, ReleaseFunds(QUOTE, 7))
        assert any(isinstance(event, FundsSent) for event in events)
        running.settled(1, last_n(exchange, 1))
        (link,) = running.settler.call(running.settler.links).result(WAIT_S)
        assert (link.link.from_shard, link.link.to_shard, link.link.transfers[0].amount_units) == (1, 0, 7)
        assert [sent.sequence for one in running.rounds for shard, sent in one.sent if shard == 1] == [1]
        exchange.deliver(shard, events)
        all_settled(exchange, running)
        assert running.settler.call(running.settler.links).result(WAIT_S) == []
        settlement = running.settler.settlement(1)
        assert settlement is not None
        assert settlement.ledger.outstanding() == []


def test_withdrawals_are_rows_from_request_to_close(exchange: BusExchange, tmp_path: Path) -> None:
    alice, key = exchange.new_user("alice")
    exchange.control.operate(OperatorRole.TREASURY, Deposit(alice, QUOTE, 100, AllocationPolicy.NONE))
    exchange.command(key, alice, RequestWithdrawal(QUOTE, 30, "bank"), RequestWithdrawal(QUOTE, 20, "other bank"))
    requested_n = last_n(exchange, 0)
    exchange.control.operate(OperatorRole.TREASURY, CloseWithdrawal(1, paid=True))
    with settling(exchange, tmp_path) as running:
        all_settled(exchange, running)
    database = Database(tmp_path / "settlement.db", "local", is_durable=False, read_only=True)
    first, second = database.withdrawals(0, 0, 0, 10)
    assert (first.amount_units, first.state, first.requested_n, first.destination) == (30, 2, requested_n, "bank")
    assert (second.amount_units, second.state, second.closed_us) == (20, 1, 0)
    assert database.withdrawals(0, 1, 0, 10) == [second]
    assert database.withdrawals(alice + 1, 0, 0, 10) == []
    database.close()


# --- crash and restart ----------------------------------------------------------------------------------------------


def test_restart_goes_on_where_the_cursor_is_and_doubles_nothing(exchange: BusExchange, tmp_path: Path) -> None:
    alice, bob = funded(exchange)
    with settling(exchange, tmp_path) as running:
        trade(exchange, alice, bob)
        all_settled(exchange, running)
    before = balances(tmp_path)
    trade(exchange, alice, bob, 2)
    with settling(exchange, tmp_path) as running:
        all_settled(exchange, running)
        assert sum(len(one.answers) for one in running.rounds) <= 2
    after = balances(tmp_path)
    moved = {owner: after[owner] - before.get(owner, 0) for owner in after if after[owner] != before.get(owner, 0)}
    lot, notional = BOOK.base_units_per_lot, 100 * BOOK.quote_units_per_tick_lot
    assert moved[1, 0, alice, BASE] == -2 * lot
    assert moved[1, 0, bob, BASE] == 2 * lot
    assert moved[1, 0, bob, QUOTE] <= -2 * notional


def test_database_that_lags_behind_the_archive_is_brought_up_from_it(exchange: BusExchange, tmp_path: Path) -> None:
    """As after a crash between archive and database."""
    alice, bob = funded(exchange)
    with settling(exchange, tmp_path) as running:
        all_settled(exchange, running)
    saved = (tmp_path / "settlement.db").read_bytes()
    trade(exchange, alice, bob)
    with settling(exchange, tmp_path) as running:
        all_settled(exchange, running)
    wanted = balances(tmp_path)
    for leftover in tmp_path.glob("settlement.db*"):
        leftover.unlink()
    (tmp_path / "settlement.db").write_bytes(saved)
    with settling(exchange, tmp_path) as running:
        all_settled(exchange, running)
        archive = running.settler.archive(1)
        assert archive is not None
        assert archive.last_n == last_n(exchange, 1)
    assert balances(tmp_path) == wanted


def test_lost_database_is_made_again_from_the_log_and_its_archive(exchange: BusExchange, tmp_path: Path) -> None:
    alice, bob = funded(exchange)
    trade(exchange, alice, bob)
    with settling(exchange, tmp_path, checkpoints=CheckpointPolicy(1, 10**12, 10**6)) as running:
        all_settled(exchange, running)
        eventually(lambda: all(one.trimmed_n for one in running.settler.progress.values()), "trimmed")
    wanted = balances(tmp_path)
    for leftover in tmp_path.glob("settlement.db*"):
        leftover.unlink()
    with settling(exchange, tmp_path) as running:
        all_settled(exchange, running)
    assert balances(tmp_path) == wanted


def test_second_settler_of_the_same_database_is_stopped_by_the_cursor(exchange: BusExchange, tmp_path: Path) -> None:
    alice, bob = funded(exchange)
    with settling(exchange, tmp_path) as running:
        all_settled(exchange, running)
        with contextlib.closing(sqlite3.connect(tmp_path / "settlement.db")) as db, db:
            db.execute("UPDATE cursors SET n = n + 1 WHERE shard = 1")
        trade(exchange, alice, bob)
        eventually(lambda: running.settler.fatal, "fatal")
        assert "CURSOR_MOVED" in running.settler.fatal


# --- checkpoints and trimming ---------------------------------------------------------------------------------------


def test_checkpoints_are_loaded_once_and_streams_are_trimmed_behind_them_but_for_a_tail(
    exchange: BusExchange, tmp_path: Path
) -> None:
    alice, bob = funded(exchange)
    for _ in range(4):
        trade(exchange, alice, bob)
    n = last_n(exchange, 1)
    with settling(exchange, tmp_path, checkpoints=CheckpointPolicy(1, 10**12, 10**6), tail_entries=3) as running:
        all_settled(exchange, running)
        eventually(lambda: running.settler.progress[1].checkpoint_n == n, "checkpoint")
        assert exchange.store.newest(1) is not None
        trade(exchange, alice, bob)
        trade(exchange, alice, bob)
        eventually(lambda: running.settler.progress[1].trimmed_n >= n, "trimmed")
        head = running.bus.head("s1")
        assert head is not None
        assert head.trimmed_n <= last_n(exchange, 1) - 3
    with settling(exchange, tmp_path) as running:
        all_settled(exchange, running)


def test_a_tail_of_large_entries_does_not_fill_the_streams(exchange: BusExchange, tmp_path: Path) -> None:
    """Else ingest would refuse everything, and nothing new would ever let the streams be trimmed."""
    alice, bob = funded(exchange)
    policy = CheckpointPolicy(1, 10**12, 10**6)
    with settling(exchange, tmp_path, checkpoints=policy, tail_entries=10**6, tail_bytes=1) as running:
        for _ in range(3):
            trade(exchange, alice, bob)
            all_settled(exchange, running)
            n = last_n(exchange, 1)
            eventually(lambda n=n: running.settler.progress[1].checkpoint_n == n, "checkpoint")  # type: ignore[misc]
        eventually(lambda: running.settler.progress[1].trimmed_n > 0, "trimmed")
        head = running.bus.head("s1")
        assert head is not None
        assert 0 < head.trimmed_n < last_n(exchange, 1)


def test_streams_that_are_full_are_trimmed_after_a_start_although_nothing_new_comes(
    exchange: BusExchange, tmp_path: Path
) -> None:
    """With full streams ingest takes nothing, so nothing is settled that could be the occasion."""
    alice, bob = funded(exchange)
    policy = CheckpointPolicy(1, 10**12, 10**6)
    with settling(exchange, tmp_path, checkpoints=policy, tail_entries=10**6) as running:
        for _ in range(4):
            trade(exchange, alice, bob)
        all_settled(exchange, running)
        head = running.bus.head("s1")
        assert head is not None
        assert head.trimmed_n == 0
    n = last_n(exchange, 1)
    with settling(exchange, tmp_path, checkpoints=policy, tail_entries=10**6, tail_bytes=1) as running:
        all_settled(exchange, running)
        eventually(lambda: running.settler.progress[1].trimmed_n > 0, "trimmed")
        head = running.bus.head("s1")
        assert head is not None
        assert 0 < head.trimmed_n < n


def test_a_checkpoint_that_is_due_by_bytes_is_due_after_a_start_too(exchange: BusExchange, tmp_path: Path) -> None:
    alice, bob = funded(exchange)
    with settling(exchange, tmp_path, checkpoints=CheckpointPolicy(1, 10**12, 10**6)) as running:
        all_settled(exchange, running)
        n = last_n(exchange, 1)
        eventually(lambda: running.settler.progress[1].checkpoint_n == n, "checkpoint")
    checkpoint_n = exchange.store.positions(1)[0]
    with settling(exchange, tmp_path) as running:
        for _ in range(3):
            trade(exchange, alice, bob)
        all_settled(exchange, running)
    for later in exchange.store.positions(1):
        if later > checkpoint_n:
            (exchange.store.folder / "shard-1" / f"{later}.checkpoint").unlink()
    with settling(exchange, tmp_path, checkpoints=CheckpointPolicy(10**9, 500, 10**6)) as running:
        all_settled(exchange, running)
        eventually(lambda: running.settler.progress[1].checkpoint_n == last_n(exchange, 1), "checkpoint")


def test_clean_end_leaves_a_checkpoint_at_the_settled_position(exchange: BusExchange, tmp_path: Path) -> None:
    funded(exchange)
    with settling(exchange, tmp_path) as running:
        all_settled(exchange, running)
    assert [exchange.store.positions(shard)[0] for shard in (0, 1, 2)] == [
        last_n(exchange, shard) for shard in (0, 1, 2)
    ]


# --- shard 0 under the others ---------------------------------------------------------------------------------------


def trade_under_newest_key(exchange: BusExchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """Register a key; have it sign a batch in shard 1, in a frame that says under which position it was verified."""
    account, key = exchange.new_user("late")
    exchange.deposit(account, QUOTE, 10)
    venue, control_n = exchange.shards[1].venue, last_n(exchange, 0)
    assert isinstance(venue, Venue)

    def frame_under_keys(
        format_: int, ingress: bytes, counter: int, ingress_time_us: int, _: int, batches: tuple[SignedBatch, ...]
    ) -> OrderFrame:
        return OrderFrame(format_, ingress, counter, ingress_time_us, control_n, batches)

    with monkeypatch.context() as patched:
        patched.setattr(bus_venue, "OrderFrame", lambda *fields: frame_under_keys(*fields[:6]))
        venue.now_us = time.time_ns() // 1000
        payload = venue.batch(account, ReleaseFunds(QUOTE, 1)).payload
        signature = sign(key.seed, signed_bytes(SignedKind.BATCH, exchange.environment.name, payload))
        exchange.shards[1].enter(SignedBatch(key.key_id, payload, signature))


def test_frame_under_keys_that_are_more_than_one_read_ahead_is_settled_and_so_it_is_after_a_crash(
    exchange: BusExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with settling(exchange, tmp_path, verify_one_in=1) as running:
        all_settled(exchange, running)
    saved = (tmp_path / "settlement.db").read_bytes()
    for number in range(READ_FRAMES + 1):
        exchange.new_user(f"user {number}")
    trade_under_newest_key(exchange, monkeypatch)
    with settling(exchange, tmp_path, verify_one_in=1) as running:
        all_settled(exchange, running)
    # Between archive and database, the archive has it all.
    for leftover in tmp_path.glob("settlement.db*"):
        leftover.unlink()
    (tmp_path / "settlement.db").write_bytes(saved)
    with settling(exchange, tmp_path, verify_one_in=1) as running:
        all_settled(exchange, running)


def test_bus_that_does_not_answer_for_shard_0_makes_the_others_wait_and_nothing_is_executed_twice(
    exchange: BusExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with settling(exchange, tmp_path, verify_one_in=1) as running:
        all_settled(exchange, running)
    trade_under_newest_key(exchange, monkeypatch)
    read, failures = Bus.read_executions, [1]

    def flaky(
        bus: Bus, positions: Mapping[str, int], count: int, block_ms: int | None = None
    ) -> dict[str, list[ExecutionsEntry]]:
        if set(positions) == {"s0"} and failures:
            failures.pop()
            raise BusUnavailable("no answer")
        found = read(bus, positions, count, block_ms)
        # Until then, what is new in shard 0 comes after the others were read.
        return {tag: entries for tag, entries in found.items() if tag != "s0" or not failures}

    monkeypatch.setattr(Bus, "read_executions", flaky)
    with settling(exchange, tmp_path, verify_one_in=1) as running:
        all_settled(exchange, running)
    assert not failures


def test_frame_that_nobody_can_read_names_no_position_of_shard_0() -> None:
    orders = OrdersEntry(1, 1, b"\xff", b"", "", 0, 0)
    assert control_n_max([Archived(orders, ExecutionsEntry(1, b"", Stamp(1, 1, 1, 0, 0, 0)))]) == 0


# --- disks ----------------------------------------------------------------------------------------------------------


def test_full_disk_under_an_archive_stops_its_shard_which_goes_on_from_there_when_there_is_room(
    exchange: BusExchange, tmp_path: Path
) -> None:
    alice, bob = funded(exchange)
    with settling(exchange, tmp_path) as running:
        all_settled(exchange, running)
        n = last_n(exchange, 1)
        archive = running.settler.archive(1)
        assert archive is not None
        archive.close()
        archive._file = Path("/dev/full").open("ab")  # noqa: SIM115 - the archive closes it
        trade(exchange, alice, bob)
        why = running.stopped(1)
        assert why.startswith(f"ARCHIVE_WRITE: shard 1, entry {n + 1}: ")
        assert str(archive.folder) in why
        assert "make room" in why
        exchange.shards[2].trade(alice, ReleaseFunds(QUOTE, 1))
        running.settled(2, last_n(exchange, 2))
    assert not running.settler.fatal
    with settling(exchange, tmp_path) as running:
        all_settled(exchange, running)


def test_evidence_that_cannot_be_written_is_said_and_stops_no_other_shard(
    exchange: BusExchange, tmp_path: Path
) -> None:
    alice, _ = funded(exchange)
    (tmp_path / "evidence").write_text("in the way")
    with settling(exchange, tmp_path) as running:
        all_settled(exchange, running)
        wrong_commit(exchange, lambda frame: msgspec.structs.replace(frame, t_us=frame.t_us + 1))
        why = running.stopped(1)
        assert "EXECUTION_DIFFERS" in why
        assert "evidence cannot be kept" in why
        exchange.shards[2].trade(alice, ReleaseFunds(QUOTE, 1))
        running.settled(2, last_n(exchange, 2))


def test_segment_that_cannot_be_deleted_is_said_once_and_ends_nothing(
    exchange: BusExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[int] = []

    def drop(archive: Archive, t_us: int, keep_n: int) -> None:
        tried.append(archive.shard)
        if archive.shard == 1:
            raise PermissionError(errno.EACCES, "not ours", "1.segment")

    monkeypatch.setattr(Archive, "drop_before", drop)
    monkeypatch.setattr(settler_module, "LOOK_S", 0)
    monkeypatch.setattr(settler_module, "DROP_EVERY_S", 0)
    alice, bob = funded(exchange)
    with settling(exchange, tmp_path) as running:
        eventually(lambda: running.settler.fatal or tried.count(2) > 2, "dropped")
        assert not running.settler.fatal
        trade(exchange, alice, bob)
        all_settled(exchange, running)
    # Its next segment is not deleted either: that would leave a gap.
    assert tried.count(1) == 1
    (said,) = [record.getMessage() for record in caplog.records if "cannot be deleted" in record.getMessage()]
    assert "shard 1" in said
    assert "1.segment" in said


# --- what stops it --------------------------------------------------------------------------------------------------


def wrong_commit(exchange: BusExchange, change: Callable[[ExecutionFrame], ExecutionFrame]) -> int:
    """Commit an answer to a new empty entry of shard 1 that is not what the engine says; return its position."""
    venue = exchange.shards[1]
    engine, bus = venue.venue.engine, venue.bus
    n, before, now_us = engine.position + 1, engine.chain_hash, time.time_ns() // 1000
    order_frame = encode(OrderFrame(FORMAT, INGRESS, n, now_us))
    entered = bus.ingest("s1", seal(KEY, 1, INGRESS, n, order_frame, 0, exempt=True))
    right = engine.apply([RawEntry(n, entered.t_us, order_frame)])[0]
    wrong = encode(change(decode(ExecutionFrame, right)))
    head = bus.head("s1")
    assert head is not None
    stamp = Stamp(head.epoch, now_us, now_us, 0, head.executions_bytes + len(wrong) + 128, head.orders_bytes)
    bus.commit("s1", head.epoch, n - 1, before, [CommitFrame(wrong, stamp, b"")], chain_hash(wrong))
    return n


def test_answer_that_re_execution_does_not_give_stops_its_shard_and_no_other(
    exchange: BusExchange, tmp_path: Path
) -> None:
    alice, _ = funded(exchange)
    with settling(exchange, tmp_path) as running:
        all_settled(exchange, running)
        stolen = FundsSent(0, alice, 99, QUOTE, 1_000, 0, 1)
        n = wrong_commit(exchange, lambda frame: msgspec.structs.replace(frame, events=(*frame.events, stolen)))
        why = running.stopped(1)
        assert "EXECUTION_DIFFERS" in why
        assert running.settler.progress[1].n == n - 1
        exchange.shards[2].trade(alice, ReleaseFunds(QUOTE, 1))
        running.settled(2, last_n(exchange, 2))
        (folder,) = (tmp_path / "evidence").iterdir()
        assert {path.name for path in folder.iterdir()} >= {"stop.json", "executions.frame", "re-executed.frame"}


def test_entry_without_a_known_seal_stops_the_shard(exchange: BusExchange, tmp_path: Path) -> None:
    with settling(exchange, tmp_path, keys=BusKeys.of(BusKey("other", bytes(32)))) as running:
        eventually(lambda: running.settler.fatal or running.settler.progress.get(0, None), "opened")
        assert "SEAL_REFUSED" in running.stopped(0)


def test_batch_that_nobody_signed_stops_the_shard(exchange: BusExchange, tmp_path: Path) -> None:
    alice, bob = funded(exchange)
    with settling(exchange, tmp_path, verify_one_in=1) as running:
        all_settled(exchange, running)
        trade(exchange, alice, bob)
        assert "BATCH_SIGNATURE" in running.stopped(1)
        assert running.settler.progress[1].n == last_n(exchange, 1) - 2


def test_database_of_another_log_is_refused(exchange: BusExchange, tmp_path: Path) -> None:
    with settling(exchange, tmp_path) as running:
        all_settled(exchange, running)
    with contextlib.closing(sqlite3.connect(tmp_path / "settlement.db")) as db, db:
        db.execute("UPDATE cursors SET hash = ? WHERE shard = 1", (bytes(32),))
    with settling(exchange, tmp_path) as running:
        assert "HISTORY_DIFFERS" in running.stopped(1)


def test_receiver_that_is_ahead_of_its_sender_is_stopped(exchange: BusExchange, tmp_path: Path) -> None:
    alice, _ = funded(exchange)
    with settling(exchange, tmp_path) as running:
        all_settled(exchange, running)
    with contextlib.closing(sqlite3.connect(tmp_path / "settlement.db")) as db, db:
        db.execute("UPDATE link_ends SET last_sequence = 1 WHERE shard = 0 AND other = 2")
    assert alice
    with settling(exchange, tmp_path) as running:
        assert "RECEIVER_AHEAD" in running.stopped(2)


def test_rounds_follow_each_other_at_once_while_more_waits(tmp_path: Path) -> None:
    log = Log(frames=5, per_frame=1, commands=1_024)
    assert min(map(len, log.entries.values())) > 3 * READ_FRAMES
    settler = Settler(
        cast(Any, MemoryBus(log)),
        log.environment,
        engine_named("reference"),
        CheckpointStore(tmp_path / "checkpoints"),
        BusKeys.of(BUS_KEY),
        tmp_path / "settlement.db",
        tmp_path / "archive",
        # Longer than the test may take: it ends only if no round but the last of them is waited for.
        SettlerSettings(verify_one_in=0, interval_s=3_600),
    )
    settler.start()
    try:
        eventually(lambda: settler.progress.get(1) and settler.progress[1].n == len(log.entries[1]))
        assert settler.rounds > 6
    finally:
        settler.stop()
        settler.join()
    assert not settler.fatal
