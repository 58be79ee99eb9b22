"""What a batch costs at the door, part by part, in microseconds of one core.

    python -m loadtest.bench_ingress [--batches N] [--per-message N]

Every batch is one limit order, signed on its own; its execution has two events, and one in five trades. No bus and no
sockets: `make bench` measures the whole.
"""

import argparse
import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from clob.v1 import order_service_pb2
from exchange.bus.client import Reconnected
from exchange.bus.entries import ExecutionsEntry, Head, Ingested, Stamp
from exchange.bus.keys import BusKey, SealedFrame
from exchange.control.view import ControlView
from exchange.domain.commands import Batch, OrderType, PlaceOrder, Side
from exchange.domain.events import BatchResult, Event, OrderAccepted, Trade
from exchange.domain.frames import FORMAT, ExecutionFrame
from exchange.domain.operations import DefineShard, OperatorRole
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.ingress.desk import Desk
from exchange.ingress.desks import DESK
from exchange.ingress.door import Door, ReadBatch, Refusal, read_batch
from exchange.ingress.framer import Framer
from exchange.ingress.messages import Chunk, Executed, Part, Refused, Sequenced
from exchange.ingress.rates import TokenBuckets, key_buckets
from exchange.ingress.submissions import Submissions
from exchange.local.control_venue import ControlVenue
from exchange.reference.signing import sign
from exchange.wire.messages import encode

KEYS = 100
ENVIRONMENT = "local"


class Control:
    """Shard 0 with the keys of the benchmark."""

    def __init__(self) -> None:
        venue = ControlVenue(environment=ENVIRONMENT)
        venue.operate(OperatorRole.MARKET, DefineShard(1))
        self.users = [venue.new_user(str(number)) for number in range(KEYS)]
        self.view = ControlView.from_genesis(venue.genesis)
        for frame in venue.frames:
            self.view.apply(frame)

    async def catch_up(self) -> None:
        """Nothing is ever new."""


class InstantBus:
    """A bus that answers at once."""

    def __init__(self) -> None:
        self.n = 0
        self.results_of: asyncio.Queue[ExecutionsEntry] = asyncio.Queue()

    async def ingest(self, tag: str, sealed: SealedFrame) -> Ingested:
        """Give a position."""
        self.n += 1
        return Ingested(self.n, time.time_ns() // 1000, 0, False)

    async def executions_range(self, tag: str, first_n: int, last_n: int, count: int | None = None) -> list[Any]:
        """Have nothing."""
        return []

    async def head(self, tag: str) -> Head | None:
        """Have nothing."""
        return None

    async def results(
        self, ingress: bytes, tags: list[str]
    ) -> AsyncIterator[tuple[str, ExecutionsEntry] | Reconnected]:
        """Hand over what the benchmark executes."""
        while True:
            yield tags[0], await self.results_of.get()


class Sink:
    """Takes what workers would be told."""

    def tell(self, worker: int, message: Sequenced | Executed | Refused) -> None:
        """Take it."""


def execution_of(n: int, batches: list[ReadBatch]) -> bytes:
    """Return an execution frame in which every batch was accepted, and every fifth traded."""
    events: list[Event] = []
    for place, batch in enumerate(batches, 1):
        events.append(BatchResult(place))
        events.append(OrderAccepted(1, batch.account, n, 1, n, 1 << 52 | n, place, 1, 1, 1, False, 10_000 + place, 50))
        if place % 5 == 0:
            events.append(
                Trade(1, n, 1 << 52 | n, 10_000, 5, 1, 1 << 52, 1 << 52 | n, 10**6, 7, batch.account, 8, 1, 2)
            )
    return encode(ExecutionFrame(FORMAT, n, time.time_ns() // 1000, 1, bytes(32), bytes(32), tuple(events)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=6_400)
    parser.add_argument("--per-message", type=int, default=64)
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.batches, arguments.per_message))


async def measure(batches: int, per_message: int) -> None:
    """Measure with so many batches, so many of them per message."""
    control = Control()
    until_ms = time.time_ns() // 1_000_000 + 3_000_000
    requests: list[bytes] = []
    for start in range(0, batches, per_message):
        request = order_service_pb2.SubmitRequest()
        for number in range(start, start + per_message):
            account, key = control.users[number % KEYS]
            order = PlaceOrder(1, Side.BUY, OrderType.LIMIT, 1, False, 0, 10_000 + number % 50, 50, number)
            payload = encode(Batch(account, 1, secrets.randbits(63), until_ms, (order,)))
            covered = signed_bytes(SignedKind.BATCH, ENVIRONMENT, payload)
            request.batches.add(key_id=key.key_id, payload=payload, signature=sign(key.seed, covered))
        requests.append(request.SerializeToString())
    print(f"{batches} batches of one order, {per_message} per message, {KEYS} keys; us per batch")

    def part(name: str, work: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = work()
        print(f"  {name:<46}{(time.process_time() - began) / batches * 1e6:8.2f}")
        return result

    signed = part(
        "parse the message, take three fields out",
        lambda: [
            (one.key_id, one.payload, one.signature)
            for request in requests
            for one in order_service_pb2.SubmitRequest.FromString(request).batches
        ],
    )
    read = part("decode the payload strictly", lambda: [read_batch(*one) for one in signed])
    rates = TokenBuckets(10**9, 10**9)
    door = Door(ENVIRONMENT, control, rates, rates)
    verdicts = part(
        "judge: key, rate, signature, account, times",
        lambda: [door.judge(one, time.time_ns() // 1000, time.monotonic()) for one in read],
    )
    assert not any(verdicts)
    part("write the element of the frame", lambda: [one.as_frame_field() for one in read])

    async def nothing(*_: Any) -> Any:
        return None

    streamed = [
        order_service_pb2.SubmitStreamRequest(
            tag=tag, submit=order_service_pb2.SubmitRequest.FromString(request)
        ).SerializeToString()
        for tag, request in enumerate(requests, 1)
    ]
    chunks: list[Chunk] = []
    frames: list[bytes] = []
    kinds: list[type[Desk]] = [Submissions]
    if DESK is not Submissions:
        kinds.append(DESK)
    for kind in kinds:
        print(f"  {kind.__name__}:")
        chunks = []

        def send(chunk: Chunk, chunks: list[Chunk] = chunks) -> bool:
            chunks.append(chunk)
            return True

        door = Door(ENVIRONMENT, control, rates, key_buckets(10**9, 10**9))
        desk = kind(door, InstantBus(), send, nothing, nothing, 1, 10**9)
        began = time.process_time()
        taken = [(await desk.take(request, "127.0.0.1"))[1] for request in streamed]
        await asyncio.sleep(0)
        whole = (time.process_time() - began) / batches * 1e6
        print(f"  {'  all of it, to the framer, in the event loop':<46}{whole:8.2f}")
        frames = []
        places = iter(read)
        for n, chunk in enumerate(chunks, 1):
            members = [next(places) for _ in range(chunk.batches)]
            assert not any(isinstance(one, Refusal) for one in members)
            frames.append(execution_of(n, members))

        def take_results(desk: Desk = desk, chunks: list[Chunk] = chunks, frames: list[bytes] = frames) -> None:
            for n, (chunk, frame) in enumerate(zip(chunks, frames, strict=True), 1):
                desk.take_sequenced(Sequenced(1, n, time.time_ns() // 1000, 1, [Part(chunk.chunk, 1)]))
                desk.take_executed(Executed(1, n, 1, 2, 3, frame, [Part(chunk.chunk, 1)]))

        part("  take positions and outcomes", take_results)
        began = time.process_time()
        answers = [await desk.answer(one, fails=True) for one in taken]
        print(f"  {'  write the answer':<46}{(time.process_time() - began) / batches * 1e6:8.2f}")
        assert len(answers) == len(requests)

    bus = InstantBus()
    framer = Framer(bus, BusKey("bench", bytes(32)), Sink(), lambda: time.time_ns() // 1000)
    began = time.process_time()
    for n, (chunk, frame) in enumerate(zip(chunks, frames, strict=True), 1):
        framer.offer(1, chunk)
        while bus.n < n:
            await asyncio.sleep(0)
        bus.results_of.put_nowait(ExecutionsEntry(n, frame, Stamp(1, 1, 2, 0, 0, 0)))
    assert await framer.drain(10)
    print(f"  {'framer: frame, seal, hash, hand out':<46}{(time.process_time() - began) / batches * 1e6:8.2f}")
    await framer.close()


if __name__ == "__main__":
    main()
