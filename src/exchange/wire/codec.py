"""Strict encoding and decoding of any contract message, driven by the contracts' own descriptors.

Canonical encoding (ARCHITECTURE.md, "Strict bytes"): known fields only, in ascending order, each singular field and
oneof once, minimal varints that fit their type, defaults omitted (an empty submessage too, unless it is an element of
a list or the member of a oneof), repeated scalars packed, no groups, nothing after the end. Decoding accepts exactly
the byte strings that encoding produces. The protobuf library says which fields exist; it never judges bytes.

Unknown numbers of enums pass: an engine refuses them with a reason of its own, so that a trader learns which.

Bytes are read once, from first to last, and the first broken rule is the error; only that a field is missing shows
where its message ends. Nothing is kept of a list beyond its bound. No message contains itself, so nesting is bounded.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from exchange.domain.record import Record
from exchange.wire.errors import WireError, WireReason

VARINT: Final = 0
LENGTH_DELIMITED: Final = 2
_U64_MAX: Final = 2**64 - 1
_VARINT_BYTES_MAX: Final = 10
_NUMBER_MAX: Final[Mapping[int, int]] = {
    FieldDescriptor.TYPE_UINT32: 2**32 - 1,
    FieldDescriptor.TYPE_UINT64: _U64_MAX,
    FieldDescriptor.TYPE_BOOL: 1,
    FieldDescriptor.TYPE_ENUM: 2**31 - 1,
}
_CONTENT_TYPES: Final = (FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE)


class Bounds(NamedTuple):
    """What LIMITS add to a field's type: lowest and highest number, length in bytes, or count of elements.

    `or_absent` allows the field to be left out although its default is outside the bounds.
    """

    low: int
    high: int
    or_absent: bool = False

    @property
    def allow_absence(self) -> bool:
        """Whether the field may be left out, which means zero, nothing, or none."""
        return self.or_absent or self.low == 0


class Field:
    """One field of a message: where it stands on the wire and in the record, and what may be in it.

    Attributes:
        is_number: one varint: a number, an enum or a bool.
        is_packed: a list of varints in one field.
        is_many: a list with one field for each element.
        sub: codec of the message in it, or in each element.
        low, high: of a number, or of a length in bytes, when the field is there; of a list, its elements.
        is_required: leaving it out breaks a rule.
    """

    __slots__ = (
        "default",
        "high",
        "index",
        "is_bool",
        "is_many",
        "is_number",
        "is_packed",
        "is_required",
        "is_string",
        "low",
        "name",
        "number",
        "number_max",
        "prefix",
        "sub",
        "tag",
    )

    def __init__(
        self, index: int, field: FieldDescriptor, default: Any, sub: "Codec | None", bounds: Bounds | None
    ) -> None:
        self.index = index
        self.name = field.name
        self.number = field.number
        self.default = default
        self.sub = sub
        self.is_bool = field.type == FieldDescriptor.TYPE_BOOL
        self.is_string = field.type == FieldDescriptor.TYPE_STRING
        is_varint = field.type in _NUMBER_MAX
        if (not is_varint and field.type not in _CONTENT_TYPES) or (self.is_bool and field.is_repeated):
            raise TypeError(f"{field.full_name}: the canonical encoding has no rule for this type")
        self.number_max = _NUMBER_MAX.get(field.type, _U64_MAX)
        self.is_number = is_varint and not field.is_repeated
        self.is_packed = is_varint and field.is_repeated
        self.is_many = field.is_repeated and not is_varint
        # What is there is not the default, so a number, or a length, is at least 1.
        self.low = max(1, bounds.low) if bounds else 1
        self.high = min(bounds.high, self.number_max) if bounds else self.number_max
        if not _is_zero(default, sub):
            raise TypeError(f"{field.full_name}: absence does not mean {default!r}")
        if field.is_repeated and self.low > 1:
            raise TypeError(f"{field.full_name}: a list needs one element or none, not {self.low}")
        self.is_required = bounds is not None and not bounds.allow_absence
        if sub is not None and not field.is_repeated:
            self.is_required = sub.needs_something
        self.tag = self.number << 3 | (VARINT if self.is_number else LENGTH_DELIMITED)
        prefix = bytearray()
        _put_varint(prefix, self.tag)
        self.prefix = bytes(prefix)

    def missing(self, at: int) -> WireError:
        """Return the error of the field's absence from the message that starts at `at`."""
        if self.sub is not None and not self.is_many:
            return self.sub.empty_error(at).within(self.name)
        return self.out_of_bounds(0, at)

    def out_of_bounds(self, found: int, at: int) -> WireError:
        """Return the error of a number, a length or a count that the field may not have."""
        low = 0 if self.low == 1 and not self.is_required else self.low
        if self.is_number:
            return WireError(WireReason.OUT_OF_RANGE, self.name, at, f"{found} is not in {low} .. {self.high}")
        unit = "elements" if self.is_many or self.is_packed else "bytes"
        return WireError(WireReason.LENGTH, self.name, at, f"{found} {unit}, allowed are {low} .. {self.high}")

    def out_of_type(self, found: int, at: int) -> WireError:
        """Return the error of a number in a packed list that its type does not hold."""
        return WireError(WireReason.OUT_OF_RANGE, self.name, at, f"{found} is not in 0 .. {self.number_max}")

    def default_encoded(self, at: int) -> WireError:
        """Return the error of a field that holds what its absence means."""
        return WireError(WireReason.DEFAULT_ENCODED, self.name, at, "the default is encoded by leaving the field out")


def _is_zero(default: Any, sub: "Codec | None") -> bool:
    """Return whether a default of a record is what a field's absence means. Members of a oneof have none."""
    return not default or (isinstance(sub, MessageCodec) and default == sub.record()) or isinstance(sub, OneofCodec)


class MessageCodec:
    """Encodes and decodes a message whose fields are those of a record.

    Attributes:
        needs_something: an empty message breaks a rule.
    """

    def __init__(self, name: str, record: type[Record], fields: Sequence[Field]) -> None:
        self.name = name
        self.record = record
        self.fields = tuple(fields)
        self._by_tag = {field.tag: field for field in fields}
        self._required = tuple(field for field in fields if field.is_required)
        self._many = tuple(field.index for field in fields if field.is_many)
        self._defaults = [field.default for field in fields]
        self.needs_something: bool = bool(self._required)

    def empty_error(self, at: int) -> WireError:
        """Return the error of a message that needs something and has nothing."""
        return self._required[0].missing(at)

    def encode(self, value: Record) -> bytearray:
        """Return the canonical encoding.

        Raises:
            WireError: a number, a length or a count is out of bounds, or a string is not UTF-8; its offset is 0.
            TypeError: the record holds a value that is not of its field's type.
        """
        out = bytearray()
        for field, item in zip(self.fields, msgspec.structs.astuple(value), strict=True):
            if not item:
                if item is not field.default and item != field.default:
                    raise _type_error(field, item)
                if field.is_required:
                    raise field.missing(0)
            elif field.is_number:
                if item < field.low or item > field.high:
                    raise field.out_of_bounds(item, 0)
                if field.is_bool and item is not True:
                    raise _type_error(field, item)
                out += field.prefix
                # Most numbers have one byte: no call for them (a sixth of the time of encoding).
                if item <= 0x7F:
                    out.append(item)
                else:
                    _put_varint(out, item)
            elif field.is_many or field.is_packed:
                if type(item) is not tuple:
                    raise _type_error(field, item)
                if len(item) > field.high:
                    raise field.out_of_bounds(len(item), 0)
                if field.is_packed:
                    out += field.prefix
                    _put_bytes(out, _packed(field, item))
                    continue
                for place, element in enumerate(item):
                    out += field.prefix
                    _put_bytes(out, _content(field, element, place))
            else:
                content = _content(field, item)
                if content:
                    if field.sub is None and not field.low <= len(content) <= field.high:
                        raise field.out_of_bounds(len(content), 0)
                    out += field.prefix
                    _put_bytes(out, content)
                elif field.is_required:
                    raise field.missing(0)
        return out

    def decode(self, data: bytes, start: int, end: int, at: int) -> Record:
        """Return the record of which data[start:end] is the canonical encoding.

        Args:
            data: the whole input.
            start: where the message begins in it.
            end: where it ends; 0 <= start <= end <= len(data).
            at: offset to name when something is missing: of the field that holds the message, 0 for the outermost.

        Raises:
            WireError: it is the canonical encoding of none.
        """
        values = self._defaults.copy()
        by_tag = self._by_tag
        holder, pos, last = at, start, 0
        while pos < end:
            at = pos
            tag = data[pos]
            pos += 1
            if tag > 0x7F:
                tag, pos = _varint(data, at, end, "", at)
            field = by_tag.get(tag)
            if field is None:
                raise _tag_error(self, tag, at)
            if field.number <= last and not (field.is_many and field.number == last):
                raise _order_error(field, last, at)
            last = field.number
            # The value of a number, the length of anything else.
            number = data[pos] if pos < end else 0x80
            if number < 0x80:
                pos += 1
            else:
                number, pos = _varint(data, pos, end, field.name, at)
            if field.is_number:
                if number < field.low or number > field.high:
                    raise field.out_of_bounds(number, at) if number else field.default_encoded(at)
                values[field.index] = True if field.is_bool else number
                continue
            stop = pos + number
            if stop > end:
                raise _truncated(field, number, end - pos, at)
            if field.is_many:
                elements = values[field.index] or []
                values[field.index] = elements
                if len(elements) == field.high:
                    raise field.out_of_bounds(len(elements) + 1, at)
                if field.sub is None:
                    elements.append(_text(data[pos:stop], field, at) if field.is_string else data[pos:stop])
                else:
                    try:
                        elements.append(field.sub.decode(data, pos, stop, at))
                    except WireError as error:
                        raise error.within(f"{field.name}[{len(elements)}]") from None
            elif field.sub is not None:
                if number == 0 and isinstance(field.sub, MessageCodec):
                    raise field.default_encoded(at)
                try:
                    values[field.index] = field.sub.decode(data, pos, stop, at)
                except WireError as error:
                    raise error.within(field.name) from None
            elif number == 0:
                raise field.default_encoded(at)
            elif field.is_packed:
                values[field.index] = _unpacked(data, pos, stop, field, at)
            else:
                if number < field.low or number > field.high:
                    raise field.out_of_bounds(number, at)
                values[field.index] = _text(data[pos:stop], field, at) if field.is_string else data[pos:stop]
            pos = stop
        for field in self._required:
            if values[field.index] is field.default:
                raise field.missing(holder)
        for index in self._many:
            values[index] = tuple(values[index])
        return self.record(*values)


class OneofCodec:
    """Encodes and decodes a message that is nothing but a oneof; the record of its member stands for it."""

    def __init__(self, name: str, fields: Sequence[Field]) -> None:
        self.name = name
        self.fields = tuple(fields)
        self._by_tag = {field.tag: field for field in fields}
        self._members = {field.sub.record: field for field in fields if isinstance(field.sub, MessageCodec)}
        self.needs_something: bool = True
        if len(self._members) != len(fields):
            raise TypeError(f"{name}: the members of a oneof are messages, each of another type")

    def empty_error(self, at: int) -> WireError:
        """Return the error of a oneof without a member."""
        return WireError(WireReason.ONEOF_MISSING, "", at, f"{self.name} has no member")

    def encode(self, value: Record) -> bytearray:
        """Return the canonical encoding of a member, as `MessageCodec.encode` does."""
        field = self._members.get(type(value))
        if field is None:
            raise TypeError(f"{self.name}: {type(value).__name__} is none of its members")
        out = bytearray(field.prefix)
        _put_bytes(out, _content(field, value))
        return out

    def decode(self, data: bytes, start: int, end: int, at: int) -> Record:
        """Return the member of which data[start:end] is the canonical encoding, as `MessageCodec.decode` does."""
        if start == end:
            raise self.empty_error(at)
        field, pos = self._member(data, start, end)
        length, pos = _varint(data, pos, end, field.name, start)
        stop = pos + length
        if stop > end:
            raise _truncated(field, length, end - pos, start)
        assert field.sub is not None
        try:
            member = field.sub.decode(data, pos, stop, start)
        except WireError as error:
            raise error.within(field.name) from None
        if stop < end:
            second, _ = self._member(data, stop, end)
            raise WireError(WireReason.FIELD_REPEATED, second.name, stop, "the oneof has a second member")
        return member

    def _member(self, data: bytes, pos: int, end: int) -> tuple[Field, int]:
        """Return which member starts at `pos`, and where its length stands."""
        tag, after = _varint(data, pos, end, "", pos)
        field = self._by_tag.get(tag)
        if field is None:
            raise _tag_error(self, tag, pos)
        return field, after


Codec = MessageCodec | OneofCodec

# --- errors ---------------------------------------------------------------------------------------------------------


def _tag_error(codec: Codec, tag: int, at: int) -> WireError:
    number, wire_type = tag >> 3, tag & 7
    for field in codec.fields:
        if field.number == number:
            what = f"wire type {wire_type}, the field's is {field.tag & 7}"
            return WireError(WireReason.WRONG_WIRE_TYPE, field.name, at, what)
    what = f"{codec.name} has no field {number} (wire type {wire_type})"
    return WireError(WireReason.UNKNOWN_FIELD, f"{number}", at, what)


def _order_error(field: Field, last: int, at: int) -> WireError:
    if field.number == last:
        return WireError(WireReason.FIELD_REPEATED, field.name, at, "the field comes twice")
    return WireError(WireReason.FIELD_ORDER, field.name, at, f"field {field.number} comes after field {last}")


def _truncated(field: Field, announced: int, there: int, at: int) -> WireError:
    return WireError(WireReason.TRUNCATED, field.name, at, f"{announced} bytes are announced, {there} are there")


def _type_error(field: Field, item: object) -> TypeError:
    return TypeError(f"{field.name}: {type(item).__name__} is not the type of this field")


# --- values ---------------------------------------------------------------------------------------------------------


def _text(raw: bytes, field: Field, at: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise WireError(WireReason.INVALID_UTF8, field.name, at, "the string is not UTF-8") from None


def _content(field: Field, item: Any, place: int | None = None) -> bytes | bytearray:
    """Return the bytes of a value that has a length; errors name its place if it is an element of a list."""
    if field.sub is not None:
        try:
            return field.sub.encode(item)
        except WireError as error:
            raise error.within(field.name if place is None else f"{field.name}[{place}]") from None
    if field.is_string and isinstance(item, str):
        try:
            return item.encode()
        except UnicodeEncodeError:
            raise WireError(WireReason.INVALID_UTF8, field.name, 0, "the string has no UTF-8 encoding") from None
    if field.is_string or not isinstance(item, bytes):
        raise _type_error(field, item)
    return item


def _packed(field: Field, items: Iterable[int]) -> bytearray:
    out = bytearray()
    for item in items:
        if not 0 <= item <= field.number_max:
            raise field.out_of_type(item, 0)
        _put_varint(out, item)
    return out


def _unpacked(data: bytes, pos: int, stop: int, field: Field, at: int) -> tuple[int, ...]:
    items: list[int] = []
    while pos < stop:
        item, pos = _varint(data, pos, stop, field.name, at)
        if item > field.number_max:
            raise field.out_of_type(item, at)
        if len(items) == field.high:
            raise field.out_of_bounds(len(items) + 1, at)
        items.append(item)
    return tuple(items)


def _put_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _put_bytes(out: bytearray, data: bytes | bytearray) -> None:
    if len(data) <= 0x7F:
        out.append(len(data))
    else:
        _put_varint(out, len(data))
    out += data


def _varint(data: bytes, pos: int, end: int, name: str, at: int) -> tuple[int, int]:
    """Return the minimal varint at `pos` and the position after it; errors name the field that starts at `at`."""
    value = shift = byte = 0
    for byte in data[pos : pos + _VARINT_BYTES_MAX]:
        if byte < 0x80:
            break
        value += (byte - 0x80) << shift
        shift += 7
    value += byte << shift
    after = pos + shift // 7 + 1
    if after > end and end - pos < _VARINT_BYTES_MAX:
        raise WireError(WireReason.TRUNCATED, name, at, "the bytes end inside a number")
    if value > _U64_MAX:
        raise WireError(WireReason.VARINT_TOO_LONG, name, at, "a number does not fit 64 bits")
    if byte == 0 and shift:
        raise WireError(WireReason.VARINT_NOT_MINIMAL, name, at, "a number has more bytes than it needs")
    return value, after


def leading_number(number: int, data: bytes) -> int | None:
    """Return the value of field `number`, a uint32, if canonical bytes start with it: what tells versions apart."""
    try:
        tag, pos = _varint(data, 0, len(data), "", 0)
        value, _ = _varint(data, pos, len(data), "", 0)
    except WireError:
        return None
    is_there = tag == number << 3 | VARINT and 0 < value <= _NUMBER_MAX[FieldDescriptor.TYPE_UINT32]
    return value if is_there else None


# --- from the contracts ---------------------------------------------------------------------------------------------


def compile_codecs(
    descriptors: Iterable[Descriptor],
    records: Mapping[str, type[Record]],
    bounds: Mapping[tuple[str, str], Bounds],
) -> dict[str, Codec]:
    """Return the codecs of the messages and of all that they contain, by the name of the message.

    Args:
        descriptors: the messages; each has a record of its name, or is nothing but a oneof of such messages.
        records: classes by name; names and order of fields are those of the message.
        bounds: what LIMITS add, by message and field.

    Raises:
        TypeError: a message and its record disagree, a message has what the canonical encoding has no rule for, or a
            bound names no field.
    """
    codecs: dict[str, Codec] = {}

    def codec_of(message: Descriptor) -> Codec:
        if message.name not in codecs:
            codecs[message.name] = compile_one(message)
        return codecs[message.name]

    def compile_one(message: Descriptor) -> Codec:
        ordered = sorted(message.fields, key=lambda field: field.number)
        is_oneof = bool(message.oneofs)
        if is_oneof and (len(message.oneofs) > 1 or len(message.oneofs[0].fields) != len(ordered)):
            raise TypeError(f"{message.full_name}: a oneof stands alone in its message; there is no optional field")
        record = None if is_oneof else records[message.name]
        if record is not None and tuple(field.name for field in ordered) != record.__struct_fields__:
            raise TypeError(f"{message.full_name} and {record.__qualname__} differ in their fields")
        defaults = record.__struct_defaults__ if record is not None else (None,) * len(ordered)
        fields = [
            Field(
                index,
                field,
                default,
                codec_of(field.message_type) if field.message_type else None,
                bounds.get((message.name, field.name)),
            )
            for index, (field, default) in enumerate(zip(ordered, defaults, strict=True))
        ]
        return OneofCodec(message.name, fields) if record is None else MessageCodec(message.name, record, fields)

    for descriptor in descriptors:
        codec_of(descriptor)
    for name, field_name in bounds:
        if name not in codecs or all(field.name != field_name for field in codecs[name].fields):
            raise TypeError(f"a bound is given for {name}.{field_name}, which does not exist")
    return codecs
