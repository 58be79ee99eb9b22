//! The loops of the exchange that run once per order.
//!
//! Start with `book` for price-time priority alone, `shard` for what an entry does to a shard, `wire` for what bytes
//! mean. The Python package `exchange.reference` is the specification: this crate gives the same bytes and hashes for
//! every input, and `tests/differential` compares them.

pub mod book;
pub mod checkpoint;
pub mod fold;
pub mod frames;
pub mod hashing;
pub mod ingress;
pub mod kinds;
pub mod ladder;
pub mod ledger;
pub mod limits;
pub mod names;
pub mod private;
#[cfg(feature = "python")]
mod python;
#[cfg(any(feature = "python", test))]
mod running;
pub mod shard;
pub mod units;
pub mod verify;
pub mod wire;
