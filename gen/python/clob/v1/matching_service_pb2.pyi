from clob.v1 import batch_pb2 as _batch_pb2
from clob.v1 import event_pb2 as _event_pb2
from clob.v1 import market_pb2 as _market_pb2
from clob.v1 import operation_pb2 as _operation_pb2
from clob.v1 import outcome_pb2 as _outcome_pb2
from clob.v1 import position_pb2 as _position_pb2
from clob.v1 import state_pb2 as _state_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MatchRequest(_message.Message):
    __slots__ = ("shard", "wait_ms_max", "batches", "operations")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_MAX_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    shard: int
    wait_ms_max: int
    batches: _containers.RepeatedCompositeFieldContainer[_batch_pb2.SignedBatch]
    operations: _containers.RepeatedCompositeFieldContainer[_operation_pb2.SignedOperation]
    def __init__(self, shard: _Optional[int] = ..., wait_ms_max: _Optional[int] = ..., batches: _Optional[_Iterable[_Union[_batch_pb2.SignedBatch, _Mapping]]] = ..., operations: _Optional[_Iterable[_Union[_operation_pb2.SignedOperation, _Mapping]]] = ...) -> None: ...

class MatchResponse(_message.Message):
    __slots__ = ("batches", "operations", "durability")
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedCompositeFieldContainer[_outcome_pb2.BatchOutcome]
    operations: _containers.RepeatedCompositeFieldContainer[_outcome_pb2.OperationOutcome]
    durability: _outcome_pb2.Durability
    def __init__(self, batches: _Optional[_Iterable[_Union[_outcome_pb2.BatchOutcome, _Mapping]]] = ..., operations: _Optional[_Iterable[_Union[_outcome_pb2.OperationOutcome, _Mapping]]] = ..., durability: _Optional[_Union[_outcome_pb2.Durability, str]] = ...) -> None: ...

class WhatIfRequest(_message.Message):
    __slots__ = ("shard", "batches")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    shard: int
    batches: _containers.RepeatedCompositeFieldContainer[_batch_pb2.Batch]
    def __init__(self, shard: _Optional[int] = ..., batches: _Optional[_Iterable[_Union[_batch_pb2.Batch, _Mapping]]] = ...) -> None: ...

class WhatIfResponse(_message.Message):
    __slots__ = ("position", "events")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    position: _position_pb2.ShardPosition
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.Event]
    def __init__(self, position: _Optional[_Union[_position_pb2.ShardPosition, _Mapping]] = ..., events: _Optional[_Iterable[_Union[_event_pb2.Event, _Mapping]]] = ...) -> None: ...

class MatchingServiceGetBookRequest(_message.Message):
    __slots__ = ("market", "orders_per_side_max")
    MARKET_FIELD_NUMBER: _ClassVar[int]
    ORDERS_PER_SIDE_MAX_FIELD_NUMBER: _ClassVar[int]
    market: int
    orders_per_side_max: int
    def __init__(self, market: _Optional[int] = ..., orders_per_side_max: _Optional[int] = ...) -> None: ...

class MatchingServiceGetBookResponse(_message.Message):
    __slots__ = ("position", "book", "bid_orders", "ask_orders")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    BOOK_FIELD_NUMBER: _ClassVar[int]
    BID_ORDERS_FIELD_NUMBER: _ClassVar[int]
    ASK_ORDERS_FIELD_NUMBER: _ClassVar[int]
    position: _position_pb2.ShardPosition
    book: _state_pb2.BookState
    bid_orders: int
    ask_orders: int
    def __init__(self, position: _Optional[_Union[_position_pb2.ShardPosition, _Mapping]] = ..., book: _Optional[_Union[_state_pb2.BookState, _Mapping]] = ..., bid_orders: _Optional[int] = ..., ask_orders: _Optional[int] = ...) -> None: ...

class GetShardRequest(_message.Message):
    __slots__ = ("shard", "with_state_hash")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    WITH_STATE_HASH_FIELD_NUMBER: _ClassVar[int]
    shard: int
    with_state_hash: bool
    def __init__(self, shard: _Optional[int] = ..., with_state_hash: _Optional[bool] = ...) -> None: ...

class ShardStatus(_message.Message):
    __slots__ = ("executed", "orders_n", "durable_n", "epoch", "durability", "engine", "rules", "rules_max", "control_floor", "settings", "markets", "accounts", "open_orders", "live_nonces", "timers", "pending_cancel_alls", "stopped")
    EXECUTED_FIELD_NUMBER: _ClassVar[int]
    ORDERS_N_FIELD_NUMBER: _ClassVar[int]
    DURABLE_N_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    RULES_MAX_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FLOOR_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    MARKETS_FIELD_NUMBER: _ClassVar[int]
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    OPEN_ORDERS_FIELD_NUMBER: _ClassVar[int]
    LIVE_NONCES_FIELD_NUMBER: _ClassVar[int]
    TIMERS_FIELD_NUMBER: _ClassVar[int]
    PENDING_CANCEL_ALLS_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    executed: _position_pb2.ShardPosition
    orders_n: int
    durable_n: int
    epoch: int
    durability: _outcome_pb2.Durability
    engine: str
    rules: int
    rules_max: int
    control_floor: int
    settings: _market_pb2.ShardSettings
    markets: int
    accounts: int
    open_orders: int
    live_nonces: int
    timers: int
    pending_cancel_alls: int
    stopped: str
    def __init__(self, executed: _Optional[_Union[_position_pb2.ShardPosition, _Mapping]] = ..., orders_n: _Optional[int] = ..., durable_n: _Optional[int] = ..., epoch: _Optional[int] = ..., durability: _Optional[_Union[_outcome_pb2.Durability, str]] = ..., engine: _Optional[str] = ..., rules: _Optional[int] = ..., rules_max: _Optional[int] = ..., control_floor: _Optional[int] = ..., settings: _Optional[_Union[_market_pb2.ShardSettings, _Mapping]] = ..., markets: _Optional[int] = ..., accounts: _Optional[int] = ..., open_orders: _Optional[int] = ..., live_nonces: _Optional[int] = ..., timers: _Optional[int] = ..., pending_cancel_alls: _Optional[int] = ..., stopped: _Optional[str] = ...) -> None: ...

class GetShardResponse(_message.Message):
    __slots__ = ("status", "state_hash")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    STATE_HASH_FIELD_NUMBER: _ClassVar[int]
    status: ShardStatus
    state_hash: bytes
    def __init__(self, status: _Optional[_Union[ShardStatus, _Mapping]] = ..., state_hash: _Optional[bytes] = ...) -> None: ...
