"""The base of every value in the domain: frozen, compared by content, cheap to make."""

from enum import IntEnum
from functools import cache

import msgspec


class Record(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A frozen value whose class, fields and their order have the names of a message in proto/clob/v1.

    Fields are documented there, with unit, bounds and the meaning of zero. Integers, strings, bytes, tuples of these.
    """


def known(kind: type[IntEnum], value: int) -> bool:
    """Return whether a number that came over the wire is one of the kind's."""
    return value in _numbers_of(kind)


@cache
def _numbers_of(kind: type[IntEnum]) -> frozenset[int]:
    return frozenset(kind)
