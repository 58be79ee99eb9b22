//! Ed25519 verification in eight lanes of AVX-512 IFMA behind a C interface, for `exchange_core::verify` alone.
//!
//! All arithmetic is that of the crate `ed25519-simd`, under its `DalekPolicy`. Under the caller's conditions (a key of
//! order L; S < L; R canonical and not of small order) that policy decides S B = R + k A without the cofactor, with
//! k = SHA-512(R, A, message) mod L, one verdict per row: it computes S B - k A in each lane, and either compares it as
//! a point with the decoded R, where an R off the curve equals none, or encodes it and compares the bytes.
//!
//! `ed25519-simd` is young, so its version is pinned and its sources were read for this: each lane is independent of the
//! others; the addition formulas are complete on the curve; its unchecked table indexes are digits that are in range by
//! how they are made (-8 to 8, and -136 to 136); multiplication takes operands below 2^52 only and would cut others
//! short without a word, and the carries before it keep them below, which its debug assertions check. An update is read
//! again, and compared by `tools/compare_verifiers.py`, with debug assertions too, before the number in Cargo.toml
//! changes.
//!
//! The library is a separate one since `ed25519-simd` needs its target features when it is compiled, so the compiler
//! may use them anywhere in here. Nothing in it may run before the processor was asked for all of them.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ed25519_simd::{CachedPublicKey, DalekVerifier, HotKeyCache, KeyCache, VerifyInput};

/// Of the interface, target features included. Another number is not loaded.
const ABI: u32 = 1;

/// Rows of a call to `ed25519-simd`: as many as share an inversion there, and as tables fit the second-level cache.
const TOGETHER: usize = 64;

/// Bytes of one message; the reader's only view of memory that the caller owns.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MessageBytes {
    start: *const u8,
    len: usize,
}

struct Lanes {
    verifier: DalekVerifier<HotKeyCache>,
    known: Vec<usize>,
    new: Vec<usize>,
    accepted: Vec<bool>,
}

/// Return the number of this interface.
#[unsafe(no_mangle)]
pub extern "C" fn exchange_ifma_abi() -> u32 {
    ABI
}

/// Return a verifier that keeps the tables of at most `known_keys_max` keys, at least one, of 2.8 KB each; null if
/// there is no memory for it. `exchange_ifma_free` takes it back.
#[unsafe(no_mangle)]
pub extern "C" fn exchange_ifma_new(known_keys_max: usize) -> *mut c_void {
    catch_unwind(|| {
        let verifier = DalekVerifier::with_cache(HotKeyCache::with_capacity(known_keys_max));
        Box::into_raw(Box::new(Lanes { verifier, known: Vec::new(), new: Vec::new(), accepted: Vec::new() })).cast()
    })
    .unwrap_or(std::ptr::null_mut())
}

/// Take a verifier back.
///
/// # Safety
/// `verifier` is null or comes from `exchange_ifma_new` and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exchange_ifma_free(verifier: *mut c_void) {
    if !verifier.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(verifier.cast::<Lanes>()) });
    }
}

/// Write 1 to `verdicts[i]` where row i's signature is valid under its key, else 0. Return 0, or 1 if verification
/// panicked, in which case no verdict counts.
///
/// # Safety
/// `verifier` comes from `exchange_ifma_new` and is used by nobody else meanwhile. `keys`, `signatures`, `messages` and
/// `verdicts` point to 32 n bytes, 64 n bytes, n views of readable bytes and n writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exchange_ifma_verify(
    verifier: *mut c_void,
    n: usize,
    keys: *const [u8; 32],
    signatures: *const [u8; 64],
    messages: *const MessageBytes,
    verdicts: *mut u8,
) -> i32 {
    if n == 0 {
        return 0;
    }
    // SAFETY: the caller's promise, for each of the five.
    let (lanes, keys, signatures, messages, verdicts) = unsafe {
        (
            &mut *verifier.cast::<Lanes>(),
            std::slice::from_raw_parts(keys, n),
            std::slice::from_raw_parts(signatures, n),
            std::slice::from_raw_parts(messages, n),
            std::slice::from_raw_parts_mut(verdicts, n),
        )
    };
    let input_at = |row: usize| VerifyInput {
        public_key: keys[row],
        signature: signatures[row],
        message: if messages[row].len == 0 {
            &[]
        } else {
            // SAFETY: the caller's promise about the n views.
            unsafe { std::slice::from_raw_parts(messages[row].start, messages[row].len) }
        },
    };
    catch_unwind(AssertUnwindSafe(|| lanes.verify(n, input_at, verdicts))).map_or(1, |()| 0)
}

impl Lanes {
    /// Verify the rows under keys with tables apart from the others: one lane without a table makes the other seven of
    /// its chunk as dear as itself.
    fn verify<'a>(&mut self, n: usize, input_at: impl Fn(usize) -> VerifyInput<'a>, verdicts: &mut [u8]) {
        let Self { verifier, known, new, accepted } = self;
        known.clear();
        new.clear();
        for row in 0..n {
            let rows = if verifier.cache().get(&input_at(row).public_key).is_some() { &mut *known } else { &mut *new };
            rows.push(row);
        }
        for (rows, have_tables) in [(known, true), (new, false)] {
            for rows in rows.chunks(TOGETHER) {
                let inputs: Vec<VerifyInput<'a>> = rows.iter().map(|&row| input_at(row)).collect();
                if have_tables {
                    for input in &inputs {
                        prefetch_table(verifier.cache(), &input.public_key);
                    }
                }
                accepted.clear();
                accepted.resize(rows.len(), false);
                verifier.verify_batch(&inputs, accepted);
                for (&row, &accepted) in rows.iter().zip(&*accepted) {
                    verdicts[row] = u8::from(accepted);
                }
            }
        }
    }
}

/// Ask for a key's table before the ladder selects from it at random: 7.3 us a signature where it was 7.65, with 1,024
/// keys on a core with 1 MB of second-level cache.
fn prefetch_table(keys: &HotKeyCache, public_key: &[u8; 32]) {
    if let Some(key) = keys.get(public_key) {
        let start = std::ptr::from_ref(key).cast::<i8>();
        for line in (0..size_of::<CachedPublicKey>()).step_by(64) {
            // SAFETY: a prefetch reads nothing that the program could see; the addresses lie in `key` anyway.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(line)) }
        }
    }
}
