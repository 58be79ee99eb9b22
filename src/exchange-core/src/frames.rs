//! Encoded execution frames, read in one pass: the head, then event by event, nothing kept and nothing allocated.
//!
//! What is read is canonical as far as it is read: the head and every event's own framing are checked here, the content
//! of an event by whoever decodes it. `is_canonical` checks all of a frame.

use std::fmt::Write;

use crate::limits::EXECUTION_FRAME_BYTES_MAX;
use crate::wire::messages::{self, ExecutionFrame};
use crate::wire::{EventMember, Message};

/// Tag of `ExecutionFrame.events`.
const EVENTS_TAG: u8 = 7 << 3 | 2;
const LENGTH_DELIMITED: u8 = 2;

/// The bytes are not the canonical encoding of an execution frame; `ExecutionFrame::decode` says where and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// What stands before the events of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Position.
    pub n: u64,
    /// Time of the entry in microseconds since 1970.
    pub t_us: u64,
    /// Version of the rules.
    pub rules: u32,
    /// Chain hash of the frame before.
    pub previous_hash: &'a [u8; 32],
    /// Hash of the entry that the frame answers.
    pub input_hash: &'a [u8; 32],
}

/// An event that is not decoded yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawEvent<'a> {
    /// Number of the member of `Event`; 0: the event has none.
    pub member: u32,
    /// Encoded member.
    pub content: &'a [u8],
}

/// The events of a frame in order, until one of them is not framed canonically.
#[derive(Clone, Debug)]
pub struct Events<'a> {
    rest: &'a [u8],
}

/// Return the head of an execution frame, and its events.
///
/// # Errors
///
/// The head is not canonical, or the frame exceeds LIMITS.
pub fn split(frame: &[u8]) -> Result<(Head<'_>, Events<'_>), Malformed> {
    if frame.len() > EXECUTION_FRAME_BYTES_MAX {
        return Err(Malformed);
    }
    let head_len = head_len(frame).ok_or(Malformed)?;
    let (head, events) = frame.split_at(head_len);
    let head = ExecutionFrame::decode(head).map_err(|_| Malformed)?;
    let ExecutionFrame { n, t_us, rules, previous_hash, input_hash, .. } = head;
    Ok((Head { n, t_us, rules, previous_hash, input_hash }, Events { rest: events }))
}

/// Return whether the bytes are the canonical encoding of an execution frame.
#[must_use]
pub fn is_canonical(frame: &[u8]) -> bool {
    let Ok((_, mut events)) = split(frame) else { return false };
    events.all(|event| event.is_ok_and(|event| event.judge() == Some(true)))
}

/// Return whether the bytes are an execution frame, canonical but for events of kinds that are not known here.
#[must_use]
pub fn is_readable(frame: &[u8]) -> bool {
    let Ok((_, mut events)) = split(frame) else { return false };
    events.all(|event| event.is_ok_and(|event| event.judge() != Some(false)))
}

macro_rules! judge {
    ($($member:ident),* $(,)?) => {
        impl RawEvent<'_> {
            /// Return whether the content is canonical; None: it is of a kind that is not known here.
            #[must_use]
            pub fn judge(&self) -> Option<bool> {
                $(
                    if self.member == u32::from(<messages::$member as EventMember>::NUMBER) {
                        return Some(messages::$member::decode(self.content).is_ok());
                    }
                )*
                None
            }
        }
    };
}

judge! {
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
}

/// Return a hash or a name as people read it.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// Return how many bytes stand before the first event.
fn head_len(frame: &[u8]) -> Option<usize> {
    let mut rest = frame;
    while let Some(&tag) = rest.first() {
        if tag == EVENTS_TAG {
            break;
        }
        rest = &rest[1..];
        let (value, after) = varint(rest)?;
        rest = match tag & 7 {
            0 => after,
            LENGTH_DELIMITED => after.get(usize::try_from(value).ok()?..)?,
            _ => return None,
        };
    }
    Some(frame.len() - rest.len())
}

impl<'a> Events<'a> {
    /// Return the events that stand in a part of a frame.
    #[must_use]
    pub fn of(part: &'a [u8]) -> Self {
        Self { rest: part }
    }

    /// Return what has not been read.
    #[inline]
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    fn read(&mut self) -> Option<RawEvent<'a>> {
        let (&tag, rest) = self.rest.split_first()?;
        if tag != EVENTS_TAG {
            return None;
        }
        let (event, rest) = prefixed(rest)?;
        self.rest = rest;
        let Some((&tag, after_tag)) = event.split_first() else {
            return Some(RawEvent { member: 0, content: event });
        };
        let (tag, after_tag) = if tag < 0x80 { (u64::from(tag), after_tag) } else { varint(event)? };
        if tag & 7 != u64::from(LENGTH_DELIMITED) {
            return None;
        }
        let (content, none) = prefixed(after_tag)?;
        let member = u32::try_from(tag >> 3).ok()?;
        (member != 0 && none.is_empty()).then_some(RawEvent { member, content })
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Result<RawEvent<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let event = self.read().ok_or(Malformed);
        if event.is_err() {
            self.rest = &[];
        }
        Some(event)
    }
}

/// Return the bytes that a length stands before, and what comes after them.
#[inline]
fn prefixed(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = data.split_first()?;
    if first < 0x80 {
        return rest.split_at_checked(usize::from(first));
    }
    let (len, rest) = varint(data)?;
    rest.split_at_checked(usize::try_from(len).ok()?)
}

/// Return a minimal varint of 64 bits, and what comes after it.
fn varint(data: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (place, &byte) in data.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7F);
        if place == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * place);
        if byte < 0x80 {
            return (byte != 0 || place == 0).then_some((value, &data[place + 1..]));
        }
    }
    None
}
