//! An execution frame, cut into what each batch came to. It is of our own log: its chain hash vouches for the rest.

use std::ops::Range;

use crate::frames::{Events, Malformed, RawEvent, split};
use crate::kinds::RejectReason;
use crate::private::{append_event, append_seen};
use crate::wire::messages::{BatchResult, CommandRejected, Trade};
use crate::wire::{EventMember, Message, Sink};

/// What is said of a batch, and what is special about it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Its events in the frame, its result first, each with key and length.
    events: Range<usize>,
    /// It was executed now: it was not refused as a whole, nor does it repeat another.
    pub(super) is_plain: bool,
    has_trade: bool,
    /// Refused commands: why, and the asset that was lacking.
    pub(super) rejected: Vec<(u32, u32)>,
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

impl<'a> Cut<'a> {
    pub(super) fn new(data: &'a [u8]) -> Result<Self, Malformed> {
        let (head, mut events) = split(data)?;
        let mut places: Vec<Place> = Vec::new();
        loop {
            let start = data.len() - events.rest().len();
            let Some(event) = events.next() else { break };
            let event = event?;
            if event.member == u32::from(BatchResult::NUMBER) {
                let result = BatchResult::decode_or_none(event.content).ok_or(Malformed)?;
                if result.batch as usize != places.len() + 1 {
                    return Err(Malformed);
                }
                let is_plain = result.reason == 0 && result.repeat_n == 0;
                places.push(Place { events: start..start, is_plain, has_trade: false, rejected: Vec::new() });
            }
            let Some(place) = places.last_mut() else { continue };
            place.events.end = data.len() - events.rest().len();
            if event.member == u32::from(Trade::NUMBER) {
                // What cannot be read cannot be blanked, and is not shown to anybody.
                Trade::decode_or_none(event.content).ok_or(Malformed)?;
                place.has_trade = true;
            } else if event.member == u32::from(CommandRejected::NUMBER) {
                let rejected = CommandRejected::decode_or_none(event.content).ok_or(Malformed)?;
                place.rejected.push((rejected.reason, rejected.asset));
            }
        }
        Ok(Self { data, n: head.n, t_us: head.t_us, places })
    }

    /// Append the outcome of a batch that was executed now, as its account may see it.
    pub(super) fn put_outcome(&self, out: &mut Vec<u8>, place: u32, account: u64) {
        out.number(1 << 3, 1);
        out.number(2 << 3, self.n);
        out.number(3 << 3, u64::from(place));
        out.number(4 << 3, self.t_us);
        let place = &self.places[place as usize - 1];
        let bytes = &self.data[place.events.clone()];
        if place.has_trade {
            // These bytes were read when the frame was cut, its trades too.
            for RawEvent { member, content } in Events::of(bytes).flatten() {
                if member != u32::from(Trade::NUMBER) {
                    append_event(out, member, content);
                } else if let Some(trade) = Trade::decode_or_none(content) {
                    append_seen(out, &trade, account);
                }
            }
        } else {
            out.extend_from_slice(bytes);
        }
    }
}

impl Place {
    /// Yield the assets of which accounts had too little for commands.
    pub(super) fn short(&self) -> impl Iterator<Item = u32> {
        let lacks = |&&(reason, _): &&(u32, u32)| reason == RejectReason::InsufficientFunds as u32;
        self.rejected.iter().filter(lacks).map(|&(_, asset)| asset)
    }
}

/// Return the outcome of the batch at a place of an execution frame, from 1 on, as its account may see it; None: the
/// frame has no such place.
///
/// # Errors
/// It is no execution frame.
pub fn outcome_of(frame: &[u8], place: u32, account: u64) -> Result<Option<Vec<u8>>, Malformed> {
    let cut = Cut::new(frame)?;
    let is_there = (1..=cut.places.len()).contains(&(place as usize));
    Ok(is_there.then(|| {
        let mut out = Vec::new();
        cut.put_outcome(&mut out, place, account);
        out
    }))
}
