from clob.v1 import account_service_pb2 as _account_service_pb2
from clob.v1 import event_pb2 as _event_pb2
from clob.v1 import market_pb2 as _market_pb2
from clob.v1 import matching_service_pb2 as _matching_service_pb2
from clob.v1 import operation_pb2 as _operation_pb2
from clob.v1 import outcome_pb2 as _outcome_pb2
from clob.v1 import settlement_service_pb2 as _settlement_service_pb2
from clob.v1 import state_pb2 as _state_pb2
from clob.v1 import withdrawal_pb2 as _withdrawal_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProcessState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROCESS_STATE_UNSPECIFIED: _ClassVar[ProcessState]
    PROCESS_STATE_STARTING: _ClassVar[ProcessState]
    PROCESS_STATE_SERVING: _ClassVar[ProcessState]
    PROCESS_STATE_DRAINING: _ClassVar[ProcessState]
    PROCESS_STATE_STOPPED: _ClassVar[ProcessState]
    PROCESS_STATE_SILENT: _ClassVar[ProcessState]

class CheckState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHECK_STATE_UNSPECIFIED: _ClassVar[CheckState]
    CHECK_STATE_OK: _ClassVar[CheckState]
    CHECK_STATE_WARNING: _ClassVar[CheckState]
    CHECK_STATE_FAILED: _ClassVar[CheckState]
PROCESS_STATE_UNSPECIFIED: ProcessState
PROCESS_STATE_STARTING: ProcessState
PROCESS_STATE_SERVING: ProcessState
PROCESS_STATE_DRAINING: ProcessState
PROCESS_STATE_STOPPED: ProcessState
PROCESS_STATE_SILENT: ProcessState
CHECK_STATE_UNSPECIFIED: CheckState
CHECK_STATE_OK: CheckState
CHECK_STATE_WARNING: CheckState
CHECK_STATE_FAILED: CheckState

class CreateUserRequest(_message.Message):
    __slots__ = ("request_id", "public_key", "signature")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    request_id: bytes
    public_key: bytes
    signature: bytes
    def __init__(self, request_id: _Optional[bytes] = ..., public_key: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class CreateUserResponse(_message.Message):
    __slots__ = ("user_id", "account_id", "key_id", "private_key", "environment", "starting_funds", "control_n", "repeated")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    PRIVATE_KEY_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    STARTING_FUNDS_FIELD_NUMBER: _ClassVar[int]
    CONTROL_N_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    user_id: int
    account_id: int
    key_id: bytes
    private_key: str
    environment: str
    starting_funds: _containers.RepeatedCompositeFieldContainer[_state_pb2.AssetAmount]
    control_n: int
    repeated: bool
    def __init__(self, user_id: _Optional[int] = ..., account_id: _Optional[int] = ..., key_id: _Optional[bytes] = ..., private_key: _Optional[str] = ..., environment: _Optional[str] = ..., starting_funds: _Optional[_Iterable[_Union[_state_pb2.AssetAmount, _Mapping]]] = ..., control_n: _Optional[int] = ..., repeated: _Optional[bool] = ...) -> None: ...

class GetUserRequest(_message.Message):
    __slots__ = ("user",)
    USER_FIELD_NUMBER: _ClassVar[int]
    user: int
    def __init__(self, user: _Optional[int] = ...) -> None: ...

class GetUserResponse(_message.Message):
    __slots__ = ("user", "keys")
    USER_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    user: _state_pb2.UserState
    keys: _containers.RepeatedCompositeFieldContainer[_state_pb2.KeyState]
    def __init__(self, user: _Optional[_Union[_state_pb2.UserState, _Mapping]] = ..., keys: _Optional[_Iterable[_Union[_state_pb2.KeyState, _Mapping]]] = ...) -> None: ...

class ListUsersRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListUsersResponse(_message.Message):
    __slots__ = ("users", "next_page_token")
    USERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    users: _containers.RepeatedCompositeFieldContainer[_state_pb2.UserState]
    next_page_token: str
    def __init__(self, users: _Optional[_Iterable[_Union[_state_pb2.UserState, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class OpenAccountRequest(_message.Message):
    __slots__ = ("request_id", "user")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    request_id: bytes
    user: int
    def __init__(self, request_id: _Optional[bytes] = ..., user: _Optional[int] = ...) -> None: ...

class OpenAccountResponse(_message.Message):
    __slots__ = ("account", "control_n", "repeated")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    CONTROL_N_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    account: int
    control_n: int
    repeated: bool
    def __init__(self, account: _Optional[int] = ..., control_n: _Optional[int] = ..., repeated: _Optional[bool] = ...) -> None: ...

class RegisterKeyRequest(_message.Message):
    __slots__ = ("request_id", "user", "account", "public_key", "signature")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    request_id: bytes
    user: int
    account: int
    public_key: bytes
    signature: bytes
    def __init__(self, request_id: _Optional[bytes] = ..., user: _Optional[int] = ..., account: _Optional[int] = ..., public_key: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class RegisterKeyResponse(_message.Message):
    __slots__ = ("key_id", "control_n", "repeated")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    CONTROL_N_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    key_id: bytes
    control_n: int
    repeated: bool
    def __init__(self, key_id: _Optional[bytes] = ..., control_n: _Optional[int] = ..., repeated: _Optional[bool] = ...) -> None: ...

class RevokeKeyRequest(_message.Message):
    __slots__ = ("request_id", "key_id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: bytes
    key_id: bytes
    def __init__(self, request_id: _Optional[bytes] = ..., key_id: _Optional[bytes] = ...) -> None: ...

class RevokeKeyResponse(_message.Message):
    __slots__ = ("control_n", "shards_pending", "repeated")
    CONTROL_N_FIELD_NUMBER: _ClassVar[int]
    SHARDS_PENDING_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    control_n: int
    shards_pending: _containers.RepeatedScalarFieldContainer[int]
    repeated: bool
    def __init__(self, control_n: _Optional[int] = ..., shards_pending: _Optional[_Iterable[int]] = ..., repeated: _Optional[bool] = ...) -> None: ...

class ListKeysRequest(_message.Message):
    __slots__ = ("user", "key_id", "page_size", "page_token")
    USER_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user: int
    key_id: bytes
    page_size: int
    page_token: str
    def __init__(self, user: _Optional[int] = ..., key_id: _Optional[bytes] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListKeysResponse(_message.Message):
    __slots__ = ("keys", "next_page_token")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[_state_pb2.KeyState]
    next_page_token: str
    def __init__(self, keys: _Optional[_Iterable[_Union[_state_pb2.KeyState, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetAccountRequest(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: int
    def __init__(self, account: _Optional[int] = ...) -> None: ...

class GetAccountResponse(_message.Message):
    __slots__ = ("user", "balances")
    USER_FIELD_NUMBER: _ClassVar[int]
    BALANCES_FIELD_NUMBER: _ClassVar[int]
    user: int
    balances: _account_service_pb2.GetBalancesResponse
    def __init__(self, user: _Optional[int] = ..., balances: _Optional[_Union[_account_service_pb2.GetBalancesResponse, _Mapping]] = ...) -> None: ...

class DefineAssetsRequest(_message.Message):
    __slots__ = ("request_id", "assets")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ASSETS_FIELD_NUMBER: _ClassVar[int]
    request_id: bytes
    assets: _containers.RepeatedCompositeFieldContainer[_market_pb2.Asset]
    def __init__(self, request_id: _Optional[bytes] = ..., assets: _Optional[_Iterable[_Union[_market_pb2.Asset, _Mapping]]] = ...) -> None: ...

class AssetResult(_message.Message):
    __slots__ = ("asset", "reason")
    ASSET_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    asset: int
    reason: _event_pb2.RejectReason
    def __init__(self, asset: _Optional[int] = ..., reason: _Optional[_Union[_event_pb2.RejectReason, str]] = ...) -> None: ...

class DefineAssetsResponse(_message.Message):
    __slots__ = ("results", "control_n", "repeated", "explanations")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    CONTROL_N_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[AssetResult]
    control_n: int
    repeated: bool
    explanations: _containers.RepeatedCompositeFieldContainer[_outcome_pb2.Explanation]
    def __init__(self, results: _Optional[_Iterable[_Union[AssetResult, _Mapping]]] = ..., control_n: _Optional[int] = ..., repeated: _Optional[bool] = ..., explanations: _Optional[_Iterable[_Union[_outcome_pb2.Explanation, _Mapping]]] = ...) -> None: ...

class CreateMarketsRequest(_message.Message):
    __slots__ = ("request_id", "markets")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MARKETS_FIELD_NUMBER: _ClassVar[int]
    request_id: bytes
    markets: _containers.RepeatedCompositeFieldContainer[_market_pb2.Market]
    def __init__(self, request_id: _Optional[bytes] = ..., markets: _Optional[_Iterable[_Union[_market_pb2.Market, _Mapping]]] = ...) -> None: ...

class MarketResult(_message.Message):
    __slots__ = ("market", "shard", "reason")
    MARKET_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    market: int
    shard: int
    reason: _event_pb2.RejectReason
    def __init__(self, market: _Optional[int] = ..., shard: _Optional[int] = ..., reason: _Optional[_Union[_event_pb2.RejectReason, str]] = ...) -> None: ...

class CreateMarketsResponse(_message.Message):
    __slots__ = ("results", "control_n", "repeated", "explanations")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    CONTROL_N_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[MarketResult]
    control_n: int
    repeated: bool
    explanations: _containers.RepeatedCompositeFieldContainer[_outcome_pb2.Explanation]
    def __init__(self, results: _Optional[_Iterable[_Union[MarketResult, _Mapping]]] = ..., control_n: _Optional[int] = ..., repeated: _Optional[bool] = ..., explanations: _Optional[_Iterable[_Union[_outcome_pb2.Explanation, _Mapping]]] = ...) -> None: ...

class SetMarketStateRequest(_message.Message):
    __slots__ = ("request_id", "markets", "state", "effective_us")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MARKETS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_US_FIELD_NUMBER: _ClassVar[int]
    request_id: bytes
    markets: _containers.RepeatedScalarFieldContainer[int]
    state: _market_pb2.MarketState
    effective_us: int
    def __init__(self, request_id: _Optional[bytes] = ..., markets: _Optional[_Iterable[int]] = ..., state: _Optional[_Union[_market_pb2.MarketState, str]] = ..., effective_us: _Optional[int] = ...) -> None: ...

class SetMarketStateResponse(_message.Message):
    __slots__ = ("results", "repeated", "explanations")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[MarketResult]
    repeated: bool
    explanations: _containers.RepeatedCompositeFieldContainer[_outcome_pb2.Explanation]
    def __init__(self, results: _Optional[_Iterable[_Union[MarketResult, _Mapping]]] = ..., repeated: _Optional[bool] = ..., explanations: _Optional[_Iterable[_Union[_outcome_pb2.Explanation, _Mapping]]] = ...) -> None: ...

class DepositRequest(_message.Message):
    __slots__ = ("request_id", "deposits", "wait_ms_max")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DEPOSITS_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_MAX_FIELD_NUMBER: _ClassVar[int]
    request_id: bytes
    deposits: _containers.RepeatedCompositeFieldContainer[_operation_pb2.Deposit]
    wait_ms_max: int
    def __init__(self, request_id: _Optional[bytes] = ..., deposits: _Optional[_Iterable[_Union[_operation_pb2.Deposit, _Mapping]]] = ..., wait_ms_max: _Optional[int] = ...) -> None: ...

class DepositResult(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: _event_pb2.RejectReason
    def __init__(self, reason: _Optional[_Union[_event_pb2.RejectReason, str]] = ...) -> None: ...

class DepositResponse(_message.Message):
    __slots__ = ("results", "control_n", "arrived", "repeated", "explanations")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    CONTROL_N_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[DepositResult]
    control_n: int
    arrived: bool
    repeated: bool
    explanations: _containers.RepeatedCompositeFieldContainer[_outcome_pb2.Explanation]
    def __init__(self, results: _Optional[_Iterable[_Union[DepositResult, _Mapping]]] = ..., control_n: _Optional[int] = ..., arrived: _Optional[bool] = ..., repeated: _Optional[bool] = ..., explanations: _Optional[_Iterable[_Union[_outcome_pb2.Explanation, _Mapping]]] = ...) -> None: ...

class ListTransfersRequest(_message.Message):
    __slots__ = ("account", "page_size", "page_token")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    account: int
    page_size: int
    page_token: str
    def __init__(self, account: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListTransfersResponse(_message.Message):
    __slots__ = ("transfers", "next_page_token")
    TRANSFERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    transfers: _containers.RepeatedCompositeFieldContainer[_account_service_pb2.FundsInTransit]
    next_page_token: str
    def __init__(self, transfers: _Optional[_Iterable[_Union[_account_service_pb2.FundsInTransit, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListWithdrawalsRequest(_message.Message):
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

class ListWithdrawalsResponse(_message.Message):
    __slots__ = ("withdrawals", "next_page_token")
    WITHDRAWALS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    withdrawals: _containers.RepeatedCompositeFieldContainer[_withdrawal_pb2.Withdrawal]
    next_page_token: str
    def __init__(self, withdrawals: _Optional[_Iterable[_Union[_withdrawal_pb2.Withdrawal, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CloseWithdrawalRequest(_message.Message):
    __slots__ = ("request_id", "withdrawal", "state")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWAL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    request_id: bytes
    withdrawal: int
    state: _withdrawal_pb2.WithdrawalState
    def __init__(self, request_id: _Optional[bytes] = ..., withdrawal: _Optional[int] = ..., state: _Optional[_Union[_withdrawal_pb2.WithdrawalState, str]] = ...) -> None: ...

class CloseWithdrawalResponse(_message.Message):
    __slots__ = ("withdrawal", "control_n", "repeated")
    WITHDRAWAL_FIELD_NUMBER: _ClassVar[int]
    CONTROL_N_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    withdrawal: _withdrawal_pb2.Withdrawal
    control_n: int
    repeated: bool
    def __init__(self, withdrawal: _Optional[_Union[_withdrawal_pb2.Withdrawal, _Mapping]] = ..., control_n: _Optional[int] = ..., repeated: _Optional[bool] = ...) -> None: ...

class ListShardsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ShardOverview(_message.Message):
    __slots__ = ("entry", "address", "status", "settlement")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SETTLEMENT_FIELD_NUMBER: _ClassVar[int]
    entry: _state_pb2.ShardEntry
    address: str
    status: _matching_service_pb2.ShardStatus
    settlement: _settlement_service_pb2.SettlementPosition
    def __init__(self, entry: _Optional[_Union[_state_pb2.ShardEntry, _Mapping]] = ..., address: _Optional[str] = ..., status: _Optional[_Union[_matching_service_pb2.ShardStatus, _Mapping]] = ..., settlement: _Optional[_Union[_settlement_service_pb2.SettlementPosition, _Mapping]] = ...) -> None: ...

class ListShardsResponse(_message.Message):
    __slots__ = ("shards", "next_page_token")
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    shards: _containers.RepeatedCompositeFieldContainer[ShardOverview]
    next_page_token: str
    def __init__(self, shards: _Optional[_Iterable[_Union[ShardOverview, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListProcessesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class Process(_message.Message):
    __slots__ = ("kind", "address", "state", "shards", "pid", "started_us", "seen_us", "version", "message")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    STARTED_US_FIELD_NUMBER: _ClassVar[int]
    SEEN_US_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    address: str
    state: ProcessState
    shards: _containers.RepeatedScalarFieldContainer[int]
    pid: int
    started_us: int
    seen_us: int
    version: str
    message: str
    def __init__(self, kind: _Optional[str] = ..., address: _Optional[str] = ..., state: _Optional[_Union[ProcessState, str]] = ..., shards: _Optional[_Iterable[int]] = ..., pid: _Optional[int] = ..., started_us: _Optional[int] = ..., seen_us: _Optional[int] = ..., version: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class ListProcessesResponse(_message.Message):
    __slots__ = ("processes", "next_page_token")
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    processes: _containers.RepeatedCompositeFieldContainer[Process]
    next_page_token: str
    def __init__(self, processes: _Optional[_Iterable[_Union[Process, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DiagnoseRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Check(_message.Message):
    __slots__ = ("name", "state", "found", "remedy")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: CheckState
    found: str
    remedy: str
    def __init__(self, name: _Optional[str] = ..., state: _Optional[_Union[CheckState, str]] = ..., found: _Optional[str] = ..., remedy: _Optional[str] = ...) -> None: ...

class DiagnoseResponse(_message.Message):
    __slots__ = ("checks",)
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    checks: _containers.RepeatedCompositeFieldContainer[Check]
    def __init__(self, checks: _Optional[_Iterable[_Union[Check, _Mapping]]] = ...) -> None: ...

class GetConfigRequest(_message.Message):
    __slots__ = ("address",)
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    address: str
    def __init__(self, address: _Optional[str] = ...) -> None: ...

class Setting(_message.Message):
    __slots__ = ("name", "value", "origin", "secret")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    origin: str
    secret: bool
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ..., origin: _Optional[str] = ..., secret: _Optional[bool] = ...) -> None: ...

class GetConfigResponse(_message.Message):
    __slots__ = ("settings",)
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    settings: _containers.RepeatedCompositeFieldContainer[Setting]
    def __init__(self, settings: _Optional[_Iterable[_Union[Setting, _Mapping]]] = ...) -> None: ...
