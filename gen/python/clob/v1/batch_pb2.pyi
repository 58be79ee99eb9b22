from clob.v1 import control_pb2 as _control_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Side(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SIDE_UNSPECIFIED: _ClassVar[Side]
    SIDE_BUY: _ClassVar[Side]
    SIDE_SELL: _ClassVar[Side]

class OrderType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ORDER_TYPE_UNSPECIFIED: _ClassVar[OrderType]
    ORDER_TYPE_LIMIT: _ClassVar[OrderType]
    ORDER_TYPE_MARKET: _ClassVar[OrderType]

class TimeInForce(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIME_IN_FORCE_UNSPECIFIED: _ClassVar[TimeInForce]
    TIME_IN_FORCE_GTC: _ClassVar[TimeInForce]
    TIME_IN_FORCE_IOC: _ClassVar[TimeInForce]
    TIME_IN_FORCE_FOK: _ClassVar[TimeInForce]

class SelfTradePrevention(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SELF_TRADE_PREVENTION_UNSPECIFIED: _ClassVar[SelfTradePrevention]
    SELF_TRADE_PREVENTION_CANCEL_TAKER: _ClassVar[SelfTradePrevention]
    SELF_TRADE_PREVENTION_CANCEL_MAKER: _ClassVar[SelfTradePrevention]
    SELF_TRADE_PREVENTION_CANCEL_BOTH: _ClassVar[SelfTradePrevention]
    SELF_TRADE_PREVENTION_DECREMENT: _ClassVar[SelfTradePrevention]
    SELF_TRADE_PREVENTION_NONE: _ClassVar[SelfTradePrevention]
SIDE_UNSPECIFIED: Side
SIDE_BUY: Side
SIDE_SELL: Side
ORDER_TYPE_UNSPECIFIED: OrderType
ORDER_TYPE_LIMIT: OrderType
ORDER_TYPE_MARKET: OrderType
TIME_IN_FORCE_UNSPECIFIED: TimeInForce
TIME_IN_FORCE_GTC: TimeInForce
TIME_IN_FORCE_IOC: TimeInForce
TIME_IN_FORCE_FOK: TimeInForce
SELF_TRADE_PREVENTION_UNSPECIFIED: SelfTradePrevention
SELF_TRADE_PREVENTION_CANCEL_TAKER: SelfTradePrevention
SELF_TRADE_PREVENTION_CANCEL_MAKER: SelfTradePrevention
SELF_TRADE_PREVENTION_CANCEL_BOTH: SelfTradePrevention
SELF_TRADE_PREVENTION_DECREMENT: SelfTradePrevention
SELF_TRADE_PREVENTION_NONE: SelfTradePrevention

class PlaceOrder(_message.Message):
    __slots__ = ("market", "side", "order_type", "time_in_force", "post_only", "self_trade_prevention", "price_ticks", "quantity_lots", "client_order_id")
    MARKET_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    ORDER_TYPE_FIELD_NUMBER: _ClassVar[int]
    TIME_IN_FORCE_FIELD_NUMBER: _ClassVar[int]
    POST_ONLY_FIELD_NUMBER: _ClassVar[int]
    SELF_TRADE_PREVENTION_FIELD_NUMBER: _ClassVar[int]
    PRICE_TICKS_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_LOTS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    market: int
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    post_only: bool
    self_trade_prevention: SelfTradePrevention
    price_ticks: int
    quantity_lots: int
    client_order_id: int
    def __init__(self, market: _Optional[int] = ..., side: _Optional[_Union[Side, str]] = ..., order_type: _Optional[_Union[OrderType, str]] = ..., time_in_force: _Optional[_Union[TimeInForce, str]] = ..., post_only: _Optional[bool] = ..., self_trade_prevention: _Optional[_Union[SelfTradePrevention, str]] = ..., price_ticks: _Optional[int] = ..., quantity_lots: _Optional[int] = ..., client_order_id: _Optional[int] = ...) -> None: ...

class CancelOrder(_message.Message):
    __slots__ = ("order_id", "client_order_id")
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    order_id: int
    client_order_id: int
    def __init__(self, order_id: _Optional[int] = ..., client_order_id: _Optional[int] = ...) -> None: ...

class ReduceOrder(_message.Message):
    __slots__ = ("order_id", "client_order_id", "quantity_lots")
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_LOTS_FIELD_NUMBER: _ClassVar[int]
    order_id: int
    client_order_id: int
    quantity_lots: int
    def __init__(self, order_id: _Optional[int] = ..., client_order_id: _Optional[int] = ..., quantity_lots: _Optional[int] = ...) -> None: ...

class ReplaceOrder(_message.Message):
    __slots__ = ("order_id", "client_order_id", "price_ticks", "quantity_lots")
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    PRICE_TICKS_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_LOTS_FIELD_NUMBER: _ClassVar[int]
    order_id: int
    client_order_id: int
    price_ticks: int
    quantity_lots: int
    def __init__(self, order_id: _Optional[int] = ..., client_order_id: _Optional[int] = ..., price_ticks: _Optional[int] = ..., quantity_lots: _Optional[int] = ...) -> None: ...

class CancelAllOrders(_message.Message):
    __slots__ = ("market", "side")
    MARKET_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    market: int
    side: Side
    def __init__(self, market: _Optional[int] = ..., side: _Optional[_Union[Side, str]] = ...) -> None: ...

class ReleaseFunds(_message.Message):
    __slots__ = ("asset", "amount_units")
    ASSET_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_UNITS_FIELD_NUMBER: _ClassVar[int]
    asset: int
    amount_units: int
    def __init__(self, asset: _Optional[int] = ..., amount_units: _Optional[int] = ...) -> None: ...

class AllocateFunds(_message.Message):
    __slots__ = ("asset", "amount_units", "to_shard")
    ASSET_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_UNITS_FIELD_NUMBER: _ClassVar[int]
    TO_SHARD_FIELD_NUMBER: _ClassVar[int]
    asset: int
    amount_units: int
    to_shard: int
    def __init__(self, asset: _Optional[int] = ..., amount_units: _Optional[int] = ..., to_shard: _Optional[int] = ...) -> None: ...

class RequestWithdrawal(_message.Message):
    __slots__ = ("asset", "amount_units", "destination")
    ASSET_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_UNITS_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    asset: int
    amount_units: int
    destination: str
    def __init__(self, asset: _Optional[int] = ..., amount_units: _Optional[int] = ..., destination: _Optional[str] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("place", "cancel", "reduce", "replace", "cancel_all", "release", "allocate", "withdraw", "register_key", "revoke_key", "open_account")
    PLACE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    REDUCE_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ALL_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ALLOCATE_FIELD_NUMBER: _ClassVar[int]
    WITHDRAW_FIELD_NUMBER: _ClassVar[int]
    REGISTER_KEY_FIELD_NUMBER: _ClassVar[int]
    REVOKE_KEY_FIELD_NUMBER: _ClassVar[int]
    OPEN_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    place: PlaceOrder
    cancel: CancelOrder
    reduce: ReduceOrder
    replace: ReplaceOrder
    cancel_all: CancelAllOrders
    release: ReleaseFunds
    allocate: AllocateFunds
    withdraw: RequestWithdrawal
    register_key: _control_pb2.RegisterKey
    revoke_key: _control_pb2.RevokeKey
    open_account: _control_pb2.OpenAccount
    def __init__(self, place: _Optional[_Union[PlaceOrder, _Mapping]] = ..., cancel: _Optional[_Union[CancelOrder, _Mapping]] = ..., reduce: _Optional[_Union[ReduceOrder, _Mapping]] = ..., replace: _Optional[_Union[ReplaceOrder, _Mapping]] = ..., cancel_all: _Optional[_Union[CancelAllOrders, _Mapping]] = ..., release: _Optional[_Union[ReleaseFunds, _Mapping]] = ..., allocate: _Optional[_Union[AllocateFunds, _Mapping]] = ..., withdraw: _Optional[_Union[RequestWithdrawal, _Mapping]] = ..., register_key: _Optional[_Union[_control_pb2.RegisterKey, _Mapping]] = ..., revoke_key: _Optional[_Union[_control_pb2.RevokeKey, _Mapping]] = ..., open_account: _Optional[_Union[_control_pb2.OpenAccount, _Mapping]] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("account", "shard", "nonce", "valid_until_ms", "commands")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    account: int
    shard: int
    nonce: int
    valid_until_ms: int
    commands: _containers.RepeatedCompositeFieldContainer[Command]
    def __init__(self, account: _Optional[int] = ..., shard: _Optional[int] = ..., nonce: _Optional[int] = ..., valid_until_ms: _Optional[int] = ..., commands: _Optional[_Iterable[_Union[Command, _Mapping]]] = ...) -> None: ...

class SignedBatch(_message.Message):
    __slots__ = ("key_id", "payload", "signature")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    key_id: bytes
    payload: bytes
    signature: bytes
    def __init__(self, key_id: _Optional[bytes] = ..., payload: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...
