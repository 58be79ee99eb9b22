//! The ledger of a shard: a fold over its execution frames into what everybody has, as `exchange.settlement.ledger`.
//!
//! Double entry: units only ever move from one holder to another, so that all holders together have none of any asset.
//! A frame is folded only if it is the next one, carries the hash of the last one and answers the entry beside it;
//! anything else stops the call with a reason and changes nothing. What frames change is a `Draft` of columns, one row
//! for what stands after them and none for an event, which a database writes before the ledger adopts it.

mod columns;
mod errors;
mod folding;
mod owners;
mod wide;

use hashbrown::HashMap;

pub use columns::{
    AnswerColumns, Draft, FrameColumns, LinkEndColumns, MarketColumns, Rows, SentColumns, UnitColumns,
    WithdrawalColumns,
};
pub use errors::{LedgerError, OpenError, Reason, Stop};
pub use owners::{HolderKind, Owner};

use errors::{FrameStop, malformed, malformed_first};
use folding::Folding;

use crate::hashing::genesis_hash;
use crate::shard::RULES_MAX;
use crate::wire::messages::Genesis;
use crate::wire::{Message, check_format};

/// The account of the exchange itself.
pub const EXCHANGE_ACCOUNT: u64 = 0;

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
    /// The genesis is not canonical, the columns of a table have different lengths, or a row is there twice.
    pub fn open(genesis: &[u8], rows: &Rows) -> Result<Self, OpenError> {
        let parsed = Genesis::decode(genesis)?;
        if let Some(refusal) = rows.refusal() {
            return Err(OpenError::Rows(refusal));
        }
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
    /// `frames` are encoded, consecutive, the first after `n`; `entries` are those that they answer, as many in the same
    /// order, whose hashes are then compared.
    ///
    /// # Errors
    ///
    /// A frame does not fit, or is of another version, or there are not as many entries as frames.
    pub fn fold(&self, frames: &[&[u8]], entries: Option<&[RawEntry]>) -> Result<Draft, LedgerError> {
        if let Some(entries) = entries.filter(|entries| entries.len() != frames.len()) {
            let (frames, entries) = (frames.len(), entries.len());
            return Err(LedgerError::Shape(format!(
                "SHAPE: {entries} entries for {frames} frames; give the entry that each frame answers, or none at all"
            )));
        }
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
