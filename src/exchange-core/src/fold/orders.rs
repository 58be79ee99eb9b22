//! Open orders, and how they come to books and leave them.

use super::book::Level;
use super::errors::{Failure, Reason, fail};
use super::{NONE, ShardFold, slot_of};

/// An open order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct OrderView {
    pub order_id: u64,
    pub client_order_id: u64,
    pub account: u64,
    pub market: u32,
    pub side: u32,
    pub price_ticks: u64,
    pub open_lots: u64,
    pub filled_lots: u64,
    pub post_only: bool,
    /// 0: no event says it, it stands in the command that placed the order.
    pub self_trade_prevention: u32,
    pub maker_fee_ppm: u32,
    pub taker_fee_ppm: u32,
    pub maker_prepaid_ppm: u32,
    pub taker_prepaid_ppm: u32,
    /// Entry, batch in it and command in that which placed the order; 0: it came from a checkpoint.
    pub origin: (u64, u32, u32),
}

#[allow(clippy::struct_field_names)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) order_id: u64,
    pub(super) client_order_id: u64,
    pub(super) price_ticks: u64,
    pub(super) open_lots: u64,
    pub(super) filled_lots: u64,
    pub(super) origin_n: u64,
    pub(super) origin_batch: u32,
    pub(super) origin_command: u32,
    pub(super) book: u32,
    pub(super) account: u32,
    /// Where it rests; NONE: it does not, its command is not done.
    pub(super) level: u32,
    pub(super) side: u32,
    pub(super) self_trade_prevention: u32,
    pub(super) maker_fee_ppm: u32,
    pub(super) taker_fee_ppm: u32,
    pub(super) maker_prepaid_ppm: u32,
    pub(super) taker_prepaid_ppm: u32,
    /// Open orders of the account before and after this one; of a free slot `next` is the next free one.
    pub(super) previous: u32,
    pub(super) next: u32,
    pub(super) post_only: bool,
    /// It is among the open orders by name and by account.
    pub(super) is_known: bool,
}

impl ShardFold {
    pub(super) fn make(&mut self, order: Order) -> u32 {
        if self.free_order == NONE {
            self.orders.push(order);
            return slot_of(self.orders.len() - 1);
        }
        let slot = self.free_order;
        let free = &mut self.orders[slot as usize];
        self.free_order = free.next;
        *free = order;
        slot
    }

    /// Take an order among the open ones, by its name and its account's last.
    pub(super) fn know(&mut self, slot: u32) -> Result<(), Failure> {
        let order_id = self.orders[slot as usize].order_id;
        if self.order_of.insert(order_id, slot).is_some() {
            return fail(Reason::OrderMismatch, format!("order {order_id} is open already"));
        }
        let order = &mut self.orders[slot as usize];
        order.is_known = true;
        let owner = &mut self.accounts[order.account as usize];
        order.previous = owner.last_order;
        order.next = NONE;
        let last = std::mem::replace(&mut owner.last_order, slot);
        if last == NONE {
            owner.first_order = slot;
        } else {
            self.orders[last as usize].next = slot;
        }
        Ok(())
    }

    /// Forget an order that is in no level any more; its slot is free.
    pub(super) fn end(&mut self, slot: u32) {
        let Order { order_id, account, previous, next, is_known, .. } = self.orders[slot as usize];
        if is_known {
            self.order_of.remove(&order_id);
            let owner = &mut self.accounts[account as usize];
            if previous == NONE {
                owner.first_order = next;
            } else {
                self.orders[previous as usize].next = next;
            }
            if next == NONE {
                owner.last_order = previous;
            } else {
                self.orders[next as usize].previous = previous;
            }
        }
        self.orders[slot as usize].next = self.free_order;
        self.free_order = slot;
    }

    /// Add what is open of an order to the level of its price.
    #[inline]
    pub(super) fn rest(&mut self, slot: u32) {
        let order = &mut self.orders[slot as usize];
        let price_ticks = order.price_ticks;
        let book = &mut self.books[order.book as usize];
        let levels = &mut self.levels;
        let level = *book
            .side(order.side)
            .entry(price_ticks)
            .or_insert_with(|| levels.make(Level { price_ticks, quantity_lots: 0, orders: 0 }));
        let there = &mut levels.levels[level as usize];
        there.quantity_lots += u128::from(order.open_lots);
        there.orders += 1;
        order.level = level;
        book.note(order.side, price_ticks);
    }

    /// Take what is open of an order, and the order, out of its level.
    #[inline]
    pub(super) fn leave(&mut self, slot: u32) {
        let order = &mut self.orders[slot as usize];
        let level = std::mem::replace(&mut order.level, NONE);
        let Some(there) = self.levels.levels.get_mut(level as usize) else { return };
        there.quantity_lots -= u128::from(order.open_lots);
        there.orders -= 1;
        let book = &mut self.books[order.book as usize];
        let price_ticks = there.price_ticks;
        if there.orders == 0 {
            book.side(order.side).remove(&price_ticks);
            self.levels.free.push(level);
        }
        book.note(order.side, price_ticks);
    }

    /// Take lots off an order that rests.
    #[inline]
    pub(super) fn shrink(&mut self, slot: u32, lots: u64) -> Result<(), Failure> {
        let order = &mut self.orders[slot as usize];
        let Some(level) = self.levels.levels.get_mut(order.level as usize) else {
            return fail(Reason::OrderMismatch, format!("order {} rests not", order.order_id));
        };
        let Some(open_lots) = order.open_lots.checked_sub(lots) else {
            return fail(Reason::OrderMismatch, format!("order {} has {} lots open", order.order_id, order.open_lots));
        };
        order.open_lots = open_lots;
        level.quantity_lots -= u128::from(lots);
        self.books[order.book as usize].note(order.side, level.price_ticks);
        Ok(())
    }

    /// Return an account's open order in a book.
    #[inline]
    pub(super) fn find(&self, order_id: u64, account: u64, book: u32) -> Result<u32, Failure> {
        if let Some(&slot) = self.order_of.get(&order_id) {
            let order = &self.orders[slot as usize];
            if self.accounts[order.account as usize].account == account && order.book == book {
                return Ok(slot);
            }
        }
        fail(Reason::UnknownOrder, format!("order {order_id}"))
    }

    #[inline]
    pub(super) fn taker_named(&self, order_id: u64) -> bool {
        self.taker != NONE && self.orders[self.taker as usize].order_id == order_id
    }
}
