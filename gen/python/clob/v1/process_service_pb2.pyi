from clob.v1 import admin_service_pb2 as _admin_service_pb2
from clob.v1 import position_pb2 as _position_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetProcessRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetProcessResponse(_message.Message):
    __slots__ = ("process", "settings")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    process: _admin_service_pb2.Process
    settings: _containers.RepeatedCompositeFieldContainer[_admin_service_pb2.Setting]
    def __init__(self, process: _Optional[_Union[_admin_service_pb2.Process, _Mapping]] = ..., settings: _Optional[_Iterable[_Union[_admin_service_pb2.Setting, _Mapping]]] = ...) -> None: ...

class GetEvidenceRequest(_message.Message):
    __slots__ = ("shards",)
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    shards: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, shards: _Optional[_Iterable[int]] = ...) -> None: ...

class ShardEvidence(_message.Message):
    __slots__ = ("shard", "ingested_n", "ingested_hash", "executed")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    INGESTED_N_FIELD_NUMBER: _ClassVar[int]
    INGESTED_HASH_FIELD_NUMBER: _ClassVar[int]
    EXECUTED_FIELD_NUMBER: _ClassVar[int]
    shard: int
    ingested_n: int
    ingested_hash: bytes
    executed: _position_pb2.ShardPosition
    def __init__(self, shard: _Optional[int] = ..., ingested_n: _Optional[int] = ..., ingested_hash: _Optional[bytes] = ..., executed: _Optional[_Union[_position_pb2.ShardPosition, _Mapping]] = ...) -> None: ...

class GetEvidenceResponse(_message.Message):
    __slots__ = ("shards",)
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    shards: _containers.RepeatedCompositeFieldContainer[ShardEvidence]
    def __init__(self, shards: _Optional[_Iterable[_Union[ShardEvidence, _Mapping]]] = ...) -> None: ...
