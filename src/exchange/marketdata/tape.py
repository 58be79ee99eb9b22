"""The tape of a market: its last trades, by sequence number."""

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

TRADES_KEPT: Final = 1_000
"""Trades that a tape keeps at least, once there were so many."""
_FIELDS: Final = 6


class TapeTrade(NamedTuple):
    """A trade as everybody sees it."""

    market_seq: int
    trade_id: int
    price_ticks: int
    quantity_lots: int
    taker_side: int
    t_us: int


class Tape:
    """The last trades of a market, 1,000 .. 2,000 of them, 48 bytes each.

    Attributes:
        complete_after: every trade of a higher sequence number that there ever was is on the tape.
    """

    __slots__ = ("_numbers", "complete_after")

    def __init__(self, complete_after: int) -> None:
        self.complete_after = complete_after
        self._numbers = array("Q")

    def __len__(self) -> int:
        return len(self._numbers) // _FIELDS

    def append(self, trade: tuple[int, int, int, int, int, int]) -> None:
        """Add the newest trade: the fields of a TapeTrade."""
        numbers = self._numbers
        numbers.extend(trade)
        if len(numbers) >= 2 * TRADES_KEPT * _FIELDS:
            gone = len(numbers) - TRADES_KEPT * _FIELDS
            self.complete_after = numbers[gone - _FIELDS]
            del numbers[:gone]

    def __iter__(self) -> Iterator[TapeTrade]:
        return (self[place] for place in range(len(self)))

    def __getitem__(self, place: int) -> TapeTrade:
        start = (place if place >= 0 else len(self) + place) * _FIELDS
        return TapeTrade(*self._numbers[start : start + _FIELDS])

    def place_after(self, market_seq: int) -> int:
        """Return the place of the first trade with a higher sequence number."""
        return bisect_right(range(len(self)), market_seq, key=lambda place: self._numbers[place * _FIELDS])

    def after(self, market_seq: int, trades_max: int) -> Iterator[TapeTrade]:
        """Yield the first trades with a higher sequence number, oldest first."""
        first = self.place_after(market_seq)
        return (self[place] for place in range(first, min(first + trades_max, len(self))))

    def before(self, market_seq: int, trades_max: int) -> Iterator[TapeTrade]:
        """Yield the last trades with a lower sequence number, newest first; 0: of all."""
        end = self.place_after(market_seq - 1) if market_seq else len(self)
        return (self[place] for place in range(end - 1, max(-1, end - 1 - trades_max), -1))
