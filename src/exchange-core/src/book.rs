//! One market's book, for use alone: price, then time, at the maker's price.
//!
//! Every call writes what happened into the caller's `Sink` and allocates nothing but what the book grows by. Accounts,
//! funds and fees are the business of `shard`, which keeps its orders in the same `ladder`.
//!
//! ```
//! use exchange_core::book::{OrderBook, Reject, Side, Sink, TimeInForce};
//!
//! /// Counts what is traded, and remembers the last refusal.
//! #[derive(Default)]
//! struct Tape {
//!     traded: u64,
//!     refused: Option<Reject>,
//! }
//!
//! impl Sink for Tape {
//!     fn accepted(&mut self, _id: u64, _quantity: u64) {}
//!     fn traded(&mut self, _maker: u64, _taker: u64, _price: i64, quantity: u64, _maker_open: u64) {
//!         self.traded += quantity;
//!     }
//!     fn cancelled(&mut self, _id: u64, _quantity: u64) {}
//!     fn reduced(&mut self, _id: u64, _by: u64, _open: u64) {}
//!     fn replaced(&mut self, _id: u64, _price: i64, _open: u64, _kept_its_place: bool) {}
//!     fn rejected(&mut self, _id: u64, reason: Reject) {
//!         self.refused = Some(reason);
//!     }
//! }
//!
//! let (mut book, mut tape) = (OrderBook::new(), Tape::default());
//! book.place(1, Side::Buy, 99, 5, TimeInForce::Gtc, &mut tape);
//! book.place(2, Side::Sell, 101, 4, TimeInForce::Gtc, &mut tape);
//! book.place(3, Side::Sell, 99, 2, TimeInForce::Ioc, &mut tape);
//! assert_eq!((book.best_bid(), book.best_ask(), tape.traded), (Some((99, 3)), Some((101, 4)), 2));
//!
//! book.cancel(2, &mut tape);
//! assert_eq!(book.best_ask(), None);
//! book.cancel(2, &mut tape);
//! assert_eq!(tape.refused, Some(Reject::UnknownOrder));
//! ```

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::ladder::{Half, Pool};

/// Side of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It buys.
    Buy,
    /// It sells.
    Sell,
}

impl Side {
    /// Return the side that this one trades with.
    #[inline]
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Buy => Self::Sell,
            Self::Sell => Self::Buy,
        }
    }

    /// Return the key of a price on this side: the better the price, the higher.
    #[inline]
    fn key(self, price: i64) -> i64 {
        match self {
            Self::Buy => price,
            Self::Sell => !price,
        }
    }
}

/// What becomes of an order that has traded as far as it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeInForce {
    /// The rest waits in the book.
    Gtc,
    /// The rest is cancelled.
    Ioc,
    /// It trades in full at once, or is rejected.
    Fok,
    /// It is rejected if it would trade at once; else it waits in the book.
    PostOnly,
}

/// Why a call was refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// The quantity is zero or above `QUANTITY_MAX`.
    InvalidQuantity,
    /// The order may rest (GTC, post-only, a replacement), and if all of it did, more than `OPEN_MAX` would be open.
    TooMuchOpen,
    /// An open order has this id.
    DuplicateId,
    /// No open order has this id.
    UnknownOrder,
    /// A fill-or-kill order cannot be filled in full at once.
    FokNotFillable,
    /// A post-only order would trade at once.
    PostOnlyWouldTrade,
}

/// Takes what happens, in order. Quantities are in lots, prices in ticks.
pub trait Sink {
    /// An order was taken on. What it trades follows, then, of an order that may not rest, what was cancelled of it; both
    /// name it, as taker and by its id. A replacement is no acceptance: `replaced` stands in its place.
    fn accepted(&mut self, id: u64, quantity: u64);
    /// Two orders traded; `maker_open` is left of the maker.
    fn traded(&mut self, maker: u64, taker: u64, price: i64, quantity: u64, maker_open: u64);
    /// What was open of an order is gone.
    fn cancelled(&mut self, id: u64, quantity: u64);
    /// An order lost lots and kept its place.
    fn reduced(&mut self, id: u64, by: u64, open: u64);
    /// An order has another price or quantity; where it lost its place, what it trades follows.
    fn replaced(&mut self, id: u64, price: i64, open: u64, kept_its_place: bool);
    /// A call was refused.
    fn rejected(&mut self, id: u64, reason: Reject);
}

/// Largest quantity of one order, in lots: what a number in JSON can say exactly.
pub const QUANTITY_MAX: u64 = (1 << 53) - 1;

/// Most lots that are open in one book, both sides together, so that no sum of them overflows. An order that only takes
/// lots away, IOC, FOK or market, is never refused for it.
pub const OPEN_MAX: u64 = (1 << 63) - 1;

#[derive(Clone, Copy, Debug)]
struct Named {
    id: u64,
}

/// An order may trade when it is replaced, or it may not; stands in place of its owner.
const MAY_TRADE: u32 = 0;
const POST_ONLY: u32 = 1;
/// Which side a level is of stands in its tag.
const BUY_TAG: u32 = 0;
const SELL_TAG: u32 = 1;

/// A book by price, then time. Prices are any `i64`; memory follows the number of orders and of prices in use.
#[derive(Clone, Debug, Default)]
pub struct OrderBook {
    pool: Pool<Named>,
    bids: Half,
    asks: Half,
    by_id: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Lots of all open orders together.
    open: u64,
}

impl OrderBook {
    /// Return an empty book.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Return an empty book with room for some orders.
    #[must_use]
    pub fn with_capacity(orders: usize) -> Self {
        Self { pool: Pool::with_capacity(orders), by_id: HashTable::with_capacity(orders), ..Self::default() }
    }

    /// Return the number of open orders.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pool.len()
    }

    /// Return whether no order is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pool.is_empty()
    }

    /// Return price and quantity of the best bids.
    #[inline]
    #[must_use]
    pub fn best_bid(&self) -> Option<(i64, u64)> {
        self.pool.best(&self.bids).map(|level| (level.key(), level.lots()))
    }

    /// Return price and quantity of the best asks.
    #[inline]
    #[must_use]
    pub fn best_ask(&self) -> Option<(i64, u64)> {
        self.pool.best(&self.asks).map(|level| (!level.key(), level.lots()))
    }

    /// Return what is open at a price.
    #[must_use]
    pub fn depth_at(&self, side: Side, price: i64) -> u64 {
        self.pool.lots_at(self.half(side), side.key(price))
    }

    /// Yield price and quantity of the levels of a side, best first.
    pub fn levels(&self, side: Side) -> impl Iterator<Item = (i64, u64)> + '_ {
        self.pool.best_first(self.half(side)).map(move |level| {
            let level = self.pool.level(level);
            (side.key(level.key()), level.lots())
        })
    }

    /// Return what is open of an order.
    #[must_use]
    pub fn open(&self, id: u64) -> Option<u64> {
        self.slot_of(id).map(|slot| self.pool.node(slot).open())
    }

    /// Trade a limit order against the book and do with its rest what its time in force says.
    #[inline]
    pub fn place(
        &mut self,
        id: u64,
        side: Side,
        price: i64,
        quantity: u64,
        time_in_force: TimeInForce,
        sink: &mut impl Sink,
    ) {
        let may_rest = matches!(time_in_force, TimeInForce::Gtc | TimeInForce::PostOnly);
        if let Some(reason) = self.refusal(id, quantity, may_rest) {
            return sink.rejected(id, reason);
        }
        match time_in_force {
            TimeInForce::PostOnly if self.crosses(side, price) => return sink.rejected(id, Reject::PostOnlyWouldTrade),
            TimeInForce::Fok if !self.fillable(side, price, quantity) => {
                return sink.rejected(id, Reject::FokNotFillable);
            }
            _ => {}
        }
        sink.accepted(id, quantity);
        let rest = self.trade(id, side, price, quantity, sink);
        if rest > 0 {
            match time_in_force {
                TimeInForce::Gtc => self.rest(id, side, price, rest, MAY_TRADE),
                TimeInForce::PostOnly => self.rest(id, side, price, rest, POST_ONLY),
                TimeInForce::Ioc | TimeInForce::Fok => sink.cancelled(id, rest),
            }
        }
    }

    /// Trade a market order against whatever there is; its rest is cancelled.
    pub fn place_market(&mut self, id: u64, side: Side, quantity: u64, sink: &mut impl Sink) {
        let worst = match side {
            Side::Buy => i64::MAX,
            Side::Sell => i64::MIN,
        };
        self.place(id, side, worst, quantity, TimeInForce::Ioc, sink);
    }

    /// End an order.
    #[inline]
    pub fn cancel(&mut self, id: u64, sink: &mut impl Sink) {
        match self.take(id) {
            Some(open) => sink.cancelled(id, open),
            None => sink.rejected(id, Reject::UnknownOrder),
        }
    }

    /// Take lots off an order, which keeps its place; taking all that is open, or more, ends it.
    pub fn reduce(&mut self, id: u64, by: u64, sink: &mut impl Sink) {
        let Some(slot) = self.slot_of(id) else { return sink.rejected(id, Reject::UnknownOrder) };
        if by == 0 {
            return sink.rejected(id, Reject::InvalidQuantity);
        }
        let open = self.pool.node(slot).open();
        if by >= open {
            return self.cancel(id, sink);
        }
        self.pool.shrink(slot, by);
        self.open -= by;
        sink.reduced(id, by, open - by);
    }

    /// Give an order another price and open quantity. It keeps its place only at the same price and if it does not
    /// grow; else it comes to the book like a new order of the same id, and a post-only order is refused where it would
    /// trade at once.
    pub fn replace(&mut self, id: u64, price: i64, quantity: u64, sink: &mut impl Sink) {
        if quantity == 0 || quantity > QUANTITY_MAX {
            return sink.rejected(id, Reject::InvalidQuantity);
        }
        let Some(slot) = self.slot_of(id) else { return sink.rejected(id, Reject::UnknownOrder) };
        let (level, open) = (self.pool.level_of(slot), self.pool.node(slot).open());
        let side = if level.tag() == BUY_TAG { Side::Buy } else { Side::Sell };
        let mark = self.pool.node(slot).owner;
        if level.key() == side.key(price) && quantity <= open {
            if quantity < open {
                self.pool.shrink(slot, open - quantity);
                self.open -= open - quantity;
            }
            return sink.replaced(id, price, quantity, true);
        }
        if self.open - open > OPEN_MAX - quantity {
            return sink.rejected(id, Reject::TooMuchOpen);
        }
        if mark == POST_ONLY && self.crosses(side, price) {
            return sink.rejected(id, Reject::PostOnlyWouldTrade);
        }
        self.take(id);
        sink.replaced(id, price, quantity, false);
        let rest = self.trade(id, side, price, quantity, sink);
        if rest > 0 {
            self.rest(id, side, price, rest, mark);
        }
    }

    #[inline]
    fn half(&self, side: Side) -> &Half {
        match side {
            Side::Buy => &self.bids,
            Side::Sell => &self.asks,
        }
    }

    fn refusal(&self, id: u64, quantity: u64, may_rest: bool) -> Option<Reject> {
        if quantity == 0 || quantity > QUANTITY_MAX {
            Some(Reject::InvalidQuantity)
        } else if may_rest && self.open > OPEN_MAX - quantity {
            Some(Reject::TooMuchOpen)
        } else if self.slot_of(id).is_some() {
            Some(Reject::DuplicateId)
        } else {
            None
        }
    }

    /// Return the key that a level of the other side must have at least to trade at a price.
    #[inline]
    fn limit(side: Side, price: i64) -> i64 {
        side.opposite().key(price)
    }

    #[inline]
    fn crosses(&self, side: Side, price: i64) -> bool {
        self.pool.best(self.half(side.opposite())).is_some_and(|best| best.key() >= Self::limit(side, price))
    }

    fn fillable(&self, side: Side, price: i64, quantity: u64) -> bool {
        let mut missing = quantity;
        for level in self.pool.best_first(self.half(side.opposite())) {
            let level = self.pool.level(level);
            if level.key() < Self::limit(side, price) {
                return false;
            }
            missing = missing.saturating_sub(level.lots());
            if missing == 0 {
                return true;
            }
        }
        false
    }

    /// Trade and return what is left.
    #[inline]
    fn trade(&mut self, taker: u64, side: Side, price: i64, quantity: u64, sink: &mut impl Sink) -> u64 {
        let limit = Self::limit(side, price);
        let half = match side {
            Side::Buy => &mut self.asks,
            Side::Sell => &mut self.bids,
        };
        let mut open = quantity;
        while open > 0 {
            let Some(best) = self.pool.best(half) else { break };
            if best.key() < limit {
                break;
            }
            let maker_price = side.opposite().key(best.key());
            let slot = self.pool.first(half).expect("a level has orders");
            let maker = self.pool.node(slot);
            let (maker_id, maker_open) = (maker.value.id, maker.open());
            if maker_open <= open {
                self.pool.remove(half, slot);
                let hash = self.hasher.hash_one(maker_id);
                if let Ok(entry) = self.by_id.find_entry(hash, |&other| other == slot) {
                    entry.remove();
                }
                open -= maker_open;
                sink.traded(maker_id, taker, maker_price, maker_open, 0);
            } else {
                self.pool.shrink(slot, open);
                sink.traded(maker_id, taker, maker_price, open, maker_open - open);
                open = 0;
            }
        }
        self.open -= quantity - open;
        open
    }

    fn rest(&mut self, id: u64, side: Side, price: i64, quantity: u64, mark: u32) {
        let (half, tag) = match side {
            Side::Buy => (&mut self.bids, BUY_TAG),
            Side::Sell => (&mut self.asks, SELL_TAG),
        };
        self.open += quantity;
        let slot = self.pool.push(half, side.key(price), tag, mark, quantity, Named { id });
        let (pool, hasher) = (&self.pool, &self.hasher);
        self.by_id.insert_unique(hasher.hash_one(id), slot, |&slot| hasher.hash_one(pool.node(slot).value.id));
    }

    #[inline]
    fn slot_of(&self, id: u64) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        self.by_id.find(hash, |&slot| self.pool.node(slot).value.id == id).copied()
    }

    /// Take an order out and return what was open of it.
    #[inline]
    fn take(&mut self, id: u64) -> Option<u64> {
        let pool = &self.pool;
        let entry = self.by_id.find_entry(self.hasher.hash_one(id), |&slot| pool.node(slot).value.id == id).ok()?;
        let (slot, _) = entry.remove();
        let half = if self.pool.level_of(slot).tag() == BUY_TAG { &mut self.bids } else { &mut self.asks };
        let open = self.pool.remove(half, slot).open();
        self.open -= open;
        Some(open)
    }
}
