"""Records as JSON that any language reads, and back.

As in the JSON form of proto3: fields by their names, those at their default left out, 64-bit integers as decimal
strings. Unlike it: bytes are hex, enums are numbers. A message that is a oneof is an object with its one member.
"""

from typing import Any

from exchange.domain.record import Record
from exchange.wire.codec import Codec, Field, MessageCodec, OneofCodec
from exchange.wire.messages import CODECS

ENCODING = (
    "bytes are hex; integers of 64 bits are decimal strings, others numbers; fields at their default are left out"
)
"""What a document says of its values."""
_WORD = 2**64 - 1


def to_plain(value: Record) -> dict[str, Any]:
    """Return a record as JSON."""
    return _to_plain(CODECS[type(value).__name__], value)


def from_plain(message: str, plain: dict[str, Any]) -> Record:
    """Return the record of a message that `to_plain` wrote."""
    return _from_plain(CODECS[message], plain)


def _to_plain(codec: Codec, value: Record) -> dict[str, Any]:
    if isinstance(codec, OneofCodec):
        field, member = _member_of(codec, type(value))
        return {field.name: _to_plain(member, value)}
    present = ((field, getattr(value, field.name)) for field in codec.fields)
    return {field.name: _item_to_plain(field, item) for field, item in present if item != field.default}


def _item_to_plain(field: Field, item: Any) -> Any:
    if isinstance(item, tuple):
        return [_item_to_plain(field, element) for element in item]
    if field.sub is not None:
        return _to_plain(field.sub, item)
    if isinstance(item, bytes):
        return item.hex()
    return str(item) if _is_word(field) else item


def _from_plain(codec: Codec, plain: dict[str, Any]) -> Record:
    if isinstance(codec, OneofCodec):
        ((name, inner),) = plain.items()
        member = next(field.sub for field in codec.fields if field.name == name)
        assert member is not None
        return _from_plain(member, inner)
    fields = {field.name: field for field in codec.fields}
    return codec.record(**{name: _item_from_plain(fields[name], item) for name, item in plain.items()})


def _item_from_plain(field: Field, item: Any) -> Any:
    if isinstance(item, list):
        return tuple(_item_from_plain(field, element) for element in item)
    if field.sub is not None:
        return _from_plain(field.sub, item)
    if field.is_string or field.is_bool:
        return item
    if field.is_number or field.is_packed:
        return int(item)
    return bytes.fromhex(item)


def _is_word(field: Field) -> bool:
    return (field.is_number or field.is_packed) and field.number_max == _WORD


def _member_of(codec: OneofCodec, record: type[Record]) -> tuple[Field, MessageCodec]:
    return next(
        (field, field.sub)
        for field in codec.fields
        if isinstance(field.sub, MessageCodec) and field.sub.record is record
    )
