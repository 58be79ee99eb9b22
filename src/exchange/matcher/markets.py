"""Markets as a matcher is told them, and the one shard that has exactly these."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

MARKET_MAX: Final = 2**32 - 1
RANGE_MAX: Final = 1_000_000
"""Most markets in one range: a slip of the keyboard must not fill the memory."""

_RANGE: Final = re.compile(r"([1-9][0-9]{0,9})(?:-([1-9][0-9]{0,9}))?")


class MarketsError(ValueError):
    """What was named is no shard's complete set of markets, or no markets at all."""


def parse_markets(words: Iterable[str]) -> frozenset[int]:
    """Return the markets that words such as "7", "1-2100" or "1,2,9-12" name.

    Raises:
        MarketsError: a word names none.
    """
    markets: set[int] = set()
    for part in (part for word in words for part in word.split(",")):
        match = _RANGE.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= MARKET_MAX or last - first >= RANGE_MAX:
            raise MarketsError(
                f"MARKETS: {part!r} names no markets; write numbers from 1 such as 7, or ranges such as 1-2100"
            )
        markets.update(range(first, last + 1))
    return frozenset(markets)


def resolve(markets: Collection[int], markets_of: Mapping[int, Collection[int]]) -> int:
    """Return the shard whose markets are exactly these.

    Args:
        markets: at least one.
        markets_of: markets by shard, of all trading shards.

    Raises:
        MarketsError: there is no such shard; the message lists the shards that there are.
    """
    wanted = frozenset(markets)
    named = {shard: wanted & frozenset(found) for shard, found in markets_of.items() if wanted & frozenset(found)}
    unknown = wanted.difference(*named.values()) if named else wanted
    if len(named) == 1 and not unknown:
        [shard] = named
        missing = frozenset(markets_of[shard]) - wanted
        if not missing:
            return shard
        why = f"shard {shard} also has {ranges(missing)}, and a matcher serves all markets of its shard"
    elif len(named) > 1:
        why = f"they are in {len(named)} shards ({ranges(named)}), and a matcher serves one"
    else:
        why = f"there are no markets {ranges(unknown)}"
    raise MarketsError(f"MARKETS: {ranges(wanted)} are not the markets of a shard: {why}\n{describe(markets_of)}")


def resolve_shard(shard: int, markets_of: Mapping[int, Collection[int]]) -> int:
    """Return the shard if it is in the map.

    Raises:
        MarketsError: it is not; the message lists the shards that there are.
    """
    if shard not in markets_of:
        raise MarketsError(f"SHARD: the shard map has no shard {shard}\n{describe(markets_of)}")
    return shard


def describe(markets_of: Mapping[int, Collection[int]]) -> str:
    """Return a line for each shard: its number, its markets, and how many they are."""
    if not markets_of:
        return "there are no shards yet; define one with `clob shard define`"
    lines = [
        f"  --shard {shard}: {ranges(markets) or 'no markets'} ({len(markets):,})"
        for shard, markets in sorted(markets_of.items())
    ]
    return "\n".join(["the shards are:", *lines])


def ranges(numbers: Iterable[int], parts_max: int = 12) -> str:
    """Return numbers as ascending ranges such as "1-5, 7"; cut after `parts_max` of them."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in parts[:parts_max]]
    return ", ".join([*shown, f"and {len(parts) - parts_max:,} ranges more"] if len(parts) > parts_max else shown)
