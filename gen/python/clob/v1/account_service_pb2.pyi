from clob.v1 import batch_pb2 as _batch_pb2
from clob.v1 import event_pb2 as _event_pb2
from clob.v1 import position_pb2 as _position_pb2
from clob.v1 import session_pb2 as _session_pb2
from clob.v1 import state_pb2 as _state_pb2
from clob.v1 import withdrawal_pb2 as _withdrawal_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateChallengeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CreateChallengeResponse(_message.Message):
    __slots__ = ("challenge", "valid_until_ms", "environment")
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    challenge: bytes
    valid_until_ms: int
    environment: str
    def __init__(self, challenge: _Optional[bytes] = ..., valid_until_ms: _Optional[int] = ..., environment: _Optional[str] = ...) -> None: ...

class OpenSessionRequest(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: _session_pb2.SignedSession
    def __init__(self, session: _Optional[_Union[_session_pb2.SignedSession, _Mapping]] = ...) -> None: ...

class OpenSessionResponse(_message.Message):
    __slots__ = ("token", "valid_until_ms", "user", "accounts")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    token: str
    valid_until_ms: int
    user: int
    accounts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, token: _Optional[str] = ..., valid_until_ms: _Optional[int] = ..., user: _Optional[int] = ..., accounts: _Optional[_Iterable[int]] = ...) -> None: ...

class GetBalancesRequest(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: int
    def __init__(self, account: _Optional[int] = ...) -> None: ...

class ShardBalances(_message.Message):
    __slots__ = ("cursor", "account_seq", "balances")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_SEQ_FIELD_NUMBER: _ClassVar[int]
    BALANCES_FIELD_NUMBER: _ClassVar[int]
    cursor: _position_pb2.Cursor
    account_seq: int
    balances: _containers.RepeatedCompositeFieldContainer[_state_pb2.Balance]
    def __init__(self, cursor: _Optional[_Union[_position_pb2.Cursor, _Mapping]] = ..., account_seq: _Optional[int] = ..., balances: _Optional[_Iterable[_Union[_state_pb2.Balance, _Mapping]]] = ...) -> None: ...

class FundsInTransit(_message.Message):
    __slots__ = ("from_shard", "to_shard", "link_sequence", "account", "asset", "amount_units", "debited_us")
    FROM_SHARD_FIELD_NUMBER: _ClassVar[int]
    TO_SHARD_FIELD_NUMBER: _ClassVar[int]
    LINK_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_UNITS_FIELD_NUMBER: _ClassVar[int]
    DEBITED_US_FIELD_NUMBER: _ClassVar[int]
    from_shard: int
    to_shard: int
    link_sequence: int
    account: int
    asset: int
    amount_units: int
    debited_us: int
    def __init__(self, from_shard: _Optional[int] = ..., to_shard: _Optional[int] = ..., link_sequence: _Optional[int] = ..., account: _Optional[int] = ..., asset: _Optional[int] = ..., amount_units: _Optional[int] = ..., debited_us: _Optional[int] = ...) -> None: ...

class GetBalancesResponse(_message.Message):
    __slots__ = ("account", "shards", "transit", "withdrawals")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    TRANSIT_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWALS_FIELD_NUMBER: _ClassVar[int]
    account: int
    shards: _containers.RepeatedCompositeFieldContainer[ShardBalances]
    transit: _containers.RepeatedCompositeFieldContainer[FundsInTransit]
    withdrawals: _containers.RepeatedCompositeFieldContainer[_state_pb2.OpenWithdrawal]
    def __init__(self, account: _Optional[int] = ..., shards: _Optional[_Iterable[_Union[ShardBalances, _Mapping]]] = ..., transit: _Optional[_Iterable[_Union[FundsInTransit, _Mapping]]] = ..., withdrawals: _Optional[_Iterable[_Union[_state_pb2.OpenWithdrawal, _Mapping]]] = ...) -> None: ...

class ListOpenOrdersRequest(_message.Message):
    __slots__ = ("account", "market", "page_size", "page_token")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    account: int
    market: int
    page_size: int
    page_token: str
    def __init__(self, account: _Optional[int] = ..., market: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class OpenOrder(_message.Message):
    __slots__ = ("shard", "market", "side", "order")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    shard: int
    market: int
    side: _batch_pb2.Side
    order: _state_pb2.RestingOrder
    def __init__(self, shard: _Optional[int] = ..., market: _Optional[int] = ..., side: _Optional[_Union[_batch_pb2.Side, str]] = ..., order: _Optional[_Union[_state_pb2.RestingOrder, _Mapping]] = ...) -> None: ...

class ListOpenOrdersResponse(_message.Message):
    __slots__ = ("orders", "next_page_token", "cursors")
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CURSORS_FIELD_NUMBER: _ClassVar[int]
    orders: _containers.RepeatedCompositeFieldContainer[OpenOrder]
    next_page_token: str
    cursors: _containers.RepeatedCompositeFieldContainer[_position_pb2.Cursor]
    def __init__(self, orders: _Optional[_Iterable[_Union[OpenOrder, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., cursors: _Optional[_Iterable[_Union[_position_pb2.Cursor, _Mapping]]] = ...) -> None: ...

class StreamExecutionsRequest(_message.Message):
    __slots__ = ("account", "cursors")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    CURSORS_FIELD_NUMBER: _ClassVar[int]
    account: int
    cursors: _containers.RepeatedCompositeFieldContainer[_position_pb2.Cursor]
    def __init__(self, account: _Optional[int] = ..., cursors: _Optional[_Iterable[_Union[_position_pb2.Cursor, _Mapping]]] = ...) -> None: ...

class StreamExecutionsResponse(_message.Message):
    __slots__ = ("cursor", "t_us", "events")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    T_US_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    cursor: _position_pb2.Cursor
    t_us: int
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.Event]
    def __init__(self, cursor: _Optional[_Union[_position_pb2.Cursor, _Mapping]] = ..., t_us: _Optional[int] = ..., events: _Optional[_Iterable[_Union[_event_pb2.Event, _Mapping]]] = ...) -> None: ...

class ListAccountWithdrawalsRequest(_message.Message):
    __slots__ = ("account", "state", "page_size", "page_token")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    account: int
    state: _withdrawal_pb2.WithdrawalState
    page_size: int
    page_token: str
    def __init__(self, account: _Optional[int] = ..., state: _Optional[_Union[_withdrawal_pb2.WithdrawalState, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAccountWithdrawalsResponse(_message.Message):
    __slots__ = ("withdrawals", "next_page_token")
    WITHDRAWALS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    withdrawals: _containers.RepeatedCompositeFieldContainer[_withdrawal_pb2.Withdrawal]
    next_page_token: str
    def __init__(self, withdrawals: _Optional[_Iterable[_Union[_withdrawal_pb2.Withdrawal, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
