"""What stands before every gRPC method of a port: who may call now, how many at once, and how a call ends.

It refuses while the process does not serve, calls above the limits, and messages that do not parse; ends calls with the
status that a handler raised (`errors.Refusal`); answers a mistake of ours with INTERNAL and a number that the log has
too; ends streams when the process drains; counts. Handlers are coroutines or asynchronous generators.
"""

import asyncio
import contextlib
import inspect
import itertools
import logging
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
import grpc.aio
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status

from clob.v1.door_reason_pb2 import DoorReason
from exchange.serving import callers
from exchange.serving.errors import Refusal, abort_with, reason_of, refused, status_of
from exchange.serving.metrics import Metrics

MESSAGE_S_MAX: Final = 10.0
"""Longest wait for the message of a call that has one: a call that is half sent takes a place of somebody else's."""
MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024 + 64 * 1024
"""Largest request message, above what any contract allows. gRPC itself refuses what is twice as large."""

_INFRASTRUCTURE: Final = ("/grpc.health.v1.", "/grpc.reflection.")
_OWN: Final = "/clob.v1.ProcessService/"
_LOG: Final = logging.getLogger(__name__)

Gate = Callable[[], Refusal | None]


class _Unparsed:
    """A message that is none of the method's."""

    __slots__ = ("refusal",)

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal


class _Call:
    """A call that is open."""

    __slots__ = ("host", "is_ended", "is_stream", "task")

    def __init__(self, task: "asyncio.Task[Any] | None", host: str, *, is_stream: bool) -> None:
        self.task = task
        self.host = host
        self.is_stream = is_stream
        self.is_ended = False


class CallGuard(grpc.aio.ServerInterceptor):
    """The guard of one port.

    Args:
        metrics: where calls are counted.
        gate: returns why nothing is served now; None: it is. Health, reflection and ProcessService are always served.
        calls_max: calls and streams open at once, in all.
        calls_per_host_max: of one address; loopback is not counted.
        is_trusted: says whether a caller may use the port; None: everybody may. Health is for everybody.
    """

    def __init__(
        self,
        metrics: Metrics,
        gate: Gate,
        *,
        calls_max: int,
        calls_per_host_max: int,
        is_trusted: Callable[[Any], bool] | None = None,
    ) -> None:
        self._metrics = metrics
        self._gate = gate
        self._calls_max = calls_max
        self._calls_per_host_max = calls_per_host_max
        self._is_trusted = is_trusted
        self._wrapped: dict[str, tuple[Any, Any]] = {}
        self._open: set[_Call] = set()
        self._per_host: Counter[str] = Counter()
        self._process = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    @property
    def open_calls(self) -> int:
        """Number of open calls and streams."""
        return len(self._open)

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return the handler of a method with the guard around it; None: there is no such method."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is not None and known[0] is handler:
            return known[1]
        guarded = self._guard(method, handler)
        self._wrapped[method] = (handler, guarded)
        return guarded

    def end_streams(self) -> None:
        """End every stream with DRAINING; a call with one answer goes on to its end."""
        for call in list(self._open):
            if call.is_stream and call.task is not None:
                call.is_ended = True
                call.task.cancel()

    # --- around a handler -------------------------------------------------------------------------------------------

    def _guard(self, method: str, handler: Any) -> Any:
        """Return a handler that does what the given one does, guarded."""
        deserializer = _tolerant(method, handler.request_deserializer)
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        is_stream = handler.request_streaming or handler.response_streaming
        is_generator = inspect.isasyncgenfunction(behaviour)
        if not is_generator and not inspect.iscoroutinefunction(behaviour):
            raise TypeError(f"{method}: the handler is neither a coroutine nor an asynchronous generator")
        name = method.removeprefix("/")
        seconds = self._metrics.seconds.labels(name)
        fine = self._metrics.calls.labels(name, "OK", "")

        async def guarded(request: Any, context: Any) -> Any:
            started = time.perf_counter()
            call = _Call(asyncio.current_task(), callers.caller_of(context).host, is_stream=is_stream)
            self._open.add(call)
            self._per_host[call.host] += 1
            self._metrics.calls_open.inc()
            try:
                self._admit(method, context, call)
                request = _parsed(request) if handler.request_streaming else await _only(request, name)
                if not is_generator:
                    answer = await behaviour(request, context)
                else:
                    answer = None
                    async with contextlib.aclosing(behaviour(request, context)) as answers:
                        async for message in answers:
                            await context.write(message)
                fine.inc()
                return answer
            except Refusal as refusal:
                await self._end(name, context, refusal.status)
            except grpc.aio.AbortError:
                code = context.code()
                self._count(name, code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN", "")
                raise
            except asyncio.CancelledError:
                if call.is_ended and call.task is not None and not context.cancelled():
                    call.task.uncancel()
                    detail = f"{name} ends because this process does; connect again and go on where you were"
                    await self._end(name, context, status_of(DoorReason.DOOR_REASON_DRAINING, detail))
                self._count(name, "CANCELLED", "")
                raise
            except Exception:  # noqa: BLE001 - it is logged, with the number that the caller gets
                await self._end(name, context, self._mistake(name))
            finally:
                self._open.discard(call)
                self._per_host[call.host] -= 1
                if self._per_host[call.host] <= 0:
                    del self._per_host[call.host]
                self._metrics.calls_open.dec()
                if not is_stream:
                    seconds.observe(time.perf_counter() - started)

        # A call with one message is taken up when it begins, not when its message has come, so that it is counted and
        # cannot be left half sent. On the wire there is no difference.
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        return make(guarded, request_deserializer=deserializer, response_serializer=handler.response_serializer)

    def _admit(self, method: str, context: Any, call: _Call) -> None:
        """Raise Refusal unless the call may go on."""
        if len(self._open) > self._calls_max:
            raise refused(
                DoorReason.DOOR_REASON_TOO_MANY_CALLS,
                f"{self._calls_max} calls and streams are open on this port, as many as it takes; ask again",
            )
        over = self._per_host[call.host] > self._calls_per_host_max
        if over and not callers.caller_of(context).is_loopback:
            raise refused(
                DoorReason.DOOR_REASON_TOO_MANY_CALLS,
                f"{self._calls_per_host_max} calls and streams are open from {call.host}, as many as one address may "
                "have; end some, or ask again",
            )
        if method.startswith("/grpc.health.v1."):
            return
        if callers.caller_of(context) is callers.UNKNOWN or not (self._is_trusted is None or self._is_trusted(context)):
            raise refused(
                DoorReason.DOOR_REASON_TOKEN_REQUIRED,
                "this port is for the environment's own processes: call the ports for traders or operators, or send "
                "the internal token (--internal-token-file)",
            )
        if not method.startswith((_OWN, *_INFRASTRUCTURE)):
            refusal = self._gate()
            if refusal is not None:
                raise refusal

    async def _end(self, name: str, context: Any, status: Status) -> None:
        self._count(name, Code.Name(status.code), reason_of(status))
        await abort_with(context, status)

    def _count(self, name: str, code: str, reason: str) -> None:
        self._metrics.calls.labels(name, code, reason).inc()

    def _mistake(self, name: str) -> Status:
        """Log the exception that is being handled; return what the caller is told."""
        number = f"{self._process}-{next(self._numbers)}"
        _LOG.exception("mistake %s in %s", number, name, extra={"mistake": number, "method": name})
        return internal_status(number)


def internal_status(number: str) -> Status:
    """Return the status of a mistake of ours; the log has more under its number."""
    detail = (
        f"a mistake of this service, number {number}; whether anything was changed is not known. Give the operator the "
        "number, which the log has too"
    )
    return status_of(DoorReason.DOOR_REASON_INTERNAL, detail, metadata={"number": number})


def _tolerant(method: str, deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """Return a deserializer that returns `_Unparsed` where the given one raises."""

    def parse(data: bytes) -> Any:
        if len(data) > MESSAGE_BYTES_MAX:
            return _Unparsed(
                refused(
                    DoorReason.DOOR_REASON_MESSAGE_SIZE,
                    f"the message has {len(data):,} bytes, at most {MESSAGE_BYTES_MAX:,} are allowed; split it",
                )
            )
        if deserialize is None:
            return data
        try:
            return deserialize(data)
        except Exception as error:  # noqa: BLE001 - protobuf raises DecodeError, ValueError or RuntimeError
            return _Unparsed(
                refused(
                    DoorReason.DOOR_REASON_INVALID_FIELD,
                    f"{len(data):,} bytes are no request of {method.removeprefix('/')} ({error}); encode the message "
                    "that its contract has",
                    fields={"": "not a message of this method"},
                )
            )

    return parse


async def _only(requests: AsyncIterator[Any], name: str) -> Any:
    """Return the message of a call that has one.

    Raises:
        Refusal: none comes, or it does not parse.
    """
    try:
        async with asyncio.timeout(MESSAGE_S_MAX):
            request = await anext(requests, None)
    except TimeoutError:
        request = None
    if request is None:
        raise refused(
            DoorReason.DOOR_REASON_INVALID_FIELD,
            f"{name} has one message, and none came; send it whole within {MESSAGE_S_MAX:g} s",
            fields={"": "no message"},
        )
    if type(request) is _Unparsed:
        raise request.refusal
    return request


async def _parsed(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Return the messages of a stream up to the first that does not parse, which ends the call."""
    async for request in requests:
        if type(request) is _Unparsed:
            raise request.refusal
        yield request
