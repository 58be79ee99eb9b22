//! What can be asked of a shard between two entries (`exchange.engine.port`).

use crate::kinds::{Side, number_of};
use crate::shard::core::RULES_MAX;
use crate::shard::floor::price_of;
use crate::shard::{ApplyError, Shard};
use crate::wire::Message;
use crate::wire::messages::BookState;

/// How a shard is doing, in numbers that are at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Position of the last entry.
    pub n: u64,
    /// Its time, in microseconds.
    pub t_us: u64,
    /// Chain hash after it.
    pub chain_hash: [u8; 32],
    /// Version of the rules in force.
    pub rules: u32,
    /// Highest version that this crate knows.
    pub rules_max: u32,
    /// Lowest control position of a frame whose batches are executed.
    pub control_floor: u64,
    /// Encoded `ShardSettings`.
    pub settings: Vec<u8>,
    /// How many markets there are.
    pub markets: usize,
    /// How many accounts have had an event.
    pub accounts: usize,
    /// How many orders are open.
    pub open_orders: usize,
    /// How many nonces are remembered.
    pub live_nonces: usize,
    /// How many timers wait.
    pub timers: usize,
    /// How many mass cancels are under way.
    pub pending_cancel_alls: usize,
}

/// What operators ask of a shard's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Position of the last entry.
    pub position: u64,
    /// Its time, in microseconds.
    pub t_us: u64,
    /// Last sequence number of each operator role.
    pub sequences: Vec<(u32, u64)>,
    /// Lowest control position of a frame whose batches are executed.
    pub control_floor: u64,
    /// Last sequence number of the links that were applied, by sending shard.
    pub links_in: Vec<(u32, u64)>,
}

/// An open order as its account sees it; `side` is 1 to buy, 2 to sell.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenOrder {
    pub order_id: u64,
    pub client_order_id: u64,
    pub market: u32,
    pub side: u32,
    pub price_ticks: u64,
    pub open_lots: u64,
    pub filled_lots: u64,
}

/// The best orders of a book, and how many orders each side has in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookCut {
    /// Encoded `BookState`.
    pub book: Vec<u8>,
    /// Bids in all.
    pub bid_orders: u64,
    /// Asks in all.
    pub ask_orders: u64,
}

impl Shard {
    /// Return the number of the shard.
    #[must_use]
    pub fn shard(&self) -> u32 {
        self.core.shard
    }

    /// Return the position of the last entry that was executed; 0: none.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Return the time of that entry, in microseconds.
    #[must_use]
    pub fn t_us(&self) -> u64 {
        self.core.t_us
    }

    /// Return the chain hash after that entry.
    #[must_use]
    pub fn chain_hash(&self) -> [u8; 32] {
        self.core.chain_hash
    }

    /// Return the error that ended the shard; None: it goes on.
    #[must_use]
    pub fn stopped(&self) -> Option<&ApplyError> {
        self.stopped.as_ref()
    }

    /// Return the events in all frames written since this shard was made.
    #[must_use]
    pub fn events_written(&self) -> u64 {
        self.events_written
    }

    /// Return whether an empty entry of time `t_us` would do something: when a clock entry is due.
    #[must_use]
    pub fn has_due_work(&self, t_us: u64) -> bool {
        self.next_due_us().is_some_and(|due_us| due_us <= t_us)
    }

    /// Return the earliest time at which there is due work; 0: at any; None: nothing waits.
    #[must_use]
    pub fn next_due_us(&self) -> Option<u64> {
        if !self.pending.is_empty() {
            return Some(0);
        }
        self.timers.first_key_value().map(|(&(deadline_us, _), _)| deadline_us)
    }

    /// Return how the shard is doing; takes no longer with more orders.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let mut settings = Vec::new();
        self.core.settings.encode(&mut settings);
        Summary {
            n: self.core.n,
            t_us: self.core.t_us,
            chain_hash: self.core.chain_hash,
            rules: self.core.rules,
            rules_max: RULES_MAX,
            control_floor: self.core.control_floor,
            settings,
            markets: self.floor.books.len(),
            accounts: self.floor.accounts.rows().len(),
            open_orders: self.floor.open_orders(),
            live_nonces: self.core.nonces.len(),
            timers: self.timers.len(),
            pending_cancel_alls: self.pending.len(),
        }
    }

    /// Return what operators ask of the state.
    #[must_use]
    pub fn facts(&self) -> Facts {
        Facts {
            position: self.position,
            t_us: self.core.t_us,
            sequences: self.core.operators.iter().map(|operator| (operator.role, operator.last_sequence)).collect(),
            control_floor: self.core.control_floor,
            links_in: self.core.links_in.iter().map(|(&shard, link)| (shard, link.last_sequence)).collect(),
        }
    }

    /// Return the markets, each as an encoded `Market`, by number.
    #[must_use]
    pub fn markets(&self) -> Vec<Vec<u8>> {
        self.books_by_market()
            .into_iter()
            .map(|place| {
                let mut out = Vec::new();
                self.floor.books[place as usize].market.to_message().encode(&mut out);
                out
            })
            .collect()
    }

    /// Return price and lots of the best levels of bids and asks, best first; None: there is no such market.
    #[must_use]
    #[allow(clippy::type_complexity)]
    pub fn depth(&self, market: u32, levels_max: usize) -> Option<(Vec<(u64, u64)>, Vec<(u64, u64)>)> {
        let book = &self.floor.books[self.floor.book_of(market)? as usize];
        let side = |side: Side| {
            let levels = self.floor.pool.best_first(book.half(side)).take(levels_max);
            levels
                .map(|level| {
                    let level = self.floor.pool.level(level);
                    (price_of(side, level.key()), level.lots())
                })
                .collect()
        };
        Some((side(Side::Buy), side(Side::Sell)))
    }

    /// Return asset, free and locked units of what an account has, by asset.
    #[must_use]
    pub fn balances(&self, account: u64) -> Vec<(u32, u64, u64)> {
        self.floor.accounts.find(account).map_or_else(Vec::new, |owner| self.balances_of(owner))
    }

    /// Return the account's open orders by `order_id`.
    #[must_use]
    pub fn open_orders(&self, account: u64) -> Vec<OpenOrder> {
        let floor = &self.floor;
        let Some(owner) = floor.accounts.find(account) else { return Vec::new() };
        let mut orders: Vec<OpenOrder> = floor
            .groups_of(owner, None, true)
            .flat_map(|(group, _)| floor.orders_of_group(group))
            .map(|slot| {
                let (book, side, price_ticks) = floor.where_is(slot);
                let node = floor.pool.node(slot);
                OpenOrder {
                    order_id: node.value.order_id,
                    client_order_id: node.value.client_order_id,
                    market: floor.books[book as usize].market.market,
                    side: number_of(side),
                    price_ticks,
                    open_lots: node.open(),
                    filled_lots: node.value.filled_lots,
                }
            })
            .collect();
        orders.sort_unstable();
        orders
    }

    /// Return the best orders of a book; None: there is no such market.
    #[must_use]
    pub fn book(&self, market: u32, orders_per_side_max: usize) -> Option<BookCut> {
        let book = &self.floor.books[self.floor.book_of(market)? as usize];
        let side = |side: Side| {
            let slots = self.floor.pool.orders(book.half(side)).take(orders_per_side_max);
            slots.map(|slot| self.export_order(slot)).collect::<Vec<_>>()
        };
        let cut = BookState {
            market: book.market.to_message(),
            market_seq: book.market_seq,
            last_price_ticks: book.last_price_ticks,
            bids: side(Side::Buy),
            asks: side(Side::Sell),
        };
        let mut encoded = Vec::new();
        cut.encode(&mut encoded);
        Some(BookCut { book: encoded, bid_orders: book.bids.orders(), ask_orders: book.asks.orders() })
    }
}
