"""Token buckets: how much each sender may do per second, in bounded memory."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Final

from exchange.engine.choice import DEFAULT_ENGINE

if TYPE_CHECKING:
    from exchange.ingress.door import KeyBuckets

CROWD: Final = object()
"""Bucket that all new senders share while more of them are busy than have a bucket of their own."""


class TokenBuckets:
    """One bucket per sender, full at first.

    A bucket is kept as the moment at which it will be full again, so one that is full needs no memory: forgetting it
    changes nothing. A hostile crowd can therefore not make others lose or gain anything but a place of their own.
    """

    def __init__(self, per_second: float, burst: float, senders_max: int = 65_536) -> None:
        """Make buckets that hold `burst` tokens and gain `per_second`; a rate of 0 means no limit at all."""
        assert per_second >= 0
        assert burst > 0
        self.per_second = per_second
        self._seconds_per_token = 1 / per_second if per_second else 0.0
        self._burst_s = burst * self._seconds_per_token
        self._full_at_s: dict[Hashable, float] = {}
        self._senders_max = senders_max
        self._next_sweep_s = 0.0

    def __len__(self) -> int:
        return len(self._full_at_s)

    def take(self, sender: Hashable, tokens: float, now_s: float) -> float:
        """Take tokens and return 0; or take none and return the seconds after which they will be there.

        More tokens than a bucket holds are let through when it is full, and then the sender waits for all of them: a
        message of the largest allowed size is never refused for ever.
        """
        if not self._seconds_per_token:
            return 0.0
        if sender not in self._full_at_s and len(self._full_at_s) >= self._senders_max and not self._make_room(now_s):
            sender = CROWD
        wait_s = self._wait_s(sender, tokens, now_s)
        if not wait_s:
            full_at_s = max(self._full_at_s.get(sender, now_s), now_s)
            self._full_at_s[sender] = full_at_s + tokens * self._seconds_per_token
        return wait_s

    def charge(self, sender: Hashable, tokens: float, now_s: float) -> None:
        """Take tokens whether they are there or not; what a sender owes is never more than its bucket holds."""
        if not self._seconds_per_token:
            return
        if sender not in self._full_at_s and len(self._full_at_s) >= self._senders_max and not self._make_room(now_s):
            sender = CROWD
        full_at_s = max(self._full_at_s.get(sender, now_s), now_s) + tokens * self._seconds_per_token
        self._full_at_s[sender] = min(full_at_s, now_s + 2 * self._burst_s)

    def has_more_than(self, tokens: float, sender: Hashable, now_s: float) -> bool:
        """Return whether one more token could be taken after so many, one by one; takes none."""
        if sender not in self._full_at_s and len(self._full_at_s) >= self._senders_max:
            sender = CROWD
        return not self._wait_s(sender, 1, now_s, tokens)

    def give_back(self, sender: Hashable, tokens: float) -> None:
        """Undo a take: what it was for turned out not to be the sender's doing."""
        if sender in self._full_at_s:
            self._full_at_s[sender] -= tokens * self._seconds_per_token

    def _wait_s(self, sender: Hashable, tokens: float, now_s: float, before: float = 0) -> float:
        """Return how long these tokens have to be waited for when `before` others are taken first."""
        missing_s = max(self._full_at_s.get(sender, now_s) - now_s, 0.0) + before * self._seconds_per_token
        wait_s = missing_s + min(tokens * self._seconds_per_token, self._burst_s) - self._burst_s
        return wait_s if wait_s > 1e-9 else 0.0

    def _make_room(self, now_s: float) -> bool:
        """Forget the buckets that are full; return whether there is room now. Looks at most ten times a second."""
        if now_s >= self._next_sweep_s:
            self._next_sweep_s = now_s + 0.1
            self._full_at_s = {sender: at for sender, at in self._full_at_s.items() if at > now_s}
        return len(self._full_at_s) < self._senders_max


def key_buckets(per_second: float, burst: float) -> "KeyBuckets":
    """Return buckets of keys: in the core where that is built, which looks at them once per batch."""
    if DEFAULT_ENGINE != "core":
        return TokenBuckets(per_second, burst)
    from exchange_core import KeyRates

    return KeyRates(per_second, burst)
