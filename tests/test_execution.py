"""The loop of a shard and its checkpoints, on real servers: nothing is lost, doubled, guessed or rewritten."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from exchange.bus.client import Bus
from exchange.bus.entries import CommitFrame, ServerInfo
from exchange.bus.errors import BusUnavailable
from exchange.bus.keys import BusKey
from exchange.domain.commands import Side
from exchange.domain.events import BatchResult, MarketStateChanged
from exchange.domain.frames import ExecutionFrame
from exchange.domain.markets import Asset, MarketState
from exchange.domain.operations import DefineAsset, OperatorRole, SetMarketState, Transfer
from exchange.domain.stops import EngineStop, StopReason
from exchange.engine.port import RawEntry
from exchange.engine.reference import ControlFactory, ReferenceFactory, ReferenceShard
from exchange.execution.checkpoints import CheckpointStore
from exchange.execution.durability import durability_refusal
from exchange.execution.loop import EngineBusyError, LoopState
from exchange.execution.stops import LoopReason
from exchange.local.control_venue import ControlVenue
from exchange.local.venue import Venue
from exchange.wire.messages import decode
from tests.support.loops import running
from tests.support.markets import ALICE, BASE, BOB, BOOK, QUOTE, RICH, limit
from tests.support.servers import BusServer
from tests.support.shard_log import ShardLog


@pytest.fixture
def log(bus_server: BusServer) -> Iterator[ShardLog]:
    shard_log = ShardLog(bus_server.address)
    yield shard_log
    shard_log.close()


@pytest.fixture
def venue() -> Venue:
    """Who signs for the shard; its own engine is not used."""
    venue = Venue(ReferenceFactory())
    venue.now_us = time.time_ns() // 1000
    return venue


def open_market(log: ShardLog, venue: Venue) -> int:
    """Enter a market and money for Alice and Bob; return the last position."""
    from exchange.domain.operations import DefineMarket

    log.enter(operations=[venue.operation(OperatorRole.MARKET, DefineMarket(BOOK))], commands=0)
    transfers = (Transfer(account, asset, RICH) for account in (ALICE, BOB) for asset in (BASE, QUOTE))
    return log.enter(links=[venue.link(*transfers)], commands=0).n


def trade(log: ShardLog, venue: Venue, rounds: int) -> int:
    """Enter rounds of an order of Alice's that Bob's meets; return the last position."""
    n = 0
    for _ in range(rounds):
        log.enter(venue.batch(ALICE, limit(Side.BUY, 2, 100)))
        n = log.enter(venue.batch(BOB, limit(Side.SELL, 2, 100))).n
    return n


def executed_by_hand(log: ShardLog) -> tuple[list[bytes], ReferenceShard]:
    """Execute the log with an engine of the test's own; return the answers and the engine."""
    engine = ReferenceFactory().from_genesis(log.genesis)
    entries = log.bus.orders_range(log.tag, 1, 10**9)
    return engine.apply([RawEntry(entry.n, entry.t_us, entry.order_frame) for entry in entries]), engine


def committed(log: ShardLog) -> list[bytes]:
    """Return the answers in the log."""
    return [entry.frame for entry in log.bus.executions_range(log.tag, 1, 10**9)]


# --- running ----------------------------------------------------------------------------------------------------------


def test_the_loop_answers_every_entry_as_the_engine_does(
    log: ShardLog, venue: Venue, bus_server: BusServer, tmp_path: Path
) -> None:
    with running(log, bus_server.address, tmp_path) as running_loop:
        open_market(log, venue)
        last = trade(log, venue, 20)
        running_loop.wait_for(last)
        frames, engine = executed_by_hand(log)
        assert committed(log) == frames
        head = log.bus.head(log.tag)
        assert head is not None
        assert (head.executions_n, head.executions_hash) == (last, engine.chain_hash)
        assert head.executions_commands == head.orders_commands == 40
        assert head.executed_bytes == head.orders_bytes
        figures = running_loop.loop.figures
        assert (figures.entries, figures.commands, figures.position) == (last, 40, last)
        assert figures.events == sum(len(decode(ExecutionFrame, frame).events) for frame in frames)
        assert [frame for done in running_loop.progress for frame in done.frames] == frames
        with running_loop.loop.reading() as seen:
            assert seen.state_hash() == engine.state_hash()
        summary = running_loop.loop.summary()
        assert summary is not None
        assert (summary.n, summary.markets, summary.accounts, summary.open_orders) == (last, 1, 2, 0)
        stamps = [entry.stamp for entry in log.bus.executions_range(log.tag, 1, last)]
        assert all(stamp.epoch == running_loop.loop.epoch for stamp in stamps)
        assert all(0 < stamp.taken_us <= stamp.executed_us for stamp in stamps)
    assert running_loop.loop.state is LoopState.ENDED


def test_entries_that_wait_are_committed_in_groups(
    log: ShardLog, venue: Venue, bus_server: BusServer, tmp_path: Path
) -> None:
    open_market(log, venue)
    last = trade(log, venue, 50)
    with running(log, bus_server.address, tmp_path) as running_loop:
        running_loop.wait_for(last)
        assert running_loop.loop.figures.commits < last / 2
        assert committed(log) == executed_by_hand(log)[0]


def test_a_loop_waits_for_a_shard_that_is_made_and_approved_later(bus_server: BusServer, tmp_path: Path) -> None:
    with contextlib.closing(ShardLog(bus_server.address)) as log:
        bus_server.command("FLUSHALL")
        with running(log, bus_server.address, tmp_path) as running_loop:
            running_loop.wait(lambda: running_loop.loop.message.startswith("NOT_INITIALISED"))
            log.bus.initialise(log.tag, "local", 1, log.genesis_hash)
            running_loop.wait(lambda: running_loop.loop.message.startswith("NOT_APPROVED"))
            with pytest.raises(EngineBusyError), running_loop.loop.reading(0.1):
                pass
            log.bus.approve(log.tag, log.bus.server().run_id)
            running_loop.wait(lambda: running_loop.loop.state is LoopState.RUNNING)
            assert log.enter().n == 1
            running_loop.wait_for(1)


def test_readers_see_nothing_that_is_not_committed(
    log: ShardLog, venue: Venue, bus_server: BusServer, tmp_path: Path
) -> None:
    with running(log, bus_server.address, tmp_path) as running_loop:
        open_market(log, venue)
        seen: list[int] = []
        done = threading.Event()

        def look() -> None:
            with contextlib.closing(Bus.connect(bus_server.address)) as bus:
                while not done.is_set():
                    with running_loop.loop.reading() as engine:
                        position = engine.position
                        head = bus.head(log.tag)
                    assert head is not None
                    seen.append(head.executions_n - position)

        reader = threading.Thread(target=look)
        running_loop.wait_for(2)
        reader.start()
        last = trade(log, venue, 40)
        running_loop.wait_for(last)
        done.set()
        reader.join()
    assert seen
    assert set(seen) == {0}


def test_timers_and_long_work_go_on_without_orders(
    log: ShardLog, venue: Venue, bus_server: BusServer, tmp_path: Path
) -> None:
    with running(log, bus_server.address, tmp_path) as running_loop:
        n = open_market(log, venue)
        running_loop.wait_for(n)
        halt = SetMarketState(BOOK.market, MarketState.HALTED, log.bus.time_us() + 60_000)
        n = log.enter(operations=[venue.operation(OperatorRole.MARKET, halt)]).n
        running_loop.wait_for(n + 1)
        [clock] = log.bus.executions_range(log.tag, n + 1, n + 1)
        assert decode(ExecutionFrame, clock.frame).events == (MarketStateChanged(1, 2, MarketState.HALTED),)
        assert decode(ExecutionFrame, clock.frame).t_us >= halt.effective_us
        running_loop.wait(lambda: running_loop.loop.figures.clock_entries == 1)
    assert log.bus.orders_range(log.tag, 1, 100)[-1].key_name == "matcher"


def test_shard_0_runs_in_the_same_loop(bus_server: BusServer, tmp_path: Path) -> None:
    control = ControlVenue()
    with (
        contextlib.closing(ShardLog(bus_server.address, shard=0)) as log,
        running(log, bus_server.address, tmp_path, maker=ControlFactory()) as running_loop,
    ):
        n = log.enter(operations=[control.operation(OperatorRole.MARKET, DefineAsset(Asset(1, "BTC", 8)))]).n
        running_loop.wait_for(n)
        with running_loop.loop.reading() as engine:
            assert engine.state().assets == (Asset(1, "BTC", 8),)
        summary = running_loop.loop.summary()
        assert summary is not None
        assert (summary.n, summary.rules, summary.open_orders) == (1, 1, 0)


# --- restarting -------------------------------------------------------------------------------------------------------


def test_a_restart_executes_the_log_again_and_rewrites_nothing(
    log: ShardLog, venue: Venue, bus_server: BusServer, tmp_path: Path
) -> None:
    with running(log, bus_server.address, tmp_path) as first:
        open_market(log, venue)
        last = trade(log, venue, 10)
        first.wait_for(last)
    before = log.bus.executions_range(log.tag, 1, last)
    log.enter(venue.batch(ALICE, limit(Side.BUY, 2, 100)))
    with running(log, bus_server.address, tmp_path) as second:
        second.wait_for(last + 1)
        assert second.loop.figures.replayed_entries == last
        assert second.loop.epoch > first.loop.epoch
    assert log.bus.executions_range(log.tag, 1, last) == before
    assert committed(log) == executed_by_hand(log)[0]


def test_a_restart_goes_on_from_the_newest_checkpoint_of_a_trimmed_log(
    log: ShardLog, venue: Venue, bus_server: BusServer, tmp_path: Path
) -> None:
    store = CheckpointStore(tmp_path)
    with running(log, bus_server.address, tmp_path) as first:
        open_market(log, venue)
        at = trade(log, venue, 5)
        first.wait_for(at)
        with first.loop.reading() as engine:
            store.write(1, at, engine.checkpoint())
        last = trade(log, venue, 5)
        first.wait_for(last)
    frames, whole = executed_by_hand(log)
    [order], [answer] = log.bus.orders_range(log.tag, at, at), log.bus.executions_range(log.tag, at, at)
    log.bus.trim(log.tag, at, order.bytes_total, answer.stamp.bytes_total)
    with running(log, bus_server.address, tmp_path) as second:
        second.wait(lambda: second.loop.state is LoopState.RUNNING)
        assert second.loop.figures.replayed_entries == last - at
        with second.loop.reading() as engine:
            assert engine.state_hash() == whole.state_hash()
    with running(log, bus_server.address, tmp_path / "elsewhere") as third:
        assert third.wait_for_stop().reason is LoopReason.CHECKPOINT_MISSING
    assert committed(log) == frames[at:]


def test_a_checkpoint_ahead_of_the_log_proves_that_entries_are_lost(
    log: ShardLog, venue: Venue, bus_server: BusServer, tmp_path: Path
) -> None:
    open_market(log, venue)
    _, engine = executed_by_hand(log)
    CheckpointStore(tmp_path).write(1, engine.position, engine.checkpoint())
    with running(log, bus_server.address, tmp_path) as running_loop:
        stopped = running_loop.wait_for_stop()
    assert stopped.reason is LoopReason.LOG_LOST
    assert "entries 1 to 2 are lost" in stopped.detail


def test_a_checkpoint_of_another_log_is_found_out(
    log: ShardLog, venue: Venue, bus_server: BusServer, tmp_path: Path
) -> None:
    with running(log, bus_server.address, tmp_path) as running_loop:
        open_market(log, venue)
        running_loop.wait_for(2)
    other = Venue(ReferenceFactory())
    other.define_markets(BOOK)
    other.define_markets(BOOK)
    CheckpointStore(tmp_path).write(1, 2, other.engine.checkpoint())
    with running(log, bus_server.address, tmp_path) as again:
        assert again.wait_for_stop().reason is LoopReason.REPLAY_MISMATCH


def test_a_log_of_another_genesis_is_left_alone(bus_server: BusServer, log: ShardLog, tmp_path: Path) -> None:
    with contextlib.closing(ShardLog(bus_server.address, shard=2)) as other:
        other.tag = log.tag
        with running(other, bus_server.address, tmp_path) as running_loop:
            assert running_loop.wait_for_stop().reason is LoopReason.WRONG_SHARD
    head = log.bus.head(log.tag)
    assert head is not None
    assert head.epoch == 0


# --- two of them ------------------------------------------------------------------------------------------------------


def test_of_two_matchers_the_second_has_the_shard_and_the_first_ends(
    log: ShardLog, venue: Venue, bus_server: BusServer, tmp_path: Path
) -> None:
    with running(log, bus_server.address, tmp_path) as first:
        n = open_market(log, venue)
        first.wait_for(n)
        with running(log, bus_server.address, tmp_path) as second:
            second.wait(lambda: second.loop.state is LoopState.RUNNING)
            last = trade(log, venue, 5)
            second.wait_for(last)
            stopped = first.wait_for_stop()
    assert stopped.reason is LoopReason.FENCED
    assert "taken over" in stopped.detail
    assert committed(log) == executed_by_hand(log)[0]


def test_a_matcher_that_has_nothing_to_do_notices_that_it_was_replaced(
    log: ShardLog, bus_server: BusServer, tmp_path: Path
) -> None:
    with running(log, bus_server.address, tmp_path) as first:
        first.wait(lambda: first.loop.state is LoopState.RUNNING)
        log.bus.take_epoch(log.tag)
        assert first.wait_for_stop().reason is LoopReason.FENCED


# --- stopping rather than guessing ------------------------------------------------------------------------------------


def test_nothing_is_executed_from_an_entry_with_a_bad_seal_on(
    log: ShardLog, venue: Venue, bus_server: BusServer, tmp_path: Path
) -> None:
    n = open_market(log, venue)
    forged = log.sealed(venue.batch(ALICE, limit(Side.BUY, 2, 100)), key=BusKey("ingress-1", bytes(32)))
    log.bus.ingest(log.tag, forged)
    trade(log, venue, 1)
    with running(log, bus_server.address, tmp_path) as running_loop:
        stopped = running_loop.wait_for_stop()
    assert stopped.reason is LoopReason.BAD_MAC
    assert f"entry {n + 1} of shard 1" in stopped.detail
    assert len(committed(log)) == n
    head = log.bus.head(log.tag)
    assert head is not None
    assert head.stopped == str(stopped)
    [evidence] = (tmp_path / "evidence").iterdir()
    assert forged.order_frame.hex() in evidence.read_text()
    assert bytes(32).hex() not in evidence.read_text()


class _WrongEngine(ReferenceShard):
    """Answers entry 3 otherwise than it must."""

    def apply(self, entries: Sequence[RawEntry]) -> list[bytes]:
        frames = super().apply(entries)
        return [frame + b"\x3a\x00" if self.position == 3 else frame for frame in frames]


class _StoppingEngine(ReferenceShard):
    """Cannot answer entry 3."""

    def apply(self, entries: Sequence[RawEntry]) -> list[bytes]:
        if entries[0].n == 3:
            raise EngineStop(StopReason.LINK_CONFLICT, "the treasury signed two links of one number")
        return super().apply(entries)


class _Maker:
    name = "test"

    def __init__(self, kind: type[ReferenceShard]) -> None:
        self._kind = kind

    def from_genesis(self, genesis: bytes) -> ReferenceShard:
        return self._kind(ReferenceFactory().from_genesis(genesis).state())

    def from_checkpoint(self, checkpoint: bytes) -> ReferenceShard:
        return self._kind(ReferenceFactory().from_checkpoint(checkpoint).state())


def test_an_engine_that_answers_otherwise_than_the_log_never_gets_the_shard(
    log: ShardLog, venue: Venue, bus_server: BusServer, tmp_path: Path
) -> None:
    with running(log, bus_server.address, tmp_path) as good:
        open_market(log, venue)
        last = trade(log, venue, 3)
        good.wait_for(last)
        with running(log, bus_server.address, tmp_path, maker=_Maker(_WrongEngine)) as wrong:
            stopped = wrong.wait_for_stop()
        assert stopped.reason is LoopReason.REPLAY_MISMATCH
        [evidence] = (tmp_path / "evidence").iterdir()
        assert committed(log)[2].hex() in evidence.read_text()
        # The one that serves the shard was not disturbed.
        last = trade(log, venue, 1)
        good.wait_for(last)
        assert good.stopped is None


def test_an_entry_that_cannot_be_executed_stops_the_shard_and_says_why(
    log: ShardLog, venue: Venue, bus_server: BusServer, tmp_path: Path
) -> None:
    open_market(log, venue)
    trade(log, venue, 2)
    with running(log, bus_server.address, tmp_path, maker=_Maker(_StoppingEngine)) as running_loop:
        stopped = running_loop.wait_for_stop()
    assert stopped.reason is LoopReason.ENGINE
    assert "LINK_CONFLICT" in stopped.detail
    assert len(committed(log)) == 2
    head = log.bus.head(log.tag)
    assert head is not None
    assert "entry 3 of shard 1" in head.stopped


def test_a_shard_that_somebody_stopped_goes_on_when_it_is_resumed(
    log: ShardLog, venue: Venue, bus_server: BusServer, tmp_path: Path
) -> None:
    with running(log, bus_server.address, tmp_path) as running_loop:
        n = open_market(log, venue)
        running_loop.wait_for(n)
        log.bus.stop(log.tag, "LOST: a test says so")
        running_loop.wait(lambda: running_loop.loop.message == "STOPPED: LOST: a test says so")
        log.bus.approve(log.tag, log.bus.server().run_id, resume=True)
        last = trade(log, venue, 1)
        running_loop.wait_for(last)
        assert running_loop.loop.state is LoopState.RUNNING


# --- a bus that fails -------------------------------------------------------------------------------------------------


class _DeafBus(Bus):
    """Loses the answers to every third commit, after it was heard, and those to every fifth, before."""

    calls = 0

    def commit(
        self, tag: str, epoch: int, after_n: int, after_hash: bytes, frames: Sequence[CommitFrame], chain_hash: bytes
    ) -> None:
        self.calls += 1
        if self.calls % 5 == 0:
            raise BusUnavailable("a test lost the call")
        super().commit(tag, epoch, after_n, after_hash, frames, chain_hash)
        if self.calls % 3 == 0:
            raise BusUnavailable("a test lost the answer")


def test_commits_whose_answers_are_lost_are_done_once(
    log: ShardLog, venue: Venue, bus_server: BusServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.execution.loop.RETRY_S", 0.001)
    bus = _DeafBus.connect(bus_server.address)
    with running(log, bus_server.address, tmp_path, bus=bus) as running_loop:
        open_market(log, venue)
        for _ in range(15):
            running_loop.wait_for(trade(log, venue, 1))
        assert committed(log) == executed_by_hand(log)[0]
        assert running_loop.loop.figures.entries == len(committed(log))


def test_connections_that_break_lose_nothing(
    log: ShardLog, venue: Venue, bus_server: BusServer, tmp_path: Path
) -> None:
    with running(log, bus_server.address, tmp_path) as running_loop:
        open_market(log, venue)
        last = 0
        for _ in range(5):
            last = trade(log, venue, 2)
            # The test's own connection is the one that sends this, and all others are cut.
            bus_server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            with contextlib.suppress(BusUnavailable):
                log.bus.time_us()
        running_loop.wait_for(last)
        assert committed(log) == executed_by_hand(log)[0]


def test_a_server_that_was_killed_and_lost_nothing_is_served_on_when_approved(
    durable_bus_server: BusServer, venue: Venue, tmp_path: Path
) -> None:
    server = durable_bus_server
    with (
        contextlib.closing(ShardLog(server.address)) as log,
        running(log, server.address, tmp_path) as running_loop,
    ):
        open_market(log, venue)
        last = trade(log, venue, 5)
        running_loop.wait_for(last)
        epoch = running_loop.loop.epoch
        server.kill()
        running_loop.wait(lambda: running_loop.loop.state is LoopState.WAITING)
        server.start()
        running_loop.wait(lambda: running_loop.loop.message.startswith("NOT_APPROVED"))
        log.bus.approve(log.tag, log.bus.server().run_id)
        last = trade(log, venue, 2)
        running_loop.wait_for(last)
        assert running_loop.loop.epoch > epoch
        assert committed(log) == executed_by_hand(log)[0]


def test_answers_to_entries_that_the_server_lost_are_never_committed_to_others_in_their_place(
    venue: Venue, tmp_path: Path, durable_bus_server: BusServer
) -> None:
    """The matcher has executed entries 3 and 4; the server comes back with 2 entries, and gets other ones."""
    server = durable_bus_server
    with contextlib.closing(ShardLog(server.address)) as log:
        held, let_go = threading.Event(), threading.Event()

        class HeldBus(Bus):
            def commit(
                self,
                tag: str,
                epoch: int,
                after_n: int,
                after_hash: bytes,
                frames: Sequence[CommitFrame],
                chain_hash: bytes,
            ) -> None:
                if after_n >= 2 and not let_go.is_set():
                    held.set()
                    let_go.wait(20)
                    raise BusUnavailable("a test lost the call")
                super().commit(tag, epoch, after_n, after_hash, frames, chain_hash)

        bus = HeldBus.connect(server.address)
        with running(log, server.address, tmp_path, bus=bus) as running_loop:
            try:
                running_loop.wait_for(open_market(log, venue))
                # What a snapshot would have kept: everything before the next entry.
                fields = server.command("HGETALL", f"clob:{{{log.tag}}}:head")
                trade(log, venue, 1)
                assert held.wait(20)
                key = f"clob:{{{log.tag}}}"
                last_two = [entry.n for entry in log.bus.orders_range(log.tag, 3, 4)]
                assert last_two == [3, 4]
                kept = server.command("XRANGE", f"{key}:orders", "1-0", "2-0")
                assert isinstance(kept, list)
                server.command("DEL", f"{key}:orders")
                for name, words in kept:
                    server.command("XADD", f"{key}:orders", name, *words)
                assert isinstance(fields, list)
                server.command("HSET", f"{key}:head", *fields)
                server.kill()
                server.start()
                with contextlib.suppress(BusUnavailable):
                    log.bus.time_us()
                log.bus.approve(log.tag, log.bus.server().run_id)
                log.ingress, log.counter = bytes(range(16)), 0
                other = log.enter(venue.batch(ALICE, limit(Side.BUY, 4, 90)))
                assert other.n == 3
                let_go.set()
                running_loop.wait_for(3)
                assert committed(log) == executed_by_hand(log)[0]
            finally:
                let_go.set()


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint() -> bytes:
    venue = Venue(ReferenceFactory())
    venue.define_markets(BOOK)
    return venue.engine.checkpoint()


def test_the_newest_checkpoint_is_the_one_of_the_highest_position(tmp_path: Path, checkpoint: bytes) -> None:
    store = CheckpointStore(tmp_path / "made" / "later")
    assert store.newest(1) is None
    for n in (9, 10, 100):
        store.write(1, n, checkpoint)
    store.write(2, 5, checkpoint)
    assert store.positions(1) == [100, 10, 9]
    assert store.newest(1) == (100, checkpoint)
    assert store.newest(2) == (5, checkpoint)
    assert store.newest(3) is None


def test_damaged_checkpoints_are_named_and_passed_over(
    tmp_path: Path, checkpoint: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store = CheckpointStore(tmp_path)
    store.write(1, 1, checkpoint)
    middle = len(checkpoint) // 2
    damaged = [
        b"",
        checkpoint[:-1],
        checkpoint[:middle] + bytes([checkpoint[middle] ^ 1]) + checkpoint[middle + 1 :],
        b"\x08\x02" + checkpoint[2:],
    ]
    for n, data in enumerate(damaged, 2):
        store.write(1, n, data)
    with caplog.at_level(logging.WARNING):
        assert store.newest(1) == (1, checkpoint)
    assert [f"{n}.checkpoint" in record.getMessage() for n, record in zip((5, 4, 3, 2), caplog.records, strict=True)]


def test_unfinished_files_are_no_checkpoints_and_old_ones_are_pruned(tmp_path: Path, checkpoint: bytes) -> None:
    store = CheckpointStore(tmp_path)
    for n in range(1, 7):
        store.write(1, n, checkpoint)
    (tmp_path / "shard-1" / ".7.1.part").write_bytes(checkpoint)
    (tmp_path / "shard-1" / "notes.txt").write_text("not ours")
    store.prune(keep=2)
    assert store.positions(1) == [6, 5]
    assert (tmp_path / "shard-1" / "notes.txt").exists()


def test_a_checkpoint_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, checkpoint: bytes) -> None:
    (tmp_path / "shard-1").write_text("in the way")
    with pytest.raises(OSError, match="shard-1"):
        CheckpointStore(tmp_path).write(1, 1, checkpoint)


def test_a_server_must_be_set_to_what_answers_stand_for() -> None:
    info = ServerInfo("x", "7.0.15", "redis", 0, "noeviction", "no", "everysec")
    assert durability_refusal(info, "memory") is None
    assert "BUS_NOT_DURABLE" in str(durability_refusal(info, "fsync"))
    durable = info._replace(appendonly="yes", appendfsync="always")
    assert durability_refusal(durable, "fsync") is None
    assert "BUS_EVICTS" in str(durability_refusal(durable._replace(maxmemory_policy="allkeys-lru"), "fsync"))


def test_batches_in_one_entry_keep_their_own_results(
    log: ShardLog, venue: Venue, bus_server: BusServer, tmp_path: Path
) -> None:
    with running(log, bus_server.address, tmp_path) as running_loop:
        open_market(log, venue)
        orders: list[Any] = [venue.batch(ALICE, limit(Side.BUY, 2, 100)) for _ in range(64)]
        n = log.enter(*orders, commands=64).n
        running_loop.wait_for(n)
        events = decode(ExecutionFrame, committed(log)[-1]).events
        assert sum(isinstance(event, BatchResult) for event in events) == 64
