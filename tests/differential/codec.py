"""The two codecs side by side: what one refuses, the other refuses for the same reason, field and byte.

Engines show little of it: a frame that is malformed is malformed, whatever is wrong with it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from exchange.domain.record import Record
from exchange.wire.codec import Codec, Field, MessageCodec
from exchange.wire.errors import WireError
from exchange.wire.messages import CODECS, decode, encode
from tests.differential.damage import damaged
from tests.differential.draw import Draw
from tests.differential.pair import Difference

TEXTS: Final = ("", "x", "BTC-USD", "π", "\U0010ffff", "a" * 40)
Recode = Callable[[str, bytes], bytes]


def compare(draw: Draw, messages: Sequence[str], recode: Recode, errors: type[Exception], count: int) -> Counter[str]:
    """Compare over so many byte strings; return how often each reason was given, "sound" for none.

    Args:
        draw: choices.
        messages: names that both codecs know.
        recode: decodes bytes as a message and returns its encoding, or raises.
        errors: what it raises, with reason, field, offset and detail as its arguments.
        count: of byte strings.

    Raises:
        Difference: the codecs do not say the same.
    """
    counts: Counter[str] = Counter()
    known = [name for name in messages if isinstance(CODECS.get(name), MessageCodec)]
    for _ in range(count):
        name = draw.pick(known)
        codec = CODECS[name]
        assert isinstance(codec, MessageCodec)
        record = _record(draw, codec, 3)
        try:
            data = encode(record)
        except WireError:
            continue
        if draw.below(4):
            data = damaged(draw, data)
        expected = _verdict(codec.record, data)
        try:
            found: object = recode(name, data)
        except errors as error:
            found = tuple(error.args[:3])
        except BaseException as error:  # noqa: BLE001 - a panic of the core is no Exception
            found = f"{type(error).__name__}: {error}"
        if found != expected:
            raise Difference(f"codec, {name} {data.hex()}", expected, found)
        counts["sound" if isinstance(expected, bytes) else str(expected[0])] += 1
    return counts


def _verdict(record: type[Record], data: bytes) -> Any:
    try:
        return encode(decode(record, data))
    except WireError as error:
        return str(error.reason), error.field, error.offset


def _record(draw: Draw, codec: Codec, most: int) -> Record:
    """Return a record of a message, or of a member where it is a oneof."""
    if not isinstance(codec, MessageCodec):
        members = [field.sub for field in codec.fields if isinstance(field.sub, MessageCodec)]
        return _record(draw, draw.pick(members), most)
    values = {field.name: _value(draw, field, most) for field in codec.fields if field.is_required or draw.below(3)}
    return msgspec.structs.replace(codec.record(), **values)


def _value(draw: Draw, field: Field, most: int) -> Any:
    if field.is_packed:
        return tuple(draw.edge(field.number_max) for _ in range(draw.below(most + 1)))
    if field.is_many:
        least = int(field.is_required)
        return tuple(_one(draw, field, most - 1) for _ in range(least + draw.below(max(1, most))))
    return _one(draw, field, most)


def _one(draw: Draw, field: Field, most: int) -> Any:
    if field.sub is not None:
        return _record(draw, field.sub, most)
    if field.is_bool:
        return True
    if field.is_number:
        value = draw.below(300) if draw.below(2) else draw.edge(field.high)
        return max(field.low, min(value, field.high))
    if field.is_string:
        return draw.pick(TEXTS)[: field.high]
    return draw.data(max(field.low, min(field.high, 1 + draw.below(40))))
