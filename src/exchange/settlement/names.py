"""Batches by name, which is key and nonce: rows that say where they stand in the log, and an index of such rows.

A row is key_id (16 bytes), nonce (8), n (8) and the 1-based place in the frame (4), big-endian, as the indexes of an
archive have it. What is here runs where the core is not built; `exchange.settlement.namings` says which one does.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from clob.v1 import batch_pb2, frame_pb2
from exchange.settlement.frames import MALFORMED, read_frame

ROW: Final = struct.Struct(">16sQQI")
NAME_BYTES: Final = 24
_PLACE: Final = struct.Struct(">QI")

ExecutedBatch = tuple[int, int, int, bytes, int, bytes, bytes]
"""n, batch, control_n, key_id, account, payload, signature: the fields of a Sample in its order."""


class BatchNames(Protocol):
    """The batches of some entries that were executed or refused; repetitions are left out."""

    @property
    def rows(self) -> bytes:
        """Rows of those with a name, in the order of the log. What was refused as malformed has none."""

    def __len__(self) -> int:
        """Return how many there are, those without a name among them."""

    def executed(self, chosen: Sequence[int], /) -> list[ExecutedBatch]:
        """Return those of some batches that were executed; `chosen` are 0-based and ascending."""


class NameIndex(Protocol):
    """Rows that are searched while more come. One thread adds; others may search."""

    def __len__(self) -> int:
        """Return how many rows there are."""

    def add(self, rows: bytes, /) -> None:
        """Take in rows, in any order."""

    def places(self, name: bytes, /) -> Sequence[tuple[int, int]]:
        """Return n and place of the batches of a name, 24 bytes of key_id and nonce, in the order of the log."""

    def sorted_rows(self) -> bytes:
        """Return all rows, sorted."""


class Naming(NamedTuple):
    """How batches are named and found.

    Attributes:
        name_batches: names the batches of entries, of order frames and their execution frames, which re-execution has
            proven or an archive has kept.
        new_index: makes an index without rows.
    """

    name_batches: Callable[[Sequence[bytes], Sequence[bytes]], BatchNames]
    new_index: Callable[[], NameIndex]


class _PlainNames:
    def __init__(self, rows: bytes, verdicts: list[ExecutedBatch | None]) -> None:
        self.rows = rows
        self._verdicts = verdicts

    def __len__(self) -> int:
        return len(self._verdicts)

    def executed(self, chosen: Sequence[int], /) -> list[ExecutedBatch]:
        return [found for one in chosen if (found := self._verdicts[one]) is not None]


def name_batches(order_frames: Sequence[bytes], frames: Sequence[bytes]) -> BatchNames:
    """Return the names of the batches in entries."""
    rows: list[bytes] = []
    verdicts: list[ExecutedBatch | None] = []
    for order_frame, frame in zip(order_frames, frames, strict=True):
        read = read_frame(frame)
        if not read.verdicts:
            continue
        orders = frame_pb2.OrderFrame.FromString(order_frame)
        for place, reason in read.verdicts:
            executed = None
            if reason != MALFORMED:
                signed = orders.batches[place - 1]
                batch = batch_pb2.Batch.FromString(signed.payload)
                rows.append(ROW.pack(signed.key_id, batch.nonce, read.n, place))
                if not reason:
                    payload, signature = signed.payload, signed.signature
                    executed = read.n, place, orders.control_n, signed.key_id, batch.account, payload, signature
            verdicts.append(executed)
    return _PlainNames(b"".join(rows), verdicts)


class PlainIndex:
    """An index in a dictionary."""

    def __init__(self) -> None:
        self._places: dict[bytes, bytes] = {}
        self._len = 0

    def __len__(self) -> int:
        return self._len

    def add(self, rows: bytes, /) -> None:
        """Take in rows, in any order."""
        known = self._places
        for start in range(0, len(rows), ROW.size):
            name = rows[start : start + NAME_BYTES]
            known[name] = known.get(name, b"") + rows[start + NAME_BYTES : start + ROW.size]
        self._len += len(rows) // ROW.size

    def places(self, name: bytes, /) -> Sequence[tuple[int, int]]:
        """Return n and place of the batches of a name, in the order of the log."""
        return sorted(_PLACE.iter_unpack(self._places.get(name, b"")))

    def sorted_rows(self) -> bytes:
        """Return all rows, sorted."""
        places = [
            name + found[start : start + _PLACE.size]
            for name, found in self._places.items()
            for start in range(0, len(found), _PLACE.size)
        ]
        return b"".join(sorted(places))


PLAIN: Final = Naming(name_batches, PlainIndex)
