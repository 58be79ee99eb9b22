//! Integer units and their bounds, as `exchange.domain.units` has them.

/// Highest price, in ticks.
pub const PRICE_TICKS_MAX: u64 = (1 << 53) - 1;
/// Largest quantity, in lots.
pub const QUANTITY_LOTS_MAX: u64 = (1 << 53) - 1;
/// Largest amount of an asset, and of all deposits of it together, in its smallest units.
pub const AMOUNT_UNITS_MAX: u64 = (1 << 63) - 1;
/// Latest time, in microseconds since 1970.
pub const TIME_US_MAX: u64 = (1 << 53) - 1;
/// Millionths in one.
pub const PPM: u64 = 1_000_000;
/// Highest number of a shard.
pub const SHARD_MAX: u32 = 4095;
/// Shard 0: users, keys, markets and the treasury. It does not trade.
pub const CONTROL_SHARD: u32 = 0;
/// Bits of an order's or a trade's name below the number of its birth shard.
pub const COUNTER_BITS: u32 = 52;

/// Return the `order_id` or `trade_id` of a shard's counter: birth shard in 12 bits, counter in 52.
#[must_use]
pub fn name_of(shard: u32, counter: u64) -> u64 {
    debug_assert!(0 < shard && shard <= SHARD_MAX && 0 < counter && counter < 1 << COUNTER_BITS);
    u64::from(shard) << COUNTER_BITS | counter
}
