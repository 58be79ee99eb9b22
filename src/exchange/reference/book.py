"""One market's book: open orders by price, then time."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from sortedcontainers import SortedDict

from exchange.domain.commands import Side
from exchange.domain.markets import Market, MarketState
from exchange.domain.units import PPM, PRICE_TICKS_MAX, ceil_div


@dataclass(slots=True, eq=False)
class Order:
    """An order from its acceptance to its end; `held_units` are held for it, of quote to buy, of base to sell."""

    order_id: int
    client_order_id: int
    account: int
    market: int
    side: Side
    price_ticks: int
    open_lots: int
    filled_lots: int
    post_only: bool
    self_trade_prevention: int
    maker_fee_ppm: int
    taker_fee_ppm: int
    maker_prepaid_ppm: int = 0
    taker_prepaid_ppm: int = 0
    held_units: int = 0


class Book:
    """Settings of a market and its open orders.

    `levels[side]` maps a price, negated for bids so that the best comes first, to the orders there, oldest first.
    """

    def __init__(self, market: Market, market_seq: int = 0, last_price_ticks: int = 0) -> None:
        self.market = market
        self.market_seq = market_seq
        self.last_price_ticks = last_price_ticks
        self.levels: dict[Side, SortedDict[int, OrderedDict[int, Order]]] = {side: SortedDict() for side in Side}

    @property
    def state(self) -> MarketState:
        """What traders may do now."""
        return MarketState(self.market.state)

    def add(self, order: Order) -> None:
        """Put an order behind all others of its price."""
        self.levels[order.side].setdefault(_key(order.side, order.price_ticks), OrderedDict())[order.order_id] = order

    def remove(self, order: Order) -> None:
        """Take an order out; its price must be the one that it was added with."""
        level = self.levels[order.side]
        key = _key(order.side, order.price_ticks)
        del level[key][order.order_id]
        if not level[key]:
            del level[key]

    def first(self, side: Side) -> Order | None:
        """Return the order that trades next: the oldest one at the best price."""
        return next(self.orders(side), None)

    def orders(self, side: Side) -> Iterator[Order]:
        """Yield the orders of a side in the order in which they trade."""
        for level in self.levels[side].values():
            yield from level.values()

    def depth(self, side: Side, levels_max: int) -> list[tuple[int, int]]:
        """Return (price_ticks, quantity_lots) of the best levels of a side, best first."""
        return [
            (abs(key), sum(order.open_lots for order in self.levels[side][key].values()))
            for key in self.levels[side].islice(stop=levels_max)
        ]

    def crosses(self, side: Side, price_ticks: int) -> bool:
        """Return whether an order of this side and price would meet one of the other side."""
        best = self.first(side.opposite)
        return best is not None and meets(side, price_ticks, best.price_ticks)

    def band(self) -> tuple[int | None, int | None]:
        """Return the lowest and highest price that an order may name; None: no edge.

        The static edges, and those around the last trade once there was one, rounded towards it; the narrower counts.
        Where the two have nothing in common, because the market moved its static edges away from the last trade, the
        static ones count alone: no band keeps every order out.
        """
        lows = [self.market.band_low_ticks] if self.market.band_low_ticks else []
        highs = [self.market.band_high_ticks] if self.market.band_high_ticks else []
        if self.market.band_ppm and self.last_price_ticks:
            lows.append(max(1, ceil_div(self.last_price_ticks * (PPM - self.market.band_ppm), PPM)))
            highs.append(min(PRICE_TICKS_MAX, self.last_price_ticks * (PPM + self.market.band_ppm) // PPM))
        low, high = max(lows, default=None), min(highs, default=None)
        if low is not None and high is not None and low > high:
            return self.market.band_low_ticks or None, self.market.band_high_ticks or None
        return low, high

    def tick_multiple(self, price_ticks: int) -> int:
        """Return of how many ticks this price must be a multiple."""
        rows = [row for row in self.market.tick_table if row.from_price_ticks <= price_ticks]
        return rows[-1].multiple_ticks if rows else 1

    def lot_multiple(self, price_ticks: int) -> int:
        """Return of how many lots a quantity at this price must be a multiple."""
        rows = [row for row in self.market.lot_table if row.from_price_ticks <= price_ticks]
        return rows[-1].multiple_lots if rows else 1


def meets(side: Side, price_ticks: int, opposite_price_ticks: int) -> bool:
    """Return whether an order of `side` at `price_ticks` trades with one at `opposite_price_ticks`."""
    if side is Side.BUY:
        return price_ticks >= opposite_price_ticks
    return price_ticks <= opposite_price_ticks


def _key(side: Side, price_ticks: int) -> int:
    return -price_ticks if side is Side.BUY else price_ticks
