"""Outcomes of what an operator entered, cut out of an execution frame."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from clob.v1 import event_pb2, frame_pb2, outcome_pb2
from exchange.domain.commands import Batch
from exchange.domain.explanations import EXPLANATIONS
from exchange.domain.rejects import RejectReason
from exchange.matcher.checks import RefusedBatch

DETAIL_BYTES_MAX: Final = 512
NEVER_AGAIN: Final = frozenset(
    {
        RejectReason.MALFORMED,
        RejectReason.WRONG_SHARD,
        RejectReason.BATCH_EXPIRED,
        RejectReason.NONCE_REUSED,
        RejectReason.BAD_SIGNATURE,
    }
)
"""Verdicts on a whole batch that cannot change as long as the batch could be executed."""
RETRY_AFTER_MS: Final[Mapping[RejectReason, int]] = {
    RejectReason.STALE_CONTROL: 100,
    RejectReason.ENTRY_WORK_LIMIT: 10,
    RejectReason.TOO_MANY_NONCES: 1_000,
    RejectReason.VALIDITY_TOO_LONG: 1_000,
}
"""Verdicts on a whole batch that waiting can change."""

_PARTS: Final = frozenset({"frame_refused", "operation_result", "link_result", "request_result", "batch_result"})
_MAKER_FIELDS: Final = ("maker_account", "maker_account_seq", "maker_order_id", "maker_fee_quote_units")
_TAKER_FIELDS: Final = ("taker_account", "taker_account_seq", "taker_order_id", "taker_fee_quote_units")


class Parts(NamedTuple):
    """The events of a frame by the batch and the operation that they answer; places count from 1."""

    frame: frame_pb2.ExecutionFrame
    batches: dict[int, list[event_pb2.Event]]
    operations: dict[int, list[event_pb2.Event]]


def read_parts(data: bytes) -> Parts:
    """Cut an execution frame of our own log into its parts."""
    frame = frame_pb2.ExecutionFrame.FromString(data)
    batches: dict[int, list[event_pb2.Event]] = {}
    operations: dict[int, list[event_pb2.Event]] = {}
    events: list[event_pb2.Event] = []
    for event in frame.events:
        kind = event.WhichOneof("event")
        if kind in _PARTS:
            # What stands before the first part is of timers and mass cancels, and answers nobody.
            events = []
            if kind == "batch_result":
                events = batches[event.batch_result.batch] = []
            elif kind == "operation_result":
                events = operations[event.operation_result.operation] = []
        events.append(event)
    return Parts(frame, batches, operations)


def batch_outcome(parts: Parts, place: int, batch: Batch) -> outcome_pb2.BatchOutcome:
    """Return what became of the batch at a place, as its account may see it."""
    events = parts.batches[place]
    outcome = outcome_pb2.BatchOutcome(
        n=parts.frame.n, batch=place, t_us=parts.frame.t_us, events=[_seen_by(batch.account, event) for event in events]
    )
    result = events[0].batch_result
    if not result.reason:
        outcome.state = outcome_pb2.SEND_STATE_EXECUTED
        return outcome
    reason = RejectReason(result.reason)
    outcome.state = outcome_pb2.SEND_STATE_REFUSED
    outcome.reject_reason = result.reason
    outcome.executable_until_ms = 0 if reason in NEVER_AGAIN else batch.valid_until_ms
    outcome.retry_after_ms = RETRY_AFTER_MS.get(reason, 0)
    outcome.detail = _clip(EXPLANATIONS[reason])
    return outcome


def operation_outcome(parts: Parts, place: int) -> outcome_pb2.OperationOutcome:
    """Return what became of the operation at a place."""
    events = parts.operations[place]
    outcome = outcome_pb2.OperationOutcome(
        state=outcome_pb2.SEND_STATE_EXECUTED, n=parts.frame.n, operation=place, t_us=parts.frame.t_us, events=events
    )
    reason = events[0].operation_result.reason
    if reason:
        outcome.state = outcome_pb2.SEND_STATE_REFUSED
        outcome.reject_reason = reason
        outcome.detail = _clip(EXPLANATIONS[RejectReason(reason)])
    return outcome


def refused_batch(refusal: RefusedBatch) -> outcome_pb2.BatchOutcome:
    """Return the outcome of a batch that was not entered."""
    return outcome_pb2.BatchOutcome(
        state=outcome_pb2.SEND_STATE_REFUSED,
        door_reason=refusal.reason,
        executable_until_ms=refusal.executable_until_ms,
        detail=_clip(refusal.detail),
    )


def _seen_by(account: int, event: event_pb2.Event) -> event_pb2.Event:
    """Return an event with what belongs to other accounts left out of a trade."""
    if event.WhichOneof("event") != "trade":
        return event
    seen = event_pb2.Event()
    seen.CopyFrom(event)
    for owner, fields in ((seen.trade.maker_account, _MAKER_FIELDS), (seen.trade.taker_account, _TAKER_FIELDS)):
        if owner != account:
            for field in fields:
                seen.trade.ClearField(field)
    return seen


def _clip(text: str) -> str:
    return text.encode()[:DETAIL_BYTES_MAX].decode(errors="ignore")
