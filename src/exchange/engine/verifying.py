"""Signatures of many batches verified together: by the core where it is built, one by one elsewhere. Same verdicts."""

from collections.abc import Sequence
from typing import Protocol

from exchange.domain.limits import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from exchange.engine.choice import DEFAULT_ENGINE
from exchange.reference.signing import verify_at_the_door

_NAMES = {
    "ifma": "the core, eight signatures at once (AVX-512 IFMA)",
    "dalek": "the core, one by one (curve25519-dalek)",
    "reference": "the reference, one by one (libsodium)",
}


class BatchVerifier(Protocol):
    """Verifies rows of messages, signatures and keys. Not for two threads at once."""

    @property
    def path(self) -> str:
        """Which arithmetic verifies now: `ifma`, which becomes `dalek` if its library fails; `dalek`; `reference`."""

    @property
    def why_portable(self) -> str:
        """Why it is not `ifma`, starting with a stable word; empty where it is."""

    def verify_batch(self, messages: Sequence[bytes], signatures: bytes, keys: bytes, /) -> list[bool]:
        """Return n verdicts for n messages, 64 * n bytes of signatures and 32 * n bytes of registered keys."""


def make_verifier(known_keys_max: int) -> BatchVerifier:
    """Return the fastest that there is here, which remembers that many keys, up to 3.2 KB each.

    By the core a signature costs 11 us in a slice of 32 where the processor has AVX-512 IFMA and 20 us elsewhere or
    alone; libsodium takes 57 us for each.

    Raises:
        ValueError: the fast path's library is there and cannot be loaded.
    """
    if DEFAULT_ENGINE != "core":
        return OneByOne()
    from exchange.engine.core import batch_verifier

    return batch_verifier(known_keys_max)


def describe_path(verifier: BatchVerifier) -> str:
    """Return which arithmetic verifies, and why it is not the fastest, as people read it."""
    why = verifier.why_portable
    return _NAMES[verifier.path] + (f"; {why}" if why else "")


def is_amiss(verifier: BatchVerifier) -> bool:
    """Return whether the fast path could be taken and its library does not do what it should."""
    return verifier.why_portable.startswith(("IFMA_VERDICT", "IFMA_FAILED"))


class OneByOne:
    """Each signature by itself, by the reference's rule."""

    path = "reference"
    why_portable = "CORE_NONE: the core is not built; `make core` builds it, with cargo"

    def verify_batch(self, messages: Sequence[bytes], signatures: bytes, keys: bytes, /) -> list[bool]:
        """Return the verdicts in the order of the rows."""
        return [
            verify_at_the_door(
                keys[PUBLIC_KEY_BYTES * row : PUBLIC_KEY_BYTES * (row + 1)],
                message,
                signatures[SIGNATURE_BYTES * row : SIGNATURE_BYTES * (row + 1)],
            )
            for row, message in enumerate(messages)
        ]
