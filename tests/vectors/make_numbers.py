"""Makes numbers.json: ids, notionals, holds, fees and band edges, from the rules in exact fractions."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate, pairwise
from math import ceil, floor
from typing import Any

LARGEST = 2**53 - 1
AMOUNT_MAX = 2**63 - 1
PPM = 1_000_000


def vectors() -> dict[str, Any]:
    """Return the document."""
    return {
        "format": 1,
        "what": "Numbers that an engine computes: names, notionals, holds, fees, and the edges of price bands.",
        "rule": (
            "ARCHITECTURE.md, Numbers and Names of things. order_id and trade_id: birth shard in the upper 12 bits, "
            "counter in the lower 52. Notional = price_ticks x quantity_lots x quote_units_per_tick_lot, base = lots x "
            "base_units_per_lot; an order that needs more than 2^63-1 units of an asset is refused, AMOUNT_TOO_LARGE "
            "(the product of three largest factors has 159 bits). Fees: per order and role, what was charged after "
            "each fill is ceil(notional so far x rate). A buy holds its notional and a fee: ceil at the taker's rate "
            "where it cannot rest, ceil at the maker's rate where it can rest and meets nothing, else ceil at the "
            "higher rate, and one unit more where both rates are above zero. Band: the last price less and plus its "
            "millionths, rounded towards it, from 1 to 2^53-1; the static edges where they are narrower, and alone "
            "where the two have nothing in common; 1 and 2^53-1 where there is no edge."
        ),
        "encoding": "all integers are decimal strings; null: refused",
        "names": [*_names()],
        "notional": [*_notional()],
        "holds": [*_holds()],
        "fees": [*_fees()],
        "bands": [*_bands()],
    }


def _text(**numbers: int | None) -> dict[str, str | None]:
    return {name: None if number is None else str(number) for name, number in numbers.items()}


def _names() -> Iterator[dict[str, str | None]]:
    for shard, counter in ((1, 1), (1, 2), (4095, 1), (1, 2**52 - 1), (4095, 2**52 - 1), (2048, 2**51)):
        yield _text(shard=shard, counter=counter, name=shard * 2**52 + counter)


def _notional() -> Iterator[dict[str, str | None]]:
    for price, lots, factor in (
        (1, 1, 1),
        (101_000, 25, 10),
        (LARGEST, 1, 1),
        (LARGEST, LARGEST, 1),
        (LARGEST, LARGEST, LARGEST),
        (2**21, 2**21, 2**21),
    ):
        yield _text(
            price_ticks=price, quantity_lots=lots, quote_units_per_tick_lot=factor, notional=price * lots * factor
        )


def _ceil_fee(notional: int, fee_ppm: int) -> int:
    return ceil(Fraction(notional * fee_ppm, PPM))


def _holds() -> Iterator[dict[str, Any]]:
    """Yield what an order needs free to be accepted, and what is locked once it rests."""
    for name, fees, price, lots, factor in (
        ("no-fees", (0, 0), 100, 3, 10),
        ("whole-fees", (10_000, 20_000), 100, 5, 10),
        ("rounded-up", (1, 2), 100, 3, 10),
        ("maker-pays-more", (2_500, 100), 101, 7, 3),
        ("only-maker-pays", (333, 0), 101, 7, 3),
        ("only-taker-pays", (0, 333), 101, 7, 3),
        ("all-of-it", (PPM, PPM), 99, 1, 1),
    ):
        yield _buy(name, fees, price, lots, factor)
    # 2^63-1 = 7 x 7 x 73 x 127 x 337 x 92737 x 649657.
    price = 7 * 7 * 73 * 127 * 337
    lots = AMOUNT_MAX // price
    yield _buy("largest-notional", (0, 0), price, lots, 1)
    yield _buy("one-lot-too-many", (0, 0), price, lots + 1, 1)
    yield _buy("one-unit-of-fee-too-many", (1, 1), price, lots, 1)
    yield _buy("2^63", (0, 0), 2**52, 2**11, 1)
    yield _buy("2^64", (0, 0), 2**52, 2**12, 1)
    yield _buy("2^128", (0, 0), 2**52, 2**52, 2**24)
    yield _buy("largest-factors", (PPM, PPM), LARGEST, LARGEST, LARGEST)
    for name, lots, units in (
        ("one-lot", 1, 1),
        ("many", 12, 10_000),
        ("largest-base", AMOUNT_MAX // 649_657, 649_657),
        ("one-lot-too-many", AMOUNT_MAX // 649_657 + 1, 649_657),
        ("2^64", 2**32, 2**32),
        ("largest-factors", LARGEST, LARGEST),
    ):
        needed = lots * units
        hold = needed if needed <= AMOUNT_MAX else None
        yield {
            "name": f"sell/{name}",
            "side": "2",
            **_text(maker_fee_ppm=PPM, taker_fee_ppm=PPM, price_ticks=1, quantity_lots=lots),
            **_text(quote_units_per_tick_lot=1, base_units_per_lot=units),
            **_text(hold_ioc=hold, hold_resting=hold, hold_crossing=hold, locked_resting=hold),
        }


def _buy(name: str, fees: tuple[int, int], price: int, lots: int, factor: int) -> dict[str, Any]:
    maker_ppm, taker_ppm = fees
    notional = price * lots * factor
    as_taker = notional + _ceil_fee(notional, taker_ppm)
    as_maker = notional + _ceil_fee(notional, maker_ppm)
    as_both = notional + _ceil_fee(notional, max(fees)) + (maker_ppm > 0 and taker_ppm > 0)

    def possible(units: int) -> int | None:
        return units if units <= AMOUNT_MAX else None

    return {
        "name": f"buy/{name}",
        "side": "1",
        **_text(maker_fee_ppm=maker_ppm, taker_fee_ppm=taker_ppm, price_ticks=price, quantity_lots=lots),
        **_text(quote_units_per_tick_lot=factor, base_units_per_lot=1),
        **_text(
            hold_ioc=possible(as_taker),
            hold_resting=possible(as_maker),
            hold_crossing=possible(as_both),
            locked_resting=possible(as_maker),
        ),
    }


def _fees() -> Iterator[dict[str, Any]]:
    """Yield fills of one order in one role, with the fee of each."""
    for name, fee_ppm, price, fills in (
        ("nothing", 0, 10, (1, 2, 3)),
        ("first-pays-for-many", 1, 10, (1, 1, 1, 99_997, 1, 100_000)),
        ("a-third", 333_333, 1, (1, 1, 1, 1, 1, 1, 1)),
        ("two-thirds", 666_667, 1, (1, 1, 1, 1)),
        ("all-of-it", PPM, 7, (1, 2, 3)),
        ("exact", 10_000, 100, (1, 1, 2)),
        ("just-below-and-just-above-a-unit", 1, 1, (999_999, 1, 1, 999_999, 1)),
        ("large", 123_457, LARGEST, (1, 500, 100)),
    ):
        notionals = [price * lots for lots in fills]
        charged = [_ceil_fee(so_far, fee_ppm) for so_far in accumulate(notionals)]
        fees = [after - before for before, after in pairwise([0, *charged])]
        yield {
            "name": name,
            **_text(fee_ppm=fee_ppm, price_ticks=price, quote_units_per_tick_lot=1),
            "fills_lots": [str(lots) for lots in fills],
            "fees_quote_units": [str(fee) for fee in fees],
        }


def _bands() -> Iterator[dict[str, str | None]]:
    for last, band_ppm, static_low, static_high in (
        (100, 100_000, 0, 0),
        (101, 100_000, 0, 0),
        (99, 1, 0, 0),
        (1, 999_999, 0, 0),
        (1, PPM, 0, 0),
        (3, 333_334, 0, 0),
        (1_000_000, 1, 0, 0),
        (999_999, 1, 0, 0),
        (LARGEST, PPM, 0, 0),
        (LARGEST, 1, 0, 0),
        (100, 100_000, 95, 103),
        (100, 100_000, 85, 115),
        (100, 0, 95, 103),
        (100, 0, 95, 0),
        (100, 0, 0, 103),
        (100, 100_000, 110, 200),
        (100, 100_000, 111, 200),
        (100, 100_000, 111, 0),
        (100, 100_000, 0, 89),
    ):
        static = static_low or 1, static_high or LARGEST
        low, high = static
        if band_ppm:
            low = max(low, ceil(last * Fraction(PPM - band_ppm, PPM)))
            high = min(high, floor(last * Fraction(PPM + band_ppm, PPM)))
        if low > high:
            low, high = static
        yield _text(
            last_price_ticks=last,
            band_ppm=band_ppm,
            band_low_ticks=static_low,
            band_high_ticks=static_high,
            lowest_ticks=low,
            highest_ticks=high,
        )
