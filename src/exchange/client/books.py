"""A local copy of a book, kept by a snapshot and what changed since."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from sortedcontainers import SortedDict

from exchange.domain.markets import MarketState


class BookGapError(Exception):
    """A change does not apply to the book as it is: something was missed, and a new snapshot is needed."""


class Level(NamedTuple):
    """All open orders of one price."""

    price_ticks: int
    quantity_lots: int
    orders: int


class LocalBook:
    """The book of one market.

    Attributes:
        market: its number.
        market_seq: sequence number of the last event that is in it.
        t_us: time of the last entry that is in it.
        state: MarketState, or a number that this client does not know.
        last_price_ticks: of the last trade; 0: none yet.
        complete: the snapshot has come to its end.
    """

    def __init__(self, market: int) -> None:
        self.market = market
        self.market_seq = 0
        self.t_us = 0
        self.state = 0
        self.last_price_ticks = 0
        self.complete = False
        self._continues = False
        self._bids: SortedDict[int, Level] = SortedDict()
        self._asks: SortedDict[int, Level] = SortedDict()

    @property
    def is_open(self) -> bool:
        """Whether the market takes every command."""
        return self.state == MarketState.OPEN

    @property
    def best_bid(self) -> Level | None:
        """The highest price to buy at; None: nobody does."""
        return self._bids.peekitem(-1)[1] if self._bids else None

    @property
    def best_ask(self) -> Level | None:
        """The lowest price to sell at; None: nobody does."""
        return self._asks.peekitem(0)[1] if self._asks else None

    def bids(self, levels_max: int | None = None) -> list[Level]:
        """Return levels of the buy side, best price first."""
        return list(reversed(self._bids.values()))[:levels_max]

    def asks(self, levels_max: int | None = None) -> list[Level]:
        """Return levels of the sell side, best price first."""
        return list(self._asks.values())[:levels_max]

    def snapshot(self, message: Any) -> None:
        """Take a BookSnapshot, or the next part of one."""
        if not self._continues:
            self._bids.clear()
            self._asks.clear()
        elif message.market_seq != self.market_seq:
            raise BookGapError(f"snapshot of market {self.market} at {self.market_seq} goes on at {message.market_seq}")
        _put(self._bids, message.bids)
        _put(self._asks, message.asks)
        self._take(message)
        self._continues = message.more
        self.complete = not message.more

    def delta(self, message: Any) -> None:
        """Take a BookDelta.

        Raises:
            BookGapError: it is not the next one; the book is unchanged.
        """
        if not self.complete or message.previous_market_seq != self.market_seq:
            raise BookGapError(
                f"market {self.market} is at {self.market_seq}, the change starts at {message.previous_market_seq}"
            )
        _put(self._bids, message.bids)
        _put(self._asks, message.asks)
        self._take(message)

    def _take(self, message: Any) -> None:
        self.market_seq = message.market_seq
        self.t_us = message.t_us
        self.last_price_ticks = message.last_price_ticks
        known = message.state in MarketState.__members__.values()
        self.state = MarketState(message.state) if known else message.state

    def __repr__(self) -> str:
        return f"LocalBook(market={self.market}, market_seq={self.market_seq}, {self.best_bid} / {self.best_ask})"


def book_of(message: Any) -> LocalBook:
    """Return the book that a GetBook answered with; levels beyond those asked for are not in it."""
    book = LocalBook(message.market)
    book.snapshot(message)
    return book


def _put(side: "SortedDict[int, Level]", levels: Iterable[Any]) -> None:
    for level in levels:
        if level.quantity_lots:
            side[level.price_ticks] = Level(level.price_ticks, level.quantity_lots, level.orders)
        else:
            side.pop(level.price_ticks, None)
