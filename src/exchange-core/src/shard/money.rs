//! What orders cost: notional, fees and holds (`exchange.domain.money`). Products may exceed 64 bits.

use crate::kinds::Side;
use crate::shard::market::MarketSettings;
use crate::units::{AMOUNT_UNITS_MAX, PPM};
use crate::wire::messages::{Market, RestingOrder};

/// Return ticks x lots x `quote_units_per_tick_lot`, in quote units; None: above 2^63 - 1.
#[inline]
pub(crate) fn notional_of(market: &MarketSettings, price_ticks: u64, quantity_lots: u64) -> Option<u64> {
    let product = u128::from(price_ticks) * u128::from(quantity_lots);
    let units = product.checked_mul(u128::from(market.quote_units_per_tick_lot))?;
    u64::try_from(units).ok().filter(|&units| units <= AMOUNT_UNITS_MAX)
}

/// Return the fee to charge for one more fill of an order in one role, and what is then prepaid.
///
/// Per order and role the charges add up to the cumulative notional times the rate, rounded up once. `prepaid_ppm`,
/// 0 .. 999,999, is what rounding up has made the order pay ahead.
#[inline]
pub(crate) fn fee_of(notional: u64, fee_ppm: u32, prepaid_ppm: u32) -> (u64, u32) {
    if let Some(due) = notional.checked_mul(u64::from(fee_ppm)) {
        let prepaid = u64::from(prepaid_ppm);
        if due <= prepaid {
            return (0, (prepaid - due) as u32);
        }
        let due = due - prepaid;
        let fee = due.div_ceil(PPM);
        return (fee, (fee.wrapping_mul(PPM).wrapping_sub(due)) as u32);
    }
    // 2^63 x 10^6 fits 83 bits.
    let due = u128::from(notional) * u128::from(fee_ppm) - u128::from(prepaid_ppm);
    let fee = due.div_ceil(u128::from(PPM));
    (fee as u64, (fee * u128::from(PPM) - due) as u32)
}

/// Return the units that an order needs while it rests: exactly what filling it as a maker costs.
#[inline]
pub(crate) fn resting_hold(
    market: &MarketSettings,
    side: Side,
    price_ticks: u64,
    open_lots: u64,
    maker_fee_ppm: u32,
    maker_prepaid_ppm: u32,
) -> u64 {
    match side {
        Side::Sell => open_lots.wrapping_mul(market.base_units_per_lot),
        Side::Buy => {
            let notional = notional_of(market, price_ticks, open_lots).unwrap_or(AMOUNT_UNITS_MAX);
            notional.wrapping_add(fee_of(notional, maker_fee_ppm, maker_prepaid_ppm).0)
        }
    }
}

/// Return the asset that an order in a state holds, and how much of it, as `resting_hold` says; of numbers that no
/// engine has written, at least 2^64.
#[must_use]
pub fn resting_hold_of(market: &Market<'_>, side: Side, order: &RestingOrder) -> (u32, u128) {
    let lots = u128::from(order.open_lots);
    if side == Side::Sell {
        return (market.base_asset, lots * u128::from(market.base_units_per_lot));
    }
    let notional = (u128::from(order.price_ticks) * lots).checked_mul(u128::from(market.quote_units_per_tick_lot));
    let units = match notional.and_then(|notional| u64::try_from(notional).ok()) {
        None => u128::MAX,
        Some(notional) => {
            let (fee, _) = fee_of(notional, order.maker_fee_ppm, order.maker_prepaid_ppm);
            u128::from(notional) + u128::from(fee)
        }
    };
    (market.quote_asset, units)
}

/// Return a x b / PPM, rounded down or up; the quotient fits 64 bits.
#[inline]
pub(crate) fn ppm_of(units: u64, ppm: u64, up: bool) -> u64 {
    if let Some(product) = units.checked_mul(ppm) {
        return if up { product.div_ceil(PPM) } else { product / PPM };
    }
    let product = u128::from(units) * u128::from(ppm);
    let quotient = if up { product.div_ceil(u128::from(PPM)) } else { product / u128::from(PPM) };
    quotient as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fees_add_up_to_the_whole_rounded_up_once() {
        for rate in [0, 1, 7, 1_500, 333_333, 999_999, 1_000_000] {
            let (mut charged, mut prepaid, mut total) = (0u128, 0, 0u128);
            for notional in [1, 2, 3, 999_999, 1_000_000, 1 << 45, (1 << 62) + 1, 1, 5] {
                let (fee, ahead) = fee_of(notional, rate, prepaid);
                prepaid = ahead;
                charged += u128::from(fee);
                total += u128::from(notional);
                assert_eq!(charged, (total * u128::from(rate)).div_ceil(1_000_000), "rate {rate}");
                assert!(prepaid < 1_000_000);
            }
        }
    }
}
