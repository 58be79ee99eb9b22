"""What happened in a shard (proto/clob/v1/event.proto)."""

from enum import IntEnum

from exchange.domain.markets import Asset, Market, ShardSettings
from exchange.domain.record import Record


class CancelReason(IntEnum):
    REQUESTED = 1
    CANCEL_ALL = 2
    OPERATOR = 3
    IMMEDIATE_OR_CANCEL = 4
    SELF_TRADE = 5
    MATCH_LIMIT = 6


class ReduceReason(IntEnum):
    REQUESTED = 1
    SELF_TRADE = 2


class FrameRefused(Record, frozen=True):
    reason: int = 0


class BatchResult(Record, frozen=True):
    batch: int = 0
    reason: int = 0
    repeat_n: int = 0
    repeat_batch: int = 0


class CommandRejected(Record, frozen=True):
    command: int = 0
    account: int = 0
    account_seq: int = 0
    reason: int = 0
    market: int = 0
    order_id: int = 0
    client_order_id: int = 0
    required_units: int = 0
    available_units: int = 0
    asset: int = 0


class OrderAccepted(Record, frozen=True):
    command: int = 0
    account: int = 0
    account_seq: int = 0
    market: int = 0
    market_seq: int = 0
    order_id: int = 0
    client_order_id: int = 0
    side: int = 0
    order_type: int = 0
    time_in_force: int = 0
    post_only: bool = False
    price_ticks: int = 0
    quantity_lots: int = 0


class OrderReplaced(Record, frozen=True):
    command: int = 0
    account: int = 0
    account_seq: int = 0
    market: int = 0
    market_seq: int = 0
    order_id: int = 0
    price_ticks: int = 0
    open_lots: int = 0
    priority_kept: bool = False


class OrderReduced(Record, frozen=True):
    command: int = 0
    account: int = 0
    account_seq: int = 0
    market: int = 0
    market_seq: int = 0
    order_id: int = 0
    reduced_lots: int = 0
    open_lots: int = 0
    reason: int = 0


class OrderCancelled(Record, frozen=True):
    command: int = 0
    account: int = 0
    account_seq: int = 0
    market: int = 0
    market_seq: int = 0
    order_id: int = 0
    cancelled_lots: int = 0
    reason: int = 0


class Trade(Record, frozen=True):
    market: int = 0
    market_seq: int = 0
    trade_id: int = 0
    price_ticks: int = 0
    quantity_lots: int = 0
    taker_side: int = 0
    maker_order_id: int = 0
    taker_order_id: int = 0
    maker_account: int = 0
    maker_account_seq: int = 0
    taker_account: int = 0
    taker_account_seq: int = 0
    maker_fee_quote_units: int = 0
    taker_fee_quote_units: int = 0


class CancelAllAccepted(Record, frozen=True):
    command: int = 0
    account: int = 0
    account_seq: int = 0
    cancel_all_id: int = 0
    market: int = 0
    side: int = 0


class CancelAllDone(Record, frozen=True):
    cancel_all_id: int = 0
    cancelled_orders: int = 0
    account: int = 0
    account_seq: int = 0


class FundsCredited(Record, frozen=True):
    account: int = 0
    account_seq: int = 0
    asset: int = 0
    amount_units: int = 0
    from_shard: int = 0


class FundsSent(Record, frozen=True):
    command: int = 0
    account: int = 0
    account_seq: int = 0
    asset: int = 0
    amount_units: int = 0
    to_shard: int = 0
    link_sequence: int = 0


class LinkResult(Record, frozen=True):
    link: int = 0
    from_shard: int = 0
    sequence: int = 0
    reason: int = 0
    repeated: bool = False


class OperationResult(Record, frozen=True):
    operation: int = 0
    reason: int = 0
    repeat_n: int = 0
    repeated: bool = False


class ActionRejected(Record, frozen=True):
    action: int = 0
    reason: int = 0


class MarketDefined(Record, frozen=True):
    market: Market = Market()
    market_seq: int = 0


class MarketStateChanged(Record, frozen=True):
    market: int = 0
    market_seq: int = 0
    state: int = 0


class MarketStateScheduled(Record, frozen=True):
    market: int = 0
    timer_id: int = 0
    effective_us: int = 0
    state: int = 0


class CancelOrdersAccepted(Record, frozen=True):
    cancel_all_id: int = 0
    account: int = 0
    market: int = 0
    side: int = 0


class ShardSettingsChanged(Record, frozen=True):
    settings: ShardSettings = ShardSettings()


class ControlFloorRaised(Record, frozen=True):
    control_n: int = 0


class RulesRaised(Record, frozen=True):
    rules: int = 0


class OperatorKeyRotated(Record, frozen=True):
    role: int = 0
    public_key: bytes = b""


class RequestResult(Record, frozen=True):
    request: int = 0
    reason: int = 0
    repeat_n: int = 0


class AssetDefined(Record, frozen=True):
    asset: Asset = Asset()


class ShardDefined(Record, frozen=True):
    shard: int = 0
    tag: str = ""


class UserCreated(Record, frozen=True):
    user: int = 0


class AccountOpened(Record, frozen=True):
    user: int = 0
    account: int = 0
    command: int = 0


class KeyRegistered(Record, frozen=True):
    key_id: bytes = b""
    public_key: bytes = b""
    user: int = 0
    account: int = 0
    command: int = 0


class KeyRevoked(Record, frozen=True):
    key_id: bytes = b""
    command: int = 0


class Deposited(Record, frozen=True):
    account: int = 0
    account_seq: int = 0
    asset: int = 0
    amount_units: int = 0


class WithdrawalRequested(Record, frozen=True):
    command: int = 0
    withdrawal: int = 0
    account: int = 0
    account_seq: int = 0
    asset: int = 0
    amount_units: int = 0
    destination: str = ""


class WithdrawalClosed(Record, frozen=True):
    withdrawal: int = 0
    paid: bool = False
    account: int = 0
    account_seq: int = 0
    asset: int = 0
    amount_units: int = 0


class FeesPaidOut(Record, frozen=True):
    account: int = 0
    account_seq: int = 0
    asset: int = 0
    amount_units: int = 0


Event = (
    FrameRefused
    | BatchResult
    | CommandRejected
    | OrderAccepted
    | OrderReplaced
    | OrderReduced
    | OrderCancelled
    | Trade
    | CancelAllAccepted
    | CancelAllDone
    | FundsCredited
    | FundsSent
    | LinkResult
    | OperationResult
    | ActionRejected
    | MarketDefined
    | MarketStateChanged
    | MarketStateScheduled
    | CancelOrdersAccepted
    | ShardSettingsChanged
    | ControlFloorRaised
    | RulesRaised
    | OperatorKeyRotated
    | RequestResult
    | AssetDefined
    | ShardDefined
    | UserCreated
    | AccountOpened
    | KeyRegistered
    | KeyRevoked
    | Deposited
    | WithdrawalRequested
    | WithdrawalClosed
    | FeesPaidOut
)
