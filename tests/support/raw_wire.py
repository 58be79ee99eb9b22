"""Protobuf bytes put together by hand, wrong ones too, with a mark where a rule is broken.

Knows nothing of the codec under test: what it says about bytes is said here for a second time.
"""

from dataclasses import dataclass
from itertools import starmap

VARINT, FIXED64, LENGTH, START_GROUP, END_GROUP, FIXED32 = range(6)
"""Wire types (protobuf encoding guide)."""
U64_MAX = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes; `mark` is the offset at which the rule is broken that they are to show."""

    data: bytes
    mark: int | None = None

    def __add__(self, other: "Raw") -> "Raw":
        assert self.mark is None or other.mark is None, "one broken rule is enough"
        mark = self.mark if other.mark is None else len(self.data) + other.mark
        return Raw(self.data + other.data, mark)


EMPTY = Raw(b"")


def marked(raw: Raw) -> Raw:
    """Return the bytes with the mark at their start."""
    return Raw(raw.data, 0)


def join(*parts: Raw) -> Raw:
    """Return the bytes one after the other."""
    return sum(parts, EMPTY)


def varint(value: int, spare_bytes: int = 0) -> bytes:
    """Return a number in base 128, lowest digit first, with as many needless zero digits as asked for."""
    digits = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)] + [0] * spare_bytes
    return bytes([digit | 0x80 for digit in digits[:-1]] + digits[-1:])


def tag(number: int, wire_type: int, spare_bytes: int = 0) -> bytes:
    """Return what stands in front of a field."""
    return varint(number << 3 | wire_type, spare_bytes)


def scalar(number: int, value: int, spare_bytes: int = 0) -> Raw:
    """Return a field that is one varint."""
    return Raw(tag(number, VARINT) + varint(value, spare_bytes))


def sized(number: int, content: Raw | bytes, *, length: bytes | None = None) -> Raw:
    """Return a field that is bytes, a string, a message or a packed list; `length` stands instead of the true one."""
    inner = content if isinstance(content, Raw) else Raw(content)
    return Raw(tag(number, LENGTH) + (varint(len(inner.data)) if length is None else length)) + inner


Runs = list[tuple[str, int]]
"""Bytes too long to be written out: hex digits and how often they come, one run after the other."""


def runs(*parts: tuple[bytes, int]) -> Runs:
    """Return bytes as runs."""
    return [(data.hex(), times) for data, times in parts]


def from_runs(parts: Runs) -> bytes:
    """Return the bytes that runs stand for."""
    return b"".join(starmap(_repeated, parts))


def _repeated(digits: str, times: int) -> bytes:
    return bytes.fromhex(digits) * times
