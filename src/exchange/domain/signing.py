"""What is signed and how keys are named and written (ARCHITECTURE.md, "Signed bytes"). No signature is made here."""

import hashlib
import re
from enum import Enum
from typing import Final

from exchange.domain.limits import KEY_ID_BYTES, PUBLIC_KEY_BYTES

KEY_TAG: Final = b"clob.v1.Key\0"
SEED_BYTES: Final = 32
PRIVATE_KEY_PREFIX: Final = "clobsk_"

_ENVIRONMENT: Final = re.compile(r"[a-z0-9-]{1,32}")
_PRIVATE_KEY: Final = re.compile(re.escape(PRIVATE_KEY_PREFIX) + r"([0-9a-f]{64})")


class SignedKind(Enum):
    """What a signature says; the value is the tag that its signed bytes start with.

    A tag ends with its only zero byte, so no tag is a prefix of another and a signature of one kind never passes for
    another kind.
    """

    BATCH = b"clob.v1.Batch\0"
    """A trader's commands."""
    REGISTER = b"clob.v1.Register\0"
    """A new public key, signed with its own private key: the proof of possession."""
    SESSION = b"clob.v1.Session\0"
    """A login."""
    LINK = b"clob.v1.Link\0"
    """Money that the treasury sends to a shard."""
    OPERATOR = b"clob.v1.Operator\0"
    """An operator's actions on a shard."""


class EnvironmentNameError(ValueError):
    """The name of an environment does not match [a-z0-9-]{1,32}. `reason` is INVALID_ENVIRONMENT."""

    reason: Final = "INVALID_ENVIRONMENT"

    def __init__(self, environment: str) -> None:
        super().__init__(environment)
        self.environment = environment

    def __str__(self) -> str:
        return (
            f"{self.reason}: environment {self.environment!r}: a name has 1 to 32 of the characters a-z, 0-9 and '-', "
            "such as 'test-1'"
        )


class PrivateKeyError(ValueError):
    """A text is no private key. `reason` is INVALID_PRIVATE_KEY; the message never holds any of the text."""

    reason: Final = "INVALID_PRIVATE_KEY"

    def __init__(self) -> None:
        super().__init__(
            f"{self.reason}: a private key is '{PRIVATE_KEY_PREFIX}' and 64 lowercase hex digits, nothing before or "
            "after; the text given is not shown, as it may hold a secret"
        )


def environment_is_valid(environment: str) -> bool:
    """Return whether the name of an environment matches [a-z0-9-]{1,32}."""
    return _ENVIRONMENT.fullmatch(environment) is not None


def check_environment(environment: str) -> None:
    """Raise EnvironmentNameError unless the name matches [a-z0-9-]{1,32}."""
    if not environment_is_valid(environment):
        raise EnvironmentNameError(environment)


def signed_bytes(kind: SignedKind, environment: str, payload: bytes) -> bytes:
    """Return what Ed25519 signs: tag, environment, one zero byte, payload.

    Different (kind, environment, payload) give different bytes: neither a tag's body nor an environment holds a zero
    byte.

    Raises:
        EnvironmentNameError: the environment does not match [a-z0-9-]{1,32}.
    """
    check_environment(environment)
    return kind.value + environment.encode("ascii") + b"\0" + payload


def key_id_of(public_key: bytes) -> bytes:
    """Return the 16 bytes that name a public key of 32 bytes: the start of SHA-256 over KEY_TAG and the key."""
    assert len(public_key) == PUBLIC_KEY_BYTES, f"a public key has {PUBLIC_KEY_BYTES} bytes, this has {len(public_key)}"
    return hashlib.sha256(KEY_TAG + public_key).digest()[:KEY_ID_BYTES]


def format_private_key(seed: bytes) -> str:
    """Return a seed of 32 bytes as `clobsk_` and 64 lowercase hex digits: how private keys are written everywhere."""
    assert len(seed) == SEED_BYTES, f"a seed has {SEED_BYTES} bytes, this has {len(seed)}"
    return PRIVATE_KEY_PREFIX + seed.hex()


def parse_private_key(text: str) -> bytes:
    """Return the 32-byte seed that `format_private_key` wrote as `text`.

    Raises:
        PrivateKeyError: the text is anything else, uppercase digits, spaces and a line end included.
    """
    match = _PRIVATE_KEY.fullmatch(text)
    if match is None:
        raise PrivateKeyError
    return bytes.fromhex(match[1])
