"""What every process has: one port for gRPC and HTTP, TLS, limits, errors, life, peers. Over real sockets."""

import asyncio
import contextlib
import gc
import io
import json
import logging
import os
import re
import shutil
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import grpc
import pytest
import uvloop
from aiohttp import web
from google.rpc import error_details_pb2
from google.rpc.code_pb2 import Code
from grpc_health.v1 import health_pb2, health_pb2_grpc

from clob.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    matching_service_pb2,
    process_service_pb2,
    process_service_pb2_grpc,
    settlement_service_pb2,
    verification_service_pb2,
    verification_service_pb2_grpc,
)
from clob.v1.door_reason_pb2 import DoorReason
from exchange.bus.client import AsyncBus
from exchange.bus.registry import ProcessRecord
from exchange.config.environment import Durability
from exchange.config.service import ClientAuth, ServiceSettings
from exchange.config.values import Endpoint, RedisAddress
from exchange.domain.rejects import RejectReason
from exchange.embedded.data_dir import DataDir, open_data_dir
from exchange.serving import callers, errors
from exchange.serving import guard as guard_module
from exchange.serving.bounds import Bounds, Each, Known, Present, check_bounds
from exchange.serving.callers import caller_of_request
from exchange.serving.errors import Refusal, refused, status_of_error
from exchange.serving.internal import TOKEN_HEADER, Peers, Target, TokenFileError, load_token
from exchange.serving.logs import LineFormatter
from exchange.serving.metrics import Metrics
from exchange.serving.one_port import PREFACE, OnePort, PortLimits
from exchange.serving.ports import Port
from exchange.serving.process import CannotStartError, port_tls
from exchange.serving.tls import TlsError, TlsFiles
from tests.support.certificates import write_certificates
from tests.support.sample_service import Account, Verification
from tests.support.servers import BusServer

LOOPBACK = Endpoint("127.0.0.1", 0)
CALL_S_MAX = 20
BUF = Path(sys.executable).parent / "buf"
T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine, bounded."""

    async def bounded() -> T:
        async with asyncio.timeout(60):
            return await work

    return uvloop.run(bounded())


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    write_certificates(folder, "server", "alice")
    return folder


def service_settings(**values: Any) -> ServiceSettings:
    return ServiceSettings(**values)


def tls_files(pki: Path, auth: ClientAuth = ClientAuth.OPTIONAL, *, with_ca: bool = True) -> TlsFiles:
    return TlsFiles(pki / "server.pem", pki / "server.key", pki / "ca.pem" if with_ca else None, auth)


def credentials(pki: Path, name: str | None = None) -> grpc.ChannelCredentials:
    key, certificate = (pki / f"{name}.key", pki / f"{name}.pem") if name else (None, None)
    return grpc.ssl_channel_credentials(
        (pki / "ca.pem").read_bytes(),
        key.read_bytes() if key else None,
        certificate.read_bytes() if certificate else None,
    )


def http_app() -> web.Application:
    async def hello(request: web.Request) -> web.Response:
        caller = caller_of_request(request)
        name = caller.certificate.common_name if caller.certificate else ""
        return web.json_response({"bytes": len(await request.read()), "host": caller.host, "name": name})

    app = web.Application(client_max_size=1 << 20)
    app.router.add_route("*", "/hello", hello)
    return app


@contextlib.asynccontextmanager
async def open_port(
    *,
    tls: TlsFiles | None = None,
    limits: PortLimits | None = None,
    listen: Endpoint = LOOPBACK,
    gate: Callable[[], Refusal | None] = lambda: None,
    **options: Any,
) -> AsyncIterator[Port]:
    """Open a port with two services and an HTTP application."""
    app = None if options.get("direct") else http_app()
    port = Port("test", listen, Metrics("test", "0"), gate, app=app, tls=tls, limits=limits, **options)
    port.add(verification_service_pb2_grpc.add_VerificationServiceServicer_to_server, Verification())
    port.add(account_service_pb2_grpc.add_AccountServiceServicer_to_server, Account())
    await port.open()
    await port.set_serving(True)
    try:
        yield port
    finally:
        await port.close(0.1)


async def verify(channel: grpc.aio.Channel, environment: str = "", **options: Any) -> Any:
    stub = verification_service_pb2_grpc.VerificationServiceStub(channel)
    request = verification_service_pb2.VerifyRequest(environment=environment)
    return await stub.Verify(request, timeout=options.pop("timeout", CALL_S_MAX), **options)


async def failure(work: Awaitable[Any]) -> tuple[Any, dict[str, Any]]:
    """Return the status of a call that fails, and its details by name of their type; each comes once."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await work
    status = status_of_error(raised.value)
    details: dict[str, Any] = {}
    for detail in status.details:
        message = getattr(error_details_pb2, detail.TypeName().rpartition(".")[2])()
        assert detail.Unpack(message)
        assert detail.TypeName() not in details, "a detail comes twice"
        details[type(message).__name__] = message
    assert details["ErrorInfo"].domain == "clob.v1"
    assert status.message.startswith(details["ErrorInfo"].reason + ": ")
    return status, details


async def command(*words: str | Path) -> tuple[int, str]:
    """Run a program; return its exit code and all it printed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(CALL_S_MAX):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, output.decode()


def needs_curl() -> str:
    found = shutil.which("curl")
    if found is None:
        pytest.skip("NO CURL: curl is not on the PATH; install it (Debian: apt-get install curl)")
    return found


# --- one port -------------------------------------------------------------------------------------------------------


def test_grpc_curl_aiohttp_and_buf_speak_to_one_plaintext_port() -> None:
    async def scenario() -> None:
        async with open_port() as port:
            async with grpc.aio.insecure_channel(port.address) as channel:
                assert (await verify(channel)).control_n == 7
                assert (await verify(channel, "caller")).verdicts[0].detail == "127.0.0.1 False "
            url = f"http://{port.address}"
            code, output = await command(needs_curl(), "-sS", "-d", "x" * 100_000, f"{url}/hello")
            assert (code, json.loads(output)) == (0, {"bytes": 100_000, "host": "127.0.0.1", "name": ""})
            async with aiohttp.ClientSession() as session, session.post(f"{url}/hello", data=b"yy") as answer:
                assert (answer.status, (await answer.json())["bytes"]) == (200, 2)
            method = f"{url}/clob.v1.VerificationService/Verify"
            code, output = await command(BUF, "curl", "--protocol", "grpc", "-d", "{}", method)
            assert (code, json.loads(output)) == (0, {"controlN": "7"})

    run(scenario())


def test_grpc_curl_aiohttp_and_buf_speak_to_one_tls_port(pki: Path) -> None:
    async def scenario() -> None:
        async with open_port(tls=tls_files(pki)) as port:
            async with grpc.aio.secure_channel(port.address, credentials(pki)) as channel:
                assert (await verify(channel, "caller")).verdicts[0].detail == "127.0.0.1 True "
            async with grpc.aio.secure_channel(port.address, credentials(pki, "alice")) as channel:
                assert (await verify(channel, "caller")).verdicts[0].detail == "127.0.0.1 True alice"
            url, ca = f"https://{port.address}", ("--cacert", pki / "ca.pem")
            curl = (needs_curl(), "-sS", *ca, "-w", " %{http_version}")
            code, output = await command(*curl, f"{url}/hello")
            assert (code, output) == (0, '{"bytes": 0, "host": "127.0.0.1", "name": ""} 1.1')
            own = ("--cert", pki / "alice.pem", "--key", pki / "alice.key")
            code, output = await command(*curl, *own, f"{url}/hello")
            assert (code, output) == (0, '{"bytes": 0, "host": "127.0.0.1", "name": "alice"} 1.1')
            context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
            async with aiohttp.ClientSession() as session, session.get(f"{url}/hello", ssl=context) as answer:
                assert answer.status == 200
            # buf offers HTTP/1.1 as well unless it is told what to speak.
            buf = (BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge", *ca)
            code, output = await command(*buf, "-d", "{}", f"{url}/clob.v1.VerificationService/Verify")
            assert (code, json.loads(output)) == (0, {"controlN": "7"})

    run(scenario())


def test_a_client_without_certificate_does_not_get_in_where_one_is_required(pki: Path) -> None:
    async def scenario() -> None:
        async with open_port(tls=tls_files(pki, ClientAuth.REQUIRED)) as port:
            async with grpc.aio.secure_channel(port.address, credentials(pki, "alice")) as channel:
                assert (await verify(channel)).control_n == 7
            async with grpc.aio.secure_channel(port.address, credentials(pki)) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await verify(channel, timeout=5)
                assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
            async with aiohttp.ClientSession() as session:
                with pytest.raises(aiohttp.ClientError):
                    await session.get(f"https://{port.address}/hello", ssl=context)

    run(scenario())


def test_a_direct_port_serves_grpc_without_the_relay(pki: Path) -> None:
    async def scenario() -> None:
        async with open_port(direct=True) as port, grpc.aio.insecure_channel(port.address) as channel:
            assert (await verify(channel, "caller")).verdicts[0].detail == "127.0.0.1 False "
        required = tls_files(pki, ClientAuth.REQUIRED)
        async with (
            open_port(direct=True, tls=required) as port,
            grpc.aio.secure_channel(port.address, credentials(pki, "alice")) as channel,
        ):
            assert (await verify(channel, "caller")).verdicts[0].detail == "127.0.0.1 True alice"

    run(scenario())


@pytest.mark.parametrize("direct", [False, True])
def test_two_ports_share_an_address_where_asked(direct: bool) -> None:
    async def scenario() -> None:
        async with open_port(direct=direct, reuse_port=True) as first:
            same = Endpoint.parse(first.address)
            async with open_port(direct=direct, reuse_port=True, listen=same) as second:
                assert second.address == first.address
            with pytest.raises(OSError, match=r"in use|cannot be listened on"):
                async with open_port(direct=direct, listen=same):
                    pass

    run(scenario())


@contextlib.asynccontextmanager
async def raw(port: Port | OnePort) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect with nothing but a socket."""
    host, _, number = port.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(number))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Wait until the other side has closed; return whether it did without a word."""
    with contextlib.suppress(ConnectionError):
        return await reader.read() == b""
    return True


def test_what_a_connection_speaks_is_found_out_however_the_bytes_are_split() -> None:
    async def scenario() -> None:
        async with open_port() as port:
            async with raw(port) as (reader, writer):
                for byte in PREFACE + bytes(3) + b"\4" + bytes(5):
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0)
                # The server's own SETTINGS frame: type 4 on stream 0.
                head = await reader.readexactly(9)
                assert (head[3], head[5:9]) == (4, bytes(4))
            # POST and PUT begin like the preface.
            for word in (b"GET", b"POST", b"PUT"):
                async with raw(port) as (reader, writer):
                    for byte in word + b" /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n":
                        writer.write(bytes([byte]))
                        await writer.drain()
                        await asyncio.sleep(0)
                    assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")

    run(scenario())


def test_a_client_that_pings_without_end_is_sent_away() -> None:
    async def scenario() -> None:
        async with open_port() as port, raw(port) as (reader, writer):
            writer.write(PREFACE + bytes(3) + b"\4" + bytes(5))
            writer.write((b"\0\0\x08\6" + bytes(5) + b"clobping") * 8)
            while True:
                head = await reader.readexactly(9)
                body = await reader.readexactly(int.from_bytes(head[:3], "big"))
                if head[3] == 7:
                    break
            # GOAWAY with ENHANCE_YOUR_CALM (RFC 9113, section 7).
            assert (int.from_bytes(body[4:8], "big"), body[8:]) == (11, b"too_many_pings")
            await reader.read()

    run(scenario())


def test_a_client_that_ends_its_half_still_gets_its_answer() -> None:
    async def scenario() -> None:
        async with open_port() as port, raw(port) as (reader, writer):
            writer.write(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
            writer.write_eof()
            assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")

    run(scenario())


def test_silent_and_slow_connections_are_cut_off() -> None:
    async def scenario() -> None:
        async with open_port(limits=PortLimits(head_ms_max=150, body_ms_max=150)) as port:
            for begun in (b"", b"PRI * HT", b"GET /hello HTTP/1.1\r\nX: ", b"\r\n"):
                async with raw(port) as (reader, writer):
                    writer.write(begun)
                    assert await is_closed(reader), begun
            # The second request of a connection has no more time than the first.
            async with raw(port) as (reader, writer):
                writer.write(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"200 OK" in await reader.readline()
                writer.write(b"GET /hel")
                await reader.read()
            async with raw(port) as (reader, writer):
                writer.write(b"POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1234")
                assert b" 408 " in await reader.readline()

    run(scenario())


def test_a_silent_tls_client_is_cut_off(pki: Path) -> None:
    async def scenario() -> None:
        async with open_port(tls=tls_files(pki), limits=PortLimits(head_ms_max=150)) as port, raw(port) as (reader, _):
            assert await is_closed(reader)

    run(scenario())


def test_an_idle_http_connection_is_closed() -> None:
    async def scenario() -> None:
        async with open_port(limits=PortLimits(idle_ms_max=200)) as port, raw(port) as (reader, writer):
            writer.write(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")

    run(scenario())


def test_tls_on_a_plaintext_port_is_closed_at_once() -> None:
    async def scenario() -> None:
        async with open_port() as port, raw(port) as (reader, writer):
            writer.write(bytes.fromhex("16030100"))
            assert await is_closed(reader)

    run(scenario())


def test_no_more_connections_than_allowed() -> None:
    async def scenario() -> None:
        async with open_port(limits=PortLimits(connections_max=2)) as port:
            async with raw(port) as (first, writer), raw(port):
                writer.write(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"200 OK" in await first.readline()
                async with raw(port) as (third, _):
                    assert await is_closed(third)
            async with asyncio.timeout(CALL_S_MAX):
                while port._door is not None and port._door.connections:
                    await asyncio.sleep(0.01)
            async with raw(port) as (fourth, writer):
                writer.write(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"200 OK" in await fourth.readline()

    run(scenario())


@pytest.mark.parametrize("tls", [False, True])
def test_a_port_that_closes_while_clients_come_loses_no_connection(pki: Path, *, tls: bool) -> None:
    """Whatever step a connection is at: let in, in its handshake, known, or cut off by its client."""
    context = ssl.create_default_context(cafile=str(pki / "ca.pem")) if tls else None

    async def come_and_go(address: str, *, speaks_tls: bool) -> None:
        host, _, number = address.rpartition(":")
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(
                    host, int(number), ssl=context if speaks_tls else None, server_hostname=None
                )
                writer.write(b"GET /hello HTTP/1.1\r\n")
                writer.transport.abort()
            await asyncio.sleep(0)

    async def scenario() -> None:
        port = OnePort(app=http_app(), tls=tls_files(pki) if tls else None)
        await port.open("127.0.0.1", 0)
        clients = [asyncio.create_task(come_and_go(port.address, speaks_tls=tls and n > 0)) for n in range(4)]
        for _ in range(turns):
            await asyncio.sleep(0)
        await port.close()
        assert (port.connections, port.doors) == (0, set())
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    # A socket that is lost open warns when it is collected, which fails the test.
    for turns in range(0, 200, 5):  # noqa: B007 - the scenario reads it
        run(scenario())
    gc.collect()


def test_a_body_that_is_too_large_is_refused() -> None:
    async def scenario() -> None:
        async with (
            open_port() as port,
            aiohttp.ClientSession() as session,
            session.post(f"http://{port.address}/hello", data=io.BytesIO(bytes(2 << 20))) as answer,
        ):
            assert answer.status == 413

    run(scenario())


def test_neither_side_of_a_relay_reads_more_than_the_other_takes() -> None:
    async def scenario() -> None:
        port = OnePort(app=None)
        served: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        upstream = await asyncio.start_unix_server(
            lambda reader, writer: served.put_nowait((reader, writer)), port.grpc_address.removeprefix("unix:")
        )
        await port.open("127.0.0.1", 0)
        sent_max = 64 << 20
        try:
            async with raw(port) as (reader, writer):
                writer.write(PREFACE)
                server_reader, server_writer = await served.get()
                for side in (writer, server_writer):
                    sent = await _fill(side, sent_max)
                    assert sent < sent_max // 4, f"{sent} bytes went in though nobody takes them"
                # Everything is there when it is taken at last, in both directions.
                for source, sink in ((writer, server_reader), (server_writer, reader)):
                    source.write_eof()
                    taken = 0
                    while chunk := await sink.read(1 << 20):
                        taken += len(chunk)
                    assert taken == source.sent + (len(PREFACE) if source is writer else 0)  # type: ignore[attr-defined]
                server_writer.close()
        finally:
            upstream.close()
            await port.close()

    async def _fill(side: asyncio.StreamWriter, most: int) -> int:
        """Write until nothing goes on for a while; return how many bytes went in."""
        chunk, sent = bytes(1 << 16), 0
        while sent < most:
            side.write(chunk)
            sent += len(chunk)
            try:
                async with asyncio.timeout(0.5):
                    await side.drain()
            except TimeoutError:
                break
        side.sent = sent  # type: ignore[attr-defined]
        return sent

    run(scenario())


def test_a_client_that_takes_nothing_is_cut_off() -> None:
    async def scenario() -> None:
        port = OnePort(app=None, limits=PortLimits(stall_ms_max=200))
        ended = asyncio.Event()

        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(bytes(1 << 16))
                    await writer.drain()
            ended.set()

        upstream = await asyncio.start_unix_server(flood, port.grpc_address.removeprefix("unix:"))
        await port.open("127.0.0.1", 0)
        client = socket.create_connection(("127.0.0.1", int(port.address.rpartition(":")[2])))
        try:
            client.sendall(PREFACE)
            async with asyncio.timeout(CALL_S_MAX):
                await ended.wait()
        finally:
            client.close()
            upstream.close()
            await port.close()

    run(scenario())


def test_a_call_past_the_port_is_nobodys() -> None:
    async def scenario() -> None:
        async with open_port() as port:
            assert port._door is not None
            async with grpc.aio.insecure_channel(port._door.grpc_address) as channel:
                status, details = await failure(verify(channel))
                assert (status.code, details["ErrorInfo"].reason) == (16, "TOKEN_REQUIRED")

    run(scenario())


def test_the_socket_behind_a_port_is_for_this_user_only() -> None:
    async def scenario() -> None:
        async with open_port() as port:
            assert port._door is not None
            folder = Path(port._door.grpc_address.removeprefix("unix:")).parent
            assert folder.stat().st_mode & 0o077 == 0
        assert not folder.exists()

    run(scenario())


@pytest.mark.parametrize(
    ("peername", "address", "is_loopback"),
    [
        (("127.0.0.1", 5), "127.0.0.1:5", True),
        (("127.9.9.9", 5), "127.9.9.9:5", True),
        (("10.0.0.1", 5), "10.0.0.1:5", False),
        (("::1", 5, 0, 0), "[::1]:5", True),
        (("::ffff:127.0.0.1", 5, 0, 0), "127.0.0.1:5", True),
        (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1:5", False),
        (("fe80::1%eth0", 5, 0, 2), "[fe80::1]:5", False),
        ("", "unix", True),
    ],
)
def test_callers_by_socket_address(peername: Any, address: str, is_loopback: bool) -> None:
    caller = callers.caller_of_peername(peername)
    assert (caller.address, caller.is_loopback) == (address, is_loopback)


# --- TLS settings ---------------------------------------------------------------------------------------------------


def test_plaintext_beyond_loopback_needs_to_be_asked_for(pki: Path) -> None:
    everywhere = Endpoint("0.0.0.0", 8080)
    with pytest.raises(CannotStartError, match=r"^TLS_MISSING: 0.0.0.0:8080 is beyond loopback; .* --insecure"):
        port_tls(service_settings(), everywhere, is_own=False)
    assert port_tls(service_settings(insecure=True), everywhere, is_own=False) is None
    assert port_tls(service_settings(), LOOPBACK, is_own=False) is None
    with pytest.raises(CannotStartError, match="belong together"):
        port_tls(service_settings(tls_cert=pki / "server.pem"), LOOPBACK, is_own=False)
    both = service_settings(tls_cert=pki / "server.pem", tls_key=pki / "server.key")
    assert port_tls(both, LOOPBACK, is_own=False) is not None
    assert port_tls(both, LOOPBACK, is_own=True) is None
    assert port_tls(both, everywhere, is_own=True) is not None


def test_files_that_are_no_tls_are_refused_by_name(pki: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for files, name in (
        (TlsFiles(pki / "server.pem", pki / "alice.key"), "alice.key"),
        (TlsFiles(tmp_path / "none", pki / "server.key"), "none"),
        (TlsFiles(pki / "server.pem", pki / "server.key", tmp_path / "empty"), "empty"),
        (TlsFiles(pki / "server.pem", pki / "server.key", None, ClientAuth.REQUIRED), "--tls-client-ca"),
    ):
        with pytest.raises(TlsError, match=f"^TLS_FILES: .*{name}"):
            files.server_context()


# --- errors ---------------------------------------------------------------------------------------------------------


def test_codes_of_reasons_are_those_of_the_contract() -> None:
    text = Path(__file__).parents[1].joinpath("proto/clob/v1/door_reason.proto").read_text()
    found: dict[int, str | None] = {}
    comment = ""
    for line in text.partition("enum DoorReason {")[2].splitlines():
        line = line.strip()
        if line.startswith("//"):
            comment += line.removeprefix("//")
        elif match := re.fullmatch(r"DOOR_REASON_\w+ = (\d+);", line):
            codes = re.findall(r"\b([A-Z]+(?:_[A-Z]+)*)(?= with RetryInfo|\.)", comment)
            known = [code for code in codes if code in grpc.StatusCode.__members__]
            found[int(match[1])] = known[0] if known else None
            if "with RetryInfo" in comment:
                assert int(match[1]) in errors.WITH_RETRY
            comment = ""
    http_only = {"DOOR_REASON_HOST_NOT_ALLOWED", "DOOR_REASON_ORIGIN_NOT_ALLOWED", "DOOR_REASON_NOT_JSON"}
    ours = {int(reason): Code.Name(code) for reason, code in errors.CODE_OF_REASON.items()}
    for name in http_only:
        assert found.pop(DoorReason.Value(name)) is None
        del ours[DoorReason.Value(name)]
    assert {reason: code for reason, code in found.items() if code is not None} == ours


def test_every_reject_reason_has_a_code_and_one_error_info() -> None:
    for reason in RejectReason:
        status = errors.reject_status(reason, "thing")
        assert status.code not in (0, 2, 13)
        assert (errors.reason_of(status), status.message) == (reason.name, f"{reason.name}: thing")
        if reason.name.startswith("UNKNOWN_") and reason is not RejectReason.UNKNOWN_ROLE:
            assert status.code == Code.NOT_FOUND


def test_http_has_the_same_error() -> None:
    status = errors.status_of(DoorReason.DOOR_REASON_TOO_FAST, "slowly", retry_after_ms=1500)
    assert errors.http_status(status) == 429
    assert errors.http_headers(status) == {"Retry-After": "2"}
    body = errors.http_body(status)["error"]
    assert (body["code"], body["status"], body["reason"]) == (429, "RESOURCE_EXHAUSTED", "TOO_FAST")
    assert body["details"][1] == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.500s"}
    for reason, expected in (("HOST_NOT_ALLOWED", 403), ("ORIGIN_NOT_ALLOWED", 403), ("NOT_JSON", 415)):
        assert errors.http_status(errors.status_of(DoorReason.Value(f"DOOR_REASON_{reason}"), "x")) == expected


def test_bounds_name_every_field_that_is_wrong() -> None:
    request = matching_service_pb2.MatchRequest(shard=4096, wait_ms_max=30_001)
    request.batches.add(key_id=b"short")
    request.batches.add(key_id=bytes(16))
    with pytest.raises(Refusal) as raised:
        check_bounds(
            request,
            {
                "shard": Bounds(0, 4095),
                "wait_ms_max": Bounds(1, 30_000, or_zero=True),
                "batches": Each(1, 2, {"key_id": Bounds(16, 16)}),
                "operations": Bounds(1, 64),
            },
            lambda found: {"extra": "is wrong too"} if found.shard else {},
        )
    bad = error_details_pb2.BadRequest()
    assert raised.value.status.details[1].Unpack(bad)
    assert {violation.field: violation.description for violation in bad.field_violations} == {
        "shard": "4096 is not in 0 .. 4095",
        "wait_ms_max": "30001 is not in 0, 1 .. 30000",
        "batches[0].key_id": "has 5 bytes, allowed are 16",
        "operations": "has 0 elements, allowed are 1 .. 64",
        "extra": "is wrong too",
    }
    assert raised.value.status.message == "INVALID_FIELD: shard: 4096 is not in 0 .. 4095; 4 more, see BadRequest"


def test_bounds_of_enums_messages_and_lists() -> None:
    def wrong(request: Any, rules: Any) -> str:
        with pytest.raises(Refusal) as raised:
            check_bounds(request, rules)
        return str(raised.value.status.message)

    listed = settlement_service_pb2.GetPositionsRequest(shards=[1, 2, 1])
    rule = Bounds(0, 4096, each=Bounds(0, 4095), unique=True)
    assert "shards[2]: 1 comes twice" in wrong(listed, {"shards": rule})
    assert "shards[0]: 5000 is not" in wrong(
        settlement_service_pb2.GetPositionsRequest(shards=[5000]), {"shards": rule}
    )
    check_bounds(settlement_service_pb2.GetPositionsRequest(shards=[1, 2]), {"shards": rule})
    session = account_service_pb2.OpenSessionRequest()
    present = {"session": Present({"key_id": Bounds(16, 16)})}
    assert "session: is not set, and must be" in wrong(session, present)
    session.session.key_id = b"x"
    assert "session.key_id: has 1 bytes, allowed are 16" in wrong(session, present)
    withdrawals = account_service_pb2.ListAccountWithdrawalsRequest()
    check_bounds(withdrawals, {"state": Known(or_zero=True)})
    assert "state: 0 is none of WITHDRAWAL_STATE_" in wrong(withdrawals, {"state": Known()})
    withdrawals.state = 77  # type: ignore[assignment]
    assert "state: 77 is none of" in wrong(withdrawals, {"state": Known(or_zero=True)})


# --- the guard ------------------------------------------------------------------------------------------------------


def test_a_refusal_carries_one_error_info_and_when_to_come_back() -> None:
    async def scenario() -> None:
        async with open_port() as port, grpc.aio.insecure_channel(port.address) as channel:
            status, details = await failure(verify(channel, "refuse"))
            assert (status.code, details["ErrorInfo"].reason) == (8, "TOO_FAST")
            assert details["RetryInfo"].retry_delay.ToMilliseconds() == 1500
            status, details = await failure(verify(channel, "e" * 33))
            assert (status.code, details["ErrorInfo"].reason) == (3, "INVALID_FIELD")
            assert [violation.field for violation in details["BadRequest"].field_violations] == ["environment"]

    run(scenario())


def test_bytes_that_are_no_request_are_an_invalid_field() -> None:
    async def scenario() -> None:
        async with open_port() as port, grpc.aio.insecure_channel(port.address) as channel:
            for method in ("/clob.v1.VerificationService/Verify", "/grpc.health.v1.Health/Check"):
                call: Any = channel.unary_unary(method)
                status, details = await failure(call(b"\xff\xff\xff", timeout=CALL_S_MAX))
                assert (status.code, details["ErrorInfo"].reason) == (3, "INVALID_FIELD")
            stream: Any = channel.unary_stream("/clob.v1.AccountService/StreamExecutions")

            async def read() -> None:
                async for _ in stream(b"\xff\xff\xff", timeout=CALL_S_MAX):
                    pass

            status, details = await failure(read())
            assert details["ErrorInfo"].reason == "INVALID_FIELD"
            # A string that is not UTF-8 in a field of text.
            call = channel.unary_unary("/clob.v1.VerificationService/Verify")
            status, details = await failure(call(b"\x0a\x01\xff", timeout=CALL_S_MAX))
            assert details["ErrorInfo"].reason == "INVALID_FIELD"

    run(scenario())


def test_a_message_that_is_too_large_is_refused_by_name() -> None:
    async def scenario() -> None:
        async with open_port() as port, grpc.aio.insecure_channel(port.address) as channel:
            call: Any = channel.unary_unary("/clob.v1.VerificationService/Verify")
            status, details = await failure(call(bytes(5 << 20), timeout=CALL_S_MAX))
            assert (status.code, details["ErrorInfo"].reason) == (3, "MESSAGE_SIZE")

    run(scenario())


def test_a_mistake_of_ours_has_a_number_that_the_log_has_too(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> str:
        async with open_port() as port, grpc.aio.insecure_channel(port.address) as channel:
            status, details = await failure(verify(channel, "crash"))
            assert (status.code, details["ErrorInfo"].reason) == (13, "INTERNAL")
            assert "mistake of ours" not in status.message
            return str(details["ErrorInfo"].metadata["number"])

    number = run(scenario())
    record = next(record for record in caplog.records if number in record.getMessage())
    line = json.loads(LineFormatter("test").format(record))
    assert line["mistake"] == number
    assert "RuntimeError" in line["exc_info"]
    assert "clobsk_***" in line["exc_info"]


def test_too_many_calls_are_refused_and_others_go_on() -> None:
    async def scenario() -> None:
        async with open_port(calls_max=2) as port, grpc.aio.insecure_channel(port.address) as channel:
            waiting = [asyncio.ensure_future(verify(channel, "wait")) for _ in range(2)]
            async with asyncio.timeout(CALL_S_MAX):
                while port.guard.open_calls < 2:
                    await asyncio.sleep(0.01)
            status, details = await failure(verify(channel))
            assert (status.code, details["ErrorInfo"].reason) == (8, "TOO_MANY_CALLS")
            assert details["RetryInfo"].retry_delay.ToMilliseconds() > 0
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            async with asyncio.timeout(CALL_S_MAX):
                while port.guard.open_calls:
                    await asyncio.sleep(0.01)
            assert (await verify(channel)).control_n == 7

    run(scenario())


def test_calls_that_are_half_sent_are_counted_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "MESSAGE_S_MAX", 0.5)
    method = "/clob.v1.VerificationService/Verify"

    async def scenario() -> None:
        async with open_port(calls_max=3) as port, grpc.aio.insecure_channel(port.address) as channel:
            # On the wire a call with one message and a stream begin alike.
            calls: list[Any] = [channel.stream_unary(method)() for _ in range(3)]
            for call in calls:
                await call.wait_for_connection()
            async with asyncio.timeout(CALL_S_MAX):
                while port.guard.open_calls < 3:
                    await asyncio.sleep(0.01)
            status, details = await failure(verify(channel))
            assert (status.code, details["ErrorInfo"].reason) == (8, "TOO_MANY_CALLS")
            assert details["RetryInfo"]
            for call in calls:
                status, details = await failure(call)
                assert (status.code, details["ErrorInfo"].reason) == (3, "INVALID_FIELD")
                assert "none came" in status.message
            await verify(channel)
            empty: Any = channel.stream_unary(method)()
            await empty.done_writing()
            status, _ = await failure(empty)
            assert status.code == 3

    run(scenario())


def test_a_port_of_our_own_has_room_for_the_subscriptions_of_all_traders_on_one_connection() -> None:
    async def scenario() -> None:
        async with (
            open_port(calls_max=4_000, calls_per_host_max=4_000) as port,
            grpc.aio.insecure_channel(port.address) as channel,
        ):
            waiting = [asyncio.ensure_future(verify(channel, "wait")) for _ in range(600)]
            async with asyncio.timeout(CALL_S_MAX):
                while port.guard.open_calls < 600:
                    await asyncio.sleep(0.01)
                await verify(channel)
            for call in waiting:
                call.cancel()

    run(scenario())


def test_nothing_is_served_behind_a_closed_gate_but_health() -> None:
    async def scenario() -> None:
        closed = refused(DoorReason.DOOR_REASON_DRAINING, "it ends")
        async with open_port(gate=lambda: closed) as port, grpc.aio.insecure_channel(port.address) as channel:
            status, details = await failure(verify(channel))
            assert (status.code, details["ErrorInfo"].reason) == (14, "DRAINING")
            health = health_pb2_grpc.HealthStub(channel)
            assert (await health.Check(health_pb2.HealthCheckRequest(), timeout=CALL_S_MAX)).status == 1

    run(scenario())


def test_a_stream_goes_through_and_ends_with_its_error() -> None:
    async def scenario() -> None:
        async with open_port() as port, grpc.aio.insecure_channel(port.address) as channel:
            stub = account_service_pb2_grpc.AccountServiceStub(channel)

            async def read(account: int) -> list[int]:
                request = account_service_pb2.StreamExecutionsRequest(account=account)
                return [item.cursor.n async for item in stub.StreamExecutions(request, timeout=CALL_S_MAX)]

            assert await read(1) == [1, 2, 3]
            status, details = await failure(read(13))
            assert (status.code, details["ErrorInfo"].reason) == (11, "CURSOR_AHEAD")

    run(scenario())


def test_a_port_that_closes_ends_streams_with_draining() -> None:
    async def scenario() -> None:
        async with open_port() as port, grpc.aio.insecure_channel(port.address) as channel:
            stub = account_service_pb2_grpc.AccountServiceStub(channel)
            stream = stub.StreamExecutions(account_service_pb2.StreamExecutionsRequest(), timeout=CALL_S_MAX)
            iterator = stream.__aiter__()
            assert [(await iterator.__anext__()).cursor.n for _ in range(3)] == [1, 2, 3]
            closing = asyncio.ensure_future(port.close(10))
            status, details = await failure(iterator.__anext__())
            assert (status.code, details["ErrorInfo"].reason) == (14, "DRAINING")
            await closing

    run(scenario())


def test_calls_are_counted_without_labels_of_their_own() -> None:
    async def scenario() -> None:
        async with open_port() as port, grpc.aio.insecure_channel(port.address) as channel:
            await verify(channel)
            await failure(verify(channel, "refuse"))
            text = port._metrics.text().decode()
            method = 'method="clob.v1.VerificationService/Verify"'
            assert f'clob_calls_total{{code="OK",{method},reason=""}} 1.0' in text
            assert f'clob_calls_total{{code="RESOURCE_EXHAUSTED",{method},reason="TOO_FAST"}} 1.0' in text
            assert f"clob_call_seconds_count{{{method}}} 2.0" in text
            assert 'clob_connections{port="test"} 1.0' in text

    run(scenario())


# --- a whole process ------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    return open_data_dir(tmp_path / "data", environment="test", durability=Durability.MEMORY)


def arguments(data: DataDir, *more: str) -> list[str]:
    return [
        *("--environment-file", str(data.environment_file), "--checkpoints", str(data.checkpoints)),
        *("--bus-keys", str(data.bus_keys), "--bus-key-name", "matcher"),
        *more,
    ]


class Running:
    """The sample service as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.ready: dict[str, Any] = {}
        self.log: list[dict[str, Any]] = []
        self._reading = asyncio.ensure_future(self._read_log())

    async def _read_log(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.log.append(json.loads(line))

    async def wait_ready(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        async with asyncio.timeout(CALL_S_MAX):
            line = await self.process.stdout.readline()
        assert line, f"it ended: {self.log}"
        self.ready = json.loads(line)
        return self.ready

    async def end(self) -> int:
        """Wait for the end; return the exit code."""
        async with asyncio.timeout(CALL_S_MAX):
            code = await self.process.wait()
            await self._reading
        return code


@contextlib.asynccontextmanager
async def sample(address: str, *words: str) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.sample_service", *words,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "REDIS_ADDR": address}, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    running = Running(process)
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def states(bus: AsyncBus) -> list[tuple[str, str]]:
    return [(record.kind, record.state) for record in await bus.processes()]


def test_the_life_of_a_process(data: DataDir, valkey_server: BusServer) -> None:
    async def scenario() -> None:
        bus = AsyncBus.connect(valkey_server.address)
        async with sample(valkey_server.address, *arguments(data)) as running:
            ready = await running.wait_ready()
            assert ready["ready"] is True
            assert (ready["kind"], ready["pid"]) == ("market-data", running.process.pid)
            record = (await bus.processes())[0]
            assert (record.kind, record.address, record.state) == ("market-data", ready["address"], "SERVING")
            assert (record.shards, record.pid, record.extra) == ((1, 3), ready["pid"], {"public": ready["public"]})
            async with aiohttp.ClientSession() as session:
                for name in ("address", "public"):
                    async with session.get(f"http://{ready[name]}/healthz") as answer:
                        assert (answer.status, (await answer.json())["state"]) == (200, "SERVING")
                async with session.get(f"http://{ready['address']}/metrics") as answer:
                    text = await answer.text()
                    assert "clob_serving 1.0" in text
                    assert 'clob_process{kind="market-data",version="0.1.0"} 1.0' in text
                async with session.get(f"http://{ready['public']}/metrics") as answer:
                    assert answer.status == 404
            async with grpc.aio.insecure_channel(ready["public"]) as channel:
                health = health_pb2_grpc.HealthStub(channel)
                for service in ("", "clob.v1.VerificationService", "grpc.reflection.v1.ServerReflection"):
                    request = health_pb2.HealthCheckRequest(service=service)
                    assert (await health.Check(request, timeout=CALL_S_MAX)).status == 1
                watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=CALL_S_MAX).__aiter__()
                assert (await watch.__anext__()).status == 1
                running.process.send_signal(signal.SIGTERM)
                assert (await watch.__anext__()).status == 2
                _, details = await failure(watch.__anext__())
                assert details["ErrorInfo"].reason == "DRAINING"
            assert await running.end() == 0
            assert await bus.processes() == []
            assert [line["message"] for line in running.log] == [
                "starting", "serving", "SIGTERM: draining", "draining", "ended",
            ]  # fmt: skip
            assert all(line["kind"] == "market-data" and line["pid"] == ready["pid"] for line in running.log)
        await bus.close()

    run(scenario())


def test_every_tool_lists_and_calls_everything(data: DataDir, valkey_server: BusServer) -> None:
    async def scenario() -> None:
        async with sample(valkey_server.address, *arguments(data)) as running:
            url = f"http://{(await running.wait_ready())['address']}"
            for version in ("grpc-v1", "grpc-v1alpha"):
                buf = (BUF, "curl", "--protocol", "grpc", "--reflect-protocol", version)
                code, output = await command(*buf, "--list-services", url)
                assert (code, output.split()) == (
                    0,
                    [
                        "clob.v1.AccountService",
                        "clob.v1.ProcessService",
                        "clob.v1.VerificationService",
                        "grpc.health.v1.Health",
                        "grpc.reflection.v1.ServerReflection",
                        "grpc.reflection.v1alpha.ServerReflection",
                    ],
                )
                code, output = await command(*buf, "-d", '{"shards": [3]}', f"{url}/clob.v1.ProcessService/GetEvidence")
                assert (code, json.loads(output)) == (0, {"shards": [{"shard": 3, "ingestedN": "9"}]})
            for version in ("v1", "v1alpha"):
                method = f"{url}/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
                plain = (BUF, "curl", "--protocol", "grpc")
                code, output = await command(*plain, "-d", '{"listServices": ""}', method)
                assert code == 0
                assert len(json.loads(output)["listServicesResponse"]["service"]) == 6

    run(scenario())


def test_a_process_tells_about_itself_without_secrets(data: DataDir, valkey_server: BusServer, tmp_path: Path) -> None:
    valkey_server.command("CONFIG", "SET", "requirepass", "s3cr3t-word")
    address = valkey_server.address.replace("unix://", "unix://:s3cr3t-word@")
    file = tmp_path / "clob.toml"
    file.write_text('colour = "s3cr3t-red"\n[market-data]\ncalls_max = 77\n')

    async def scenario() -> None:
        words = arguments(data, "--config", str(file), "--log-level", "debug")
        async with sample(address, *words) as running:
            ready = await running.wait_ready()
            async with grpc.aio.insecure_channel(ready["address"]) as channel:
                stub = process_service_pb2_grpc.ProcessServiceStub(channel)
                found = await stub.GetProcess(process_service_pb2.GetProcessRequest(), timeout=CALL_S_MAX)
                evidence = await stub.GetEvidence(process_service_pb2.GetEvidenceRequest(), timeout=CALL_S_MAX)
                asked = process_service_pb2.GetEvidenceRequest(shards=[1, 1])
                _, details = await failure(stub.GetEvidence(asked, timeout=CALL_S_MAX))
                assert details["ErrorInfo"].reason == "INVALID_FIELD"
            assert [item.shard for item in evidence.shards] == [1, 3]
            assert (found.process.kind, found.process.state, found.process.pid) == ("market-data", 2, ready["pid"])
            settings = {item.name: item for item in found.settings}
            assert list(settings) == sorted(settings)
            assert (settings["calls_max"].value, settings["calls_max"].origin) == ("77", f"file {file}")
            assert (settings["colour"].value, settings["colour"].secret) == ("", True)
            assert (settings["redis_addr"].value, settings["redis_addr"].secret) == ("", True)
            assert settings["redis_addr"].origin == "environment REDIS_ADDR"
            running.process.send_signal(signal.SIGTERM)
            assert await running.end() == 0
            assert "s3cr3t" not in json.dumps(running.log) + str(found)

    run(scenario())


def test_a_bus_that_does_not_answer_is_waited_for(data: DataDir, valkey_server: BusServer) -> None:
    async def scenario() -> None:
        valkey_server.stop()
        async with sample(valkey_server.address, *arguments(data)) as running:
            async with asyncio.timeout(CALL_S_MAX):
                while not any("waiting for the bus" in line["message"] for line in running.log):
                    await asyncio.sleep(0.01)
            await asyncio.to_thread(valkey_server.start)
            await running.wait_ready()

    run(scenario())


def test_a_process_that_waits_for_the_bus_can_be_ended(data: DataDir, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with sample(f"unix://{tmp_path}/none.sock", *arguments(data)) as running:
            async with asyncio.timeout(CALL_S_MAX):
                while not running.log or "waiting" not in running.log[-1]["message"]:
                    await asyncio.sleep(0.01)
            running.process.send_signal(signal.SIGTERM)
            assert await running.end() == 0

    run(scenario())


def test_draining_has_an_end(data: DataDir, valkey_server: BusServer) -> None:
    async def scenario() -> None:
        words = arguments(data, "--drain-waits", "--drain-ms-max", "500")
        async with sample(valkey_server.address, *words) as running:
            ready = await running.wait_ready()
            async with grpc.aio.insecure_channel(ready["public"]) as channel:
                waiting = asyncio.ensure_future(verify(channel, "wait"))
                await verify(channel)
                running.process.send_signal(signal.SIGTERM)
                started = asyncio.get_running_loop().time()
                assert await running.end() == 0
                assert asyncio.get_running_loop().time() - started < 10
                with pytest.raises(grpc.aio.AioRpcError):
                    await waiting
            assert any("was cut off" in line["message"] for line in running.log)

    run(scenario())


def test_a_second_signal_ends_at_once(data: DataDir, valkey_server: BusServer) -> None:
    async def scenario() -> None:
        async with sample(valkey_server.address, *arguments(data, "--drain-waits")) as running:
            await running.wait_ready()
            running.process.send_signal(signal.SIGINT)
            async with asyncio.timeout(CALL_S_MAX):
                while running.log[-1]["message"] != "draining":
                    await asyncio.sleep(0.01)
            running.process.send_signal(signal.SIGINT)
            assert await running.end() == 128 + signal.SIGINT

    run(scenario())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--environment-file", "none.json"], "ENVIRONMENT_FILE: none.json"),
        (["--listen", "0.0.0.0:0"], "TLS_MISSING: 0.0.0.0:0"),
        (["--tls-cert", "x.pem"], "--tls-cert and --tls-key belong together"),
        (["--internal-token-file", "none"], "INTERNAL_TOKEN: none cannot be read"),
        (["--listen", "192.0.2.1:0", "--insecure"], "LISTEN: the own port 192.0.2.1:0 cannot be opened"),
    ],
)
def test_what_cannot_start_says_why_and_ends_with_2(
    data: DataDir, valkey_server: BusServer, words: list[str], told: str
) -> None:
    async def scenario() -> None:
        async with sample(valkey_server.address, *arguments(data, *words)) as running:
            assert await running.end() == 2
            assert any(told in line["message"] for line in running.log), running.log

    run(scenario())


# --- peers ----------------------------------------------------------------------------------------------------------


def record_of(port: Port, kind: str = "market-data", **fields: Any) -> ProcessRecord:
    return ProcessRecord(kind, port.address, fields.pop("state", "SERVING"), **fields)


@contextlib.asynccontextmanager
async def peers_of(server: BusServer, **settings: Any) -> AsyncIterator[tuple[AsyncBus, Peers]]:
    bus = AsyncBus.connect(server.address)
    peers = Peers(bus, service_settings(redis_addr=RedisAddress.parse(server.address), **settings))
    try:
        yield bus, peers
    finally:
        await peers.close()
        await bus.close()


VERIFY = "/clob.v1.VerificationService/Verify"


def verify_request(environment: str = "") -> bytes:
    return verification_service_pb2.VerifyRequest(environment=environment).SerializeToString()


def test_peers_are_found_called_and_followed_when_they_move(valkey_server: BusServer) -> None:
    async def scenario() -> None:
        async with peers_of(valkey_server) as (bus, peers):
            with pytest.raises(Refusal, match=r"^UNAVAILABLE: no market-data serves shard 3") as raised:
                await peers.call("market-data", 3, VERIFY, verify_request(), timeout_s=0.1)
            assert errors.retry_after_ms(raised.value.status) is not None
            async with open_port() as first:
                await bus.announce(record_of(first, shards=(3,), started_us=1))
                answer = await peers.call("market-data", 3, VERIFY, verify_request())
                assert verification_service_pb2.VerifyResponse.FromString(answer).control_n == 7
                with pytest.raises(Refusal) as raised:
                    await peers.call("market-data", 3, VERIFY, verify_request("refuse"))
                assert (raised.value.reason, errors.retry_after_ms(raised.value.status)) == ("TOO_FAST", 1500)
            # The first is gone, and its record still there.
            async with open_port() as second:
                await bus.announce(record_of(second, shards=(3,), started_us=0))
                assert await peers.call("market-data", 3, VERIFY, verify_request(), is_safe=True)
                stream = peers.stream("market-data", None, "/clob.v1.AccountService/StreamExecutions", b"\x08\x01")
                assert len([message async for message in stream]) == 3

    run(scenario())


def test_what_is_not_safe_is_not_sent_twice(valkey_server: BusServer) -> None:
    async def scenario() -> None:
        async with peers_of(valkey_server) as (bus, peers), open_port() as port:
            await bus.announce(record_of(port))
            call = asyncio.ensure_future(peers.call("market-data", None, VERIFY, verify_request("wait")))
            async with asyncio.timeout(CALL_S_MAX):
                while not port.guard.open_calls:
                    await asyncio.sleep(0.01)
            await port.close(0)
            with pytest.raises(Refusal, match="whether it was done is not known"):
                await call

    run(scenario())


def test_a_process_that_drains_is_passed_over(valkey_server: BusServer) -> None:
    async def scenario() -> None:
        closed = refused(DoorReason.DOOR_REASON_DRAINING, "it ends")
        async with (
            peers_of(valkey_server) as (bus, peers),
            open_port(gate=lambda: closed) as old,
            open_port() as new,
        ):
            await bus.announce(record_of(old, started_us=2))
            await bus.announce(record_of(new, started_us=1))
            assert await peers.call("market-data", None, VERIFY, verify_request())

    run(scenario())


def test_a_proxy_passes_answers_errors_and_streams_on_but_no_headers_of_the_caller(valkey_server: BusServer) -> None:
    async def scenario() -> None:
        async with peers_of(valkey_server) as (bus, peers), open_port() as behind:
            await bus.announce(record_of(behind))
            front = Port("front", LOOPBACK, Metrics("front", "0"), lambda: None)

            async def target(method: str, request: bytes, context: Any) -> Target:
                if request == verify_request("stop"):
                    raise refused(DoorReason.DOOR_REASON_SESSION_REQUIRED, "open a session")
                return Target("market-data", headers=(("clob-user", "7"),))

            for module, name in (
                (verification_service_pb2, "VerificationService"),
                (account_service_pb2, "AccountService"),
            ):
                service = module.DESCRIPTOR.services_by_name[name]
                front.add_handler(service.full_name, peers.proxy_handlers(service, target, safe={"Verify"}))
            await front.open()
            try:
                async with grpc.aio.insecure_channel(front.address) as channel:
                    assert (await verify(channel)).control_n == 7
                    sent = (("clob-user", "1"), ("clob-accounts", "1"), (TOKEN_HEADER, "x"))
                    assert (await verify(channel, "headers", metadata=sent)).verdicts[0].detail == "clob-user=7"
                    status, details = await failure(verify(channel, "refuse"))
                    assert (status.code, details["ErrorInfo"].reason) == (8, "TOO_FAST")
                    assert details["RetryInfo"].retry_delay.ToMilliseconds() == 1500
                    status, details = await failure(verify(channel, "stop"))
                    assert (status.code, details["ErrorInfo"].reason) == (16, "SESSION_REQUIRED")
                    with pytest.raises(grpc.aio.AioRpcError) as raised:
                        await verify(channel, "wait", timeout=0.3)
                    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                    stub = account_service_pb2_grpc.AccountServiceStub(channel)
                    request = account_service_pb2.StreamExecutionsRequest(account=1)
                    stream = stub.StreamExecutions(request, timeout=CALL_S_MAX)
                    assert [item.cursor.n async for item in stream] == [1, 2, 3]
                    # A reader that leaves ends the stream behind the proxy as well.
                    forever = stub.StreamExecutions(account_service_pb2.StreamExecutionsRequest(), timeout=CALL_S_MAX)
                    assert (await forever.__aiter__().__anext__()).cursor.n == 1
                    forever.cancel()
                    async with asyncio.timeout(CALL_S_MAX):
                        while behind.guard.open_calls or front.guard.open_calls:
                            await asyncio.sleep(0.01)
            finally:
                await front.close(0)

    run(scenario())


def test_the_internal_token_lets_other_machines_in(valkey_server: BusServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("t" * 32 + "\n")

    class Context:
        def __init__(self, peer: str, *metadata: tuple[str, str]) -> None:
            self.peer = lambda: peer
            self.invocation_metadata = lambda: metadata
            self.auth_context = dict

    async def scenario() -> None:
        far = "ipv4:10.0.0.1:5"
        async with peers_of(valkey_server, internal_token_file=file) as (_, peers):
            assert peers.is_internal(Context("ipv4:127.0.0.1:5"))
            assert peers.is_internal(Context("ipv6:%5B::1%5D:5"))
            assert peers.is_internal(Context(far, (TOKEN_HEADER, "t" * 32)))
            assert not peers.is_internal(Context(far, (TOKEN_HEADER, "t" * 31)))
            assert not peers.is_internal(Context(far))
            assert not peers.is_internal(Context("unix:", (TOKEN_HEADER, "x")))
            assert peers.headers(ProcessRecord("a", "10.0.0.1:5", "SERVING")) == ((TOKEN_HEADER, "t" * 32),)
            assert peers.headers(ProcessRecord("a", "127.0.0.1:5", "SERVING")) == ()
        async with peers_of(valkey_server) as (_, peers):
            assert not peers.is_internal(Context(far, (TOKEN_HEADER, "")))

    run(scenario())
    file.write_text("short")
    with pytest.raises(TokenFileError, match="has 5 characters"):
        load_token(file)


def test_peers_speak_tls_to_processes_that_do(valkey_server: BusServer, pki: Path) -> None:
    async def scenario() -> None:
        own = {"tls_cert": pki / "server.pem", "tls_key": pki / "server.key", "internal_ca": pki / "ca.pem"}
        required = tls_files(pki, ClientAuth.REQUIRED)
        async with peers_of(valkey_server, **own) as (bus, peers), open_port(tls=required) as port:
            await bus.announce(record_of(port, extra={"tls": "1"}))
            assert await peers.call("market-data", None, VERIFY, verify_request())

    run(scenario())


# --- logs -----------------------------------------------------------------------------------------------------------


def test_a_log_line_is_json_without_secrets() -> None:
    record = logging.makeLogRecord(
        {
            "name": "exchange.x",
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": "key %s at %s with %s",
            "args": ("clobsk_" + "0f" * 32, "rediss://me:word@host/", "Authorization: Bearer abc.def"),
            "created": 1.5,
            "shard": 3,
        }
    )
    line = json.loads(LineFormatter("market-matcher").format(record))
    assert line == {
        "time": "1970-01-01T00:00:01.500000Z",
        "level": "warning",
        "logger": "exchange.x",
        "message": "key clobsk_*** at rediss://me:***@host/ with Authorization: Bearer ***",
        "shard": 3,
        "kind": "market-matcher",
        "pid": record.process,
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("token clobtk_" + "0f" * 32 + " of ops", "token clobtk_*** of ops"),
        ("clobsk_" + "0f" * 32, "clobsk_***"),
        ("redis://me:pa/ss@wo:rd@host:6379/0 is gone", "redis://me:***@host:6379/0 is gone"),
        ("redis://:word@host", "redis://:***@host"),
        ('rediss://me:wo"rd@host', "rediss://me:***@host"),
        ("unix:///run/bus.sock?db=1&password=wo@rd/x&x=1", "unix:///run/bus.sock?db=1&password=***&x=1"),
        ("redis://host:6379/?password=word", "redis://host:6379/?password=***"),
        ("http://host:6379/ and ops@host", "http://host:6379/ and ops@host"),
    ],
)
def test_secrets_are_hidden_in_every_form(text: str, shown: str) -> None:
    record = logging.makeLogRecord({"name": "x", "msg": text, "contact": "ops@host"})
    line = json.loads(LineFormatter("market-matcher").format(record))
    assert (line["message"], line["contact"]) == (shown, "ops@host")


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    yield
    assert not callers._RELAYED
