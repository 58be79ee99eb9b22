//! Where encoded bytes go.

use crate::wire::Message;

/// Bytes that a `Body` holds.
pub const BODY_BYTES: usize = 256;
/// Bytes behind them that a number is written over, of which only those that it needs then count.
const SLACK_BYTES: usize = 16;

/// What an encoder writes to.
pub trait Sink {
    /// Append a byte.
    fn byte(&mut self, byte: u8);

    /// Append bytes.
    fn bytes(&mut self, bytes: &[u8]);

    /// Append a number as a minimal varint.
    #[inline]
    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.byte(low_bits(value) | 0x80);
            value >>= 7;
        }
        self.byte(low_bits(value));
    }

    /// Append a field that is a number, unless it is zero; `key` is below 128.
    #[inline]
    fn number(&mut self, key: u8, value: u64) {
        if value != 0 {
            self.byte(key);
            self.varint(value);
        }
    }

    /// Append a message behind its key and its length; `key` is below 128.
    #[inline]
    fn element<'a, M: Message<'a>>(&mut self, key: u8, message: &M)
    where
        Self: Sized,
    {
        self.byte(key);
        self.varint(message.encoded_len() as u64);
        message.encode(self);
    }

    /// Append a field that is bytes, unless there are none; `key` is below 128.
    #[inline]
    fn content(&mut self, key: u8, content: &[u8]) {
        if !content.is_empty() {
            self.byte(key);
            self.varint(content.len() as u64);
            self.bytes(content);
        }
    }
}

/// Return how many bytes a number has as a varint.
#[inline]
#[must_use]
pub fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    (bits * 9 + 64) / 64
}

/// Return how many bytes a field has that is a number.
#[inline]
#[must_use]
pub fn number_len(value: u64) -> usize {
    usize::from(value != 0) * (1 + varint_len(value))
}

/// Return how many bytes a field has that is so many bytes, or none.
#[inline]
#[must_use]
pub fn content_len(length: usize) -> usize {
    usize::from(length != 0) * element_len(length)
}

/// Return how many bytes an element of a list has that is so many bytes, its key included.
#[inline]
#[must_use]
pub fn element_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}

#[inline]
fn low_bits(value: u64) -> u8 {
    (value & 0x7f) as u8
}

/// Return a number below 2^56 as a varint of `length` bytes, the first one lowest.
///
/// Its groups of 7 bits are moved apart three times instead of once per byte: no branch depends on the length.
#[inline]
fn spread(value: u64, length: usize) -> u64 {
    let halves = (value & 0x00ff_ffff_f000_0000) << 4 | value & 0x0fff_ffff;
    let quarters = (halves & 0x0fff_c000_0fff_c000) << 2 | halves & 0x0000_3fff_0000_3fff;
    let groups = (quarters & 0x3f80_3f80_3f80_3f80) << 1 | quarters & 0x007f_007f_007f_007f;
    let more = 0x8080_8080_8080_8080 & !(u64::MAX << (8 * (length - 1)));
    groups | more
}

/// Return a field that is a number from 128 up to 2^56, and how much of it counts.
#[inline]
fn number_chunk(key: u8, value: u64) -> ([u8; 16], usize) {
    let length = varint_len(value);
    let chunk = u128::from(spread(value, length)) << 8 | u128::from(key);
    (chunk.to_le_bytes(), 1 + length)
}

impl Sink for Vec<u8> {
    #[inline]
    fn byte(&mut self, byte: u8) {
        self.push(byte);
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn number(&mut self, key: u8, value: u64) {
        if value == 0 {
            return;
        }
        // Most numbers have one byte, and whether a field is one of them seldom changes.
        if value < 0x80 {
            self.extend_from_slice(&[key, low_bits(value)]);
        } else {
            put_long_number(self, key, value);
        }
    }

    /// Write a message of numbers before its length is known, which then has one byte: nothing is counted first.
    #[inline]
    fn element<'a, M: Message<'a>>(&mut self, key: u8, message: &M) {
        if const { !M::SPEC.is_numbers() } {
            self.push(key);
            self.varint(message.encoded_len() as u64);
            return message.encode(self);
        }
        self.extend_from_slice(&[key, 0]);
        let start = self.len();
        message.encode(self);
        put_length(self, start);
    }
}

fn put_long_number(out: &mut Vec<u8>, key: u8, value: u64) {
    if value >> 56 == 0 {
        let (chunk, counts) = number_chunk(key, value);
        let end = out.len() + counts;
        out.extend_from_slice(&chunk);
        out.truncate(end);
    } else {
        out.push(key);
        out.varint(value);
    }
}

/// Put the length of what was written from `start` on into the byte before it; make room where it needs more bytes.
#[inline]
pub(crate) fn put_length(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start;
    match out.get_mut(start - 1) {
        Some(place) if length < 0x80 => *place = low_bits(length as u64),
        _ => put_long_length(out, start, length),
    }
}

#[cold]
fn put_long_length(out: &mut Vec<u8>, start: usize, length: usize) {
    let mut varint = Body::new();
    varint.varint(length as u64);
    out.splice(start - 1..start, varint.as_slice().iter().copied());
}

/// A message on the stack: room for every event that holds no string and no market.
///
/// What does not fit is left out; `is_whole` then says so.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    bytes: [u8; BODY_BYTES + SLACK_BYTES],
    length: usize,
}

impl Body {
    /// Return an empty one.
    #[inline]
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: [0; BODY_BYTES + SLACK_BYTES], length: 0 }
    }

    /// Return what was written.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Return whether everything that was written is there.
    #[inline]
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.length <= BODY_BYTES
    }

    /// Make it empty, which costs less than another one.
    #[inline]
    pub fn clear(&mut self) {
        self.length = 0;
    }

    #[cold]
    fn overflow(&mut self) {
        debug_assert!(false, "a message has more than {BODY_BYTES} bytes");
        self.length = self.bytes.len();
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::new()
    }
}

impl Sink for Body {
    #[inline]
    fn byte(&mut self, byte: u8) {
        match self.bytes.get_mut(self.length) {
            Some(place) => {
                *place = byte;
                self.length += 1;
            }
            None => self.overflow(),
        }
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        match self.bytes.get_mut(self.length..end) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.length = end;
            }
            None => self.overflow(),
        }
    }

    #[inline]
    fn number(&mut self, key: u8, value: u64) {
        if value == 0 {
            return;
        }
        if value < 0x80 {
            return self.bytes(&[key, low_bits(value)]);
        }
        let place = self.bytes.get_mut(self.length..self.length + SLACK_BYTES);
        match place.and_then(|place| <&mut [u8; SLACK_BYTES]>::try_from(place).ok()) {
            Some(place) if value >> 56 == 0 => {
                let (chunk, counts) = number_chunk(key, value);
                *place = chunk;
                self.length += counts;
            }
            _ => {
                self.byte(key);
                self.varint(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers() -> impl Iterator<Item = u64> {
        (0..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]).chain([u64::MAX])
    }

    #[test]
    fn numbers_are_written_alike_to_every_sink_with_the_length_they_were_said_to_have() {
        for value in numbers() {
            let mut expected = Vec::new();
            expected.varint(value);
            assert_eq!(expected.len(), varint_len(value), "{value}");
            if value > 0 {
                expected.insert(0, 0x38);
            } else {
                expected.clear();
            }
            assert_eq!(expected.len(), number_len(value), "{value}");
            let (mut list, mut body) = (vec![7], Body::new());
            list.number(0x38, value);
            body.number(0x38, value);
            assert_eq!(list[1..], expected, "{value}");
            assert_eq!(body.as_slice(), expected, "{value}");
        }
    }

    #[test]
    fn a_body_holds_256_bytes() {
        let mut body = Body::new();
        for _ in 0..64 {
            body.number(8, 1 << 14);
        }
        assert_eq!(body.as_slice().len(), 256);
        assert!(body.is_whole());
        body.clear();
        assert_eq!(body.as_slice(), b"");
    }
}
