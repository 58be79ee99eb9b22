//! `exchange_core.Ledger` and `exchange_core.ShardFold`: converts, and nothing else.
//!
//! Frames are read with the GIL released, a whole batch in a call. Columns come as one list each, in their order, so
//! that Python turns them into rows with `zip` and no statement per row. `exchange_core.pyi` documents the classes.

// PyO3 hands over what it made of an argument.
#![allow(clippy::needless_pass_by_value)]

use std::collections::{BTreeMap, BTreeSet};

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::fold::{self, LevelView, OrderView, TapeTrade, Watch};
use crate::ledger::{self, LinkEndColumns, MarketColumns, Owner, RawEntry, Rows, UnitColumns};
use crate::python::released;

create_exception!(exchange_core, LedgerStop, PyException, "A ledger cannot go on: (reason, n, detail).");
create_exception!(exchange_core, FoldStop, PyException, "A fold cannot go on: (reason, n, detail).");

/// Add classes and exceptions to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("LedgerStop", py.get_type::<LedgerStop>())?;
    module.add("FoldStop", py.get_type::<FoldStop>())?;
    module.add("LEDGER_REASONS", PyTuple::new(py, ledger::Reason::ALL.map(ledger::Reason::name))?)?;
    module.add("FOLD_REASONS", PyTuple::new(py, fold::Reason::ALL.map(fold::Reason::name))?)?;
    module.add_class::<Ledger>()?;
    module.add_class::<LedgerDraft>()?;
    module.add_class::<ShardFold>()?;
    module.add_class::<Applied>()
}

type List<'py> = Bound<'py, PyList>;
type UnitLists<'py> = (List<'py>, List<'py>, List<'py>, List<'py>);
type MarketLists<'py> = (List<'py>, List<'py>, List<'py>, List<'py>, List<'py>);
type Trade = (u64, u64, u64, u64, u32, u64);
type Level = (u64, u128, u64);
/// Fields of an order as `OrderView` has them, its origin's three at the end.
type Order = ((u64, u64, u64, u32, u32, u64, u64, u64), (bool, u32, u32, u32, u32, u32), (u64, u32, u32));

fn list<'py, T>(py: Python<'py>, column: &[T]) -> PyResult<List<'py>>
where
    T: Clone + IntoPyObject<'py>,
{
    PyList::new(py, column.iter().cloned())
}

fn unit_lists<'py>(py: Python<'py>, columns: &UnitColumns) -> PyResult<UnitLists<'py>> {
    let UnitColumns { kind, holder, asset, units } = columns;
    Ok((list(py, kind)?, list(py, holder)?, list(py, asset)?, list(py, units)?))
}

fn hash_of(bytes: &[u8]) -> PyResult<[u8; 32]> {
    bytes.try_into().map_err(|_| PyValueError::new_err("a hash has 32 bytes"))
}

fn slices(frames: &[PyBackedBytes]) -> Vec<&[u8]> {
    frames.iter().map(|frame| &frame[..]).collect()
}

// --- ledger ---------------------------------------------------------------------------------------------------------

impl From<ledger::Stop> for PyErr {
    fn from(stop: ledger::Stop) -> Self {
        LedgerStop::new_err((stop.reason.name(), stop.n, stop.detail))
    }
}

impl From<ledger::LedgerError> for PyErr {
    fn from(error: ledger::LedgerError) -> Self {
        match error {
            ledger::LedgerError::Format(format) => format.into(),
            ledger::LedgerError::Stop(stop) => stop.into(),
        }
    }
}

/// `exchange_core.Ledger`.
#[pyclass(module = "exchange_core")]
struct Ledger(ledger::Ledger);

/// `exchange_core.LedgerDraft`.
#[pyclass(module = "exchange_core", frozen)]
struct LedgerDraft(ledger::Draft);

#[pymethods]
impl Ledger {
    #[new]
    #[pyo3(signature = (genesis, n=0, t_us=0, chain_hash=None, units=None, markets=None, links_in=None, links_out=None))]
    #[allow(clippy::too_many_arguments, clippy::type_complexity)]
    fn new(
        py: Python<'_>,
        genesis: &[u8],
        n: u64,
        t_us: u64,
        chain_hash: Option<&[u8]>,
        units: Option<(Vec<u8>, Vec<u64>, Vec<u32>, Vec<i128>)>,
        markets: Option<(Vec<u32>, Vec<u32>, Vec<u32>, Vec<u64>, Vec<u64>)>,
        links_in: Option<(Vec<u32>, Vec<u64>)>,
        links_out: Option<(Vec<u32>, Vec<u64>)>,
    ) -> PyResult<Self> {
        let (kind, holder, asset, units) = units.unwrap_or_default();
        let (market, base_asset, quote_asset, base_units_per_lot, quote_units_per_tick_lot) =
            markets.unwrap_or_default();
        if kind.iter().any(|kind| *kind > ledger::HolderKind::Payments as u8) {
            return Err(PyValueError::new_err("a kind of holder is a place in KINDS"));
        }
        let link_ends = |(shard, last_sequence)| LinkEndColumns { shard, last_sequence };
        let rows = Rows {
            n,
            t_us,
            chain_hash: chain_hash.map_or(Ok([0; 32]), hash_of)?,
            units: UnitColumns { kind, holder, asset, units },
            markets: MarketColumns { market, base_asset, quote_asset, base_units_per_lot, quote_units_per_tick_lot },
            links_in: link_ends(links_in.unwrap_or_default()),
            links_out: link_ends(links_out.unwrap_or_default()),
        };
        Ok(Self(released(py, || ledger::Ledger::open(genesis, &rows))??))
    }

    #[pyo3(signature = (frames, entries=None))]
    fn fold(
        &self,
        py: Python<'_>,
        frames: Vec<PyBackedBytes>,
        entries: Option<Vec<(u64, u64, PyBackedBytes)>>,
    ) -> PyResult<LedgerDraft> {
        let frames = slices(&frames);
        let entries = entries.as_ref().map(|entries| {
            let entries = entries.iter();
            entries.map(|(n, t_us, data)| RawEntry { n: *n, t_us: *t_us, order_frame: data }).collect::<Vec<_>>()
        });
        Ok(LedgerDraft(released(py, || self.0.fold(&frames, entries.as_deref()))??))
    }

    fn fold_proven(&self, py: Python<'_>, frames: Vec<PyBackedBytes>, after_hash: &[u8]) -> PyResult<LedgerDraft> {
        let after_hash = hash_of(after_hash)?;
        let frames = slices(&frames);
        Ok(LedgerDraft(released(py, || self.0.fold_proven(&frames, after_hash))??))
    }

    fn adopt(&mut self, draft: &LedgerDraft) -> PyResult<()> {
        if self.0.adopt(&draft.0) { Ok(()) } else { Err(PyValueError::new_err("the draft is of another position")) }
    }

    #[getter]
    fn shard(&self) -> u32 {
        self.0.shard()
    }

    #[getter]
    fn n(&self) -> u64 {
        self.0.n()
    }

    #[getter]
    fn t_us(&self) -> u64 {
        self.0.t_us()
    }

    #[getter]
    fn chain_hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.chain_hash())
    }

    fn units(&self, kind: u8, holder: u64, asset: u32) -> i128 {
        self.0.units(Owner::new(kind, holder, asset))
    }

    fn by_asset(&self, kind: u8, holder: u64) -> Vec<(u32, i128)> {
        self.0.by_asset(kind, holder)
    }

    fn holdings<'py>(&self, py: Python<'py>) -> PyResult<UnitLists<'py>> {
        unit_lists(py, &self.0.holdings())
    }

    fn last_link_from(&self, shard: u32) -> u64 {
        self.0.last_link_from(shard)
    }

    fn last_link_to(&self, shard: u32) -> u64 {
        self.0.last_link_to(shard)
    }

    fn partners(&self) -> Vec<u32> {
        self.0.partners()
    }
}

#[pymethods]
impl LedgerDraft {
    #[getter]
    fn after_n(&self) -> u64 {
        self.0.after_n
    }

    #[getter]
    fn after_hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.after_hash)
    }

    #[getter]
    fn n(&self) -> u64 {
        self.0.n
    }

    #[getter]
    fn t_us(&self) -> u64 {
        self.0.t_us
    }

    #[getter]
    fn chain_hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.chain_hash)
    }

    #[getter]
    fn units<'py>(&self, py: Python<'py>) -> PyResult<UnitLists<'py>> {
        unit_lists(py, &self.0.units)
    }

    #[getter]
    fn markets<'py>(&self, py: Python<'py>) -> PyResult<MarketLists<'py>> {
        let MarketColumns { market, base_asset, quote_asset, base_units_per_lot, quote_units_per_tick_lot } =
            &self.0.markets;
        Ok((
            list(py, market)?,
            list(py, base_asset)?,
            list(py, quote_asset)?,
            list(py, base_units_per_lot)?,
            list(py, quote_units_per_tick_lot)?,
        ))
    }

    #[getter]
    fn links_in<'py>(&self, py: Python<'py>) -> PyResult<(List<'py>, List<'py>)> {
        Ok((list(py, &self.0.links_in.shard)?, list(py, &self.0.links_in.last_sequence)?))
    }

    #[getter]
    fn links_out<'py>(&self, py: Python<'py>) -> PyResult<(List<'py>, List<'py>)> {
        Ok((list(py, &self.0.links_out.shard)?, list(py, &self.0.links_out.last_sequence)?))
    }

    #[getter]
    #[allow(clippy::type_complexity)]
    fn sent(&self) -> Vec<(u32, u64, u64, u64, Vec<(u64, u32, u64)>)> {
        let sent = &self.0.sent;
        let transfers: Vec<_> = (0..sent.account.len())
            .map(|place| (sent.account[place], sent.asset[place], sent.amount_units[place]))
            .collect();
        let starts = std::iter::once(0).chain(sent.transfers_end.iter().copied());
        let spans = starts.zip(sent.transfers_end.iter().copied());
        let rows = spans.enumerate().map(|(row, (start, end))| {
            let transfers = transfers[start..end].to_vec();
            (sent.to_shard[row], sent.sequence[row], sent.source_n[row], sent.debited_us[row], transfers)
        });
        rows.collect()
    }

    #[getter]
    fn answers<'py>(&self, py: Python<'py>) -> PyResult<(List<'py>, List<'py>, List<'py>)> {
        let answers = &self.0.answers;
        Ok((list(py, &answers.from_shard)?, list(py, &answers.sequence)?, list(py, &answers.reason)?))
    }

    #[getter]
    #[allow(clippy::type_complexity)]
    fn withdrawals(&self) -> Vec<(u64, u64, u32, u64, &str, bool, bool, u64, u64)> {
        let columns = &self.0.withdrawals;
        let rows = (0..columns.withdrawal.len()).map(|row| {
            (
                columns.withdrawal[row],
                columns.account[row],
                columns.asset[row],
                columns.amount_units[row],
                columns.destination[row].as_str(),
                columns.is_open[row],
                columns.paid[row],
                columns.n[row],
                columns.t_us[row],
            )
        });
        rows.collect()
    }

    #[getter]
    fn frames<'py>(&self, py: Python<'py>) -> PyResult<MarketLists<'py>> {
        let frames = &self.0.frames;
        Ok((
            list(py, &frames.n)?,
            list(py, &frames.t_us)?,
            list(py, &frames.events)?,
            list(py, &frames.changes_markets)?,
            list(py, &frames.verdicts_end)?,
        ))
    }

    #[getter]
    fn verdicts<'py>(&self, py: Python<'py>) -> PyResult<(List<'py>, List<'py>)> {
        Ok((list(py, &self.0.verdicts.batch)?, list(py, &self.0.verdicts.reason)?))
    }
}

// --- market data ----------------------------------------------------------------------------------------------------

impl From<fold::FoldError> for PyErr {
    fn from(error: fold::FoldError) -> Self {
        FoldStop::new_err((error.reason.name(), error.n, error.detail))
    }
}

impl From<fold::StartError> for PyErr {
    fn from(error: fold::StartError) -> Self {
        match error {
            fold::StartError::Format(format) => format.into(),
            fold::StartError::Wire(wire) => wire.into(),
            fold::StartError::Checkpoint(checkpoint) => checkpoint.into(),
            fold::StartError::State(detail) => PyValueError::new_err(detail),
        }
    }
}

/// `exchange_core.ShardFold`.
#[pyclass(module = "exchange_core")]
struct ShardFold(fold::ShardFold);

/// `exchange_core.Applied`.
#[pyclass(module = "exchange_core", frozen)]
struct Applied {
    applied: fold::Applied,
    stop: Option<(&'static str, u64, String)>,
}

fn level_of(level: &LevelView) -> Level {
    (level.price_ticks, level.quantity_lots, level.orders)
}

fn trade_of(trade: &TapeTrade) -> Trade {
    let TapeTrade { market_seq, trade_id, price_ticks, quantity_lots, taker_side, t_us } = *trade;
    (market_seq, trade_id, price_ticks, quantity_lots, taker_side, t_us)
}

fn order_of(order: &OrderView) -> Order {
    (
        (
            order.order_id,
            order.client_order_id,
            order.account,
            order.market,
            order.side,
            order.price_ticks,
            order.open_lots,
            order.filled_lots,
        ),
        (
            order.post_only,
            order.self_trade_prevention,
            order.maker_fee_ppm,
            order.taker_fee_ppm,
            order.maker_prepaid_ppm,
            order.taker_prepaid_ppm,
        ),
        order.origin,
    )
}

fn no_market(market: u32) -> PyErr {
    PyKeyError::new_err(market)
}

#[pymethods]
impl ShardFold {
    #[staticmethod]
    fn from_genesis(py: Python<'_>, genesis: &[u8]) -> PyResult<Self> {
        Ok(Self(released(py, || fold::ShardFold::from_genesis(genesis))??))
    }

    #[staticmethod]
    fn from_state(py: Python<'_>, state: &[u8]) -> PyResult<Self> {
        Ok(Self(released(py, || fold::ShardFold::from_state(state))??))
    }

    #[staticmethod]
    fn from_checkpoint(py: Python<'_>, checkpoint: &[u8]) -> PyResult<Self> {
        Ok(Self(released(py, || fold::ShardFold::from_checkpoint(checkpoint))??))
    }

    fn apply(&mut self, py: Python<'_>, frames: Vec<PyBackedBytes>) -> PyResult<Applied> {
        let frames = slices(&frames);
        let mut applied = fold::Applied::default();
        let result = released(py, || self.0.apply(&frames, &mut applied))?;
        let stop = result.err().map(|error| (error.reason.name(), error.n, error.detail));
        Ok(Applied { applied, stop })
    }

    fn take_in_the_past(&mut self, py: Python<'_>, frame: &[u8]) -> PyResult<()> {
        Ok(released(py, || self.0.take_in_the_past(frame))??)
    }

    #[getter]
    fn shard(&self) -> u32 {
        self.0.shard()
    }

    #[getter]
    fn n(&self) -> u64 {
        self.0.n()
    }

    #[getter]
    fn t_us(&self) -> u64 {
        self.0.t_us()
    }

    #[getter]
    fn chain_hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.chain_hash())
    }

    #[getter]
    fn settings(&self) -> (u64, u32, u32) {
        let settings = self.0.settings();
        (settings.max_validity_ms, settings.live_nonces_per_key_max, settings.open_orders_per_account_max)
    }

    #[getter]
    fn links_in(&self) -> BTreeMap<u32, u64> {
        self.0.links_in().clone()
    }

    #[getter]
    fn links_out(&self) -> BTreeMap<u32, u64> {
        self.0.links_out().clone()
    }

    #[getter]
    #[allow(clippy::type_complexity)]
    fn sent(&self) -> Vec<(u32, u64, Vec<(u64, u32, u64, u64)>)> {
        let sent = self.0.sent().iter();
        let rows = sent.map(|((to_shard, sequence), parts)| {
            let parts = parts.iter().map(|part| (part.account, part.asset, part.amount_units, part.debited_us));
            (*to_shard, *sequence, parts.collect())
        });
        rows.collect()
    }

    fn forget_sent(&mut self, to_shard: u32, up_to_sequence: u64) {
        self.0.forget_sent(to_shard, up_to_sequence);
    }

    fn markets(&self) -> Vec<u32> {
        self.0.markets()
    }

    fn accounts(&self) -> Vec<u64> {
        self.0.accounts()
    }

    fn market<'py>(&self, py: Python<'py>, market: u32) -> PyResult<(Bound<'py, PyBytes>, u32)> {
        let (settings, state) = self.0.market(market).ok_or_else(|| no_market(market))?;
        Ok((PyBytes::new(py, settings), state))
    }

    fn last_of(&self, market: u32) -> PyResult<(u64, u64)> {
        self.0.last_of(market).ok_or_else(|| no_market(market))
    }

    #[pyo3(signature = (market, levels_max=None))]
    fn depth(&self, market: u32, levels_max: Option<usize>) -> PyResult<(Vec<Level>, Vec<Level>)> {
        let (bids, asks) = self.0.depth(market, levels_max.unwrap_or(usize::MAX)).ok_or_else(|| no_market(market))?;
        Ok((bids.iter().map(level_of).collect(), asks.iter().map(level_of).collect()))
    }

    fn level_at(&self, market: u32, side: u32, price_ticks: u64) -> PyResult<Level> {
        self.0.level_at(market, side, price_ticks).map(|level| level_of(&level)).ok_or_else(|| no_market(market))
    }

    fn watch(&mut self, market: u32, watch: u8) -> PyResult<()> {
        let watch = match watch {
            0 => Watch::Nothing,
            1 => Watch::EveryFrame,
            2 => Watch::EveryCommand,
            _ => return Err(PyValueError::new_err("0, 1 or 2")),
        };
        if self.0.watch(market, watch) { Ok(()) } else { Err(no_market(market)) }
    }

    fn trades_after(&self, market: u32, market_seq: u64, trades_max: usize) -> PyResult<(Vec<Trade>, u64)> {
        let found = self.0.trades_after(market, market_seq, trades_max).ok_or_else(|| no_market(market))?;
        Ok((found.0.iter().map(trade_of).collect(), found.1))
    }

    fn trades_before(&self, market: u32, market_seq: u64, trades_max: usize) -> PyResult<(Vec<Trade>, u64)> {
        let found = self.0.trades_before(market, market_seq, trades_max).ok_or_else(|| no_market(market))?;
        Ok((found.0.iter().map(trade_of).collect(), found.1))
    }

    fn balances(&self, account: u64) -> Vec<(u32, i128, i128)> {
        self.0.balances(account)
    }

    fn account_seq(&self, account: u64) -> u64 {
        self.0.account_seq(account)
    }

    fn open_orders(&self, account: u64) -> Vec<Order> {
        self.0.open_orders(account).map(|order| order_of(&order)).collect()
    }

    fn order(&self, order_id: u64) -> Option<Order> {
        self.0.order(order_id).map(|order| order_of(&order))
    }

    fn order_ids(&self) -> Vec<u64> {
        self.0.order_ids()
    }

    #[getter]
    fn markets_len(&self) -> usize {
        self.0.markets_len()
    }

    #[getter]
    fn open_orders_len(&self) -> usize {
        self.0.open_orders_len()
    }

    fn set_self_trade_prevention(&mut self, order_id: u64, mode: u32) -> bool {
        self.0.set_self_trade_prevention(order_id, mode)
    }
}

#[pymethods]
impl Applied {
    #[getter]
    fn stop(&self) -> Option<(&'static str, u64, String)> {
        self.stop.clone()
    }

    #[getter]
    #[allow(clippy::type_complexity)]
    fn frames<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(List<'py>, List<'py>, List<'py>, List<'py>, List<'py>, List<'py>)> {
        let frames = &self.applied.frames;
        Ok((
            list(py, &frames.n)?,
            list(py, &frames.t_us)?,
            list(py, &frames.events)?,
            list(py, &frames.accounts_end)?,
            list(py, &frames.trades_end)?,
            list(py, &frames.changes_end)?,
        ))
    }

    #[getter]
    fn accounts<'py>(&self, py: Python<'py>) -> PyResult<(List<'py>, List<'py>, List<'py>)> {
        let accounts = &self.applied.accounts;
        Ok((list(py, &accounts.account)?, list(py, &accounts.places_end)?, list(py, &accounts.place)?))
    }

    #[getter]
    fn places<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let accounts = &self.applied.accounts;
        let (mut row, mut start) = (0, 0);
        let frames = self.applied.frames.accounts_end.iter().map(|&end| {
            let found = PyDict::new(py);
            while row < end {
                let places_end = accounts.places_end[row];
                found.set_item(accounts.account[row], list(py, &accounts.place[start..places_end])?)?;
                (row, start) = (row + 1, places_end);
            }
            Ok(found)
        });
        frames.collect()
    }

    #[getter]
    fn traded(&self) -> Vec<BTreeSet<u32>> {
        let mut start = 0;
        let frames = self.applied.frames.trades_end.iter().map(|&end| {
            let found = self.applied.trades.market[start..end].iter().copied().collect();
            start = end;
            found
        });
        frames.collect()
    }

    #[getter]
    #[allow(clippy::type_complexity)]
    fn trades<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(List<'py>, List<'py>, List<'py>, List<'py>, List<'py>, List<'py>)> {
        let trades = &self.applied.trades;
        Ok((
            list(py, &trades.market)?,
            list(py, &trades.market_seq)?,
            list(py, &trades.trade_id)?,
            list(py, &trades.price_ticks)?,
            list(py, &trades.quantity_lots)?,
            list(py, &trades.taker_side)?,
        ))
    }

    #[getter]
    #[allow(clippy::type_complexity)]
    fn changes(&self) -> Vec<(u32, u64, u64, u32, u64, Vec<Level>, Vec<Level>)> {
        let changes = &self.applied.changes;
        let mut start = 0;
        let rows = (0..changes.market.len()).map(|row| {
            let (bids_end, asks_end) = (changes.bids_end[row], changes.asks_end[row]);
            let bids = changes.level[start..bids_end].iter().map(level_of).collect();
            let asks = changes.level[bids_end..asks_end].iter().map(level_of).collect();
            start = asks_end;
            let (previous, market_seq) = (changes.previous_market_seq[row], changes.market_seq[row]);
            (changes.market[row], previous, market_seq, changes.state[row], changes.last_price_ticks[row], bids, asks)
        });
        rows.collect()
    }
}
