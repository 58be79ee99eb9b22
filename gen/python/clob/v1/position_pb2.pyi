from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ShardPosition(_message.Message):
    __slots__ = ("shard", "n", "t_us", "chain_hash")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    T_US_FIELD_NUMBER: _ClassVar[int]
    CHAIN_HASH_FIELD_NUMBER: _ClassVar[int]
    shard: int
    n: int
    t_us: int
    chain_hash: bytes
    def __init__(self, shard: _Optional[int] = ..., n: _Optional[int] = ..., t_us: _Optional[int] = ..., chain_hash: _Optional[bytes] = ...) -> None: ...

class Cursor(_message.Message):
    __slots__ = ("shard", "n", "event")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    shard: int
    n: int
    event: int
    def __init__(self, shard: _Optional[int] = ..., n: _Optional[int] = ..., event: _Optional[int] = ...) -> None: ...
