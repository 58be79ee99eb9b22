//! The ledger of a shard: a fold over its execution frames into what everybody has, as `exchange.settlement.ledger`.
//!
//! Double entry: units only ever move from one holder to another, so that all holders together have none of any asset.
//! A frame is folded only if it is the next one, carries the hash of the last one and answers the entry beside it;
//! anything else stops the call with a reason and changes nothing. What frames change is a `Draft` of columns, one row
//! for what stands after them and none for an event, which a database writes before the ledger adopts it.

use std::fmt::{self, Write};

use hashbrown::HashMap;

use crate::frames::{Head, Malformed, RawEvent, hex, is_canonical, split};
use crate::hashing::{chain_hash, genesis_hash, input_hash};
use crate::kinds::SELL;
use crate::units::AMOUNT_UNITS_MAX;
use crate::wire::messages::{
    BatchResult, Deposited, Event, ExecutionFrame, FeesPaidOut, FundsCredited, FundsSent, Genesis, LinkResult,
    MarketDefined, MarketStateChanged, Trade, WithdrawalClosed, WithdrawalRequested,
};
use crate::wire::{EventMember, Message, UnknownFormat, WireError, check_format};

/// Newest version of the rules whose events are understood here; they are from 1 on.
pub const RULES_MAX: u32 = 1;
/// The account of the exchange itself.
pub const EXCHANGE_ACCOUNT: u64 = 0;

/// Kinds of holders, by their place in `exchange.settlement.ledger.KINDS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum HolderKind {
    /// An account; number 0 is the exchange itself.
    Account = 0,
    /// What came from a shard; at or below zero.
    OtherShardIn = 1,
    /// What went to a shard.
    OtherShardOut = 2,
    /// What was ever deposited; at or below zero.
    Deposits = 3,
    /// What is set aside until it is paid or given back.
    OpenWithdrawals = 4,
    /// What was ever paid out.
    Payments = 5,
}

/// Names of the kinds in `HolderKind`'s order, as they stand in messages.
const KIND_NAMES: [&str; 6] =
    ["account", "links from shard", "links to shard", "deposits", "open withdrawals", "payments"];

/// Whose units: kind, number of the holder, asset; sorted in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(u128);

impl Owner {
    /// Return the name of a holder's units of an asset; a kind is a place below 6 in `HolderKind`.
    #[must_use]
    pub const fn new(kind: u8, holder: u64, asset: u32) -> Self {
        Self((kind as u128) << 96 | (holder as u128) << 32 | asset as u128)
    }

    const fn of(kind: HolderKind, holder: u64, asset: u32) -> Self {
        Self::new(kind as u8, holder, asset)
    }

    /// Return the place of the kind in `HolderKind`.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)]
    pub const fn kind(self) -> u8 {
        (self.0 >> 96) as u8
    }

    /// Return the number of the holder; 0 where the kind has no numbers.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)]
    pub const fn holder(self) -> u64 {
        (self.0 >> 32) as u64
    }

    /// Return the asset.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)]
    pub const fn asset(self) -> u32 {
        self.0 as u32
    }

    /// Whether nobody of the kind may stand below zero, or at 2^63 and above.
    const fn is_bounded(self) -> bool {
        self.kind() == HolderKind::Account as u8 || self.kind() == HolderKind::OpenWithdrawals as u8
    }
}

/// Why the ledger stopped. Names are those of `exchange.settlement.ledger.LedgerReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reason {
    MalformedFrame,
    FrameGap,
    ChainBroken,
    InputMismatch,
    TimeBackwards,
    UnknownRules,
    UnknownMarket,
    LinkGap,
    CreditWithoutLink,
    Overdrawn,
    AmountTooLarge,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::MalformedFrame,
        Self::FrameGap,
        Self::ChainBroken,
        Self::InputMismatch,
        Self::TimeBackwards,
        Self::UnknownRules,
        Self::UnknownMarket,
        Self::LinkGap,
        Self::CreditWithoutLink,
        Self::Overdrawn,
        Self::AmountTooLarge,
    ];

    /// Return the stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MalformedFrame => "MALFORMED_FRAME",
            Self::FrameGap => "FRAME_GAP",
            Self::ChainBroken => "CHAIN_BROKEN",
            Self::InputMismatch => "INPUT_MISMATCH",
            Self::TimeBackwards => "TIME_BACKWARDS",
            Self::UnknownRules => "UNKNOWN_RULES",
            Self::UnknownMarket => "UNKNOWN_MARKET",
            Self::LinkGap => "LINK_GAP",
            Self::CreditWithoutLink => "CREDIT_WITHOUT_LINK",
            Self::Overdrawn => "OVERDRAWN",
            Self::AmountTooLarge => "AMOUNT_TOO_LARGE",
        }
    }
}

/// The ledger cannot go on with these frames. Nothing of the call was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Rule that is broken.
    pub reason: Reason,
    /// Position of the frame.
    pub n: u64,
    /// What was found.
    pub detail: String,
}

/// Why frames cannot be folded.
#[derive(Clone, Debug)]
pub enum LedgerError {
    /// A frame is of another version.
    Format(UnknownFormat),
    /// A frame breaks a rule of the ledger.
    Stop(Stop),
}

impl From<Stop> for LedgerError {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// What a trade in a market moves per lot, and per tick and lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarketUnits {
    /// Asset that is traded.
    pub base_asset: u32,
    /// Asset that it is paid in.
    pub quote_asset: u32,
    /// Units of the base asset in a lot.
    pub base_units_per_lot: u64,
    /// Units of the quote asset that a lot costs per tick.
    pub quote_units_per_tick_lot: u64,
}

/// The entry that a frame has to answer.
#[derive(Clone, Copy, Debug)]
pub struct RawEntry<'a> {
    /// Position.
    pub n: u64,
    /// Time in microseconds since 1970.
    pub t_us: u64,
    /// Encoded order frame.
    pub order_frame: &'a [u8],
}

/// Units of holders, one row for each (kind, holder, asset), ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct UnitColumns {
    pub kind: Vec<u8>,
    pub holder: Vec<u64>,
    pub asset: Vec<u32>,
    pub units: Vec<i128>,
}

/// Markets that were defined, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MarketColumns {
    pub market: Vec<u32>,
    pub base_asset: Vec<u32>,
    pub quote_asset: Vec<u32>,
    pub base_units_per_lot: Vec<u64>,
    pub quote_units_per_tick_lot: Vec<u64>,
}

/// Last sequence numbers of links, by the other shard, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LinkEndColumns {
    pub shard: Vec<u32>,
    pub last_sequence: Vec<u64>,
}

/// Links that were sent, in order; the transfers of row i are those from `transfers_end[i - 1]` to `transfers_end[i]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SentColumns {
    pub to_shard: Vec<u32>,
    pub sequence: Vec<u64>,
    pub source_n: Vec<u64>,
    pub debited_us: Vec<u64>,
    pub transfers_end: Vec<usize>,
    pub account: Vec<u64>,
    pub asset: Vec<u32>,
    pub amount_units: Vec<u64>,
}

/// What frames say about links that came in, in order; reason 0: it is, or had been, applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct AnswerColumns {
    pub from_shard: Vec<u32>,
    pub sequence: Vec<u64>,
    pub reason: Vec<u32>,
}

/// What became of withdrawals, in order; `destination` is empty where one was closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct WithdrawalColumns {
    pub withdrawal: Vec<u64>,
    pub account: Vec<u64>,
    pub asset: Vec<u32>,
    pub amount_units: Vec<u64>,
    pub destination: Vec<String>,
    pub is_open: Vec<bool>,
    pub paid: Vec<bool>,
    pub n: Vec<u64>,
    pub t_us: Vec<u64>,
}

/// The frames: how many events each has, and whether the markets of the shard are others after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct FrameColumns {
    pub n: Vec<u64>,
    pub t_us: Vec<u64>,
    pub events: Vec<u32>,
    pub changes_markets: Vec<bool>,
    pub verdicts_end: Vec<usize>,
}

/// Verdicts about batches, in order, repetitions left out: 1-based place in the frame, and why it was refused or 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct VerdictColumns {
    pub batch: Vec<u32>,
    pub reason: Vec<u32>,
}

/// What some frames change, before it is so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// Position of the ledger when the draft was made.
    pub after_n: u64,
    /// Hash of the frame there.
    pub after_hash: [u8; 32],
    /// Position after the frames.
    pub n: u64,
    /// Time of the last of them.
    pub t_us: u64,
    /// Hash of the last of them.
    pub chain_hash: [u8; 32],
    /// New units of those whose units change.
    pub units: UnitColumns,
    /// Markets that were defined.
    pub markets: MarketColumns,
    /// New last sequence numbers of links from other shards.
    pub links_in: LinkEndColumns,
    /// New last sequence numbers of links to other shards.
    pub links_out: LinkEndColumns,
    /// Links that were sent.
    pub sent: SentColumns,
    /// What the frames say about links that came in.
    pub answers: AnswerColumns,
    /// What became of withdrawals.
    pub withdrawals: WithdrawalColumns,
    /// The frames.
    pub frames: FrameColumns,
    /// What they say about batches.
    pub verdicts: VerdictColumns,
}

/// A ledger as rows, which is how a database keeps it. At position 0 the hash does not count.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Rows {
    pub n: u64,
    pub t_us: u64,
    pub chain_hash: [u8; 32],
    pub units: UnitColumns,
    pub markets: MarketColumns,
    pub links_in: LinkEndColumns,
    pub links_out: LinkEndColumns,
}

/// What everybody has in one shard, after frame `n`.
#[derive(Clone, Debug)]
pub struct Ledger {
    shard: u32,
    n: u64,
    t_us: u64,
    chain_hash: [u8; 32],
    units: HashMap<Owner, i128>,
    markets: HashMap<u32, MarketUnits>,
    links_in: HashMap<u32, u64>,
    links_out: HashMap<u32, u64>,
}

impl Ledger {
    /// Return the ledger of a shard as rows say; of default rows: before its first frame. `genesis` is encoded.
    ///
    /// # Errors
    ///
    /// The genesis is not canonical.
    pub fn open(genesis: &[u8], rows: &Rows) -> Result<Self, WireError> {
        let parsed = Genesis::decode(genesis)?;
        let chain_hash =
            if rows.n == 0 { genesis_hash(parsed.environment, parsed.shard, genesis) } else { rows.chain_hash };
        Ok(Self {
            shard: parsed.shard,
            n: rows.n,
            t_us: rows.t_us,
            chain_hash,
            units: rows.units.rows().collect(),
            markets: rows.markets.rows().collect(),
            links_in: rows.links_in.rows().collect(),
            links_out: rows.links_out.rows().collect(),
        })
    }

    /// Return the number of the shard.
    #[must_use]
    pub fn shard(&self) -> u32 {
        self.shard
    }

    /// Return the position of the last frame that was adopted; 0: none.
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

    /// Return what a holder has of an asset; below zero: what it brought in.
    #[must_use]
    pub fn units(&self, owner: Owner) -> i128 {
        self.units.get(&owner).copied().unwrap_or(0)
    }

    /// Return all units that are not zero, sorted. Per asset they add up to zero.
    #[must_use]
    pub fn holdings(&self) -> UnitColumns {
        let mut rows: Vec<_> =
            self.units.iter().filter(|row| *row.1 != 0).map(|(owner, units)| (*owner, *units)).collect();
        rows.sort_unstable();
        UnitColumns::from_rows(rows)
    }

    /// Return what a holder has, by asset ascending; assets of which it has nothing are left out.
    #[must_use]
    pub fn by_asset(&self, kind: u8, holder: u64) -> Vec<(u32, i128)> {
        let wanted = Owner::new(kind, holder, 0);
        let mut found: Vec<_> = self
            .units
            .iter()
            .filter(|(owner, units)| owner.0 >> 32 == wanted.0 >> 32 && **units != 0)
            .map(|(owner, units)| (owner.asset(), *units))
            .collect();
        found.sort_unstable();
        found
    }

    /// Return the sequence number of the last link from a shard; 0: none.
    #[must_use]
    pub fn last_link_from(&self, shard: u32) -> u64 {
        self.links_in.get(&shard).copied().unwrap_or(0)
    }

    /// Return the sequence number of the last link to a shard; 0: none.
    #[must_use]
    pub fn last_link_to(&self, shard: u32) -> u64 {
        self.links_out.get(&shard).copied().unwrap_or(0)
    }

    /// Return the shards that a link ever came from or went to, ascending.
    #[must_use]
    pub fn partners(&self) -> Vec<u32> {
        let mut shards: Vec<u32> = self.links_in.keys().chain(self.links_out.keys()).copied().collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    /// Return what the next frames change; the ledger stays as it is.
    ///
    /// `frames` are encoded, consecutive, the first after `n`; `entries` are those that they answer in the same order,
    /// whose hashes are then compared. A frame beyond the entries is not compared.
    ///
    /// # Errors
    ///
    /// A frame does not fit, or is of another version.
    pub fn fold(&self, frames: &[&[u8]], entries: Option<&[RawEntry]>) -> Result<Draft, LedgerError> {
        let mut folding = Folding::new(self);
        for (place, frame) in frames.iter().enumerate() {
            check_format("execution frame", frame).map_err(LedgerError::Format)?;
            let entry = entries.and_then(|entries| entries.get(place));
            let n = folding.draft.n_next();
            folding.read_next(n, frame, entry).map_err(|stop| malformed_first(frame, n, stop))?;
        }
        Ok(folding.end())
    }

    /// Return what frames change that re-execution has proven: the bytes are the engine's own, so that events the
    /// ledger has no use for are passed over, and neither hashes nor times are looked at again. `after_hash` is the
    /// chain hash after the last of them.
    ///
    /// # Errors
    ///
    /// A frame is not the next one, or its events break a rule of the ledger.
    pub fn fold_proven(&self, frames: &[&[u8]], after_hash: [u8; 32]) -> Result<Draft, Stop> {
        let mut folding = Folding::new(self);
        for frame in frames {
            let n = folding.draft.n_next();
            folding.read_proven(n, frame).map_err(|stop| match stop {
                FrameStop::Malformed => malformed(frame, n),
                FrameStop::Stop(stop) => *stop,
            })?;
        }
        folding.draft.chain_hash = after_hash;
        Ok(folding.end())
    }

    /// Make a draft so. It returns false, and nothing happens, where the draft was made at another position.
    #[must_use]
    pub fn adopt(&mut self, draft: &Draft) -> bool {
        if (draft.after_n, draft.after_hash) != (self.n, self.chain_hash) {
            return false;
        }
        self.units.extend(draft.units.rows());
        self.markets.extend(draft.markets.rows());
        self.links_in.extend(draft.links_in.rows());
        self.links_out.extend(draft.links_out.rows());
        (self.n, self.t_us, self.chain_hash) = (draft.n, draft.t_us, draft.chain_hash);
        true
    }
}

impl UnitColumns {
    /// Yield (owner, units).
    pub fn rows(&self) -> impl Iterator<Item = (Owner, i128)> + '_ {
        let owners = self.kind.iter().zip(&self.holder).zip(&self.asset);
        owners.zip(&self.units).map(|(((kind, holder), asset), units)| (Owner::new(*kind, *holder, *asset), *units))
    }

    fn from_rows(rows: Vec<(Owner, i128)>) -> Self {
        Self {
            kind: rows.iter().map(|row| row.0.kind()).collect(),
            holder: rows.iter().map(|row| row.0.holder()).collect(),
            asset: rows.iter().map(|row| row.0.asset()).collect(),
            units: rows.into_iter().map(|row| row.1).collect(),
        }
    }
}

impl MarketColumns {
    fn rows(&self) -> impl Iterator<Item = (u32, MarketUnits)> + '_ {
        let assets = self.market.iter().zip(&self.base_asset).zip(&self.quote_asset);
        assets.zip(&self.base_units_per_lot).zip(&self.quote_units_per_tick_lot).map(
            |((((market, base_asset), quote_asset), base_units_per_lot), quote_units_per_tick_lot)| {
                let units = MarketUnits {
                    base_asset: *base_asset,
                    quote_asset: *quote_asset,
                    base_units_per_lot: *base_units_per_lot,
                    quote_units_per_tick_lot: *quote_units_per_tick_lot,
                };
                (*market, units)
            },
        )
    }

    fn from_map(map: HashMap<u32, MarketUnits>) -> Self {
        let mut rows: Vec<_> = map.into_iter().collect();
        rows.sort_unstable_by_key(|row| row.0);
        Self {
            market: rows.iter().map(|row| row.0).collect(),
            base_asset: rows.iter().map(|row| row.1.base_asset).collect(),
            quote_asset: rows.iter().map(|row| row.1.quote_asset).collect(),
            base_units_per_lot: rows.iter().map(|row| row.1.base_units_per_lot).collect(),
            quote_units_per_tick_lot: rows.iter().map(|row| row.1.quote_units_per_tick_lot).collect(),
        }
    }
}

impl LinkEndColumns {
    fn rows(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.shard.iter().copied().zip(self.last_sequence.iter().copied())
    }

    fn from_map(map: HashMap<u32, u64>) -> Self {
        let mut rows: Vec<_> = map.into_iter().collect();
        rows.sort_unstable();
        Self { shard: rows.iter().map(|row| row.0).collect(), last_sequence: rows.iter().map(|row| row.1).collect() }
    }
}

impl Draft {
    /// Return the position that the next frame must have; past 2^64 - 1 there is none, and 0 fits no frame.
    fn n_next(&self) -> u64 {
        self.n.wrapping_add(1)
    }
}

/// Why a frame was not folded; boxed, for it is thrown away for `Malformed` where that comes first.
#[derive(Debug)]
enum FrameStop {
    Malformed,
    Stop(Box<Stop>),
}

impl From<Malformed> for FrameStop {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<WireError> for FrameStop {
    fn from(_: WireError) -> Self {
        Self::Malformed
    }
}

fn stop<T>(reason: Reason, n: u64, detail: String) -> Result<T, FrameStop> {
    Err(FrameStop::Stop(Box::new(Stop { reason, n, detail })))
}

/// Return what to say of a frame that is not canonical.
fn malformed(frame: &[u8], n: u64) -> Stop {
    let detail = ExecutionFrame::decode(frame).err().map_or_else(String::new, |error| error.to_string());
    Stop { reason: Reason::MalformedFrame, n, detail }
}

/// Return why a frame is refused: that it is not canonical comes before all that its content could break.
fn malformed_first(frame: &[u8], n: u64, stop: FrameStop) -> Stop {
    match stop {
        FrameStop::Stop(stop) if is_canonical(frame) => *stop,
        _ => malformed(frame, n),
    }
}

/// A sum of amounts that no frame can make overflow: each is below 2^192, and a frame has fewer than 2^24 events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wide {
    high: i128,
    low: u128,
}

impl Wide {
    #[inline]
    fn of(value: i128) -> Self {
        Self { high: value >> 127, low: value.cast_unsigned() }
    }

    /// Return a product of two numbers of 128 and 64 bits.
    #[inline]
    fn product(a: u128, b: u64) -> Self {
        if let Some(low) = a.checked_mul(u128::from(b)) {
            return Self { high: 0, low };
        }
        let low_half = (a & u128::from(u64::MAX)) * u128::from(b);
        let high_half = (a >> 64) * u128::from(b);
        let (low, carry) = low_half.overflowing_add(high_half << 64);
        Self { high: (high_half >> 64).cast_signed() + i128::from(carry), low }
    }

    #[inline]
    fn add(&mut self, other: Self) {
        let (low, carry) = self.low.overflowing_add(other.low);
        self.low = low;
        self.high += other.high + i128::from(carry);
    }

    #[inline]
    fn negated(self) -> Self {
        let (low, is_zero) = (!self.low).overflowing_add(1);
        Self { high: !self.high + i128::from(is_zero), low }
    }

    /// Return the number where it fits.
    #[inline]
    fn narrow(self) -> Option<i128> {
        let value = self.low.cast_signed();
        (self.high == value >> 127).then_some(value)
    }
}

impl fmt::Display for Wide {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CHUNK: u128 = 1_000_000_000_000_000_000;
        let is_negative = self.high < 0;
        let positive = if is_negative { self.negated() } else { *self };
        let high = positive.high.cast_unsigned();
        let mut limbs = [high >> 64, high, positive.low >> 64, positive.low].map(|limb| limb & u128::from(u64::MAX));
        let mut chunks = Vec::new();
        while chunks.is_empty() || limbs != [0; 4] {
            let mut rest = 0;
            for limb in &mut limbs {
                let value = rest << 64 | *limb;
                (*limb, rest) = (value / CHUNK, value % CHUNK);
            }
            chunks.push(rest);
        }
        let mut digits = chunks.pop().unwrap_or(0).to_string();
        for chunk in chunks.iter().rev() {
            let _ = write!(digits, "{chunk:018}");
        }
        formatter.pad_integral(!is_negative, "", &digits)
    }
}

/// What an owner has in a draft, and what the frame under way changes of it.
struct Slot {
    owner: Owner,
    units: i128,
    change: Wide,
    is_touched: bool,
}

/// A link that is being gathered.
struct SentLink {
    to_shard: u32,
    sequence: u64,
    source_n: u64,
    debited_us: u64,
    transfers: Vec<(u64, u32, u64)>,
}

/// A draft while frames are read.
struct Folding<'l> {
    ledger: &'l Ledger,
    draft: Draft,
    place_of: HashMap<Owner, u32>,
    slots: Vec<Slot>,
    /// Places of what the frame under way touches, in the order in which units are judged.
    touched: Vec<u32>,
    markets: HashMap<u32, MarketUnits>,
    links_in: HashMap<u32, u64>,
    links_out: HashMap<u32, u64>,
    sent: Vec<SentLink>,
    sent_at: HashMap<(u32, u64), usize>,
    /// Shard whose link was applied last in the frame under way.
    link_from: Option<u32>,
}

impl<'l> Folding<'l> {
    fn new(ledger: &'l Ledger) -> Self {
        let draft = Draft {
            after_n: ledger.n,
            after_hash: ledger.chain_hash,
            n: ledger.n,
            t_us: ledger.t_us,
            chain_hash: ledger.chain_hash,
            ..Draft::default()
        };
        Self {
            ledger,
            draft,
            place_of: HashMap::new(),
            slots: Vec::new(),
            touched: Vec::new(),
            markets: HashMap::new(),
            links_in: HashMap::new(),
            links_out: HashMap::new(),
            sent: Vec::new(),
            sent_at: HashMap::new(),
            link_from: None,
        }
    }

    fn end(mut self) -> Draft {
        let mut units: Vec<_> = self.slots.iter().map(|slot| (slot.owner, slot.units)).collect();
        units.sort_unstable();
        self.draft.units = UnitColumns::from_rows(units);
        self.draft.markets = MarketColumns::from_map(self.markets);
        self.draft.links_in = LinkEndColumns::from_map(self.links_in);
        self.draft.links_out = LinkEndColumns::from_map(self.links_out);
        let columns = &mut self.draft.sent;
        for link in self.sent {
            columns.to_shard.push(link.to_shard);
            columns.sequence.push(link.sequence);
            columns.source_n.push(link.source_n);
            columns.debited_us.push(link.debited_us);
            for (account, asset, amount_units) in link.transfers {
                columns.account.push(account);
                columns.asset.push(asset);
                columns.amount_units.push(amount_units);
            }
            columns.transfers_end.push(columns.account.len());
        }
        self.draft
    }

    // --- frames -----------------------------------------------------------------------------------------------------

    fn read_next(&mut self, n: u64, frame: &[u8], entry: Option<&RawEntry>) -> Result<(), FrameStop> {
        let (head, events) = split(frame)?;
        self.check_head(n, &head, entry)?;
        self.begin(&head);
        for event in events {
            let event = event?;
            if !self.fold_event(&event)? {
                Event::decode(event.event)?;
            }
        }
        self.judge()?;
        self.draft.chain_hash = chain_hash(frame);
        Ok(())
    }

    fn read_proven(&mut self, n: u64, frame: &[u8]) -> Result<(), FrameStop> {
        let (head, events) = split(frame)?;
        if head.n != n {
            return stop(Reason::FrameGap, n, format!("the frame has position {}", head.n));
        }
        self.begin(&head);
        for event in events {
            self.fold_event(&event?)?;
        }
        self.judge()
    }

    fn check_head(&self, n: u64, head: &Head, entry: Option<&RawEntry>) -> Result<(), FrameStop> {
        let draft = &self.draft;
        if head.n != n {
            return stop(Reason::FrameGap, n, format!("the frame has position {}", head.n));
        }
        if *head.previous_hash != draft.chain_hash {
            let detail =
                format!("it follows {}, the last frame has {}", hex(head.previous_hash), hex(&draft.chain_hash));
            return stop(Reason::ChainBroken, n, detail);
        }
        if entry.is_some_and(|entry| *head.input_hash != input_hash(entry.n, entry.t_us, entry.order_frame)) {
            let detail = format!("it answers an entry of hash {}", hex(head.input_hash));
            return stop(Reason::InputMismatch, n, detail);
        }
        if head.t_us < draft.t_us {
            return stop(Reason::TimeBackwards, n, format!("time {} comes after {}", head.t_us, draft.t_us));
        }
        if !(1..=RULES_MAX).contains(&head.rules) {
            let detail = format!("rules {}; this program knows 1 .. {RULES_MAX}", head.rules);
            return stop(Reason::UnknownRules, n, detail);
        }
        Ok(())
    }

    fn begin(&mut self, head: &Head) {
        (self.draft.n, self.draft.t_us, self.link_from) = (head.n, head.t_us, None);
        let frames = &mut self.draft.frames;
        frames.n.push(head.n);
        frames.t_us.push(head.t_us);
        frames.events.push(0);
        frames.changes_markets.push(false);
        frames.verdicts_end.push(self.draft.verdicts.batch.len());
    }

    /// Take in an event; return whether it is of a kind that is read here.
    #[inline]
    fn fold_event(&mut self, event: &RawEvent) -> Result<bool, FrameStop> {
        const TRADE: u32 = Trade::NUMBER as u32;
        const CREDITED: u32 = FundsCredited::NUMBER as u32;
        const SENT: u32 = FundsSent::NUMBER as u32;
        const LINK: u32 = LinkResult::NUMBER as u32;
        const BATCH: u32 = BatchResult::NUMBER as u32;
        const MARKET: u32 = MarketDefined::NUMBER as u32;
        const MARKET_STATE: u32 = MarketStateChanged::NUMBER as u32;
        const DEPOSITED: u32 = Deposited::NUMBER as u32;
        const REQUESTED: u32 = WithdrawalRequested::NUMBER as u32;
        const CLOSED: u32 = WithdrawalClosed::NUMBER as u32;
        const PAID_OUT: u32 = FeesPaidOut::NUMBER as u32;
        let data = event.content;
        if let Some(events) = self.draft.frames.events.last_mut() {
            *events += 1;
        }
        match event.member {
            TRADE => self.fold_trade(&Trade::decode(data)?)?,
            CREDITED => self.fold_credited(&FundsCredited::decode(data)?)?,
            SENT => self.fold_sent(&FundsSent::decode(data)?)?,
            LINK => self.fold_link(&LinkResult::decode(data)?)?,
            BATCH => self.note_verdict(&BatchResult::decode(data)?),
            MARKET => self.fold_market(&MarketDefined::decode(data)?),
            MARKET_STATE => {
                MarketStateChanged::decode(data)?;
                self.note_changed_markets();
            }
            DEPOSITED => {
                let event = Deposited::decode(data)?;
                self.transfer(event.asset, event.amount_units, (HolderKind::Deposits, 0), account(event.account));
            }
            REQUESTED => self.fold_requested(&WithdrawalRequested::decode(data)?),
            CLOSED => self.fold_closed(&WithdrawalClosed::decode(data)?),
            PAID_OUT => {
                let event = FeesPaidOut::decode(data)?;
                self.transfer(event.asset, event.amount_units, account(EXCHANGE_ACCOUNT), account(event.account));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Add what the frame changes to what its owners have, and stop where somebody then stands where nobody may.
    fn judge(&mut self) -> Result<(), FrameStop> {
        for place in self.touched.drain(..) {
            let slot = &mut self.slots[place as usize];
            let mut units = Wide::of(slot.units);
            units.add(slot.change);
            (slot.change, slot.is_touched) = (Wide::default(), false);
            let owner = slot.owner;
            match units.narrow() {
                Some(units) if !owner.is_bounded() || (0..=i128::from(AMOUNT_UNITS_MAX)).contains(&units) => {
                    slot.units = units;
                }
                _ => {
                    let kind = KIND_NAMES[usize::from(owner.kind())];
                    let whose = format!("{kind} {} has {units} of asset {}", owner.holder(), owner.asset());
                    return if units.high < 0 {
                        stop(Reason::Overdrawn, self.draft.n, whose)
                    } else {
                        stop(Reason::AmountTooLarge, self.draft.n, format!("{whose}, 2^63 or more"))
                    };
                }
            }
        }
        if let (Some(end), verdicts) = (self.draft.frames.verdicts_end.last_mut(), &self.draft.verdicts) {
            *end = verdicts.batch.len();
        }
        Ok(())
    }

    // --- events -----------------------------------------------------------------------------------------------------

    #[inline]
    fn post(&mut self, owner: Owner, change: Wide) {
        let (slots, ledger) = (&mut self.slots, self.ledger);
        let place = *self.place_of.entry(owner).or_insert_with(|| {
            slots.push(Slot { owner, units: ledger.units(owner), change: Wide::default(), is_touched: false });
            u32::try_from(slots.len() - 1).unwrap_or(u32::MAX)
        });
        let slot = &mut slots[place as usize];
        slot.change.add(change);
        if !slot.is_touched {
            slot.is_touched = true;
            self.touched.push(place);
        }
    }

    fn transfer(&mut self, asset: u32, units: u64, from: (HolderKind, u64), to: (HolderKind, u64)) {
        let units = i128::from(units);
        self.post(Owner::of(from.0, from.1, asset), Wide::of(-units));
        self.post(Owner::of(to.0, to.1, asset), Wide::of(units));
    }

    /// Base from seller to buyer, the notional from buyer to seller, and a fee from each to the exchange.
    #[inline]
    fn fold_trade(&mut self, trade: &Trade) -> Result<(), FrameStop> {
        let number = trade.market;
        let Some(market) = self.ledger.markets.get(&number).or_else(|| self.markets.get(&number)).copied() else {
            let detail = format!("trade {} in market {number}", trade.trade_id);
            return stop(Reason::UnknownMarket, self.draft.n, detail);
        };
        let (base_asset, quote_asset) = (market.base_asset, market.quote_asset);
        let lots = trade.quantity_lots;
        let mut base = Wide::product(u128::from(lots), market.base_units_per_lot);
        let cost = u128::from(trade.price_ticks) * u128::from(lots);
        let mut notional = Wide::product(cost, market.quote_units_per_tick_lot);
        if trade.taker_side == SELL {
            (base, notional) = (base.negated(), notional.negated());
        }
        let (maker_fee, taker_fee) = (trade.maker_fee_quote_units, trade.taker_fee_quote_units);
        let mut makers_quote = notional;
        makers_quote.add(Wide::of(-i128::from(maker_fee)));
        let mut takers_quote = notional.negated();
        takers_quote.add(Wide::of(-i128::from(taker_fee)));
        let (maker, taker) = (trade.maker_account, trade.taker_account);
        self.post(Owner::of(HolderKind::Account, maker, base_asset), base.negated());
        self.post(Owner::of(HolderKind::Account, maker, quote_asset), makers_quote);
        self.post(Owner::of(HolderKind::Account, taker, base_asset), base);
        self.post(Owner::of(HolderKind::Account, taker, quote_asset), takers_quote);
        if maker_fee != 0 || taker_fee != 0 {
            let fees = Wide::of(i128::from(maker_fee) + i128::from(taker_fee));
            self.post(Owner::of(HolderKind::Account, EXCHANGE_ACCOUNT, quote_asset), fees);
        }
        Ok(())
    }

    fn fold_credited(&mut self, event: &FundsCredited) -> Result<(), FrameStop> {
        if Some(event.from_shard) != self.link_from {
            return stop(Reason::CreditWithoutLink, self.draft.n, format!("from shard {}", event.from_shard));
        }
        let payer = (HolderKind::OtherShardIn, u64::from(event.from_shard));
        self.transfer(event.asset, event.amount_units, payer, account(event.account));
        Ok(())
    }

    /// Put a transfer into its link: a new one, or the one that this entry has begun.
    fn fold_sent(&mut self, event: &FundsSent) -> Result<(), FrameStop> {
        let (to_shard, sequence, n) = (event.to_shard, event.link_sequence, self.draft.n);
        let last = *self.links_out.get(&to_shard).unwrap_or(&self.ledger.last_link_to(to_shard));
        let begun = self.sent_at.get(&(to_shard, sequence)).copied().filter(|place| self.sent[*place].source_n == n);
        let transfer = (event.account, event.asset, event.amount_units);
        match begun {
            Some(place) if sequence == last => self.sent[place].transfers.push(transfer),
            _ if last.checked_add(1) == Some(sequence) => {
                self.sent_at.insert((to_shard, sequence), self.sent.len());
                let (source_n, debited_us) = (n, self.draft.t_us);
                self.sent.push(SentLink { to_shard, sequence, source_n, debited_us, transfers: vec![transfer] });
            }
            _ => return stop(Reason::LinkGap, n, format!("link {sequence} to shard {to_shard} after {last}")),
        }
        self.links_out.insert(to_shard, sequence);
        let payee = (HolderKind::OtherShardOut, u64::from(to_shard));
        self.transfer(event.asset, event.amount_units, account(event.account), payee);
        Ok(())
    }

    /// Count a link that was applied; credits follow it.
    fn fold_link(&mut self, event: &LinkResult) -> Result<(), FrameStop> {
        let (shard, sequence) = (event.from_shard, event.sequence);
        self.link_from = None;
        if sequence != 0 {
            let answers = &mut self.draft.answers;
            answers.from_shard.push(shard);
            answers.sequence.push(sequence);
            answers.reason.push(event.reason);
        }
        if event.reason != 0 || event.repeated {
            return Ok(());
        }
        let last = *self.links_in.get(&shard).unwrap_or(&self.ledger.last_link_from(shard));
        if last.checked_add(1) != Some(sequence) {
            return stop(Reason::LinkGap, self.draft.n, format!("link {sequence} from shard {shard} after {last}"));
        }
        self.links_in.insert(shard, sequence);
        self.link_from = Some(shard);
        Ok(())
    }

    fn fold_market(&mut self, event: &MarketDefined) {
        let market = &event.market;
        let units = MarketUnits {
            base_asset: market.base_asset,
            quote_asset: market.quote_asset,
            base_units_per_lot: market.base_units_per_lot,
            quote_units_per_tick_lot: market.quote_units_per_tick_lot,
        };
        self.markets.insert(market.market, units);
        self.note_changed_markets();
    }

    fn note_changed_markets(&mut self) {
        if let Some(changes) = self.draft.frames.changes_markets.last_mut() {
            *changes = true;
        }
    }

    fn note_verdict(&mut self, event: &BatchResult) {
        if event.repeat_n == 0 {
            self.draft.verdicts.batch.push(event.batch);
            self.draft.verdicts.reason.push(event.reason);
        }
    }

    fn fold_requested(&mut self, event: &WithdrawalRequested) {
        let set_aside = (HolderKind::OpenWithdrawals, 0);
        self.transfer(event.asset, event.amount_units, account(event.account), set_aside);
        let units = (event.asset, event.amount_units);
        self.note_withdrawal(event.withdrawal, event.account, units, Some(event.destination), false);
    }

    fn fold_closed(&mut self, event: &WithdrawalClosed) {
        let payee = if event.paid { (HolderKind::Payments, 0) } else { account(event.account) };
        self.transfer(event.asset, event.amount_units, (HolderKind::OpenWithdrawals, 0), payee);
        let units = (event.asset, event.amount_units);
        self.note_withdrawal(event.withdrawal, event.account, units, None, event.paid);
    }

    /// Note what became of a withdrawal; it is closed where there is no destination.
    fn note_withdrawal(
        &mut self,
        withdrawal: u64,
        account: u64,
        (asset, amount_units): (u32, u64),
        destination: Option<&str>,
        paid: bool,
    ) {
        let columns = &mut self.draft.withdrawals;
        columns.withdrawal.push(withdrawal);
        columns.account.push(account);
        columns.asset.push(asset);
        columns.amount_units.push(amount_units);
        columns.is_open.push(destination.is_some());
        columns.destination.push(destination.unwrap_or_default().to_owned());
        columns.paid.push(paid);
        columns.n.push(self.draft.n);
        columns.t_us.push(self.draft.t_us);
    }
}

fn account(number: u64) -> (HolderKind, u64) {
    (HolderKind::Account, number)
}
