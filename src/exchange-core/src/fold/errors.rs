//! Why a fold stops, and why it cannot start.

use crate::frames::is_readable;
use crate::shard::LoadError;
use crate::wire::messages::ExecutionFrame;
use crate::wire::{Message, UnknownFormat, WireError};

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

/// Why a fold cannot start.
#[derive(Clone, Debug)]
pub enum StartError {
    /// The bytes are of another version.
    Format(UnknownFormat),
    /// The bytes are not canonical.
    Wire(WireError),
    /// The bytes are no intact checkpoint.
    Checkpoint(LoadError),
    /// An order rests in the name of an account, or an account or order comes twice, that the state does not have.
    State(&'static str),
}

/// A reason and what was found; the frame and the event are added where the error leaves the fold.
#[derive(Debug)]
pub(super) struct Failure(Box<(Reason, String)>);

#[cold]
pub(super) fn fail<T>(reason: Reason, detail: String) -> Result<T, Failure> {
    Err(Failure(Box::new((reason, detail))))
}

#[cold]
pub(super) fn malformed() -> Failure {
    Failure(Box::new((Reason::MalformedFrame, String::new())))
}

/// Return the error of a frame: that it cannot be read comes before all that its content could break.
#[cold]
pub(super) fn stopped(n: u64, frame: &[u8], place: u32, failure: Failure) -> FoldError {
    let (reason, detail) = *failure.0;
    if reason == Reason::MalformedFrame || !is_readable(frame) {
        let detail = ExecutionFrame::decode(frame).err().map_or_else(String::new, |error| error.to_string());
        return FoldError { reason: Reason::MalformedFrame, n, detail };
    }
    let detail = if place == 0 { detail } else { format!("event {place}: {detail}") };
    FoldError { reason, n, detail }
}
