//! The key rule, the signature rule and the order in which they ask.

use std::fmt;

use curve25519_dalek::edwards::CompressedEdwardsY;
use ed25519_dalek::{Signature, Verifier, VerifyingKey};

use crate::limits::{PUBLIC_KEY_BYTES, SIGNATURE_BYTES};

const POINT_BYTES: usize = 32;
const SIGN_BIT: u64 = 1 << 63;

/// p = 2^255 - 19, in words of 64 bits, lowest first.
const P: Words = [0xffff_ffff_ffff_ffed, u64::MAX, u64::MAX, u64::MAX >> 1];
/// -1 modulo p.
const P_LESS_1: Words = [P[0] - 1, P[1], P[2], P[3]];
/// L = 2^252 + 27742317777372353535851937790883648493, the order of the base point.
const L: Words = [0x5812_631a_5cf5_d3ed, 0x14de_f9de_a2f7_9cd6, 0, 1 << 60];

type Words = [u64; 4];

/// The canonical encodings of the eight points whose order divides 8, as the reference has them.
pub const SMALL_ORDER_POINTS: [[u8; POINT_BYTES]; 8] = [
    from_hex("0100000000000000000000000000000000000000000000000000000000000000"),
    from_hex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    from_hex("0000000000000000000000000000000000000000000000000000000000000000"),
    from_hex("0000000000000000000000000000000000000000000000000000000000000080"),
    from_hex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    from_hex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"),
    from_hex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    from_hex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
];

/// Why a public key is not registered, in the order in which the rule asks. Names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyRefusal {
    /// It does not have 32 bytes.
    KeyLength,
    /// y >= p, or x = 0 with the sign bit set: another encoding of the point exists, or none (RFC 8032, 5.1.3).
    KeyNonCanonical,
    /// Its order is 1, 2, 4 or 8: one signature would fit many messages.
    KeySmallOrder,
    /// No point of the curve has this y (RFC 8032, 5.1.3, step 3).
    KeyOffCurve,
    /// A point of order 2L, 4L or 8L: libraries disagree about signatures under it.
    KeyMixedOrder,
}

impl KeyRefusal {
    /// Every reason, in the order in which the rule asks.
    pub const ALL: [Self; 5] =
        [Self::KeyLength, Self::KeyNonCanonical, Self::KeySmallOrder, Self::KeyOffCurve, Self::KeyMixedOrder];

    /// Return the reference's name of the reason, such as `KEY_LENGTH`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KeyLength => "KEY_LENGTH",
            Self::KeyNonCanonical => "KEY_NON_CANONICAL",
            Self::KeySmallOrder => "KEY_SMALL_ORDER",
            Self::KeyOffCurve => "KEY_OFF_CURVE",
            Self::KeyMixedOrder => "KEY_MIXED_ORDER",
        }
    }
}

/// Why a signature under a registered key is not valid, in the order in which the rule asks. Names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureRefusal {
    /// It does not have 64 bytes.
    SignatureLength,
    /// S >= L: anyone could make it from a valid one (RFC 8032, 5.1.7, step 1, and 8.4).
    SNotReduced,
    /// R has y >= p, or x = 0 with the sign bit set (RFC 8032, 5.1.7, step 1, and 5.1.3).
    RNonCanonical,
    /// R has order 1, 2, 4 or 8. The equation can hold for the identity alone: a signer without a nonce.
    RSmallOrder,
    /// S B = R + k A does not hold (RFC 8032, 5.1.7, step 3, without the cofactor); so too where R is off the curve.
    Equation,
}

impl SignatureRefusal {
    /// Every reason, in the order in which the rule asks.
    pub const ALL: [Self; 5] =
        [Self::SignatureLength, Self::SNotReduced, Self::RNonCanonical, Self::RSmallOrder, Self::Equation];

    /// Return the reference's name of the reason, such as `S_NOT_REDUCED`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SignatureLength => "SIGNATURE_LENGTH",
            Self::SNotReduced => "S_NOT_REDUCED",
            Self::RNonCanonical => "R_NON_CANONICAL",
            Self::RSmallOrder => "R_SMALL_ORDER",
            Self::Equation => "EQUATION",
        }
    }
}

impl fmt::Display for KeyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for SignatureRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a raw case is refused, where nobody has registered the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// By the key rule, which asks first.
    Key(KeyRefusal),
    /// By the signature rule.
    Signature(SignatureRefusal),
}

impl Refusal {
    /// Return the reference's name of the reason.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key(refusal) => refusal.name(),
            Self::Signature(refusal) => refusal.name(),
        }
    }
}

/// Return why the key may not be registered, or None when it may: it encodes a point of order L, canonically.
///
/// Length, canonicity and small order are decided here; whether the point exists and has order L, by curve25519-dalek.
#[must_use]
pub fn key_refusal(public_key: &[u8]) -> Option<KeyRefusal> {
    let Ok(public_key) = <&[u8; PUBLIC_KEY_BYTES]>::try_from(public_key) else {
        return Some(KeyRefusal::KeyLength);
    };
    if !is_canonical(public_key) {
        return Some(KeyRefusal::KeyNonCanonical);
    }
    if SMALL_ORDER_POINTS.contains(public_key) {
        return Some(KeyRefusal::KeySmallOrder);
    }
    match CompressedEdwardsY(*public_key).decompress() {
        None => Some(KeyRefusal::KeyOffCurve),
        Some(point) if !point.is_torsion_free() => Some(KeyRefusal::KeyMixedOrder),
        Some(_) => None,
    }
}

/// Return why the signature is not one of the message under the key, or None when it is (RFC 8032, section 5.1.7).
///
/// The rule is: 64 bytes R and S; S < L; R canonical and not of small order; S B = R + k A with
/// k = SHA-512(R, A, message), without the cofactor.
///
/// ed25519-dalek, like the reference's OpenSSL, computes S B - (k mod L) A, encodes it and compares the bytes with R.
/// Under a registered key that is the rule's equation, exactly: A has order L, so k mod L does what k does; what is
/// encoded is canonical and on the curve, so equal bytes are equal points, and an R that is neither equals none.
///
/// `public_key` is registered, that is `key_refusal` is None; not checked again. `message` is as hashed, of any length.
/// `signature` is from anyone, of any length.
#[must_use]
pub fn signature_refusal(
    public_key: &[u8; PUBLIC_KEY_BYTES],
    message: &[u8],
    signature: &[u8],
) -> Option<SignatureRefusal> {
    let Ok(signature) = <&[u8; SIGNATURE_BYTES]>::try_from(signature) else {
        return Some(SignatureRefusal::SignatureLength);
    };
    refusal_by_bytes(signature)
        .or_else(|| (!equation_holds(public_key, message, signature)).then_some(SignatureRefusal::Equation))
}

/// Return whether the signature is one of the message under the key, which is registered: no `signature_refusal`.
#[must_use]
pub fn verify_one(public_key: &[u8; PUBLIC_KEY_BYTES], message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
    refusal_by_bytes(signature).is_none() && equation_holds(public_key, message, signature)
}

/// Return the verdict on a raw case, where nobody has registered the key: the key rule, then the signature rule.
#[must_use]
pub fn case_refusal(public_key: &[u8], message: &[u8], signature: &[u8]) -> Option<Refusal> {
    if let Some(refusal) = key_refusal(public_key) {
        return Some(Refusal::Key(refusal));
    }
    let public_key = <&[u8; PUBLIC_KEY_BYTES]>::try_from(public_key).ok()?;
    signature_refusal(public_key, message, signature).map(Refusal::Signature)
}

/// Return what the bytes alone decide, in the rule's order: S, then R. None leaves the equation to be asked.
pub(super) fn refusal_by_bytes(signature: &[u8; SIGNATURE_BYTES]) -> Option<SignatureRefusal> {
    let Halves { r, s } = Halves::of(signature);
    if !is_less(words(s), L) {
        return Some(SignatureRefusal::SNotReduced);
    }
    if !is_canonical(r) {
        return Some(SignatureRefusal::RNonCanonical);
    }
    SMALL_ORDER_POINTS.contains(r).then_some(SignatureRefusal::RSmallOrder)
}

fn equation_holds(public_key: &[u8; PUBLIC_KEY_BYTES], message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
    VerifyingKey::from_bytes(public_key).is_ok_and(|key| key.verify(message, &Signature::from_bytes(signature)).is_ok())
}

/// Return whether y < p and the sign bit is clear where x = 0, that is where y is 1 or -1 (RFC 8032, 5.1.3).
fn is_canonical(point: &[u8; POINT_BYTES]) -> bool {
    let mut y = words(point);
    let negative = y[3] & SIGN_BIT != 0;
    y[3] &= !SIGN_BIT;
    is_less(y, P) && !(negative && (y == [1, 0, 0, 0] || y == P_LESS_1))
}

/// A signature's R and S.
pub(super) struct Halves<'a> {
    pub(super) r: &'a [u8; POINT_BYTES],
    pub(super) s: &'a [u8; POINT_BYTES],
}

impl<'a> Halves<'a> {
    pub(super) fn of(signature: &'a [u8; SIGNATURE_BYTES]) -> Self {
        let (halves, _) = signature.as_chunks();
        Self { r: &halves[0], s: &halves[1] }
    }
}

fn words(bytes: &[u8; 32]) -> Words {
    let (chunks, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|i| u64::from_le_bytes(chunks[i]))
}

fn is_less(left: Words, right: Words) -> bool {
    left.iter().rev().lt(right.iter().rev())
}

/// Return the bytes that 2 N lowercase digits write. For constants: anything else does not compile.
pub(super) const fn from_hex<const N: usize>(hex: &str) -> [u8; N] {
    const fn digit(hex: u8) -> u8 {
        match hex {
            b'0'..=b'9' => hex - b'0',
            b'a'..=b'f' => hex - b'a' + 10,
            _ => panic!("a digit is one of 0-9 and a-f"),
        }
    }
    assert!(hex.len() == 2 * N);
    let (hex, mut bytes, mut i) = (hex.as_bytes(), [0; N], 0);
    while i < N {
        bytes[i] = digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]);
        i += 1;
    }
    bytes
}
