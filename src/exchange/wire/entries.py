"""From the bytes of an orders entry to what the reference takes: every payload parsed, every digest taken."""

from typing import TypeVar

from exchange.domain import limits
from exchange.domain.commands import Batch, SignedBatch
from exchange.domain.control import ControlRequest, Registration
from exchange.domain.frames import Entry, OrderFrame, ParsedBatch, ParsedLink, ParsedOperation, ParsedRequest
from exchange.domain.operations import Link, Operation, SignedLink, SignedOperation
from exchange.domain.record import Record
from exchange.wire.errors import UnknownFormatError, WireError
from exchange.wire.hashing import digest_of
from exchange.wire.messages import decode, encode

R = TypeVar("R", bound=Record)


def parse_entry(n: int, t_us: int, order_frame: bytes) -> Entry:
    """Return the entry with its payloads parsed.

    A payload that is not canonical stays in the entry as malformed, so that the others of its frame are executed. A
    frame that is not canonical, or carries more than FRAME_COMMANDS_MAX commands, is malformed as a whole.

    Raises:
        UnknownFormatError: the frame is of another version.
    """
    check_format("order frame", order_frame)
    try:
        frame = decode(OrderFrame, order_frame)
    except WireError:
        return Entry(n=n, t_us=t_us, well_formed=False)
    batches = tuple(_parse_batch(signed) for signed in frame.batches)
    if sum(len(parsed.batch.commands) for parsed in batches if parsed.batch) > limits.FRAME_COMMANDS_MAX:
        return Entry(n=n, t_us=t_us, well_formed=False)
    return Entry(
        n=n,
        t_us=t_us,
        control_n=frame.control_n,
        batches=batches,
        links=tuple(_parse_link(signed) for signed in frame.links),
        operations=tuple(_parse_operation(signed) for signed in frame.operations),
        requests=tuple(_parse_request(request) for request in frame.requests),
    )


def check_format(what: str, data: bytes) -> None:
    """Raise UnknownFormatError where `data` starts with a format, always field 1, other than ours.

    Bytes that do not start with a format at all are of no version: they are malformed, which decoding will say.
    """
    if len(data) >= 2 and data[0] == 0x08 and 1 < data[1] < 0x80:
        raise UnknownFormatError(what, data[1])


def operation_body_digest(operation: Operation) -> bytes:
    """Return H of the operation without its sequence number: what a repeated request_id must agree with."""
    return digest_of(encode(Operation(operation.shard, operation.role, 1, operation.actions, operation.request_id)))


def _parse_batch(signed: SignedBatch) -> ParsedBatch:
    return ParsedBatch(signed, _decode_or_none(Batch, signed.payload), digest_of(signed.payload))


def _parse_link(signed: SignedLink) -> ParsedLink:
    return ParsedLink(signed, _decode_or_none(Link, signed.payload), digest_of(signed.payload))


def _parse_operation(signed: SignedOperation) -> ParsedOperation:
    operation = _decode_or_none(Operation, signed.payload)
    body_digest = operation_body_digest(operation) if operation else b""
    return ParsedOperation(signed, operation, digest_of(signed.payload), body_digest)


def _parse_request(request: ControlRequest) -> ParsedRequest:
    return ParsedRequest(request, digest_of(encode(request.register_key)))


def read_registration(payload: bytes) -> Registration | None:
    """Return the registration in a SignedRegistration's payload; None where it is not canonical."""
    return _decode_or_none(Registration, payload)


def _decode_or_none(record: type[R], payload: bytes) -> R | None:
    try:
        return decode(record, payload)
    except WireError:
        return None
