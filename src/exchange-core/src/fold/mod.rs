//! Market data's fold of a trading shard: books, open orders, and what everybody has, after each execution frame.
//!
//! It starts from a checkpoint's state or a genesis and takes frames in order, as `exchange.marketdata.fold`; whatever
//! does not follow from what it knows stops it, and then the whole fold is to be thrown away. Between two frames it
//! equals the engine that wrote them.
//!
//! How events are read. A command's first event carries its place; the ones behind it are its consequences. An order
//! that was accepted, or replaced with its priority lost, is the taker until the next command begins; only then does
//! what is open of it stand in the book. So a book is seen between commands and never in the middle of one.
//!
//! Unlike the protobuf library this takes canonical bytes only: anything else is `MalformedFrame`.

mod accounts;
mod book;
mod columns;
mod errors;
mod events;
mod orders;
mod queries;

use std::collections::BTreeMap;

use hashbrown::HashMap;

pub use accounts::Sent;
pub use book::{LevelView, TRADES_KEPT, TapeTrade, Watch};
pub use columns::{AccountColumns, Applied, ChangeColumns, FrameColumns, TradeColumns};
pub use errors::{FoldError, Reason, StartError};
pub use orders::OrderView;

use accounts::Account;
use book::{Book, Levels};
use errors::{Failure, fail, malformed, stopped};
use orders::Order;

use crate::checkpoint::read_shard_checkpoint;
use crate::frames::{RawEvent, hex, split};
use crate::hashing::{chain_hash, genesis_hash};
use crate::kinds::{BUY, SELL};
use crate::ladder::NONE;
use crate::shard::RULES_MAX;
use crate::wire::messages::{
    BatchResult, CancelAllAccepted, CancelAllDone, CommandRejected, FundsCredited, Genesis, MarketStateChanged,
    RestingOrder, ShardSettings, ShardSettingsChanged, ShardState,
};
use crate::wire::{Message, check_format};

/// A trading shard, after frame `n`.
#[derive(Clone, Debug)]
pub struct ShardFold {
    shard: u32,
    n: u64,
    t_us: u64,
    chain_hash: [u8; 32],
    settings: ShardSettings,
    links_in: BTreeMap<u32, u64>,
    links_out: BTreeMap<u32, u64>,
    sent: BTreeMap<(u32, u64), Vec<Sent>>,
    /// Shards to which the frame under way has begun a link.
    begun: Vec<u32>,
    accounts: Vec<Account>,
    account_of: HashMap<u64, u32>,
    books: Vec<Book>,
    book_of: HashMap<u32, u32>,
    levels: Levels,
    orders: Vec<Order>,
    free_order: u32,
    order_of: HashMap<u64, u32>,
    place: u32,
    batch: u32,
    taker: u32,
    taker_rests: bool,
    /// Books with a change under way: of this command, or of this frame.
    touched_by_command: Vec<u32>,
    touched_by_frame: Vec<u32>,
    /// Accounts in the frame under way, which of these rows each event touches, and how many events each row has.
    rows: Vec<u64>,
    touches: Vec<(u32, u32)>,
    touches_of_row: Vec<u32>,
    is_stopped: bool,
}

impl ShardFold {
    /// Return the fold before the first frame; `genesis` is the encoded Genesis of the shard.
    ///
    /// # Errors
    ///
    /// The genesis is of another version or not canonical.
    pub fn from_genesis(genesis: &[u8]) -> Result<Self, StartError> {
        check_format("genesis", genesis).map_err(StartError::Format)?;
        let parsed = Genesis::decode(genesis).map_err(StartError::Wire)?;
        let hash = genesis_hash(parsed.environment, parsed.shard, genesis);
        Ok(Self::new(parsed.shard, (0, 0, hash), parsed.settings))
    }

    /// Return the fold at a checkpoint; `state` is the encoded `ShardState` in it, which its reader has checked.
    ///
    /// # Errors
    ///
    /// The state is of another version, not canonical, or contradicts itself.
    pub fn from_state(state: &[u8]) -> Result<Self, StartError> {
        check_format("state", state).map_err(StartError::Format)?;
        Self::load(&ShardState::decode(state).map_err(StartError::Wire)?)
    }

    /// Return the fold at an encoded checkpoint.
    ///
    /// # Errors
    ///
    /// It is of another version, not canonical, damaged, or breaks an invariant.
    pub fn from_checkpoint(data: &[u8]) -> Result<Self, StartError> {
        Self::load(&read_shard_checkpoint(data).map_err(StartError::Checkpoint)?)
    }

    fn load(state: &ShardState<'_>) -> Result<Self, StartError> {
        let core = &state.core;
        let mut fold = Self::new(core.genesis.shard, (core.n, core.t_us, *core.chain_hash), core.settings);
        fold.links_in = core.links_in.iter().map(|link| (link.from_shard, link.last_sequence)).collect();
        fold.links_out = core.links_out.iter().map(|link| (link.to_shard, link.last_sequence)).collect();
        for there in &state.accounts {
            let mut account = Account::new(there.account, there.account_seq);
            for balance in &there.balances {
                account.add(balance.asset, i128::from(balance.free_units) + i128::from(balance.locked_units));
            }
            let slot = slot_of(fold.accounts.len());
            fold.accounts.push(account);
            if fold.account_of.insert(there.account, slot).is_some() {
                return Err(StartError::State("an account comes twice"));
            }
        }
        let mut resting: Vec<(u32, u32, &RestingOrder)> = Vec::new();
        for there in &state.books {
            let mut book = Book::new(there.market_seq, there.last_price_ticks);
            book.define(&there.market);
            let slot = slot_of(fold.books.len());
            if fold.book_of.insert(book.market, slot).is_some() {
                return Err(StartError::State("a market comes twice"));
            }
            fold.books.push(book);
            resting.extend(there.bids.iter().map(|order| (slot, BUY, order)));
            resting.extend(there.asks.iter().map(|order| (slot, SELL, order)));
        }
        resting.sort_by_key(|(_, _, order)| order.order_id);
        for (book, side, there) in resting {
            let Some(&account) = fold.account_of.get(&there.account) else {
                return Err(StartError::State("an order is of no account"));
            };
            let slot = fold.make(Order {
                order_id: there.order_id,
                client_order_id: there.client_order_id,
                price_ticks: there.price_ticks,
                open_lots: there.open_lots,
                filled_lots: there.filled_lots,
                origin_n: 0,
                origin_batch: 0,
                origin_command: 0,
                book,
                account,
                level: NONE,
                side,
                self_trade_prevention: there.self_trade_prevention,
                maker_fee_ppm: there.maker_fee_ppm,
                taker_fee_ppm: there.taker_fee_ppm,
                maker_prepaid_ppm: there.maker_prepaid_ppm,
                taker_prepaid_ppm: there.taker_prepaid_ppm,
                previous: NONE,
                next: NONE,
                post_only: there.post_only,
                is_known: false,
            });
            fold.know(slot).map_err(|_| StartError::State("an order comes twice"))?;
            fold.rest(slot);
        }
        Ok(fold)
    }

    fn new(shard: u32, (n, t_us, chain_hash): (u64, u64, [u8; 32]), settings: ShardSettings) -> Self {
        Self {
            shard,
            n,
            t_us,
            chain_hash,
            settings,
            links_in: BTreeMap::new(),
            links_out: BTreeMap::new(),
            sent: BTreeMap::new(),
            begun: Vec::new(),
            accounts: Vec::new(),
            account_of: HashMap::new(),
            books: Vec::new(),
            book_of: HashMap::new(),
            levels: Levels { levels: Vec::new(), free: Vec::new() },
            orders: Vec::new(),
            free_order: NONE,
            order_of: HashMap::new(),
            place: 0,
            batch: 0,
            taker: NONE,
            taker_rests: false,
            touched_by_command: Vec::new(),
            touched_by_frame: Vec::new(),
            rows: Vec::new(),
            touches: Vec::new(),
            touches_of_row: Vec::new(),
            is_stopped: false,
        }
    }

    /// Take in the next frames and append what they did to `out`, which has all of a frame or nothing of it.
    ///
    /// # Errors
    ///
    /// A frame does not follow: those before it are in `out`. The fold must not be used any more; it refuses to be.
    pub fn apply(&mut self, frames: &[&[u8]], out: &mut Applied) -> Result<(), FoldError> {
        for frame in frames {
            let n = self.n.wrapping_add(1);
            if self.is_stopped {
                let detail = "the fold has stopped before".to_owned();
                return Err(FoldError { reason: Reason::FrameGap, n, detail });
            }
            if let Err(failure) = self.apply_one(n, frame, out) {
                self.is_stopped = true;
                out.cut();
                return Err(stopped(n, frame, self.place, failure));
            }
        }
        Ok(())
    }

    // --- frames -----------------------------------------------------------------------------------------------------

    fn apply_one(&mut self, n: u64, frame: &[u8], out: &mut Applied) -> Result<(), Failure> {
        self.place = 0;
        let (head, events) = split(frame).map_err(|_| malformed())?;
        if head.n != n {
            return fail(Reason::FrameGap, format!("the frame has position {}", head.n));
        }
        if *head.previous_hash != self.chain_hash {
            let (found, known) = (hex(head.previous_hash), hex(&self.chain_hash));
            return fail(Reason::ChainBroken, format!("it follows {found}, the last frame has {known}"));
        }
        if head.t_us < self.t_us {
            return fail(Reason::TimeBackwards, format!("time {} comes after {}", head.t_us, self.t_us));
        }
        if !(1..=RULES_MAX).contains(&head.rules) {
            let detail = format!("rules {}; this program knows 1 .. {RULES_MAX}", head.rules);
            return fail(Reason::UnknownRules, detail);
        }
        (self.n, self.t_us) = (n, head.t_us);
        self.begun.clear();
        self.rows.clear();
        self.touches.clear();
        self.touches_of_row.clear();
        for event in events {
            self.place += 1;
            let event = event.map_err(|_| malformed())?;
            self.apply_event(&event, out)?;
        }
        self.begin(out)?;
        self.batch = 0;
        let touched = std::mem::take(&mut self.touched_by_frame);
        for book in &touched {
            self.write_change(*book, out);
        }
        self.touched_by_frame = touched;
        self.touched_by_frame.clear();
        self.write_accounts(out);
        out.frames.n.push(n);
        out.frames.t_us.push(head.t_us);
        out.frames.events.push(self.place);
        out.frames.accounts_end.push(out.accounts.account.len());
        out.frames.trades_end.push(out.trades.market.len());
        out.frames.changes_end.push(out.changes.market.len());
        self.chain_hash = chain_hash(frame);
        Ok(())
    }

    #[inline]
    fn apply_event(&mut self, event: &RawEvent, out: &mut Applied) -> Result<(), Failure> {
        let data = event.content;
        match event.member {
            member::TRADE => self.on_trade(&read(data)?, out),
            member::ORDER_ACCEPTED => self.on_accepted(&read(data)?, out),
            member::ORDER_CANCELLED => self.on_cancelled(&read(data)?, out),
            member::BATCH_RESULT => {
                let event: BatchResult = read(data)?;
                self.begin(out)?;
                self.batch = event.batch;
                Ok(())
            }
            member::ORDER_REPLACED => self.on_replaced(&read(data)?, out),
            member::ORDER_REDUCED => self.on_reduced(&read(data)?, out),
            member::COMMAND_REJECTED => {
                let event: CommandRejected = read(data)?;
                self.on_event_of_account(event.account, event.account_seq, out)
            }
            member::CANCEL_ALL_ACCEPTED => {
                let event: CancelAllAccepted = read(data)?;
                self.on_event_of_account(event.account, event.account_seq, out)
            }
            member::CANCEL_ALL_DONE => {
                let event: CancelAllDone = read(data)?;
                if event.account != 0 {
                    self.touch(event.account, event.account_seq)?;
                }
                Ok(())
            }
            member::FUNDS_CREDITED => {
                let event: FundsCredited = read(data)?;
                if event.account != 0 {
                    let owner = self.touch(event.account, event.account_seq)?;
                    self.credit(owner, event.asset, i128::from(event.amount_units));
                }
                Ok(())
            }
            member::FUNDS_SENT => self.on_sent(&read(data)?, out),
            member::LINK_RESULT => self.on_link(&read(data)?, out),
            member::MARKET_DEFINED => self.on_market(&read(data)?, out),
            member::MARKET_STATE_CHANGED => {
                let event: MarketStateChanged = read(data)?;
                self.begin(out)?;
                let book = self.number(event.market, event.market_seq)?;
                self.books[book as usize].state = event.state;
                Ok(())
            }
            member::SHARD_SETTINGS_CHANGED => {
                let event: ShardSettingsChanged = read(data)?;
                self.begin(out)?;
                self.settings = event.settings;
                Ok(())
            }
            member::FRAME_REFUSED
            | member::OPERATION_RESULT
            | member::ACTION_REJECTED
            | member::MARKET_STATE_SCHEDULED
            | member::CANCEL_ORDERS_ACCEPTED
            | member::CONTROL_FLOOR_RAISED
            | member::RULES_RAISED
            | member::OPERATOR_KEY_ROTATED
            | member::REQUEST_RESULT => {
                if event.judge() != Some(true) {
                    return Err(malformed());
                }
                self.begin(out)
            }
            other => fail(Reason::UnknownEvent, format!("event {} is of member {other}", self.place)),
        }
    }

    /// Write down the accounts of the frame with the places of their events, in the order of their first events.
    fn write_accounts(&mut self, out: &mut Applied) {
        let columns = &mut out.accounts;
        columns.account.extend_from_slice(&self.rows);
        let start = columns.place.len();
        let mut end = start;
        for count in &mut self.touches_of_row {
            let first = end;
            end += *count as usize;
            columns.places_end.push(end);
            *count = u32::try_from(first - start).unwrap_or(u32::MAX);
        }
        columns.place.resize(end, 0);
        let places = &mut columns.place[start..];
        for (row, place) in &self.touches {
            let next = &mut self.touches_of_row[*row as usize];
            places[*next as usize] = *place;
            *next += 1;
        }
    }

    // --- commands ---------------------------------------------------------------------------------------------------

    /// Note that a command, or something else of its own, begins here.
    #[inline]
    fn begin(&mut self, out: &mut Applied) -> Result<(), Failure> {
        if self.taker != NONE {
            self.settle_taker()?;
        }
        if !self.touched_by_command.is_empty() {
            let touched = std::mem::take(&mut self.touched_by_command);
            for book in &touched {
                self.write_change(*book, out);
            }
            self.touched_by_command = touched;
            self.touched_by_command.clear();
        }
        Ok(())
    }

    /// End the taker's command: what is open of it rests.
    #[inline]
    fn settle_taker(&mut self) -> Result<(), Failure> {
        let slot = std::mem::replace(&mut self.taker, NONE);
        let order = &self.orders[slot as usize];
        if order.open_lots == 0 {
            self.end(slot);
            return Ok(());
        }
        if !self.taker_rests {
            let detail = format!("order {} would rest and must not", order.order_id);
            return fail(Reason::OrderMismatch, detail);
        }
        if !order.is_known {
            self.know(slot)?;
        }
        self.rest(slot);
        Ok(())
    }

    fn write_change(&mut self, book_slot: u32, out: &mut Applied) {
        let book = &mut self.books[book_slot as usize];
        let Some(previous_market_seq) = book.seq_before.take() else { return };
        let columns = &mut out.changes;
        columns.market.push(book.market);
        columns.previous_market_seq.push(previous_market_seq);
        columns.market_seq.push(book.market_seq);
        columns.state.push(book.state);
        columns.last_price_ticks.push(book.last_price_ticks);
        for side in [BUY, SELL] {
            let book = &mut self.books[book_slot as usize];
            let changed = if side == BUY { &mut book.changed_bids } else { &mut book.changed_asks };
            let mut changed = std::mem::take(changed);
            changed.sort_unstable();
            changed.dedup();
            let book = &self.books[book_slot as usize];
            columns.level.extend(changed.iter().map(|price_ticks| self.level_now(book, side, *price_ticks)));
            changed.clear();
            let book = &mut self.books[book_slot as usize];
            *(if side == BUY { &mut book.changed_bids } else { &mut book.changed_asks }) = changed;
            let ends = if side == BUY { &mut columns.bids_end } else { &mut columns.asks_end };
            ends.push(columns.level.len());
        }
    }

    /// Return the book that an event is in, after counting the event.
    #[inline]
    fn number(&mut self, market: u32, market_seq: u64) -> Result<u32, Failure> {
        let Some(&slot) = self.book_of.get(&market) else {
            return fail(Reason::UnknownMarket, format!("market {market}"));
        };
        let book = &mut self.books[slot as usize];
        if book.market_seq.checked_add(1) != Some(market_seq) {
            return fail(Reason::SequenceGap, format!("market {market}: {market_seq} after {}", book.market_seq));
        }
        if book.watch != Watch::Nothing && book.seq_before.is_none() {
            book.seq_before = Some(book.market_seq);
            match book.watch {
                Watch::EveryCommand => self.touched_by_command.push(slot),
                _ => self.touched_by_frame.push(slot),
            }
        }
        book.market_seq = market_seq;
        Ok(slot)
    }
}

/// Numbers of the members of `Event`.
mod member {
    use crate::wire::EventMember;
    use crate::wire::messages as m;

    macro_rules! numbers {
        ($($name:ident: $message:ident),* $(,)?) => {
            $(pub(super) const $name: u32 = <m::$message as EventMember>::NUMBER as u32;)*
        };
    }

    numbers! {
        FRAME_REFUSED: FrameRefused,
        BATCH_RESULT: BatchResult,
        COMMAND_REJECTED: CommandRejected,
        ORDER_ACCEPTED: OrderAccepted,
        ORDER_REPLACED: OrderReplaced,
        ORDER_REDUCED: OrderReduced,
        ORDER_CANCELLED: OrderCancelled,
        TRADE: Trade,
        CANCEL_ALL_ACCEPTED: CancelAllAccepted,
        CANCEL_ALL_DONE: CancelAllDone,
        FUNDS_CREDITED: FundsCredited,
        FUNDS_SENT: FundsSent,
        LINK_RESULT: LinkResult,
        OPERATION_RESULT: OperationResult,
        ACTION_REJECTED: ActionRejected,
        MARKET_DEFINED: MarketDefined,
        MARKET_STATE_CHANGED: MarketStateChanged,
        MARKET_STATE_SCHEDULED: MarketStateScheduled,
        CANCEL_ORDERS_ACCEPTED: CancelOrdersAccepted,
        SHARD_SETTINGS_CHANGED: ShardSettingsChanged,
        CONTROL_FLOOR_RAISED: ControlFloorRaised,
        RULES_RAISED: RulesRaised,
        OPERATOR_KEY_ROTATED: OperatorKeyRotated,
        REQUEST_RESULT: RequestResult,
    }
}

#[inline]
fn read<'a, M: Message<'a>>(data: &'a [u8]) -> Result<M, Failure> {
    M::decode(data).map_err(|_| malformed())
}
/// Return a place as a slot; there is no room for so many that one does not fit.
#[inline]
fn slot_of(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(NONE)
}
