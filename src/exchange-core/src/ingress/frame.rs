//! An execution frame, cut into what each batch came to. It is of our own log: its chain hash vouches for the rest.

use std::fmt;
use std::ops::Range;

use crate::kinds::RejectReason;
use crate::wire::Sink;

const EVENT: u8 = 7 << 3 | 2;
const BATCH_RESULT: u8 = 2 << 3 | 2;
const COMMAND_REJECTED: u8 = 3 << 3 | 2;
const TRADE: u8 = 8 << 3 | 2;
const INSUFFICIENT_FUNDS: u64 = RejectReason::InsufficientFunds as u64;

/// An execution frame does not have the form that every frame has. It is not from an engine of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameError(pub String);

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FrameError {}

/// Where the events of a batch stand, its result first, and what is special about them.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) events: Range<usize>,
    /// It was executed now: it was not refused as a whole, nor does it repeat another.
    pub(super) is_plain: bool,
    pub(super) has_trade: bool,
    pub(super) has_reject: bool,
}

/// A frame, cut into batches.
#[derive(Clone, Debug)]
pub(super) struct Cut<'a> {
    data: &'a [u8],
    pub(super) n: u64,
    pub(super) t_us: u64,
    /// By place, the first is 1; empty: the order frame was refused as a whole.
    pub(super) places: Vec<Place>,
}

/// A place in bytes that are trusted to hold what they say, and checked not to end before it.
#[derive(Clone, Copy)]
struct At<'a> {
    data: &'a [u8],
    pos: usize,
}

impl At<'_> {
    fn byte(&self) -> Option<u8> {
        self.data.get(self.pos).copied()
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            self.pos += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// Step into what stands here behind its key and length; return where it ends.
    fn content(&mut self) -> Option<usize> {
        self.pos += 1;
        let length = usize::try_from(self.varint()?).ok()?;
        let end = self.pos.checked_add(length)?;
        (end <= self.data.len()).then_some(end)
    }
}

impl<'a> Cut<'a> {
    pub(super) fn new(data: &'a [u8]) -> Result<Self, FrameError> {
        let mut cut = Self { data, n: 0, t_us: 0, places: Vec::new() };
        let mut at = At { data, pos: 0 };
        cut.read_head(&mut at).ok_or_else(|| FrameError("an execution frame ends inside its head".to_owned()))?;
        while at.pos < data.len() {
            let start = at.pos;
            if at.byte() != Some(EVENT) {
                return Err(FrameError(format!("byte {start} of frame {} starts no event", cut.n)));
            }
            let ends_inside = || FrameError(format!("frame {} ends inside an event", cut.n));
            let end = at.content().ok_or_else(ends_inside)?;
            match at.byte() {
                Some(BATCH_RESULT) => {
                    let is_plain = cut.read_result(at)?;
                    if let Some(last) = cut.places.last_mut() {
                        last.events.end = start;
                    }
                    let events = start..data.len();
                    cut.places.push(Place { events, is_plain, has_trade: false, has_reject: false });
                }
                Some(kind) => {
                    if let Some(place) = cut.places.last_mut() {
                        place.has_trade |= kind == TRADE;
                        place.has_reject |= kind == COMMAND_REJECTED;
                    }
                }
                None => return Err(ends_inside()),
            }
            at.pos = end;
        }
        Ok(cut)
    }

    fn read_head(&mut self, at: &mut At<'_>) -> Option<()> {
        while at.byte().is_some_and(|key| key != EVENT) {
            let key = at.byte()?;
            at.pos += 1;
            let value = at.varint()?;
            match key {
                0x10 => self.n = value,
                0x18 => self.t_us = value,
                _ if key & 7 == 2 => at.pos = at.pos.checked_add(usize::try_from(value).ok()?)?,
                _ => {}
            }
        }
        Some(())
    }

    /// Return whether the result whose event's content starts here says that its batch was executed now.
    fn read_result(&self, mut at: At<'_>) -> Result<bool, FrameError> {
        let place = self.places.len() as u64 + 1;
        let ends_inside = || FrameError(format!("frame {} ends inside a result", self.n));
        let end = at.content().ok_or_else(ends_inside)?;
        let (mut batch, mut is_plain) = (0, true);
        while at.pos < end {
            let key = at.byte().ok_or_else(ends_inside)?;
            at.pos += 1;
            let value = at.varint().ok_or_else(ends_inside)?;
            if key == 0x08 {
                batch = value;
            } else {
                is_plain &= value == 0;
            }
        }
        if batch == place {
            Ok(is_plain)
        } else {
            Err(FrameError(format!("the {place}. result in a frame is of batch {batch}")))
        }
    }

    /// Append the outcome of a batch that was executed now, as its account may see it.
    pub(super) fn put_outcome(&self, out: &mut Vec<u8>, place: u32, account: u64) {
        out.extend([0x08, 0x01, 0x10]);
        out.varint(self.n);
        out.push(0x18);
        out.varint(u64::from(place));
        out.push(0x20);
        out.varint(self.t_us);
        let place = &self.places[place as usize - 1];
        if place.has_trade {
            for event in self.events(place) {
                self.put_event(out, event, account);
            }
        } else {
            out.extend_from_slice(&self.data[place.events.clone()]);
        }
    }

    /// Append an event, with the other side left out of a trade: its account, order, sequence number and fee.
    fn put_event(&self, out: &mut Vec<u8>, event: Range<usize>, account: u64) {
        let mut at = At { data: self.data, pos: event.start };
        let content = at.content().map_or(event.end..event.end, |end| at.pos..end);
        if self.data.get(content.start) != Some(&TRADE) {
            return out.extend_from_slice(&self.data[event]);
        }
        let fields = fields_of(self.data, content.start);
        let account_of = |number| fields.iter().find(|field| field.number == number).map_or(0, |field| field.value);
        let (makes, takes) = (account_of(9) == account, account_of(11) == account);
        let mut trade = Vec::with_capacity(content.len());
        for field in fields {
            let is_seen = match field.number {
                7 | 9 | 10 | 13 => makes,
                8 | 11 | 12 | 14 => takes,
                _ => true,
            };
            if is_seen {
                trade.extend_from_slice(&self.data[field.bytes]);
            }
        }
        let mut length = Vec::with_capacity(4);
        length.varint(trade.len() as u64);
        out.push(EVENT);
        out.varint((1 + length.len() + trade.len()) as u64);
        out.push(TRADE);
        out.extend_from_slice(&length);
        out.extend_from_slice(&trade);
    }

    /// Return reasons of the commands of a batch that were refused, and assets that they lacked.
    pub(super) fn rejected(&self, place: &Place) -> (Vec<u32>, Vec<u32>) {
        let (mut reasons, mut short) = (Vec::new(), Vec::new());
        for event in self.events(place) {
            let mut at = At { data: self.data, pos: event.start };
            if at.content().is_none() || at.byte() != Some(COMMAND_REJECTED) {
                continue;
            }
            let fields = fields_of(self.data, at.pos);
            let value_of = |number| fields.iter().find(|field| field.number == number).map_or(0, |field| field.value);
            reasons.push(value_of(4) as u32);
            if value_of(4) == INSUFFICIENT_FUNDS {
                short.push(value_of(10) as u32);
            }
        }
        (reasons, short)
    }

    /// Yield where the events of a batch stand, keys and lengths included.
    fn events(&self, place: &Place) -> impl Iterator<Item = Range<usize>> + use<'a> {
        let (data, mut pos, end) = (self.data, place.events.start, place.events.end);
        std::iter::from_fn(move || {
            let event = At { data, pos }.content().filter(|_| pos < end).map(|end| pos..end)?;
            pos = event.end;
            Some(event)
        })
    }
}

/// Return the outcome of the batch at a place of an execution frame, from 1 on, as its account may see it; None: the
/// frame has no such place.
///
/// # Errors
/// It is no execution frame.
pub fn outcome_of(frame: &[u8], place: u32, account: u64) -> Result<Option<Vec<u8>>, FrameError> {
    let cut = Cut::new(frame)?;
    let is_there = (1..=cut.places.len()).contains(&(place as usize));
    Ok(is_there.then(|| {
        let mut out = Vec::new();
        cut.put_outcome(&mut out, place, account);
        out
    }))
}

struct Field {
    number: u8,
    value: u64,
    bytes: Range<usize>,
}

/// Return the fields of a message of numbers, whose key and length stand at `pos`.
fn fields_of(data: &[u8], pos: usize) -> Vec<Field> {
    let mut fields = Vec::with_capacity(14);
    let mut at = At { data, pos };
    let Some(end) = at.content() else { return fields };
    while at.pos < end {
        let start = at.pos;
        let (Some(key), Some(value)) = (at.varint(), at.varint()) else { break };
        fields.push(Field { number: (key >> 3) as u8, value, bytes: start..at.pos });
    }
    fields
}
