"""What can go wrong on the bus: a refusal, which is an answer, or no answer at all."""

from enum import StrEnum
from typing import Final


class BusReason(StrEnum):
    """Why a script refused. Nothing was written. Names are stable.

    Refusals of `ingest` other than UNDECIDED also say that the frame is not in the log from an earlier attempt:
    repetitions are looked for before anything else is checked.
    """

    NOT_INITIALISED = "NOT_INITIALISED"
    """The shard has no head: settlement-plane has not made it yet, or the server has lost everything."""
    WRONG_SHARD = "WRONG_SHARD"
    """The keys of this tag belong to another shard, environment or genesis."""
    NOT_APPROVED = "NOT_APPROVED"
    """The server is not the one that was approved: it was restarted or replaced and may have lost entries."""
    STOPPED = "STOPPED"
    """The shard's writers were stopped; the detail says why."""
    UNKNOWN_FORMAT = "UNKNOWN_FORMAT"
    """The order frame is not of format 1; it would stop every engine."""
    FRAME_ORIGIN = "FRAME_ORIGIN"
    """The order frame does not start with the ingress and counter that it was sent under."""
    FRAME_SIZE = "FRAME_SIZE"
    """The order frame has no bytes, or more than LIMITS allow."""
    COUNTER_GAP = "COUNTER_GAP"
    """The counter is not the next one: frames of this ingress process are missing, or a day has passed since its last
    one. Start over under a new ingress id."""
    COUNTER_CONFLICT = "COUNTER_CONFLICT"
    """The counter was used for another frame, or for an older one than the last."""
    CLOCK_SKEW = "CLOCK_SKEW"
    """The frame's time and the bus' are more than half a second apart."""
    OVERLOADED = "OVERLOADED"
    """As much waits to be executed or to be trimmed as may."""
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    """The server has no memory left; it says so before a script begins."""
    FENCED = "FENCED"
    """Another matcher has taken the shard over, under a higher epoch."""
    POSITION = "POSITION"
    """The log does not stand where the writer believes."""
    INCONSISTENT = "INCONSISTENT"
    """Head and streams disagree: somebody else has written or deleted. Nobody may go on."""


UNDECIDED: Final = frozenset(
    {BusReason.NOT_INITIALISED, BusReason.WRONG_SHARD, BusReason.NOT_APPROVED, BusReason.OUT_OF_MEMORY}
)
"""Refusals of `ingest` that say nothing of an earlier attempt of the frame: it may be in the log from before."""


class BusRefusal(Exception):  # noqa: N818 - it is an answer, not an error
    """The bus answered no, and nothing was written.

    Attributes:
        reason: why.
        detail: for people: what, which value, which rule, which way out.
        retry_after_ms: when to ask again, in milliseconds; 0: waiting alone does not help.
    """

    def __init__(self, reason: BusReason, detail: str, retry_after_ms: int = 0) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.retry_after_ms = retry_after_ms


class BusUnavailable(Exception):  # noqa: N818
    """No answer, or none that can be used: whether anything was written is not known.

    Call the same script again with the same arguments; it finds out.
    """
