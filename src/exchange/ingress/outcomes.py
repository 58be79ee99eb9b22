"""What senders are told, as bytes: outcomes of batches cut out of execution frames, and the answers made of them.

Events are copied as they stand in the log. `BatchOutcome.events` has the field number of `ExecutionFrame.events`, so
what a frame says of a batch is one slice of it, unless there are trades, of which a sender sees its own side only.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple

from clob.v1 import event_pb2, order_service_pb2, outcome_pb2
from exchange.domain.explanations import EXPLANATIONS
from exchange.domain.rejects import RejectReason
from exchange.ingress.door import ReadBatch, Refusal, clip, executable_until_ms, varint

_EVENT_TAG: Final = 0x3A
_BATCH_RESULT: Final = 0x12
_COMMAND_REJECTED: Final = 0x1A
_TRADE: Final = 0x42
_HAS_TRADE: Final = 1
_HAS_REJECT: Final = 2

NEVER_AGAIN: Final = frozenset(
    {
        RejectReason.MALFORMED,
        RejectReason.WRONG_SHARD,
        RejectReason.BATCH_EXPIRED,
        RejectReason.BAD_SIGNATURE,
        RejectReason.KEY_REVOKED,
    }
)
"""Verdicts on a whole batch that will be the same whenever the same bytes come again."""
RETRY_AFTER_MS: Final[Mapping[int, int]] = {
    RejectReason.STALE_CONTROL: 100,
    RejectReason.ENTRY_WORK_LIMIT: 10,
    RejectReason.TOO_MANY_NONCES: 1_000,
}
"""Verdicts on a whole batch that waiting can change."""


class FrameError(Exception):
    """An execution frame does not have the form that every frame has. It is not from an engine of ours."""


class ScannedBatch(NamedTuple):
    """Where in a frame the events of a batch stand, and what its BatchResult says.

    Attributes:
        start, stop: of its events, its BatchResult first, tags and lengths included.
        reason: why it was refused; 0: it was not.
        repeat_n, repeat_batch: where its outcome is if it repeats one; 0: it does not.
        flags: whether there are trades or refused commands among them.
    """

    start: int
    stop: int
    reason: int
    repeat_n: int
    repeat_batch: int
    flags: int


class ScannedFrame:
    """An execution frame, cut into batches.

    Attributes:
        data: the frame.
        n, t_us: its position and time.
        batches: by place, the first is 1; empty: the order frame was refused as a whole.
    """

    __slots__ = ("_rejected", "_seen", "batches", "data", "n", "t_us")

    def __init__(self, data: bytes) -> None:
        """Cut a frame of our own log; nothing is checked that its chain hash vouches for.

        Raises:
            FrameError: it has not the form of a frame.
        """
        self.data = data
        # What was cut once is not cut again for every repetition of the same bytes.
        self._seen: dict[tuple[int, int], bytes] = {}
        self._rejected: dict[int, list[event_pb2.CommandRejected]] = {}
        self.n, self.t_us, pos = _read_head(data)
        self.batches: list[ScannedBatch] = []
        end = len(data)
        start = pos
        reason = repeat_n = repeat_batch = flags = 0
        in_batch = False
        while pos < end:
            at = pos
            if data[pos] != _EVENT_TAG:
                raise FrameError(f"byte {pos} of frame {self.n} starts no event")
            length = data[pos + 1]
            pos += 2
            if length > 0x7F:
                length, pos = _read_varint(data, pos - 1)
            kind = data[pos]
            if kind == _BATCH_RESULT:
                if in_batch:
                    self.batches.append(ScannedBatch(start, at, reason, repeat_n, repeat_batch, flags))
                in_batch, start, flags = True, at, 0
                reason, repeat_n, repeat_batch = _read_result(data, pos, len(self.batches) + 1)
            elif kind == _TRADE:
                flags |= _HAS_TRADE
            elif kind == _COMMAND_REJECTED:
                flags |= _HAS_REJECT
            pos += length
        if pos != end:
            raise FrameError(f"frame {self.n} ends inside an event")
        if in_batch:
            self.batches.append(ScannedBatch(start, end, reason, repeat_n, repeat_batch, flags))

    def events_for(self, place: int, account: int) -> bytes:
        """Return the events of a batch as an account may see them, each with its tag and length."""
        batch = self.batches[place - 1]
        if not batch.flags & _HAS_TRADE:
            return self.data[batch.start : batch.stop]
        seen = self._seen.get((place, account))
        if seen is None:
            seen = self._seen[place, account] = blank_trades(self.data, batch.start, batch.stop, account)
        return seen

    def rejected(self, place: int) -> list[event_pb2.CommandRejected]:
        """Return the refused commands of a batch."""
        batch = self.batches[place - 1]
        if not batch.flags & _HAS_REJECT:
            return []
        rejected = self._rejected.get(place)
        if rejected is None:
            rejected = self._rejected[place] = [
                event_pb2.Event.FromString(self.data[start:stop]).command_rejected
                for start, stop in _contents(self.data, batch.start, batch.stop)
                if self.data[start] == _COMMAND_REJECTED
            ]
        return rejected


def blank_trades(data: bytes, start: int, stop: int, account: int) -> bytes:
    """Return events with the other side of each trade left out: its account, order, sequence number and fee."""
    parts: list[bytes] = []
    done = start
    for at, end in _contents(data, start, stop):
        if data[at] != _TRADE:
            continue
        event = event_pb2.Event.FromString(data[at:end])
        trade = event.trade
        if trade.maker_account == trade.taker_account == account:
            continue
        if trade.maker_account != account:
            trade.ClearField("maker_account")
            trade.ClearField("maker_order_id")
            trade.ClearField("maker_account_seq")
            trade.ClearField("maker_fee_quote_units")
        if trade.taker_account != account:
            trade.ClearField("taker_account")
            trade.ClearField("taker_order_id")
            trade.ClearField("taker_account_seq")
            trade.ClearField("taker_fee_quote_units")
        content = event.SerializeToString()
        parts.append(data[done : at - 1 - len(varint(end - at))])
        parts.append(b"\x3a" + varint(len(content)) + content)
        done = end
    parts.append(data[done:stop])
    return b"".join(parts)


# --- outcomes -------------------------------------------------------------------------------------------------------


def executed(frame: ScannedFrame, place: int, account: int, repeated: bool = False) -> bytes:
    """Return the BatchOutcome of a batch that was executed at that place of the frame."""
    head = b"\x08\x01\x10" + varint(frame.n) + b"\x18" + varint(place) + b"\x20" + varint(frame.t_us)
    events = frame.events_for(place, account)
    return head + events + b"\x40\x01" if repeated else head + events


def refused_by_shard(frame: ScannedFrame, place: int, batch: ReadBatch) -> bytes:
    """Return the BatchOutcome of a batch that the shard refused as a whole, at that place of the frame.

    Where the frame itself was refused, which says that it was damaged on its way, no place of it has a result.
    """
    if frame.batches:
        reason: int = frame.batches[place - 1].reason
        events = frame.events_for(place, batch.account)
    else:
        reason, events = RejectReason.MALFORMED, b""
    rest = outcome_pb2.BatchOutcome(
        executable_until_ms=executable_until_ms(batch.valid_until_ms, bool(frame.batches) and reason in NEVER_AGAIN),
        retry_after_ms=RETRY_AFTER_MS.get(reason, 0),
        detail=clip(explanation(reason)),
    )
    head = (
        b"\x08\x03\x10" + varint(frame.n) + b"\x18" + varint(place) + b"\x20" + varint(frame.t_us)
        + b"\x28" + varint(reason)
    )  # fmt: skip
    return head + events + rest.SerializeToString()


def refused_at_door(refusal: Refusal, batch: ReadBatch | None) -> bytes:
    """Return the BatchOutcome of a batch that was not let in; `batch` is None where its bytes are not in order."""
    return outcome_pb2.BatchOutcome(
        state=outcome_pb2.SEND_STATE_REFUSED,
        door_reason=refusal.reason,
        executable_until_ms=executable_until_ms(batch.valid_until_ms if batch else None, refusal.is_final),
        retry_after_ms=refusal.retry_after_ms,
        detail=clip(refusal.detail),
    ).SerializeToString()


def refused_parts(refusal: Refusal) -> tuple[bytes, bytes]:
    """Return what comes before and after `executable_until_ms` in the BatchOutcome of batches that were not let in."""
    before = outcome_pb2.BatchOutcome(state=outcome_pb2.SEND_STATE_REFUSED, door_reason=refusal.reason)
    after = outcome_pb2.BatchOutcome(retry_after_ms=refusal.retry_after_ms, detail=clip(refusal.detail))
    return before.SerializeToString(), after.SerializeToString()


def not_answered(batch: ReadBatch, n: int, place: int, t_us: int) -> bytes:
    """Return the BatchOutcome of a batch without an answer: SEQUENCED where it has a position, UNKNOWN where n is 0."""
    return outcome_pb2.BatchOutcome(
        state=outcome_pb2.SEND_STATE_SEQUENCED if n else outcome_pb2.SEND_STATE_UNKNOWN,
        n=n,
        batch=place,
        t_us=t_us,
        executable_until_ms=batch.valid_until_ms,
    ).SerializeToString()


# --- answers --------------------------------------------------------------------------------------------------------


def encode_outcomes(outcomes: Iterable[bytes]) -> bytes:
    """Return SubmitResponse.outcomes, encoded, of encoded outcomes."""
    parts: list[bytes] = []
    for outcome in outcomes:
        parts += (b"\x0a", varint(len(outcome)), outcome)
    return b"".join(parts)


def submit_response(
    outcomes: bytes,
    durability: int,
    reasons: Iterable[int] = (),
    elsewhere: Sequence[order_service_pb2.FundsElsewhere] = (),
    stages: Sequence[order_service_pb2.EntryStages] = (),
) -> bytes:
    """Return an encoded SubmitResponse; `reasons` are the reject reasons that occur, each is explained once."""
    parts = [outcomes, b"\x10" + varint(durability)]
    parts += (_explanation_field(reason) for reason in sorted(set(reasons)))
    if elsewhere or stages:
        rest = order_service_pb2.SubmitResponse(funds_elsewhere=elsewhere, stages=stages)
        parts.append(rest.SerializeToString())
    return b"".join(parts)


@cache
def _explanation_field(reason: int) -> bytes:
    """Return an element of SubmitResponse.explanations; there are as many as reasons."""
    text = explanation(reason).encode()
    content = b"\x08" + varint(reason) + b"\x12" + varint(len(text)) + text
    return b"\x1a" + varint(len(content)) + content


def explanation(reason: int) -> str:
    """Return the sentence of a reject reason, also of one that a newer engine knows."""
    try:
        return EXPLANATIONS[RejectReason(reason)]
    except ValueError:
        return f"Reject reason {reason}, which this version of the exchange does not know."


# --- reading frames -------------------------------------------------------------------------------------------------


def _read_head(data: bytes) -> tuple[int, int, int]:
    """Return n, t_us and where the events start."""
    n = t_us = pos = 0
    end = len(data)
    try:
        while pos < end and data[pos] != _EVENT_TAG:
            tag = data[pos]
            value, pos = _read_varint(data, pos + 1)
            if tag == 0x10:
                n = value
            elif tag == 0x18:
                t_us = value
            elif tag & 7 == 2:
                pos += value
    except IndexError:
        raise FrameError("an execution frame ends inside its head") from None
    return n, t_us, pos


def _read_result(data: bytes, pos: int, place: int) -> tuple[int, int, int]:
    """Return reason, repeat_n and repeat_batch of the BatchResult whose event's content starts at `pos`."""
    length = data[pos + 1]
    pos += 2
    stop = pos + length
    values = [0, 0, 0, 0, 0]
    while pos < stop:
        number = data[pos] >> 3
        values[number], pos = _read_varint(data, pos + 1)
    _, batch, reason, repeat_n, repeat_batch = values
    if batch != place:
        raise FrameError(f"the {place}. result in a frame is of batch {batch}")
    return reason, repeat_n, repeat_batch


def _contents(data: bytes, start: int, stop: int) -> Iterable[tuple[int, int]]:
    """Yield start and end of the contents of each event in data[start:stop]."""
    pos = start
    while pos < stop:
        length, pos = _read_varint(data, pos + 1)
        yield pos, pos + length
        pos += length


def _read_varint(data: bytes, pos: int) -> tuple[int, int]:
    value = data[pos]
    pos += 1
    if value < 0x80:
        return value, pos
    value &= 0x7F
    shift = 7
    while True:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += 7
