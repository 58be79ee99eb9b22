"""The other processes of the environment: found in the registry, called over channels that are kept, and proxied to.

    address = await peers.find("market-matcher", shard=3)
    answer = await peers.call("settlement-plane", None, "/clob.v1.SettlementService/Audit", request, is_safe=True)
    port.add_handler(name, peers.proxy_handlers(SERVICE, target))

Processes on loopback know one another by being there; from elsewhere they send the internal token.
"""

import asyncio
import contextlib
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import grpc.aio
from google.protobuf.descriptor import ServiceDescriptor
from google.rpc.code_pb2 import Code

from clob.v1.door_reason_pb2 import DoorReason
from exchange.bus.client import AsyncBus
from exchange.bus.errors import BusUnavailable
from exchange.bus.registry import ProcessRecord
from exchange.config.service import ServiceSettings
from exchange.serving import callers
from exchange.serving.errors import Refusal, reason_of, refused, status_of_error

TOKEN_HEADER: Final = "clob-internal-token"
TRUSTED_PREFIX: Final = "clob-"
"""Headers with this prefix are set by our own processes; what callers send under it is never passed on."""
TOKEN_CHARACTERS_MIN: Final = 32

CHANNEL_OPTIONS: Final[Mapping[str, int]] = {
    "grpc.max_receive_message_length": 64 * 1024 * 1024,
    "grpc.max_send_message_length": 64 * 1024 * 1024,
    "grpc.keepalive_time_ms": 20_000,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 2_000,
    # A channel of its own for each address: gRPC would share connections among channels and hide that one moved.
    "grpc.use_local_subchannel_pool": 1,
}
_REGISTRY_AGE_S: Final = 0.5
"""Age up to which the registry's content is used without asking again."""
_SUSPECT_S: Final = 2.0
"""How long a process that did not answer is passed over while another could be meant."""
_RETRY_DELAYS_S: Final = (0.05, 0.2, 0.5)
_TIMEOUT_S: Final = 30.0
_CALL_AGAIN: Final = frozenset({"DRAINING", "UNAVAILABLE"})
"""Reasons which say that nothing was done and that the same may be asked of another process."""


class TokenFileError(ValueError):
    """The file of the internal token cannot be used."""


class Target(NamedTuple):
    """Who is to be called.

    Attributes:
        kind: name of the process' command.
        shard: one that it serves; None: any process of the kind.
        headers: to be sent along.
    """

    kind: str
    shard: int | None = None
    headers: Sequence[tuple[str, str]] = ()


TargetOf = Callable[[str, bytes, Any], Target | Awaitable[Target]]


def load_token(path: Path | None) -> str:
    """Return the internal token of a file; empty: there is none.

    Raises:
        TokenFileError: the file cannot be read, or the token is too short; the message does not have it.
    """
    if path is None:
        return ""
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenFileError(f"INTERNAL_TOKEN: {path} cannot be read ({error}); name a file of ASCII text") from None
    if len(token) < TOKEN_CHARACTERS_MIN or not token.isprintable() or " " in token:
        raise TokenFileError(
            f"INTERNAL_TOKEN: {path} has {len(token)} characters; wants one line of at least {TOKEN_CHARACTERS_MIN}, "
            "without blanks, such as `openssl rand -hex 32` writes"
        )
    return token


class Peers:
    """Channels to the other processes of an environment.

    Args:
        bus: has the registry.
        settings: where token and certificates are.
    """

    def __init__(self, bus: AsyncBus, settings: ServiceSettings) -> None:
        self._bus = bus
        self._token = load_token(settings.internal_token_file)
        self._settings = settings
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._records: list[ProcessRecord] = []
        self._read_at = -_REGISTRY_AGE_S
        self._reading: asyncio.Task[None] | None = None
        self._suspects: dict[str, float] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def is_internal(self, context: Any) -> bool:
        """Return whether a gRPC call comes from a process of ours: from loopback, or with the internal token."""
        if callers.caller_of(context).is_loopback:
            return True
        if not self._token:
            return False
        return any(
            key == TOKEN_HEADER and isinstance(value, str) and hmac.compare_digest(value.encode(), self._token.encode())
            for key, value in context.invocation_metadata() or ()
        )

    # --- finding ----------------------------------------------------------------------------------------------------

    async def processes(self, *, fresh: bool = False) -> list[ProcessRecord]:
        """Return the registry's records, at most half a second old; what is older where the bus cannot be asked."""
        if fresh or time.monotonic() - self._read_at > _REGISTRY_AGE_S:
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read())
            await asyncio.shield(self._reading)
        return self._records

    async def _read(self) -> None:
        try:
            self._records = await self._bus.processes()
        except BusUnavailable:
            return
        self._read_at = time.monotonic()
        self._forget_channels({record.address for record in self._records})

    async def find(self, kind: str, shard: int | None = None, *, fresh: bool = False) -> ProcessRecord | None:
        """Return the record of the process to call: the youngest that serves, else the youngest; None: no such."""
        now = time.monotonic()
        found = [
            record
            for record in await self.processes(fresh=fresh)
            if record.kind == kind and (shard is None or shard in record.shards)
        ]
        return max(
            found,
            key=lambda record: (
                self._suspects.get(record.address, 0.0) <= now,
                record.state == "SERVING",
                record.started_us,
            ),
            default=None,
        )

    # --- channels ---------------------------------------------------------------------------------------------------

    def channel(self, record: ProcessRecord) -> grpc.aio.Channel:
        """Return the channel to a process. It is closed when the process leaves the registry."""
        channel = self._channels.get(record.address)
        if channel is None:
            options = list(CHANNEL_OPTIONS.items())
            if record.extra.get("tls"):
                channel = grpc.aio.secure_channel(record.address, self._credentials(), options)
            else:
                channel = grpc.aio.insecure_channel(record.address, options)
            self._channels[record.address] = channel
        return channel

    def headers(self, record: ProcessRecord) -> tuple[tuple[str, str], ...]:
        """Return the headers that a process needs to know us by."""
        host = record.address.rpartition(":")[0].strip("[]")
        return ((TOKEN_HEADER, self._token),) if self._token and not callers.is_loopback_host(host) else ()

    def _credentials(self) -> grpc.ChannelCredentials:
        settings = self._settings
        roots = settings.internal_ca or settings.tls_cert
        return grpc.ssl_channel_credentials(
            roots.read_bytes() if roots else None,
            settings.tls_key.read_bytes() if settings.tls_key and settings.tls_cert else None,
            settings.tls_cert.read_bytes() if settings.tls_key and settings.tls_cert else None,
        )

    def _forget_channels(self, addresses: Collection[str]) -> None:
        for address in [address for address in self._channels if address not in addresses]:
            # Calls under way, such as those of a process whose heartbeat was late, go on to their end.
            closing = asyncio.create_task(self._channels.pop(address).close(grace=_TIMEOUT_S))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all channels."""
        for task in (self._reading, *self._closing):
            if task is not None:
                task.cancel()
        channels, self._channels = self._channels, {}
        await asyncio.gather(*(channel.close() for channel in channels.values()))

    # --- calling ----------------------------------------------------------------------------------------------------

    async def call(
        self,
        kind: str,
        shard: int | None,
        method: str,
        request: bytes,
        *,
        headers: Sequence[tuple[str, str]] = (),
        timeout_s: float | None = None,
        is_safe: bool = False,
    ) -> bytes:
        """Call a method with one answer, bytes in and bytes out.

        Args:
            kind: name of the process' command.
            shard: one that it serves; None: any process of the kind.
            method: "/package.Service/Method".
            request: encoded message.
            headers: to be sent along.
            timeout_s: bound of it all, retries included; None: 30 s.
            is_safe: doing it twice is no more than doing it once, so that it is tried again when the outcome of an
                attempt is not known. What was refused as UNAVAILABLE or DRAINING is tried again in any case.

        Raises:
            Refusal: with the status that the process ended the call with, details included, or UNAVAILABLE.
        """
        deadline = time.monotonic() + (timeout_s if timeout_s is not None else _TIMEOUT_S)
        delays = iter(_RETRY_DELAYS_S)
        fresh = False
        while True:
            record = await self.find(kind, shard, fresh=fresh)
            again = True
            if record is None:
                refusal = _nobody(kind, shard)
            else:
                invoke: Any = self.channel(record).unary_unary(method)
                try:
                    left = max(0.001, deadline - time.monotonic())
                    return bytes(await invoke(request, timeout=left, metadata=(*headers, *self.headers(record))))
                except grpc.aio.AioRpcError as error:
                    refusal, again = self._failed(record, method, error, is_safe=is_safe)
            delay = next(delays, None)
            if not again or delay is None or time.monotonic() + delay >= deadline:
                raise refusal
            await asyncio.sleep(delay)
            fresh = True

    async def stream(
        self,
        kind: str,
        shard: int | None,
        method: str,
        request: bytes,
        *,
        headers: Sequence[tuple[str, str]] = (),
        timeout_s: float | None = None,
    ) -> AsyncIterator[bytes]:
        """Call a method that answers with a stream; return its messages as they come. Tried again until the first.

        Raises:
            Refusal: as `call`; UNAVAILABLE too when the process goes away in the middle.
        """
        delays = iter(_RETRY_DELAYS_S)
        fresh = False
        while True:
            record = await self.find(kind, shard, fresh=fresh)
            again = True
            if record is None:
                refusal = _nobody(kind, shard)
            else:
                invoke: Any = self.channel(record).unary_stream(method)
                call = invoke(request, timeout=timeout_s, metadata=(*headers, *self.headers(record)))
                try:
                    async for message in call:
                        again = False
                        yield message
                    return
                except grpc.aio.AioRpcError as error:
                    refusal, may = self._failed(record, method, error, is_safe=True)
                    again = again and may
                finally:
                    call.cancel()
            delay = next(delays, None)
            if not again or delay is None:
                raise refusal
            await asyncio.sleep(delay)
            fresh = True

    def _failed(
        self, record: ProcessRecord, method: str, error: grpc.aio.AioRpcError, *, is_safe: bool
    ) -> tuple[Refusal, bool]:
        """Return what a failed attempt ends the call with, and whether another process may be asked."""
        status = status_of_error(error)
        reason = reason_of(status)
        if reason:
            if reason in _CALL_AGAIN:
                self._suspects[record.address] = time.monotonic() + _SUSPECT_S
            return Refusal(status), reason in _CALL_AGAIN
        if status.code in (Code.UNAVAILABLE, Code.CANCELLED):
            # The process, or the way to it, went away. What became of the call is not known.
            self._suspects[record.address] = time.monotonic() + _SUSPECT_S
            detail = f"{record.kind} at {record.address} does not answer {method.removeprefix('/')} ({status.message})"
            unknown = "" if is_safe else "; whether it was done is not known: ask again under the same request_id"
            return refused(DoorReason.DOOR_REASON_UNAVAILABLE, detail + unknown), is_safe
        return Refusal(status), False

    # --- proxying ---------------------------------------------------------------------------------------------------

    def proxy_handlers(
        self,
        service: ServiceDescriptor,
        target_of: TargetOf,
        *,
        methods: Collection[str] | None = None,
        safe: Collection[str] = (),
    ) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
        """Return handlers that pass a service's calls on, byte for byte, and their answers and errors back.

        Args:
            service: its descriptor, as in order_service_pb2.DESCRIPTOR.services_by_name["OrderService"].
            target_of: says who is called, given the method's name, the request's bytes and the gRPC context; may be a
                coroutine, and may raise Refusal. Only its headers are sent along, none of the caller's.
            methods: names of those to pass on; None: all. None of them takes a stream.
            safe: names of those that may be tried again whatever happened.
        """
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        for method in service.methods:
            if methods is not None and method.name not in methods:
                continue
            if method.client_streaming:
                raise TypeError(f"{method.full_name}: a stream of requests is not passed on")
            path = f"/{service.full_name}/{method.name}"
            if method.server_streaming:
                handlers[method.name] = grpc.unary_stream_rpc_method_handler(
                    self._stream_proxy(method.name, path, target_of)
                )
            else:
                handlers[method.name] = grpc.unary_unary_rpc_method_handler(
                    self._unary_proxy(method.name, path, target_of, is_safe=method.name in safe)
                )
        return handlers

    def _unary_proxy(self, name: str, path: str, target_of: TargetOf, *, is_safe: bool) -> Any:
        async def pass_on(request: bytes, context: Any) -> bytes:
            target = await _resolve(target_of(name, request, context))
            return await self.call(
                target.kind,
                target.shard,
                path,
                request,
                headers=target.headers,
                timeout_s=context.time_remaining(),
                is_safe=is_safe,
            )

        return pass_on

    def _stream_proxy(self, name: str, path: str, target_of: TargetOf) -> Any:
        async def pass_on(request: bytes, context: Any) -> AsyncIterator[bytes]:
            target = await _resolve(target_of(name, request, context))
            messages = self.stream(
                target.kind,
                target.shard,
                path,
                request,
                headers=target.headers,
                timeout_s=context.time_remaining(),
            )
            async with contextlib.aclosing(messages):  # type: ignore[type-var]
                async for message in messages:
                    yield message

        return pass_on


async def _resolve(target: Target | Awaitable[Target]) -> Target:
    return target if isinstance(target, Target) else await target


def _nobody(kind: str, shard: int | None) -> Refusal:
    what = f"no {kind} serves shard {shard}" if shard is not None else f"no {kind} runs"
    return refused(
        DoorReason.DOOR_REASON_UNAVAILABLE,
        f"{what}, as far as the registry knows; start one, see `clob doctor`, or ask again",
    )
