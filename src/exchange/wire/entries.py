"""From the bytes of an orders entry to what the reference takes: every payload parsed, every digest taken."""

from typing import TypeVar

from exchange.domain import limits
from exchange.domain.commands import Batch, SignedBatch
from exchange.domain.control import ControlRequest, Registration
from exchange.domain.frames import FORMAT, Entry, OrderFrame, ParsedBatch, ParsedLink, ParsedOperation, ParsedRequest
from exchange.domain.operations import Link, Operation, SetMarketState, SignedLink, SignedOperation
from exchange.domain.record import Record
from exchange.wire.codec import leading_number
from exchange.wire.errors import UnknownFormatError, WireError
from exchange.wire.hashing import digest_of
from exchange.wire.messages import decode, encode

R = TypeVar("R", bound=Record)

_SHORT_ACTIONS = (SetMarketState(),)
_SHORT_ACTIONS_BYTES = len(encode(Operation(sequence=1, actions=_SHORT_ACTIONS))) - len(b"\x18\x01")
"""Bytes of these actions in an operation: those of one that has nothing else but its sequence number, less the two
that hold that."""


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
    batches: list[ParsedBatch] = []
    commands = 0
    for signed in frame.batches:
        parsed = _parse_batch(signed)
        commands += len(parsed.batch.commands) if parsed.batch else 0
        # Nothing is parsed beyond the limit: a frame has room for sixty times as many commands, each of them an object.
        if commands > limits.FRAME_COMMANDS_MAX:
            return Entry(n=n, t_us=t_us, well_formed=False)
        batches.append(parsed)
    return Entry(
        n=n,
        t_us=t_us,
        control_n=frame.control_n,
        batches=tuple(batches),
        links=tuple(_parse_link(signed) for signed in frame.links),
        operations=tuple(_parse_operation(signed) for signed in frame.operations),
        requests=tuple(_parse_request(request) for request in frame.requests),
    )


def check_format(what: str, data: bytes) -> None:
    """Check the version of a frame, a genesis, a state or a checkpoint, which is field 1 of every version.

    Bytes that do not start with a format at all are of no version: they are malformed, which decoding will say.

    Args:
        what: name of what the bytes hold, for the error.
        data: the bytes.

    Raises:
        UnknownFormatError: they start with the canonical encoding of another format than ours.
    """
    found = leading_number(1, data)
    if found is not None and found != FORMAT:
        raise UnknownFormatError(what, found)


def operation_body_digest(operation: Operation) -> bytes:
    """Return H of the operation without its sequence number: what a repeated request_id must agree with."""
    return digest_of(encode(Operation(operation.shard, operation.role, 1, operation.actions, operation.request_id)))


def _body_digest_of(payload: bytes, operation: Operation) -> bytes:
    """Return `operation_body_digest` of the operation that a canonical payload holds, without encoding it again.

    Shard, role and sequence number come first in the encoding: they are exchanged, the actions stay as they are.
    """
    first = _before_actions(operation.shard, operation.role, operation.sequence)
    assert payload.startswith(first)
    return digest_of(_before_actions(operation.shard, operation.role, 1) + payload[len(first) :])


def _before_actions(shard: int, role: int, sequence: int) -> bytes:
    """Return how the encoding of an operation begins, up to its actions."""
    return encode(Operation(shard, role, sequence, _SHORT_ACTIONS))[:-_SHORT_ACTIONS_BYTES]


def _parse_batch(signed: SignedBatch) -> ParsedBatch:
    return ParsedBatch(signed, _decode_or_none(Batch, signed.payload), digest_of(signed.payload))


def _parse_link(signed: SignedLink) -> ParsedLink:
    return ParsedLink(signed, _decode_or_none(Link, signed.payload), digest_of(signed.payload))


def _parse_operation(signed: SignedOperation) -> ParsedOperation:
    operation = _decode_or_none(Operation, signed.payload)
    body_digest = _body_digest_of(signed.payload, operation) if operation else b""
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
