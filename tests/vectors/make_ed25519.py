"""Makes ed25519_rule.json: cases for every class of the verification rule, as `clob verify-vectors` reads them.

Every case is built from scalars and points, its verdict is stated by hand and checked against the test-only oracle.
The same bytes come out every time: all that looks random is SHA-512 of a name.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from tests import ed25519_oracle as oracle
from tests.ed25519_oracle import IDENTITY, TORSION, B, L, P, Point

FILE: Final = "ed25519_rule.json"
ANY_MESSAGE: Final = b"any message"
OFF_CURVE_Y: Final = 2
ORDERS: Final = {0: 1, 1: 8, 2: 4, 3: 8, 4: 2, 5: 8, 6: 4, 7: 8}
"""Order of TORSION[i]."""


def vectors() -> dict[str, Any]:
    """Return the document: the same on every call."""
    made = [
        *_accepted(),
        *_key_length(),
        *_key_non_canonical(),
        *_key_small_order(),
        *_key_off_curve(),
        *_key_mixed_order(),
        *_signature_length(),
        *_s_not_reduced(),
        *_r_non_canonical(),
        *_r_small_order(),
        *_equation(),
        *_precedence(),
    ]
    names = [vector["name"] for vector in made]
    assert len(set(names)) == len(names), "two cases have one name"
    return {
        "rule": "ARCHITECTURE.md, Verification rule: the rule of keys, then of signatures; the first reason counts",
        "encoding": "hex",
        "made_by": "tests/vectors/make_ed25519.py",
        "vectors": made,
    }


Case = dict[str, str]
Parts = tuple[bytes, bytes, bytes]
"""Public key, message, signature."""


def _case(name: str, reason: str | None, parts: Parts, comment: str) -> Case:
    public_key, message, signature = parts
    assert oracle.reason(public_key, message, signature) == reason, name
    case = {
        "name": name,
        "public_key": public_key.hex(),
        "message": message.hex(),
        "signature": signature.hex(),
        "expected": "accept" if reason is None else "refuse",
        "comment": comment,
    }
    if reason is not None:
        case["reason"] = reason
    return case


def _scalar(name: str) -> int:
    return int.from_bytes(hashlib.sha512(f"clob test scalar {name}".encode()).digest(), "little") % L


def _seed(name: str) -> bytes:
    return hashlib.sha512(f"clob test seed {name}".encode()).digest()[:32]


def _messages(name: str) -> Iterator[bytes]:
    return (f"{name} {i}".encode() for i in range(10_000))


A: Final = _scalar("the key of most cases")
"""Private scalar; not clamped, which the rule cannot see."""
R: Final = _scalar("the nonce of most cases")


def _signed(
    message: bytes,
    *,
    a: int = A,
    a_torsion: int = 0,
    a_bytes: bytes | None = None,
    r: int = R,
    r_torsion: int = 0,
    r_bytes: bytes | None = None,
    hashed: tuple[bytes, bytes] | None = None,
) -> Parts:
    """Return a case with A = a B + TORSION[a_torsion], R = r B + TORSION[r_torsion] and S = r + k a.

    So 8 S B = 8 R + 8 k A always holds, and S B = R + k A where the torsions cancel. `a_bytes` and `r_bytes` stand for
    other encodings of A and R; `hashed` is what k is made of if not (R, A) as they stand.
    """
    a_bytes = a_bytes or (_times_base(a) + TORSION[a_torsion]).encode()
    r_bytes = r_bytes or (_times_base(r) + TORSION[r_torsion]).encode()
    k = oracle.challenge(*(hashed or (r_bytes, a_bytes)), message)
    return a_bytes, message, r_bytes + oracle.scalar_bytes(r + k * a)


@lru_cache
def _times_base(scalar: int) -> Point:
    return scalar * B


def _holds(parts: Parts, *, cofactor: int = 1, reduce_k: bool = False) -> bool:
    """Return whether the equation holds when A and R are decoded leniently and nothing else is checked."""
    public_key, message, signature = parts
    a, r = oracle.decode_leniently(public_key), oracle.decode_leniently(signature[:32])
    assert a is not None
    assert r is not None
    k = oracle.challenge(signature[:32], public_key, message)
    s = int.from_bytes(signature[32:], "little")
    return oracle.equation_holds(a, r, s, k % L if reduce_k else k, cofactor=cofactor)


def _in_every_way(parts: Parts) -> Parts:
    """Return a case in which the equation holds with and without the cofactor, k reduced or not."""
    return _checked(parts, for_k=True, for_reduced_k=True)


def _only_cofactored(parts: Parts) -> Parts:
    """Return a case in which the equation holds with the cofactor only."""
    return _checked(parts, for_k=False, for_reduced_k=False)


def _checked(parts: Parts, *, for_k: bool, for_reduced_k: bool) -> Parts:
    assert _holds(parts, cofactor=8)
    assert _holds(parts) == for_k
    assert _holds(parts, reduce_k=True) == for_reduced_k
    return parts


def _search(
    name: str,
    *,
    for_k: bool = True,
    for_reduced_k: bool = True,
    a: int = A,
    a_torsion: int,
    a_bytes: bytes | None = None,
    r: int = R,
    r_torsion: int = 0,
) -> Parts:
    """Return the first case, over the messages of a name, in which the torsions cancel for just these forms of k."""
    for message in _messages(name):
        parts = _signed(message, a=a, a_torsion=a_torsion, a_bytes=a_bytes, r=r, r_torsion=r_torsion)
        k = oracle.challenge(parts[2][:32], parts[0], message)
        cancels, reduced_cancels = ((r_torsion + number * a_torsion) % 8 == 0 for number in (k, k % L))
        if (cancels, reduced_cancels) == (for_k, for_reduced_k):
            return _checked(parts, for_k=for_k, for_reduced_k=for_reduced_k)
    raise AssertionError(name)


def _with_short_s() -> Parts:
    """Return a good case whose S ends with a zero byte."""
    return next(parts for parts in map(_signed, _messages("short s")) if parts[2][63] == 0)


def _with_s(parts: Parts, s: int) -> Parts:
    public_key, message, signature = parts
    return public_key, message, signature[:32] + s.to_bytes(32, "little")


def _s_of(parts: Parts) -> int:
    return int.from_bytes(parts[2][32:], "little")


def _with_key(parts: Parts, public_key: bytes) -> Parts:
    return public_key, *parts[1:]


def _with_r(parts: Parts, r_bytes: bytes) -> Parts:
    return *parts[:2], r_bytes + parts[2][32:]


def _accepted() -> Iterator[Case]:
    for length in (0, 1, 32, 111, 112, 128, 1024):
        seed, message = _seed(f"length {length}"), bytes(i % 251 for i in range(length))
        parts = (oracle.public_key_of(seed), message, oracle.sign(seed, message))
        yield _case(f"accept/message-of-{length}-bytes", None, parts, "A signature as RFC 8032 makes it.")
    for sign in (0, 1):
        seed = next(seed for i in range(99) if oracle.public_key_of(seed := _seed(f"sign {i}"))[31] >> 7 == sign)
        parts = (oracle.public_key_of(seed), ANY_MESSAGE, oracle.sign(seed, ANY_MESSAGE))
        yield _case(f"accept/sign-bit-{sign}-in-a", None, parts, f"The sign bit of the key is {sign}.")
        nonce = next(i for i in range(2, 99) if (i * B).encode()[31] >> 7 == sign)
        yield _case(
            f"accept/sign-bit-{sign}-in-r", None, _signed(ANY_MESSAGE, r=nonce), f"The sign bit of R is {sign}."
        )
    for name, a, r in (
        ("key-is-the-base-point", 1, R),
        ("key-is-minus-the-base-point", L - 1, R),
        ("r-is-the-base-point", A, 1),
        ("r-is-minus-the-base-point", A, L - 1),
        ("r-is-the-key", A, A),
        ("r-is-minus-the-key", A, L - A),
    ):
        parts = _signed(ANY_MESSAGE, a=a, r=r)
        comment = "An unwise choice of the signer, but every part is of order L and the equation holds."
        yield _case(f"accept/{name}", None, parts, comment)
    for i in (1, 2):
        comment = f"Signature {i} of 2 of one message by one key: a signer may choose any nonce."
        yield _case(f"accept/nonce-{i}", None, _signed(ANY_MESSAGE, r=_scalar(f"nonce {i}")), comment)
    parts = _with_short_s()
    yield _case("accept/s-ends-with-a-zero-byte", None, parts, "S is below 2^248: its last byte is zero.")
    payload = b"clob.v1.Batch\0test\0" + bytes.fromhex("0801")
    yield _case("accept/tagged", None, _signed(payload), "The message starts with a tag, an environment and a zero.")


def _key_length() -> Iterator[Case]:
    parts = _signed(ANY_MESSAGE)
    for name, public_key in (
        ("0", b""),
        ("31", parts[0][:31]),
        ("33", parts[0] + b"\0"),
        ("64", parts[0] * 2),
    ):
        comment = f"The key has {name} bytes, the signature is good for the key of 32 bytes that it was made from."
        yield _case(f"key-length/{name}-bytes", "KEY_LENGTH", _with_key(parts, public_key), comment)


def _non_canonical_encodings() -> Iterator[tuple[str, bytes, Point]]:
    """Yield a name, the bytes and the point of all 26 non-canonical encodings of points."""
    yield "y-1-sign-1", oracle.encode_raw(1, 1), IDENTITY
    yield "y-minus-1-sign-1", oracle.encode_raw(P - 1, 1), TORSION[4]
    for excess in range(19):
        for sign in (0, 1):
            encoded = oracle.encode_raw(P + excess, sign)
            decoded = oracle.decode_leniently(encoded)
            if decoded is not None:
                yield f"y-p-plus-{excess}-sign-{sign}", encoded, decoded


def _key_non_canonical() -> Iterator[Case]:
    for name, encoded, decoded in _non_canonical_encodings():
        if decoded in TORSION:
            parts = _search(name, a=0, a_torsion=TORSION.index(decoded), a_bytes=encoded)
            comment = f"Another encoding of the point of order {decoded.order()}; the equation holds for that point."
        else:
            parts = _with_key(_signed(ANY_MESSAGE), encoded)
            comment = f"Another encoding of a point of order {_order_name(decoded)}; nobody knows a private key of it."
        yield _case(f"key-non-canonical/{name}", "KEY_NON_CANONICAL", parts, comment)
    for sign in (0, 1):
        parts = _with_key(_signed(ANY_MESSAGE), oracle.encode_raw(P + OFF_CURVE_Y, sign))
        comment = "y >= p, and y - p is of no point either: not canonical comes before off the curve."
        yield _case(f"key-non-canonical/off-curve-sign-{sign}", "KEY_NON_CANONICAL", parts, comment)
    encoded = oracle.encode_raw(P + 1, 0)
    parts = _signed(ANY_MESSAGE, a=0, a_bytes=encoded, hashed=((R * B).encode(), IDENTITY.encode()))
    comment = "k is of the canonical encoding of the key, as by a library that encodes what it decoded."
    yield _case("key-non-canonical/k-of-the-canonical-bytes", "KEY_NON_CANONICAL", parts, comment)


def _order_name(decoded: Point) -> str:
    order = decoded.order()
    return f"{order // L}L" if order > L else "L" if order == L else str(order)


def _key_small_order() -> Iterator[Case]:
    for i in range(8):
        comment = f"Key of order {ORDERS[i]}; the equation holds for this message, without any private key."
        parts = _search(f"small key {i}", a=0, a_torsion=i)
        yield _case(f"key-small-order/torsion-{i}", "KEY_SMALL_ORDER", parts, comment)
    parts = _in_every_way(_signed(ANY_MESSAGE, a=0, r=0))
    assert parts[2] == IDENTITY.encode() + bytes(32)
    comment = "Key and R are the identity and S = 0: the equation holds for every message."
    yield _case("key-small-order/all-identity", "KEY_SMALL_ORDER", parts, comment)
    parts = _search("small key and r", a=0, a_torsion=1, r=0, r_torsion=7)
    comment = "Key and R of order 8 and S = 0; the torsions cancel, so the equation holds."
    yield _case("key-small-order/s-0-torsion-cancels", "KEY_SMALL_ORDER", parts, comment)
    parts = _search("small key, torsion in r", a=0, a_torsion=3, r_torsion=5)
    comment = "Key of order 8, R of order 8L; the torsions cancel, so the equation holds."
    yield _case("key-small-order/mixed-r-torsion-cancels", "KEY_SMALL_ORDER", parts, comment)


def _key_off_curve() -> Iterator[Case]:
    largest = next(y for y in range(P - 1, 0, -1) if oracle.x_of(y, 0) is None)
    for name, y in (("smallest-y", OFF_CURVE_Y), ("largest-y", largest)):
        for sign in (0, 1):
            parts = _with_key(_signed(ANY_MESSAGE), oracle.encode_raw(y, sign))
            comment = "y < p, but no x goes with it."
            yield _case(f"key-off-curve/{name}-sign-{sign}", "KEY_OFF_CURVE", parts, comment)


def _key_mixed_order() -> Iterator[Case]:
    for i in range(1, 8):
        parts = _search(f"mixed key {i}", a_torsion=i)
        comment = f"Key of order {ORDERS[i]}L; the torsion vanishes in k A, so the equation holds in most libraries."
        yield _case(f"key-mixed-order/torsion-{i}-equation-holds", "KEY_MIXED_ORDER", parts, comment)
        parts = _search(f"mixed key {i}", for_k=False, for_reduced_k=False, a_torsion=i)
        comment = f"Key of order {ORDERS[i]}L; the equation holds after multiplication by the cofactor only."
        yield _case(f"key-mixed-order/torsion-{i}-only-cofactored", "KEY_MIXED_ORDER", parts, comment)
    for name, other in (("k", "k mod L"), ("k-mod-l", "k")):
        parts = _search(name, for_k=name == "k", for_reduced_k=name != "k", a_torsion=1)
        comment = f"Key of order 8L; the equation does not hold for {other}: libraries differ in which they take."
        yield _case(f"key-mixed-order/equation-holds-for-{name}", "KEY_MIXED_ORDER", parts, comment)
    parts = _search("mixed key and r", a_torsion=1, r_torsion=4)
    comment = "Key of order 8L and R of order 2L; the torsions cancel, so the equation holds."
    yield _case("key-mixed-order/torsion-cancels-in-r", "KEY_MIXED_ORDER", parts, comment)


def _signature_length() -> Iterator[Case]:
    parts = _with_short_s()
    public_key, message, signature = parts
    for name, made, comment in (
        ("0-bytes", b"", "No signature."),
        ("32-bytes", signature[:32], "R only."),
        ("63-bytes", signature[:63], "The last byte of S, which is zero, was cut off."),
        ("65-bytes", signature + b"\0", "A zero byte was added; as an integer S is the same."),
        ("with-message", signature + message, "The message hangs on the signature."),
        ("twice", signature * 2, "The signature comes twice."),
    ):
        yield _case(f"signature-length/{name}", "SIGNATURE_LENGTH", (public_key, message, made), comment)


def _s_not_reduced() -> Iterator[Case]:
    parts = next(parts for parts in map(_signed, _messages("small s")) if _s_of(parts) < L // 16)
    s = _s_of(parts)
    for name, made, comment in (
        ("plus-l", s + L, "S + L: the equation holds, and anyone could have made it."),
        ("plus-2-l", s + 2 * L, "S + 2 L: the equation holds, and S has a bit above the 253rd."),
        ("plus-15-l", s + 15 * L, "S + 15 L: the equation holds, and S has 256 bits."),
        ("is-l", L, "S = L, the smallest that is refused."),
        ("is-l-plus-1", L + 1, "S = L + 1."),
        ("is-2-to-the-253", 2**253, "S = 2^253: a check of the top three bits alone sees it."),
        ("below-2-to-the-253", 2**253 - 1, "S = 2^253 - 1: a check of the top three bits alone does not see it."),
        ("largest", 2**256 - 1, "S has all bits set."),
        ("with-bit-253", s | 1 << 253, "A good S with bit 253 set: a library may mask it."),
        ("with-bit-254", s | 1 << 254, "A good S with bit 254 set: a library may mask it."),
        ("with-bit-255", s | 1 << 255, "A good S with bit 255 set: a library may mask it."),
    ):
        yield _case(f"s-not-reduced/{name}", "S_NOT_REDUCED", _with_s(parts, made), comment)


def _r_non_canonical() -> Iterator[Case]:
    for name, encoded, decoded in _non_canonical_encodings():
        if decoded == IDENTITY:
            parts = _in_every_way(_signed(ANY_MESSAGE, r=0, r_bytes=encoded))
            comment = "Another encoding of the identity; the equation holds for that point."
        elif decoded in TORSION:
            parts = _only_cofactored(_signed(ANY_MESSAGE, r=0, r_bytes=encoded))
            comment = f"Another encoding of the point of order {decoded.order()}; the equation holds with the cofactor."
        else:
            parts = _with_r(_signed(ANY_MESSAGE), encoded)
            comment = f"Another encoding of a point of order {_order_name(decoded)}; nobody knows an S that fits it."
        yield _case(f"r-non-canonical/{name}", "R_NON_CANONICAL", parts, comment)
    for sign in (0, 1):
        parts = _with_r(_signed(ANY_MESSAGE), oracle.encode_raw(P + OFF_CURVE_Y, sign))
        comment = "y >= p, and y - p is of no point either: not canonical comes before the equation."
        yield _case(f"r-non-canonical/off-curve-sign-{sign}", "R_NON_CANONICAL", parts, comment)
    for name, encoded in (("y", oracle.encode_raw(P + 1, 0)), ("sign", oracle.encode_raw(1, 1))):
        parts = _signed(ANY_MESSAGE, r=0, r_bytes=encoded, hashed=(IDENTITY.encode(), (A * B).encode()))
        comment = "The identity; k is of its canonical encoding, as by a library that encodes what it decoded."
        yield _case(f"r-non-canonical/{name}-k-of-the-canonical-bytes", "R_NON_CANONICAL", parts, comment)


def _r_small_order() -> Iterator[Case]:
    parts = _in_every_way(_signed(ANY_MESSAGE, r=0))
    comment = "R is the identity and S = k a: the equation holds, and S shows the private key to everyone."
    yield _case("r-small-order/identity", "R_SMALL_ORDER", parts, comment)
    for i in range(1, 8):
        parts = _only_cofactored(_signed(ANY_MESSAGE, r=0, r_torsion=i))
        comment = f"R of order {ORDERS[i]}; the equation holds after multiplication by the cofactor only."
        yield _case(f"r-small-order/torsion-{i}", "R_SMALL_ORDER", parts, comment)
    parts = _with_s(_signed(ANY_MESSAGE, r=0), 0)
    comment = "R is the identity and S = 0: a blank signature."
    yield _case("r-small-order/identity-and-s-0", "R_SMALL_ORDER", parts, comment)


def _equation() -> Iterator[Case]:
    good = _signed(ANY_MESSAGE)
    public_key, message, signature = good
    s = _s_of(good)
    yield _case("equation/s-0", "EQUATION", _with_s(good, 0), "S = 0, the smallest that is looked at.")
    yield _case("equation/s-l-minus-1", "EQUATION", _with_s(good, L - 1), "S = L - 1, the largest that is looked at.")
    yield _case("equation/s-plus-1", "EQUATION", _with_s(good, s + 1), "S is one too large.")
    yield _case("equation/s-negated", "EQUATION", _with_s(good, L - s), "S is L - S.")
    minus_r = signature[:31] + bytes([signature[31] ^ 0x80])
    yield _case("equation/r-negated", "EQUATION", _with_r(good, minus_r), "The sign bit of R is flipped: R is -R.")
    minus_a = public_key[:31] + bytes([public_key[31] ^ 0x80])
    yield _case("equation/key-negated", "EQUATION", _with_key(good, minus_a), "The sign bit of the key is flipped.")
    parts = _with_key(good, (_scalar("another key") * B).encode())
    yield _case("equation/another-key", "EQUATION", parts, "The signature is another key's.")
    yield _case("equation/another-message", "EQUATION", (public_key, message + b".", signature), "One byte was added.")
    yield _case("equation/no-message", "EQUATION", (public_key, b"", signature), "The message was left out.")
    halves = next(
        signature[32:] + signature[:32]
        for i in range(999)
        if int.from_bytes((signature := _signed(ANY_MESSAGE, r=i + 2)[2])[:32], "little") < L
    )
    yield _case("equation/halves-swapped", "EQUATION", (public_key, message, halves), "S comes first, then R.")
    for sign in (0, 1):
        parts = _with_r(good, oracle.encode_raw(OFF_CURVE_Y, sign))
        yield _case(f"equation/r-off-curve-sign-{sign}", "EQUATION", parts, "R has y < p, but no x goes with it.")
    for i in range(1, 8):
        parts = _only_cofactored(_signed(ANY_MESSAGE, r_torsion=i))
        comment = f"R of order {ORDERS[i]}L; the equation holds after multiplication by the cofactor only."
        yield _case(f"equation/torsion-{i}-in-r", "EQUATION", parts, comment)
    for i in (1, 2):
        parts = _only_cofactored(_signed(ANY_MESSAGE, r=_scalar(f"cancel {i}"), r_torsion=4))
        comment = f"{i} of 2 whose torsions of order 2 cancel where one equation without the cofactor is made of both."
        yield _case(f"equation/cancels-in-a-batch-{i}", "EQUATION", parts, comment)
    for name, flag, context, hashed in (("ctx", 0, b"clob", message), ("ph", 1, b"", hashlib.sha512(message).digest())):
        prefix = b"SigEd25519 no Ed25519 collisions" + bytes([flag, len(context)]) + context
        k = int.from_bytes(hashlib.sha512(prefix + (R * B).encode() + public_key + hashed).digest(), "little")
        parts = (public_key, message, (R * B).encode() + oracle.scalar_bytes(R + k * A))
        yield _case(f"equation/ed25519{name}", "EQUATION", parts, f"A good Ed25519{name} signature (RFC 8032, 5.1).")
    for name, ys in (("smallest", range(2, 999)), ("largest", range(P - 2, P - 999, -1))):
        y = next(y for y in ys if oracle.key_reason(oracle.encode_raw(y, 0)) is None)
        parts = _with_key(good, oracle.encode_raw(y, 0))
        comment = f"The key has the {name} y of all keys that may be registered; nobody knows its private key."
        yield _case(f"equation/{name}-key", "EQUATION", parts, comment)


def _precedence() -> Iterator[Case]:
    good = _signed(ANY_MESSAGE)
    bad_r = oracle.encode_raw(P + 1, 0)
    for name, reason, parts, comment in (
        ("key-length-first", "KEY_LENGTH", (b"\xff", b"", b""), "Everything is wrong."),
        (
            "key-before-signature",
            "KEY_SMALL_ORDER",
            (TORSION[2].encode(), b"", bad_r + L.to_bytes(32, "little")),
            "Key, R and S are refused; the key rule comes first.",
        ),
        (
            "key-before-signature-length",
            "KEY_NON_CANONICAL",
            (oracle.encode_raw(P + 1, 1), b"", b"\xff" * 63),
            "Key and length of the signature are refused.",
        ),
        ("s-before-r", "S_NOT_REDUCED", _with_r(_with_s(good, L), bad_r), "S and R are refused; S comes first."),
        (
            "canonical-before-small-order",
            "R_NON_CANONICAL",
            _with_r(good, bad_r),
            "R is not canonical, and decodes to a point of small order.",
        ),
        (
            "small-order-before-equation",
            "R_SMALL_ORDER",
            _with_r(good, TORSION[1].encode()),
            "R is of small order, and the equation does not hold in any way.",
        ),
    ):
        yield _case(f"precedence/{name}", reason, parts, comment)


if __name__ == "__main__":
    json.dump(vectors(), sys.stdout, indent=2)
    sys.stdout.write("\n")
