//! The Python module `exchange_core`: converts, and nothing else.
//!
//! Every call that executes, decodes or verifies releases the GIL while it does, and takes a whole batch. A panic in
//! the core, which none of its inputs causes, is `Stop("INVARIANT", ...)`. `exchange_core.pyi` documents the module; a
//! test compares the two. The port that services use, `exchange.engine.port`, is put on top in `exchange.engine.core`.

// PyO3 makes the arguments and hands them over.
#![allow(clippy::needless_pass_by_value)]

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyTuple};

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
    py.detach(|| catch_unwind(AssertUnwindSafe(work)))
        .map_err(|panic| Stop::new_err(("INVARIANT", format!("the core panicked: {}", words_of(panic.as_ref())))))
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a word")
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
    shard: shard::Shard,
    answers: Vec<u8>,
}

impl Shard {
    fn new(shard: shard::Shard) -> Self {
        Self { shard, answers: Vec::new() }
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
        let ends = released(py, || {
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
        self.shard.shard()
    }

    #[getter]
    fn position(&self) -> u64 {
        self.shard.position()
    }

    #[getter]
    fn chain_hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.shard.chain_hash())
    }

    #[getter]
    fn events_written(&self) -> u64 {
        self.shard.events_written()
    }

    fn has_due_work(&self, t_us: u64) -> bool {
        self.shard.has_due_work(t_us)
    }

    fn next_due_us(&self) -> Option<u64> {
        self.shard.next_due_us()
    }

    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &released(py, || self.shard.state())?))
    }

    fn state_hash<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &released(py, || self.shard.state_hash())?))
    }

    fn checkpoint<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &released(py, || self.shard.checkpoint())?))
    }

    fn summary<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let of = self.shard.summary();
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

    fn facts(&self) -> Facts {
        let of = self.shard.facts();
        (of.position, of.t_us, of.sequences, of.control_floor, of.links_in)
    }

    fn markets<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let markets = released(py, || self.shard.markets())?;
        Ok(markets.iter().map(|market| PyBytes::new(py, market)).collect())
    }

    fn depth(&self, market: u32, levels_max: usize) -> Option<(Vec<Level>, Vec<Level>)> {
        self.shard.depth(market, levels_max)
    }

    fn balances(&self, account: u64) -> Vec<(u32, u64, u64)> {
        self.shard.balances(account)
    }

    fn open_orders(&self, account: u64) -> Vec<OpenOrder> {
        let orders = self.shard.open_orders(account).into_iter();
        orders
            .map(|shard::OpenOrder { order_id, client_order_id, market, side, price_ticks, open_lots, filled_lots }| {
                (order_id, client_order_id, market, side, price_ticks, open_lots, filled_lots)
            })
            .collect()
    }

    fn book<'py>(
        &self,
        py: Python<'py>,
        market: u32,
        orders_per_side_max: usize,
    ) -> PyResult<Option<(Bound<'py, PyBytes>, u64, u64)>> {
        let cut = released(py, || self.shard.book(market, orders_per_side_max))?;
        Ok(cut.map(|cut| (PyBytes::new(py, &cut.book), cut.bid_orders, cut.ask_orders)))
    }

    fn what_if(&self, py: Python<'_>, batches: Vec<PyBackedBytes>, t_us: u64) -> PyResult<WhatIf> {
        let what_if = released(py, || self.shard.what_if(&slices(&batches), t_us))??;
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
        let what_if = self.what_if.take().ok_or_else(|| PyRuntimeError::new_err("it runs once"))?;
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
fn batch_head(payload: &[u8]) -> PyResult<(u64, u32, u64, u64, u32)> {
    thread_local! {
        static COMMANDS: RefCell<Vec<wire::Command>> = const { RefCell::new(Vec::new()) };
    }
    let head = COMMANDS.with_borrow_mut(|commands| {
        commands.clear();
        wire::decode_batch(payload, commands)
    })?;
    Ok((head.account, head.shard, head.nonce, head.valid_until_ms, head.len))
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

#[pyfunction]
fn verify_batch(py: Python<'_>, messages: Vec<PyBackedBytes>, signatures: &[u8], keys: &[u8]) -> PyResult<Vec<bool>> {
    Ok(released(py, || verify::verify_batch(&slices(&messages), signatures, keys))??)
}

/// `exchange_core.Verifier`. The lock is what lets threads share it: they take turns.
#[pyclass(module = "exchange_core")]
struct Verifier {
    verifier: Mutex<verify::Verifier>,
    path: &'static str,
}

#[pymethods]
impl Verifier {
    #[new]
    fn new(py: Python<'_>, known_keys_max: usize) -> PyResult<Self> {
        let shipped = shipped_library(py)?;
        let fast =
            released(py, || shipped.and_then(|path| verify::Verifier::with_library(&path, known_keys_max).ok()))?;
        Ok(fast.unwrap_or_else(|| verify::Verifier::portable(known_keys_max)).into())
    }

    #[staticmethod]
    fn portable(known_keys_max: usize) -> Self {
        verify::Verifier::portable(known_keys_max).into()
    }

    #[staticmethod]
    fn with_library(py: Python<'_>, library: PathBuf, known_keys_max: usize) -> PyResult<Self> {
        let verifier = released(py, || verify::Verifier::with_library(&library, known_keys_max))?;
        verifier.map(Self::from).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    #[getter]
    fn path(&self) -> &'static str {
        self.path
    }

    fn verify_batch(
        &self,
        py: Python<'_>,
        messages: Vec<PyBackedBytes>,
        signatures: &[u8],
        keys: &[u8],
    ) -> PyResult<Vec<bool>> {
        Ok(released(py, || {
            let mut verifier = self.verifier.lock().unwrap_or_else(PoisonError::into_inner);
            verifier.verify_batch(&slices(&messages), signatures, keys)
        })??)
    }
}

impl From<verify::Verifier> for Verifier {
    fn from(verifier: verify::Verifier) -> Self {
        Self { path: verifier.path(), verifier: Mutex::new(verifier) }
    }
}

/// Return the library that a variable of the environment names, or the one that came with the module in its wheel.
fn shipped_library(py: Python<'_>) -> PyResult<Option<PathBuf>> {
    if std::env::var_os(verify::LIBRARY_VARIABLE).is_some() {
        return Ok(verify::find_library());
    }
    let module: PathBuf = py.import("exchange_core")?.filename()?.extract()?;
    Ok(Some(module.with_file_name("lib").join("libexchange_ifma.so")).filter(|path| path.is_file()))
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
    crate::python_folds::register(module)?;
    module.add_class::<Verifier>()?;
    module.add_function(wrap_pyfunction!(check, module)?)?;
    module.add_function(wrap_pyfunction!(recode, module)?)?;
    module.add_function(wrap_pyfunction!(batch_head, module)?)?;
    module.add_function(wrap_pyfunction!(key_refusal, module)?)?;
    module.add_function(wrap_pyfunction!(signature_refusal, module)?)?;
    module.add_function(wrap_pyfunction!(verify_batch, module)?)?;
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
