//! Trading: an order meets the book. Price, then time; at the maker's price (`exchange.reference.matching`).
//!
//! `Floor` keeps orders, books and funds of a shard consistent: each of its methods changes all three and writes the
//! event.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use crate::kinds::{
    CancelReason, ReduceReason, STATE_HALTED, STP_CANCEL_BOTH, STP_CANCEL_MAKER, STP_CANCEL_TAKER, STP_NONE, Side,
    number_of,
};
use crate::ladder::{Half, NONE, Node, Pool};
use crate::limits::COMMAND_EVENTS_MAX;
use crate::shard::accounts::Accounts;
use crate::shard::market::MarketSettings;
use crate::shard::mix;
use crate::shard::money::{fee_of, notional_of, resting_hold};
use crate::shard::writer::Writer;
use crate::units::{AMOUNT_UNITS_MAX, name_of};
use crate::wire::messages::{OrderCancelled, OrderReduced, Trade};

/// Most events of one step of matching: both orders of a self-trade end in one each.
const STEP_EVENTS_MAX: usize = 2;
/// The cancel of the taker's rest.
const CLOSING_EVENTS_MAX: usize = 1;
const PPM_BITS: u32 = 20;
const PPM_MASK: u64 = (1 << PPM_BITS) - 1;

/// One market's book and its settings.
#[derive(Clone, Debug)]
pub(crate) struct Book {
    pub bids: Half,
    pub asks: Half,
    pub market_seq: u64,
    pub last_price_ticks: u64,
    pub market: MarketSettings,
}

impl Book {
    #[inline]
    pub fn half(&self, side: Side) -> &Half {
        match side {
            Side::Buy => &self.bids,
            Side::Sell => &self.asks,
        }
    }

    #[inline]
    pub fn half_mut(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        }
    }

    /// Return the asset that an order of a side gives away.
    #[inline]
    pub fn asset_given(&self, side: Side) -> u32 {
        match side {
            Side::Buy => self.market.quote_asset,
            Side::Sell => self.market.base_asset,
        }
    }

    #[inline]
    pub fn next_seq(&mut self) -> u64 {
        self.market_seq = self.market_seq.wrapping_add(1);
        self.market_seq
    }
}

/// Fee rates and marks of an order, in 64 bits: 20 each of maker rate, taker rate and what is prepaid as maker, three
/// of self-trade prevention, one of post-only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms(u64);

impl Terms {
    pub fn new(
        maker_fee: u32,
        taker_fee: u32,
        maker_prepaid: u32,
        self_trade_prevention: u32,
        post_only: bool,
    ) -> Self {
        debug_assert!(maker_fee.max(taker_fee).max(maker_prepaid) < 1 << PPM_BITS && self_trade_prevention < 8);
        Self(
            u64::from(maker_fee)
                | u64::from(taker_fee) << PPM_BITS
                | u64::from(maker_prepaid) << (2 * PPM_BITS)
                | u64::from(self_trade_prevention) << (3 * PPM_BITS)
                | u64::from(post_only) << 63,
        )
    }

    #[inline]
    pub fn maker_fee_ppm(self) -> u32 {
        (self.0 & PPM_MASK) as u32
    }

    #[inline]
    pub fn taker_fee_ppm(self) -> u32 {
        (self.0 >> PPM_BITS & PPM_MASK) as u32
    }

    #[inline]
    pub fn maker_prepaid_ppm(self) -> u32 {
        (self.0 >> (2 * PPM_BITS) & PPM_MASK) as u32
    }

    #[inline]
    pub fn self_trade_prevention(self) -> u32 {
        (self.0 >> (3 * PPM_BITS) & 7) as u32
    }

    #[inline]
    pub fn post_only(self) -> bool {
        self.0 >> 63 != 0
    }

    #[inline]
    fn set_maker_prepaid_ppm(&mut self, prepaid: u32) {
        self.0 = self.0 & !(PPM_MASK << (2 * PPM_BITS)) | u64::from(prepaid) << (2 * PPM_BITS);
    }
}

/// What is kept with an order in the book. Its hold is not: it is always what `resting_hold` says (invariant I-03).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resting {
    pub order_id: u64,
    pub client_order_id: u64,
    pub filled_lots: u64,
    pub terms: Terms,
    group: u32,
    group_prev: u32,
    group_next: u32,
    pub taker_prepaid_ppm: u32,
}

/// An order that is not in the book: it trades now, and then rests or ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taker {
    pub order_id: u64,
    pub client_order_id: u64,
    pub owner: u32,
    pub book: u32,
    pub side: Side,
    pub price_ticks: u64,
    pub open_lots: u64,
    pub filled_lots: u64,
    pub post_only: bool,
    pub self_trade_prevention: u32,
    pub maker_fee_ppm: u32,
    pub taker_fee_ppm: u32,
    pub maker_prepaid_ppm: u32,
    pub taker_prepaid_ppm: u32,
    pub held_units: u64,
}

/// Open orders of an account in one market on one side, by `order_id` where they are `sorted`.
///
/// An order that comes to the book is the newest of its account, and goes to the end; only one that was replaced is
/// not. Who needs the order sorts first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    owner: u32,
    book_side: u32,
    head: u32,
    tail: u32,
    prev: u32,
    next: u32,
    sorted: bool,
    parked: bool,
}

impl Group {
    /// Return in which of its account's lists it is.
    ///
    /// Those that a trader's mass cancel found halted are parked, so that it looks at them once, not each time. They
    /// are taken back once a halt has ended, whichever.
    fn list(&self) -> usize {
        (self.book_side & 1) as usize | usize::from(self.parked) << 1
    }

    pub fn book(&self) -> u32 {
        self.book_side >> 1
    }

    pub fn side(&self) -> Side {
        if self.book_side & 1 == 0 { Side::Buy } else { Side::Sell }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Floor {
    pub shard: u32,
    pub accounts: Accounts,
    pub books: Vec<Book>,
    book_of: HashMap<u32, u32>,
    pub pool: Pool<Resting>,
    by_id: HashTable<u32>,
    by_client_order_id: HashTable<u32>,
    groups: Vec<Group>,
    free_group: Option<u32>,
    group_of: HashTable<u32>,
    hasher: DefaultHashBuilder,
    pub last_order: u64,
    pub last_trade: u64,
    pub writer: Writer,
    /// Makers that fill-or-kill orders of the entry have looked at.
    pub looked_at: usize,
    /// How often a market has left the state HALTED.
    halts_ended: u64,
}

#[inline]
fn book_side(book: u32, side: Side) -> u32 {
    book << 1 | u32::from(side == Side::Sell)
}

#[inline]
fn group_hash(owner: u32, book_side: u32) -> u64 {
    mix(u64::from(owner) << 32 | u64::from(book_side))
}

/// Spread an `order_id`, which is given by a counter, in blocks of sixteen: neighbours share cache lines, and no stretch
/// of the table fills up with consecutive orders.
#[inline]
fn id_hash(order_id: u64) -> u64 {
    let block = mix(order_id >> 4);
    // The highest seven bits are the table's tag: neighbours need different ones.
    (block & !0xf | order_id & 0xf) ^ order_id << 57
}

/// Return the key of a price in the ladder: the better the price, the higher. Prices are below 2^53.
#[inline]
pub(crate) fn key_of(side: Side, price_ticks: u64) -> i64 {
    let price = price_ticks.cast_signed();
    match side {
        Side::Buy => price,
        Side::Sell => !price,
    }
}

/// Return the price of a key in the ladder.
#[inline]
pub(crate) fn price_of(side: Side, key: i64) -> u64 {
    match side {
        Side::Buy => key.cast_unsigned(),
        Side::Sell => (!key).cast_unsigned(),
    }
}

/// Return whether a command that has caused so many events may meet one more maker.
#[inline]
fn may_step(events: usize) -> bool {
    events + STEP_EVENTS_MAX + CLOSING_EVENTS_MAX <= COMMAND_EVENTS_MAX
}

impl Floor {
    /// Start an entry.
    pub fn begin(&mut self) {
        self.writer.begin();
        self.looked_at = 0;
    }

    /// Return what the entry has done, as `ENTRY_WORK_MAX` counts it.
    #[inline]
    pub fn work(&self) -> usize {
        self.writer.events() + self.looked_at
    }

    // --- names ------------------------------------------------------------------------------------------------------

    /// Return the name of the next order.
    #[inline]
    pub fn next_order_id(&mut self) -> u64 {
        self.last_order += 1;
        name_of(self.shard, self.last_order)
    }

    /// Return the place of a market's book.
    #[inline]
    pub fn book_of(&self, market: u32) -> Option<u32> {
        self.book_of.get(&market).copied()
    }

    /// Add a book for a market that has none; return its place.
    pub fn add_book(&mut self, market: MarketSettings, market_seq: u64, last_price_ticks: u64) -> u32 {
        let place = u32::try_from(self.books.len()).expect("fewer than 2^31 books");
        self.book_of.insert(market.market, place);
        self.books.push(Book { bids: Half::new(), asks: Half::new(), market_seq, last_price_ticks, market });
        place
    }

    /// Return the slot of an open order.
    #[inline]
    pub fn slot_of(&self, order_id: u64) -> Option<u32> {
        self.by_id.find(id_hash(order_id), |&slot| self.pool.node(slot).value.order_id == order_id).copied()
    }

    /// Return the slot of an account's open order.
    #[inline]
    pub fn slot_of_client(&self, owner: u32, client_order_id: u64) -> Option<u32> {
        let hash = self.hasher.hash_one((owner, client_order_id));
        self.by_client_order_id
            .find(hash, |&slot| {
                let node = self.pool.node(slot);
                node.owner == owner && node.value.client_order_id == client_order_id
            })
            .copied()
    }

    /// Return the number of open orders.
    pub fn open_orders(&self) -> usize {
        self.pool.len()
    }

    /// Return place of book and side of an open order, and its price.
    #[inline]
    pub fn where_is(&self, slot: u32) -> (u32, Side, u64) {
        let level = self.pool.level_of(slot);
        let side = if level.tag() & 1 == 0 { Side::Buy } else { Side::Sell };
        (level.tag() >> 1, side, price_of(side, level.key()))
    }

    // --- orders -----------------------------------------------------------------------------------------------------

    /// Put an open order into its book; of what is held for it, release what resting does not need.
    #[inline]
    pub fn rest(&mut self, order: &Taker) {
        let needed = resting_hold(
            &self.books[order.book as usize].market,
            order.side,
            order.price_ticks,
            order.open_lots,
            order.maker_fee_ppm,
            order.maker_prepaid_ppm,
        );
        let asset = self.books[order.book as usize].asset_given(order.side);
        self.accounts.hold(order.owner, asset, order.held_units, needed);
        self.add(order);
    }

    /// Put an open order into its book and under all of its names, with its hold as it is.
    #[inline]
    pub fn add(&mut self, order: &Taker) {
        let tag = book_side(order.book, order.side);
        let group = self.group_for(order.owner, tag);
        let tail = self.groups[group as usize].tail;
        let value = Resting {
            order_id: order.order_id,
            client_order_id: order.client_order_id,
            filled_lots: order.filled_lots,
            terms: Terms::new(
                order.maker_fee_ppm,
                order.taker_fee_ppm,
                order.maker_prepaid_ppm,
                order.self_trade_prevention,
                order.post_only,
            ),
            group,
            group_prev: tail,
            group_next: NONE,
            taker_prepaid_ppm: order.taker_prepaid_ppm,
        };
        let half = self.books[order.book as usize].half_mut(order.side);
        let slot =
            self.pool.push(half, key_of(order.side, order.price_ticks), tag, order.owner, order.open_lots, value);
        let there = &mut self.groups[group as usize];
        there.tail = slot;
        if tail == NONE {
            there.head = slot;
        } else {
            let last = self.pool.value_mut(tail);
            last.group_next = slot;
            there.sorted &= last.order_id < order.order_id;
        }
        let pool = &self.pool;
        self.by_id.insert_unique(id_hash(order.order_id), slot, |&slot| id_hash(pool.node(slot).value.order_id));
        if order.client_order_id != 0 {
            let hasher = &self.hasher;
            self.by_client_order_id.insert_unique(
                hasher.hash_one((order.owner, order.client_order_id)),
                slot,
                |&slot| {
                    let node = pool.node(slot);
                    hasher.hash_one((node.owner, node.value.client_order_id))
                },
            );
        }
        self.accounts.row_mut(order.owner).open_orders += 1;
    }

    /// Take an order out of its book and all of its names, with its hold unchanged.
    #[inline]
    pub fn leave(&mut self, slot: u32) -> Node<Resting> {
        let (book, side, _) = self.where_is(slot);
        let node = self.pool.remove(self.books[book as usize].half_mut(side), slot);
        let value = &node.value;
        if let Ok(entry) = self.by_id.find_entry(id_hash(value.order_id), |&other| other == slot) {
            entry.remove();
        }
        if value.client_order_id != 0 {
            let hash = self.hasher.hash_one((node.owner, value.client_order_id));
            if let Ok(entry) = self.by_client_order_id.find_entry(hash, |&other| other == slot) {
                entry.remove();
            }
        }
        let group = &mut self.groups[value.group as usize];
        if value.group_prev == NONE {
            group.head = value.group_next;
        } else {
            self.pool.value_mut(value.group_prev).group_next = value.group_next;
        }
        if value.group_next == NONE {
            group.tail = value.group_prev;
        } else {
            self.pool.value_mut(value.group_next).group_prev = value.group_prev;
        }
        if group.head == NONE {
            self.drop_group(value.group);
        }
        self.accounts.row_mut(node.owner).open_orders -= 1;
        node
    }

    fn group_for(&mut self, owner: u32, book_side: u32) -> u32 {
        let hash = group_hash(owner, book_side);
        let groups = &self.groups;
        let found = self.group_of.find(hash, |&group| {
            let group = &groups[group as usize];
            group.owner == owner && group.book_side == book_side
        });
        if let Some(&group) = found {
            return group;
        }
        let made =
            Group { owner, book_side, head: NONE, tail: NONE, prev: NONE, next: NONE, sorted: true, parked: false };
        let group = if let Some(free) = self.free_group {
            let next_free = self.groups[free as usize].next;
            self.free_group = (next_free != NONE).then_some(next_free);
            self.groups[free as usize] = made;
            free
        } else {
            self.groups.push(made);
            u32::try_from(self.groups.len() - 1).expect("fewer than 2^32 groups")
        };
        self.list_group(group);
        let groups = &self.groups;
        self.group_of.insert_unique(hash, group, |&group| {
            let group = &groups[group as usize];
            group_hash(group.owner, group.book_side)
        });
        group
    }

    fn drop_group(&mut self, group: u32) {
        let gone = self.groups[group as usize];
        if let Ok(entry) = self.group_of.find_entry(group_hash(gone.owner, gone.book_side), |&other| other == group) {
            entry.remove();
        }
        self.unlist_group(group);
        self.groups[group as usize].next = self.free_group.unwrap_or(NONE);
        self.free_group = Some(group);
    }

    /// Put a group into its account's list.
    fn list_group(&mut self, group: u32) {
        let there = &mut self.groups[group as usize];
        let first = &mut self.accounts.row_mut(there.owner).groups[there.list()];
        (there.prev, there.next) = (NONE, *first);
        let next = std::mem::replace(first, group);
        if next != NONE {
            self.groups[next as usize].prev = group;
        }
    }

    /// Take a group out of its account's list.
    fn unlist_group(&mut self, group: u32) {
        let gone = self.groups[group as usize];
        if gone.prev == NONE {
            self.accounts.row_mut(gone.owner).groups[gone.list()] = gone.next;
        } else {
            self.groups[gone.prev as usize].next = gone.next;
        }
        if gone.next != NONE {
            self.groups[gone.next as usize].prev = gone.prev;
        }
    }

    fn move_group(&mut self, group: u32, parked: bool) {
        self.unlist_group(group);
        self.groups[group as usize].parked = parked;
        self.list_group(group);
    }

    /// Give a market another state; return its next sequence number.
    pub fn set_state(&mut self, place: u32, state: u32) -> u64 {
        let book = &mut self.books[place as usize];
        let was_halted = std::mem::replace(&mut book.market.state, state) == STATE_HALTED;
        self.halts_ended += u64::from(was_halted && state != STATE_HALTED);
        book.next_seq()
    }

    /// Park the groups of an account whose market is halted; return the others on one side or both, in no order.
    pub fn groups_not_halted(&mut self, owner: u32, side: Option<Side>) -> Vec<u32> {
        if self.accounts.row(owner).parked_at != self.halts_ended {
            self.accounts.row_mut(owner).parked_at = self.halts_ended;
            let parked: Vec<u32> =
                self.groups_of(owner, None, true).filter(|(_, group)| group.parked).map(|(place, _)| place).collect();
            for group in parked {
                self.move_group(group, false);
            }
        }
        let groups: Vec<(u32, u32)> =
            self.groups_of(owner, side, false).map(|(place, group)| (place, group.book())).collect();
        let halted = |book: u32| self.books[book as usize].market.state == STATE_HALTED;
        let (halted, open): (Vec<_>, Vec<_>) = groups.into_iter().partition(|&(_, book)| halted(book));
        for (group, _) in halted {
            self.move_group(group, true);
        }
        open.into_iter().map(|(group, _)| group).collect()
    }

    /// Return the groups of an account's open orders on one side or both, with or without those parked, in no order.
    pub fn groups_of(&self, owner: u32, side: Option<Side>, parked_too: bool) -> impl Iterator<Item = (u32, &Group)> {
        let lists = &self.accounts.row(owner).groups;
        let wanted = (0..lists.len()).filter(move |list| {
            (parked_too || list & 2 == 0) && side.is_none_or(|side| (list & 1 == 1) == (side == Side::Sell))
        });
        let first = wanted.map(|list| lists[list]).filter(|&first| first != NONE);
        first
            .flat_map(|first| {
                std::iter::successors(Some(first), |&group| {
                    let next = self.groups[group as usize].next;
                    (next != NONE).then_some(next)
                })
            })
            .map(|group| (group, &self.groups[group as usize]))
    }

    /// Return a group by its place.
    pub fn group(&self, place: u32) -> &Group {
        &self.groups[place as usize]
    }

    /// Return the group of an account's open orders in one market on one side.
    pub fn group_in(&self, owner: u32, book: u32, side: Side) -> Option<u32> {
        let tag = book_side(book, side);
        self.group_of
            .find(group_hash(owner, tag), |&group| {
                let group = &self.groups[group as usize];
                group.owner == owner && group.book_side == tag
            })
            .copied()
    }

    /// Return the orders of a group, in no order.
    pub fn orders_of_group(&self, group: u32) -> impl Iterator<Item = u32> {
        let first = self.groups[group as usize].head;
        std::iter::successors((first != NONE).then_some(first), |&slot| {
            let next = self.pool.node(slot).value.group_next;
            (next != NONE).then_some(next)
        })
    }

    /// Bring a group's orders in the order of their names.
    pub fn sort_group(&mut self, group: u32) {
        if self.groups[group as usize].sorted {
            return;
        }
        let mut slots: Vec<u32> = self.orders_of_group(group).collect();
        slots.sort_unstable_by_key(|&slot| self.pool.node(slot).value.order_id);
        let mut prev = NONE;
        for &slot in &slots {
            self.pool.value_mut(slot).group_prev = prev;
            if prev != NONE {
                self.pool.value_mut(prev).group_next = slot;
            }
            prev = slot;
        }
        if prev != NONE {
            self.pool.value_mut(prev).group_next = NONE;
        }
        let there = &mut self.groups[group as usize];
        there.head = slots.first().copied().unwrap_or(NONE);
        there.tail = prev;
        there.sorted = true;
    }

    /// Return the units that are held for an open order.
    #[inline]
    pub fn held_units(&self, slot: u32) -> u64 {
        let (book, side, price_ticks) = self.where_is(slot);
        let node = self.pool.node(slot);
        resting_hold(
            &self.books[book as usize].market,
            side,
            price_ticks,
            node.open(),
            node.value.terms.maker_fee_ppm(),
            node.value.terms.maker_prepaid_ppm(),
        )
    }

    /// Take fewer lots off a resting order than are open, and release what they held; it keeps its place.
    pub fn shrink(&mut self, slot: u32, lots: u64) {
        let held = self.held_units(slot);
        self.pool.shrink(slot, lots);
        let needed = self.held_units(slot);
        let (book, side, _) = self.where_is(slot);
        let asset = self.books[book as usize].asset_given(side);
        self.accounts.hold(self.pool.node(slot).owner, asset, held, needed);
    }

    /// Take fewer lots off a resting order than are open; it keeps its place.
    pub fn reduce(&mut self, slot: u32, lots: u64, reason: ReduceReason, command: u32) {
        self.shrink(slot, lots);
        let (book, _, _) = self.where_is(slot);
        let node = self.pool.node(slot);
        let (owner, order_id, open_lots) = (node.owner, node.value.order_id, node.open());
        self.write_reduced(owner, book, order_id, lots, open_lots, reason, command);
    }

    /// End a resting order.
    #[inline]
    pub fn cancel(&mut self, slot: u32, reason: CancelReason, command: u32) {
        let held = self.held_units(slot);
        let (book, side, _) = self.where_is(slot);
        let node = self.leave(slot);
        let asset = self.books[book as usize].asset_given(side);
        self.accounts.hold(node.owner, asset, held, 0);
        self.write_cancelled(node.owner, book, node.value.order_id, node.open(), reason, command);
    }

    /// End an order that is not in the book: release its hold and write what was open as cancelled.
    #[inline]
    fn end(&mut self, order: &Taker, reason: CancelReason) {
        let asset = self.books[order.book as usize].asset_given(order.side);
        self.accounts.hold(order.owner, asset, order.held_units, 0);
        self.write_cancelled(order.owner, order.book, order.order_id, order.open_lots, reason, 0);
    }

    // --- matching ---------------------------------------------------------------------------------------------------

    /// Trade an order, then rest or end it; its hold is taken, its acceptance or replacement is the last event.
    #[inline]
    pub fn execute(&mut self, mut taker: Taker, may_rest: bool) {
        let first_event = self.writer.events() - 1;
        let reason = self.trade_through(&mut taker, first_event);
        if taker.open_lots == 0 {
            let asset = self.books[taker.book as usize].asset_given(taker.side);
            self.accounts.hold(taker.owner, asset, taker.held_units, 0);
        } else if let Some(reason) = reason {
            self.end(&taker, reason);
        } else if may_rest {
            self.rest(&taker);
        } else {
            self.end(&taker, CancelReason::ImmediateOrCancel);
        }
    }

    /// Return whether an order of this side and price would meet one of the other side.
    #[inline]
    pub fn crosses(&self, book: u32, side: Side, price_ticks: u64) -> bool {
        let other = side.opposite();
        let best = self.pool.best(self.books[book as usize].half(other));
        best.is_some_and(|level| level.key() >= key_of(other, price_ticks))
    }

    /// Return whether the order would trade in full at once: what fill-or-kill asks. Looking is work.
    pub fn fillable(&mut self, taker: &Taker) -> bool {
        let other = taker.side.opposite();
        let limit = key_of(other, taker.price_ticks);
        let (mut events, mut missing_lots, mut looked_at, mut fills) = (1, taker.open_lots, 0, false);
        for slot in self.pool.orders(self.books[taker.book as usize].half(other)) {
            if self.pool.level_of(slot).key() < limit || !may_step(events) {
                break;
            }
            events += 1;
            looked_at += 1;
            let maker = self.pool.node(slot);
            if maker.owner != taker.owner || taker.self_trade_prevention == STP_NONE {
                missing_lots -= missing_lots.min(maker.open());
            } else if taker.self_trade_prevention != STP_CANCEL_MAKER {
                break;
            }
            if missing_lots == 0 {
                fills = true;
                break;
            }
        }
        self.looked_at += looked_at;
        fills
    }

    /// Trade until the order is filled, meets nothing, or must stop; return why its rest must be cancelled.
    #[inline]
    fn trade_through(&mut self, taker: &mut Taker, first_event: usize) -> Option<CancelReason> {
        let other = taker.side.opposite();
        let limit = key_of(other, taker.price_ticks);
        while taker.open_lots > 0 {
            let half = self.books[taker.book as usize].half(other);
            let best = self.pool.best(half)?;
            if best.key() < limit {
                return None;
            }
            let price_ticks = price_of(other, best.key());
            let maker = self.pool.first(half)?;
            if !may_step(self.writer.events() - first_event) {
                return Some(CancelReason::MatchLimit);
            }
            if self.pool.node(maker).owner != taker.owner || taker.self_trade_prevention == STP_NONE {
                self.trade(taker, maker, price_ticks);
            } else if self.prevent_self_trade(taker, maker) {
                return Some(CancelReason::SelfTrade);
            }
        }
        None
    }

    /// Do to the maker what the taker's mode says; return whether the rest of the taker is cancelled.
    fn prevent_self_trade(&mut self, taker: &mut Taker, maker: u32) -> bool {
        let mode = taker.self_trade_prevention;
        if mode == STP_CANCEL_TAKER {
            return true;
        }
        if mode == STP_CANCEL_MAKER || mode == STP_CANCEL_BOTH {
            self.cancel(maker, CancelReason::SelfTrade, 0);
            return mode == STP_CANCEL_BOTH;
        }
        let maker_open = self.pool.node(maker).open();
        let lots = taker.open_lots.min(maker_open);
        if maker_open == lots {
            self.cancel(maker, CancelReason::SelfTrade, 0);
        } else {
            self.reduce(maker, lots, ReduceReason::SelfTrade, 0);
        }
        if taker.open_lots == lots {
            return true;
        }
        taker.open_lots -= lots;
        let reason = ReduceReason::SelfTrade;
        self.write_reduced(taker.owner, taker.book, taker.order_id, lots, taker.open_lots, reason, 0);
        false
    }

    #[inline]
    fn trade(&mut self, taker: &mut Taker, slot: u32, price_ticks: u64) {
        let maker = *self.pool.node(slot);
        let book = &mut self.books[taker.book as usize];
        let lots = taker.open_lots.min(maker.open());
        let Some(notional) = notional_of(&book.market, price_ticks, lots) else {
            taker.open_lots = 0;
            return self.accounts.stop("I-02 a trade's notional reached 2^63");
        };
        let terms = maker.value.terms;
        let (maker_fee, maker_prepaid) = fee_of(notional, terms.maker_fee_ppm(), terms.maker_prepaid_ppm());
        let (taker_fee, taker_prepaid) = fee_of(notional, taker.taker_fee_ppm, taker.taker_prepaid_ppm);
        taker.taker_prepaid_ppm = taker_prepaid;
        taker.open_lots -= lots;
        taker.filled_lots += lots;
        let base_units = lots.wrapping_mul(book.market.base_units_per_lot);
        let (base, quote) = (book.market.base_asset, book.market.quote_asset);
        let accounts = &mut self.accounts;
        // Both sides pay before either is credited: an account that trades with itself would else own more for a moment
        // than there is. A maker's hold is what its fills cost to the unit, so nothing of it is left to release; a
        // taker's rest is released when it comes to rest or to its end.
        match taker.side {
            Side::Buy => {
                accounts.spend(maker.owner, base, base_units);
                accounts.spend(taker.owner, quote, notional.wrapping_add(taker_fee));
                taker.held_units = taker.held_units.wrapping_sub(notional.wrapping_add(taker_fee));
                accounts.credit(maker.owner, quote, notional - maker_fee);
                accounts.credit(taker.owner, base, base_units);
            }
            Side::Sell => {
                accounts.spend(maker.owner, quote, notional.wrapping_add(maker_fee));
                accounts.spend(taker.owner, base, base_units);
                taker.held_units = taker.held_units.wrapping_sub(base_units);
                accounts.credit(maker.owner, base, base_units);
                accounts.credit(taker.owner, quote, notional - taker_fee);
            }
        }
        accounts.collect(quote, maker_fee.wrapping_add(taker_fee));
        self.last_trade += 1;
        book.last_price_ticks = price_ticks;
        let (market, market_seq) = (book.market.market, book.next_seq());
        if maker.open() == lots {
            self.leave(slot);
        } else {
            self.pool.shrink(slot, lots);
            let value = self.pool.value_mut(slot);
            value.filled_lots += lots;
            value.terms.set_maker_prepaid_ppm(maker_prepaid);
        }
        let event = Trade {
            market,
            market_seq,
            trade_id: name_of(self.shard, self.last_trade),
            price_ticks,
            quantity_lots: lots,
            taker_side: number_of(taker.side),
            maker_order_id: maker.value.order_id,
            taker_order_id: taker.order_id,
            maker_account: self.accounts.row(maker.owner).number,
            maker_account_seq: self.accounts.next_seq(maker.owner),
            taker_account: self.accounts.row(taker.owner).number,
            taker_account_seq: self.accounts.next_seq(taker.owner),
            maker_fee_quote_units: maker_fee,
            taker_fee_quote_units: taker_fee,
        };
        self.writer.write(&event);
    }

    #[allow(clippy::too_many_arguments)]
    fn write_reduced(
        &mut self,
        owner: u32,
        book: u32,
        order_id: u64,
        reduced_lots: u64,
        open_lots: u64,
        reason: ReduceReason,
        command: u32,
    ) {
        let book = &mut self.books[book as usize];
        self.writer.write(&OrderReduced {
            command,
            account: self.accounts.row(owner).number,
            account_seq: self.accounts.next_seq(owner),
            market: book.market.market,
            market_seq: book.next_seq(),
            order_id,
            reduced_lots,
            open_lots,
            reason: reason as u32,
        });
    }

    #[inline]
    fn write_cancelled(
        &mut self,
        owner: u32,
        book: u32,
        order_id: u64,
        cancelled_lots: u64,
        reason: CancelReason,
        command: u32,
    ) {
        let book = &mut self.books[book as usize];
        self.writer.write(&OrderCancelled {
            command,
            account: self.accounts.row(owner).number,
            account_seq: self.accounts.next_seq(owner),
            market: book.market.market,
            market_seq: book.next_seq(),
            order_id,
            cancelled_lots,
            reason: reason as u32,
        });
    }
}

/// Return the most units that an order can need: what its account must have free to enter it; None: 2^63 or more.
///
/// A buy can cost its open notional at its own price, and fees. An order that cannot rest only takes; one that does not
/// cross only makes; one that can do both pays at the higher rate, and rounds up in each role.
#[inline]
pub(crate) fn entry_hold(market: &MarketSettings, order: &Taker, crosses: bool, may_rest: bool) -> Option<u64> {
    if order.side == Side::Sell {
        let units = u128::from(order.open_lots) * u128::from(market.base_units_per_lot);
        return u64::try_from(units).ok().filter(|&units| units <= AMOUNT_UNITS_MAX);
    }
    let notional = notional_of(market, order.price_ticks, order.open_lots)?;
    let fee = if !may_rest {
        fee_of(notional, order.taker_fee_ppm, order.taker_prepaid_ppm).0
    } else if !crosses {
        fee_of(notional, order.maker_fee_ppm, order.maker_prepaid_ppm).0
    } else {
        let rounds_twice = order.maker_fee_ppm > 0 && order.taker_fee_ppm > 0;
        let (higher, _) = fee_of(notional, order.maker_fee_ppm.max(order.taker_fee_ppm), 0);
        higher + u64::from(rounds_twice)
    };
    notional.checked_add(fee).filter(|&units| units <= AMOUNT_UNITS_MAX)
}
