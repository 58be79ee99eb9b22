"""Loops of shards in threads of a test, with their ends and mistakes brought back to it."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from exchange.bus.client import Bus
from exchange.engine.reference import ReferenceFactory
from exchange.execution.checkpoints import CheckpointStore
from exchange.execution.loop import Committed, EngineMaker, LoopState, ShardLoop
from exchange.execution.stops import LoopStop
from tests.support.shard_log import KEYS, MATCHER_KEY, ShardLog

WAIT_S = 20


class RunningLoop:
    """A loop in a thread.

    Attributes:
        loop: the loop.
        progress: what it has committed.
        stopped: why it stopped; None: it runs, or was told to end.
    """

    def __init__(
        self,
        log: ShardLog,
        folder: Path,
        *,
        maker: EngineMaker[Any] | None = None,
        bus: Bus | None = None,
        address: str = "",
    ) -> None:
        self.progress: list[Committed] = []
        self.stopped: LoopStop | None = None
        self._bus = bus or Bus.connect(address)
        self.loop: ShardLoop[Any] = ShardLoop(
            self._bus,
            log.tag,
            log.genesis,
            maker or ReferenceFactory(),
            CheckpointStore(folder),
            KEYS,
            MATCHER_KEY,
            on_progress=self.progress.append,
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.loop.run(self._stop)
        except LoopStop as stopped:
            self.stopped = stopped

    def wait(self, holds: Callable[[], bool], what: str = "") -> None:
        """Wait until something holds, and fail if it does not in time or the loop ends before."""
        deadline_s = time.monotonic() + WAIT_S
        while not holds():
            assert self._thread.is_alive() or holds(), f"the loop has ended: {self.stopped}"
            assert time.monotonic() < deadline_s, f"{what} did not happen; {self.loop.state} {self.loop.message}"
            time.sleep(0.002)

    def wait_for(self, n: int) -> None:
        """Wait until entry n is committed."""
        self.wait(lambda: self.loop.figures.position >= n, f"entry {n}")

    def wait_for_stop(self) -> LoopStop:
        """Wait until the loop stops, and return why."""
        self._thread.join(WAIT_S)
        assert self.stopped is not None, f"the loop did not stop: {self.loop.state} {self.loop.message}"
        assert self.loop.state is LoopState.STOPPED
        return self.stopped

    def end(self) -> None:
        """Tell the loop to end, and wait until it has."""
        self._stop.set()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive(), "the loop does not end"
        self._bus.close()


@contextlib.contextmanager
def running(log: ShardLog, address: str, folder: Path, **options: Any) -> Iterator[RunningLoop]:
    """Run a loop for as long as the context lasts."""
    loop = RunningLoop(log, folder, address=address, **options)
    try:
        yield loop
    finally:
        loop.end()
