//! Batches by name: key and nonce, and where they stand in the log, as rows of fixed width that an archive searches.
//!
//! A row is the key's id (16 bytes), the nonce (8), the position of the entry (8) and the 1-based place of the batch in
//! it (4), big-endian, so that rows sort as their fields do: by name, and under a name in the order of the log.

use crate::frames::{Malformed, split};
use crate::limits::{KEY_ID_BYTES, SIGNATURE_BYTES};
use crate::wire::messages::BatchResult;
use crate::wire::{EventMember, Message, Reader};

/// Bytes of a row.
pub const ROW_BYTES: usize = NAME_BYTES + 12;
/// Bytes of the name in it, key and nonce.
pub const NAME_BYTES: usize = KEY_ID_BYTES + 8;
/// Reason of a batch that has no canonical payload, and so no nonce and no name.
const MALFORMED: u32 = 1;

type Row = [u8; ROW_BYTES];

/// What a frame says of a batch: whose place is 1-based in frame `frame` of those that were named together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict {
    frame: u32,
    place: u32,
    reason: u32,
}

/// The batches of some entries that were executed or refused; repetitions are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    rows: Vec<u8>,
    verdicts: Vec<Verdict>,
    positions: Vec<u64>,
}

/// A batch that was executed, as it was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedAt<'a> {
    /// Position of the entry.
    pub n: u64,
    /// 1-based place of the batch in it.
    pub place: u32,
    /// Position of shard 0 under which the frame was verified.
    pub control_n: u64,
    /// Account that the batch is for.
    pub account: u64,
    /// Id of the key that signed.
    pub key_id: &'a [u8; KEY_ID_BYTES],
    /// What was signed.
    pub payload: &'a [u8],
    /// The signature.
    pub signature: &'a [u8; SIGNATURE_BYTES],
}

impl Names {
    /// Return the names of the batches in entries.
    ///
    /// `order_frames` and `frames` are entry by entry in the order of the log, and proven: the execution frame is what
    /// the engine answers to the order frame. A batch that was refused as malformed has no name.
    ///
    /// # Errors
    ///
    /// The bytes are no such frames.
    pub fn read(order_frames: &[&[u8]], frames: &[&[u8]]) -> Result<Self, Malformed> {
        let mut names = Self::default();
        for (frame, (order_frame, answer)) in (0..).zip(order_frames.iter().zip(frames)) {
            names.read_entry(frame, order_frame, answer)?;
        }
        Ok(names)
    }

    fn read_entry(&mut self, frame: u32, order_frame: &[u8], answer: &[u8]) -> Result<(), Malformed> {
        let (head, events) = split(answer)?;
        self.positions.push(head.n);
        let first = self.verdicts.len();
        for event in events {
            let event = event?;
            if event.member == u32::from(BatchResult::NUMBER) {
                let result = BatchResult::decode_or_none(event.content).ok_or(Malformed)?;
                if result.repeat_n == 0 {
                    self.verdicts.push(Verdict { frame, place: result.batch, reason: result.reason });
                }
            }
        }
        if self.verdicts.len() == first {
            return Ok(());
        }
        let (_, mut batches) = Batches::of(order_frame).ok_or(Malformed)?;
        self.rows.reserve((self.verdicts.len() - first) * ROW_BYTES);
        for verdict in &self.verdicts[first..] {
            // Verdicts come in the order of the batches.
            let signed = batches.at(verdict.place).ok_or(Malformed)?;
            if verdict.reason != MALFORMED {
                let (_, nonce) = account_and_nonce(signed.payload).ok_or(Malformed)?;
                self.rows.extend_from_slice(signed.key_id);
                self.rows.extend_from_slice(&nonce.to_be_bytes());
                self.rows.extend_from_slice(&head.n.to_be_bytes());
                self.rows.extend_from_slice(&verdict.place.to_be_bytes());
            }
        }
        Ok(())
    }

    /// Return the rows, in the order of the log.
    #[must_use]
    pub fn rows(&self) -> &[u8] {
        &self.rows
    }

    /// Return how many batches were executed or refused, those without a name among them.
    #[must_use]
    pub fn verdicts_len(&self) -> usize {
        self.verdicts.len()
    }

    /// Return those batches of some that were executed, as they were signed.
    ///
    /// `chosen` are 0-based among all that were executed or refused; `order_frames` are those that were named.
    ///
    /// # Errors
    ///
    /// There is no such batch.
    pub fn signed<'a>(&self, order_frames: &[&'a [u8]], chosen: &[usize]) -> Result<Vec<SignedAt<'a>>, Malformed> {
        let mut found = Vec::with_capacity(chosen.len());
        for &one in chosen {
            let verdict = self.verdicts.get(one).ok_or(Malformed)?;
            if verdict.reason != 0 {
                continue;
            }
            let order_frame = order_frames.get(verdict.frame as usize).ok_or(Malformed)?;
            let (control_n, mut batches) = Batches::of(order_frame).ok_or(Malformed)?;
            let signed = batches.at(verdict.place).ok_or(Malformed)?;
            let (account, _) = account_and_nonce(signed.payload).ok_or(Malformed)?;
            found.push(SignedAt {
                n: self.positions[verdict.frame as usize],
                place: verdict.place,
                control_n,
                account,
                key_id: signed.key_id,
                payload: signed.payload,
                signature: signed.signature,
            });
        }
        Ok(found)
    }
}

#[derive(Clone, Copy)]
struct Signed<'a> {
    key_id: &'a [u8; KEY_ID_BYTES],
    payload: &'a [u8],
    signature: &'a [u8; SIGNATURE_BYTES],
}

/// The batches of an order frame, read one after the other.
struct Batches<'a> {
    reader: Reader<'a>,
    place: u32,
    last: Option<Signed<'a>>,
}

impl<'a> Batches<'a> {
    /// Return the position of shard 0 that a frame names, and its batches.
    fn of(order_frame: &'a [u8]) -> Option<(u64, Self)> {
        let mut reader = Reader::new(order_frame);
        let mut control_n = 0;
        // Format, ingress, counter, time and the position of shard 0 stand before the batches.
        loop {
            match reader.key() {
                0x08 | 0x18 | 0x20 => {
                    reader.skip_key();
                    reader.varint()?;
                }
                0x12 => {
                    reader.skip_key();
                    reader.content(0, u64::MAX)?;
                }
                0x28 => {
                    reader.skip_key();
                    control_n = reader.varint()?;
                }
                _ => return Some((control_n, Self { reader, place: 0, last: None })),
            }
        }
    }

    /// Return the batch at a place, which is not before the place that was asked for last.
    fn at(&mut self, place: u32) -> Option<Signed<'a>> {
        while self.place < place {
            self.last = Some(self.next()?);
            self.place += 1;
        }
        self.last.filter(|_| self.place == place)
    }

    fn next(&mut self) -> Option<Signed<'a>> {
        let reader = &mut self.reader;
        if reader.key() != (6 << 3 | 2) {
            return None;
        }
        reader.skip_key();
        let outer = reader.enter()?;
        let mut field = |key: u8| {
            (reader.key() == key).then(|| reader.skip_key())?;
            reader.content(1, u64::MAX)
        };
        let key_id = field(0x0a)?.try_into().ok()?;
        let payload = field(0x12)?;
        let signature = field(0x1a)?.try_into().ok()?;
        let signed = Signed { key_id, payload, signature };
        if !reader.is_done() {
            return None;
        }
        reader.leave(outer);
        Some(signed)
    }
}

/// Return account and nonce of an encoded batch, from its first fields alone.
fn account_and_nonce(payload: &[u8]) -> Option<(u64, u64)> {
    let mut reader = Reader::new(payload);
    let mut numbers = [0; 3];
    for (number, key) in numbers.iter_mut().zip([0x08, 0x10, 0x18]) {
        if reader.key() == key {
            reader.skip_key();
            *number = reader.varint()?;
        }
    }
    Some((numbers[0], numbers[2]))
}

/// Rows that are searched by name while more come: sorted runs, the later ones shorter.
#[derive(Clone, Debug, Default)]
pub struct NameIndex {
    runs: Vec<Vec<Row>>,
    len: usize,
}

impl NameIndex {
    /// Take in rows, in any order; what is behind the last whole row does not count.
    pub fn add(&mut self, rows: &[u8]) {
        let (rows, _) = rows.as_chunks::<ROW_BYTES>();
        if rows.is_empty() {
            return;
        }
        let mut run = rows.to_vec();
        run.sort_unstable();
        self.len += run.len();
        // Each row is moved once for every doubling of the rows that there are.
        while self.runs.last().is_some_and(|last| last.len() <= 2 * run.len()) {
            run = merged(&self.runs.pop().unwrap_or_default(), &run);
        }
        self.runs.push(run);
    }

    /// Return how many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Return whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Return position and place of the batches of a name, in the order of the log.
    #[must_use]
    pub fn places(&self, name: &[u8; NAME_BYTES]) -> Vec<(u64, u32)> {
        let mut found = Vec::new();
        for run in &self.runs {
            let first = run.partition_point(|row| row[..NAME_BYTES] < name[..]);
            let rows = run[first..].iter().take_while(|row| row[..NAME_BYTES] == name[..]);
            found.extend(rows.map(place_of));
        }
        found.sort_unstable();
        found
    }

    /// Return all rows, sorted.
    #[must_use]
    pub fn sorted(&self) -> Vec<u8> {
        let all = self.runs.iter().rev().fold(Vec::new(), |all, run| merged(run, &all));
        all.into_flattened()
    }
}

fn place_of(row: &Row) -> (u64, u32) {
    let (n, place) = row[NAME_BYTES..].split_at(8);
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    (number(n), number(place) as u32)
}

/// Return the rows of two sorted runs, sorted.
fn merged(first: &[Row], second: &[Row]) -> Vec<Row> {
    let mut all = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.iter().peekable(), second.iter().peekable());
    while let (Some(one), Some(other)) = (first.peek(), second.peek()) {
        all.extend(if one <= other { first.next() } else { second.next() });
    }
    all.extend(first);
    all.extend(second);
    all
}

#[cfg(test)]
mod tests {
    use super::{NAME_BYTES, NameIndex, ROW_BYTES, Row};

    fn row(name: u8, n: u64, place: u32) -> Row {
        let mut row = [0; ROW_BYTES];
        row[0] = name;
        row[NAME_BYTES..NAME_BYTES + 8].copy_from_slice(&n.to_be_bytes());
        row[NAME_BYTES + 8..].copy_from_slice(&place.to_be_bytes());
        row
    }

    fn name(first: u8) -> [u8; NAME_BYTES] {
        let mut name = [0; NAME_BYTES];
        name[0] = first;
        name
    }

    #[test]
    fn an_index_finds_every_row_in_the_order_of_the_log_however_it_came() {
        let mut index = NameIndex::default();
        assert!(index.is_empty());
        let mut all = Vec::new();
        for n in 1..=200 {
            let rows: Vec<Row> = (1..=n % 7).map(|place| row((n * place % 11) as u8, n, place as u32)).collect();
            index.add(rows.as_flattened());
            all.extend(rows);
        }
        assert_eq!(index.len(), all.len());
        assert!(index.runs.len() < 10, "{} runs", index.runs.len());
        for first in 0..=11 {
            let expected: Vec<_> = all.iter().filter(|row| row[0] == first).map(super::place_of).collect();
            assert_eq!(index.places(&name(first)), expected);
        }
        all.sort_unstable();
        assert_eq!(index.sorted(), all.into_flattened());
    }
}
