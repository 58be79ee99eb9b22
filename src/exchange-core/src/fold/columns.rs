//! What frames did to a shard, as columns.

use super::book::LevelView;

/// What frames did, as columns; row i of what belongs to a frame ends where `*_end[i]` says.
///
/// It can be used again and again: `clear` keeps the memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The frames that were applied.
    pub frames: FrameColumns,
    /// By frame the accounts that have events in it, in the order in which they come.
    pub accounts: AccountColumns,
    /// Trades in order.
    pub trades: TradeColumns,
    /// What changed in watched books.
    pub changes: ChangeColumns,
}

/// Frames: position, time and events of each, and where its rows in the other columns end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct FrameColumns {
    pub n: Vec<u64>,
    pub t_us: Vec<u64>,
    pub events: Vec<u32>,
    pub accounts_end: Vec<usize>,
    pub trades_end: Vec<usize>,
    pub changes_end: Vec<usize>,
}

/// Accounts with events in a frame; the 1-based places of the events of row i end at `places_end[i]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct AccountColumns {
    pub account: Vec<u64>,
    pub places_end: Vec<usize>,
    pub place: Vec<u32>,
}

/// Trades.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TradeColumns {
    pub market: Vec<u32>,
    pub market_seq: Vec<u64>,
    pub trade_id: Vec<u64>,
    pub price_ticks: Vec<u64>,
    pub quantity_lots: Vec<u64>,
    pub taker_side: Vec<u32>,
}

/// Changes of watched books; the levels of row i are those up to `bids_end[i]`, then up to `asks_end[i]`: those that
/// are new, different or gone, each as it is after the change, ascending by price.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ChangeColumns {
    pub market: Vec<u32>,
    pub previous_market_seq: Vec<u64>,
    pub market_seq: Vec<u64>,
    pub state: Vec<u32>,
    pub last_price_ticks: Vec<u64>,
    pub bids_end: Vec<usize>,
    pub asks_end: Vec<usize>,
    pub level: Vec<LevelView>,
}

impl Applied {
    /// Forget all rows.
    pub fn clear(&mut self) {
        let Self { frames, accounts, trades, changes } = self;
        frames.n.clear();
        frames.t_us.clear();
        frames.events.clear();
        frames.accounts_end.clear();
        frames.trades_end.clear();
        frames.changes_end.clear();
        accounts.account.clear();
        accounts.places_end.clear();
        accounts.place.clear();
        trades.market.clear();
        trades.market_seq.clear();
        trades.trade_id.clear();
        trades.price_ticks.clear();
        trades.quantity_lots.clear();
        trades.taker_side.clear();
        changes.market.clear();
        changes.previous_market_seq.clear();
        changes.market_seq.clear();
        changes.state.clear();
        changes.last_price_ticks.clear();
        changes.bids_end.clear();
        changes.asks_end.clear();
        changes.level.clear();
    }

    /// Forget the rows of a frame that has no row itself.
    pub(super) fn cut(&mut self) {
        let Self { frames, accounts, trades, changes } = self;
        let end = frames.accounts_end.last().copied().unwrap_or(0);
        accounts.account.truncate(end);
        accounts.places_end.truncate(end);
        accounts.place.truncate(accounts.places_end.last().copied().unwrap_or(0));
        let end = frames.trades_end.last().copied().unwrap_or(0);
        trades.market.truncate(end);
        trades.market_seq.truncate(end);
        trades.trade_id.truncate(end);
        trades.price_ticks.truncate(end);
        trades.quantity_lots.truncate(end);
        trades.taker_side.truncate(end);
        let end = frames.changes_end.last().copied().unwrap_or(0);
        changes.market.truncate(end);
        changes.previous_market_seq.truncate(end);
        changes.market_seq.truncate(end);
        changes.state.truncate(end);
        changes.last_price_ticks.truncate(end);
        changes.bids_end.truncate(end);
        changes.asks_end.truncate(end);
        changes.level.truncate(changes.asks_end.last().copied().unwrap_or(0));
    }
}
