//! The desk of a worker: batches that are let in go out by shard in chunks, and what became of them comes back.

use std::sync::{Arc, MutexGuard, PoisonError};

use hashbrown::HashMap;

use super::frame::Cut;
use super::gate::{Gate, Now, Refused};
use super::message::{Message, Shared, Whereabouts};
use super::rates::Rates;
use crate::frames::Malformed;
use crate::limits::FRAME_BYTES_MAX;
use crate::verify::{ShapeError, Verifier};

/// Most batches of a chunk, and most commands: what one message may have.
const CHUNK_BATCHES_MAX: usize = 4_096;
const CHUNK_COMMANDS_MAX: u32 = 4_096;
const CHUNK_BYTES_MAX: usize = FRAME_BYTES_MAX / 2;
/// One part in so many is let in beyond the most commands where a batch has only cancels.
const CANCELS_RESERVE: u64 = 8;

/// What became of some batches of a message at the door.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Admitted {
    /// The first batch that was not looked at: the last of the refused ones may be let in by whoever knows more.
    pub next: usize,
    /// Those that were not let in.
    pub refused: Vec<(usize, Refused)>,
}

/// A chunk that is to be handed to the framer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    /// Its number.
    pub chunk: u64,
    /// Shard that it is for.
    pub shard: u32,
    /// Lowest position of shard 0 under which one of its batches was verified.
    pub control_n: u64,
    /// How many batches it has.
    pub batches: usize,
    /// How many commands they have.
    pub commands: u32,
    /// Elements of `OrderFrame.batches`.
    pub data: Vec<u8>,
}

/// A batch that needs more than its frame says: number of its message, place there, place in the frame.
pub type Odd = (u64, usize, u32);

/// Batches of a chunk that are no longer awaited: number of their message, how often they were handed on, places there.
pub type Forgotten = (u64, u32, Vec<usize>);

/// When a frame was taken by the matcher, executed, seen by the framer, and seen here; microseconds.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Stamps {
    pub taken_us: u64,
    pub executed_us: u64,
    pub seen_us: u64,
    pub answered_us: u64,
}

#[derive(Debug, Default)]
struct Chunk {
    shard: u32,
    control_n: u64,
    commands: u32,
    data: Vec<u8>,
    sent: Vec<(Shared, u32)>,
    framed_us: u64,
}

/// What is under way through a worker.
#[derive(Debug)]
pub struct Desk {
    /// Who may send what.
    pub gate: Gate,
    /// There is nobody to hand batches to.
    pub is_lost: bool,
    /// Only what was handed on before is handed on.
    pub is_draining: bool,
    commands_max: u64,
    commands: u64,
    outbox: Vec<Chunk>,
    full: Vec<Handed>,
    chunks: HashMap<u64, Chunk>,
    last_chunk: u64,
}

fn locked(message: &Shared) -> MutexGuard<'_, Message> {
    message.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// Return a desk with nothing under way, and never more commands than `commands_max`, an eighth more for cancels.
    #[must_use]
    pub fn new(gate: Gate, commands_max: u64) -> Self {
        Self {
            gate,
            is_lost: false,
            is_draining: false,
            commands_max,
            commands: 0,
            outbox: Vec::new(),
            full: Vec::new(),
            chunks: HashMap::new(),
            last_chunk: 0,
        }
    }

    /// Return how many commands were handed on and are not answered.
    #[must_use]
    pub fn commands(&self) -> u64 {
        self.commands
    }

    /// Judge batches of a message in order, and put those that are let in into the chunks of their shards.
    ///
    /// Stops behind the first one that may be let in when more is known of shard 0, if `stops` says so.
    ///
    /// # Errors
    /// There are more batches than a verifier takes.
    #[allow(clippy::too_many_arguments)]
    pub fn admit(
        &mut self,
        shared: &Shared,
        batches: std::ops::Range<usize>,
        stops: bool,
        verifier: &mut Verifier,
        rates: &mut Rates,
        now: Now,
        control_n: u64,
    ) -> Result<Admitted, ShapeError> {
        let mut message = locked(shared);
        let fitting = self.fitting(&message, batches.clone());
        self.gate.verify(&mut message, fitting, verifier, rates, now.s)?;
        let mut admitted = Admitted { next: batches.start, refused: Vec::new() };
        for index in batches {
            admitted.next = index + 1;
            let refused = if self.has_room(&message, index, 0) {
                match self.gate.judge(&mut message, index, verifier, rates, now)? {
                    None => self.hand_on(shared, &mut message, index, control_n),
                    refused => refused,
                }
            } else {
                Some(Refused::Overloaded)
            };
            if let Some(refused) = refused {
                admitted.refused.push((index, refused));
                if stops && refused.may_change() {
                    break;
                }
            }
        }
        Ok(admitted)
    }

    /// Return whether a batch may be let in when `more` commands are before it. What cannot be read needs no room.
    fn has_room(&self, message: &Message, index: usize, more: u64) -> bool {
        let reserve = if message.has_only_cancels(index) { self.commands_max / CANCELS_RESERVE } else { 0 };
        let commands = message.head(index).map_or(0, |head| u64::from(head.len));
        commands == 0 || self.commands + more + commands <= self.commands_max + reserve
    }

    /// Return the batches that there is room for if all of them are let in: no other is worth verifying.
    fn fitting(&self, message: &Message, batches: std::ops::Range<usize>) -> Vec<usize> {
        let mut more = 0;
        let mut fitting = Vec::with_capacity(batches.len());
        for index in batches {
            if self.has_room(message, index, more) {
                more += message.head(index).map_or(0, |head| u64::from(head.len));
                fitting.push(index);
            }
        }
        fitting
    }

    fn hand_on(&mut self, shared: &Shared, message: &mut Message, index: usize, control_n: u64) -> Option<Refused> {
        let head = message.head(index)?;
        if self.is_lost {
            return Some(Refused::Lost);
        }
        if self.is_draining && message.attempts(index) == 0 {
            return Some(Refused::Draining);
        }
        let element = message.element(index);
        let known = self.outbox.iter().position(|chunk| chunk.shard == head.shard);
        let place = known.unwrap_or_else(|| {
            self.outbox.push(Chunk { shard: head.shard, control_n, ..Chunk::default() });
            self.outbox.len() - 1
        });
        let chunk = &mut self.outbox[place];
        if chunk.sent.len() >= CHUNK_BATCHES_MAX
            || chunk.commands + head.len > CHUNK_COMMANDS_MAX
            || chunk.data.len() + element.len() > CHUNK_BYTES_MAX
        {
            let full = std::mem::replace(chunk, Chunk { shard: head.shard, control_n, ..Chunk::default() });
            self.number(full);
        }
        let chunk = &mut self.outbox[place];
        chunk.data.extend_from_slice(element);
        chunk.commands += head.len;
        chunk.sent.push((Arc::clone(shared), index as u32));
        message.handed_on(index);
        self.commands += u64::from(head.len);
        None
    }

    fn number(&mut self, mut chunk: Chunk) {
        self.last_chunk += 1;
        self.full.push(Handed {
            chunk: self.last_chunk,
            shard: chunk.shard,
            control_n: chunk.control_n,
            batches: chunk.sent.len(),
            commands: chunk.commands,
            data: std::mem::take(&mut chunk.data),
        });
        self.chunks.insert(self.last_chunk, chunk);
    }

    /// Return the chunks that are full, and with `everything` the others too, by shard in the order in which they were begun.
    pub fn hand_over(&mut self, everything: bool) -> Vec<Handed> {
        if everything {
            for chunk in std::mem::take(&mut self.outbox) {
                self.number(chunk);
            }
        }
        std::mem::take(&mut self.full)
    }

    /// Return whether something waits to be handed over.
    #[must_use]
    pub fn has_some(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Take that chunks have a position, each from a place in the frame on; return the messages that wait no longer.
    pub fn sequenced(&mut self, shard: u32, n: u64, t_us: u64, framed_us: u64, parts: &[(u64, u32)]) -> Vec<u64> {
        self.gate.set_time(shard, t_us);
        let mut done = Vec::new();
        for &(number, first) in parts {
            let Some(chunk) = self.chunks.get_mut(&number) else { continue };
            chunk.framed_us = framed_us;
            for (place, (shared, index)) in (first..).zip(&chunk.sent) {
                let mut message = locked(shared);
                if message.sequenced(*index as usize, Whereabouts { shard, n, place, t_us, framed_us }) {
                    done.push(message.number);
                }
            }
        }
        done
    }

    /// Take an execution frame that has chunks in it; return the messages that wait no longer, the batches of which more
    /// must be found out, and how many others have their outcome now.
    ///
    /// # Errors
    /// It is no execution frame. The chunks are still awaited.
    pub fn executed(
        &mut self,
        shard: u32,
        frame: &[u8],
        stamps: Stamps,
        parts: &[(u64, u32)],
    ) -> Result<(Vec<u64>, Vec<Odd>, u64), Malformed> {
        let cut = Cut::new(frame)?;
        let (mut done, mut odd, mut settled) = (Vec::new(), Vec::new(), 0);
        for &(number, first) in parts {
            let Some(chunk) = self.take(number) else { continue };
            for (place, (shared, index)) in (first..).zip(&chunk.sent) {
                let index = *index as usize;
                let mut message = locked(shared);
                if !message.lacks(index) {
                    continue;
                }
                if message.with_stages() {
                    let stage = message.stage(shard, cut.n);
                    (stage.framed_us, stage.sequenced_us) = (chunk.framed_us, cut.t_us);
                    (stage.taken_us, stage.executed_us) = (stamps.taken_us, stamps.executed_us);
                    (stage.durable_us, stage.answered_us) = (stamps.seen_us, stamps.answered_us);
                }
                let there = cut.places.get(place as usize - 1).filter(|there| there.is_plain);
                let (Some(there), Some(head)) = (there, message.head(index)) else {
                    odd.push((message.number, index, place));
                    continue;
                };
                if !there.rejected.is_empty() {
                    let reasons: Vec<u32> = there.rejected.iter().map(|&(reason, _)| reason).collect();
                    let short: Vec<_> = there.short().map(|asset| (head.account, asset, head.shard)).collect();
                    message.note(&reasons, &short);
                }
                settled += 1;
                if message.settle_by(index, |out| cut.put_outcome(out, place, head.account)) {
                    done.push(message.number);
                }
            }
        }
        Ok((done, odd, settled))
    }

    /// Await a chunk no longer; return its batches.
    pub fn forget(&mut self, chunk: u64) -> Vec<Forgotten> {
        let mut forgotten: Vec<Forgotten> = Vec::new();
        for (shared, index) in self.take(chunk).map_or_else(Vec::new, |chunk| chunk.sent) {
            let (message, index) = (locked(&shared), index as usize);
            let (number, attempts) = (message.number, message.attempts(index));
            match forgotten.last_mut() {
                Some((before, tries, indexes)) if (*before, *tries) == (number, attempts) => indexes.push(index),
                _ => forgotten.push((number, attempts, vec![index])),
            }
        }
        forgotten
    }

    /// Return the numbers of the chunks that are awaited, ascending.
    #[must_use]
    pub fn awaited(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.chunks.keys().copied().collect();
        numbers.sort_unstable();
        numbers
    }

    fn take(&mut self, number: u64) -> Option<Chunk> {
        let chunk = self.chunks.remove(&number)?;
        self.commands -= u64::from(chunk.commands);
        Some(chunk)
    }
}
