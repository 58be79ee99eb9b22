"""A port of a process: gRPC services with health and reflection, and an HTTP application, on one address."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

import grpc
import grpc.aio
from aiohttp import web
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from exchange.config.values import Endpoint
from exchange.serving.guard import MESSAGE_BYTES_MAX, CallGuard, Gate
from exchange.serving.metrics import Metrics
from exchange.serving.one_port import OnePort, PortLimits
from exchange.serving.reflection import NAMES, add_reflection
from exchange.serving.tls import TlsFiles

HEALTH: Final = "grpc.health.v1.Health"
RESPONSE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Largest message that our own clients take. Clients of others take 4 MiB unless they are told to take more."""

SERVER_OPTIONS: Final[dict[str, int]] = {
    "grpc.max_receive_message_length": 2 * MESSAGE_BYTES_MAX,
    "grpc.max_send_message_length": RESPONSE_BYTES_MAX,
    "grpc.max_metadata_size": 8 * 1024,
    "grpc.absolute_max_metadata_size": 16 * 1024,
    "grpc.max_concurrent_streams": 16_384,
    # gRPC would end calls at random, without a word why, where more than a thousand are not taken up yet.
    "grpc.server.max_pending_requests": 16_384,
    "grpc.server.max_pending_requests_hard_limit": 16_384,
    # A client that is gone is found within 40 s; one that pings more often than every 10 s is sent away.
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.http2.min_recv_ping_interval_without_data_ms": 10_000,
    "grpc.http2.max_ping_strikes": 2,
    "grpc.max_connection_idle_ms": 600_000,
    "grpc.server_handshake_timeout_ms": 10_000,
}

STRANGERS_OPTIONS: Final[dict[str, int]] = {
    # Calls of a connection; what is more waits with its sender.
    "grpc.max_concurrent_streams": 128,
    # What a client may send ahead on a stream: what is not read yet waits with its sender, not here. Windows that grow
    # with the measured bandwidth let a crowd leave hundreds of megabytes in this process, and wait for what is in them.
    # Over 40 ms of round trip this is 1.5 MB/s for a stream.
    "grpc.http2.bdp_probe": 0,
    "grpc.http2.lookahead_bytes": 64 * 1024,
}
"""On ports for anybody, beside the others."""

_STATUS: Final = health_pb2.HealthCheckResponse


class _Recorder:
    """Stands in for a server in generated add_..._to_server functions and remembers the names of the services."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self.names: list[str] = []
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, name: str, handlers: Any) -> None:
        self.names.append(name)
        self._server.add_registered_method_handlers(name, handlers)


class Port:
    """One address of a process. Add services, then open it.

    A direct port is gRPC's own: no byte of it passes through Python before it is a message, which is for ports under
    load. It answers no HTTP/1.1, does not count connections, and asks for client certificates only where they are
    required.

    Attributes:
        name: what the ready line and the registry call its address.
        app: routes of HTTP; add to it before the port is opened.
        address: host:port once it is open.
        guard: what stands before every method.
    """

    def __init__(
        self,
        name: str,
        listen: Endpoint,
        metrics: Metrics,
        gate: Gate,
        *,
        app: web.Application | None = None,
        tls: TlsFiles | None = None,
        limits: PortLimits | None = None,
        calls_max: int = 4_096,
        calls_per_host_max: int = 512,
        reuse_port: bool = False,
        direct: bool = False,
        for_strangers: bool = False,
        is_trusted: Callable[[Any], bool] | None = None,
    ) -> None:
        self.name = name
        self.app = app if app is not None else web.Application()
        self.guard = CallGuard(
            metrics, gate, calls_max=calls_max, calls_per_host_max=calls_per_host_max, is_trusted=is_trusted
        )
        self._listen = listen
        self._reuse_port = reuse_port
        self._metrics = metrics
        self._tls = tls
        self._door = None if direct else OnePort(app=self.app, tls=tls, limits=limits)
        self._direct_address = ""
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=[self.guard],
            options=[
                *(SERVER_OPTIONS | STRANGERS_OPTIONS if for_strangers else SERVER_OPTIONS).items(),
                ("grpc.so_reuseport", int(direct and reuse_port)),
            ],
            # Behind the guard's own limit, which has a reason and a sentence.
            maximum_concurrent_rpcs=2 * calls_max,
        )
        self._services: list[str] = []
        self._is_serving = False
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    @property
    def address(self) -> str:
        """Where it listens, host:port; empty: it is not open."""
        return self._door.address if self._door is not None else self._direct_address

    @property
    def is_tls(self) -> bool:
        """Whether it speaks TLS."""
        return self._tls is not None

    @property
    def services(self) -> tuple[str, ...]:
        """Full names of its gRPC services, without health and reflection."""
        return tuple(self._services)

    def add(self, add_to_server: Callable[[Any, Any], None], servicer: Any) -> Self:
        """Serve a gRPC service, given the function that was generated for it: add_..._to_server."""
        recorder = _Recorder(self._server)
        add_to_server(servicer, recorder)
        self._services += recorder.names
        return self

    def add_handler(self, service: str, handlers: "Mapping[str, grpc.RpcMethodHandler[Any, Any]]") -> Self:
        """Serve methods of a service by handlers of their own, such as those of `internal.proxy_handlers`."""
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, dict(handlers)),))
        if service not in self._services:
            self._services.append(service)
        return self

    async def open(self) -> None:
        """Listen. Health says NOT_SERVING until `set_serving`.

        Raises:
            OSError: the address cannot be listened on.
        """
        add_reflection(self._server, [*self._services, HEALTH])
        await self.set_serving(self._is_serving)
        door = self._door
        if door is None:
            self._direct_address = self._listen_directly()
            await self._server.start()
            return
        self._server.add_insecure_port(door.grpc_address)
        await self._server.start()
        await door.open(self._listen.host, self._listen.port, reuse_port=self._reuse_port)
        self._metrics.connections.labels(self.name).set_function(lambda: door.connections)
        self._metrics.refused.labels(self.name).set_function(lambda: door.refused)

    def _listen_directly(self) -> str:
        """Let the gRPC server listen; return the address. gRPC says nothing of why it could not."""
        wanted = str(self._listen)
        try:
            if self._tls is not None:
                port = self._server.add_secure_port(wanted, self._tls.grpc_credentials())
            else:
                port = self._server.add_insecure_port(wanted)
        except RuntimeError as error:
            raise OSError(f"{wanted} cannot be listened on") from error
        return str(self._listen._replace(port=port))

    async def set_serving(self, is_serving: bool) -> None:
        """Say over grpc.health.v1 whether its services serve, each and all together."""
        self._is_serving = is_serving
        status = _STATUS.SERVING if is_serving else _STATUS.NOT_SERVING
        for name in ("", *self._services):
            await self._health.set(name, status)
        for name in (HEALTH, *NAMES):
            await self._health.set(name, _STATUS.SERVING)

    def stop_accepting(self) -> None:
        """Take no new connections; those that are open stay. A direct port goes on, and its guard refuses calls."""
        if self._door is not None:
            self._door.stop_accepting()

    async def close(self, grace_s: float) -> None:
        """End: streams at once, calls within the grace that is given, then connections."""
        self.stop_accepting()
        self.guard.end_streams()
        await self._server.stop(grace_s)
        if self._door is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(1.0, grace_s)):
                    await self._door.close()
