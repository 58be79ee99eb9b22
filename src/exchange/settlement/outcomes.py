"""Outcomes of batches, cut out of execution frames as their sender is to see them."""

from typing import NamedTuple

from clob.v1 import batch_pb2, event_pb2, frame_pb2, outcome_pb2
from exchange.domain.frames import FORMAT
from exchange.wire.hashing import digest_of

_MAKER_FIELDS = ("maker_account", "maker_account_seq", "maker_order_id", "maker_fee_quote_units")
_TAKER_FIELDS = ("taker_account", "taker_account_seq", "taker_order_id", "taker_fee_quote_units")


class FoundBatch(NamedTuple):
    """A batch in an entry: its 1-based place, its account and valid_until_ms, and the digest of its payload."""

    place: int
    account: int
    valid_until_ms: int
    digest: bytes


def find_batches(order_frame: bytes, key_id: bytes, nonce: int) -> list[FoundBatch]:
    """Return the batches of a key and nonce in an order frame, in order; unreadable payloads are passed over."""
    frame = frame_pb2.OrderFrame.FromString(order_frame)
    assert frame.format == FORMAT
    found = []
    for place, signed in enumerate(frame.batches, 1):
        if signed.key_id != key_id:
            continue
        batch = batch_pb2.Batch()
        try:
            batch.MergeFromString(signed.payload)
        except Exception:  # noqa: BLE001, S112 - protobuf's several errors: the engine calls it malformed too
            continue
        if batch.nonce == nonce:
            found.append(FoundBatch(place, batch.account, batch.valid_until_ms, digest_of(signed.payload)))
    return found


def cut_outcome(frame: frame_pb2.ExecutionFrame, place: int, account: int) -> outcome_pb2.BatchOutcome | None:
    """Return what became of the batch at a place in an executed frame, as the owner of `account` may see it.

    Batches come last in a frame, so what stands between two results belongs to the first of the two. A repetition is
    returned as it stands: with nothing but its BatchResult.

    Args:
        frame: the execution frame.
        place: 1-based place of the batch.
        account: of the batch.

    Returns:
        The outcome; None: the frame says nothing of such a batch, because it was refused as a whole.
    """
    outcome = outcome_pb2.BatchOutcome(n=frame.n, batch=place, t_us=frame.t_us)
    is_ours = False
    for event in frame.events:
        kind = event.WhichOneof("event")
        if kind == "batch_result":
            is_ours = event.batch_result.batch == place
            if is_ours:
                reason = event.batch_result.reason
                executed = outcome_pb2.SEND_STATE_EXECUTED
                outcome.state = outcome_pb2.SEND_STATE_REFUSED if reason else executed
                outcome.reject_reason = reason
        if is_ours:
            outcome.events.append(event if kind != "trade" else blanked(event, account))
    return outcome if outcome.events else None


def blanked(event: event_pb2.Event, account: int) -> event_pb2.Event:
    """Return a trade with the sides left out that are not the account's."""
    trade = event.trade
    hidden = (() if trade.maker_account == account else _MAKER_FIELDS) + (
        () if trade.taker_account == account else _TAKER_FIELDS
    )
    if not hidden:
        return event
    shown = event_pb2.Event()
    shown.CopyFrom(event)
    for field in hidden:
        shown.trade.ClearField(field)
    return shown


def cut_operation(frame: frame_pb2.ExecutionFrame, place: int) -> outcome_pb2.OperationOutcome | None:
    """Return what became of the operation at a place in an executed frame; None: the frame was refused as a whole.

    What follows its result belongs to it, up to the next operation, link, request or batch.
    """
    outcome = outcome_pb2.OperationOutcome(n=frame.n, operation=place, t_us=frame.t_us)
    is_ours = False
    for event in frame.events:
        kind = event.WhichOneof("event")
        if kind in _RESULTS:
            is_ours = kind == "operation_result" and event.operation_result.operation == place
            if is_ours:
                reason = event.operation_result.reason
                outcome.state = outcome_pb2.SEND_STATE_REFUSED if reason else outcome_pb2.SEND_STATE_EXECUTED
                outcome.reject_reason = reason
        if is_ours:
            outcome.events.append(event)
    return outcome if outcome.events else None


_RESULTS = frozenset({"operation_result", "link_result", "request_result", "batch_result"})
"""Events that begin what belongs to a part of an entry."""
