"""GetOutcome: what became of a batch, from the archive for what is settled, and from the bus for what is not yet."""

import asyncio
import contextlib
from typing import Any, Final, NamedTuple

from clob.v1 import frame_pb2, order_service_pb2, outcome_pb2
from clob.v1.door_reason_pb2 import DoorReason
from clob.v1.order_service_pb2_grpc import OrderServiceServicer
from exchange.bus.client import AsyncBus
from exchange.bus.errors import BusUnavailable
from exchange.config.environment import Environment
from exchange.control.follower import ControlFollower
from exchange.domain.limits import KEY_ID_BYTES
from exchange.domain.units import SHARD_MAX, TIME_US_MAX
from exchange.serving.bounds import Bounds, check_bounds
from exchange.serving.errors import Refusal, refused
from exchange.settlement.archive import Archive
from exchange.settlement.outcomes import FoundBatch, cut_outcome, find_batches
from exchange.settlement.settler import Settler

USER_HEADER: Final = "clob-user"
SCAN_ENTRIES: Final = 64
LOOKS_MAX: Final = 5
"""How often a look-up is repeated that trimming of the bus has overtaken, ..."""
LOOK_AGAIN_S: Final = 0.05
"""... and how long after the last one."""
_BOUNDS: Final = {
    "key_id": Bounds(KEY_ID_BYTES, KEY_ID_BYTES),
    "shard": Bounds(0, SHARD_MAX),
    "valid_until_ms": Bounds(0, TIME_US_MAX),
}
_EXECUTED: Final = outcome_pb2.SEND_STATE_EXECUTED


class _Seen(NamedTuple):
    """A batch that was found, with its outcome; `outcome` of one that is not executed yet is SEQUENCED."""

    batch: FoundBatch
    outcome: outcome_pb2.BatchOutcome


class _OvertakenError(Exception):
    """The bus does not have all of what was not settled a moment ago: it is settled and trimmed by now."""


class OutcomeServicer(OrderServiceServicer):
    """Serves GetOutcome alone; batches are sent to an ingress."""

    def __init__(self, bus: AsyncBus, environment: Environment, follower: ControlFollower, settler: Settler) -> None:
        self._bus = bus
        self._environment = environment
        self._follower = follower
        self._settler = settler

    async def GetOutcome(  # noqa: N802 - named by the contract
        self, request: order_service_pb2.GetOutcomeRequest, context: Any
    ) -> order_service_pb2.GetOutcomeResponse:
        """Say what became of a batch; the header `clob-user`, where there is one, names who asks."""
        check_bounds(request, _BOUNDS)
        await self._check_asker(request, _user_of(context))
        tag = self._follower.view.shards[request.shard]
        try:
            for _ in range(LOOKS_MAX):
                with contextlib.suppress(_OvertakenError):
                    return await self._outcome(request, tag)
                await asyncio.sleep(LOOK_AGAIN_S)
        except BusUnavailable as error:
            raise refused(DoorReason.DOOR_REASON_UNAVAILABLE, f"{error}; ask again") from None
        raise refused(
            DoorReason.DOOR_REASON_UNAVAILABLE,
            f"entries of shard {request.shard} are neither settled here nor on the bus any more; ask again",
        )

    async def _check_asker(self, request: order_service_pb2.GetOutcomeRequest, user: int | None) -> None:
        view = self._follower.view
        if request.shard not in view.shards or (user is not None and request.key_id not in view.keys):
            try:
                async with asyncio.timeout(2):
                    await self._follower.catch_up()
            except (TimeoutError, BusUnavailable):
                raise refused(DoorReason.DOOR_REASON_UNAVAILABLE, "shard 0 cannot be read; ask again") from None
            view = self._follower.view
        if request.shard not in view.shards:
            raise refused(DoorReason.DOOR_REASON_UNKNOWN_SHARD, f"there is no shard {request.shard}")
        key = view.keys.get(request.key_id)
        if user is not None and (key is None or key.user != user):
            raise refused(
                DoorReason.DOOR_REASON_ACCOUNT_NOT_OF_KEY,
                f"key_id {request.key_id.hex()} is no key of user {user}; name one of the session's user",
            )

    async def _outcome(
        self, request: order_service_pb2.GetOutcomeRequest, tag: str
    ) -> order_service_pb2.GetOutcomeResponse:
        progress = self._settler.progress.get(request.shard)
        archive = self._settler.archive(request.shard)
        if progress is None or archive is None:
            raise _not_settled(request.shard)
        # The clock first: whatever is not in the log by the look at the head comes after this time.
        now_us = await self._bus.time_us()
        head = await self._bus.head(tag)
        if head is None or not head.is_approved:
            raise _not_settled(request.shard)
        settled_n = min(progress.n, archive.last_n)
        found = await asyncio.to_thread(self._in_archive, archive, request, settled_n)
        if found is None or found.outcome.state != _EXECUTED:
            found = await self._on_bus(request, tag, settled_n, head.orders_n) or found
        answer = order_service_pb2.GetOutcomeResponse()
        if found is not None:
            answer.outcome.CopyFrom(found.outcome)
        if found is not None and found.outcome.state == _EXECUTED:
            answer.state = order_service_pb2.OUTCOME_STATE_EXECUTED
            answer.payload_digest = found.batch.digest
            return answer
        valid_until_us = request.valid_until_ms * 1000
        waits = found is not None and found.outcome.state == outcome_pb2.SEND_STATE_SEQUENCED
        if valid_until_us and not waits and valid_until_us <= max(now_us, progress.t_us):
            self._check_covered(archive, request)
            return order_service_pb2.GetOutcomeResponse(state=order_service_pb2.OUTCOME_STATE_NEVER)
        answer.state = order_service_pb2.OUTCOME_STATE_PENDING
        answer.executable_until_ms = request.valid_until_ms
        return answer

    def _in_archive(self, archive: Archive, request: order_service_pb2.GetOutcomeRequest, last_n: int) -> _Seen | None:
        """Return the executed batch that is meant, else the one that was refused last; of what is settled."""
        refusal: _Seen | None = None
        until_us = request.valid_until_ms * 1000 or TIME_US_MAX
        for place in reversed(archive.places(request.key_id, request.nonce, to_us=until_us)):
            entry = archive.read(place.n) if place.n <= last_n else None
            if entry is None:
                continue
            for batch in _meant(find_batches(entry.orders.order_frame, request.key_id, request.nonce), request):
                if batch.place != place.batch:
                    continue
                seen = _see(entry.executions.frame, batch)
                if seen is not None and seen.outcome.state == _EXECUTED:
                    return seen
                refusal = refusal or seen
        return refusal

    async def _on_bus(
        self, request: order_service_pb2.GetOutcomeRequest, tag: str, settled_n: int, orders_n: int
    ) -> _Seen | None:
        """Return the batch that is meant among what is not settled yet: executed, else waiting, else refused last.

        Raises:
            _OvertakenError: some of it is not there: take a new settled_n, for the batch may be archived by now.
        """
        found: _Seen | None = None
        first = settled_n + 1
        while first <= orders_n:
            last = min(first + SCAN_ENTRIES - 1, orders_n)
            orders = await self._bus.orders_range(tag, first, last)
            if [entry.n for entry in orders] != list(range(first, last + 1)):
                raise _OvertakenError
            matches = [
                (entry, batch)
                for entry in orders
                for batch in _meant(find_batches(entry.order_frame, request.key_id, request.nonce), request)
            ]
            for entry, batch in matches:
                executions = await self._bus.executions_range(tag, entry.n, entry.n)
                if not executions:
                    waiting = outcome_pb2.BatchOutcome(
                        state=outcome_pb2.SEND_STATE_SEQUENCED,
                        n=entry.n,
                        batch=batch.place,
                        t_us=entry.t_us,
                        executable_until_ms=batch.valid_until_ms,
                    )
                    return _Seen(batch, waiting)
                seen = _see(executions[0].frame, batch)
                if seen is not None:
                    if seen.outcome.state == _EXECUTED:
                        return seen
                    found = seen
            first = last + 1
        return found

    def _check_covered(self, archive: Archive, request: order_service_pb2.GetOutcomeRequest) -> None:
        """Refuse to say NEVER of a time of which the archive keeps nothing any more."""
        settlement = self._settler.settlement(request.shard)
        longest_ms = max(
            self._environment.settings.max_validity_ms, settlement.max_validity_ms if settlement is not None else 0
        )
        begins_us = (request.valid_until_ms - longest_ms) * 1000
        if archive.first_n > 1 and archive.first_us > begins_us:
            raise refused(
                DoorReason.DOOR_REASON_NOT_FOUND,
                f"what happened before {archive.first_us} us in shard {request.shard} is not kept any more; outcomes "
                "are kept for 24 hours after a batch could last be executed",
            )


def _meant(found: list[FoundBatch], request: order_service_pb2.GetOutcomeRequest) -> list[FoundBatch]:
    return [batch for batch in found if request.valid_until_ms in (0, batch.valid_until_ms)]


def _see(frame: bytes, batch: FoundBatch) -> _Seen | None:
    """Return a batch with what an executed frame says of it; None: a repetition, or nothing."""
    outcome = cut_outcome(frame_pb2.ExecutionFrame.FromString(frame), batch.place, batch.account)
    if outcome is None or outcome.events[0].batch_result.repeat_n:
        return None
    if outcome.state != _EXECUTED:
        outcome.executable_until_ms = batch.valid_until_ms
    return _Seen(batch, outcome)


def _user_of(context: Any) -> int | None:
    for key, value in context.invocation_metadata() or ():
        if key == USER_HEADER and isinstance(value, str) and value.isdigit():
            return int(value)
    return None


def _not_settled(shard: int) -> Refusal:
    return refused(
        DoorReason.DOOR_REASON_UNAVAILABLE,
        f"shard {shard} is not settled here at the moment, or its bus is not approved; ask again, see `clob doctor`",
    )
