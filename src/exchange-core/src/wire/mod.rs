//! What bytes mean: strict decoding and canonical encoding (ARCHITECTURE.md, "Strict bytes").
//!
//! A decoder accepts exactly the bytes that the encoder writes, as `exchange.wire.codec` does, and names the same broken
//! rule, field and offset for all others. `messages` are the contracts as structs; `entries` are order frames with their
//! payloads.

#[macro_use]
mod macros;
mod batch;
pub mod entries;
mod errors;
pub mod messages;
mod read;
pub mod spec;
mod write;

pub(crate) use batch::read_batch;
pub use batch::{BatchHead, Command, decode_batch};
pub use entries::check_format;
pub use errors::{UnknownFormat, WireError, WireReason};
pub use read::Reader;
pub use spec::Spec;
pub(crate) use write::varint_len;
pub use write::{BODY_BYTES, Body, Sink};

/// A message of the contracts.
pub trait Message<'a>: Sized {
    /// What it looks like on the wire.
    const SPEC: &'static Spec;
    /// Its name in the contracts.
    const NAME: &'static str = Self::SPEC.name;

    /// Return the message that a reader stands at, which ends where the reader's message ends; None: not canonical.
    fn read(reader: &mut Reader<'a>) -> Option<Self>;

    /// Return how many bytes its encoding has.
    fn encoded_len(&self) -> usize;

    /// Append its canonical encoding. Numbers and lengths are not checked: whoever made the message kept their bounds.
    fn encode<S: Sink>(&self, out: &mut S);

    /// Return the message of which `data` is the canonical encoding; None: of none, and nothing is spent on saying why.
    #[inline]
    #[must_use]
    fn decode_or_none(data: &'a [u8]) -> Option<Self> {
        if data.len() > Self::SPEC.total_max {
            return None;
        }
        Self::read(&mut Reader::new(data))
    }

    /// Return the message of which `data` is the canonical encoding.
    ///
    /// # Errors
    /// It is that of none, or exceeds LIMITS: the first broken rule, the field's path and the offset.
    #[inline]
    fn decode(data: &'a [u8]) -> Result<Self, WireError> {
        Self::decode_or_none(data).ok_or_else(|| spec::explain(Self::SPEC, data))
    }

    /// Return its canonical encoding.
    #[must_use]
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len() + 16);
        self.encode(&mut out);
        out
    }
}

/// A member of `Event`.
pub trait EventMember {
    /// Its number there: an event is field 7 of an execution frame, and in it field `NUMBER`.
    const NUMBER: u8;
}
