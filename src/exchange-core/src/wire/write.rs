//! Where canonical encodings are written to.

/// Takes bytes.
pub trait Sink {
    /// Append a byte.
    fn byte(&mut self, byte: u8);
    /// Append some bytes.
    fn bytes(&mut self, bytes: &[u8]);

    /// Append a minimal varint.
    #[inline]
    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }
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
}

const BODY_BYTES: usize = 256;

/// A short encoding on the stack: every event whose strings are short fits.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    bytes: [u8; BODY_BYTES],
    len: usize,
}

impl Default for Body {
    fn default() -> Self {
        Self::new()
    }
}

impl Body {
    /// Return an empty one.
    #[inline]
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: [0; BODY_BYTES], len: 0 }
    }

    /// Return what was written.
    ///
    /// # Panics
    /// More was written than there is room for.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Sink for Body {
    #[inline]
    fn byte(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
        }
        self.len += 1;
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(bytes);
        }
        self.len = end;
    }
}

/// Return the length of a minimal varint.
#[inline]
pub(crate) fn varint_len(value: u64) -> usize {
    // 1 for 0; else the bits in groups of seven.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Return the length of a field's key.
#[inline]
pub(crate) fn key_len(number: u64) -> usize {
    if number < 16 { 1 } else { 2 }
}

/// Return the length of a field with content that may be left out.
#[inline]
pub(crate) fn content_len(number: u64, len: usize) -> usize {
    if len == 0 { 0 } else { element_len(number, len) }
}

/// Return the length of a field with content that is there even if it is empty.
#[inline]
pub(crate) fn element_len(number: u64, len: usize) -> usize {
    key_len(number) + varint_len(len as u64) + len
}

/// Append a field with content, unless there is none.
#[inline]
pub(crate) fn write_content<S: Sink>(out: &mut S, number: u64, content: &[u8]) {
    if !content.is_empty() {
        out.varint(number << 3 | 2);
        out.varint(content.len() as u64);
        out.bytes(content);
    }
}
