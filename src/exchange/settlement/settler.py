"""The settler: the one thread that settles every shard of the map, from the bus into archive, database and ledgers.

It works in rounds. A round reads what has been executed, re-executes and folds it shard by shard, appends it to the
archive, writes all of it in one transaction of the database, and then says so. A shard that does not fit is stopped
with its evidence, and the others go on. Between rounds the thread answers questions that need the state as settled,
writes checkpoints and trims the streams.
"""

import json
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from exchange.bus.client import Bus
from exchange.bus.errors import BusRefusal, BusUnavailable
from exchange.bus.keys import BusKey
from exchange.config.environment import Durability, Environment
from exchange.control.view import CONTROL_TAG, ControlView
from exchange.domain.units import CONTROL_SHARD
from exchange.engine.port import EngineFactory, LogEngine
from exchange.engine.reference import ControlFactory
from exchange.execution.checkpoints import CheckpointStore
from exchange.execution.loop import EngineMaker
from exchange.settlement.archive import Archive, Archived, ArchiveError, rows_of
from exchange.settlement.checkpointing import Checker, Checkpointing, CheckpointPolicy
from exchange.settlement.database import Database, LinkRow
from exchange.settlement.ledger import Ledger, LinkAnswer, SentLink
from exchange.settlement.ledgers import ledger_with
from exchange.settlement.namings import naming_with
from exchange.settlement.shard import (
    Mark,
    Prepared,
    SettlementStop,
    ShardSettlement,
    StopReason,
    check_samples,
    control_n_max,
    repeat,
    sent_links,
)
from exchange.settlement.signatures import KeyHistory, Sampler
from exchange.wire.errors import UnknownFormatError

_log = logging.getLogger(__name__)
T = TypeVar("T")

READ_FRAMES: Final = 64
MARKS_AT_START: Final = 16
"""Settled positions of a shard that are looked up at the start, to trim the streams by."""
ROUND_COMMANDS: Final = 2_048
"""Commands of a shard in a round, as far as one entry does not have more: a round stays a fraction of a second."""
REPLAY_FRAMES: Final = 64
BLOCK_MS: Final = 40
RETRY_S: Final = 0.2
LOOK_S: Final = 1.0
DROP_EVERY_S: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class SettlerSettings:
    """How the settler works.

    Attributes:
        verify_one_in: one batch in so many has its signature verified again; 0: none.
        interval_s: rounds that had work begin at least so far apart, so that transactions carry many frames; where more
            waits already they follow each other at once.
        tail_entries: entries behind the settled position that stay on the bus for readers,
        tail_bytes: as long as both streams have no more bytes in them.
        archive_retention_s: how long the archive of a trading shard keeps entries; 0: for ever.
        checkpoints: when checkpoints are written.
    """

    verify_one_in: int = 64
    interval_s: float = 0.01
    tail_entries: int = 1_024
    tail_bytes: int = 64 * 1024 * 1024
    archive_retention_s: int = 25 * 3_600
    checkpoints: CheckpointPolicy = field(default_factory=CheckpointPolicy)


class ShardProgress(NamedTuple):
    """How far a shard is settled; `stopped` says why it is not settled any further, empty: it is."""

    shard: int
    tag: str
    n: int
    t_us: int
    chain_hash: bytes
    audited_n: int
    checkpoint_n: int
    trimmed_n: int
    stopped: str


class Round(NamedTuple):
    """What a round has settled.

    Attributes:
        progress: of all shards, by number.
        sent: links that are on their way now, with the shard that sent them.
        answers: what shards say about links, with the position that they are settled to.
    """

    progress: dict[int, ShardProgress]
    sent: list[tuple[int, SentLink]]
    answers: list[tuple[int, int, list[LinkAnswer]]]


@dataclass(slots=True)
class _Shard:
    """What the settler knows of a shard. `settlement` is None until it has been opened, or when that failed."""

    number: int
    tag: str
    archive: Archive | None = None
    settlement: ShardSettlement | None = None
    checkpointing: Checkpointing | None = None
    waiting: deque[Archived] = field(default_factory=deque)
    marks: deque[Mark] = field(default_factory=deque)
    trimmed_n: int = 0
    may_drop: bool = True
    stopped: str = ""

    @property
    def runs(self) -> bool:
        """Whether it is settled."""
        return self.settlement is not None and not self.stopped


class Settler(threading.Thread):
    """The thread.

    Attributes:
        progress: how far every shard is, by number; replaced as a whole, so that other threads may read it.
        fatal: why the whole thread has ended; empty: it runs, or was told to end.
        opened: set when the shards that the map has at the start are open.
        rounds, transactions: so many there were.
    """

    def __init__(
        self,
        bus: Bus,
        environment: Environment,
        factory: EngineFactory,
        store: CheckpointStore,
        keys: Mapping[str, BusKey],
        database_path: Path,
        archive_folder: Path,
        settings: SettlerSettings,
        on_round: Callable[[Round], None] = lambda _: None,
    ) -> None:
        super().__init__(name="settler", daemon=True)
        self.progress: dict[int, ShardProgress] = {}
        self.fatal = ""
        self.opened = threading.Event()
        self.rounds = 0
        self.transactions = 0
        self.commands_by_shard: dict[int, int] = {}
        self._bus = bus
        self._environment = environment
        self._factory = factory
        self._store = store
        self._keys = keys
        self._database_path = database_path
        self._archive_folder = archive_folder
        self._settings = settings
        self._on_round = on_round
        self._is_durable = environment.durability is Durability.FSYNC
        self._naming = naming_with(factory.name)
        self._stopping = threading.Event()
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._shards: dict[int, _Shard] = {}
        self._sampler = Sampler(settings.verify_one_in)
        self._checker = Checker()
        self._read_was_full = False
        self._last_look_s = 0.0
        self._last_drop_s = 0.0

    # --- from other threads -----------------------------------------------------------------------------------------

    def call(self, question: Callable[[], T]) -> "Future[T]":
        """Return what a question gives that is asked between two rounds, in this thread."""
        answer: Future[T] = Future()
        if self.fatal or self._stopping.is_set():
            answer.set_exception(RuntimeError(self.fatal or "settlement is ending"))
        else:
            self._calls.put((question, answer))
        return answer

    def stop(self) -> None:
        """Settle what is executed, write checkpoints, and end."""
        self._stopping.set()

    def settlement(self, shard: int) -> ShardSettlement | None:
        """Return a shard as settled; other threads may read `facts`, and all of it in `call`."""
        known = self._shards.get(shard)
        return known.settlement if known else None

    def archive(self, shard: int) -> Archive | None:
        """Return the archive of a shard, for reading."""
        known = self._shards.get(shard)
        return known.archive if known else None

    def links(self) -> list[LinkRow]:
        """Return the links on their way, as the database has them. For `call`."""
        return self._database.links()

    def running(self) -> list[ShardSettlement]:
        """Return the shards that are settled, by number."""
        return [one.settlement for _, one in sorted(self._shards.items()) if one.settlement and not one.stopped]

    # --- the thread -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Open the database and all shards, then settle until told to stop."""
        try:
            self._database = Database(self._database_path, self._environment.name, is_durable=self._is_durable)
            try:
                self._open()
                self._settle_until_stopped()
                self._finish()
            finally:
                self._database.close()
        except BaseException as error:  # noqa: BLE001 - whatever ends the thread is told, and nothing goes on
            self.fatal = str(error) or type(error).__name__
            _log.critical("settlement has ended: %s", self.fatal, exc_info=error)
            self.progress = {
                number: one._replace(stopped=one.stopped or self.fatal) for number, one in self.progress.items()
            }
            self._tell([], [])
        finally:
            self.opened.set()
            self._refuse_calls()
            for one in self._shards.values():
                _close(one)
            self._checker.close()

    def _settle_until_stopped(self) -> None:
        while not self._stopping.is_set():
            began_s = time.monotonic()
            try:
                moved = self._round(BLOCK_MS)
                if began_s - self._last_look_s > LOOK_S:
                    self._last_look_s = began_s
                    self._look()
            except BusUnavailable as error:
                _log.warning("the bus does not answer, settlement waits: %s", error)
                self._stopping.wait(RETRY_S)
                continue
            self._answer_calls()
            if moved and not self._is_behind():
                left_s = began_s + self._settings.interval_s - time.monotonic()
                if left_s > 0:
                    self._stopping.wait(left_s)

    def _is_behind(self) -> bool:
        """Whether there is more to settle already: then it is not waited for."""
        return self._read_was_full or any(one.waiting for one in self._shards.values() if one.runs)

    def _finish(self) -> None:
        """Settle what is executed by now, then leave a checkpoint of every shard."""
        try:
            while self._round(None):
                self._answer_calls()
        except BusUnavailable as error:
            _log.warning("the bus does not answer any more, what it has is settled at the next start: %s", error)
        # All checks at once: each is a process of its own.
        for step in (_begin_last, _end_last):
            for one in self._shards.values():
                try:
                    step(one)
                except OSError as error:
                    _log.error("no checkpoint of shard %d at the end: %s", one.number, error)
        self._publish()
        self._tell([], [])

    # --- a round ----------------------------------------------------------------------------------------------------

    def _round(self, block_ms: int | None) -> bool:
        """Settle what there is, waiting so long for the first of it; return whether there was anything."""
        transactions_before = self.transactions
        self._read(block_ms)
        # Shard 0 first, for frames of the others are judged under its keys; and committed by itself, so that catching
        # up with it goes on from what is adopted.
        self._settle_control()
        # Nothing is asked of the bus between here and the commit: what was prepared when it does not answer would be
        # executed a second time.
        self._catch_up_control()
        done: list[tuple[_Shard, Prepared]] = []
        for number in sorted(self._shards):
            one = self._shards[number]
            prepared = self._prepare(one) if number != CONTROL_SHARD and one.waiting and one.runs else None
            if prepared is not None:
                done.append((one, prepared))
        if done:
            self._commit(done)
        return self.transactions > transactions_before

    def _settle_control(self) -> bool:
        """Settle what waits of shard 0, one part of it; return whether there was anything."""
        control = self._shards[CONTROL_SHARD]
        prepared = self._prepare(control) if control.waiting and control.runs else None
        if prepared is None:
            return False
        self._commit([(control, prepared)])
        return True

    def _catch_up_control(self) -> None:
        """Settle shard 0 up to the position that the next frames of others name, as far as shard 0 has it by now."""
        if not self._settings.verify_one_in:
            return
        next_parts = [
            _next_part(one.waiting)
            for one in self._shards.values()
            if one.number != CONTROL_SHARD and one.waiting and one.runs
        ]
        wanted_n = max(map(control_n_max, next_parts), default=0)
        while self._shards[CONTROL_SHARD].runs and self._history.view.position < wanted_n:
            self._read(None, only=CONTROL_SHARD)
            if not self._settle_control():
                return

    def _prepare(self, one: _Shard) -> Prepared | None:
        """Audit and archive the next entries of a shard; None: it has stopped."""
        assert one.settlement is not None
        assert one.archive is not None
        entries = _next_part(one.waiting)
        for _ in entries:
            one.waiting.popleft()
        by_n = {entry.orders.n: entry for entry in entries}
        try:
            prepared = one.settlement.prepare(entries)
            if prepared.samples:
                check_samples(
                    prepared,
                    one.number,
                    lambda sample: self._history.refusal(self._environment.name, sample),
                    by_n.__getitem__,
                )
            if one.number == CONTROL_SHARD:
                for entry in entries:
                    self._history.apply(entry.executions.frame)
            self._append(one, prepared)
        except SettlementStop as stop:
            self._stop_shard(one, stop)
            return None
        except ArchiveError as error:
            self._stop_shard(one, SettlementStop(StopReason.LOG_GAP, one.number, entries[0].orders.n, f"{error}"))
            return None
        except OSError as error:
            detail = (
                f"the archive in {one.archive.folder} cannot be written or read: {error}; make room on its disk or "
                "mend it, then start settlement again: it goes on from here"
            )
            self._stop_shard(one, SettlementStop(StopReason.ARCHIVE_WRITE, one.number, entries[0].orders.n, detail))
            return None
        return prepared

    def _append(self, one: _Shard, prepared: Prepared) -> None:
        """Append what the archive does not have; what it has from before a crash must be the same."""
        archive = one.archive
        assert archive is not None
        have_n = archive.last_n
        for entry in prepared.entries:
            if entry.orders.n > have_n or entry.orders.n < archive.first_n:
                break
            if archive.read(entry.orders.n) != entry:
                detail = "the archive has another entry there than the bus; keep both, and look which one was replaced"
                raise SettlementStop(StopReason.HISTORY_DIFFERS, one.number, entry.orders.n, detail)
        fresh = [entry for entry in prepared.entries if entry.orders.n > have_n]
        is_all = len(fresh) == len(prepared.entries)
        archive.append(fresh, prepared.names.rows if is_all else rows_of(fresh, self._naming))

    def _commit(self, done: list[tuple[_Shard, Prepared]]) -> None:
        """Write a round into the database, adopt it, and say so."""
        self._database.settle([(one.number, prepared.draft) for one, prepared in done])
        self.rounds += 1
        self.transactions += 1
        sent: list[tuple[int, SentLink]] = []
        answers: list[tuple[int, int, list[LinkAnswer]]] = []
        for one, prepared in done:
            settlement = one.settlement
            assert settlement is not None
            settlement.adopt(prepared)
            one.marks.append(settlement.mark)
            if one.checkpointing is not None:
                one.checkpointing.note(prepared)
            sent += [(one.number, link) for link in sent_links(prepared)]
            # Told even when there are none: what a frame had in it and does not show is to be sent again.
            answers.append((one.number, settlement.ledger.n, prepared.draft.answers))
            for answer in prepared.draft.answers:
                sender = self.settlement(answer.from_shard)
                if sender is not None and not answer.reason:
                    sender.ledger.forget_sent(one.number, answer.sequence)
            self.commands_by_shard[one.number] = settlement.settled_commands
        if done[0][0].number == CONTROL_SHARD:
            self._open_new_shards()
        self._publish()
        self._tell(sent, answers)

    # --- reading ----------------------------------------------------------------------------------------------------

    def _read(self, block_ms: int | None, only: int | None = None) -> None:
        """Fetch what has been executed into `waiting`, of the shards where nothing waits."""
        wanted: dict[str, _Shard] = {}
        for one in self._shards.values():
            if one.waiting:
                block_ms = None
            elif one.runs and only in (None, one.number):
                if self._read_archive(one):
                    block_ms = None
                else:
                    wanted[one.tag] = one
        if not wanted:
            if block_ms:
                self._stopping.wait(block_ms / 1000)
            return
        positions = {tag: one.settlement.ledger.n for tag, one in wanted.items() if one.settlement is not None}
        read = self._bus.read_executions(positions, READ_FRAMES, block_ms)
        if only is None:
            self._read_was_full = any(len(executions) == READ_FRAMES for executions in read.values())
        for tag, executions in read.items():
            one, wanted_n = wanted[tag], positions[tag] + 1
            first_n, last_n = executions[0].n, executions[-1].n
            if first_n != wanted_n:
                detail = (
                    f"the bus has it from {first_n} on and the archive does not have {wanted_n}; put the archive's "
                    "files back where --archive says"
                )
                self._stop_shard(one, SettlementStop(StopReason.LOG_GAP, one.number, wanted_n, detail))
                continue
            orders = {entry.n: entry for entry in self._bus.orders_range(tag, first_n, last_n)}
            for execution in executions:
                if execution.n not in orders:
                    detail = "the bus has its execution and not the entry itself; restore the bus from its files"
                    self._stop_shard(one, SettlementStop(StopReason.LOG_GAP, one.number, execution.n, detail))
                    break
                one.waiting.append(Archived(orders[execution.n], execution))

    def _read_archive(self, one: _Shard) -> bool:
        """Fetch what the database lacks and the archive has; return whether there was anything."""
        assert one.settlement is not None
        assert one.archive is not None
        n = one.settlement.ledger.n
        if not one.archive.first_n <= n + 1 <= one.archive.last_n:
            return False
        try:
            one.waiting.extend(one.archive.read_range(n + 1, n + READ_FRAMES))
        except ArchiveError as error:
            self._stop_shard(one, SettlementStop(StopReason.LOG_GAP, one.number, n + 1, str(error)))
        return bool(one.waiting)

    # --- opening ----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Open shard 0 and the shards of its map."""
        control = self._open_shard(CONTROL_SHARD, CONTROL_TAG)
        if control.settlement is None:
            raise SettlementStop(StopReason.HISTORY_DIFFERS, CONTROL_SHARD, 0, control.stopped)
        self._open_new_shards()
        self._check_receivers()
        self._publish()
        self._tell([], [])
        self.opened.set()

    def _open_new_shards(self) -> None:
        """Open the shards of the map that are not open."""
        for number, tag in sorted(self._history.view.shards.items()):
            if number not in self._shards:
                self._open_shard(number, tag)

    def _open_shard(self, number: int, tag: str) -> _Shard:
        one = self._shards[number] = _Shard(number, tag)
        try:
            while True:
                try:
                    self._bring_up(one)
                    return one
                except BusUnavailable as error:
                    _log.warning("the bus does not answer, shard %d is opened later: %s", number, error)
                    if self._stopping.wait(RETRY_S):
                        raise
                    if one.archive is not None:
                        one.archive.close()
        except SettlementStop as stop:
            self._stop_shard(one, stop)
        except (ArchiveError, ValueError) as error:
            self._stop_shard(one, SettlementStop(StopReason.HISTORY_DIFFERS, number, 0, str(error)))
        return one

    def _bring_up(self, one: _Shard) -> None:
        """Load the ledger from the database and an engine at the same position."""
        number = one.number
        genesis = self._environment.genesis(number)
        rows = self._database.rows(number)
        ledger = ledger_with(self._factory.name)(genesis, rows)
        one.archive = Archive(self._archive_folder, number, is_durable=self._is_durable, naming=self._naming)
        if one.archive.last_n >= one.archive.first_n and one.archive.last_n < ledger.n:
            self._fill_archive(one, ledger.n)
        engine, checkpoint_n = self._engine_at(one, ledger)
        settlement = ShardSettlement(one.tag, engine, ledger, self._keys, self._sampler, self._naming)
        one.settlement = settlement
        one.marks.extend(self._marks_on_bus(one.tag, checkpoint_n, ledger.n))
        if one.marks:
            settlement.mark = one.marks[-1]
        one.checkpointing = Checkpointing(
            self._store,
            self._factory.name,
            number,
            self._settings.checkpoints,
            checkpoint_n=checkpoint_n,
            settled_n=ledger.n,
            settled_bytes=_bytes_since(one.marks, checkpoint_n),
            scratch=self._database_path.parent,
            checker=self._checker,
        )
        _log.info("shard %d is settled to %d, its checkpoint is at %d", number, ledger.n, checkpoint_n)

    def _marks_on_bus(self, tag: str, checkpoint_n: int, settled_n: int) -> Iterator[Mark]:
        """Yield some settled positions that the bus has, the first, the last and the checkpoint's among them.

        Streams that are full are trimmed by them after a start, before anything new can come.
        """
        oldest = self._bus.executions_range(tag, 1, settled_n, 1) if settled_n else []
        if not oldest:
            return
        first_n = oldest[0].n
        step = max(1, (settled_n - first_n) // MARKS_AT_START)
        for n in sorted({*range(first_n, settled_n, step), settled_n, max(first_n, min(checkpoint_n, settled_n))}):
            for entry in self._bus.executions_range(tag, n, n):
                yield Mark(n, entry.stamp.orders_bytes_total, entry.stamp.bytes_total)

    def _engine_at(self, one: _Shard, ledger: Ledger) -> tuple[LogEngine, int]:
        """Return an engine at the ledger's position, and the position of the checkpoint that it came from."""
        number = one.number
        genesis = self._environment.genesis(number)
        engine: LogEngine | None = None
        checkpoint_n, data = 0, b""
        for n in self._store.positions(number):
            if n <= ledger.n:
                try:
                    data = (self._store.folder / f"shard-{number}" / f"{n}.checkpoint").read_bytes()
                    engine, checkpoint_n = self._load(number, data), n
                    break
                except (OSError, ValueError, UnknownFormatError) as error:
                    _log.warning("passing over checkpoint %d of shard %d: %s", n, number, error)
        if engine is None:
            engine = self._maker(number).from_genesis(genesis)
        if number == CONTROL_SHARD:
            view = ControlView.from_checkpoint(data) if checkpoint_n else ControlView.from_genesis(genesis)
            self._history = KeyHistory(view)
        for part in _parts(self._logged(one, engine.position + 1, ledger.n)):
            repeat(engine, part)
            if number == CONTROL_SHARD:
                for entry in part:
                    self._history.apply(entry.executions.frame)
        if engine.position != ledger.n:
            detail = (
                f"the database is at {ledger.n}, and neither bus nor archive has {engine.position + 1}; put the "
                "archive or the checkpoints back"
            )
            raise SettlementStop(StopReason.LOG_GAP, number, engine.position + 1, detail)
        if engine.chain_hash != ledger.chain_hash:
            detail = (
                f"the database has hash {ledger.chain_hash.hex()}, replaying gives {engine.chain_hash.hex()}: they are "
                "of two logs; give --database, --archive and --checkpoints of one environment"
            )
            raise SettlementStop(StopReason.HISTORY_DIFFERS, number, ledger.n, detail)
        return engine, checkpoint_n

    def _maker(self, number: int) -> EngineMaker[LogEngine]:
        return ControlFactory() if number == CONTROL_SHARD else self._factory

    def _load(self, number: int, checkpoint: bytes) -> LogEngine:
        engine = self._maker(number).from_checkpoint(checkpoint)
        if engine.shard != number:
            raise ValueError(f"CHECKPOINT_SHARD: it is of shard {engine.shard}")
        return engine

    def _logged(self, one: _Shard, first_n: int, last_n: int) -> Iterator[Archived]:
        """Yield entries of the log, from the archive where it has them, else from the bus; end where neither has."""
        n = first_n
        while n <= last_n:
            part: list[Archived] = []
            if one.archive is not None and one.archive.first_n <= n <= one.archive.last_n:
                part = list(one.archive.read_range(n, min(last_n, n + REPLAY_FRAMES - 1)))
            else:
                until = min(last_n, n + REPLAY_FRAMES - 1)
                executions = {entry.n: entry for entry in self._bus.executions_range(one.tag, n, until)}
                for orders in self._bus.orders_range(one.tag, n, until):
                    if orders.n == n + len(part) and orders.n in executions:
                        part.append(Archived(orders, executions[orders.n]))
            if not part:
                return
            yield from part
            n += len(part)

    def _fill_archive(self, one: _Shard, last_n: int) -> None:
        """Append what was settled and is not in the archive, which then was not written to the disk in time."""
        archive = one.archive
        assert archive is not None
        for entry in self._logged(one, archive.last_n + 1, last_n):
            archive.append([entry], rows_of([entry], self._naming))
        if archive.last_n < last_n:
            detail = (
                f"the archive ends at {archive.last_n}, the database is at {last_n}, and the bus does not have what is "
                "between; put the archive's files back, or move them away and do without them"
            )
            raise SettlementStop(StopReason.LOG_GAP, one.number, archive.last_n + 1, detail)

    def _check_receivers(self) -> None:
        """Stop shards that have links which their sender has never sent."""
        for receiver in self.running():
            for sender in self.running():
                received = receiver.ledger.last_link_from(sender.shard)
                sent = sender.ledger.last_link_to(receiver.shard)
                if received > sent:
                    detail = (
                        f"it has link {received} from shard {sender.shard}, which has sent {sent} as settled: the "
                        "database of one of them is an older copy; put the right one back"
                    )
                    stop = SettlementStop(StopReason.RECEIVER_AHEAD, receiver.shard, receiver.ledger.n, detail)
                    self._stop_shard(self._shards[receiver.shard], stop)

    # --- between rounds ---------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Write checkpoints that are due, trim, and drop what the archive need not keep."""
        now_s = time.monotonic()
        for one in self._shards.values():
            settlement, checkpointing = one.settlement, one.checkpointing
            if settlement is None or checkpointing is None:
                continue
            try:
                if one.runs:
                    checkpointing.step(settlement)
                self._trim(one, settlement, checkpointing)
            except OSError as error:
                _log.error("no checkpoint of shard %d: %s", one.number, error)
        if now_s - self._last_drop_s > DROP_EVERY_S:
            self._last_drop_s = now_s
            self._drop()
        self._publish()

    def _trim(self, one: _Shard, settlement: ShardSettlement, checkpointing: Checkpointing) -> None:
        """Trim both streams behind what is settled, in a checkpoint that was read back, and old enough for readers."""
        settled, settings = settlement.mark, self._settings

        def is_behind(mark: Mark) -> bool:
            # A tail of large entries alone could be all that ingest lets the streams have.
            return mark.n <= checkpointing.checkpoint_n and (
                settled.n - mark.n >= settings.tail_entries
                or settled.total_bytes - mark.total_bytes >= settings.tail_bytes
            )

        mark = None
        while one.marks and is_behind(one.marks[0]):
            mark = one.marks.popleft()
        if mark is None:
            return
        try:
            self._bus.trim(one.tag, *mark)
            one.trimmed_n = mark.n
        except BusRefusal as refusal:
            one.marks.appendleft(mark)
            _log.warning("shard %d is not trimmed to %d: %s", one.number, mark.n, refusal)
        except BusUnavailable:
            one.marks.appendleft(mark)
            raise

    def _drop(self) -> None:
        retention_s = self._settings.archive_retention_s
        if not retention_s:
            return
        before_us = time.time_ns() // 1_000 - retention_s * 1_000_000
        for one in self._shards.values():
            if one.number == CONTROL_SHARD or one.archive is None or one.checkpointing is None or not one.may_drop:
                continue
            try:
                one.archive.drop_before(before_us, one.checkpointing.checkpoint_n)
            except OSError as error:
                # The archive has let go of a segment whose file may still be there. Dropping the next one too would
                # leave a gap between files, which the next start refuses.
                one.may_drop = False
                _log.error(
                    "the archive of shard %d keeps what it has until the next start, a segment cannot be deleted: %s; "
                    "look at the permissions of %s and start settlement again",
                    one.number,
                    error,
                    one.archive.folder,
                )

    def _answer_calls(self) -> None:
        while True:
            try:
                question, answer = self._calls.get_nowait()
            except queue.Empty:
                return
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(question())
                except Exception as error:  # noqa: BLE001 - it is the asker's
                    answer.set_exception(error)

    def _refuse_calls(self) -> None:
        self._stopping.set()
        while True:
            try:
                _, answer = self._calls.get_nowait()
            except queue.Empty:
                return
            if answer.set_running_or_notify_cancel():
                answer.set_exception(RuntimeError(self.fatal or "settlement has ended"))

    # --- stopping and telling ---------------------------------------------------------------------------------------

    def _stop_shard(self, one: _Shard, stop: SettlementStop) -> None:
        """Settle a shard no further; keep what shows why."""
        try:
            one.stopped = f"{stop}; evidence is in {self._keep_evidence(stop)}"
        except OSError as error:
            one.stopped = f"{stop}; its evidence cannot be kept: {error}"
        one.waiting.clear()
        _log.critical("settlement of shard %d has stopped: %s", one.number, one.stopped)
        self._publish()
        self._tell([], [])

    def _keep_evidence(self, stop: SettlementStop) -> Path:
        folder = self._database_path.parent / "evidence" / f"shard-{stop.shard}-{stop.n}-{stop.reason.lower()}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in stop.evidence.items():
            (folder / name).write_bytes(data)
        found = {
            "reason": stop.reason,
            "shard": stop.shard,
            "n": stop.n,
            "detail": stop.detail,
            "found_us": time.time_ns() // 1000,
        }
        (folder / "stop.json").write_text(json.dumps(found, indent=2) + "\n")
        return folder

    def _publish(self) -> None:
        progress = {}
        for number, one in sorted(self._shards.items()):
            settlement = one.settlement
            n, t_us, chain_hash = 0, 0, self._environment.genesis_hash(number)
            if settlement is not None:
                n, t_us, chain_hash = settlement.ledger.n, settlement.ledger.t_us, settlement.ledger.chain_hash
            checkpoint_n = one.checkpointing.checkpoint_n if one.checkpointing else 0
            progress[number] = ShardProgress(
                number, one.tag, n, t_us, chain_hash, n, checkpoint_n, one.trimmed_n, one.stopped
            )
        self.progress = progress

    def _tell(self, sent: list[tuple[int, SentLink]], answers: list[tuple[int, int, list[LinkAnswer]]]) -> None:
        self._on_round(Round(self.progress, sent, answers))


def _close(one: _Shard) -> None:
    try:
        if one.archive is not None:
            one.archive.close()
    except OSError as error:
        _log.error("the archive of shard %d is not closed well, its torn end is cut off: %s", one.number, error)
    if one.checkpointing is not None:
        one.checkpointing.close()


def _begin_last(one: _Shard) -> None:
    if one.runs and one.checkpointing is not None and one.settlement is not None:
        one.checkpointing.begin_last(one.settlement)


def _end_last(one: _Shard) -> None:
    if one.checkpointing is not None:
        one.checkpointing.end_last()


def _next_part(waiting: "deque[Archived]") -> list[Archived]:
    """Return what a round takes, and leave it there: one entry, and more up to about ROUND_COMMANDS commands."""
    until = waiting[0].orders.commands_total + ROUND_COMMANDS
    return list(takewhile(lambda entry: entry.orders.commands_total <= until, waiting))


def _bytes_since(marks: Sequence[Mark], n: int) -> int:
    """Return the bytes of both streams from a position, or from the first mark behind it, to the last mark."""
    since = [mark.total_bytes for mark in marks if mark.n >= n]
    return since[-1] - since[0] if since else 0


def _parts(entries: Iterable[Archived]) -> Iterator[list[Archived]]:
    part: list[Archived] = []
    for entry in entries:
        part.append(entry)
        if len(part) == REPLAY_FRAMES:
            yield part
            part = []
    if part:
        yield part
