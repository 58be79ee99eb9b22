"""The verification rule of Ed25519 (ARCHITECTURE.md), one verdict for every public key and every signature.

Libraries do all arithmetic on the curve: OpenSSL, through `cryptography`, decides the equation, and libsodium, through
`pynacl`, says whether a point lies in the prime-order subgroup. What libraries are known to disagree about (Chalkias,
Garillot, Nikolaenko, "Taming the many EdDSAs", ePrint 2020/1244) is decided here, by comparing bytes and integers, or
by the key rule. `tests/vectors/ed25519_rule.json` pins every class; `tests/ed25519_oracle.py` derives the same verdicts
from the definition of the curve.

With p = 2^255 - 19, B the base point, L the prime order of B, and 32 bytes that encode y in 255 bits and the lowest bit
of x in one (RFC 8032, section 5.1.2).
"""

from enum import StrEnum
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from nacl.bindings import crypto_core_ed25519_add, crypto_core_ed25519_is_valid_point, crypto_sign_open
from nacl.exceptions import BadSignatureError
from nacl.exceptions import RuntimeError as SodiumError

from exchange.domain.limits import PUBLIC_KEY_BYTES, SIGNATURE_BYTES

_P: Final = 2**255 - 19
_L: Final = 2**252 + 27742317777372353535851937790883648493
_SIGN_BIT: Final = 1 << 255
_POINT_BYTES: Final = 32

_IDENTITY: Final = bytes.fromhex("0100000000000000000000000000000000000000000000000000000000000000")
SMALL_ORDER_POINTS: Final = frozenset(
    {
        _IDENTITY,  # order 1
        bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),  # order 2
        bytes.fromhex("0000000000000000000000000000000000000000000000000000000000000000"),  # order 4
        bytes.fromhex("0000000000000000000000000000000000000000000000000000000000000080"),
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),  # order 8
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"),
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
    }
)
"""The canonical encodings of the eight points whose order divides 8. Derived from the curve in test_signing.py."""

_ORDER_2L: Final = bytes.fromhex("9599999999999999999999999999999999999999999999999999999999999999")
"""The base point plus the point of order 2: canonical, of large order, outside the prime-order subgroup."""

_ONLY_COFACTORED: Final = (
    bytes.fromhex("33d0606900771276c1b8cf9f67bff78eec74e07ed844f4cc157fa5caf421f71d"),
    b"any message",
    bytes.fromhex(
        "6dfb0ba0258d23eab489a8e4e52d706685ad4834d30d14212d06d02465a42b4f"
        "5aff1cbc63c0f078c002376f7cb5e6c7e19c7448f563e447fd2be261def4f302"
    ),
)
"""Key, message and signature of the vector equation/torsion-1-in-r: it holds when multiplied by the cofactor only."""


class KeyRefusal(StrEnum):
    """Why a public key is not registered, in the order in which the rule asks. Names are stable."""

    KEY_LENGTH = "KEY_LENGTH"
    """It does not have 32 bytes."""
    KEY_NON_CANONICAL = "KEY_NON_CANONICAL"
    """y >= p, or x = 0 with the sign bit set: another encoding of the point exists, or none (RFC 8032, 5.1.3)."""
    KEY_SMALL_ORDER = "KEY_SMALL_ORDER"
    """Its order is 1, 2, 4 or 8: one signature would fit many messages."""
    KEY_OFF_CURVE = "KEY_OFF_CURVE"
    """No point of the curve has this y (RFC 8032, 5.1.3, step 3)."""
    KEY_MIXED_ORDER = "KEY_MIXED_ORDER"
    """A point of order 2L, 4L or 8L: libraries disagree about signatures under it."""


class SignatureRefusal(StrEnum):
    """Why a signature under a registered key is not valid, in the order in which the rule asks. Names are stable."""

    SIGNATURE_LENGTH = "SIGNATURE_LENGTH"
    """It does not have 64 bytes."""
    S_NOT_REDUCED = "S_NOT_REDUCED"
    """S >= L: anyone could make it from a valid one (RFC 8032, 5.1.7, step 1, and 8.4)."""
    R_NON_CANONICAL = "R_NON_CANONICAL"
    """R has y >= p, or x = 0 with the sign bit set (RFC 8032, 5.1.7, step 1, and 5.1.3)."""
    R_SMALL_ORDER = "R_SMALL_ORDER"
    """R has order 1, 2, 4 or 8. The equation can hold for the identity alone: a signer without a nonce."""
    EQUATION = "EQUATION"
    """S B = R + k A does not hold (RFC 8032, 5.1.7, step 3, without the cofactor); so too where R is off the curve."""


def key_refusal(public_key: bytes) -> KeyRefusal | None:
    """Return why the key may not be registered, or None when it may: it encodes a point of order L, canonically.

    Length, canonicity and small order are decided here. The rest is libsodium's `crypto_core_ed25519_is_valid_point`
    and, to tell apart what that refuses, `crypto_core_ed25519_add`, which takes any point of the curve and no others.

    Small and mixed orders are refused so that a signature fits one message under one key (non-repudiation in "Taming
    the many EdDSAs"), and so that libraries cannot differ: under a key of order L it makes no difference whether k is
    reduced by L first, nor, for an R of order L, whether the equation is multiplied by the cofactor.
    """
    if len(public_key) != PUBLIC_KEY_BYTES:
        return KeyRefusal.KEY_LENGTH
    if not _is_canonical(public_key):
        return KeyRefusal.KEY_NON_CANONICAL
    if public_key in SMALL_ORDER_POINTS:
        return KeyRefusal.KEY_SMALL_ORDER
    if crypto_core_ed25519_is_valid_point(public_key):
        return None
    return KeyRefusal.KEY_MIXED_ORDER if _is_on_curve(public_key) else KeyRefusal.KEY_OFF_CURVE


def signature_refusal(public_key: bytes, message: bytes, signature: bytes) -> SignatureRefusal | None:
    """Return why the signature is not one of the message under the key, or None when it is (RFC 8032, section 5.1.7).

    The rule is: 64 bytes R and S; S < L; R canonical and not of small order; S B = R + k A with
    k = SHA-512(R, A, message), without the cofactor.

    OpenSSL computes S B - (k mod L) A, encodes it and compares the bytes with R. Under a registered key that is the
    rule's equation, exactly: A has order L, so k mod L does what k does; what is encoded is canonical and on the curve,
    so equal bytes are equal points, and an R that is neither equals none. The sum lies in the prime-order subgroup; of
    the eight points of small order only the identity does too, so refusing small order refuses one R that the equation
    would take. OpenSSL checks S < L as well; the rule does not rely on it.

    Args:
        public_key: registered, that is `key_refusal` is None. Not checked again.
        message: as hashed, of any length.
        signature: from anyone, of any length.
    """
    if len(signature) != SIGNATURE_BYTES:
        return SignatureRefusal.SIGNATURE_LENGTH
    r, s = signature[:_POINT_BYTES], signature[_POINT_BYTES:]
    if int.from_bytes(s, "little") >= _L:
        return SignatureRefusal.S_NOT_REDUCED
    if not _is_canonical(r):
        return SignatureRefusal.R_NON_CANONICAL
    if r in SMALL_ORDER_POINTS:
        return SignatureRefusal.R_SMALL_ORDER
    if not _equation_holds(public_key, message, signature):
        return SignatureRefusal.EQUATION
    return None


def verify_one(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether the signature is one of the message under the key, which is registered: no `signature_refusal`."""
    return signature_refusal(public_key, message, signature) is None


def verify_at_the_door(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Return what `verify_one` returns, in half the time: libsodium decides the equation, all else is the same code.

    libsodium computes S B - (k mod L) A, encodes it and compares the bytes with R, as OpenSSL does, so the argument in
    `signature_refusal` holds for it word for word. It also refuses an S that is not reduced and an R of small order,
    which are refused before. A libsodium that multiplies by the cofactor would not do, so one that does is not used:
    see `_sodium_is_cofactorless`. Whoever verifies again, by sample, uses `verify_one`: another implementation.

    57 us where OpenSSL takes 113, on one core of the machine that ARCHITECTURE.md names.
    """
    if len(signature) != SIGNATURE_BYTES:
        return False
    r = signature[:_POINT_BYTES]
    return (
        int.from_bytes(signature[_POINT_BYTES:], "little") < _L
        and _is_canonical(r)
        and r not in SMALL_ORDER_POINTS
        and _door_equation(public_key, message, signature)
    )


def verify_case(public_key: bytes, message: bytes, signature: bytes) -> KeyRefusal | SignatureRefusal | None:
    """Return the verdict on a raw case, where nobody has registered the key: the key rule, then the signature rule."""
    return key_refusal(public_key) or signature_refusal(public_key, message, signature)


def sign(seed: bytes, message: bytes) -> bytes:
    """Return the 64 bytes R and S of RFC 8032, section 5.1.6, which depend on nothing but the arguments.

    Args:
        seed: 32 bytes, the private key.
        message: of any length.
    """
    return _private_key(seed).sign(message)


def public_key_of(seed: bytes) -> bytes:
    """Return the 32-byte public key of a seed of 32 bytes (RFC 8032, section 5.1.5)."""
    return _private_key(seed).public_key().public_bytes_raw()


def _is_canonical(point: bytes) -> bool:
    """Return whether y < p and the sign bit is clear where x = 0, that is where y is 1 or -1 (RFC 8032, 5.1.3)."""
    encoded = int.from_bytes(point, "little")
    y = encoded & (_SIGN_BIT - 1)
    return y < _P and not (encoded & _SIGN_BIT and y in {1, _P - 1})


def _is_on_curve(point: bytes) -> bool:
    """Return whether a canonical encoding is one of a point: libsodium adds the identity to points, not to others."""
    try:
        crypto_core_ed25519_add(point, _IDENTITY)
    except SodiumError:
        return False
    return True


def _equation_holds(public_key: bytes, message: bytes, signature: bytes) -> bool:
    # The parsed key is not kept: parsing is 1 us of a verification's 104 us, and OpenSSL decodes the point each time.
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _equation_holds_by_sodium(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True


@lru_cache(maxsize=4096)
def _private_key(seed: bytes) -> Ed25519PrivateKey:
    """Return the key of a seed. Kept, since deriving it costs as much as a signature, 42 us."""
    return Ed25519PrivateKey.from_private_bytes(seed)


def _require_subgroup_check() -> None:
    """Refuse to work with a libsodium that takes keys of order 2L for good ones: nodes would disagree about keys.

    Raises:
        ImportError: it is older than 1.0.20-stable of 2025-12-30 (CVE-2025-69277).
    """
    if crypto_core_ed25519_is_valid_point(_ORDER_2L):
        raise ImportError(
            "LIBSODIUM_TOO_OLD: the libsodium of pynacl takes a public key outside the prime-order subgroup for a good "
            "one (CVE-2025-69277); install pynacl 1.6.2 or later, with the libsodium that comes with it"
        )


_require_subgroup_check()


def _sodium_is_cofactorless() -> bool:
    """Return whether libsodium refuses a signature whose equation holds only when it is multiplied by the cofactor."""
    return not _equation_holds_by_sodium(*_ONLY_COFACTORED)


_door_equation: Final = _equation_holds_by_sodium if _sodium_is_cofactorless() else _equation_holds
