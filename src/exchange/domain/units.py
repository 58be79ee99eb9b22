"""Integer units and their bounds.

Prices count ticks, quantities count lots, amounts count the smallest units of an asset, rates count millionths. There
are no floats anywhere in the contracts, the engine or the ledger.
"""

from typing import Final

PRICE_TICKS_MAX: Final = 2**53 - 1
QUANTITY_LOTS_MAX: Final = 2**53 - 1
AMOUNT_UNITS_MAX: Final = 2**63 - 1
"""Largest amount of an asset, and of all deposits of it together."""
TIME_US_MAX: Final = 2**53 - 1
PPM: Final = 1_000_000
SHARD_MAX: Final = 4095
CONTROL_SHARD: Final = 0
"""Shard 0: users, keys, markets and the treasury. It does not trade."""
COUNTER_BITS: Final = 52


def ceil_div(dividend: int, divisor: int) -> int:
    """Return dividend / divisor rounded towards plus infinity; divisor > 0."""
    return -(-dividend // divisor)


def name_of(shard: int, counter: int) -> int:
    """Return the order_id or trade_id of a shard's counter: birth shard in 12 bits, counter in 52."""
    assert 0 < shard <= SHARD_MAX
    assert 0 < counter < 1 << COUNTER_BITS
    return shard << COUNTER_BITS | counter
