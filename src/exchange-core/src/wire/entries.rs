//! From the bytes of an orders entry to its parts: every payload parsed, every digest taken.

use crate::hashing::digest_of;
use crate::limits::FRAME_COMMANDS_MAX;
use crate::wire::messages::{FORMAT, Link, Operation, OrderFrame, SignedBatch, SignedLink, SignedOperation};
use crate::wire::{BatchHead, Command, Message, UnknownFormat, read_batch, spec};

/// A signed batch; `head` is None where the payload is malformed; `digest` is SHA-256 of the payload.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsedBatch<'a> {
    pub signed: SignedBatch<'a>,
    pub head: Option<BatchHead>,
    pub digest: [u8; 32],
}

/// A signed link; `link` is None where the payload is malformed; `digest` is SHA-256 of the payload.
#[allow(missing_docs)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedLink<'a> {
    pub signed: SignedLink<'a>,
    pub link: Option<Link>,
    pub digest: [u8; 32],
}

/// A signed operation; `operation` is None where the payload is malformed; `digest` is SHA-256 of the payload.
#[allow(missing_docs)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedOperation<'a> {
    pub signed: SignedOperation<'a>,
    pub operation: Option<Operation<'a>>,
    pub digest: [u8; 32],
}

/// What an order frame holds. One that is malformed as a whole holds nothing, and `well_formed` is false.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParsedEntry<'a> {
    /// Whether the frame is canonical and has at most `FRAME_COMMANDS_MAX` commands.
    pub well_formed: bool,
    /// Position of the control log up to which the ingress knew the keys.
    pub control_n: u64,
    /// In the frame's order.
    pub batches: Vec<ParsedBatch<'a>>,
    /// In the frame's order.
    pub links: Vec<ParsedLink<'a>>,
    /// In the frame's order.
    pub operations: Vec<ParsedOperation<'a>>,
    /// How many control requests there are; a trading shard refuses each.
    pub requests: usize,
}

/// Return the parts of an order frame; the commands of its batches are then in `commands`, and nothing else is.
///
/// A payload that is not canonical stays in the entry as malformed, so that the others of its frame are executed. A
/// frame that is not canonical, or carries more than `FRAME_COMMANDS_MAX` commands, is malformed as a whole.
///
/// # Errors
/// The frame is of another version.
pub fn parse_entry<'a>(order_frame: &'a [u8], commands: &mut Vec<Command>) -> Result<ParsedEntry<'a>, UnknownFormat> {
    commands.clear();
    check_format("order frame", order_frame)?;
    let Some(frame) = OrderFrame::decode_or_none(order_frame) else { return Ok(ParsedEntry::default()) };
    let mut batches = Vec::with_capacity(frame.batches.len());
    for signed in frame.batches {
        let head = read_batch(signed.payload, commands);
        // Nothing is parsed beyond the limit: a frame has room for sixty times as many commands.
        if commands.len() > FRAME_COMMANDS_MAX {
            commands.clear();
            return Ok(ParsedEntry::default());
        }
        batches.push(ParsedBatch { signed, head, digest: digest_of(signed.payload) });
    }
    let link = |signed: SignedLink<'a>| ParsedLink {
        signed,
        link: Link::decode_or_none(signed.payload),
        digest: digest_of(signed.payload),
    };
    let operation = |signed: SignedOperation<'a>| ParsedOperation {
        signed,
        operation: Operation::decode_or_none(signed.payload),
        digest: digest_of(signed.payload),
    };
    Ok(ParsedEntry {
        well_formed: true,
        control_n: frame.control_n,
        batches,
        links: frame.links.into_iter().map(link).collect(),
        operations: frame.operations.into_iter().map(operation).collect(),
        requests: frame.requests.len(),
    })
}

/// Check the version of a frame, a genesis, a state or a checkpoint, which is field 1 of every version.
///
/// Bytes that do not start with a format at all are of no version: they are malformed, which decoding will say.
///
/// # Errors
/// `data` starts with the canonical encoding of another format than ours; `what` names what it holds, for the error.
pub fn check_format(what: &'static str, data: &[u8]) -> Result<(), UnknownFormat> {
    match spec::leading_number(1, data) {
        Some(found) if found != FORMAT => Err(UnknownFormat { what, found }),
        _ => Ok(()),
    }
}
