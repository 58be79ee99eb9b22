from clob.v1 import position_pb2 as _position_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SettleRequest(_message.Message):
    __slots__ = ("positions", "with_state_hashes")
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    WITH_STATE_HASHES_FIELD_NUMBER: _ClassVar[int]
    positions: _containers.RepeatedCompositeFieldContainer[_position_pb2.ShardPosition]
    with_state_hashes: bool
    def __init__(self, positions: _Optional[_Iterable[_Union[_position_pb2.ShardPosition, _Mapping]]] = ..., with_state_hashes: _Optional[bool] = ...) -> None: ...

class SettledShard(_message.Message):
    __slots__ = ("settled", "state_hash")
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    STATE_HASH_FIELD_NUMBER: _ClassVar[int]
    settled: _position_pb2.ShardPosition
    state_hash: bytes
    def __init__(self, settled: _Optional[_Union[_position_pb2.ShardPosition, _Mapping]] = ..., state_hash: _Optional[bytes] = ...) -> None: ...

class SettleResponse(_message.Message):
    __slots__ = ("shards",)
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    shards: _containers.RepeatedCompositeFieldContainer[SettledShard]
    def __init__(self, shards: _Optional[_Iterable[_Union[SettledShard, _Mapping]]] = ...) -> None: ...

class GetPositionsRequest(_message.Message):
    __slots__ = ("shards",)
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    shards: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, shards: _Optional[_Iterable[int]] = ...) -> None: ...

class SettlementPosition(_message.Message):
    __slots__ = ("settled", "orders_n", "executions_n", "audited_n", "checkpoint_n", "trimmed_n", "stopped")
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    ORDERS_N_FIELD_NUMBER: _ClassVar[int]
    EXECUTIONS_N_FIELD_NUMBER: _ClassVar[int]
    AUDITED_N_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_N_FIELD_NUMBER: _ClassVar[int]
    TRIMMED_N_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    settled: _position_pb2.ShardPosition
    orders_n: int
    executions_n: int
    audited_n: int
    checkpoint_n: int
    trimmed_n: int
    stopped: str
    def __init__(self, settled: _Optional[_Union[_position_pb2.ShardPosition, _Mapping]] = ..., orders_n: _Optional[int] = ..., executions_n: _Optional[int] = ..., audited_n: _Optional[int] = ..., checkpoint_n: _Optional[int] = ..., trimmed_n: _Optional[int] = ..., stopped: _Optional[str] = ...) -> None: ...

class GetPositionsResponse(_message.Message):
    __slots__ = ("positions",)
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    positions: _containers.RepeatedCompositeFieldContainer[SettlementPosition]
    def __init__(self, positions: _Optional[_Iterable[_Union[SettlementPosition, _Mapping]]] = ...) -> None: ...

class AuditRequest(_message.Message):
    __slots__ = ("assets",)
    ASSETS_FIELD_NUMBER: _ClassVar[int]
    assets: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, assets: _Optional[_Iterable[int]] = ...) -> None: ...

class AuditLine(_message.Message):
    __slots__ = ("asset", "symbol", "treasury_units", "set_aside_units", "transit_units", "shards_units", "locked_units", "fees_units", "deposited_units", "withdrawn_units", "difference_units")
    ASSET_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    TREASURY_UNITS_FIELD_NUMBER: _ClassVar[int]
    SET_ASIDE_UNITS_FIELD_NUMBER: _ClassVar[int]
    TRANSIT_UNITS_FIELD_NUMBER: _ClassVar[int]
    SHARDS_UNITS_FIELD_NUMBER: _ClassVar[int]
    LOCKED_UNITS_FIELD_NUMBER: _ClassVar[int]
    FEES_UNITS_FIELD_NUMBER: _ClassVar[int]
    DEPOSITED_UNITS_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_UNITS_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_UNITS_FIELD_NUMBER: _ClassVar[int]
    asset: int
    symbol: str
    treasury_units: int
    set_aside_units: int
    transit_units: int
    shards_units: int
    locked_units: int
    fees_units: int
    deposited_units: int
    withdrawn_units: int
    difference_units: int
    def __init__(self, asset: _Optional[int] = ..., symbol: _Optional[str] = ..., treasury_units: _Optional[int] = ..., set_aside_units: _Optional[int] = ..., transit_units: _Optional[int] = ..., shards_units: _Optional[int] = ..., locked_units: _Optional[int] = ..., fees_units: _Optional[int] = ..., deposited_units: _Optional[int] = ..., withdrawn_units: _Optional[int] = ..., difference_units: _Optional[int] = ...) -> None: ...

class AuditResponse(_message.Message):
    __slots__ = ("lines", "passed", "positions")
    LINES_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedCompositeFieldContainer[AuditLine]
    passed: bool
    positions: _containers.RepeatedCompositeFieldContainer[SettlementPosition]
    def __init__(self, lines: _Optional[_Iterable[_Union[AuditLine, _Mapping]]] = ..., passed: _Optional[bool] = ..., positions: _Optional[_Iterable[_Union[SettlementPosition, _Mapping]]] = ...) -> None: ...
