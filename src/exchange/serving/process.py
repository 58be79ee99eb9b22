"""The life of a process: starts, serves, drains, ends; what every service of the exchange runs in.

    class MatcherService(Service):
        async def start(self) -> None: ...          # catch up; when it returns, the process serves
        async def drain(self) -> None: ...          # end what was begun, take nothing new

    async def build(runtime: Runtime[MatcherSettings]) -> MatcherService:
        service = MatcherService(runtime)
        runtime.own.add(add_MatchingServiceServicer_to_server, service.servicer)
        return service

    run_service("market-matcher", settings, build)  # does not return

Order of things: settings and environment; `build`, which makes objects and asks nobody; the own port opens,
NOT_SERVING; the bus is waited for, and the registry hears of the process; `start`; the other ports open, health says
SERVING, the ready line is printed. On SIGTERM or SIGINT: DRAINING, ports take no new connections, no new calls,
`drain`, calls under way end, `close`, the registry forgets it, exit 0. All of that is bounded by --drain-ms-max; a
second signal ends at once.
"""

import asyncio
import gc
import importlib.metadata
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from enum import StrEnum
from typing import Any, Final, Generic, NoReturn, TypeVar

import uvloop
from aiohttp import web

from clob.v1 import process_service_pb2, process_service_pb2_grpc
from clob.v1.door_reason_pb2 import DoorReason
from exchange.bus.client import AsyncBus
from exchange.bus.errors import BusRefusal, BusUnavailable
from exchange.bus.registry import RECORD_TTL_MS, ProcessRecord
from exchange.config.environment import Environment, EnvironmentFileError
from exchange.config.service import ServiceSettings
from exchange.config.values import Endpoint
from exchange.serving import callers
from exchange.serving.errors import Refusal, refused
from exchange.serving.internal import Peers, TokenFileError
from exchange.serving.logs import start_logging
from exchange.serving.metrics import CONTENT_TYPE, Metrics
from exchange.serving.one_port import PortLimits
from exchange.serving.ports import Port
from exchange.serving.process_service import ProcessServicer
from exchange.serving.tls import TlsError, TlsFiles

STOPPED_EXIT: Final = 3
"""Exit code of a process that stopped rather than guess: starting it again changes nothing."""
GC_ALLOCATIONS: Final = 100_000
GC_GENERATIONS: Final = 20
FAILED_EXIT: Final = 1
CANNOT_START_EXIT: Final = 2

_HEARTBEAT_S: Final = 1.0
_STOPPED_TTL_MS: Final = 60_000
"""How long the registry remembers a process that stopped rather than guess, so that people find out why."""
_BUS_WAIT_S: Final = 0.5
_MS_PER_S: Final = 1000
_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})

_LOG: Final = logging.getLogger(__name__)


class State(StrEnum):
    """What a process is about (ProcessState in admin_service.proto)."""

    STARTING = "STARTING"
    SERVING = "SERVING"
    DRAINING = "DRAINING"
    STOPPED = "STOPPED"


class CannotStartError(Exception):
    """Raised by a service that cannot start as it is set up; the process ends with `code`.

    The message says what to do.
    """

    def __init__(self, message: str, code: int = CANNOT_START_EXIT) -> None:
        super().__init__(message)
        self.code = code


class Service:
    """What a process does beyond what all processes do. Override what there is to do."""

    async def start(self) -> None:
        """Catch up. When it returns, the process serves. Raise CannotStartError where that makes no sense."""

    async def drain(self) -> None:
        """End what was begun; new calls are refused already. Cancelled when the time for it is over."""

    async def close(self) -> None:
        """Let go of what is held. Called in any case, at the end."""


S = TypeVar("S", bound=ServiceSettings)


class Runtime(Generic[S]):
    """What a service gets from its process.

    Attributes:
        kind: name of the command.
        settings, environment: what it was told, and what the environment's file says.
        bus: client of the bus; several coroutines may use it at once.
        log: logger of the service.
        metrics: `metrics.registry` is where the service's own metrics go.
        peers: the other processes.
        own: the own port, for operators and the environment's other processes; add services to it in `build`.
        state, message: what the process is about, and its last important message.
        started_us: when it started.
        evidence: returns what the process knows of the logs, for ProcessService.GetEvidence; set it.
        stopping: set when the process is to end.
    """

    def __init__(self, kind: str, settings: S, environment: Environment, bus: AsyncBus) -> None:
        self.kind = kind
        self.settings = settings
        self.environment = environment
        self.bus = bus
        self.log = logging.getLogger(f"exchange.{kind}")
        self.version = importlib.metadata.version("clob")
        self.metrics = Metrics(kind, self.version)
        self.peers = Peers(bus, settings)
        self.state = State.STARTING
        self.message = ""
        self.started_us = time.time_ns() // 1000
        self.evidence: Callable[[], Iterable[process_service_pb2.ShardEvidence]] = lambda: ()
        self.ports: list[Port] = []
        self.exit_code = 0
        self.stopping = asyncio.Event()
        self._is_heard = True
        self._shards: tuple[int, ...] = ()
        self._extra: dict[str, str] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._announce_now = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.own = self._port("own", settings.listen, web.Application(), is_own=True)
        add_standard_routes(self.own.app, self)
        process = ProcessServicer(self.record, settings, self._evidence)
        self.own.add(process_service_pb2_grpc.add_ProcessServiceServicer_to_server, process)

    # --- what a service calls ---------------------------------------------------------------------------------------

    def add_port(
        self,
        name: str,
        listen: Endpoint,
        *,
        app: web.Application | None = None,
        reuse_port: bool = False,
        direct: bool = False,
    ) -> Port:
        """Return another port, for anybody: traders or operators. It opens when the service has started.

        Args:
            name: what the ready line and the registry call its address.
            listen: where; port 0: one that is free.
            app: its HTTP routes, /healthz is added; None: nothing else.
            reuse_port: other processes listen there too (SO_REUSEPORT).
            direct: gRPC alone, without the relay; see `Port`.

        Raises:
            CannotStartError: TLS is not set up as it has to be.
        """
        port = self._port(name, listen, app, is_own=False, reuse_port=reuse_port, direct=direct)
        port.app.router.add_get("/healthz", self._healthz)
        self.ports.append(port)
        return port

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> "asyncio.Task[Any]":
        """Run a coroutine for as long as the process lives. If it fails, the process ends with 1 and says so.

        It is cancelled after `drain`. A Refusal, BusUnavailable and the like are failures too: handle them in it.
        """
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def set_message(self, message: str) -> None:
        """Tell people something important; empty: all is well."""
        self.message = message
        self._announce_now.set()

    def set_shards(self, shards: Iterable[int]) -> None:
        """Say which shards are served."""
        self._shards = tuple(sorted(shards))
        self._announce_now.set()

    def set_extra(self, name: str, value: str) -> None:
        """Put something more into the registry's record and the ready line."""
        self._extra[name] = value
        self._announce_now.set()

    async def set_state(self, state: State, message: str = "") -> None:
        """Say what the process is about: to health, registry and metrics."""
        if state != self.state or message != self.message:
            _LOG.log(
                logging.ERROR if state is State.STOPPED else logging.INFO,
                "%s%s", state.lower(), f": {message}" if message else "",
                extra={"state": state.value, "shards": list(self._shards)},
            )  # fmt: skip
        self.state = state
        self.message = message
        self.metrics.serving.set(state is State.SERVING)
        for port in (self.own, *self.ports):
            await port.set_serving(state is State.SERVING)
        self._announce_now.set()

    async def stop_rather_than_guess(self, message: str, *, ends: bool) -> None:
        """Stop: STOPPED in the registry, NOT_SERVING in health, the message in the log.

        Args:
            message: what is wrong and what to do.
            ends: the process ends with 3; else it goes on answering, for operators, and each handler decides what.
        """
        await self.set_state(State.STOPPED, message)
        if ends:
            self.end(STOPPED_EXIT)

    def end(self, code: int = 0) -> None:
        """End the process as SIGTERM does. The first code that is not 0 counts."""
        self.exit_code = self.exit_code or code
        self.stopping.set()

    def from_thread(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a function in the event loop, from another thread."""
        with suppress(RuntimeError):
            # The loop is closed: nobody is left to be told.
            self._loop.call_soon_threadsafe(function, *arguments)

    # --- what others ask --------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Address by which others reach the own port; empty: it is not open yet."""
        if not self.own.address:
            return ""
        bound = Endpoint.parse(self.own.address)
        advertised = self.settings.advertise
        if advertised is not None:
            return str(advertised if advertised.port else advertised._replace(port=bound.port))
        return str(bound._replace(host=socket.getfqdn())) if bound.host in _WILDCARDS else str(bound)

    def record(self) -> ProcessRecord:
        """Return the record of the process, as of now."""
        return ProcessRecord(
            kind=self.kind,
            address=self.address,
            state=self.state.value,
            shards=self._shards,
            pid=os.getpid(),
            started_us=self.started_us,
            seen_us=time.time_ns() // 1000,
            version=self.version,
            message=self.message,
            extra={
                **({"tls": "1"} if self.own.is_tls else {}),
                **{port.name: port.address for port in self.ports if port.address},
                **self._extra,
            },
        )

    def ready_line(self) -> dict[str, Any]:
        """Return what the process prints when it serves."""
        return {
            "ready": True,
            "kind": self.kind,
            "pid": os.getpid(),
            "address": self.address,
            **{port.name: port.address for port in self.ports},
            **self._extra,
        }

    def gate(self) -> Refusal | None:
        """Return why no call is served now; None: calls are. A process that has stopped still answers for itself."""
        if self.state is State.STARTING:
            why = f" ({self.message})" if self.message else ""
            return refused(
                DoorReason.DOOR_REASON_UNAVAILABLE, f"{self.kind} starts and does not serve yet{why}; ask again"
            )
        if self.state is State.DRAINING:
            return refused(
                DoorReason.DOOR_REASON_DRAINING, f"{self.kind} is shutting down; connect again and send the same"
            )
        return None

    # --- inside -----------------------------------------------------------------------------------------------------

    def _port(
        self,
        name: str,
        listen: Endpoint,
        app: web.Application | None,
        *,
        is_own: bool,
        reuse_port: bool = False,
        direct: bool = False,
    ) -> Port:
        settings = self.settings
        return Port(
            name,
            listen,
            self.metrics,
            self.gate,
            app=app,
            tls=port_tls(settings, listen, is_own=is_own),
            limits=PortLimits(
                connections_max=settings.connections_max, connections_per_host_max=settings.connections_per_host_max
            ),
            calls_max=settings.calls_max,
            calls_per_host_max=settings.calls_per_host_max,
            reuse_port=reuse_port,
            direct=direct,
            for_strangers=not is_own,
            is_trusted=self.peers.is_internal if is_own else None,
        )

    async def _healthz(self, request: web.Request) -> web.Response:
        body = {"kind": self.kind, "state": self.state.value, "message": self.message}
        return web.json_response(body, status=200 if self.state is State.SERVING else 503)

    def _evidence(self) -> Iterable[process_service_pb2.ShardEvidence]:
        # The service sets it after this was handed out.
        return self.evidence()

    def _task_ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        _LOG.error("%s failed; the process ends", task.get_name(), exc_info=error)
        self.message = f"{task.get_name()} failed: {error}"
        self.end(FAILED_EXIT)

    async def cancel_tasks(self) -> None:
        """Cancel what `spawn` started and wait for its end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=2.0)

    async def announce(self) -> None:
        """Tell the registry about the process; a bus that does not answer is no reason to end."""
        try:
            await self.bus.announce(self.record(), RECORD_TTL_MS)
        except (BusUnavailable, BusRefusal) as error:
            if self._is_heard:
                _LOG.warning("the registry does not hear from this process: %s", error)
            self._is_heard = False
        else:
            if not self._is_heard:
                _LOG.info("the registry hears from this process again")
            self._is_heard = True

    async def heartbeat(self) -> None:
        """Announce the process every second, and at once when something has changed."""
        loop = asyncio.get_running_loop()
        while True:
            await self.announce()
            expected = loop.time() + _HEARTBEAT_S
            self._announce_now.clear()
            try:
                async with asyncio.timeout(_HEARTBEAT_S):
                    await self._announce_now.wait()
            except TimeoutError:
                self.metrics.loop_lag.set(max(0.0, loop.time() - expected))


def port_tls(settings: ServiceSettings, listen: Endpoint, *, is_own: bool) -> TlsFiles | None:
    """Return the TLS of a port; None: it speaks plaintext.

    Ports for anybody speak TLS when there is a certificate. The own port does beyond loopback, where it is for
    processes on other machines.

    Raises:
        CannotStartError: key or certificate is missing, or plaintext would go beyond loopback without --insecure.
    """
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise CannotStartError("TLS_FILES: --tls-cert and --tls-key belong together; give both or none")
    is_loopback = callers.is_loopback_host(listen.host)
    if settings.tls_cert is None or settings.tls_key is None:
        if not is_loopback and not settings.insecure:
            raise CannotStartError(
                f"TLS_MISSING: {listen} is beyond loopback; give --tls-cert and --tls-key, or --insecure to send "
                "orders, tokens and keys in the clear"
            )
        return None
    if is_own and is_loopback:
        return None
    return TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca, settings.tls_client_auth)


def add_standard_routes(app: web.Application, runtime: Runtime[Any]) -> None:
    """Give an application GET /healthz and GET /metrics."""

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=runtime.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    app.router.add_get("/healthz", runtime._healthz)
    app.router.add_get("/metrics", metrics)


# --- running --------------------------------------------------------------------------------------------------------

Build = Callable[[Runtime[S]], Awaitable[Service]]


def run_service(kind: str, settings: S, build: Build[S]) -> NoReturn:
    """Run a service until it is told to end, and end the process with its exit code; see the module."""
    start_logging(kind, settings.log_level)
    # What a service makes per order is freed by its count of references; looking for cycles among the hundreds of
    # thousands of objects that a shard keeps is time spent for nothing, so it is done seldom.
    gc.set_threshold(GC_ALLOCATIONS, GC_GENERATIONS, GC_GENERATIONS)
    # Children of an ingress are started by exec: gRPC's handlers around fork have nothing to do but talk.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        code = uvloop.run(serve(kind, settings, build))
    except KeyboardInterrupt:
        code = 130
    logging.shutdown()
    sys.stdout.flush()
    sys.exit(code)


async def serve(
    kind: str, settings: S, build: Build[S], *, on_ready: Callable[[Runtime[S]], None] | None = None
) -> int:
    """Run a service in this event loop; return its exit code.

    Args:
        kind: name of the command.
        settings: of the command.
        build: makes the service.
        on_ready: called when it serves; None: print the ready line.
    """
    try:
        environment = Environment.load(settings.environment_file)
        bus = AsyncBus.connect(settings.redis_addr.url)
        runtime = Runtime(kind, settings, environment, bus)
    except (EnvironmentFileError, TlsError, TokenFileError, CannotStartError) as error:
        return _cannot_start(error)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_unhandled)
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(RuntimeError, ValueError, NotImplementedError):
            # Not in the main thread: whoever runs us there ends us.
            loop.add_signal_handler(number, _signalled, runtime, number)
    life = _Life(runtime, build, on_ready or _print_ready)
    try:
        return await life.run()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(RuntimeError, ValueError, NotImplementedError):
                loop.remove_signal_handler(number)


class _Life(Generic[S]):
    """One run of a service, from start to end."""

    def __init__(self, runtime: Runtime[S], build: Build[S], on_ready: Callable[[Runtime[S]], None]) -> None:
        self._runtime = runtime
        self._build = build
        self._on_ready = on_ready
        self._service: Service | None = None
        self._heartbeat: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Start, serve, end."""
        runtime = self._runtime
        try:
            started = await self._until_stopped(self._start())
            if started:
                await runtime.stopping.wait()
        except (CannotStartError, TlsError, EnvironmentFileError) as error:
            runtime.message = str(error)
            runtime.exit_code = _cannot_start(error)
        except Exception as error:  # noqa: BLE001 - whatever it was, it is logged, and the process ends in order
            _LOG.exception("the process cannot start")
            runtime.message = f"cannot start: {error}"
            runtime.exit_code = FAILED_EXIT
        await self._end()
        return runtime.exit_code

    async def _until_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do something unless the process is told to end meanwhile; return whether it was done."""
        task = asyncio.create_task(work)
        stopping = asyncio.create_task(self._runtime.stopping.wait())
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
            return False
        task.result()
        return True

    async def _start(self) -> None:
        runtime = self._runtime
        _LOG.info(
            "starting",
            extra={
                "environment": runtime.environment.name,
                "bus": str(runtime.settings.redis_addr),
                "version": runtime.version,
            },
        )
        self._service = await self._build(runtime)
        await _open(runtime.own, runtime.settings.listen)
        await _wait_for_bus(runtime)
        self._heartbeat = asyncio.create_task(runtime.heartbeat(), name="heartbeat")
        await self._service.start()
        for port in runtime.ports:
            await _open(port, None)
        if runtime.state is State.STARTING:
            await runtime.set_state(State.SERVING)
        # Whoever reads the ready line may look for the process at once.
        await runtime.announce()
        self._on_ready(runtime)

    async def _end(self) -> None:
        runtime = self._runtime
        loop = asyncio.get_running_loop()
        deadline = loop.time() + runtime.settings.drain_ms_max / _MS_PER_S
        watchdog = _Watchdog(runtime.settings.drain_ms_max / _MS_PER_S + 5.0)
        has_failed = runtime.state is State.STOPPED or runtime.exit_code != 0
        if not has_failed:
            await runtime.set_state(State.DRAINING, runtime.message)
        elif runtime.state is not State.STOPPED:
            await runtime.set_state(State.STOPPED, runtime.message)
        for port in runtime.ports:
            port.stop_accepting()
        if self._service is not None:
            # Half of the time is for calls under way, which what is drained may have to answer first.
            await _bounded(self._service.drain(), (deadline - loop.time()) / 2, "draining")
        grace = max(0.1, (deadline - loop.time()) / 2)
        await asyncio.gather(*(port.close(grace) for port in runtime.ports))
        await runtime.cancel_tasks()
        if self._service is not None:
            await _bounded(self._service.close(), max(0.5, deadline - loop.time()), "closing")
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            await asyncio.wait((self._heartbeat,))
            await _bounded(self._leave_registry(has_failed), 1.0, "leaving the registry")
        await runtime.own.close(min(1.0, grace))
        await runtime.peers.close()
        with suppress(BusUnavailable):
            await runtime.bus.close()
        watchdog.cancel()
        _LOG.info("ended", extra={"exit_code": runtime.exit_code})

    async def _leave_registry(self, has_failed: bool) -> None:
        runtime = self._runtime
        with suppress(BusUnavailable, BusRefusal):
            if has_failed and runtime.exit_code == STOPPED_EXIT:
                await runtime.bus.announce(runtime.record(), _STOPPED_TTL_MS)
            else:
                await runtime.bus.withdraw(runtime.record())


class _Watchdog:
    """Ends the process by force when its ending hangs, whatever holds it up."""

    def __init__(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._bite)
        self._timer.daemon = True
        self._timer.start()

    def _bite(self) -> None:
        _LOG.critical("the process hangs while it ends; it is ended by force")
        logging.shutdown()
        os._exit(FAILED_EXIT)

    def cancel(self) -> None:
        """The process has ended by itself."""
        self._timer.cancel()


async def _wait_for_bus(runtime: Runtime[Any]) -> None:
    """Wait until the bus answers: it may be started after us, or again."""
    told = False
    while True:
        try:
            await runtime.bus.time_us()
        except (BusUnavailable, BusRefusal) as error:
            if not told:
                _LOG.warning("waiting for the bus at %s: %s", runtime.settings.redis_addr, error)
                runtime.message = f"waits for the bus at {runtime.settings.redis_addr}"
            told = True
            await asyncio.sleep(_BUS_WAIT_S)
        else:
            runtime.message = ""
            return


async def _open(port: Port, listen: Endpoint | None) -> None:
    try:
        await port.open()
    except OSError as error:
        where = f" {listen}" if listen else ""
        raise CannotStartError(
            f"LISTEN: the {port.name} port{where} cannot be opened: {error.strerror or error}; choose another "
            "address, or end what listens there"
        ) from error


async def _bounded(work: Awaitable[None], seconds: float, what: str) -> None:
    """Wait for the end of something, no longer than is given, and go on whatever becomes of it."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await work
    except TimeoutError:
        _LOG.error("%s took longer than %.1f s and was cut off", what, seconds)
    except Exception:  # noqa: BLE001 - the rest of the ending has to be done all the same
        _LOG.exception("%s failed", what)


def _print_ready(runtime: Runtime[Any]) -> None:
    print(json.dumps(runtime.ready_line()), flush=True)


def _cannot_start(error: Exception) -> int:
    _LOG.error("cannot start: %s", error)
    return error.code if isinstance(error, CannotStartError) else CANNOT_START_EXIT


def _signalled(runtime: Runtime[Any], number: int) -> None:
    if runtime.stopping.is_set():
        _LOG.warning("%s again: ending at once", signal.Signals(number).name)
        logging.shutdown()
        os._exit(128 + number)
    _LOG.info("%s: draining", signal.Signals(number).name)
    runtime.end()


def _unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody waited for: a mistake of ours that must be seen, and no reason to end."""
    error = context.get("exception")
    _LOG.error("nobody handled: %s", context.get("message", ""), exc_info=error)
