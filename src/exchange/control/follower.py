"""The follower of shard 0: keeps a ControlView up with the log, for as long as the process runs."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from exchange.bus.client import AsyncBus
from exchange.bus.errors import BusUnavailable
from exchange.config.environment import Environment
from exchange.control.view import CONTROL_TAG, ChainBrokenError, ControlView
from exchange.domain.frames import ExecutionFrame
from exchange.domain.units import CONTROL_SHARD
from exchange.execution.checkpoints import CheckpointStore

_log = logging.getLogger(__name__)

READ_FRAMES: Final = 64
BLOCK_MS: Final = 1_000
CATCH_UP_PER_SECOND_MAX: Final = 50
"""Most looks at the head of shard 0 for keys that nobody knows: strangers must not set the load of the bus."""


class ControlFollower:
    """Tails shard 0.

    Attributes:
        view: shard 0 as far as it was followed. The object is another one after the follower had to start again from a
            checkpoint, so do not keep it.
        on_frame: called with each frame after the view has taken it in.
        on_reload: called when the view was made anew.
    """

    def __init__(self, bus: AsyncBus, environment: Environment, store: CheckpointStore) -> None:
        self.view = ControlView.from_genesis(environment.genesis(CONTROL_SHARD))
        self.on_frame: list[Callable[[ExecutionFrame], None]] = []
        self.on_reload: list[Callable[[ControlView], None]] = []
        self._bus = bus
        self._environment = environment
        self._store = store
        self._moved = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._next_look_s = 0.0

    async def start(self) -> None:
        """Load the newest checkpoint, follow to the end of the log, and go on following in a task of its own.

        Raises:
            BusUnavailable: the bus cannot be reached.
        """
        self._load()
        head = await self._bus.head(CONTROL_TAG)
        while head is not None and self.view.position < head.executions_n:
            if not await self._read(block_ms=None):
                self._load()
                if self.view.position < head.trimmed_n:
                    raise ChainBrokenError(
                        f"CONTROL_GAP: the bus has shard 0 from {head.trimmed_n + 1} on, the newest checkpoint is at "
                        f"{self.view.position}: wait for settlement-plane to write one, or check --checkpoints"
                    )
        self._task = asyncio.create_task(self._follow(), name="control-follower")

    async def stop(self) -> None:
        """End the task."""
        for task in (self._task, self._catching_up):
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in (self._task, self._catching_up) if task), return_exceptions=True)

    async def wait_for(self, position: int) -> None:
        """Wait until the view has taken in frame `position`. Bound it with asyncio.timeout."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.view.position >= position)

    async def catch_up(self) -> None:
        """Wait until the view is where the log was at the time of the call, or later.

        Calls that come together share one look at the bus; there are at most CATCH_UP_PER_SECOND_MAX looks a second.
        """
        if self._catching_up is None or self._catching_up.done():
            self._catching_up = asyncio.create_task(self._look(), name="control-catch-up")
        await asyncio.shield(self._catching_up)

    async def _look(self) -> None:
        now_s = time.monotonic()
        wait_s = self._next_look_s - now_s
        self._next_look_s = max(now_s, self._next_look_s) + 1 / CATCH_UP_PER_SECOND_MAX
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        head = await self._bus.head(CONTROL_TAG)
        if head is not None:
            await self.wait_for(head.executions_n)

    async def _follow(self) -> None:
        while True:
            try:
                if not await self._read(BLOCK_MS):
                    head = await self._bus.head(CONTROL_TAG)
                    if head is not None and head.trimmed_n > self.view.position:
                        self._load()
            except BusUnavailable as error:
                _log.warning("the bus does not answer, shard 0 stands still at %d: %s", self.view.position, error)
                await asyncio.sleep(0.2)
            except ChainBrokenError as error:
                # The log before the view was trimmed away while it was behind: a checkpoint has what it missed. If the
                # log itself is another one the view stays where it is, and says so again and again.
                _log.error("%s; loading the newest checkpoint", error)
                self._load()
                await asyncio.sleep(1)

    async def _read(self, block_ms: int | None) -> bool:
        """Take in what comes next; return whether there was anything."""
        read = await self._bus.read_executions({CONTROL_TAG: self.view.position}, READ_FRAMES, block_ms)
        entries = read.get(CONTROL_TAG, [])
        for entry in entries:
            frame = self.view.apply(entry.frame)
            for callback in self.on_frame:
                callback(frame)
        if entries:
            async with self._moved:
                self._moved.notify_all()
        return bool(entries)

    def _load(self) -> None:
        """Start from the newest checkpoint, if it is ahead of the view."""
        newest = self._store.newest(CONTROL_SHARD)
        if newest is None or newest[0] <= self.view.position:
            return
        self.view = ControlView.from_checkpoint(newest[1])
        for callback in self.on_reload:
            callback(self.view)
