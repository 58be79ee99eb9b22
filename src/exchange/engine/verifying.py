"""Signatures of many batches verified together: by the core where it is built, one by one elsewhere. Same verdicts."""

from collections.abc import Callable, Sequence

from exchange.domain.limits import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from exchange.reference.signing import verify_at_the_door

VerifyRows = Callable[[Sequence[bytes], bytes, bytes], list[bool]]
"""Takes n messages, 64 * n bytes of signatures and 32 * n bytes of registered keys, row by row; returns n verdicts."""


def make_verifier(known_keys_max: int) -> VerifyRows:
    """Return what verifies, and remembers that many keys, up to 3.2 KB each. Not for two threads at once.

    By the core a signature costs 11 us in a slice of 32 where the processor has AVX-512 IFMA and 20 us elsewhere or
    alone; libsodium takes 57 us for each.
    """
    try:
        import exchange_core
    except ModuleNotFoundError:
        return _one_by_one
    return exchange_core.Verifier(known_keys_max).verify_batch


def _one_by_one(messages: Sequence[bytes], signatures: bytes, keys: bytes) -> list[bool]:
    return [
        verify_at_the_door(
            keys[PUBLIC_KEY_BYTES * row : PUBLIC_KEY_BYTES * (row + 1)],
            message,
            signatures[SIGNATURE_BYTES * row : SIGNATURE_BYTES * (row + 1)],
        )
        for row, message in enumerate(messages)
    ]
