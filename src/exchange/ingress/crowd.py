"""How a worker lives with a crowd: its messages come one after the other to the processor, wait for room for a moment,
and whoever does not read what it is told is not listened to.
"""

import asyncio
from collections import deque
from types import TracebackType
from typing import Final

SMALL_BATCHES: Final = 8
"""A message of so many batches or less is let in at once: a cancel must not stand behind a crowd of large ones."""
PATIENCE_S: Final = 0.1
"""How long a message waits for room before it is refused."""
WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of messages that wait for room; what comes beyond that is refused without a wait."""

STREAM_UNSENT_BYTES_MAX: Final = 1024 * 1024
"""Of answers that a stream has not taken: with more it is not read on."""
UNSENT_BYTES_MAX: Final = 128 * 1024 * 1024
"""The same of all streams: with more, none is read on that has not taken all of its own."""


class Turn:
    """One slice of a large message is worked on in each round of the event loop, in the order in which they came.

    Without this a round is as long as there are senders, and everybody's answer takes several rounds.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # Whoever comes in this round has to wait for the next one.
            await asyncio.sleep(0)
        finally:
            self._lock.release()


class Room:
    """Waits for room for commands, first come, first served.

    A crowd larger than the room is told to come again, but only when its patience is over: refusing costs nearly as
    much as letting in, and room comes all the time.
    """

    def __init__(self, commands_max: int, patience_s: float) -> None:
        """Make it.

        Args:
            commands_max: most commands under way.
            patience_s: longest wait; 0: nobody waits.
        """
        self._commands_max = commands_max
        self._patience_s = patience_s
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._bytes = 0

    async def wait(self, commands: int, size: int, under_way: int) -> None:
        """Return when there is room for a message, or when it has waited long enough.

        Args:
            commands: that it has.
            size: of the message in bytes.
            under_way: commands that are.
        """
        commands = min(commands, self._commands_max)
        has_room = under_way + commands <= self._commands_max
        if (has_room and not self._waiting) or not self._patience_s or self._bytes + size > WAITING_BYTES_MAX:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, commands))
        self._bytes += size
        try:
            async with asyncio.timeout(self._patience_s):
                await turn
        except TimeoutError:
            pass
        finally:
            self._bytes -= size

    def wake(self, under_way: int) -> None:
        """Let those go on that there is room for now."""
        free = self._commands_max - under_way
        while self._waiting:
            turn, commands = self._waiting[0]
            if not turn.done():
                if commands > free:
                    return
                free -= commands
                turn.set_result(None)
            self._waiting.popleft()


class Unsent:
    """Bytes of answers that streams have not taken."""

    def __init__(self) -> None:
        self.bytes = 0

    def of_stream(self) -> "StreamUnsent":
        """Return the share of a new stream."""
        return StreamUnsent(self)


class StreamUnsent:
    """Bytes of answers that a stream has not taken."""

    def __init__(self, whole: Unsent) -> None:
        self._whole = whole
        self._bytes = 0
        self._taken = asyncio.Event()

    def add(self, size: int) -> None:
        """Take that an answer waits to be sent."""
        self._bytes += size
        self._whole.bytes += size

    def take_off(self, size: int) -> None:
        """Take that an answer was sent."""
        self._bytes -= size
        self._whole.bytes -= size
        self._taken.set()

    async def wait(self) -> None:
        """Return when the stream may be read on."""
        while self._bytes > (STREAM_UNSENT_BYTES_MAX if self._whole.bytes <= UNSENT_BYTES_MAX else 0):
            self._taken.clear()
            await self._taken.wait()

    def close(self) -> None:
        """Forget the stream."""
        self._whole.bytes -= self._bytes
        self._bytes = 0
