//! Random and mutated signatures, verified on every path; `tools/compare_verifiers.py` adds the reference.
//!
//! Usage: `compare_verifiers COUNT SEED [--write] [--library=FILE]`. Each signature is verified by `verify_one`
//! (ed25519-dalek), by the portable path and, by the library that is named, on the fast path; on the latter two with its
//! key new and known, in batches of changing size.
//! Differences go to standard error and end the program with status 1. With `--write` standard output has, for each:
//! length of the message in two bytes, little-endian; kind and verdict, a byte each; key, signature, message.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT as B, EIGHT_TORSION};
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use exchange_core::verify::{LibraryError, SMALL_ORDER_POINTS, Verifier, key_refusal, verify_one};
use serde_json::json;
use sha2::{Digest, Sha512};

const KINDS: [&str; 17] = [
    "good",
    "good, scalars that are small or near L",
    "bit of R",
    "bit of S",
    "bit of the message",
    "another key",
    "S + L",
    "special S",
    "special R",
    "small-order R",
    "only with the cofactor",
    "identity R, equation holds",
    "random R",
    "random S",
    "random signature",
    "R of another signature",
    "R negated",
];
const KEYS: usize = 4_096;
const KEYS_KNOWN: usize = 1_024;
const BATCH_MAX: usize = 200;

/// Little-endian bytes of L.
const L: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

struct Key {
    secret: Scalar,
    public: [u8; 32],
}

struct Row {
    kind: usize,
    key: [u8; 32],
    message: Vec<u8>,
    signature: [u8; 64],
}

/// `SplitMix64`: the same numbers everywhere for one seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next().to_le_bytes()[0])
    }

    fn scalar(&mut self) -> Scalar {
        Scalar::from_bytes_mod_order(self.bytes())
    }

    /// A scalar whose digits or size are extreme: small, a power of two, near L or of one repeated byte.
    fn special_scalar(&mut self) -> Scalar {
        let small = Scalar::from(self.below(40) as u64);
        match self.below(5) {
            0 => small,
            1 => -small,
            2 => (0..self.below(253)).fold(Scalar::ONE, |power, _| power + power),
            3 => Scalar::from_bytes_mod_order([[0x88, 0x77, 0x78, 0xff, 0x0f, 0xf0, 0x80, 0x08][self.below(8)]; 32]),
            _ => Scalar::from(136_u64) * small,
        }
    }

    /// Bytes whose y is small, near p or has limbs of nothing but zeros and ones.
    fn special_point(&mut self) -> [u8; 32] {
        let mut bytes = match self.below(4) {
            0 => return SMALL_ORDER_POINTS[self.below(8)],
            1 => [0; 32],
            2 => [0xff; 32],
            _ => {
                let mut bytes = [0; 32];
                for word in bytes.chunks_exact_mut(4) {
                    word.fill([0, 0xff][self.below(2)]);
                }
                bytes
            }
        };
        bytes[0] = self.next().to_le_bytes()[0];
        bytes[31] = (bytes[31] & 0x7f) | [0, 0x80][self.below(2)];
        bytes
    }

    /// Lengths around the blocks of SHA-512, most of all.
    fn message(&mut self) -> Vec<u8> {
        let len = match self.below(4) {
            0 => [0, 1, 46, 47, 48, 63, 64, 65, 111, 112, 127, 128, 174, 175, 176, 191, 192, 193][self.below(18)],
            1 => self.below(1_000),
            _ => self.below(200),
        };
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// Return R = r B + torsion, and S = r + k a, so that S B = R - torsion + k A.
fn sign(key: &Key, r: Scalar, torsion: EdwardsPoint, message: &[u8]) -> [u8; 64] {
    let point = (EdwardsPoint::mul_base(&r) + torsion).compress().to_bytes();
    let hash = Sha512::new().chain_update(point).chain_update(key.public).chain_update(message);
    let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
    join(point, (r + k * key.secret).to_bytes())
}

fn join(r: [u8; 32], s: [u8; 32]) -> [u8; 64] {
    std::array::from_fn(|i| if i < 32 { r[i] } else { s[i - 32] })
}

fn plus_l(s: &[u8]) -> [u8; 32] {
    let mut carry = 0;
    std::array::from_fn(|i| {
        let sum = u16::from(s[i]) + u16::from(L[i]) + carry;
        carry = sum >> 8;
        sum.to_le_bytes()[0]
    })
}

fn make_keys(random: &mut Random) -> Vec<Key> {
    let key = |secret: Scalar| Key { secret, public: (secret * B).compress().to_bytes() };
    let mut keys = Vec::with_capacity(KEYS);
    while keys.len() < KEYS {
        let secret = if keys.len() % 4 == 0 { random.special_scalar() } else { random.scalar() };
        if secret != Scalar::ZERO {
            keys.push(key(secret));
        }
    }
    assert!(keys.iter().all(|key| key_refusal(&key.public).is_none()));
    keys
}

fn make_row(random: &mut Random, keys: &[Key]) -> Row {
    // Wrong arithmetic would show most of all in good signatures that are refused: a third more of them.
    let kind = if random.below(3) == 0 { random.below(2) } else { random.below(KINDS.len()) };
    // Half of the rows are under keys that the verifiers remember.
    let among = if random.below(2) == 0 { KEYS_KNOWN / 2 } else { KEYS };
    let key = &keys[random.below(among)];
    let (mut message, r) = (random.message(), random.scalar());
    let nonce = match KINDS[kind] {
        "good, scalars that are small or near L" => random.special_scalar(),
        "identity R, equation holds" => Scalar::ZERO,
        _ => r,
    };
    let torsion = EIGHT_TORSION[if KINDS[kind] == "only with the cofactor" { 1 + random.below(7) } else { 0 }];
    let mut signature = sign(key, nonce, torsion, &message);
    let mut public = key.public;
    match KINDS[kind] {
        "bit of R" => flip(&mut signature[..32], random),
        "bit of S" => flip(&mut signature[32..], random),
        "bit of the message" if message.is_empty() => message.push(0),
        "bit of the message" => flip(&mut message, random),
        "another key" => public = keys[random.below(KEYS)].public,
        "S + L" => signature = join(first(&signature), plus_l(&signature[32..])),
        "special S" => signature[32..].copy_from_slice(&special_s(random)),
        "special R" => signature[..32].copy_from_slice(&random.special_point()),
        "small-order R" => signature[..32].copy_from_slice(&SMALL_ORDER_POINTS[random.below(8)]),
        "random R" => signature[..32].copy_from_slice(&random.bytes::<32>()),
        "random S" => signature[32..].copy_from_slice(&random.scalar().to_bytes()),
        "random signature" => signature = random.bytes(),
        "R of another signature" => {
            signature[..32].copy_from_slice(&EdwardsPoint::mul_base(&random.scalar()).compress().to_bytes());
        }
        "R negated" => signature[31] ^= 0x80,
        _ => {}
    }
    Row { kind, key: public, message, signature }
}

fn special_s(random: &mut Random) -> [u8; 32] {
    match random.below(3) {
        0 => random.special_scalar().to_bytes(),
        1 => plus_l(&random.special_scalar().to_bytes()),
        _ => [[0xff, 0x80, 0x10, 0x0f][random.below(4)]; 32],
    }
}

fn first(signature: &[u8; 64]) -> [u8; 32] {
    std::array::from_fn(|i| signature[i])
}

fn flip(bytes: &mut [u8], random: &mut Random) {
    let bit = random.below(8 * bytes.len());
    bytes[bit / 8] ^= 1 << (bit % 8);
}

/// Return how many rows have a verdict other than `verify_one`'s on some path.
fn differences(rows: &[Row], expected: &[bool], verifiers: &mut [(&str, Verifier)]) -> usize {
    let messages: Vec<&[u8]> = rows.iter().map(|row| row.message.as_slice()).collect();
    let signatures: Vec<u8> = rows.iter().flat_map(|row| row.signature).collect();
    let keys: Vec<u8> = rows.iter().flat_map(|row| row.key).collect();
    let mut found = 0;
    for (name, verifier) in verifiers {
        let verdicts = verifier.verify_batch(&messages, &signatures, &keys).expect("rows of one shape");
        for ((row, &verdict), &expected) in rows.iter().zip(&verdicts).zip(expected) {
            if verdict != expected {
                found += 1;
                let (kind, key, signature) = (KINDS[row.kind], hex(&row.key), hex(&row.signature));
                let message = hex(&row.message);
                let case = json!({"public_key": key, "message": message, "signature": signature, "comment": kind});
                eprintln!("{name} says {verdict} where verify_one says {expected}: {case}");
            }
        }
    }
    found
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn write_row(out: &mut impl Write, row: &Row, verdict: bool) -> io::Result<()> {
    let len = u16::try_from(row.message.len()).expect("a short message");
    out.write_all(&len.to_le_bytes())?;
    out.write_all(&[u8::try_from(row.kind).expect("a small number"), u8::from(verdict)])?;
    out.write_all(&row.key)?;
    out.write_all(&row.signature)?;
    out.write_all(&row.message)
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok());
    let (Some(count), Some(seed)) = (number(0), number(1)) else {
        eprintln!("usage: compare_verifiers COUNT SEED [--write] [--library=FILE]");
        std::process::exit(2);
    };
    let write = arguments.iter().any(|argument| argument == "--write");
    let library = arguments.iter().find_map(|argument| argument.strip_prefix("--library=")).map(Path::new);
    let mut random = Random(seed);
    let keys = make_keys(&mut random);
    let mut verifiers =
        vec![("portable, keys new", Verifier::portable(0)), ("portable", Verifier::portable(KEYS_KNOWN))];
    for (name, known_keys_max) in [("ifma, keys new", 1), ("ifma", KEYS_KNOWN)] {
        match library.map(|file| Verifier::with_library(file, known_keys_max)) {
            Some(Ok(fast)) => verifiers.push((name, fast)),
            Some(Err(error @ LibraryError::Processor)) => eprintln!("{error}"),
            Some(Err(error)) => panic!("{error}"),
            None => eprintln!("no library of the fast path was named"),
        }
    }
    let names: Vec<&str> = verifiers.iter().map(|(name, _)| *name).collect();
    eprintln!("{count} signatures, seed {seed}; verify_one against {}", names.join("; "));

    let mut out = BufWriter::new(io::stdout().lock());
    let (mut done, mut found) = (0, 0);
    let (mut made, mut accepted) = ([0_u64; KINDS.len()], [0_u64; KINDS.len()]);
    while done < count {
        let size = (1 + random.below(BATCH_MAX)).min(usize::try_from(count - done).unwrap_or(BATCH_MAX));
        let rows: Vec<Row> = (0..size).map(|_| make_row(&mut random, &keys)).collect();
        let expected: Vec<bool> = rows.iter().map(|row| verify_one(&row.key, &row.message, &row.signature)).collect();
        found += differences(&rows, &expected, &mut verifiers);
        for (row, &verdict) in rows.iter().zip(&expected) {
            made[row.kind] += 1;
            accepted[row.kind] += u64::from(verdict);
            if write {
                write_row(&mut out, row, verdict)?;
            }
        }
        done += size as u64;
    }
    out.flush()?;
    for ((kind, made), accepted) in KINDS.iter().zip(made).zip(accepted) {
        eprintln!("{made:>10} {accepted:>10} accepted  {kind}");
    }
    let failed =
        verifiers.iter().filter(|(name, verifier)| name.starts_with("ifma") && verifier.path() != "ifma").count();
    eprintln!("{done} signatures, {found} differences, {failed} failures of the library");
    found += failed;
    if found > 0 {
        std::process::exit(1);
    }
    Ok(())
}
