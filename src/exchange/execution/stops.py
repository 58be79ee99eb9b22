"""When the loop of a shard stops instead of guessing."""

import json
from enum import StrEnum
from pathlib import Path


class LoopReason(StrEnum):
    """Why a shard's loop stopped. Names are stable."""

    FENCED = "FENCED"
    """Another process has taken the shard over."""
    WRONG_SHARD = "WRONG_SHARD"
    """The streams of this tag belong to another shard, environment or genesis."""
    LOG_LOST = "LOG_LOST"
    """The log ends before a position that was executed."""
    CHECKPOINT_MISSING = "CHECKPOINT_MISSING"
    """Entries were trimmed that no checkpoint here covers."""
    CHECKPOINT = "CHECKPOINT"
    """A checkpoint does not belong to this log, or this engine cannot load it."""
    GAP = "GAP"
    """Entries are missing in the middle of a stream."""
    BAD_MAC = "BAD_MAC"
    """An entry was not sealed with any of the bus keys."""
    REPLAY_MISMATCH = "REPLAY_MISMATCH"
    """The engine answers an entry otherwise than the log says."""
    POSITION = "POSITION"
    """The log does not stand where this engine does."""
    ENGINE = "ENGINE"
    """The engine cannot answer an entry."""
    BUS = "BUS"
    """The bus is in a state that nothing here can mend."""


class LoopStop(Exception):  # noqa: N818 - it is no error of the caller's; it is the loop's last word
    """The loop cannot go on. Nothing after the last commit counts; `detail` says what to do."""

    def __init__(self, reason: LoopReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def keep_evidence(folder: Path, shard: int, n: int, reason: LoopReason, **found: bytes | str | int) -> Path:
    """Write what was found into a file of its own and return its path; bytes as hex."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"shard-{shard}-{n}-{reason.lower()}.json"
    readable = {name: value.hex() if isinstance(value, bytes) else value for name, value in found.items()}
    path.write_text(json.dumps({"shard": shard, "n": n, "reason": reason, **readable}, indent=2) + "\n")
    return path
