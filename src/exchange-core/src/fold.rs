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

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;

use crate::frames::{RawEvent, hex, is_readable, split};
use crate::hashing::{chain_hash, genesis_hash};
use crate::kinds::{BUY, GTC, LIMIT, SELL};
use crate::units::PPM;
use crate::wire::messages::{
    BatchResult, CancelAllAccepted, CancelAllDone, CommandRejected, ExecutionFrame, FundsCredited, FundsSent, Genesis,
    LinkResult, Market, MarketDefined, MarketStateChanged, OrderAccepted, OrderCancelled, OrderReduced, OrderReplaced,
    RestingOrder, ShardSettings, ShardSettingsChanged, ShardState, Trade,
};
use crate::wire::{Message, UnknownFormat, WireError, check_format};

/// Newest version of the rules whose events are understood here; they are from 1 on.
pub const RULES_MAX: u32 = 1;
/// Trades that a tape keeps at least, once there were so many; it has at most twice as many.
pub const TRADES_KEPT: usize = 1_000;
/// A notional from here on has a fee that is above 2^64 at any rate but zero: 2^95 / 10^6 > 2^64.
const NOTIONAL_HUGE: u128 = 1 << 95;
const NONE: u32 = u32::MAX;

/// Why a fold stopped. Names are those of `exchange.marketdata.chain.FoldReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reason {
    MalformedFrame,
    FrameGap,
    ChainBroken,
    TimeBackwards,
    UnknownRules,
    UnknownEvent,
    UnknownMarket,
    UnknownOrder,
    SequenceGap,
    LinkGap,
    FeeMismatch,
    OrderMismatch,
    Overdrawn,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::MalformedFrame,
        Self::FrameGap,
        Self::ChainBroken,
        Self::TimeBackwards,
        Self::UnknownRules,
        Self::UnknownEvent,
        Self::UnknownMarket,
        Self::UnknownOrder,
        Self::SequenceGap,
        Self::LinkGap,
        Self::FeeMismatch,
        Self::OrderMismatch,
        Self::Overdrawn,
    ];

    /// Return the stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MalformedFrame => "MALFORMED_FRAME",
            Self::FrameGap => "FRAME_GAP",
            Self::ChainBroken => "CHAIN_BROKEN",
            Self::TimeBackwards => "TIME_BACKWARDS",
            Self::UnknownRules => "UNKNOWN_RULES",
            Self::UnknownEvent => "UNKNOWN_EVENT",
            Self::UnknownMarket => "UNKNOWN_MARKET",
            Self::UnknownOrder => "UNKNOWN_ORDER",
            Self::SequenceGap => "SEQUENCE_GAP",
            Self::LinkGap => "LINK_GAP",
            Self::FeeMismatch => "FEE_MISMATCH",
            Self::OrderMismatch => "ORDER_MISMATCH",
            Self::Overdrawn => "OVERDRAWN",
        }
    }
}

/// The fold cannot go on and must be thrown away; start again from a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldError {
    /// Rule that is broken.
    pub reason: Reason,
    /// Position of the frame.
    pub n: u64,
    /// What was found.
    pub detail: String,
}

/// A reason and what was found; the frame and the event are added where the error leaves the fold.
#[derive(Debug)]
struct Failure(Box<(Reason, String)>);

#[cold]
fn fail<T>(reason: Reason, detail: String) -> Result<T, Failure> {
    Err(Failure(Box::new((reason, detail))))
}

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

/// Part of a link: units of an asset that were debited from an account at a time; account 0: the exchange's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Sent {
    pub account: u64,
    pub asset: u32,
    pub amount_units: u64,
    pub debited_us: u64,
}

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
    fn cut(&mut self) {
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

#[derive(Clone, Copy, Debug)]
struct Level {
    price_ticks: u64,
    quantity_lots: u128,
    orders: u64,
}

#[allow(clippy::struct_field_names)]
#[derive(Clone, Copy, Debug)]
struct Order {
    order_id: u64,
    client_order_id: u64,
    price_ticks: u64,
    open_lots: u64,
    filled_lots: u64,
    origin_n: u64,
    origin_batch: u32,
    origin_command: u32,
    book: u32,
    account: u32,
    /// Where it rests; NONE: it does not, its command is not done.
    level: u32,
    side: u32,
    self_trade_prevention: u32,
    maker_fee_ppm: u32,
    taker_fee_ppm: u32,
    maker_prepaid_ppm: u32,
    taker_prepaid_ppm: u32,
    /// Open orders of the account before and after this one; of a free slot `next` is the next free one.
    previous: u32,
    next: u32,
    post_only: bool,
    /// It is among the open orders by name and by account.
    is_known: bool,
}

#[allow(clippy::struct_field_names)]
#[derive(Clone, Debug)]
struct Account {
    account: u64,
    account_seq: u64,
    /// Units by asset, ascending.
    units: Vec<(u32, i128)>,
    first_order: u32,
    last_order: u32,
    /// Frame in which it was touched last, its row among the accounts of that frame, and the event.
    touched_n: u64,
    row: u32,
    touched_place: u32,
}

impl Account {
    fn new(account: u64, account_seq: u64) -> Self {
        Self {
            account,
            account_seq,
            units: Vec::new(),
            first_order: NONE,
            last_order: NONE,
            touched_n: 0,
            row: 0,
            touched_place: 0,
        }
    }

    #[inline]
    fn add(&mut self, asset: u32, change: i128) -> i128 {
        let place = match self.units.binary_search_by_key(&asset, |row| row.0) {
            Ok(place) => place,
            Err(place) => {
                self.units.insert(place, (asset, 0));
                place
            }
        };
        let units = &mut self.units[place].1;
        *units = units.saturating_add(change);
        *units
    }
}

#[derive(Clone, Debug)]
struct Book {
    market: u32,
    base_asset: u32,
    quote_asset: u32,
    maker_fee_ppm: u32,
    taker_fee_ppm: u32,
    state: u32,
    base_units_per_lot: u64,
    quote_units_per_tick_lot: u64,
    market_seq: u64,
    last_price_ticks: u64,
    bids: BTreeMap<u64, u32>,
    asks: BTreeMap<u64, u32>,
    tape: Tape,
    settings: Vec<u8>,
    watch: Watch,
    /// The change under way: sequence number before it and prices it touched; None: there is none.
    seq_before: Option<u64>,
    changed_bids: Vec<u64>,
    changed_asks: Vec<u64>,
}

/// The last trades of a market, 1,000 .. 2,000 of them.
#[derive(Clone, Debug, Default)]
struct Tape {
    trades: VecDeque<TapeTrade>,
    /// Every trade of a higher sequence number that there ever was is on the tape.
    complete_after: u64,
}

impl Tape {
    fn push(&mut self, trade: TapeTrade) {
        self.trades.push_back(trade);
        if self.trades.len() >= 2 * TRADES_KEPT {
            let gone = self.trades.len() - TRADES_KEPT;
            self.complete_after = self.trades[gone - 1].market_seq;
            self.trades.drain(..gone);
        }
    }
}

impl Book {
    fn new(market_seq: u64, last_price_ticks: u64) -> Self {
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
    fn define(&mut self, settings: &Market) {
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
    fn side(&mut self, side: u32) -> &mut BTreeMap<u64, u32> {
        if side == BUY { &mut self.bids } else { &mut self.asks }
    }

    #[inline]
    fn note(&mut self, side: u32, price_ticks: u64) {
        if self.watch != Watch::Nothing {
            if side == BUY { &mut self.changed_bids } else { &mut self.changed_asks }.push(price_ticks);
        }
    }
}

/// Slots that are used again.
#[derive(Clone, Debug)]
struct Levels {
    levels: Vec<Level>,
    free: Vec<u32>,
}

impl Levels {
    fn make(&mut self, level: Level) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.levels[slot as usize] = level;
            return slot;
        }
        self.levels.push(level);
        u32::try_from(self.levels.len() - 1).unwrap_or(NONE)
    }
}

/// Why a fold cannot start.
#[derive(Clone, Debug)]
pub enum StartError {
    /// The bytes are of another version.
    Format(UnknownFormat),
    /// The bytes are not canonical.
    Wire(WireError),
    /// An order rests in the name of an account, or an account or order comes twice, that the state does not have.
    State(&'static str),
}

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
        let state = ShardState::decode(state).map_err(StartError::Wire)?;
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

    // --- what it says -----------------------------------------------------------------------------------------------

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

    fn level_now(&self, book: &Book, side: u32, price_ticks: u64) -> LevelView {
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
            | member::REQUEST_RESULT => self.begin(out),
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

    // --- orders -----------------------------------------------------------------------------------------------------

    fn make(&mut self, order: Order) -> u32 {
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
    fn know(&mut self, slot: u32) -> Result<(), Failure> {
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
    fn end(&mut self, slot: u32) {
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
    fn rest(&mut self, slot: u32) {
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
    fn leave(&mut self, slot: u32) {
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
    fn shrink(&mut self, slot: u32, lots: u64) -> Result<(), Failure> {
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
    fn find(&self, order_id: u64, account: u64, book: u32) -> Result<u32, Failure> {
        if let Some(&slot) = self.order_of.get(&order_id) {
            let order = &self.orders[slot as usize];
            if self.accounts[order.account as usize].account == account && order.book == book {
                return Ok(slot);
            }
        }
        fail(Reason::UnknownOrder, format!("order {order_id}"))
    }

    #[inline]
    fn taker_named(&self, order_id: u64) -> bool {
        self.taker != NONE && self.orders[self.taker as usize].order_id == order_id
    }

    // --- events -----------------------------------------------------------------------------------------------------

    fn on_event_of_account(&mut self, account: u64, account_seq: u64, out: &mut Applied) -> Result<(), Failure> {
        self.begin(out)?;
        self.touch(account, account_seq)?;
        Ok(())
    }

    fn on_accepted(&mut self, event: &OrderAccepted, out: &mut Applied) -> Result<(), Failure> {
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

    fn on_replaced(&mut self, event: &OrderReplaced, out: &mut Applied) -> Result<(), Failure> {
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

    fn on_reduced(&mut self, event: &OrderReduced, out: &mut Applied) -> Result<(), Failure> {
        if event.command != 0 {
            self.begin(out)?;
        }
        self.touch(event.account, event.account_seq)?;
        let book = self.number(event.market, event.market_seq)?;
        let slot = if self.taker_named(event.order_id) {
            let order = &mut self.orders[self.taker as usize];
            let Some(open_lots) = order.open_lots.checked_sub(event.reduced_lots) else {
                let detail = format!("order {} has {} lots open", order.order_id, order.open_lots);
                return fail(Reason::OrderMismatch, detail);
            };
            order.open_lots = open_lots;
            self.taker
        } else {
            let slot = self.find(event.order_id, event.account, book)?;
            self.shrink(slot, event.reduced_lots)?;
            slot
        };
        let order = &self.orders[slot as usize];
        if order.open_lots != event.open_lots || order.open_lots == 0 {
            let detail = format!("order {} has {} lots open", order.order_id, order.open_lots);
            return fail(Reason::OrderMismatch, detail);
        }
        Ok(())
    }

    fn on_cancelled(&mut self, event: &OrderCancelled, out: &mut Applied) -> Result<(), Failure> {
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

    fn on_trade(&mut self, event: &Trade, out: &mut Applied) -> Result<(), Failure> {
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

    fn on_sent(&mut self, event: &FundsSent, out: &mut Applied) -> Result<(), Failure> {
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

    fn note_sent(&mut self, event: &FundsSent, debited_us: u64) {
        let &FundsSent { account, asset, amount_units, to_shard, link_sequence, .. } = event;
        let part = Sent { account, asset, amount_units, debited_us };
        self.sent.entry((to_shard, link_sequence)).or_default().push(part);
    }

    fn on_link(&mut self, event: &LinkResult, out: &mut Applied) -> Result<(), Failure> {
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

    fn on_market(&mut self, event: &MarketDefined, out: &mut Applied) -> Result<(), Failure> {
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

    fn past(&mut self, frame: &[u8]) -> Result<(), Failure> {
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

    fn past_book(&mut self, market: u32) -> Result<&mut Book, Failure> {
        match self.book_of.get(&market) {
            Some(&slot) => Ok(&mut self.books[slot as usize]),
            None => fail(Reason::UnknownMarket, format!("market {market}")),
        }
    }

    // --- accounts ---------------------------------------------------------------------------------------------------

    /// Write down that the event is the account's, and return the account.
    #[inline]
    fn touch(&mut self, account: u64, account_seq: u64) -> Result<u32, Failure> {
        let accounts = &mut self.accounts;
        let slot = *self.account_of.entry(account).or_insert_with(|| {
            accounts.push(Account::new(account, 0));
            slot_of(accounts.len() - 1)
        });
        let owner = &mut accounts[slot as usize];
        if owner.account_seq.checked_add(1) != Some(account_seq) {
            let detail = format!("account {account}: {account_seq} after {}", owner.account_seq);
            return fail(Reason::SequenceGap, detail);
        }
        owner.account_seq = account_seq;
        if owner.touched_n != self.n {
            owner.touched_n = self.n;
            owner.touched_place = 0;
            owner.row = slot_of(self.rows.len());
            self.touches_of_row.push(0);
            self.rows.push(account);
        }
        if owner.touched_place != self.place {
            owner.touched_place = self.place;
            self.touches.push((owner.row, self.place));
            self.touches_of_row[owner.row as usize] += 1;
        }
        Ok(slot)
    }

    #[inline]
    fn credit(&mut self, owner: u32, asset: u32, units: i128) {
        self.accounts[owner as usize].add(asset, units);
    }

    #[inline]
    fn debit(&mut self, owner: u32, asset: u32, units: i128) -> Result<(), Failure> {
        let left = self.accounts[owner as usize].add(asset, -units);
        if left < 0 {
            return fail(Reason::Overdrawn, format!("an account has {left} of asset {asset}"));
        }
        Ok(())
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

fn of_market<M>(event: &M, market_and_seq: impl Fn(&M) -> (u32, u64)) -> (u32, u64) {
    market_and_seq(event)
}

#[cold]
fn malformed() -> Failure {
    Failure(Box::new((Reason::MalformedFrame, String::new())))
}

/// Return the error of a frame: that it cannot be read comes before all that its content could break.
#[cold]
fn stopped(n: u64, frame: &[u8], place: u32, failure: Failure) -> FoldError {
    let (reason, detail) = *failure.0;
    if reason == Reason::MalformedFrame || !is_readable(frame) {
        let detail = ExecutionFrame::decode(frame).err().map_or_else(String::new, |error| error.to_string());
        return FoldError { reason: Reason::MalformedFrame, n, detail };
    }
    let detail = if place == 0 { detail } else { format!("event {place}: {detail}") };
    FoldError { reason, n, detail }
}

/// Return the fee of a trade that is due after what was paid ahead, and what is then paid ahead (`domain.money`).
#[inline]
fn fee_of(notional: u128, ppm: u32, prepaid_ppm: u32) -> (u128, u32) {
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

/// Return a place as a slot; there is no room for so many that one does not fit.
#[inline]
fn slot_of(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(NONE)
}
