"""The verification rule (DESIGN section 3): stand-in until the full rule with its reasons is in place."""

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from nacl.bindings import crypto_core_ed25519_is_valid_point


def key_refusal(public_key: bytes) -> str | None:
    """Return why a public key may not be registered, None if it may."""
    if len(public_key) != 32 or not crypto_core_ed25519_is_valid_point(public_key):
        return "INVALID"
    return None


@lru_cache(maxsize=4096)
def _parsed(public_key: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public_key)


def verify_one(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether the signature of a registered key verifies."""
    try:
        _parsed(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def sign(seed: bytes, message: bytes) -> bytes:
    """Return the signature."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def public_key_of(seed: bytes) -> bytes:
    """Return the public key of a seed."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
