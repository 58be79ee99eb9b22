"""What occurred in a run, counted, and what must occur in any that is long enough."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from exchange.domain.commands import TimeInForce
from exchange.domain.events import (
    ActionRejected,
    BatchResult,
    CancelReason,
    CommandRejected,
    Event,
    FrameRefused,
    LinkResult,
    OperationResult,
    OrderAccepted,
    OrderCancelled,
    OrderReduced,
    OrderReplaced,
    ReduceReason,
    RequestResult,
)
from exchange.domain.rejects import RejectReason as R
from exchange.domain.stops import StopReason

BATCH_REASONS: Final = (
    R.MALFORMED,
    R.WRONG_SHARD,
    R.BATCH_EXPIRED,
    R.VALIDITY_TOO_LONG,
    R.NONCE_REUSED,
    R.TOO_MANY_NONCES,
    R.STALE_CONTROL,
    R.ENTRY_WORK_LIMIT,
)
COMMAND_REASONS: Final = (
    R.ENTRY_WORK_LIMIT,
    R.NOT_FOR_THIS_SHARD,
    R.UNKNOWN_MARKET,
    R.MARKET_HALTED,
    R.MARKET_CANCEL_ONLY,
    R.MARKET_POST_ONLY,
    R.INVALID_SIDE,
    R.INVALID_ORDER_TYPE,
    R.INVALID_TIME_IN_FORCE,
    R.INVALID_POST_ONLY,
    R.INVALID_SELF_TRADE_PREVENTION,
    R.INVALID_QUANTITY,
    R.INVALID_PRICE,
    R.NO_PROTECTION_PRICE,
    R.PRICE_OUTSIDE_BAND,
    R.PRICE_OFF_TICK,
    R.QUANTITY_OFF_LOT,
    R.DUPLICATE_CLIENT_ORDER_ID,
    R.TOO_MANY_OPEN_ORDERS,
    R.AMOUNT_TOO_LARGE,
    R.INSUFFICIENT_FUNDS,
    R.POST_ONLY_WOULD_TRADE,
    R.FOK_NOT_FILLABLE,
    R.INVALID_ORDER_REFERENCE,
    R.UNKNOWN_ORDER,
    R.QUANTITY_NOT_ABOVE_FILLED,
    R.INVALID_AMOUNT,
)
LINK_REASONS: Final = (R.MALFORMED, R.WRONG_SHARD, R.BAD_SIGNATURE, R.LINK_GAP)
OPERATION_REASONS: Final = (
    R.MALFORMED,
    R.WRONG_SHARD,
    R.UNKNOWN_ROLE,
    R.BAD_SIGNATURE,
    R.SEQUENCE_USED,
    R.SEQUENCE_GAP,
    R.ENTRY_WORK_LIMIT,
)
ACTION_REASONS: Final = (
    R.ENTRY_WORK_LIMIT,
    R.NOT_FOR_THIS_SHARD,
    R.ROLE_NOT_ALLOWED,
    R.UNKNOWN_MARKET,
    R.INVALID_MARKET,
    R.WRONG_SHARD,
    R.MARKET_FIELD_FIXED,
    R.INVALID_MARKET_STATE,
    R.INVALID_SETTINGS,
    R.FLOOR_WOULD_FALL,
    R.INVALID_SCOPE,
    R.INVALID_SIDE,
    R.INVALID_AMOUNT,
    R.TOO_MANY_TIMERS,
    R.RULES_WOULD_NOT_RISE,
    R.INVALID_PUBLIC_KEY,
)
PLAIN_EVENTS: Final = (
    "Trade",
    "CancelAllAccepted",
    "CancelAllDone",
    "FundsCredited",
    "FundsSent",
    "MarketDefined",
    "MarketStateChanged",
    "MarketStateScheduled",
    "CancelOrdersAccepted",
    "ShardSettingsChanged",
    "ControlFloorRaised",
    "OperatorKeyRotated",
)
UNREACHABLE_EVENTS: Final[Mapping[str, str]] = {
    "RulesRaised": "rules 1 are the only ones that there are",
    "AssetDefined": "shard 0",
    "ShardDefined": "shard 0",
    "UserCreated": "shard 0",
    "AccountOpened": "shard 0",
    "KeyRegistered": "shard 0",
    "KeyRevoked": "shard 0",
    "Deposited": "shard 0",
    "WithdrawalRequested": "shard 0",
    "WithdrawalClosed": "shard 0",
    "FeesPaidOut": "shard 0",
}
"""Events that no trading shard writes, and why."""
SHARD_0_REASONS: Final = (
    R.UNKNOWN_KEY,
    R.ACCOUNT_NOT_OF_KEY,
    R.UNKNOWN_ASSET,
    R.UNKNOWN_SHARD,
    R.INVALID_DESTINATION,
    R.KEY_EXISTS,
    R.KEY_REVOKED,
    R.UNKNOWN_USER,
    R.UNKNOWN_ACCOUNT,
    R.REQUEST_ID_REUSED,
    R.REQUEST_ID_MISSING,
    R.ALREADY_DEFINED,
    R.INVALID_DEFINITION,
    R.DEPOSITS_TOO_LARGE,
    R.INVALID_POLICY,
    R.UNKNOWN_WITHDRAWAL,
    R.INVALID_REGISTRATION,
    R.KEY_SCOPE_TOO_NARROW,
    R.TOO_MANY_ACCOUNTS,
    R.TOO_MANY_KEYS,
    R.TOO_MANY_WITHDRAWALS,
)
"""Reasons that only shard 0 gives."""

STOPS: Final = (*(f"stop {reason.name}" for reason in StopReason), "stop UNKNOWN_FORMAT")

REQUIRED: Final = (
    "FrameRefused MALFORMED",
    "BatchResult",
    "BatchResult repeated",
    *(f"BatchResult {reason.name}" for reason in BATCH_REASONS),
    *(f"CommandRejected {reason.name}" for reason in COMMAND_REASONS),
    *(f"OrderAccepted {time_in_force.name}" for time_in_force in TimeInForce),
    "OrderReplaced priority kept",
    "OrderReplaced priority lost",
    *(f"OrderReduced {reason.name}" for reason in ReduceReason),
    *(f"OrderCancelled {reason.name}" for reason in CancelReason),
    *PLAIN_EVENTS,
    "LinkResult",
    "LinkResult repeated",
    *(f"LinkResult {reason.name}" for reason in LINK_REASONS),
    "OperationResult",
    "OperationResult repeated",
    *(f"OperationResult {reason.name}" for reason in OPERATION_REASONS),
    *(f"ActionRejected {reason.name}" for reason in ACTION_REASONS),
    "RequestResult NOT_FOR_THIS_SHARD",
    *STOPS,
)
"""Every kind that can occur in a trading shard."""


def kind_of(event: Event) -> str:
    """Return what an event counts as."""
    name = type(event).__name__
    match event:
        case OrderCancelled():
            return f"{name} {CancelReason(event.reason).name}"
        case OrderReduced():
            return f"{name} {ReduceReason(event.reason).name}"
        case OrderReplaced():
            return f"{name} priority {'kept' if event.priority_kept else 'lost'}"
        case OrderAccepted():
            return f"{name} {TimeInForce(event.time_in_force).name}"
        case BatchResult() if event.repeat_n:
            return f"{name} repeated"
        case LinkResult() | OperationResult() if event.repeated:
            return f"{name} repeated"
        case (
            FrameRefused()
            | BatchResult()
            | CommandRejected()
            | LinkResult()
            | OperationResult()
            | ActionRejected()
            | RequestResult()
        ) if event.reason:
            return f"{name} {R(event.reason).name}"
        case _:
            return name


def missing_from(counts: Mapping[str, int]) -> list[str]:
    """Return the required kinds that did not occur."""
    return [kind for kind in REQUIRED if not counts.get(kind)]


def count_events(counts: Counter[str], events: Iterable[Event]) -> None:
    """Count events by kind."""
    counts.update(map(kind_of, events))


def table(counts: Mapping[str, int], columns: int = 3) -> str:
    """Return counts as lines, required kinds first, those that never occurred marked."""
    kinds = [*REQUIRED, *sorted(counts.keys() - set(REQUIRED))]
    cells = [f"{kind:<44} {counts[kind] if counts.get(kind) else 'NEVER':>10}" for kind in kinds]
    height = -(-len(cells) // columns)
    rows: Sequence[Sequence[str]] = [cells[row::height] for row in range(height)]
    return "\n".join("   ".join(row) for row in rows)
