"""The desk of a worker: what both ways of taking messages have in common (`submissions`, `core_submissions`)."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, Protocol, cast

from google.protobuf.message import DecodeError

from clob.v1 import door_reason_pb2 as reasons
from clob.v1 import order_service_pb2
from exchange.bus.entries import ExecutionsEntry
from exchange.domain.limits import REQUEST_BYTES_MAX, REQUEST_COMMANDS_MAX
from exchange.ingress.crowd import PATIENCE_S, Room, Turn
from exchange.ingress.door import Door, ReadBatch, Refusal, as_error
from exchange.ingress.messages import Chunk, Executed, Refused, Sequenced
from exchange.ingress.outcomes import ScannedFrame
from exchange.serving import errors

_log = logging.getLogger(__name__)

BATCHES_MAX: Final = 4_096
WAIT_MS_MAX: Final = 30_000
WAIT_MS: Final = 5_000
CANCELS_RESERVE: Final = 8
"""One part in so many is let in beyond the most commands under way where a batch has only cancels."""
ATTEMPTS_MAX: Final = 4
"""How often the same bytes are handed on when keys change under them."""
ELSEWHERE_S_MAX: Final = 0.1
ELSEWHERE_ROWS_MAX: Final = 64
REPEATS_BYTES_MAX: Final = 64 * 1024 * 1024
"""Execution frames that are kept for repetitions."""
REPEATED_BYTES_MAX: Final = 16 * 1024 * 1024
"""Repeated outcomes in one answer: what is beyond it is told by its position, and by GetOutcome."""

CALL_REASONS: Final = frozenset(
    {
        reasons.DOOR_REASON_TOO_FAST,
        reasons.DOOR_REASON_OVERLOADED,
        reasons.DOOR_REASON_UNAVAILABLE,
        reasons.DOOR_REASON_DRAINING,
        reasons.DOOR_REASON_CLOCK_SKEW,
        reasons.DOOR_REASON_MESSAGE_SIZE,
    }
)
"""A call fails with one of these when all its batches were refused for it; MESSAGE_SIZE always is all of them's."""


class ExecutionsReader(Protocol):
    """What is needed of `AsyncBus`."""

    async def executions_range(
        self, tag: str, first_n: int, last_n: int, count: int | None = None
    ) -> list[ExecutionsEntry]:
        """Return entries of executions."""


OutcomeOf = Callable[[ReadBatch], Awaitable[order_service_pb2.GetOutcomeResponse | None]]
"""Asks settlement what became of a batch; None: it does not answer."""
ElsewhereOf = Callable[[int, int, int], Awaitable[Sequence[order_service_pb2.FundsElsewhere]]]
"""Says where else than in a shard an account has free units of an asset: account, asset, shard."""


class Counts:
    """What a worker has done so far."""

    __slots__ = (
        "batches_executed",
        "batches_let_in",
        "batches_read",
        "batches_refused",
        "batches_repeated",
        "batches_stale",
        "messages",
    )

    def __init__(self) -> None:
        self.messages = 0
        self.batches_read = 0
        self.batches_refused = 0
        self.batches_let_in = 0
        self.batches_stale = 0
        self.batches_repeated = 0
        self.batches_executed = 0

    def as_dict(self) -> dict[str, float]:
        """Return them by name."""
        return {name: getattr(self, name) for name in self.__slots__}


class FrameCache:
    """Execution frames that repetitions ask for: one reader per frame, and those asked for last are kept."""

    def __init__(self, executions: ExecutionsReader, bytes_max: int) -> None:
        self._executions = executions
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, int], ScannedFrame] = OrderedDict()
        self._reading: dict[tuple[str, int], asyncio.Task[ScannedFrame | None]] = {}

    async def get(self, tag: str, n: int) -> ScannedFrame | None:
        """Return an execution frame; None: it is no longer in the stream.

        Raises:
            BusUnavailable, BusRefusal: the bus does not answer.
            FrameError: it is no frame.
        """
        name = (tag, n)
        kept = self._kept.get(name)
        if kept is not None:
            self._kept.move_to_end(name)
            return kept
        task = self._reading.get(name)
        if task is None:
            task = asyncio.create_task(self._read(tag, n), name=f"frame-{tag}-{n}")
            self._reading[name] = task
            task.add_done_callback(lambda _: self._reading.pop(name, None))
        return await asyncio.shield(task)

    async def _read(self, tag: str, n: int) -> ScannedFrame | None:
        entries = await self._executions.executions_range(tag, n, n)
        if not entries:
            return None
        frame = ScannedFrame(entries[0].frame)
        self._kept[tag, n] = frame
        self._bytes += len(frame.data)
        while self._bytes > self._bytes_max and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest.data)
        return frame


class Desk(ABC):
    """Takes messages and answers them.

    Attributes:
        is_draining: nothing new is let in.
        counts: for the metrics.
    """

    def __init__(
        self,
        door: Door,
        executions: ExecutionsReader,
        send: Callable[[Chunk], bool],
        outcome_of: OutcomeOf,
        elsewhere_of: ElsewhereOf,
        durability: int,
        commands_max: int,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Make the desk of a worker.

        Args:
            door: that judges.
            executions: where results of repetitions are read.
            send: hands a chunk to the framer; False: there is none any more.
            outcome_of: asks settlement.
            elsewhere_of: asks market data.
            durability: what answers stand for.
            commands_max: most commands under way at once; an eighth more of them in batches that have only cancels.
            patience_s: how long a message waits for room before it is refused.
        """
        self.door = door
        self.is_draining = False
        self.counts = Counts()
        self._send = send
        self._outcome_of = outcome_of
        self._elsewhere_of = elsewhere_of
        self._durability = durability
        self._commands_max = commands_max
        self._frames = FrameCache(executions, REPEATS_BYTES_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = 0
        self._turn = Turn()
        self._room = Room(commands_max, patience_s, lambda: self.commands_under_way)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way and every message is answered."""
        return not (self.commands_under_way or self._open or self._tasks)

    @property
    @abstractmethod
    def commands_under_way(self) -> int:
        """Commands that were handed on and are not answered."""

    # --- messages ---------------------------------------------------------------------------------------------------

    @abstractmethod
    async def submit(self, request: bytes, address: str) -> bytes:
        """Return the SubmitResponse to a SubmitRequest.

        Raises:
            errors.Refusal: the call fails as OrderService.Submit says.
        """

    @abstractmethod
    async def take(self, request: bytes, address: str) -> tuple[int, Any]:
        """Let in a SubmitStreamRequest; what Submit would fail with is an outcome of every batch.

        Returns:
            its tag, and what `answer` answers.

        Raises:
            errors.Refusal: the bytes are none.
        """

    @abstractmethod
    async def answer(self, submission: Any, fails: bool) -> bytes:
        """Return the SubmitResponse when all is known that is waited for.

        Raises:
            errors.Refusal: every batch was refused for one reason that is the call's, where `fails`.
        """

    # --- from the framer --------------------------------------------------------------------------------------------

    def hear(self, message: Sequenced | Executed | Refused) -> None:
        """Take what the framer says, and let those go on who wait for room."""
        match message:
            case Sequenced():
                self.take_sequenced(message)
            case Executed():
                self.take_executed(message)
            case Refused():
                self.take_refused(message)
        self._room.wake()

    @abstractmethod
    def take_sequenced(self, message: Sequenced) -> None:
        """Chunks have positions."""

    @abstractmethod
    def take_executed(self, message: Executed) -> None:
        """Chunks have outcomes."""

    @abstractmethod
    def take_refused(self, message: Refused) -> None:
        """Chunks will not come into the log."""

    @abstractmethod
    def framer_lost(self) -> None:
        """The framer is gone: what was handed to it may be executed or not."""

    # --- for both ---------------------------------------------------------------------------------------------------

    def check_size(self, batches: int, size: int) -> None:
        """Raise errors.Refusal unless a message has a size that is worth an outcome for every batch."""
        if size > REQUEST_BYTES_MAX:
            detail = f"the message has {size} bytes, allowed are {REQUEST_BYTES_MAX}; split it"
            raise errors.refused(reasons.DOOR_REASON_MESSAGE_SIZE, detail)
        if batches > BATCHES_MAX:
            detail = f"the message has more than {BATCHES_MAX} batches; split it"
            raise errors.refused(reasons.DOOR_REASON_MESSAGE_SIZE, detail)

    def check(self, environment: str, wait: int, wait_ms_max: int, batches: int) -> errors.Refusal | None:
        """Return what is wrong with a message as a whole, of which these are the fields."""
        if (wrong := self.door.wrong_environment(environment)) is not None:
            return as_error(wrong)
        fields: dict[str, str] = {}
        if wait not in (0, 1, 2):
            fields["wait"] = f"{wait} is none of WAIT_LEVEL_SEQUENCED, WAIT_LEVEL_EXECUTED"
        if wait_ms_max > WAIT_MS_MAX:
            fields["wait_ms_max"] = f"{wait_ms_max} is not in 0 .. {WAIT_MS_MAX}"
        if not batches:
            fields["batches"] = f"has 0 elements, allowed are 1 .. {BATCHES_MAX}"
        return errors.invalid(fields) if fields else None

    async def elsewhere(self, short: Iterable[tuple[int, int, int]]) -> Sequence[order_service_pb2.FundsElsewhere]:
        """Return where else accounts that lack assets in shards have some, as far as it is known soon."""
        rows: list[order_service_pb2.FundsElsewhere] = []
        try:
            async with asyncio.timeout(ELSEWHERE_S_MAX):
                for account, asset, shard in sorted(short):
                    rows += await self._elsewhere_of(account, asset, shard)
                    if len(rows) >= ELSEWHERE_ROWS_MAX:
                        break
        except TimeoutError:
            pass
        return rows[:ELSEWHERE_ROWS_MAX]

    def start(self, coroutine: Coroutine[None, None, None]) -> None:
        """Do something that takes time; the desk is not idle before it is done."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("an answer was lost and its sender will be told UNKNOWN: %r", error, exc_info=error)


def parsed(message: type[Any], data: bytes) -> Any:
    """Return a message of the contracts.

    Raises:
        errors.Refusal: the bytes are none.
    """
    try:
        return message.FromString(data)
    except DecodeError:
        raise errors.invalid({"": f"the bytes are not a {message.DESCRIPTOR.name}"}) from None


def valid_until_ms(payload: bytes) -> int | None:
    """Return what the first fields of a payload say; None: they do not, so no shard takes it for a Batch.

    It costs no more for a long payload: fields come in order, each once, and the commands after them (batch.proto).
    """
    tag = pos = value = 0
    while tag != _VALID_UNTIL_TAG:
        if pos >= len(payload) or not tag < payload[pos] <= _VALID_UNTIL_TAG:
            return None
        tag = payload[pos]
        value = shift = 0
        more = True
        while more:
            pos += 1
            if pos >= len(payload) or shift > 63:
                return None
            value |= (payload[pos] & 0x7F) << shift
            shift += 7
            more = payload[pos] > 0x7F
        pos += 1
    return value if value <= _VALID_UNTIL_MS_MAX else None


_VALID_UNTIL_TAG: Final = 0x20
_VALID_UNTIL_MS_MAX: Final = 2**53 - 1


def reason_of(failure: errors.Refusal) -> reasons.DoorReason:
    """Return the reason of a call's failure as a batch's."""
    return cast(reasons.DoorReason, reasons.DoorReason.Value(f"DOOR_REASON_{failure.reason}"))


DRAINING: Final = Refusal(
    reasons.DOOR_REASON_DRAINING, "this process is shutting down; connect again and send the same bytes", 200
)
LOST: Final = Refusal(
    reasons.DOOR_REASON_UNAVAILABLE,
    "this process has lost its framer and ends; connect again and send the same bytes",
    500,
)
MESSAGE_SIZE: Final = Refusal(
    reasons.DOOR_REASON_MESSAGE_SIZE, f"the batches have more than {REQUEST_COMMANDS_MAX} commands; split the message"
)


def overloaded(commands_max: int) -> Refusal:
    """Return the refusal of a batch that comes while as many commands are under way as may be."""
    return Refusal(
        reasons.DOOR_REASON_OVERLOADED,
        f"{commands_max} commands are under way through this ingress, as many as it takes; send the same bytes again "
        "in 100 ms. Batches that only cancel or reduce orders have room beyond that",
        100,
    )


def failure_of(refusals: Sequence[Refusal], batches: int) -> Refusal | None:
    """Return what a call fails with: the one reason for which all its batches were refused, if it is such."""
    if len(refusals) < batches or len({refusal.reason for refusal in refusals}) != 1:
        return None
    longest = max(refusals, key=lambda refusal: refusal.retry_after_ms)
    return longest if longest.reason in CALL_REASONS else None
