"""Random choices that are the same for a seed on every machine, and the numbers that programs get wrong."""

import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final, TypeVar

T = TypeVar("T")

EDGES: Final = (0, 1, 2, 2**32 - 1, 2**32, 2**53 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
"""Where numbers change what they are: of other integers, of floats, of amounts, of words."""


class Draw:
    """Choices from a seed. All come from `getrandbits`, which no version of Python may change."""

    def __init__(self, seed: int) -> None:
        self._bits = random.Random(seed).getrandbits
        self._sums: dict[int, tuple[object, list[object], list[int]]] = {}

    def below(self, n: int) -> int:
        """Return 0 .. n-1."""
        return self._bits(64) * n >> 64

    def between(self, low: int, high: int) -> int:
        """Return low .. high."""
        return low + (self._bits(64) * (high - low + 1) >> 64)

    def one_in(self, n: int) -> bool:
        """Return true once in n times."""
        return self._bits(64) * n >> 64 == 0

    def falling(self, most: int) -> int:
        """Return 0 .. most, each half as often as the one before."""
        word = self._bits(most) | 1 << most
        return (word & -word).bit_length() - 1

    def bits(self, most: int) -> int:
        """Return a number of 1 .. most bits, each length as often."""
        return 1 << self.below(most) | self._bits(64) & (1 << self.below(most)) - 1

    def data(self, length: int) -> bytes:
        """Return bytes."""
        return self._bits(8 * length).to_bytes(length, "little") if length else b""

    def pick(self, items: Sequence[T]) -> T:
        """Return one of the items."""
        return items[self._bits(64) * len(items) >> 64]

    def weighted(self, weights: Mapping[T, int]) -> T:
        """Return a key, as often as its weight says; the mapping must not change."""
        there = self._sums.get(id(weights))
        if there is None or there[0] is not weights:
            there = self._sums[id(weights)] = (weights, list(weights), list(accumulate(weights.values())))
        _, keys, sums = there
        return keys[bisect_right(sums, self.below(sums[-1]))]  # type: ignore[return-value]

    def edge(self, most: int = 2**64 - 1) -> int:
        """Return a number from the edges, or from beside the largest, 0 .. most."""
        value = self.pick(EDGES)
        return value if value <= most else most - self.below(2)
