"""The private key of a trader: made, read, and what it signs."""

import os
import secrets
from pathlib import Path
from typing import Final

from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from clob.v1 import batch_pb2, session_pb2
from exchange.domain.control import Registration, SignedRegistration
from exchange.domain.limits import SIGNATURE_BYTES
from exchange.domain.signing import (
    SEED_BYTES,
    PrivateKeyError,
    SignedKind,
    check_environment,
    format_private_key,
    key_id_of,
    parse_private_key,
    signed_bytes,
)
from exchange.reference.signing import public_key_of, sign
from exchange.wire.messages import encode

ENVIRONMENT_VARIABLE: Final = "CLOB_PRIVATE_KEY"


class PrivateKey:
    """A private key, which never shows itself: `repr` has its public name only, and `text` has to be asked for.

    Attributes:
        public_key: 32 bytes.
        key_id: 16 bytes, the key's name in batches and sessions.
    """

    __slots__ = ("_seed", "key_id", "public_key")

    def __init__(self, seed: bytes) -> None:
        assert len(seed) == SEED_BYTES, f"a seed has {SEED_BYTES} bytes, this has {len(seed)}"
        self._seed = seed
        self.public_key = public_key_of(seed)
        self.key_id = key_id_of(self.public_key)

    @classmethod
    def generate(cls) -> "PrivateKey":
        """Return a new key from the system's randomness."""
        return cls(secrets.token_bytes(SEED_BYTES))

    @classmethod
    def from_text(cls, text: str) -> "PrivateKey":
        """Return the key written as `clobsk_` and 64 hex digits; white space around it is ignored.

        Raises:
            PrivateKeyError: it is anything else. The message shows nothing of the text.
        """
        return cls(parse_private_key(text.strip()))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> "PrivateKey":
        """Return the key that a file holds.

        Raises:
            PrivateKeyError: the file holds anything else.
            OSError: it cannot be read.
        """
        try:
            return cls.from_text(Path(path).read_text("utf-8"))
        except UnicodeDecodeError:
            raise PrivateKeyError from None

    @property
    def text(self) -> str:
        """The key as text: the secret itself."""
        return format_private_key(self._seed)

    def __repr__(self) -> str:
        return f"PrivateKey(key_id={self.key_id.hex()})"

    def __reduce__(self) -> str:
        raise TypeError("a private key is not pickled; hand on its text where that is meant")

    def registration(self, environment: str, user: int = 0, account: int = 0) -> SignedRegistration:
        """Return the request to register this key, with the proof that we hold it.

        Args:
            environment: name of the environment; the proof is good for no other.
            user: user that the key is for; 0: a new user, as `POST /users` and CreateUser want it.
            account: the one account that the key may sign for; 0: all of the user's.
        """
        payload = encode(Registration(self.public_key, user, account))
        return SignedRegistration(payload, sign(self._seed, signed_bytes(SignedKind.REGISTER, environment, payload)))

    def signer(self, environment: str) -> "Signer":
        """Return what signs batches and sessions with this key for one environment and no other."""
        return Signer(self, self._seed, environment)


class Signer:
    """Signs with one key for one environment.

    Attributes:
        key: the key.
        environment: the environment.
    """

    __slots__ = ("_batch_prefix", "_seed", "_sodium_key", "environment", "key")

    def __init__(self, key: PrivateKey, seed: bytes, environment: str) -> None:
        check_environment(environment)
        self.key = key
        self.environment = environment
        self._seed = seed
        self._sodium_key = crypto_sign_seed_keypair(seed)[1]
        self._batch_prefix = signed_bytes(SignedKind.BATCH, environment, b"")

    def sign_batch(self, payload: bytes) -> batch_pb2.SignedBatch:
        """Return the payload of a batch with our signature.

        libsodium makes it in 19 us where OpenSSL takes 38; the bytes are the same, as Ed25519 has no randomness (RFC
        8032, section 5.1.6). A test compares.
        """
        signature = crypto_sign(self._batch_prefix + payload, self._sodium_key)[:SIGNATURE_BYTES]
        return batch_pb2.SignedBatch(key_id=self.key.key_id, payload=payload, signature=signature)

    def sign_session(self, challenge: bytes, valid_until_ms: int) -> session_pb2.SignedSession:
        """Return the answer to a challenge, for a session that ends at a time at the latest."""
        # protobuf writes these two fields in their canonical encoding; a test compares.
        payload = session_pb2.Session(challenge=challenge, valid_until_ms=valid_until_ms).SerializeToString()
        signature = sign(self._seed, signed_bytes(SignedKind.SESSION, self.environment, payload))
        return session_pb2.SignedSession(key_id=self.key.key_id, payload=payload, signature=signature)


def key_of(key: "PrivateKey | str | None") -> PrivateKey | None:
    """Return the key that a caller gave as itself or as text; None stays None.

    Raises:
        PrivateKeyError: the text is no private key.
    """
    return PrivateKey.from_text(key) if isinstance(key, str) else key
