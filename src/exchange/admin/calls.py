"""What all calls share: their time, their names, and the first answer to each."""

import secrets
import time
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Final, NamedTuple

from clob.v1.door_reason_pb2 import DoorReason
from exchange.admin.desk import Desk
from exchange.admin.executed import Logged, Outcome, logged_operations, logged_request
from exchange.admin.names import attempt_name, made_key_name
from exchange.admin.port import Host, NotInLogError
from exchange.admin.refusals import AdminRefusal, refuse_field, refused_by_shard
from exchange.domain.limits import REQUEST_ID_BYTES
from exchange.domain.operations import Operation, OperatorAction, OperatorRole
from exchange.domain.rejects import RejectReason
from exchange.domain.units import CONTROL_SHARD
from exchange.wire.entries import operation_body_digest

WAIT_S_DEFAULT: Final = 30.0
"""How long a call waits whose caller gave no deadline."""
MARGIN_S: Final = 0.25
"""Time before the caller's deadline that is kept for the answer."""
_ONE_THING: Final = frozenset({"open_account", "register_key", "revoke_key", "close_withdrawal"})
"""Actions of calls about one thing: where the shard refuses them the call fails and has no answer."""


class Time:
    """The time that a call has."""

    def __init__(self, wait_s: float | None) -> None:
        self._ends_s = time.monotonic() + max((WAIT_S_DEFAULT if wait_s is None else wait_s) - MARGIN_S, 0.05)

    @property
    def left_s(self) -> float:
        """Seconds that are left; not below zero."""
        return max(self._ends_s - time.monotonic(), 0.0)


class Answer(NamedTuple):
    """What became of a call's one operation; `repeated` where an earlier call asked for it."""

    outcome: Outcome
    repeated: bool


class Calls:
    """Names of requests, and their answers in the log of shard 0."""

    def __init__(self, host: Host, desk: Desk) -> None:
        self.host = host
        self.desk = desk

    async def once(
        self, role: OperatorRole, actions: Sequence[OperatorAction], request_id: bytes, time_: Time
    ) -> Answer:
        """Have an operation of shard 0 executed once for a request, whose body is the actions.

        Raises:
            AdminRefusal: REQUEST_ID_REUSED; or as `Desk.operate` does.
        """
        self.check_no_user(request_id)
        is_own = False
        while True:
            name, logged = await self.answer_of(request_id)
            if logged is not None:
                known = self.host.answered(name, by_operator=True)
                body = operation_body_digest(Operation(CONTROL_SHARD, role, 1, tuple(actions), name))
                if known is None or known.digest != body:
                    raise reused(request_id)
                return Answer(logged.outcome, repeated=not is_own)
            outcome = await self.desk.operate(CONTROL_SHARD, role, actions, name=name, wait_s=time_.left_s)
            if outcome.is_applied:
                return Answer(outcome, repeated=False)
            # An operation of that name came first and has the answer: another call's, or this one's when the desk had
            # to enter it twice.
            is_own = outcome.reentered
            if not (outcome.repeat_n or outcome.repeated or outcome.reason == RejectReason.REQUEST_ID_REUSED):
                raise refused_whole(outcome, CONTROL_SHARD)

    async def one_thing(
        self, role: OperatorRole, action: OperatorAction, request_id: bytes, time_: Time, what: str
    ) -> Answer:
        """Do as `once` does; what the shard refuses is the error of the call."""
        answer = await self.once(role, (action,), request_id, time_)
        for reason in answer.outcome.refusals().values():
            raise refused_by_shard(
                reason, f"{what}: shard 0 refused it in entry {answer.outcome.n}; nothing was changed"
            )
        return answer

    async def answer_of(self, request_id: bytes) -> tuple[bytes, Logged | None]:
        """Return the name that a request's operation has, and the operation where shard 0 has already applied one.

        Operations about one thing that were refused are passed over: they are errors, not answers.
        """
        for attempt in count():
            name = attempt_name(request_id, attempt)
            known = self.host.answered(name, by_operator=True)
            if known is None:
                return name, None
            logged = (await self.logged(known.n)).get(name)
            if logged is None:
                raise NotInLogError(f"NOT_IN_LOG: entry {known.n} of shard 0 has no operation of request {name.hex()}")
            action = logged.operation.actions[0].WhichOneof("action") if len(logged.operation.actions) == 1 else None
            if action not in _ONE_THING or not logged.outcome.refusals():
                return name, logged
        raise AssertionError("attempts never end")

    async def logged(self, n: int) -> dict[bytes, Logged]:
        """Return the operations that were applied in entry n of shard 0, by request id."""
        return logged_operations(await self.host.entry(CONTROL_SHARD, n))

    async def logged_request(self, n: int, name: bytes) -> Outcome:
        """Return what became of the control request of that name that was granted in entry n."""
        return logged_request(await self.host.entry(CONTROL_SHARD, n), n, name)

    def check_no_user(self, request_id: bytes) -> None:
        """Refuse a request id that made a user.

        Raises:
            AdminRefusal: REQUEST_ID_REUSED.
        """
        if any(self.host.answered(name, by_operator=False) for name in (request_id, made_key_name(request_id))):
            raise reused(request_id)


def reused(request_id: bytes) -> AdminRefusal:
    """Return the refusal of a request id that was used for something else."""
    return AdminRefusal(
        DoorReason.DOOR_REASON_REQUEST_ID_REUSED,
        f"request_id {request_id.hex()} was used for another request; nothing was changed. Choose another",
    )


def refused_whole(outcome: Outcome, shard: int) -> AdminRefusal:
    """Return the refusal of a call whose operation the shard did not apply."""
    reason = RejectReason(outcome.reason)
    return refused_by_shard(reason, f"shard {shard} refused the operation in entry {outcome.n}")


def request_id_of(given: bytes, *, required: bool = False) -> bytes:
    """Return the name of a request: the given one, or one that is chosen here.

    Raises:
        AdminRefusal: INVALID_FIELD: it has another length; REQUEST_ID_MISSING: it is required.
    """
    if given and len(given) != REQUEST_ID_BYTES:
        refuse_field("request_id", f"has {len(given)} bytes; a request id has {REQUEST_ID_BYTES}, or none where it may")
    if not given and required:
        raise AdminRefusal(
            DoorReason.DOOR_REASON_REQUEST_ID_MISSING,
            "this call moves money and needs a request_id of 16 bytes (over HTTP: Idempotency-Key), so that "
            "repeating it cannot move it twice",
        )
    return given or secrets.token_bytes(REQUEST_ID_BYTES)


def check_count(path: str, found: int, most: int) -> None:
    """Refuse a list that is empty or too long.

    Raises:
        AdminRefusal: INVALID_FIELD.
    """
    if not 1 <= found <= most:
        refuse_field(path, f"has {found} elements; 1 .. {most:,} are allowed")


def check_bytes(path: str, found: bytes, *lengths: int) -> None:
    """Refuse bytes of another length.

    Raises:
        AdminRefusal: INVALID_FIELD.
    """
    if len(found) not in lengths:
        refuse_field(path, f"has {len(found)} bytes; it has {' or '.join(str(length) for length in lengths)}")


class Numbers:
    """Gives out the next free number."""

    def __init__(self, taken: Iterable[int], asked: Iterable[int]) -> None:
        """Avoid the numbers that are taken, and those that the request asks for."""
        self._avoided = set(taken)
        self._last = max(self._avoided, default=0)
        self._avoided.update(asked)

    def peek(self) -> int:
        """Return the next free number, above all that are taken as long as there are such."""
        number = self._last + 1
        while number in self._avoided:
            number += 1
        if number >= 1 << 32:
            number = next(free for free in count(1) if free not in self._avoided)
        return number

    def use(self, number: int) -> None:
        """Take a number."""
        self._avoided.add(number)
        if number > self._last:
            self._last = number
