"""What orders cost: notional, fees and holds (ARCHITECTURE.md, "Numbers"). Products may exceed 64 bits."""

from exchange.domain.commands import Side
from exchange.domain.markets import Market
from exchange.domain.units import PPM, ceil_div


def notional_of(market: Market, price_ticks: int, quantity_lots: int) -> int:
    """Return ticks x lots x quote_units_per_tick_lot, in quote units."""
    return price_ticks * quantity_lots * market.quote_units_per_tick_lot


def fee_of(notional: int, fee_ppm: int, prepaid_ppm: int) -> tuple[int, int]:
    """Return the fee to charge for one more fill of an order in one role, and what is then prepaid.

    Per order and role the charges add up to ceil(cumulative notional x rate). Instead of the cumulative notional, which
    has no bound, an order carries what rounding up has made it pay ahead.

    Args:
        notional: of the fill, in quote units.
        fee_ppm: the order's rate in this role, 0 .. 1,000,000.
        prepaid_ppm: millionths of a unit paid ahead, 0 .. 999,999.
    """
    due_ppm = notional * fee_ppm - prepaid_ppm
    fee = max(0, ceil_div(due_ppm, PPM))
    return fee, fee * PPM - due_ppm


def resting_hold(
    market: Market, side: int, price_ticks: int, open_lots: int, maker_fee_ppm: int, maker_prepaid_ppm: int
) -> tuple[int, int]:
    """Return the asset and the units that an order needs while it rests: exactly what filling it as a maker costs."""
    if side == Side.SELL:
        return market.base_asset, open_lots * market.base_units_per_lot
    notional = notional_of(market, price_ticks, open_lots)
    return market.quote_asset, notional + fee_of(notional, maker_fee_ppm, maker_prepaid_ppm)[0]
