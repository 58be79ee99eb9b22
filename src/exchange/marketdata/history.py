"""The history of a shard: its last execution frames, as many as memory is given for, and whose events they have."""

from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from clob.v1.frame_pb2 import ExecutionFrame

RECORD_OVERHEAD_BYTES: Final = 400
"""What a frame costs beyond its bytes: the record and an empty set."""
ACCOUNT_BYTES: Final = 64
"""What an account in a record costs."""
_PARSED_MAX: Final = 32


class FrameRecord(NamedTuple):
    """A frame that is kept, and the accounts that have events in it."""

    n: int
    t_us: int
    data: bytes
    accounts: Collection[int]

    @property
    def size_bytes(self) -> int:
        """Roughly what it costs."""
        return len(self.data) + RECORD_OVERHEAD_BYTES + ACCOUNT_BYTES * len(self.accounts)


class History:
    """Consecutive frames up to the last one that was read.

    Attributes:
        last_n: position of the last frame, whether it is still kept or not.
        size_bytes: what all of it costs; at most `bytes_max`, but one frame is always kept.
    """

    def __init__(self, last_n: int, bytes_max: int) -> None:
        self.last_n = last_n
        self.bytes_max = bytes_max
        self.size_bytes = 0
        self._records: deque[FrameRecord] = deque()
        self._parsed: OrderedDict[int, ExecutionFrame] = OrderedDict()

    @property
    def first_n(self) -> int:
        """Position of the oldest frame that is kept; one behind `last_n` where none is."""
        return self.last_n + 1 - len(self._records)

    def append(self, record: FrameRecord) -> None:
        """Add the next frame; forget the oldest ones where memory is used up."""
        assert record.n == self.last_n + 1
        self.last_n = record.n
        self._records.append(record)
        self.size_bytes += record.size_bytes
        while self.size_bytes > self.bytes_max and len(self._records) > 1:
            self.size_bytes -= self._records.popleft().size_bytes

    def fill_in(self, records: Iterable[FrameRecord]) -> None:
        """Start with the frames up to `last_n`: for a history that has none yet."""
        assert not self._records
        for record in records:
            self._records.append(record)
            self.size_bytes += record.size_bytes
        assert not self._records or self._records[-1].n == self.last_n

    def since(self, n: int) -> Iterator[FrameRecord]:
        """Yield the frames from position n on, which must still be kept; add none while it runs."""
        assert n >= self.first_n
        return islice(self._records, n - self.first_n, None)

    def parsed(self, record: FrameRecord) -> ExecutionFrame:
        """Return a frame parsed; those asked for last are kept, for readers come back together."""
        frame = self._parsed.pop(record.n, None)
        if frame is None:
            frame = ExecutionFrame.FromString(record.data)
        self._parsed[record.n] = frame
        if len(self._parsed) > _PARSED_MAX:
            self._parsed.popitem(last=False)
        return frame
