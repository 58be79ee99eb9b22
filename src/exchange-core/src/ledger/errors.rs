//! Why a ledger does not go on.

use crate::frames::{Malformed, is_canonical};
use crate::wire::messages::ExecutionFrame;
use crate::wire::{Message, UnknownFormat, WireError};

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
    /// There are other numbers of frames and of entries; a sentence that starts with SHAPE.
    Shape(String),
    /// A frame breaks a rule of the ledger.
    Stop(Stop),
}

/// Why a ledger cannot be opened.
#[derive(Clone, Debug)]
pub enum OpenError {
    /// The genesis is not canonical.
    Wire(WireError),
    /// The rows are none of a ledger; a sentence that starts with a stable reason.
    Rows(String),
}

impl From<WireError> for OpenError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<Stop> for LedgerError {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// Why a frame was not folded; boxed, for it is thrown away for `Malformed` where that comes first.
#[derive(Debug)]
pub(super) enum FrameStop {
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

pub(super) fn stop<T>(reason: Reason, n: u64, detail: String) -> Result<T, FrameStop> {
    Err(FrameStop::Stop(Box::new(Stop { reason, n, detail })))
}

/// Return what to say of a frame that is not canonical.
pub(super) fn malformed(frame: &[u8], n: u64) -> Stop {
    let detail = ExecutionFrame::decode(frame).err().map_or_else(String::new, |error| error.to_string());
    Stop { reason: Reason::MalformedFrame, n, detail }
}

/// Return why a frame is refused: that it is not canonical comes before all that its content could break.
pub(super) fn malformed_first(frame: &[u8], n: u64, stop: FrameStop) -> Stop {
    match stop {
        FrameStop::Stop(stop) if is_canonical(frame) => *stop,
        _ => malformed(frame, n),
    }
}
