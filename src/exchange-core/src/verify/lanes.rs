//! The fast path: the library of `ifma/`, which verifies eight signatures at once, behind what makes it safe to call.

// The library has a C interface: the only unsafe code of the crate.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fmt;
use std::path::Path;

use libloading::Library;

use super::batch::Rows;
use super::rule::from_hex;
use crate::limits::{PUBLIC_KEY_BYTES, SIGNATURE_BYTES};

/// Rows that the library verifies at once.
pub(super) const LANES: usize = 8;

const ABI: u32 = 1;

/// Why the fast path is not taken.
#[derive(Debug)]
pub enum LibraryError {
    /// No file is named: the system would take the empty path for the program itself.
    Path,
    /// The processor or the system lacks something that the library was built for: nothing of it was run.
    Processor,
    /// The file cannot be loaded, or does not have the functions.
    Load(libloading::Error),
    /// The library has another interface.
    Abi(u32),
    /// The library had no memory for the tables.
    Memory,
    /// The library refused a good signature or accepted a bad one.
    Verdict,
}

impl fmt::Display for LibraryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("IFMA_PATH: the path is empty; name the file of the library"),
            Self::Processor => f.write_str("IFMA_PROCESSOR: this processor lacks x86-64-v4 or AVX-512 IFMA"),
            Self::Load(error) => write!(f, "IFMA_LOAD: {error}"),
            Self::Abi(found) => write!(
                f,
                "IFMA_ABI: the library has interface {found}, this program wants {ABI}; `make core` builds both"
            ),
            Self::Memory => f.write_str("IFMA_MEMORY: no memory for the tables; ask for fewer known keys"),
            Self::Verdict => f.write_str("IFMA_VERDICT: the library refuses a good signature or accepts a bad one"),
        }
    }
}

impl std::error::Error for LibraryError {}

#[repr(C)]
struct MessageBytes {
    start: *const u8,
    len: usize,
}

type Abi = extern "C" fn() -> u32;
type New = extern "C" fn(usize) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void);
type Verify = unsafe extern "C" fn(
    *mut c_void,
    usize,
    *const [u8; PUBLIC_KEY_BYTES],
    *const [u8; SIGNATURE_BYTES],
    *const MessageBytes,
    *mut u8,
) -> i32;

/// A verifier of the library, and the library. Rows are gathered into buffers of its own, which are reused.
pub(super) struct Lanes {
    verifier: *mut c_void,
    verify: Verify,
    free: Free,
    keys: Vec<[u8; PUBLIC_KEY_BYTES]>,
    signatures: Vec<[u8; SIGNATURE_BYTES]>,
    messages: Vec<MessageBytes>,
    verdicts: Vec<u8>,
    _library: Library,
}

// SAFETY: the verifier owns all that it reaches (tables on the heap) and is reached through `&mut Lanes` alone; the
// views of messages are forgotten before `verify` returns.
unsafe impl Send for Lanes {}

impl Lanes {
    /// Load the library and try it on good and spoiled signatures.
    pub(super) fn load(library: &Path, known_keys_max: usize) -> Result<Self, LibraryError> {
        if library.as_os_str().is_empty() {
            return Err(LibraryError::Path);
        }
        if !processor_suffices() {
            return Err(LibraryError::Processor);
        }
        // SAFETY: loading runs the library's initializers, which are those of a Rust cdylib, on a processor that has
        // all it was built for. A file of another kind is refused by the loader or lacks the functions; whoever names
        // the file could as well name the program.
        let library = unsafe { Library::new(library) }.map_err(LibraryError::Load)?;
        // SAFETY: the types are those of `ifma/src/lib.rs`; ABI changes when they do, and it is asked first.
        let (new, free, verify) = unsafe {
            let abi: Abi = *library.get(b"exchange_ifma_abi\0").map_err(LibraryError::Load)?;
            let found = abi();
            if found != ABI {
                return Err(LibraryError::Abi(found));
            }
            let new: New = *library.get(b"exchange_ifma_new\0").map_err(LibraryError::Load)?;
            let free: Free = *library.get(b"exchange_ifma_free\0").map_err(LibraryError::Load)?;
            let verify: Verify = *library.get(b"exchange_ifma_verify\0").map_err(LibraryError::Load)?;
            (new, free, verify)
        };
        let mut lanes = Self {
            verifier: new(known_keys_max.max(1)),
            verify,
            free,
            keys: Vec::new(),
            signatures: Vec::new(),
            messages: Vec::new(),
            verdicts: Vec::new(),
            _library: library,
        };
        if lanes.verifier.is_null() {
            return Err(LibraryError::Memory);
        }
        if lanes.is_right_about_samples() { Ok(lanes) } else { Err(LibraryError::Verdict) }
    }

    /// Write the verdicts of `chosen` rows, whose S and R are in order. Return false, with nothing written, where the
    /// library failed.
    pub(super) fn verify(&mut self, rows: &Rows, chosen: &[usize], verdicts: &mut [bool]) -> bool {
        self.keys.clear();
        self.keys.extend(chosen.iter().map(|&row| rows.keys[row]));
        self.signatures.clear();
        self.signatures.extend(chosen.iter().map(|&row| rows.signatures[row]));
        self.messages.clear();
        let view_of = |message: &[u8]| MessageBytes { start: message.as_ptr(), len: message.len() };
        self.messages.extend(chosen.iter().map(|&row| view_of(rows.messages[row])));
        self.verdicts.clear();
        self.verdicts.resize(chosen.len(), 0);
        // SAFETY: the four vectors have a row for each chosen one, the messages are borrowed by `rows`, and the
        // verifier is the one that `new` returned, reached through `&mut self`.
        let status = unsafe {
            (self.verify)(
                self.verifier,
                chosen.len(),
                self.keys.as_ptr(),
                self.signatures.as_ptr(),
                self.messages.as_ptr(),
                self.verdicts.as_mut_ptr(),
            )
        };
        self.messages.clear();
        if status != 0 {
            return false;
        }
        for (&row, &verdict) in chosen.iter().zip(&self.verdicts) {
            verdicts[row] = verdict == 1;
        }
        true
    }

    /// Whether each lane accepts a good signature, refuses it under another message and refuses one whose equation
    /// holds only when it is multiplied by the cofactor, with keys that are new and then known. A library that was
    /// built wrong fails here, not in the middle of an epoch.
    fn is_right_about_samples(&mut self) -> bool {
        const ROWS: usize = SAMPLES.len() * LANES;
        let samples: [&Sample; ROWS] = std::array::from_fn(|row| &SAMPLES[(row + row / LANES) % SAMPLES.len()]);
        let rows = Rows {
            messages: &samples.map(|sample| sample.message),
            signatures: &samples.map(|sample| sample.signature),
            keys: &samples.map(|sample| sample.key),
        };
        let chosen: [usize; ROWS] = std::array::from_fn(|row| row);
        (0..2).all(|_| {
            let mut verdicts = [false; ROWS];
            self.verify(&rows, &chosen, &mut verdicts) && verdicts == samples.map(|sample| sample.accepted)
        })
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        // SAFETY: `new` returned the verifier, or null, and nothing uses it after this. The library is dropped later.
        unsafe { (self.free)(self.verifier) }
    }
}

struct Sample {
    key: [u8; PUBLIC_KEY_BYTES],
    message: &'static [u8],
    signature: [u8; SIGNATURE_BYTES],
    accepted: bool,
}

/// Test 2 of RFC 8032, section 7.1, as printed and with another message; `equation/torsion-1-in-r` of
/// `tests/vectors/ed25519_rule.json`.
const SAMPLES: [Sample; 3] = [
    Sample { key: RFC_KEY, message: b"r", signature: RFC_SIGNATURE, accepted: true },
    Sample { key: RFC_KEY, message: b"s", signature: RFC_SIGNATURE, accepted: false },
    Sample {
        key: from_hex("33d0606900771276c1b8cf9f67bff78eec74e07ed844f4cc157fa5caf421f71d"),
        message: b"any message",
        signature: from_hex(
            "6dfb0ba0258d23eab489a8e4e52d706685ad4834d30d14212d06d02465a42b4f\
             5aff1cbc63c0f078c002376f7cb5e6c7e19c7448f563e447fd2be261def4f302",
        ),
        accepted: false,
    },
];
const RFC_KEY: [u8; PUBLIC_KEY_BYTES] = from_hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
const RFC_SIGNATURE: [u8; SIGNATURE_BYTES] = from_hex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
     085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
);

/// Return whether processor and system have what `ifma/.cargo/config.toml` lets the compiler use.
#[cfg(target_arch = "x86_64")]
fn processor_suffices() -> bool {
    macro_rules! all { ($($feature:tt),*) => { true $(&& is_x86_feature_detected!($feature))* } }
    all!("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512ifma", "avx2", "avx", "fma", "bmi1", "bmi2")
        && all!("f16c", "lzcnt", "movbe", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2", "cmpxchg16b", "xsave")
}

#[cfg(not(target_arch = "x86_64"))]
fn processor_suffices() -> bool {
    false
}
