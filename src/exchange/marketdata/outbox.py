"""The outbox of one subscriber: encoded messages that wait to be sent, bounded, and why it ended, once it has."""

import asyncio
from collections import deque
from typing import Final

from clob.v1.door_reason_pb2 import DoorReason
from exchange.serving.errors import Refusal, refused

OUTBOX_BYTES_MAX: Final = 4 * 1024 * 1024
OUTBOX_MESSAGES_MAX: Final = 16_384
"""More than this is not added to. What is put at once is added whole: a frame can have more of its own."""


class Outbox:
    """Messages for one stream.

    Attributes:
        ended: what the stream ends with; None: it goes on.
    """

    __slots__ = ("_messages", "_size_bytes", "_wake", "ended")

    def __init__(self) -> None:
        self.ended: Refusal | None = None
        self._messages: deque[bytes] = deque()
        self._size_bytes = 0
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def size_bytes(self) -> int:
        """Bytes that wait."""
        return self._size_bytes

    def put(self, *messages: bytes) -> None:
        """Add messages; where the reader has left too many unread, end the stream with TOO_SLOW."""
        if self.ended is not None:
            return
        if self._size_bytes > OUTBOX_BYTES_MAX or len(self._messages) >= OUTBOX_MESSAGES_MAX:
            detail = (
                f"{len(self._messages)} messages of {self._size_bytes} bytes wait to be read; read faster, and go on "
                "from what was received last"
            )
            self.end(refused(DoorReason.DOOR_REASON_TOO_SLOW, detail))
            return
        self._messages += messages
        self._size_bytes += sum(map(len, messages))
        self._wake.set()

    def take(self) -> bytes | None:
        """Return the next message; None: there is none now.

        Raises:
            Refusal: the stream has ended; what it had not taken is dropped.
        """
        if self.ended is not None:
            raise self.ended
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._size_bytes -= len(message)
        return message

    def wake(self) -> None:
        """Let the stream look around."""
        self._wake.set()

    def end(self, why: Refusal) -> None:
        """End the stream; the first reason stays."""
        if self.ended is None:
            self.ended = why
        self._messages.clear()
        self._size_bytes = 0
        self._wake.set()

    async def wait(self, seconds: float | None = None) -> None:
        """Wait until something was put or the stream was woken; at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()


def unavailable(why: str) -> Refusal:
    """Return what streams and calls end with that need a shard which cannot be read now."""
    return refused(DoorReason.DOOR_REASON_UNAVAILABLE, f"{why}; try again", retry_after_ms=500)
