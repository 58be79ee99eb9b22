"""The trade feed: the trades of markets as they happen, from sequence numbers on without gap or repeat.

A stream keeps a sequence number for each market and reads the tapes; nothing is queued for it. When a tape has moved
past it, it was too slow.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final

from clob.v1.door_reason_pb2 import DoorReason
from clob.v1.market_data_service_pb2 import PublicTrade, StreamTradesResponse
from exchange.marketdata.book import Book
from exchange.marketdata.fold import Applied
from exchange.marketdata.outbox import Outbox, unavailable
from exchange.marketdata.reader import Reader, Source
from exchange.marketdata.tape import TapeTrade
from exchange.serving.errors import Refusal, refused

MESSAGE_TRADES_MAX: Final = 2_000


class _Subscriber:
    """A stream: by market the sequence number up to which it has every trade, and those that went on since."""

    __slots__ = ("after", "dirty", "outbox")

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.after: dict[int, int] = {}
        self.dirty: dict[int, None] = {}


class TradeFeed:
    """All trade streams of a process."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._of_market: dict[int, set[_Subscriber]] = {}
        self._subscribers: set[_Subscriber] = set()
        reader.listeners.append(self)

    def __len__(self) -> int:
        return len(self._subscribers)

    async def stream(self, cursors: Sequence[tuple[int, int]]) -> AsyncIterator[bytes]:
        """Yield encoded StreamTradesResponses for as long as somebody reads them; every market is there.

        Args:
            cursors: market and sequence number after which trades are wanted; 0: those from now on.

        Raises:
            Refusal: a cursor is too old or ahead of the market; a shard cannot be read any more; the reader was too
                slow; the process is shutting down.
        """
        subscriber = _Subscriber()
        for market, after_market_seq in cursors:
            subscriber.after[market] = self._start(market, after_market_seq)
        self._subscribers.add(subscriber)
        for market in subscriber.after:
            self._of_market.setdefault(market, set()).add(subscriber)
        try:
            first = StreamTradesResponse()
            for market, after_market_seq in subscriber.after.items():
                first.cursors.add(market=market, after_market_seq=after_market_seq)
                subscriber.dirty[market] = None
            yield first.SerializeToString()
            while True:
                subscriber.outbox.take()
                message = self._trades(subscriber)
                if message is not None:
                    yield message
                elif not subscriber.dirty:
                    await subscriber.outbox.wait()
        finally:
            self._subscribers.discard(subscriber)
            for market in subscriber.after:
                self._of_market[market].discard(subscriber)
                if not self._of_market[market]:
                    del self._of_market[market]

    def end_all(self, why: Refusal) -> None:
        """End every stream."""
        for subscriber in self._subscribers:
            subscriber.outbox.end(why)

    def _start(self, market: int, after_market_seq: int) -> int:
        book = self._book(market)
        if not after_market_seq:
            return book.market_seq
        if after_market_seq > book.market_seq:
            raise refused(
                DoorReason.DOOR_REASON_CURSOR_AHEAD,
                f"the cursor of market {market} is at {after_market_seq}, the market at {book.market_seq}; it is from "
                "another environment, or the log lost its end",
            )
        if after_market_seq < book.tape.complete_after:
            raise refused(
                DoorReason.DOOR_REASON_CURSOR_TOO_OLD,
                f"trades of market {market} are kept after {book.tape.complete_after}, the cursor is at "
                f"{after_market_seq}; read ListTrades and go on from its market_seq",
            )
        return after_market_seq

    def _book(self, market: int) -> Book:
        found = self._reader.book(market)
        if found is None:
            raise unavailable(f"market {market} cannot be read now")
        return found[1]

    def _trades(self, subscriber: _Subscriber) -> bytes | None:
        """Return a message with trades that a subscriber has not; None: there are none."""
        response = StreamTradesResponse()
        while subscriber.dirty and len(response.trades) < MESSAGE_TRADES_MAX:
            market = next(iter(subscriber.dirty))
            after_market_seq = subscriber.after[market]
            book = self._book(market)
            if book.tape.complete_after > after_market_seq:
                detail = (
                    f"trades of market {market} are kept after {book.tape.complete_after}, this stream had come to "
                    f"{after_market_seq} only; read ListTrades and go on from its market_seq"
                )
                raise refused(DoorReason.DOOR_REASON_TOO_SLOW, detail)
            room = MESSAGE_TRADES_MAX - len(response.trades)
            before = len(response.trades)
            response.trades.extend(public(market, trade) for trade in book.tape.after(after_market_seq, room))
            given = len(response.trades) - before
            if given < room:
                del subscriber.dirty[market]
                subscriber.after[market] = book.market_seq
            else:
                subscriber.after[market] = response.trades[-1].market_seq
            if given:
                response.cursors.add(market=market, after_market_seq=subscriber.after[market])
        return response.SerializeToString() if response.trades else None

    # --- what the reader tells --------------------------------------------------------------------------------------

    def on_applied(self, source: Source, applied: Applied) -> None:
        """Tell those who follow markets that traded."""
        if not self._of_market:
            return
        for market in applied.traded:
            for subscriber in self._of_market.get(market, ()):
                subscriber.dirty[market] = None
                subscriber.outbox.wake()

    def on_added(self, source: Source) -> None:
        """Nothing follows a shard that has just come."""

    def on_lost(self, source: Source, why: str) -> None:
        """End all streams: those of other shards go on from their cursors."""
        self.end_all(unavailable(f"shard {source.shard} is read again: {why}"))


def public(market: int, trade: TapeTrade) -> PublicTrade:
    """Return a trade as everybody sees it."""
    return PublicTrade(
        market=market,
        market_seq=trade.market_seq,
        trade_id=trade.trade_id,
        price_ticks=trade.price_ticks,
        quantity_lots=trade.quantity_lots,
        taker_side=trade.taker_side,  # type: ignore[arg-type]
        t_us=trade.t_us,
    )
