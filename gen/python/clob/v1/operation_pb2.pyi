from clob.v1 import batch_pb2 as _batch_pb2
from clob.v1 import control_pb2 as _control_pb2
from clob.v1 import market_pb2 as _market_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OperatorRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPERATOR_ROLE_UNSPECIFIED: _ClassVar[OperatorRole]
    OPERATOR_ROLE_TREASURY: _ClassVar[OperatorRole]
    OPERATOR_ROLE_MARKET: _ClassVar[OperatorRole]
    OPERATOR_ROLE_RECOVERY: _ClassVar[OperatorRole]

class AllocationPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ALLOCATION_POLICY_UNSPECIFIED: _ClassVar[AllocationPolicy]
    ALLOCATION_POLICY_EVEN: _ClassVar[AllocationPolicy]
    ALLOCATION_POLICY_ONE_SHARD: _ClassVar[AllocationPolicy]
    ALLOCATION_POLICY_NONE: _ClassVar[AllocationPolicy]
OPERATOR_ROLE_UNSPECIFIED: OperatorRole
OPERATOR_ROLE_TREASURY: OperatorRole
OPERATOR_ROLE_MARKET: OperatorRole
OPERATOR_ROLE_RECOVERY: OperatorRole
ALLOCATION_POLICY_UNSPECIFIED: AllocationPolicy
ALLOCATION_POLICY_EVEN: AllocationPolicy
ALLOCATION_POLICY_ONE_SHARD: AllocationPolicy
ALLOCATION_POLICY_NONE: AllocationPolicy

class DefineMarket(_message.Message):
    __slots__ = ("market",)
    MARKET_FIELD_NUMBER: _ClassVar[int]
    market: _market_pb2.Market
    def __init__(self, market: _Optional[_Union[_market_pb2.Market, _Mapping]] = ...) -> None: ...

class SetMarketState(_message.Message):
    __slots__ = ("market", "state", "effective_us")
    MARKET_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_US_FIELD_NUMBER: _ClassVar[int]
    market: int
    state: _market_pb2.MarketState
    effective_us: int
    def __init__(self, market: _Optional[int] = ..., state: _Optional[_Union[_market_pb2.MarketState, str]] = ..., effective_us: _Optional[int] = ...) -> None: ...

class CancelOrders(_message.Message):
    __slots__ = ("account", "market", "side")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    account: int
    market: int
    side: _batch_pb2.Side
    def __init__(self, account: _Optional[int] = ..., market: _Optional[int] = ..., side: _Optional[_Union[_batch_pb2.Side, str]] = ...) -> None: ...

class SetShardSettings(_message.Message):
    __slots__ = ("settings",)
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    settings: _market_pb2.ShardSettings
    def __init__(self, settings: _Optional[_Union[_market_pb2.ShardSettings, _Mapping]] = ...) -> None: ...

class RaiseControlFloor(_message.Message):
    __slots__ = ("control_n",)
    CONTROL_N_FIELD_NUMBER: _ClassVar[int]
    control_n: int
    def __init__(self, control_n: _Optional[int] = ...) -> None: ...

class RaiseRules(_message.Message):
    __slots__ = ("rules",)
    RULES_FIELD_NUMBER: _ClassVar[int]
    rules: int
    def __init__(self, rules: _Optional[int] = ...) -> None: ...

class RotateOperatorKey(_message.Message):
    __slots__ = ("public_key",)
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    public_key: bytes
    def __init__(self, public_key: _Optional[bytes] = ...) -> None: ...

class SweepFees(_message.Message):
    __slots__ = ("asset",)
    ASSET_FIELD_NUMBER: _ClassVar[int]
    asset: int
    def __init__(self, asset: _Optional[int] = ...) -> None: ...

class DefineAsset(_message.Message):
    __slots__ = ("asset",)
    ASSET_FIELD_NUMBER: _ClassVar[int]
    asset: _market_pb2.Asset
    def __init__(self, asset: _Optional[_Union[_market_pb2.Asset, _Mapping]] = ...) -> None: ...

class DefineShard(_message.Message):
    __slots__ = ("shard", "tag")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    shard: int
    tag: str
    def __init__(self, shard: _Optional[int] = ..., tag: _Optional[str] = ...) -> None: ...

class Deposit(_message.Message):
    __slots__ = ("account", "asset", "amount_units", "allocate", "to_shard")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_UNITS_FIELD_NUMBER: _ClassVar[int]
    ALLOCATE_FIELD_NUMBER: _ClassVar[int]
    TO_SHARD_FIELD_NUMBER: _ClassVar[int]
    account: int
    asset: int
    amount_units: int
    allocate: AllocationPolicy
    to_shard: int
    def __init__(self, account: _Optional[int] = ..., asset: _Optional[int] = ..., amount_units: _Optional[int] = ..., allocate: _Optional[_Union[AllocationPolicy, str]] = ..., to_shard: _Optional[int] = ...) -> None: ...

class CloseWithdrawal(_message.Message):
    __slots__ = ("withdrawal", "paid")
    WITHDRAWAL_FIELD_NUMBER: _ClassVar[int]
    PAID_FIELD_NUMBER: _ClassVar[int]
    withdrawal: int
    paid: bool
    def __init__(self, withdrawal: _Optional[int] = ..., paid: _Optional[bool] = ...) -> None: ...

class PayOutFees(_message.Message):
    __slots__ = ("account", "asset", "amount_units")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_UNITS_FIELD_NUMBER: _ClassVar[int]
    account: int
    asset: int
    amount_units: int
    def __init__(self, account: _Optional[int] = ..., asset: _Optional[int] = ..., amount_units: _Optional[int] = ...) -> None: ...

class OperatorAction(_message.Message):
    __slots__ = ("define_market", "set_market_state", "cancel_orders", "set_shard_settings", "raise_control_floor", "raise_rules", "rotate_operator_key", "sweep_fees", "define_asset", "define_shard", "deposit", "close_withdrawal", "register_key", "revoke_key", "open_account", "pay_out_fees")
    DEFINE_MARKET_FIELD_NUMBER: _ClassVar[int]
    SET_MARKET_STATE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ORDERS_FIELD_NUMBER: _ClassVar[int]
    SET_SHARD_SETTINGS_FIELD_NUMBER: _ClassVar[int]
    RAISE_CONTROL_FLOOR_FIELD_NUMBER: _ClassVar[int]
    RAISE_RULES_FIELD_NUMBER: _ClassVar[int]
    ROTATE_OPERATOR_KEY_FIELD_NUMBER: _ClassVar[int]
    SWEEP_FEES_FIELD_NUMBER: _ClassVar[int]
    DEFINE_ASSET_FIELD_NUMBER: _ClassVar[int]
    DEFINE_SHARD_FIELD_NUMBER: _ClassVar[int]
    DEPOSIT_FIELD_NUMBER: _ClassVar[int]
    CLOSE_WITHDRAWAL_FIELD_NUMBER: _ClassVar[int]
    REGISTER_KEY_FIELD_NUMBER: _ClassVar[int]
    REVOKE_KEY_FIELD_NUMBER: _ClassVar[int]
    OPEN_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    PAY_OUT_FEES_FIELD_NUMBER: _ClassVar[int]
    define_market: DefineMarket
    set_market_state: SetMarketState
    cancel_orders: CancelOrders
    set_shard_settings: SetShardSettings
    raise_control_floor: RaiseControlFloor
    raise_rules: RaiseRules
    rotate_operator_key: RotateOperatorKey
    sweep_fees: SweepFees
    define_asset: DefineAsset
    define_shard: DefineShard
    deposit: Deposit
    close_withdrawal: CloseWithdrawal
    register_key: _control_pb2.RegisterKey
    revoke_key: _control_pb2.RevokeKey
    open_account: _control_pb2.OpenAccount
    pay_out_fees: PayOutFees
    def __init__(self, define_market: _Optional[_Union[DefineMarket, _Mapping]] = ..., set_market_state: _Optional[_Union[SetMarketState, _Mapping]] = ..., cancel_orders: _Optional[_Union[CancelOrders, _Mapping]] = ..., set_shard_settings: _Optional[_Union[SetShardSettings, _Mapping]] = ..., raise_control_floor: _Optional[_Union[RaiseControlFloor, _Mapping]] = ..., raise_rules: _Optional[_Union[RaiseRules, _Mapping]] = ..., rotate_operator_key: _Optional[_Union[RotateOperatorKey, _Mapping]] = ..., sweep_fees: _Optional[_Union[SweepFees, _Mapping]] = ..., define_asset: _Optional[_Union[DefineAsset, _Mapping]] = ..., define_shard: _Optional[_Union[DefineShard, _Mapping]] = ..., deposit: _Optional[_Union[Deposit, _Mapping]] = ..., close_withdrawal: _Optional[_Union[CloseWithdrawal, _Mapping]] = ..., register_key: _Optional[_Union[_control_pb2.RegisterKey, _Mapping]] = ..., revoke_key: _Optional[_Union[_control_pb2.RevokeKey, _Mapping]] = ..., open_account: _Optional[_Union[_control_pb2.OpenAccount, _Mapping]] = ..., pay_out_fees: _Optional[_Union[PayOutFees, _Mapping]] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("shard", "role", "sequence", "actions", "request_id")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    shard: int
    role: OperatorRole
    sequence: int
    actions: _containers.RepeatedCompositeFieldContainer[OperatorAction]
    request_id: bytes
    def __init__(self, shard: _Optional[int] = ..., role: _Optional[_Union[OperatorRole, str]] = ..., sequence: _Optional[int] = ..., actions: _Optional[_Iterable[_Union[OperatorAction, _Mapping]]] = ..., request_id: _Optional[bytes] = ...) -> None: ...

class SignedOperation(_message.Message):
    __slots__ = ("payload", "signature")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    signature: bytes
    def __init__(self, payload: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Transfer(_message.Message):
    __slots__ = ("account", "asset", "amount_units")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_UNITS_FIELD_NUMBER: _ClassVar[int]
    account: int
    asset: int
    amount_units: int
    def __init__(self, account: _Optional[int] = ..., asset: _Optional[int] = ..., amount_units: _Optional[int] = ...) -> None: ...

class Link(_message.Message):
    __slots__ = ("from_shard", "to_shard", "sequence", "source_n", "transfers")
    FROM_SHARD_FIELD_NUMBER: _ClassVar[int]
    TO_SHARD_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_N_FIELD_NUMBER: _ClassVar[int]
    TRANSFERS_FIELD_NUMBER: _ClassVar[int]
    from_shard: int
    to_shard: int
    sequence: int
    source_n: int
    transfers: _containers.RepeatedCompositeFieldContainer[Transfer]
    def __init__(self, from_shard: _Optional[int] = ..., to_shard: _Optional[int] = ..., sequence: _Optional[int] = ..., source_n: _Optional[int] = ..., transfers: _Optional[_Iterable[_Union[Transfer, _Mapping]]] = ...) -> None: ...

class SignedLink(_message.Message):
    __slots__ = ("payload", "signature")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    signature: bytes
    def __init__(self, payload: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...
