"""The chain of a shard's execution frames: what is taken in is the next frame of the same log, and nothing else.

Frames come from our own log, so the protobuf library parses them (upb, about a microsecond for an event); the strict
decoder stays with those who decide. Every link of the chain is checked, and whatever does not fit stops the reader:
a book that was guessed is worse than none.
"""

import hashlib
from enum import StrEnum
from typing import Final, NoReturn

from google.protobuf.message import DecodeError

from clob.v1.frame_pb2 import ExecutionFrame
from exchange.wire.hashing import CHAIN_TAG

RULES_MAX: Final = 1
"""Newest version of the rules whose events are understood here; they are from 1 on."""
_FORMAT_1: Final = b"\x08\x01"
"""How every frame of format 1 begins: field 1, a varint, one."""


class FoldReason(StrEnum):
    """Why a fold stopped. Names are stable."""

    MALFORMED_FRAME = "MALFORMED_FRAME"
    """The bytes are no execution frame of this version."""
    FRAME_GAP = "FRAME_GAP"
    """The frame is not the next one."""
    CHAIN_BROKEN = "CHAIN_BROKEN"
    """The frame does not carry the hash of the one before it."""
    TIME_BACKWARDS = "TIME_BACKWARDS"
    """The frame's time is before the last one's."""
    UNKNOWN_RULES = "UNKNOWN_RULES"
    """The frame was made under rules that this program does not know."""
    UNKNOWN_EVENT = "UNKNOWN_EVENT"
    """An event is of a kind that this program does not know."""
    UNKNOWN_MARKET = "UNKNOWN_MARKET"
    """An event is in a market that was never defined."""
    UNKNOWN_ORDER = "UNKNOWN_ORDER"
    """An event is of an order that is not open."""
    SEQUENCE_GAP = "SEQUENCE_GAP"
    """Events of an account or a market are not numbered densely."""
    LINK_GAP = "LINK_GAP"
    """A link was sent or received out of order."""
    FEE_MISMATCH = "FEE_MISMATCH"
    """A trade's fee is not what the order's rate and its earlier fills make it."""
    ORDER_MISMATCH = "ORDER_MISMATCH"
    """What an event says of an order is not what the events before it made of it."""
    OVERDRAWN = "OVERDRAWN"
    """An account has less than nothing."""
    UNKNOWN_WITHDRAWAL = "UNKNOWN_WITHDRAWAL"
    """A withdrawal was closed that was not open."""
    INVARIANT = "INVARIANT"
    """A rule that can never be broken was: the program is wrong."""


class FoldError(Exception):
    """The fold cannot go on and must be thrown away; start again from a checkpoint. The frame is the evidence.

    Attributes:
        reason: the rule that is broken.
        shard, n: where: position of the frame.
    """

    def __init__(self, reason: FoldReason, shard: int, n: int, detail: str) -> None:
        super().__init__(f"{reason}: frame {n} of shard {shard}: {detail}")
        self.reason = reason
        self.shard = shard
        self.n = n


class Chain:
    """Where a reader of a shard's frames stands.

    Attributes:
        shard: number of the shard.
        n, chain_hash: position and hash of the last frame that was read; 0 and the genesis hash: none.
        t_us: time of that frame.
    """

    __slots__ = ("chain_hash", "n", "shard", "t_us")

    def __init__(self, shard: int, n: int, t_us: int, chain_hash: bytes) -> None:
        self.shard = shard
        self.n = n
        self.t_us = t_us
        self.chain_hash = chain_hash

    def read(self, data: bytes) -> ExecutionFrame:
        """Return the next frame and step behind it.

        Raises:
            FoldError: the bytes are not the next frame. The reader stays where it was.
        """
        n = self.n + 1
        if not data.startswith(_FORMAT_1):
            self.stop(FoldReason.MALFORMED_FRAME, n, "it is not of format 1, which is all that this program knows")
        try:
            frame = ExecutionFrame.FromString(data)
        except DecodeError as error:
            raise FoldError(FoldReason.MALFORMED_FRAME, self.shard, n, str(error)) from error
        if frame.n != n:
            self.stop(FoldReason.FRAME_GAP, n, f"the frame has position {frame.n}")
        if frame.previous_hash != self.chain_hash:
            found, known = frame.previous_hash.hex(), self.chain_hash.hex()
            self.stop(FoldReason.CHAIN_BROKEN, n, f"it follows {found}, the last frame has {known}")
        if frame.t_us < self.t_us:
            self.stop(FoldReason.TIME_BACKWARDS, n, f"time {frame.t_us} comes after {self.t_us}")
        if not 1 <= frame.rules <= RULES_MAX:
            self.stop(FoldReason.UNKNOWN_RULES, n, f"rules {frame.rules}; this program knows 1 .. {RULES_MAX}")
        self.n, self.t_us = n, frame.t_us
        self.chain_hash = hashlib.sha256(CHAIN_TAG + data).digest()
        return frame

    def stop(self, reason: FoldReason, n: int, detail: str) -> NoReturn:
        """Stop at frame n."""
        raise FoldError(reason, self.shard, n, detail)

    def stop_at_checkpoint(self, n: int, chain_hash: bytes) -> NoReturn:
        """Stop because the log up to here is not the one of a checkpoint."""
        self.stop(
            FoldReason.CHAIN_BROKEN,
            self.n,
            f"its hash is {self.chain_hash.hex()}, the checkpoint at {n} has {chain_hash.hex()}",
        )
