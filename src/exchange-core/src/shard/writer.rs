//! The execution frame of the entry under way, written event by event.

use crate::wire::{Body, EventMember, Message, Sink, varint_len};

/// Key of `ExecutionFrame.events`.
const EVENTS_KEY: u8 = 7 << 3 | 2;

#[derive(Clone, Debug, Default)]
pub(crate) struct Writer {
    pub out: Vec<u8>,
    /// Written over by every event: a new one would have to be filled with zeros first.
    body: Body,
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
        self.body.clear();
        event.encode(&mut self.body);
        let Self { out, body, events } = self;
        append(out, events, M::NUMBER, body.as_slice());
    }

    /// Append an event of any length.
    pub fn write_long<'a, M: Message<'a> + EventMember>(&mut self, event: &M) {
        let mut body = Vec::new();
        event.encode(&mut body);
        append(&mut self.out, &mut self.events, M::NUMBER, &body);
    }
}

#[inline]
fn append(out: &mut Vec<u8>, events: &mut usize, number: u8, body: &[u8]) {
    *events += 1;
    match u8::try_from(body.len()) {
        // Both lengths have one byte, and the key too.
        Ok(len) if len < 0x7e && number < 16 => {
            out.extend_from_slice(&[EVENTS_KEY, len + 2, number << 3 | 2, len]);
        }
        _ => {
            let key = u64::from(number) << 3 | 2;
            let inner = varint_len(key) + varint_len(body.len() as u64) + body.len();
            out.byte(EVENTS_KEY);
            out.varint(inner as u64);
            out.varint(key);
            out.varint(body.len() as u64);
        }
    }
    out.extend_from_slice(body);
}
