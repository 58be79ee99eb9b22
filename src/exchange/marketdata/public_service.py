"""MarketDataService: what everybody may see."""

import time
from bisect import bisect_right
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from clob.v1 import market_data_service_pb2 as api
from clob.v1.door_reason_pb2 import DoorReason
from clob.v1.market_pb2 import Market
from exchange.config.environment import Environment
from exchange.domain.rejects import RejectReason
from exchange.domain.units import CONTROL_SHARD, SHARD_MAX
from exchange.marketdata.book import Book
from exchange.marketdata.book_feed import BookFeed, snapshot_of
from exchange.marketdata.fold import ShardFold
from exchange.marketdata.outbox import unavailable
from exchange.marketdata.paging import PAGE_SIZE_MAX, page_size, read_token, write_token
from exchange.marketdata.reader import Reader, ShardUnavailable, Source
from exchange.marketdata.trade_feed import TradeFeed, public
from exchange.serving.bounds import Bounds, Each, check_bounds
from exchange.serving.errors import Refusal, refused, rejected

SERVICE: Final = "clob.v1.MarketDataService"
LEVELS: Final = 20
LEVELS_MAX: Final = 1_000
TRADES: Final = 100
TRADES_MAX: Final = 1_000
MARKETS_MAX: Final = 1_000
_U32_MAX: Final = 2**32 - 1
_MARKET: Final = Bounds(1, _U32_MAX)
_PAGE_SIZE: Final = Bounds(1, PAGE_SIZE_MAX, or_zero=True)


class PublicService:
    """Answers from the reader's folds."""

    def __init__(
        self, reader: Reader, environment: Environment, version: str, books: BookFeed, trades: TradeFeed
    ) -> None:
        self._reader = reader
        self._environment = environment
        self._version = version
        self._books = books
        self._trades = trades
        self._symbols: dict[str, int] = {}

    def handlers(self) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
        """Return the handlers of the service's methods; streams give encoded messages."""
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        return {
            "GetExchange": unary(
                self.get_exchange, api.GetExchangeRequest.FromString, api.GetExchangeResponse.SerializeToString
            ),
            "ListAssets": unary(
                self.list_assets, api.ListAssetsRequest.FromString, api.ListAssetsResponse.SerializeToString
            ),
            "ListMarkets": unary(
                self.list_markets, api.ListMarketsRequest.FromString, api.ListMarketsResponse.SerializeToString
            ),
            "GetBook": unary(self.get_book, api.GetBookRequest.FromString, api.GetBookResponse.SerializeToString),
            "ListTrades": unary(
                self.list_trades, api.ListTradesRequest.FromString, api.ListTradesResponse.SerializeToString
            ),
            "StreamBook": stream(self.stream_book, api.StreamBookRequest.FromString),
            "StreamTrades": stream(self.stream_trades, api.StreamTradesRequest.FromString),
        }

    # --- the exchange -----------------------------------------------------------------------------------------------

    async def get_exchange(self, request: api.GetExchangeRequest, context: Any) -> api.GetExchangeResponse:
        """Return what a client needs to know before it signs."""
        response = api.GetExchangeResponse(
            environment=self._environment.name,
            production=self._environment.production,
            durability=self._environment.durability.number,  # type: ignore[arg-type]
            server_time_us=time.time_ns() // 1000,
            version=self._version,
        )
        await self._freshen()
        for shard in sorted(self._reader.sources):
            response.shards.add(shard=shard, max_validity_ms=self._reader.settings(shard).max_validity_ms)
        return response

    async def list_assets(self, request: api.ListAssetsRequest, context: Any) -> api.ListAssetsResponse:
        """List assets, by number."""
        check_bounds(request, {"page_size": _PAGE_SIZE})
        (after,) = read_token(request.page_token, 1)
        await self._freshen()
        try:
            assets = self._reader.treasury.assets
        except ShardUnavailable as error:
            raise unavailable(str(error)) from error
        response = api.ListAssetsResponse()
        wanted = page_size(request.page_size)
        for number in sorted(number for number in assets if number > after):
            if len(response.assets) == wanted:
                response.next_page_token = write_token(response.assets[-1].asset)
                break
            response.assets.append(assets[number])
        return response

    async def list_markets(self, request: api.ListMarketsRequest, context: Any) -> api.ListMarketsResponse:
        """List markets, by number, as they are in their shards now."""
        check_bounds(request, {"page_size": _PAGE_SIZE, "shard": Bounds(0, SHARD_MAX)})
        (after,) = read_token(request.page_token, 1)
        await self._freshen()
        if request.shard and request.shard not in self._reader.sources:
            raise refused(DoorReason.DOOR_REASON_UNKNOWN_SHARD, f"shard: the shard map has no shard {request.shard}")
        response = api.ListMarketsResponse()
        numbers = self._reader.markets()
        if request.symbol:
            numbers = [number for number in (self._number_of(request.symbol),) if number]
        wanted = page_size(request.page_size)
        for place in range(bisect_right(numbers, after), len(numbers)):
            market = self._settings(numbers[place])
            if market is None or request.shard not in (0, market.shard):
                continue
            if len(response.markets) == wanted:
                response.next_page_token = write_token(response.markets[-1].market)
                break
            response.markets.append(market)
        return response

    def _settings(self, number: int) -> Market | None:
        found = self._reader.book(number)
        return found[1].settings if found else None

    def _number_of(self, symbol: str) -> int:
        """Return the market of a symbol; 0: there is none."""
        numbers = self._reader.markets()
        if len(self._symbols) != len(numbers):
            self._symbols = {
                book.settings.symbol: number
                for _, fold in self._reader.trading()
                for number, book in fold.books.items()
            }
        return self._symbols.get(symbol, 0)

    # --- books and trades -------------------------------------------------------------------------------------------

    async def get_book(self, request: api.GetBookRequest, context: Any) -> api.GetBookResponse:
        """Return the best levels of a book."""
        check_bounds(request, {"market": _MARKET, "levels_max": Bounds(1, LEVELS_MAX, or_zero=True)})
        await self._freshen()
        source, book = self._book(request.market)
        assert source.fold is not None
        return api.GetBookResponse(book=snapshot_of(book, source.fold.t_us, request.levels_max or LEVELS))

    async def list_trades(self, request: api.ListTradesRequest, context: Any) -> api.ListTradesResponse:
        """Return the last trades of a market, newest first."""
        check_bounds(request, {"market": _MARKET, "trades_max": Bounds(1, TRADES_MAX, or_zero=True)})
        await self._freshen()
        _, book = self._book(request.market)
        last = book.tape.before(request.before_market_seq, request.trades_max or TRADES)
        return api.ListTradesResponse(
            trades=[public(request.market, trade) for trade in last], market_seq=book.market_seq
        )

    async def stream_book(self, request: api.StreamBookRequest, context: Any) -> AsyncIterator[bytes]:
        """Send a snapshot of each book, then what changes."""
        check_bounds(request, {"markets": Bounds(1, MARKETS_MAX, each=_MARKET, unique=True)})
        await self._freshen()
        for market in request.markets:
            self._book(market)
        async for message in self._books.stream(list(request.markets), request.every_command):
            yield message

    async def stream_trades(self, request: api.StreamTradesRequest, context: Any) -> AsyncIterator[bytes]:
        """Send trades as they happen."""
        check_bounds(request, {"cursors": Each(1, MARKETS_MAX, {"market": _MARKET})}, _each_market_once)
        await self._freshen()
        for cursor in request.cursors:
            self._book(cursor.market)
        cursors = [(cursor.market, cursor.after_market_seq) for cursor in request.cursors]
        async for message in self._trades.stream(cursors):
            yield message

    def _book(self, market: int) -> tuple[Source, Book]:
        found = self._reader.book(market)
        if found is None:
            raise unknown_market(self._reader, market)
        return found

    async def _freshen(self) -> None:
        """Let what the caller was told before it asked be in the answer, where that is possible.

        Where it is not the answer is as old as its sequence numbers and times say: public data stay readable while the
        bus is away.
        """
        try:
            await self._reader.catch_up()
        except ShardUnavailable:
            return


def unknown_market(reader: Reader, market: int) -> Refusal:
    """Return what to raise for a market that no shard has, or none that can be read now."""
    waiting = [s for s in reader.sources.values() if s.shard != CONTROL_SHARD and not isinstance(s.fold, ShardFold)]
    if waiting:
        return unavailable(f"market {market} may be in shard {waiting[0].shard}, which cannot be read now")
    return rejected(RejectReason.UNKNOWN_MARKET, f"market {market} is in no shard; ListMarkets has those there are")


def _each_market_once(request: api.StreamTradesRequest) -> dict[str, str]:
    seen: set[int] = set()
    for place, cursor in enumerate(request.cursors):
        if cursor.market in seen:
            return {f"cursors[{place}].market": f"{cursor.market} comes twice"}
        seen.add(cursor.market)
    return {}
