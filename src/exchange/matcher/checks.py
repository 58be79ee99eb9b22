"""What is checked of a batch before an operator may enter it: the same rules as at the traders' door."""

from typing import Final, NamedTuple

from clob.v1 import batch_pb2
from clob.v1.door_reason_pb2 import DoorReason
from exchange.control.view import ControlView
from exchange.domain.commands import Batch, SignedBatch
from exchange.domain.limits import BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, KEY_ID_BYTES, SIGNATURE_BYTES
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.reference.signing import verify_at_the_door
from exchange.wire.errors import WireError, WireReason
from exchange.wire.messages import decode

SKEW_MS_MAX: Final = 500
"""What is not certain by a clock that may be so far off is left to the shard."""


class Checked(NamedTuple):
    """A batch that may be entered."""

    signed: SignedBatch
    batch: Batch


class RefusedBatch(NamedTuple):
    """A batch that may not be entered, why, and what to do.

    Attributes:
        reason: a DoorReason.
        detail: for people.
        executable_until_ms: first moment at which the same bytes can no longer be executed; 0: they never can, or
            whoever sent them has not proven to have signed them.
        may_change: shard 0 may know more by now; catch up once and check again.
    """

    reason: DoorReason
    detail: str
    executable_until_ms: int = 0
    may_change: bool = False


def check_batch(raw: batch_pb2.SignedBatch, view: ControlView, environment: str, now_ms: int) -> Checked | RefusedBatch:
    """Return the batch if it may be entered, else why not."""
    if len(raw.key_id) != KEY_ID_BYTES or len(raw.signature) != SIGNATURE_BYTES:
        return RefusedBatch(
            DoorReason.DOOR_REASON_MALFORMED,
            f"key_id has {len(raw.key_id)} bytes and signature {len(raw.signature)}; they have {KEY_ID_BYTES} and "
            f"{SIGNATURE_BYTES}",
        )
    if not 0 < len(raw.payload) <= BATCH_BYTES_MAX:
        return _size(f"the payload has {len(raw.payload)} bytes, allowed are 1 to {BATCH_BYTES_MAX}")
    try:
        batch = decode(Batch, raw.payload)
    except WireError as error:
        if error.reason is WireReason.LENGTH and error.field == "commands":
            return _size(f"{error.detail}; commands of a batch are 1 to {BATCH_COMMANDS_MAX}")
        return RefusedBatch(DoorReason.DOOR_REASON_MALFORMED, f"payload: {error}; encode it anew and sign it again")
    key = view.keys.get(raw.key_id)
    covered = signed_bytes(SignedKind.BATCH, environment, raw.payload)
    if key is None or key.revoked or not verify_at_the_door(key.public_key, covered, raw.signature):
        return RefusedBatch(
            DoorReason.DOOR_REASON_BAD_KEY_OR_SIGNATURE,
            "the key is not registered, was revoked, or the signature is not one of this payload under it; check "
            "key_id, the environment's name and the bytes that were signed, then sign again",
            may_change=key is None,
        )
    if not view.may_sign(raw.key_id, batch.account):
        return RefusedBatch(
            DoorReason.DOOR_REASON_ACCOUNT_NOT_OF_KEY,
            f"the key may not act for account {batch.account}; sign with a key of the account's user",
            executable_until_ms=batch.valid_until_ms,
            may_change=True,
        )
    if batch.valid_until_ms + SKEW_MS_MAX <= now_ms:
        return RefusedBatch(
            DoorReason.DOOR_REASON_BATCH_EXPIRED,
            f"valid_until_ms {batch.valid_until_ms} has passed, it is {now_ms}; sign a new batch, and check the clock",
        )
    return Checked(SignedBatch(raw.key_id, raw.payload, raw.signature), batch)


def _size(detail: str) -> RefusedBatch:
    return RefusedBatch(DoorReason.DOOR_REASON_BATCH_SIZE, f"{detail}; split it and sign again")
