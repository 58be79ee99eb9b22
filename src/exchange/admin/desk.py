"""The desk where operations are signed and entered, each once, in an order without gaps.

Each shard has a lane: one frame is under way, and what is asked for meanwhile waits and goes together in the next one.
An operation has the next sequence number of its role, read from what the shard has executed. What is signed is entered
again, the same bytes, until an execution shows it; only an operation that was not applied because somebody else used
its number is signed anew. Request ids (`names`) tell operations of shard 0 apart; those of trading shards can all be
applied twice without another effect.
"""

import asyncio
import logging
import stat
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from clob.v1.door_reason_pb2 import DoorReason
from exchange.admin.executed import Outcome, operation_outcomes, request_outcomes
from exchange.admin.port import Executed, Host, NotExecutedYet
from exchange.admin.refusals import AdminRefusal, refused_by_shard, unavailable
from exchange.config.environment import Environment
from exchange.domain.control import ControlRequest
from exchange.domain.limits import (
    FRAME_BYTES_MAX,
    FRAME_OPERATIONS_MAX,
    FRAME_REQUESTS_MAX,
    OPERATION_ACTIONS_MAX,
    OPERATION_BYTES_MAX,
)
from exchange.domain.operations import Operation, OperatorAction, OperatorRole, SignedOperation
from exchange.domain.rejects import RejectReason
from exchange.domain.signing import PrivateKeyError, SignedKind, parse_private_key, signed_bytes
from exchange.domain.units import CONTROL_SHARD
from exchange.reference.signing import public_key_of, sign
from exchange.wire.messages import encode

_log = logging.getLogger(__name__)

ENTER_WAIT_S: Final = 5.0
"""How long one attempt to enter a frame may take."""
BACKOFF_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
WAITING_MAX: Final = 8_192
"""Most jobs that wait for a shard."""
SIGNED_ANEW_MAX: Final = 16
"""Most times that a job's operations are signed anew, because somebody else uses the role's numbers too."""
FRAME_ACTIONS_MAX: Final = 4 * OPERATION_ACTIONS_MAX
"""Most actions in a frame. A shard does nothing else while it executes one, and traders should not notice. A short
operation and a full one fit in any case: what claims a name goes with what has it (`listing.ClaimedJob`)."""
_FRAME_BYTES: Final = FRAME_BYTES_MAX - 65_536
"""Bytes of operations and requests in a frame; the rest is for what surrounds them."""
_OPERATION_BYTES: Final = OPERATION_BYTES_MAX - 128
_ACTION_BYTES: Final = 224
"""Most bytes of an action without tables, in an operation."""
_ROW_BYTES: Final = 20
_TRY_AGAIN: Final = frozenset({RejectReason.SEQUENCE_USED, RejectReason.SEQUENCE_GAP, RejectReason.ENTRY_WORK_LIMIT})


class OperatorKeyError(ValueError):
    """The file with an operator's key cannot be used. The message names file and rule, and never holds the key."""


def read_operator_key(path: Path, role: OperatorRole, environment: Environment) -> bytes:
    """Return the private key of a role from its file.

    Raises:
        OperatorKeyError: it cannot be read, others may read it, it holds no private key, or not the role's.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorKeyError(f"OPERATOR_KEY_FILE: {path}: cannot be read: {type(error).__name__}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise OperatorKeyError(
            f"OPERATOR_KEY_FILE: {path} has mode {stat.S_IMODE(mode):04o}: only its owner may have access; chmod 600 it"
        )
    try:
        seed = parse_private_key(text)
    except PrivateKeyError as error:
        raise OperatorKeyError(f"OPERATOR_KEY_FILE: {path}: {error}") from error
    wanted = environment.operators[role.name.lower()]
    if public_key_of(seed).hex() != wanted:
        raise OperatorKeyError(
            f"OPERATOR_KEY_FILE: {path} does not hold the key of role {role.name.lower()} of environment "
            f"{environment.name}, whose public key is {wanted}"
        )
    return seed


class Part(NamedTuple):
    """An operation to be signed: at most 1,024 actions and 262,016 bytes. `name` is its request id in shard 0."""

    role: OperatorRole
    actions: tuple[OperatorAction, ...]
    name: bytes = b""


class Job(Protocol):
    """Something that takes one or more operations."""

    alone: bool
    """Nothing of others goes in one frame with it, because its parts depend on what there is."""

    def parts(self) -> Sequence[Part]:
        """Return what is left to be done, planned on the present state; none: it is done.

        Called again after every frame. More than a frame holds may be returned; the rest is asked for again.

        Raises:
            AdminRefusal: it cannot be done.
            NotExecutedYet: the present state cannot be looked at; it is asked again.
        """

    def take(self, part: Part, outcome: Outcome) -> None:
        """Take what became of a part: applied, a repetition, or refused as a whole.

        Raises:
            AdminRefusal: the job fails.
        """


class OneOperation:
    """A job of one operation.

    Attributes:
        outcome: what became of it, once it is done.
    """

    alone = False

    def __init__(self, role: OperatorRole, actions: Iterable[OperatorAction], name: bytes = b"") -> None:
        self._part = Part(role, tuple(actions), name)
        self.outcome: Outcome | None = None

    def parts(self) -> Sequence[Part]:
        """Return the operation until it is done."""
        return () if self.outcome is not None else (self._part,)

    def take(self, part: Part, outcome: Outcome) -> None:
        """Take what became of it."""
        assert part is self._part
        self.outcome = outcome


class _Waiting:
    """A job or a request in a lane, with whoever waits for it."""

    def __init__(self, work: "Job | ControlRequest") -> None:
        self.work = work
        self.done: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
        self.is_begun = False
        self.signed_anew = 0

    def settle(self, outcome: Outcome | None = None) -> None:
        if not self.done.done():
            self.done.set_result(outcome)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)
            # Whoever waited may have gone: the error was theirs, not the loop's to complain about.
            self.done.exception()


class Desk:
    """Signs and enters operations, and enters control requests."""

    def __init__(self, host: Host, keys: Mapping[OperatorRole, bytes]) -> None:
        """Open the desk.

        Args:
            host: where to enter.
            keys: private keys of the roles that it signs for.
        """
        self._host = host
        self._keys = dict(keys)
        self._lanes: dict[int, _Lane] = {}

    def __repr__(self) -> str:
        return f"Desk({self._host.environment.name}, {[role.name for role in self._keys]})"

    async def close(self) -> None:
        """Stop. What is under way may still be executed."""
        lanes, self._lanes = list(self._lanes.values()), {}
        await asyncio.gather(*(lane.close() for lane in lanes))

    async def operate(
        self, shard: int, role: OperatorRole, actions: Iterable[OperatorAction], *, name: bytes = b"", wait_s: float
    ) -> Outcome:
        """Have one operation executed and return what became of it; in a trading shard it is always applied.

        Raises:
            AdminRefusal: the shard refused it as a whole; or UNAVAILABLE: no execution in time, it may still come.
        """
        job = OneOperation(role, actions, name)
        await self.do(shard, job, wait_s)
        assert job.outcome is not None
        if job.outcome.reason and shard != CONTROL_SHARD:
            reason = RejectReason(job.outcome.reason)
            raise refused_by_shard(reason, f"shard {shard} refused the operation in entry {job.outcome.n}")
        return job.outcome

    async def do(self, shard: int, job: Job, wait_s: float) -> None:
        """Have all parts of a job executed. Raises as `operate` does."""
        await self._lane(shard).submit(job, wait_s)

    async def request(self, request: ControlRequest, wait_s: float) -> Outcome:
        """Have a control request executed and return what became of it. Raises as `operate` does."""
        outcome = await self._lane(CONTROL_SHARD).submit(request, wait_s)
        assert outcome is not None
        return outcome

    def last_entered(self, shard: int) -> int:
        """Return the position of the last entry that this desk has entered into a shard; 0: none."""
        lane = self._lanes.get(shard)
        return lane.last_n if lane else 0

    def _lane(self, shard: int) -> "_Lane":
        if shard not in self._lanes:
            self._lanes[shard] = _Lane(self._host, shard, self._keys)
        return self._lanes[shard]


class _Lane:
    """One shard's queue and the task that empties it."""

    def __init__(self, host: Host, shard: int, keys: Mapping[OperatorRole, bytes]) -> None:
        self._host = host
        self._shard = shard
        self._keys = keys
        self._sequences: dict[OperatorRole, int] = {}
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._trouble: NotExecutedYet | None = None
        self._task = asyncio.create_task(self._run(), name=f"desk-{shard}")
        self.last_n = 0

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for waiting in self._waiting:
            waiting.fail(AdminRefusal(DoorReason.DOOR_REASON_DRAINING, "this process is shutting down"))

    async def submit(self, work: "Job | ControlRequest", wait_s: float) -> Outcome | None:
        if self._task.done():
            raise unavailable(f"nothing can be entered into shard {self._shard}: the desk is closed")
        if len(self._waiting) >= WAITING_MAX:
            raise AdminRefusal(
                DoorReason.DOOR_REASON_OVERLOADED,
                f"{WAITING_MAX} operators' calls wait for shard {self._shard}; repeat the call later",
                retry_after_ms=1_000,
            )
        waiting = _Waiting(work)
        self._waiting.append(waiting)
        self._arrived.set()
        try:
            return await asyncio.wait_for(asyncio.shield(waiting.done), max(wait_s, 0.001))
        except TimeoutError:
            why = f": {self._trouble.detail}" if self._trouble else ""
            if not waiting.is_begun:
                waiting.done.cancel()
                raise unavailable(
                    f"shard {self._shard} executed nothing in time{why}. Nothing of this call was entered; repeat it"
                ) from None
            raise unavailable(
                f"shard {self._shard} did not answer in time{why}. It is entered until it is executed; repeat the call "
                "under the same request_id to learn what became of it"
            ) from None

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            taken = self._take()
            if not taken:
                self._arrived.clear()
                continue
            try:
                await self._execute(taken)
            except AdminRefusal as error:
                for waiting in taken:
                    waiting.fail(error)
            except Exception as error:  # noqa: BLE001 - a mistake in one call must not close the lane for all
                _log.exception("entering into shard %d failed", self._shard)
                for waiting in taken:
                    waiting.fail(error)

    def _take(self) -> list[_Waiting]:
        """Take what goes into one frame as far as it can be told before planning: a job that goes alone, or others."""
        taken: list[_Waiting] = []
        operations = requests = 0
        while self._waiting:
            waiting = self._waiting[0]
            if waiting.done.cancelled():
                self._waiting.popleft()
                continue
            is_request = isinstance(waiting.work, ControlRequest)
            alone = not isinstance(waiting.work, ControlRequest) and waiting.work.alone
            operations, requests = operations + (not is_request), requests + is_request
            if taken and (alone or operations > FRAME_OPERATIONS_MAX or requests > FRAME_REQUESTS_MAX):
                break
            taken.append(self._waiting.popleft())
            if alone:
                break
        return taken

    async def _execute(self, taken: list[_Waiting]) -> None:
        """Enter frames until everything that was taken is done."""
        while True:
            planned: list[tuple[_Waiting, Part, SignedOperation, int]] = []
            asked: list[tuple[_Waiting, ControlRequest]] = []
            room, actions, is_put_off = _FRAME_BYTES, 0, False
            sequences = dict(await self._known_sequences())
            for waiting in taken:
                if waiting.done.done():
                    continue
                if isinstance(waiting.work, ControlRequest):
                    asked.append((waiting, waiting.work))
                    room -= 512
                    continue
                try:
                    parts = waiting.work.parts()
                except AdminRefusal as error:
                    waiting.fail(error)
                    continue
                except NotExecutedYet as trouble:
                    # What there is cannot be looked at for the moment.
                    self._trouble, is_put_off = trouble, True
                    continue
                if not parts:
                    waiting.settle()
                for part in parts[: FRAME_OPERATIONS_MAX - len(planned)]:
                    signed = self._sign(part, sequences[part.role] + 1)
                    room -= len(signed.payload) + 128
                    actions += len(part.actions)
                    if (room < 0 or actions > FRAME_ACTIONS_MAX) and (planned or asked):
                        break
                    sequences[part.role] += 1
                    planned.append((waiting, part, signed, sequences[part.role]))
                    # Encoding a thousand markets takes tens of milliseconds; the process has other things to do too.
                    await asyncio.sleep(0)
            if not planned and not asked:
                if not is_put_off:
                    return
                await asyncio.sleep(BACKOFF_S[0])
                continue
            for waiting in [*(waiting for waiting, *_ in planned), *(waiting for waiting, _ in asked)]:
                waiting.is_begun = True
            executed, again = await self._enter(
                [signed for _, _, signed, _ in planned], [request for _, request in asked]
            )
            self.last_n = max(self.last_n, executed.n)
            outcomes = operation_outcomes(executed.frame, executed.operations_before + 1, len(planned))
            for (waiting, part, _, sequence), outcome in zip(planned, outcomes, strict=True):
                self._take_outcome(waiting, part, sequence, outcome._replace(reentered=again))
            answers = request_outcomes(executed.frame, executed.requests_before + 1, len(asked))
            for (waiting, _), outcome in zip(asked, answers, strict=True):
                waiting.settle(outcome._replace(reentered=again))

    def _take_outcome(self, waiting: _Waiting, part: Part, sequence: int, outcome: Outcome) -> None:
        assert not isinstance(waiting.work, ControlRequest)
        if outcome.is_applied or outcome.repeated:
            if self._sequences:
                self._sequences[part.role] = sequence
        else:
            # Somebody else used the number, or the request id was known, and no number was used at all.
            self._sequences.clear()
        once_more = outcome.reason in _TRY_AGAIN or (outcome.repeated and self._shard != CONTROL_SHARD)
        if not once_more:
            try:
                waiting.work.take(part, outcome)
            except AdminRefusal as error:
                waiting.fail(error)
            return
        waiting.signed_anew += 1
        if waiting.signed_anew > SIGNED_ANEW_MAX:
            reason = RejectReason(outcome.reason).name if outcome.reason else "a repetition"
            waiting.fail(
                unavailable(
                    f"somebody else uses the numbers of role {part.role.name.lower()} in shard {self._shard}: "
                    f"operation {sequence} was refused as {reason}"
                )
            )

    async def _known_sequences(self) -> Mapping[OperatorRole, int]:
        """Return the last sequence numbers, as executed; asks the host when they are not known for sure."""
        backoff = iter(BACKOFF_S)
        while not self._sequences:
            facts = self._host.facts(self._shard)
            if facts is not None and facts.position >= self.last_n:
                self._sequences = dict(facts.sequences)
                break
            detail = f"its state is not known here yet (entry {self.last_n} is to be executed again first)"
            self._trouble = NotExecutedYet(self._shard, detail)
            if facts is None:
                await asyncio.sleep(next(backoff, BACKOFF_S[-1]))
            else:
                await self._host.wait(self._shard, lambda facts: facts.position >= self.last_n, ENTER_WAIT_S)
        return self._sequences

    async def _enter(self, operations: list[SignedOperation], requests: list[ControlRequest]) -> tuple[Executed, bool]:
        """Enter the same bytes until an execution shows them; return it, and whether it took more than one attempt."""
        backoff = iter(BACKOFF_S)
        again = False
        while True:
            try:
                executed = await self._host.enter(
                    self._shard, operations=operations, requests=requests, wait_s=ENTER_WAIT_S
                )
            except NotExecutedYet as trouble:
                if self._trouble is None:
                    _log.warning("shard %d does not execute what is entered, trying again: %s", self._shard, trouble)
                self._trouble, again = trouble, True
                await asyncio.sleep(next(backoff, BACKOFF_S[-1]))
                continue
            self._trouble = None
            return executed, again

    def _sign(self, part: Part, sequence: int) -> SignedOperation:
        seed = self._keys.get(part.role)
        if seed is None:
            raise unavailable(f"this process does not have the key of role {part.role.name.lower()}")
        payload = encode(Operation(self._shard, part.role, sequence, part.actions, part.name))
        return SignedOperation(
            payload, sign(seed, signed_bytes(SignedKind.OPERATOR, self._host.environment.name, payload))
        )


def in_parts(actions: Sequence[OperatorAction]) -> list[tuple[OperatorAction, ...]]:
    """Return the actions in order, cut into what fits one operation each."""
    parts: list[tuple[OperatorAction, ...]] = []
    part: list[OperatorAction] = []
    size = 0
    for action in actions:
        action_bytes = action_size(action)
        if part and (len(part) == OPERATION_ACTIONS_MAX or size + action_bytes > _OPERATION_BYTES):
            parts.append(tuple(part))
            part, size = [], 0
        part.append(action)
        size += action_bytes
    if part:
        parts.append(tuple(part))
    return parts


def action_size(action: OperatorAction) -> int:
    """Return how many bytes an action can take in an operation, at most."""
    rows = 0
    market = getattr(action, "market", None)
    if market is not None and not isinstance(market, int):
        rows = len(market.tick_table) + len(market.lot_table)
    return _ACTION_BYTES + _ROW_BYTES * rows
