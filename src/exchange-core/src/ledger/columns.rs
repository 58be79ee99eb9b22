//! What frames change, and what a database has, as columns.

use std::hash::Hash;

use hashbrown::{HashMap, HashSet};

use super::{MarketUnits, Owner};

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

impl Rows {
    /// Return why no ledger has these rows; a sentence that starts with a stable reason.
    pub(super) fn refusal(&self) -> Option<String> {
        let Self { units, markets, links_in, links_out, .. } = self;
        let units_lens = [
            ("kind", units.kind.len()),
            ("holder", units.holder.len()),
            ("asset", units.asset.len()),
            ("units", units.units.len()),
        ];
        let markets_lens = [
            ("market", markets.market.len()),
            ("base_asset", markets.base_asset.len()),
            ("quote_asset", markets.quote_asset.len()),
            ("base_units_per_lot", markets.base_units_per_lot.len()),
            ("quote_units_per_tick_lot", markets.quote_units_per_tick_lot.len()),
        ];
        let link_lens =
            |ends: &LinkEndColumns| [("shard", ends.shard.len()), ("last_sequence", ends.last_sequence.len())];
        ragged("units", &units_lens)
            .or_else(|| ragged("markets", &markets_lens))
            .or_else(|| ragged("links_in", &link_lens(links_in)))
            .or_else(|| ragged("links_out", &link_lens(links_out)))
            .or_else(|| twice("units", units.rows().map(|row| row.0)))
            .or_else(|| twice("markets", markets.market.iter()))
            .or_else(|| twice("links_in", links_in.shard.iter()))
            .or_else(|| twice("links_out", links_out.shard.iter()))
    }
}

fn ragged(table: &str, lens: &[(&str, usize)]) -> Option<String> {
    let (first, first_len) = lens.first()?;
    let (name, len) = lens.iter().find(|(_, len)| len != first_len)?;
    Some(format!("SHAPE: {table}: {len} rows of {name} beside {first_len} of {first}; give each column as many"))
}

fn twice<K: Eq + Hash>(table: &str, keys: impl IntoIterator<Item = K>) -> Option<String> {
    let mut seen = HashSet::new();
    let row = keys.into_iter().position(|key| !seen.insert(key))?;
    Some(format!("ROW_TWICE: {table}: row {row} is of the same as one before it; give one row for each"))
}

impl UnitColumns {
    /// Yield (owner, units).
    pub fn rows(&self) -> impl Iterator<Item = (Owner, i128)> + '_ {
        let owners = self.kind.iter().zip(&self.holder).zip(&self.asset);
        owners.zip(&self.units).map(|(((kind, holder), asset), units)| (Owner::new(*kind, *holder, *asset), *units))
    }

    pub(super) fn from_rows(rows: Vec<(Owner, i128)>) -> Self {
        Self {
            kind: rows.iter().map(|row| row.0.kind()).collect(),
            holder: rows.iter().map(|row| row.0.holder()).collect(),
            asset: rows.iter().map(|row| row.0.asset()).collect(),
            units: rows.into_iter().map(|row| row.1).collect(),
        }
    }
}

impl MarketColumns {
    pub(super) fn rows(&self) -> impl Iterator<Item = (u32, MarketUnits)> + '_ {
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

    pub(super) fn from_map(map: HashMap<u32, MarketUnits>) -> Self {
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
    pub(super) fn rows(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.shard.iter().copied().zip(self.last_sequence.iter().copied())
    }

    pub(super) fn from_map(map: HashMap<u32, u64>) -> Self {
        let mut rows: Vec<_> = map.into_iter().collect();
        rows.sort_unstable();
        Self { shard: rows.iter().map(|row| row.0).collect(), last_sequence: rows.iter().map(|row| row.1).collect() }
    }
}

impl Draft {
    /// Return the position that the next frame must have; past 2^64 - 1 there is none, and 0 fits no frame.
    pub(super) fn n_next(&self) -> u64 {
        self.n.wrapping_add(1)
    }
}
