from clob.v1 import batch_pb2 as _batch_pb2
from clob.v1 import door_reason_pb2 as _door_reason_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VerifyRequest(_message.Message):
    __slots__ = ("environment", "batches")
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    environment: str
    batches: _containers.RepeatedCompositeFieldContainer[_batch_pb2.SignedBatch]
    def __init__(self, environment: _Optional[str] = ..., batches: _Optional[_Iterable[_Union[_batch_pb2.SignedBatch, _Mapping]]] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("door_reason", "account", "shard", "commands", "executable_until_ms", "detail")
    DOOR_REASON_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    EXECUTABLE_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    door_reason: _door_reason_pb2.DoorReason
    account: int
    shard: int
    commands: int
    executable_until_ms: int
    detail: str
    def __init__(self, door_reason: _Optional[_Union[_door_reason_pb2.DoorReason, str]] = ..., account: _Optional[int] = ..., shard: _Optional[int] = ..., commands: _Optional[int] = ..., executable_until_ms: _Optional[int] = ..., detail: _Optional[str] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("verdicts", "control_n")
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    CONTROL_N_FIELD_NUMBER: _ClassVar[int]
    verdicts: _containers.RepeatedCompositeFieldContainer[Verdict]
    control_n: int
    def __init__(self, verdicts: _Optional[_Iterable[_Union[Verdict, _Mapping]]] = ..., control_n: _Optional[int] = ...) -> None: ...
