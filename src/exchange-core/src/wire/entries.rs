//! From the bytes of an orders entry to what a shard takes: every payload parsed, every digest taken.

use crate::hashing::digest_of;
use crate::limits::FRAME_COMMANDS_MAX;
use crate::wire::messages::{Link, Operation, OrderFrame, SignedBatch, SignedLink, SignedOperation};
use crate::wire::read::varint;
use crate::wire::{BatchHead, Command, Message, UnknownFormat, decode_batch};

const FORMAT: u32 = 1;

/// A signed batch; `head` is None where the payload is malformed; `digest` is SHA-256 of the payload.
#[allow(missing_docs)]
#[derive(Clone, Debug)]
pub struct ParsedBatch<'a> {
    pub signed: SignedBatch<'a>,
    pub head: Option<BatchHead>,
    pub digest: [u8; 32],
}

/// A signed link; `link` is None where the payload is malformed; `digest` is SHA-256 of the payload.
#[allow(missing_docs)]
#[derive(Clone, Debug)]
pub struct ParsedLink<'a> {
    pub signed: SignedLink<'a>,
    pub link: Option<Link>,
    pub digest: [u8; 32],
}

/// A signed operation; `operation` is None where the payload is malformed; `digest` is SHA-256 of the payload.
#[allow(missing_docs)]
#[derive(Clone, Debug)]
pub struct ParsedOperation<'a> {
    pub signed: SignedOperation<'a>,
    pub operation: Option<Operation<'a>>,
    pub digest: [u8; 32],
}

/// An order frame with its payloads parsed; `well_formed` false: the frame is malformed and empty.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default)]
pub struct ParsedEntry<'a> {
    pub well_formed: bool,
    pub control_n: u64,
    pub batches: Vec<ParsedBatch<'a>>,
    pub links: Vec<ParsedLink<'a>>,
    pub operations: Vec<ParsedOperation<'a>>,
    /// Number of control requests, which no trading shard takes.
    pub requests: usize,
}

/// Return what an order frame holds, and put the commands of its batches into `commands`.
///
/// A payload that is not canonical stays in the entry as malformed, so that the others of its frame are executed. A
/// frame that is not canonical, or carries more than `FRAME_COMMANDS_MAX` commands, is malformed as a whole.
///
/// # Errors
/// The frame is of another version.
pub fn parse_entry<'a>(order_frame: &'a [u8], commands: &mut Vec<Command>) -> Result<ParsedEntry<'a>, UnknownFormat> {
    commands.clear();
    check_format("order frame", order_frame)?;
    let Ok(frame) = OrderFrame::decode(order_frame) else { return Ok(ParsedEntry::default()) };
    let mut batches = Vec::with_capacity(frame.batches.len());
    for signed in frame.batches {
        let head = decode_batch(signed.payload, commands).ok();
        // Nothing is parsed beyond the limit: a frame has room for sixty times as many commands.
        if commands.len() > FRAME_COMMANDS_MAX {
            commands.clear();
            return Ok(ParsedEntry::default());
        }
        batches.push(ParsedBatch { digest: digest_of(signed.payload), head, signed });
    }
    let links = frame.links.into_iter().map(|signed| ParsedLink {
        link: Link::decode(signed.payload).ok(),
        digest: digest_of(signed.payload),
        signed,
    });
    let operations = frame.operations.into_iter().map(|signed| ParsedOperation {
        operation: Operation::decode(signed.payload).ok(),
        digest: digest_of(signed.payload),
        signed,
    });
    Ok(ParsedEntry {
        well_formed: true,
        control_n: frame.control_n,
        batches,
        links: links.collect(),
        operations: operations.collect(),
        requests: frame.requests.len(),
    })
}

/// Check the version of a frame, a genesis, a state or a checkpoint, which is field 1 of every version.
///
/// Bytes that do not start with a format at all are of no version: they are malformed, which decoding will say.
///
/// # Errors
/// They start with the canonical encoding of another format than ours.
pub fn check_format(what: &'static str, data: &[u8]) -> Result<(), UnknownFormat> {
    let mut pos = 0;
    let Ok(tag) = varint(data, &mut pos, data.len(), "", 0) else { return Ok(()) };
    let Ok(found) = varint(data, &mut pos, data.len(), "", 0) else { return Ok(()) };
    match u32::try_from(found) {
        Ok(found) if tag == 1 << 3 && found != 0 && found != FORMAT => Err(UnknownFormat { what, found }),
        _ => Ok(()),
    }
}
