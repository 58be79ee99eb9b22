"""When an engine stops instead of guessing (ARCHITECTURE.md, principle 7)."""

from enum import StrEnum


class StopReason(StrEnum):
    POSITION = "POSITION"
    """The entry is not the next one, or its time is before the last one's: the sequencer is broken."""
    LINK_CONFLICT = "LINK_CONFLICT"
    """The treasury signed two links of one sequence number: money would be made or lost."""
    UNKNOWN_RULES = "UNKNOWN_RULES"
    """The shard runs under rules that this program does not know."""
    INVARIANT = "INVARIANT"
    """A rule that can never be broken was: the program is wrong."""


class EngineStop(Exception):  # noqa: N818 - it is no error of the caller's; it is the engine's last word
    """The engine cannot answer the entry, nor a later one. Throw its state away; the entry is the evidence."""

    def __init__(self, reason: StopReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def invariant(holds: bool, name: str, detail: str = "") -> None:
    """Stop unless `holds`. `name` is the invariant's number in ARCHITECTURE.md, such as I-03."""
    if not holds:
        raise EngineStop(StopReason.INVARIANT, f"{name} {detail}".rstrip())
