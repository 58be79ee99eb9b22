r"""The archive of a shard: the raw entries of both streams in segment files, which outlive what the bus keeps.

A record holds entry n of `orders` and entry n of `executions`, byte for byte, with lengths and a CRC-32. Records are
dense. A segment is a file named after its first position; when it is full it is closed, and an index is written beside
it: where each record stands, and which batches it has by key and nonce. Numbers are big-endian.

    segment:  "clob.v1.segment\0", shard (2), first n (8), then records:
    record:   n (8), t_us (8), lengths of the six parts (4 each), CRC-32 (4) of all that comes before and after it,
              then the parts: order frame, MAC, name of the bus key, x of orders, execution frame, x of executions
    index:    "clob.v1.index\0\0\0", shard (2), first n (8), records (8), names (8), first and last t_us (8 each),
              offsets of the records (8 each), names in order: key_id (16), nonce (8), n (8), batch (4); CRC-32 (4)

What was torn by a crash at the end of the last segment is cut off: the bus still has it, for it is trimmed only behind
what the archive has. Anything else that does not fit is a reason to stop.
"""

import mmap
import os
import struct
import zlib
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from exchange.bus.entries import ExecutionsEntry, OrdersEntry, read_stamp, write_stamp
from exchange.settlement.names import NAME_BYTES, ROW, NameIndex, Naming
from exchange.settlement.namings import DEFAULT_NAMING

_SEGMENT_MAGIC: Final = b"clob.v1.segment\0"
_INDEX_MAGIC: Final = b"clob.v1.index\0\0\0"
_SEGMENT_HEAD: Final = struct.Struct(">16sHQ")
_INDEX_HEAD: Final = struct.Struct(">16sHQQQQQ")
_RECORD: Final = struct.Struct(">QQIIIIII")
_CRC: Final = struct.Struct(">I")
_OFFSET: Final = struct.Struct(">Q")
_OPEN_INDEXES_MAX: Final = 64
_NAMED_AT_ONCE: Final = 64
"""Entries whose batches are named together when a segment is loaded."""

SEGMENT_BYTES: Final = 64 * 1024 * 1024
"""A segment is closed when it has so many bytes, ..."""
SEGMENT_NAMES: Final = 131_072
"""... or so many batches: those of the open segment are in memory."""


class ArchiveError(Exception):
    """The archive is damaged or does not fit the log. Nothing was written; the message says what to do."""


class Archived(NamedTuple):
    """Entry n of both streams."""

    orders: OrdersEntry
    executions: ExecutionsEntry


class Place(NamedTuple):
    """Where a batch stands: position of its entry and 1-based place in the frame."""

    n: int
    batch: int


class _Segment:
    """A closed segment: its files, what they cover, and questions to its index."""

    def __init__(self, path: Path, shard: int) -> None:
        self.path = path
        self.index_path = path.with_suffix(".index")
        with self.index_path.open("rb") as file:
            head = file.read(_INDEX_HEAD.size)
        if len(head) != _INDEX_HEAD.size:
            raise ArchiveError(f"ARCHIVE: {self.index_path} is shorter than its head")
        magic, found, self.first_n, self.records, self.names, self.first_us, self.last_us = _INDEX_HEAD.unpack(head)
        if magic != _INDEX_MAGIC or found != shard:
            raise ArchiveError(f"ARCHIVE: {self.index_path} is no index of shard {shard}")
        self.last_n = self.first_n + self.records - 1
        self._names_at = _INDEX_HEAD.size + self.records * _OFFSET.size

    def open_index(self) -> mmap.mmap:
        """Return the index file, mapped, after comparing its checksum."""
        with self.index_path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        wanted = self._names_at + self.names * ROW.size
        if len(mapped) != wanted + _CRC.size or zlib.crc32(mapped[:wanted]) != _CRC.unpack(mapped[wanted:])[0]:
            raise ArchiveError(f"ARCHIVE: {self.index_path} is damaged; delete it, it is made again at the next start")
        return mapped

    def offset(self, index: mmap.mmap, n: int) -> int:
        """Return where record n stands in the segment."""
        (offset,) = _OFFSET.unpack_from(index, _INDEX_HEAD.size + (n - self.first_n) * _OFFSET.size)
        return int(offset)

    def places(self, index: mmap.mmap, key: bytes) -> list[Place]:
        """Return where batches of this key_id and nonce stand, in the order of the log."""
        low, high = 0, self.names
        while low < high:
            middle = (low + high) // 2
            start = self._names_at + middle * ROW.size
            if index[start : start + NAME_BYTES] < key:
                low = middle + 1
            else:
                high = middle
        found = []
        for row in range(low, self.names):
            start = self._names_at + row * ROW.size
            if index[start : start + NAME_BYTES] != key:
                break
            _, _, n, batch = ROW.unpack_from(index, start)
            found.append(Place(n, batch))
        return found


@dataclass(slots=True)
class _Open:
    """The open segment: what it covers, and its batches by key_id and nonce.

    Readers in other threads take it once and keep to it: it grows only, offsets after their records were flushed, and
    closing puts another one in its place and leaves it as it was.
    """

    first_n: int
    names: NameIndex
    path: Path | None = None
    offsets: list[int] = field(default_factory=list)
    size: int = 0
    first_us: int = 0
    last_us: int = 0

    @property
    def last_n(self) -> int:
        """Last position that it has; first_n - 1: none."""
        return self.first_n + len(self.offsets) - 1


class Archive:
    """The archive of one shard. One thread appends; others may read what was appended.

    Readers take `_open` before `_closed`: whatever was closed in between they have twice, not at all never.

    Attributes:
        shard: number of the shard.
        first_n, last_n: what it has, without a gap; last_n = first_n - 1: nothing.
    """

    def __init__(
        self,
        folder: Path,
        shard: int,
        *,
        is_durable: bool,
        segment_bytes: int = SEGMENT_BYTES,
        segment_names: int = SEGMENT_NAMES,
        naming: Naming = DEFAULT_NAMING,
    ) -> None:
        """Open the archive, or begin one; cut off what a crash has torn at its end.

        Args:
            folder: of the archive of all shards.
            shard: number of the shard.
            is_durable: what was appended survives the host.
            segment_bytes: a segment is closed when it has so many bytes, ...
            segment_names: ... or so many batches.
            naming: how batches are named and found.

        Raises:
            ArchiveError: segments are missing or damaged elsewhere than at the end.
        """
        self.shard = shard
        self.folder = folder / f"shard-{shard}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._is_durable = is_durable
        self._segment_bytes, self._segment_names = segment_bytes, segment_names
        self._closed: tuple[_Segment, ...] = ()
        self._indexes: OrderedDict[Path, mmap.mmap] = OrderedDict()
        self._file: BinaryIO | None = None
        self._naming = naming
        self._open = self._opened(1)
        self._open_existing()

    @property
    def first_n(self) -> int:
        """First position that it has."""
        opened, closed = self._open, self._closed
        return closed[0].first_n if closed else opened.first_n

    @property
    def last_n(self) -> int:
        """Last position that it has; first_n - 1: none."""
        return self._open.last_n

    @property
    def first_us(self) -> int:
        """Time of the first entry that it has; 0: it has none."""
        opened, closed = self._open, self._closed
        return closed[0].first_us if closed else opened.first_us

    @property
    def last_us(self) -> int:
        """Time of the last entry that it has; 0: it has none."""
        opened, closed = self._open, self._closed
        return opened.last_us or (closed[-1].last_us if closed else 0)

    def close(self) -> None:
        """Close the files; what was appended stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    # --- writing ----------------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[Archived], rows: bytes) -> None:
        """Append the next entries; they are there, as durable as was promised, when it returns.

        Args:
            entries: dense, the first after `last_n`, or anywhere where the archive has nothing.
            rows: of the batches in them, as `exchange.settlement.names` has them.

        Raises:
            ArchiveError: the first is not the next one.
            OSError: the disk is full or broken; what was written of it is cut off at the next start.
        """
        if not entries:
            return
        first = entries[0].orders.n
        if self.last_n < self.first_n and not self._closed:
            self._open = self._opened(first)
        if first != self.last_n + 1:
            raise ArchiveError(
                f"ARCHIVE_GAP: shard {self.shard}: entry {first} comes after {self.last_n}; keep the files"
            )
        if self._file is None:
            self._create(first)
        assert self._file is not None
        opened = self._open
        chunks, offsets = [], []
        size = opened.size
        for entry in entries:
            record = _encode(entry)
            offsets.append(size)
            size += len(record)
            chunks.append(record)
        self._file.write(b"".join(chunks))
        self._file.flush()
        if self._is_durable:
            os.fsync(self._file.fileno())
        opened.size = size
        opened.first_us = opened.first_us or entries[0].orders.t_us
        opened.last_us = entries[-1].orders.t_us
        opened.names.add(rows)
        # Only now may readers know of them: what is not flushed yet looks like damage.
        opened.offsets.extend(offsets)
        if opened.size >= self._segment_bytes or len(opened.names) >= self._segment_names:
            self._close_segment()

    def drop_before(self, t_us: int, keep_n: int) -> None:
        """Delete closed segments whose entries are all older than a time; those after position keep_n stay."""
        while self._closed and self._closed[0].last_us < t_us and self._closed[0].last_n < keep_n:
            segment = self._closed[0]
            self._closed = self._closed[1:]
            # Not closed here either, see `_index`.
            self._indexes.pop(segment.index_path, None)
            segment.path.unlink(missing_ok=True)
            segment.index_path.unlink(missing_ok=True)

    def _create(self, first_n: int) -> None:
        self._open.path = self.folder / f"{first_n:020d}.segment"
        self._file = self._open.path.open("xb")
        self._file.write(_SEGMENT_HEAD.pack(_SEGMENT_MAGIC, self.shard, first_n))
        self._open.size = _SEGMENT_HEAD.size
        if self._is_durable:
            os.fsync(self._file.fileno())
            _fsync_folder(self.folder)

    def _close_segment(self) -> None:
        """Write the index of the open segment and begin another one."""
        opened = self._open
        assert self._file is not None
        assert opened.path is not None
        self._file.close()
        self._file = None
        rows = opened.names.sorted_rows()
        names = len(rows) // ROW.size
        head = _INDEX_HEAD.pack(
            _INDEX_MAGIC, self.shard, opened.first_n, len(opened.offsets), names, opened.first_us, opened.last_us
        )
        offsets = struct.pack(f">{len(opened.offsets)}Q", *opened.offsets)
        body = head + offsets + rows
        path = opened.path.with_suffix(".index")
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(body + _CRC.pack(zlib.crc32(body)))
            file.flush()
            if self._is_durable:
                os.fsync(file.fileno())
        temporary.replace(path)
        if self._is_durable:
            _fsync_folder(self.folder)
        self._closed = (*self._closed, _Segment(opened.path, self.shard))
        self._open = self._opened(opened.last_n + 1)

    # --- reading ----------------------------------------------------------------------------------------------------

    def read(self, n: int) -> Archived | None:
        """Return entry n; None: the archive does not have it.

        Raises:
            ArchiveError: the record is damaged.
        """
        return next(iter(self.read_range(n, n)), None)

    def read_range(self, first_n: int, last_n: int) -> Iterator[Archived]:
        """Yield the entries first_n .. last_n that the archive has, in order.

        Raises:
            ArchiveError: a record is damaged.
        """
        n = max(first_n, self.first_n)
        while True:
            opened, closed = self._open, self._closed
            if n > min(last_n, opened.last_n):
                return
            path: Path | None
            if n >= opened.first_n:
                path, last, offset = opened.path, opened.last_n, opened.offsets[n - opened.first_n]
            else:
                segment = closed[bisect_left(closed, n, key=lambda segment: segment.last_n)]
                path, last, offset = segment.path, segment.last_n, segment.offset(self._index(segment), n)
            assert path is not None
            last = min(last, last_n)
            with path.open("rb") as file:
                file.seek(offset)
                for wanted in range(n, last + 1):
                    found = _read_record(file)
                    if found is None or found.orders.n != wanted:
                        raise ArchiveError(
                            f"ARCHIVE: {path} is damaged at entry {wanted}; restore the file from a copy, or replay "
                            "the shard from a checkpoint after it"
                        )
                    yield found
            n = last + 1

    def places(self, key_id: bytes, nonce: int, from_us: int = 0, to_us: int = 2**63) -> list[Place]:
        """Return where batches of a key and nonce stand in entries of a span of time, oldest first.

        Args:
            key_id: 16 bytes.
            nonce: of the batch.
            from_us: segments that end before this time are not looked into, ...
            to_us: ... nor are those that begin after this one.
        """
        key = key_id + _OFFSET.pack(nonce)
        found: list[Place] = []
        opened, closed = self._open, self._closed
        start = bisect_left(closed, from_us, key=lambda segment: segment.last_us)
        stop = bisect_right(closed, to_us, key=lambda segment: segment.first_us)
        for segment in closed[start:stop]:
            found += segment.places(self._index(segment), key)
        return found + list(map(Place._make, opened.names.places(key)))

    def _index(self, segment: _Segment) -> mmap.mmap:
        index = self._indexes.get(segment.index_path)
        if index is None:
            index = self._indexes[segment.index_path] = segment.open_index()
            if len(self._indexes) > _OPEN_INDEXES_MAX:
                # Not closed here: a reader may be in the middle of it. It goes when the last reader has let go.
                self._indexes.popitem(last=False)
        return index

    # --- opening ----------------------------------------------------------------------------------------------------

    def _opened(self, first_n: int) -> _Open:
        return _Open(first_n, self._naming.new_index())

    def _open_existing(self) -> None:
        for leftover in self.folder.glob("*.tmp"):
            leftover.unlink()
        paths = sorted(self.folder.glob("*.segment"))
        for place, path in enumerate(paths):
            is_last = place == len(paths) - 1
            if not path.with_suffix(".index").exists():
                self._read_open(path, may_be_torn=is_last)
                if is_last:
                    return
                self._close_segment()
                continue
            segment = _Segment(path, self.shard)
            if self._closed and segment.first_n != self._closed[-1].last_n + 1:
                raise ArchiveError(
                    f"ARCHIVE_GAP: {path} begins at {segment.first_n}, the one before it ends at "
                    f"{self._closed[-1].last_n}: a segment is missing; put it back, or move the older ones away"
                )
            self._closed = (*self._closed, segment)
            self._open = self._opened(segment.last_n + 1)

    def _read_open(self, path: Path, may_be_torn: bool) -> None:
        """Load a segment that has no index: the open one, or one whose index was lost."""
        first_n = int(path.stem)
        with path.open("r+b") as file:
            head = file.read(_SEGMENT_HEAD.size)
            if len(head) < _SEGMENT_HEAD.size and may_be_torn:
                file.close()
                path.unlink()
                return
            if head != _SEGMENT_HEAD.pack(_SEGMENT_MAGIC, self.shard, first_n):
                raise ArchiveError(f"ARCHIVE: {path} is no segment of shard {self.shard} that begins at {first_n}")
            if self._closed and first_n != self._closed[-1].last_n + 1:
                raise ArchiveError(
                    f"ARCHIVE_GAP: {path} begins at {first_n}, the one before it ends at {self._closed[-1].last_n}: a "
                    "segment is missing; put it back, or move the older ones away"
                )
            opened = self._open = self._opened(first_n)
            opened.path, opened.size = path, _SEGMENT_HEAD.size
            unnamed: list[Archived] = []
            while (found := _read_record(file)) is not None and found.orders.n == opened.last_n + 1:
                opened.offsets.append(opened.size)
                opened.size = file.tell()
                opened.first_us = opened.first_us or found.orders.t_us
                opened.last_us = found.orders.t_us
                unnamed.append(found)
                if len(unnamed) == _NAMED_AT_ONCE:
                    opened.names.add(rows_of(unnamed, self._naming))
                    unnamed.clear()
            opened.names.add(rows_of(unnamed, self._naming))
            if opened.size < path.stat().st_size:
                if not may_be_torn:
                    raise ArchiveError(f"ARCHIVE: {path} is damaged after byte {opened.size}; restore it from a copy")
                file.truncate(opened.size)
        self._file = path.open("ab")


def rows_of(entries: Sequence[Archived], naming: Naming = DEFAULT_NAMING) -> bytes:
    """Return the rows of the batches in entries, in their order."""
    order_frames = [entry.orders.order_frame for entry in entries]
    return naming.name_batches(order_frames, [entry.executions.frame for entry in entries]).rows


def _encode(entry: Archived) -> bytes:
    orders, executions = entry
    parts = (
        orders.order_frame,
        orders.mac,
        orders.key_name.encode(),
        b"%d %d" % (orders.commands_total, orders.bytes_total),
        executions.frame,
        write_stamp(executions.stamp),
    )
    body = b"".join(parts)
    head = _RECORD.pack(orders.n, orders.t_us, *map(len, parts))
    return head + _CRC.pack(zlib.crc32(body, zlib.crc32(head))) + body


def _read_record(file: BinaryIO) -> Archived | None:
    """Return the record at the file's position; None: there is no whole and intact one."""
    head = file.read(_RECORD.size + _CRC.size)
    if len(head) < _RECORD.size + _CRC.size:
        return None
    n, t_us, *lengths = _RECORD.unpack_from(head)
    (crc,) = _CRC.unpack_from(head, _RECORD.size)
    body = file.read(sum(lengths))
    if len(body) != sum(lengths) or zlib.crc32(body, zlib.crc32(head[: _RECORD.size])) != crc:
        return None
    parts, start = [], 0
    for length in lengths:
        parts.append(body[start : start + length])
        start += length
    order_frame, mac, key_name, totals, frame, stamp = parts
    commands_total, bytes_total = map(int, totals.split(b" "))
    return Archived(
        OrdersEntry(n, t_us, order_frame, mac, key_name.decode(), commands_total, bytes_total),
        ExecutionsEntry(n, frame, read_stamp(stamp)),
    )


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
