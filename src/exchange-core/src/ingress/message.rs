//! A message of batches: as it came, and what is known of each of its batches.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use crate::limits::{BATCH_BYTES_MAX, KEY_ID_BYTES, PUBLIC_KEY_BYTES, SIGNATURE_BYTES};
use crate::units::TIME_US_MAX;
use crate::wire::{BatchHead, Command, Reader, Sink, read_batch};

/// A message that a desk and whoever waits for its answer share.
pub type Shared = Arc<Mutex<Message>>;

type PublicKey = [u8; PUBLIC_KEY_BYTES];

/// Most batches of a message that anybody takes.
const BATCHES_MAX: usize = 4_096;
const STATE_UNKNOWN: u8 = 4;
const STATE_SEQUENCED: u8 = 2;
/// `WaitLevel` that is content with a position.
const WAIT_SEQUENCED: i32 = 1;

/// When an entry passed the stages of its way, in microseconds; 0: not yet. The fields of `EntryStages`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Stage {
    pub shard: u32,
    pub n: u64,
    pub framed_us: u64,
    pub sequenced_us: u64,
    pub taken_us: u64,
    pub executed_us: u64,
    pub durable_us: u64,
    pub answered_us: u64,
}

/// What a message's sender is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// `SubmitResponse.outcomes`, encoded.
    pub outcomes: Vec<u8>,
    /// Reject reasons that occur in them.
    pub rejected: Vec<u32>,
    /// Account, asset and shard of commands that were refused for funds.
    pub short: Vec<(u64, u32, u32)>,
    /// By shard and position, where asked for.
    pub stages: Vec<Stage>,
}

/// Where a batch went: the frame's position and time, its place there; `n` is 0 where it has none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Whereabouts {
    pub(super) shard: u32,
    pub(super) n: u64,
    pub(super) place: u32,
    pub(super) t_us: u64,
    pub(super) framed_us: u64,
}

/// Where a batch stands in its message.
#[derive(Clone, Debug)]
struct Parts {
    /// Key and length included: an element of `OrderFrame.batches`.
    element: Range<u32>,
    key_id: Range<u32>,
    payload: Range<u32>,
    signature: Range<u32>,
}

/// What is known of a batch.
#[derive(Clone, Debug, Default)]
struct Known {
    head: Option<BatchHead>,
    only_cancels: bool,
    verdict: Option<(PublicKey, bool)>,
    outcome: Option<Range<u32>>,
    whereabouts: Whereabouts,
    attempts: u32,
}

/// A message of batches.
#[derive(Clone, Debug)]
pub struct Message {
    request: Vec<u8>,
    environment: Range<u32>,
    wait: i32,
    wait_ms_max: u32,
    with_stages: bool,
    parts: Vec<Parts>,
    /// By batch; none before there is something to know.
    known: Vec<Known>,
    are_read: bool,
    /// Name that its owner has given it.
    pub number: u64,
    outcomes: Vec<u8>,
    missing: usize,
    is_open: bool,
    rejected: BTreeSet<u32>,
    short: BTreeSet<(u64, u32, u32)>,
    stages: Vec<Stage>,
}

/// Return the message of a canonically encoded `SubmitRequest`; None: its encoding is another, or it is none.
///
/// What it says of itself is not looked at, nor are its batches; `Message::read_batches` does that.
#[must_use]
pub fn read_submit_request(request: &[u8]) -> Option<Message> {
    Some(read_request(Reader::new(request), request)?.into_message(request))
}

/// Return tag and message of a canonically encoded `SubmitStreamRequest`; None: its encoding is another, or it is none.
#[must_use]
pub fn read_stream_request(request: &[u8]) -> Option<(u64, Message)> {
    let mut reader = Reader::new(request);
    let mut tag = 0;
    if reader.key() == 1 << 3 {
        reader.skip_key();
        tag = reader.number(1, u64::MAX)?;
    }
    let mut parsed = Parsed::default();
    if reader.key() == (2 << 3 | 2) {
        reader.skip_key();
        let submit = reader.content(0, u64::MAX)?;
        parsed = read_request(Reader::new(submit), request)?;
    }
    (reader.is_done() || parsed.parts.len() > BATCHES_MAX).then(|| (tag, parsed.into_message(request)))
}

#[derive(Default)]
struct Parsed {
    environment: Range<u32>,
    wait: i32,
    wait_ms_max: u32,
    with_stages: bool,
    parts: Vec<Parts>,
}

impl Parsed {
    fn into_message(self, request: &[u8]) -> Message {
        let Self { environment, wait, wait_ms_max, with_stages, parts } = self;
        Message {
            request: request.to_vec(),
            environment,
            wait,
            wait_ms_max,
            with_stages,
            missing: parts.len(),
            parts,
            known: Vec::new(),
            are_read: false,
            number: 0,
            outcomes: Vec::new(),
            is_open: true,
            rejected: BTreeSet::new(),
            short: BTreeSet::new(),
            stages: Vec::new(),
        }
    }
}

/// Read a `SubmitRequest` that stands in `within`, whose places are kept.
fn read_request(mut reader: Reader<'_>, within: &[u8]) -> Option<Parsed> {
    let mut parsed = Parsed::default();
    if reader.key() == (1 << 3 | 2) {
        reader.skip_key();
        parsed.environment = range_in(within, reader.string(1, u64::MAX)?.as_bytes());
    }
    if reader.key() == 2 << 3 {
        reader.skip_key();
        // An enum that is negative has ten bytes.
        parsed.wait = reader.number(1, u64::MAX)? as i32;
    }
    if reader.key() == 3 << 3 {
        reader.skip_key();
        parsed.wait_ms_max = reader.small_number(1, u64::from(u32::MAX))?;
    }
    if reader.key() == 4 << 3 {
        reader.skip_key();
        parsed.with_stages = reader.number(1, 1)? == 1;
    }
    while reader.key() == (6 << 3 | 2) {
        if parsed.parts.len() > BATCHES_MAX {
            // As many as whoever asks needs to see that there are too many.
            return Some(parsed);
        }
        let at = reader.rest();
        reader.skip_key();
        let content = reader.content(0, u64::MAX)?;
        let element = range_in(within, &at[..at.len() - reader.rest().len()]);
        parsed.parts.push(read_signed_batch(content, within, element)?);
    }
    reader.is_done().then_some(parsed)
}

fn read_signed_batch(content: &[u8], within: &[u8], element: Range<u32>) -> Option<Parts> {
    let mut reader = Reader::new(content);
    let mut field = |number: u8| {
        if reader.key() != (number << 3 | 2) {
            return Some(0..0);
        }
        reader.skip_key();
        Some(range_in(within, reader.content(1, u64::MAX)?))
    };
    let (key_id, payload, signature) = (field(1)?, field(2)?, field(3)?);
    reader.is_done().then_some(Parts { element, key_id, payload, signature })
}

/// Return what the first fields of a payload say of its time. No more of it is looked at, however long it is.
fn peek_valid_until_ms(payload: &[u8]) -> Option<u64> {
    let mut reader = Reader::new(payload);
    for field in 1..=4_u8 {
        if reader.key() == field << 3 {
            reader.skip_key();
            let value = reader.number(1, u64::MAX)?;
            if field == 4 {
                return Some(value).filter(|&until_ms| until_ms <= TIME_US_MAX);
            }
        }
    }
    None
}

/// Return where a part of bytes stands in them.
fn range_in(within: &[u8], part: &[u8]) -> Range<u32> {
    let start = part.as_ptr().addr() - within.as_ptr().addr();
    start as u32..(start + part.len()) as u32
}

fn wide(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

impl Message {
    /// Return the environment that it names; empty: none.
    #[must_use]
    pub fn environment(&self) -> &str {
        std::str::from_utf8(&self.request[wide(&self.environment)]).unwrap_or_default()
    }

    /// Return what it waits for, as a `WaitLevel`.
    #[must_use]
    pub fn wait(&self) -> i32 {
        self.wait
    }

    /// Return how long it waits, in milliseconds; 0: not said.
    #[must_use]
    pub fn wait_ms_max(&self) -> u32 {
        self.wait_ms_max
    }

    /// Return whether it asks for stages.
    #[must_use]
    pub fn with_stages(&self) -> bool {
        self.with_stages
    }

    /// Return how many bytes it has; 0 once it was released.
    #[must_use]
    pub fn size(&self) -> usize {
        self.request.len()
    }

    /// Return how many batches it has; 0 once it was released.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Return whether it has no batch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Read every batch strictly; return how many commands those have whose bytes are in order, and whether all are cancels.
    pub fn read_batches(&mut self, commands: &mut Vec<Command>) -> (usize, bool) {
        let (mut count, mut only_cancels) = (0, true);
        self.know();
        self.are_read = true;
        for (parts, known) in self.parts.iter().zip(&mut self.known) {
            let payload = &self.request[wide(&parts.payload)];
            let is_in_bounds = parts.key_id.len() == KEY_ID_BYTES
                && parts.signature.len() == SIGNATURE_BYTES
                && payload.len() <= BATCH_BYTES_MAX;
            commands.clear();
            known.head = if is_in_bounds { read_batch(payload, commands) } else { None };
            known.only_cancels = commands.iter().all(Command::is_cancel);
            count += known.head.map_or(0, |head| head.len as usize);
            only_cancels &= known.only_cancels;
        }
        (count, only_cancels)
    }

    /// Make room for what is to be known of the batches.
    fn know(&mut self) {
        self.known.resize_with(self.parts.len(), Known::default);
    }

    /// Let go of everything: nobody asks any more. Whoever still holds it finds that nothing is waited for.
    pub fn release(&mut self) {
        let Self { number, wait, wait_ms_max, with_stages, .. } = *self;
        let parsed = Parsed { environment: 0..0, wait, wait_ms_max, with_stages, parts: Vec::new() };
        *self = Self { number, is_open: false, ..parsed.into_message(&[]) };
    }

    /// Return `key_id`, payload and signature of a batch as they came.
    #[must_use]
    pub fn fields(&self, index: usize) -> (&[u8], &[u8], &[u8]) {
        let parts = &self.parts[index];
        let part = |range: &Range<u32>| &self.request[wide(range)];
        (part(&parts.key_id), part(&parts.payload), part(&parts.signature))
    }

    /// Return what a batch says of itself; None: its bytes are not in order, or were not read yet.
    #[inline]
    #[must_use]
    pub fn head(&self, index: usize) -> Option<BatchHead> {
        self.known.get(index).and_then(|known| known.head)
    }

    /// Return whether a batch, of which it is known that its bytes are in order, has nothing but cancels.
    #[must_use]
    pub fn has_only_cancels(&self, index: usize) -> bool {
        self.known.get(index).is_some_and(|known| known.only_cancels)
    }

    /// Return how often a batch was handed on.
    #[must_use]
    pub fn attempts(&self, index: usize) -> u32 {
        self.known.get(index).map_or(0, |known| known.attempts)
    }

    /// Return whether something is still waited for.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) fn is_readable(&self, index: usize) -> bool {
        self.head(index).is_some()
    }

    pub(super) fn key_id(&self, index: usize) -> &[u8; KEY_ID_BYTES] {
        self.fields(index).0.try_into().expect("a batch in order has a key_id of 16 bytes")
    }

    pub(super) fn payload(&self, index: usize) -> &[u8] {
        self.fields(index).1
    }

    pub(super) fn signature(&self, index: usize) -> &[u8; SIGNATURE_BYTES] {
        self.fields(index).2.try_into().expect("a batch in order has a signature of 64 bytes")
    }

    pub(super) fn element(&self, index: usize) -> &[u8] {
        &self.request[wide(&self.parts[index].element)]
    }

    pub(super) fn verdict(&self, index: usize, public_key: &PublicKey) -> Option<bool> {
        self.known[index].verdict.filter(|(under, _)| under == public_key).map(|(_, is_valid)| is_valid)
    }

    pub(super) fn set_verdict(&mut self, index: usize, public_key: PublicKey, is_valid: bool) {
        self.known[index].verdict = Some((public_key, is_valid));
    }

    pub(super) fn handed_on(&mut self, index: usize) {
        let known = &mut self.known[index];
        known.attempts += 1;
        known.whereabouts = Whereabouts::default();
    }

    /// Return whether a batch has no outcome yet and one is waited for.
    #[inline]
    #[must_use]
    pub fn lacks(&self, index: usize) -> bool {
        self.is_open && self.known.get(index).is_none_or(|known| known.outcome.is_none())
    }

    /// Take that a batch has a position; return whether nothing is waited for any more, now.
    pub(super) fn sequenced(&mut self, index: usize, whereabouts: Whereabouts) -> bool {
        if !self.is_open {
            return false;
        }
        self.known[index].whereabouts = whereabouts;
        self.wait == WAIT_SEQUENCED && self.unanswered(index)
    }

    /// Take an outcome by what writes it; the first one counts. Return whether nothing is waited for any more, now.
    pub(super) fn settle_by(&mut self, index: usize, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        if !self.lacks(index) {
            return false;
        }
        self.know();
        let start = self.outcomes.len() as u32;
        write(&mut self.outcomes);
        self.known[index].outcome = Some(start..self.outcomes.len() as u32);
        self.missing -= 1;
        self.is_open = self.missing > 0;
        !self.is_open
    }

    /// Take an encoded outcome of a batch; the first one counts. Return whether nothing is waited for any more, now.
    pub fn settle(&mut self, index: usize, outcome: &[u8]) -> bool {
        self.settle_by(index, |outcomes| outcomes.extend_from_slice(outcome))
    }

    /// Take that batches are refused for one reason, which reached no shard; return how many, and as `settle`.
    ///
    /// The outcome of each is `before`, until when it can be executed, `after`: fields of `BatchOutcome`. That time is
    /// left out where the refusal is final, or the batch has none.
    pub fn refuse(
        &mut self,
        indexes: impl IntoIterator<Item = usize>,
        before: &[u8],
        after: &[u8],
        is_final: bool,
    ) -> (usize, bool) {
        let missing = self.missing;
        let mut is_done = false;
        for index in indexes {
            let until_ms = if is_final { None } else { self.valid_until_ms(index) };
            is_done |= self.settle_by(index, |out| {
                out.extend_from_slice(before);
                out.number(0x48, until_ms.unwrap_or(0));
                out.extend_from_slice(after);
            });
        }
        (missing - self.missing, is_done)
    }

    /// Return until when a batch is valid; None: it has no such time, so that no shard takes it for a batch.
    fn valid_until_ms(&self, index: usize) -> Option<u64> {
        match self.known.get(index) {
            Some(Known { head: Some(head), .. }) => Some(head.valid_until_ms),
            _ if self.are_read => None,
            _ => peek_valid_until_ms(self.fields(index).1),
        }
    }

    /// Take that no more will be known of a batch than where it went; return as `settle`.
    pub fn unanswered(&mut self, index: usize) -> bool {
        if !self.lacks(index) {
            return false;
        }
        self.know();
        let (at, head) = (self.known[index].whereabouts, self.known[index].head);
        if at.n > 0 && self.with_stages {
            let stage = self.stage(at.shard, at.n);
            (stage.framed_us, stage.sequenced_us) = (at.framed_us, at.t_us);
        }
        self.settle_by(index, |out| {
            out.extend([0x08, if at.n > 0 { STATE_SEQUENCED } else { STATE_UNKNOWN }]);
            out.number(0x10, at.n);
            out.number(0x18, u64::from(at.place));
            out.number(0x20, at.t_us);
            out.number(0x48, head.map_or(0, |head| head.valid_until_ms));
        })
    }

    /// Wait no longer: what was handed on is unanswered. Return as `settle`.
    pub fn give_up(&mut self) -> bool {
        let mut is_done = false;
        for index in 0..self.known.len() {
            if self.known[index].attempts > 0 {
                is_done |= self.unanswered(index);
            }
        }
        is_done
    }

    /// Take that reject reasons occur, and funds that commands lacked.
    pub fn note(&mut self, rejected: &[u32], short: &[(u64, u32, u32)]) {
        self.rejected.extend(rejected);
        self.short.extend(short);
    }

    /// Return the stages of an entry, to be filled.
    pub(super) fn stage(&mut self, shard: u32, n: u64) -> &mut Stage {
        let known = self.stages.iter().position(|stage| (stage.shard, stage.n) == (shard, n));
        let place = known.unwrap_or_else(|| {
            self.stages.push(Stage { shard, n, ..Stage::default() });
            self.stages.len() - 1
        });
        &mut self.stages[place]
    }

    /// Return what its sender is told now.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let mut outcomes = Vec::with_capacity(self.outcomes.len() + 4 * self.parts.len());
        for outcome in self.known.iter().filter_map(|known| known.outcome.as_ref()) {
            let outcome = &self.outcomes[wide(outcome)];
            outcomes.push(0x0a);
            outcomes.varint(outcome.len() as u64);
            outcomes.extend_from_slice(outcome);
        }
        Answer {
            outcomes,
            rejected: self.rejected.iter().copied().collect(),
            short: self.short.iter().copied().collect(),
            stages: self.stages.clone(),
        }
    }
}
