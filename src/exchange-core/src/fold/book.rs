//! A market's book as market data keeps it: levels by price, and a tape.

use std::collections::{BTreeMap, VecDeque};

use super::NONE;
use crate::kinds::BUY;
use crate::wire::Message;
use crate::wire::messages::Market;

/// Trades that a tape keeps at least, once there were so many; it has at most twice as many.
pub const TRADES_KEPT: usize = 1_000;

/// Which changes of a book are written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watch {
    /// None.
    #[default]
    Nothing,
    /// One for each frame that touches it.
    EveryFrame,
    /// One for each command that touches it, and for each part of a frame that no command asked for.
    EveryCommand,
}

/// A price level at a moment; no orders: it is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelView {
    /// Price in ticks.
    pub price_ticks: u64,
    /// What is open there, in lots.
    pub quantity_lots: u128,
    /// How many orders are there.
    pub orders: u64,
}

/// A trade as everybody sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TapeTrade {
    pub market_seq: u64,
    pub trade_id: u64,
    pub price_ticks: u64,
    pub quantity_lots: u64,
    pub taker_side: u32,
    pub t_us: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    pub(super) price_ticks: u64,
    pub(super) quantity_lots: u128,
    pub(super) orders: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Book {
    pub(super) market: u32,
    pub(super) base_asset: u32,
    pub(super) quote_asset: u32,
    pub(super) maker_fee_ppm: u32,
    pub(super) taker_fee_ppm: u32,
    pub(super) state: u32,
    pub(super) base_units_per_lot: u64,
    pub(super) quote_units_per_tick_lot: u64,
    pub(super) market_seq: u64,
    pub(super) last_price_ticks: u64,
    pub(super) bids: BTreeMap<u64, u32>,
    pub(super) asks: BTreeMap<u64, u32>,
    pub(super) tape: Tape,
    pub(super) settings: Vec<u8>,
    pub(super) watch: Watch,
    /// The change under way: sequence number before it and prices it touched; None: there is none.
    pub(super) seq_before: Option<u64>,
    pub(super) changed_bids: Vec<u64>,
    pub(super) changed_asks: Vec<u64>,
}

/// The last trades of a market, 1,000 .. 2,000 of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Tape {
    pub(super) trades: VecDeque<TapeTrade>,
    /// Every trade of a higher sequence number that there ever was is on the tape.
    pub(super) complete_after: u64,
}

impl Tape {
    pub(super) fn push(&mut self, trade: TapeTrade) {
        self.trades.push_back(trade);
        if self.trades.len() >= 2 * TRADES_KEPT {
            let gone = self.trades.len() - TRADES_KEPT;
            self.complete_after = self.trades[gone - 1].market_seq;
            self.trades.drain(..gone);
        }
    }
}

impl Book {
    pub(super) fn new(market_seq: u64, last_price_ticks: u64) -> Self {
        Self {
            market: 0,
            base_asset: 0,
            quote_asset: 0,
            maker_fee_ppm: 0,
            taker_fee_ppm: 0,
            state: 0,
            base_units_per_lot: 0,
            quote_units_per_tick_lot: 0,
            market_seq,
            last_price_ticks,
            bids: BTreeMap::new(),
            asks: BTreeMap::new(),
            tape: Tape { trades: VecDeque::new(), complete_after: market_seq },
            settings: Vec::new(),
            watch: Watch::Nothing,
            seq_before: None,
            changed_bids: Vec::new(),
            changed_asks: Vec::new(),
        }
    }

    /// Take over the market's settings; open orders keep the fee rates that they came with.
    pub(super) fn define(&mut self, settings: &Market) {
        self.market = settings.market;
        self.base_asset = settings.base_asset;
        self.quote_asset = settings.quote_asset;
        self.maker_fee_ppm = settings.maker_fee_ppm;
        self.taker_fee_ppm = settings.taker_fee_ppm;
        self.state = settings.state;
        self.base_units_per_lot = settings.base_units_per_lot;
        self.quote_units_per_tick_lot = settings.quote_units_per_tick_lot;
        self.settings.clear();
        settings.encode(&mut self.settings);
    }

    #[inline]
    pub(super) fn side(&mut self, side: u32) -> &mut BTreeMap<u64, u32> {
        if side == BUY { &mut self.bids } else { &mut self.asks }
    }

    #[inline]
    pub(super) fn note(&mut self, side: u32, price_ticks: u64) {
        if self.watch != Watch::Nothing {
            if side == BUY { &mut self.changed_bids } else { &mut self.changed_asks }.push(price_ticks);
        }
    }
}

/// Slots that are used again.
#[derive(Clone, Debug)]
pub(super) struct Levels {
    pub(super) levels: Vec<Level>,
    pub(super) free: Vec<u32>,
}

impl Levels {
    pub(super) fn make(&mut self, level: Level) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.levels[slot as usize] = level;
            return slot;
        }
        self.levels.push(level);
        u32::try_from(self.levels.len() - 1).unwrap_or(NONE)
    }
}
