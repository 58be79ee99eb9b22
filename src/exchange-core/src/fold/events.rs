//! What events do to a shard.

use super::accounts::Sent;
use super::book::{Book, TapeTrade};
use super::columns::Applied;
use super::errors::{Failure, Reason, fail, malformed};
use super::orders::Order;
use super::{NONE, ShardFold, member, read, slot_of};
use crate::frames::split;
use crate::kinds::{BUY, GTC, LIMIT};
use crate::units::PPM;
use crate::wire::messages::{
    FundsSent, LinkResult, MarketDefined, MarketStateChanged, OrderAccepted, OrderCancelled, OrderReduced,
    OrderReplaced, Trade,
};

/// A notional from here on has a fee that is above 2^64 at any rate but zero: 2^95 / 10^6 > 2^64.
const NOTIONAL_HUGE: u128 = 1 << 95;

impl ShardFold {
    pub(super) fn on_event_of_account(
        &mut self,
        account: u64,
        account_seq: u64,
        out: &mut Applied,
    ) -> Result<(), Failure> {
        self.begin(out)?;
        self.touch(account, account_seq)?;
        Ok(())
    }

    pub(super) fn on_accepted(&mut self, event: &OrderAccepted, out: &mut Applied) -> Result<(), Failure> {
        self.begin(out)?;
        let account = self.touch(event.account, event.account_seq)?;
        let book = self.number(event.market, event.market_seq)?;
        let there = &self.books[book as usize];
        let order = Order {
            order_id: event.order_id,
            client_order_id: event.client_order_id,
            price_ticks: event.price_ticks,
            open_lots: event.quantity_lots,
            filled_lots: 0,
            origin_n: self.n,
            origin_batch: self.batch,
            origin_command: event.command,
            book,
            account,
            level: NONE,
            side: event.side,
            self_trade_prevention: 0,
            maker_fee_ppm: there.maker_fee_ppm,
            taker_fee_ppm: there.taker_fee_ppm,
            maker_prepaid_ppm: 0,
            taker_prepaid_ppm: 0,
            previous: NONE,
            next: NONE,
            post_only: event.post_only,
            is_known: false,
        };
        self.taker = self.make(order);
        self.taker_rests = event.time_in_force == GTC && event.order_type == LIMIT;
        Ok(())
    }

    pub(super) fn on_replaced(&mut self, event: &OrderReplaced, out: &mut Applied) -> Result<(), Failure> {
        self.begin(out)?;
        self.touch(event.account, event.account_seq)?;
        let book = self.number(event.market, event.market_seq)?;
        let slot = self.find(event.order_id, event.account, book)?;
        let order = &self.orders[slot as usize];
        if event.priority_kept {
            let (price_ticks, open_lots) = (order.price_ticks, order.open_lots);
            if event.price_ticks != price_ticks || event.open_lots > open_lots {
                let detail = format!("order {} keeps a priority that it has lost", event.order_id);
                return fail(Reason::OrderMismatch, detail);
            }
            return self.shrink(slot, open_lots - event.open_lots);
        }
        self.leave(slot);
        let there = &self.books[book as usize];
        let order = &mut self.orders[slot as usize];
        (order.price_ticks, order.open_lots) = (event.price_ticks, event.open_lots);
        (order.maker_fee_ppm, order.taker_fee_ppm) = (there.maker_fee_ppm, there.taker_fee_ppm);
        (self.taker, self.taker_rests) = (slot, true);
        Ok(())
    }

    pub(super) fn on_reduced(&mut self, event: &OrderReduced, out: &mut Applied) -> Result<(), Failure> {
        if event.command != 0 {
            self.begin(out)?;
        }
        self.touch(event.account, event.account_seq)?;
        let book = self.number(event.market, event.market_seq)?;
        let is_takers = self.taker_named(event.order_id);
        let slot = if is_takers { self.taker } else { self.find(event.order_id, event.account, book)? };
        let open_lots = self.orders[slot as usize].open_lots;
        let left = i128::from(open_lots) - i128::from(event.reduced_lots);
        if left != i128::from(event.open_lots) || left <= 0 {
            return fail(Reason::OrderMismatch, format!("order {} has {left} lots open", event.order_id));
        }
        if is_takers {
            self.orders[slot as usize].open_lots = event.open_lots;
        } else {
            self.shrink(slot, event.reduced_lots)?;
        }
        Ok(())
    }

    pub(super) fn on_cancelled(&mut self, event: &OrderCancelled, out: &mut Applied) -> Result<(), Failure> {
        if event.command != 0 {
            self.begin(out)?;
        }
        self.touch(event.account, event.account_seq)?;
        let book = self.number(event.market, event.market_seq)?;
        let slot = if self.taker_named(event.order_id) {
            std::mem::replace(&mut self.taker, NONE)
        } else {
            let slot = self.find(event.order_id, event.account, book)?;
            self.leave(slot);
            slot
        };
        let order = &self.orders[slot as usize];
        if order.open_lots != event.cancelled_lots {
            let detail = format!("order {} has {} lots open", order.order_id, order.open_lots);
            return fail(Reason::OrderMismatch, detail);
        }
        self.end(slot);
        Ok(())
    }

    pub(super) fn on_trade(&mut self, event: &Trade, out: &mut Applied) -> Result<(), Failure> {
        let book_slot = self.number(event.market, event.market_seq)?;
        let maker_owner = self.touch(event.maker_account, event.maker_account_seq)?;
        let taker_owner = self.touch(event.taker_account, event.taker_account_seq)?;
        let maker_slot = self.find(event.maker_order_id, event.maker_account, book_slot)?;
        let taker_slot = self.taker;
        let is_takers = self.taker_named(event.taker_order_id) && {
            let taker = &self.orders[taker_slot as usize];
            taker.account == taker_owner && taker.book == book_slot
        };
        if !is_takers {
            return fail(Reason::UnknownOrder, "it is not the taker's".to_owned());
        }
        let (maker, taker) = (self.orders[maker_slot as usize], self.orders[taker_slot as usize]);
        let (price_ticks, lots) = (event.price_ticks, event.quantity_lots);
        if maker.level == NONE || maker.price_ticks != price_ticks || lots > maker.open_lots || lots > taker.open_lots {
            return fail(Reason::OrderMismatch, format!("{lots} lots at {price_ticks}"));
        }

        let book = &mut self.books[book_slot as usize];
        let cost = u128::from(price_ticks) * u128::from(lots);
        let notional = cost.saturating_mul(u128::from(book.quote_units_per_tick_lot));
        let (maker_fee, maker_prepaid_ppm) = fee_of(notional, maker.maker_fee_ppm, maker.maker_prepaid_ppm);
        let (taker_fee, taker_prepaid_ppm) = fee_of(notional, taker.taker_fee_ppm, taker.taker_prepaid_ppm);
        let said = (event.maker_fee_quote_units, event.taker_fee_quote_units);
        if (maker_fee, taker_fee) != (u128::from(said.0), u128::from(said.1)) {
            let detail =
                format!("fees are {} and {}, by the orders' rates {maker_fee} and {taker_fee}", said.0, said.1);
            return fail(Reason::FeeMismatch, detail);
        }

        let (base_asset, quote_asset) = (book.base_asset, book.quote_asset);
        let base_units = signed(u128::from(lots) * u128::from(book.base_units_per_lot));
        // Fees are below 2^64 here, for they equal what the event says.
        let (notional, maker_fee, taker_fee) = (signed(notional), signed(maker_fee), signed(taker_fee));
        book.last_price_ticks = price_ticks;
        book.tape.push(TapeTrade {
            market_seq: event.market_seq,
            trade_id: event.trade_id,
            price_ticks,
            quantity_lots: lots,
            taker_side: taker.side,
            t_us: self.t_us,
        });
        if taker.side == BUY {
            self.debit(taker_owner, quote_asset, notional.saturating_add(taker_fee))?;
            self.debit(maker_owner, base_asset, base_units)?;
            self.credit(taker_owner, base_asset, base_units);
            self.credit(maker_owner, quote_asset, notional - maker_fee);
        } else {
            self.debit(maker_owner, quote_asset, notional.saturating_add(maker_fee))?;
            self.debit(taker_owner, base_asset, base_units)?;
            self.credit(maker_owner, base_asset, base_units);
            self.credit(taker_owner, quote_asset, notional - taker_fee);
        }

        let trades = &mut out.trades;
        trades.market.push(event.market);
        trades.market_seq.push(event.market_seq);
        trades.trade_id.push(event.trade_id);
        trades.price_ticks.push(price_ticks);
        trades.quantity_lots.push(lots);
        trades.taker_side.push(taker.side);
        let order = &mut self.orders[taker_slot as usize];
        order.taker_prepaid_ppm = taker_prepaid_ppm;
        order.open_lots -= lots;
        order.filled_lots = order.filled_lots.wrapping_add(lots);
        let order = &mut self.orders[maker_slot as usize];
        order.maker_prepaid_ppm = maker_prepaid_ppm;
        order.filled_lots = order.filled_lots.wrapping_add(lots);
        if lots == maker.open_lots {
            self.leave(maker_slot);
            self.end(maker_slot);
            Ok(())
        } else {
            self.shrink(maker_slot, lots)
        }
    }

    pub(super) fn on_sent(&mut self, event: &FundsSent, out: &mut Applied) -> Result<(), Failure> {
        self.begin(out)?;
        if event.account != 0 {
            let owner = self.touch(event.account, event.account_seq)?;
            self.debit(owner, event.asset, i128::from(event.amount_units))?;
        }
        let (to_shard, sequence) = (event.to_shard, event.link_sequence);
        let last = self.links_out.get(&to_shard).copied().unwrap_or(0);
        if last.checked_add(1) == Some(sequence) {
            self.begun.push(to_shard);
        } else if sequence != last || !self.begun.contains(&to_shard) {
            return fail(Reason::LinkGap, format!("link {sequence} to shard {to_shard} after {last}"));
        }
        self.links_out.insert(to_shard, sequence);
        self.note_sent(event, self.t_us);
        Ok(())
    }

    pub(super) fn note_sent(&mut self, event: &FundsSent, debited_us: u64) {
        let &FundsSent { account, asset, amount_units, to_shard, link_sequence, .. } = event;
        let part = Sent { account, asset, amount_units, debited_us };
        self.sent.entry((to_shard, link_sequence)).or_default().push(part);
    }

    pub(super) fn on_link(&mut self, event: &LinkResult, out: &mut Applied) -> Result<(), Failure> {
        self.begin(out)?;
        if event.reason != 0 || event.repeated {
            return Ok(());
        }
        let last = self.links_in.get(&event.from_shard).copied().unwrap_or(0);
        if last.checked_add(1) != Some(event.sequence) {
            let detail = format!("link {} from shard {} after {last}", event.sequence, event.from_shard);
            return fail(Reason::LinkGap, detail);
        }
        self.links_in.insert(event.from_shard, event.sequence);
        Ok(())
    }

    pub(super) fn on_market(&mut self, event: &MarketDefined, out: &mut Applied) -> Result<(), Failure> {
        self.begin(out)?;
        let market = event.market.market;
        if !self.book_of.contains_key(&market) {
            self.book_of.insert(market, slot_of(self.books.len()));
            self.books.push(Book::new(0, 0));
        }
        let book = self.number(market, event.market_seq)?;
        self.books[book as usize].define(&event.market);
        Ok(())
    }

    pub(super) fn past(&mut self, frame: &[u8]) -> Result<(), Failure> {
        let (head, events) = split(frame).map_err(|_| malformed())?;
        for event in events {
            self.place += 1;
            let event = event.map_err(|_| malformed())?;
            let data = event.content;
            let (market, market_seq) = match event.member {
                member::FUNDS_SENT => {
                    self.note_sent(&read(data)?, head.t_us);
                    continue;
                }
                member::TRADE => {
                    let trade: Trade = read(data)?;
                    let book = self.past_book(trade.market)?;
                    book.tape.complete_after = book.tape.complete_after.min(trade.market_seq.saturating_sub(1));
                    book.tape.push(TapeTrade {
                        market_seq: trade.market_seq,
                        trade_id: trade.trade_id,
                        price_ticks: trade.price_ticks,
                        quantity_lots: trade.quantity_lots,
                        taker_side: trade.taker_side,
                        t_us: head.t_us,
                    });
                    continue;
                }
                member::ORDER_ACCEPTED => of_market(&read::<OrderAccepted>(data)?, |e| (e.market, e.market_seq)),
                member::ORDER_REPLACED => of_market(&read::<OrderReplaced>(data)?, |e| (e.market, e.market_seq)),
                member::ORDER_REDUCED => of_market(&read::<OrderReduced>(data)?, |e| (e.market, e.market_seq)),
                member::ORDER_CANCELLED => of_market(&read::<OrderCancelled>(data)?, |e| (e.market, e.market_seq)),
                member::MARKET_DEFINED => of_market(&read::<MarketDefined>(data)?, |e| (e.market.market, e.market_seq)),
                member::MARKET_STATE_CHANGED => {
                    of_market(&read::<MarketStateChanged>(data)?, |e| (e.market, e.market_seq))
                }
                _ => continue,
            };
            if market_seq != 0 {
                let tape = &mut self.past_book(market)?.tape;
                // The oldest event of the market that is at hand: what came before it is not.
                tape.complete_after = tape.complete_after.min(market_seq - 1);
            }
        }
        Ok(())
    }

    pub(super) fn past_book(&mut self, market: u32) -> Result<&mut Book, Failure> {
        match self.book_of.get(&market) {
            Some(&slot) => Ok(&mut self.books[slot as usize]),
            None => fail(Reason::UnknownMarket, format!("market {market}")),
        }
    }
}

fn of_market<M>(event: &M, market_and_seq: impl Fn(&M) -> (u32, u64)) -> (u32, u64) {
    market_and_seq(event)
}

/// Return the fee of a trade that is due after what was paid ahead, and what is then paid ahead (`domain.money`).
#[inline]
pub(super) fn fee_of(notional: u128, ppm: u32, prepaid_ppm: u32) -> (u128, u32) {
    if notional >= NOTIONAL_HUGE {
        return if ppm == 0 { (0, prepaid_ppm) } else { (u128::MAX, prepaid_ppm) };
    }
    let due_ppm = notional * u128::from(ppm);
    let prepaid = u128::from(prepaid_ppm);
    let Some(due_ppm) = due_ppm.checked_sub(prepaid) else {
        return (0, u32::try_from(prepaid - due_ppm).unwrap_or(0));
    };
    // Division of 128 bits costs thirty times as much, and no order that was accepted needs it.
    let fee = match u64::try_from(due_ppm) {
        Ok(due_ppm) => u128::from(due_ppm.div_ceil(PPM)),
        Err(_) => due_ppm.div_ceil(u128::from(PPM)),
    };
    (fee, u32::try_from(fee * u128::from(PPM) - due_ppm).unwrap_or(0))
}

fn signed(units: u128) -> i128 {
    i128::try_from(units).unwrap_or(i128::MAX)
}
