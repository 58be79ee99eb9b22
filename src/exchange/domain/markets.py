"""Markets, assets and shard settings (proto/clob/v1/market.proto), with the rules that a definition must keep."""

import re
from enum import IntEnum

import msgspec

from exchange.domain.limits import TABLE_ROWS_MAX
from exchange.domain.record import Record, known
from exchange.domain.units import PPM, PRICE_TICKS_MAX, SHARD_MAX


class MarketState(IntEnum):
    OPEN = 1
    POST_ONLY = 2
    CANCEL_ONLY = 3
    HALTED = 4


class TickRule(Record, frozen=True):
    from_price_ticks: int = 0
    multiple_ticks: int = 0


class LotRule(Record, frozen=True):
    from_price_ticks: int = 0
    multiple_lots: int = 0


class Market(Record, frozen=True):
    market: int = 0
    shard: int = 0
    symbol: str = ""
    base_asset: int = 0
    quote_asset: int = 0
    base_units_per_lot: int = 0
    quote_units_per_tick_lot: int = 0
    tick_table: tuple[TickRule, ...] = ()
    lot_table: tuple[LotRule, ...] = ()
    band_low_ticks: int = 0
    band_high_ticks: int = 0
    band_ppm: int = 0
    maker_fee_ppm: int = 0
    taker_fee_ppm: int = 0
    state: int = 0


class Asset(Record, frozen=True):
    asset: int = 0
    symbol: str = ""
    decimals: int = 0


class ShardSettings(Record, frozen=True):
    max_validity_ms: int = 0
    live_nonces_per_key_max: int = 0
    open_orders_per_account_max: int = 0


DEFAULT_SETTINGS = ShardSettings(
    max_validity_ms=60_000, live_nonces_per_key_max=65_536, open_orders_per_account_max=100_000
)
MARKET_FIXED_FIELDS = (
    "market",
    "shard",
    "symbol",
    "base_asset",
    "quote_asset",
    "base_units_per_lot",
    "quote_units_per_tick_lot",
)
"""What never changes once a market is defined: changing it would change what open orders and balances mean."""

_SYMBOL = re.compile(r"[A-Z0-9._-]{1,32}")
_TAG = re.compile(r"[a-z0-9-]{1,32}")


def symbol_is_valid(symbol: str) -> bool:
    """Return whether a market or an asset may have this symbol."""
    return _SYMBOL.fullmatch(symbol) is not None


def tag_is_valid(tag: str) -> bool:
    """Return whether a shard's keys on the bus may have this hash tag."""
    return _TAG.fullmatch(tag) is not None


def market_is_valid(market: Market) -> bool:
    """Return whether the settings keep the bounds of market.proto and do not contradict themselves."""
    return (
        0 < market.market
        and 0 < market.shard <= SHARD_MAX
        and symbol_is_valid(market.symbol)
        and 0 < market.base_asset
        and 0 < market.quote_asset
        and market.base_asset != market.quote_asset
        and 0 < market.base_units_per_lot <= PRICE_TICKS_MAX
        and 0 < market.quote_units_per_tick_lot <= PRICE_TICKS_MAX
        and _table_is_valid([(row.from_price_ticks, row.multiple_ticks) for row in market.tick_table])
        and _table_is_valid([(row.from_price_ticks, row.multiple_lots) for row in market.lot_table])
        and market.band_low_ticks <= PRICE_TICKS_MAX
        and market.band_high_ticks <= PRICE_TICKS_MAX
        and (market.band_high_ticks == 0 or market.band_low_ticks <= market.band_high_ticks)
        and market.band_ppm <= PPM
        and market.maker_fee_ppm <= PPM
        and market.taker_fee_ppm <= PPM
        and known(MarketState, market.state)
    )


def with_state(market: Market, state: int) -> Market:
    """Return the market in another state."""
    return msgspec.structs.replace(market, state=state)


def settings_are_valid(settings: ShardSettings) -> bool:
    """Return whether the settings keep the bounds of market.proto."""
    return (
        0 < settings.max_validity_ms <= 86_400_000
        and 0 < settings.live_nonces_per_key_max <= 1_048_576
        and 0 < settings.open_orders_per_account_max <= 10_000_000
    )


def _table_is_valid(rows: list[tuple[int, int]]) -> bool:
    if len(rows) > TABLE_ROWS_MAX:
        return False
    starts = [start for start, _ in rows]
    ascending = starts == sorted(set(starts))
    in_bounds = all(start <= PRICE_TICKS_MAX and 0 < multiple <= PRICE_TICKS_MAX for start, multiple in rows)
    return ascending and in_bounds and (not rows or starts[0] == 1)
