"""Makes signed_bytes.json: what signatures cover, what keys are called, and one signed message of each kind.

What is covered is put together by hand, and signed with libsodium instead of the library that the exchange signs with.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

from nacl.signing import SigningKey

from exchange.domain.commands import Batch, CancelAllOrders, OrderType, PlaceOrder, Side, SignedBatch
from exchange.domain.control import Registration, SignedRegistration
from exchange.domain.operations import (
    Link,
    Operation,
    OperatorRole,
    RaiseControlFloor,
    SignedLink,
    SignedOperation,
    Transfer,
)
from exchange.domain.record import Record
from exchange.wire.messages import encode
from tests.support.plain import ENCODING, to_plain

SEED = bytes(range(32))
TAGS = {
    "BATCH": b"clob.v1.Batch\0",
    "REGISTER": b"clob.v1.Register\0",
    "SESSION": b"clob.v1.Session\0",
    "LINK": b"clob.v1.Link\0",
    "OPERATOR": b"clob.v1.Operator\0",
}
ENVIRONMENTS = ("production", "test-1", "a", "0123456789-abcdefghijklmnopqrstu")
BAD_ENVIRONMENTS = ("", "0123456789-abcdefghijklmnopqrstuv", "Test", "test_1", "test 1", "test\0", "test\n", "tést")


def vectors() -> dict[str, Any]:
    """Return the document."""
    return {
        "format": 1,
        "what": "What Ed25519 signs, what keys are called, and how private keys are written.",
        "rule": (
            "ARCHITECTURE.md, Signed bytes: tag + environment + one zero byte + payload; the tag ends in a zero byte "
            "too. key_id is the first 16 bytes of SHA-256(`key_tag` + public key). An environment matches "
            "[a-z0-9-]{1,32}. A private key is written `clobsk_` and the 64 lowercase hex digits of its seed."
        ),
        "encoding": ENCODING,
        "tags": {kind: tag.hex() for kind, tag in TAGS.items()},
        "key_tag": b"clob.v1.Key\0".hex(),
        "keys": [_key(seed) for seed in (SEED, bytes(32), b"\xff" * 32)],
        "signatures": [*_signatures()],
        "bad_environments": list(BAD_ENVIRONMENTS),
        "bad_private_keys": [*_bad_private_keys()],
        "messages": [*_messages()],
    }


def _key(seed: bytes) -> dict[str, str]:
    public_key = bytes(SigningKey(seed).verify_key)
    return {
        "private_key": f"clobsk_{seed.hex()}",
        "seed": seed.hex(),
        "public_key": public_key.hex(),
        "key_id": hashlib.sha256(b"clob.v1.Key\0" + public_key).digest()[:16].hex(),
    }


def _covered(kind: str, environment: str, payload: bytes) -> bytes:
    return TAGS[kind] + environment.encode() + b"\0" + payload


def _signatures() -> Iterator[dict[str, str]]:
    for kind in TAGS:
        for environment in ENVIRONMENTS:
            for payload in (b"", b"payload", b"\0"):
                covered = _covered(kind, environment, payload)
                yield {
                    "kind": kind,
                    "environment": environment,
                    "payload": payload.hex(),
                    "covered": covered.hex(),
                    "seed": SEED.hex(),
                    "signature": SigningKey(SEED).sign(covered).signature.hex(),
                }


def _bad_private_keys() -> Iterator[str]:
    good = f"clobsk_{SEED.hex()}"
    yield from ("", SEED.hex(), good[:-1], good + "0", good.upper(), f" {good}", f"{good}\n", good.replace("_", "-"))
    yield good.replace("f", "F")


def _messages() -> Iterator[dict[str, Any]]:
    """Yield a signed message of each kind, as it stands in an order frame."""
    environment = "test-1"
    public_key = bytes(SigningKey(SEED).verify_key)
    key_id = bytes.fromhex(_key(SEED)["key_id"])

    def signed(kind: str, payload: Record) -> tuple[bytes, bytes]:
        data = encode(payload)
        return data, SigningKey(SEED).sign(_covered(kind, environment, data)).signature

    order = PlaceOrder(
        market=1, side=Side.BUY, order_type=OrderType.LIMIT, price_ticks=101_000, quantity_lots=25, client_order_id=1
    )
    batch = Batch(7, 1, 1, 1_700_000_030_000, (order,))
    many = Batch(7, 1, 2, 1_700_000_030_000, (CancelAllOrders(market=1), order))
    link = Link(0, 1, 1, 17, (Transfer(7, 1, 1_000),))
    operation = Operation(1, OperatorRole.TREASURY, 1, (RaiseControlFloor(12),))
    registration = Registration(public_key)
    for kind, payload, message in (
        ("BATCH", batch, SignedBatch(key_id, *signed("BATCH", batch))),
        ("BATCH", many, SignedBatch(key_id, *signed("BATCH", many))),
        ("LINK", link, SignedLink(*signed("LINK", link))),
        ("OPERATOR", operation, SignedOperation(*signed("OPERATOR", operation))),
        ("REGISTER", registration, SignedRegistration(*signed("REGISTER", registration))),
    ):
        yield {
            "kind": kind,
            "environment": environment,
            "public_key": public_key.hex(),
            "payload_message": type(payload).__name__,
            "payload": to_plain(payload),
            "message": type(message).__name__,
            "signed": to_plain(message),
            "hex": encode(message).hex(),
        }
