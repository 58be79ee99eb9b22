"""Verify: what the door would say of batches, without handing them on."""

import asyncio
import time
from typing import Final

from google.protobuf.message import DecodeError

from clob.v1 import door_reason_pb2 as reasons
from clob.v1 import verification_service_pb2
from exchange.domain.limits import REQUEST_COMMANDS_MAX
from exchange.ingress.door import Door, ReadBatch, Refusal, as_error, clip, executable_until_ms, read_batch
from exchange.ingress.keys import catch_up
from exchange.serving import errors

BATCHES_MAX: Final = 4_096
SLICE: Final = 32


async def verify_bytes(door: Door, request: bytes, address: str) -> bytes:
    """Return the VerifyResponse to a VerifyRequest.

    Args:
        door: that judges.
        request: encoded VerifyRequest.
        address: host that pays for it.

    Raises:
        errors.Refusal: the request as a whole is refused.
    """
    try:
        message = verification_service_pb2.VerifyRequest.FromString(request)
    except DecodeError:
        raise errors.invalid({"": "the bytes are not a VerifyRequest"}) from None
    if (wrong := door.wrong_environment(message.environment)) is not None:
        raise as_error(wrong)
    if not message.batches:
        raise errors.invalid({"batches": f"has 0 elements, allowed are 1 .. {BATCHES_MAX}"})
    if len(message.batches) > BATCHES_MAX:
        raise errors.refused(
            reasons.DOOR_REASON_MESSAGE_SIZE,
            f"the message has {len(message.batches)} batches, allowed are {BATCHES_MAX}; split it",
        )
    if (too_fast := door.admit_address(address, len(message.batches), time.monotonic())) is not None:
        raise as_error(too_fast)
    batches = [read_batch(signed.key_id, signed.payload, signed.signature) for signed in message.batches]
    commands = sum(one.commands for one in batches if isinstance(one, ReadBatch))
    if commands > REQUEST_COMMANDS_MAX:
        raise errors.refused(
            reasons.DOOR_REASON_MESSAGE_SIZE,
            f"the batches have {commands} commands, allowed are {REQUEST_COMMANDS_MAX}; split the message",
        )
    verdicts: list[verification_service_pb2.Verdict] = []
    caught_up = False
    for index, one in enumerate(batches):
        if not index % SLICE:
            if index:
                await asyncio.sleep(0)
            door.verify(batches[index : index + SLICE], time.monotonic())
        if isinstance(one, Refusal):
            verdicts.append(_refused(one))
            continue
        refusal = door.judge(one, time.time_ns() // 1000, time.monotonic())
        if refusal is not None and refusal.may_change and not caught_up:
            caught_up = True
            refusal = await catch_up(door.control) or door.judge(one, time.time_ns() // 1000, time.monotonic())
        if refusal is not None and refusal.blames_sender:
            door.blame(address, 1, time.monotonic())
        verdicts.append(_verdict(one, refusal))
    return verification_service_pb2.VerifyResponse(
        verdicts=verdicts, control_n=door.control.view.position
    ).SerializeToString()


def _verdict(batch: ReadBatch, refusal: Refusal | None) -> verification_service_pb2.Verdict:
    if refusal is None:
        verdict = verification_service_pb2.Verdict()
    else:
        verdict = _refused(refusal)
        if refusal.hides_signer:
            return verdict
    verdict.account, verdict.shard, verdict.commands = batch.account, batch.shard, batch.commands
    verdict.executable_until_ms = executable_until_ms(batch.valid_until_ms, refusal is not None and refusal.is_final)
    return verdict


def _refused(refusal: Refusal) -> verification_service_pb2.Verdict:
    return verification_service_pb2.Verdict(door_reason=refusal.reason, detail=clip(refusal.detail))
