//! Nanoseconds of processor time per signature, as JSON lines; `loadtest/bench_verify.py` runs it and adds the peers.
//!
//! Distinct: every row is signed under a key that the verifier does not remember, though it remembers `KNOWN_KEYS`.
//! Known: the rows take turns under `KNOWN_KEYS` keys, all remembered. Bad: every row's message differs from the signed
//! one in a bit, so that only the equation can tell. Messages have `MESSAGE_BYTES`.

// The processor's clock of a thread is asked for through libc.
#![allow(unsafe_code)]

use std::path::{Path, PathBuf};

use ed25519_dalek::{Signature, Signer, SigningKey, Verifier as _, VerifyingKey};
use exchange_core::verify::{LibraryError, Verifier, verify_one};
use serde_json::json;

const MESSAGE_BYTES: usize = 128;
const KNOWN_KEYS: usize = 1_024;
const DISTINCT_KEYS: usize = 8 * KNOWN_KEYS;
const SIZES: [usize; 5] = [1, 8, 64, 512, 1_024];
const RUNS: usize = 15;

struct Signed {
    messages: Vec<Vec<u8>>,
    signatures: Vec<u8>,
    keys: Vec<u8>,
}

impl Signed {
    fn new(keys: usize, good: bool) -> Self {
        let mut signed = Self { messages: Vec::new(), signatures: Vec::new(), keys: Vec::new() };
        for key in 0..keys {
            let mut seed = [7; 32];
            seed[..8].copy_from_slice(&(key as u64).to_le_bytes());
            let signing = SigningKey::from_bytes(&seed);
            let mut message = vec![0; MESSAGE_BYTES];
            message[..8].copy_from_slice(&(key as u64).to_be_bytes());
            signed.signatures.extend(signing.sign(&message).to_bytes());
            signed.keys.extend(signing.verifying_key().to_bytes());
            message[MESSAGE_BYTES - 1] ^= u8::from(!good);
            signed.messages.push(message);
        }
        signed
    }

    fn rows(&self) -> usize {
        self.messages.len()
    }
}

/// Return the processor time of this thread, in nanoseconds.
fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec to write to.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(status, 0);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Return the median over runs of nanoseconds per signature, where a run passes all rows to `verify`, n at a time.
fn measure(n: usize, signed: &Signed, good: bool, mut verify: impl FnMut(&[&[u8]], &[u8], &[u8]) -> usize) -> u64 {
    let messages: Vec<&[u8]> = signed.messages.iter().map(Vec::as_slice).collect();
    let rounds = signed.rows() / n;
    let mut round = |i: usize| {
        let rows = i * n..(i + 1) * n;
        let accepted = verify(
            &messages[rows.clone()],
            &signed.signatures[64 * rows.start..64 * rows.end],
            &signed.keys[32 * rows.start..32 * rows.end],
        );
        assert_eq!(accepted, if good { n } else { 0 });
    };
    (0..rounds).for_each(&mut round);
    let repeats = (DISTINCT_KEYS / 4).div_ceil(signed.rows());
    let mut runs_ns: Vec<u64> = (0..RUNS)
        .map(|_| {
            let start = cpu_ns();
            (0..repeats).for_each(|_| (0..rounds).for_each(&mut round));
            (cpu_ns() - start) / (repeats * rounds * n) as u64
        })
        .collect();
    runs_ns.sort_unstable();
    runs_ns[RUNS / 2]
}

fn count(verdicts: &[bool]) -> usize {
    verdicts.iter().filter(|&&verdict| verdict).count()
}

fn main() {
    // The library of the fast path may be named.
    let library = std::env::args_os().nth(1).map(PathBuf::from);
    for (keys, rows) in [("distinct", DISTINCT_KEYS), ("known", KNOWN_KEYS)] {
        for good in [true, false] {
            let signed = Signed::new(rows, good);
            let print = |verifier: &str, n: usize, ns: u64| {
                let signatures = if good { "good" } else { "bad" };
                println!("{}", json!({"verifier": verifier, "keys": keys, "signatures": signatures, "n": n, "ns": ns}));
            };
            print("ed25519-dalek", 1, measure(1, &signed, good, verify_each_by_dalek));
            print("verify_one", 1, measure(1, &signed, good, verify_each));
            for n in SIZES {
                let mut portable = Verifier::portable(KNOWN_KEYS);
                print(
                    "core, portable",
                    n,
                    measure(n, &signed, good, |m, s, k| count(&portable.verify_batch(m, s, k).unwrap())),
                );
                if let Some(mut fast) = library.as_deref().and_then(fast_path) {
                    print(
                        "core, AVX-512 IFMA",
                        n,
                        measure(n, &signed, good, |m, s, k| count(&fast.verify_batch(m, s, k).unwrap())),
                    );
                }
            }
        }
    }
}

/// Return a verifier on the fast path, or None on a processor without AVX-512 IFMA.
fn fast_path(library: &Path) -> Option<Verifier> {
    match Verifier::with_library(library, KNOWN_KEYS) {
        Ok(verifier) => Some(verifier),
        Err(LibraryError::Processor) => None,
        Err(error) => panic!("{}: {error}", library.display()),
    }
}

fn verify_each(messages: &[&[u8]], signatures: &[u8], keys: &[u8]) -> usize {
    let rows = messages.iter().zip(signatures.as_chunks().0).zip(keys.as_chunks().0);
    rows.filter(|((message, signature), key)| verify_one(key, message, signature)).count()
}

fn verify_each_by_dalek(messages: &[&[u8]], signatures: &[u8], keys: &[u8]) -> usize {
    let rows = messages.iter().zip(signatures.as_chunks().0).zip(keys.as_chunks().0);
    rows.filter(|((message, signature), key)| {
        VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify(message, &Signature::from_bytes(signature)).is_ok())
    })
    .count()
}
