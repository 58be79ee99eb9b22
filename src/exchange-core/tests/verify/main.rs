//! Verification: the rule, and batches on every path that this machine has.

mod batch;
mod cases;
mod rule;
