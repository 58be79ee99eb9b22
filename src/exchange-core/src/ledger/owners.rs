//! Holders of units, and the names under which the ledger keeps what they have.

/// Kinds of holders, by their place in `exchange.settlement.ledger.KINDS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum HolderKind {
    /// An account; number 0 is the exchange itself.
    Account = 0,
    /// What came from a shard; at or below zero.
    OtherShardIn = 1,
    /// What went to a shard.
    OtherShardOut = 2,
    /// What was ever deposited; at or below zero.
    Deposits = 3,
    /// What is set aside until it is paid or given back.
    OpenWithdrawals = 4,
    /// What was ever paid out.
    Payments = 5,
}

/// Names of the kinds in `HolderKind`'s order, as they stand in messages.
pub(super) const KIND_NAMES: [&str; 6] =
    ["account", "links from shard", "links to shard", "deposits", "open withdrawals", "payments"];

/// Whose units: kind, number of the holder, asset; sorted in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub(super) u128);

impl Owner {
    /// Return the name of a holder's units of an asset; a kind is a place below 6 in `HolderKind`.
    #[must_use]
    pub const fn new(kind: u8, holder: u64, asset: u32) -> Self {
        Self((kind as u128) << 96 | (holder as u128) << 32 | asset as u128)
    }

    pub(super) const fn of(kind: HolderKind, holder: u64, asset: u32) -> Self {
        Self::new(kind as u8, holder, asset)
    }

    /// Return the place of the kind in `HolderKind`.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)]
    pub const fn kind(self) -> u8 {
        (self.0 >> 96) as u8
    }

    /// Return the number of the holder; 0 where the kind has no numbers.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)]
    pub const fn holder(self) -> u64 {
        (self.0 >> 32) as u64
    }

    /// Return the asset.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)]
    pub const fn asset(self) -> u32 {
        self.0 as u32
    }

    /// Whether nobody of the kind may stand below zero, or at 2^63 and above.
    pub(super) const fn is_bounded(self) -> bool {
        self.kind() == HolderKind::Account as u8 || self.kind() == HolderKind::OpenWithdrawals as u8
    }
}
