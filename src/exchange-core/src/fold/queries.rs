//! What can be asked of a fold between two frames.

use std::collections::BTreeMap;

use super::accounts::{Account, Sent};
use super::book::{Book, LevelView, TapeTrade, Watch};
use super::errors::{FoldError, stopped};
use super::events::fee_of;
use super::orders::{Order, OrderView};
use super::{NONE, ShardFold};
use crate::kinds::BUY;
use crate::wire::messages::ShardSettings;

impl ShardFold {
    /// Return the number of the shard.
    #[must_use]
    pub fn shard(&self) -> u32 {
        self.shard
    }

    /// Return the position of the last frame; 0: none.
    #[must_use]
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Return the time of that frame in microseconds since 1970.
    #[must_use]
    pub fn t_us(&self) -> u64 {
        self.t_us
    }

    /// Return the hash of that frame, or the genesis hash.
    #[must_use]
    pub fn chain_hash(&self) -> [u8; 32] {
        self.chain_hash
    }

    /// Return the settings of the shard.
    #[must_use]
    pub fn settings(&self) -> ShardSettings {
        self.settings
    }

    /// Return the last sequence numbers of links that were applied, by sender.
    #[must_use]
    pub fn links_in(&self) -> &BTreeMap<u32, u64> {
        &self.links_in
    }

    /// Return the last sequence numbers of links that were sent, by receiver.
    #[must_use]
    pub fn links_out(&self) -> &BTreeMap<u32, u64> {
        &self.links_out
    }

    /// Return what links carry that are not yet forgotten, by receiver and sequence number.
    #[must_use]
    pub fn sent(&self) -> &BTreeMap<(u32, u64), Vec<Sent>> {
        &self.sent
    }

    /// Forget what links to a shard carry that it has applied.
    pub fn forget_sent(&mut self, to_shard: u32, up_to_sequence: u64) {
        self.sent.retain(|(shard, sequence), _| *shard != to_shard || *sequence > up_to_sequence);
    }

    /// Return the markets, ascending.
    #[must_use]
    pub fn markets(&self) -> Vec<u32> {
        let mut markets: Vec<u32> = self.book_of.keys().copied().collect();
        markets.sort_unstable();
        markets
    }

    /// Return the accounts that ever had an event, ascending.
    #[must_use]
    pub fn accounts(&self) -> Vec<u64> {
        let mut accounts: Vec<u64> = self.account_of.keys().copied().collect();
        accounts.sort_unstable();
        accounts
    }

    /// Return a market as it was defined last, encoded, and the state that it is in; None: no such market.
    #[must_use]
    pub fn market(&self, market: u32) -> Option<(&[u8], u32)> {
        self.book(market).map(|book| (book.settings.as_slice(), book.state))
    }

    /// Return a market's last sequence number and the price of its last trade, 0: none yet. None: no such market.
    #[must_use]
    pub fn last_of(&self, market: u32) -> Option<(u64, u64)> {
        self.book(market).map(|book| (book.market_seq, book.last_price_ticks))
    }

    /// Return the best levels of both sides, best first, at most so many of each. None: no such market.
    #[must_use]
    pub fn depth(&self, market: u32, levels_max: usize) -> Option<(Vec<LevelView>, Vec<LevelView>)> {
        let book = self.book(market)?;
        let bids = book.bids.values().rev().take(levels_max).map(|slot| self.level_view(*slot)).collect();
        let asks = book.asks.values().take(levels_max).map(|slot| self.level_view(*slot)).collect();
        Some((bids, asks))
    }

    /// Return the level of a price as it is now. None: no such market.
    #[must_use]
    pub fn level_at(&self, market: u32, side: u32, price_ticks: u64) -> Option<LevelView> {
        let book = self.book(market)?;
        Some(self.level_now(book, side, price_ticks))
    }

    /// Write down what changes in a market's book from now on; false: no such market.
    pub fn watch(&mut self, market: u32, watch: Watch) -> bool {
        let Some(&slot) = self.book_of.get(&market) else { return false };
        self.books[slot as usize].watch = watch;
        true
    }

    /// Return the last trades with a higher sequence number, oldest first, at most so many, and the sequence number
    /// after which the tape has every trade. None: no such market.
    #[must_use]
    pub fn trades_after(&self, market: u32, market_seq: u64, trades_max: usize) -> Option<(Vec<TapeTrade>, u64)> {
        let tape = &self.book(market)?.tape;
        let first = tape.trades.partition_point(|trade| trade.market_seq <= market_seq);
        Some((tape.trades.iter().skip(first).take(trades_max).copied().collect(), tape.complete_after))
    }

    /// Return the last trades with a lower sequence number, newest first, at most so many; 0: of all. The second number
    /// is as in `trades_after`.
    #[must_use]
    pub fn trades_before(&self, market: u32, market_seq: u64, trades_max: usize) -> Option<(Vec<TapeTrade>, u64)> {
        let tape = &self.book(market)?.tape;
        let end = match market_seq {
            0 => tape.trades.len(),
            _ => tape.trades.partition_point(|trade| trade.market_seq < market_seq),
        };
        Some((tape.trades.range(..end).rev().take(trades_max).copied().collect(), tape.complete_after))
    }

    /// Put onto tapes and into transit what a frame before the state says that the fold started from. Frames come in
    /// their order and before any is applied; the rest of what they say is in that state.
    ///
    /// # Errors
    ///
    /// The frame is not canonical, or names a market that there is not.
    pub fn take_in_the_past(&mut self, frame: &[u8]) -> Result<(), FoldError> {
        self.place = 0;
        self.past(frame).map_err(|failure| stopped(self.n, frame, self.place, failure))
    }

    /// Return free and locked units by asset, ascending; assets of which the account has nothing are left out.
    #[must_use]
    pub fn balances(&self, account: u64) -> Vec<(u32, i128, i128)> {
        let Some(owner) = self.owner(account) else { return Vec::new() };
        let locked = self.locked(owner);
        let there = owner.units.iter().filter(|(_, units)| *units != 0);
        there
            .map(|(asset, units)| {
                let locked = locked.get(asset).copied().unwrap_or(0);
                (*asset, units.saturating_sub(locked), locked)
            })
            .collect()
    }

    /// Return the sequence number of an account's last event; 0: it had none.
    #[must_use]
    pub fn account_seq(&self, account: u64) -> u64 {
        self.owner(account).map_or(0, |owner| owner.account_seq)
    }

    /// Yield an account's open orders in the order in which they came.
    pub fn open_orders(&self, account: u64) -> impl Iterator<Item = OrderView> + '_ {
        let first = self.owner(account).map_or(NONE, |owner| owner.first_order);
        self.orders_from(first).map(|order| self.order_view(order))
    }

    /// Return an open order.
    #[must_use]
    pub fn order(&self, order_id: u64) -> Option<OrderView> {
        self.order_of.get(&order_id).map(|slot| self.order_view(&self.orders[*slot as usize]))
    }

    /// Return the open orders' names, in no order.
    #[must_use]
    pub fn order_ids(&self) -> Vec<u64> {
        self.order_of.keys().copied().collect()
    }

    /// Return how many markets there are; they never go.
    #[must_use]
    pub fn markets_len(&self) -> usize {
        self.books.len()
    }

    /// Return how many orders are open.
    #[must_use]
    pub fn open_orders_len(&self) -> usize {
        self.order_of.len()
    }

    /// Keep what the command says that placed an order; false: the order is not open any more.
    pub fn set_self_trade_prevention(&mut self, order_id: u64, mode: u32) -> bool {
        let Some(&slot) = self.order_of.get(&order_id) else { return false };
        self.orders[slot as usize].self_trade_prevention = mode;
        true
    }

    fn owner(&self, account: u64) -> Option<&Account> {
        self.account_of.get(&account).map(|slot| &self.accounts[*slot as usize])
    }

    fn book(&self, market: u32) -> Option<&Book> {
        self.book_of.get(&market).map(|slot| &self.books[*slot as usize])
    }

    fn level_view(&self, slot: u32) -> LevelView {
        let level = &self.levels.levels[slot as usize];
        LevelView { price_ticks: level.price_ticks, quantity_lots: level.quantity_lots, orders: level.orders }
    }

    pub(super) fn level_now(&self, book: &Book, side: u32, price_ticks: u64) -> LevelView {
        let levels = if side == BUY { &book.bids } else { &book.asks };
        let there = levels.get(&price_ticks).map(|slot| self.level_view(*slot));
        there.unwrap_or(LevelView { price_ticks, ..LevelView::default() })
    }

    fn orders_from(&self, first: u32) -> impl Iterator<Item = &Order> + '_ {
        let slots = std::iter::successors((first != NONE).then_some(first), |slot| {
            let next = self.orders[*slot as usize].next;
            (next != NONE).then_some(next)
        });
        slots.map(|slot| &self.orders[slot as usize])
    }

    fn order_view(&self, order: &Order) -> OrderView {
        OrderView {
            order_id: order.order_id,
            client_order_id: order.client_order_id,
            account: self.accounts[order.account as usize].account,
            market: self.books[order.book as usize].market,
            side: order.side,
            price_ticks: order.price_ticks,
            open_lots: order.open_lots,
            filled_lots: order.filled_lots,
            post_only: order.post_only,
            self_trade_prevention: order.self_trade_prevention,
            maker_fee_ppm: order.maker_fee_ppm,
            taker_fee_ppm: order.taker_fee_ppm,
            maker_prepaid_ppm: order.maker_prepaid_ppm,
            taker_prepaid_ppm: order.taker_prepaid_ppm,
            origin: (order.origin_n, order.origin_batch, order.origin_command),
        }
    }

    /// Return the units that an account's open orders hold, by asset.
    fn locked(&self, owner: &Account) -> BTreeMap<u32, i128> {
        let mut locked = BTreeMap::new();
        for order in self.orders_from(owner.first_order) {
            let book = &self.books[order.book as usize];
            let (asset, units) = if order.side == BUY {
                let cost = u128::from(order.price_ticks) * u128::from(order.open_lots);
                let notional = cost.saturating_mul(u128::from(book.quote_units_per_tick_lot));
                let (fee, _) = fee_of(notional, order.maker_fee_ppm, order.maker_prepaid_ppm);
                (book.quote_asset, notional.saturating_add(fee))
            } else {
                (book.base_asset, u128::from(order.open_lots) * u128::from(book.base_units_per_lot))
            };
            let there: &mut i128 = locked.entry(asset).or_default();
            *there = there.saturating_add(i128::try_from(units).unwrap_or(i128::MAX));
        }
        locked
    }
}
