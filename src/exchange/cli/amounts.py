"""Amounts as people write and read them: decimals of an asset, exact, never through a float."""

import re
from typing import Final

from clob.v1.market_pb2 import Asset
from exchange.domain.units import AMOUNT_UNITS_MAX

_DECIMAL: Final = re.compile(r"([0-9][0-9_,]*)(?:\.([0-9]+))?")


class AmountError(ValueError):
    """A text is no amount of the asset; the message says what one is."""


def parse_amount(text: str, asset: Asset) -> int:
    """Return the smallest units in an amount such as `1,000.50`.

    Raises:
        AmountError: it is no positive decimal, has more decimals than the asset, or is 2^63 units or more.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise AmountError(f"{text!r} is no amount; write it like 1000.50, or count smallest units with --units")
    whole, fraction = match[1].replace(",", "").replace("_", ""), (match[2] or "").rstrip("0")
    if len(fraction) > asset.decimals:
        raise AmountError(
            f"{text} {asset.symbol} has {len(fraction)} decimals, {asset.symbol} has {asset.decimals}; the smallest "
            f"amount is {draw_units(1, asset)}"
        )
    units = int(whole + fraction.ljust(asset.decimals, "0"))
    if not 0 < units <= AMOUNT_UNITS_MAX:
        raise AmountError(f"{text} {asset.symbol} is {units} smallest units, must be 1 .. {AMOUNT_UNITS_MAX}")
    return units


def draw_units(units: int, asset: Asset | None) -> str:
    """Return an amount in the asset's own decimals, `1,000.5 USD`; an unknown asset's in smallest units."""
    if asset is None:
        return f"{units:,} units"
    whole, fraction = divmod(abs(units), 10**asset.decimals)
    sign = "-" if units < 0 else ""
    rest = str(fraction).rjust(asset.decimals, "0").rstrip("0") if asset.decimals else ""
    return f"{sign}{whole:,}{'.' + rest if rest else ''} {asset.symbol}"
