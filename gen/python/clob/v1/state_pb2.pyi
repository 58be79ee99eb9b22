from clob.v1 import batch_pb2 as _batch_pb2
from clob.v1 import market_pb2 as _market_pb2
from clob.v1 import operation_pb2 as _operation_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OperatorKey(_message.Message):
    __slots__ = ("role", "public_key", "last_sequence", "last_digest")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LAST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    role: _operation_pb2.OperatorRole
    public_key: bytes
    last_sequence: int
    last_digest: bytes
    def __init__(self, role: _Optional[_Union[_operation_pb2.OperatorRole, str]] = ..., public_key: _Optional[bytes] = ..., last_sequence: _Optional[int] = ..., last_digest: _Optional[bytes] = ...) -> None: ...

class Genesis(_message.Message):
    __slots__ = ("format", "environment", "shard", "rules", "settings", "operators")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    OPERATORS_FIELD_NUMBER: _ClassVar[int]
    format: int
    environment: str
    shard: int
    rules: int
    settings: _market_pb2.ShardSettings
    operators: _containers.RepeatedCompositeFieldContainer[OperatorKey]
    def __init__(self, format: _Optional[int] = ..., environment: _Optional[str] = ..., shard: _Optional[int] = ..., rules: _Optional[int] = ..., settings: _Optional[_Union[_market_pb2.ShardSettings, _Mapping]] = ..., operators: _Optional[_Iterable[_Union[OperatorKey, _Mapping]]] = ...) -> None: ...

class RestingOrder(_message.Message):
    __slots__ = ("order_id", "client_order_id", "account", "price_ticks", "open_lots", "filled_lots", "post_only", "self_trade_prevention", "maker_fee_ppm", "taker_fee_ppm", "maker_prepaid_ppm", "taker_prepaid_ppm")
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    PRICE_TICKS_FIELD_NUMBER: _ClassVar[int]
    OPEN_LOTS_FIELD_NUMBER: _ClassVar[int]
    FILLED_LOTS_FIELD_NUMBER: _ClassVar[int]
    POST_ONLY_FIELD_NUMBER: _ClassVar[int]
    SELF_TRADE_PREVENTION_FIELD_NUMBER: _ClassVar[int]
    MAKER_FEE_PPM_FIELD_NUMBER: _ClassVar[int]
    TAKER_FEE_PPM_FIELD_NUMBER: _ClassVar[int]
    MAKER_PREPAID_PPM_FIELD_NUMBER: _ClassVar[int]
    TAKER_PREPAID_PPM_FIELD_NUMBER: _ClassVar[int]
    order_id: int
    client_order_id: int
    account: int
    price_ticks: int
    open_lots: int
    filled_lots: int
    post_only: bool
    self_trade_prevention: _batch_pb2.SelfTradePrevention
    maker_fee_ppm: int
    taker_fee_ppm: int
    maker_prepaid_ppm: int
    taker_prepaid_ppm: int
    def __init__(self, order_id: _Optional[int] = ..., client_order_id: _Optional[int] = ..., account: _Optional[int] = ..., price_ticks: _Optional[int] = ..., open_lots: _Optional[int] = ..., filled_lots: _Optional[int] = ..., post_only: _Optional[bool] = ..., self_trade_prevention: _Optional[_Union[_batch_pb2.SelfTradePrevention, str]] = ..., maker_fee_ppm: _Optional[int] = ..., taker_fee_ppm: _Optional[int] = ..., maker_prepaid_ppm: _Optional[int] = ..., taker_prepaid_ppm: _Optional[int] = ...) -> None: ...

class BookState(_message.Message):
    __slots__ = ("market", "market_seq", "last_price_ticks", "bids", "asks")
    MARKET_FIELD_NUMBER: _ClassVar[int]
    MARKET_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAST_PRICE_TICKS_FIELD_NUMBER: _ClassVar[int]
    BIDS_FIELD_NUMBER: _ClassVar[int]
    ASKS_FIELD_NUMBER: _ClassVar[int]
    market: _market_pb2.Market
    market_seq: int
    last_price_ticks: int
    bids: _containers.RepeatedCompositeFieldContainer[RestingOrder]
    asks: _containers.RepeatedCompositeFieldContainer[RestingOrder]
    def __init__(self, market: _Optional[_Union[_market_pb2.Market, _Mapping]] = ..., market_seq: _Optional[int] = ..., last_price_ticks: _Optional[int] = ..., bids: _Optional[_Iterable[_Union[RestingOrder, _Mapping]]] = ..., asks: _Optional[_Iterable[_Union[RestingOrder, _Mapping]]] = ...) -> None: ...

class Balance(_message.Message):
    __slots__ = ("asset", "free_units", "locked_units")
    ASSET_FIELD_NUMBER: _ClassVar[int]
    FREE_UNITS_FIELD_NUMBER: _ClassVar[int]
    LOCKED_UNITS_FIELD_NUMBER: _ClassVar[int]
    asset: int
    free_units: int
    locked_units: int
    def __init__(self, asset: _Optional[int] = ..., free_units: _Optional[int] = ..., locked_units: _Optional[int] = ...) -> None: ...

class AccountState(_message.Message):
    __slots__ = ("account", "account_seq", "balances")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_SEQ_FIELD_NUMBER: _ClassVar[int]
    BALANCES_FIELD_NUMBER: _ClassVar[int]
    account: int
    account_seq: int
    balances: _containers.RepeatedCompositeFieldContainer[Balance]
    def __init__(self, account: _Optional[int] = ..., account_seq: _Optional[int] = ..., balances: _Optional[_Iterable[_Union[Balance, _Mapping]]] = ...) -> None: ...

class AssetAmount(_message.Message):
    __slots__ = ("asset", "amount_units")
    ASSET_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_UNITS_FIELD_NUMBER: _ClassVar[int]
    asset: int
    amount_units: int
    def __init__(self, asset: _Optional[int] = ..., amount_units: _Optional[int] = ...) -> None: ...

class LiveNonce(_message.Message):
    __slots__ = ("key_id", "nonce", "n", "batch", "digest", "valid_until_ms")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    key_id: bytes
    nonce: int
    n: int
    batch: int
    digest: bytes
    valid_until_ms: int
    def __init__(self, key_id: _Optional[bytes] = ..., nonce: _Optional[int] = ..., n: _Optional[int] = ..., batch: _Optional[int] = ..., digest: _Optional[bytes] = ..., valid_until_ms: _Optional[int] = ...) -> None: ...

class Timer(_message.Message):
    __slots__ = ("deadline_us", "timer_id", "market", "state")
    DEADLINE_US_FIELD_NUMBER: _ClassVar[int]
    TIMER_ID_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    deadline_us: int
    timer_id: int
    market: int
    state: _market_pb2.MarketState
    def __init__(self, deadline_us: _Optional[int] = ..., timer_id: _Optional[int] = ..., market: _Optional[int] = ..., state: _Optional[_Union[_market_pb2.MarketState, str]] = ...) -> None: ...

class PendingCancelAll(_message.Message):
    __slots__ = ("cancel_all_id", "account", "market", "side", "last_order_id", "cancelled_orders", "by_operator")
    CANCEL_ALL_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    LAST_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_ORDERS_FIELD_NUMBER: _ClassVar[int]
    BY_OPERATOR_FIELD_NUMBER: _ClassVar[int]
    cancel_all_id: int
    account: int
    market: int
    side: _batch_pb2.Side
    last_order_id: int
    cancelled_orders: int
    by_operator: bool
    def __init__(self, cancel_all_id: _Optional[int] = ..., account: _Optional[int] = ..., market: _Optional[int] = ..., side: _Optional[_Union[_batch_pb2.Side, str]] = ..., last_order_id: _Optional[int] = ..., cancelled_orders: _Optional[int] = ..., by_operator: _Optional[bool] = ...) -> None: ...

class LinkIn(_message.Message):
    __slots__ = ("from_shard", "last_sequence", "digests", "received")
    FROM_SHARD_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    from_shard: int
    last_sequence: int
    digests: _containers.RepeatedScalarFieldContainer[bytes]
    received: _containers.RepeatedCompositeFieldContainer[AssetAmount]
    def __init__(self, from_shard: _Optional[int] = ..., last_sequence: _Optional[int] = ..., digests: _Optional[_Iterable[bytes]] = ..., received: _Optional[_Iterable[_Union[AssetAmount, _Mapping]]] = ...) -> None: ...

class LinkOut(_message.Message):
    __slots__ = ("to_shard", "last_sequence", "sent")
    TO_SHARD_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SENT_FIELD_NUMBER: _ClassVar[int]
    to_shard: int
    last_sequence: int
    sent: _containers.RepeatedCompositeFieldContainer[AssetAmount]
    def __init__(self, to_shard: _Optional[int] = ..., last_sequence: _Optional[int] = ..., sent: _Optional[_Iterable[_Union[AssetAmount, _Mapping]]] = ...) -> None: ...

class ShardCore(_message.Message):
    __slots__ = ("genesis", "n", "t_us", "chain_hash", "rules", "settings", "operators", "control_floor", "nonces", "links_in", "links_out")
    GENESIS_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    T_US_FIELD_NUMBER: _ClassVar[int]
    CHAIN_HASH_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    OPERATORS_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FLOOR_FIELD_NUMBER: _ClassVar[int]
    NONCES_FIELD_NUMBER: _ClassVar[int]
    LINKS_IN_FIELD_NUMBER: _ClassVar[int]
    LINKS_OUT_FIELD_NUMBER: _ClassVar[int]
    genesis: Genesis
    n: int
    t_us: int
    chain_hash: bytes
    rules: int
    settings: _market_pb2.ShardSettings
    operators: _containers.RepeatedCompositeFieldContainer[OperatorKey]
    control_floor: int
    nonces: _containers.RepeatedCompositeFieldContainer[LiveNonce]
    links_in: _containers.RepeatedCompositeFieldContainer[LinkIn]
    links_out: _containers.RepeatedCompositeFieldContainer[LinkOut]
    def __init__(self, genesis: _Optional[_Union[Genesis, _Mapping]] = ..., n: _Optional[int] = ..., t_us: _Optional[int] = ..., chain_hash: _Optional[bytes] = ..., rules: _Optional[int] = ..., settings: _Optional[_Union[_market_pb2.ShardSettings, _Mapping]] = ..., operators: _Optional[_Iterable[_Union[OperatorKey, _Mapping]]] = ..., control_floor: _Optional[int] = ..., nonces: _Optional[_Iterable[_Union[LiveNonce, _Mapping]]] = ..., links_in: _Optional[_Iterable[_Union[LinkIn, _Mapping]]] = ..., links_out: _Optional[_Iterable[_Union[LinkOut, _Mapping]]] = ...) -> None: ...

class ShardState(_message.Message):
    __slots__ = ("format", "core", "last_order", "last_trade", "last_cancel_all", "last_timer", "books", "accounts", "fees", "timers", "pending")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    CORE_FIELD_NUMBER: _ClassVar[int]
    LAST_ORDER_FIELD_NUMBER: _ClassVar[int]
    LAST_TRADE_FIELD_NUMBER: _ClassVar[int]
    LAST_CANCEL_ALL_FIELD_NUMBER: _ClassVar[int]
    LAST_TIMER_FIELD_NUMBER: _ClassVar[int]
    BOOKS_FIELD_NUMBER: _ClassVar[int]
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    FEES_FIELD_NUMBER: _ClassVar[int]
    TIMERS_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    format: int
    core: ShardCore
    last_order: int
    last_trade: int
    last_cancel_all: int
    last_timer: int
    books: _containers.RepeatedCompositeFieldContainer[BookState]
    accounts: _containers.RepeatedCompositeFieldContainer[AccountState]
    fees: _containers.RepeatedCompositeFieldContainer[AssetAmount]
    timers: _containers.RepeatedCompositeFieldContainer[Timer]
    pending: _containers.RepeatedCompositeFieldContainer[PendingCancelAll]
    def __init__(self, format: _Optional[int] = ..., core: _Optional[_Union[ShardCore, _Mapping]] = ..., last_order: _Optional[int] = ..., last_trade: _Optional[int] = ..., last_cancel_all: _Optional[int] = ..., last_timer: _Optional[int] = ..., books: _Optional[_Iterable[_Union[BookState, _Mapping]]] = ..., accounts: _Optional[_Iterable[_Union[AccountState, _Mapping]]] = ..., fees: _Optional[_Iterable[_Union[AssetAmount, _Mapping]]] = ..., timers: _Optional[_Iterable[_Union[Timer, _Mapping]]] = ..., pending: _Optional[_Iterable[_Union[PendingCancelAll, _Mapping]]] = ...) -> None: ...

class UserState(_message.Message):
    __slots__ = ("user", "accounts")
    USER_FIELD_NUMBER: _ClassVar[int]
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    user: int
    accounts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, user: _Optional[int] = ..., accounts: _Optional[_Iterable[int]] = ...) -> None: ...

class KeyState(_message.Message):
    __slots__ = ("key_id", "public_key", "user", "account", "revoked")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    key_id: bytes
    public_key: bytes
    user: int
    account: int
    revoked: bool
    def __init__(self, key_id: _Optional[bytes] = ..., public_key: _Optional[bytes] = ..., user: _Optional[int] = ..., account: _Optional[int] = ..., revoked: _Optional[bool] = ...) -> None: ...

class ShardEntry(_message.Message):
    __slots__ = ("shard", "tag")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    shard: int
    tag: str
    def __init__(self, shard: _Optional[int] = ..., tag: _Optional[str] = ...) -> None: ...

class TreasuryAccount(_message.Message):
    __slots__ = ("account", "account_seq", "balances")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_SEQ_FIELD_NUMBER: _ClassVar[int]
    BALANCES_FIELD_NUMBER: _ClassVar[int]
    account: int
    account_seq: int
    balances: _containers.RepeatedCompositeFieldContainer[AssetAmount]
    def __init__(self, account: _Optional[int] = ..., account_seq: _Optional[int] = ..., balances: _Optional[_Iterable[_Union[AssetAmount, _Mapping]]] = ...) -> None: ...

class AssetTotals(_message.Message):
    __slots__ = ("asset", "deposited_units", "withdrawn_units")
    ASSET_FIELD_NUMBER: _ClassVar[int]
    DEPOSITED_UNITS_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_UNITS_FIELD_NUMBER: _ClassVar[int]
    asset: int
    deposited_units: int
    withdrawn_units: int
    def __init__(self, asset: _Optional[int] = ..., deposited_units: _Optional[int] = ..., withdrawn_units: _Optional[int] = ...) -> None: ...

class OpenWithdrawal(_message.Message):
    __slots__ = ("withdrawal", "account", "asset", "amount_units", "destination")
    WITHDRAWAL_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_UNITS_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    withdrawal: int
    account: int
    asset: int
    amount_units: int
    destination: str
    def __init__(self, withdrawal: _Optional[int] = ..., account: _Optional[int] = ..., asset: _Optional[int] = ..., amount_units: _Optional[int] = ..., destination: _Optional[str] = ...) -> None: ...

class AnsweredRequest(_message.Message):
    __slots__ = ("request_id", "digest", "n", "by_operator")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    BY_OPERATOR_FIELD_NUMBER: _ClassVar[int]
    request_id: bytes
    digest: bytes
    n: int
    by_operator: bool
    def __init__(self, request_id: _Optional[bytes] = ..., digest: _Optional[bytes] = ..., n: _Optional[int] = ..., by_operator: _Optional[bool] = ...) -> None: ...

class ControlState(_message.Message):
    __slots__ = ("format", "core", "last_user", "last_account", "last_withdrawal", "users", "keys", "assets", "shards", "markets", "treasury", "totals", "withdrawals", "requests")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    CORE_FIELD_NUMBER: _ClassVar[int]
    LAST_USER_FIELD_NUMBER: _ClassVar[int]
    LAST_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    LAST_WITHDRAWAL_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    ASSETS_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    MARKETS_FIELD_NUMBER: _ClassVar[int]
    TREASURY_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWALS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    format: int
    core: ShardCore
    last_user: int
    last_account: int
    last_withdrawal: int
    users: _containers.RepeatedCompositeFieldContainer[UserState]
    keys: _containers.RepeatedCompositeFieldContainer[KeyState]
    assets: _containers.RepeatedCompositeFieldContainer[_market_pb2.Asset]
    shards: _containers.RepeatedCompositeFieldContainer[ShardEntry]
    markets: _containers.RepeatedCompositeFieldContainer[_market_pb2.Market]
    treasury: _containers.RepeatedCompositeFieldContainer[TreasuryAccount]
    totals: _containers.RepeatedCompositeFieldContainer[AssetTotals]
    withdrawals: _containers.RepeatedCompositeFieldContainer[OpenWithdrawal]
    requests: _containers.RepeatedCompositeFieldContainer[AnsweredRequest]
    def __init__(self, format: _Optional[int] = ..., core: _Optional[_Union[ShardCore, _Mapping]] = ..., last_user: _Optional[int] = ..., last_account: _Optional[int] = ..., last_withdrawal: _Optional[int] = ..., users: _Optional[_Iterable[_Union[UserState, _Mapping]]] = ..., keys: _Optional[_Iterable[_Union[KeyState, _Mapping]]] = ..., assets: _Optional[_Iterable[_Union[_market_pb2.Asset, _Mapping]]] = ..., shards: _Optional[_Iterable[_Union[ShardEntry, _Mapping]]] = ..., markets: _Optional[_Iterable[_Union[_market_pb2.Market, _Mapping]]] = ..., treasury: _Optional[_Iterable[_Union[TreasuryAccount, _Mapping]]] = ..., totals: _Optional[_Iterable[_Union[AssetTotals, _Mapping]]] = ..., withdrawals: _Optional[_Iterable[_Union[OpenWithdrawal, _Mapping]]] = ..., requests: _Optional[_Iterable[_Union[AnsweredRequest, _Mapping]]] = ...) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("format", "state_hash", "state")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    STATE_HASH_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    format: int
    state_hash: bytes
    state: bytes
    def __init__(self, format: _Optional[int] = ..., state_hash: _Optional[bytes] = ..., state: _Optional[bytes] = ...) -> None: ...
