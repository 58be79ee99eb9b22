//! The messages that are signed, hashed or checkpointed, with the bounds that LIMITS give their fields.
//!
//! Names and numbers are those of proto/clob/v1; every field is documented there, with unit, bounds and the meaning of
//! zero. Bounds are those of `exchange.wire.messages`.

use crate::limits::{
    BATCH_BYTES_MAX, EXECUTION_FRAME_BYTES_MAX, FRAME_BATCHES_MAX, FRAME_BYTES_MAX, FRAME_LINKS_MAX,
    FRAME_OPERATIONS_MAX, FRAME_REQUESTS_MAX, HASH_BYTES, INGRESS_BYTES, KEY_ID_BYTES, LINK_BYTES_MAX,
    LINK_TRANSFERS_MAX, OPERATION_ACTIONS_MAX, OPERATION_BYTES_MAX, PUBLIC_KEY_BYTES, REGISTRATION_BYTES_MAX,
    REQUEST_ID_BYTES, SIGNATURE_BYTES,
};
use crate::units::{SHARD_MAX, TIME_US_MAX};
use crate::wire::macros::ELEMENTS_MAX;
use crate::wire::read::{
    LENGTH_DELIMITED, Read, VARINT, check_place, content, content_end, default_encoded, member_end, member_start,
    number, out_of_range, text, unknown_field, varint, wrong_length,
};
use crate::wire::write::{content_len, element_len, key_len, varint_len, write_content};
use crate::wire::{Message, Sink};

const FORMAT: u32 = 1;

// --- market.proto ---------------------------------------------------------------------------------------------------

message!(TickRule { 1 from_price_ticks: (u64), 2 multiple_ticks: (u64) });
message!(LotRule { 1 from_price_ticks: (u64), 2 multiple_lots: (u64) });
message!(Market<'a>, usize::MAX, {
    1 market: (u32),
    2 shard: (u32),
    3 symbol: (text),
    4 base_asset: (u32),
    5 quote_asset: (u32),
    6 base_units_per_lot: (u64),
    7 quote_units_per_tick_lot: (u64),
    8 tick_table: (many TickRule, 0, ELEMENTS_MAX),
    9 lot_table: (many LotRule, 0, ELEMENTS_MAX),
    10 band_low_ticks: (u64),
    11 band_high_ticks: (u64),
    12 band_ppm: (u32),
    13 maker_fee_ppm: (u32),
    14 taker_fee_ppm: (u32),
    15 state: (enum),
});
message!(Asset<'a>, usize::MAX, { 1 asset: (u32), 2 symbol: (text), 3 decimals: (u32) });
message!(ShardSettings {
    1 max_validity_ms: (u64),
    2 live_nonces_per_key_max: (u32),
    3 open_orders_per_account_max: (u32),
});

// --- control.proto --------------------------------------------------------------------------------------------------

message!(Registration<'a>, REGISTRATION_BYTES_MAX, {
    1 public_key: (fixed PUBLIC_KEY_BYTES),
    2 user: (u64),
    3 account: (u64),
});
message!(SignedRegistration<'a>, usize::MAX, {
    1 payload: (bytes 1, REGISTRATION_BYTES_MAX),
    2 signature: (fixed SIGNATURE_BYTES),
});
message!(RegisterKey<'a>, usize::MAX, { 1 registration: (one SignedRegistration<'a>) });
message!(RevokeKey<'a>, usize::MAX, { 1 key_id: (fixed KEY_ID_BYTES) });
message!(OpenAccount { 1 user: (u64) });
message!(ControlRequest<'a>, usize::MAX, {
    1 request_id: (fixed REQUEST_ID_BYTES),
    2 register_key: (one RegisterKey<'a>),
});

// --- batch.proto; Batch and Command are in `batch` ------------------------------------------------------------------

message!(PlaceOrder {
    1 market: (u32),
    2 side: (enum),
    3 order_type: (enum),
    4 time_in_force: (enum),
    5 post_only: (flag),
    6 self_trade_prevention: (enum),
    7 price_ticks: (u64),
    8 quantity_lots: (u64),
    9 client_order_id: (u64),
});
message!(CancelOrder { 1 order_id: (u64), 2 client_order_id: (u64) });
message!(ReduceOrder { 1 order_id: (u64), 2 client_order_id: (u64), 3 quantity_lots: (u64) });
message!(ReplaceOrder { 1 order_id: (u64), 2 client_order_id: (u64), 3 price_ticks: (u64), 4 quantity_lots: (u64) });
message!(CancelAllOrders { 1 market: (u32), 2 side: (enum) });
message!(ReleaseFunds { 1 asset: (u32), 2 amount_units: (u64) });
message!(AllocateFunds { 1 asset: (u32), 2 amount_units: (u64), 3 to_shard: (u32) });
message!(RequestWithdrawal<'a>, usize::MAX, { 1 asset: (u32), 2 amount_units: (u64), 3 destination: (text) });
message!(SignedBatch<'a>, usize::MAX, {
    1 key_id: (fixed KEY_ID_BYTES),
    2 payload: (bytes 1, BATCH_BYTES_MAX),
    3 signature: (fixed SIGNATURE_BYTES),
});

// --- operation.proto ------------------------------------------------------------------------------------------------

message!(DefineMarket<'a>, usize::MAX, { 1 market: (one Market<'a>) });
message!(SetMarketState { 1 market: (u32), 2 state: (enum), 3 effective_us: (u64) });
message!(CancelOrders { 1 account: (u64), 2 market: (u32), 3 side: (enum) });
message!(SetShardSettings { 1 settings: (one ShardSettings) });
message!(RaiseControlFloor { 1 control_n: (u64) });
message!(RaiseRules { 1 rules: (u32) });
message!(RotateOperatorKey<'a>, usize::MAX, { 1 public_key: (fixed PUBLIC_KEY_BYTES) });
message!(SweepFees { 1 asset: (u32) });
message!(DefineAsset<'a>, usize::MAX, { 1 asset: (one Asset<'a>) });
message!(DefineShard<'a>, usize::MAX, { 1 shard: (u32), 2 tag: (text) });
message!(Deposit { 1 account: (u64), 2 asset: (u32), 3 amount_units: (u64), 4 allocate: (enum), 5 to_shard: (u32) });
message!(CloseWithdrawal { 1 withdrawal: (u64), 2 paid: (flag) });
message!(PayOutFees { 1 account: (u64), 2 asset: (u32), 3 amount_units: (u64) });
oneof!(OperatorAction<'a> {
    1 define_market DefineMarket: DefineMarket<'a>,
    2 set_market_state SetMarketState: SetMarketState,
    3 cancel_orders CancelOrders: CancelOrders,
    4 set_shard_settings SetShardSettings: SetShardSettings,
    5 raise_control_floor RaiseControlFloor: RaiseControlFloor,
    6 raise_rules RaiseRules: RaiseRules,
    7 rotate_operator_key RotateOperatorKey: RotateOperatorKey<'a>,
    8 sweep_fees SweepFees: SweepFees,
    9 define_asset DefineAsset: DefineAsset<'a>,
    10 define_shard DefineShard: DefineShard<'a>,
    11 deposit Deposit: Deposit,
    12 close_withdrawal CloseWithdrawal: CloseWithdrawal,
    13 register_key RegisterKey: RegisterKey<'a>,
    14 revoke_key RevokeKey: RevokeKey<'a>,
    15 open_account OpenAccount: OpenAccount,
    16 pay_out_fees PayOutFees: PayOutFees,
});
message!(Operation<'a>, OPERATION_BYTES_MAX, {
    1 shard: (num u32 0, SHARD_MAX),
    2 role: (enum),
    3 sequence: (num u64 1, u64::MAX),
    4 actions: (many OperatorAction<'a>, 1, OPERATION_ACTIONS_MAX),
    5 request_id: (maybe REQUEST_ID_BYTES),
});
message!(SignedOperation<'a>, usize::MAX, {
    1 payload: (bytes 1, OPERATION_BYTES_MAX),
    2 signature: (fixed SIGNATURE_BYTES),
});
message!(Transfer { 1 account: (u64), 2 asset: (u32), 3 amount_units: (num u64 1, i64::MAX) });
message!(Link owned, LINK_BYTES_MAX, {
    1 from_shard: (num u32 0, SHARD_MAX),
    2 to_shard: (num u32 0, SHARD_MAX),
    3 sequence: (num u64 1, u64::MAX),
    4 source_n: (num u64 1, TIME_US_MAX),
    5 transfers: (many Transfer, 1, LINK_TRANSFERS_MAX),
});
message!(SignedLink<'a>, usize::MAX, {
    1 payload: (bytes 1, LINK_BYTES_MAX),
    2 signature: (fixed SIGNATURE_BYTES),
});

// --- event.proto ----------------------------------------------------------------------------------------------------

message!(FrameRefused { 1 reason: (enum) });
message!(BatchResult { 1 batch: (u32), 2 reason: (enum), 3 repeat_n: (u64), 4 repeat_batch: (u32) });
message!(CommandRejected {
    1 command: (u32),
    2 account: (u64),
    3 account_seq: (u64),
    4 reason: (enum),
    5 market: (u32),
    6 order_id: (u64),
    7 client_order_id: (u64),
    8 required_units: (u64),
    9 available_units: (u64),
    10 asset: (u32),
});
message!(OrderAccepted {
    1 command: (u32),
    2 account: (u64),
    3 account_seq: (u64),
    4 market: (u32),
    5 market_seq: (u64),
    6 order_id: (u64),
    7 client_order_id: (u64),
    8 side: (enum),
    9 order_type: (enum),
    10 time_in_force: (enum),
    11 post_only: (flag),
    12 price_ticks: (u64),
    13 quantity_lots: (u64),
});
message!(OrderReplaced {
    1 command: (u32),
    2 account: (u64),
    3 account_seq: (u64),
    4 market: (u32),
    5 market_seq: (u64),
    6 order_id: (u64),
    7 price_ticks: (u64),
    8 open_lots: (u64),
    9 priority_kept: (flag),
});
message!(OrderReduced {
    1 command: (u32),
    2 account: (u64),
    3 account_seq: (u64),
    4 market: (u32),
    5 market_seq: (u64),
    6 order_id: (u64),
    7 reduced_lots: (u64),
    8 open_lots: (u64),
    9 reason: (enum),
});
message!(OrderCancelled {
    1 command: (u32),
    2 account: (u64),
    3 account_seq: (u64),
    4 market: (u32),
    5 market_seq: (u64),
    6 order_id: (u64),
    7 cancelled_lots: (u64),
    8 reason: (enum),
});
message!(Trade {
    1 market: (u32),
    2 market_seq: (u64),
    3 trade_id: (u64),
    4 price_ticks: (u64),
    5 quantity_lots: (u64),
    6 taker_side: (enum),
    7 maker_order_id: (u64),
    8 taker_order_id: (u64),
    9 maker_account: (u64),
    10 maker_account_seq: (u64),
    11 taker_account: (u64),
    12 taker_account_seq: (u64),
    13 maker_fee_quote_units: (u64),
    14 taker_fee_quote_units: (u64),
});
message!(CancelAllAccepted {
    1 command: (u32),
    2 account: (u64),
    3 account_seq: (u64),
    4 cancel_all_id: (u64),
    5 market: (u32),
    6 side: (enum),
});
message!(CancelAllDone { 1 cancel_all_id: (u64), 2 cancelled_orders: (u64), 3 account: (u64), 4 account_seq: (u64) });
message!(FundsCredited {
    1 account: (u64),
    2 account_seq: (u64),
    3 asset: (u32),
    4 amount_units: (u64),
    5 from_shard: (u32),
});
message!(FundsSent {
    1 command: (u32),
    2 account: (u64),
    3 account_seq: (u64),
    4 asset: (u32),
    5 amount_units: (u64),
    6 to_shard: (u32),
    7 link_sequence: (u64),
});
message!(LinkResult { 1 link: (u32), 2 from_shard: (u32), 3 sequence: (u64), 4 reason: (enum), 5 repeated: (flag) });
message!(OperationResult { 1 operation: (u32), 2 reason: (enum), 3 repeat_n: (u64), 4 repeated: (flag) });
message!(ActionRejected { 1 action: (u32), 2 reason: (enum) });
message!(MarketDefined<'a>, usize::MAX, { 1 market: (one Market<'a>), 2 market_seq: (u64) });
message!(MarketStateChanged { 1 market: (u32), 2 market_seq: (u64), 3 state: (enum) });
message!(MarketStateScheduled { 1 market: (u32), 2 timer_id: (u64), 3 effective_us: (u64), 4 state: (enum) });
message!(CancelOrdersAccepted { 1 cancel_all_id: (u64), 2 account: (u64), 3 market: (u32), 4 side: (enum) });
message!(ShardSettingsChanged { 1 settings: (one ShardSettings) });
message!(ControlFloorRaised { 1 control_n: (u64) });
message!(RulesRaised { 1 rules: (u32) });
message!(OperatorKeyRotated<'a>, usize::MAX, { 1 role: (enum), 2 public_key: (bytes 0, usize::MAX) });
message!(RequestResult { 1 request: (u32), 2 reason: (enum), 3 repeat_n: (u64) });
message!(AssetDefined<'a>, usize::MAX, { 1 asset: (one Asset<'a>) });
message!(ShardDefined<'a>, usize::MAX, { 1 shard: (u32), 2 tag: (text) });
message!(UserCreated { 1 user: (u64) });
message!(AccountOpened { 1 user: (u64), 2 account: (u64), 3 command: (u32) });
message!(KeyRegistered<'a>, usize::MAX, {
    1 key_id: (bytes 0, usize::MAX),
    2 public_key: (bytes 0, usize::MAX),
    3 user: (u64),
    4 account: (u64),
    5 command: (u32),
});
message!(KeyRevoked<'a>, usize::MAX, { 1 key_id: (bytes 0, usize::MAX), 2 command: (u32) });
message!(Deposited { 1 account: (u64), 2 account_seq: (u64), 3 asset: (u32), 4 amount_units: (u64) });
message!(WithdrawalRequested<'a>, usize::MAX, {
    1 command: (u32),
    2 withdrawal: (u64),
    3 account: (u64),
    4 account_seq: (u64),
    5 asset: (u32),
    6 amount_units: (u64),
    7 destination: (text),
});
message!(WithdrawalClosed {
    1 withdrawal: (u64),
    2 paid: (flag),
    3 account: (u64),
    4 account_seq: (u64),
    5 asset: (u32),
    6 amount_units: (u64),
});
message!(FeesPaidOut { 1 account: (u64), 2 account_seq: (u64), 3 asset: (u32), 4 amount_units: (u64) });

/// An event that can stand in an execution frame.
pub trait EventMember {
    /// Its number in `Event`.
    const NUMBER: u8;
}

macro_rules! events {
    ($($number:literal $field:ident $member:ident $(<$life:lifetime>)?),* $(,)?) => {
        oneof!(Event<'a> { $($number $field $member: $member $(<$life>)?),* });
        $(impl $(<$life>)? EventMember for $member $(<$life>)? {
            const NUMBER: u8 = $number;
        })*
    };
}

events! {
    1 frame_refused FrameRefused,
    2 batch_result BatchResult,
    3 command_rejected CommandRejected,
    4 order_accepted OrderAccepted,
    5 order_replaced OrderReplaced,
    6 order_reduced OrderReduced,
    7 order_cancelled OrderCancelled,
    8 trade Trade,
    9 cancel_all_accepted CancelAllAccepted,
    10 cancel_all_done CancelAllDone,
    11 funds_credited FundsCredited,
    12 funds_sent FundsSent,
    13 link_result LinkResult,
    14 operation_result OperationResult,
    15 action_rejected ActionRejected,
    16 market_defined MarketDefined<'a>,
    17 market_state_changed MarketStateChanged,
    18 market_state_scheduled MarketStateScheduled,
    19 cancel_orders_accepted CancelOrdersAccepted,
    20 shard_settings_changed ShardSettingsChanged,
    21 control_floor_raised ControlFloorRaised,
    22 rules_raised RulesRaised,
    23 operator_key_rotated OperatorKeyRotated<'a>,
    24 request_result RequestResult,
    25 asset_defined AssetDefined<'a>,
    26 shard_defined ShardDefined<'a>,
    27 user_created UserCreated,
    28 account_opened AccountOpened,
    29 key_registered KeyRegistered<'a>,
    30 key_revoked KeyRevoked<'a>,
    31 deposited Deposited,
    32 withdrawal_requested WithdrawalRequested<'a>,
    33 withdrawal_closed WithdrawalClosed,
    34 fees_paid_out FeesPaidOut,
}

// --- frame.proto ----------------------------------------------------------------------------------------------------

message!(OrderFrame<'a>, FRAME_BYTES_MAX, {
    1 format: (num u32 FORMAT, FORMAT),
    2 ingress: (fixed INGRESS_BYTES),
    3 counter: (num u64 1, u64::MAX),
    4 ingress_time_us: (num u64 1, TIME_US_MAX),
    5 control_n: (u64),
    6 batches: (many SignedBatch<'a>, 0, FRAME_BATCHES_MAX),
    7 links: (many SignedLink<'a>, 0, FRAME_LINKS_MAX),
    8 operations: (many SignedOperation<'a>, 0, FRAME_OPERATIONS_MAX),
    9 requests: (many ControlRequest<'a>, 0, FRAME_REQUESTS_MAX),
});
message!(ExecutionFrame<'a>, EXECUTION_FRAME_BYTES_MAX, {
    1 format: (num u32 FORMAT, FORMAT),
    2 n: (num u64 1, u64::MAX),
    3 t_us: (num u64 0, TIME_US_MAX),
    4 rules: (u32),
    5 previous_hash: (fixed HASH_BYTES),
    6 input_hash: (fixed HASH_BYTES),
    7 events: (many Event<'a>, 0, ELEMENTS_MAX),
});

// --- state.proto ----------------------------------------------------------------------------------------------------

message!(OperatorKey<'a>, usize::MAX, {
    1 role: (enum),
    2 public_key: (fixed PUBLIC_KEY_BYTES),
    3 last_sequence: (u64),
    4 last_digest: (maybe HASH_BYTES),
});
message!(Genesis<'a>, usize::MAX, {
    1 format: (num u32 FORMAT, FORMAT),
    2 environment: (text),
    3 shard: (num u32 0, SHARD_MAX),
    4 rules: (u32),
    5 settings: (one ShardSettings),
    6 operators: (many OperatorKey<'a>, 0, ELEMENTS_MAX),
});
message!(RestingOrder {
    1 order_id: (u64),
    2 client_order_id: (u64),
    3 account: (u64),
    4 price_ticks: (u64),
    5 open_lots: (u64),
    6 filled_lots: (u64),
    7 post_only: (flag),
    8 self_trade_prevention: (enum),
    9 maker_fee_ppm: (u32),
    10 taker_fee_ppm: (u32),
    11 maker_prepaid_ppm: (u32),
    12 taker_prepaid_ppm: (u32),
});
message!(BookState<'a>, usize::MAX, {
    1 market: (one Market<'a>),
    2 market_seq: (u64),
    3 last_price_ticks: (u64),
    4 bids: (many RestingOrder, 0, ELEMENTS_MAX),
    5 asks: (many RestingOrder, 0, ELEMENTS_MAX),
});
message!(Balance { 1 asset: (u32), 2 free_units: (u64), 3 locked_units: (u64) });
message!(AccountState owned, usize::MAX, {
    1 account: (u64),
    2 account_seq: (u64),
    3 balances: (many Balance, 0, ELEMENTS_MAX),
});
message!(AssetAmount { 1 asset: (u32), 2 amount_units: (u64) });
message!(LiveNonce<'a>, usize::MAX, {
    1 key_id: (fixed KEY_ID_BYTES),
    2 nonce: (u64),
    3 n: (u64),
    4 batch: (u32),
    5 digest: (fixed HASH_BYTES),
    6 valid_until_ms: (u64),
});
message!(Timer { 1 deadline_us: (u64), 2 timer_id: (u64), 3 market: (u32), 4 state: (enum) });
message!(PendingCancelAll {
    1 cancel_all_id: (u64),
    2 account: (u64),
    3 market: (u32),
    4 side: (enum),
    5 last_order_id: (u64),
    6 cancelled_orders: (u64),
    7 by_operator: (flag),
});
message!(LinkIn<'a>, usize::MAX, {
    1 from_shard: (u32),
    2 last_sequence: (u64),
    3 digests: (blobs),
    4 received: (many AssetAmount, 0, ELEMENTS_MAX),
});
message!(LinkOut owned, usize::MAX, {
    1 to_shard: (u32),
    2 last_sequence: (u64),
    3 sent: (many AssetAmount, 0, ELEMENTS_MAX),
});
message!(ShardCore<'a>, usize::MAX, {
    1 genesis: (one Genesis<'a>),
    2 n: (u64),
    3 t_us: (u64),
    4 chain_hash: (fixed HASH_BYTES),
    5 rules: (u32),
    6 settings: (one ShardSettings),
    7 operators: (many OperatorKey<'a>, 0, ELEMENTS_MAX),
    8 control_floor: (u64),
    9 nonces: (many LiveNonce<'a>, 0, ELEMENTS_MAX),
    10 links_in: (many LinkIn<'a>, 0, ELEMENTS_MAX),
    11 links_out: (many LinkOut, 0, ELEMENTS_MAX),
});
message!(ShardState<'a>, usize::MAX, {
    1 format: (num u32 FORMAT, FORMAT),
    2 core: (one ShardCore<'a>),
    3 last_order: (u64),
    4 last_trade: (u64),
    5 last_cancel_all: (u64),
    6 last_timer: (u64),
    7 books: (many BookState<'a>, 0, ELEMENTS_MAX),
    8 accounts: (many AccountState, 0, ELEMENTS_MAX),
    9 fees: (many AssetAmount, 0, ELEMENTS_MAX),
    10 timers: (many Timer, 0, ELEMENTS_MAX),
    11 pending: (many PendingCancelAll, 0, ELEMENTS_MAX),
});
message!(Checkpoint<'a>, usize::MAX, {
    1 format: (num u32 FORMAT, FORMAT),
    2 state_hash: (fixed HASH_BYTES),
    3 state: (bytes 0, usize::MAX),
});
