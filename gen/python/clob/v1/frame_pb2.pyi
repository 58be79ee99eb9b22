from clob.v1 import batch_pb2 as _batch_pb2
from clob.v1 import control_pb2 as _control_pb2
from clob.v1 import event_pb2 as _event_pb2
from clob.v1 import operation_pb2 as _operation_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OrderFrame(_message.Message):
    __slots__ = ("format", "ingress", "counter", "ingress_time_us", "control_n", "batches", "links", "operations", "requests")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    INGRESS_FIELD_NUMBER: _ClassVar[int]
    COUNTER_FIELD_NUMBER: _ClassVar[int]
    INGRESS_TIME_US_FIELD_NUMBER: _ClassVar[int]
    CONTROL_N_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    format: int
    ingress: bytes
    counter: int
    ingress_time_us: int
    control_n: int
    batches: _containers.RepeatedCompositeFieldContainer[_batch_pb2.SignedBatch]
    links: _containers.RepeatedCompositeFieldContainer[_operation_pb2.SignedLink]
    operations: _containers.RepeatedCompositeFieldContainer[_operation_pb2.SignedOperation]
    requests: _containers.RepeatedCompositeFieldContainer[_control_pb2.ControlRequest]
    def __init__(self, format: _Optional[int] = ..., ingress: _Optional[bytes] = ..., counter: _Optional[int] = ..., ingress_time_us: _Optional[int] = ..., control_n: _Optional[int] = ..., batches: _Optional[_Iterable[_Union[_batch_pb2.SignedBatch, _Mapping]]] = ..., links: _Optional[_Iterable[_Union[_operation_pb2.SignedLink, _Mapping]]] = ..., operations: _Optional[_Iterable[_Union[_operation_pb2.SignedOperation, _Mapping]]] = ..., requests: _Optional[_Iterable[_Union[_control_pb2.ControlRequest, _Mapping]]] = ...) -> None: ...

class ExecutionFrame(_message.Message):
    __slots__ = ("format", "n", "t_us", "rules", "previous_hash", "input_hash", "events")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    T_US_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_HASH_FIELD_NUMBER: _ClassVar[int]
    INPUT_HASH_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    format: int
    n: int
    t_us: int
    rules: int
    previous_hash: bytes
    input_hash: bytes
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.Event]
    def __init__(self, format: _Optional[int] = ..., n: _Optional[int] = ..., t_us: _Optional[int] = ..., rules: _Optional[int] = ..., previous_hash: _Optional[bytes] = ..., input_hash: _Optional[bytes] = ..., events: _Optional[_Iterable[_Union[_event_pb2.Event, _Mapping]]] = ...) -> None: ...
