"""The one error of strict decoding and encoding."""

from enum import StrEnum


class WireReason(StrEnum):
    """Which rule of ARCHITECTURE.md, "Strict bytes", the bytes break. Names are stable."""

    TRUNCATED = "TRUNCATED"
    """The bytes end inside a field."""
    VARINT_NOT_MINIMAL = "VARINT_NOT_MINIMAL"
    """A varint has a last byte of zero that it does not need."""
    VARINT_TOO_LONG = "VARINT_TOO_LONG"
    """A varint does not fit 64 bits."""
    OUT_OF_RANGE = "OUT_OF_RANGE"
    """A number does not fit its type or the bounds that its field has on the wire."""
    UNKNOWN_FIELD = "UNKNOWN_FIELD"
    """The message has no field of this number."""
    WRONG_WIRE_TYPE = "WRONG_WIRE_TYPE"
    """The field is not encoded as its type is; groups and unpacked scalars are among these."""
    FIELD_ORDER = "FIELD_ORDER"
    """A field comes after one with a higher number."""
    FIELD_REPEATED = "FIELD_REPEATED"
    """A singular field or a oneof comes twice."""
    DEFAULT_ENCODED = "DEFAULT_ENCODED"
    """A field is present with the value that its absence means."""
    ONEOF_MISSING = "ONEOF_MISSING"
    """A message that is a oneof has no member."""
    INVALID_UTF8 = "INVALID_UTF8"
    """A string is not UTF-8."""
    LENGTH = "LENGTH"
    """Bytes, a string, a list or the whole message is shorter or longer than LIMITS allow."""


class WireError(ValueError):
    """Bytes, or a value to be encoded, break a rule of the wire.

    Attributes:
        reason: the rule.
        field: path of the field, such as `commands[2].place.price_ticks`; the message's name where no field is known.
        offset: byte at which the field that breaks the rule starts, from the start of the input; 0 when encoding.
    """

    def __init__(self, reason: WireReason, field: str, offset: int, detail: str) -> None:
        super().__init__(reason, field, offset, detail)
        self.reason = reason
        self.field = field
        self.offset = offset
        self.detail = detail

    def within(self, outer: str) -> "WireError":
        """Return the same error as seen from the message that has the field `outer`."""
        return WireError(self.reason, f"{outer}.{self.field}" if self.field else outer, self.offset, self.detail)

    def __str__(self) -> str:
        return f"{self.reason}: {self.field} at byte {self.offset}: {self.detail}"


class UnknownFormatError(ValueError):
    """A frame, state or checkpoint is of a version that this program does not know. It stops rather than guess."""

    def __init__(self, what: str, found: int) -> None:
        super().__init__(f"UNKNOWN_FORMAT: {what} has format {found}, this program reads format 1; run a newer one")
        self.what = what
        self.found = found
