"""Many signed batches over one SubmitStream: as many messages on their way as are allowed, each answered once."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import grpc

from clob.v1 import order_service_pb2
from exchange.client.batches import SignedCommands
from exchange.client.errors import ClientError, error_of
from exchange.client.results import Result, results_of, told_by
from exchange.client.transport import Backoff, Transport


class Answer(NamedTuple):
    """What the exchange answered to one message.

    Attributes:
        batches: as they were sent.
        response: the SubmitResponse.
        sent_us, got_us: when it was sent first and when the answer was here, by this machine's clock.
        attempts: how often it was sent. Above 1 a batch that is refused may have been executed by an earlier attempt:
            `AsyncClient.send` finds out.
    """

    batches: tuple[SignedCommands, ...]
    response: Any
    sent_us: int
    got_us: int
    attempts: int

    def results(self) -> list[Result]:
        """Return what became of each command, batch by batch."""
        found: list[Result] = []
        for batch, told in zip(
            self.batches, told_by(self.response, self.batches, self.sent_us, self.got_us), strict=True
        ):
            found += results_of(batch, told)
        return found


@dataclass(slots=True)
class _Message:
    tag: int
    batches: tuple[SignedCommands, ...]
    data: bytes
    answer: "asyncio.Future[Answer]"
    sent_us: int = 0
    attempts: int = 0
    connection: int = field(default=0)


class SubmitStream:
    """A stream of signed batches. When it breaks it is opened again, and what was not answered is sent again.

    Use it as an async context manager: leaving it waits for all answers.
    """

    def __init__(self, transport: Transport, head: bytes, in_flight_max: int) -> None:
        self._transport = transport
        self._head = head
        self._room = asyncio.Semaphore(in_flight_max)
        self._writing = asyncio.Lock()
        self._unanswered: dict[int, _Message] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._tag = 0
        self._connection = 0
        self._call: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._failed: ClientError | None = None
        self._open: Any = transport.channel.stream_stream(
            "/clob.v1.OrderService/SubmitStream",
            request_serializer=None,
            response_deserializer=order_service_pb2.SubmitStreamResponse.FromString,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self.drain()
        await self.close()

    async def send(self, batches: Sequence[SignedCommands]) -> "asyncio.Future[Answer]":
        """Send one message, once there is room for it, and return the future of its answer.

        Args:
            batches: at most what `batches.requests_of` gives as one part.

        Raises:
            ClientError: the stream has failed for good. The future raises it too: what was sent is then in doubt.
        """
        await self._room.acquire()
        if self._failed is not None:
            self._room.release()
            raise self._failed
        self._tag += 1
        request = order_service_pb2.SubmitStreamRequest(tag=self._tag)
        request.submit.MergeFromString(b"".join((self._head, *(batch.wire for batch in batches))))
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        message = _Message(self._tag, tuple(batches), request.SerializeToString(), future)
        self._unanswered[message.tag] = message
        self._idle.clear()
        if self._reader is None:
            self._reader = asyncio.create_task(self._run())
        async with self._writing:
            await self._write(message)
        return message.answer

    async def drain(self) -> None:
        """Return when every message has its answer, or its error."""
        await self._idle.wait()

    async def close(self) -> None:
        """End the stream; futures that are not answered are cancelled."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        if self._call is not None:
            self._call.cancel()
            self._call = None
        for message in list(self._unanswered.values()):
            message.answer.cancel()
            self._forget(message)

    async def _run(self) -> None:
        """Keep a stream open and take its answers until there is no use in it."""
        backoff = Backoff()
        while True:
            await self._connect()
            try:
                await self._take_answers(backoff)
                error = ClientError(
                    "UNREACHABLE", f"{self._transport.address} ended the stream", may_help_to_retry=True
                )
            except grpc.aio.AioRpcError as failed:
                error = error_of(failed, self._transport.address)
            async with self._writing:
                self._call = None
            if not error.may_help_to_retry:
                self._fail(error)
                return
            self._let_expire(error)
            await asyncio.sleep(backoff.next_s(error.retry_after_ms))

    async def _connect(self) -> None:
        """Open a stream and send what is not answered, in order."""
        async with self._writing:
            self._connection += 1
            self._call = self._open()
            for message in list(self._unanswered.values()):
                await self._write(message)

    async def _write(self, message: _Message) -> None:
        """Send a message on the present connection, unless it was; where that fails the reader sees it too."""
        if self._call is None or message.connection == self._connection:
            return
        message.connection = self._connection
        message.attempts += 1
        message.sent_us = message.sent_us or time.time_ns() // 1000
        try:
            await self._call.write(message.data)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return

    async def _take_answers(self, backoff: Backoff) -> None:
        while True:
            response = await self._call.read()
            if response is grpc.aio.EOF:
                code = await self._call.code()
                if code is grpc.StatusCode.OK:
                    return
                raise grpc.aio.AioRpcError(
                    code,
                    await self._call.initial_metadata(),
                    await self._call.trailing_metadata(),
                    await self._call.details(),
                )
            backoff.reset()
            message = self._unanswered.get(response.tag)
            if message is None:
                continue
            answer = Answer(message.batches, response.submit, message.sent_us, time.time_ns() // 1000, message.attempts)
            if not message.answer.done():
                message.answer.set_result(answer)
            self._forget(message)

    def _let_expire(self, error: ClientError) -> None:
        """End the messages that nobody can execute any more: sending them again would not tell what became of them."""
        now_ms = time.time_ns() // 1_000_000 - int(self._transport.patience_s * 1000)
        for message in list(self._unanswered.values()):
            if max(batch.valid_until_ms for batch in message.batches) < now_ms:
                if not message.answer.done():
                    message.answer.set_exception(error)
                self._forget(message)

    def _fail(self, error: ClientError) -> None:
        self._failed = error
        for message in list(self._unanswered.values()):
            if not message.answer.done():
                message.answer.set_exception(error)
            self._forget(message)

    def _forget(self, message: _Message) -> None:
        del self._unanswered[message.tag]
        self._room.release()
        if not self._unanswered:
            self._idle.set()
