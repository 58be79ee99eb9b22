"""What became of what was sent: one result for each command, by name."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple, cast

from clob.v1 import door_reason_pb2, event_pb2, outcome_pb2
from exchange.client.batches import SignedCommands
from exchange.domain.commands import Command, PlaceOrder
from exchange.domain.events import CancelReason, Event
from exchange.wire.messages import CODECS

STAGES: Final = ("received", "verified", "framed", "sequenced", "taken", "executed", "durable", "answered")
"""The stages of EntryStages, in order."""


class Status(StrEnum):
    """What became of a command. An order's status is as of the end of its own command."""

    RESTING = "RESTING"
    """The order, or what of it is open, is in the book."""
    FILLED = "FILLED"
    """All of it traded."""
    CANCELLED = "CANCELLED"
    """The order is gone; what traded before is in `fills`."""
    DONE = "DONE"
    """Executed: a mass cancel with all its cancels, funds sent, a withdrawal asked for, a key or an account made."""
    UNDER_WAY = "UNDER_WAY"
    """A mass cancel that goes on in later entries."""
    REJECTED = "REJECTED"
    """The shard refused the command; `reason` is a RejectReason."""
    REFUSED = "REFUSED"
    """The whole batch was not executed, and these bytes never will be; `reason` is a RejectReason or a DoorReason."""
    SEQUENCED = "SEQUENCED"
    """It has a position in the log: what was asked to be waited for. It will be executed or refused."""
    UNKNOWN = "UNKNOWN"
    """It may be executed or not, and nobody could be asked. Send it again or ask for its outcome."""


ACCEPTED: Final = frozenset({Status.RESTING, Status.FILLED, Status.CANCELLED, Status.DONE, Status.UNDER_WAY})


class Fill(NamedTuple):
    """A trade of the order. The fee is ours, in units of the quote asset."""

    trade_id: int
    price_ticks: int
    quantity_lots: int
    fee_quote_units: int


class FundsElsewhere(NamedTuple):
    """Funds of the account that lie in another shard; 0: the treasury. As last read, not a promise."""

    shard: int
    asset: int
    free_units: int


class Stages(NamedTuple):
    """When an entry passed the stages of its way, in microseconds since 1970; 0: not passed yet.

    `sent_us` and `got_us` are by the clock of this machine, the others by those of ingress, bus and matcher.
    """

    shard: int
    n: int
    sent_us: int
    received_us: int
    verified_us: int
    framed_us: int
    sequenced_us: int
    taken_us: int
    executed_us: int
    durable_us: int
    answered_us: int
    got_us: int


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one command.

    Attributes:
        command: as it was signed.
        status: in a word.
        reason: stable name of why it was rejected or refused, or why an order was cancelled; else empty.
        detail: what exactly is wrong and what to do, for people.
        batch: the signed batch that it is in; `send` takes it again.
        shard, n, t_us: shard, position and time of the entry that has the outcome; 0: none is known.
        order_id, market: of the order that the command is about; 0: none.
        filled_lots, open_lots, cancelled_lots: of the order, by this command.
        fills: its trades, in order.
        required_units, available_units, asset: INSUFFICIENT_FUNDS: needed and free in the shard.
        elsewhere: INSUFFICIENT_FUNDS: where else the account has that asset.
        repeated: the bytes had been executed before, and this is the outcome of the first time.
        stages: times of the entry, when asked for.
    """

    command: Command
    status: Status
    batch: SignedCommands = field(repr=False)
    reason: str = ""
    detail: str = ""
    shard: int = 0
    n: int = 0
    t_us: int = 0
    order_id: int = 0
    market: int = 0
    filled_lots: int = 0
    open_lots: int = 0
    cancelled_lots: int = 0
    fills: tuple[Fill, ...] = ()
    required_units: int = 0
    available_units: int = 0
    asset: int = 0
    elsewhere: tuple[FundsElsewhere, ...] = ()
    repeated: bool = False
    stages: Stages | None = None
    encoded_events: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def accepted(self) -> bool:
        """Whether the command was executed and not rejected. An IOC order that found nothing was accepted too."""
        return self.status in ACCEPTED

    @property
    def events(self) -> tuple[Event, ...]:
        """The event that answers the command and its consequences, in order, as the log has them."""
        return tuple(map(decode_event, self.encoded_events))

    def __str__(self) -> str:
        return sentence(self)


def decode_event(encoded: bytes) -> Event:
    """Return an encoded event as a record.

    Raises:
        WireError: it is not in its canonical encoding.
    """
    return cast(Event, CODECS["Event"].decode(encoded, 0, len(encoded), 0))


def sentence(result: Result) -> str:
    """Return the result for people."""
    status, reason = result.status, result.reason
    if status in {Status.REJECTED, Status.REFUSED, Status.UNKNOWN}:
        parts = [f"{status.lower()}: {reason}" if reason else status.lower()]
        if result.required_units:
            parts.append(
                f"needs {result.required_units:,} units of asset {result.asset}, {result.available_units:,} are free "
                f"in shard {result.shard}"
            )
            parts += [
                f"{one.free_units:,} are free in {f'shard {one.shard}' if one.shard else 'the treasury'}"
                for one in result.elsewhere
            ]
        if result.detail:
            parts.append(result.detail)
        return "; ".join(parts)
    parts = [f"order {result.order_id}" if result.order_id else "", status.lower().replace("_", " ")]
    if result.filled_lots:
        parts.append(f"{result.filled_lots:,} traded")
    if result.open_lots:
        parts.append(f"{result.open_lots:,} open")
    if result.cancelled_lots:
        parts.append(
            f"{result.cancelled_lots:,} cancelled ({reason})" if reason else f"{result.cancelled_lots:,} cancelled"
        )
    return ", ".join(part for part in parts if part)


# --- from the answers of the exchange -------------------------------------------------------------------------------


class Told(NamedTuple):
    """A batch's outcome, with what its response says about all of them."""

    outcome: Any
    explanations: dict[int, str]
    elsewhere: tuple[Any, ...] = ()
    stages: Stages | None = None


def told_by(response: Any, batches: Sequence[SignedCommands], sent_us: int, got_us: int) -> Iterator[Told]:
    """Yield what a SubmitResponse tells of each batch, in order."""
    explanations = {one.reason: one.text for one in response.explanations}
    elsewhere = tuple(response.funds_elsewhere)
    stages = {(row.shard, row.n): stages_of(row, sent_us, got_us) for row in response.stages}
    for batch, outcome in zip(batches, response.outcomes, strict=True):
        yield Told(outcome, explanations, elsewhere, stages.get((batch.shard, outcome.n)))


def stages_of(row: Any, sent_us: int, got_us: int) -> Stages:
    """Return an EntryStages between the times at which this machine sent and got."""
    return Stages(
        row.shard,
        row.n,
        sent_us,
        row.received_us,
        row.verified_us,
        row.framed_us,
        row.sequenced_us,
        row.taken_us,
        row.executed_us,
        row.durable_us,
        row.answered_us,
        got_us,
    )


def reason_of(outcome: Any) -> str:
    """Return the stable name of why a batch was not executed; empty: nothing says so."""
    if outcome.reject_reason:
        return reject_name(outcome.reject_reason)
    return door_name(outcome.door_reason) if outcome.door_reason else ""


def reject_name(reason: int) -> str:
    """Return the name of a RejectReason, or its number where this client is older than the exchange."""
    if reason not in event_pb2.RejectReason.values():
        return f"REJECT_REASON_{reason}"
    return event_pb2.RejectReason.Name(cast(Any, reason)).removeprefix("REJECT_REASON_")


def door_name(reason: int) -> str:
    """Return the name of a DoorReason, or its number where this client is older than the exchange."""
    if reason not in door_reason_pb2.DoorReason.values():
        return f"DOOR_REASON_{reason}"
    return door_reason_pb2.DoorReason.Name(cast(Any, reason)).removeprefix("DOOR_REASON_")


def results_of(batch: SignedCommands, told: Told) -> list[Result]:
    """Return what became of each command of a batch, from what the exchange told last."""
    outcome = told.outcome
    if outcome.state == outcome_pb2.SEND_STATE_EXECUTED:
        return _executed(batch, told)
    status = _STATUS_OF_STATE.get(outcome.state, Status.UNKNOWN)
    detail = outcome.detail or told.explanations.get(outcome.reject_reason, "")
    reason = reason_of(outcome)
    return [
        Result(
            command,
            status,
            batch,
            reason=reason,
            detail=detail,
            shard=batch.shard,
            n=outcome.n,
            t_us=outcome.t_us,
            market=command.market if isinstance(command, PlaceOrder) else 0,
            stages=told.stages,
        )
        for command in batch.commands
    ]


_STATUS_OF_STATE: Final = {
    outcome_pb2.SEND_STATE_SEQUENCED: Status.SEQUENCED,
    outcome_pb2.SEND_STATE_REFUSED: Status.REFUSED,
}


def _executed(batch: SignedCommands, told: Told) -> list[Result]:
    groups = list(_by_command(told.outcome.events))
    # I-16: every command of an executed batch is answered by exactly one event, in their order.
    assert len(groups) == len(batch.commands), f"{len(batch.commands)} commands have {len(groups)} answers"
    return [_result(batch, command, group, told) for command, group in zip(batch.commands, groups, strict=True)]


def _by_command(events: Iterable[Any]) -> Iterator[list[tuple[str, Any, Any]]]:
    """Yield (name, event, wrapped event) of each command: what answers it, then its consequences."""
    group: list[tuple[str, Any, Any]] = []
    for wrapped in events:
        name = wrapped.WhichOneof("event")
        if name is None or name == "batch_result":
            continue
        event = getattr(wrapped, name)
        if getattr(event, "command", 0):
            if group:
                yield group
            group = [(name, event, wrapped)]
        elif group:
            group.append((name, event, wrapped))
    if group:
        yield group


def _result(batch: SignedCommands, command: Command, group: list[tuple[str, Any, Any]], told: Told) -> Result:
    name, first, _ = group[0]
    values: dict[str, Any] = {
        "shard": batch.shard,
        "n": told.outcome.n,
        "t_us": told.outcome.t_us,
        "order_id": getattr(first, "order_id", 0),
        "market": getattr(first, "market", 0),
        "repeated": told.outcome.repeated,
        "stages": told.stages,
        "encoded_events": tuple(wrapped.SerializeToString() for _, _, wrapped in group),
    }
    if name == "command_rejected":
        values |= _rejected(first, told)
        return Result(command, Status.REJECTED, batch, **values)
    if name in {"order_accepted", "order_replaced", "order_reduced", "order_cancelled"}:
        values |= _order(name, first, group)
    if name == "cancel_all_accepted":
        values["cancelled_lots"] = sum(event.cancelled_lots for kind, event, _ in group if kind == "order_cancelled")
        ended = any(kind == "cancel_all_done" for kind, _, _ in group)
        return Result(command, Status.DONE if ended else Status.UNDER_WAY, batch, **values)
    return Result(command, values.pop("status", Status.DONE), batch, **values)


def _rejected(event: Any, told: Told) -> dict[str, Any]:
    elsewhere = tuple(
        FundsElsewhere(row.shard, row.asset, row.free_units)
        for row in told.elsewhere
        if event.required_units and row.account == event.account and row.asset == event.asset
    )
    return {
        "reason": reject_name(event.reason),
        "detail": told.explanations.get(event.reason, ""),
        "required_units": event.required_units,
        "available_units": event.available_units,
        "asset": event.asset,
        "elsewhere": elsewhere,
    }


def _order(name: str, first: Any, group: list[tuple[str, Any, Any]]) -> dict[str, Any]:
    """Return status, lots and fills of the order that a command placed, replaced, reduced or cancelled."""
    order_id = first.order_id
    open_lots = 0
    if name != "order_cancelled":
        open_lots = first.quantity_lots if name == "order_accepted" else first.open_lots
    fills: list[Fill] = []
    cancelled_lots, reason = 0, ""
    for kind, event, _ in group:
        if kind == "trade" and event.taker_order_id == order_id:
            fills.append(Fill(event.trade_id, event.price_ticks, event.quantity_lots, event.taker_fee_quote_units))
            open_lots -= event.quantity_lots
        elif kind == "order_reduced" and event.order_id == order_id:
            open_lots = event.open_lots
        elif kind == "order_cancelled" and event.order_id == order_id:
            cancelled_lots += event.cancelled_lots
            reason = cancel_name(event.reason)
            open_lots = 0
    gone = Status.CANCELLED if cancelled_lots else Status.FILLED
    return {
        "status": Status.RESTING if open_lots else gone,
        "open_lots": open_lots,
        "filled_lots": sum(fill.quantity_lots for fill in fills),
        "cancelled_lots": cancelled_lots,
        "reason": reason,
        "fills": tuple(fills),
    }


def cancel_name(reason: int) -> str:
    """Return the name of a CancelReason, or its number where this client is older than the exchange."""
    return CancelReason(reason).name if reason in CancelReason.__members__.values() else f"CANCEL_REASON_{reason}"
