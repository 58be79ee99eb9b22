//! Strict bytes: the vectors that every implementation reads, the contracts themselves, and properties of any bytes.

mod contracts;
mod messages;
mod properties;
mod vectors;
