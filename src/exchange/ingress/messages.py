"""What workers and framer say to each other over a Unix socket: MessagePack, each message behind its length.

Both ends are of one installation and live and die together, so there is no version. Batches and frames go as bytes.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

import msgspec

from exchange.ingress.door import Refusal

MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024
"""No message is longer: an execution frame of 32 MiB and what says whose it is."""


class Message(msgspec.Struct, array_like=True, tag=True, gc=False):
    """The base of all messages."""


class Hello(Message):
    """Worker: this is its connection."""

    worker: int


class Chunk(Message):
    """Worker: batches for one shard, to get positions in this order, next to each other.

    Attributes:
        chunk: number of the chunk, dense per worker.
        shard, tag: where to.
        control_n: lowest position of shard 0 under which one of them was verified.
        batches, commands: how many there are.
        data: elements of OrderFrame.batches, one after the other.
    """

    chunk: int
    shard: int
    tag: str
    control_n: int
    batches: int
    commands: int
    data: bytes


class Part(msgspec.Struct, array_like=True, gc=False):
    """A chunk in a frame: `first` is the 1-based place of its first batch."""

    chunk: int
    first: int


class Sequenced(Message):
    """Framer: a frame has its position."""

    shard: int
    n: int
    t_us: int
    framed_us: int
    parts: list[Part]


class Executed(Message):
    """Framer: a frame was executed, as durably as promised. `frame` is empty where it is no longer to be had.

    Attributes:
        taken_us, executed_us: the matcher's clock.
        seen_us: the framer's clock when it had the frame.
    """

    shard: int
    n: int
    taken_us: int
    executed_us: int
    seen_us: int
    frame: bytes
    parts: list[Part]


class Refused(Message):
    """Framer: chunks that did not come into the log, and will not."""

    chunks: list[int]
    reason: int
    detail: str
    retry_after_ms: int

    def as_refusal(self) -> Refusal:
        """Return it as the door says it."""
        return Refusal(self.reason, self.detail, self.retry_after_ms)  # type: ignore[arg-type]


class Counters(Message):
    """Worker: what it has done so far, by name, for the metrics of the process."""

    counts: dict[str, float]


FromWorker = Hello | Chunk | Counters
FromFramer = Sequenced | Executed | Refused

_encoder: Final = msgspec.msgpack.Encoder()


class Connection(asyncio.Protocol):
    """One end of the socket: cuts what comes into messages, and writes messages.

    Attributes:
        peer: whatever its owner wants to remember of the other end.
    """

    def __init__(
        self,
        decoder: msgspec.msgpack.Decoder[Any],
        on_message: Callable[["Connection", Any], None],
        on_lost: Callable[["Connection"], None],
    ) -> None:
        self.peer: int | None = None
        self._decoder = decoder
        self._on_message = on_message
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast(asyncio.Transport, transport)
        # A worker has a bounded number of orders under way, so what is written to it is bounded without pausing.
        self._transport.set_write_buffer_limits(high=MESSAGE_BYTES_MAX)

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so to the owner."""
        self._transport = None
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        """Cut off whole messages and hand them on."""
        buffer = self._buffer
        buffer += data
        pos, end = 0, len(buffer)
        while end - pos >= 4:
            length = int.from_bytes(buffer[pos : pos + 4], "big")
            assert length <= MESSAGE_BYTES_MAX, "the other end writes what no message is"
            if end - pos - 4 < length:
                break
            message = self._decoder.decode(bytes(buffer[pos + 4 : pos + 4 + length]))
            pos += 4 + length
            self._on_message(self, message)
        if pos:
            del buffer[:pos]

    def send(self, message: Message) -> bool:
        """Write a message; return whether there was anybody to write to."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        data = _encoder.encode(message)
        transport.writelines((len(data).to_bytes(4, "big"), data))
        return True

    @property
    def unsent_bytes(self) -> int:
        """What the other end has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    def close(self) -> None:
        """Close the connection; what was written is still sent."""
        if self._transport is not None:
            self._transport.close()


def worker_decoder() -> "msgspec.msgpack.Decoder[FromWorker]":
    """Return what reads the messages of workers."""
    return msgspec.msgpack.Decoder(FromWorker)


def framer_decoder() -> "msgspec.msgpack.Decoder[FromFramer]":
    """Return what reads the messages of the framer."""
    return msgspec.msgpack.Decoder(FromFramer)
