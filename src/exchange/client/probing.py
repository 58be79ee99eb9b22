"""Orders to measure with: what rests away from the market, and what meets within it, as a market's rules have it."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt

from exchange.client.books import LocalBook
from exchange.domain.commands import Side
from exchange.domain.markets import Market
from exchange.domain.money import notional_of
from exchange.domain.units import AMOUNT_UNITS_MAX, PPM, PRICE_TICKS_MAX, ceil_div


@dataclass(frozen=True, slots=True)
class Probe:
    """An order that the rules of its market allow, and what it needs.

    Attributes:
        asset, needs_units: what it holds, at most.
    """

    market: Market
    side: Side
    price_ticks: int
    quantity_lots: int
    asset: int
    needs_units: int


def resting_probe(
    market: Market, book: LocalBook, free: Callable[[int], int], side: Side | None = None
) -> Probe | None:
    """Return the smallest order that rests as far from the market as it may, and that the account has funds for.

    Args:
        market: where.
        book: as it is now; its best levels are enough.
        free: units that are free of an asset in the market's shard.
        side: to take; None: to buy if that can be paid, else to sell.

    Returns:
        The order; None: the account has not enough, or the other side of the book is everywhere.
    """
    low, high = band(market, book.last_price_ticks)
    for wanted in (side,) if side is not None else (Side.BUY, Side.SELL):
        if wanted is Side.BUY:
            price_ticks = tick_from(market, low)
            away = book.best_ask is None or price_ticks < book.best_ask.price_ticks
        else:
            lots = max((row.multiple_lots for row in market.lot_table), default=1)
            lots_units = market.quote_units_per_tick_lot * lots
            price_ticks = tick_to(market, min(high, AMOUNT_UNITS_MAX // (4 * lots_units)))
            away = book.best_bid is None or price_ticks > book.best_bid.price_ticks
        if away and low <= price_ticks <= high:
            probe = probe_at(market, wanted, price_ticks)
            if probe.needs_units <= free(probe.asset):
                return probe
    return None


def meeting_price(resting: Probe, book: LocalBook) -> int:
    """Return a price between bid and ask, those of the resting probes included, near to the last trade; 0: none."""
    market = resting.market
    low, high = band(market, book.last_price_ticks)
    if resting.side is Side.BUY:
        low, default = max(low, resting.price_ticks + 1), 2 * resting.price_ticks
    else:
        high, default = min(high, resting.price_ticks - 1), resting.price_ticks // 2
    low = max(low, book.best_bid.price_ticks + 1) if book.best_bid else low
    high = min(high, book.best_ask.price_ticks - 1) if book.best_ask else high
    if market.band_low_ticks and market.band_high_ticks:
        default = isqrt(market.band_low_ticks * market.band_high_ticks)
    near = book.last_price_ticks or default
    price_ticks = tick_from(market, min(max(low, near), high))
    return price_ticks if low <= price_ticks <= high else 0


def probe_at(market: Market, side: Side, price_ticks: int, quantity_lots: int = 0) -> Probe:
    """Return an order at a price, of the smallest quantity unless one is given, with what it needs at most."""
    lots = quantity_lots or lot_multiple(market, price_ticks)
    if side is Side.SELL:
        return Probe(market, side, price_ticks, lots, market.base_asset, lots * market.base_units_per_lot)
    notional = notional_of(market, price_ticks, lots)
    fee = ceil_div(notional * max(market.maker_fee_ppm, market.taker_fee_ppm), PPM)
    return Probe(market, side, price_ticks, lots, market.quote_asset, notional + fee)


def band(market: Market, last_price_ticks: int) -> tuple[int, int]:
    """Return the lowest and highest price that the market allows, as the reference's `Book.band` does."""
    low, high = market.band_low_ticks or 1, market.band_high_ticks or PRICE_TICKS_MAX
    if market.band_ppm and last_price_ticks:
        near_low = max(low, ceil_div(last_price_ticks * (PPM - market.band_ppm), PPM))
        near_high = min(high, last_price_ticks * (PPM + market.band_ppm) // PPM)
        if near_low <= near_high:
            return near_low, near_high
    return low, high


def tick_from(market: Market, low: int) -> int:
    """Return the lowest price from `low` on that the tick table allows."""
    price_ticks = low
    while True:
        multiple = tick_multiple(market, price_ticks)
        rounded = ceil_div(price_ticks, multiple) * multiple
        if tick_multiple(market, rounded) == multiple:
            return rounded
        # Rounding up has led into the next row, which begins at one of its prices or before.
        price_ticks = max(row.from_price_ticks for row in market.tick_table if row.from_price_ticks <= rounded)


def tick_to(market: Market, high: int) -> int:
    """Return the highest price up to `high` that the tick table allows; 0: none."""
    price_ticks = high
    while price_ticks > 0:
        multiple = tick_multiple(market, price_ticks)
        rounded = price_ticks // multiple * multiple
        if rounded and tick_multiple(market, rounded) == multiple:
            return rounded
        starts = [row.from_price_ticks for row in market.tick_table if row.from_price_ticks <= price_ticks]
        price_ticks = max(starts, default=1) - 1
    return 0


def tick_multiple(market: Market, price_ticks: int) -> int:
    """Return of how many ticks a price must be a multiple."""
    rows = [row.multiple_ticks for row in market.tick_table if row.from_price_ticks <= price_ticks]
    return rows[-1] if rows else 1


def lot_multiple(market: Market, price_ticks: int) -> int:
    """Return of how many lots a quantity at this price must be a multiple."""
    rows = [row.multiple_lots for row in market.lot_table if row.from_price_ticks <= price_ticks]
    return rows[-1] if rows else 1
