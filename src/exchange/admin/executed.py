"""What became of an operation or a request, read out of the entry that has it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from clob.v1.event_pb2 import Event
from clob.v1.frame_pb2 import ExecutionFrame, OrderFrame
from clob.v1.operation_pb2 import Operation
from exchange.admin.port import LoggedEntry, NotInLogError
from exchange.domain.rejects import RejectReason

_PARTS = ("operation_result", "link_result", "request_result", "batch_result", "frame_refused")
"""Events that each begin what became of another part of the entry."""


class Outcome(NamedTuple):
    """What became of one operation or control request.

    Attributes:
        n, t_us: of the entry.
        reason: why the whole was not applied; 0: it was, or it repeats one.
        repeat_n: position of the entry that has the answer; 0: this one.
        repeated: it is the last operation of its role again.
        events: what its actions caused, or the request.
        reentered: the desk had entered the same bytes before and not heard of them: a repetition may be its own.
    """

    n: int
    t_us: int
    reason: int
    repeat_n: int
    repeated: bool
    events: Sequence[Event]
    reentered: bool = False

    @property
    def is_applied(self) -> bool:
        """Whether its events are here."""
        return not (self.reason or self.repeat_n or self.repeated)

    def refusals(self) -> dict[int, RejectReason]:
        """Return why actions were refused, by place in the operation, from 1."""
        return {
            event.action_rejected.action: RejectReason(event.action_rejected.reason)
            for event in self.events
            if event.WhichOneof("event") == "action_rejected"
        }


def operation_outcomes(frame: ExecutionFrame, first: int, count: int) -> list[Outcome]:
    """Return what became of `count` operations of an entry from place `first` on, which counts from 1."""
    found = {
        head.operation_result.operation: Outcome(
            frame.n,
            frame.t_us,
            head.operation_result.reason,
            head.operation_result.repeat_n,
            head.operation_result.repeated,
            events,
        )
        for head, events in _parts(frame)
        if head.WhichOneof("event") == "operation_result"
    }
    return [found[place] for place in range(first, first + count)]


def request_outcomes(frame: ExecutionFrame, first: int, count: int) -> list[Outcome]:
    """Return what became of `count` control requests of an entry from place `first` on, which counts from 1."""
    found = {
        head.request_result.request: Outcome(
            frame.n, frame.t_us, head.request_result.reason, head.request_result.repeat_n, False, events
        )
        for head, events in _parts(frame)
        if head.WhichOneof("event") == "request_result"
    }
    return [found[place] for place in range(first, first + count)]


class Logged(NamedTuple):
    """An operation as the log has it, with what became of it."""

    operation: Operation
    outcome: Outcome


def logged_operations(entry: LoggedEntry) -> dict[bytes, Logged]:
    """Return the operations that were applied in an entry of shard 0, by request id."""
    order_frame = OrderFrame.FromString(entry.order_frame)
    outcomes = operation_outcomes(ExecutionFrame.FromString(entry.execution_frame), 1, len(order_frame.operations))
    logged = (
        Logged(Operation.FromString(signed.payload), outcome)
        for signed, outcome in zip(order_frame.operations, outcomes, strict=True)
        if outcome.is_applied
    )
    return {one.operation.request_id: one for one in logged}


def logged_request(entry: LoggedEntry, n: int, request_id: bytes) -> Outcome:
    """Return what became of the control request of that id that was granted in entry n of shard 0.

    Raises:
        NotInLogError: there is none: shard 0 and its log disagree.
    """
    order_frame = OrderFrame.FromString(entry.order_frame)
    outcomes = request_outcomes(ExecutionFrame.FromString(entry.execution_frame), 1, len(order_frame.requests))
    for request, outcome in zip(order_frame.requests, outcomes, strict=True):
        if outcome.is_applied and request.request_id == request_id:
            return outcome
    raise NotInLogError(f"NOT_IN_LOG: entry {n} of shard 0 has no control request {request_id.hex()}")


def _parts(frame: ExecutionFrame) -> Iterator[tuple[Event, list[Event]]]:
    """Yield what begins each part of the entry, and the events that follow it up to the next one."""
    head: Event | None = None
    events: list[Event] = []
    for event in frame.events:
        if event.WhichOneof("event") in _PARTS:
            if head is not None:
                yield head, events
            head, events = event, []
        elif head is not None:
            events.append(event)
    if head is not None:
        yield head, events
