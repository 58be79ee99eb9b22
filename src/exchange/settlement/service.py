"""SettlementService, and MatchingService for shard 0."""
# ruff: noqa: N802 - methods have the names of the contracts

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from clob.v1 import (
    batch_pb2,
    frame_pb2,
    matching_service_pb2,
    operation_pb2,
    outcome_pb2,
    position_pb2,
    settlement_service_pb2,
)
from clob.v1.door_reason_pb2 import DoorReason
from clob.v1.matching_service_pb2_grpc import MatchingServiceServicer
from clob.v1.settlement_service_pb2_grpc import SettlementServiceServicer
from exchange.bus.client import AsyncBus
from exchange.bus.entries import Head
from exchange.bus.errors import BusReason, BusRefusal, BusUnavailable
from exchange.config.environment import Environment
from exchange.control.follower import ControlFollower
from exchange.control.view import CONTROL_TAG
from exchange.domain.commands import SignedBatch
from exchange.domain.explanations import EXPLANATIONS
from exchange.domain.limits import (
    BATCH_BYTES_MAX,
    FRAME_BYTES_MAX,
    FRAME_OPERATIONS_MAX,
    HASH_BYTES,
    KEY_ID_BYTES,
    OPERATION_BYTES_MAX,
    REQUEST_COMMANDS_MAX,
    SIGNATURE_BYTES,
)
from exchange.domain.operations import SignedOperation
from exchange.domain.rejects import RejectReason
from exchange.domain.units import CONTROL_SHARD, SHARD_MAX
from exchange.engine.reference import ReferenceControl
from exchange.execution.loop import ShardLoop
from exchange.serving.bounds import Bounds, Each, Rule, check_bounds
from exchange.serving.errors import Refusal, invalid, refused
from exchange.settlement.approver import ShardNews
from exchange.settlement.archive import Archived
from exchange.settlement.intake import Intake
from exchange.settlement.log import Log
from exchange.settlement.money import add_up
from exchange.settlement.outcomes import cut_operation, cut_outcome
from exchange.settlement.settler import Settler, ShardProgress
from exchange.wire.hashing import chain_hash

WAIT_MS_DEFAULT: Final = 5_000
WAIT_MS_MAX: Final = 30_000
LOOK_S: Final = 0.25
_FRAME_HEAD_BYTES: Final = 256
"""Room in a frame for what surrounds its parts."""

_SETTLE: Final = {
    "positions": Each(
        0, SHARD_MAX + 1, {"shard": Bounds(0, SHARD_MAX), "chain_hash": Bounds(HASH_BYTES, HASH_BYTES, or_zero=True)}
    )
}
_SHARDS: Final = {"shards": Bounds(0, SHARD_MAX + 1, each=Bounds(0, SHARD_MAX), unique=True)}
_ASSETS: Final = {"assets": Bounds(0, 65_536, each=Bounds(1, 2**32 - 1), unique=True)}
_MATCH: Final[Mapping[str, Rule]] = {
    "wait_ms_max": Bounds(1, WAIT_MS_MAX, or_zero=True),
    "batches": Each(
        0,
        REQUEST_COMMANDS_MAX,
        {
            "key_id": Bounds(KEY_ID_BYTES, KEY_ID_BYTES),
            "payload": Bounds(1, BATCH_BYTES_MAX),
            "signature": Bounds(SIGNATURE_BYTES, SIGNATURE_BYTES),
        },
    ),
    "operations": Each(
        0,
        FRAME_OPERATIONS_MAX,
        {"payload": Bounds(1, OPERATION_BYTES_MAX), "signature": Bounds(SIGNATURE_BYTES, SIGNATURE_BYTES)},
    ),
}


class SettlementServicer(SettlementServiceServicer):
    """Answers about what is settled.

    Attributes:
        moved: notified after every round.
    """

    def __init__(
        self,
        bus: AsyncBus,
        follower: ControlFollower,
        settler: Settler,
        log: Log,
        news: Callable[[int], ShardNews | None],
    ) -> None:
        self.moved = asyncio.Condition()
        self._bus = bus
        self._follower = follower
        self._settler = settler
        self._log = log
        self._news = news

    # --- the barrier ------------------------------------------------------------------------------------------------

    async def Settle(
        self, request: settlement_service_pb2.SettleRequest, context: Any
    ) -> settlement_service_pb2.SettleResponse:
        """Return when everything up to the positions is settled, audited and durable."""
        check_bounds(request, _SETTLE, _each_once)
        wanted = {position.shard: position.n for position in request.positions}
        if not wanted:
            wanted = {shard: head.orders_n for shard, head in (await self._heads()).items() if head is not None}
        for shard in wanted:
            if shard not in self._settler.progress and shard not in self._follower.view.shards:
                raise refused(DoorReason.DOOR_REASON_UNKNOWN_SHARD, f"there is no shard {shard}")
        for shard, n in sorted(wanted.items()):
            await self._wait_for(shard, n)
        await self._check_hashes(request.positions)
        settled = [await self._settled(shard, request.with_state_hashes) for shard in sorted(wanted)]
        return settlement_service_pb2.SettleResponse(shards=settled)

    async def _wait_for(self, shard: int, n: int) -> None:
        """Wait until a shard is settled to a position. Bounded by the call, which is cancelled at its deadline."""
        while (progress := self._settler.progress.get(shard)) is None or progress.n < n:
            news = self._news(shard)
            stopped = (progress.stopped if progress else "") or (news.stopped if news else "") or self._settler.fatal
            if stopped:
                raise refused(
                    DoorReason.DOOR_REASON_SETTLEMENT_STOPPED, f"shard {shard} at {progress and progress.n}: {stopped}"
                )
            async with self.moved:
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self.moved.wait()
                except TimeoutError:
                    continue

    async def _check_hashes(self, positions: Iterable[position_pb2.ShardPosition]) -> None:
        for place, position in enumerate(positions):
            if not position.chain_hash or not position.n:
                continue
            progress = self._settler.progress[position.shard]
            found: bytes | None
            if progress.n == position.n:
                found = progress.chain_hash
            else:
                entry = await self._log.entry(position.shard, progress.tag, position.n)
                found = chain_hash(entry.executions.frame) if entry else None
            if found is not None and found != position.chain_hash:
                raise invalid(
                    {
                        f"positions[{place}].chain_hash": f"shard {position.shard} was settled at {position.n} with "
                        f"hash {found.hex()}: what was seen there is of another log"
                    }
                )

    async def _settled(self, shard: int, with_state_hash: bool) -> settlement_service_pb2.SettledShard:
        def question() -> tuple[ShardProgress, bytes]:
            settlement = self._settler.settlement(shard)
            progress = self._settler.progress[shard]
            if settlement is None or progress.stopped:
                raise refused(DoorReason.DOOR_REASON_SETTLEMENT_STOPPED, f"shard {shard}: {progress.stopped}")
            now = progress._replace(
                n=settlement.ledger.n, t_us=settlement.ledger.t_us, chain_hash=settlement.ledger.chain_hash
            )
            return now, settlement.engine.state_hash()

        if not with_state_hash:
            return settlement_service_pb2.SettledShard(settled=position_of(self._settler.progress[shard]))
        progress, state_hash = await self._ask(question)
        return settlement_service_pb2.SettledShard(settled=position_of(progress), state_hash=state_hash)

    # --- positions and audit ----------------------------------------------------------------------------------------

    async def GetPositions(
        self, request: settlement_service_pb2.GetPositionsRequest, context: Any
    ) -> settlement_service_pb2.GetPositionsResponse:
        """Return how far shards are settled."""
        check_bounds(request, _SHARDS)
        for shard in request.shards:
            if shard not in self._settler.progress:
                raise refused(DoorReason.DOOR_REASON_UNKNOWN_SHARD, f"there is no shard {shard}")
        return settlement_service_pb2.GetPositionsResponse(positions=await self.positions(set(request.shards)))

    async def positions(self, shards: set[int] | None = None) -> list[settlement_service_pb2.SettlementPosition]:
        """Return how far shards are settled, by number; none are named: all."""
        try:
            heads = await self._heads()
        except BusUnavailable:
            heads = {}
        return [
            self._position(progress, heads.get(shard))
            for shard, progress in sorted(self._settler.progress.items())
            if not shards or shard in shards
        ]

    def _position(self, progress: ShardProgress, head: Head | None) -> settlement_service_pb2.SettlementPosition:
        news = self._news(progress.shard)
        return settlement_service_pb2.SettlementPosition(
            settled=position_of(progress),
            orders_n=head.orders_n if head else 0,
            executions_n=head.executions_n if head else 0,
            audited_n=progress.audited_n,
            checkpoint_n=progress.checkpoint_n,
            trimmed_n=head.trimmed_n if head else progress.trimmed_n,
            stopped=progress.stopped or (news.stopped if news else ""),
        )

    async def Audit(
        self, request: settlement_service_pb2.AuditRequest, context: Any
    ) -> settlement_service_pb2.AuditResponse:
        """Add up all money there is, as last settled."""
        check_bounds(request, _ASSETS)
        return await self.audit(request.assets)

    async def audit(self, assets: Iterable[int] = ()) -> settlement_service_pb2.AuditResponse:
        """Return the audit of some assets; none are named: of all."""
        known = self._follower.view.assets
        wanted = list(assets) or list(known)
        for asset in wanted:
            if asset not in known:
                raise refused(DoorReason.DOOR_REASON_NOT_FOUND, f"there is no asset {asset}")

        def question() -> tuple[Any, Mapping[int, ShardProgress]]:
            shards = [one for number in sorted(self._settler.progress) if (one := self._settler.settlement(number))]
            return add_up(shards, [one.shard for one in self._settler.running()], wanted), self._settler.progress

        money, progress = await self._ask(question)
        answer = settlement_service_pb2.AuditResponse(
            passed=money.is_balanced and not any(one.stopped for one in progress.values()),
            positions=await self.positions(),
        )
        for line in money.lines:
            answer.lines.add(**line._asdict(), symbol=known[line.asset].symbol, difference_units=line.difference_units)
        return answer

    # --- helpers ----------------------------------------------------------------------------------------------------

    async def _heads(self) -> dict[int, Head | None]:
        shards = {shard: progress.tag for shard, progress in self._settler.progress.items()}
        found = await asyncio.gather(*(self._bus.head(tag) for tag in shards.values()))
        return dict(zip(shards, found, strict=True))

    async def _ask(self, question: Callable[[], Any]) -> Any:
        """Return what a question gives that is asked in the settler's thread."""
        try:
            return await asyncio.wrap_future(self._settler.call(question))
        except RuntimeError as error:
            raise refused(DoorReason.DOOR_REASON_SETTLEMENT_STOPPED, str(error)) from error


class ControlServicer(MatchingServiceServicer):
    """MatchingService for shard 0, which settlement-plane runs itself."""

    def __init__(
        self,
        bus: AsyncBus,
        environment: Environment,
        loop: ShardLoop[ReferenceControl],
        follower: ControlFollower,
        intake: Intake,
        log: Log,
    ) -> None:
        self._bus = bus
        self._environment = environment
        self._loop = loop
        self._follower = follower
        self._intake = intake
        self._log = log

    async def Match(
        self, request: matching_service_pb2.MatchRequest, context: Any
    ) -> matching_service_pb2.MatchResponse:
        """Enter signed bytes into shard 0 and say what became of them."""
        check_bounds(request, _MATCH)
        _check_control(request.shard)
        commands = _commands_in(request.batches)
        if commands > REQUEST_COMMANDS_MAX:
            detail = f"{commands:,} commands, a request has at most {REQUEST_COMMANDS_MAX:,}; split it"
            raise refused(DoorReason.DOOR_REASON_MESSAGE_SIZE, detail)
        if request.ByteSize() > FRAME_BYTES_MAX - _FRAME_HEAD_BYTES:
            detail = f"{request.ByteSize():,} bytes, an entry has at most {FRAME_BYTES_MAX:,}; split it"
            raise refused(DoorReason.DOOR_REASON_MESSAGE_SIZE, detail)
        answer = matching_service_pb2.MatchResponse(durability=self._environment.durability.number)  # type: ignore[arg-type]
        if not request.batches and not request.operations:
            return answer
        wait_s = (request.wait_ms_max or WAIT_MS_DEFAULT) / 1000
        n, t_us, entry = 0, 0, None
        try:
            async with asyncio.timeout(wait_s):
                ingested = await self._intake.enter(
                    CONTROL_SHARD,
                    CONTROL_TAG,
                    operations=[SignedOperation(one.payload, one.signature) for one in request.operations],
                    batches=[SignedBatch(one.key_id, one.payload, one.signature) for one in request.batches],
                    control_n=self._follower.view.position,
                    commands=commands,
                )
                n, t_us = ingested.n, ingested.t_us
                entry = await self._intake.executed(CONTROL_TAG, n)
        except TimeoutError:
            pass
        except LookupError:
            logged = await self._log.entry(CONTROL_SHARD, CONTROL_TAG, n)
            entry = logged.executions if logged else None
        except BusRefusal as refusal:
            raise _refused_by_bus(refusal) from None
        if entry is None:
            state = outcome_pb2.SEND_STATE_SEQUENCED if n else outcome_pb2.SEND_STATE_UNKNOWN
            for place in range(1, len(request.batches) + 1):
                answer.batches.add(state=state, n=n, batch=place if n else 0, t_us=t_us)
            for place in range(1, len(request.operations) + 1):
                answer.operations.add(state=state, n=n, operation=place if n else 0, t_us=t_us)
            return answer
        frame = frame_pb2.ExecutionFrame.FromString(entry.frame)
        for place, signed in enumerate(request.batches, 1):
            answer.batches.append(await self._batch_outcome(frame, place, signed))
        for place in range(1, len(request.operations) + 1):
            answer.operations.append(await self._operation_outcome(frame, place, request.operations[place - 1]))
        return answer

    async def _batch_outcome(
        self, frame: frame_pb2.ExecutionFrame, place: int, signed: batch_pb2.SignedBatch
    ) -> outcome_pb2.BatchOutcome:
        batch = _batch_in(signed.payload)
        account, valid_until_ms = (batch.account, batch.valid_until_ms) if batch else (0, 0)
        outcome = cut_outcome(frame, place, account)
        if outcome is None:
            return outcome_pb2.BatchOutcome(
                state=outcome_pb2.SEND_STATE_REFUSED,
                n=frame.n,
                batch=place,
                t_us=frame.t_us,
                reject_reason=RejectReason.MALFORMED,  # type: ignore[arg-type]
                detail="the frame was refused as a whole; look at its other parts",
            )
        repeated = outcome.events[0].batch_result
        if repeated.repeat_n:
            first = await self._first(repeated.repeat_n)
            original = cut_outcome(first, repeated.repeat_batch, account) if first else None
            if original is None:
                return outcome_pb2.BatchOutcome(
                    state=outcome_pb2.SEND_STATE_UNKNOWN,
                    n=repeated.repeat_n,
                    batch=repeated.repeat_batch,
                    repeated=True,
                )
            original.repeated = True
            return original
        if outcome.reject_reason:
            reason = RejectReason(outcome.reject_reason)
            outcome.executable_until_ms = 0 if reason in _NEVER_AGAIN else valid_until_ms
            outcome.detail = EXPLANATIONS[reason][:512]
        return outcome

    async def _operation_outcome(
        self, frame: frame_pb2.ExecutionFrame, place: int, signed: operation_pb2.SignedOperation
    ) -> outcome_pb2.OperationOutcome:
        outcome = cut_operation(frame, place)
        if outcome is None:
            return outcome_pb2.OperationOutcome(
                state=outcome_pb2.SEND_STATE_REFUSED,
                n=frame.n,
                operation=place,
                t_us=frame.t_us,
                reject_reason=RejectReason.MALFORMED,  # type: ignore[arg-type]
                detail="the frame was refused as a whole; look at its other parts",
            )
        result = outcome.events[0].operation_result
        if result.repeat_n:
            logged = await self._log.entry(CONTROL_SHARD, CONTROL_TAG, result.repeat_n)
            original = _operation_again(logged, signed.payload) if logged else None
            if original is not None:
                return original
        if outcome.reject_reason:
            outcome.detail = EXPLANATIONS[RejectReason(outcome.reject_reason)][:512]
        return outcome

    async def _first(self, n: int) -> frame_pb2.ExecutionFrame | None:
        logged = await self._log.entry(CONTROL_SHARD, CONTROL_TAG, n)
        return frame_pb2.ExecutionFrame.FromString(logged.executions.frame) if logged else None

    async def WhatIf(self, request: matching_service_pb2.WhatIfRequest, context: Any) -> Any:
        """Shard 0 does not trade."""
        raise invalid({"shard": f"{request.shard} is not in 1 .. {SHARD_MAX}: shard 0 does not trade"})

    async def GetBook(self, request: matching_service_pb2.MatchingServiceGetBookRequest, context: Any) -> Any:
        """Shard 0 has no books."""
        raise refused(
            DoorReason.DOOR_REASON_NOT_FOUND,
            f"shard 0 has no book of market {request.market}; ask the shard that MarketDataService says serves it",
        )

    async def GetShard(
        self, request: matching_service_pb2.GetShardRequest, context: Any
    ) -> matching_service_pb2.GetShardResponse:
        """Return how shard 0 is doing."""
        check_bounds(request, {"shard": Bounds(0, SHARD_MAX)})
        _check_control(request.shard)
        answer = matching_service_pb2.GetShardResponse(status=self.status())
        try:
            head = await self._bus.head(CONTROL_TAG)
        except BusUnavailable:
            head = None
        if head is not None:
            answer.status.orders_n = max(answer.status.orders_n, head.orders_n)
            answer.status.stopped = answer.status.stopped or head.stopped
        if request.with_state_hash:

            def hashed() -> tuple[bytes, matching_service_pb2.ShardStatus]:
                with self._loop.reading() as engine:
                    return engine.state_hash(), self.status(engine)

            state_hash, status = await asyncio.to_thread(hashed)
            answer.status.executed.CopyFrom(status.executed)
            answer.state_hash = state_hash
        return answer

    def status(self, engine: ReferenceControl | None = None) -> matching_service_pb2.ShardStatus:
        """Return how shard 0 is doing, by what is at hand here."""
        figures = self._loop.figures
        summary = engine.summary() if engine is not None else self._loop.summary()
        status = matching_service_pb2.ShardStatus(
            orders_n=figures.orders_n,
            durable_n=figures.position,
            epoch=self._loop.epoch,
            durability=self._environment.durability.number,  # type: ignore[arg-type]
            engine=self._loop.engine_name,
            stopped=self._loop.message,
        )
        if summary is not None:
            status.executed.CopyFrom(
                position_pb2.ShardPosition(
                    shard=CONTROL_SHARD, n=summary.n, t_us=summary.t_us, chain_hash=summary.chain_hash
                )
            )
            status.durable_n = summary.n
            status.rules, status.rules_max = summary.rules, summary.rules_max
            status.control_floor = summary.control_floor
            status.settings.ParseFromString(summary.settings)
            status.markets, status.accounts = summary.markets, summary.accounts
            status.open_orders, status.live_nonces = summary.open_orders, summary.live_nonces
            status.timers, status.pending_cancel_alls = summary.timers, summary.pending_cancel_alls
        return status


_NEVER_AGAIN: Final = frozenset(
    {
        RejectReason.MALFORMED,
        RejectReason.WRONG_SHARD,
        RejectReason.BAD_SIGNATURE,
        RejectReason.KEY_REVOKED,
        RejectReason.BATCH_EXPIRED,
    }
)
"""Refusals of batches that no time mends."""


def position_of(progress: ShardProgress) -> position_pb2.ShardPosition:
    """Return the settled position of a shard."""
    return position_pb2.ShardPosition(
        shard=progress.shard, n=progress.n, t_us=progress.t_us, chain_hash=progress.chain_hash
    )


def _each_once(request: settlement_service_pb2.SettleRequest) -> Mapping[str, str]:
    seen: set[int] = set()
    wrong = {}
    for place, position in enumerate(request.positions):
        if position.shard in seen:
            wrong[f"positions[{place}].shard"] = f"{position.shard} comes twice"
        seen.add(position.shard)
    return wrong


def _check_control(shard: int) -> None:
    if shard != CONTROL_SHARD:
        raise refused(
            DoorReason.DOOR_REASON_UNKNOWN_SHARD,
            f"this process serves shard 0, not shard {shard}; ask its matcher, or port 9090, which forwards",
        )


def _batch_in(payload: bytes) -> batch_pb2.Batch | None:
    batch = batch_pb2.Batch()
    try:
        batch.MergeFromString(payload)
    except Exception:  # noqa: BLE001 - protobuf's several errors: the shard calls it malformed
        return None
    return batch


def _commands_in(batches: Iterable[batch_pb2.SignedBatch]) -> int:
    parsed = (_batch_in(signed.payload) for signed in batches)
    return sum(len(batch.commands) for batch in parsed if batch is not None)


def _operation_again(logged: Archived, payload: bytes) -> outcome_pb2.OperationOutcome | None:
    """Return the first outcome of an operation, from the entry that has the operation of its request id."""
    name = operation_pb2.Operation.FromString(payload).request_id
    order_frame = frame_pb2.OrderFrame.FromString(logged.orders.order_frame)
    frame = frame_pb2.ExecutionFrame.FromString(logged.executions.frame)
    for place, signed in enumerate(order_frame.operations, 1):
        if operation_pb2.Operation.FromString(signed.payload).request_id == name:
            outcome = cut_operation(frame, place)
            if outcome is not None and not outcome.reject_reason:
                return outcome
    return None


def _refused_by_bus(refusal: BusRefusal) -> Refusal:
    reason = {
        BusReason.OVERLOADED: DoorReason.DOOR_REASON_OVERLOADED,
        BusReason.OUT_OF_MEMORY: DoorReason.DOOR_REASON_OVERLOADED,
        BusReason.CLOCK_SKEW: DoorReason.DOOR_REASON_CLOCK_SKEW,
        BusReason.FRAME_SIZE: DoorReason.DOOR_REASON_MESSAGE_SIZE,
    }.get(refusal.reason, DoorReason.DOOR_REASON_UNAVAILABLE)
    return refused(reason, refusal.detail, retry_after_ms=refusal.retry_after_ms or None)
