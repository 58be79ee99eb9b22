"""Damaged bytes: flipped and cut anywhere, or wrong in one field with every length around it right.

The second kind gets deep: a field that is not allowed, twice there, out of order, or written in a longer way than it
needs is met only by a decoder that has read all that stands around it.
"""

from typing import Final

from tests.differential.draw import EDGES, Draw
from tests.support.raw_wire import varint

VARINT: Final = 0
LENGTH: Final = 2

Part = tuple[int, int, int | bytes]
"""Number, wire type and value of a field."""


def damaged(draw: Draw, data: bytes) -> bytes:
    """Return bytes with one to three mistakes in them."""
    for _ in range(1 + draw.falling(2)):
        data = _damaged_field(draw, data) if draw.below(4) else _damaged_bytes(draw, data)
    return data


def parts_of(data: bytes) -> list[Part] | None:
    """Return the fields of a message; None: it is none, or has fields of other wire types."""
    parts: list[Part] = []
    pos = 0
    while pos < len(data):
        read = _read_varint(data, pos)
        if read is None:
            return None
        tag, pos = read
        read = _read_varint(data, pos)
        if read is None or tag & 7 not in (VARINT, LENGTH) or tag < 8:
            return None
        value, pos = read
        if tag & 7 == VARINT:
            parts.append((tag >> 3, VARINT, value))
            continue
        if pos + value > len(data):
            return None
        parts.append((tag >> 3, LENGTH, data[pos : pos + value]))
        pos += value
    return parts


def written(part: Part) -> bytes:
    """Return a field as bytes."""
    number, wire_type, value = part
    head = varint(number << 3 | wire_type)
    if isinstance(value, int):
        return head + varint(value)
    return head + varint(len(value)) + value


def _damaged_field(draw: Draw, data: bytes) -> bytes:
    parts = parts_of(data)
    if not parts:
        return _damaged_bytes(draw, data)
    place = draw.below(len(parts))
    number, _, value = parts[place]
    chunks = [written(part) for part in parts]
    if isinstance(value, bytes) and value and draw.below(8):
        inner = _damaged_field(draw, value)
        return b"".join([*chunks[:place], written((number, LENGTH, inner)), *chunks[place + 1 :]])
    wrong = draw.below(11)
    if wrong == 0:
        chunks[place] = b""
    elif wrong == 1:
        chunks[place] *= 2
    elif wrong == 2:
        other = draw.below(len(chunks))
        chunks[place], chunks[other] = chunks[other], chunks[place]
    elif wrong == 3:
        chunks[place] = written((number, VARINT, 0) if isinstance(value, int) else (number, LENGTH, b""))
    elif wrong == 4:
        spare = 1 + draw.below(3)
        body = varint(value, spare) if isinstance(value, int) else varint(len(value), spare) + value
        chunks[place] = chunks[place][: len(chunks[place]) - len(written((number, 0, value))) + 1] + body
    elif wrong == 5:
        chunks[place] = written((number, VARINT, draw.pick(EDGES) if draw.below(2) else draw.below(2**64)))
    elif wrong == 6:
        chunks[place] = written((draw.pick([0, 1, number + 1, 15, 16, 30, 2**29 - 1]), VARINT, 1))
    elif wrong == 7:
        head = varint(number << 3 | draw.below(8), draw.falling(2))
        chunks[place] = head + chunks[place][len(varint(number << 3)) :]
    elif wrong == 8:
        chunks[place] = varint(number << 3) + b"\xff" * (9 + draw.below(3)) + bytes([draw.below(4)])
    elif wrong == 9:
        chunks[place] += written((number + draw.below(3), draw.pick([VARINT, LENGTH]), 1 if draw.below(2) else b"\x01"))
    else:
        chunks[place] = written((number, LENGTH, value if isinstance(value, bytes) else varint(value)))
    return b"".join(chunks)


def _damaged_bytes(draw: Draw, data: bytes) -> bytes:
    place, length = draw.below(len(data) + 1), draw.below(5)
    wrong = draw.below(6)
    if wrong == 0 and place < len(data):
        return data[:place] + bytes([data[place] ^ 1 << draw.below(8)]) + data[place + 1 :]
    if wrong == 1:
        return data[:place] + draw.data(length) + data[place:]
    if wrong == 2:
        return data[:place] + data[place + length :]
    if wrong == 3:
        return data[:place] + data[place : place + length] + data[place:]
    if wrong == 4:
        return data[:place]
    return data + draw.data(length)


def _read_varint(data: bytes, pos: int) -> tuple[int, int] | None:
    value = 0
    for shift in range(0, 70, 7):
        if pos >= len(data):
            return None
        value |= (data[pos] & 0x7F) << shift
        pos += 1
        if data[pos - 1] < 0x80:
            return value, pos
    return None
