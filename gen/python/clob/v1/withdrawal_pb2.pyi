from clob.v1 import state_pb2 as _state_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WithdrawalState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WITHDRAWAL_STATE_UNSPECIFIED: _ClassVar[WithdrawalState]
    WITHDRAWAL_STATE_OPEN: _ClassVar[WithdrawalState]
    WITHDRAWAL_STATE_PAID: _ClassVar[WithdrawalState]
    WITHDRAWAL_STATE_GIVEN_BACK: _ClassVar[WithdrawalState]
WITHDRAWAL_STATE_UNSPECIFIED: WithdrawalState
WITHDRAWAL_STATE_OPEN: WithdrawalState
WITHDRAWAL_STATE_PAID: WithdrawalState
WITHDRAWAL_STATE_GIVEN_BACK: WithdrawalState

class Withdrawal(_message.Message):
    __slots__ = ("request", "state", "requested_n", "requested_us", "closed_us", "payable")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_N_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_US_FIELD_NUMBER: _ClassVar[int]
    CLOSED_US_FIELD_NUMBER: _ClassVar[int]
    PAYABLE_FIELD_NUMBER: _ClassVar[int]
    request: _state_pb2.OpenWithdrawal
    state: WithdrawalState
    requested_n: int
    requested_us: int
    closed_us: int
    payable: bool
    def __init__(self, request: _Optional[_Union[_state_pb2.OpenWithdrawal, _Mapping]] = ..., state: _Optional[_Union[WithdrawalState, str]] = ..., requested_n: _Optional[int] = ..., requested_us: _Optional[int] = ..., closed_us: _Optional[int] = ..., payable: _Optional[bool] = ...) -> None: ...
