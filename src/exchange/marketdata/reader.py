"""The reader: follows every shard of the map and keeps its fold and its history up with the log.

All shards are read in one XREAD. What can be read is durable, so nothing here waits for anything else. A shard starts
from the newest checkpoint; frames before it that the bus still has fill the history, the tapes and what is in transit,
so that cursors from before a restart go on working. Where a frame does not fit, or the log is not the one that was
read, the shard's fold is thrown away and made anew; until that succeeds the shard is not served. Whoever listens is
told by calls in the reader's own task, between two frames.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from clob.v1.frame_pb2 import ExecutionFrame
from exchange.bus.client import AsyncBus
from exchange.bus.entries import Head
from exchange.bus.errors import BusUnavailable
from exchange.config.environment import Environment
from exchange.domain.markets import DEFAULT_SETTINGS, ShardSettings
from exchange.domain.units import CONTROL_SHARD
from exchange.execution.checkpoints import CheckpointStore
from exchange.marketdata.book import Book
from exchange.marketdata.chain import Chain, FoldError
from exchange.marketdata.fold import Applied, Fold, Sent, ShardFold
from exchange.marketdata.folds import DEFAULT_FOLD
from exchange.marketdata.history import FrameRecord, History
from exchange.marketdata.private import accounts_of
from exchange.marketdata.treasury import CONTROL_TAG, TreasuryFold
from exchange.wire.checkpoint import CheckpointError, read_control_checkpoint
from exchange.wire.errors import UnknownFormatError, WireError
from exchange.wire.hashing import chain_hash

_log = logging.getLogger(__name__)

HISTORY_BYTES_MAX: Final = 64 * 1024 * 1024
READ_FRAMES: Final = 256
"""Most frames of a shard in one read."""
BLOCK_MS: Final = 1_000
GATHER_S: Final = 0.003
"""Least time between two reads that are not full."""
LOOK_S: Final = 0.002
"""Least time between two looks at the end of the logs where calls wait for the second while the first is under way."""
RETRY_S: Final = 0.2
RETRY_S_MAX: Final = 10.0
"""Longest wait before a shard is loaded again that failed at the same frame before."""
HEADS_EVERY_S: Final = 2.0
"""How often the reader compares what it has with what the bus says that there is."""
SLICE_S: Final = 0.005
"""How long frames are folded before others of the process have their turn."""
BACKFILL_FRAMES: Final = 512
CATCH_UP_S_MAX: Final = 2.0


class ShardUnavailable(Exception):  # noqa: N818 - it is an answer: not now
    """A shard cannot be read now; the message says why."""


class Listener(Protocol):
    """Who is told what the reader reads."""

    def on_applied(self, source: "Source", applied: Applied) -> None:
        """A frame was folded."""

    def on_added(self, source: "Source") -> None:
        """A shard can be read, for the first time or again."""

    def on_lost(self, source: "Source", why: str) -> None:
        """A shard cannot be read any more for a while; its fold will be another object."""


@dataclass(slots=True, eq=False)
class Source:
    """A shard as the reader follows it.

    Attributes:
        fold, history: as far as it was read; None: it could not be loaded yet, or must be loaded again.
        settings: of the shard when it was last lost, or of its genesis.
        problem: why there is none, for people.
        lag_us: time between a frame's execution by its matcher and its folding here, of the last frame.
        seen: position, time and chain hash of the last frame that was ever read, from a log that may be gone by now.
        failed_n, failures: frame that could not be folded last, and how often in a row.
        load_after_s: when to try again to load it.
        is_tried: it was tried to load it.
    """

    shard: int
    tag: str
    fold: Fold | None = None
    history: History | None = None
    settings: ShardSettings = DEFAULT_SETTINGS
    problem: str = "it is being loaded"
    lag_us: int = 0
    seen: tuple[int, int, bytes] = (0, 0, b"")
    failed_n: int = 0
    failures: int = 0
    load_after_s: float = 0.0
    is_tried: bool = False
    waiters: list[tuple[int, "asyncio.Future[None]"]] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Position of the last frame that was folded; 0: none."""
        return self.fold.n if self.fold is not None else 0

    def wake(self) -> None:
        """Tell those who wait for a position that has come."""
        if not self.waiters:
            return
        still = []
        for n, future in self.waiters:
            if n > self.n or self.fold is None:
                still.append((n, future))
            elif not future.done():
                future.set_result(None)
        self.waiters = still


class Reader:
    """Follows all shards.

    Attributes:
        sources: by shard, shard 0 first, then in the order in which the map names them.
        listeners: who is told.
    """

    def __init__(
        self,
        bus: AsyncBus,
        environment: Environment,
        store: CheckpointStore,
        *,
        history_bytes_max: int = HISTORY_BYTES_MAX,
        clock: Callable[[], float] = time.monotonic,
        shard_fold: type[ShardFold] = DEFAULT_FOLD,
    ) -> None:
        self.bus = bus
        self.environment = environment
        self.store = store
        self.sources: dict[int, Source] = {}
        self._add_source(CONTROL_SHARD, CONTROL_TAG)
        self.listeners: list[Listener] = []
        self._history_bytes_max = history_bytes_max
        self._clock = clock
        self._shard_fold = shard_fold
        self._heads_at_s = 0.0
        self._read_at_s = 0.0
        self._all_tried = asyncio.Event()
        self._looked_at_s = 0.0
        self._look: asyncio.Task[None] | None = None
        self._next_look: asyncio.Task[None] | None = None
        self._sorted_markets: list[int] = []

    # --- what it says -----------------------------------------------------------------------------------------------

    @property
    def treasury(self) -> TreasuryFold:
        """The fold of shard 0.

        Raises:
            ShardUnavailable: it cannot be read now.
        """
        fold = self.fold(CONTROL_SHARD)
        assert isinstance(fold, TreasuryFold)
        return fold

    def settings(self, shard: int) -> ShardSettings:
        """Return the settings of a shard as last read; those of its genesis where nothing of it could be read yet."""
        source = self.sources[shard]
        return source.settings if source.fold is None else source.fold.settings

    def fold(self, shard: int) -> Fold:
        """Return the fold of a shard that the map has.

        Raises:
            ShardUnavailable: it cannot be read now.
        """
        source = self.sources[shard]
        if source.fold is None:
            raise ShardUnavailable(f"shard {shard} cannot be read now: {source.problem}")
        return source.fold

    def trading(self) -> list[tuple[Source, ShardFold]]:
        """Return the trading shards that can be read, ascending."""
        ordered = sorted(self.sources.values(), key=lambda source: source.shard)
        return [(source, source.fold) for source in ordered if isinstance(source.fold, ShardFold)]

    def book(self, market: int) -> tuple[Source, Book] | None:
        """Return a market's book and its shard; None: no shard that can be read has it."""
        for source in self.sources.values():
            if isinstance(source.fold, ShardFold) and (book := source.fold.books.get(market)) is not None:
                return source, book
        return None

    def markets(self) -> list[int]:
        """Return the numbers of all markets that can be read, ascending."""
        folds = [fold for _, fold in self.trading()]
        # Markets never go, so that their number says whether the list is still the right one.
        if len(self._sorted_markets) != sum(len(fold.books) for fold in folds):
            self._sorted_markets = sorted(market for fold in folds for market in fold.books)
        return self._sorted_markets

    def in_transit(self, account: int) -> list[tuple[int, int, int, Sent]]:
        """Return (from_shard, to_shard, link sequence, part) of all that an account has on its way."""
        return [
            (source.shard, to_shard, sequence, part)
            for source in self.sources.values()
            if source.fold is not None
            for (to_shard, sequence), parts in source.fold.sent.items()
            if sequence > self._arrived(source.shard, to_shard)
            for part in parts
            if part.account == account
        ]

    def _arrived(self, from_shard: int, to_shard: int) -> int:
        """Return the last link between two shards that the receiver has applied, as far as is known."""
        receiver = self.sources.get(to_shard)
        return receiver.fold.links_in.get(from_shard, 0) if receiver is not None and receiver.fold is not None else 0

    def evidence(self) -> list[tuple[int, int, int, bytes]]:
        """Return (shard, n, t_us, chain hash) of the last frame of each shard that was ever read here."""
        found = []
        for source in self.sources.values():
            seen = max(source.seen, _seen(source.fold))
            if seen[0]:
                found.append((source.shard, *seen))
        return found

    def problems(self) -> list[str]:
        """Return why shards cannot be read, one sentence each."""
        waiting = [source for source in self.sources.values() if source.fold is None]
        return [f"shard {source.shard} cannot be read: {source.problem}" for source in waiting]

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def wait_for_start(self) -> None:
        """Wait until every shard that can be loaded is folded up to where its log stood."""
        while True:
            await self._all_tried.wait()
            sources = [source for source in self.sources.values() if source.fold is not None]
            try:
                for source, head in zip(sources, await self._heads(sources), strict=True):
                    if head is not None:
                        await self._wait_for(source, head.executions_n)
            except (BusUnavailable, ShardUnavailable):
                await asyncio.sleep(RETRY_S)
                continue
            if all(source.is_tried for source in self.sources.values()):
                return

    async def catch_up(self) -> None:
        """Wait until every readable shard is folded up to where its log stood at the time of the call, or later.

        What a caller was told before it asked is then in the answer. Calls that come together share one look.

        Raises:
            ShardUnavailable: the bus does not answer, a shard was lost meanwhile, or the reader is too far behind.
        """
        if self._next_look is not None and not self._next_look.done():
            look = self._next_look
        elif self._look is None or self._look.done():
            look = self._look = asyncio.create_task(self._catch_up(None))
        else:
            # The look under way may have read a head before this call was made; the next one will not have.
            look = self._next_look = asyncio.create_task(self._catch_up(self._look))
        await asyncio.shield(look)

    async def _catch_up(self, after: "asyncio.Task[None] | None") -> None:
        if after is not None:
            await asyncio.wait([after])
            await asyncio.sleep(max(0.0, self._looked_at_s + LOOK_S - time.perf_counter()))
            self._look, self._next_look = self._next_look, None
        self._looked_at_s = time.perf_counter()
        try:
            async with asyncio.timeout(CATCH_UP_S_MAX):
                sources = list(self.sources.values())
                for source, head in zip(sources, await self._heads(sources), strict=True):
                    if head is not None:
                        await self._wait_for(source, head.executions_n)
        except (TimeoutError, BusUnavailable) as error:
            behind = f"it did not reach the end of the log within {CATCH_UP_S_MAX:.0f} s"
            raise ShardUnavailable(str(error) or behind) from error

    async def _wait_for(self, source: Source, n: int) -> None:
        """Wait for a position of a shard; whoever needs one that cannot be read finds out by itself."""
        if source.fold is not None and source.n < n:
            future = asyncio.get_running_loop().create_future()
            source.waiters.append((n, future))
            await future

    async def _heads(self, sources: list[Source]) -> list[Head | None]:
        return await self.bus.heads([source.tag for source in sources])

    # --- following --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow the shards for as long as the process runs."""
        while True:
            try:
                await self._step()
            except BusUnavailable as error:
                _log.warning("the bus does not answer, market data stands still: %s", error)
                await asyncio.sleep(RETRY_S)

    async def _step(self) -> None:
        await self._load_what_is_missing()
        now_s = self._clock()
        if now_s >= self._heads_at_s:
            self._heads_at_s = now_s + HEADS_EVERY_S
            await self._compare_with_heads()
        positions = {source.tag: source.n for source in self.sources.values() if source.fold is not None}
        if not positions:
            await asyncio.sleep(RETRY_S)
            return
        waits = any(source.fold is None for source in self.sources.values())
        read = await self.bus.read_executions(positions, READ_FRAMES, int(RETRY_S * 1000) if waits else BLOCK_MS)
        by_tag = {source.tag: source for source in list(self.sources.values())}
        started_s = time.perf_counter()
        for tag, entries in read.items():
            source = by_tag[tag]
            for entry in entries:
                if not self._take(source, entry.frame):
                    break
                source.lag_us = time.time_ns() // 1_000 - entry.stamp.executed_us
                if time.perf_counter() - started_s > SLICE_S:
                    source.wake()
                    await asyncio.sleep(0)
                    started_s = time.perf_counter()
            source.wake()
        self._forget_what_arrived()
        await self._gather(max(map(len, read.values()), default=0))

    async def _gather(self, frames: int) -> None:
        """Let frames gather where reads follow each other closely: a read costs as much as folding ten orders.

        A lonely frame is read at once, and so is what has waited already.
        """
        now_s = time.perf_counter()
        early_s = self._read_at_s + GATHER_S - now_s
        if 0 < early_s and 0 < frames < READ_FRAMES:
            await asyncio.sleep(early_s)
            now_s += early_s
        self._read_at_s = now_s

    def _take(self, source: Source, data: bytes) -> bool:
        """Fold the next frame of a shard and tell everybody; return whether the shard can still be read."""
        fold, history = source.fold, source.history
        if fold is None or history is None:
            return False
        try:
            applied = fold.apply(data)
        except FoldError as error:
            self._lose(source, str(error))
            return False
        history.append(FrameRecord(applied.n, applied.t_us, data, applied.owners))
        for listener in self.listeners:
            listener.on_applied(source, applied)
        if isinstance(fold, TreasuryFold) and len(fold.shards) + 1 != len(self.sources):
            self._take_in_map(fold)
        return True

    def _take_in_map(self, treasury: TreasuryFold) -> None:
        for shard, tag in sorted(treasury.shards.items()):
            if shard not in self.sources:
                self._add_source(shard, tag)
                self._all_tried.clear()

    def _add_source(self, shard: int, tag: str) -> None:
        self.sources[shard] = Source(shard, tag, settings=self.environment.settings)

    def _lose(self, source: Source, why: str) -> None:
        """Throw a shard's fold away; it is loaded again in a moment."""
        _log.error("shard %d is read again from its newest checkpoint: %s", source.shard, why)
        source.seen = max(source.seen, _seen(source.fold))
        source.failures = source.failures + 1 if source.failed_n == source.n + 1 else 0
        source.failed_n = source.n + 1
        source.settings = source.fold.settings if source.fold is not None else source.settings
        source.fold = source.history = None
        source.problem = why
        source.load_after_s = self._clock() + min(RETRY_S_MAX, RETRY_S * 2**source.failures)
        for _, future in source.waiters:
            if not future.done():
                future.set_exception(ShardUnavailable(f"shard {source.shard} cannot be read now: {why}"))
        source.waiters.clear()
        for listener in self.listeners:
            listener.on_lost(source, why)

    def _forget_what_arrived(self) -> None:
        for source in self.sources.values():
            if source.fold is not None and source.fold.sent:
                for to_shard in {to_shard for to_shard, _ in source.fold.sent}:
                    source.fold.forget_sent(to_shard, self._arrived(source.shard, to_shard))

    async def _compare_with_heads(self) -> None:
        """Notice a log that is not the one that was read, and one whose next entry is gone."""
        sources = [source for source in self.sources.values() if source.fold is not None]
        before = [source.n for source in sources]
        for source, n, head in zip(sources, before, await self._heads(sources), strict=True):
            fold = source.fold
            if fold is None or fold.n != n:
                continue
            if head is None:
                if n:
                    self._lose(source, f"LOG_GONE: the bus has no shard {source.shard}, of which {n} frames were read")
            elif head.executions_n < n:
                self._lose(source, f"LOG_LOST_ITS_END: {n} frames were read, the bus has {head.executions_n}")
            elif head.executions_n == n and n and head.executions_hash != fold.chain_hash:
                self._lose(source, f"CHAIN_BROKEN: the bus has another frame {n} than the one that was read")
            elif head.trimmed_n > n:
                self._lose(source, f"FRAME_GAP: {n} frames were read, the bus has them from {head.trimmed_n + 1} on")

    # --- loading ----------------------------------------------------------------------------------------------------

    async def _load_what_is_missing(self) -> None:
        now_s = self._clock()
        for source in list(self.sources.values()):
            if source.fold is None and now_s >= source.load_after_s:
                problem = await self._load(source)
                source.is_tried = True
                if problem:
                    if problem != source.problem:
                        _log.warning("shard %d cannot be read yet: %s", source.shard, problem)
                    source.problem, source.load_after_s = problem, now_s + RETRY_S
        if all(source.is_tried for source in self.sources.values()):
            self._all_tried.set()

    async def _load(self, source: Source) -> str:
        """Load a shard; return why it cannot be loaded, empty where it was."""
        head = await self.bus.head(source.tag)
        genesis = self.environment.genesis(source.shard)
        if head is not None and head.genesis_hash != self.environment.genesis_hash(source.shard):
            return (
                f"WRONG_ENVIRONMENT: the bus has shard {source.shard} of environment {head.environment} with another "
                "genesis; give this process the environment file of the others"
            )
        contradiction = await self._contradiction(source, head)
        if contradiction:
            return contradiction
        newest = await asyncio.to_thread(self.store.newest, source.shard)
        last_n = head.executions_n if head is not None else 0
        fold: Fold
        if newest is not None and newest[0] <= last_n:
            try:
                fold = await asyncio.to_thread(self._from_checkpoint, source.shard, newest[1])
            except (CheckpointError, UnknownFormatError, WireError) as error:
                return str(error)
        elif newest is not None:
            return (
                f"LOG_LOST_ITS_END: there is a checkpoint at {newest[0]}, the bus has frames up to {last_n} only; "
                "the log must be repaired"
            )
        else:
            fold = TreasuryFold.from_genesis(genesis) if not source.shard else self._shard_fold.from_genesis(genesis)
        if head is not None and head.trimmed_n > fold.n:
            return (
                f"FRAME_GAP: the newest checkpoint is at {fold.n}, the bus has frames from {head.trimmed_n + 1} on; "
                "give --checkpoints the folder that settlement-plane writes to"
            )
        history = History(fold.n, self._history_bytes_max)
        try:
            await self._fill_in(source, fold, history, head.trimmed_n if head is not None else 0)
        except FoldError as error:
            return str(error)
        source.fold, source.history, source.problem = fold, history, ""
        if isinstance(fold, TreasuryFold):
            self._take_in_map(fold)
        for listener in self.listeners:
            listener.on_added(source)
        return ""

    def _from_checkpoint(self, shard: int, data: bytes) -> Fold:
        if shard == CONTROL_SHARD:
            return TreasuryFold(read_control_checkpoint(data))
        return self._shard_fold.from_checkpoint(data)

    async def _contradiction(self, source: Source, head: Head | None) -> str:
        """Return how the log contradicts what was read of it before; empty: it does not.

        What was told must not be told otherwise: a shard that lost its end is served again when the log is repaired, or
        by another process, which has not read what is lost.
        """
        n, _, seen_hash = source.seen
        last_n = head.executions_n if head is not None else 0
        if last_n < n:
            return (
                f"LOG_LOST_ITS_END: frames up to {n} were read here, the bus has them up to {last_n}; the log must be "
                "repaired (`clob doctor`); where the loss is accepted, start market-data again"
            )
        for entry in await self.bus.executions_range(source.tag, n, n) if n else ():
            if chain_hash(entry.frame) != seen_hash:
                return (
                    f"CHAIN_BROKEN: the bus has another frame {n} than the one that was read here; the log must be "
                    "repaired (`clob doctor`); where the change is accepted, start market-data again"
                )
        return ""

    async def _fill_in(self, source: Source, fold: Fold, history: History, trimmed_n: int) -> None:
        """Read the frames before the checkpoint that the bus still has and that fit into the history."""
        frames: list[bytes] = []
        size_bytes, first_n = 0, fold.n + 1
        while first_n > trimmed_n + 1 and size_bytes < history.bytes_max:
            start = max(trimmed_n + 1, first_n - BACKFILL_FRAMES)
            entries = await self.bus.executions_range(source.tag, start, first_n - 1)
            if [entry.n for entry in entries] != list(range(start, first_n)):
                break  # trimmed meanwhile
            for entry in reversed(entries):
                size_bytes += len(entry.frame)
                if size_bytes > history.bytes_max:
                    break
                frames.append(entry.frame)
                first_n = entry.n
        if not frames:
            return
        frames.reverse()
        records: list[FrameRecord] = []
        parsed: list[ExecutionFrame] = []
        chain: Chain | None = None
        for data in frames:
            if chain is None:
                first = ExecutionFrame.FromString(data)
                chain = Chain(source.shard, first.n - 1, first.t_us, first.previous_hash)
            frame = chain.read(data)
            records.append(FrameRecord(frame.n, frame.t_us, data, accounts_of(frame)))
            parsed.append(frame)
            if len(parsed) % 64 == 0:
                await asyncio.sleep(0)
        assert chain is not None
        if (chain.n, chain.chain_hash) != (fold.n, fold.chain_hash):
            chain.stop_at_checkpoint(fold.n, fold.chain_hash)
        history.fill_in(records)
        for frame, record in zip(parsed, records, strict=True):
            fold.take_in_the_past(frame, record.data)


def _seen(fold: Fold | None) -> tuple[int, int, bytes]:
    return (fold.n, fold.t_us, fold.chain_hash) if fold is not None else (0, 0, b"")
