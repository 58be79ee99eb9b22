"""The book feed: snapshots, then what changed; merged for readers that are slow, or command by command.

Merged readers keep nothing but the sequence number that they have: a market remembers which levels changed and by when,
and a delta has those levels as they are at the time it is sent. However slow a reader is, what waits for it is never
more than the book. Old entries of that memory are merged too; a delta may then name levels that did not change, which
does no harm, for it says how they are.
"""

from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Final

from clob.v1.market_data_service_pb2 import BookDelta, BookSnapshot, StreamBookResponse
from exchange.domain.commands import Side
from exchange.marketdata.book import Book, BookChange, LevelView
from exchange.marketdata.fold import Applied
from exchange.marketdata.outbox import Outbox, unavailable
from exchange.marketdata.reader import Reader, Source
from exchange.serving.errors import Refusal

MESSAGE_LEVELS_MAX: Final = 8_192
"""Levels of one message, about: 200 kB."""
LOG_ENTRIES_MAX: Final = 512
_DELTAS_TAG: Final = bytes([StreamBookResponse.DELTAS_FIELD_NUMBER << 3 | 2])
_MESSAGE_BYTES: Final = 256 * 1024


class _Entry:
    """Levels that changed up to a sequence number, since the entry before."""

    __slots__ = ("asks", "bids", "market_seq")

    def __init__(self, market_seq: int, bids: set[int], asks: set[int]) -> None:
        self.market_seq = market_seq
        self.bids = bids
        self.asks = asks


class _Subscriber:
    """A stream. Of the markets that it reads merged: `seqs` has what it has, `dirty` those that went on since."""

    __slots__ = ("dirty", "outbox", "seqs")

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.seqs: dict[int, int] = {}
        self.dirty: dict[int, None] = {}


class _Market:
    """A market that somebody follows."""

    __slots__ = ("book", "deltas", "each", "log", "merged", "shard", "t_us")

    def __init__(self, shard: int, book: Book, t_us: int) -> None:
        self.shard = shard
        self.book = book
        self.t_us = t_us
        self.merged: set[_Subscriber] = set()
        self.each: set[_Subscriber] = set()
        self.log: deque[_Entry] = deque()
        self.deltas: dict[int, bytes] = {}

    def note(self, change: BookChange) -> None:
        """Remember which levels a command changed."""
        self.t_us = change.t_us
        self.deltas.clear()
        bids = {level.price_ticks for level in change.bids}
        asks = {level.price_ticks for level in change.asks}
        self.log.append(_Entry(change.market_seq, bids, asks))
        if len(self.log) > LOG_ENTRIES_MAX:
            oldest = self.log.popleft()
            for _ in range(LOG_ENTRIES_MAX // 2):
                later = self.log.popleft()
                oldest = _Entry(later.market_seq, oldest.bids | later.bids, oldest.asks | later.asks)
            self.log.appendleft(oldest)

    def delta_since(self, market_seq: int) -> bytes:
        """Return the encoded field of a StreamBookResponse with what changed since a sequence number."""
        field = self.deltas.get(market_seq)
        if field is None:
            bids: set[int] = set()
            asks: set[int] = set()
            for entry in reversed(self.log):
                if entry.market_seq <= market_seq:
                    break
                bids |= entry.bids
                asks |= entry.asks
            book = self.book
            field = self.deltas[market_seq] = delta_field(
                BookChange(
                    book.market,
                    market_seq,
                    book.market_seq,
                    self.t_us,
                    book.settings.state,
                    book.last_price_ticks,
                    tuple(book.level_at(Side.BUY, price_ticks) for price_ticks in bids),
                    tuple(book.level_at(Side.SELL, price_ticks) for price_ticks in asks),
                )
            )
        return field


class BookFeed:
    """All book streams of a process."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._markets: dict[int, _Market] = {}
        self._subscribers: set[_Subscriber] = set()
        reader.listeners.append(self)

    def __len__(self) -> int:
        return len(self._subscribers)

    async def stream(self, markets: Sequence[int], every_command: bool) -> AsyncIterator[bytes]:
        """Yield encoded StreamBookResponses for as long as somebody reads them; every market is there.

        Raises:
            Refusal: a shard cannot be read any more; the reader was too slow; the process is shutting down.
        """
        subscriber = _Subscriber()
        self._subscribers.add(subscriber)
        try:
            for message in self._snapshots(subscriber, markets, every_command):
                yield message
            while True:
                while fields := _some(subscriber.outbox):
                    yield fields
                for message in self._deltas(subscriber):
                    yield message
                if not subscriber.outbox and not subscriber.dirty:
                    await subscriber.outbox.wait()
        finally:
            self._subscribers.discard(subscriber)
            for market in markets:
                self._leave(subscriber, market)

    def end_all(self, why: Refusal) -> None:
        """End every stream."""
        for subscriber in self._subscribers:
            subscriber.outbox.end(why)

    def _snapshots(self, subscriber: _Subscriber, markets: Sequence[int], every_command: bool) -> Sequence[bytes]:
        """Return the snapshots of all markets, taken at one moment, and follow the markets from then on."""
        messages: list[bytes] = []
        response, levels = StreamBookResponse(), 0
        for number in markets:
            market = self._follow(subscriber, number, every_command)
            for snapshot in snapshots_of(market.book, market.t_us, MESSAGE_LEVELS_MAX):
                size = 1 + len(snapshot.bids) + len(snapshot.asks)
                if levels and levels + size > MESSAGE_LEVELS_MAX:
                    messages.append(response.SerializeToString())
                    response, levels = StreamBookResponse(), 0
                response.snapshots.append(snapshot)
                levels += size
        messages.append(response.SerializeToString())
        return messages

    def _follow(self, subscriber: _Subscriber, number: int, every_command: bool) -> _Market:
        found = self._reader.book(number)
        if found is None:
            raise unavailable(f"market {number} cannot be read now")
        source, book = found
        assert source.fold is not None
        market = self._markets.get(number)
        if market is None:
            market = self._markets[number] = _Market(source.shard, book, source.fold.t_us)
            book.watched = True
        if every_command:
            market.each.add(subscriber)
            book.every_command = True
        else:
            market.merged.add(subscriber)
            subscriber.seqs[number] = book.market_seq
        return market

    def _leave(self, subscriber: _Subscriber, number: int) -> None:
        market = self._markets.get(number)
        if market is None:
            return
        market.each.discard(subscriber)
        market.merged.discard(subscriber)
        market.book.every_command = bool(market.each)
        if not market.merged:
            market.log.clear()
            market.deltas.clear()
        if not market.merged and not market.each:
            market.book.watched = False
            del self._markets[number]

    def _deltas(self, subscriber: _Subscriber) -> Sequence[bytes]:
        """Return messages with what changed in the markets that a subscriber reads merged."""
        if not subscriber.dirty or subscriber.outbox.ended is not None:
            return ()
        messages: list[bytes] = []
        fields: list[bytes] = []
        size_bytes = 0
        for number in subscriber.dirty:
            market = self._markets[number]
            field = market.delta_since(subscriber.seqs[number])
            subscriber.seqs[number] = market.book.market_seq
            fields.append(field)
            size_bytes += len(field)
            if size_bytes > _MESSAGE_BYTES:
                messages.append(b"".join(fields))
                fields.clear()
                size_bytes = 0
        subscriber.dirty.clear()
        if fields:
            messages.append(b"".join(fields))
        return messages

    # --- what the reader tells --------------------------------------------------------------------------------------

    def on_applied(self, source: Source, applied: Applied) -> None:
        """Tell those who follow the books that changed."""
        touched: dict[int, _Market] = {}
        for change in applied.changes:
            market = self._markets.get(change.market)
            if market is None:
                continue
            if market.merged:
                market.note(change)
                touched[change.market] = market
            if market.each:
                field = delta_field(change)
                for subscriber in market.each:
                    subscriber.outbox.put(field)
        for number, market in touched.items():
            for subscriber in market.merged:
                subscriber.dirty[number] = None
                subscriber.outbox.wake()

    def on_added(self, source: Source) -> None:
        """Nothing follows a shard that has just come."""

    def on_lost(self, source: Source, why: str) -> None:
        """End the streams of the shard's markets; a new snapshot comes when they ask again."""
        ended = unavailable(f"shard {source.shard} is read again: {why}")
        for market in self._markets.values():
            if market.shard == source.shard:
                for subscriber in market.merged | market.each:
                    subscriber.outbox.end(ended)
        # Whoever asks again must get the new fold's books, even before these streams have noticed their end.
        self._markets = {number: market for number, market in self._markets.items() if market.shard != source.shard}


def snapshot_of(book: Book, t_us: int, levels_max: int | None) -> BookSnapshot:
    """Return a book, cut to its best levels."""
    snapshot = BookSnapshot(
        market=book.market,
        market_seq=book.market_seq,
        t_us=t_us,
        state=book.settings.state,
        last_price_ticks=book.last_price_ticks,
    )
    for level in book.depth(Side.BUY, levels_max):
        snapshot.bids.add(price_ticks=level.price_ticks, quantity_lots=level.quantity_lots, orders=level.orders)
    for level in book.depth(Side.SELL, levels_max):
        snapshot.asks.add(price_ticks=level.price_ticks, quantity_lots=level.quantity_lots, orders=level.orders)
    return snapshot


def snapshots_of(book: Book, t_us: int, levels_max: int) -> Sequence[BookSnapshot]:
    """Return a book in full depth, in parts of so many levels."""
    whole = snapshot_of(book, t_us, None)
    if len(whole.bids) + len(whole.asks) <= levels_max:
        return [whole]
    parts = []
    for name in ("bids", "asks"):
        levels = getattr(whole, name)
        for start in range(0, len(levels), levels_max):
            part = BookSnapshot()
            part.CopyFrom(whole)
            part.ClearField("bids")
            part.ClearField("asks")
            getattr(part, name).extend(levels[start : start + levels_max])
            part.more = True
            parts.append(part)
    parts[-1].more = False
    return parts


def delta_field(change: BookChange) -> bytes:
    """Return a change as the encoded field `deltas` of a StreamBookResponse; fields in a row are a whole message."""
    delta = BookDelta(
        market=change.market,
        previous_market_seq=change.previous_market_seq,
        market_seq=change.market_seq,
        t_us=change.t_us,
        state=change.state,  # type: ignore[arg-type]
        last_price_ticks=change.last_price_ticks,
    )
    _add(delta.bids, change.bids)
    _add(delta.asks, change.asks)
    data = delta.SerializeToString()
    return _DELTAS_TAG + _varint(len(data)) + data


def _add(levels: object, views: Sequence[LevelView]) -> None:
    add = levels.add  # type: ignore[attr-defined]
    for view in views:
        add(price_ticks=view.price_ticks, quantity_lots=view.quantity_lots, orders=view.orders)


def _some(outbox: Outbox) -> bytes:
    """Return fields that wait as one message; empty: there are none."""
    fields: list[bytes] = []
    size_bytes = 0
    while size_bytes < _MESSAGE_BYTES and (field := outbox.take()) is not None:
        fields.append(field)
        size_bytes += len(field)
    return b"".join(fields)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
