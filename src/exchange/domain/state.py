"""The state of a shard as a value (proto/clob/v1/state.proto): what engines export, load and hash."""

from exchange.domain.markets import Asset, Market, ShardSettings
from exchange.domain.record import Record


class OperatorKey(Record, frozen=True):
    role: int = 0
    public_key: bytes = b""
    last_sequence: int = 0
    last_digest: bytes = b""


class Genesis(Record, frozen=True):
    format: int = 0
    environment: str = ""
    shard: int = 0
    rules: int = 0
    settings: ShardSettings = ShardSettings()
    operators: tuple[OperatorKey, ...] = ()


class RestingOrder(Record, frozen=True):
    order_id: int = 0
    client_order_id: int = 0
    account: int = 0
    price_ticks: int = 0
    open_lots: int = 0
    filled_lots: int = 0
    post_only: bool = False
    self_trade_prevention: int = 0
    maker_fee_ppm: int = 0
    taker_fee_ppm: int = 0
    maker_prepaid_ppm: int = 0
    taker_prepaid_ppm: int = 0


class BookState(Record, frozen=True):
    market: Market = Market()
    market_seq: int = 0
    last_price_ticks: int = 0
    bids: tuple[RestingOrder, ...] = ()
    asks: tuple[RestingOrder, ...] = ()


class Balance(Record, frozen=True):
    asset: int = 0
    free_units: int = 0
    locked_units: int = 0


class AccountState(Record, frozen=True):
    account: int = 0
    account_seq: int = 0
    balances: tuple[Balance, ...] = ()


class AssetAmount(Record, frozen=True):
    asset: int = 0
    amount_units: int = 0


class LiveNonce(Record, frozen=True):
    key_id: bytes = b""
    nonce: int = 0
    n: int = 0
    batch: int = 0
    digest: bytes = b""
    valid_until_ms: int = 0


class Timer(Record, frozen=True):
    deadline_us: int = 0
    timer_id: int = 0
    market: int = 0
    state: int = 0


class PendingCancelAll(Record, frozen=True):
    cancel_all_id: int = 0
    account: int = 0
    market: int = 0
    side: int = 0
    last_order_id: int = 0
    cancelled_orders: int = 0
    by_operator: bool = False


class LinkIn(Record, frozen=True):
    from_shard: int = 0
    last_sequence: int = 0
    digests: tuple[bytes, ...] = ()
    received: tuple[AssetAmount, ...] = ()


class LinkOut(Record, frozen=True):
    to_shard: int = 0
    last_sequence: int = 0
    sent: tuple[AssetAmount, ...] = ()


class ShardCore(Record, frozen=True):
    genesis: Genesis = Genesis()
    n: int = 0
    t_us: int = 0
    chain_hash: bytes = b""
    rules: int = 0
    settings: ShardSettings = ShardSettings()
    operators: tuple[OperatorKey, ...] = ()
    control_floor: int = 0
    nonces: tuple[LiveNonce, ...] = ()
    links_in: tuple[LinkIn, ...] = ()
    links_out: tuple[LinkOut, ...] = ()


class ShardState(Record, frozen=True):
    format: int = 0
    core: ShardCore = ShardCore()
    last_order: int = 0
    last_trade: int = 0
    last_cancel_all: int = 0
    last_timer: int = 0
    books: tuple[BookState, ...] = ()
    accounts: tuple[AccountState, ...] = ()
    fees: tuple[AssetAmount, ...] = ()
    timers: tuple[Timer, ...] = ()
    pending: tuple[PendingCancelAll, ...] = ()


class UserState(Record, frozen=True):
    user: int = 0
    accounts: tuple[int, ...] = ()


class KeyState(Record, frozen=True):
    key_id: bytes = b""
    public_key: bytes = b""
    user: int = 0
    account: int = 0
    revoked: bool = False


class ShardEntry(Record, frozen=True):
    shard: int = 0
    tag: str = ""


class TreasuryAccount(Record, frozen=True):
    account: int = 0
    account_seq: int = 0
    balances: tuple[AssetAmount, ...] = ()


class AssetTotals(Record, frozen=True):
    asset: int = 0
    deposited_units: int = 0
    withdrawn_units: int = 0


class OpenWithdrawal(Record, frozen=True):
    withdrawal: int = 0
    account: int = 0
    asset: int = 0
    amount_units: int = 0
    destination: str = ""


class AnsweredRequest(Record, frozen=True):
    request_id: bytes = b""
    digest: bytes = b""
    n: int = 0
    by_operator: bool = False


class ControlState(Record, frozen=True):
    format: int = 0
    core: ShardCore = ShardCore()
    last_user: int = 0
    last_account: int = 0
    last_withdrawal: int = 0
    users: tuple[UserState, ...] = ()
    keys: tuple[KeyState, ...] = ()
    assets: tuple[Asset, ...] = ()
    shards: tuple[ShardEntry, ...] = ()
    markets: tuple[Market, ...] = ()
    treasury: tuple[TreasuryAccount, ...] = ()
    totals: tuple[AssetTotals, ...] = ()
    withdrawals: tuple[OpenWithdrawal, ...] = ()
    requests: tuple[AnsweredRequest, ...] = ()


class Checkpoint(Record, frozen=True):
    format: int = 0
    state_hash: bytes = b""
    state: bytes = b""
