"""How a worker lives with a crowd: its messages come one after the other to the processor, wait for room for a moment,
and whoever does not read what it is told is not listened to.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final

SMALL_BATCHES: Final = 8
"""A message of so many batches or less is let in at once: a cancel must not stand behind a crowd of large ones."""
PATIENCE_S: Final = 0.1
"""How long a message waits for room before it is refused."""
WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of messages that wait for room; what comes beyond that is refused without a wait."""
CROWD_ROUNDS: Final = 3
"""Rounds of the event loop between two slices of a crowd. gRPC takes up one new call in about three."""
STREAM_UNSENT_BYTES_MAX: Final = 1024 * 1024
"""Of answers that a stream has not taken: with more it is not read on."""
UNSENT_BYTES_MAX: Final = 128 * 1024 * 1024
"""The same of all streams: with more, none is read on that has not taken all of its own."""


class Turn:
    """One slice of a large message is worked on in a round of the event loop, in the order in which they came.

    Without this a round is as long as there are senders, and everybody's answer takes several rounds.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._crowd = 0

    async def __aenter__(self) -> None:
        self._crowd += 1
        try:
            await self._lock.acquire()
        except BaseException:
            self._crowd -= 1
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._crowd -= 1
        try:
            # Whoever comes in this round has to wait for a later one.
            for _ in range(CROWD_ROUNDS if self._crowd else 1):
                await asyncio.sleep(0)
        finally:
            self._lock.release()


class Room:
    """Room for commands, first come, first served.

    A crowd larger than the room is told to come again, but only when its patience is over: refusing costs nearly as
    much as letting in, and room comes all the time.
    """

    def __init__(self, commands_max: int, patience_s: float, under_way: Callable[[], int]) -> None:
        """Make it.

        Args:
            commands_max: most commands under way.
            patience_s: longest wait; 0: nobody waits.
            under_way: says how many commands are.
        """
        self._commands_max = commands_max
        self._patience_s = patience_s
        self._under_way = under_way
        self._granted = 0
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._bytes = 0

    async def take(self, commands: int, size: int) -> "Grant":
        """Return a message's part of the room, when there is enough or it has waited for long enough.

        Whoever has it closes it when the message's commands are under way, or refused.

        Args:
            commands: that the message has.
            size: of it in bytes.
        """
        commands = min(commands, self._commands_max)
        must_wait = bool(self._waiting) or commands > self._free()
        if must_wait and self._patience_s and self._bytes + size <= WAITING_BYTES_MAX:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting[turn] = commands
            self._bytes += size
            try:
                async with asyncio.timeout(self._patience_s):
                    await turn
            except TimeoutError:
                pass
            except BaseException:
                if _has_result(turn):
                    self._granted -= commands
                raise
            finally:
                self._bytes -= size
                self._waiting.pop(turn, None)
                # Who stood behind a message that is larger than what there is may find enough.
                self.wake()
            return Grant(self, commands if _has_result(turn) else 0)
        if must_wait:
            return Grant(self, 0)
        self._granted += commands
        return Grant(self, commands)

    def wake(self) -> None:
        """Let those go on that there is room for now."""
        while self._waiting:
            turn, commands = next(iter(self._waiting.items()))
            if commands > self._free():
                return
            del self._waiting[turn]
            if not turn.done():
                self._granted += commands
                turn.set_result(None)

    def give_back(self, commands: int) -> None:
        """Take that what was granted is under way by now, or not needed."""
        self._granted -= commands
        self.wake()

    def _free(self) -> int:
        return self._commands_max - self._under_way() - self._granted


def _has_result(turn: "asyncio.Future[None]") -> bool:
    return turn.done() and not turn.cancelled()


class Grant:
    """Room that is kept for a message until its commands are counted as under way."""

    __slots__ = ("_commands", "_room")

    def __init__(self, room: Room, commands: int) -> None:
        self._room = room
        self._commands = commands

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        commands, self._commands = self._commands, 0
        if commands:
            self._room.give_back(commands)


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
