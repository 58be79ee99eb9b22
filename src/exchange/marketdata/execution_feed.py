"""The private feed: every event of an account, shard by shard, from cursors on without gap or repeat.

A subscriber is behind in a shard until it has been given everything up to the last folded frame out of the history;
from then on it is live there: each frame with events of its account is put into its outbox as it is folded. All of it
happens in one thread, so that between the last look into the history and going live nothing can come.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from clob.v1.door_reason_pb2 import DoorReason
from exchange.marketdata.cuts import cut
from exchange.marketdata.fold import Applied
from exchange.marketdata.outbox import Outbox, unavailable
from exchange.marketdata.private import heartbeat
from exchange.marketdata.reader import Reader, Source
from exchange.serving.errors import Refusal, invalid, refused

HEARTBEAT_S: Final = 4.0
"""The contract promises a message of every shard at least every 5 seconds."""
REPLAY_FRAMES_MAX: Final = 2_000
"""Frames that one look into the history passes over."""
REPLAY_BYTES_MAX: Final = 256 * 1024
"""Bytes in the outbox from which on a look into the history gives no more."""


class StartAt(NamedTuple):
    """A cursor: behind event `event` of frame n of a shard; 0: behind all of it."""

    shard: int
    n: int
    event: int


class _Subscriber:
    """A stream. `behind` has, by shard, the frame and the event that come next."""

    __slots__ = ("account", "behind", "live", "outbox")

    def __init__(self, account: int) -> None:
        self.account = account
        self.outbox = Outbox()
        self.behind: dict[int, tuple[int, int]] = {}
        self.live: set[int] = set()


class ExecutionFeed:
    """All private streams of a process.

    Attributes:
        heartbeat_s: how often a stream has a message of every shard.
    """

    def __init__(self, reader: Reader, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._reader = reader
        self.heartbeat_s = heartbeat_s
        self._subscribers: set[_Subscriber] = set()
        self._live: dict[int, dict[int, set[_Subscriber]]] = {}
        reader.listeners.append(self)

    def __len__(self) -> int:
        return len(self._subscribers)

    async def stream(self, account: int, cursors: Sequence[StartAt]) -> AsyncIterator[bytes]:
        """Yield encoded StreamExecutionsResponses for as long as somebody reads them.

        Raises:
            Refusal: a cursor is of no shard, too old or ahead of the log; a shard cannot be read; the reader was too
                slow; the process is shutting down.
        """
        given = self._check(cursors)
        subscriber = _Subscriber(account)
        self._subscribers.add(subscriber)
        try:
            for shard, source in sorted(self._reader.sources.items()):
                # A shard that has just come into the map is followed as soon as it is loaded.
                if source.is_tried or shard in given:
                    self._begin(subscriber, shard, given.get(shard))
            async for message in self._messages(subscriber):
                yield message
        finally:
            self._subscribers.discard(subscriber)
            for shard in subscriber.live:
                self._leave(subscriber, shard)

    def end_all(self, why: Refusal) -> None:
        """End every stream."""
        for subscriber in self._subscribers:
            subscriber.outbox.end(why)

    # --- a stream ---------------------------------------------------------------------------------------------------

    def _check(self, cursors: Sequence[StartAt]) -> dict[int, StartAt]:
        """Return the cursors by shard, once all of them can be gone on from."""
        given: dict[int, StartAt] = {}
        for place, cursor in enumerate(cursors):
            if cursor.shard in given:
                raise invalid({f"cursors[{place}].shard": f"{cursor.shard} comes twice"})
            if cursor.event and not cursor.n:
                raise invalid({f"cursors[{place}].event": f"{cursor.event} is in no frame: n is zero"})
            given[cursor.shard] = cursor
            source = self._reader.sources.get(cursor.shard)
            if source is None:
                detail = f"cursors[{place}].shard: the shard map has no shard {cursor.shard}"
                raise refused(DoorReason.DOOR_REASON_UNKNOWN_SHARD, detail)
            if source.history is None:
                raise unavailable(f"shard {source.shard} cannot be read now: {source.problem}")
            if cursor.n > source.n:
                raise _ahead(cursor, f"the last frame is {source.n}")
            first = cursor.n if cursor.event else cursor.n + 1
            if first < source.history.first_n:
                raise refused(
                    DoorReason.DOOR_REASON_CURSOR_TOO_OLD,
                    f"shard {cursor.shard} is kept from frame {source.history.first_n} on, the cursor is at "
                    f"{cursor.n}; read GetBalances and ListOpenOrders and go on from their cursors",
                )
            if cursor.event:
                record = next(source.history.since(cursor.n))
                events = len(source.history.parsed(record).events)
                if cursor.event > events:
                    raise _ahead(cursor, f"frame {cursor.n} has {events} events")
        return given

    def _begin(self, subscriber: _Subscriber, shard: int, cursor: StartAt | None) -> None:
        """Say where the stream of a shard starts, and start it."""
        source = self._reader.sources[shard]
        if source.fold is None:
            raise unavailable(f"shard {shard} cannot be read now: {source.problem}")
        if cursor is None:
            subscriber.outbox.put(heartbeat(shard, source.n, source.fold.t_us))
            self._go_live(subscriber, shard)
            return
        subscriber.behind[shard] = (cursor.n, cursor.event) if cursor.event else (cursor.n + 1, 0)
        assert source.history is not None
        there = cursor.n and cursor.n >= source.history.first_n
        t_us = next(source.history.since(cursor.n)).t_us if there else 0
        subscriber.outbox.put(heartbeat(shard, cursor.n, t_us, cursor.event))

    async def _messages(self, subscriber: _Subscriber) -> AsyncIterator[bytes]:
        outbox, clock = subscriber.outbox, time.monotonic
        beat_at_s = clock() + self.heartbeat_s
        while True:
            while (message := outbox.take()) is not None:
                yield message
                if clock() >= beat_at_s:
                    break
            for shard in list(subscriber.behind):
                self._replay(subscriber, shard)
                await asyncio.sleep(0)
            if clock() >= beat_at_s:
                for shard in sorted(subscriber.live):
                    self._beat(subscriber, shard)
                beat_at_s = clock() + self.heartbeat_s
            if not outbox and not subscriber.behind:
                await outbox.wait(max(0.0, beat_at_s - clock()))

    def _beat(self, subscriber: _Subscriber, shard: int) -> None:
        source = self._reader.sources[shard]
        if source.fold is not None:
            subscriber.outbox.put(heartbeat(shard, source.n, source.fold.t_us))

    def _replay(self, subscriber: _Subscriber, shard: int) -> None:
        """Give a subscriber some of what it has missed; it is live when nothing is left."""
        source = self._reader.sources[shard]
        n, event = subscriber.behind[shard]
        if source.history is None:
            return
        if n < source.history.first_n:
            detail = f"shard {shard} is kept from frame {source.history.first_n} on, this stream had come to {n} only"
            subscriber.outbox.end(refused(DoorReason.DOOR_REASON_TOO_SLOW, detail))
            return
        for passed, record in enumerate(source.history.since(n)):
            if passed >= REPLAY_FRAMES_MAX or subscriber.outbox.size_bytes >= REPLAY_BYTES_MAX:
                break
            n = record.n + 1
            if subscriber.account in record.accounts:
                (messages,) = cut(shard, record.data, (subscriber.account,), event)
                if messages:
                    subscriber.outbox.put(*messages)
            event = 0
        subscriber.behind[shard] = (n, event)
        if n > source.n:
            del subscriber.behind[shard]
            self._go_live(subscriber, shard)

    def _go_live(self, subscriber: _Subscriber, shard: int) -> None:
        subscriber.live.add(shard)
        self._live.setdefault(shard, {}).setdefault(subscriber.account, set()).add(subscriber)

    def _leave(self, subscriber: _Subscriber, shard: int) -> None:
        there = self._live[shard][subscriber.account]
        there.discard(subscriber)
        if not there:
            del self._live[shard][subscriber.account]

    # --- what the reader tells --------------------------------------------------------------------------------------

    def on_applied(self, source: Source, applied: Applied) -> None:
        """Put the frame's events into the outboxes of those who follow their accounts."""
        live = self._live.get(source.shard)
        if not live:
            return
        owners = applied.owners
        # The smaller side is walked: a frame names few accounts, and a quiet venue has few subscribers.
        fewer, more = (owners, live) if len(owners) < len(live) else (live, owners)
        concerned = list(filter(more.__contains__, fewer))
        if not concerned:
            return
        for account, messages in zip(concerned, cut(source.shard, applied.data, concerned, 0), strict=True):
            for subscriber in live[account]:
                subscriber.outbox.put(*messages)

    def on_added(self, source: Source) -> None:
        """Follow a new shard from where it stands: nothing of it was told before."""
        for subscriber in self._subscribers:
            if source.shard not in subscriber.live and source.shard not in subscriber.behind:
                self._begin(subscriber, source.shard, None)

    def on_lost(self, source: Source, why: str) -> None:
        """End all streams: what comes after is read anew, from the cursors that they have."""
        self.end_all(unavailable(f"shard {source.shard} is read again: {why}"))


def _ahead(cursor: StartAt, but: str) -> Refusal:
    detail = (
        f"the cursor of shard {cursor.shard} is at frame {cursor.n}, event {cursor.event}, but {but}; it is from "
        "another environment, or the log lost its end"
    )
    return refused(DoorReason.DOOR_REASON_CURSOR_AHEAD, detail)
