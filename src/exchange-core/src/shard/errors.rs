//! How an engine stops, and what it refuses to load.

use std::fmt;

use crate::wire::{UnknownFormat, WireError};

/// The engine cannot answer an entry, nor a later one (`exchange.domain.stops`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// `POSITION`, `LINK_CONFLICT`, `UNKNOWN_RULES` or `INVARIANT`.
    pub reason: &'static str,
    /// What was found, for people.
    pub detail: String,
}

impl Stop {
    /// The entry is not the next one, or its time is before the last one's.
    pub(crate) fn position(detail: String) -> Self {
        Self { reason: "POSITION", detail }
    }

    /// The treasury signed two links of one sequence number.
    pub(crate) fn link_conflict(detail: String) -> Self {
        Self { reason: "LINK_CONFLICT", detail }
    }

    /// The shard runs under rules that this program does not know.
    pub(crate) fn unknown_rules(detail: String) -> Self {
        Self { reason: "UNKNOWN_RULES", detail }
    }

    /// A rule that can never be broken was.
    pub(crate) fn invariant(detail: String) -> Self {
        Self { reason: "INVARIANT", detail }
    }
}

/// Why an entry was not executed. The shard answers nothing any more.
#[derive(Clone, Debug)]
pub enum ApplyError {
    /// The order frame is of another version.
    Format(UnknownFormat),
    /// The entry cannot be answered.
    Stop(Stop),
}

impl fmt::Display for ApplyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(format) => format.fmt(out),
            Self::Stop(stop) => write!(out, "{}: {}", stop.reason, stop.detail),
        }
    }
}

impl std::error::Error for ApplyError {}

/// Why bytes were not loaded.
#[derive(Clone, Debug)]
pub enum LoadError {
    /// They are of another version.
    Format(UnknownFormat),
    /// They are not canonical.
    Wire(WireError),
    /// They are no genesis that a shard can start from; a sentence that starts with a stable reason.
    Genesis(String),
    /// They are no intact checkpoint of a trading shard; a sentence that starts with a stable reason.
    Checkpoint(String),
    /// The state is under rules that this program does not know.
    Stop(Stop),
}

impl From<WireError> for LoadError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<UnknownFormat> for LoadError {
    fn from(error: UnknownFormat) -> Self {
        Self::Format(error)
    }
}
