"""The operators' front: gRPC and HTTP/JSON on port 9090, in a process of its own beside the verifying ones."""

import asyncio
import contextlib
import importlib.metadata
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc

from clob.v1.door_reason_pb2 import DoorReason
from exchange.bus.client import AsyncBus
from exchange.config.environment import Environment
from exchange.config.values import Endpoint
from exchange.control.follower import ControlFollower
from exchange.execution.checkpoints import CheckpointStore
from exchange.ingress.front_access import Access, AccessRules
from exchange.ingress.front_calls import Front
from exchange.ingress.front_methods import METHODS, SERVICES, Method
from exchange.ingress.front_tokens import TokenStore
from exchange.ingress.http_front import make_app
from exchange.ingress.settings import IngressSettings
from exchange.serving import errors
from exchange.serving.callers import caller_of
from exchange.serving.internal import Peers
from exchange.serving.metrics import Metrics
from exchange.serving.one_port import PortLimits
from exchange.serving.ports import Port
from exchange.serving.process import CannotStartError, port_tls

_log = logging.getLogger(__name__)

_DRAIN_S_MAX: Final = 5.0


def rules_of(settings: IngressSettings) -> AccessRules:
    """Return what the settings say about callers."""
    return AccessRules(
        loopback_trusted=settings.admin_loopback_trusted,
        allowed_hosts=frozenset(host.lower() for host in settings.admin_hosts),
        allowed_origins=frozenset(origin.rstrip("/") for origin in settings.admin_origins),
        calls_per_second=settings.admin_calls_per_second,
        calls_burst=settings.admin_calls_burst,
    )


async def serve_front(
    settings: IngressSettings,
    environment: Environment,
    bus: AsyncBus,
    listen: str,
    ready: Callable[[str], None],
    stop: asyncio.Event,
    metrics: Metrics | None = None,
) -> None:
    """Serve the operators' port until `stop` is set, then drain.

    Args:
        settings: of ingress-verifier.
        environment: what the environment's file says.
        bus: a connected client.
        listen: host:port; port 0: one that is free.
        ready: called with host:port once it serves.
        stop: set when the process is to end.
        metrics: where calls are counted; None: nowhere that can be read.

    Raises:
        CannotStartError: TLS is not set up as it has to be, or the library of the verifier does not load.
        OSError: the address cannot be listened on.
    """
    from exchange.ingress.door import make_door
    from exchange.ingress.verification import verify_bytes

    peers = Peers(bus, settings)
    follower = ControlFollower(bus, environment, CheckpointStore(settings.checkpoints))
    try:
        await follower.start()
        try:
            door = make_door(environment, follower, settings)
        except ValueError as error:
            raise CannotStartError(str(error)) from error

        async def verify(request: bytes, host: str) -> bytes:
            return await verify_bytes(door, request, host)

        access = Access(rules_of(settings), TokenStore(settings.admin_tokens))
        front = Front(access, peers, follower, verify)
        port = make_port(front, settings, environment.name, Endpoint.parse(listen), stop, metrics)
        await port.open()
        await port.set_serving(True)
        try:
            ready(port.address)
            await stop.wait()
            await port.set_serving(False)
        finally:
            await port.close(min(_DRAIN_S_MAX, settings.drain_ms_max / 2_000))
    finally:
        await follower.stop()
        await peers.close()


def make_port(
    front: Front,
    settings: IngressSettings,
    environment: str,
    listen: Endpoint,
    stop: asyncio.Event,
    metrics: Metrics | None = None,
) -> Port:
    """Return the port of a front, not open yet. It refuses calls once `stop` is set."""
    version = importlib.metadata.version("clob")

    def gate() -> errors.Refusal | None:
        if not stop.is_set():
            return None
        detail = "this process is shutting down; connect again and make the same call"
        return errors.refused(DoorReason.DOOR_REASON_DRAINING, detail)

    metrics = metrics or Metrics("ingress-verifier", version)
    port = Port(
        "admin",
        listen,
        metrics,
        gate,
        app=make_app(front, environment, version, gate, metrics, settings.admin_body_bytes_max),
        tls=port_tls(settings, listen, is_own=False),
        limits=PortLimits(
            connections_max=settings.connections_max, connections_per_host_max=settings.connections_per_host_max
        ),
        calls_max=settings.calls_max,
        calls_per_host_max=settings.calls_per_host_max,
    )
    for service in SERVICES:
        methods = [method for method in METHODS.values() if method.descriptor.containing_service.full_name == service]
        port.add_handler(service, {method.descriptor.name: _handler(front, method) for method in methods})
    return port


def _handler(front: Front, method: Method) -> "grpc.RpcMethodHandler[Any, Any]":
    """Return what answers gRPC calls of a method; bytes come in and go out as they are."""

    async def unary(request: bytes, context: Any) -> bytes:
        principal = front.admit(method, caller_of(context), _headers(context))
        return await front.unary(method, principal, request, context.time_remaining())

    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        principal = front.admit(method, caller_of(context), _headers(context))
        responses = front.stream(method, principal, request, context.time_remaining())
        async with contextlib.aclosing(responses):  # type: ignore[type-var]
            async for response in responses:
                yield response

    if method.streams:
        return grpc.unary_stream_rpc_method_handler(stream)
    return grpc.unary_unary_rpc_method_handler(unary)


def _headers(context: Any) -> dict[str, str]:
    """Return the metadata of a call that is text, by name."""
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
