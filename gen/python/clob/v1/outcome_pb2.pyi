from clob.v1 import door_reason_pb2 as _door_reason_pb2
from clob.v1 import event_pb2 as _event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Durability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DURABILITY_UNSPECIFIED: _ClassVar[Durability]
    DURABILITY_MEMORY: _ClassVar[Durability]
    DURABILITY_FSYNC: _ClassVar[Durability]

class SendState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEND_STATE_UNSPECIFIED: _ClassVar[SendState]
    SEND_STATE_EXECUTED: _ClassVar[SendState]
    SEND_STATE_SEQUENCED: _ClassVar[SendState]
    SEND_STATE_REFUSED: _ClassVar[SendState]
    SEND_STATE_UNKNOWN: _ClassVar[SendState]
DURABILITY_UNSPECIFIED: Durability
DURABILITY_MEMORY: Durability
DURABILITY_FSYNC: Durability
SEND_STATE_UNSPECIFIED: SendState
SEND_STATE_EXECUTED: SendState
SEND_STATE_SEQUENCED: SendState
SEND_STATE_REFUSED: SendState
SEND_STATE_UNKNOWN: SendState

class BatchOutcome(_message.Message):
    __slots__ = ("state", "n", "batch", "t_us", "reject_reason", "door_reason", "events", "repeated", "executable_until_ms", "retry_after_ms", "detail")
    STATE_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    T_US_FIELD_NUMBER: _ClassVar[int]
    REJECT_REASON_FIELD_NUMBER: _ClassVar[int]
    DOOR_REASON_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    EXECUTABLE_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    state: SendState
    n: int
    batch: int
    t_us: int
    reject_reason: _event_pb2.RejectReason
    door_reason: _door_reason_pb2.DoorReason
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.Event]
    repeated: bool
    executable_until_ms: int
    retry_after_ms: int
    detail: str
    def __init__(self, state: _Optional[_Union[SendState, str]] = ..., n: _Optional[int] = ..., batch: _Optional[int] = ..., t_us: _Optional[int] = ..., reject_reason: _Optional[_Union[_event_pb2.RejectReason, str]] = ..., door_reason: _Optional[_Union[_door_reason_pb2.DoorReason, str]] = ..., events: _Optional[_Iterable[_Union[_event_pb2.Event, _Mapping]]] = ..., repeated: _Optional[bool] = ..., executable_until_ms: _Optional[int] = ..., retry_after_ms: _Optional[int] = ..., detail: _Optional[str] = ...) -> None: ...

class OperationOutcome(_message.Message):
    __slots__ = ("state", "n", "operation", "t_us", "reject_reason", "door_reason", "events", "detail")
    STATE_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    T_US_FIELD_NUMBER: _ClassVar[int]
    REJECT_REASON_FIELD_NUMBER: _ClassVar[int]
    DOOR_REASON_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    state: SendState
    n: int
    operation: int
    t_us: int
    reject_reason: _event_pb2.RejectReason
    door_reason: _door_reason_pb2.DoorReason
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.Event]
    detail: str
    def __init__(self, state: _Optional[_Union[SendState, str]] = ..., n: _Optional[int] = ..., operation: _Optional[int] = ..., t_us: _Optional[int] = ..., reject_reason: _Optional[_Union[_event_pb2.RejectReason, str]] = ..., door_reason: _Optional[_Union[_door_reason_pb2.DoorReason, str]] = ..., events: _Optional[_Iterable[_Union[_event_pb2.Event, _Mapping]]] = ..., detail: _Optional[str] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("reason", "text")
    REASON_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    reason: _event_pb2.RejectReason
    text: str
    def __init__(self, reason: _Optional[_Union[_event_pb2.RejectReason, str]] = ..., text: _Optional[str] = ...) -> None: ...
