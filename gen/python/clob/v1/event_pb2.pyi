from clob.v1 import batch_pb2 as _batch_pb2
from clob.v1 import market_pb2 as _market_pb2
from clob.v1 import operation_pb2 as _operation_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RejectReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REJECT_REASON_UNSPECIFIED: _ClassVar[RejectReason]
    REJECT_REASON_MALFORMED: _ClassVar[RejectReason]
    REJECT_REASON_WRONG_SHARD: _ClassVar[RejectReason]
    REJECT_REASON_BATCH_EXPIRED: _ClassVar[RejectReason]
    REJECT_REASON_VALIDITY_TOO_LONG: _ClassVar[RejectReason]
    REJECT_REASON_NONCE_REUSED: _ClassVar[RejectReason]
    REJECT_REASON_TOO_MANY_NONCES: _ClassVar[RejectReason]
    REJECT_REASON_STALE_CONTROL: _ClassVar[RejectReason]
    REJECT_REASON_UNKNOWN_KEY: _ClassVar[RejectReason]
    REJECT_REASON_BAD_SIGNATURE: _ClassVar[RejectReason]
    REJECT_REASON_ACCOUNT_NOT_OF_KEY: _ClassVar[RejectReason]
    REJECT_REASON_ENTRY_WORK_LIMIT: _ClassVar[RejectReason]
    REJECT_REASON_NOT_FOR_THIS_SHARD: _ClassVar[RejectReason]
    REJECT_REASON_UNKNOWN_MARKET: _ClassVar[RejectReason]
    REJECT_REASON_MARKET_HALTED: _ClassVar[RejectReason]
    REJECT_REASON_MARKET_CANCEL_ONLY: _ClassVar[RejectReason]
    REJECT_REASON_MARKET_POST_ONLY: _ClassVar[RejectReason]
    REJECT_REASON_INVALID_SIDE: _ClassVar[RejectReason]
    REJECT_REASON_INVALID_ORDER_TYPE: _ClassVar[RejectReason]
    REJECT_REASON_INVALID_TIME_IN_FORCE: _ClassVar[RejectReason]
    REJECT_REASON_INVALID_POST_ONLY: _ClassVar[RejectReason]
    REJECT_REASON_INVALID_SELF_TRADE_PREVENTION: _ClassVar[RejectReason]
    REJECT_REASON_INVALID_QUANTITY: _ClassVar[RejectReason]
    REJECT_REASON_INVALID_PRICE: _ClassVar[RejectReason]
    REJECT_REASON_NO_PROTECTION_PRICE: _ClassVar[RejectReason]
    REJECT_REASON_PRICE_OUTSIDE_BAND: _ClassVar[RejectReason]
    REJECT_REASON_PRICE_OFF_TICK: _ClassVar[RejectReason]
    REJECT_REASON_QUANTITY_OFF_LOT: _ClassVar[RejectReason]
    REJECT_REASON_DUPLICATE_CLIENT_ORDER_ID: _ClassVar[RejectReason]
    REJECT_REASON_TOO_MANY_OPEN_ORDERS: _ClassVar[RejectReason]
    REJECT_REASON_AMOUNT_TOO_LARGE: _ClassVar[RejectReason]
    REJECT_REASON_INSUFFICIENT_FUNDS: _ClassVar[RejectReason]
    REJECT_REASON_POST_ONLY_WOULD_TRADE: _ClassVar[RejectReason]
    REJECT_REASON_FOK_NOT_FILLABLE: _ClassVar[RejectReason]
    REJECT_REASON_INVALID_ORDER_REFERENCE: _ClassVar[RejectReason]
    REJECT_REASON_UNKNOWN_ORDER: _ClassVar[RejectReason]
    REJECT_REASON_QUANTITY_NOT_ABOVE_FILLED: _ClassVar[RejectReason]
    REJECT_REASON_INVALID_AMOUNT: _ClassVar[RejectReason]
    REJECT_REASON_UNKNOWN_ASSET: _ClassVar[RejectReason]
    REJECT_REASON_UNKNOWN_SHARD: _ClassVar[RejectReason]
    REJECT_REASON_INVALID_DESTINATION: _ClassVar[RejectReason]
    REJECT_REASON_LINK_GAP: _ClassVar[RejectReason]
    REJECT_REASON_SEQUENCE_GAP: _ClassVar[RejectReason]
    REJECT_REASON_SEQUENCE_USED: _ClassVar[RejectReason]
    REJECT_REASON_UNKNOWN_ROLE: _ClassVar[RejectReason]
    REJECT_REASON_ROLE_NOT_ALLOWED: _ClassVar[RejectReason]
    REJECT_REASON_INVALID_MARKET: _ClassVar[RejectReason]
    REJECT_REASON_MARKET_FIELD_FIXED: _ClassVar[RejectReason]
    REJECT_REASON_INVALID_MARKET_STATE: _ClassVar[RejectReason]
    REJECT_REASON_INVALID_SETTINGS: _ClassVar[RejectReason]
    REJECT_REASON_FLOOR_WOULD_FALL: _ClassVar[RejectReason]
    REJECT_REASON_INVALID_SCOPE: _ClassVar[RejectReason]
    REJECT_REASON_TOO_MANY_TIMERS: _ClassVar[RejectReason]
    REJECT_REASON_RULES_WOULD_NOT_RISE: _ClassVar[RejectReason]
    REJECT_REASON_INVALID_PUBLIC_KEY: _ClassVar[RejectReason]
    REJECT_REASON_KEY_EXISTS: _ClassVar[RejectReason]
    REJECT_REASON_KEY_REVOKED: _ClassVar[RejectReason]
    REJECT_REASON_UNKNOWN_USER: _ClassVar[RejectReason]
    REJECT_REASON_UNKNOWN_ACCOUNT: _ClassVar[RejectReason]
    REJECT_REASON_REQUEST_ID_REUSED: _ClassVar[RejectReason]
    REJECT_REASON_REQUEST_ID_MISSING: _ClassVar[RejectReason]
    REJECT_REASON_ALREADY_DEFINED: _ClassVar[RejectReason]
    REJECT_REASON_INVALID_DEFINITION: _ClassVar[RejectReason]
    REJECT_REASON_DEPOSITS_TOO_LARGE: _ClassVar[RejectReason]
    REJECT_REASON_INVALID_POLICY: _ClassVar[RejectReason]
    REJECT_REASON_UNKNOWN_WITHDRAWAL: _ClassVar[RejectReason]
    REJECT_REASON_INVALID_REGISTRATION: _ClassVar[RejectReason]
    REJECT_REASON_KEY_SCOPE_TOO_NARROW: _ClassVar[RejectReason]
    REJECT_REASON_TOO_MANY_ACCOUNTS: _ClassVar[RejectReason]
    REJECT_REASON_TOO_MANY_KEYS: _ClassVar[RejectReason]
    REJECT_REASON_TOO_MANY_WITHDRAWALS: _ClassVar[RejectReason]

class CancelReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CANCEL_REASON_UNSPECIFIED: _ClassVar[CancelReason]
    CANCEL_REASON_REQUESTED: _ClassVar[CancelReason]
    CANCEL_REASON_CANCEL_ALL: _ClassVar[CancelReason]
    CANCEL_REASON_OPERATOR: _ClassVar[CancelReason]
    CANCEL_REASON_IMMEDIATE_OR_CANCEL: _ClassVar[CancelReason]
    CANCEL_REASON_SELF_TRADE: _ClassVar[CancelReason]
    CANCEL_REASON_MATCH_LIMIT: _ClassVar[CancelReason]

class ReduceReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REDUCE_REASON_UNSPECIFIED: _ClassVar[ReduceReason]
    REDUCE_REASON_REQUESTED: _ClassVar[ReduceReason]
    REDUCE_REASON_SELF_TRADE: _ClassVar[ReduceReason]
REJECT_REASON_UNSPECIFIED: RejectReason
REJECT_REASON_MALFORMED: RejectReason
REJECT_REASON_WRONG_SHARD: RejectReason
REJECT_REASON_BATCH_EXPIRED: RejectReason
REJECT_REASON_VALIDITY_TOO_LONG: RejectReason
REJECT_REASON_NONCE_REUSED: RejectReason
REJECT_REASON_TOO_MANY_NONCES: RejectReason
REJECT_REASON_STALE_CONTROL: RejectReason
REJECT_REASON_UNKNOWN_KEY: RejectReason
REJECT_REASON_BAD_SIGNATURE: RejectReason
REJECT_REASON_ACCOUNT_NOT_OF_KEY: RejectReason
REJECT_REASON_ENTRY_WORK_LIMIT: RejectReason
REJECT_REASON_NOT_FOR_THIS_SHARD: RejectReason
REJECT_REASON_UNKNOWN_MARKET: RejectReason
REJECT_REASON_MARKET_HALTED: RejectReason
REJECT_REASON_MARKET_CANCEL_ONLY: RejectReason
REJECT_REASON_MARKET_POST_ONLY: RejectReason
REJECT_REASON_INVALID_SIDE: RejectReason
REJECT_REASON_INVALID_ORDER_TYPE: RejectReason
REJECT_REASON_INVALID_TIME_IN_FORCE: RejectReason
REJECT_REASON_INVALID_POST_ONLY: RejectReason
REJECT_REASON_INVALID_SELF_TRADE_PREVENTION: RejectReason
REJECT_REASON_INVALID_QUANTITY: RejectReason
REJECT_REASON_INVALID_PRICE: RejectReason
REJECT_REASON_NO_PROTECTION_PRICE: RejectReason
REJECT_REASON_PRICE_OUTSIDE_BAND: RejectReason
REJECT_REASON_PRICE_OFF_TICK: RejectReason
REJECT_REASON_QUANTITY_OFF_LOT: RejectReason
REJECT_REASON_DUPLICATE_CLIENT_ORDER_ID: RejectReason
REJECT_REASON_TOO_MANY_OPEN_ORDERS: RejectReason
REJECT_REASON_AMOUNT_TOO_LARGE: RejectReason
REJECT_REASON_INSUFFICIENT_FUNDS: RejectReason
REJECT_REASON_POST_ONLY_WOULD_TRADE: RejectReason
REJECT_REASON_FOK_NOT_FILLABLE: RejectReason
REJECT_REASON_INVALID_ORDER_REFERENCE: RejectReason
REJECT_REASON_UNKNOWN_ORDER: RejectReason
REJECT_REASON_QUANTITY_NOT_ABOVE_FILLED: RejectReason
REJECT_REASON_INVALID_AMOUNT: RejectReason
REJECT_REASON_UNKNOWN_ASSET: RejectReason
REJECT_REASON_UNKNOWN_SHARD: RejectReason
REJECT_REASON_INVALID_DESTINATION: RejectReason
REJECT_REASON_LINK_GAP: RejectReason
REJECT_REASON_SEQUENCE_GAP: RejectReason
REJECT_REASON_SEQUENCE_USED: RejectReason
REJECT_REASON_UNKNOWN_ROLE: RejectReason
REJECT_REASON_ROLE_NOT_ALLOWED: RejectReason
REJECT_REASON_INVALID_MARKET: RejectReason
REJECT_REASON_MARKET_FIELD_FIXED: RejectReason
REJECT_REASON_INVALID_MARKET_STATE: RejectReason
REJECT_REASON_INVALID_SETTINGS: RejectReason
REJECT_REASON_FLOOR_WOULD_FALL: RejectReason
REJECT_REASON_INVALID_SCOPE: RejectReason
REJECT_REASON_TOO_MANY_TIMERS: RejectReason
REJECT_REASON_RULES_WOULD_NOT_RISE: RejectReason
REJECT_REASON_INVALID_PUBLIC_KEY: RejectReason
REJECT_REASON_KEY_EXISTS: RejectReason
REJECT_REASON_KEY_REVOKED: RejectReason
REJECT_REASON_UNKNOWN_USER: RejectReason
REJECT_REASON_UNKNOWN_ACCOUNT: RejectReason
REJECT_REASON_REQUEST_ID_REUSED: RejectReason
REJECT_REASON_REQUEST_ID_MISSING: RejectReason
REJECT_REASON_ALREADY_DEFINED: RejectReason
REJECT_REASON_INVALID_DEFINITION: RejectReason
REJECT_REASON_DEPOSITS_TOO_LARGE: RejectReason
REJECT_REASON_INVALID_POLICY: RejectReason
REJECT_REASON_UNKNOWN_WITHDRAWAL: RejectReason
REJECT_REASON_INVALID_REGISTRATION: RejectReason
REJECT_REASON_KEY_SCOPE_TOO_NARROW: RejectReason
REJECT_REASON_TOO_MANY_ACCOUNTS: RejectReason
REJECT_REASON_TOO_MANY_KEYS: RejectReason
REJECT_REASON_TOO_MANY_WITHDRAWALS: RejectReason
CANCEL_REASON_UNSPECIFIED: CancelReason
CANCEL_REASON_REQUESTED: CancelReason
CANCEL_REASON_CANCEL_ALL: CancelReason
CANCEL_REASON_OPERATOR: CancelReason
CANCEL_REASON_IMMEDIATE_OR_CANCEL: CancelReason
CANCEL_REASON_SELF_TRADE: CancelReason
CANCEL_REASON_MATCH_LIMIT: CancelReason
REDUCE_REASON_UNSPECIFIED: ReduceReason
REDUCE_REASON_REQUESTED: ReduceReason
REDUCE_REASON_SELF_TRADE: ReduceReason

class FrameRefused(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: RejectReason
    def __init__(self, reason: _Optional[_Union[RejectReason, str]] = ...) -> None: ...

class BatchResult(_message.Message):
    __slots__ = ("batch", "reason", "repeat_n", "repeat_batch")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REPEAT_N_FIELD_NUMBER: _ClassVar[int]
    REPEAT_BATCH_FIELD_NUMBER: _ClassVar[int]
    batch: int
    reason: RejectReason
    repeat_n: int
    repeat_batch: int
    def __init__(self, batch: _Optional[int] = ..., reason: _Optional[_Union[RejectReason, str]] = ..., repeat_n: _Optional[int] = ..., repeat_batch: _Optional[int] = ...) -> None: ...

class CommandRejected(_message.Message):
    __slots__ = ("command", "account", "account_seq", "reason", "market", "order_id", "client_order_id", "required_units", "available_units", "asset")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_SEQ_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_UNITS_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_UNITS_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    command: int
    account: int
    account_seq: int
    reason: RejectReason
    market: int
    order_id: int
    client_order_id: int
    required_units: int
    available_units: int
    asset: int
    def __init__(self, command: _Optional[int] = ..., account: _Optional[int] = ..., account_seq: _Optional[int] = ..., reason: _Optional[_Union[RejectReason, str]] = ..., market: _Optional[int] = ..., order_id: _Optional[int] = ..., client_order_id: _Optional[int] = ..., required_units: _Optional[int] = ..., available_units: _Optional[int] = ..., asset: _Optional[int] = ...) -> None: ...

class OrderAccepted(_message.Message):
    __slots__ = ("command", "account", "account_seq", "market", "market_seq", "order_id", "client_order_id", "side", "order_type", "time_in_force", "post_only", "price_ticks", "quantity_lots")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_SEQ_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    MARKET_SEQ_FIELD_NUMBER: _ClassVar[int]
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    ORDER_TYPE_FIELD_NUMBER: _ClassVar[int]
    TIME_IN_FORCE_FIELD_NUMBER: _ClassVar[int]
    POST_ONLY_FIELD_NUMBER: _ClassVar[int]
    PRICE_TICKS_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_LOTS_FIELD_NUMBER: _ClassVar[int]
    command: int
    account: int
    account_seq: int
    market: int
    market_seq: int
    order_id: int
    client_order_id: int
    side: _batch_pb2.Side
    order_type: _batch_pb2.OrderType
    time_in_force: _batch_pb2.TimeInForce
    post_only: bool
    price_ticks: int
    quantity_lots: int
    def __init__(self, command: _Optional[int] = ..., account: _Optional[int] = ..., account_seq: _Optional[int] = ..., market: _Optional[int] = ..., market_seq: _Optional[int] = ..., order_id: _Optional[int] = ..., client_order_id: _Optional[int] = ..., side: _Optional[_Union[_batch_pb2.Side, str]] = ..., order_type: _Optional[_Union[_batch_pb2.OrderType, str]] = ..., time_in_force: _Optional[_Union[_batch_pb2.TimeInForce, str]] = ..., post_only: _Optional[bool] = ..., price_ticks: _Optional[int] = ..., quantity_lots: _Optional[int] = ...) -> None: ...

class OrderReplaced(_message.Message):
    __slots__ = ("command", "account", "account_seq", "market", "market_seq", "order_id", "price_ticks", "open_lots", "priority_kept")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_SEQ_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    MARKET_SEQ_FIELD_NUMBER: _ClassVar[int]
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    PRICE_TICKS_FIELD_NUMBER: _ClassVar[int]
    OPEN_LOTS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_KEPT_FIELD_NUMBER: _ClassVar[int]
    command: int
    account: int
    account_seq: int
    market: int
    market_seq: int
    order_id: int
    price_ticks: int
    open_lots: int
    priority_kept: bool
    def __init__(self, command: _Optional[int] = ..., account: _Optional[int] = ..., account_seq: _Optional[int] = ..., market: _Optional[int] = ..., market_seq: _Optional[int] = ..., order_id: _Optional[int] = ..., price_ticks: _Optional[int] = ..., open_lots: _Optional[int] = ..., priority_kept: _Optional[bool] = ...) -> None: ...

class OrderReduced(_message.Message):
    __slots__ = ("command", "account", "account_seq", "market", "market_seq", "order_id", "reduced_lots", "open_lots", "reason")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_SEQ_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    MARKET_SEQ_FIELD_NUMBER: _ClassVar[int]
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    REDUCED_LOTS_FIELD_NUMBER: _ClassVar[int]
    OPEN_LOTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    command: int
    account: int
    account_seq: int
    market: int
    market_seq: int
    order_id: int
    reduced_lots: int
    open_lots: int
    reason: ReduceReason
    def __init__(self, command: _Optional[int] = ..., account: _Optional[int] = ..., account_seq: _Optional[int] = ..., market: _Optional[int] = ..., market_seq: _Optional[int] = ..., order_id: _Optional[int] = ..., reduced_lots: _Optional[int] = ..., open_lots: _Optional[int] = ..., reason: _Optional[_Union[ReduceReason, str]] = ...) -> None: ...

class OrderCancelled(_message.Message):
    __slots__ = ("command", "account", "account_seq", "market", "market_seq", "order_id", "cancelled_lots", "reason")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_SEQ_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    MARKET_SEQ_FIELD_NUMBER: _ClassVar[int]
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_LOTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    command: int
    account: int
    account_seq: int
    market: int
    market_seq: int
    order_id: int
    cancelled_lots: int
    reason: CancelReason
    def __init__(self, command: _Optional[int] = ..., account: _Optional[int] = ..., account_seq: _Optional[int] = ..., market: _Optional[int] = ..., market_seq: _Optional[int] = ..., order_id: _Optional[int] = ..., cancelled_lots: _Optional[int] = ..., reason: _Optional[_Union[CancelReason, str]] = ...) -> None: ...

class Trade(_message.Message):
    __slots__ = ("market", "market_seq", "trade_id", "price_ticks", "quantity_lots", "taker_side", "maker_order_id", "taker_order_id", "maker_account", "maker_account_seq", "taker_account", "taker_account_seq", "maker_fee_quote_units", "taker_fee_quote_units")
    MARKET_FIELD_NUMBER: _ClassVar[int]
    MARKET_SEQ_FIELD_NUMBER: _ClassVar[int]
    TRADE_ID_FIELD_NUMBER: _ClassVar[int]
    PRICE_TICKS_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_LOTS_FIELD_NUMBER: _ClassVar[int]
    TAKER_SIDE_FIELD_NUMBER: _ClassVar[int]
    MAKER_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    TAKER_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    MAKER_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    MAKER_ACCOUNT_SEQ_FIELD_NUMBER: _ClassVar[int]
    TAKER_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    TAKER_ACCOUNT_SEQ_FIELD_NUMBER: _ClassVar[int]
    MAKER_FEE_QUOTE_UNITS_FIELD_NUMBER: _ClassVar[int]
    TAKER_FEE_QUOTE_UNITS_FIELD_NUMBER: _ClassVar[int]
    market: int
    market_seq: int
    trade_id: int
    price_ticks: int
    quantity_lots: int
    taker_side: _batch_pb2.Side
    maker_order_id: int
    taker_order_id: int
    maker_account: int
    maker_account_seq: int
    taker_account: int
    taker_account_seq: int
    maker_fee_quote_units: int
    taker_fee_quote_units: int
    def __init__(self, market: _Optional[int] = ..., market_seq: _Optional[int] = ..., trade_id: _Optional[int] = ..., price_ticks: _Optional[int] = ..., quantity_lots: _Optional[int] = ..., taker_side: _Optional[_Union[_batch_pb2.Side, str]] = ..., maker_order_id: _Optional[int] = ..., taker_order_id: _Optional[int] = ..., maker_account: _Optional[int] = ..., maker_account_seq: _Optional[int] = ..., taker_account: _Optional[int] = ..., taker_account_seq: _Optional[int] = ..., maker_fee_quote_units: _Optional[int] = ..., taker_fee_quote_units: _Optional[int] = ...) -> None: ...

class CancelAllAccepted(_message.Message):
    __slots__ = ("command", "account", "account_seq", "cancel_all_id", "market", "side")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_SEQ_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ALL_ID_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    command: int
    account: int
    account_seq: int
    cancel_all_id: int
    market: int
    side: _batch_pb2.Side
    def __init__(self, command: _Optional[int] = ..., account: _Optional[int] = ..., account_seq: _Optional[int] = ..., cancel_all_id: _Optional[int] = ..., market: _Optional[int] = ..., side: _Optional[_Union[_batch_pb2.Side, str]] = ...) -> None: ...

class CancelAllDone(_message.Message):
    __slots__ = ("cancel_all_id", "cancelled_orders", "account", "account_seq")
    CANCEL_ALL_ID_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_ORDERS_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_SEQ_FIELD_NUMBER: _ClassVar[int]
    cancel_all_id: int
    cancelled_orders: int
    account: int
    account_seq: int
    def __init__(self, cancel_all_id: _Optional[int] = ..., cancelled_orders: _Optional[int] = ..., account: _Optional[int] = ..., account_seq: _Optional[int] = ...) -> None: ...

class FundsCredited(_message.Message):
    __slots__ = ("account", "account_seq", "asset", "amount_units", "from_shard")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_SEQ_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_UNITS_FIELD_NUMBER: _ClassVar[int]
    FROM_SHARD_FIELD_NUMBER: _ClassVar[int]
    account: int
    account_seq: int
    asset: int
    amount_units: int
    from_shard: int
    def __init__(self, account: _Optional[int] = ..., account_seq: _Optional[int] = ..., asset: _Optional[int] = ..., amount_units: _Optional[int] = ..., from_shard: _Optional[int] = ...) -> None: ...

class FundsSent(_message.Message):
    __slots__ = ("command", "account", "account_seq", "asset", "amount_units", "to_shard", "link_sequence")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_SEQ_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_UNITS_FIELD_NUMBER: _ClassVar[int]
    TO_SHARD_FIELD_NUMBER: _ClassVar[int]
    LINK_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    command: int
    account: int
    account_seq: int
    asset: int
    amount_units: int
    to_shard: int
    link_sequence: int
    def __init__(self, command: _Optional[int] = ..., account: _Optional[int] = ..., account_seq: _Optional[int] = ..., asset: _Optional[int] = ..., amount_units: _Optional[int] = ..., to_shard: _Optional[int] = ..., link_sequence: _Optional[int] = ...) -> None: ...

class LinkResult(_message.Message):
    __slots__ = ("link", "from_shard", "sequence", "reason", "repeated")
    LINK_FIELD_NUMBER: _ClassVar[int]
    FROM_SHARD_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    link: int
    from_shard: int
    sequence: int
    reason: RejectReason
    repeated: bool
    def __init__(self, link: _Optional[int] = ..., from_shard: _Optional[int] = ..., sequence: _Optional[int] = ..., reason: _Optional[_Union[RejectReason, str]] = ..., repeated: _Optional[bool] = ...) -> None: ...

class OperationResult(_message.Message):
    __slots__ = ("operation", "reason", "repeat_n", "repeated")
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REPEAT_N_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    operation: int
    reason: RejectReason
    repeat_n: int
    repeated: bool
    def __init__(self, operation: _Optional[int] = ..., reason: _Optional[_Union[RejectReason, str]] = ..., repeat_n: _Optional[int] = ..., repeated: _Optional[bool] = ...) -> None: ...

class ActionRejected(_message.Message):
    __slots__ = ("action", "reason")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    action: int
    reason: RejectReason
    def __init__(self, action: _Optional[int] = ..., reason: _Optional[_Union[RejectReason, str]] = ...) -> None: ...

class MarketDefined(_message.Message):
    __slots__ = ("market", "market_seq")
    MARKET_FIELD_NUMBER: _ClassVar[int]
    MARKET_SEQ_FIELD_NUMBER: _ClassVar[int]
    market: _market_pb2.Market
    market_seq: int
    def __init__(self, market: _Optional[_Union[_market_pb2.Market, _Mapping]] = ..., market_seq: _Optional[int] = ...) -> None: ...

class MarketStateChanged(_message.Message):
    __slots__ = ("market", "market_seq", "state")
    MARKET_FIELD_NUMBER: _ClassVar[int]
    MARKET_SEQ_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    market: int
    market_seq: int
    state: _market_pb2.MarketState
    def __init__(self, market: _Optional[int] = ..., market_seq: _Optional[int] = ..., state: _Optional[_Union[_market_pb2.MarketState, str]] = ...) -> None: ...

class MarketStateScheduled(_message.Message):
    __slots__ = ("market", "timer_id", "effective_us", "state")
    MARKET_FIELD_NUMBER: _ClassVar[int]
    TIMER_ID_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_US_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    market: int
    timer_id: int
    effective_us: int
    state: _market_pb2.MarketState
    def __init__(self, market: _Optional[int] = ..., timer_id: _Optional[int] = ..., effective_us: _Optional[int] = ..., state: _Optional[_Union[_market_pb2.MarketState, str]] = ...) -> None: ...

class CancelOrdersAccepted(_message.Message):
    __slots__ = ("cancel_all_id", "account", "market", "side")
    CANCEL_ALL_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    cancel_all_id: int
    account: int
    market: int
    side: _batch_pb2.Side
    def __init__(self, cancel_all_id: _Optional[int] = ..., account: _Optional[int] = ..., market: _Optional[int] = ..., side: _Optional[_Union[_batch_pb2.Side, str]] = ...) -> None: ...

class ShardSettingsChanged(_message.Message):
    __slots__ = ("settings",)
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    settings: _market_pb2.ShardSettings
    def __init__(self, settings: _Optional[_Union[_market_pb2.ShardSettings, _Mapping]] = ...) -> None: ...

class ControlFloorRaised(_message.Message):
    __slots__ = ("control_n",)
    CONTROL_N_FIELD_NUMBER: _ClassVar[int]
    control_n: int
    def __init__(self, control_n: _Optional[int] = ...) -> None: ...

class RulesRaised(_message.Message):
    __slots__ = ("rules",)
    RULES_FIELD_NUMBER: _ClassVar[int]
    rules: int
    def __init__(self, rules: _Optional[int] = ...) -> None: ...

class OperatorKeyRotated(_message.Message):
    __slots__ = ("role", "public_key")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    role: _operation_pb2.OperatorRole
    public_key: bytes
    def __init__(self, role: _Optional[_Union[_operation_pb2.OperatorRole, str]] = ..., public_key: _Optional[bytes] = ...) -> None: ...

class RequestResult(_message.Message):
    __slots__ = ("request", "reason", "repeat_n")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REPEAT_N_FIELD_NUMBER: _ClassVar[int]
    request: int
    reason: RejectReason
    repeat_n: int
    def __init__(self, request: _Optional[int] = ..., reason: _Optional[_Union[RejectReason, str]] = ..., repeat_n: _Optional[int] = ...) -> None: ...

class AssetDefined(_message.Message):
    __slots__ = ("asset",)
    ASSET_FIELD_NUMBER: _ClassVar[int]
    asset: _market_pb2.Asset
    def __init__(self, asset: _Optional[_Union[_market_pb2.Asset, _Mapping]] = ...) -> None: ...

class ShardDefined(_message.Message):
    __slots__ = ("shard", "tag")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    shard: int
    tag: str
    def __init__(self, shard: _Optional[int] = ..., tag: _Optional[str] = ...) -> None: ...

class UserCreated(_message.Message):
    __slots__ = ("user",)
    USER_FIELD_NUMBER: _ClassVar[int]
    user: int
    def __init__(self, user: _Optional[int] = ...) -> None: ...

class AccountOpened(_message.Message):
    __slots__ = ("user", "account", "command")
    USER_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    user: int
    account: int
    command: int
    def __init__(self, user: _Optional[int] = ..., account: _Optional[int] = ..., command: _Optional[int] = ...) -> None: ...

class KeyRegistered(_message.Message):
    __slots__ = ("key_id", "public_key", "user", "account", "command")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    key_id: bytes
    public_key: bytes
    user: int
    account: int
    command: int
    def __init__(self, key_id: _Optional[bytes] = ..., public_key: _Optional[bytes] = ..., user: _Optional[int] = ..., account: _Optional[int] = ..., command: _Optional[int] = ...) -> None: ...

class KeyRevoked(_message.Message):
    __slots__ = ("key_id", "command")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    key_id: bytes
    command: int
    def __init__(self, key_id: _Optional[bytes] = ..., command: _Optional[int] = ...) -> None: ...

class Deposited(_message.Message):
    __slots__ = ("account", "account_seq", "asset", "amount_units")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_SEQ_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_UNITS_FIELD_NUMBER: _ClassVar[int]
    account: int
    account_seq: int
    asset: int
    amount_units: int
    def __init__(self, account: _Optional[int] = ..., account_seq: _Optional[int] = ..., asset: _Optional[int] = ..., amount_units: _Optional[int] = ...) -> None: ...

class WithdrawalRequested(_message.Message):
    __slots__ = ("command", "withdrawal", "account", "account_seq", "asset", "amount_units", "destination")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWAL_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_SEQ_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_UNITS_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    command: int
    withdrawal: int
    account: int
    account_seq: int
    asset: int
    amount_units: int
    destination: str
    def __init__(self, command: _Optional[int] = ..., withdrawal: _Optional[int] = ..., account: _Optional[int] = ..., account_seq: _Optional[int] = ..., asset: _Optional[int] = ..., amount_units: _Optional[int] = ..., destination: _Optional[str] = ...) -> None: ...

class WithdrawalClosed(_message.Message):
    __slots__ = ("withdrawal", "paid", "account", "account_seq", "asset", "amount_units")
    WITHDRAWAL_FIELD_NUMBER: _ClassVar[int]
    PAID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_SEQ_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_UNITS_FIELD_NUMBER: _ClassVar[int]
    withdrawal: int
    paid: bool
    account: int
    account_seq: int
    asset: int
    amount_units: int
    def __init__(self, withdrawal: _Optional[int] = ..., paid: _Optional[bool] = ..., account: _Optional[int] = ..., account_seq: _Optional[int] = ..., asset: _Optional[int] = ..., amount_units: _Optional[int] = ...) -> None: ...

class FeesPaidOut(_message.Message):
    __slots__ = ("account", "account_seq", "asset", "amount_units")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_SEQ_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_UNITS_FIELD_NUMBER: _ClassVar[int]
    account: int
    account_seq: int
    asset: int
    amount_units: int
    def __init__(self, account: _Optional[int] = ..., account_seq: _Optional[int] = ..., asset: _Optional[int] = ..., amount_units: _Optional[int] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("frame_refused", "batch_result", "command_rejected", "order_accepted", "order_replaced", "order_reduced", "order_cancelled", "trade", "cancel_all_accepted", "cancel_all_done", "funds_credited", "funds_sent", "link_result", "operation_result", "action_rejected", "market_defined", "market_state_changed", "market_state_scheduled", "cancel_orders_accepted", "shard_settings_changed", "control_floor_raised", "rules_raised", "operator_key_rotated", "request_result", "asset_defined", "shard_defined", "user_created", "account_opened", "key_registered", "key_revoked", "deposited", "withdrawal_requested", "withdrawal_closed", "fees_paid_out")
    FRAME_REFUSED_FIELD_NUMBER: _ClassVar[int]
    BATCH_RESULT_FIELD_NUMBER: _ClassVar[int]
    COMMAND_REJECTED_FIELD_NUMBER: _ClassVar[int]
    ORDER_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    ORDER_REPLACED_FIELD_NUMBER: _ClassVar[int]
    ORDER_REDUCED_FIELD_NUMBER: _ClassVar[int]
    ORDER_CANCELLED_FIELD_NUMBER: _ClassVar[int]
    TRADE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ALL_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ALL_DONE_FIELD_NUMBER: _ClassVar[int]
    FUNDS_CREDITED_FIELD_NUMBER: _ClassVar[int]
    FUNDS_SENT_FIELD_NUMBER: _ClassVar[int]
    LINK_RESULT_FIELD_NUMBER: _ClassVar[int]
    OPERATION_RESULT_FIELD_NUMBER: _ClassVar[int]
    ACTION_REJECTED_FIELD_NUMBER: _ClassVar[int]
    MARKET_DEFINED_FIELD_NUMBER: _ClassVar[int]
    MARKET_STATE_CHANGED_FIELD_NUMBER: _ClassVar[int]
    MARKET_STATE_SCHEDULED_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ORDERS_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    SHARD_SETTINGS_CHANGED_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FLOOR_RAISED_FIELD_NUMBER: _ClassVar[int]
    RULES_RAISED_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_KEY_ROTATED_FIELD_NUMBER: _ClassVar[int]
    REQUEST_RESULT_FIELD_NUMBER: _ClassVar[int]
    ASSET_DEFINED_FIELD_NUMBER: _ClassVar[int]
    SHARD_DEFINED_FIELD_NUMBER: _ClassVar[int]
    USER_CREATED_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_OPENED_FIELD_NUMBER: _ClassVar[int]
    KEY_REGISTERED_FIELD_NUMBER: _ClassVar[int]
    KEY_REVOKED_FIELD_NUMBER: _ClassVar[int]
    DEPOSITED_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWAL_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWAL_CLOSED_FIELD_NUMBER: _ClassVar[int]
    FEES_PAID_OUT_FIELD_NUMBER: _ClassVar[int]
    frame_refused: FrameRefused
    batch_result: BatchResult
    command_rejected: CommandRejected
    order_accepted: OrderAccepted
    order_replaced: OrderReplaced
    order_reduced: OrderReduced
    order_cancelled: OrderCancelled
    trade: Trade
    cancel_all_accepted: CancelAllAccepted
    cancel_all_done: CancelAllDone
    funds_credited: FundsCredited
    funds_sent: FundsSent
    link_result: LinkResult
    operation_result: OperationResult
    action_rejected: ActionRejected
    market_defined: MarketDefined
    market_state_changed: MarketStateChanged
    market_state_scheduled: MarketStateScheduled
    cancel_orders_accepted: CancelOrdersAccepted
    shard_settings_changed: ShardSettingsChanged
    control_floor_raised: ControlFloorRaised
    rules_raised: RulesRaised
    operator_key_rotated: OperatorKeyRotated
    request_result: RequestResult
    asset_defined: AssetDefined
    shard_defined: ShardDefined
    user_created: UserCreated
    account_opened: AccountOpened
    key_registered: KeyRegistered
    key_revoked: KeyRevoked
    deposited: Deposited
    withdrawal_requested: WithdrawalRequested
    withdrawal_closed: WithdrawalClosed
    fees_paid_out: FeesPaidOut
    def __init__(self, frame_refused: _Optional[_Union[FrameRefused, _Mapping]] = ..., batch_result: _Optional[_Union[BatchResult, _Mapping]] = ..., command_rejected: _Optional[_Union[CommandRejected, _Mapping]] = ..., order_accepted: _Optional[_Union[OrderAccepted, _Mapping]] = ..., order_replaced: _Optional[_Union[OrderReplaced, _Mapping]] = ..., order_reduced: _Optional[_Union[OrderReduced, _Mapping]] = ..., order_cancelled: _Optional[_Union[OrderCancelled, _Mapping]] = ..., trade: _Optional[_Union[Trade, _Mapping]] = ..., cancel_all_accepted: _Optional[_Union[CancelAllAccepted, _Mapping]] = ..., cancel_all_done: _Optional[_Union[CancelAllDone, _Mapping]] = ..., funds_credited: _Optional[_Union[FundsCredited, _Mapping]] = ..., funds_sent: _Optional[_Union[FundsSent, _Mapping]] = ..., link_result: _Optional[_Union[LinkResult, _Mapping]] = ..., operation_result: _Optional[_Union[OperationResult, _Mapping]] = ..., action_rejected: _Optional[_Union[ActionRejected, _Mapping]] = ..., market_defined: _Optional[_Union[MarketDefined, _Mapping]] = ..., market_state_changed: _Optional[_Union[MarketStateChanged, _Mapping]] = ..., market_state_scheduled: _Optional[_Union[MarketStateScheduled, _Mapping]] = ..., cancel_orders_accepted: _Optional[_Union[CancelOrdersAccepted, _Mapping]] = ..., shard_settings_changed: _Optional[_Union[ShardSettingsChanged, _Mapping]] = ..., control_floor_raised: _Optional[_Union[ControlFloorRaised, _Mapping]] = ..., rules_raised: _Optional[_Union[RulesRaised, _Mapping]] = ..., operator_key_rotated: _Optional[_Union[OperatorKeyRotated, _Mapping]] = ..., request_result: _Optional[_Union[RequestResult, _Mapping]] = ..., asset_defined: _Optional[_Union[AssetDefined, _Mapping]] = ..., shard_defined: _Optional[_Union[ShardDefined, _Mapping]] = ..., user_created: _Optional[_Union[UserCreated, _Mapping]] = ..., account_opened: _Optional[_Union[AccountOpened, _Mapping]] = ..., key_registered: _Optional[_Union[KeyRegistered, _Mapping]] = ..., key_revoked: _Optional[_Union[KeyRevoked, _Mapping]] = ..., deposited: _Optional[_Union[Deposited, _Mapping]] = ..., withdrawal_requested: _Optional[_Union[WithdrawalRequested, _Mapping]] = ..., withdrawal_closed: _Optional[_Union[WithdrawalClosed, _Mapping]] = ..., fees_paid_out: _Optional[_Union[FeesPaidOut, _Mapping]] = ...) -> None: ...
