"""The messages that are signed, hashed or checkpointed, with the bounds that LIMITS give their fields."""

from typing import TypeVar, cast

from clob.v1 import batch_pb2, control_pb2, event_pb2, frame_pb2, market_pb2, operation_pb2, state_pb2
from exchange.domain import commands, control, events, frames, limits, markets, operations, state
from exchange.domain.record import Record
from exchange.domain.units import SHARD_MAX, TIME_US_MAX
from exchange.wire.codec import Bounds, compile_codecs
from exchange.wire.errors import WireError, WireReason

R = TypeVar("R", bound=Record)

_U64_MAX = 2**64 - 1
_ONE_UP = Bounds(1, _U64_MAX)
_SHARD = Bounds(0, SHARD_MAX)
_FORMAT = Bounds(frames.FORMAT, frames.FORMAT)
_TIME_US = Bounds(0, TIME_US_MAX)
_KEY_ID = Bounds(limits.KEY_ID_BYTES, limits.KEY_ID_BYTES)
_PUBLIC_KEY = Bounds(limits.PUBLIC_KEY_BYTES, limits.PUBLIC_KEY_BYTES)
_SIGNATURE = Bounds(limits.SIGNATURE_BYTES, limits.SIGNATURE_BYTES)
_HASH = Bounds(limits.HASH_BYTES, limits.HASH_BYTES)
_REQUEST_ID = Bounds(limits.REQUEST_ID_BYTES, limits.REQUEST_ID_BYTES)

BOUNDS: dict[tuple[str, str], Bounds] = {
    ("Batch", "account"): _ONE_UP,
    ("Batch", "shard"): _SHARD,
    ("Batch", "valid_until_ms"): Bounds(1, TIME_US_MAX),
    ("Batch", "commands"): Bounds(1, limits.BATCH_COMMANDS_MAX),
    ("SignedBatch", "key_id"): _KEY_ID,
    ("SignedBatch", "payload"): Bounds(1, limits.BATCH_BYTES_MAX),
    ("SignedBatch", "signature"): _SIGNATURE,
    ("Operation", "shard"): _SHARD,
    ("Operation", "sequence"): _ONE_UP,
    ("Operation", "actions"): Bounds(1, limits.OPERATION_ACTIONS_MAX),
    ("Operation", "request_id"): Bounds(limits.REQUEST_ID_BYTES, limits.REQUEST_ID_BYTES, or_absent=True),
    ("RotateOperatorKey", "public_key"): _PUBLIC_KEY,
    ("SignedOperation", "payload"): Bounds(1, limits.OPERATION_BYTES_MAX),
    ("SignedOperation", "signature"): _SIGNATURE,
    ("Link", "from_shard"): _SHARD,
    ("Link", "to_shard"): _SHARD,
    ("Link", "sequence"): _ONE_UP,
    ("Link", "source_n"): Bounds(1, TIME_US_MAX),
    ("Link", "transfers"): Bounds(1, limits.LINK_TRANSFERS_MAX),
    ("Transfer", "amount_units"): Bounds(1, 2**63 - 1),
    ("SignedLink", "payload"): Bounds(1, limits.LINK_BYTES_MAX),
    ("SignedLink", "signature"): _SIGNATURE,
    ("Registration", "public_key"): _PUBLIC_KEY,
    ("SignedRegistration", "payload"): Bounds(1, limits.REGISTRATION_BYTES_MAX),
    ("SignedRegistration", "signature"): _SIGNATURE,
    ("RevokeKey", "key_id"): _KEY_ID,
    ("ControlRequest", "request_id"): _REQUEST_ID,
    ("OrderFrame", "format"): _FORMAT,
    ("OrderFrame", "ingress"): Bounds(limits.INGRESS_BYTES, limits.INGRESS_BYTES),
    ("OrderFrame", "counter"): _ONE_UP,
    ("OrderFrame", "ingress_time_us"): Bounds(1, TIME_US_MAX),
    ("OrderFrame", "batches"): Bounds(0, limits.FRAME_BATCHES_MAX),
    ("OrderFrame", "links"): Bounds(0, limits.FRAME_LINKS_MAX),
    ("OrderFrame", "operations"): Bounds(0, limits.FRAME_OPERATIONS_MAX),
    ("OrderFrame", "requests"): Bounds(0, limits.FRAME_REQUESTS_MAX),
    ("ExecutionFrame", "format"): _FORMAT,
    ("ExecutionFrame", "n"): _ONE_UP,
    ("ExecutionFrame", "t_us"): _TIME_US,
    ("ExecutionFrame", "previous_hash"): _HASH,
    ("ExecutionFrame", "input_hash"): _HASH,
    ("Genesis", "format"): _FORMAT,
    ("Genesis", "shard"): _SHARD,
    ("OperatorKey", "public_key"): _PUBLIC_KEY,
    ("OperatorKey", "last_digest"): Bounds(limits.HASH_BYTES, limits.HASH_BYTES, or_absent=True),
    ("ShardState", "format"): _FORMAT,
    ("ControlState", "format"): _FORMAT,
    ("ShardCore", "chain_hash"): _HASH,
    ("LiveNonce", "key_id"): _KEY_ID,
    ("LiveNonce", "digest"): _HASH,
    ("KeyState", "key_id"): _KEY_ID,
    ("KeyState", "public_key"): _PUBLIC_KEY,
    ("AnsweredRequest", "request_id"): _REQUEST_ID,
    ("AnsweredRequest", "digest"): _HASH,
    ("Checkpoint", "format"): _FORMAT,
    ("Checkpoint", "state_hash"): _HASH,
}

_DOMAIN = (commands, control, events, frames, markets, operations, state)
_RECORDS = {
    name: value
    for module in _DOMAIN
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, Record)
}
_PROTOS = (market_pb2, batch_pb2, operation_pb2, control_pb2, event_pb2, frame_pb2, state_pb2)
CODECS = compile_codecs(
    (message for proto in _PROTOS for message in proto.DESCRIPTOR.message_types_by_name.values()), _RECORDS, BOUNDS
)

TOTAL_BYTES_MAX: dict[str, int] = {
    "Batch": limits.BATCH_BYTES_MAX,
    "Operation": limits.OPERATION_BYTES_MAX,
    "Link": limits.LINK_BYTES_MAX,
    "Registration": limits.REGISTRATION_BYTES_MAX,
    "OrderFrame": limits.FRAME_BYTES_MAX,
    "ExecutionFrame": limits.EXECUTION_FRAME_BYTES_MAX,
}
"""Longest encodings, checked before anything is parsed."""


def encode(value: Record) -> bytes:
    """Return the canonical encoding of a record that has a message in the contracts.

    Raises:
        WireError: a number does not fit its type, or a field or the whole exceeds LIMITS.
    """
    name = type(value).__name__
    data = bytes(CODECS[name].encode(value))
    _check_total(name, data)
    return data


def decode(record: type[R], data: bytes) -> R:
    """Return the record of which `data` is the canonical encoding; `encode` of it gives `data` again.

    Raises:
        WireError: `data` is not the canonical encoding of any such record, or exceeds LIMITS.
    """
    name = record.__name__
    _check_total(name, data)
    try:
        return cast(R, CODECS[name].decode(data, 0, len(data), 0))
    except WireError as error:
        raise error if error.field else WireError(error.reason, name, error.offset, error.detail) from None


def _check_total(name: str, data: bytes) -> None:
    most = TOTAL_BYTES_MAX.get(name)
    if most is not None and len(data) > most:
        raise WireError(WireReason.LENGTH, name, 0, f"{len(data)} bytes, allowed are {most}")
