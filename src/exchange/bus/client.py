"""Clients of the bus, one that waits and one for asyncio, with the same methods.

Neither ever repeats a call by itself: after BusUnavailable the caller makes the same call again, and the script finds
out whether the first one was heard.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
import redis
import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from exchange.bus import calls
from exchange.bus.calls import Call
from exchange.bus.entries import (
    CommitFrame,
    ExecutionsEntry,
    Head,
    Ingested,
    Limits,
    OrdersEntry,
    ServerInfo,
    ShardKeys,
)
from exchange.bus.errors import BusReason, BusRefusal, BusUnavailable
from exchange.bus.keys import SealedFrame
from exchange.bus.registry import RECORD_TTL_MS, ProcessRecord

T = TypeVar("T")

CONNECT_S_MAX: Final = 5
ANSWER_S_MAX: Final = 20
"""Longest wait for an answer. A disk that is slow to fsync makes the server late."""
BLOCK_MS_MAX: Final = 10_000
"""Longest that a read may wait for an entry: well below ANSWER_S_MAX."""
RECONNECT_S: Final = 0.1


class Reconnected(msgspec.Struct, frozen=True):
    """Results from now on are handed over; earlier ones may have been missed: read them from executions."""


class Bus:
    """A client that waits for its answers. Several threads may share it.

    Every method raises BusUnavailable when there is no usable answer; those that write raise BusRefusal.
    """

    def __init__(self, client: "redis.Redis") -> None:
        client.response_callbacks.clear()
        self._client: Any = client

    @classmethod
    def connect(cls, redis_addr: str) -> "Bus":
        """Return a client of the server at an address; it connects when it is first used.

        Args:
            redis_addr: redis://, rediss:// or unix:// URL, or host:port.

        Raises:
            ValueError: it is none of these.
        """
        url = bus_url(redis_addr)
        return cls(redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **_options(url)))

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def head(self, tag: str) -> Head | None:
        """Return where a shard stands; None: it was never made on this server."""
        return self._do(calls.head(tag))

    def ingest(self, tag: str, sealed: SealedFrame) -> Ingested:
        """Give a frame its position and time, once: the same frame again gets its first answer again.

        Raises:
            BusRefusal: the frame has no position; what that says of earlier attempts, BusReason says.
        """
        return self._do(calls.ingest(tag, sealed))

    def read_orders(
        self, positions: Mapping[str, int], count: int, block_ms: int | None = None
    ) -> dict[str, list[OrdersEntry]]:
        """Return by tag at most `count` entries each after a position, waiting up to `block_ms` for the first."""
        return self._do(calls.read_orders(positions, count, _block(block_ms)))

    def read_executions(
        self, positions: Mapping[str, int], count: int, block_ms: int | None = None
    ) -> dict[str, list[ExecutionsEntry]]:
        """Return by tag at most `count` entries each after a position, waiting up to `block_ms` for the first."""
        return self._do(calls.read_executions(positions, count, _block(block_ms)))

    def orders_range(self, tag: str, first_n: int, last_n: int, count: int | None = None) -> list[OrdersEntry]:
        """Return entries first_n to last_n of orders, those that are there, at most `count`."""
        return self._do(calls.orders_range(tag, first_n, last_n, count))

    def executions_range(self, tag: str, first_n: int, last_n: int, count: int | None = None) -> list[ExecutionsEntry]:
        """Return entries first_n to last_n of executions, those that are there, at most `count`."""
        return self._do(calls.executions_range(tag, first_n, last_n, count))

    def take_epoch(self, tag: str) -> int:
        """Raise the shard's epoch and return it: whoever had a lower one commits no more."""
        return self._do(calls.take_epoch(tag))

    def commit(
        self,
        tag: str,
        epoch: int,
        after_n: int,
        after_hash: bytes,
        frames: Sequence[CommitFrame],
        chain_hash: bytes,
    ) -> None:
        """Append the answers to entries after_n + 1 and following; done already is done.

        Args:
            tag: of the shard.
            epoch: of the matcher.
            after_n: position of the last answer before.
            after_hash: chain hash after it.
            frames: the answers; at least one.
            chain_hash: after the last of them.
        """
        return self._do(calls.commit(tag, epoch, after_n, after_hash, frames, chain_hash))

    def trim(self, tag: str, n: int, orders_bytes_total: int, executions_bytes_total: int) -> None:
        """Remove entries up to n from both streams; the totals are those in the two entries n."""
        return self._do(calls.trim(tag, n, orders_bytes_total, executions_bytes_total))

    def initialise(
        self, tag: str, environment: str, shard: int, genesis_hash: bytes, limits: Limits | None = None
    ) -> bool:
        """Make the head of a shard without entries, or change the limits of one; return whether it is new."""
        return self._do(calls.initialise(tag, environment, shard, genesis_hash, limits or Limits()))

    def approve(self, tag: str, run_id: str, resume: bool = False) -> None:
        """Let the writers write to the server process `run_id`; `resume` also ends a stop."""
        return self._do(calls.approve(tag, run_id, resume))

    def stop(self, tag: str, message: str) -> None:
        """Stop the shard's writers, with a message that says why and what to do; the first one stays."""
        return self._do(calls.stop(tag, message))

    def announce(self, record: ProcessRecord, ttl_ms: int = RECORD_TTL_MS) -> None:
        """Put a process into the registry, seen now."""
        return self._do(calls.announce(_seen_now(record), ttl_ms))

    def withdraw(self, record: ProcessRecord) -> None:
        """Take a process out of the registry."""
        return self._do(calls.withdraw(record))

    def processes(self) -> list[ProcessRecord]:
        """Return the processes in the registry, by kind and address."""
        return self._do(calls.processes())

    def time_us(self) -> int:
        """Return the bus' clock, in microseconds since 1970-01-01 UTC."""
        return self._do(calls.time_us())

    def server(self) -> ServerInfo:
        """Return what is known of the server."""
        settings = [self._setting(name) for name in ("appendonly", "appendfsync")]
        server, memory = self._do(calls.info("server")), self._do(calls.info("memory"))
        return calls.server_info(server, memory, *settings)

    def shut_down(self, save: bool) -> None:
        """End the server process, with a snapshot or without."""
        try:
            self._client.execute_command(*calls.shut_down(save).words)
        except exceptions.ConnectionError:
            return  # it is gone, as it was told
        except exceptions.RedisError as error:
            raise BusUnavailable(str(error)) from error

    def _setting(self, name: str) -> str:
        """Return a setting of the server; empty where it does not let us ask, as hosted ones do not."""
        try:
            return self._do(calls.config(name))
        except BusUnavailable as error:
            if not isinstance(error.__cause__, exceptions.ResponseError):
                raise
            return ""

    def _do(self, call: Call[T]) -> T:
        try:
            try:
                reply = self._client.execute_command(*call.words)
            except exceptions.NoScriptError:
                reply = self._client.execute_command(*call.words_with_source)
        except (exceptions.RedisError, OSError) as error:
            raise _meaning_of(error) from error
        return call.parse(reply)


class AsyncBus:
    """The same for asyncio; methods do what those of `Bus` do."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        client.response_callbacks.clear()
        self._client: Any = client

    @classmethod
    def connect(cls, redis_addr: str) -> "AsyncBus":
        """Return a client, as `Bus.connect` does."""
        url = bus_url(redis_addr)
        return cls(redis.asyncio.Redis.from_url(url, retry=AsyncRetry(NoBackoff(), 0), **_options(url)))

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def head(self, tag: str) -> Head | None:
        """Return where a shard stands; None: it was never made on this server."""
        return await self._do(calls.head(tag))

    async def heads(self, tags: Sequence[str]) -> list[Head | None]:
        """Return where shards stand, in the order of their tags, as `head` does; asks for all of them at once."""
        return await self._do_all([calls.head(tag) for tag in tags])

    async def ingest(self, tag: str, sealed: SealedFrame) -> Ingested:
        """Give a frame its position and time, once."""
        return await self._do(calls.ingest(tag, sealed))

    async def read_orders(
        self, positions: Mapping[str, int], count: int, block_ms: int | None = None
    ) -> dict[str, list[OrdersEntry]]:
        """Return by tag at most `count` entries each after a position, waiting up to `block_ms` for the first."""
        return await self._do(calls.read_orders(positions, count, _block(block_ms)))

    async def read_executions(
        self, positions: Mapping[str, int], count: int, block_ms: int | None = None
    ) -> dict[str, list[ExecutionsEntry]]:
        """Return by tag at most `count` entries each after a position, waiting up to `block_ms` for the first."""
        return await self._do(calls.read_executions(positions, count, _block(block_ms)))

    async def orders_range(self, tag: str, first_n: int, last_n: int, count: int | None = None) -> list[OrdersEntry]:
        """Return entries first_n to last_n of orders, those that are there, at most `count`."""
        return await self._do(calls.orders_range(tag, first_n, last_n, count))

    async def executions_range(
        self, tag: str, first_n: int, last_n: int, count: int | None = None
    ) -> list[ExecutionsEntry]:
        """Return entries first_n to last_n of executions, those that are there, at most `count`."""
        return await self._do(calls.executions_range(tag, first_n, last_n, count))

    async def take_epoch(self, tag: str) -> int:
        """Raise the shard's epoch and return it."""
        return await self._do(calls.take_epoch(tag))

    async def commit(
        self,
        tag: str,
        epoch: int,
        after_n: int,
        after_hash: bytes,
        frames: Sequence[CommitFrame],
        chain_hash: bytes,
    ) -> None:
        """Append the answers to entries after_n + 1 and following; done already is done."""
        return await self._do(calls.commit(tag, epoch, after_n, after_hash, frames, chain_hash))

    async def trim(self, tag: str, n: int, orders_bytes_total: int, executions_bytes_total: int) -> None:
        """Remove entries up to n from both streams; the totals are those in the two entries n."""
        return await self._do(calls.trim(tag, n, orders_bytes_total, executions_bytes_total))

    async def initialise(
        self, tag: str, environment: str, shard: int, genesis_hash: bytes, limits: Limits | None = None
    ) -> bool:
        """Make the head of a shard without entries, or change the limits of one; return whether it is new."""
        return await self._do(calls.initialise(tag, environment, shard, genesis_hash, limits or Limits()))

    async def approve(self, tag: str, run_id: str, resume: bool = False) -> None:
        """Let the writers write to the server process `run_id`; `resume` also ends a stop."""
        return await self._do(calls.approve(tag, run_id, resume))

    async def stop(self, tag: str, message: str) -> None:
        """Stop the shard's writers; the first message stays."""
        return await self._do(calls.stop(tag, message))

    async def announce(self, record: ProcessRecord, ttl_ms: int = RECORD_TTL_MS) -> None:
        """Put a process into the registry, seen now."""
        return await self._do(calls.announce(_seen_now(record), ttl_ms))

    async def withdraw(self, record: ProcessRecord) -> None:
        """Take a process out of the registry."""
        return await self._do(calls.withdraw(record))

    async def processes(self) -> list[ProcessRecord]:
        """Return the processes in the registry, by kind and address."""
        return await self._do(calls.processes())

    async def time_us(self) -> int:
        """Return the bus' clock, in microseconds since 1970-01-01 UTC."""
        return await self._do(calls.time_us())

    async def server(self) -> ServerInfo:
        """Return what is known of the server."""
        settings = [await self._setting(name) for name in ("appendonly", "appendfsync")]
        server, memory = await self._do(calls.info("server")), await self._do(calls.info("memory"))
        return calls.server_info(server, memory, *settings)

    async def shut_down(self, save: bool) -> None:
        """End the server process, with a snapshot or without."""
        try:
            await self._client.execute_command(*calls.shut_down(save).words)
        except exceptions.ConnectionError:
            return  # it is gone, as it was told
        except exceptions.RedisError as error:
            raise BusUnavailable(str(error)) from error

    async def results(
        self, ingress: bytes, tags: Sequence[str]
    ) -> AsyncIterator[tuple[str, ExecutionsEntry] | Reconnected]:
        """Yield, for ever, what the shards execute of an ingress process' own entries, by tag, in order per shard.

        Reconnected comes first, and again whenever the connection was lost: what was executed before it and was not
        yielded must be read from executions. The iterator holds a connection until it is closed.
        """
        while True:
            pubsub = self._client.pubsub()
            try:
                await pubsub.ssubscribe(*(ShardKeys(tag).results(ingress) for tag in tags))
                subscribed = 0
                while True:
                    # The server says nothing for as long as nothing is executed.
                    message = await pubsub.get_message(timeout=None)
                    if message is None:
                        continue
                    if message["type"] == "ssubscribe":
                        subscribed += 1
                        if subscribed == len(tags):
                            yield Reconnected()
                    elif message["type"] == "smessage":
                        tag, entry, is_cut = calls.read_result(message)
                        if is_cut:
                            entry = (await self.executions_range(tag, entry.n, entry.n))[0]
                        yield tag, entry
            except (exceptions.RedisError, OSError, BusUnavailable, IndexError):
                # IndexError: a result was trimmed before it was read, so this reader is as late as a lost one.
                await asyncio.sleep(RECONNECT_S)
            finally:
                await pubsub.aclose()

    async def _setting(self, name: str) -> str:
        """Return a setting of the server; empty where it does not let us ask, as hosted ones do not."""
        try:
            return await self._do(calls.config(name))
        except BusUnavailable as error:
            if not isinstance(error.__cause__, exceptions.ResponseError):
                raise
            return ""

    async def _do(self, call: Call[T]) -> T:
        task = asyncio.current_task()
        cancelling = task.cancelling() if task is not None else 0
        try:
            try:
                reply = await self._client.execute_command(*call.words)
            except exceptions.NoScriptError:
                reply = await self._client.execute_command(*call.words_with_source)
        except (exceptions.RedisError, OSError) as error:
            raise _meaning_of(error) from error
        if task is not None and task.cancelling() > cancelling:
            # The client library (8.1) goes on when it is cancelled while it takes a connection: whoever waits for the
            # end of this task would wait for ever.
            raise asyncio.CancelledError
        return call.parse(reply)

    async def _do_all(self, several: Sequence[Call[T]]) -> list[T]:
        """Return the results of calls that are sent together, none of which may be one that changes something."""
        task = asyncio.current_task()
        cancelling = task.cancelling() if task is not None else 0
        pipeline = self._client.pipeline(transaction=False)
        for call in several:
            pipeline.execute_command(*call.words)
        try:
            replies = await pipeline.execute(raise_on_error=False)
        except (exceptions.RedisError, OSError) as error:
            raise _meaning_of(error) from error
        if task is not None and task.cancelling() > cancelling:
            raise asyncio.CancelledError  # as in `_do`
        results = []
        for call, reply in zip(several, replies, strict=True):
            if isinstance(reply, exceptions.NoScriptError):
                results.append(await self._do(call))
            elif isinstance(reply, Exception):
                raise _meaning_of(reply) from reply
            else:
                results.append(call.parse(reply))
        return results


def bus_url(redis_addr: str) -> str:
    """Return an address as a URL: host:port means redis://host:port.

    Raises:
        ValueError: it is neither host:port nor a redis://, rediss:// or unix:// URL. A password is not shown.
    """
    if "://" not in redis_addr:
        redis_addr = f"redis://{redis_addr}"
    if not redis_addr.startswith(("redis://", "rediss://", "unix://")) or redis_addr.endswith("://"):
        scheme = redis_addr.partition("://")[0]
        raise ValueError(
            f"REDIS_ADDR: an address of scheme {scheme!r} is none of host:port, redis://, rediss:// or unix://; "
            "write for example redis://127.0.0.1:6379/"
        )
    return redis_addr


def _seen_now(record: ProcessRecord) -> ProcessRecord:
    return msgspec.structs.replace(record, seen_us=time.time_ns() // 1000)


def _block(block_ms: int | None) -> int | None:
    return None if block_ms is None else min(block_ms, BLOCK_MS_MAX)


def _meaning_of(error: Exception) -> Exception:
    """Return what an error of the client library is to our callers."""
    text = str(error)
    if isinstance(error, exceptions.OutOfMemoryError) or text.startswith("OOM "):
        detail = "the bus has no memory left for more orders; it has again when settlement has trimmed"
        return BusRefusal(BusReason.OUT_OF_MEMORY, detail, 200)
    if isinstance(error, ssl.SSLError):
        return BusUnavailable(f"BUS_UNAVAILABLE: TLS with the bus failed: {text}")
    return BusUnavailable(f"BUS_UNAVAILABLE: {text or type(error).__name__}")


def _options(url: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        # RESP3 would give some replies another shape; nothing here needs it.
        "protocol": 2,
        "decode_responses": False,
        "socket_timeout": ANSWER_S_MAX,
        "socket_connect_timeout": CONNECT_S_MAX,
        "health_check_interval": 0,
    }
    return options if url.startswith("unix://") else options | {"socket_keepalive": True}
