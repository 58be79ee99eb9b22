//! Order flow for benchmarks of matching, and the loop that times an engine on it.
//!
//! A flow is a function of its shape, its seed and its length alone. What its messages do is worked out by a book that
//! is meant to be plain (`naive`), so the totals that a flow carries are a second opinion on every engine.

pub mod dice;
pub mod file;
pub mod generate;
pub mod naive;
pub mod run;
pub mod shapes;
