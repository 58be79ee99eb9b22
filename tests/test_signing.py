import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.domain.signing import (
    KEY_TAG,
    EnvironmentNameError,
    PrivateKeyError,
    SignedKind,
    format_private_key,
    key_id_of,
    parse_private_key,
    signed_bytes,
)
from exchange.reference import signing
from exchange.reference.signing import (
    SMALL_ORDER_POINTS,
    KeyRefusal,
    SignatureRefusal,
    key_refusal,
    public_key_of,
    sign,
    signature_refusal,
    verify_case,
    verify_one,
)
from tests import ed25519_oracle as oracle
from tests.ed25519_oracle import TORSION, B, L, P
from tests.vectors import make_ed25519

ROOT = Path(__file__).parent.parent
RULE_FILE = Path(__file__).parent / "vectors" / "ed25519_rule.json"
RULE = json.loads(RULE_FILE.read_text())["vectors"]
SAMPLES = Path(os.environ.get("CLOB_SAMPLE_DATA") or ROOT.parent / "shared" / "data")
RFC_8032_FILE = SAMPLES / "ed25519" / "rfc8032_ed25519.json"
TEST_SIZE = int(os.environ.get("CLOB_TEST_SIZE", "1"))

SEED = bytes(range(32))
PUBLIC_KEY = public_key_of(SEED)
MESSAGE = b"one message"
SIGNATURE = sign(SEED, MESSAGE)


def parts_of(vector: dict[str, str]) -> tuple[bytes, bytes, bytes]:
    return tuple(bytes.fromhex(vector[field]) for field in ("public_key", "message", "signature"))  # type: ignore[return-value]


def of_class(*reasons: str) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in RULE if vector.get("reason") in reasons]


def openssl_accepts(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


# --- the rule on vectors


@pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["name"]) for vector in RULE])
def test_every_case_has_the_verdict_and_reason_that_its_file_states(vector: dict[str, str]) -> None:
    assert verify_case(*parts_of(vector)) == vector.get("reason")
    assert ("reason" in vector) == (vector["expected"] == "refuse")


def test_the_oracle_gives_every_case_the_same_verdict_and_reason() -> None:
    assert [oracle.reason(*parts_of(vector)) for vector in RULE] == [vector.get("reason") for vector in RULE]


def test_every_reason_has_a_case_and_every_case_a_reason_of_the_rule() -> None:
    assert {vector["reason"] for vector in RULE if "reason" in vector} == {*KeyRefusal, *SignatureRefusal}


def test_the_cases_are_what_their_program_makes() -> None:
    assert json.dumps(make_ed25519.vectors(), indent=2) + "\n" == RULE_FILE.read_text()


@pytest.mark.skipif(not RFC_8032_FILE.exists(), reason=f"needs {RFC_8032_FILE}; CLOB_SAMPLE_DATA names another folder")
def test_rfc_8032_vectors_are_signed_and_accepted_as_printed() -> None:
    vectors = json.loads(RFC_8032_FILE.read_text())["vectors"]
    assert len(vectors) == 5
    for vector in vectors:
        seed, (public_key, message, signature) = bytes.fromhex(vector["seed"]), parts_of(vector)
        assert public_key_of(seed) == oracle.public_key_of(seed) == public_key
        assert sign(seed, message) == oracle.sign(seed, message) == signature
        assert verify_case(public_key, message, signature) is None


# --- the key rule


def test_the_table_of_small_orders_is_the_torsion_of_the_curve() -> None:
    assert frozenset(point.encode() for point in TORSION) == SMALL_ORDER_POINTS
    assert [point.order() for point in TORSION] == [1, 8, 4, 8, 2, 8, 4, 8]


def test_every_y_near_both_ends_of_its_range_has_the_key_verdict_of_the_oracle() -> None:
    ys = [*range(40), *range(P - 40, 2**255)]
    keys = [oracle.encode_raw(y, sign) for y in ys for sign in (0, 1)]
    assert [key_refusal(key) for key in keys] == [oracle.key_reason(key) for key in keys]


@settings(max_examples=120, deadline=None)
@given(public_key=st.binary(min_size=32, max_size=32))
def test_random_bytes_have_the_key_verdict_of_the_oracle(public_key: bytes) -> None:
    assert key_refusal(public_key) == oracle.key_reason(public_key)


@settings(max_examples=40, deadline=None)
@given(scalar=st.integers(1, L - 1), torsion=st.integers(0, 7))
def test_a_key_may_be_registered_just_when_it_has_no_torsion(scalar: int, torsion: int) -> None:
    public_key = (scalar * B + TORSION[torsion]).encode()
    assert key_refusal(public_key) == (KeyRefusal.KEY_MIXED_ORDER if torsion else None)


def test_a_libsodium_that_takes_keys_of_order_2_l_is_not_worked_with(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (B + TORSION[4]).encode() == signing._ORDER_2L
    signing._require_subgroup_check()
    monkeypatch.setattr(signing, "crypto_core_ed25519_is_valid_point", lambda point: True)
    with pytest.raises(ImportError, match=r"LIBSODIUM_TOO_OLD.*pynacl 1\.6\.2"):
        signing._require_subgroup_check()


# --- the signature rule


@pytest.mark.parametrize("vector", of_class("S_NOT_REDUCED", "R_NON_CANONICAL", "R_SMALL_ORDER"))
def test_s_and_r_are_refused_without_asking_a_library(vector: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "_equation_holds", lambda *parts: pytest.fail("the library was asked"))
    assert signature_refusal(*parts_of(vector)) == vector["reason"]


def test_openssl_alone_would_accept_what_the_rule_refuses() -> None:
    """Why the rule does not end with the library: identity R, and keys that the key rule refuses."""
    accepted = {vector["reason"] for vector in RULE if "reason" in vector and openssl_accepts(*parts_of(vector))}
    assert accepted == {"R_SMALL_ORDER", "KEY_NON_CANONICAL", "KEY_SMALL_ORDER", "KEY_MIXED_ORDER"}


def test_every_bit_of_a_signature_counts() -> None:
    for bit in range(512):
        mutated = flip(SIGNATURE, bit)
        assert not verify_one(PUBLIC_KEY, MESSAGE, mutated), f"bit {bit} of the signature"
    for bit in range(8 * len(MESSAGE)):
        assert not verify_one(PUBLIC_KEY, flip(MESSAGE, bit), SIGNATURE), f"bit {bit} of the message"


@pytest.mark.parametrize("length", [*range(64), 65, 96, 128])
def test_a_signature_of_any_other_length_is_refused_for_its_length(length: int) -> None:
    refusal = signature_refusal(PUBLIC_KEY, MESSAGE, (SIGNATURE * 2)[:length])
    assert refusal is SignatureRefusal.SIGNATURE_LENGTH


def flip(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def encodings_of_special_points() -> list[bytes]:
    near_p = [oracle.encode_raw(P + excess, sign) for excess in range(-2, 19) for sign in (0, 1)]
    low = [oracle.encode_raw(y, sign) for y in range(6) for sign in (0, 1)]
    return [*near_p, *low, *(point.encode() for point in TORSION), B.encode(), PUBLIC_KEY]


@st.composite
def mutated_cases(draw: st.DrawFn) -> tuple[bytes, bytes, bytes]:
    """A case that was good before up to two things happened to it; the key, too, may be anything."""
    a, r = draw(st.integers(1, L - 1)), draw(st.integers(0, L - 1))
    message = draw(st.binary(max_size=40))
    a_torsion, r_torsion = draw(st.sampled_from([0] * 15 + [1, 2, 4])), draw(st.sampled_from([0] * 6 + [1, 2, 4, 7]))
    public_key, message, signature = make_ed25519._signed(
        message, a=a, r=r * draw(st.sampled_from([1] * 9 + [0])), a_torsion=a_torsion, r_torsion=r_torsion
    )
    s = int.from_bytes(signature[32:], "little")
    for _ in range(draw(st.integers(0, 2))):
        match draw(st.sampled_from(["flip", "flip key", "r", "key", "s", "random", "cut", "message"])):
            case "flip" if signature:
                signature = flip(signature, draw(st.integers(0, 8 * len(signature) - 1)))
            case "flip key":
                public_key = flip(public_key, draw(st.integers(0, 255)))
            case "r":
                signature = draw(st.sampled_from(encodings_of_special_points())) + signature[32:]
            case "key":
                public_key = draw(st.sampled_from(encodings_of_special_points()))
            case "s":
                s = (
                    draw(st.sampled_from([0, 1, s ^ 1, -s % L, s + L, L - 1, L, L + 1, 2**252, 2**253 - 1, -1]))
                    % 2**256
                )
                signature = signature[:32] + s.to_bytes(32, "little")
            case "random":
                signature = draw(st.binary(min_size=64, max_size=64))
            case "cut":
                signature = signature[: draw(st.integers(0, 64))]
            case "message":
                message += b"."
    return public_key, message, signature


@settings(max_examples=250, deadline=None)
@given(case=mutated_cases())
def test_random_and_mutated_cases_have_the_verdict_and_reason_of_the_oracle(case: tuple[bytes, bytes, bytes]) -> None:
    assert verify_case(*case) == oracle.reason(*case)


@pytest.mark.long
@settings(max_examples=20_000 * TEST_SIZE, deadline=None)
@given(case=mutated_cases())
def test_many_random_and_mutated_cases_have_the_verdict_of_the_oracle(case: tuple[bytes, bytes, bytes]) -> None:
    assert verify_case(*case) == oracle.reason(*case)


@settings(max_examples=40, deadline=None)
@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=300))
def test_what_is_signed_is_accepted_and_has_the_bytes_of_the_oracle(seed: bytes, message: bytes) -> None:
    assert public_key_of(seed) == oracle.public_key_of(seed)
    assert sign(seed, message) == oracle.sign(seed, message)
    assert verify_case(public_key_of(seed), message, sign(seed, message)) is None
    assert verify_one(public_key_of(seed), message, sign(seed, message))


# --- signed bytes, key ids, private keys


def test_signed_bytes_are_tag_environment_zero_payload() -> None:
    assert {kind: signed_bytes(kind, "test-1", b"payload") for kind in SignedKind} == {
        SignedKind.BATCH: b"clob.v1.Batch\0test-1\0payload",
        SignedKind.REGISTER: b"clob.v1.Register\0test-1\0payload",
        SignedKind.SESSION: b"clob.v1.Session\0test-1\0payload",
        SignedKind.LINK: b"clob.v1.Link\0test-1\0payload",
        SignedKind.OPERATOR: b"clob.v1.Operator\0test-1\0payload",
    }


def test_no_tag_is_a_prefix_of_another() -> None:
    tags = [KEY_TAG, *(kind.value for kind in SignedKind)]
    assert all(tag.endswith(b"\0") and tag.count(b"\0") == 1 for tag in tags)
    assert len(set(tags)) == len(tags)


# Few and alike, so that the end of one part could be taken for the start of the next.
THINGS = st.tuples(
    st.sampled_from(SignedKind),
    st.text("a-", min_size=1, max_size=3),
    st.lists(st.sampled_from(b"a-\0"), max_size=4).map(bytes),
)


@settings(max_examples=500)
@given(one=THINGS, other=THINGS)
def test_different_things_have_different_signed_bytes(
    one: tuple[SignedKind, str, bytes], other: tuple[SignedKind, str, bytes]
) -> None:
    assert (signed_bytes(*one) == signed_bytes(*other)) == (one == other)


@pytest.mark.parametrize("environment", ["a", "0", "-", "prod", "a" * 32, "eu-west-1"])
def test_an_environment_of_1_to_32_allowed_characters_is_taken(environment: str) -> None:
    assert signed_bytes(SignedKind.BATCH, environment, b"").endswith(environment.encode() + b"\0")


@pytest.mark.parametrize("environment", ["", "a" * 33, "Prod", "a b", "a\0", "prod\n", "a_b", "é", "٣"])
def test_any_other_environment_is_refused_by_name(environment: str) -> None:
    with pytest.raises(EnvironmentNameError) as error:
        signed_bytes(SignedKind.BATCH, environment, b"")
    assert error.value.reason == "INVALID_ENVIRONMENT"
    assert str(error.value).startswith("INVALID_ENVIRONMENT: environment ")
    assert repr(environment) in str(error.value)


def test_a_key_id_is_the_start_of_a_tagged_hash() -> None:
    assert key_id_of(PUBLIC_KEY) == hashlib.sha256(b"clob.v1.Key\0" + PUBLIC_KEY).digest()[:16]


def test_a_private_key_is_written_as_prefix_and_hex_and_read_back() -> None:
    assert format_private_key(SEED) == "clobsk_" + SEED.hex()
    assert parse_private_key(format_private_key(SEED)) == SEED


SECRET = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "clobsk_",
        SECRET,
        f"clobsk_{SECRET[1:]}",
        f"clobsk_{SECRET}0",
        f"clobsk_{SECRET}\n",
        f" clobsk_{SECRET}",
        f"clobsk_{SECRET.upper()}",
        f"CLOBSK_{SECRET}",
        f"clobpk_{SECRET}",
        f"clobsk_{SECRET[:-1]}g",
        f"clobsk_{SECRET[:-1]}٣",
    ],
)
def test_any_other_text_is_no_private_key_and_the_error_does_not_repeat_it(text: str) -> None:
    with pytest.raises(PrivateKeyError) as error:
        parse_private_key(text)
    assert error.value.reason == "INVALID_PRIVATE_KEY"
    shown = f"{error.value} {error.value!r} {error.value.args}"
    assert shown.startswith("INVALID_PRIVATE_KEY: ")
    assert not any(SECRET[i : i + 6] in shown.lower() for i in range(16))
    assert error.value.__cause__ is None
    assert error.value.__context__ is None
