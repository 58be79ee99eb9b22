from clob.v1 import batch_pb2 as _batch_pb2
from clob.v1 import outcome_pb2 as _outcome_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WaitLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WAIT_LEVEL_UNSPECIFIED: _ClassVar[WaitLevel]
    WAIT_LEVEL_SEQUENCED: _ClassVar[WaitLevel]
    WAIT_LEVEL_EXECUTED: _ClassVar[WaitLevel]

class OutcomeState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_STATE_UNSPECIFIED: _ClassVar[OutcomeState]
    OUTCOME_STATE_EXECUTED: _ClassVar[OutcomeState]
    OUTCOME_STATE_PENDING: _ClassVar[OutcomeState]
    OUTCOME_STATE_NEVER: _ClassVar[OutcomeState]
WAIT_LEVEL_UNSPECIFIED: WaitLevel
WAIT_LEVEL_SEQUENCED: WaitLevel
WAIT_LEVEL_EXECUTED: WaitLevel
OUTCOME_STATE_UNSPECIFIED: OutcomeState
OUTCOME_STATE_EXECUTED: OutcomeState
OUTCOME_STATE_PENDING: OutcomeState
OUTCOME_STATE_NEVER: OutcomeState

class SubmitRequest(_message.Message):
    __slots__ = ("environment", "wait", "wait_ms_max", "with_stages", "batches")
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_MAX_FIELD_NUMBER: _ClassVar[int]
    WITH_STAGES_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    environment: str
    wait: WaitLevel
    wait_ms_max: int
    with_stages: bool
    batches: _containers.RepeatedCompositeFieldContainer[_batch_pb2.SignedBatch]
    def __init__(self, environment: _Optional[str] = ..., wait: _Optional[_Union[WaitLevel, str]] = ..., wait_ms_max: _Optional[int] = ..., with_stages: _Optional[bool] = ..., batches: _Optional[_Iterable[_Union[_batch_pb2.SignedBatch, _Mapping]]] = ...) -> None: ...

class FundsElsewhere(_message.Message):
    __slots__ = ("account", "asset", "shard", "free_units")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    FREE_UNITS_FIELD_NUMBER: _ClassVar[int]
    account: int
    asset: int
    shard: int
    free_units: int
    def __init__(self, account: _Optional[int] = ..., asset: _Optional[int] = ..., shard: _Optional[int] = ..., free_units: _Optional[int] = ...) -> None: ...

class EntryStages(_message.Message):
    __slots__ = ("shard", "n", "received_us", "verified_us", "framed_us", "sequenced_us", "taken_us", "executed_us", "durable_us", "answered_us")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_US_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_US_FIELD_NUMBER: _ClassVar[int]
    FRAMED_US_FIELD_NUMBER: _ClassVar[int]
    SEQUENCED_US_FIELD_NUMBER: _ClassVar[int]
    TAKEN_US_FIELD_NUMBER: _ClassVar[int]
    EXECUTED_US_FIELD_NUMBER: _ClassVar[int]
    DURABLE_US_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_US_FIELD_NUMBER: _ClassVar[int]
    shard: int
    n: int
    received_us: int
    verified_us: int
    framed_us: int
    sequenced_us: int
    taken_us: int
    executed_us: int
    durable_us: int
    answered_us: int
    def __init__(self, shard: _Optional[int] = ..., n: _Optional[int] = ..., received_us: _Optional[int] = ..., verified_us: _Optional[int] = ..., framed_us: _Optional[int] = ..., sequenced_us: _Optional[int] = ..., taken_us: _Optional[int] = ..., executed_us: _Optional[int] = ..., durable_us: _Optional[int] = ..., answered_us: _Optional[int] = ...) -> None: ...

class SubmitResponse(_message.Message):
    __slots__ = ("outcomes", "durability", "explanations", "funds_elsewhere", "stages")
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    FUNDS_ELSEWHERE_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[_outcome_pb2.BatchOutcome]
    durability: _outcome_pb2.Durability
    explanations: _containers.RepeatedCompositeFieldContainer[_outcome_pb2.Explanation]
    funds_elsewhere: _containers.RepeatedCompositeFieldContainer[FundsElsewhere]
    stages: _containers.RepeatedCompositeFieldContainer[EntryStages]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[_outcome_pb2.BatchOutcome, _Mapping]]] = ..., durability: _Optional[_Union[_outcome_pb2.Durability, str]] = ..., explanations: _Optional[_Iterable[_Union[_outcome_pb2.Explanation, _Mapping]]] = ..., funds_elsewhere: _Optional[_Iterable[_Union[FundsElsewhere, _Mapping]]] = ..., stages: _Optional[_Iterable[_Union[EntryStages, _Mapping]]] = ...) -> None: ...

class SubmitStreamRequest(_message.Message):
    __slots__ = ("tag", "submit")
    TAG_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_FIELD_NUMBER: _ClassVar[int]
    tag: int
    submit: SubmitRequest
    def __init__(self, tag: _Optional[int] = ..., submit: _Optional[_Union[SubmitRequest, _Mapping]] = ...) -> None: ...

class SubmitStreamResponse(_message.Message):
    __slots__ = ("tag", "submit")
    TAG_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_FIELD_NUMBER: _ClassVar[int]
    tag: int
    submit: SubmitResponse
    def __init__(self, tag: _Optional[int] = ..., submit: _Optional[_Union[SubmitResponse, _Mapping]] = ...) -> None: ...

class GetOutcomeRequest(_message.Message):
    __slots__ = ("key_id", "shard", "nonce", "valid_until_ms")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    key_id: bytes
    shard: int
    nonce: int
    valid_until_ms: int
    def __init__(self, key_id: _Optional[bytes] = ..., shard: _Optional[int] = ..., nonce: _Optional[int] = ..., valid_until_ms: _Optional[int] = ...) -> None: ...

class GetOutcomeResponse(_message.Message):
    __slots__ = ("state", "outcome", "payload_digest", "executable_until_ms")
    STATE_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_DIGEST_FIELD_NUMBER: _ClassVar[int]
    EXECUTABLE_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    state: OutcomeState
    outcome: _outcome_pb2.BatchOutcome
    payload_digest: bytes
    executable_until_ms: int
    def __init__(self, state: _Optional[_Union[OutcomeState, str]] = ..., outcome: _Optional[_Union[_outcome_pb2.BatchOutcome, _Mapping]] = ..., payload_digest: _Optional[bytes] = ..., executable_until_ms: _Optional[int] = ...) -> None: ...
