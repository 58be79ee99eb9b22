"""One port that answers gRPC, which needs HTTP/2, and HTTP/1.1, which curl and browsers speak.

The first bytes of a connection decide. gRPC clients begin with the preface of HTTP/2 (RFC 9113, section 3.4): such a
connection is relayed, byte by byte, to a grpc.aio server that listens on a Unix socket in a directory which only this
user can enter. Everything else goes to aiohttp, in the same process. TLS ends here, in front of both; ALPN prefers
http/1.1, see `tls.ALPN`. The relay binds its end to a name of its own, which the gRPC server sees as its peer:
`callers.caller_of` finds the real address and the client's certificate by it. A call that came to the Unix socket
past the port has no such name and is nobody's (`callers.UNKNOWN`).

    client ──TLS──> accept ──first bytes──┬─ PRI * HTTP/2.0 ──> relay ──Unix socket──> grpc.aio
                    (limits, handshake)   └─ anything else ───> aiohttp's protocol

Bounds: connections in all and per address, counted from accept on; a handshake, the first bytes and the head of every
HTTP request each within `head_ms_max`; a peer that takes nothing for `stall_ms_max` is cut off; neither side of a relay
reads more than the other takes.
"""

import asyncio
import contextlib
import errno
import itertools
import logging
import os
import shutil
import socket
import ssl
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from exchange.serving import callers
from exchange.serving.callers import Caller
from exchange.serving.tls import TlsFiles, peer_certificate

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_TLS_HANDSHAKE: Final = 0x16
_MS_PER_S: Final = 1000
_BACKLOG: Final = 1024
_NO_MORE_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_RELAY_BYTES_MAX: Final = 1 << 20
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PortLimits:
    """What a port bears.

    Attributes:
        connections_max: open connections in all.
        connections_per_host_max: of one address; loopback is not counted.
        head_ms_max: longest wait for a TLS handshake, the first bytes, and the head of an HTTP request.
        idle_ms_max: an HTTP connection without a request is closed after this time. gRPC has its own.
        stall_ms_max: a connection that takes none of what is sent for this time is cut off.
        body_ms_max: longest wait for the body of an HTTP request, which is read before its handler is called. How many
            bytes it may have is `client_max_size` of the application.
    """

    connections_max: int = 4096
    connections_per_host_max: int = 256
    head_ms_max: int = 10_000
    idle_ms_max: int = 75_000
    stall_ms_max: int = 60_000
    body_ms_max: int = 30_000


class HttpHandler(RequestHandler):
    """aiohttp's connection, which knows who is calling; see `callers.caller_of_request`."""

    caller: Caller
    door: "_Door"


class OnePort:
    """A listening port with a gRPC server, an HTTP application, or both behind it.

    Attributes:
        address: host:port that it listens on, once it is open.
        is_closed: it takes nobody in and nobody stays.
        grpc_address: what the gRPC server has to listen on; add it with `add_insecure_port` before `open`.
    """

    def __init__(
        self,
        *,
        app: web.Application | None,
        tls: TlsFiles | None = None,
        limits: PortLimits | None = None,
    ) -> None:
        self.limits = limits or PortLimits()
        self.address = ""
        self.is_tls = tls is not None
        self._directory = Path(tempfile.mkdtemp(prefix="clob-port-"))
        self.grpc_address = f"unix:{self._directory / 'grpc'}"
        self._context: ssl.SSLContext | None = tls.server_context() if tls is not None else None
        self._app = app if app is not None else web.Application()
        self._runner: web.AppRunner | None = None
        self._listener: socket.socket | None = None
        self._accept_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._entering: set[socket.socket] = set()
        self._names = itertools.count(1)
        self._relayed: set[str] = set()
        self._per_host: Counter[str] = Counter()
        self._open = 0
        self._all_left = asyncio.Event()
        self.is_closed = False
        self.doors: set[_Door] = set()
        self.refused = 0

    @property
    def connections(self) -> int:
        """Number of open connections, those in their handshake included."""
        return self._open

    async def open(self, host: str, port: int, *, reuse_port: bool = False) -> Self:
        """Listen, and accept from now on. Port 0: one that is free.

        Raises:
            OSError: the address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        runner = web.AppRunner(
            self._app,
            access_log=None,
            handle_signals=False,
            keepalive_timeout=self.limits.idle_ms_max / _MS_PER_S,
            shutdown_timeout=5.0,
        )
        self._app.middlewares.insert(0, self._around_request)
        await runner.setup()
        self._runner = runner
        assert runner.server is not None
        make_request = runner.server.request_factory

        def request_begins(message: Any, payload: Any, protocol: Any, *rest: Any) -> web.BaseRequest:
            protocol.door.request_begins()
            return make_request(message, payload, protocol, *rest)

        runner.server.request_factory = request_begins
        self._listener = await _listen(loop, host, port, reuse_port=reuse_port)
        bound = self._listener.getsockname()
        self.address = f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"
        loop.add_reader(self._listener, self._accept)
        return self

    def stop_accepting(self) -> None:
        """Take no new connections; those that are open stay, and HTTP ones close after the answer they wait for."""
        if self._accept_timer is not None:
            self._accept_timer.cancel()
            self._accept_timer = None
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        if self._runner is not None and self._runner.server is not None:
            self._runner.server.pre_shutdown()

    async def close(self) -> None:
        """Stop accepting, give HTTP requests a moment to end and close every connection. Stop the gRPC server first."""
        self.stop_accepting()
        if self._runner is not None:
            await self._runner.cleanup()
        self.is_closed = True
        # Nothing is cancelled: uvloop tells no protocol of a connection whose making was.
        for connection in self._entering:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for door in list(self.doors):
            door.abort()
        self._all_left.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                if self._tasks:
                    await asyncio.wait(list(self._tasks))
                if self._open:
                    await self._all_left.wait()
        for peer in list(self._relayed):
            self.relay_ended(peer)
        shutil.rmtree(self._directory, ignore_errors=True)

    # --- accepting --------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        """Take a connection that waits.

        This is no coroutine: one that is cancelled after the system has handed over a connection would lose it, open.
        """
        assert self._listener is not None
        try:
            connection, peername = self._listener.accept()
        except OSError as error:
            # Else it was there no more, or the system has told of another one's error.
            if error.errno in _NO_MORE_FILES:
                # Connections wait in the backlog meanwhile; accepting again at once would spin.
                _LOG.warning("cannot accept on %s: %s; trying again in 100 ms", self.address, error.strerror)
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._listener)
                self._accept_timer = loop.call_later(0.1, loop.add_reader, self._listener, self._accept)
            return
        connection.setblocking(False)
        host = callers.caller_of_peername(peername).host
        if not self._may_enter(host):
            self.refused += 1
            connection.close()
            return
        self._open += 1
        self._per_host[host] += 1
        self._entering.add(connection)
        self._spawn(self._serve(connection, host))

    def _may_enter(self, host: str) -> bool:
        if self._open >= self.limits.connections_max:
            return False
        return callers.is_loopback_host(host) or self._per_host[host] < self.limits.connections_per_host_max

    async def _serve(self, connection: socket.socket, host: str) -> None:
        """Make a door for a connection that was let in; the door says when it has left."""
        loop = asyncio.get_running_loop()
        door = _Door(self, host)
        handshake = self.limits.head_ms_max / _MS_PER_S if self._context is not None else None
        try:
            await loop.connect_accepted_socket(
                lambda: door, connection, ssl=self._context, ssl_handshake_timeout=handshake
            )
        except (TimeoutError, OSError, ssl.SSLError, ConnectionError):
            # The other side left, or its TLS does not fit ours: it has been told by TLS itself.
            connection.close()
        finally:
            self._entering.discard(connection)
            if not door.was_made:
                self.left(host)

    def left(self, host: str) -> None:
        """Count a connection out."""
        self._open -= 1
        self._per_host[host] -= 1
        if self._per_host[host] <= 0:
            del self._per_host[host]
        if not self._open:
            self._all_left.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @web.middleware
    async def _around_request(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Read the body within its time, and tell the connection when the request has been dealt with."""
        try:
            if request.body_exists:
                try:
                    async with asyncio.timeout(self.limits.body_ms_max / _MS_PER_S):
                        await request.read()
                except TimeoutError:
                    raise web.HTTPRequestTimeout(text="the body did not come in time; send it again") from None
            return await handler(request)
        finally:
            # The head of the next one has a time limit again.
            door = getattr(request.protocol, "door", None)
            if door is not None:
                door.request_ends()

    # --- what a door needs ------------------------------------------------------------------------------------------

    def http_handler(self, door: "_Door") -> HttpHandler:
        """Return a new HTTP connection of the application."""
        assert self._runner is not None
        assert self._runner.server is not None
        handler = HttpHandler(
            self._runner.server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=self.limits.idle_ms_max / _MS_PER_S,
            lingering_time=self.limits.head_ms_max / _MS_PER_S,
        )
        handler.caller = door.caller
        handler.door = door
        return handler

    def relay(self, door: "_Door") -> None:
        """Connect a door with the gRPC server; the door reads nothing until it is."""
        self._spawn(self._connect(door))

    def relay_ended(self, peer: str) -> None:
        """Forget who was behind a relayed connection."""
        self._relayed.discard(peer)
        callers.forget(peer)

    async def _connect(self, door: "_Door") -> None:
        loop = asyncio.get_running_loop()
        name = str(self._directory / f"{next(self._names)}")
        peer = f"unix:{name}"
        upstream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            upstream.setblocking(False)
            upstream.bind(name)
            try:
                await loop.sock_connect(upstream, self.grpc_address.removeprefix("unix:"))
            finally:
                # The name stays the socket's own; the file has done its work.
                os.unlink(name)  # noqa: PTH108 - once per connection
            callers.remember(peer, door.caller)
            self._relayed.add(peer)
            await loop.create_unix_connection(lambda: _Upstream(door, peer), sock=upstream)
        except OSError as error:
            upstream.close()
            self.relay_ended(peer)
            _LOG.warning("connection of %s to the gRPC server failed: %s", door.caller.address, error)
            door.abort()


class _Door(asyncio.Protocol):
    """The client's end of a connection: finds out what it speaks, then passes on what it says."""

    def __init__(self, port: OnePort, host: str) -> None:
        self._port = port
        self._host = host
        self.caller = callers.UNKNOWN
        self.was_made = False
        self.transport: asyncio.Transport | None = None
        self._begun = b""
        self._http: HttpHandler | None = None
        self._upstream: _Upstream | None = None
        self._is_relayed = False
        self._ended = False
        self._is_busy = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    # --- the client's transport -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.was_made = True
        self.transport = transport  # type: ignore[assignment]
        ssl_object = transport.get_extra_info("ssl_object")
        try:
            certificate = peer_certificate(ssl_object)
        except ValueError:
            # Verified, and still not readable by us: nobody's.
            certificate = None
        self.caller = callers.caller_of_peername(
            transport.get_extra_info("peername"), certificate, is_tls=ssl_object is not None
        )
        self._port.doors.add(self)
        if self._port.is_closed:
            self.abort()
            return
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._stop_stall_timer()
        self._port.doors.discard(self)
        self._port.left(self._host)
        self.transport = None
        if self._http is not None:
            self._http.connection_lost(exc)
        if self._upstream is not None:
            self._upstream.door_left()

    def data_received(self, data: bytes) -> None:
        if self._upstream is not None:
            self._upstream.send(data)
        elif self._http is not None:
            if not self._is_busy and self._head_timer is None:
                self._start_head_timer()
            self._http.data_received(data)
        else:
            self._begun += data
            if not self._is_relayed:
                self._decide()

    def eof_received(self) -> bool:
        """Half of the connection has ended; return whether the other half stays open."""
        if self._upstream is not None:
            return self._upstream.send_eof()
        self._ended = True
        if self._http is None:
            return self._is_relayed
        if self.caller.is_tls or not (self._is_busy or self._head_timer):
            return False
        # `printf ... | nc` ends its half and waits for the answer, after which aiohttp closes. A head that is cut short
        # never gets one; its timer ends it.
        self._http.close()
        return True

    def pause_writing(self) -> None:
        self._stall_timer = asyncio.get_running_loop().call_later(
            self._port.limits.stall_ms_max / _MS_PER_S, self.abort
        )
        if self._http is not None:
            self._http.pause_writing()
        if self._upstream is not None:
            self._upstream.pause_reading()

    def resume_writing(self) -> None:
        self._stop_stall_timer()
        if self._http is not None:
            self._http.resume_writing()
        if self._upstream is not None:
            self._upstream.resume_reading()

    # --- what is spoken ---------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        """Choose by the bytes so far, as soon as they can only be the one or the other."""
        begun = self._begun
        if len(begun) < len(PREFACE) and PREFACE.startswith(begun):
            return
        assert self.transport is not None
        if begun.startswith(PREFACE):
            self._stop_head_timer()
            self._is_relayed = True
            self.transport.pause_reading()
            self._port.relay(self)
        elif begun[0] == _TLS_HANDSHAKE:
            # A TLS client on a port without TLS. It understands nothing that could be answered.
            self.abort()
        else:
            self._http = self._port.http_handler(self)
            self._http.connection_made(self.transport)
            self._begun = b""
            self._http.data_received(begun)

    def request_begins(self) -> None:
        """The head of an HTTP request is complete."""
        self._is_busy = True
        self._stop_head_timer()

    def request_ends(self) -> None:
        """An HTTP request has been dealt with."""
        self._is_busy = False

    def relay_made(self, upstream: "_Upstream") -> None:
        """The gRPC server is connected: hand over what has come so far and read on."""
        if self.transport is None:
            upstream.door_left()
            return
        self._upstream = upstream
        begun, self._begun = self._begun, b""
        upstream.send(begun)
        if self._ended:
            upstream.send_eof()
        self.resume_reading()

    def relay_ended(self, peer: str) -> None:
        """The gRPC server has closed its end."""
        self._port.relay_ended(peer)
        self.finish()

    # --- called by the relay ----------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Write to the client."""
        if self.transport is not None:
            self.transport.write(data)

    def finish(self) -> None:
        """Close when everything that was written has been sent; a client that stalls has no more than its time."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()

    def pause_reading(self) -> None:
        """The gRPC server takes no more for now."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """The gRPC server takes more."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    # --- timers -----------------------------------------------------------------------------------------------------

    def _start_head_timer(self) -> None:
        delay = self._port.limits.head_ms_max / _MS_PER_S
        self._head_timer = asyncio.get_running_loop().call_later(delay, self.abort)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None


class _Upstream(asyncio.Protocol):
    """The gRPC server's end of a relayed connection."""

    def __init__(self, door: _Door, peer: str) -> None:
        self._door = door
        self._peer = peer
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        transport.set_write_buffer_limits(high=_RELAY_BYTES_MAX)  # type: ignore[attr-defined]
        self._door.relay_made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._door.relay_ended(self._peer)

    def data_received(self, data: bytes) -> None:
        self._door.send(data)

    def eof_received(self) -> bool:
        # HTTP/2 has nothing to say after its server has stopped speaking: close both halves.
        return False

    def pause_writing(self) -> None:
        self._door.pause_reading()

    def resume_writing(self) -> None:
        self._door.resume_reading()

    def send(self, data: bytes) -> None:
        """Write to the gRPC server."""
        if self._transport is not None:
            self._transport.write(data)

    def send_eof(self) -> bool:
        """Tell the gRPC server that the client has ended its half; return whether it is still connected."""
        if self._transport is None:
            return False
        self._transport.write_eof()
        return True

    def pause_reading(self) -> None:
        """The client takes no more for now."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """The client takes more."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def door_left(self) -> None:
        """The client's connection has ended."""
        if self._transport is not None:
            self._transport.close()


async def _listen(loop: asyncio.AbstractEventLoop, host: str, port: int, *, reuse_port: bool) -> socket.socket:
    """Return a socket that listens on the first address of a host."""
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            with contextlib.suppress(OSError):
                # [::] answers IPv4 too, where the system can.
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
