//! Counts what became of commands: in the bytes of answers, and in the bytes of execution frames, by the same rules.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::wire::{Field, Fields, Malformed, number_of};

const EXECUTED: u64 = 1;
const REFUSED: u64 = 3;
/// Reasons that pass, by number of the `DoorReason` and by name: whoever is refused for them is told when to come again.
const PASSING: [u64; 2] = [20, 21];
/// See above.
pub const PASSING_NAMES: [&str; 2] = ["TOO_FAST", "OVERLOADED"];

/// What became of commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Batches that a shard executed.
    pub batches_executed: u64,
    /// Of these, ones that had been executed before.
    pub batches_repeated: u64,
    /// Commands that were not rejected.
    pub accepted: u64,
    /// Commands that were rejected, by number of the `RejectReason`.
    pub rejected: BTreeMap<u64, u64>,
    /// Batches that a shard refused, by number of the `RejectReason`.
    pub batches_refused: BTreeMap<u64, u64>,
    /// Commands of batches that were refused, by reason: `door N` and `shard N`, N a `DoorReason` or `RejectReason`, or
    /// the reason that a call failed with. Answers only.
    pub refused: BTreeMap<String, u64>,
    /// Of the commands that were refused for a reason that passes, those that were not told when to come again.
    pub refused_without_wait: u64,
    /// Longest wait that a refusal of the last answer asks for, in milliseconds.
    #[serde(skip)]
    pub retry_after_ms: u64,
    /// Commands of batches whose fate an answer did not know, or told incompletely. Answers only.
    pub unknown: u64,
    /// Trades; each is told once, to the taker.
    pub trades: u64,
    /// Highest position with an executed batch, by shard.
    pub last_n: BTreeMap<u32, u64>,
    /// Sum, modulo 2^64, of a hash of every executed batch that is no repetition: its place in the log and what came of
    /// it. Equal sums: the same batches stand at the same places with the same results.
    pub fingerprint: u64,
}

/// What the events of one batch come to.
#[derive(Clone, Copy, Default)]
struct Tally {
    accepted: u64,
    rejected: u64,
    trades: u64,
}

impl Tally {
    /// Take in an event other than a `BatchResult`; returns the reason where it is a rejection, else zero.
    fn add(&mut self, kind: u32, event: &[u8]) -> Result<u64, Malformed> {
        match kind {
            3 => {
                self.rejected += 1;
                return number_of(event, 4);
            }
            8 => self.trades += 1,
            // Field 1 is the command that the event answers, left out where the event is a consequence.
            4..=7 | 9 | 12 => self.accepted += u64::from(event.first() == Some(&0x08)),
            _ => {}
        }
        Ok(0)
    }

    fn fingerprint(self, shard: u32, n: u64, batch: u64) -> u64 {
        [u64::from(shard), n, batch, self.accepted, self.rejected, self.trades]
            .iter()
            .fold(0, |hash, part| mix(hash ^ part))
    }
}

/// Scatter 64 bits (the finalizer of `SplitMix64`).
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Times of an entry, by the number of the field in `EntryStages` from 3 (`received_us`) to 10 (`answered_us`).
pub type Moments = [u64; 8];

/// An entry that an answer names: when it passed its stages, and commands of the answer that are in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Position.
    pub n: u64,
    /// Commands.
    pub commands: u64,
    /// Times.
    pub moments: Moments,
}

impl Counts {
    /// Take in a `SubmitResponse` about batches of one shard.
    ///
    /// Args: commands of each batch, in order. `rows` is replaced by the entries that the answer names.
    ///
    /// # Errors
    /// It is no such message, or has not one outcome for each batch. What was counted until then stays.
    pub fn add_answer(
        &mut self,
        shard: u32,
        answer: &[u8],
        commands: impl IntoIterator<Item = usize>,
        rows: &mut Vec<Row>,
    ) -> Result<(), Malformed> {
        rows.clear();
        let mut commands = commands.into_iter();
        for field in Fields::new(answer) {
            match field? {
                Field::Bytes(1, outcome) => {
                    let asked = commands.next().ok_or(Malformed)? as u64;
                    let n = self.add_outcome(shard, outcome, asked)?;
                    match rows.last_mut() {
                        Some(row) if row.n == n => row.commands += asked,
                        _ if n > 0 => match rows.iter_mut().find(|row| row.n == n) {
                            Some(row) => row.commands += asked,
                            None => rows.push(Row { n, commands: asked, moments: Moments::default() }),
                        },
                        _ => {}
                    }
                }
                Field::Bytes(5, stages) => {
                    let n = number_of(stages, 2)?;
                    if let Some(row) = rows.iter_mut().find(|row| row.n == n) {
                        for field in Fields::new(stages) {
                            if let Field::Number(number @ 3..=10, value) = field? {
                                row.moments[number as usize - 3] = value;
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        if commands.next().is_some() { Err(Malformed) } else { Ok(()) }
    }

    /// Take in a `BatchOutcome` of a batch with so many commands; returns its position where it was executed.
    fn add_outcome(&mut self, shard: u32, outcome: &[u8], asked: u64) -> Result<u64, Malformed> {
        let (mut state, mut n, mut batch, mut shard_reason, mut door_reason, mut repeated) = (0, 0, 0, 0, 0, 0);
        let mut retry_after_ms = 0;
        let mut tally = Tally::default();
        for field in Fields::new(outcome) {
            match field? {
                Field::Number(1, value) => state = value,
                Field::Number(2, value) => n = value,
                Field::Number(3, value) => batch = value,
                Field::Number(5, value) => shard_reason = value,
                Field::Number(6, value) => door_reason = value,
                Field::Number(8, value) => repeated = value,
                Field::Number(10, value) => retry_after_ms = value,
                Field::Bytes(7, event) => {
                    // Event: exactly one field, below 16 or of two bytes.
                    let Some(Ok(Field::Bytes(kind, body))) = Fields::new(event).next() else { return Err(Malformed) };
                    if let reason @ 1.. = tally.add(kind, body)? {
                        *self.rejected.entry(reason).or_default() += 1;
                    }
                }
                _ => {}
            }
        }
        self.retry_after_ms = self.retry_after_ms.max(retry_after_ms);
        match state {
            EXECUTED => {
                self.executed(shard, n, batch, tally, repeated != 0);
                self.unknown += asked.saturating_sub(tally.accepted + tally.rejected);
                return Ok(n);
            }
            REFUSED if shard_reason != 0 => {
                *self.batches_refused.entry(shard_reason).or_default() += 1;
                *self.refused.entry(format!("shard {shard_reason}")).or_default() += asked;
            }
            REFUSED => {
                *self.refused.entry(format!("door {door_reason}")).or_default() += asked;
                if retry_after_ms == 0 && PASSING.contains(&door_reason) {
                    self.refused_without_wait += asked;
                }
            }
            _ => self.unknown += asked,
        }
        Ok(0)
    }

    fn executed(&mut self, shard: u32, n: u64, batch: u64, tally: Tally, repeated: bool) {
        self.batches_executed += 1;
        self.accepted += tally.accepted;
        self.trades += tally.trades;
        let last = self.last_n.entry(shard).or_default();
        *last = n.max(*last);
        if repeated {
            self.batches_repeated += 1;
        } else {
            self.fingerprint = self.fingerprint.wrapping_add(tally.fingerprint(shard, n, batch));
        }
    }

    /// Take in an `ExecutionFrame`.
    ///
    /// # Errors
    /// It is no such message. What was counted until then stays.
    pub fn add_frame(&mut self, shard: u32, frame: &[u8]) -> Result<(), Malformed> {
        let n = number_of(frame, 2)?;
        let mut open: Option<(u64, Tally)> = None;
        for field in Fields::new(frame) {
            let Field::Bytes(7, event) = field? else { continue };
            let Some(Ok(Field::Bytes(kind, body))) = Fields::new(event).next() else { return Err(Malformed) };
            match kind {
                // What is no batch's ends the batch before it: a link, an operation, a request.
                2 | 13 | 14 | 24 => {
                    if let Some((batch, tally)) = open.take() {
                        self.executed(shard, n, batch, tally, false);
                    }
                    if kind == 2 {
                        open = self.result(body)?;
                    }
                }
                _ => {
                    if let Some((_, tally)) = &mut open
                        && let reason @ 1.. = tally.add(kind, body)?
                    {
                        *self.rejected.entry(reason).or_default() += 1;
                    }
                }
            }
        }
        if let Some((batch, tally)) = open {
            self.executed(shard, n, batch, tally, false);
        }
        Ok(())
    }

    /// Take in a `BatchResult`; returns the batch's place where its events follow.
    fn result(&mut self, body: &[u8]) -> Result<Option<(u64, Tally)>, Malformed> {
        let reason = number_of(body, 2)?;
        if reason != 0 {
            *self.batches_refused.entry(reason).or_default() += 1;
            return Ok(None);
        }
        if number_of(body, 3)? != 0 {
            self.batches_repeated += 1;
            return Ok(None);
        }
        Ok(Some((number_of(body, 1)?, Tally::default())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{put_bytes, put_number};

    fn message(numbers: &[(u8, u64)], parts: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (field, value) in numbers {
            put_number(&mut out, *field, *value);
        }
        for (field, part) in parts {
            put_bytes(&mut out, *field, part);
        }
        out
    }

    fn event(kind: u8, numbers: &[(u8, u64)]) -> (u8, Vec<u8>) {
        (7, message(&[], &[(kind, message(numbers, &[]))]))
    }

    #[test]
    fn an_answer_and_its_log_come_to_the_same() {
        let first =
            [event(2, &[(1, 1)]), event(4, &[(1, 1), (2, 9)]), event(8, &[(1, 3)]), event(3, &[(1, 2), (4, 44)])];
        let second = [event(2, &[(1, 2)]), event(7, &[(1, 1), (2, 9)]), event(7, &[(2, 8)])];
        let stages = message(&[(1, 5), (2, 77), (3, 10), (10, 20)], &[]);
        let outcomes = [(1, &first[..]), (2, &second[..])]
            .map(|(batch, events)| (1, message(&[(1, 1), (2, 77), (3, batch)], events)));
        let refused = (1, message(&[(1, 3), (2, 77), (5, 5)], &[]));
        let at_the_door = (1, message(&[(1, 3), (6, 20)], &[]));
        let answer = message(&[], &[outcomes.to_vec(), vec![refused, at_the_door, (5, stages)]].concat());
        let (mut counts, mut rows) = (Counts::default(), Vec::new());
        counts.add_answer(5, &answer, [2, 1, 7, 8], &mut rows).expect("an answer");
        assert_eq!(rows, [Row { n: 77, commands: 3, moments: [10, 0, 0, 0, 0, 0, 0, 20] }]);
        assert_eq!(counts.refused, BTreeMap::from([("shard 5".into(), 7), ("door 20".into(), 8)]));
        assert_eq!((counts.accepted, counts.trades, counts.unknown, counts.batches_executed), (2, 1, 0, 2));
        assert_eq!((counts.rejected.clone(), counts.last_n.clone()), ([(44, 1)].into(), [(5, 77)].into()));

        let of_others = [event(7, &[(2, 8)])];
        let refused = [event(2, &[(1, 3), (2, 5)])];
        let operation = [event(14, &[(1, 1)]), event(7, &[(2, 8)])];
        let events = [&of_others[..], &first, &second, &refused, &operation].concat();
        let mut log = Counts::default();
        log.add_frame(5, &message(&[(1, 1), (2, 77)], &events)).expect("a frame");
        assert_eq!(std::mem::take(&mut counts.refused_without_wait), 8);
        counts.refused.clear();
        assert_eq!(counts, log);
    }

    #[test]
    fn a_batch_at_another_place_or_with_another_result_has_another_fingerprint() {
        let sum = |n, batch, accepted| {
            let mut counts = Counts::default();
            counts.executed(1, n, batch, Tally { accepted, rejected: 0, trades: 0 }, false);
            counts.fingerprint
        };
        assert_ne!(sum(1, 1, 1), sum(2, 1, 1));
        assert_ne!(sum(1, 1, 1), sum(1, 2, 1));
        assert_ne!(sum(1, 1, 1), sum(1, 1, 2));
    }

    #[test]
    fn an_answer_with_too_few_outcomes_is_malformed() {
        let (mut counts, mut rows) = (Counts::default(), Vec::new());
        assert_eq!(counts.add_answer(1, &[], [1], &mut rows), Err(Malformed));
    }
}
