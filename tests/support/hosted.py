"""A whole exchange on an event loop in a thread of its own: for modules whose tests share one and are no coroutines."""

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from exchange.embedded.exchange import EmbeddedExchange, Options
from exchange.embedded.starter import define_starter_set
from tests.support.running import data_dir

START_S_MAX = 120
RUN_S_MAX = 120
T = TypeVar("T")


class Hosted:
    """An exchange that runs until `close`. Coroutines of tests run on its loop, so that gRPC has one loop only.

    Attributes:
        exchange: it, for addresses and for killing parts of it.
    """

    def __init__(self, folder: Path, extra: dict[str, tuple[str, ...]] | None = None) -> None:
        """Start one with the starter set.

        Args:
            folder: for its files.
            extra: more arguments by kind of process.
        """
        options = Options(listen_traders="127.0.0.1:0", listen_admin="127.0.0.1:0", extra=extra)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="exchange")
        self._thread.start()
        self.exchange = EmbeddedExchange(data_dir(folder), options)
        try:
            self.run(self._start(), START_S_MAX)
        except BaseException:
            self.close()
            raise

    async def _start(self) -> None:
        await self.exchange.start()
        await define_starter_set(self.exchange.admin)

    def run(self, coroutine: Coroutine[Any, Any, T], seconds_max: float = RUN_S_MAX) -> T:
        """Run a coroutine on the loop and return what it returns."""
        return asyncio.run_coroutine_threadsafe(_bounded(coroutine, seconds_max), self._loop).result()

    def close(self) -> None:
        """Drain and stop everything."""
        try:
            self.run(self.exchange.stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


async def _bounded(coroutine: Coroutine[Any, Any, T], seconds_max: float) -> T:
    return await asyncio.wait_for(coroutine, seconds_max)
