//! The messages of the contracts that a trading shard reads or writes, with the bounds that LIMITS give their fields.
//!
//! Names, numbers and types are those of proto/clob/v1; bounds are those of `exchange.wire.messages`. A test compares
//! both. Enums are numbers here, known or not: an engine refuses unknown ones with a reason of its own.

// There is no `From` in a constant.
#![allow(clippy::cast_lossless)]

use crate::limits::{
    BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, EXECUTION_FRAME_BYTES_MAX, FRAME_BATCHES_MAX, FRAME_BYTES_MAX,
    FRAME_LINKS_MAX, FRAME_OPERATIONS_MAX, FRAME_REQUESTS_MAX, HASH_BYTES, INGRESS_BYTES, KEY_ID_BYTES, LINK_BYTES_MAX,
    LINK_TRANSFERS_MAX, OPERATION_ACTIONS_MAX, OPERATION_BYTES_MAX, PUBLIC_KEY_BYTES, REGISTRATION_BYTES_MAX,
    REQUEST_ID_BYTES, SIGNATURE_BYTES,
};
use crate::units::{AMOUNT_UNITS_MAX, SHARD_MAX, TIME_US_MAX};
use crate::wire::read::Reader;
use crate::wire::spec::{Field, Kind, Spec};
use crate::wire::write::{Sink, content_len, element_len, number_len, varint_len};
use crate::wire::{EventMember, Message};

/// Version of both frames, of the genesis, the state and the checkpoint.
pub const FORMAT: u32 = 1;

message! {
    "market.proto" derive(Copy, Default)
    TickRule {
        1 from_price_ticks: u64,
        2 multiple_ticks: u64,
    }
    LotRule {
        1 from_price_ticks: u64,
        2 multiple_lots: u64,
    }
    Asset<'a> {
        1 asset: u32,
        2 symbol: string,
        3 decimals: u32,
    }
    ShardSettings {
        1 max_validity_ms: u64,
        2 live_nonces_per_key_max: u32,
        3 open_orders_per_account_max: u32,
    }
}

message! {
    "market.proto" derive(Default)
    Market<'a> {
        1 market: u32,
        2 shard: u32,
        3 symbol: string,
        4 base_asset: u32,
        5 quote_asset: u32,
        6 base_units_per_lot: u64,
        7 quote_units_per_tick_lot: u64,
        8 tick_table: list(TickRule),
        9 lot_table: list(LotRule),
        10 band_low_ticks: u64,
        11 band_high_ticks: u64,
        12 band_ppm: u32,
        13 maker_fee_ppm: u32,
        14 taker_fee_ppm: u32,
        15 state: kind,
    }
}

message! {
    "batch.proto" derive(Copy, Default)
    PlaceOrder {
        1 market: u32,
        2 side: kind,
        3 order_type: kind,
        4 time_in_force: kind,
        5 post_only: bool,
        6 self_trade_prevention: kind,
        7 price_ticks: u64,
        8 quantity_lots: u64,
        9 client_order_id: u64,
    }
    CancelOrder {
        1 order_id: u64,
        2 client_order_id: u64,
    }
    ReduceOrder {
        1 order_id: u64,
        2 client_order_id: u64,
        3 quantity_lots: u64,
    }
    ReplaceOrder {
        1 order_id: u64,
        2 client_order_id: u64,
        3 price_ticks: u64,
        4 quantity_lots: u64,
    }
    CancelAllOrders {
        1 market: u32,
        2 side: kind,
    }
    ReleaseFunds {
        1 asset: u32,
        2 amount_units: u64,
    }
    AllocateFunds {
        1 asset: u32,
        2 amount_units: u64,
        3 to_shard: u32,
    }
    RequestWithdrawal<'a> {
        1 asset: u32,
        2 amount_units: u64,
        3 destination: string,
    }
}

oneof! {
    "batch.proto"
    Command<'a> {
        1 place: PlaceOrder,
        2 cancel: CancelOrder,
        3 reduce: ReduceOrder,
        4 replace: ReplaceOrder,
        5 cancel_all: CancelAllOrders,
        6 release: ReleaseFunds,
        7 allocate: AllocateFunds,
        8 withdraw: RequestWithdrawal<'a>,
        9 register_key: RegisterKey<'a>,
        10 revoke_key: RevokeKey<'a>,
        11 open_account: OpenAccount,
    }
}

message! {
    "batch.proto" derive(Default)
    Batch<'a> up to BATCH_BYTES_MAX {
        1 account: u64(1, u64::MAX),
        2 shard: u32(0, SHARD_MAX),
        3 nonce: u64,
        4 valid_until_ms: u64(1, TIME_US_MAX),
        5 commands: filled_list(Command<'a>, BATCH_COMMANDS_MAX),
    }
}

message! {
    "batch.proto" derive(Copy)
    SignedBatch<'a> {
        1 key_id: fixed(KEY_ID_BYTES),
        2 payload: bytes(1, BATCH_BYTES_MAX),
        3 signature: fixed(SIGNATURE_BYTES),
    }
}

message! {
    "operation.proto" derive(Default)
    DefineMarket<'a> {
        1 market: message(Market<'a>),
    }
    Operation<'a> up to OPERATION_BYTES_MAX {
        1 shard: u32(0, SHARD_MAX),
        2 role: kind,
        3 sequence: u64(1, u64::MAX),
        4 actions: filled_list(OperatorAction<'a>, OPERATION_ACTIONS_MAX),
        5 request_id: bytes_or_absent(REQUEST_ID_BYTES, REQUEST_ID_BYTES),
    }
    Link up to LINK_BYTES_MAX {
        1 from_shard: u32(0, SHARD_MAX),
        2 to_shard: u32(0, SHARD_MAX),
        3 sequence: u64(1, u64::MAX),
        4 source_n: u64(1, TIME_US_MAX),
        5 transfers: filled_list(Transfer, LINK_TRANSFERS_MAX),
    }
}

message! {
    "operation.proto" derive(Copy, Default)
    SetMarketState {
        1 market: u32,
        2 state: kind,
        3 effective_us: u64,
    }
    CancelOrders {
        1 account: u64,
        2 market: u32,
        3 side: kind,
    }
    SetShardSettings {
        1 settings: message(ShardSettings),
    }
    RaiseControlFloor {
        1 control_n: u64,
    }
    RaiseRules {
        1 rules: u32,
    }
    SweepFees {
        1 asset: u32,
    }
    DefineAsset<'a> {
        1 asset: message(Asset<'a>),
    }
    DefineShard<'a> {
        1 shard: u32,
        2 tag: string,
    }
    Deposit {
        1 account: u64,
        2 asset: u32,
        3 amount_units: u64,
        4 allocate: kind,
        5 to_shard: u32,
    }
    CloseWithdrawal {
        1 withdrawal: u64,
        2 paid: bool,
    }
    PayOutFees {
        1 account: u64,
        2 asset: u32,
        3 amount_units: u64,
    }
    Transfer {
        1 account: u64,
        2 asset: u32,
        3 amount_units: u64(1, AMOUNT_UNITS_MAX),
    }
}

message! {
    "operation.proto" derive(Copy)
    RotateOperatorKey<'a> {
        1 public_key: fixed(PUBLIC_KEY_BYTES),
    }
    SignedOperation<'a> {
        1 payload: bytes(1, OPERATION_BYTES_MAX),
        2 signature: fixed(SIGNATURE_BYTES),
    }
    SignedLink<'a> {
        1 payload: bytes(1, LINK_BYTES_MAX),
        2 signature: fixed(SIGNATURE_BYTES),
    }
}

oneof! {
    "operation.proto"
    OperatorAction<'a> {
        1 define_market: DefineMarket<'a>,
        2 set_market_state: SetMarketState,
        3 cancel_orders: CancelOrders,
        4 set_shard_settings: SetShardSettings,
        5 raise_control_floor: RaiseControlFloor,
        6 raise_rules: RaiseRules,
        7 rotate_operator_key: RotateOperatorKey<'a>,
        8 sweep_fees: SweepFees,
        9 define_asset: DefineAsset<'a>,
        10 define_shard: DefineShard<'a>,
        11 deposit: Deposit,
        12 close_withdrawal: CloseWithdrawal,
        13 register_key: RegisterKey<'a>,
        14 revoke_key: RevokeKey<'a>,
        15 open_account: OpenAccount,
        16 pay_out_fees: PayOutFees,
    }
}

message! {
    "control.proto" derive(Copy)
    Registration<'a> up to REGISTRATION_BYTES_MAX {
        1 public_key: fixed(PUBLIC_KEY_BYTES),
        2 user: u64,
        3 account: u64,
    }
    SignedRegistration<'a> {
        1 payload: bytes(1, REGISTRATION_BYTES_MAX),
        2 signature: fixed(SIGNATURE_BYTES),
    }
    RegisterKey<'a> {
        1 registration: needed(SignedRegistration<'a>),
    }
    RevokeKey<'a> {
        1 key_id: fixed(KEY_ID_BYTES),
    }
    ControlRequest<'a> {
        1 request_id: fixed(REQUEST_ID_BYTES),
        2 register_key: needed(RegisterKey<'a>),
    }
}

message! {
    "control.proto" derive(Copy, Default)
    OpenAccount {
        1 user: u64,
    }
}

message! {
    "event.proto" derive(Copy, Default)
    FrameRefused {
        1 reason: kind,
    }
    BatchResult {
        1 batch: u32,
        2 reason: kind,
        3 repeat_n: u64,
        4 repeat_batch: u32,
    }
    CommandRejected {
        1 command: u32,
        2 account: u64,
        3 account_seq: u64,
        4 reason: kind,
        5 market: u32,
        6 order_id: u64,
        7 client_order_id: u64,
        8 required_units: u64,
        9 available_units: u64,
        10 asset: u32,
    }
    OrderAccepted {
        1 command: u32,
        2 account: u64,
        3 account_seq: u64,
        4 market: u32,
        5 market_seq: u64,
        6 order_id: u64,
        7 client_order_id: u64,
        8 side: kind,
        9 order_type: kind,
        10 time_in_force: kind,
        11 post_only: bool,
        12 price_ticks: u64,
        13 quantity_lots: u64,
    }
    OrderReplaced {
        1 command: u32,
        2 account: u64,
        3 account_seq: u64,
        4 market: u32,
        5 market_seq: u64,
        6 order_id: u64,
        7 price_ticks: u64,
        8 open_lots: u64,
        9 priority_kept: bool,
    }
    OrderReduced {
        1 command: u32,
        2 account: u64,
        3 account_seq: u64,
        4 market: u32,
        5 market_seq: u64,
        6 order_id: u64,
        7 reduced_lots: u64,
        8 open_lots: u64,
        9 reason: kind,
    }
    OrderCancelled {
        1 command: u32,
        2 account: u64,
        3 account_seq: u64,
        4 market: u32,
        5 market_seq: u64,
        6 order_id: u64,
        7 cancelled_lots: u64,
        8 reason: kind,
    }
    Trade {
        1 market: u32,
        2 market_seq: u64,
        3 trade_id: u64,
        4 price_ticks: u64,
        5 quantity_lots: u64,
        6 taker_side: kind,
        7 maker_order_id: u64,
        8 taker_order_id: u64,
        9 maker_account: u64,
        10 maker_account_seq: u64,
        11 taker_account: u64,
        12 taker_account_seq: u64,
        13 maker_fee_quote_units: u64,
        14 taker_fee_quote_units: u64,
    }
    CancelAllAccepted {
        1 command: u32,
        2 account: u64,
        3 account_seq: u64,
        4 cancel_all_id: u64,
        5 market: u32,
        6 side: kind,
    }
    CancelAllDone {
        1 cancel_all_id: u64,
        2 cancelled_orders: u64,
        3 account: u64,
        4 account_seq: u64,
    }
    FundsCredited {
        1 account: u64,
        2 account_seq: u64,
        3 asset: u32,
        4 amount_units: u64,
        5 from_shard: u32,
    }
    FundsSent {
        1 command: u32,
        2 account: u64,
        3 account_seq: u64,
        4 asset: u32,
        5 amount_units: u64,
        6 to_shard: u32,
        7 link_sequence: u64,
    }
    LinkResult {
        1 link: u32,
        2 from_shard: u32,
        3 sequence: u64,
        4 reason: kind,
        5 repeated: bool,
    }
    OperationResult {
        1 operation: u32,
        2 reason: kind,
        3 repeat_n: u64,
        4 repeated: bool,
    }
    ActionRejected {
        1 action: u32,
        2 reason: kind,
    }
    MarketStateChanged {
        1 market: u32,
        2 market_seq: u64,
        3 state: kind,
    }
    MarketStateScheduled {
        1 market: u32,
        2 timer_id: u64,
        3 effective_us: u64,
        4 state: kind,
    }
    CancelOrdersAccepted {
        1 cancel_all_id: u64,
        2 account: u64,
        3 market: u32,
        4 side: kind,
    }
    ShardSettingsChanged {
        1 settings: message(ShardSettings),
    }
    ControlFloorRaised {
        1 control_n: u64,
    }
    RulesRaised {
        1 rules: u32,
    }
    OperatorKeyRotated<'a> {
        1 role: kind,
        2 public_key: bytes,
    }
    RequestResult {
        1 request: u32,
        2 reason: kind,
        3 repeat_n: u64,
    }
    AssetDefined<'a> {
        1 asset: message(Asset<'a>),
    }
    ShardDefined<'a> {
        1 shard: u32,
        2 tag: string,
    }
    UserCreated {
        1 user: u64,
    }
    AccountOpened {
        1 user: u64,
        2 account: u64,
        3 command: u32,
    }
    KeyRegistered<'a> {
        1 key_id: bytes,
        2 public_key: bytes,
        3 user: u64,
        4 account: u64,
        5 command: u32,
    }
    KeyRevoked<'a> {
        1 key_id: bytes,
        2 command: u32,
    }
    Deposited {
        1 account: u64,
        2 account_seq: u64,
        3 asset: u32,
        4 amount_units: u64,
    }
    WithdrawalRequested<'a> {
        1 command: u32,
        2 withdrawal: u64,
        3 account: u64,
        4 account_seq: u64,
        5 asset: u32,
        6 amount_units: u64,
        7 destination: string,
    }
    WithdrawalClosed {
        1 withdrawal: u64,
        2 paid: bool,
        3 account: u64,
        4 account_seq: u64,
        5 asset: u32,
        6 amount_units: u64,
    }
    FeesPaidOut {
        1 account: u64,
        2 account_seq: u64,
        3 asset: u32,
        4 amount_units: u64,
    }
}

message! {
    "event.proto" derive(Default)
    MarketDefined<'a> {
        1 market: message(Market<'a>),
        2 market_seq: u64,
    }
}

oneof! {
    "event.proto"
    Event<'a> {
        1 frame_refused: FrameRefused,
        2 batch_result: BatchResult,
        3 command_rejected: CommandRejected,
        4 order_accepted: OrderAccepted,
        5 order_replaced: OrderReplaced,
        6 order_reduced: OrderReduced,
        7 order_cancelled: OrderCancelled,
        8 trade: Trade,
        9 cancel_all_accepted: CancelAllAccepted,
        10 cancel_all_done: CancelAllDone,
        11 funds_credited: FundsCredited,
        12 funds_sent: FundsSent,
        13 link_result: LinkResult,
        14 operation_result: OperationResult,
        15 action_rejected: ActionRejected,
        16 market_defined: MarketDefined<'a>,
        17 market_state_changed: MarketStateChanged,
        18 market_state_scheduled: MarketStateScheduled,
        19 cancel_orders_accepted: CancelOrdersAccepted,
        20 shard_settings_changed: ShardSettingsChanged,
        21 control_floor_raised: ControlFloorRaised,
        22 rules_raised: RulesRaised,
        23 operator_key_rotated: OperatorKeyRotated<'a>,
        24 request_result: RequestResult,
        25 asset_defined: AssetDefined<'a>,
        26 shard_defined: ShardDefined<'a>,
        27 user_created: UserCreated,
        28 account_opened: AccountOpened,
        29 key_registered: KeyRegistered<'a>,
        30 key_revoked: KeyRevoked<'a>,
        31 deposited: Deposited,
        32 withdrawal_requested: WithdrawalRequested<'a>,
        33 withdrawal_closed: WithdrawalClosed,
        34 fees_paid_out: FeesPaidOut,
    }
}

message! {
    "frame.proto" derive()
    OrderFrame<'a> up to FRAME_BYTES_MAX {
        1 format: u32(FORMAT, FORMAT),
        2 ingress: fixed(INGRESS_BYTES),
        3 counter: u64(1, u64::MAX),
        4 ingress_time_us: u64(1, TIME_US_MAX),
        5 control_n: u64,
        6 batches: list(SignedBatch<'a>, FRAME_BATCHES_MAX),
        7 links: list(SignedLink<'a>, FRAME_LINKS_MAX),
        8 operations: list(SignedOperation<'a>, FRAME_OPERATIONS_MAX),
        9 requests: list(ControlRequest<'a>, FRAME_REQUESTS_MAX),
    }
    ExecutionFrame<'a> up to EXECUTION_FRAME_BYTES_MAX {
        1 format: u32(FORMAT, FORMAT),
        2 n: u64(1, u64::MAX),
        3 t_us: u64(0, TIME_US_MAX),
        4 rules: u32,
        5 previous_hash: fixed(HASH_BYTES),
        6 input_hash: fixed(HASH_BYTES),
        7 events: list(Event<'a>),
    }
}

message! {
    "state.proto" derive(Copy)
    OperatorKey<'a> {
        1 role: kind,
        2 public_key: fixed(PUBLIC_KEY_BYTES),
        3 last_sequence: u64,
        4 last_digest: bytes_or_absent(HASH_BYTES, HASH_BYTES),
    }
    LiveNonce<'a> {
        1 key_id: fixed(KEY_ID_BYTES),
        2 nonce: u64,
        3 n: u64,
        4 batch: u32,
        5 digest: fixed(HASH_BYTES),
        6 valid_until_ms: u64,
    }
    Checkpoint<'a> {
        1 format: u32(FORMAT, FORMAT),
        2 state_hash: fixed(HASH_BYTES),
        3 state: bytes,
    }
}

message! {
    "state.proto" derive(Default)
    Genesis<'a> {
        1 format: u32(FORMAT, FORMAT),
        2 environment: string,
        3 shard: u32(0, SHARD_MAX),
        4 rules: u32,
        5 settings: message(ShardSettings),
        6 operators: list(OperatorKey<'a>),
    }
    BookState<'a> {
        1 market: message(Market<'a>),
        2 market_seq: u64,
        3 last_price_ticks: u64,
        4 bids: list(RestingOrder),
        5 asks: list(RestingOrder),
    }
    AccountState {
        1 account: u64,
        2 account_seq: u64,
        3 balances: list(Balance),
    }
    LinkIn<'a> {
        1 from_shard: u32,
        2 last_sequence: u64,
        3 digests: byte_strings,
        4 received: list(AssetAmount),
    }
    LinkOut {
        1 to_shard: u32,
        2 last_sequence: u64,
        3 sent: list(AssetAmount),
    }
}

message! {
    "state.proto" derive(Copy, Default)
    RestingOrder {
        1 order_id: u64,
        2 client_order_id: u64,
        3 account: u64,
        4 price_ticks: u64,
        5 open_lots: u64,
        6 filled_lots: u64,
        7 post_only: bool,
        8 self_trade_prevention: kind,
        9 maker_fee_ppm: u32,
        10 taker_fee_ppm: u32,
        11 maker_prepaid_ppm: u32,
        12 taker_prepaid_ppm: u32,
    }
    Balance {
        1 asset: u32,
        2 free_units: u64,
        3 locked_units: u64,
    }
    AssetAmount {
        1 asset: u32,
        2 amount_units: u64,
    }
    Timer {
        1 deadline_us: u64,
        2 timer_id: u64,
        3 market: u32,
        4 state: kind,
    }
    PendingCancelAll {
        1 cancel_all_id: u64,
        2 account: u64,
        3 market: u32,
        4 side: kind,
        5 last_order_id: u64,
        6 cancelled_orders: u64,
        7 by_operator: bool,
    }
}

message! {
    "state.proto" derive()
    ShardCore<'a> {
        1 genesis: needed(Genesis<'a>),
        2 n: u64,
        3 t_us: u64,
        4 chain_hash: fixed(HASH_BYTES),
        5 rules: u32,
        6 settings: message(ShardSettings),
        7 operators: list(OperatorKey<'a>),
        8 control_floor: u64,
        9 nonces: list(LiveNonce<'a>),
        10 links_in: list(LinkIn<'a>),
        11 links_out: list(LinkOut),
    }
    ShardState<'a> {
        1 format: u32(FORMAT, FORMAT),
        2 core: needed(ShardCore<'a>),
        3 last_order: u64,
        4 last_trade: u64,
        5 last_cancel_all: u64,
        6 last_timer: u64,
        7 books: list(BookState<'a>),
        8 accounts: list(AccountState),
        9 fees: list(AssetAmount),
        10 timers: list(Timer),
        11 pending: list(PendingCancelAll),
    }
}

macro_rules! event_members {
    ($($number:literal $member:ident $(<$life:lifetime>)?),+ $(,)?) => {$(
        impl EventMember for $member $(<$life>)? {
            const NUMBER: u8 = $number;
        }
    )+};
}

event_members! {
    1 FrameRefused,
    2 BatchResult,
    3 CommandRejected,
    4 OrderAccepted,
    5 OrderReplaced,
    6 OrderReduced,
    7 OrderCancelled,
    8 Trade,
    9 CancelAllAccepted,
    10 CancelAllDone,
    11 FundsCredited,
    12 FundsSent,
    13 LinkResult,
    14 OperationResult,
    15 ActionRejected,
    16 MarketDefined<'_>,
    17 MarketStateChanged,
    18 MarketStateScheduled,
    19 CancelOrdersAccepted,
    20 ShardSettingsChanged,
    21 ControlFloorRaised,
    22 RulesRaised,
    23 OperatorKeyRotated<'_>,
    24 RequestResult,
    25 AssetDefined<'_>,
    26 ShardDefined<'_>,
    27 UserCreated,
    28 AccountOpened,
    29 KeyRegistered<'_>,
    30 KeyRevoked<'_>,
    31 Deposited,
    32 WithdrawalRequested<'_>,
    33 WithdrawalClosed,
    34 FeesPaidOut,
}
