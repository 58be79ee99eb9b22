"""Links on their way: which there are, which are to be sent now, and which wait for an answer.

A link exists from the moment its sender's frame is settled until its receiver's is, in which it was applied. It is
sent as often as it takes: links of a pair in order, never more than LINK_DIGESTS_MAX of them without an answer, and
again when the receiver has passed the entry that had it without applying it. No clock and no bus in here.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from sortedcontainers import SortedDict

from exchange.domain.limits import FRAME_BYTES_MAX, FRAME_LINKS_MAX, LINK_DIGESTS_MAX
from exchange.domain.operations import Link
from exchange.domain.rejects import RejectReason
from exchange.settlement.ledger import LinkAnswer
from exchange.wire.messages import encode

FRAME_LINK_BYTES: Final = FRAME_BYTES_MAX // 2
"""Most bytes of links in one frame."""
_LINK_OVERHEAD_BYTES: Final = 80

_READY: Final = -1
_IN_HAND: Final = 0


class InTransit(NamedTuple):
    """A link that its receiver has not shown yet; `debited_us` is the time of the entry that debited it."""

    debited_us: int
    link: Link


class _Waiting:
    """A link and where it is: ready, being handed to the bus, or in an entry of the receiver."""

    __slots__ = ("debited_us", "link", "place", "size")

    def __init__(self, link: Link, debited_us: int) -> None:
        self.link = link
        self.debited_us = debited_us
        self.size = len(encode(link)) + _LINK_OVERHEAD_BYTES
        self.place = _READY


class LinksInTransit:
    """All links on their way, by receiver.

    Attributes:
        refused: why a receiver refuses links of ours otherwise than as a gap, by (sender, receiver).
    """

    def __init__(self) -> None:
        self.refused: dict[tuple[int, int], RejectReason] = {}
        # By receiver, then (sender, sequence).
        self._by_receiver: dict[int, SortedDict[tuple[int, int], _Waiting]] = {}

    def add(self, link: Link, debited_us: int) -> None:
        """Add a link whose sender's frame is settled."""
        of_receiver = self._by_receiver.setdefault(link.to_shard, SortedDict())
        of_receiver.setdefault((link.from_shard, link.sequence), _Waiting(link, debited_us))

    def settled(self, to_shard: int, n: int, answers: Iterable[LinkAnswer]) -> None:
        """Take in what a receiver's frames up to n say; what was in them and they do not show is ready again."""
        waiting = self._by_receiver.get(to_shard)
        if waiting is None:
            return
        for answer in answers:
            if not answer.reason:
                waiting.pop((answer.from_shard, answer.sequence), None)
                self.refused.pop((answer.from_shard, to_shard), None)
            elif answer.reason != RejectReason.LINK_GAP:
                self.refused[answer.from_shard, to_shard] = RejectReason(answer.reason)
        for one in waiting.values():
            if 0 < one.place <= n:
                one.place = _READY

    def take(self, to_shard: int) -> list[Link]:
        """Return the links that the next frame for a receiver takes, which are then in hand; none: []."""
        chosen: list[Link] = []
        size = 0
        unanswered: dict[int, int] = {}
        for (from_shard, _), one in self._by_receiver.get(to_shard, {}).items():
            unanswered[from_shard] = unanswered.get(from_shard, 0) + 1
            if unanswered[from_shard] > LINK_DIGESTS_MAX or one.place != _READY:
                continue
            if len(chosen) == FRAME_LINKS_MAX or (chosen and size + one.size > FRAME_LINK_BYTES):
                break
            one.place = _IN_HAND
            size += one.size
            chosen.append(one.link)
        return chosen

    def entered(self, links: Iterable[Link], n: int) -> None:
        """Say that links which were taken are in entry n of their receiver."""
        self._place(links, n)

    def give_back(self, links: Iterable[Link]) -> None:
        """Say that links which were taken are not in the log, and are ready again."""
        self._place(links, _READY)

    def receivers(self) -> list[int]:
        """Return the shards that something is ready for or waits in."""
        return [shard for shard, waiting in self._by_receiver.items() if waiting]

    def all(self) -> list[InTransit]:
        """Return what is on its way, oldest first, then by sender, receiver and sequence number."""
        found = [
            InTransit(one.debited_us, one.link) for waiting in self._by_receiver.values() for one in waiting.values()
        ]
        return sorted(
            found, key=lambda one: (one.debited_us, one.link.from_shard, one.link.to_shard, one.link.sequence)
        )

    def _place(self, links: Iterable[Link], place: int) -> None:
        for link in links:
            waiting = self._by_receiver.get(link.to_shard)
            one = waiting.get((link.from_shard, link.sequence)) if waiting else None
            if one is not None:
                one.place = place
