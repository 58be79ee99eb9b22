"""What the exchange itself signs: operations and links (proto/clob/v1/operation.proto)."""

from enum import IntEnum

from exchange.domain.control import OpenAccount, RegisterKey, RevokeKey
from exchange.domain.markets import Asset, Market, ShardSettings
from exchange.domain.record import Record


class OperatorRole(IntEnum):
    TREASURY = 1
    MARKET = 2
    RECOVERY = 3


class AllocationPolicy(IntEnum):
    EVEN = 1
    ONE_SHARD = 2
    NONE = 3


class DefineMarket(Record, frozen=True):
    market: Market = Market()


class SetMarketState(Record, frozen=True):
    market: int = 0
    state: int = 0
    effective_us: int = 0


class CancelOrders(Record, frozen=True):
    account: int = 0
    market: int = 0
    side: int = 0


class SetShardSettings(Record, frozen=True):
    settings: ShardSettings = ShardSettings()


class RaiseControlFloor(Record, frozen=True):
    control_n: int = 0


class RaiseRules(Record, frozen=True):
    rules: int = 0


class RotateOperatorKey(Record, frozen=True):
    public_key: bytes = b""


class SweepFees(Record, frozen=True):
    asset: int = 0


class DefineAsset(Record, frozen=True):
    asset: Asset = Asset()


class DefineShard(Record, frozen=True):
    shard: int = 0
    tag: str = ""


class Deposit(Record, frozen=True):
    account: int = 0
    asset: int = 0
    amount_units: int = 0
    allocate: int = 0
    to_shard: int = 0


class CloseWithdrawal(Record, frozen=True):
    withdrawal: int = 0
    paid: bool = False


class PayOutFees(Record, frozen=True):
    account: int = 0
    asset: int = 0
    amount_units: int = 0


OperatorAction = (
    DefineMarket
    | SetMarketState
    | CancelOrders
    | SetShardSettings
    | RaiseControlFloor
    | RaiseRules
    | RotateOperatorKey
    | SweepFees
    | DefineAsset
    | DefineShard
    | Deposit
    | CloseWithdrawal
    | RegisterKey
    | RevokeKey
    | OpenAccount
    | PayOutFees
)

ROLE_OF_ACTION: dict[type, OperatorRole | None] = {
    DefineMarket: OperatorRole.MARKET,
    SetMarketState: OperatorRole.MARKET,
    CancelOrders: OperatorRole.MARKET,
    SetShardSettings: OperatorRole.MARKET,
    RaiseControlFloor: OperatorRole.TREASURY,
    RaiseRules: OperatorRole.RECOVERY,
    RotateOperatorKey: None,
    SweepFees: OperatorRole.TREASURY,
    DefineAsset: OperatorRole.MARKET,
    DefineShard: OperatorRole.MARKET,
    Deposit: OperatorRole.TREASURY,
    CloseWithdrawal: OperatorRole.TREASURY,
    RegisterKey: OperatorRole.TREASURY,
    RevokeKey: OperatorRole.TREASURY,
    OpenAccount: OperatorRole.TREASURY,
    PayOutFees: OperatorRole.TREASURY,
}
"""Role that may sign an action; None: every role, for itself (ARCHITECTURE.md, roles of operator keys)."""


class Operation(Record, frozen=True):
    shard: int = 0
    role: int = 0
    sequence: int = 0
    actions: tuple[OperatorAction, ...] = ()
    request_id: bytes = b""


class SignedOperation(Record, frozen=True):
    payload: bytes = b""
    signature: bytes = b""


class Transfer(Record, frozen=True):
    account: int = 0
    asset: int = 0
    amount_units: int = 0


class Link(Record, frozen=True):
    from_shard: int = 0
    to_shard: int = 0
    sequence: int = 0
    source_n: int = 0
    transfers: tuple[Transfer, ...] = ()


class SignedLink(Record, frozen=True):
    payload: bytes = b""
    signature: bytes = b""
