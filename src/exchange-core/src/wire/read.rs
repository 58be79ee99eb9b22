//! The fast reader: says what canonical bytes hold, and of any others only that they are not canonical.
//!
//! Why they are not is found out by `spec::explain`, which reads them again as the reference does. A reader may look
//! beyond the end of the message that it is in, never beyond the input; that it did shows when the message is to end.

use crate::wire::Message;

/// A place in the input, and where the message there ends.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    /// Return a reader of a whole input that holds one message.
    #[inline]
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, end: data.len() }
    }

    /// Return the key of the next field if it has one byte; 0, which is no key, at the end of the message.
    #[inline]
    #[must_use]
    pub fn key(&self) -> u8 {
        if self.at < self.end { self.data.get(self.at).copied().unwrap_or(0) } else { 0 }
    }

    /// Step over a key of one byte, which `key` has shown.
    #[inline]
    pub fn skip_key(&mut self) {
        self.at += 1;
    }

    /// Return what of the input has not been read.
    #[inline]
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.data.get(self.at..).unwrap_or_default()
    }

    /// Return whether the message has been read to its end and no further.
    #[inline]
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.at == self.end
    }

    /// Return the minimal varint that stands here.
    #[inline]
    pub fn varint(&mut self) -> Option<u64> {
        let first = *self.data.get(self.at)?;
        if first < 0x80 {
            self.at += 1;
            return Some(u64::from(first));
        }
        let next: Option<[u8; 8]> = self.data.get(self.at..self.at + 8).and_then(|next| next.try_into().ok());
        if let Some(next) = next {
            let next = u64::from_le_bytes(next);
            let ends = !next & 0x8080_8080_8080_8080;
            if ends != 0 {
                // The lowest byte without its highest bit is the last one.
                let last_bit = ends.trailing_zeros();
                let value = gather(next & u64::MAX >> (63 - last_bit));
                self.at += last_bit as usize / 8 + 1;
                let is_minimal = next >> (last_bit - 7) & 0x7f != 0;
                return is_minimal.then_some(value);
            }
        }
        let (value, after) = long_varint(self.data, self.at)?;
        self.at = after;
        Some(value)
    }

    /// Return the number that stands here if it is in bounds.
    #[inline]
    pub fn number(&mut self, low: u64, high: u64) -> Option<u64> {
        self.varint().filter(|&value| low <= value && value <= high)
    }

    /// Return the number of at most 32 bits that stands here if it is in bounds.
    #[inline]
    pub fn small_number(&mut self, low: u64, high: u64) -> Option<u32> {
        self.number(low, high).and_then(|value| u32::try_from(value).ok())
    }

    /// Return the bytes that stand here behind their length if that is in bounds.
    #[inline]
    pub fn content(&mut self, low: u64, high: u64) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number(low, high)?).ok()?;
        let stop = self.at.checked_add(length)?;
        let content = self.data.get(self.at..stop)?;
        self.at = stop;
        Some(content)
    }

    /// Return the string that stands here behind its length in bytes if that is in bounds.
    #[inline]
    pub fn string(&mut self, low: u64, high: u64) -> Option<&'a str> {
        std::str::from_utf8(self.content(low, high)?).ok()
    }

    /// Return the N bytes that stand here behind their length.
    #[inline]
    pub fn fixed<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        self.content(N as u64, N as u64)?.try_into().ok()
    }

    /// Return the message that stands here behind its length, which may be empty.
    #[inline]
    pub fn message<M: Message<'a>>(&mut self) -> Option<M> {
        let outer = self.enter()?;
        let message = M::read(self)?;
        self.leave(outer);
        Some(message)
    }

    /// Return the message that stands here behind its length, which is not empty.
    #[inline]
    pub fn filled_message<M: Message<'a>>(&mut self) -> Option<M> {
        if self.data.get(self.at) == Some(&0) {
            return None;
        }
        self.message()
    }

    /// Return how many elements of a list to make room for, the first of which has been read since `before`.
    ///
    /// No more than 4,096, whatever the bytes announce: what a list takes grows with what is there.
    #[inline]
    #[must_use]
    pub fn expected_since(&self, before: &Self) -> usize {
        let first = self.at.saturating_sub(before.at).max(1);
        1 + (self.end.saturating_sub(self.at) / first).min(4_095)
    }

    /// Go into the message that stands here behind its length; return where the outer one ends, for `leave`.
    #[inline]
    pub fn enter(&mut self) -> Option<usize> {
        let length = usize::try_from(self.varint()?).ok()?;
        let stop = self.at.checked_add(length)?;
        Some(std::mem::replace(&mut self.end, stop))
    }

    /// Go back to the outer message.
    #[inline]
    pub fn leave(&mut self, outer: usize) {
        self.end = outer;
    }
}

/// Return the minimal varint at `at` and where it ends.
///
/// By value: a reader whose address is taken nowhere stays in registers, which is half of the time of decoding.
#[cold]
fn long_varint(data: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for (place, &byte) in data.get(at..)?.iter().take(10).enumerate() {
        if place == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return (byte != 0).then_some((value, at + place + 1));
        }
    }
    None
}

/// Return the number whose groups of 7 bits stand in the bytes of a varint; their highest bits do not count.
#[inline]
fn gather(bytes: u64) -> u64 {
    let groups = bytes & 0x7f7f_7f7f_7f7f_7f7f;
    let quarters = (groups & 0x7f00_7f00_7f00_7f00) >> 1 | groups & 0x007f_007f_007f_007f;
    let halves = (quarters & 0x3fff_0000_3fff_0000) >> 2 | quarters & 0x0000_3fff_0000_3fff;
    (halves & 0x0fff_ffff_0000_0000) >> 4 | halves & 0x0fff_ffff
}
