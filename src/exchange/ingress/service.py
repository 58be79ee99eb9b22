"""The command ingress-verifier: one framer, worker processes that speak with traders, and the operators' front.

The process itself frames: workers hand it verified batches over a Unix socket in a private folder. Children that die
are started again; when this process ends they end, and when it dies they see it and end.
"""

import asyncio
import json
import logging
import shutil
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
from prometheus_client import Gauge

from clob.v1 import position_pb2, process_service_pb2
from exchange.bus.keys import BusKeys
from exchange.config.settings import with_settings
from exchange.config.values import Endpoint
from exchange.ingress.framer import Framer
from exchange.ingress.messages import Chunk, Connection, Executed, FromWorker, Hello, Refused, Sequenced, worker_decoder
from exchange.ingress.settings import IngressSettings
from exchange.serving.process import FAILED_EXIT, CannotStartError, Runtime, Service, run_service

_log = logging.getLogger(__name__)

READY_S_MAX: Final = 60
RESTART_S: Final = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses before a child that died is started again; the last one is repeated, until a child has served for long."""
SERVED_LONG_S: Final = 60.0
UNSENT_BYTES_MAX: Final = 256 * 1024 * 1024
"""A worker that leaves so much unread is stuck, and is started again."""
LISTENING: Final = "traders"
ADMIN: Final = "admin"


class Child:
    """A child process that is kept running.

    Attributes:
        name: for people.
        ready: what it said of itself when it began to serve.
    """

    def __init__(self, name: str, role: str, arguments: list[str]) -> None:
        self.name = name
        self.ready: dict[str, Any] = {}
        self._role = role
        self._arguments = arguments
        self._process: Process | None = None

    async def start(self, number: int) -> None:
        """Start it, and wait until it serves.

        Raises:
            CannotStartError: it ended before, or said nothing for too long.
        """
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "exchange.ingress.child",
            self._role,
            *self._arguments,
            "--child-number",
            str(number),
            stdin=PIPE,
            stdout=PIPE,
            # Ctrl-C in a terminal goes to a whole group; this process tells its children itself when to end.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(READY_S_MAX):
                line = await self._process.stdout.readline()
        except TimeoutError:
            await self.kill()
            raise CannotStartError(
                f"CHILD: {self.name} does not serve after {READY_S_MAX} s; its log says why"
            ) from None
        if not line:
            code = await self._process.wait()
            raise CannotStartError(
                f"CHILD: {self.name} ended with {code} before it served; its log says why", code or 1
            )
        self.ready = json.loads(line)

    def pin(self, flag: str, value: str) -> None:
        """Give it a setting from its next start on."""
        self._arguments += [flag, value]

    async def wait(self) -> int:
        """Wait for its end and return its exit code."""
        assert self._process is not None
        return await self._process.wait()

    def terminate(self) -> None:
        """Tell it to end."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)

    async def kill(self) -> None:
        """End it by force."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class Ingress(Service):
    """What the parent process does."""

    def __init__(self, runtime: Runtime[IngressSettings], arguments: list[str]) -> None:
        settings = runtime.settings
        self._runtime = runtime
        try:
            key = BusKeys.load(settings.bus_keys).named(settings.bus_key_name)
        except (OSError, ValueError) as error:
            raise CannotStartError(str(error)) from error
        self.framer = Framer(runtime.bus, key, self, lambda: time.time_ns() // 1000)
        self._arguments = arguments
        self._folder = Path(tempfile.mkdtemp(prefix="clob-ingress-"))
        self._server: asyncio.Server | None = None
        self._reserved: socket.socket | None = None
        self._workers: dict[int, Connection] = {}
        self._children: list[Child] = []
        self._last_number = 0
        self._keepers: list[asyncio.Task[None]] = []
        runtime.evidence = self._evidence
        gauge = Gauge(
            "clob_framer",
            "What the framer has done and has to do, by name.",
            ["what"],
            registry=runtime.metrics.registry,
        )
        for what in ("frames", "batches", "queued_commands", "under_way"):
            gauge.labels(what).set_function(partial(self._sum, what))

    async def start(self) -> None:
        """Start the framer's socket and the children; returns when all of them serve."""
        settings = self._runtime.settings
        path = self._folder / "framer"
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: Connection(worker_decoder(), self._heard, self._lost), str(path)
        )
        traders = self._reserve(settings.listen_traders)
        # Children drain while this process waits for them, so they have less time.
        common = [*self._arguments, "--drain-ms-max", str(max(100, settings.drain_ms_max // 3))]
        for number in range(1, settings.workers + 1):
            arguments = [*common, "--listen-traders", str(traders), "--child-framer", str(path)]
            self._children.append(Child(f"worker {number}", "worker", arguments))
        front = Child("front", "front", common)
        self._children.append(front)
        results = await asyncio.gather(
            *(child.start(self._number()) for child in self._children), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        self._runtime.set_extra(LISTENING, str(traders))
        self._runtime.set_extra(ADMIN, front.ready[ADMIN])
        # A port that was free for the asking stays the same when the front is started again.
        front.pin("--listen-admin", front.ready[ADMIN])
        for child in self._children:
            self._keepers.append(self._runtime.spawn(self._keep(child), f"keep {child.name}"))
        self._runtime.spawn(self._watch_framer(), "watch-framer")

    async def drain(self) -> None:
        """End the children, which answer what is under way, then bring to its end what they left."""
        for keeper in self._keepers:
            keeper.cancel()
        for child in self._children:
            child.terminate()
        await asyncio.gather(*(child.wait() for child in self._children))
        await self.framer.drain(self._runtime.settings.drain_ms_max / 4000)

    async def close(self) -> None:
        """Leave nothing behind."""
        await asyncio.gather(*(child.kill() for child in self._children), return_exceptions=True)
        if self._server is not None:
            self._server.close()
        for connection in self._workers.values():
            connection.close()
        await self.framer.close()
        if self._reserved is not None:
            self._reserved.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _sum(self, what: str) -> float:
        return float(sum(getattr(shard, what) for shard in self.framer.shards))

    # --- workers ----------------------------------------------------------------------------------------------------

    def tell(self, worker: int, message: Sequenced | Executed | Refused) -> None:
        """Send a worker a message; one that has ended has nobody to tell."""
        connection = self._workers.get(worker)
        if connection is None:
            return
        connection.send(message)
        if connection.unsent_bytes > UNSENT_BYTES_MAX:
            _log.error("worker %d does not read what it is told; it is cut off and started again", worker)
            connection.close()

    def _heard(self, connection: Connection, message: FromWorker) -> None:
        match message:
            case Chunk():
                if connection.peer is not None:
                    self.framer.offer(connection.peer, message)
            case Hello():
                connection.peer = message.worker
                self._workers[message.worker] = connection

    def _lost(self, connection: Connection) -> None:
        if connection.peer is not None and self._workers.get(connection.peer) is connection:
            del self._workers[connection.peer]

    # --- children ---------------------------------------------------------------------------------------------------

    def _number(self) -> int:
        """Return the number of a child that is started: none is used twice, so that answers find the right one."""
        self._last_number += 1
        return self._last_number

    async def _keep(self, child: Child) -> None:
        """Start a child again whenever it ends."""
        deaths = 0
        while True:
            since_s = time.monotonic()
            code = await child.wait()
            if time.monotonic() - since_s > SERVED_LONG_S:
                deaths = 0
            _log.error("%s ended with %d and is started again", child.name, code)
            self._runtime.set_message(f"{child.name} ended with {code} and is started again")
            while True:
                await asyncio.sleep(RESTART_S[min(deaths, len(RESTART_S) - 1)])
                deaths += 1
                try:
                    await child.start(self._number())
                except CannotStartError as error:
                    _log.error("%s", error)
                    continue
                break
            _log.warning("%s serves again", child.name)
            self._runtime.set_message("")

    async def _watch_framer(self) -> None:
        await self.framer.failed.wait()
        self._runtime.message = "the framer has failed; the log says why"
        self._runtime.end(FAILED_EXIT)

    def _reserve(self, listen: Endpoint) -> Endpoint:
        """Hold the traders' address for the workers, which share it; return it with its port.

        Raises:
            CannotStartError: somebody else listens there.
        """
        family, _, _, _, address = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM)[0]
        try:
            # With SO_REUSEPORT alone one would share the port of another ingress of the same user without a word.
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
            held = socket.socket(family, socket.SOCK_STREAM)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(address)
        except OSError as error:
            raise CannotStartError(
                f"LISTEN: the traders' port {listen} cannot be opened: {error.strerror}; choose another with "
                "--listen-traders, or end what listens there"
            ) from error
        self._reserved = held
        return listen._replace(port=held.getsockname()[1])

    # --- for others -------------------------------------------------------------------------------------------------

    def _evidence(self) -> list[process_service_pb2.ShardEvidence]:
        return [
            process_service_pb2.ShardEvidence(
                shard=known.shard,
                ingested_n=known.ingested_n,
                ingested_hash=known.ingested_hash,
                executed=position_pb2.ShardPosition(
                    shard=known.shard, n=known.executed_n, t_us=known.executed_t_us, chain_hash=known.executed_hash
                )
                if known.executed_n
                else None,
            )
            for known in self.framer.evidence()
        ]


@click.command(name="ingress-verifier")
@with_settings(IngressSettings)
def main(settings: IngressSettings) -> None:
    """Take signed orders from traders, verify them, and bring them into the logs of their shards."""
    arguments = sys.argv[1:]

    async def build(runtime: Runtime[IngressSettings]) -> Ingress:
        return Ingress(runtime, arguments)

    run_service("ingress-verifier", settings, build)


if __name__ == "__main__":
    main()
