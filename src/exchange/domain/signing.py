"""What a signature covers, and what keys are called (DESIGN section 3, "Signed bytes")."""

import hashlib
import re
from enum import Enum
from typing import Final

PRIVATE_KEY_PREFIX: Final = "clobsk_"
_KEY_TAG: Final = b"clob.v1.Key\0"
_ENVIRONMENT: Final = re.compile(r"[a-z0-9-]{1,32}")
_PRIVATE_KEY: Final = re.compile(r"clobsk_([0-9a-f]{64})")


class SignedKind(Enum):
    """What is signed; the value is the tag in front of it, so that a signature of one kind is never one of another."""

    BATCH = b"clob.v1.Batch\0"
    REGISTER = b"clob.v1.Register\0"
    SESSION = b"clob.v1.Session\0"
    LINK = b"clob.v1.Link\0"
    OPERATOR = b"clob.v1.Operator\0"


class EnvironmentNameError(ValueError):
    """The name of an environment is not [a-z0-9-]{1,32}."""


class PrivateKeyError(ValueError):
    """A text is no private key. The message never shows the text."""


def check_environment(environment: str) -> str:
    """Return the name if it is one.

    Raises:
        EnvironmentNameError: it does not match [a-z0-9-]{1,32}.
    """
    if not _ENVIRONMENT.fullmatch(environment):
        raise EnvironmentNameError(f"ENVIRONMENT_NAME: {environment!r} is not 1 to 32 of a-z, 0-9 and -")
    return environment


def signed_bytes(kind: SignedKind, environment: str, payload: bytes) -> bytes:
    """Return tag + environment + NUL + payload: the bytes that an Ed25519 signature of this kind covers."""
    return kind.value + check_environment(environment).encode() + b"\0" + payload


def key_id_of(public_key: bytes) -> bytes:
    """Return the 16 bytes by which a public key is named: the first of SHA-256("clob.v1.Key" NUL key)."""
    return hashlib.sha256(_KEY_TAG + public_key).digest()[:16]


def format_private_key(seed: bytes) -> str:
    """Return a 32-byte seed as it is written everywhere: clobsk_ and 64 hex digits."""
    assert len(seed) == 32
    return PRIVATE_KEY_PREFIX + seed.hex()


def parse_private_key(text: str) -> bytes:
    """Return the 32-byte seed of a written private key.

    Raises:
        PrivateKeyError: the text is not clobsk_ and 64 lowercase hex digits.
    """
    match = _PRIVATE_KEY.fullmatch(text)
    if match is None:
        raise PrivateKeyError("PRIVATE_KEY: a private key is written clobsk_ and 64 lowercase hex digits")
    return bytes.fromhex(match.group(1))
