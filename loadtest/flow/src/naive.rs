//! Books that are meant to be plain: a sorted map of prices, a queue per price, one flat list of orders.

use std::collections::{BTreeMap, VecDeque};

use crate::file::{Force, Kind, Message, Total};

#[derive(Clone, Copy, Default)]
struct Order {
    market: u32,
    buys: bool,
    price: i64,
    open: u64,
    /// It was placed as post-only, and stays so when it is replaced.
    post_only: bool,
    /// Counts the places that the order has had; an entry of a queue with another count is void.
    place: u32,
}

#[derive(Default)]
struct Level {
    open: u64,
    queue: VecDeque<(u64, u32)>,
}

#[derive(Default)]
struct Book {
    bids: BTreeMap<i64, Level>,
    asks: BTreeMap<i64, Level>,
}

/// The books of all markets.
pub struct Books {
    markets: Vec<Book>,
    orders: Vec<Order>,
    total: Total,
    /// Orders that the last message ended, other than by its own wish.
    pub ended: Vec<u64>,
}

impl Books {
    /// Return empty books.
    #[must_use]
    pub fn new(markets: u32) -> Self {
        let markets = (0..markets).map(|_| Book::default()).collect();
        Self { markets, orders: vec![Order::default()], total: Total::default(), ended: Vec::new() }
    }

    /// Return what all messages so far came to.
    #[must_use]
    pub fn total(&self) -> Total {
        self.total
    }

    /// Return what is open of an order; 0 where there is none.
    #[must_use]
    pub fn open(&self, id: u64) -> u64 {
        self.order(id).open
    }

    /// Return the price that a sweep through so many levels reaches, and the lots that are there; None: the side is
    /// empty.
    #[must_use]
    pub fn through(&self, market: u32, buys: bool, levels: usize) -> Option<(i64, u64)> {
        let book = &self.markets[market as usize];
        let sum = |found: (i64, u64), (price, level): (&i64, &Level)| (*price, found.1 + level.open);
        let reached = if buys {
            book.asks.iter().take(levels).fold((0, 0), sum)
        } else {
            book.bids.iter().rev().take(levels).fold((0, 0), sum)
        };
        (reached.1 > 0).then_some(reached)
    }

    /// Return price and side of an order; of one that never rested, anything.
    #[must_use]
    pub fn stands(&self, id: u64) -> (i64, bool) {
        let order = self.order(id);
        (order.price, order.buys)
    }

    fn order(&self, id: u64) -> Order {
        usize::try_from(id).ok().and_then(|id| self.orders.get(id)).copied().unwrap_or_default()
    }

    fn slot(&mut self, id: u64) -> &mut Order {
        let id = usize::try_from(id).expect("ids are small");
        if id >= self.orders.len() {
            self.orders.resize(id + 1, Order::default());
        }
        &mut self.orders[id]
    }

    /// Carry out a message.
    pub fn apply(&mut self, message: &Message) {
        self.ended.clear();
        let order = self.order(message.id);
        let quantity = u64::from(message.quantity);
        let done = match message.kind {
            Kind::Place => order.open == 0 && self.place(message, message.price, message.force),
            Kind::Market => {
                let worst = if message.buys { i64::MAX } else { i64::MIN };
                order.open == 0 && self.place(message, worst, Force::Ioc)
            }
            Kind::Cancel => order.open > 0 && self.shrink(message.id, order.open),
            Kind::Reduce => order.open > 0 && quantity > 0 && self.shrink(message.id, quantity.min(order.open)),
            Kind::Replace if order.open == 0 || quantity == 0 => false,
            Kind::Replace if order.price == message.price && quantity <= order.open => {
                self.shrink(message.id, order.open - quantity)
            }
            Kind::Replace if order.post_only && self.within(order.market, order.buys, message.price) > 0 => false,
            Kind::Replace => {
                self.shrink(message.id, order.open);
                let rest = self.trade(order.market, message.id, order.buys, message.price, quantity);
                self.rest(message.id, Order { price: message.price, open: rest, ..order });
                true
            }
        };
        self.total.rejected += u64::from(!done);
    }

    fn place(&mut self, message: &Message, price: i64, force: Force) -> bool {
        let (market, id, buys, quantity) = (message.market, message.id, message.buys, u64::from(message.quantity));
        if force == Force::PostOnly && self.within(market, buys, price) > 0 {
            return false;
        }
        if force == Force::Fok && self.within(market, buys, price) < quantity {
            return false;
        }
        let rest = self.trade(market, id, buys, price, quantity);
        if matches!(force, Force::Gtc | Force::PostOnly) {
            let post_only = force == Force::PostOnly;
            self.rest(id, Order { market, buys, price, open: rest, post_only, place: 0 });
        }
        true
    }

    /// Return the lots that an order at a price can trade with.
    #[must_use]
    pub fn within(&self, market: u32, buys: bool, price: i64) -> u64 {
        let book = &self.markets[market as usize];
        if buys {
            book.asks.range(..=price).map(|(_, level)| level.open).sum()
        } else {
            book.bids.range(price..).map(|(_, level)| level.open).sum()
        }
    }

    fn trade(&mut self, market: u32, id: u64, buys: bool, limit: i64, quantity: u64) -> u64 {
        let mut left = quantity;
        while left > 0 {
            let book = &mut self.markets[market as usize];
            let best = if buys { book.asks.first_entry() } else { book.bids.last_entry() };
            let Some(mut best) = best else { break };
            let price = *best.key();
            if if buys { price > limit } else { price < limit } {
                break;
            }
            let level = best.get_mut();
            let (maker, place) = *level.queue.front().expect("an open level has orders");
            let order = &mut self.orders[usize::try_from(maker).expect("ids are small")];
            if order.open == 0 || order.place != place {
                level.queue.pop_front();
                continue;
            }
            let lots = left.min(order.open);
            left -= lots;
            order.open -= lots;
            level.open -= lots;
            if order.open == 0 {
                level.queue.pop_front();
                self.total.open -= 1;
                self.ended.push(maker);
            }
            if level.open == 0 {
                best.remove();
            }
            self.total.trades += 1;
            self.total.quantity += lots;
            self.total.notional = self.total.notional.wrapping_add(price.cast_unsigned().wrapping_mul(lots));
            debug_assert_ne!(maker, id);
        }
        left
    }

    fn rest(&mut self, id: u64, order: Order) {
        let slot = self.slot(id);
        let place = slot.place + 1;
        *slot = Order { place, ..order };
        let Order { market, buys, price, open, .. } = order;
        if open == 0 {
            return;
        }
        let book = &mut self.markets[market as usize];
        let level = if buys { &mut book.bids } else { &mut book.asks }.entry(price).or_default();
        level.open += open;
        level.queue.push_back((id, place));
        self.total.open += 1;
    }

    fn shrink(&mut self, id: u64, by: u64) -> bool {
        let order = self.slot(id);
        order.open -= by;
        let order = *order;
        let book = &mut self.markets[order.market as usize];
        let side = if order.buys { &mut book.bids } else { &mut book.asks };
        let level = side.get_mut(&order.price).expect("an open order has a level");
        level.open -= by;
        if level.open == 0 {
            side.remove(&order.price);
        }
        if order.open == 0 {
            self.total.open -= 1;
            self.ended.push(id);
        }
        true
    }
}
