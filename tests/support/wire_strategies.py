"""Hypothesis strategies for records and bytes, made from the fields and bounds of the codecs."""

from functools import cache
from typing import Any

from hypothesis import strategies as st

from exchange.domain.record import Record
from exchange.wire.codec import Codec, Field, MessageCodec
from exchange.wire.messages import CODECS

LIST_MAX = 3
CONTENT_MAX = 40
"""Longest content where the contract asks for none in particular: long bytes show nothing that short ones do not."""


def records(message: str) -> st.SearchStrategy[Record]:
    """Return valid records of a message; of a oneof, records of its members."""
    return _records(CODECS[message])


def any_message() -> st.SearchStrategy[str]:
    """Return names of messages that have a record."""
    return st.sampled_from(sorted(name for name, codec in CODECS.items() if isinstance(codec, MessageCodec)))


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """Return bytes that were damaged in one to three places."""
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 4))
        kind = draw(st.sampled_from(["replace", "insert", "delete", "double", "cut", "bump"]))
        if kind == "replace":
            data = data[:place] + draw(st.binary(min_size=length, max_size=length)) + data[place + length :]
        elif kind == "insert":
            data = data[:place] + draw(st.binary(max_size=4)) + data[place:]
        elif kind == "delete":
            data = data[:place] + data[place + length :]
        elif kind == "double":
            data = data[:place] + data[place : place + length] + data[place:]
        elif kind == "cut":
            data = data[:place]
        elif place < len(data):
            data = data[:place] + bytes([(data[place] + 1) % 256]) + data[place + 1 :]
    return data


@cache
def _records(codec: Codec) -> st.SearchStrategy[Record]:
    if not isinstance(codec, MessageCodec):
        return st.one_of([_records(field.sub) for field in codec.fields if field.sub is not None])
    return st.builds(codec.record, **{field.name: _values(field) for field in codec.fields})


def _values(field: Field) -> st.SearchStrategy[Any]:
    if field.is_packed:
        return st.lists(st.integers(0, field.number_max), max_size=LIST_MAX).map(tuple)
    if field.is_many:
        return st.lists(_elements(field), min_size=int(field.is_required), max_size=LIST_MAX).map(tuple)
    present = _elements(field)
    return present if field.is_required else st.just(field.default) | present


def _elements(field: Field) -> st.SearchStrategy[Any]:
    if field.sub is not None:
        return _records(field.sub)
    if field.is_bool:
        return st.just(True)
    if field.is_number:
        return st.integers(field.low, field.high) | st.sampled_from([field.low, field.high])
    shortest = 0 if field.is_many else field.low
    longest = max(shortest, min(field.high, CONTENT_MAX))
    if field.is_string:
        return st.text(min_size=shortest, max_size=longest).filter(lambda text: len(text.encode()) <= field.high)
    return st.binary(min_size=shortest, max_size=longest)
