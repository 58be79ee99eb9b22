//! The only place where bytes get a meaning: strict decoding and canonical encoding (`exchange.wire`).
//!
//! Canonical encoding: known fields only, in ascending order, each singular field and oneof once, minimal varints that
//! fit their type, defaults omitted (an empty submessage too, unless it is an element of a list or the member of a
//! oneof), no groups, nothing after the end. Decoding accepts exactly the byte strings that encoding produces. Bytes are
//! read once, from first to last, and the first broken rule is the error.

mod batch;
pub mod entries;
mod errors;
#[macro_use]
mod macros;
pub mod messages;
mod read;
mod write;

pub use batch::{BatchHead, Command, decode_batch};
pub use entries::check_format;
pub use errors::{UnknownFormat, WireError, WireReason};
pub use messages::EventMember;
pub use write::{Body, Sink};

use read::Read;

/// A message of the contracts that is signed, hashed or checkpointed.
pub trait Message<'a>: Sized {
    /// Name of the message in the contracts.
    const NAME: &'static str;
    /// Longest encoding, checked before anything is parsed.
    const BYTES_MAX: usize = usize::MAX;

    /// Return the message of which `data[start..end]` is the canonical encoding; `at` is the offset to name when
    /// something is missing.
    #[doc(hidden)]
    fn read(data: &'a [u8], start: usize, end: usize, at: usize) -> Read<Self>;

    /// Return the length of the canonical encoding, in bytes.
    fn encoded_len(&self) -> usize;

    /// Append the canonical encoding. The values are within their bounds: they were decoded, or an engine made them.
    fn encode<S: Sink>(&self, out: &mut S);

    /// Return the message of which `data` is the canonical encoding.
    ///
    /// # Errors
    /// `data` is not the canonical encoding of any such message, or exceeds LIMITS.
    fn decode(data: &'a [u8]) -> Result<Self, WireError> {
        if data.len() > Self::BYTES_MAX {
            let detail = format!("{} bytes, allowed are {}", data.len(), Self::BYTES_MAX);
            return Err(WireError { reason: WireReason::Length, field: Self::NAME.to_owned(), offset: 0, detail });
        }
        Self::read(data, 0, data.len(), 0).map_err(|error| error.of(Self::NAME))
    }
}
