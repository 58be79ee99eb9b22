"""MatchingService of a trading shard."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from clob.v1 import batch_pb2, market_pb2, matching_service_pb2, outcome_pb2, position_pb2, state_pb2
from clob.v1.door_reason_pb2 import DoorReason
from clob.v1.frame_pb2 import ExecutionFrame
from clob.v1.matching_service_pb2_grpc import MatchingServiceServicer
from exchange.bus.client import AsyncBus
from exchange.bus.errors import BusReason, BusRefusal, BusUnavailable
from exchange.config.environment import Environment
from exchange.control.follower import ControlFollower
from exchange.domain.commands import Batch
from exchange.domain.limits import (
    BATCH_COMMANDS_MAX,
    FRAME_BYTES_MAX,
    FRAME_OPERATIONS_MAX,
    OPERATION_BYTES_MAX,
    REQUEST_COMMANDS_MAX,
    SIGNATURE_BYTES,
)
from exchange.domain.operations import SignedOperation
from exchange.domain.units import SHARD_MAX
from exchange.engine.port import Engine, Summary
from exchange.execution.loop import EngineBusyError, LoopState, ShardLoop
from exchange.matcher.checks import Checked, RefusedBatch, check_batch
from exchange.matcher.entrance import Entrance
from exchange.matcher.outcomes import Parts, batch_outcome, operation_outcome, read_parts, refused_batch
from exchange.serving.bounds import Bounds, Each, Rule, check_bounds
from exchange.serving.errors import Refusal, invalid, refused
from exchange.wire.errors import WireError
from exchange.wire.messages import decode, encode

WAIT_MS_DEFAULT: Final = 5_000
BATCHES_MAX: Final = 4_096
BOOK_ORDERS_DEFAULT: Final = 100
WHAT_IF_BATCHES_MAX: Final = 16
_FRAME_HEAD_BYTES: Final = 256
_THREAD_BATCHES: Final = 8
"""From so many signatures on they are verified beside the event loop."""
_MARKET_MAX: Final = 2**32 - 1

_MATCH: Final[dict[str, Rule]] = {
    "shard": Bounds(1, SHARD_MAX),
    "wait_ms_max": Bounds(1, 30_000, or_zero=True),
    "operations": Each(
        0,
        FRAME_OPERATIONS_MAX,
        {
            "payload": Bounds(1, OPERATION_BYTES_MAX),
            "signature": Bounds(SIGNATURE_BYTES, SIGNATURE_BYTES),
        },
    ),
}
_GET_BOOK: Final[dict[str, Rule]] = {
    "market": Bounds(1, _MARKET_MAX),
    "orders_per_side_max": Bounds(1, 10_000, or_zero=True),
}

_REASON_OF_BUS: Final = {
    BusReason.OVERLOADED: DoorReason.DOOR_REASON_OVERLOADED,
    BusReason.OUT_OF_MEMORY: DoorReason.DOOR_REASON_OVERLOADED,
    BusReason.CLOCK_SKEW: DoorReason.DOOR_REASON_CLOCK_SKEW,
}


class MatcherServicer(MatchingServiceServicer):
    """Answers operators, beside the loop of the shard."""

    def __init__(
        self,
        environment: Environment,
        bus: AsyncBus,
        follower: ControlFollower,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._environment = environment
        self._bus = bus
        self._follower = follower
        self._served: tuple[ShardLoop[Engine], Entrance] | None = None
        self._now_us = now_us
        self._matching = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def serve(self, loop: ShardLoop[Engine], entrance: Entrance) -> None:
        """Answer for this shard; before, every call is UNAVAILABLE."""
        self._served = (loop, entrance)

    @property
    def _loop(self) -> ShardLoop[Engine]:
        return self._served_or_refused()[0]

    @property
    def _entrance(self) -> Entrance:
        return self._served_or_refused()[1]

    def _served_or_refused(self) -> tuple[ShardLoop[Engine], Entrance]:
        if self._served is None:
            raise refused(DoorReason.DOOR_REASON_UNAVAILABLE, "the matcher has not found its shard yet; ask again")
        return self._served

    async def idle(self) -> None:
        """Wait until no call of Match is under way."""
        await self._idle.wait()

    # --- Match ------------------------------------------------------------------------------------------------------

    async def Match(  # noqa: N802 - named by the contract
        self, request: matching_service_pb2.MatchRequest, context: Any
    ) -> matching_service_pb2.MatchResponse:
        """Enter signed bytes into the shard and say what became of them."""
        self._check_size(request)
        check_bounds(request, _MATCH)
        self._check_shard(request.shard)
        self._matching += 1
        self._idle.clear()
        try:
            return await self._match(request)
        finally:
            self._matching -= 1
            if not self._matching:
                self._idle.set()

    async def _match(self, request: matching_service_pb2.MatchRequest) -> matching_service_pb2.MatchResponse:
        wait_s = (request.wait_ms_max or WAIT_MS_DEFAULT) / 1000
        began_s = asyncio.get_running_loop().time()
        checked, control_n = await self._check(request.batches)
        durability: Any = self._environment.durability.number
        answer = matching_service_pb2.MatchResponse(durability=durability)
        entered = [one for one in checked if isinstance(one, Checked)]
        operations = [SignedOperation(one.payload, one.signature) for one in request.operations]
        n, t_us, parts = 0, 0, None
        if entered or operations:
            commands = sum(len(one.batch.commands) for one in entered)
            try:
                async with asyncio.timeout_at(began_s + wait_s):
                    ingested = await self._entrance.enter(
                        [one.signed for one in entered], operations, control_n, commands
                    )
                    n, t_us = ingested.n, ingested.t_us
                    parts = read_parts((await self._entrance.executed(n)).frame)
            except (TimeoutError, LookupError):
                pass
            except BusRefusal as refusal:
                raise self._of_bus(refusal) from None
        place = 0
        for one in checked:
            if isinstance(one, RefusedBatch):
                answer.batches.append(refused_batch(one))
                continue
            place += 1
            answer.batches.append(await self._batch_outcome(parts, place, one.batch, n, t_us))
        for place in range(1, len(operations) + 1):
            answer.operations.append(
                operation_outcome(parts, place)
                if parts
                else outcome_pb2.OperationOutcome(state=_not_executed(n), n=n, operation=place if n else 0, t_us=t_us)
            )
        return answer

    async def _check(self, batches: Sequence[batch_pb2.SignedBatch]) -> tuple[list[Checked | RefusedBatch], int]:
        """Return each batch or why it is not let in, and the position of shard 0 under which that holds."""
        for attempt in range(2):
            view = self._follower.view
            control_n = view.position
            now_ms = self._now_us() // 1000

            def check_all() -> list[Checked | RefusedBatch]:
                return [check_batch(raw, view, self._environment.name, now_ms) for raw in batches]  # noqa: B023

            checked = await asyncio.to_thread(check_all) if len(batches) >= _THREAD_BATCHES else check_all()
            if attempt or not any(isinstance(one, RefusedBatch) and one.may_change for one in checked):
                return checked, control_n
            try:
                await self._follower.catch_up()
            except BusUnavailable as error:
                raise refused(DoorReason.DOOR_REASON_UNAVAILABLE, str(error)) from error
        raise AssertionError("two attempts return")

    async def _batch_outcome(
        self, parts: Parts | None, place: int, batch: Batch, n: int, t_us: int
    ) -> outcome_pb2.BatchOutcome:
        if parts is None:
            return outcome_pb2.BatchOutcome(
                state=_not_executed(n),
                n=n,
                batch=place if n else 0,
                t_us=t_us,
                executable_until_ms=batch.valid_until_ms,
            )
        outcome = batch_outcome(parts, place, batch)
        result = parts.batches[place][0].batch_result
        if result.repeat_n:
            try:
                first = await self._entrance.logged(result.repeat_n)
            except BusUnavailable:
                first = None
            # The first time's events are read from the bus; once trimmed, GetOutcome has them.
            outcome = (
                batch_outcome(read_parts(first.frame), result.repeat_batch, batch)
                if first
                else outcome_pb2.BatchOutcome(
                    state=outcome_pb2.SEND_STATE_EXECUTED, n=result.repeat_n, batch=result.repeat_batch
                )
            )
            outcome.repeated = True
        return outcome

    def _check_size(self, request: matching_service_pb2.MatchRequest) -> None:
        """Check what a message may hold at most; what is decoded to count commands is decoded once more later."""
        wrong = ""
        if len(request.batches) > BATCHES_MAX:
            wrong = f"{len(request.batches):,} batches, allowed are {BATCHES_MAX:,}"
        elif len(request.operations) > FRAME_OPERATIONS_MAX:
            wrong = f"{len(request.operations):,} operations, allowed are {FRAME_OPERATIONS_MAX}"
        elif (size := request.ByteSize() + _FRAME_HEAD_BYTES) > FRAME_BYTES_MAX:
            wrong = f"about {size:,} bytes, an entry has at most {FRAME_BYTES_MAX:,}"
        elif (commands := sum(_commands(raw.payload) for raw in request.batches)) > REQUEST_COMMANDS_MAX:
            wrong = f"{commands:,} commands, allowed are {REQUEST_COMMANDS_MAX:,}"
        if wrong:
            raise refused(DoorReason.DOOR_REASON_MESSAGE_SIZE, f"the request has {wrong}; split it")

    # --- WhatIf, GetBook, GetShard ----------------------------------------------------------------------------------

    async def WhatIf(  # noqa: N802
        self, request: matching_service_pb2.WhatIfRequest, context: Any
    ) -> matching_service_pb2.WhatIfResponse:
        """Say what batches would do on a copy, which is taken between two commits."""
        check_bounds(request, {"shard": Bounds(1, SHARD_MAX), "batches": Each(1, WHAT_IF_BATCHES_MAX, {})})
        self._check_shard(request.shard)
        batches = _unsigned(request.batches)
        copy = await self._ask(lambda engine: engine.what_if(batches, self._now_us()))
        frame = ExecutionFrame.FromString(await asyncio.to_thread(copy.run))
        return matching_service_pb2.WhatIfResponse(position=self._position(*copy.position), events=frame.events)

    async def GetBook(  # noqa: N802
        self, request: matching_service_pb2.MatchingServiceGetBookRequest, context: Any
    ) -> matching_service_pb2.MatchingServiceGetBookResponse:
        """Return a book, order by order."""
        check_bounds(request, _GET_BOOK)
        orders_max = request.orders_per_side_max or BOOK_ORDERS_DEFAULT
        try:
            cut, summary = await self._ask(lambda engine: (engine.book(request.market, orders_max), engine.summary()))
        except KeyError:
            raise refused(
                DoorReason.DOOR_REASON_NOT_FOUND,
                f"shard {self._loop.shard} has no market {request.market}; ListMarkets says which shard has it",
            ) from None
        return matching_service_pb2.MatchingServiceGetBookResponse(
            position=self._position(summary.n, summary.t_us, summary.chain_hash),
            book=state_pb2.BookState.FromString(cut.book),
            bid_orders=cut.bid_orders,
            ask_orders=cut.ask_orders,
        )

    async def GetShard(  # noqa: N802
        self, request: matching_service_pb2.GetShardRequest, context: Any
    ) -> matching_service_pb2.GetShardResponse:
        """Return how the shard is doing, also when it has stopped or the bus does not answer."""
        check_bounds(request, {"shard": Bounds(0, SHARD_MAX)})
        self._check_shard(request.shard)
        answer = matching_service_pb2.GetShardResponse()
        summary: Summary | None
        if request.with_state_hash:
            summary, answer.state_hash = await self._ask(lambda engine: (engine.summary(), engine.state_hash()))
        else:
            summary = await asyncio.to_thread(self._loop.summary)
        answer.status.CopyFrom(self._status(summary))
        try:
            async with asyncio.timeout(1):
                head = await self._bus.head(self._loop.tag)
        except (BusUnavailable, TimeoutError):
            head = None
        if head is not None:
            answer.status.orders_n = max(answer.status.orders_n, head.orders_n)
            answer.status.stopped = answer.status.stopped or head.stopped
        return answer

    def _status(self, summary: Summary | None) -> matching_service_pb2.ShardStatus:
        loop = self._loop
        status = matching_service_pb2.ShardStatus(
            orders_n=max(loop.figures.orders_n, loop.figures.position),
            durable_n=loop.figures.position,
            epoch=loop.epoch,
            durability=self._environment.durability.number,  # type: ignore[arg-type]
            engine=loop.engine_name,
            stopped="" if loop.state in (LoopState.RUNNING, LoopState.RESTORING) else loop.message,
        )
        if summary is not None:
            status.executed.CopyFrom(self._position(summary.n, summary.t_us, summary.chain_hash))
            status.rules = summary.rules
            status.rules_max = summary.rules_max
            status.control_floor = summary.control_floor
            status.settings.CopyFrom(market_pb2.ShardSettings.FromString(summary.settings))
            status.markets = summary.markets
            status.accounts = summary.accounts
            status.open_orders = summary.open_orders
            status.live_nonces = summary.live_nonces
            status.timers = summary.timers
            status.pending_cancel_alls = summary.pending_cancel_alls
        return status

    # --- helpers ----------------------------------------------------------------------------------------------------

    async def _ask(self, question: Callable[[Engine], Any]) -> Any:
        """Return what a question to the engine gives, between two commits."""

        def ask() -> Any:
            with self._loop.reading() as engine:
                return question(engine)

        try:
            return await asyncio.to_thread(ask)
        except EngineBusyError as error:
            raise refused(DoorReason.DOOR_REASON_UNAVAILABLE, f"{error}; ask again") from error

    def _check_shard(self, shard: int) -> None:
        if shard != self._loop.shard:
            raise refused(
                DoorReason.DOOR_REASON_UNKNOWN_SHARD,
                f"this process serves shard {self._loop.shard}, not shard {shard}; ask through port 9090",
            )

    def _position(self, n: int, t_us: int, chain_hash: bytes) -> position_pb2.ShardPosition:
        return position_pb2.ShardPosition(shard=self._loop.shard, n=n, t_us=t_us, chain_hash=chain_hash)

    def _of_bus(self, refusal: BusRefusal) -> Refusal:
        reason = _REASON_OF_BUS.get(refusal.reason, DoorReason.DOOR_REASON_UNAVAILABLE)
        return refused(reason, str(refusal), retry_after_ms=refusal.retry_after_ms or None)


def _not_executed(n: int) -> outcome_pb2.SendState:
    return outcome_pb2.SEND_STATE_SEQUENCED if n else outcome_pb2.SEND_STATE_UNKNOWN


def _commands(payload: bytes) -> int:
    """Return how many commands a payload has; 0 where it cannot be read, which is found out later."""
    try:
        return len(batch_pb2.Batch.FromString(payload).commands)
    except Exception:  # noqa: BLE001 - protobuf has no one error for bytes that are no message
        return 0


def _unsigned(batches: Sequence[batch_pb2.Batch]) -> list[bytes]:
    """Return batches in canonical encoding.

    Raises:
        Refusal: INVALID_FIELD: one is no batch that could be signed, or there are too many commands.
    """
    commands = sum(len(batch.commands) for batch in batches)
    if commands > BATCH_COMMANDS_MAX:
        raise refused(
            DoorReason.DOOR_REASON_MESSAGE_SIZE,
            f"the request has {commands:,} commands, allowed are {BATCH_COMMANDS_MAX:,}; split it",
        )
    encoded = []
    for place, batch in enumerate(batches):
        copy = batch_pb2.Batch()
        copy.CopyFrom(batch)
        copy.DiscardUnknownFields()
        # Not looked at, so nobody need think of something to put there.
        copy.shard, copy.nonce, copy.valid_until_ms = 1, 1, 1
        try:
            encoded.append(encode(decode(Batch, copy.SerializeToString(deterministic=True))))
        except WireError as error:
            raise invalid({f"batches[{place}].{error.field}": error.detail}) from None
    return encoded
