"""The loop of a shard: reads entries, checks their seals, has the engine execute them, and commits the answers.

The engine belongs to the thread that calls `run`. Others look at it under `reading`, which waits for the commit that is
under way: they see nothing that is not in the log as durably as the environment promises. Nothing is ever rewritten: on
a restart the log is executed again from a checkpoint, and compared.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from exchange.bus.client import Bus
from exchange.bus.entries import (
    CommitFrame,
    ExecutionsEntry,
    Head,
    OrdersEntry,
    ServerInfo,
    Stamp,
    execution_bytes,
)
from exchange.bus.errors import UNDECIDED, BusReason, BusRefusal, BusUnavailable
from exchange.bus.keys import BusKey, BusKeys, SealedFrame, check_mac, frame_origin, seal
from exchange.domain.frames import FORMAT, OrderFrame
from exchange.domain.limits import INGRESS_BYTES
from exchange.domain.state import Genesis
from exchange.domain.stops import EngineStop
from exchange.engine.port import LogEngine, RawEntry, Summary
from exchange.execution.checkpoints import CheckpointStore
from exchange.execution.stops import LoopReason, LoopStop, keep_evidence
from exchange.wire.hashing import genesis_hash
from exchange.wire.messages import decode, encode

_log = logging.getLogger(__name__)

E = TypeVar("E", bound=LogEngine)
E_co = TypeVar("E_co", bound=LogEngine, covariant=True)

READ_ENTRIES_MAX: Final = 256
READ_BYTES: Final = 4 * 1024 * 1024
"""About how many bytes a read brings: the number of entries it asks for follows their size."""
SLICE_US: Final = 5_000
"""How long entries are executed before what is done is committed: what the first of them waits for the last."""
SLICE_BYTES: Final = 8 * 1024 * 1024
"""How many bytes of answers are gathered before they are committed; a single one may be larger."""
IDLE_MS: Final = 200
"""Longest wait for an entry: how late the loop notices that it is to stop."""
CLOCK_US: Final = 10_000
"""Least time between two clock entries of this loop."""
RETRY_S: Final = 0.1
STOPPING_S: Final = 5.0
"""How long a commit is tried again after the loop was told to stop. The log has the entries; nothing is lost."""


LOOK_S: Final = 1.0
"""How often an idle loop looks whether it still has the shard."""
_PASSING: Final = frozenset(
    {BusReason.NOT_INITIALISED, BusReason.NOT_APPROVED, BusReason.STOPPED, BusReason.OUT_OF_MEMORY}
)
"""Refusals that end by themselves, or when somebody has mended what they say."""


class EngineMaker(Protocol[E_co]):
    """How an engine comes into being (`engine.port.EngineFactory`, and `ControlFactory` of shard 0)."""

    @property
    def name(self) -> str:
        """Name of the engine, such as "reference"."""

    def from_genesis(self, genesis: bytes) -> E_co:
        """Return a shard before its first entry."""

    def from_checkpoint(self, checkpoint: bytes) -> E_co:
        """Return a shard in the state of a checkpoint."""


class LoopState(StrEnum):
    """What the loop is doing."""

    WAITING = "WAITING"
    """It can do nothing until something else has happened; `message` says what."""
    RESTORING = "RESTORING"
    """It loads a checkpoint and executes the log behind it again."""
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    """It stopped rather than guess; `message` says why."""
    ENDED = "ENDED"
    """It was told to stop."""


class Committed(NamedTuple):
    """What a commit brought.

    Attributes:
        entries: the orders entries that were executed.
        frames: their answers, in the same order.
        chain_hash: after the last of them.
    """

    entries: Sequence[OrdersEntry]
    frames: Sequence[bytes]
    chain_hash: bytes


@dataclass(slots=True)
class LoopFigures:
    """What the loop has done since it was made; only ever larger, but for `position` and `orders_n`.

    Attributes:
        entries, commands, events: executed and committed.
        clock_entries: that this loop has ingested.
        commits: how often.
        apply_s, commit_s: seconds spent executing, and waiting for commits.
        replayed_entries: executed again when restoring.
        position: last entry whose answer is committed.
        orders_n: last entry of orders that was read.
    """

    entries: int = 0
    commands: int = 0
    events: int = 0
    clock_entries: int = 0
    commits: int = 0
    apply_s: float = 0.0
    commit_s: float = 0.0
    replayed_entries: int = 0
    position: int = 0
    orders_n: int = 0


class _AheadError(Exception):
    """The engine may be ahead of the log, or beside it: let go of it and execute the log again."""


class _TrimmedError(Exception):
    """What was to be read has been trimmed meanwhile: a newer checkpoint has it."""


class EngineBusyError(Exception):
    """The engine cannot be looked at now: a commit waits for the bus."""


class ShardLoop(Generic[E]):
    """The one writer of a shard's executions.

    Attributes:
        shard, tag, environment: whose log it is.
        engine_name: name of the engine.
        figures: what it has done.
        state, message: what it is doing, for people.
        epoch: its fencing token; 0: none yet.
        stop_reason: why it stopped; None: it did not.
    """

    def __init__(
        self,
        bus: Bus,
        tag: str,
        genesis: bytes,
        maker: EngineMaker[E],
        store: CheckpointStore,
        keys: BusKeys,
        own_key: BusKey,
        *,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        on_progress: Callable[[Committed], None] | None = None,
        on_state: Callable[[LoopState, str], None] | None = None,
        check_server: Callable[[ServerInfo], str | None] = lambda _: None,
        evidence: Path | None = None,
    ) -> None:
        """Make a loop that has not done anything yet.

        Args:
            bus: client of the loop's own.
            tag: of the shard's keys on the bus.
            genesis: encoded Genesis of the shard; must be the one that its head was made with.
            maker: makes the engine.
            store: has the checkpoints that settlement writes.
            keys: bus keys of which one must have sealed every entry.
            own_key: seals the clock entries of this loop.
            now_us: wall clock, in microseconds since 1970-01-01 UTC.
            on_progress: called in the loop's thread after every commit; must return soon and not raise.
            on_state: called in the loop's thread when state or message change.
            check_server: says why a server must not be written to, such as `durability_refusal`; None: it may.
            evidence: folder for what a stop leaves behind; None: `evidence` among the checkpoints.
        """
        parsed = decode(Genesis, genesis)
        self.shard = parsed.shard
        self.environment = parsed.environment
        self.tag = tag
        self.engine_name = maker.name
        self.figures = LoopFigures()
        self.state = LoopState.WAITING
        self.message = "not started"
        self.epoch = 0
        self.stop_reason: LoopReason | None = None
        self._bus = bus
        self._genesis = genesis
        self._genesis_hash = genesis_hash(parsed.environment, parsed.shard, genesis)
        self._maker = maker
        self._store = store
        self._keys = keys
        self._now_us = now_us
        self._on_progress = on_progress
        self._on_state = on_state
        self._check_server = check_server
        self._evidence = evidence or store.folder / "evidence"
        self._engine: E | None = None
        self._lock = threading.Lock()
        self._summary: Summary | None = None
        self._run_id = ""
        self._bytes_total = 0
        self._commands_total = 0
        self._committed = (0, 0, self._genesis_hash)
        self._read_count = 16
        self._clock = _Clock(own_key, self.shard)
        self._stop = threading.Event()
        self._look_s = 0.0

    # --- for others -------------------------------------------------------------------------------------------------

    @contextmanager
    def reading(self, wait_s: float = 2.0) -> Iterator[E]:
        """Give the engine to look at, between two commits; for a moment, for the shard stands still meanwhile.

        Raises:
            EngineBusyError: there is no engine yet or any more, or a commit waits for the bus longer than `wait_s`.
        """
        if not self._lock.acquire(timeout=wait_s):
            raise EngineBusyError(f"SHARD_BUSY: shard {self.shard} waits for the bus: {self.message or self.state}")
        try:
            if self._engine is None or self.state is LoopState.STOPPED:
                raise EngineBusyError(f"SHARD_BUSY: shard {self.shard} is {self.state}: {self.message}")
            yield self._engine
        finally:
            self._lock.release()

    @property
    def committed(self) -> tuple[int, int, bytes]:
        """Position, time in microseconds and chain hash of the last commit; all of them at once."""
        return self._committed

    def summary(self, wait_s: float = 0.5) -> Summary | None:
        """Return how the shard is doing; the last that is known where the engine cannot be looked at; None: nothing."""
        try:
            with self.reading(wait_s) as engine:
                self._summary = engine.summary()
        except EngineBusyError:
            pass
        return self._summary

    # --- restoring --------------------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Load the newest checkpoint, execute the log behind it again, compare, and take the shard over.

        Raises:
            BusRefusal: NOT_INITIALISED, NOT_APPROVED or STOPPED: not yet; ask again.
            BusUnavailable: the bus does not answer; ask again.
            LoopStop: this log cannot be executed here.
        """
        head = self._head()
        if refusal := self._check_server(self._bus.server()):
            raise LoopStop(LoopReason.BUS, refusal)
        self._set(LoopState.RESTORING, "loading a checkpoint")
        for _ in range(3):
            engine = self._load(head)
            try:
                self._replay(engine, head.executions_n)
                # Only now: a process that cannot execute the log must not take it from one that can.
                self.epoch = self._bus.take_epoch(self.tag)
                head = self._head()
                self._replay(engine, head.executions_n)
                break
            except _TrimmedError:
                head = self._head()
        else:
            raise LoopStop(
                LoopReason.CHECKPOINT_MISSING,
                f"shard {self.shard} is trimmed up to {head.trimmed_n} faster than checkpoints appear in "
                f"{self._store.folder}; give --checkpoints the folder that settlement-plane writes to",
            )
        if engine.chain_hash != head.executions_hash:
            raise LoopStop(
                LoopReason.REPLAY_MISMATCH,
                f"after entry {engine.position} shard {self.shard} has chain hash {engine.chain_hash.hex()} here and "
                f"{head.executions_hash.hex()} on the bus; the checkpoint is of another log",
            )
        self._run_id = head.run_id
        self._bytes_total = head.executions_bytes
        self._commands_total = head.executions_commands
        self.figures.position = engine.position
        self.figures.orders_n = head.orders_n
        with self._lock:
            self._engine = engine
            self._summary = engine.summary()
        self._committed = (engine.position, self._summary.t_us, engine.chain_hash)
        self._set(LoopState.RUNNING, "")
        _log.info("shard %d restored to %d, epoch %d", self.shard, engine.position, self.epoch)

    def _head(self) -> Head:
        """Return the head of a shard that may be written to."""
        head = self._bus.head(self.tag)
        if head is None:
            raise BusRefusal(
                BusReason.NOT_INITIALISED, f"shard {self.shard} is not on the bus yet; settlement-plane makes it"
            )
        if (head.environment, head.shard, head.genesis_hash) != (self.environment, self.shard, self._genesis_hash):
            raise LoopStop(
                LoopReason.WRONG_SHARD,
                f"tag {self.tag} on the bus is shard {head.shard} of environment {head.environment} with genesis "
                f"{head.genesis_hash.hex()}, here it is shard {self.shard} of {self.environment} with "
                f"{self._genesis_hash.hex()}; give all processes one --environment-file",
            )
        if not head.is_approved:
            raise BusRefusal(
                BusReason.NOT_APPROVED,
                f"the bus is server process {head.run_id_now}, approved is {head.run_id or 'none'}; settlement-plane "
                "approves it when nothing is missing",
            )
        if head.stopped:
            raise BusRefusal(BusReason.STOPPED, head.stopped)
        return head

    def _load(self, head: Head) -> E:
        newest = self._store.newest(self.shard)
        if newest is None:
            if head.trimmed_n:
                raise LoopStop(
                    LoopReason.CHECKPOINT_MISSING,
                    f"shard {self.shard} is trimmed up to {head.trimmed_n} and {self._store.folder} has no intact "
                    "checkpoint of it; give --checkpoints the folder that settlement-plane writes to",
                )
            return self._maker.from_genesis(self._genesis)
        n, data = newest
        if n > head.executions_n:
            raise LoopStop(
                LoopReason.LOG_LOST,
                f"shard {self.shard} was executed up to {n}, of which there is a checkpoint, and the bus has "
                f"executions up to {head.executions_n}: entries {head.executions_n + 1} to {n} are lost; restore the "
                "bus from its files",
            )
        if n < head.trimmed_n:
            raise LoopStop(
                LoopReason.CHECKPOINT_MISSING,
                f"shard {self.shard} is trimmed up to {head.trimmed_n} and the newest intact checkpoint in "
                f"{self._store.folder} is at {n}; give --checkpoints the folder that settlement-plane writes to",
            )
        try:
            engine = self._maker.from_checkpoint(data)
        except (ValueError, EngineStop) as error:
            raise LoopStop(LoopReason.CHECKPOINT, f"checkpoint {n} of shard {self.shard}: {error}") from error
        if (engine.shard, engine.position) != (self.shard, n):
            raise LoopStop(
                LoopReason.CHECKPOINT,
                f"checkpoint {n} of shard {self.shard} is of shard {engine.shard} at {engine.position}; move it away",
            )
        return engine

    def _replay(self, engine: E, last_n: int) -> None:
        """Execute entries again up to last_n and compare with the answers that are there."""
        while engine.position < last_n:
            if self._stop.is_set():
                raise _AheadError
            first = engine.position + 1
            orders = self._bus.orders_range(self.tag, first, last_n, self._read_count)
            executions = self._bus.executions_range(self.tag, first, last_n, len(orders) or 1)
            if not orders or orders[0].n != first or not executions or executions[0].n != first:
                head = self._head()
                if head.trimmed_n >= first:
                    raise _TrimmedError
                raise LoopStop(
                    LoopReason.GAP, f"entry {first} of shard {self.shard} is not on the bus, which is said to have it"
                )
            self._follow_size(orders)
            for entry, answer in zip(orders, executions, strict=False):
                self._replay_one(engine, entry, answer)

    def _replay_one(self, engine: E, entry: OrdersEntry, answer: ExecutionsEntry) -> None:
        if entry.n != answer.n or entry.n != engine.position + 1:
            raise LoopStop(
                LoopReason.GAP,
                f"after entry {engine.position} of shard {self.shard} come order entry {entry.n} and answer {answer.n}",
            )
        self._check_seal(entry)
        frame = self._apply(engine, entry)
        self.figures.replayed_entries += 1
        if frame != answer.frame:
            path = keep_evidence(
                self._evidence,
                self.shard,
                entry.n,
                LoopReason.REPLAY_MISMATCH,
                t_us=entry.t_us,
                order_frame=entry.order_frame,
                in_the_log=answer.frame,
                here=frame,
            )
            raise LoopStop(
                LoopReason.REPLAY_MISMATCH,
                f"entry {entry.n} of shard {self.shard} is answered otherwise here than in the log (epoch "
                f"{answer.stamp.epoch}); both are in {path}; run the program that wrote the log, and report it",
            )

    # --- running ----------------------------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Execute and commit until told to stop; restore first, and again when the bus came back as another process.

        Waits, as long as it takes, for a bus that does not answer, is not approved, or is stopped.

        Raises:
            LoopStop: it cannot go on; `state`, `message` and `stop_reason` say so too.
        """
        self._stop = stop
        message = "INTERNAL: a mistake of ours; the log of this process has the trace"
        try:
            while not stop.is_set():
                try:
                    if self._engine is None:
                        self.restore()
                    self._serve()
                except _AheadError:
                    self._forget()
                except BusRefusal as refusal:
                    self._wait_for(refusal)
                except BusUnavailable as error:
                    self._wait(str(error))
            message = ""
        except LoopStop as stopped:
            self.stop_reason = stopped.reason
            message = str(stopped)
            raise
        finally:
            if message:
                _log.error("shard %d stops at %d: %s", self.shard, self.figures.position, message)
            self._set(LoopState.STOPPED if message else LoopState.ENDED, message)

    def _serve(self) -> None:
        assert self._engine is not None
        while not self._stop.is_set():
            read = self._bus.read_orders({self.tag: self._engine.position}, self._read_count, self._block_ms())
            if entries := read.get(self.tag):
                self._set(LoopState.RUNNING, "")
                self._follow_size(entries)
                self.figures.orders_n = max(self.figures.orders_n, entries[-1].n)
                self._take(entries)
            else:
                self._look_around()
            self._tick()

    def _look_around(self) -> None:
        """Find out, while nothing comes, what a commit would be told."""
        if time.monotonic() < self._look_s:
            return
        self._look_s = time.monotonic() + LOOK_S
        head = self._head()
        self._set(LoopState.RUNNING, "")
        if head.run_id != self._run_id:
            raise _AheadError
        if head.epoch != self.epoch:
            raise self._fenced(f"the shard is served under epoch {head.epoch}: another matcher has taken over")

    def _take(self, entries: Sequence[OrdersEntry]) -> None:
        """Execute entries and commit the answers, slice by slice; stop before the first that cannot be executed."""
        assert self._engine is not None
        at = 0
        while at < len(entries):
            with self._lock:
                done, failed = self._take_slice(self._engine, entries[at:])
            if done.entries:
                at += len(done.entries)
                if self._on_progress is not None:
                    self._on_progress(done)
            if failed is not None:
                self._give_up(failed)

    def _take_slice(self, engine: E, entries: Sequence[OrdersEntry]) -> tuple[Committed, LoopStop | None]:
        after_n, after_hash, events = engine.position, engine.chain_hash, engine.events_written
        commits: list[CommitFrame] = []
        failed: LoopStop | None = None
        size, chain_hash = 0, after_hash
        began_s = time.perf_counter()
        for entry in entries:
            try:
                if entry.n != after_n + len(commits) + 1:
                    raise self._gap(after_n + len(commits) + 1, entry.n)
                ingress = self._check_seal(entry)
                taken_us = self._now_us()
                frame = self._apply(engine, entry)
            except LoopStop as stopped:
                failed = stopped
                break
            size += execution_bytes(frame)
            stamp = Stamp(
                epoch=self.epoch,
                taken_us=taken_us,
                executed_us=self._now_us(),
                commands_total=entry.commands_total,
                bytes_total=self._bytes_total + size,
                orders_bytes_total=entry.bytes_total,
            )
            commits.append(CommitFrame(frame, stamp, ingress))
            chain_hash = engine.chain_hash
            if size >= SLICE_BYTES or time.perf_counter() - began_s >= SLICE_US / 1e6:
                break
        taken = entries[: len(commits)]
        if commits:
            applied_s = time.perf_counter()
            self._commit(after_n, after_hash, commits, chain_hash)
            self._bytes_total += size
            self._committed = (engine.position, taken[-1].t_us, chain_hash)
            self._count(taken, engine.events_written - events, applied_s - began_s, time.perf_counter() - applied_s)
        return Committed(taken, [commit.frame for commit in commits], chain_hash), failed

    def _commit(self, after_n: int, after_hash: bytes, frames: Sequence[CommitFrame], chain_hash: bytes) -> None:
        """Commit, however often it takes: the script knows whether it was heard before."""
        give_up_s: float | None = None
        while True:
            try:
                self._bus.commit(self.tag, self.epoch, after_n, after_hash, frames, chain_hash)
                return
            except BusUnavailable as error:
                self._set(LoopState.WAITING, str(error))
            except BusRefusal as refusal:
                self._check_refused_commit(refusal)
            if self._stop.is_set():
                give_up_s = give_up_s or time.monotonic() + STOPPING_S
                if time.monotonic() >= give_up_s:
                    raise _AheadError
                time.sleep(RETRY_S)
            else:
                self._stop.wait(RETRY_S)

    def _check_refused_commit(self, refusal: BusRefusal) -> None:
        """Return where the commit may be tried again."""
        if refusal.reason is BusReason.STOPPED:
            self._set(LoopState.WAITING, str(refusal))
            return
        if refusal.reason in (BusReason.NOT_APPROVED, BusReason.NOT_INITIALISED):
            raise _AheadError
        if refusal.reason in (BusReason.FENCED, BusReason.POSITION):
            # Approving another server process fences every matcher: what it executed may not be in this log.
            try:
                head = self._bus.head(self.tag)
            except BusUnavailable:
                return
            if head is None or head.run_id != self._run_id:
                raise _AheadError
            if refusal.reason is BusReason.FENCED:
                raise self._fenced(refusal.detail)
            raise LoopStop(LoopReason.POSITION, f"shard {self.shard}: {refusal.detail}; restart this process")
        raise LoopStop(LoopReason.BUS, f"shard {self.shard}: {refusal}")

    def _fenced(self, detail: str) -> LoopStop:
        return LoopStop(
            LoopReason.FENCED,
            f"shard {self.shard}, epoch {self.epoch} here: {detail}; this process ends, and nothing is lost",
        )

    def _gap(self, expected_n: int, found_n: int) -> LoopStop:
        """Return the stop for a missing entry, unless it is missing because the server is another one."""
        head = self._bus.head(self.tag)
        if head is None or head.run_id_now != self._run_id:
            raise _AheadError
        return LoopStop(
            LoopReason.GAP, f"shard {self.shard} has entry {found_n} where entry {expected_n} should follow"
        )

    def _check_seal(self, entry: OrdersEntry) -> bytes:
        """Return the ingress that sealed an entry."""
        try:
            origin = frame_origin(entry.order_frame)
            is_sealed = check_mac(self._keys, self.shard, origin.ingress, origin.counter, entry)
        except ValueError:
            origin, is_sealed = None, False
        if origin is None or not is_sealed:
            path = keep_evidence(
                self._evidence,
                self.shard,
                entry.n,
                LoopReason.BAD_MAC,
                t_us=entry.t_us,
                key_name=entry.key_name,
                mac=entry.mac,
                order_frame=entry.order_frame,
            )
            raise LoopStop(
                LoopReason.BAD_MAC,
                f"entry {entry.n} of shard {self.shard} was not sealed with a bus key that is known here: it names key "
                f"{entry.key_name!r}, known are {', '.join(sorted(self._keys))}; the entry is in {path}; give all "
                "processes the same keys if one is missing, else somebody writes to the bus who must not",
            )
        return origin.ingress

    def _apply(self, engine: E, entry: OrdersEntry) -> bytes:
        try:
            return engine.apply([RawEntry(entry.n, entry.t_us, entry.order_frame)])[0]
        except Exception as error:
            path = keep_evidence(
                self._evidence,
                self.shard,
                entry.n,
                LoopReason.ENGINE,
                t_us=entry.t_us,
                order_frame=entry.order_frame,
                error=f"{type(error).__name__}: {error}",
            )
            raise LoopStop(
                LoopReason.ENGINE,
                f"entry {entry.n} of shard {self.shard} cannot be executed: {error}; the entry is in {path}; report it",
            ) from error

    def _give_up(self, stopped: LoopStop) -> None:
        """Stop; and stop the writers too where every other process would have to stop at the same entry."""
        if stopped.reason in (LoopReason.BAD_MAC, LoopReason.ENGINE, LoopReason.GAP):
            try:
                self._bus.stop(self.tag, str(stopped))
            except (BusRefusal, BusUnavailable) as error:
                _log.warning("the writers of shard %d could not be stopped: %s", self.shard, error)
        raise stopped

    # --- clock entries ----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Ingest a clock entry if something is due."""
        assert self._engine is not None
        now_us = self._now_us()
        if now_us < self._clock.next_us or not self._engine.has_due_work(now_us):
            return
        self._clock.next_us = now_us + CLOCK_US
        # By the clock of the bus, which stamps the entry: by ours it could be due and by the stamp not.
        bus_us = self._bus.time_us()
        if not self._engine.has_due_work(bus_us):
            return
        try:
            self._bus.ingest(self.tag, self._clock.frame(bus_us))
        except BusRefusal as refusal:
            self._clock.refused(refusal.reason)
            if refusal.reason in (BusReason.NOT_APPROVED, BusReason.NOT_INITIALISED, BusReason.STOPPED):
                return  # the next commit, or the next read, finds out
            _log.warning("a clock entry of shard %d was refused: %s", self.shard, refusal)
            return
        self._clock.done()
        self.figures.clock_entries += 1

    def _block_ms(self) -> int:
        assert self._engine is not None
        due_us = self._engine.next_due_us()
        if due_us is None:
            return IDLE_MS
        wait_us = max(due_us, self._clock.next_us) - self._now_us()
        return max(1, min(IDLE_MS, wait_us // 1000 + 1))

    # --- small things -----------------------------------------------------------------------------------------------

    def _count(self, taken: Sequence[OrdersEntry], events: int, apply_s: float, commit_s: float) -> None:
        figures = self.figures
        figures.commands += taken[-1].commands_total - self._commands_total
        self._commands_total = taken[-1].commands_total
        figures.entries += len(taken)
        figures.events += events
        figures.apply_s += apply_s
        figures.commit_s += commit_s
        figures.commits += 1
        figures.position = taken[-1].n

    def _follow_size(self, entries: Sequence[OrdersEntry]) -> None:
        """Ask for so many entries next time that they have about READ_BYTES."""
        size = sum(len(entry.order_frame) for entry in entries)
        if size > READ_BYTES:
            self._read_count = max(1, self._read_count // 2)
        elif len(entries) == self._read_count and 2 * size < READ_BYTES:
            self._read_count = min(READ_ENTRIES_MAX, 2 * self._read_count)

    def _forget(self) -> None:
        """Let go of an engine that may be ahead of the log."""
        with self._lock:
            self._engine = None

    def _wait_for(self, refusal: BusRefusal) -> None:
        if refusal.reason not in _PASSING:
            raise LoopStop(LoopReason.BUS, f"shard {self.shard}: {refusal}")
        if refusal.reason is not BusReason.STOPPED:
            self._forget()
        self._wait(str(refusal))

    def _wait(self, message: str) -> None:
        self._set(LoopState.WAITING, message)
        self._stop.wait(RETRY_S)

    def _set(self, state: LoopState, message: str) -> None:
        if (state, message) == (self.state, self.message):
            return
        self.state, self.message = state, message
        if state is LoopState.WAITING:
            _log.warning("shard %d waits: %s", self.shard, message)
        if self._on_state is not None:
            self._on_state(state, message)


class _Clock:
    """The loop as an ingress: one frame in flight, the same one until it is answered."""

    def __init__(self, key: BusKey, shard: int) -> None:
        self.next_us = 0
        self._key = key
        self._shard = shard
        self._ingress = secrets.token_bytes(INGRESS_BYTES)
        self._counter = 1
        self._in_flight: SealedFrame | None = None

    def frame(self, bus_us: int) -> SealedFrame:
        """Return the frame in flight, or a new one of this time."""
        if self._in_flight is None:
            encoded = encode(OrderFrame(FORMAT, self._ingress, self._counter, bus_us))
            self._in_flight = seal(self._key, self._shard, self._ingress, self._counter, encoded, 0, exempt=True)
        return self._in_flight

    def done(self) -> None:
        """The frame has a position."""
        self._in_flight = None
        self._counter += 1

    def refused(self, reason: BusReason) -> None:
        """The frame has none; it need not be sent again, for the next one says as much."""
        if reason in (BusReason.COUNTER_GAP, BusReason.COUNTER_CONFLICT):
            self._ingress, self._counter = secrets.token_bytes(INGRESS_BYTES), 1
        if reason not in UNDECIDED:
            self._in_flight = None
