//! The errors of strict decoding.

use std::fmt;

/// Which rule of ARCHITECTURE.md, "Strict bytes", the bytes break. Names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WireReason {
    /// The bytes end inside a field.
    Truncated,
    /// A varint has a last byte of zero that it does not need.
    VarintNotMinimal,
    /// A varint does not fit 64 bits.
    VarintTooLong,
    /// A number does not fit its type or the bounds that its field has on the wire.
    OutOfRange,
    /// The message has no field of this number.
    UnknownField,
    /// The field is not encoded as its type is; groups and unpacked scalars are among these.
    WrongWireType,
    /// A field comes after one with a higher number.
    FieldOrder,
    /// A singular field or a oneof comes twice.
    FieldRepeated,
    /// A field is present with the value that its absence means.
    DefaultEncoded,
    /// A message that is a oneof has no member.
    OneofMissing,
    /// A string is not UTF-8.
    InvalidUtf8,
    /// Bytes, a string, a list or the whole message is shorter or longer than LIMITS allow.
    Length,
}

impl WireReason {
    /// Every reason, once.
    pub const ALL: [Self; 12] = [
        Self::Truncated,
        Self::VarintNotMinimal,
        Self::VarintTooLong,
        Self::OutOfRange,
        Self::UnknownField,
        Self::WrongWireType,
        Self::FieldOrder,
        Self::FieldRepeated,
        Self::DefaultEncoded,
        Self::OneofMissing,
        Self::InvalidUtf8,
        Self::Length,
    ];

    /// Return the name that vectors, logs and Python use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Truncated => "TRUNCATED",
            Self::VarintNotMinimal => "VARINT_NOT_MINIMAL",
            Self::VarintTooLong => "VARINT_TOO_LONG",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::UnknownField => "UNKNOWN_FIELD",
            Self::WrongWireType => "WRONG_WIRE_TYPE",
            Self::FieldOrder => "FIELD_ORDER",
            Self::FieldRepeated => "FIELD_REPEATED",
            Self::DefaultEncoded => "DEFAULT_ENCODED",
            Self::OneofMissing => "ONEOF_MISSING",
            Self::InvalidUtf8 => "INVALID_UTF8",
            Self::Length => "LENGTH",
        }
    }
}

/// Bytes break a rule of the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError {
    /// The rule.
    pub reason: WireReason,
    /// Path of the field, such as `commands[2].place.price_ticks`; the message's name where no field is known.
    pub field: String,
    /// Byte at which the field that breaks the rule starts, from the start of the input.
    pub offset: usize,
    /// What was found, for people.
    pub detail: String,
}

impl WireError {
    /// Return the same error as seen from the message that has the field `outer`.
    #[must_use]
    pub(crate) fn within(mut self, outer: &str) -> Self {
        self.field = if self.field.is_empty() { outer.to_owned() } else { format!("{outer}.{}", self.field) };
        self
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {} at byte {}: {}", self.reason.name(), self.field, self.offset, self.detail)
    }
}

impl std::error::Error for WireError {}

/// A frame, genesis, state or checkpoint is of a version that this program does not know. It stops rather than guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownFormat {
    /// What the bytes hold, such as `order frame`.
    pub what: &'static str,
    /// The version that they start with.
    pub found: u32,
}

impl fmt::Display for UnknownFormat {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, found } = self;
        write!(out, "UNKNOWN_FORMAT: {what} has format {found}, this program reads format 1; run a newer one")
    }
}

impl std::error::Error for UnknownFormat {}
