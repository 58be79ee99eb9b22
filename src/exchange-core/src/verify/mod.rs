//! The verification rule of Ed25519 (ARCHITECTURE.md, "Verification rule"): one verdict for every key and signature.
//!
//! `exchange.reference.signing` is the specification. curve25519-dalek and ed25519-dalek do all arithmetic on the curve;
//! what libraries are known to disagree about is decided here, by comparing bytes, before a library is asked.
//! `tests/vectors/ed25519_rule.json` pins every class.
//!
//! `verify_one` is for a signature now and then, `Verifier` for batches. The latter takes the library of `ifma/`, eight
//! signatures at a time, where whoever makes it names that file and the processor has AVX-512 IFMA.

mod batch;
mod lanes;
mod rule;
mod signed;

pub use batch::{ROWS_MAX, ShapeError, Verifier, verify_batch};
pub use lanes::LibraryError;
pub use rule::{KeyRefusal, SignatureRefusal, case_refusal, key_refusal, signature_refusal, verify_one};
pub use rule::{Refusal, SMALL_ORDER_POINTS};
pub use signed::{SignedKind, is_environment, key_id_of, signed_bytes};
