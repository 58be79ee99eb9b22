//! The Python module `exchange_core`: converts, and nothing else.
//!
//! Every call that executes, decodes or verifies releases the GIL while it does, and takes a whole batch. A panic in
//! the core, which none of its inputs causes, is `Stop("INVARIANT", ...)`, raised again by what it left half changed.
//! `exchange_core.pyi` documents the module; a test compares the two. The port that services use,
//! `exchange.engine.port`, is put on top in `exchange.engine.core`.

// PyO3 makes the arguments and hands them over.
#![allow(clippy::needless_pass_by_value)]

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::running::{Panicked, Running, caught};
use crate::shard::{self, ApplyError};
use crate::wire::Message;
use crate::{limits, units, verify, wire};

create_exception!(exchange_core, Stop, PyException, "An engine cannot answer an entry, nor a later one.");
create_exception!(exchange_core, UnknownFormat, PyValueError, "Bytes are of a version that this module does not know.");
create_exception!(exchange_core, WireError, PyValueError, "Bytes break a rule of the wire.");
create_exception!(exchange_core, LoadError, PyValueError, "Bytes are no genesis or no checkpoint to start from.");

/// Bytes that the buffer of answers keeps from call to call.
const ANSWERS_KEPT_BYTES: usize = 1024 * 1024;

type Facts = (u64, u64, Vec<(u32, u64)>, u64, Vec<(u32, u64)>);
type Level = (u64, u64);
type OpenOrder = (u64, u64, u32, u32, u64, u64, u64);

/// Run work of the core with the GIL released; a panic in it is a stop.
pub(crate) fn released<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> PyResult<T> {
    Ok(py.detach(|| caught(work))?)
}

/// Run work that changes what the core keeps with the GIL released; after a panic in it every call is the same stop.
fn changed<T: Send, R: Send>(
    py: Python<'_>,
    running: &mut Running<T>,
    work: impl FnOnce(&mut T) -> R + Send,
) -> PyResult<R> {
    Ok(py.detach(|| running.change(work))?)
}

impl From<Panicked> for PyErr {
    fn from(panic: Panicked) -> Self {
        Stop::new_err(("INVARIANT", panic.detail()))
    }
}

impl From<wire::WireError> for PyErr {
    fn from(error: wire::WireError) -> Self {
        WireError::new_err((error.reason.name(), error.field, error.offset, error.detail))
    }
}

impl From<wire::UnknownFormat> for PyErr {
    fn from(error: wire::UnknownFormat) -> Self {
        UnknownFormat::new_err((error.what, error.found))
    }
}

impl From<shard::Stop> for PyErr {
    fn from(stop: shard::Stop) -> Self {
        Stop::new_err((stop.reason, stop.detail))
    }
}

impl From<ApplyError> for PyErr {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Format(format) => format.into(),
            ApplyError::Stop(stop) => stop.into(),
        }
    }
}

impl From<shard::LoadError> for PyErr {
    fn from(error: shard::LoadError) -> Self {
        match error {
            shard::LoadError::Format(format) => format.into(),
            shard::LoadError::Wire(wire) => wire.into(),
            shard::LoadError::Genesis(detail) | shard::LoadError::Checkpoint(detail) => LoadError::new_err(detail),
            shard::LoadError::Stop(stop) => stop.into(),
        }
    }
}

/// `exchange_core.Shard`.
#[pyclass(module = "exchange_core")]
struct Shard {
    shard: Running<shard::Shard>,
    answers: Vec<u8>,
}

impl Shard {
    fn new(shard: shard::Shard) -> Self {
        Self { shard: Running::new(shard), answers: Vec::new() }
    }
}

#[pymethods]
impl Shard {
    #[staticmethod]
    fn from_genesis(py: Python<'_>, genesis: &[u8]) -> PyResult<Self> {
        Ok(Self::new(released(py, || shard::Shard::from_genesis(genesis))??))
    }

    #[staticmethod]
    fn from_checkpoint(py: Python<'_>, checkpoint: &[u8]) -> PyResult<Self> {
        Ok(Self::new(released(py, || shard::Shard::from_checkpoint(checkpoint))??))
    }

    fn apply<'py>(
        &mut self,
        py: Python<'py>,
        entries: Vec<(u64, u64, PyBackedBytes)>,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let Self { shard, answers } = self;
        answers.clear();
        answers.shrink_to(ANSWERS_KEPT_BYTES);
        let ends = changed(py, shard, |shard| {
            entries
                .iter()
                .map(|(n, t_us, order_frame)| {
                    shard.apply(*n, *t_us, order_frame, answers)?;
                    Ok(answers.len())
                })
                .collect::<Result<Vec<usize>, ApplyError>>()
        })??;
        let starts = std::iter::once(0).chain(ends.iter().copied());
        Ok(starts.zip(&ends).map(|(start, &end)| PyBytes::new(py, &answers[start..end])).collect())
    }

    #[getter]
    fn shard(&self) -> u32 {
        self.shard.as_it_is().shard()
    }

    #[getter]
    fn position(&self) -> u64 {
        self.shard.as_it_is().position()
    }

    #[getter]
    fn chain_hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.shard.as_it_is().chain_hash())
    }

    #[getter]
    fn events_written(&self) -> u64 {
        self.shard.as_it_is().events_written()
    }

    fn has_due_work(&self, t_us: u64) -> PyResult<bool> {
        Ok(self.shard.get()?.has_due_work(t_us))
    }

    fn next_due_us(&self) -> PyResult<Option<u64>> {
        Ok(self.shard.get()?.next_due_us())
    }

    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let shard = self.shard.get()?;
        Ok(PyBytes::new(py, &released(py, || shard.state())?))
    }

    fn state_hash<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let shard = self.shard.get()?;
        Ok(PyBytes::new(py, &released(py, || shard.state_hash())?))
    }

    fn checkpoint<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let shard = self.shard.get()?;
        Ok(PyBytes::new(py, &released(py, || shard.checkpoint())?))
    }

    fn summary<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let of = self.shard.get()?.summary();
        PyTuple::new(
            py,
            [
                of.n.into_pyobject(py)?.into_any(),
                of.t_us.into_pyobject(py)?.into_any(),
                PyBytes::new(py, &of.chain_hash).into_any(),
                of.rules.into_pyobject(py)?.into_any(),
                of.rules_max.into_pyobject(py)?.into_any(),
                of.control_floor.into_pyobject(py)?.into_any(),
                PyBytes::new(py, &of.settings).into_any(),
                of.markets.into_pyobject(py)?.into_any(),
                of.accounts.into_pyobject(py)?.into_any(),
                of.open_orders.into_pyobject(py)?.into_any(),
                of.live_nonces.into_pyobject(py)?.into_any(),
                of.timers.into_pyobject(py)?.into_any(),
                of.pending_cancel_alls.into_pyobject(py)?.into_any(),
            ],
        )
    }

    fn facts(&self) -> PyResult<Facts> {
        let of = self.shard.get()?.facts();
        Ok((of.position, of.t_us, of.sequences, of.control_floor, of.links_in))
    }

    fn markets<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let shard = self.shard.get()?;
        let markets = released(py, || shard.markets())?;
        Ok(markets.iter().map(|market| PyBytes::new(py, market)).collect())
    }

    fn depth(&self, market: u32, levels_max: usize) -> PyResult<Option<(Vec<Level>, Vec<Level>)>> {
        Ok(self.shard.get()?.depth(market, levels_max))
    }

    fn balances(&self, account: u64) -> PyResult<Vec<(u32, u64, u64)>> {
        Ok(self.shard.get()?.balances(account))
    }

    fn open_orders(&self, account: u64) -> PyResult<Vec<OpenOrder>> {
        let orders = self.shard.get()?.open_orders(account).into_iter();
        Ok(orders
            .map(|shard::OpenOrder { order_id, client_order_id, market, side, price_ticks, open_lots, filled_lots }| {
                (order_id, client_order_id, market, side, price_ticks, open_lots, filled_lots)
            })
            .collect())
    }

    fn book<'py>(
        &self,
        py: Python<'py>,
        market: u32,
        orders_per_side_max: usize,
    ) -> PyResult<Option<(Bound<'py, PyBytes>, u64, u64)>> {
        let shard = self.shard.get()?;
        let cut = released(py, || shard.book(market, orders_per_side_max))?;
        Ok(cut.map(|cut| (PyBytes::new(py, &cut.book), cut.bid_orders, cut.ask_orders)))
    }

    fn what_if(&self, py: Python<'_>, batches: Vec<PyBackedBytes>, t_us: u64) -> PyResult<WhatIf> {
        let shard = self.shard.get()?;
        let what_if = released(py, || shard.what_if(&slices(&batches), t_us))??;
        Ok(WhatIf { position: what_if.position(), what_if: Some(what_if) })
    }
}

/// `exchange_core.WhatIf`.
#[pyclass(module = "exchange_core")]
struct WhatIf {
    position: (u64, u64, [u8; limits::HASH_BYTES]),
    what_if: Option<shard::WhatIf>,
}

#[pymethods]
impl WhatIf {
    #[getter]
    fn position<'py>(&self, py: Python<'py>) -> (u64, u64, Bound<'py, PyBytes>) {
        let (n, t_us, chain_hash) = &self.position;
        (*n, *t_us, PyBytes::new(py, chain_hash))
    }

    fn run<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let what_if = self.what_if.take().ok_or_else(|| {
            PyRuntimeError::new_err("a what-if runs once, and this one did; ask the shard for another")
        })?;
        Ok(PyBytes::new(py, &released(py, || what_if.run())??))
    }
}

/// Decode and encode again by the name of a message.
macro_rules! recoders {
    ($($message:ident),+ $(,)?) => {
        /// Names of the messages that `check` and `recode` take.
        const MESSAGES: &[&str] = &[$(stringify!($message)),+];

        fn recode_named(message: &str, data: &[u8]) -> Option<Result<Vec<u8>, wire::WireError>> {
            match message {
                $(stringify!($message) => Some(wire::messages::$message::decode(data).map(|value| {
                    let mut out = Vec::with_capacity(data.len());
                    value.encode(&mut out);
                    out
                })),)+
                _ => None,
            }
        }
    };
}

recoders!(
    TickRule,
    LotRule,
    Market,
    Asset,
    ShardSettings,
    Registration,
    SignedRegistration,
    RegisterKey,
    RevokeKey,
    OpenAccount,
    ControlRequest,
    PlaceOrder,
    CancelOrder,
    ReduceOrder,
    ReplaceOrder,
    CancelAllOrders,
    ReleaseFunds,
    AllocateFunds,
    RequestWithdrawal,
    SignedBatch,
    DefineMarket,
    SetMarketState,
    CancelOrders,
    SetShardSettings,
    RaiseControlFloor,
    RaiseRules,
    RotateOperatorKey,
    SweepFees,
    DefineAsset,
    DefineShard,
    Deposit,
    CloseWithdrawal,
    PayOutFees,
    OperatorAction,
    Operation,
    SignedOperation,
    Transfer,
    Link,
    SignedLink,
    FrameRefused,
    BatchResult,
    CommandRejected,
    OrderAccepted,
    OrderReplaced,
    OrderReduced,
    OrderCancelled,
    Trade,
    CancelAllAccepted,
    CancelAllDone,
    FundsCredited,
    FundsSent,
    LinkResult,
    OperationResult,
    ActionRejected,
    MarketDefined,
    MarketStateChanged,
    MarketStateScheduled,
    CancelOrdersAccepted,
    ShardSettingsChanged,
    ControlFloorRaised,
    RulesRaised,
    OperatorKeyRotated,
    RequestResult,
    AssetDefined,
    ShardDefined,
    UserCreated,
    AccountOpened,
    KeyRegistered,
    KeyRevoked,
    Deposited,
    WithdrawalRequested,
    WithdrawalClosed,
    FeesPaidOut,
    OrderFrame,
    ExecutionFrame,
    OperatorKey,
    Genesis,
    RestingOrder,
    BookState,
    Balance,
    AccountState,
    AssetAmount,
    LiveNonce,
    Timer,
    PendingCancelAll,
    LinkIn,
    LinkOut,
    ShardCore,
    ShardState,
    Checkpoint,
);

/// Return the canonical encoding of what `data` decodes to, which is `data` itself.
#[pyfunction]
fn recode<'py>(py: Python<'py>, message: &str, data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    match released(py, || recode_named(message, data))? {
        Some(recoded) => Ok(PyBytes::new(py, &recoded?)),
        None => Err(PyValueError::new_err(format!("there is no message {message:?} here; MESSAGES lists them"))),
    }
}

/// Decode and throw away. A batch is decoded as `shard` does it, into commands that are not encoded again.
#[pyfunction]
fn check(py: Python<'_>, message: &str, data: &[u8]) -> PyResult<()> {
    if message == "Batch" {
        return Ok(released(py, || wire::decode_batch(data, &mut Vec::new()).map(drop))??);
    }
    recode(py, message, data).map(drop)
}

/// Return what a batch says of itself, without its commands. So short a work does not give the GIL up.
#[pyfunction]
fn batch_head(payload: &[u8]) -> PyResult<(u64, u32, u64, u64, u32, bool)> {
    thread_local! {
        static COMMANDS: RefCell<Vec<wire::Command>> = const { RefCell::new(Vec::new()) };
    }
    let (head, only_cancels) = COMMANDS.with_borrow_mut(|commands| {
        commands.clear();
        let head = wire::decode_batch(payload, commands)?;
        Ok::<_, wire::WireError>((head, commands.iter().all(wire::Command::is_cancel)))
    })?;
    Ok((head.account, head.shard, head.nonce, head.valid_until_ms, head.len, only_cancels))
}

#[pyfunction]
fn key_refusal(py: Python<'_>, public_key: &[u8]) -> PyResult<Option<&'static str>> {
    Ok(released(py, || verify::key_refusal(public_key))?.map(verify::KeyRefusal::name))
}

#[pyfunction]
fn signature_refusal(
    py: Python<'_>,
    public_key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> PyResult<Option<&'static str>> {
    let public_key = <&[u8; limits::PUBLIC_KEY_BYTES]>::try_from(public_key)
        .map_err(|_| PyValueError::new_err(format!("SHAPE: a key has 32 bytes, not {}", public_key.len())))?;
    Ok(released(py, || verify::signature_refusal(public_key, message, signature))?.map(verify::SignatureRefusal::name))
}

/// `exchange_core.Verifier`. The lock is what lets threads share it: they take turns.
#[pyclass(module = "exchange_core")]
struct Verifier {
    verifier: Mutex<verify::Verifier>,
}

impl Verifier {
    fn locked(&self) -> MutexGuard<'_, verify::Verifier> {
        self.verifier.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Verifier {
    #[new]
    #[pyo3(signature = (known_keys_max, library=None))]
    fn new(py: Python<'_>, known_keys_max: usize, library: Option<PathBuf>) -> PyResult<Self> {
        let made = released(py, || match &library {
            Some(library) => verify::Verifier::fastest(library, known_keys_max),
            None => Ok(verify::Verifier::portable(known_keys_max)),
        })?;
        let verifier = Mutex::new(made.map_err(|error| PyValueError::new_err(error.to_string()))?);
        Ok(Self { verifier })
    }

    #[getter]
    fn path(&self, py: Python<'_>) -> PyResult<&'static str> {
        released(py, || self.locked().path())
    }

    #[getter]
    fn why_portable(&self, py: Python<'_>) -> PyResult<String> {
        released(py, || self.locked().why_portable().to_owned())
    }

    fn verify_batch(
        &self,
        py: Python<'_>,
        messages: Vec<PyBackedBytes>,
        signatures: &[u8],
        keys: &[u8],
    ) -> PyResult<Vec<bool>> {
        Ok(released(py, || self.locked().verify_batch(&slices(&messages), signatures, keys))??)
    }
}

impl From<verify::ShapeError> for PyErr {
    fn from(error: verify::ShapeError) -> Self {
        PyValueError::new_err(error.to_string())
    }
}

fn slices(messages: &[PyBackedBytes]) -> Vec<&[u8]> {
    messages.iter().map(AsRef::as_ref).collect()
}

/// Add constants to a dict under their own names.
macro_rules! constants {
    ($py:expr, $module:ident: $($name:ident),+ $(,)?) => {{
        let constants = PyDict::new($py);
        $(constants.set_item(stringify!($name), $module::$name)?;)+
        constants
    }};
}

/// The compiled module.
#[pymodule]
fn exchange_core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("Stop", py.get_type::<Stop>())?;
    module.add("UnknownFormat", py.get_type::<UnknownFormat>())?;
    module.add("WireError", py.get_type::<WireError>())?;
    module.add("LoadError", py.get_type::<LoadError>())?;
    module.add_class::<Shard>()?;
    module.add_class::<WhatIf>()?;
    folds::register(module)?;
    ingress::register(module)?;
    columns::register(module)?;
    module.add_class::<Verifier>()?;
    module.add_function(wrap_pyfunction!(check, module)?)?;
    module.add_function(wrap_pyfunction!(recode, module)?)?;
    module.add_function(wrap_pyfunction!(batch_head, module)?)?;
    module.add_function(wrap_pyfunction!(key_refusal, module)?)?;
    module.add_function(wrap_pyfunction!(signature_refusal, module)?)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("RULES_MAX", shard::RULES_MAX)?;
    module.add("MESSAGES", PyTuple::new(py, MESSAGES)?)?;
    module.add(
        "LIMITS",
        constants!(
            py, limits: KEY_ID_BYTES, REQUEST_ID_BYTES, HASH_BYTES, PUBLIC_KEY_BYTES, SIGNATURE_BYTES, INGRESS_BYTES,
            BATCH_COMMANDS_MAX, BATCH_BYTES_MAX, FRAME_BATCHES_MAX, FRAME_COMMANDS_MAX, FRAME_LINKS_MAX,
            FRAME_OPERATIONS_MAX, FRAME_REQUESTS_MAX, FRAME_BYTES_MAX, OPERATION_ACTIONS_MAX, OPERATION_BYTES_MAX,
            LINK_TRANSFERS_MAX, LINK_BYTES_MAX, REGISTRATION_BYTES_MAX, DESTINATION_BYTES_MAX, TABLE_ROWS_MAX,
            COMMAND_EVENTS_MAX, ENTRY_WORK_MAX, PENDING_EVENTS_MAX, TIMERS_MAX, LINK_DIGESTS_MAX,
            EXECUTION_FRAME_BYTES_MAX,
        ),
    )?;
    module.add(
        "UNITS",
        constants!(
            py, units: PRICE_TICKS_MAX, QUANTITY_LOTS_MAX, AMOUNT_UNITS_MAX, TIME_US_MAX, PPM, SHARD_MAX,
            CONTROL_SHARD, COUNTER_BITS,
        ),
    )
}

mod folds {
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

    use super::{changed, released};
    use crate::fold::{self, LevelView, OrderView, TapeTrade, Watch};
    use crate::ledger::{self, LinkEndColumns, MarketColumns, Owner, RawEntry, Rows, UnitColumns};
    use crate::running::Running;

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
        bytes.try_into().map_err(|_| PyValueError::new_err(format!("SHAPE: a hash has 32 bytes, not {}", bytes.len())))
    }

    fn check_kind(kind: u8) -> PyResult<()> {
        let kinds_max = ledger::HolderKind::Payments as u8;
        if kind <= kinds_max {
            return Ok(());
        }
        Err(PyValueError::new_err(format!(
            "HOLDER_KIND: {kind}; a kind is its place in exchange.settlement.ledger.KINDS, 0 .. {kinds_max}"
        )))
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
                ledger::LedgerError::Shape(detail) => PyValueError::new_err(detail),
                ledger::LedgerError::Stop(stop) => stop.into(),
            }
        }
    }

    impl From<ledger::OpenError> for PyErr {
        fn from(error: ledger::OpenError) -> Self {
            match error {
                ledger::OpenError::Wire(wire) => wire.into(),
                ledger::OpenError::Rows(detail) => PyValueError::new_err(detail),
            }
        }
    }

    /// `exchange_core.Ledger`.
    #[pyclass(module = "exchange_core")]
    struct Ledger(Running<ledger::Ledger>);

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
            kind.iter().try_for_each(|kind| check_kind(*kind))?;
            if n > 0 && chain_hash.is_none() {
                let detail = format!("SHAPE: no chain_hash; give that of frame {n}, 32 bytes");
                return Err(PyValueError::new_err(detail));
            }
            let link_ends = |(shard, last_sequence)| LinkEndColumns { shard, last_sequence };
            let rows = Rows {
                n,
                t_us,
                chain_hash: chain_hash.map_or(Ok([0; 32]), hash_of)?,
                units: UnitColumns { kind, holder, asset, units },
                markets: MarketColumns {
                    market,
                    base_asset,
                    quote_asset,
                    base_units_per_lot,
                    quote_units_per_tick_lot,
                },
                links_in: link_ends(links_in.unwrap_or_default()),
                links_out: link_ends(links_out.unwrap_or_default()),
            };
            Ok(Self(Running::new(released(py, || ledger::Ledger::open(genesis, &rows))??)))
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
            let ledger = self.0.get()?;
            Ok(LedgerDraft(released(py, || ledger.fold(&frames, entries.as_deref()))??))
        }

        fn fold_proven(&self, py: Python<'_>, frames: Vec<PyBackedBytes>, after_hash: &[u8]) -> PyResult<LedgerDraft> {
            let after_hash = hash_of(after_hash)?;
            let frames = slices(&frames);
            let ledger = self.0.get()?;
            Ok(LedgerDraft(released(py, || ledger.fold_proven(&frames, after_hash))??))
        }

        fn adopt(&mut self, draft: &LedgerDraft) -> PyResult<()> {
            if self.0.change(|ledger| ledger.adopt(&draft.0))? {
                return Ok(());
            }
            let (after_n, n) = (draft.0.after_n, self.0.get()?.n());
            let detail = format!(
                "DRAFT_POSITION: the draft is of frames after {after_n}, the ledger stands after {n} or has another hash \
                 there; adopt drafts in the order in which they were folded, or fold again"
            );
            Err(PyValueError::new_err(detail))
        }

        #[getter]
        fn shard(&self) -> PyResult<u32> {
            Ok(self.0.get()?.shard())
        }

        #[getter]
        fn n(&self) -> PyResult<u64> {
            Ok(self.0.get()?.n())
        }

        #[getter]
        fn t_us(&self) -> PyResult<u64> {
            Ok(self.0.get()?.t_us())
        }

        #[getter]
        fn chain_hash<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
            Ok(PyBytes::new(py, &self.0.get()?.chain_hash()))
        }

        fn units(&self, kind: u8, holder: u64, asset: u32) -> PyResult<i128> {
            check_kind(kind)?;
            Ok(self.0.get()?.units(Owner::new(kind, holder, asset)))
        }

        fn by_asset(&self, kind: u8, holder: u64) -> PyResult<Vec<(u32, i128)>> {
            check_kind(kind)?;
            Ok(self.0.get()?.by_asset(kind, holder))
        }

        fn holdings<'py>(&self, py: Python<'py>) -> PyResult<UnitLists<'py>> {
            unit_lists(py, &self.0.get()?.holdings())
        }

        fn last_link_from(&self, shard: u32) -> PyResult<u64> {
            Ok(self.0.get()?.last_link_from(shard))
        }

        fn last_link_to(&self, shard: u32) -> PyResult<u64> {
            Ok(self.0.get()?.last_link_to(shard))
        }

        fn partners(&self) -> PyResult<Vec<u32>> {
            Ok(self.0.get()?.partners())
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
        fn frames<'py>(&self, py: Python<'py>) -> PyResult<(List<'py>, List<'py>, List<'py>, List<'py>)> {
            let frames = &self.0.frames;
            Ok((
                list(py, &frames.n)?,
                list(py, &frames.t_us)?,
                list(py, &frames.events)?,
                list(py, &frames.changes_markets)?,
            ))
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
    struct ShardFold(Running<fold::ShardFold>);

    /// `exchange_core.Applied`.
    #[pyclass(module = "exchange_core", frozen)]
    pub(super) struct Applied {
        pub(super) applied: fold::Applied,
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
            Ok(Self(Running::new(released(py, || fold::ShardFold::from_genesis(genesis))??)))
        }

        #[staticmethod]
        fn from_state(py: Python<'_>, state: &[u8]) -> PyResult<Self> {
            Ok(Self(Running::new(released(py, || fold::ShardFold::from_state(state))??)))
        }

        #[staticmethod]
        fn from_checkpoint(py: Python<'_>, checkpoint: &[u8]) -> PyResult<Self> {
            Ok(Self(Running::new(released(py, || fold::ShardFold::from_checkpoint(checkpoint))??)))
        }

        fn apply(&mut self, py: Python<'_>, frames: Vec<PyBackedBytes>) -> PyResult<Applied> {
            let frames = slices(&frames);
            let mut applied = fold::Applied::default();
            let result = changed(py, &mut self.0, |fold| fold.apply(&frames, &mut applied))?;
            let stop = result.err().map(|error| (error.reason.name(), error.n, error.detail));
            Ok(Applied { applied, stop })
        }

        fn take_in_the_past(&mut self, py: Python<'_>, frame: &[u8]) -> PyResult<()> {
            Ok(changed(py, &mut self.0, |fold| fold.take_in_the_past(frame))??)
        }

        #[getter]
        fn shard(&self) -> PyResult<u32> {
            Ok(self.0.get()?.shard())
        }

        #[getter]
        fn n(&self) -> PyResult<u64> {
            Ok(self.0.get()?.n())
        }

        #[getter]
        fn t_us(&self) -> PyResult<u64> {
            Ok(self.0.get()?.t_us())
        }

        #[getter]
        fn chain_hash<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
            Ok(PyBytes::new(py, &self.0.get()?.chain_hash()))
        }

        #[getter]
        fn settings(&self) -> PyResult<(u64, u32, u32)> {
            let settings = self.0.get()?.settings();
            Ok((settings.max_validity_ms, settings.live_nonces_per_key_max, settings.open_orders_per_account_max))
        }

        #[getter]
        fn links_in(&self) -> PyResult<BTreeMap<u32, u64>> {
            Ok(self.0.get()?.links_in().clone())
        }

        #[getter]
        fn links_out(&self) -> PyResult<BTreeMap<u32, u64>> {
            Ok(self.0.get()?.links_out().clone())
        }

        #[getter]
        #[allow(clippy::type_complexity)]
        fn sent(&self) -> PyResult<Vec<(u32, u64, Vec<(u64, u32, u64, u64)>)>> {
            let sent = self.0.get()?.sent().iter();
            let rows = sent.map(|((to_shard, sequence), parts)| {
                let parts = parts.iter().map(|part| (part.account, part.asset, part.amount_units, part.debited_us));
                (*to_shard, *sequence, parts.collect())
            });
            Ok(rows.collect())
        }

        fn forget_sent(&mut self, to_shard: u32, up_to_sequence: u64) -> PyResult<()> {
            Ok(self.0.change(|fold| fold.forget_sent(to_shard, up_to_sequence))?)
        }

        fn markets(&self) -> PyResult<Vec<u32>> {
            Ok(self.0.get()?.markets())
        }

        fn accounts(&self) -> PyResult<Vec<u64>> {
            Ok(self.0.get()?.accounts())
        }

        fn market<'py>(&self, py: Python<'py>, market: u32) -> PyResult<(Bound<'py, PyBytes>, u32)> {
            let (settings, state) = self.0.get()?.market(market).ok_or_else(|| no_market(market))?;
            Ok((PyBytes::new(py, settings), state))
        }

        fn last_of(&self, market: u32) -> PyResult<(u64, u64)> {
            self.0.get()?.last_of(market).ok_or_else(|| no_market(market))
        }

        #[pyo3(signature = (market, levels_max=None))]
        fn depth(&self, market: u32, levels_max: Option<usize>) -> PyResult<(Vec<Level>, Vec<Level>)> {
            let (bids, asks) =
                self.0.get()?.depth(market, levels_max.unwrap_or(usize::MAX)).ok_or_else(|| no_market(market))?;
            Ok((bids.iter().map(level_of).collect(), asks.iter().map(level_of).collect()))
        }

        fn level_at(&self, market: u32, side: u32, price_ticks: u64) -> PyResult<Level> {
            if !(1..=2).contains(&side) {
                return Err(PyValueError::new_err(format!("SIDE: {side}; 1: buy, 2: sell")));
            }
            self.0
                .get()?
                .level_at(market, side, price_ticks)
                .map(|level| level_of(&level))
                .ok_or_else(|| no_market(market))
        }

        fn watch(&mut self, market: u32, watch: u8) -> PyResult<()> {
            let watch = match watch {
                0 => Watch::Nothing,
                1 => Watch::EveryFrame,
                2 => Watch::EveryCommand,
                _ => {
                    return Err(PyValueError::new_err(format!(
                        "WATCH: {watch}; 0: nothing, 1: every frame, 2: every command"
                    )));
                }
            };
            if self.0.change(|fold| fold.watch(market, watch))? { Ok(()) } else { Err(no_market(market)) }
        }

        fn trades_after(&self, market: u32, market_seq: u64, trades_max: usize) -> PyResult<(Vec<Trade>, u64)> {
            let found = self.0.get()?.trades_after(market, market_seq, trades_max).ok_or_else(|| no_market(market))?;
            Ok((found.0.iter().map(trade_of).collect(), found.1))
        }

        fn trades_before(&self, market: u32, market_seq: u64, trades_max: usize) -> PyResult<(Vec<Trade>, u64)> {
            let found = self.0.get()?.trades_before(market, market_seq, trades_max).ok_or_else(|| no_market(market))?;
            Ok((found.0.iter().map(trade_of).collect(), found.1))
        }

        fn balances(&self, account: u64) -> PyResult<Vec<(u32, i128, i128)>> {
            Ok(self.0.get()?.balances(account))
        }

        fn account_seq(&self, account: u64) -> PyResult<u64> {
            Ok(self.0.get()?.account_seq(account))
        }

        fn open_orders(&self, account: u64) -> PyResult<Vec<Order>> {
            Ok(self.0.get()?.open_orders(account).map(|order| order_of(&order)).collect())
        }

        fn order(&self, order_id: u64) -> PyResult<Option<Order>> {
            Ok(self.0.get()?.order(order_id).map(|order| order_of(&order)))
        }

        fn order_ids(&self) -> PyResult<Vec<u64>> {
            Ok(self.0.get()?.order_ids())
        }

        #[getter]
        fn markets_len(&self) -> PyResult<usize> {
            Ok(self.0.get()?.markets_len())
        }

        #[getter]
        fn open_orders_len(&self) -> PyResult<usize> {
            Ok(self.0.get()?.open_orders_len())
        }

        fn set_self_trade_prevention(&mut self, order_id: u64, mode: u32) -> PyResult<bool> {
            Ok(self.0.change(|fold| fold.set_self_trade_prevention(order_id, mode))?)
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
                (
                    changes.market[row],
                    previous,
                    market_seq,
                    changes.state[row],
                    changes.last_price_ticks[row],
                    bids,
                    asks,
                )
            });
            rows.collect()
        }
    }
}

mod ingress {
    //! `exchange_core.IngressDesk` and what it works with: converts, and nothing else.

    // PyO3 hands over what it made of an argument.
    #![allow(clippy::needless_pass_by_value)]

    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    use pyo3::create_exception;
    use pyo3::exceptions::PyValueError;
    use pyo3::prelude::*;
    use pyo3::pybacked::PyBackedBytes;
    use pyo3::types::PyBytes;

    use super::{Verifier, released};
    use crate::frames::Malformed;
    use crate::ingress::{self, Desk, Gate, Key, Now, Rates, Refused, Shared, Stage, Stamps};
    use crate::limits;
    use crate::running::Running;

    create_exception!(exchange_core, FrameFormError, PyValueError, "Bytes do not have the form of an execution frame.");

    type KeyRow = (PyBackedBytes, PyBackedBytes, u64, u64, bool);
    type HeadRow = (u64, u32, u64, u64, u32, bool);
    type RefusedRow = (&'static str, f64, u64, u64, Vec<usize>);
    type StageRow = (u32, u64, u64, u64, u64, u64, u64, u64);
    type HandedRow<'py> = (u64, u32, u64, usize, u32, Bound<'py, PyBytes>);
    type AnswerRow<'py> = (Bound<'py, PyBytes>, Vec<u32>, Vec<(u64, u32, u32)>, Vec<StageRow>);

    fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
        lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exactly<const N: usize>(what: &str, bytes: &[u8]) -> PyResult<[u8; N]> {
        bytes.try_into().map_err(|_| PyValueError::new_err(format!("SHAPE: {what} has {N} bytes, not {}", bytes.len())))
    }

    /// `exchange_core.KeyRates`.
    #[pyclass(module = "exchange_core", frozen)]
    pub struct KeyRates {
        rates: Mutex<Rates>,
        #[pyo3(get)]
        per_second: f64,
    }

    #[pymethods]
    impl KeyRates {
        #[new]
        #[pyo3(signature = (per_second, burst, senders_max=65_536))]
        fn new(per_second: f64, burst: f64, senders_max: usize) -> PyResult<Self> {
            if !(per_second >= 0.0 && burst > 0.0 && per_second.is_finite() && burst.is_finite()) {
                return Err(PyValueError::new_err("SHAPE: per_second is 0 or more, burst is more than 0"));
            }
            Ok(Self { rates: Mutex::new(Rates::new(per_second, burst, senders_max)), per_second })
        }

        fn take(&self, sender: &[u8], tokens: f64, now_s: f64) -> PyResult<f64> {
            Ok(locked(&self.rates).take(&exactly("a key_id", sender)?, tokens, now_s))
        }

        fn has_more_than(&self, tokens: f64, sender: &[u8], now_s: f64) -> PyResult<bool> {
            Ok(locked(&self.rates).has_more_than(tokens, &exactly("a key_id", sender)?, now_s))
        }

        fn give_back(&self, sender: &[u8], tokens: f64) -> PyResult<()> {
            locked(&self.rates).give_back(&exactly("a key_id", sender)?, tokens);
            Ok(())
        }

        fn __len__(&self) -> usize {
            locked(&self.rates).len()
        }
    }

    /// `exchange_core.SubmitMessage`.
    #[pyclass(module = "exchange_core", frozen)]
    pub struct SubmitMessage {
        message: Shared,
        #[pyo3(get)]
        batches: usize,
    }

    impl SubmitMessage {
        fn new(message: ingress::Message) -> Self {
            Self { batches: message.len(), message: Arc::new(Mutex::new(message)) }
        }

        /// Return the message, if it has a batch of that place.
        fn with(&self, index: usize) -> PyResult<MutexGuard<'_, ingress::Message>> {
            let message = locked(&self.message);
            if index < message.len() {
                Ok(message)
            } else {
                Err(PyValueError::new_err(format!("SHAPE: batch {index} of {}", message.len())))
            }
        }
    }

    #[pymethods]
    impl SubmitMessage {
        #[staticmethod]
        fn read(py: Python<'_>, request: &[u8]) -> PyResult<Option<Self>> {
            Ok(released(py, || ingress::read_submit_request(request))?.map(Self::new))
        }

        #[staticmethod]
        fn read_streamed(py: Python<'_>, request: &[u8]) -> PyResult<Option<(u64, Self)>> {
            let read = released(py, || ingress::read_stream_request(request))?;
            Ok(read.map(|(tag, message)| (tag, Self::new(message))))
        }

        #[getter]
        fn environment(&self) -> String {
            locked(&self.message).environment().to_owned()
        }

        #[getter]
        fn wait(&self) -> i32 {
            locked(&self.message).wait()
        }

        #[getter]
        fn wait_ms_max(&self) -> u32 {
            locked(&self.message).wait_ms_max()
        }

        #[getter]
        fn with_stages(&self) -> bool {
            locked(&self.message).with_stages()
        }

        #[getter]
        fn is_open(&self) -> bool {
            locked(&self.message).is_open()
        }

        #[getter]
        fn number(&self) -> u64 {
            locked(&self.message).number
        }

        #[setter]
        fn set_number(&self, number: u64) {
            locked(&self.message).number = number;
        }

        #[getter]
        fn size(&self) -> usize {
            locked(&self.message).size()
        }

        fn read_batches(&self, py: Python<'_>) -> PyResult<(usize, bool)> {
            released(py, || locked(&self.message).read_batches(&mut Vec::new()))
        }

        fn fields<'py>(
            &self,
            py: Python<'py>,
            index: usize,
        ) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
            let message = self.with(index)?;
            let (key_id, payload, signature) = message.fields(index);
            Ok((PyBytes::new(py, key_id), PyBytes::new(py, payload), PyBytes::new(py, signature)))
        }

        fn head(&self, index: usize) -> PyResult<Option<HeadRow>> {
            let message = self.with(index)?;
            let only_cancels = message.has_only_cancels(index);
            let head = message.head(index);
            Ok(head.map(|head| (head.account, head.shard, head.nonce, head.valid_until_ms, head.len, only_cancels)))
        }

        fn attempts(&self, index: usize) -> PyResult<u32> {
            Ok(self.with(index)?.attempts(index))
        }

        fn lacks(&self, index: usize) -> PyResult<bool> {
            Ok(self.with(index)?.lacks(index))
        }

        fn settle(&self, index: usize, outcome: &[u8]) -> PyResult<bool> {
            Ok(self.with(index)?.settle(index, outcome))
        }

        fn refuse(
            &self,
            py: Python<'_>,
            indexes: Option<Vec<usize>>,
            before: &[u8],
            after: &[u8],
            is_final: bool,
        ) -> PyResult<(usize, bool)> {
            let batches = self.batches;
            if let Some(index) = indexes.iter().flatten().find(|&&index| index >= batches) {
                return Err(PyValueError::new_err(format!("SHAPE: batch {index} of {batches}")));
            }
            released(py, || {
                let mut message = locked(&self.message);
                match indexes {
                    Some(indexes) => message.refuse(indexes, before, after, is_final),
                    None => message.refuse(0..batches, before, after, is_final),
                }
            })
        }

        fn unanswered(&self, index: usize) -> PyResult<bool> {
            Ok(self.with(index)?.unanswered(index))
        }

        fn release(&self) {
            locked(&self.message).release();
        }

        fn give_up(&self) -> bool {
            locked(&self.message).give_up()
        }

        fn note(&self, rejected: Vec<u32>, short: Vec<(u64, u32, u32)>) {
            locked(&self.message).note(&rejected, &short);
        }

        fn answer<'py>(&self, py: Python<'py>) -> AnswerRow<'py> {
            let answer = locked(&self.message).answer();
            let stages = answer.stages.iter().map(stage_row).collect();
            (PyBytes::new(py, &answer.outcomes), answer.rejected, answer.short, stages)
        }
    }

    fn stage_row(stage: &Stage) -> StageRow {
        let Stage { shard, n, framed_us, sequenced_us, taken_us, executed_us, durable_us, answered_us } = *stage;
        (shard, n, framed_us, sequenced_us, taken_us, executed_us, durable_us, answered_us)
    }

    /// `exchange_core.IngressDesk`.
    #[pyclass(module = "exchange_core", frozen)]
    pub struct IngressDesk {
        desk: Mutex<Running<Desk>>,
        verifier: Py<Verifier>,
        rates: Py<KeyRates>,
    }

    impl IngressDesk {
        /// Change the desk with the GIL released; after a panic in it every call is the same stop.
        fn change<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut Desk) -> T + Send) -> PyResult<T> {
            Ok(py.detach(|| locked(&self.desk).change(work))?)
        }
    }

    #[pymethods]
    impl IngressDesk {
        #[new]
        fn new(signed_prefix: &[u8], verifier: Py<Verifier>, key_rates: Py<KeyRates>, commands_max: u64) -> Self {
            let desk = Desk::new(Gate::new(signed_prefix.to_vec()), commands_max);
            let desk = Mutex::new(Running::new(desk));
            Self { desk, verifier, rates: key_rates }
        }

        #[getter]
        fn commands(&self) -> PyResult<u64> {
            Ok(locked(&self.desk).get()?.commands())
        }

        #[getter]
        fn has_some(&self) -> PyResult<bool> {
            Ok(locked(&self.desk).get()?.has_some())
        }

        #[getter]
        fn awaited(&self) -> PyResult<Vec<u64>> {
            Ok(locked(&self.desk).get()?.awaited())
        }

        #[setter]
        fn set_is_lost(&self, py: Python<'_>, is_lost: bool) -> PyResult<()> {
            self.change(py, |desk| desk.is_lost = is_lost)
        }

        #[setter]
        fn set_is_draining(&self, py: Python<'_>, is_draining: bool) -> PyResult<()> {
            self.change(py, |desk| desk.is_draining = is_draining)
        }

        fn forget_view(&self, py: Python<'_>) -> PyResult<()> {
            self.change(py, |desk| desk.gate.forget())
        }

        fn set_keys(&self, py: Python<'_>, keys: Vec<KeyRow>) -> PyResult<()> {
            self.change(py, |desk| {
                for (key_id, public_key, user, account, revoked) in keys {
                    let public_key = exactly::<{ limits::PUBLIC_KEY_BYTES }>("a public key", &public_key)?;
                    desk.gate.set_key(exactly("a key_id", &key_id)?, Key { public_key, user, account, revoked });
                }
                Ok(())
            })?
        }

        fn set_accounts(&self, py: Python<'_>, accounts: Vec<(u64, u64)>) -> PyResult<()> {
            self.change(py, |desk| {
                for (account, user) in accounts {
                    desk.gate.set_account(account, user);
                }
            })
        }

        fn set_shards(&self, py: Python<'_>, shards: Vec<u32>) -> PyResult<()> {
            self.change(py, |desk| {
                for shard in shards {
                    desk.gate.set_shard(shard);
                }
            })
        }

        fn set_validity(&self, py: Python<'_>, allowed_ms: Vec<(u32, u64)>) -> PyResult<()> {
            self.change(py, |desk| desk.gate.set_validity(&allowed_ms))
        }

        #[allow(clippy::too_many_arguments, clippy::similar_names)]
        fn admit(
            &self,
            py: Python<'_>,
            message: PyRef<'_, SubmitMessage>,
            start: usize,
            stop: usize,
            stops: bool,
            now_us: u64,
            now_s: f64,
            control_n: u64,
        ) -> PyResult<(usize, Vec<RefusedRow>)> {
            if start > stop || stop > message.batches {
                return Err(PyValueError::new_err(format!("SHAPE: batches {start} to {stop} of {}", message.batches)));
            }
            let (verifier, rates) = (self.verifier.bind(py).borrow(), self.rates.get());
            let (verifier, shared) = (&*verifier, &message.message);
            let admitted = self.change(py, |desk| {
                let (mut verifier, mut rates) = (verifier.locked(), locked(&rates.rates));
                desk.admit(
                    shared,
                    start..stop,
                    stops,
                    &mut verifier,
                    &mut rates,
                    Now { us: now_us, s: now_s },
                    control_n,
                )
            })??;
            Ok((admitted.next, refused_rows(admitted.refused)))
        }

        fn hand_over<'py>(&self, py: Python<'py>, everything: bool) -> PyResult<Vec<HandedRow<'py>>> {
            let handed = self.change(py, |desk| desk.hand_over(everything))?;
            let row = |one: ingress::Handed| {
                (one.chunk, one.shard, one.control_n, one.batches, one.commands, PyBytes::new(py, &one.data))
            };
            Ok(handed.into_iter().map(row).collect())
        }

        fn sequenced(
            &self,
            py: Python<'_>,
            shard: u32,
            n: u64,
            t_us: u64,
            framed_us: u64,
            parts: Vec<(u64, u32)>,
        ) -> PyResult<Vec<u64>> {
            self.change(py, |desk| desk.sequenced(shard, n, t_us, framed_us, &parts))
        }

        fn executed(
            &self,
            py: Python<'_>,
            shard: u32,
            frame: &[u8],
            stamps: (u64, u64, u64, u64),
            parts: Vec<(u64, u32)>,
        ) -> PyResult<(Vec<u64>, Vec<ingress::Odd>, u64)> {
            let (taken_us, executed_us, seen_us, answered_us) = stamps;
            let stamps = Stamps { taken_us, executed_us, seen_us, answered_us };
            let executed = self.change(py, |desk| desk.executed(shard, frame, stamps, &parts))?;
            executed.map_err(|Malformed| FrameFormError::new_err("the bytes are no execution frame"))
        }

        fn forget(&self, py: Python<'_>, chunk: u64) -> PyResult<Vec<ingress::Forgotten>> {
            self.change(py, |desk| desk.forget(chunk))
        }
    }

    /// Return a row for each refusal, or one for some that follow one another and are told the same.
    fn refused_rows(refused: Vec<(usize, Refused)>) -> Vec<RefusedRow> {
        let mut rows: Vec<RefusedRow> = Vec::new();
        let mut before = None;
        for (index, refused) in refused {
            if let (true, Some(row)) = (before == Some(refused) && refused.is_for_many(), rows.last_mut()) {
                row.4.push(index);
            } else {
                rows.push(refused_row(index, refused));
            }
            before = Some(refused);
        }
        rows
    }

    fn refused_row(index: usize, refused: Refused) -> RefusedRow {
        let (what, seconds, first, second) = match refused {
            Refused::Unreadable => ("UNREADABLE", 0.0, 0, 0),
            Refused::UnknownKey => ("UNKNOWN_KEY", 0.0, 0, 0),
            Refused::RevokedKey => ("REVOKED_KEY", 0.0, 0, 0),
            Refused::TooFast { wait_s } => ("TOO_FAST", wait_s, 0, 0),
            Refused::BadSignature => ("BAD_SIGNATURE", 0.0, 0, 0),
            Refused::NotOfKey => ("ACCOUNT_NOT_OF_KEY", 0.0, 0, 0),
            Refused::UnknownShard => ("UNKNOWN_SHARD", 0.0, 0, 0),
            Refused::Expired { shard_us } => ("BATCH_EXPIRED", 0.0, shard_us, 0),
            Refused::TooLong { too_early_ms, allowed_ms } => ("VALIDITY_TOO_LONG", 0.0, too_early_ms, allowed_ms),
            Refused::Lost => ("LOST", 0.0, 0, 0),
            Refused::Draining => ("DRAINING", 0.0, 0, 0),
            Refused::Overloaded => ("OVERLOADED", 0.0, 0, 0),
        };
        (what, seconds, first, second, vec![index])
    }

    pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("FrameFormError", module.py().get_type::<FrameFormError>())?;
        module.add_class::<KeyRates>()?;
        module.add_class::<SubmitMessage>()?;
        module.add_class::<IngressDesk>()
    }
}

mod columns {
    //! Settlement's names of batches and market-data's private messages: converts, and nothing else.
    //!
    //! Nothing here is a row in Python: rows stay in bytes, and a call takes all frames of a round. Indexes and sets are
    //! shared between threads and lock themselves, with the GIL released.

    // PyO3 hands over what it made of an argument.
    #![allow(clippy::needless_pass_by_value)]

    use std::sync::{Mutex, MutexGuard, PoisonError};

    use pyo3::exceptions::PyValueError;
    use pyo3::prelude::*;
    use pyo3::pybacked::PyBackedBytes;
    use pyo3::types::{PyBytes, PyIterator, PyList};

    use super::folds::Applied;
    use super::{released, slices};
    use crate::frames::Malformed;
    use crate::{names, private};

    /// Add classes and functions to the module.
    pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add_class::<BatchNames>()?;
        module.add_class::<NameIndex>()?;
        module.add_class::<AccountSet>()?;
        module.add_function(wrap_pyfunction!(name_batches, module)?)?;
        module.add_function(wrap_pyfunction!(accounts_of, module)?)?;
        module.add_function(wrap_pyfunction!(private_messages, module)?)
    }

    fn malformed(_: Malformed) -> PyErr {
        PyValueError::new_err("MALFORMED_FRAME: these are no order frames and their execution frames")
    }

    /// `exchange_core.BatchNames`.
    #[pyclass(module = "exchange_core", frozen)]
    struct BatchNames {
        names: names::Names,
        order_frames: Vec<PyBackedBytes>,
    }

    type Signed<'py> = (u64, u32, u64, Bound<'py, PyBytes>, u64, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

    #[pyfunction]
    fn name_batches(
        py: Python<'_>,
        order_frames: Vec<PyBackedBytes>,
        frames: Vec<PyBackedBytes>,
    ) -> PyResult<BatchNames> {
        if order_frames.len() != frames.len() {
            let (orders, answers) = (order_frames.len(), frames.len());
            let detail = format!("SHAPE: {orders} order frames and {answers} execution frames; give one for each");
            return Err(PyValueError::new_err(detail));
        }
        let names = {
            let (order_frames, frames) = (slices(&order_frames), slices(&frames));
            released(py, || names::Names::read(&order_frames, &frames))?.map_err(malformed)?
        };
        Ok(BatchNames { names, order_frames })
    }

    #[pymethods]
    impl BatchNames {
        fn __len__(&self) -> usize {
            self.names.verdicts_len()
        }

        #[getter]
        fn rows<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
            PyBytes::new(py, self.names.rows())
        }

        fn executed<'py>(&self, py: Python<'py>, chosen: Vec<usize>) -> PyResult<Vec<Signed<'py>>> {
            let found = self.names.signed(&slices(&self.order_frames), &chosen).map_err(malformed)?;
            let bytes = |data: &[u8]| PyBytes::new(py, data);
            let row = |one: names::SignedAt<'_>| {
                let (payload, signature) = (bytes(one.payload), bytes(one.signature));
                (one.n, one.place, one.control_n, bytes(one.key_id), one.account, payload, signature)
            };
            Ok(found.into_iter().map(row).collect())
        }
    }

    /// `exchange_core.NameIndex`.
    #[pyclass(module = "exchange_core", frozen)]
    struct NameIndex(Mutex<names::NameIndex>);

    impl NameIndex {
        fn locked(&self) -> MutexGuard<'_, names::NameIndex> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    #[pymethods]
    impl NameIndex {
        #[new]
        fn new() -> Self {
            Self(Mutex::default())
        }

        fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
            released(py, || self.locked().len())
        }

        fn add(&self, py: Python<'_>, rows: &[u8]) -> PyResult<()> {
            if !rows.len().is_multiple_of(names::ROW_BYTES) {
                let detail = format!("SHAPE: {} bytes; a row has {}", rows.len(), names::ROW_BYTES);
                return Err(PyValueError::new_err(detail));
            }
            released(py, || self.locked().add(rows))
        }

        fn places(&self, py: Python<'_>, name: &[u8]) -> PyResult<Vec<(u64, u32)>> {
            let Ok(name) = name.try_into() else {
                let detail = format!("SHAPE: {} bytes; a name has {}", name.len(), names::NAME_BYTES);
                return Err(PyValueError::new_err(detail));
            };
            released(py, || self.locked().places(name))
        }

        fn sorted_rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
            Ok(PyBytes::new(py, &released(py, || self.locked().sorted())?))
        }
    }

    /// `exchange_core.AccountSet`.
    #[pyclass(module = "exchange_core", frozen)]
    struct AccountSet(Box<[u64]>);

    #[pymethods]
    impl AccountSet {
        fn __len__(&self) -> usize {
            self.0.len()
        }

        fn __contains__(&self, account: &Bound<'_, PyAny>) -> bool {
            account.extract().is_ok_and(|account: u64| self.0.binary_search(&account).is_ok())
        }

        fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
            PyList::new(py, self.0.iter().copied())?.try_iter()
        }
    }

    #[pyfunction]
    fn accounts_of(applied: &Applied) -> Vec<AccountSet> {
        let mut start = 0;
        let frames = applied.applied.frames.accounts_end.iter().map(|&end| {
            let mut accounts = applied.applied.accounts.account[start..end].to_vec();
            accounts.sort_unstable();
            start = end;
            AccountSet(accounts.into_boxed_slice())
        });
        frames.collect()
    }

    #[pyfunction]
    #[pyo3(signature = (shard, frame, accounts, after_place=0))]
    fn private_messages<'py>(
        py: Python<'py>,
        shard: u32,
        frame: &[u8],
        accounts: Vec<u64>,
        after_place: u32,
    ) -> PyResult<Vec<Vec<Bound<'py, PyBytes>>>> {
        let found = released(py, || private::messages(shard, frame, &accounts, after_place))?.map_err(malformed)?;
        let messages = |feed: Vec<Vec<u8>>| feed.iter().map(|message| PyBytes::new(py, message)).collect();
        Ok(found.into_iter().map(messages).collect())
    }
}
