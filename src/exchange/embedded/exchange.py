"""The embedded exchange: its processes, in which order they start and drain, and what happens when one dies."""

import asyncio
import contextlib
import ctypes
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

import psutil

from exchange.embedded.bus_server import BusServer, find_server
from exchange.embedded.child import Child, ChildError, service
from exchange.embedded.data_dir import DataDir
from exchange.engine.choice import DEFAULT_ENGINE

_log = logging.getLogger(__name__)

READY_S_MAX: Final = 60
STOPPED_EXIT: Final = 3
"""A process that stopped rather than guess ends with this; starting it again would change nothing."""
RESTART_DELAYS_S: Final = (0.0, 0.5, 1.0, 2.0, 5.0)
"""Wait before a child that died is started again; the last one counts from then on."""
BESIDE_SETTLEMENT_NICENESS: Final = 5
"""Where all share few processors, settlement goes first: what is executed must not pile up before it, in memory."""
HEALTHY_S: Final = 30
"""A child that has served so long starts again without delay when it dies."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to run.

    Attributes:
        shards: trading shards, numbered from 1.
        workers: processes that verify signatures.
        listen_traders, listen_admin: host:port; port 0: a free one.
        engine: of the trading shards, in the matchers and in settlement.
        redis_addr: of a bus that runs already; None: one of our own.
        bus_server: program to run as the bus; None: whatever `find_server` finds.
        log_level: of all processes.
        extra: more arguments by kind of process.
    """

    shards: int = 2
    workers: int = 1
    listen_traders: str = "127.0.0.1:8080"
    listen_admin: str = "127.0.0.1:9090"
    engine: str = DEFAULT_ENGINE
    redis_addr: str | None = None
    bus_server: Path | None = None
    log_level: str = "info"
    extra: dict[str, tuple[str, ...]] | None = None


class Running(NamedTuple):
    """A process as `clob up` shows it."""

    name: str
    pid: int
    address: str
    log: Path


class EmbeddedExchange:
    """All processes of an exchange on this machine.

    Use it as an async context manager: inside, everything serves; afterwards, nothing is left.

    Attributes:
        children: services by name, in the order in which they started.
        bus: the server of our own, if there is one.
        bus_origin: where it was found, for people.
        redis_addr: address of the bus.
        traders, admin: addresses of the two ports.
        on_change: called with a sentence when a child died or came back.
    """

    def __init__(self, data: DataDir, options: Options, on_change: Callable[[str], None] = _log.warning) -> None:
        self.data = data
        self.options = options
        self.children: dict[str, Child] = {}
        self.bus: BusServer | None = None
        self.bus_origin = "REDIS_ADDR"
        self.redis_addr = options.redis_addr or ""
        self.traders = ""
        self.admin = ""
        self.on_change = on_change
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._stopped = asyncio.Event()

    async def __aenter__(self) -> "EmbeddedExchange":
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # --- start and stop ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything, each when what it needs serves.

        Raises:
            ChildError: a process did not come up; the others still run, so call `stop`.
            NoBusServerError: there is no bus to be had.
        """
        if not self.redis_addr:
            await self.start_bus()
        # The shard map must exist before a matcher can find its shard.
        await self._start("settlement-plane", "exchange.settlement.plane", self._settlement_arguments())
        matchers = [
            self._start(f"market-matcher-{shard}", "exchange.matcher.service", self._matcher_arguments(shard))
            for shard in range(1, self.options.shards + 1)
        ]
        market_data = self._start(
            "market-data", "exchange.marketdata.service", self._arguments("market-data", "matcher")
        )
        try:
            await _all(*matchers, market_data)
        except ChildError as error:
            # A matcher waits for a bus that settlement has not approved: then settlement says why.
            raise ChildError(f"{error}\nsettlement-plane: {self.children['settlement-plane'].last_words()}") from error
        await self._start(
            "ingress-verifier",
            "exchange.ingress.service",
            self._ingress_arguments(self.options.listen_traders, self.options.listen_admin),
        )
        ready = self.children["ingress-verifier"].ready
        self.traders, self.admin = ready["traders"], ready["admin"]
        # One that is started again must answer where clients know it, also where the port was chosen by the system.
        self.children["ingress-verifier"].arguments = self._ingress_arguments(self.traders, self.admin)

    async def start_bus(self) -> None:
        """Start a bus server of our own."""
        environment = self.data.environment
        server = find_server()
        program = self.options.bus_server
        self.bus_origin = str(program) if program else f"{server.program.name} ({server.origin})"
        found = server._replace(program=program) if program else server
        self.bus = BusServer(found, self.data.bus, self.data.logs / "bus.log", environment.durability)
        await self.bus.start()
        self.redis_addr = self.bus.address
        self._watchers["bus"] = asyncio.create_task(self._watch(self.bus), name="watch bus")

    async def stop(self) -> None:
        """Drain in reverse order: first the doors, then what they feed, last the bus."""
        for watcher in self._watchers.values():
            watcher.cancel()
        await asyncio.gather(*self._watchers.values(), return_exceptions=True)
        self._watchers.clear()
        names = list(self.children)
        matchers = [name for name in names if name.startswith("market-matcher")]
        for group in (["ingress-verifier"], ["market-data"], matchers, ["settlement-plane"]):
            await asyncio.gather(*(self.children[name].stop() for name in group if name in self.children))
        if self.bus is not None:
            await self.bus.stop(self.data.environment.durability)
        self._stopped.set()

    # --- what runs --------------------------------------------------------------------------------------------------

    def running(self) -> list[Running]:
        """Return what runs where, the bus first."""
        found = []
        if self.bus is not None and self.bus.pid is not None:
            found.append(Running("bus", self.bus.pid, self.bus.address, self.data.logs / "bus.log"))
        for name, child in self.children.items():
            if child.pid is not None:
                found.append(Running(name, child.pid, str(child.ready.get("address", "")), self._log_of(name)))
        return found

    async def kill(self, name: str) -> None:
        """Kill a process as a crash would; it is started again. The bus is named "bus"."""
        await self._child(name).kill()

    async def wait_serving(self, name: str, seconds_max: float = READY_S_MAX) -> None:
        """Wait until a process that died serves again."""
        async with asyncio.timeout(seconds_max):
            while not self._child(name).serves:
                await asyncio.sleep(0.02)

    def _child(self, name: str) -> Child | BusServer:
        if name != "bus":
            return self.children[name]
        assert self.bus is not None
        return self.bus

    # --- children ---------------------------------------------------------------------------------------------------

    async def _start(self, name: str, module: str, arguments: list[str]) -> None:
        child = service(name, module, arguments, self._log_of(name), {"REDIS_ADDR": self.redis_addr})
        child.niceness = 0 if name == "settlement-plane" else BESIDE_SETTLEMENT_NICENESS
        self.children[name] = child
        await _serve(child)
        self._watchers[name] = asyncio.create_task(self._watch(child), name=f"watch {name}")

    async def _watch(self, child: Child | BusServer) -> None:
        """Start a child again whenever it dies, later and later, unless it stopped by its own decision."""
        deaths = 0
        while True:
            served_since = asyncio.get_running_loop().time()
            code = await child.wait()
            if code == STOPPED_EXIT:
                self.on_change(f"{child.name} stopped rather than guess, and stays down; {child.last_words()}")
                return
            if asyncio.get_running_loop().time() - served_since > HEALTHY_S:
                deaths = 0
            await asyncio.sleep(RESTART_DELAYS_S[min(deaths, len(RESTART_DELAYS_S) - 1)])
            deaths += 1
            self.on_change(f"{child.name} ended with {code} and is started again")
            try:
                await _serve(child)
            except Exception as error:  # noqa: BLE001 - whatever it was, it is told, and the child is tried again
                self.on_change(f"{child.name} did not come back: {error}")
                await child.kill()
                continue
            self.on_change(f"{child.name} serves again, pid {child.pid}")

    def _log_of(self, name: str) -> Path:
        return self.data.logs / f"{name}.log"

    # --- arguments --------------------------------------------------------------------------------------------------

    def _arguments(self, kind: str, bus_key: str) -> list[str]:
        keys = self.data.bus_key_file(bus_key) if bus_key == "ingress" else self.data.bus_keys
        extra = (self.options.extra or {}).get(kind, ())
        return [
            *("--environment-file", str(self.data.environment_file)),
            *("--checkpoints", str(self.data.checkpoints)),
            *("--bus-keys", str(keys), "--bus-key-name", bus_key),
            *("--listen", "127.0.0.1:0", "--log-level", self.options.log_level),
            *extra,
        ]

    def _settlement_arguments(self) -> list[str]:
        return [
            *self._arguments("settlement-plane", "settlement"),
            *("--operator-keys", str(self.data.keys), "--database", str(self.data.database)),
            *("--archive", str(self.data.archive), "--shards", str(self.options.shards)),
            *("--engine", self.options.engine),
        ]

    def _matcher_arguments(self, shard: int) -> list[str]:
        return [
            *self._arguments("market-matcher", "matcher"),
            *("--shard", str(shard), "--engine", self.options.engine),
        ]

    def _ingress_arguments(self, traders: str, admin: str) -> list[str]:
        return [
            *self._arguments("ingress-verifier", "ingress"),
            *("--listen-traders", traders, "--listen-admin", admin),
            *("--workers", str(self.options.workers), "--session-secret", str(self.data.session_secret)),
            *("--admin-tokens", str(self.data.admin_tokens)),
        ]


async def _serve(child: Child | BusServer) -> None:
    """Start a process and wait until it serves."""
    await child.start()
    if isinstance(child, Child):
        await child.wait_ready(READY_S_MAX)


async def _all(*starts: Any) -> None:
    """Wait for all; the first that fails is raised when every one has come to its end."""
    results = await asyncio.gather(*starts, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def cpu_seconds(pid: int) -> float:
    """Return the processor seconds that a process and its living children have used."""
    if pid == os.getpid():
        return own_cpu_seconds(pid)
    family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return sum(map(own_cpu_seconds, family))


def own_cpu_seconds(pid: int) -> float:
    """Return the processor seconds of a process alone, threads that ended included; 0: it is gone.

    Linux: by the clock of the process, in nanoseconds. psutil, elsewhere, counts ticks of 10 ms there, and a short run
    may use less.
    """
    if sys.platform != "linux":
        with contextlib.suppress(psutil.NoSuchProcess):
            times = psutil.Process(pid).cpu_times()
            return float(times.user + times.system)
        return 0.0
    clock = ctypes.c_int()
    if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)):
        return 0.0
    with contextlib.suppress(OSError):
        return time.clock_gettime(clock.value)
    return 0.0
