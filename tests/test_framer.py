import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from clob.v1 import door_reason_pb2 as reasons
from exchange.bus.client import AsyncBus, Reconnected
from exchange.bus.entries import CommitFrame, ExecutionsEntry, Head, Ingested, Stamp
from exchange.bus.errors import UNDECIDED, BusReason, BusRefusal, BusUnavailable
from exchange.bus.keys import BusKeys, SealedFrame, check_mac
from exchange.domain.commands import SignedBatch
from exchange.domain.events import BatchResult
from exchange.domain.frames import FORMAT, ExecutionFrame, OrderFrame
from exchange.domain.limits import FRAME_COMMANDS_MAX, REQUEST_COMMANDS_MAX
from exchange.ingress import framer as framer_module
from exchange.ingress.framer import QUEUED_COMMANDS_MAX, Framer
from exchange.ingress.messages import (
    Chunk,
    Connection,
    Executed,
    Hello,
    Part,
    Refused,
    Sequenced,
    framer_decoder,
    worker_decoder,
)
from exchange.wire.hashing import chain_hash, input_hash
from exchange.wire.messages import decode, encode
from tests.support.servers import BusServer
from tests.support.shard_log import INGRESS_KEY, KEYS, ShardLog

WAIT_S = 20
Told = Sequenced | Executed | Refused
T = TypeVar("T")


def run(test: Coroutine[Any, Any, T]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(2 * WAIT_S):
            return await test

    return asyncio.run(bounded())


async def until(holds: Callable[[], Any], what: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while not holds():
            await asyncio.sleep(0.001)


def batch_field(number: int) -> bytes:
    """Return an element of OrderFrame.batches, the same as a worker makes, told apart by its number."""
    frame = OrderFrame(FORMAT, bytes(16), 1, 1, 0, (SignedBatch(number.to_bytes(16, "big"), b"payload", bytes(64)),))
    return encode(frame)[len(encode(OrderFrame(FORMAT, bytes(16), 1, 1))) :]


def chunk(number: int, *batches: int, control_n: int = 5, commands: int | None = None, shard: int = 1) -> Chunk:
    data = b"".join(batch_field(batch) for batch in batches)
    return Chunk(
        number, shard, f"s{shard}", control_n, len(batches), len(batches) if commands is None else commands, data
    )


class Heard:
    """What workers were told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, Told]] = []

    def tell(self, worker: int, message: Told) -> None:
        self.told.append((worker, message))

    def of(self, kind: type[T]) -> list[tuple[int, T]]:
        return [(worker, message) for worker, message in self.told if isinstance(message, kind)]


class ScriptedBus:
    """A bus that does what a test says with each frame, and sequences it where the test says nothing.

    Attributes:
        script: what becomes of the next calls of ingest: an error to raise, or "lost": sequenced, and the answer lost.
        sealed: all frames that came, sent again or not.
        gather_us: what the answers say.
        hold: while it is not set, calls of ingest wait.
    """

    def __init__(self) -> None:
        self.script: list[Exception | str] = []
        self.sealed: list[SealedFrame] = []
        self.gather_us = 0
        self.hold = asyncio.Event()
        self.hold.set()
        self.executed: dict[int, ExecutionsEntry] = {}
        self.handed: asyncio.Queue[ExecutionsEntry | Reconnected] = asyncio.Queue()
        self.subscribed: list[bytes] = []
        self.trimmed_n = 0
        self.reads = 0
        self._n = 0
        self._known: dict[str, Ingested] = {}

    async def ingest(self, tag: str, sealed: SealedFrame) -> Ingested:
        self.sealed.append(sealed)
        await self.hold.wait()
        action = self.script.pop(0) if self.script else None
        if isinstance(action, Exception):
            raise action
        if sealed.digest not in self._known:
            self._n += 1
            self._known[sealed.digest] = Ingested(self._n, time.time_ns() // 1000, self.gather_us, False)
        if action == "lost":
            raise BusUnavailable("the answer was lost")
        return self._known[sealed.digest]

    async def executions_range(
        self, tag: str, first_n: int, last_n: int, count: int | None = None
    ) -> list[ExecutionsEntry]:
        self.reads += 1
        return [self.executed[n] for n in range(first_n, last_n + 1) if n in self.executed][:count]

    async def head(self, tag: str) -> Head | None:
        return Head("local", 1, bytes(32), "", "", "", 0, 0, 0, 0, 0, b"", 0, 0, 0, 0, self.trimmed_n, 0, None)  # type: ignore[arg-type]

    async def results(
        self, ingress: bytes, tags: list[str]
    ) -> AsyncIterator[tuple[str, ExecutionsEntry] | Reconnected]:
        self.subscribed.append(ingress)
        while True:
            one = await self.handed.get()
            yield one if isinstance(one, Reconnected) else (tags[0], one)

    def execute(self, n: int, batches: int = 1, hand: bool = True) -> bytes:
        """Put the answer to entry n into the stream; return the frame."""
        events = tuple(BatchResult(place) for place in range(1, batches + 1))
        frame = encode(ExecutionFrame(FORMAT, n, 1, 1, bytes(32), bytes(32), events))
        self.executed[n] = ExecutionsEntry(n, frame, Stamp(1, 10, 20, 0, 0, 0))
        if hand:
            self.handed.put_nowait(self.executed[n])
        return frame


class Bench:
    """A framer on a scripted bus."""

    def __init__(self) -> None:
        self.bus = ScriptedBus()
        self.heard = Heard()
        self.framer = Framer(self.bus, INGRESS_KEY, self.heard, lambda: time.time_ns() // 1000)

    def frames(self) -> list[OrderFrame]:
        return [decode(OrderFrame, sealed.order_frame) for sealed in self.bus.sealed]

    async def sequenced(self, count: int) -> list[Sequenced]:
        await until(lambda: len(self.heard.of(Sequenced)) >= count, f"{count} frames sequenced")
        return [message for _, message in self.heard.of(Sequenced)]


def on_a_bench(test: Callable[[Bench], Awaitable[None]]) -> None:
    async def body() -> None:
        bench = Bench()
        try:
            await test(bench)
        finally:
            await bench.framer.close()
        assert not bench.framer.failed.is_set()

    run(body())


# --- gathering


def test_a_lonely_batch_goes_at_once_and_the_rest_gathers_while_it_is_under_way() -> None:
    async def test(bench: Bench) -> None:
        bench.bus.hold.clear()
        bench.framer.offer(1, chunk(1, 11))
        await until(lambda: bench.bus.sealed, "the first frame")
        bench.framer.offer(1, chunk(2, 12, 13, control_n=9))
        bench.framer.offer(2, chunk(1, 14, control_n=7))
        await asyncio.sleep(0.02)
        assert len(bench.bus.sealed) == 1, "one frame is under way per shard"
        bench.bus.hold.set()
        first, *second = await bench.sequenced(3)
        assert (first.n, first.parts) == (1, [Part(1, 1)])
        assert [(message.n, message.parts) for message in second] == [(2, [Part(2, 1)]), (2, [Part(1, 3)])]
        assert [worker for worker, _ in bench.heard.of(Sequenced)] == [1, 1, 2]
        one, two = bench.frames()
        assert [batch.key_id[-1] for batch in one.batches] == [11]
        assert [batch.key_id[-1] for batch in two.batches] == [12, 13, 14]
        assert (one.control_n, two.control_n) == (5, 7), "the lowest position under which a batch was verified"
        assert (one.counter, two.counter) == (1, 2)
        assert one.ingress == two.ingress == bench.framer.ingress

    on_a_bench(test)


def test_shards_do_not_wait_for_one_another() -> None:
    async def test(bench: Bench) -> None:
        bench.bus.hold.clear()
        bench.framer.offer(1, chunk(1, 11, shard=1))
        bench.framer.offer(1, chunk(2, 12, shard=2))
        await until(lambda: len(bench.bus.sealed) == 2, "a frame for each shard")
        assert {sealed.shard for sealed in bench.bus.sealed} == {1, 2}
        assert [frame.counter for frame in bench.frames()] == [1, 1]

    on_a_bench(test)


def test_frames_gather_for_as_long_as_the_bus_asks() -> None:
    async def test(bench: Bench) -> None:
        bench.bus.gather_us = 50_000
        bench.framer.offer(1, chunk(1, 11))
        await bench.sequenced(1)
        began_s = time.monotonic()
        for number in range(2, 12):
            bench.framer.offer(1, chunk(number, number))
            await asyncio.sleep(0.001)
        await bench.sequenced(2)
        assert time.monotonic() - began_s > 0.04
        assert len(bench.frames()[1].batches) == 10

    on_a_bench(test)


def test_a_frame_has_no_more_than_it_may_and_chunks_stay_whole() -> None:
    async def test(bench: Bench) -> None:
        bench.bus.hold.clear()
        bench.framer.offer(1, chunk(1, 11))
        await until(lambda: bench.bus.sealed, "the first frame")
        for number in range(2, 8):
            bench.framer.offer(1, chunk(number, number, commands=REQUEST_COMMANDS_MAX))
        bench.bus.hold.set()
        sequenced = await bench.sequenced(3)
        assert [len(message.parts) for message in sequenced] == [1, FRAME_COMMANDS_MAX // REQUEST_COMMANDS_MAX, 2]
        assert [sealed.commands for sealed in bench.bus.sealed] == [1, FRAME_COMMANDS_MAX, 2 * REQUEST_COMMANDS_MAX]

    on_a_bench(test)


def test_what_waits_is_bounded_and_the_rest_is_told_to_come_again() -> None:
    async def test(bench: Bench) -> None:
        bench.bus.hold.clear()
        bench.framer.offer(1, chunk(1, 11))
        await until(lambda: bench.bus.sealed, "the first frame")
        count = QUEUED_COMMANDS_MAX // REQUEST_COMMANDS_MAX
        for number in range(2, 3 + count):
            bench.framer.offer(1, chunk(number, 12, commands=REQUEST_COMMANDS_MAX))
        ((worker, refused),) = bench.heard.of(Refused)
        assert (worker, refused.chunks) == (1, [2 + count])
        assert refused.reason == reasons.DOOR_REASON_OVERLOADED
        assert refused.retry_after_ms > 0
        bench.bus.hold.set()
        await bench.sequenced(1 + count // 4)

    on_a_bench(test)


# --- trouble


def test_the_same_frame_is_sent_until_its_fate_is_known() -> None:
    async def test(bench: Bench) -> None:
        bench.bus.script = [BusUnavailable("gone"), "lost", BusUnavailable("still gone")]
        bench.framer.offer(1, chunk(1, 11))
        bench.framer.offer(1, chunk(2, 12))
        sequenced = await bench.sequenced(1)
        assert sequenced[0].n == 1
        assert len(bench.bus.sealed) == 4
        assert len({sealed.digest for sealed in bench.bus.sealed}) == 1
        bench.framer.offer(1, chunk(3, 13))
        assert (await bench.sequenced(2))[1].n == 2
        assert bench.frames()[-1].counter == 2

    on_a_bench(test)


def test_a_frame_that_a_full_shard_refuses_is_held_for_a_moment() -> None:
    async def test(bench: Bench) -> None:
        bench.bus.script = [BusRefusal(BusReason.OVERLOADED, "full", 50)] * 2
        bench.framer.offer(1, chunk(1, 11))
        bench.framer.offer(1, chunk(2, 12))
        assert [message.n for message in await bench.sequenced(1)] == [1]
        # It is made anew each time, with the time that it is then.
        frames = bench.frames()[:3]
        assert [frame.counter for frame in frames] == [1, 1, 1]
        assert len({frame.ingress_time_us for frame in frames}) == 3
        assert not bench.heard.of(Refused)

    on_a_bench(test)


def test_a_server_without_memory_says_nothing_of_a_frame_whose_answer_was_lost() -> None:
    async def test(bench: Bench) -> None:
        bench.bus.script = ["lost", BusRefusal(BusReason.OUT_OF_MEMORY, "no memory", 50)]
        bench.framer.offer(1, chunk(1, 11))
        assert [message.n for message in await bench.sequenced(1)] == [1]
        assert len({sealed.digest for sealed in bench.bus.sealed}) == 1
        assert not bench.heard.of(Refused)

    on_a_bench(test)


def test_a_bus_that_goes_away_while_a_frame_is_held_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        monkeypatch.setattr(framer_module, "UNAVAILABLE_AFTER_S", 0.05)
        bench.bus.script = [BusRefusal(BusReason.OVERLOADED, "full", 1), *[BusUnavailable("gone")] * 1_000]
        bench.framer.offer(1, chunk(1, 11))
        await until(lambda: len(bench.bus.sealed) > 1, "the frame is sent again")
        bench.framer.offer(1, chunk(2, 12))
        await until(lambda: bench.heard.of(Refused), "what waits is refused")
        ((_, refused),) = bench.heard.of(Refused)
        assert (refused.chunks, refused.reason) == ([2], reasons.DOOR_REASON_UNAVAILABLE)

    on_a_bench(test)


def test_a_shard_that_stays_full_is_told_to_all_that_wait_until_a_frame_goes_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(bench: Bench) -> None:
        monkeypatch.setattr(framer_module, "FULL_S_MAX", 0.05)
        full = BusRefusal(BusReason.OVERLOADED, "so many wait", 70)
        bench.bus.script = [full] * 1_000
        bench.framer.offer(1, chunk(1, 11))
        await until(lambda: bench.bus.sealed, "the first frame")
        bench.framer.offer(2, chunk(2, 12))
        await until(lambda: len(bench.heard.of(Refused)) == 2, "both are refused")
        for (worker, refused), number in zip(bench.heard.of(Refused), (1, 2), strict=True):
            assert (worker, refused.chunks) == (number, [number])
            assert (refused.reason, refused.retry_after_ms) == (reasons.DOOR_REASON_OVERLOADED, 70)
            assert "so many wait" in refused.detail
        sent = len(bench.bus.sealed)
        bench.framer.offer(1, chunk(3, 13))
        await until(lambda: len(bench.heard.of(Refused)) == 3, "the next is refused at once")
        assert len(bench.bus.sealed) == sent + 1
        bench.bus.script.clear()
        bench.framer.offer(1, chunk(4, 14))
        await bench.sequenced(1)
        assert {frame.counter for frame in bench.frames()} == {1}
        bench.bus.script = [full]
        bench.framer.offer(1, chunk(5, 15))
        await bench.sequenced(2)

    on_a_bench(test)


def test_a_refusal_is_told_and_uses_no_counter_up() -> None:
    cases = {
        BusReason.CLOCK_SKEW: reasons.DOOR_REASON_CLOCK_SKEW,
        BusReason.STOPPED: reasons.DOOR_REASON_UNAVAILABLE,
        BusReason.NOT_APPROVED: reasons.DOOR_REASON_UNAVAILABLE,
        BusReason.NOT_INITIALISED: reasons.DOOR_REASON_UNAVAILABLE,
    }

    async def test(bench: Bench) -> None:
        for number, (bus_reason, door_reason) in enumerate(cases.items(), 1):
            bench.bus.script = [BusRefusal(bus_reason, "for a reason", 70)]
            bench.framer.offer(1, chunk(number, 11))
            await until(lambda number=number: len(bench.heard.of(Refused)) == number, f"{bus_reason}")  # type: ignore[misc]
            _, refused = bench.heard.of(Refused)[-1]
            assert (refused.chunks, refused.reason, refused.retry_after_ms) == ([number], door_reason, 70)
            assert "for a reason" in refused.detail
        bench.framer.offer(1, chunk(9, 11))
        await bench.sequenced(1)
        assert {frame.counter for frame in bench.frames()} == {1}

    on_a_bench(test)


@pytest.mark.parametrize("reason", sorted(UNDECIDED))
def test_a_server_that_is_not_approved_does_not_say_what_became_of_an_earlier_attempt(reason: BusReason) -> None:
    async def test(bench: Bench) -> None:
        bench.bus.script = [BusUnavailable("restarted"), BusRefusal(reason, "another run id")]
        bench.framer.offer(1, chunk(1, 11))
        await bench.sequenced(1)
        assert not bench.heard.of(Refused)
        assert len({sealed.digest for sealed in bench.bus.sealed}) == 1

    on_a_bench(test)


def test_a_frame_that_waited_until_its_time_was_too_old_is_made_anew_under_the_same_counter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(framer_module, "RESTAMP_AFTER_US", -1)

    async def test(bench: Bench) -> None:
        bench.bus.script = [BusUnavailable("gone"), BusRefusal(BusReason.CLOCK_SKEW, "too old")]
        bench.framer.offer(1, chunk(1, 11))
        await bench.sequenced(1)
        first, *_, last = bench.frames()
        assert last.ingress_time_us > first.ingress_time_us
        assert (first.counter, first.batches) == (last.counter, last.batches)

    on_a_bench(test)


def test_a_frame_under_a_name_that_the_bus_has_forgotten_goes_under_a_new_one() -> None:
    async def test(bench: Bench) -> None:
        bench.framer.offer(1, chunk(1, 11))
        await bench.sequenced(1)
        bench.bus.script = [BusRefusal(BusReason.COUNTER_GAP, "a day has passed")]
        bench.framer.offer(1, chunk(2, 12))
        await bench.sequenced(2)
        frames = bench.frames()
        assert [frame.counter for frame in frames] == [1, 2, 1]
        assert frames[1].ingress == frames[0].ingress != frames[2].ingress
        assert frames[1].batches == frames[2].batches
        await until(lambda: len(bench.bus.subscribed) == 2, "results under the new name")
        assert bench.bus.subscribed == [frames[0].ingress, frames[2].ingress]

    on_a_bench(test)


def test_nothing_queues_behind_a_bus_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framer_module, "UNAVAILABLE_AFTER_S", 0.05)

    async def test(bench: Bench) -> None:
        bench.bus.script = [BusUnavailable("gone")] * 6
        bench.framer.offer(1, chunk(1, 11))
        await until(lambda: bench.bus.sealed, "the first attempt")
        bench.framer.offer(1, chunk(2, 12))
        await until(lambda: bench.heard.of(Refused), "the queue refused")
        bench.framer.offer(1, chunk(3, 13))
        told = {number: refused for _, refused in bench.heard.of(Refused) for number in refused.chunks}
        assert set(told) == {2, 3}, "the fate of the first is not known"
        assert {refused.reason for refused in told.values()} == {reasons.DOOR_REASON_UNAVAILABLE}
        assert "gone" in told[2].detail
        await bench.sequenced(1)
        bench.framer.offer(1, chunk(4, 14))
        await bench.sequenced(2)

    on_a_bench(test)


# --- results


def test_results_are_handed_to_the_workers_that_have_batches_in_them() -> None:
    async def test(bench: Bench) -> None:
        bench.bus.hold.clear()
        bench.framer.offer(1, chunk(1, 11))
        await until(lambda: bench.bus.sealed, "the first frame")
        bench.framer.offer(1, chunk(2, 12, 13))
        bench.framer.offer(2, chunk(5, 14))
        bench.bus.hold.set()
        await bench.sequenced(3)
        frame = bench.bus.execute(1)
        second = bench.bus.execute(2, 3)
        await until(lambda: len(bench.heard.of(Executed)) == 3, "results")
        first, one, two = bench.heard.of(Executed)
        assert (first[0], first[1].n, first[1].frame, first[1].parts) == (1, 1, frame, [Part(1, 1)])
        assert (one[0], one[1].frame, one[1].parts) == (1, second, [Part(2, 1)])
        assert (two[0], two[1].frame, two[1].parts) == (2, second, [Part(5, 3)])
        assert (two[1].taken_us, two[1].executed_us) == (10, 20)
        (evidence,) = bench.framer.evidence()
        assert (evidence.ingested_n, evidence.executed_n) == (2, 2)
        assert evidence.executed_hash == chain_hash(second)
        last = bench.bus.sealed[-1].order_frame
        sequenced = bench.heard.of(Sequenced)[-1][1]
        assert evidence.ingested_hash == input_hash(2, sequenced.t_us, last)
        bench.bus.handed.put_nowait(bench.bus.executed[2])
        await asyncio.sleep(0.01)
        assert len(bench.heard.of(Executed)) == 3, "what was handed on is not handed on again"
        assert await bench.framer.drain(1)

    on_a_bench(test)


def test_a_result_that_comes_before_the_answer_of_ingest_is_not_lost() -> None:
    async def test(bench: Bench) -> None:
        bench.bus.hold.clear()
        bench.framer.offer(1, chunk(1, 11))
        await until(lambda: bench.bus.sealed and bench.bus.subscribed, "the frame on its way")
        bench.bus.execute(1)
        await until(bench.bus.handed.empty, "the result handed over")
        await asyncio.sleep(0.01)
        bench.bus.hold.set()
        await until(lambda: bench.heard.of(Executed), "the result")
        assert [type(message) for _, message in bench.heard.told] == [Sequenced, Executed]
        assert bench.bus.reads == 0

    on_a_bench(test)


def test_results_that_are_not_handed_over_are_read_from_the_log() -> None:
    async def test(bench: Bench) -> None:
        for number in (1, 2, 3):
            bench.framer.offer(1, chunk(number, 10 + number))
            await bench.sequenced(number)
        bench.bus.execute(1, hand=False)
        bench.bus.execute(2, hand=False)
        await until(lambda: len(bench.heard.of(Executed)) == 2, "results from the log")
        bench.bus.execute(3)
        await until(lambda: len(bench.heard.of(Executed)) == 3, "the third")
        assert [message.n for _, message in bench.heard.of(Executed)] == [1, 2, 3]

    on_a_bench(test)


def test_a_gap_in_what_is_handed_over_is_filled_from_the_log_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framer_module, "LOOK_S", (60.0,))

    async def test(bench: Bench) -> None:
        for number in (1, 2, 3):
            bench.framer.offer(1, chunk(number, 10 + number))
            await bench.sequenced(number)
        bench.bus.execute(1, hand=False)
        bench.bus.execute(2)
        await until(lambda: len(bench.heard.of(Executed)) == 2, "the gap filled")
        assert {message.n for _, message in bench.heard.of(Executed)} == {1, 2}
        bench.bus.execute(3, hand=False)
        bench.bus.handed.put_nowait(Reconnected())
        await until(lambda: len(bench.heard.of(Executed)) == 3, "what was missed before the connection came back")

    on_a_bench(test)


def test_results_that_were_trimmed_before_they_were_read_are_said_to_be_elsewhere() -> None:
    async def test(bench: Bench) -> None:
        bench.framer.offer(1, chunk(1, 11))
        await bench.sequenced(1)
        bench.bus.trimmed_n = 1
        await until(lambda: bench.heard.of(Executed), "the news")
        _, executed = bench.heard.of(Executed)[0]
        assert (executed.n, executed.frame, executed.parts) == (1, b"", [Part(1, 1)])
        assert await bench.framer.drain(1)

    on_a_bench(test)


# --- on a real bus


def commit(log: ShardLog, epoch: int, position: int, previous: bytes, ingress: bytes) -> bytes:
    """Execute the entry after a position as an engine would, and tell its ingress; return the frame."""
    entry = log.bus.orders_range(log.tag, position + 1, position + 1)[0]
    batches = len(decode(OrderFrame, entry.order_frame).batches)
    events = tuple(BatchResult(place) for place in range(1, batches + 1))
    answered = input_hash(entry.n, entry.t_us, entry.order_frame)
    frame = encode(ExecutionFrame(FORMAT, entry.n, entry.t_us, 1, previous, answered, events))
    stamp = Stamp(epoch, 1, 2, entry.commands_total, entry.n * 1_000, entry.bytes_total)
    log.bus.commit(log.tag, epoch, position, previous, [CommitFrame(frame, stamp, ingress)], chain_hash(frame))
    return frame


def test_frames_go_into_the_log_of_a_real_bus_and_their_results_come_back(bus_server: BusServer) -> None:
    async def test() -> None:
        log = ShardLog(bus_server.address)
        epoch = log.bus.take_epoch(log.tag)
        bus = AsyncBus.connect(bus_server.address)
        heard = Heard()
        framer = Framer(bus, INGRESS_KEY, heard, lambda: time.time_ns() // 1000)
        try:
            previous = log.genesis_hash
            for n in range(1, 6):
                framer.offer(1, chunk(n, 10 * n, 10 * n + 1))
                await until(lambda n=n: len(heard.of(Sequenced)) == n, f"frame {n} sequenced")  # type: ignore[misc]
                entry = log.bus.orders_range(log.tag, n, n)[0]
                assert check_mac(KEYS, 1, framer.ingress, n, entry)
                assert entry.commands_total == 2 * n
                assert decode(OrderFrame, entry.order_frame).control_n == 5
                frame = commit(log, epoch, n - 1, previous, framer.ingress)
                previous = chain_hash(frame)
                await until(lambda n=n: len(heard.of(Executed)) == n, f"frame {n} executed")  # type: ignore[misc]
                assert heard.of(Executed)[-1][1].frame == frame
        finally:
            await framer.close()
            await bus.close()
            log.close()

    run(test())


def test_a_bus_that_restarts_under_way_neither_loses_nor_doubles_a_batch(durable_bus_server: BusServer) -> None:
    async def test() -> None:
        log = ShardLog(durable_bus_server.address)
        bus = AsyncBus.connect(durable_bus_server.address)
        heard = Heard()
        framer = Framer(bus, INGRESS_KEY, heard, lambda: time.time_ns() // 1000)
        try:
            framer.offer(1, chunk(1, 11))
            await until(lambda: heard.of(Sequenced), "the first frame")
            await asyncio.to_thread(durable_bus_server.kill)
            framer.offer(1, chunk(2, 12))
            await asyncio.sleep(0.7)
            await asyncio.to_thread(durable_bus_server.start)
            log.bus.approve(log.tag, log.bus.server().run_id)
            await until(lambda: len(heard.of(Sequenced)) == 2, "the second frame")
            entries = log.bus.orders_range(log.tag, 1, 10)
            keys = [batch.key_id[-1] for entry in entries for batch in decode(OrderFrame, entry.order_frame).batches]
            assert keys == [11, 12]
        finally:
            await framer.close()
            await bus.close()
            log.close()

    run(test())


# --- the socket between workers and framer


def test_messages_cross_the_socket_whole_in_order_and_in_any_pieces(tmp_path: Any) -> None:
    async def test() -> None:
        got: list[Any] = []
        lost: list[Connection] = []
        loop = asyncio.get_running_loop()
        path = str(tmp_path / "framer")
        server = await loop.create_unix_server(
            lambda: Connection(worker_decoder(), lambda _, message: got.append(message), lost.append), path
        )
        _, worker = await loop.create_unix_connection(
            lambda: Connection(framer_decoder(), lambda *_: None, lambda _: None), path
        )
        sent: list[Any] = [Hello(3)]
        for number in range(50):
            data = secrets.token_bytes(number * 4_000)
            sent.append(Chunk(number, 1, "s1", 2, 3, 4, data))
        for message in sent:
            assert worker.send(message)
        await until(lambda: len(got) == len(sent), "all messages")
        assert got == sent
        worker.close()
        await until(lambda: lost, "the end of the connection")
        assert not worker.send(Hello(3))
        server.close()

    run(test())


def test_keys_of_the_tests_are_those_of_the_bus() -> None:
    assert isinstance(KEYS, BusKeys)
    assert KEYS[INGRESS_KEY.name] == INGRESS_KEY
