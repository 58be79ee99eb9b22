"""The framer: gathers batches of all workers into order frames and brings them into the logs, one per machine.

Per shard one frame is under way to the bus at a time. What comes meanwhile gathers, so a lonely batch goes at once and
a busy shard fills frames; near its limit of frames per second the bus asks for longer gathering.

A frame is sent again, the same bytes, until its fate is known: the script remembers the last frame of an ingress and
answers it as the first time. Whatever happens, a batch is executed at most once, because its nonce is burnt by its
first execution; so where a frame must be made anew (another time or name of the ingress in it) that is safe too.

Results are handed over by the bus as they are committed. That is a hint: what does not come, or comes after a gap, is
read from the executions, which are the truth.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Final, NamedTuple, Protocol

from clob.v1 import door_reason_pb2 as reasons
from exchange.bus.client import Reconnected
from exchange.bus.entries import ExecutionsEntry, Head, Ingested
from exchange.bus.errors import UNDECIDED, BusReason, BusRefusal, BusUnavailable
from exchange.bus.keys import BusKey, SealedFrame, seal
from exchange.domain.limits import FRAME_BATCHES_MAX, FRAME_BYTES_MAX, FRAME_COMMANDS_MAX, INGRESS_BYTES
from exchange.ingress.door import Refusal, varint
from exchange.ingress.messages import Chunk, Executed, Part, Refused, Sequenced
from exchange.wire.hashing import chain_hash, input_hash

_log = logging.getLogger(__name__)

FRAME_HEAD_BYTES_MAX: Final = 128
QUEUED_COMMANDS_MAX: Final = 4 * FRAME_COMMANDS_MAX
QUEUED_BYTES_MAX: Final = 4 * FRAME_BYTES_MAX
RETRY_S: Final = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Pauses between attempts of one frame; the last one is repeated."""
UNAVAILABLE_AFTER_S: Final = 1.0
"""A frame without an answer for so long means that the bus is not reachable: nothing more is queued behind it."""
FULL_S_MAX: Final = 2.0
"""A shard that has had no room for so long is behind: what waits for it is refused. Until then it is held, and the door
takes no more when enough is: nothing that was verified is thrown away for a moment's crowd."""
FULL_PAUSE_S: Final = 0.02
RESTAMP_AFTER_US: Final = 250_000
"""A frame that waited longer than this and is refused for its time is made anew with the time that it is now."""
LOOK_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Pauses between looks for results that have not been handed over; the last one is repeated."""
RANGE_FRAMES: Final = 64
COMPLAIN_EVERY_S: Final = 10.0

_DOOR_REASON: Final = {
    BusReason.OVERLOADED: reasons.DOOR_REASON_OVERLOADED,
    BusReason.OUT_OF_MEMORY: reasons.DOOR_REASON_OVERLOADED,
    BusReason.CLOCK_SKEW: reasons.DOOR_REASON_CLOCK_SKEW,
}
_FULL: Final = frozenset({BusReason.OVERLOADED, BusReason.OUT_OF_MEMORY})
_LOST_COUNT: Final = frozenset({BusReason.COUNTER_GAP, BusReason.COUNTER_CONFLICT})


class FramerBus(Protocol):
    """What the framer needs of `AsyncBus`."""

    async def ingest(self, tag: str, sealed: SealedFrame) -> Ingested:
        """Give a frame its position."""

    async def executions_range(
        self, tag: str, first_n: int, last_n: int, count: int | None = None
    ) -> list[ExecutionsEntry]:
        """Return entries of executions."""

    async def head(self, tag: str) -> Head | None:
        """Return where the shard stands."""

    def results(self, ingress: bytes, tags: list[str]) -> AsyncIterator[tuple[str, ExecutionsEntry] | Reconnected]:
        """Yield the results of an ingress."""


class Sink(Protocol):
    """Where the framer tells workers what became of their chunks."""

    def tell(self, worker: int, message: Sequenced | Executed | Refused) -> None:
        """Send a message to a worker, if it is still there."""


class Evidence(NamedTuple):
    """What is known here of the log of a shard, and must not be lost.

    Attributes:
        shard: which.
        ingested_n, ingested_hash: highest position that the bus gave to a frame, and the input hash of that entry.
        executed_n, executed_t_us, executed_hash: highest frame that was handed to senders, its time and chain hash;
            0: none yet.
    """

    shard: int
    ingested_n: int
    ingested_hash: bytes
    executed_n: int
    executed_t_us: int
    executed_hash: bytes


class _Owned(NamedTuple):
    """A chunk and whose it is."""

    worker: int
    chunk: Chunk


class _UnderWay(NamedTuple):
    """A frame with a position and time whose result has not come: parts by worker."""

    t_us: int
    parts: dict[int, list[Part]]


class ShardFramer:
    """Frames of one shard.

    Attributes:
        frames, batches: how many have got a position.
        evidence: what is known of the log.
    """

    def __init__(
        self,
        shard: int,
        tag: str,
        bus: FramerBus,
        key: BusKey,
        ingress: bytes,
        sink: Sink,
        subscribe: Callable[[bytes, str], None],
        start: Callable[[Coroutine[None, None, None], str], asyncio.Task[None]],
        clock_us: Callable[[], int],
    ) -> None:
        self.shard = shard
        self.tag = tag
        self.frames = 0
        self.batches = 0
        self.evidence = Evidence(shard, 0, b"", 0, 0, b"")
        self._bus = bus
        self._key = key
        self._ingress = ingress
        self._counter = 0
        self._sink = sink
        self._subscribe = subscribe
        self._start = start
        self._clock_us = clock_us
        self._queue: deque[_Owned] = deque()
        self._queued_commands = 0
        self._queued_bytes = 0
        self._some = asyncio.Event()
        self._under_way: dict[int, _UnderWay] = {}
        self._early: dict[int, ExecutionsEntry] = {}
        self._looking: asyncio.Task[None] | None = None
        self._look_soon = asyncio.Event()
        self._not_before_s = 0.0
        self._waiting_since_s: float | None = None
        self._full_since_s: float | None = None
        self._full_at_s = 0.0
        self._sending: list[_Owned] = []
        self._trouble = "the bus cannot be reached"
        self._complained: BusReason | None = None
        self._complained_s = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, is being sent, or lacks its result."""
        return not (self._queue or self._sending or self._under_way)

    @property
    def queued_commands(self) -> int:
        """Commands that wait for a frame."""
        return self._queued_commands

    @property
    def under_way(self) -> int:
        """Frames that have a position and no result yet."""
        return len(self._under_way)

    def offer(self, worker: int, chunk: Chunk) -> None:
        """Queue a chunk, or refuse it: the worker is told."""
        if self._is_unreachable():
            self._refuse([_Owned(worker, chunk)], self._unavailable())
            return
        if (
            self._queued_commands + chunk.commands > QUEUED_COMMANDS_MAX
            or self._queued_bytes + len(chunk.data) > QUEUED_BYTES_MAX
        ):
            self._refuse(
                [_Owned(worker, chunk)],
                Refusal(
                    reasons.DOOR_REASON_OVERLOADED,
                    f"{self._queued_commands} commands wait at this ingress to be handed to shard {self.shard}; send "
                    "the same bytes again in 100 ms",
                    100,
                ),
            )
            return
        self._queue.append(_Owned(worker, chunk))
        self._queued_commands += chunk.commands
        self._queued_bytes += len(chunk.data)
        self._some.set()

    async def run(self) -> None:
        """Send frames for as long as there are any; ends when it is cancelled."""
        while True:
            await self._some.wait()
            wait_s = self._not_before_s - time.monotonic()
            if wait_s > 0 and not self._is_full():
                await asyncio.sleep(wait_s)
            self._sending = self._take()
            if not self._queue:
                self._some.clear()
            await self._send(self._sending)
            self._sending = []

    def _is_full(self) -> bool:
        return self._queued_commands >= FRAME_COMMANDS_MAX or self._queued_bytes >= FRAME_BYTES_MAX // 2

    def _take(self) -> list[_Owned]:
        """Return the chunks of the next frame: from the front of the queue, as many as a frame may have."""
        taken: list[_Owned] = []
        batches = commands = 0
        size = FRAME_HEAD_BYTES_MAX
        while self._queue:
            chunk = self._queue[0].chunk
            batches += chunk.batches
            commands += chunk.commands
            size += len(chunk.data)
            too_much = batches > FRAME_BATCHES_MAX or commands > FRAME_COMMANDS_MAX or size > FRAME_BYTES_MAX
            if too_much and taken:
                break
            assert not too_much, "a chunk fits into a frame: a request has fewer commands and bytes than one"
            taken.append(self._queue.popleft())
            self._queued_commands -= chunk.commands
            self._queued_bytes -= len(chunk.data)
        return taken

    async def _send(self, owned: list[_Owned]) -> None:
        """Bring chunks into the log, or tell why they are not in it."""
        sealed, framed_us = self._frame(owned)
        attempts = 0
        was_heard_maybe = False
        if time.monotonic() - self._full_at_s > FULL_S_MAX:
            self._full_since_s = None
        answer: Ingested | None = None
        self._waiting_since_s = time.monotonic()
        while answer is None:
            try:
                answer = await self._bus.ingest(self.tag, sealed)
                continue
            except BusUnavailable as error:
                was_heard_maybe = True
                self._trouble = f"the bus does not answer ({error})"
            except BusRefusal as refusal:
                if refusal.reason in _LOST_COUNT:
                    self._begin_anew(refusal)
                    sealed, framed_us = self._frame(owned)
                    was_heard_maybe = False
                    continue
                if refusal.reason is BusReason.CLOCK_SKEW and self._clock_us() - framed_us > RESTAMP_AFTER_US:
                    # It is not in the log, so the counter is free and the frame can be made anew.
                    sealed, framed_us = self._frame(owned)
                    continue
                is_undecided = was_heard_maybe and refusal.reason in UNDECIDED
                if refusal.reason in _FULL and not is_undecided and self._is_full_for_a_moment():
                    await asyncio.sleep(max(FULL_PAUSE_S, refusal.retry_after_ms / 1000))
                    # The bus has answered, and the frame is not in the log: it gets the time that it is now.
                    self._waiting_since_s = time.monotonic()
                    sealed, framed_us = self._frame(owned)
                    was_heard_maybe = False
                    continue
                if not is_undecided:
                    self._waiting_since_s = None
                    self._refuse(owned, self._as_door_says(refusal))
                    if refusal.reason in _FULL:
                        self._refuse_queue(self._as_door_says(refusal))
                    return
                self._trouble = str(refusal)
            pause_s = RETRY_S[min(attempts, len(RETRY_S) - 1)]
            attempts += 1
            if self._is_unreachable():
                self._refuse_queue(self._unavailable())
            await asyncio.sleep(pause_s)
        self._waiting_since_s = self._full_since_s = None
        self._counter += 1
        self._not_before_s = time.monotonic() + answer.gather_us / 1_000_000
        self.evidence = self.evidence._replace(
            ingested_n=answer.n, ingested_hash=input_hash(answer.n, answer.t_us, sealed.order_frame)
        )
        self._record(owned, answer, framed_us)

    def _frame(self, owned: list[_Owned]) -> tuple[SealedFrame, int]:
        """Return the next frame with these chunks, sealed, and its time."""
        now_us = self._clock_us()
        counter = self._counter + 1
        control_n = min(one.chunk.control_n for one in owned)
        head = b"".join(
            (
                b"\x08\x01\x12\x10",
                self._ingress,
                b"\x18",
                varint(counter),
                b"\x20",
                varint(now_us),
                b"\x28" + varint(control_n) if control_n else b"",
            )
        )
        frame = b"".join([head, *(one.chunk.data for one in owned)])
        commands = sum(one.chunk.commands for one in owned)
        return seal(self._key, self.shard, self._ingress, counter, frame, commands), now_us

    def _begin_anew(self, refusal: BusRefusal) -> None:
        """Take another name: the bus has forgotten the last frame under the old one, or never had it."""
        _log.warning("shard %d: %s; going on under another ingress id", self.shard, refusal)
        self._ingress = secrets.token_bytes(INGRESS_BYTES)
        self._counter = 0
        self._subscribe(self._ingress, self.tag)

    def _record(self, owned: list[_Owned], answer: Ingested, framed_us: int) -> None:
        """Remember whose parts the frame has, and tell them its position."""
        parts: dict[int, list[Part]] = {}
        first = 1
        for worker, chunk in owned:
            parts.setdefault(worker, []).append(Part(chunk.chunk, first))
            first += chunk.batches
        self.frames += 1
        self.batches += first - 1
        # Before the result can come: it is handed over by another connection, but the same event loop.
        self._under_way[answer.n] = _UnderWay(answer.t_us, parts)
        for worker, its in parts.items():
            self._sink.tell(worker, Sequenced(self.shard, answer.n, answer.t_us, framed_us, its))
        early = self._early.pop(answer.n, None)
        if early is not None:
            self.take_result(early)
        elif self._looking is None:
            self._looking = self._start(self._look(), f"look-{self.shard}")

    # --- results ----------------------------------------------------------------------------------------------------

    def take_result(self, entry: ExecutionsEntry) -> None:
        """Hand a result to the workers that have batches in it; one that was handed on before is passed over."""
        under_way = self._under_way.pop(entry.n, None)
        if under_way is None:
            if self._sending:
                # The matcher was faster than the answer of ingest, which comes by another connection.
                self._early[entry.n] = entry
                while len(self._early) > RANGE_FRAMES:
                    del self._early[min(self._early)]
            return
        if self._under_way and next(iter(self._under_way)) < entry.n:
            # They are handed over in order, so one before it was lost.
            self._look_soon.set()
        if entry.n > self.evidence.executed_n:
            self.evidence = self.evidence._replace(
                executed_n=entry.n, executed_t_us=under_way.t_us, executed_hash=chain_hash(entry.frame)
            )
        seen_us = self._clock_us()
        stamp = entry.stamp
        for worker, parts in under_way.parts.items():
            self._sink.tell(
                worker, Executed(self.shard, entry.n, stamp.taken_us, stamp.executed_us, seen_us, entry.frame, parts)
            )

    def look_now(self) -> None:
        """Results may have been missed: read them."""
        self._look_soon.set()

    async def _look(self) -> None:
        """Read results that are not handed over, with longer and longer pauses while there are none."""
        pause = 0
        while self._under_way:
            oldest = next(iter(self._under_way))
            try:
                async with asyncio.timeout(LOOK_S[min(pause, len(LOOK_S) - 1)]):
                    await self._look_soon.wait()
            except TimeoutError:
                pass
            if oldest not in self._under_way and not self._look_soon.is_set():
                pause = 0
                continue
            self._look_soon.clear()
            if self._under_way:
                try:
                    came = await self._read(next(iter(self._under_way)))
                except (BusUnavailable, BusRefusal) as error:
                    self._trouble = f"the bus does not answer ({error})"
                    came = False
                pause = 0 if came else pause + 1
        self._looking = None

    async def _read(self, oldest: int) -> bool:
        """Read what was executed from position `oldest` on; return whether anything was."""
        newest = max(self._under_way)
        entries = await self._bus.executions_range(self.tag, oldest, newest, RANGE_FRAMES)
        for entry in entries:
            if entry.n in self._under_way:
                self.take_result(entry)
        if entries and entries[0].n == oldest:
            return True
        head = await self._bus.head(self.tag)
        if head is None or oldest > head.trimmed_n:
            return bool(entries)
        # Executed, settled and trimmed while nobody here looked: settlement knows what became of them.
        for n in sorted(n for n in self._under_way if n <= head.trimmed_n):
            for worker, parts in self._under_way.pop(n).parts.items():
                self._sink.tell(worker, Executed(self.shard, n, 0, 0, self._clock_us(), b"", parts))
        return True

    # --- refusals ---------------------------------------------------------------------------------------------------

    def _is_unreachable(self) -> bool:
        since_s = self._waiting_since_s
        return since_s is not None and time.monotonic() - since_s > UNAVAILABLE_AFTER_S

    def _unavailable(self) -> Refusal:
        return Refusal(
            reasons.DOOR_REASON_UNAVAILABLE,
            f"shard {self.shard} cannot be handed anything now: {self._trouble}; send the same bytes again in a second",
            1_000,
        )

    def _is_full_for_a_moment(self) -> bool:
        self._full_at_s = now_s = time.monotonic()
        if self._full_since_s is None:
            self._full_since_s = now_s
        return now_s - self._full_since_s < FULL_S_MAX

    def _refuse_queue(self, refusal: Refusal) -> None:
        queued = list(self._queue)
        self._queue.clear()
        self._queued_commands = self._queued_bytes = 0
        self._some.clear()
        if queued:
            self._refuse(queued, refusal)

    def _refuse(self, owned: list[_Owned], refusal: Refusal) -> None:
        chunks: dict[int, list[int]] = {}
        for worker, chunk in owned:
            chunks.setdefault(worker, []).append(chunk.chunk)
        for worker, its in chunks.items():
            self._sink.tell(worker, Refused(its, refusal.reason, refusal.detail, refusal.retry_after_ms))

    def _as_door_says(self, refusal: BusRefusal) -> Refusal:
        reason = _DOOR_REASON.get(refusal.reason, reasons.DOOR_REASON_UNAVAILABLE)
        if reason == reasons.DOOR_REASON_UNAVAILABLE:
            self._complain(refusal)
        return Refusal(reason, f"shard {self.shard}: {refusal.detail}", refusal.retry_after_ms or 1_000)

    def _complain(self, refusal: BusRefusal) -> None:
        """Log a refusal that somebody has to mend; the same one every ten seconds at most."""
        now_s = time.monotonic()
        if self._complained != refusal.reason or now_s - self._complained_s > COMPLAIN_EVERY_S:
            self._complained, self._complained_s = refusal.reason, now_s
            _log.warning("shard %d refuses frames: %s", self.shard, refusal)


class Framer:
    """Frames of all shards, each from the first chunk for it on.

    Attributes:
        ingress: name of this start of the process on the bus.
        failed: set when a task has ended that must not; the process must not look alive then.
    """

    def __init__(self, bus: FramerBus, key: BusKey, sink: Sink, clock_us: Callable[[], int]) -> None:
        self.ingress = secrets.token_bytes(INGRESS_BYTES)
        self._bus = bus
        self._key = key
        self._sink = sink
        self._clock_us = clock_us
        self._shards: dict[int, ShardFramer] = {}
        self._by_tag: dict[str, ShardFramer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.failed = asyncio.Event()

    @property
    def shards(self) -> list[ShardFramer]:
        """The shards that chunks have come for."""
        return list(self._shards.values())

    def evidence(self) -> list[Evidence]:
        """Return what is known of the logs, by shard."""
        return [one.evidence for _, one in sorted(self._shards.items()) if one.evidence.ingested_n]

    def offer(self, worker: int, chunk: Chunk) -> None:
        """Take a chunk of a worker; the worker is told what becomes of it."""
        shard = self._shards.get(chunk.shard)
        if shard is None:
            shard = self._add(chunk.shard, chunk.tag)
        shard.offer(worker, chunk)

    async def drain(self, seconds_max: float) -> bool:
        """Wait until nothing is under way any more; return whether that is so."""
        end_s = time.monotonic() + seconds_max
        while not all(shard.is_idle for shard in self._shards.values()):
            if time.monotonic() > end_s:
                return False
            await asyncio.sleep(0.01)
        return True

    async def close(self) -> None:
        """End all tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _add(self, number: int, tag: str) -> ShardFramer:
        shard = ShardFramer(
            number, tag, self._bus, self._key, self.ingress, self._sink, self._follow, self._start, self._clock_us
        )
        self._shards[number] = shard
        self._by_tag[tag] = shard
        self._follow(self.ingress, tag)
        self._start(shard.run(), f"framer-{number}")
        return shard

    def _follow(self, ingress: bytes, tag: str) -> None:
        self._start(self._results(ingress, tag), f"results-{tag}")

    async def _results(self, ingress: bytes, tag: str) -> None:
        async with aclosing(self._bus.results(ingress, [tag])) as results:  # type: ignore[type-var]
            async for result in results:
                if isinstance(result, Reconnected):
                    self._by_tag[tag].look_now()
                else:
                    self._by_tag[tag].take_result(result[1])

    def _start(self, coroutine: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.critical("the task %s ended: %r", task.get_name(), error, exc_info=error)
            self.failed.set()
