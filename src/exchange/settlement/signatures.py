"""Samples of batch signatures, verified again with OpenSSL under the keys that shard 0 had."""

import random
from typing import Final, NamedTuple

from exchange.control.view import ControlView
from exchange.domain.events import KeyRegistered, KeyRevoked
from exchange.domain.frames import ExecutionFrame
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.reference.signing import verify_one

NEVER: Final = 2**63


class Sample(NamedTuple):
    """A batch that is to be verified again: where it stands, and what was signed by whom under which keys."""

    n: int
    batch: int
    control_n: int
    key_id: bytes
    account: int
    payload: bytes
    signature: bytes


class KeyHistory:
    """Which key was good when: the fold over shard 0 as settled, with the positions at which keys came and went.

    Of what happened before the position that it starts from it is only known that it happened: a key that was revoked
    by then is taken as good for every frame that was verified earlier.

    Attributes:
        view: shard 0 as settled.
    """

    def __init__(self, view: ControlView) -> None:
        self.view = view
        self._since: dict[bytes, int] = {}
        self._until = {key_id: view.position for key_id, key in view.keys.items() if key.revoked}

    def apply(self, frame: bytes) -> ExecutionFrame:
        """Take in the next frame of shard 0 and return what it says. Raises as `ControlView.apply` does."""
        applied = self.view.apply(frame)
        for event in applied.events:
            if isinstance(event, KeyRegistered):
                self._since[event.key_id] = applied.n
            elif isinstance(event, KeyRevoked):
                self._until[event.key_id] = applied.n
        return applied

    def refusal(self, environment: str, sample: Sample) -> str:
        """Return why a batch should not have been let in, for people; empty: it is signed as it should be.

        The frame says under which position of shard 0 its batches were verified; one that names a position that shard 0
        does not have yet is judged by all that is known.
        """
        key = self.view.keys.get(sample.key_id)
        name = sample.key_id.hex()
        if key is None:
            return f"shard 0 has no key {name}"
        if not self._since.get(sample.key_id, 0) <= sample.control_n:
            since_n = self._since[sample.key_id]
            return f"key {name} was registered at {since_n} of shard 0, the frame is of {sample.control_n}"
        if self._until.get(sample.key_id, NEVER) <= min(sample.control_n, self.view.position):
            return (
                f"key {name} was revoked by {self._until[sample.key_id]} of shard 0, the frame is of {sample.control_n}"
            )
        if self.view.user_of.get(sample.account) != key.user or key.account not in (0, sample.account):
            return f"key {name} may not sign for account {sample.account}"
        covered = signed_bytes(SignedKind.BATCH, environment, sample.payload)
        if not verify_one(key.public_key, covered, sample.signature):
            return f"the signature does not verify under key {name}"
        return ""


class Sampler:
    """Chooses one batch in so many, so that nobody can know which."""

    def __init__(self, one_in: int) -> None:
        """Make it; one_in 1: every batch, 0: none."""
        self._one_in = one_in
        self._random = random.SystemRandom()
        self._left = self._draw()

    def chosen(self, count: int) -> list[int]:
        """Return which of the next `count` batches are chosen, 0-based, ascending."""
        if not self._one_in:
            return []
        found, at = [], self._left
        while at < count:
            found.append(at)
            at += 1 + self._draw()
        self._left = at - count
        return found

    def _draw(self) -> int:
        """Return how many to leave out before the next: 0 .. 2 (one_in - 1), evenly."""
        return self._random.randrange(2 * self._one_in - 1) if self._one_in else 0
