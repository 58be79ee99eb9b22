//! Every message of the codec by its name.

use exchange_core::wire::messages as m;
use exchange_core::wire::{Body, Message, Spec, WireError};

/// What the tests do with a message, whichever it is.
pub struct Codec {
    pub spec: &'static Spec,
    /// Return what the bytes decode to, encoded again, or why they do not.
    pub recode: fn(&[u8]) -> Result<Vec<u8>, WireError>,
}

/// Decode and encode, and compare the ways in which that can be done.
fn recode<'a, M: Message<'a>>(data: &'a [u8]) -> Result<Vec<u8>, WireError> {
    let decoded = M::decode(data);
    assert_eq!(M::decode_or_none(data).is_some(), decoded.is_ok(), "{}: {data:02x?}", M::NAME);
    let value = decoded?;
    let encoded = value.to_bytes();
    assert_eq!(value.encoded_len(), encoded.len(), "{}: {data:02x?}", M::NAME);
    if encoded.len() <= 200 {
        let mut body = Body::new();
        value.encode(&mut body);
        assert_eq!(body.as_slice(), encoded, "{}", M::NAME);
    }
    Ok(encoded)
}

macro_rules! codecs {
    ($($name:ident)+) => {
        /// Every message, in the order of the contracts.
        pub const CODECS: &[Codec] = &[$(Codec { spec: <m::$name as Message<'static>>::SPEC, recode: |data| recode::<m::$name>(data) }),+];
    };
}

codecs! {
    TickRule LotRule Market Asset ShardSettings
    PlaceOrder CancelOrder ReduceOrder ReplaceOrder CancelAllOrders ReleaseFunds AllocateFunds RequestWithdrawal Command
    Batch SignedBatch
    DefineMarket SetMarketState CancelOrders SetShardSettings RaiseControlFloor RaiseRules RotateOperatorKey SweepFees
    DefineAsset DefineShard Deposit CloseWithdrawal PayOutFees OperatorAction Operation SignedOperation Transfer Link
    SignedLink
    Registration SignedRegistration RegisterKey RevokeKey OpenAccount ControlRequest
    FrameRefused BatchResult CommandRejected OrderAccepted OrderReplaced OrderReduced OrderCancelled Trade
    CancelAllAccepted CancelAllDone FundsCredited FundsSent LinkResult OperationResult ActionRejected MarketDefined
    MarketStateChanged MarketStateScheduled CancelOrdersAccepted ShardSettingsChanged ControlFloorRaised RulesRaised
    OperatorKeyRotated RequestResult AssetDefined ShardDefined UserCreated AccountOpened KeyRegistered KeyRevoked
    Deposited WithdrawalRequested WithdrawalClosed FeesPaidOut Event
    OrderFrame ExecutionFrame
    OperatorKey Genesis RestingOrder BookState Balance AccountState AssetAmount LiveNonce Timer PendingCancelAll LinkIn
    LinkOut ShardCore ShardState Checkpoint
}

/// Messages of shard 0's state, which no trading shard reads.
pub const OF_SHARD_0: [&str; 8] = [
    "UserState",
    "KeyState",
    "ShardEntry",
    "TreasuryAccount",
    "AssetTotals",
    "OpenWithdrawal",
    "AnsweredRequest",
    "ControlState",
];

/// Return a message's codec; None: one of shard 0's state.
pub fn codec_of(name: &str) -> Option<&'static Codec> {
    let found = CODECS.iter().find(|codec| codec.spec.name == name);
    assert_ne!(found.is_some(), OF_SHARD_0.contains(&name), "{name} is a message of neither list");
    found
}
