//! Numbers of the contracts' enums, as `exchange.domain` names them.

pub use crate::book::Side;

/// Why something is refused (`RejectReason` in proto/clob/v1/event.proto).
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RejectReason {
    Malformed = 1,
    WrongShard = 2,
    BatchExpired = 3,
    ValidityTooLong = 4,
    NonceReused = 5,
    TooManyNonces = 6,
    StaleControl = 7,
    BadSignature = 9,
    EntryWorkLimit = 20,
    NotForThisShard = 21,
    UnknownMarket = 22,
    MarketHalted = 23,
    MarketCancelOnly = 24,
    MarketPostOnly = 25,
    InvalidSide = 26,
    InvalidOrderType = 27,
    InvalidTimeInForce = 28,
    InvalidPostOnly = 29,
    InvalidSelfTradePrevention = 30,
    InvalidQuantity = 31,
    InvalidPrice = 32,
    NoProtectionPrice = 33,
    PriceOutsideBand = 34,
    PriceOffTick = 35,
    QuantityOffLot = 36,
    DuplicateClientOrderId = 37,
    TooManyOpenOrders = 38,
    AmountTooLarge = 39,
    InsufficientFunds = 40,
    PostOnlyWouldTrade = 41,
    FokNotFillable = 42,
    InvalidOrderReference = 43,
    UnknownOrder = 44,
    QuantityNotAboveFilled = 45,
    InvalidAmount = 46,
    LinkGap = 60,
    SequenceGap = 61,
    SequenceUsed = 62,
    UnknownRole = 63,
    RoleNotAllowed = 64,
    InvalidMarket = 65,
    MarketFieldFixed = 66,
    InvalidMarketState = 67,
    InvalidSettings = 68,
    FloorWouldFall = 69,
    InvalidScope = 70,
    TooManyTimers = 71,
    RulesWouldNotRise = 72,
    InvalidPublicKey = 73,
}

/// Why an order ended without being filled.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CancelReason {
    Requested = 1,
    CancelAll = 2,
    Operator = 3,
    ImmediateOrCancel = 4,
    SelfTrade = 5,
    MatchLimit = 6,
}

/// Why an order lost lots and kept its place.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ReduceReason {
    Requested = 1,
    SelfTrade = 2,
}

/// Who signs operations.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum OperatorRole {
    Treasury = 1,
    Market = 2,
    Recovery = 3,
}

/// `OrderType.LIMIT`.
pub const LIMIT: u32 = 1;
/// `OrderType.MARKET`.
pub const MARKET: u32 = 2;
/// `TimeInForce.GTC`.
pub const GTC: u32 = 1;
/// `TimeInForce.IOC`.
pub const IOC: u32 = 2;
/// `TimeInForce.FOK`.
pub const FOK: u32 = 3;
/// `SelfTradePrevention.CANCEL_TAKER`, the default.
pub const STP_CANCEL_TAKER: u32 = 1;
/// `SelfTradePrevention.CANCEL_MAKER`.
pub const STP_CANCEL_MAKER: u32 = 2;
/// `SelfTradePrevention.CANCEL_BOTH`.
pub const STP_CANCEL_BOTH: u32 = 3;
/// `SelfTradePrevention.NONE`.
pub const STP_NONE: u32 = 5;
/// `MarketState.POST_ONLY`.
pub const STATE_POST_ONLY: u32 = 2;
/// `MarketState.CANCEL_ONLY`.
pub const STATE_CANCEL_ONLY: u32 = 3;
/// `MarketState.HALTED`.
pub const STATE_HALTED: u32 = 4;
/// `Side.BUY`.
pub const BUY: u32 = 1;
/// `Side.SELL`.
pub const SELL: u32 = 2;

/// Return the side of a number that stands on the wire.
#[inline]
#[must_use]
pub fn side_of(number: u32) -> Option<Side> {
    match number {
        BUY => Some(Side::Buy),
        SELL => Some(Side::Sell),
        _ => None,
    }
}

/// Return the number that stands for a side on the wire.
#[inline]
#[must_use]
pub fn number_of(side: Side) -> u32 {
    match side {
        Side::Buy => BUY,
        Side::Sell => SELL,
    }
}
