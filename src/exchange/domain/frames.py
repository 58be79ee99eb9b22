"""What crosses the border of a shard: entries with order frames in, execution frames out (proto/clob/v1/frame.proto).

`OrderFrame` is what the bytes say. `Entry` is the same with every payload parsed: what the reference takes.
"""

from exchange.domain.commands import Batch, SignedBatch
from exchange.domain.control import ControlRequest
from exchange.domain.events import Event
from exchange.domain.operations import Link, Operation, SignedLink, SignedOperation
from exchange.domain.record import Record

FORMAT = 1
"""Version of both frames, of the genesis, the state and the checkpoint."""


class OrderFrame(Record, frozen=True):
    format: int = 0
    ingress: bytes = b""
    counter: int = 0
    ingress_time_us: int = 0
    control_n: int = 0
    batches: tuple[SignedBatch, ...] = ()
    links: tuple[SignedLink, ...] = ()
    operations: tuple[SignedOperation, ...] = ()
    requests: tuple[ControlRequest, ...] = ()


class ExecutionFrame(Record, frozen=True):
    format: int = 0
    n: int = 0
    t_us: int = 0
    rules: int = 0
    previous_hash: bytes = b""
    input_hash: bytes = b""
    events: tuple[Event, ...] = ()


class ParsedBatch(Record, frozen=True):
    """A signed batch; `batch` is None where the payload is malformed; `digest` is SHA-256 of the payload."""

    signed: SignedBatch
    batch: Batch | None
    digest: bytes


class ParsedLink(Record, frozen=True):
    """A signed link; `link` is None where the payload is malformed; `digest` is SHA-256 of the payload."""

    signed: SignedLink
    link: Link | None
    digest: bytes


class ParsedOperation(Record, frozen=True):
    """A signed operation, None where malformed; `body_digest` does not cover its sequence number."""

    signed: SignedOperation
    operation: Operation | None
    digest: bytes
    body_digest: bytes


class ParsedRequest(Record, frozen=True):
    """A control request; `body_digest` is SHA-256 of its registration with the proof."""

    request: ControlRequest
    body_digest: bytes


class Entry(Record, frozen=True):
    """Entry n of a shard's orders, sequenced at t_us; `well_formed` False: the order frame is malformed and empty."""

    n: int
    t_us: int
    well_formed: bool = True
    control_n: int = 0
    batches: tuple[ParsedBatch, ...] = ()
    links: tuple[ParsedLink, ...] = ()
    operations: tuple[ParsedOperation, ...] = ()
    requests: tuple[ParsedRequest, ...] = ()
