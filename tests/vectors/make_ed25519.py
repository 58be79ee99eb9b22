"""Makes ed25519_rule.json: cases for every class of the verification rule, in the format of `clob verify-vectors --help`.

Every case is built from scalars and points, its verdict is stated by hand and checked against the test-only oracle.
The same bytes come out every time: all that looks random is SHA-512 of a name.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from tests import ed25519_oracle as oracle
from tests.ed25519_oracle import IDENTITY, TORSION, B, L, P, Point

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
        "rule": "DESIGN.md section 3, Verification rule: the key rule, then the signature rule; the first reason counts",
        "encoding": "hex",
        "made_by": "tests/vectors/make_ed25519.py",
        "vectors": made,
    }


Case = dict[str, str]


def _case(name: str, reason: str | None, parts: tuple[bytes, bytes, bytes], comment: str) -> Case:
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
    a_torsion: Point = IDENTITY,
    a_bytes: bytes | None = None,
    r: int = R,
    r_torsion: Point = IDENTITY,
    r_bytes: bytes | None = None,
    hashed: tuple[bytes, bytes] | None = None,
) -> tuple[bytes, bytes, bytes]:
    """Return (key, message, signature) with A = a B + torsion, R = r B + torsion and S = r + k a.

    So 8 S B = 8 R + 8 k A always holds, and S B = R + k A where the torsions cancel. `a_bytes` and `r_bytes` stand for
    other encodings of A and R; `hashed` is what k is made of if not (R, A) as they stand.
    """
    a_bytes = a_bytes or (a * B + a_torsion).encode()
    r_bytes = r_bytes or (r * B + r_torsion).encode()
    k = oracle.challenge(*(hashed or (r_bytes, a_bytes)), message)
    return a_bytes, message, r_bytes + oracle.scalar_bytes(r + k * a)


def _holds(parts: tuple[bytes, bytes, bytes], *, cofactor: int = 1, reduce_k: bool = False) -> bool:
    """Return whether the equation holds when A and R are decoded leniently and nothing else is checked."""
    public_key, message, signature = parts
    a, r = oracle.decode_leniently(public_key), oracle.decode_leniently(signature[:32])
    assert a is not None
    assert r is not None
    k = oracle.challenge(signature[:32], public_key, message)
    s = int.from_bytes(signature[32:], "little")
    return oracle.equation_holds(a, r, s, k % L if reduce_k else k, cofactor=cofactor)


def _first(
    name: str, make: Callable[[bytes], tuple[bytes, bytes, bytes]], wanted: Callable[[tuple[bytes, bytes, bytes]], bool]
) -> tuple[bytes, bytes, bytes]:
    """Return the first case, over the messages of a name, that is wanted."""
    return next(parts for parts in map(make, _messages(name)) if wanted(parts))


def _only_cofactored(parts: tuple[bytes, bytes, bytes]) -> bool:
    return not _holds(parts) and not _holds(parts, reduce_k=True) and _holds(parts, cofactor=8)


def _in_every_way(parts: tuple[bytes, bytes, bytes]) -> bool:
    return _holds(parts) and _holds(parts, reduce_k=True) and _holds(parts, cofactor=8)


def _with_s(parts: tuple[bytes, bytes, bytes], s: int) -> tuple[bytes, bytes, bytes]:
    public_key, message, signature = parts
    return public_key, message, signature[:32] + s.to_bytes(32, "little")


def _s_of(parts: tuple[bytes, bytes, bytes]) -> int:
    return int.from_bytes(parts[2][32:], "little")


def _with_key(parts: tuple[bytes, bytes, bytes], public_key: bytes) -> tuple[bytes, bytes, bytes]:
    return public_key, *parts[1:]


def _with_r(parts: tuple[bytes, bytes, bytes], r_bytes: bytes) -> tuple[bytes, bytes, bytes]:
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
    parts = _first("short s", _signed, lambda parts: parts[2][63] == 0)
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
        if 8 * decoded == IDENTITY:
            parts = _first(
                name,
                lambda message, encoded=encoded, decoded=decoded: _signed(  # type: ignore[misc]
                    message, a=0, a_torsion=decoded, a_bytes=encoded
                ),
                _in_every_way,
            )
            comment = (
                f"Another encoding of the point of order {decoded.order()}; the equation holds for what it decodes to."
            )
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
    for i, torsion in enumerate(TORSION):
        parts = _first(
            f"small key {i}",
            lambda message, torsion=torsion: _signed(message, a=0, a_torsion=torsion),  # type: ignore[misc]
            _in_every_way,
        )
        comment = f"Key of order {ORDERS[i]}; the equation holds for this message, without any private key."
        yield _case(f"key-small-order/torsion-{i}", "KEY_SMALL_ORDER", parts, comment)
    parts = _signed(ANY_MESSAGE, a=0, r=0)
    assert parts[2] == IDENTITY.encode() + bytes(32)
    comment = "Key and R are the identity and S = 0: the equation holds for every message."
    yield _case("key-small-order/all-identity", "KEY_SMALL_ORDER", parts, comment)
    parts = _first(
        "small key and r",
        lambda message: _signed(message, a=0, a_torsion=TORSION[1], r=0, r_torsion=TORSION[7]),
        _in_every_way,
    )
    comment = "Key and R of order 8 and S = 0; the torsions cancel, so the equation holds."
    yield _case("key-small-order/s-0-torsion-cancels", "KEY_SMALL_ORDER", parts, comment)
    parts = _first(
        "small key, torsion in r",
        lambda message: _signed(message, a=0, a_torsion=TORSION[3], r_torsion=TORSION[5]),
        _in_every_way,
    )
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
    for i, torsion in enumerate(TORSION[1:], start=1):

        def make(message: bytes, torsion: Point = torsion) -> tuple[bytes, bytes, bytes]:
            return _signed(message, a_torsion=torsion)

        order = f"{ORDERS[i]}L"
        parts = _first(f"mixed key {i}", make, _in_every_way)
        comment = f"Key of order {order}; k is a multiple of {ORDERS[i]}, so the equation holds, as in most libraries."
        yield _case(f"key-mixed-order/torsion-{i}-equation-holds", "KEY_MIXED_ORDER", parts, comment)
        parts = _first(f"mixed key {i}", make, _only_cofactored)
        comment = f"Key of order {order}; the equation holds after multiplication by the cofactor only."
        yield _case(f"key-mixed-order/torsion-{i}-only-cofactored", "KEY_MIXED_ORDER", parts, comment)
    for name, reduce_k, comment in (
        (
            "reduced",
            True,
            "Key of order 8L; the equation holds for k mod L and not for k, which is where libraries differ.",
        ),
        (
            "full",
            False,
            "Key of order 8L; the equation holds for k and not for k mod L, which is where libraries differ.",
        ),
    ):
        parts = _first(
            f"{name} k",
            lambda message: _signed(message, a_torsion=TORSION[1]),
            lambda parts, reduce_k=reduce_k: (  # type: ignore[misc]
                _holds(parts, reduce_k=reduce_k) and not _holds(parts, reduce_k=not reduce_k)
            ),
        )
        yield _case(f"key-mixed-order/equation-holds-for-{name}-k", "KEY_MIXED_ORDER", parts, comment)
    parts = _first(
        "mixed key and r", lambda message: _signed(message, a_torsion=TORSION[1], r_torsion=TORSION[4]), _in_every_way
    )
    comment = "Key of order 8L and R of order 2L; the torsions cancel, so the equation holds."
    yield _case("key-mixed-order/torsion-cancels-in-r", "KEY_MIXED_ORDER", parts, comment)


def _signature_length() -> Iterator[Case]:
    parts = _first("short s", _signed, lambda parts: parts[2][63] == 0)
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
    parts = _first("small s", _signed, lambda parts: _s_of(parts) < L // 16)
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
            parts = _signed(ANY_MESSAGE, r=0, r_bytes=encoded)
            assert _in_every_way(parts)
            comment = "Another encoding of the identity; the equation holds for what it decodes to."
        elif 8 * decoded == IDENTITY:
            parts = _signed(ANY_MESSAGE, r=0, r_torsion=decoded, r_bytes=encoded)
            assert _only_cofactored(parts)
            comment = f"Another encoding of the point of order {decoded.order()}; the equation holds with the cofactor."
        else:
            parts = _with_r(_signed(ANY_MESSAGE), encoded)
            comment = f"Another encoding of a point of order {_order_name(decoded)}; no S fits it."
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
    parts = _signed(ANY_MESSAGE, r=0)
    assert _in_every_way(parts)
    comment = "R is the identity and S = k a: the equation holds, and S shows the private key to everyone."
    yield _case("r-small-order/identity", "R_SMALL_ORDER", parts, comment)
    for i, torsion in enumerate(TORSION[1:], start=1):
        parts = _signed(ANY_MESSAGE, r=0, r_torsion=torsion)
        assert _only_cofactored(parts)
        comment = f"R of order {ORDERS[i]}; the equation holds after multiplication by the cofactor only."
        yield _case(f"r-small-order/torsion-{i}", "R_SMALL_ORDER", parts, comment)
    parts = _with_s(_signed(ANY_MESSAGE, r=0), 0)
    yield _case(
        "r-small-order/identity-and-s-0", "R_SMALL_ORDER", parts, "R is the identity and S = 0: a blank signature."
    )


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
    for i, torsion in enumerate(TORSION[1:], start=1):
        parts = _signed(ANY_MESSAGE, r_torsion=torsion)
        assert _only_cofactored(parts)
        comment = f"R of order {ORDERS[i]}L; the equation holds after multiplication by the cofactor only."
        yield _case(f"equation/torsion-{i}-in-r", "EQUATION", parts, comment)
    for i, torsion in enumerate((TORSION[4], TORSION[4]), start=1):
        parts = _signed(ANY_MESSAGE, r=_scalar(f"cancel {i}"), r_torsion=torsion)
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
