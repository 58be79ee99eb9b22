"""FOR TESTS ONLY: Ed25519 from the definition of the curve, to make vectors and to judge them a second time.

Slow, not constant in time, and never to be imported by the package. It shares no code and no method with
`exchange.reference.signing`: points are decoded and compared as points where OpenSSL compares bytes, orders are found
by multiplying, and k is never reduced.
"""

import hashlib
from typing import Final, NamedTuple

P: Final = 2**255 - 19
L: Final = 2**252 + 27742317777372353535851937790883648493
D: Final = -121665 * pow(121666, -1, P) % P
SQRT_OF_MINUS_1: Final = pow(2, (P - 1) // 4, P)


class Point(NamedTuple):
    """x = X / Z, y = Y / Z, x y = T / Z on -x^2 + y^2 = 1 + D x^2 y^2."""

    X: int
    Y: int
    Z: int
    T: int

    def __add__(self, other: "Point") -> "Point":  # type: ignore[override]
        # The unified addition of Hisil, Wong, Carter, Dawson (2008): it holds for all points, doubling included.
        a = (self.Y - self.X) * (other.Y - other.X) % P
        b = (self.Y + self.X) * (other.Y + other.X) % P
        c = 2 * D * self.T * other.T % P
        d = 2 * self.Z * other.Z % P
        e, f, g, h = b - a, d - c, d + c, b + a
        return Point(e * f % P, g * h % P, f * g % P, e * h % P)

    def doubled(self) -> "Point":
        a, b = self.X * self.X % P, self.Y * self.Y % P
        h, g = a + b, a - b
        e = h - (self.X + self.Y) ** 2 % P
        f = 2 * self.Z * self.Z + g
        return Point(e * f % P, g * h % P, f * g % P, e * h % P)

    def __neg__(self) -> "Point":
        return Point(-self.X % P, self.Y, self.Z, -self.T % P)

    def __rmul__(self, scalar: int) -> "Point":  # type: ignore[override]
        total = IDENTITY
        for bit in f"{scalar:b}":
            total = total.doubled()
            if bit == "1":
                total += self
        return total

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Point)
        return (self.X * other.Z - other.X * self.Z) % P == 0 and (self.Y * other.Z - other.Y * self.Z) % P == 0

    def __hash__(self) -> int:
        return hash(self.encode())

    def affine(self) -> tuple[int, int]:
        inverse = pow(self.Z, -1, P)
        return self.X * inverse % P, self.Y * inverse % P

    def encode(self) -> bytes:
        x, y = self.affine()
        return encode_raw(y, x & 1)

    def order(self) -> int:
        """Return 1, 2, 4, 8, L, 2L, 4L or 8L."""
        for order in (1, 2, 4, 8):
            if order * self == IDENTITY:
                return order
        prime = L * self
        return L * next(order for order in (1, 2, 4, 8) if order * prime == IDENTITY)


def point(x: int, y: int) -> Point:
    assert (-x * x + y * y - 1 - D * x * x * y * y) % P == 0
    return Point(x % P, y % P, 1, x * y % P)


IDENTITY: Final = Point(0, 1, 1, 0)


def encode_raw(y: int, sign: int) -> bytes:
    """Return 32 bytes with any y of 255 bits, y >= P included."""
    return (y | sign << 255).to_bytes(32, "little")


def x_of(y: int, sign: int) -> int | None:
    """Return the x with this lowest bit, 0 or its only value where x = 0, or None where the curve has no such y."""
    numerator, denominator = (y * y - 1) % P, (D * y * y + 1) % P
    square = numerator * pow(denominator, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    if root * root % P != square:
        root = root * SQRT_OF_MINUS_1 % P
    if root * root % P != square:
        return None
    return root if root & 1 == sign else -root % P


def decode_leniently(encoded: bytes) -> Point | None:
    """Return the point of 32 bytes as a lenient library reads them: y modulo P, the sign of x = 0 ignored."""
    value = int.from_bytes(encoded, "little")
    y, sign = value % 2**255 % P, value >> 255
    x = x_of(y, sign)
    return None if x is None else point(x, y)


def decode(encoded: bytes) -> Point | None:
    """Return the point that encodes to exactly these bytes, if one does."""
    decoded = decode_leniently(encoded)
    return decoded if decoded is not None and decoded.encode() == encoded else None


B: Final = point(x_of(4 * pow(5, -1, P) % P, 0) or 0, 4 * pow(5, -1, P) % P)


def _generator_of_order_8() -> Point:
    for y in range(2, 100):
        x = x_of(y, 0)
        if x is not None and (candidate := L * point(x, y)).order() == 8:
            return candidate
    raise AssertionError("no point of order 8")


TORSION: Final = tuple(i * _generator_of_order_8() for i in range(8))
"""The eight points of small order; the order of TORSION[i] is 8 / gcd(i, 8)."""


def challenge(r: bytes, public_key: bytes, message: bytes) -> int:
    """Return k, 512 bits, not reduced."""
    return int.from_bytes(hashlib.sha512(r + public_key + message).digest(), "little")


def secret_scalar(seed: bytes) -> int:
    """Return the scalar of a seed (RFC 8032, section 5.1.5)."""
    head = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little")
    return head % 2**254 // 8 * 8 + 2**254


def public_key_of(seed: bytes) -> bytes:
    return (secret_scalar(seed) * B).encode()


def sign(seed: bytes, message: bytes) -> bytes:
    """Return the signature of RFC 8032, section 5.1.6."""
    a, prefix = secret_scalar(seed), hashlib.sha512(seed).digest()[32:]
    nonce = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % L
    r = (nonce * B).encode()
    return r + scalar_bytes(nonce + challenge(r, public_key_of(seed), message) * a)


def scalar_bytes(scalar: int) -> bytes:
    return (scalar % L).to_bytes(32, "little")


def equation_holds(public_key: Point, r: Point, s: int, k: int, *, cofactor: int = 1) -> bool:
    """Return whether cofactor S B = cofactor (R + k A), as points."""
    return cofactor * (s * B) == cofactor * (r + k * public_key)


def key_reason(public_key: bytes) -> str | None:
    """Return the reason of the key rule, or None, by the definitions of its words."""
    if len(public_key) != 32:
        return "KEY_LENGTH"
    lenient = decode_leniently(public_key)
    if int.from_bytes(public_key, "little") % 2**255 >= P or (lenient is not None and lenient.encode() != public_key):
        return "KEY_NON_CANONICAL"
    if lenient is None:
        return "KEY_OFF_CURVE"
    order = lenient.order()
    if order <= 8:
        return "KEY_SMALL_ORDER"
    return None if order == L else "KEY_MIXED_ORDER"


def signature_reason(public_key: bytes, message: bytes, signature: bytes) -> str | None:
    """Return the reason of the signature rule, or None, under a key that decodes."""
    a = decode(public_key)
    assert a is not None
    if len(signature) != 64:
        return "SIGNATURE_LENGTH"
    r_bytes, s = signature[:32], int.from_bytes(signature[32:], "little")
    if s >= L:
        return "S_NOT_REDUCED"
    lenient = decode_leniently(r_bytes)
    if int.from_bytes(r_bytes, "little") % 2**255 >= P or (lenient is not None and lenient.encode() != r_bytes):
        return "R_NON_CANONICAL"
    if lenient is None:
        return "EQUATION"
    if 8 * lenient == IDENTITY:
        return "R_SMALL_ORDER"
    return None if equation_holds(a, lenient, s, challenge(r_bytes, public_key, message)) else "EQUATION"


def reason(public_key: bytes, message: bytes, signature: bytes) -> str | None:
    """Return the reason of the whole rule on a raw case, or None where it accepts."""
    return key_reason(public_key) or signature_reason(public_key, message, signature)
