//! The execution frame of the entry under way, written event by event.

use crate::wire::{Body, EventMember, Message, Sink};

/// Key of `ExecutionFrame.events`.
const EVENTS_KEY: u8 = 7 << 3 | 2;

#[derive(Clone, Debug, Default)]
pub(crate) struct Writer {
    pub out: Vec<u8>,
    events: usize,
}

impl Writer {
    /// Start an entry.
    pub fn begin(&mut self) {
        self.events = 0;
    }

    /// Return the number of events of the entry so far.
    #[inline]
    pub fn events(&self) -> usize {
        self.events
    }

    /// Append an event of at most 256 bytes.
    #[inline]
    pub fn write<'a, M: Message<'a> + EventMember>(&mut self, event: &M) {
        let mut body = Body::new();
        event.encode(&mut body);
        self.append(M::NUMBER, body.as_slice());
    }

    /// Append an event of any length.
    pub fn write_long<'a, M: Message<'a> + EventMember>(&mut self, event: &M) {
        let mut body = Vec::new();
        event.encode(&mut body);
        self.append(M::NUMBER, &body);
    }

    #[inline]
    fn append(&mut self, number: u8, body: &[u8]) {
        self.events += 1;
        let key = u32::from(number) << 3 | 2;
        let inner = varint_len(key as usize) + varint_len(body.len()) + body.len();
        self.out.byte(EVENTS_KEY);
        put_varint(&mut self.out, inner);
        put_varint(&mut self.out, key as usize);
        put_varint(&mut self.out, body.len());
        self.out.extend_from_slice(body);
    }
}

#[inline]
fn varint_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

#[inline]
fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value > 0x7f {
        out.push(value as u8 & 0x7f | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
