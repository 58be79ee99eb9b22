"""Streams that go on by themselves after reconnects: own executions, books, trades. Nothing is missed or told twice."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import grpc

from clob.v1 import account_service_pb2 as account_pb2
from clob.v1 import event_pb2, position_pb2
from clob.v1 import market_data_service_pb2 as data_pb2
from exchange.client.books import BookGapError, LocalBook
from exchange.client.errors import ClientError, error_of
from exchange.client.results import decode_event
from exchange.client.sessions import SESSION_ENDED, Sessions
from exchange.client.transport import Backoff, Transport, metadata_of
from exchange.domain.commands import Side
from exchange.domain.events import Event

TOO_SLOW: Final = "TOO_SLOW"
SILENCE_S: Final = 20.0
"""Executions come, or word that there are none, every 5 seconds: a stream of them that is silent for longer is dead.
Books and trades may be silent; then the exchange is asked whether it is there."""


class Cursor(NamedTuple):
    """Where a reader stands in a shard: after an event of frame n; event 0: after the whole frame."""

    n: int
    event: int = 0

    @property
    def reached(self) -> tuple[int, float]:
        """What orders cursors of one shard."""
        return self.n, self.event or float("inf")


class Executions(NamedTuple):
    """What happened to an account in one entry of a shard, in order."""

    shard: int
    n: int
    t_us: int
    events: tuple[Event, ...]


class PublicTrade(NamedTuple):
    """A trade as everybody sees it."""

    market: int
    market_seq: int
    trade_id: int
    price_ticks: int
    quantity_lots: int
    taker_side: Side
    t_us: int


class ExecutionsFeed:
    """The executions of an account, from cursors on. Iterate over it; after an error, iterate over it again.

    Attributes:
        cursors: where it stands, by shard, after what it gave last. Keep them to go on after a restart.
    """

    def __init__(
        self,
        transport: Transport,
        sessions: Sessions,
        account: int,
        cursors: Mapping[int, Cursor],
        seqs: Mapping[int, int],
    ) -> None:
        self._transport = transport
        self._sessions = sessions
        self._account = account
        self._seqs = dict(seqs)
        self.cursors: dict[int, Cursor] = dict(cursors)

    async def __aiter__(self) -> AsyncIterator[Executions]:
        """Yield entries with events of the account.

        Raises:
            ClientError: CURSOR_TOO_OLD or CURSOR_AHEAD: begin again from the present state. EVENTS_LOST: a sequence
                number is missing, which is never to be passed over.
        """
        backoff = Backoff()
        while True:
            try:
                token = await self._sessions.token()
            except ClientError as refused:
                if not refused.may_help_to_retry:
                    raise
                await asyncio.sleep(backoff.next_s(refused.retry_after_ms))
                continue
            request = account_pb2.StreamExecutionsRequest(
                account=self._account,
                cursors=[
                    position_pb2.Cursor(shard=shard, n=cursor.n, event=cursor.event)
                    for shard, cursor in sorted(self.cursors.items())
                ],
            )
            call = self._transport.accounts.StreamExecutions(request, metadata=metadata_of(token))
            try:
                async for message in _messages(call, self._transport, may_be_silent=False):
                    backoff.reset()
                    found = self._take(message)
                    if found is not None:
                        yield found
            except grpc.aio.AioRpcError as failed:
                error = error_of(failed, self._transport.address)
                if error.reason == SESSION_ENDED:
                    self._sessions.ended(token)
                elif not error.may_help_to_retry and error.reason != TOO_SLOW:
                    raise error from failed
                await asyncio.sleep(backoff.next_s(error.retry_after_ms))
            else:
                await asyncio.sleep(backoff.next_s())
            finally:
                call.cancel()

    def _take(self, message: Any) -> Executions | None:
        """Move on by a message; return what is new in it."""
        shard = message.cursor.shard
        cursor = Cursor(message.cursor.n, message.cursor.event)
        known = self.cursors.get(shard)
        if known is not None and cursor.reached < known.reached:
            return None
        fresh = [event for event in message.events if self._is_next(shard, event)]
        self.cursors[shard] = cursor
        if not fresh:
            return None
        decoded = tuple(decode_event(event.SerializeToString()) for event in fresh)
        return Executions(shard, message.cursor.n, message.t_us, decoded)

    def _is_next(self, shard: int, wrapped: Any) -> bool:
        """Return whether an event is new: its sequence number follows the last one's.

        Raises:
            ClientError: EVENTS_LOST.
        """
        seqs = _seqs_of(wrapped, self._account)
        if not seqs:
            return True
        last = self._seqs.get(shard)
        if last is not None and seqs[-1] <= last:
            return False
        if last is not None and seqs[0] != last + 1:
            raise ClientError(
                "EVENTS_LOST",
                f"shard {shard}: event {seqs[0]} of account {self._account} came after {last}; read the balances and "
                "open orders, and begin again from their cursors",
            )
        self._seqs[shard] = seqs[-1]
        return True


class TradesFeed:
    """The trades of markets, from sequence numbers on. Iterate over it; after an error, iterate over it again.

    Attributes:
        cursors: last sequence number of each market; those from now on where it is 0.
    """

    def __init__(self, transport: Transport, cursors: Mapping[int, int]) -> None:
        self._transport = transport
        self.cursors: dict[int, int] = dict(cursors)

    async def __aiter__(self) -> AsyncIterator[PublicTrade]:
        """Yield trades, in order within a market.

        Raises:
            ClientError: CURSOR_TOO_OLD or CURSOR_AHEAD.
        """
        backoff = Backoff()
        while True:
            cursors = [
                data_pb2.TradeCursor(market=market, after_market_seq=seq) for market, seq in self.cursors.items()
            ]
            call = self._transport.market_data.StreamTrades(data_pb2.StreamTradesRequest(cursors=cursors))
            try:
                async for message in _messages(call, self._transport, may_be_silent=True):
                    backoff.reset()
                    for trade in message.trades:
                        if trade.market_seq > self.cursors.get(trade.market, 0):
                            self.cursors[trade.market] = trade.market_seq
                            yield trade_of(trade)
                    for cursor in message.cursors:
                        reached = max(cursor.after_market_seq, self.cursors.get(cursor.market, 0))
                        self.cursors[cursor.market] = reached
            except grpc.aio.AioRpcError as failed:
                await _before_next(failed, self._transport.address, backoff)
            else:
                await asyncio.sleep(backoff.next_s())
            finally:
                call.cancel()


class BooksFeed:
    """The books of markets, kept here. Iterate over it: each time it gives a book that has changed.

    Attributes:
        books: by market number; a book that is not `complete` waits for its snapshot.
        resubscribed: how often the stream had to begin again, for a gap or a broken connection.
    """

    def __init__(self, transport: Transport, markets: Sequence[int], *, every_command: bool) -> None:
        self._transport = transport
        self._every_command = every_command
        self.books = {market: LocalBook(market) for market in markets}
        self.resubscribed = 0

    async def __aiter__(self) -> AsyncIterator[LocalBook]:
        """Yield a book after each change to it, the same object each time."""
        backoff = Backoff()
        request = data_pb2.StreamBookRequest(markets=list(self.books), every_command=self._every_command)
        while True:
            for market in self.books:
                self.books[market] = LocalBook(market)
            call = self._transport.market_data.StreamBook(request)
            try:
                async for message in _messages(call, self._transport, may_be_silent=True):
                    backoff.reset()
                    for snapshot in message.snapshots:
                        book = self.books[snapshot.market]
                        book.snapshot(snapshot)
                        if book.complete:
                            yield book
                    for delta in message.deltas:
                        book = self.books[delta.market]
                        book.delta(delta)
                        yield book
            except BookGapError:
                pass
            except grpc.aio.AioRpcError as failed:
                await _before_next(failed, self._transport.address, backoff)
            else:
                await asyncio.sleep(backoff.next_s())
            finally:
                call.cancel()
            self.resubscribed += 1


def trade_of(message: Any) -> PublicTrade:
    """Return a PublicTrade as a value."""
    return PublicTrade(
        message.market,
        message.market_seq,
        message.trade_id,
        message.price_ticks,
        message.quantity_lots,
        Side(message.taker_side),
        message.t_us,
    )


async def _messages(call: Any, transport: Transport, *, may_be_silent: bool) -> AsyncIterator[Any]:
    """Yield what a stream sends until it ends, or has been silent for too long.

    Args:
        call: the stream.
        transport: that it belongs to.
        may_be_silent: silence says nothing as long as the exchange answers another call on the connection.
    """
    while True:
        reading = asyncio.ensure_future(call.read())
        try:
            while not (await asyncio.wait({reading}, timeout=SILENCE_S))[0]:
                if not may_be_silent:
                    return
                try:
                    await transport.once(transport.market_data.GetExchange, data_pb2.GetExchangeRequest())
                except ClientError:
                    return
            message = reading.result()
        finally:
            # Cancelling a read cancels the call, so it is done only where the call has no more use.
            reading.cancel()
        if message is grpc.aio.EOF:
            # read() gives EOF for a stream that failed, too; its code tells.
            code = await call.code()
            if code is not grpc.StatusCode.OK:
                raise grpc.aio.AioRpcError(
                    code, await call.initial_metadata(), await call.trailing_metadata(), await call.details()
                )
            return
        yield message


async def _before_next(failed: grpc.aio.AioRpcError, address: str, backoff: Backoff) -> None:
    """Wait until a stream may be asked for again.

    Raises:
        ClientError: that will not help.
    """
    error = error_of(failed, address)
    if not error.may_help_to_retry and error.reason != TOO_SLOW:
        raise error from failed
    await asyncio.sleep(backoff.next_s(error.retry_after_ms))


def _seqs_of(wrapped: Any, account: int) -> list[int]:
    """Return the sequence numbers that an event has for an account, ascending; two in a trade with itself."""
    event = getattr(wrapped, wrapped.WhichOneof("event") or "", None)
    if isinstance(event, _TRADE):
        pairs = ((event.maker_account, event.maker_account_seq), (event.taker_account, event.taker_account_seq))
        return [seq for owner, seq in pairs if owner == account and seq]
    seq = getattr(event, "account_seq", 0)
    return [seq] if seq and getattr(event, "account", 0) == account else []


_TRADE: Final = event_pb2.Trade
