//! Whole batches of signatures per call, one verdict each.
//!
//! No batch equation with random coefficients is used: its verdict on a batch is not the verdict on each signature, and
//! a bad signature makes it start again. Here a bad signature costs what a good one costs, or less where its bytes
//! alone refuse it.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use sha2::{Digest, Sha512};

use super::lanes::{LANES, Lanes, LibraryError};
use super::rule::{Halves, refusal_by_bytes};
use crate::limits::{PUBLIC_KEY_BYTES, SIGNATURE_BYTES};

/// Most rows of a call: the batches, links and operations of a full frame, rounded up.
pub const ROWS_MAX: usize = 32_768;

/// Rows whose points are encoded together, which costs one inversion for all of them.
const ENCODED_TOGETHER: usize = 64;

type Key = [u8; PUBLIC_KEY_BYTES];

/// The arguments of a call do not fit each other. No signature was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShapeError {
    /// There are more messages than `ROWS_MAX`.
    TooManyRows {
        /// How many messages there are.
        rows: usize,
    },
    /// `signatures` does not have 64 bytes a message.
    SignatureBytes {
        /// How many messages there are.
        rows: usize,
        /// How many bytes there are.
        bytes: usize,
    },
    /// `keys` does not have 32 bytes a message.
    KeyBytes {
        /// How many messages there are.
        rows: usize,
        /// How many bytes there are.
        bytes: usize,
    },
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooManyRows { rows } => {
                write!(f, "SHAPE: {rows} messages; a call takes at most {ROWS_MAX}, so split them")
            }
            Self::SignatureBytes { rows, bytes } => {
                let expected = rows * SIGNATURE_BYTES;
                write!(f, "SHAPE: signatures has {bytes} bytes for {rows} messages; it has 64 a message, {expected}")
            }
            Self::KeyBytes { rows, bytes } => {
                let expected = rows * PUBLIC_KEY_BYTES;
                write!(f, "SHAPE: keys has {bytes} bytes for {rows} messages; it has 32 a message, {expected}")
            }
        }
    }
}

impl std::error::Error for ShapeError {}

/// Return, for each of n signatures, whether `verify_one` would accept it (RFC 8032, section 5.1.7).
///
/// `messages` are n signed payloads, whose lengths may differ; `signatures` 64 n bytes, of which row i signs
/// `messages[i]`; `keys` 32 n bytes, compressed, in the same row order, of registered keys. Batching changes the cost,
/// never an answer.
///
/// Whoever verifies more than once keeps a `Verifier`.
///
/// # Errors
/// `ShapeError` where the row counts disagree or exceed `ROWS_MAX`.
pub fn verify_batch(messages: &[&[u8]], signatures: &[u8], keys: &[u8]) -> Result<Vec<bool>, ShapeError> {
    Verifier::portable(0).verify_batch(messages, signatures, keys)
}

/// What verifies batches: the fast path where library and processor have it, and what is remembered about keys.
///
/// Memory is bounded by `known_keys_max`: 2.8 KB a key on the fast path, 0.4 KB a key besides. Keys that do not repeat
/// evict those that do; that costs time, up to that of a key never seen, and never changes an answer.
pub struct Verifier {
    lanes: Option<Lanes>,
    why_portable: String,
    points: Points,
    undecided: Vec<usize>,
}

impl Verifier {
    /// Return a verifier that remembers `known_keys_max` keys, on the fast path if the processor has AVX-512 IFMA and the
    /// library passes its trial, else on the portable one; `why_portable` says which of the two it was.
    ///
    /// # Errors
    /// `LibraryError` where the file is no such library, or cannot be used for a reason that is not the processor's.
    pub fn fastest(library: &Path, known_keys_max: usize) -> Result<Self, LibraryError> {
        match Self::with_library(library, known_keys_max) {
            Err(error @ (LibraryError::Processor | LibraryError::Verdict)) => {
                Ok(Self { why_portable: error.to_string(), ..Self::portable(known_keys_max) })
            }
            loaded => loaded,
        }
    }

    /// Return a verifier on the path that every processor has: curve25519-dalek.
    #[must_use]
    pub fn portable(known_keys_max: usize) -> Self {
        let why_portable = "IFMA_NONE: no library of the fast path was named".to_owned();
        Self { lanes: None, why_portable, points: Points::new(known_keys_max), undecided: Vec::new() }
    }

    /// Return a verifier on the fast path, whose library is the file `library`.
    ///
    /// # Errors
    /// `LibraryError` where the processor lacks what the library was built for, the file is not such a library, or
    /// the library does not give RFC 8032's verdicts.
    pub fn with_library(library: &Path, known_keys_max: usize) -> Result<Self, LibraryError> {
        let lanes = Lanes::load(library, known_keys_max)?;
        Ok(Self { lanes: Some(lanes), why_portable: String::new(), ..Self::portable(known_keys_max) })
    }

    /// Return which arithmetic verifies: `ifma` or `dalek`. The former becomes the latter if its library ever fails.
    #[must_use]
    pub fn path(&self) -> &'static str {
        if self.lanes.is_some() { "ifma" } else { "dalek" }
    }

    /// Return why the path is not `ifma`, starting with a stable word; empty where it is.
    #[must_use]
    pub fn why_portable(&self) -> &str {
        &self.why_portable
    }

    /// Return what the function `verify_batch` returns.
    ///
    /// # Errors
    /// `ShapeError` where the row counts disagree or exceed `ROWS_MAX`.
    pub fn verify_batch(
        &mut self,
        messages: &[&[u8]],
        signatures: &[u8],
        keys: &[u8],
    ) -> Result<Vec<bool>, ShapeError> {
        let rows = Rows::of(messages, signatures, keys)?;
        let mut verdicts = vec![false; messages.len()];
        self.undecided.clear();
        self.undecided.extend((0..messages.len()).filter(|&row| refusal_by_bytes(&rows.signatures[row]).is_none()));
        let split = if self.lanes.is_some() { rows_for_lanes(self.undecided.len()) } else { 0 };
        let (by_lanes, mut by_dalek) = self.undecided.split_at(split);
        if let Some(lanes) = &mut self.lanes
            && !lanes.verify(&rows, by_lanes, &mut verdicts)
        {
            // It panicked, which no input is known to bring about: what it left behind is not trusted again.
            self.lanes = None;
            "IFMA_FAILED: the library failed on a batch, which was verified again".clone_into(&mut self.why_portable);
            by_dalek = &self.undecided;
        }
        for chunk in by_dalek.chunks(ENCODED_TOGETHER) {
            verify_by_dalek(&rows, chunk, &mut self.points, &mut verdicts);
        }
        Ok(verdicts)
    }
}

/// n messages, signatures and keys, in the same order.
pub(super) struct Rows<'a> {
    pub(super) messages: &'a [&'a [u8]],
    pub(super) signatures: &'a [[u8; SIGNATURE_BYTES]],
    pub(super) keys: &'a [Key],
}

impl<'a> Rows<'a> {
    fn of(messages: &'a [&'a [u8]], signatures: &'a [u8], keys: &'a [u8]) -> Result<Self, ShapeError> {
        let rows = messages.len();
        if rows > ROWS_MAX {
            return Err(ShapeError::TooManyRows { rows });
        }
        if signatures.len() != rows * SIGNATURE_BYTES {
            return Err(ShapeError::SignatureBytes { rows, bytes: signatures.len() });
        }
        if keys.len() != rows * PUBLIC_KEY_BYTES {
            return Err(ShapeError::KeyBytes { rows, bytes: keys.len() });
        }
        Ok(Self { messages, signatures: signatures.as_chunks().0, keys: keys.as_chunks().0 })
    }
}

/// Return how many of `rows` go to the lanes: a chunk of few rows costs as much as a full one, so its rows are dearer
/// there than one by one.
fn rows_for_lanes(rows: usize) -> usize {
    let left_over = rows % LANES;
    if left_over < LANES_WORTHWHILE { rows - left_over } else { rows }
}

/// Fewest rows of a chunk for which the lanes are cheaper than curve25519-dalek: 70 us a chunk against 19 us a row.
const LANES_WORTHWHILE: usize = 4;

/// Write the verdicts of `chosen` rows, whose S and R are in order: encode S B - k A and compare the bytes with R, as
/// ed25519-dalek does, but with one inversion for all of them.
fn verify_by_dalek(rows: &Rows, chosen: &[usize], points: &mut Points, verdicts: &mut [bool]) {
    let mut decided = Vec::with_capacity(chosen.len());
    let mut sums = Vec::with_capacity(chosen.len());
    for &row in chosen {
        let (signature, key) = (Halves::of(&rows.signatures[row]), &rows.keys[row]);
        let (Some(minus_a), Some(s)) = (points.minus(key), Option::from(Scalar::from_canonical_bytes(*signature.s)))
        else {
            continue;
        };
        let hash = Sha512::new().chain_update(signature.r).chain_update(key).chain_update(rows.messages[row]);
        let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        sums.push(EdwardsPoint::vartime_double_scalar_mul_basepoint(&k, &minus_a, &s));
        decided.push(row);
    }
    for (row, sum) in decided.into_iter().zip(EdwardsPoint::compress_batch_alloc(&sums)) {
        verdicts[row] = sum.as_bytes() == Halves::of(&rows.signatures[row]).r;
    }
}

/// Decoded keys, each as -A: at least the last `max` different ones, at most twice as many. The old ones go when there
/// are `max` young ones, and what is asked for becomes young.
struct Points {
    max: usize,
    young: HashMap<Key, EdwardsPoint>,
    old: HashMap<Key, EdwardsPoint>,
}

impl Points {
    fn new(max: usize) -> Self {
        Self { max, young: HashMap::new(), old: HashMap::new() }
    }

    /// Return -A, or None where the key is off the curve.
    fn minus(&mut self, key: &Key) -> Option<EdwardsPoint> {
        if let Some(point) = self.young.get(key) {
            return Some(*point);
        }
        let point = match self.old.get(key) {
            Some(point) => *point,
            None => -CompressedEdwardsY(*key).decompress()?,
        };
        if self.max > 0 {
            if self.young.len() == self.max {
                std::mem::swap(&mut self.old, &mut self.young);
                self.young.clear();
            }
            self.young.insert(*key, point);
        }
        Some(point)
    }
}
