"""What a client knows of an exchange: its name, its clock, its shards, its markets and assets."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, cast

from clob.v1 import market_data_service_pb2 as data_pb2
from clob.v1 import outcome_pb2
from exchange.client.errors import ClientError
from exchange.client.instructions import MarketName
from exchange.client.transport import Transport
from exchange.domain.markets import Asset, LotRule, Market, TickRule
from exchange.domain.signing import check_environment

PAGE: Final = 1_000
OFFSET_MAX_US: Final = 600_000_000
"""A clock that is further off is for its owner to mend: the server's word is not taken for more."""
REFRESH_S: Final = 1.0
"""All markets are listed again at most this often for numbers that nobody knows."""


@dataclass(frozen=True, slots=True)
class ExchangeInfo:
    """An exchange as it describes itself.

    Attributes:
        max_validity_ms: longest validity of a batch, by shard; shard 0 too.
        clock_offset_us: what to add to this machine's clock to get the server's; half a round trip uncertain.
    """

    environment: str
    production: bool
    durability: str
    version: str
    max_validity_ms: dict[int, int]
    clock_offset_us: int


class Directory:
    """Looks up, and keeps, what was looked up.

    The environment is pinned: what the caller told, or what the server said first. Another name later, from whichever
    server answers then, is an error, and nothing is signed.
    """

    def __init__(self, transport: Transport, environment: str | None) -> None:
        if environment is not None:
            check_environment(environment)
        self._transport = transport
        self._environment = environment
        self._info: ExchangeInfo | None = None
        self._by_number: dict[int, Market] = {}
        self._by_symbol: dict[str, Market] = {}
        self._listed_s = -REFRESH_S
        self._listing = asyncio.Lock()

    @property
    def info(self) -> ExchangeInfo:
        """What the exchange said when it was asked last."""
        assert self._info is not None, "connect() asks before anything else"
        return self._info

    @property
    def environment(self) -> str:
        """The environment that everything is signed for."""
        assert self._environment is not None, "connect() asks before anything else"
        return self._environment

    def now_ms(self) -> int:
        """Return the exchange's time, in milliseconds."""
        return (time.time_ns() // 1000 + self.info.clock_offset_us) // 1000

    async def ask_exchange(self) -> ExchangeInfo:
        """Ask the exchange about itself and compare its name with the pinned one.

        Raises:
            ClientError: WRONG_ENVIRONMENT, or CLOCK_OFF where this machine's clock is not to be trusted.
        """
        sent_us = time.time_ns() // 1000
        answer = await self._transport.read(self._transport.market_data.GetExchange, data_pb2.GetExchangeRequest())
        got_us = time.time_ns() // 1000
        self.check_environment(answer.environment)
        self._environment = answer.environment
        offset_us = answer.server_time_us - (sent_us + got_us) // 2
        # Within the round trip the two clocks may as well be equal; then ours is steadier.
        offset_us = 0 if abs(offset_us) <= max(got_us - sent_us, 1_000) else offset_us
        if abs(offset_us) > OFFSET_MAX_US:
            raise ClientError(
                "CLOCK_OFF",
                f"this machine's clock is {abs(offset_us) // 1_000_000} s off the exchange's; set it: what is signed "
                "must not be valid for longer than meant",
            )
        self._info = ExchangeInfo(
            environment=answer.environment,
            production=answer.production,
            durability=durability_name(answer.durability),
            version=answer.version,
            max_validity_ms={shard.shard: shard.max_validity_ms for shard in answer.shards},
            clock_offset_us=offset_us,
        )
        return self._info

    def check_environment(self, told: str) -> None:
        """Compare a name that a server told with the pinned one.

        Raises:
            ClientError: WRONG_ENVIRONMENT, it is another.
        """
        check_environment(told)
        if self._environment is not None and told != self._environment:
            raise ClientError(
                "WRONG_ENVIRONMENT",
                f"{self._transport.address} is environment {told!r} and this client signs for {self._environment!r} "
                "only; nothing was signed. Connect to the right address, or name the environment that you mean",
            )

    async def validity_ms(self, shard: int, wanted_ms: int) -> int:
        """Return how long a batch for a shard may be valid: what is wanted, or the most that the shard allows.

        Raises:
            ClientError: UNKNOWN_SHARD.
        """
        if shard not in self.info.max_validity_ms:
            await self.ask_exchange()
        most_ms = self.info.max_validity_ms.get(shard)
        if most_ms is None:
            raise ClientError("UNKNOWN_SHARD", f"shard {shard}: the exchange has {sorted(self.info.max_validity_ms)}")
        # A tenth, up to a second, is left for clocks that differ.
        return max(1, min(wanted_ms, most_ms - min(1_000, most_ms // 10)))

    async def market(self, name: MarketName) -> Market:
        """Return a market by symbol or number. One that is not known yet is looked up.

        Raises:
            ClientError: UNKNOWN_MARKET.
        """
        known = self._by_number.get(name) if isinstance(name, int) else self._by_symbol.get(name.upper())
        if known is not None:
            return known
        return await (self._look_up_number(name) if isinstance(name, int) else self._look_up_symbol(name.upper()))

    async def markets(self, shard: int = 0) -> list[Market]:
        """Return all markets, or a shard's, by number, as they are now."""
        return [market async for page in self.market_pages(shard) for market in page]

    async def market_pages(self, shard: int = 0) -> AsyncIterator[list[Market]]:
        """Yield all markets, or a shard's, by number, page by page."""
        token = ""
        while True:
            request = data_pb2.ListMarketsRequest(shard=shard, page_size=PAGE, page_token=token)
            page = await self._transport.read(self._transport.market_data.ListMarkets, request)
            yield [self._keep(market_of(market)) for market in page.markets]
            token = page.next_page_token
            if not token:
                return

    async def assets(self) -> list[Asset]:
        """Return all assets, by number."""
        found: list[Asset] = []
        token = ""
        while True:
            request = data_pb2.ListAssetsRequest(page_size=PAGE, page_token=token)
            page = await self._transport.read(self._transport.market_data.ListAssets, request)
            found += [Asset(asset.asset, asset.symbol, asset.decimals) for asset in page.assets]
            token = page.next_page_token
            if not token:
                return found

    def forget(self, market: int) -> None:
        """Look a market up again next time: its shard said that it is not there."""
        known = self._by_number.pop(market, None)
        if known is not None:
            self._by_symbol.pop(known.symbol, None)

    async def _look_up_symbol(self, symbol: str) -> Market:
        request = data_pb2.ListMarketsRequest(symbol=symbol)
        page = await self._transport.read(self._transport.market_data.ListMarkets, request)
        if page.markets:
            return self._keep(market_of(page.markets[0]))
        if symbol.isascii() and symbol.isdigit():
            return await self._look_up_number(int(symbol))
        raise ClientError("UNKNOWN_MARKET", f"market {symbol!r}: no such symbol here; list_markets() names them all")

    async def _look_up_number(self, number: int) -> Market:
        async with self._listing:
            if number not in self._by_number and time.monotonic() - self._listed_s >= REFRESH_S:
                await self.markets()
                self._listed_s = time.monotonic()
        known = self._by_number.get(number)
        if known is None:
            raise ClientError("UNKNOWN_MARKET", f"market {number}: no such number here; list_markets() names them all")
        return known

    def _keep(self, market: Market) -> Market:
        self._by_number[market.market] = market
        self._by_symbol[market.symbol] = market
        return market


def durability_name(durability: int) -> str:
    """Return the word for a durability: memory, fsync, or its number where this client is older than the server."""
    known = outcome_pb2.Durability.values()
    name = outcome_pb2.Durability.Name(cast(Any, durability)) if durability in known else ""
    return name.removeprefix("DURABILITY_").lower() or str(durability)


def market_of(message: Any) -> Market:
    """Return a market as a record."""
    return Market(
        market=message.market,
        shard=message.shard,
        symbol=message.symbol,
        base_asset=message.base_asset,
        quote_asset=message.quote_asset,
        base_units_per_lot=message.base_units_per_lot,
        quote_units_per_tick_lot=message.quote_units_per_tick_lot,
        tick_table=tuple(TickRule(row.from_price_ticks, row.multiple_ticks) for row in message.tick_table),
        lot_table=tuple(LotRule(row.from_price_ticks, row.multiple_lots) for row in message.lot_table),
        band_low_ticks=message.band_low_ticks,
        band_high_ticks=message.band_high_ticks,
        band_ppm=message.band_ppm,
        maker_fee_ppm=message.maker_fee_ppm,
        taker_fee_ppm=message.taker_fee_ppm,
        state=message.state,
    )
