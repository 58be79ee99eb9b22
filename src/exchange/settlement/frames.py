"""Execution frames of our own log, read by the protobuf library: what settlement needs of them, in one pass.

Only for frames whose bytes re-execution has proven, or that come from the archive, which holds no others.
"""

from typing import Any, Final, NamedTuple

from clob.v1 import frame_pb2

MOVING: Final = frozenset(
    {
        "trade",
        "funds_credited",
        "funds_sent",
        "link_result",
        "market_defined",
        "deposited",
        "withdrawal_requested",
        "withdrawal_closed",
        "fees_paid_out",
    }
)
"""Members of Event that the ledger reads."""
MARKETS: Final = frozenset({"market_defined", "market_state_changed"})
"""Members of Event after which the markets of a shard are others."""


class BatchVerdict(NamedTuple):
    """What a frame says of a batch: its 1-based place, and why it was refused; 0: it was executed."""

    place: int
    reason: int


class ReadFrame(NamedTuple):
    """What settlement needs of an execution frame.

    Attributes:
        n, t_us: position and time.
        moving: events that the ledger reads, with their names.
        verdicts: of batches; repetitions are left out. Both are empty where another than the Python ledger read them.
        changes_markets: the markets of the shard are others after it.
        events: how many it has.
    """

    n: int
    t_us: int
    moving: list[tuple[str, Any]]
    verdicts: list[BatchVerdict]
    changes_markets: bool
    events: int


def read_frame(data: bytes) -> ReadFrame:
    """Return what settlement needs of an execution frame."""
    frame = frame_pb2.ExecutionFrame.FromString(data)
    moving: list[tuple[str, Any]] = []
    verdicts: list[BatchVerdict] = []
    changes_markets = False
    for event in frame.events:
        name = event.WhichOneof("event")
        if name == "batch_result":
            result = event.batch_result
            if not result.repeat_n:
                verdicts.append(BatchVerdict(result.batch, result.reason))
        elif name in MOVING:
            moving.append((name, getattr(event, name)))
        if name in MARKETS:
            changes_markets = True
    return ReadFrame(frame.n, frame.t_us, moving, verdicts, changes_markets, len(frame.events))


MALFORMED: Final = 1
"""RejectReason of a batch that has no canonical payload, and so no nonce."""
