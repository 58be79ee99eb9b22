"""Strict encoding and decoding of any contract message, driven by the contracts' own descriptors.

Canonical encoding (DESIGN section 3, "Strict bytes"): known fields only, in ascending order, each singular field and
oneof once, minimal varints that fit their type, defaults omitted (an empty submessage too, unless it is an element of
a list or the member of a oneof), repeated scalars packed, no groups, nothing after the end. Decoding accepts exactly
the byte strings that encoding produces. The protobuf library says which fields exist; it never judges bytes.

Unknown numbers of enums pass: an engine refuses them with a reason of its own, so that a trader learns which.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from exchange.domain.record import Record
from exchange.wire.errors import WireError, WireReason

R = TypeVar("R", bound=Record)

VARINT: Final = 0
LENGTH_DELIMITED: Final = 2
_U64_MAX: Final = 2**64 - 1
_SCALAR_MAX: Final[Mapping[int, int]] = {
    FieldDescriptor.TYPE_UINT32: 2**32 - 1,
    FieldDescriptor.TYPE_UINT64: _U64_MAX,
    FieldDescriptor.TYPE_BOOL: 1,
    FieldDescriptor.TYPE_ENUM: 2**31 - 1,
}


class Bounds(NamedTuple):
    """What LIMITS add to a field's type: lowest and highest number, length in bytes, or count of elements.

    `or_absent` allows the field to be left out although the default is outside the bounds.
    """

    low: int
    high: int
    or_absent: bool = False

    def allows(self, value: int) -> bool:
        return self.low <= value <= self.high or (self.or_absent and value == 0)


class Field:
    """One field of a message: where it stands on the wire and in the record."""

    __slots__ = (
        "bounds",
        "default",
        "index",
        "is_bool",
        "is_string",
        "name",
        "number",
        "repeated",
        "scalar_max",
        "sub",
        "tag",
    )

    def __init__(self, index: int, field: FieldDescriptor, sub: "Codec | None", bounds: Bounds | None) -> None:
        self.index = index
        self.name = field.name
        self.number = field.number
        self.repeated = field.is_repeated
        self.sub = sub
        self.bounds = bounds
        self.is_bool = field.type == FieldDescriptor.TYPE_BOOL
        self.is_string = field.type == FieldDescriptor.TYPE_STRING
        # None: bytes, string or message. Else the field is a varint, packed when it is repeated.
        self.scalar_max = _SCALAR_MAX.get(field.type)
        wire_type = VARINT if self.scalar_max is not None and not self.repeated else LENGTH_DELIMITED
        self.tag = self.number << 3 | wire_type
        if self.scalar_max is None and sub is None and field.type not in _BYTE_TYPES:
            raise TypeError(f"{field.full_name}: the canonical encoding has no rule for this type")


_BYTE_TYPES: Final = (FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_STRING)


class Codec:
    """Encodes and decodes one message type.

    `members` is set where the message is nothing but a oneof: records of the members' classes stand for it.
    """

    def __init__(self, name: str, record: type[Record] | None, fields: list[Field]) -> None:
        self.name = name
        self.record = record
        self.fields = fields
        self.by_tag = {field.tag: field for field in fields}
        self.numbers = {field.number for field in fields}
        self.defaults = [getattr(record, "__struct_defaults__")[field.index] for field in fields] if record else []
        self.members: dict[type[Record], Field] | None = None
        if record is None:
            self.members = {field.sub.record: field for field in fields if field.sub and field.sub.record}

    # --- encoding ---------------------------------------------------------------------------------------------------

    def encode(self, value: Record) -> bytes:
        out = bytearray()
        self.encode_into(out, value)
        return bytes(out)

    def encode_into(self, out: bytearray, value: Record) -> None:
        if self.members is not None:
            member = self.members[type(value)]
            assert member.sub is not None
            _put_varint(out, member.tag)
            _put_bytes(out, member.sub.encode(value))
            return
        for field in self.fields:
            item = getattr(value, field.name)
            if field.bounds is not None:
                self._check_bounds(field, item)
            if field.repeated:
                if item:
                    _put_repeated(out, field, item)
            elif field.scalar_max is not None:
                if item:
                    _check_scalar(field, item)
                    _put_varint(out, field.tag)
                    _put_varint(out, item)
            elif field.sub is not None:
                encoded = field.sub.encode(item)
                if encoded:
                    _put_varint(out, field.tag)
                    _put_bytes(out, encoded)
            elif item:
                _put_varint(out, field.tag)
                _put_bytes(out, item.encode() if field.is_string else item)

    def _check_bounds(self, field: Field, item: Any) -> None:
        assert field.bounds is not None
        number = item if field.scalar_max is not None and not field.repeated else _length(field, item)
        if not field.bounds.allows(number):
            raise _bounds_error(field, number, 0)

    # --- decoding ---------------------------------------------------------------------------------------------------

    def decode(self, data: bytes) -> Record:
        return self._decode(data, 0, len(data))

    def _decode(self, data: bytes, start: int, end: int) -> Record:
        values = list(self.defaults)
        lists: dict[int, list[Any]] = {}
        last = 0
        pos = start
        member: Record | None = None
        by_tag = self.by_tag
        while pos < end:
            at = pos
            tag = data[pos]
            pos += 1
            if tag > 0x7F:
                tag, pos = _varint(data, at, end, self.name, at)
            field = by_tag.get(tag)
            if field is None:
                raise self._tag_error(tag, at)
            if field.number <= last and not (field.number == last and field.repeated and field.scalar_max is None):
                twice = field.number == last
                raise WireError(
                    WireReason.FIELD_REPEATED if twice else WireReason.FIELD_ORDER,
                    field.name,
                    at,
                    "the field comes twice" if twice else f"field {field.number} comes after field {last}",
                )
            if self.members is not None and last:
                raise WireError(WireReason.FIELD_REPEATED, field.name, at, "the oneof has a second member")
            last = field.number
            if tag & 7 == VARINT:
                value: Any = data[pos] if pos < end else 0x80
                if value < 0x80:
                    pos += 1
                else:
                    value, pos = _varint(data, pos, end, field.name, at)
                assert field.scalar_max is not None
                if value > field.scalar_max:
                    raise _range_error(field, value, at)
                if value == 0:
                    raise _default_error(field, at)
                values[field.index] = bool(value) if field.is_bool else value
                continue
            length, pos = _varint(data, pos, end, field.name, at)
            stop = pos + length
            if stop > end:
                raise WireError(
                    WireReason.TRUNCATED, field.name, at, f"{length} bytes are announced, {end - pos} are there"
                )
            if field.sub is not None:
                elements = lists.setdefault(field.index, []) if field.repeated else None
                if length == 0 and elements is None and self.members is None and field.sub.members is None:
                    raise _default_error(field, at)
                try:
                    value = field.sub._decode(data, pos, stop)
                except WireError as error:
                    outer = field.name if elements is None else f"{field.name}[{len(elements)}]"
                    raise error.within(outer) from None
                if self.members is not None:
                    member = value
                elif elements is None:
                    values[field.index] = value
                else:
                    elements.append(value)
            elif field.scalar_max is not None:
                if length == 0:
                    raise _default_error(field, at)
                values[field.index] = _packed(data, pos, stop, field, at)
            elif field.repeated:
                lists.setdefault(field.index, []).append(self._bytes(data[pos:stop], field, at))
            else:
                if length == 0:
                    raise _default_error(field, at)
                values[field.index] = self._bytes(data[pos:stop], field, at)
            pos = stop
        if self.members is not None:
            if member is None:
                raise WireError(WireReason.ONEOF_MISSING, "", start, f"{self.name} has no member")
            return member
        for index, items in lists.items():
            values[index] = tuple(items)
        for field in self.fields:
            if field.bounds is not None:
                item = values[field.index]
                number = item if field.scalar_max is not None and not field.repeated else _length(field, item)
                if not field.bounds.allows(number):
                    raise _bounds_error(field, number, start)
            elif (
                field.sub is not None
                and field.sub.members is not None
                and not field.repeated
                and not _seen(values, field)
            ):
                raise WireError(WireReason.ONEOF_MISSING, field.name, start, f"{field.sub.name} has no member")
        assert self.record is not None
        return self.record(*values)

    def _bytes(self, raw: bytes, field: Field, at: int) -> bytes | str:
        if not field.is_string:
            return raw
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise WireError(WireReason.INVALID_UTF8, field.name, at, "the string is not UTF-8") from None

    def _tag_error(self, tag: int, at: int) -> WireError:
        number, wire_type = tag >> 3, tag & 7
        if number in self.numbers:
            name = next(field.name for field in self.fields if field.number == number)
            return WireError(WireReason.WRONG_WIRE_TYPE, name, at, f"wire type {wire_type} is not the field's")
        return WireError(
            WireReason.UNKNOWN_FIELD, f"{number}", at, f"{self.name} has no field {number} (wire type {wire_type})"
        )


class Missing(Record, frozen=True):
    """Stands for a submessage that is a oneof until it is decoded."""


MISSING: Final = Missing()


def _seen(values: list[Any], field: Field) -> bool:
    return values[field.index] is not MISSING


def _length(field: Field, item: Any) -> int:
    return len(item.encode()) if field.is_string and not field.repeated else len(item)


def _range_error(field: Field, value: int, at: int) -> WireError:
    return WireError(WireReason.OUT_OF_RANGE, field.name, at, f"{value} is above {field.scalar_max}")


def _default_error(field: Field, at: int) -> WireError:
    return WireError(WireReason.DEFAULT_ENCODED, field.name, at, "the default is encoded by leaving the field out")


def _bounds_error(field: Field, number: int, at: int) -> WireError:
    assert field.bounds is not None
    low, high, _ = field.bounds
    if field.scalar_max is not None and not field.repeated:
        return WireError(WireReason.OUT_OF_RANGE, field.name, at, f"{number} is not in {low} .. {high}")
    unit = "elements" if field.repeated else "bytes"
    return WireError(WireReason.LENGTH, field.name, at, f"{number} {unit}, allowed are {low} .. {high}")


def _check_scalar(field: Field, item: int) -> None:
    assert field.scalar_max is not None
    if not 0 <= item <= field.scalar_max:
        raise WireError(WireReason.OUT_OF_RANGE, field.name, 0, f"{item} is not in 0 .. {field.scalar_max}")


def _put_repeated(out: bytearray, field: Field, items: Iterable[Any]) -> None:
    if field.scalar_max is not None:
        packed = bytearray()
        for item in items:
            _check_scalar(field, item)
            _put_varint(packed, item)
        _put_varint(out, field.tag)
        _put_bytes(out, packed)
        return
    for item in items:
        _put_varint(out, field.tag)
        if field.sub is not None:
            _put_bytes(out, field.sub.encode(item))
        else:
            _put_bytes(out, item.encode() if field.is_string else item)


def _put_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _put_bytes(out: bytearray, data: bytes | bytearray) -> None:
    _put_varint(out, len(data))
    out += data


def _varint(data: bytes, pos: int, end: int, name: str, at: int) -> tuple[int, int]:
    """Return a minimal varint of at most 64 bits and the position after it; errors name the field that starts at `at`."""
    value = shift = 0
    while True:
        if pos >= end:
            raise WireError(WireReason.TRUNCATED, name, at, "the bytes end inside a number")
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise WireError(WireReason.VARINT_TOO_LONG, name, at, "a number has more than 10 bytes")
    if byte == 0 and shift:
        raise WireError(WireReason.VARINT_NOT_MINIMAL, name, at, "a number has more bytes than it needs")
    if value > _U64_MAX:
        raise WireError(WireReason.VARINT_TOO_LONG, name, at, "a number does not fit 64 bits")
    return value, pos


def _packed(data: bytes, pos: int, stop: int, field: Field, at: int) -> tuple[int, ...]:
    items = []
    assert field.scalar_max is not None
    while pos < stop:
        value, pos = _varint(data, pos, stop, field.name, at)
        if value > field.scalar_max:
            raise _range_error(field, value, at)
        items.append(value)
    return tuple(items)


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
        TypeError: a message and its record disagree, or a bound names no field.
    """
    codecs: dict[str, Codec] = {}

    def compile_one(message: Descriptor) -> Codec:
        if message.name in codecs:
            return codecs[message.name]
        is_oneof = len(message.oneofs) == 1 and len(message.oneofs[0].fields) == len(message.fields)
        record = None if is_oneof else records[message.name]
        ordered = sorted(message.fields, key=_number)
        if record is not None and tuple(field.name for field in ordered) != record.__struct_fields__:
            raise TypeError(f"{message.full_name} and {record.__qualname__} differ in their fields")
        fields = [
            Field(
                index,
                field,
                compile_one(field.message_type) if field.message_type else None,
                bounds.get((message.name, field.name)),
            )
            for index, field in enumerate(ordered)
        ]
        codec = Codec(message.name, record, fields)
        for field in fields:
            if record is not None and field.sub is not None and field.sub.members is not None and not field.repeated:
                codec.defaults[field.index] = MISSING
        codecs[message.name] = codec
        return codec

    for descriptor in descriptors:
        compile_one(descriptor)
    for name, field_name in bounds:
        if name not in codecs or all(field.name != field_name for field in codecs[name].fields):
            raise TypeError(f"a bound is given for {name}.{field_name}, which does not exist")
    return codecs


def _number(field: FieldDescriptor) -> int:
    return field.number


Decoder = Callable[[bytes], R]
