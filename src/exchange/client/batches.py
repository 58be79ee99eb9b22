"""Signed batches: commands packed, named by a nonce and signed, and requests that carry them."""

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from clob.v1 import order_service_pb2
from exchange.client.errors import ClientError
from exchange.client.keys import Signer
from exchange.domain.commands import Batch, Command, RequestWithdrawal
from exchange.domain.control import RegisterKey
from exchange.domain.limits import (
    BATCH_BYTES_MAX,
    BATCH_COMMANDS_MAX,
    DESTINATION_BYTES_MAX,
    REGISTRATION_BYTES_MAX,
    REQUEST_BYTES_MAX,
    REQUEST_COMMANDS_MAX,
    SIGNATURE_BYTES,
)
from exchange.wire.errors import WireError
from exchange.wire.messages import encode

NONCE_BITS: Final = 64
_HEAD_BYTES_MAX: Final = 64
"""Of a batch without its commands, and of a request without its batches, rounded up."""
_COMMAND_BYTES_MAX: Final = 60
_WITHDRAWAL_BYTES_MAX: Final = 32 + DESTINATION_BYTES_MAX
_REGISTRATION_BYTES_MAX: Final = 32 + REGISTRATION_BYTES_MAX + SIGNATURE_BYTES


@dataclass(frozen=True, slots=True)
class SignedCommands:
    """A signed batch as it goes over the wire, and what it takes to follow it. Keep it to send it again.

    Attributes:
        wire: the batch as field `batches` of a SubmitRequest; concatenated they make a request's batches.
        digest: SHA-256 of the signed payload.
    """

    account: int
    shard: int
    key_id: bytes
    nonce: int
    valid_until_ms: int
    commands: tuple[Command, ...]
    wire: bytes
    digest: bytes


def new_nonce() -> int:
    """Return 64 random bits.

    No two processes, restarts or machines that use a key need to know of one another. A key has at most 65,536 live
    nonces in a shard by default, so a new one meets one of them with a probability of 2^-48, and then the batch is
    refused as NONCE_REUSED: nothing is executed twice or instead of another. A counter would need to be kept on disk,
    and a clock may be set back.
    """
    return secrets.randbits(NONCE_BITS)


def sign_commands(
    signer: Signer,
    account: int,
    shard: int,
    valid_until_ms: int,
    commands: tuple[Command, ...],
    nonce: int | None = None,
) -> SignedCommands:
    """Return commands as one signed batch.

    Raises:
        ClientError: MALFORMED, they cannot be written: a number out of range, none or too many of them.
    """
    if nonce is None:
        nonce = new_nonce()
    try:
        payload = encode(Batch(account, shard, nonce, valid_until_ms, commands))
    except WireError as error:
        raise ClientError("MALFORMED", str(error)) from error
    signed = signer.sign_batch(payload)
    return SignedCommands(
        account=account,
        shard=shard,
        key_id=signed.key_id,
        nonce=nonce,
        valid_until_ms=valid_until_ms,
        commands=commands,
        wire=order_service_pb2.SubmitRequest(batches=[signed]).SerializeToString(),
        digest=hashlib.sha256(payload).digest(),
    )


def sign_many(
    signer: Signer,
    account: int,
    shard: int,
    valid_until_ms: int,
    commands: Sequence[Command],
    commands_per_signature: int = BATCH_COMMANDS_MAX,
) -> list[SignedCommands]:
    """Return commands of one shard as signed batches of so many each, fewer where LIMITS demand it, in order."""
    return [
        sign_commands(signer, account, shard, valid_until_ms, part) for part in packed(commands, commands_per_signature)
    ]


def packed(commands: Sequence[Command], commands_per_signature: int) -> Iterator[tuple[Command, ...]]:
    """Yield the commands in parts that a batch has room for, in order."""
    most = min(commands_per_signature, BATCH_COMMANDS_MAX)
    if most < 1:
        raise ClientError("INVALID_ARGUMENT", f"{commands_per_signature} commands per signature: 1 is the least")
    part: list[Command] = []
    room = BATCH_BYTES_MAX - _HEAD_BYTES_MAX
    for command in commands:
        needs = _bytes_at_most(command)
        if len(part) == most or needs > room:
            yield tuple(part)
            part, room = [], BATCH_BYTES_MAX - _HEAD_BYTES_MAX
        part.append(command)
        room -= needs
    if part:
        yield tuple(part)


def requests_of(batches: Iterable[SignedCommands]) -> Iterator[list[SignedCommands]]:
    """Yield the batches in parts that one request has room for, in order."""
    part: list[SignedCommands] = []
    commands, size = 0, _HEAD_BYTES_MAX
    for batch in batches:
        full = commands + len(batch.commands) > REQUEST_COMMANDS_MAX or size + len(batch.wire) > REQUEST_BYTES_MAX
        if part and full:
            yield part
            part, commands, size = [], 0, _HEAD_BYTES_MAX
        part.append(batch)
        commands += len(batch.commands)
        size += len(batch.wire)
    if part:
        yield part


def request_head(environment: str, *, sequenced_only: bool, with_stages: bool, wait_ms_max: int = 0) -> bytes:
    """Return the bytes of a SubmitRequest before its batches."""
    wait = order_service_pb2.WAIT_LEVEL_SEQUENCED if sequenced_only else order_service_pb2.WAIT_LEVEL_EXECUTED
    return order_service_pb2.SubmitRequest(
        environment=environment, wait=wait, wait_ms_max=wait_ms_max, with_stages=with_stages
    ).SerializeToString()


def _bytes_at_most(command: Command) -> int:
    """Return a bound of a command's encoding, tag and length included."""
    if isinstance(command, RequestWithdrawal):
        return _WITHDRAWAL_BYTES_MAX
    if isinstance(command, RegisterKey):
        return _REGISTRATION_BYTES_MAX
    return _COMMAND_BYTES_MAX
