//! Settings of a market, and what they allow (`exchange.domain.markets`, `exchange.reference.book`).

use crate::limits::TABLE_ROWS_MAX;
use crate::shard::money::ppm_of;
use crate::units::{PPM, PRICE_TICKS_MAX, SHARD_MAX};
use crate::wire::messages::{LotRule, Market, ShardSettings, TickRule};

/// A market as the shard has it; fields as in proto/clob/v1/market.proto.
#[derive(Clone, Debug)]
pub(crate) struct MarketSettings {
    pub market: u32,
    pub shard: u32,
    pub base_asset: u32,
    pub quote_asset: u32,
    pub base_units_per_lot: u64,
    pub quote_units_per_tick_lot: u64,
    pub band_low_ticks: u64,
    pub band_high_ticks: u64,
    pub band_ppm: u32,
    pub maker_fee_ppm: u32,
    pub taker_fee_ppm: u32,
    pub state: u32,
    pub tick_table: Vec<TickRule>,
    pub lot_table: Vec<LotRule>,
    pub symbol: String,
}

impl MarketSettings {
    pub fn from_message(market: &Market<'_>) -> Self {
        Self {
            market: market.market,
            shard: market.shard,
            base_asset: market.base_asset,
            quote_asset: market.quote_asset,
            base_units_per_lot: market.base_units_per_lot,
            quote_units_per_tick_lot: market.quote_units_per_tick_lot,
            band_low_ticks: market.band_low_ticks,
            band_high_ticks: market.band_high_ticks,
            band_ppm: market.band_ppm,
            maker_fee_ppm: market.maker_fee_ppm,
            taker_fee_ppm: market.taker_fee_ppm,
            state: market.state,
            tick_table: market.tick_table.clone(),
            lot_table: market.lot_table.clone(),
            symbol: market.symbol.to_owned(),
        }
    }

    pub fn to_message(&self) -> Market<'_> {
        Market {
            market: self.market,
            shard: self.shard,
            symbol: &self.symbol,
            base_asset: self.base_asset,
            quote_asset: self.quote_asset,
            base_units_per_lot: self.base_units_per_lot,
            quote_units_per_tick_lot: self.quote_units_per_tick_lot,
            tick_table: self.tick_table.clone(),
            lot_table: self.lot_table.clone(),
            band_low_ticks: self.band_low_ticks,
            band_high_ticks: self.band_high_ticks,
            band_ppm: self.band_ppm,
            maker_fee_ppm: self.maker_fee_ppm,
            taker_fee_ppm: self.taker_fee_ppm,
            state: self.state,
        }
    }

    /// Return whether the fields that never change are those of another definition.
    pub fn has_fixed_fields_of(&self, other: &Self) -> bool {
        self.market == other.market
            && self.shard == other.shard
            && self.symbol == other.symbol
            && self.base_asset == other.base_asset
            && self.quote_asset == other.quote_asset
            && self.base_units_per_lot == other.base_units_per_lot
            && self.quote_units_per_tick_lot == other.quote_units_per_tick_lot
    }

    /// Return the lowest and highest price that an order may name; 0: no edge.
    ///
    /// The static edges, and those around the last trade once there was one, rounded towards it; the narrower counts.
    /// Where the two have nothing in common, the static ones count alone: no band keeps every order out.
    #[inline]
    pub fn band(&self, last_price_ticks: u64) -> (u64, u64) {
        let (low, high) = (self.band_low_ticks, self.band_high_ticks);
        if self.band_ppm == 0 || last_price_ticks == 0 {
            return (low, high);
        }
        let ppm = u64::from(self.band_ppm);
        let moving_low = ppm_of(last_price_ticks, PPM - ppm, true).max(1);
        let moving_high = ppm_of(last_price_ticks, PPM + ppm, false).min(PRICE_TICKS_MAX);
        let both_low = low.max(moving_low);
        let both_high = if high == 0 { moving_high } else { high.min(moving_high) };
        if both_low > both_high { (low, high) } else { (both_low, both_high) }
    }

    /// Return of how many ticks this price must be a multiple.
    #[inline]
    pub fn tick_multiple(&self, price_ticks: u64) -> u64 {
        let rows = self.tick_table.partition_point(|row| row.from_price_ticks <= price_ticks);
        if rows == 0 { 1 } else { self.tick_table[rows - 1].multiple_ticks }
    }

    /// Return of how many lots a quantity at this price must be a multiple.
    #[inline]
    pub fn lot_multiple(&self, price_ticks: u64) -> u64 {
        let rows = self.lot_table.partition_point(|row| row.from_price_ticks <= price_ticks);
        if rows == 0 { 1 } else { self.lot_table[rows - 1].multiple_lots }
    }
}

/// Return whether the settings keep the bounds of market.proto and do not contradict themselves.
#[must_use]
pub fn market_is_valid(market: &Market<'_>) -> bool {
    let ppm_max = PPM as u32;
    0 < market.market
        && 0 < market.shard
        && market.shard <= SHARD_MAX
        && symbol_is_valid(market.symbol)
        && 0 < market.base_asset
        && 0 < market.quote_asset
        && market.base_asset != market.quote_asset
        && (1..=PRICE_TICKS_MAX).contains(&market.base_units_per_lot)
        && (1..=PRICE_TICKS_MAX).contains(&market.quote_units_per_tick_lot)
        && table_is_valid(market.tick_table.iter().map(|row| (row.from_price_ticks, row.multiple_ticks)))
        && table_is_valid(market.lot_table.iter().map(|row| (row.from_price_ticks, row.multiple_lots)))
        && market.band_low_ticks <= PRICE_TICKS_MAX
        && market.band_high_ticks <= PRICE_TICKS_MAX
        && (market.band_high_ticks == 0 || market.band_low_ticks <= market.band_high_ticks)
        && market.band_ppm <= ppm_max
        && market.maker_fee_ppm <= ppm_max
        && market.taker_fee_ppm <= ppm_max
        && (1..=4).contains(&market.state)
}

/// Return whether the settings keep the bounds of market.proto.
#[must_use]
pub fn settings_are_valid(settings: &ShardSettings) -> bool {
    (1..=86_400_000).contains(&settings.max_validity_ms)
        && (1..=1_048_576).contains(&settings.live_nonces_per_key_max)
        && (1..=10_000_000).contains(&settings.open_orders_per_account_max)
}

fn symbol_is_valid(symbol: &str) -> bool {
    (1..=32).contains(&symbol.len())
        && symbol.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

fn table_is_valid(rows: impl ExactSizeIterator<Item = (u64, u64)>) -> bool {
    if rows.len() > TABLE_ROWS_MAX {
        return false;
    }
    let mut last = 0;
    for (place, (start, multiple)) in rows.enumerate() {
        let starts_at_one = place > 0 || start == 1;
        let in_bounds = start <= PRICE_TICKS_MAX && (1..=PRICE_TICKS_MAX).contains(&multiple);
        if !starts_at_one || !in_bounds || start <= last {
            return false;
        }
        last = start;
    }
    true
}
