import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from clob.v1 import door_reason_pb2, event_pb2, frame_pb2, order_service_pb2, outcome_pb2
from exchange.bus.entries import ExecutionsEntry, Stamp
from exchange.bus.errors import BusUnavailable
from exchange.control.view import ControlView
from exchange.domain.commands import (
    Batch,
    CancelOrder,
    Command,
    OrderType,
    PlaceOrder,
    ReduceOrder,
    SelfTradePrevention,
    Side,
    SignedBatch,
    TimeInForce,
)
from exchange.domain.control import RevokeKey
from exchange.domain.events import BatchResult, CommandRejected, Event
from exchange.domain.frames import FORMAT, ExecutionFrame, OrderFrame
from exchange.domain.operations import DefineShard, OperatorRole
from exchange.domain.rejects import RejectReason
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.engine.choice import ENGINES
from exchange.ingress import desk as desk_module
from exchange.ingress import submissions as submissions_module
from exchange.ingress.desk import ATTEMPTS_MAX, FrameCache, valid_until_ms
from exchange.ingress.desk import Desk as WorkerDesk
from exchange.ingress.door import Door, KeyBuckets, ReadBatch
from exchange.ingress.messages import Chunk, Executed, Part, Refused, Sequenced
from exchange.ingress.rates import TokenBuckets
from exchange.ingress.submissions import Submissions
from exchange.local.control_venue import ControlVenue
from exchange.reference.signing import sign
from exchange.serving import errors
from exchange.wire.messages import decode, encode

ENVIRONMENT = "local"
WAIT_S = 20
STALE = BatchResult(1, RejectReason.STALE_CONTROL)
EXECUTED = outcome_pb2.SEND_STATE_EXECUTED
SEQUENCED = outcome_pb2.SEND_STATE_SEQUENCED
REFUSED = outcome_pb2.SEND_STATE_REFUSED
UNKNOWN = outcome_pb2.SEND_STATE_UNKNOWN
CANCEL = CancelOrder(order_id=1)
PLACE = PlaceOrder(1, Side.BUY, OrderType.LIMIT, TimeInForce.GTC, False, SelfTradePrevention.CANCEL_TAKER, 100, 1, 0)


@pytest.fixture(autouse=True, params=["reference", "core"])
def _kind(request: pytest.FixtureRequest) -> None:
    """Let a test run with each of the desks that there are."""
    if request.param not in ENGINES:
        pytest.skip("the core is not built: `make core` builds it, with cargo")
    Desk.kind = request.param


def desk_of(kind: str) -> tuple[type[WorkerDesk], KeyBuckets]:
    """Return a kind of desk, and buckets for it that are never empty."""
    if kind == "reference":
        return Submissions, TokenBuckets(0, 1)
    from exchange_core import KeyRates

    from exchange.ingress.core_submissions import CoreSubmissions

    return CoreSubmissions, KeyRates(0, 1)


class Control:
    """Shard 0, as far as a test lets it be known."""

    def __init__(self, venue: ControlVenue) -> None:
        self.venue = venue
        self.view = ControlView.from_genesis(venue.genesis)
        self.catches = 0
        self.is_reachable = True
        self._follow()

    async def catch_up(self) -> None:
        if not self.is_reachable:
            raise BusUnavailable("gone")
        self.catches += 1
        self._follow()

    def _follow(self) -> None:
        for frame in self.venue.frames[self.view.position :]:
            self.view.apply(frame)


class Desk:
    """The desk of a worker whose framer, bus and neighbours are the test."""

    kind = "reference"

    def __init__(self, commands_max: int = 65_536, patience_s: float = 0) -> None:
        self.venue = ControlVenue(environment=ENVIRONMENT)
        self.venue.now_us = time.time_ns() // 1000
        self.venue.operate(OperatorRole.MARKET, DefineShard(1))
        self.venue.operate(OperatorRole.MARKET, DefineShard(2))
        self.account, self.key = self.venue.new_user("alice")
        self.control = Control(self.venue)
        self.chunks: list[Chunk] = []
        self.frames: dict[int, bytes] = {}
        self.reads = 0
        self.has_framer = True
        self.settled: order_service_pb2.GetOutcomeResponse | None = None
        self.elsewhere: Sequence[order_service_pb2.FundsElsewhere] = ()
        kind, unlimited = desk_of(self.kind)
        self.submissions = kind(
            door=Door(ENVIRONMENT, self.control, TokenBuckets(0, 1), unlimited),
            executions=self,
            send=self._send,
            outcome_of=self._outcome_of,
            elsewhere_of=self._elsewhere_of,
            durability=1,
            commands_max=commands_max,
            patience_s=patience_s,
        )
        self._nonce = 0

    def _send(self, chunk: Chunk) -> bool:
        self.chunks.append(chunk)
        return self.has_framer

    async def _outcome_of(self, batch: ReadBatch) -> order_service_pb2.GetOutcomeResponse | None:
        return self.settled

    async def _elsewhere_of(self, account: int, asset: int, shard: int) -> Sequence[order_service_pb2.FundsElsewhere]:
        return self.elsewhere

    async def executions_range(
        self, tag: str, first_n: int, last_n: int, count: int | None = None
    ) -> list[ExecutionsEntry]:
        self.reads += 1
        await asyncio.sleep(0)
        stamp = Stamp(1, 1, 2, 0, 0, 0)
        return [ExecutionsEntry(n, self.frames[n], stamp) for n in range(first_n, last_n + 1) if n in self.frames]

    def sign(
        self, shard: int = 1, commands: int = 1, valid_for_ms: int = 30_000, command: Command = CANCEL
    ) -> SignedBatch:
        self._nonce += 1
        until_ms = time.time_ns() // 1_000_000 + valid_for_ms
        payload = encode(Batch(self.account, shard, self._nonce, until_ms, (command,) * commands))
        signature = sign(self.key.seed, signed_bytes(SignedKind.BATCH, ENVIRONMENT, payload))
        return SignedBatch(self.key.key_id, payload, signature)

    def submit(self, *batches: SignedBatch, **fields: Any) -> "asyncio.Task[order_service_pb2.SubmitResponse]":
        request = order_service_pb2.SubmitRequest(**fields)
        for one in batches:
            request.batches.add(key_id=one.key_id, payload=one.payload, signature=one.signature)

        async def call() -> order_service_pb2.SubmitResponse:
            answer = await self.submissions.submit(request.SerializeToString(), "127.0.0.1")
            return order_service_pb2.SubmitResponse.FromString(answer)

        return asyncio.create_task(call())

    async def chunk(self, place: int) -> Chunk:
        await until(lambda: len(self.chunks) > place, f"chunk {place}")
        return self.chunks[place]

    def sequence(self, chunk: Chunk, n: int, first: int = 1) -> None:
        self.submissions.take_sequenced(
            Sequenced(chunk.shard, n, time.time_ns() // 1000, 5, [Part(chunk.chunk, first)])
        )

    def execute(self, chunk: Chunk, n: int, *events: Event) -> bytes:
        frame = encode(ExecutionFrame(FORMAT, n, 77, 1, bytes(32), bytes(32), events))
        self.frames[n] = frame
        self.submissions.take_executed(Executed(chunk.shard, n, 1, 2, 3, frame, [Part(chunk.chunk, 1)]))
        return frame


async def until(holds: Callable[[], Any], what: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while not holds():
            await asyncio.sleep(0.001)


def at_a_desk(test: Callable[[Desk], Awaitable[None]], **options: Any) -> None:
    async def body() -> None:
        desk = Desk(**options)
        async with asyncio.timeout(WAIT_S):
            await test(desk)
        assert desk.submissions.commands_under_way == 0

    asyncio.run(body())


def batches_in(chunk: Chunk) -> tuple[SignedBatch, ...]:
    return decode(OrderFrame, encode(OrderFrame(FORMAT, bytes(16), 1, 1)) + chunk.data).batches


def door_reason(outcome: outcome_pb2.BatchOutcome) -> str:
    return door_reason_pb2.DoorReason.Name(outcome.door_reason).removeprefix("DOOR_REASON_")


def results(count: int) -> list[BatchResult]:
    return [BatchResult(place) for place in range(1, count + 1)]


# --- chunks


def test_batches_of_one_moment_go_to_the_framer_together_by_shard_in_their_order() -> None:
    async def test(desk: Desk) -> None:
        batches = [desk.sign(shard) for shard in (1, 2, 1, 1)]
        first, second = desk.submit(*batches[:3]), desk.submit(batches[3])
        await desk.chunk(1)
        by_shard = {chunk.shard: chunk for chunk in desk.chunks}
        assert [chunk.shard for chunk in desk.chunks] == [1, 2]
        assert batches_in(by_shard[1]) == (batches[0], batches[2], batches[3])
        assert batches_in(by_shard[2]) == (batches[1],)
        assert by_shard[1].control_n == desk.control.view.position
        assert (by_shard[1].batches, by_shard[1].commands, by_shard[1].tag) == (3, 3, "s1")
        desk.execute(by_shard[1], 10, *results(3))
        desk.execute(by_shard[2], 4, *results(1))
        assert [(one.n, one.batch) for one in (await first).outcomes] == [(10, 1), (4, 1), (10, 2)]
        assert [(one.n, one.batch) for one in (await second).outcomes] == [(10, 3)]

    at_a_desk(test)


def test_a_chunk_never_has_more_commands_than_a_frame_takes() -> None:
    async def test(desk: Desk) -> None:
        calls = [desk.submit(desk.sign(commands=1_024)) for _ in range(6)]
        await until(lambda: sum(chunk.batches for chunk in desk.chunks) == 6, "all of them")
        assert max(chunk.commands for chunk in desk.chunks) <= 4_096
        for n, chunk in enumerate(desk.chunks, 1):
            desk.execute(chunk, n, *results(chunk.batches))
        for call in calls:
            assert (await call).outcomes[0].state == EXECUTED

    at_a_desk(test)


# --- stale keys


def test_a_batch_that_was_verified_too_early_is_verified_again_and_sent_again_without_its_sender_knowing() -> None:
    async def test(desk: Desk) -> None:
        batch = desk.sign()
        call = desk.submit(batch)
        first = await desk.chunk(0)
        before = first.control_n
        desk.venue.new_user("bob")
        desk.sequence(first, 1)
        desk.execute(first, 1, STALE)
        second = await desk.chunk(1)
        assert second.data == first.data
        assert second.control_n == before + 1
        desk.execute(second, 2, BatchResult(1))
        (outcome,) = (await call).outcomes
        assert (outcome.state, outcome.n) == (EXECUTED, 2)
        assert desk.submissions.counts.batches_stale == 1

    at_a_desk(test)


def test_a_key_that_was_revoked_on_the_way_is_refused_and_the_call_does_not_fail_for_it() -> None:
    async def test(desk: Desk) -> None:
        call = desk.submit(desk.sign())
        chunk = await desk.chunk(0)
        desk.venue.command(desk.key, desk.account, RevokeKey(desk.key.key_id))
        desk.execute(chunk, 1, STALE)
        (outcome,) = (await call).outcomes
        assert (outcome.state, door_reason(outcome)) == (REFUSED, "BAD_KEY_OR_SIGNATURE")
        assert len(desk.chunks) == 1

    at_a_desk(test)


def test_what_reached_a_shard_is_no_error_of_the_call_whatever_becomes_of_it_later() -> None:
    async def test(desk: Desk) -> None:
        first, second = desk.submit(desk.sign()), desk.submit(desk.sign(shard=2))
        await desk.chunk(1)
        desk.control.is_reachable = False
        for chunk in list(desk.chunks):
            desk.execute(chunk, 1, STALE)
        for call in (first, second):
            (outcome,) = (await call).outcomes
            assert (outcome.state, door_reason(outcome)) == (REFUSED, "UNAVAILABLE")

    at_a_desk(test)


def test_sending_again_ends_after_a_few_attempts() -> None:
    async def test(desk: Desk) -> None:
        call = desk.submit(desk.sign())
        for attempt in range(ATTEMPTS_MAX):
            desk.execute(await desk.chunk(attempt), attempt + 1, STALE)
        (outcome,) = (await call).outcomes
        assert (outcome.state, outcome.n) == (REFUSED, ATTEMPTS_MAX)
        assert outcome.reject_reason == event_pb2.REJECT_REASON_STALE_CONTROL
        assert outcome.retry_after_ms > 0
        assert len(desk.chunks) == ATTEMPTS_MAX

    at_a_desk(test)


# --- keys that may be new


def test_a_message_catches_up_once_however_many_unknown_keys_it_has() -> None:
    async def test(desk: Desk) -> None:
        bob = desk.venue.new_user("bob")[1]
        known = desk.sign()
        strangers = [desk.venue.key(f"nobody {number}") for number in range(5)]
        signed = [SignedBatch(key.key_id, known.payload, known.signature) for key in (bob, *strangers)]
        call = desk.submit(*signed, known)
        desk.execute(await desk.chunk(0), 1, BatchResult(1))
        outcomes = (await call).outcomes
        assert [door_reason(one) for one in outcomes[:6]] == ["BAD_KEY_OR_SIGNATURE"] * 6
        assert outcomes[6].state == EXECUTED
        assert desk.control.catches == 1

    at_a_desk(test)


def test_a_key_is_not_called_unknown_when_shard_0_cannot_be_asked() -> None:
    async def test(desk: Desk) -> None:
        desk.control.is_reachable = False
        stranger = desk.venue.key("nobody")
        good = desk.sign()
        with pytest.raises(errors.Refusal) as refused:
            await desk.submit(SignedBatch(stranger.key_id, good.payload, good.signature))
        assert refused.value.reason == "UNAVAILABLE"

    at_a_desk(test)


# --- waiting


def test_when_the_wait_is_over_what_is_known_of_each_batch_is_told() -> None:
    async def test(desk: Desk) -> None:
        call = desk.submit(*(desk.sign(shard) for shard in (1, 2, 1, 2)), wait_ms_max=60, with_stages=True)
        await desk.chunk(1)
        one, two = desk.chunks
        desk.sequence(one, 9, first=3)
        response = await call
        assert [outcome.state for outcome in response.outcomes] == [SEQUENCED, UNKNOWN, SEQUENCED, UNKNOWN]
        assert [(outcome.n, outcome.batch) for outcome in response.outcomes] == [(9, 3), (0, 0), (9, 4), (0, 0)]
        assert all(outcome.executable_until_ms for outcome in response.outcomes)
        (stages,) = response.stages
        assert (stages.shard, stages.n, stages.framed_us, stages.executed_us) == (1, 9, 5, 0)
        desk.execute(one, 9, *results(4))
        desk.execute(two, 1, *results(2))

    at_a_desk(test)


def test_whoever_waits_for_a_position_only_is_answered_with_it() -> None:
    async def test(desk: Desk) -> None:
        fast = desk.submit(desk.sign(), wait=order_service_pb2.WAIT_LEVEL_SEQUENCED)
        slow = desk.submit(desk.sign())
        chunk = await desk.chunk(0)
        desk.sequence(chunk, 3)
        (outcome,) = (await fast).outcomes
        assert (outcome.state, outcome.n, outcome.batch) == (SEQUENCED, 3, 1)
        assert not slow.done()
        desk.execute(chunk, 3, *results(2))
        assert (await slow).outcomes[0].state == EXECUTED

    at_a_desk(test)


def test_a_framer_that_is_gone_leaves_what_it_had_unknown_and_gets_nothing_more() -> None:
    async def test(desk: Desk) -> None:
        call = desk.submit(desk.sign(), desk.sign(2))
        await desk.chunk(1)
        desk.sequence(desk.chunks[0], 5)
        desk.submissions.framer_lost()
        assert [outcome.state for outcome in (await call).outcomes] == [SEQUENCED, UNKNOWN]
        with pytest.raises(errors.Refusal) as refused:
            await desk.submit(desk.sign())
        assert refused.value.reason == "UNAVAILABLE"
        assert len(desk.chunks) == 2

    at_a_desk(test)


def test_what_could_not_be_written_to_the_framer_is_refused_and_not_unknown() -> None:
    async def test(desk: Desk) -> None:
        desk.has_framer = False
        with pytest.raises(errors.Refusal) as refused:
            await desk.submit(desk.sign())
        assert refused.value.reason == "UNAVAILABLE"

    at_a_desk(test)


# --- refusals


@pytest.mark.parametrize("name", ["TOO_FAST", "OVERLOADED", "UNAVAILABLE", "DRAINING", "CLOCK_SKEW"])
def test_a_call_fails_only_if_all_its_batches_were_refused_for_one_reason(name: str) -> None:
    async def test(desk: Desk) -> None:
        reason = door_reason_pb2.DoorReason.Value(f"DOOR_REASON_{name}")
        whole, mixed = desk.submit(desk.sign(), desk.sign()), desk.submit(desk.sign(2), desk.sign(1))
        await desk.chunk(1)
        one, two = desk.chunks
        assert one.batches == 3
        desk.submissions.take_refused(Refused([one.chunk], reason, "because", 70))
        desk.execute(two, 1, BatchResult(1))
        with pytest.raises(errors.Refusal) as refused:
            await whole
        assert refused.value.reason == name
        assert errors.retry_after_ms(refused.value.status) == 70
        executed, outcome = (await mixed).outcomes
        assert executed.state == EXECUTED
        assert (outcome.state, door_reason(outcome), outcome.retry_after_ms) == (REFUSED, name, 70)
        assert outcome.executable_until_ms > 0

    at_a_desk(test)


def message_of(*batches: SignedBatch, **fields: Any) -> order_service_pb2.SubmitRequest:
    message = order_service_pb2.SubmitRequest(**fields)
    for one in batches:
        message.batches.add(key_id=one.key_id, payload=one.payload, signature=one.signature)
    return message


async def take(desk: Desk, message: order_service_pb2.SubmitRequest) -> Sequence[outcome_pb2.BatchOutcome]:
    request = order_service_pb2.SubmitStreamRequest(tag=7, submit=message)
    tag, submission = await desk.submissions.take(request.SerializeToString(), "192.0.2.1")
    assert tag == 7
    return order_service_pb2.SubmitResponse.FromString(await desk.submissions.answer(submission, fails=False)).outcomes


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "TOO_FAST"),
        ({"environment": "other"}, "WRONG_ENVIRONMENT"),
        ({"wait_ms_max": 2**31}, "INVALID_FIELD"),
    ],
)
def test_what_is_refused_as_a_whole_is_not_decoded(
    fields: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(desk: Desk) -> None:
        decoded: list[bytes] = []
        monkeypatch.setattr(submissions_module, "read_batch", lambda *fields: decoded.append(fields[1]))
        if name == "TOO_FAST":
            desk.submissions.door.address_rates = TokenBuckets(1, 1)
            desk.submissions.door.admit_address("192.0.2.1", 100, time.monotonic())
        batch = desk.sign()
        garbage = SignedBatch(batch.key_id, b"\xff" * 100, batch.signature)
        first, second = await take(desk, message_of(batch, garbage, **fields))
        assert [door_reason(one) for one in (first, second)] == [name] * 2
        assert first.executable_until_ms == decode(Batch, batch.payload).valid_until_ms
        assert second.executable_until_ms == 0
        assert bool(first.retry_after_ms) is (name == "TOO_FAST")
        assert not decoded
        assert not desk.chunks

    at_a_desk(test)


@pytest.mark.parametrize("batches", [4_097, 5_000])
def test_a_message_of_more_batches_than_may_be_ends_its_stream_with_one_answer(batches: int) -> None:
    async def test(desk: Desk) -> None:
        # One answer for each of the empty batches would have fifty times as many bytes as the message.
        message = order_service_pb2.SubmitRequest(batches=[order_service_pb2.SubmitRequest().batches.add()] * batches)
        request = order_service_pb2.SubmitStreamRequest(tag=7, submit=message).SerializeToString()
        for call in (desk.submissions.take, desk.submissions.submit):
            with pytest.raises(errors.Refusal) as refused:
                await call(request if call == desk.submissions.take else message.SerializeToString(), "192.0.2.1")
            assert refused.value.reason == "MESSAGE_SIZE"
        assert desk.submissions.is_idle

    at_a_desk(test)


def test_messages_of_a_stream_that_are_wrong_are_paid_for() -> None:
    async def test(desk: Desk) -> None:
        desk.submissions.door.address_rates = TokenBuckets(1, 3)
        wrong = message_of(desk.sign(), desk.sign(), environment="other")
        assert {door_reason(one) for one in await take(desk, wrong)} == {"WRONG_ENVIRONMENT"}
        assert {door_reason(one) for one in await take(desk, wrong)} == {"TOO_FAST"}
        assert await take(desk, message_of(environment="other")) == []

    at_a_desk(test)


def test_a_sender_that_leaves_while_its_message_is_let_in_leaves_nothing_behind() -> None:
    async def test(desk: Desk) -> None:
        call = desk.submit(*[desk.sign() for _ in range(1_000)])
        while not desk.chunks:
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert sum(chunk.batches for chunk in desk.chunks) < 1_000
        for n, chunk in enumerate(desk.chunks, 1):
            desk.sequence(chunk, n)
            desk.execute(chunk, n, *results(chunk.batches))
        assert not getattr(desk.submissions, "_waiting", {})
        assert desk.submissions.is_idle

    at_a_desk(test)


def test_others_have_their_turn_while_a_long_message_is_refused() -> None:
    async def test(desk: Desk) -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        await take(desk, message_of(*[desk.sign()] * 1_000, environment="other"))
        task.cancel()
        # The core refuses them all at once, in less time than a turn of a thousand has.
        assert turns >= (5 if desk.kind == "reference" else 0)

    at_a_desk(test)


@pytest.mark.parametrize("shard", [0, 1, 4_095])
@pytest.mark.parametrize("nonce", [0, 1, 2**64 - 1])
@pytest.mark.parametrize("until_ms", [1, 127, 128, 1_790_000_000_000, 2**53 - 1])
def test_the_time_of_a_batch_is_read_without_its_commands(shard: int, nonce: int, until_ms: int) -> None:
    payload = encode(Batch(2**64 - 1, shard, nonce, until_ms, (CancelOrder(order_id=1),) * 3))
    assert valid_until_ms(payload) == until_ms


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x2a\x00",
        b"\x08",
        b"\x08\x01\x08\x01\x20\x01",
        b"\x10\x01\x08\x01\x20\x01",
        b"\x08\x01\x20" + b"\xff" * 2_000_000,
        b"\x08\x01\x20" + b"\xff" * 8 + b"\x01",
    ],
)
def test_bytes_that_have_no_time_are_no_batch(payload: bytes) -> None:
    assert valid_until_ms(payload) is None


def test_commands_under_way_are_bounded() -> None:
    async def test(desk: Desk) -> None:
        first = desk.submit(*(desk.sign(command=PLACE) for _ in range(6)))
        second = desk.submit(*(desk.sign(command=PLACE) for _ in range(6)))
        chunk = await desk.chunk(0)
        assert chunk.batches == 10
        desk.execute(chunk, 1, *results(10))
        assert all(outcome.state == EXECUTED for outcome in (await first).outcomes)
        assert [door_reason(outcome) for outcome in (await second).outcomes[4:]] == ["OVERLOADED"] * 2
        assert desk.submissions.commands_under_way == 0

    at_a_desk(test, commands_max=10)


def test_cancels_are_let_in_where_there_is_no_room_for_orders() -> None:
    async def test(desk: Desk) -> None:
        first = desk.submit(desk.sign(command=PLACE, commands=16))
        placing = desk.sign(command=PLACE)
        reduce = ReduceOrder(order_id=1, quantity_lots=1)
        second = desk.submit(placing, desk.sign(), desk.sign(command=reduce), desk.sign(), placing)
        chunk = await desk.chunk(0)
        assert chunk.batches == 3
        desk.execute(chunk, 1, *results(3))
        await first
        outcomes = (await second).outcomes
        assert [outcome.state for outcome in outcomes[1:3]] == [EXECUTED] * 2
        # The reserve is used up by then.
        assert [door_reason(outcomes[place]) for place in (0, 3, 4)] == ["OVERLOADED"] * 3
        assert all(outcomes[place].retry_after_ms == 100 for place in (0, 3, 4))
        until_ms = decode(Batch, placing.payload).valid_until_ms
        assert outcomes[0].executable_until_ms == until_ms
        # What there is no room for was not verified, and is let in as it is when there is.
        third = desk.submit(placing)
        desk.execute(await desk.chunk(1), 2, *results(1))
        assert (await third).outcomes[0].state == EXECUTED

    at_a_desk(test, commands_max=16)


def test_what_there_is_no_room_for_is_not_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(desk: Desk) -> None:
        first = desk.submit(desk.sign(command=PLACE, commands=4))
        good = desk.sign(command=PLACE)
        forged = SignedBatch(good.key_id, good.payload, bytes(64))
        with pytest.raises(errors.Refusal) as refused:
            await desk.submit(*[forged] * 5)
        # A forged signature would be told apart if anybody had looked at it.
        assert refused.value.reason == "OVERLOADED"
        desk.execute(await desk.chunk(0), 1, *results(1))
        await first

    at_a_desk(test, commands_max=4)


def test_a_process_that_ends_takes_nothing_new_and_answers_what_it_took() -> None:
    async def test(desk: Desk) -> None:
        call = desk.submit(desk.sign())
        chunk = await desk.chunk(0)
        desk.submissions.is_draining = True
        with pytest.raises(errors.Refusal) as refused:
            await desk.submit(desk.sign())
        assert refused.value.reason == "DRAINING"
        assert not desk.submissions.is_idle
        desk.execute(chunk, 1, BatchResult(1))
        assert (await call).outcomes[0].state == EXECUTED
        assert desk.submissions.is_idle

    at_a_desk(test)


# --- repetitions


def test_repetitions_of_one_frame_read_it_once_and_have_the_outcome_of_the_first_time() -> None:
    async def test(desk: Desk) -> None:
        call = desk.submit(desk.sign(), desk.sign(), desk.sign())
        first = await desk.chunk(0)
        rejected = CommandRejected(1, desk.account, 1, RejectReason.UNKNOWN_ORDER, 0, 1)
        desk.execute(first, 7, BatchResult(1), rejected, BatchResult(2), BatchResult(3))
        told = (await call).outcomes
        again = desk.submit(desk.sign(), desk.sign(), desk.sign())
        second = await desk.chunk(1)
        desk.execute(second, 8, *(BatchResult(place, 0, 7, place) for place in (1, 2, 3)))
        response = await again
        assert desk.reads == 1
        for outcome, before in zip(response.outcomes, told, strict=True):
            assert outcome.repeated
            outcome.repeated = False
            assert outcome == before
        assert [one.reason for one in response.explanations] == [event_pb2.REJECT_REASON_UNKNOWN_ORDER]

    at_a_desk(test)


def test_an_answer_has_only_so_many_bytes_of_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes, thousands of times in a message, must not become thousands of copies of a long outcome."""

    async def test(desk: Desk) -> None:
        kind = "submissions" if desk.kind == "reference" else "core_submissions"
        monkeypatch.setattr(f"exchange.ingress.{kind}.REPEATED_BYTES_MAX", 40)
        batch = desk.sign()
        call = desk.submit(batch)
        rejected = CommandRejected(1, desk.account, 1, RejectReason.UNKNOWN_ORDER, 0, 1)
        desk.execute(await desk.chunk(0), 7, BatchResult(1), rejected, rejected)
        (told,) = (await call).outcomes
        again = desk.submit(*[batch] * 30)
        desk.execute(await desk.chunk(1), 8, *(BatchResult(place, 0, 7, 1) for place in range(1, 31)))
        got = (await again).outcomes
        whole = [outcome for outcome in got if outcome.state == EXECUTED]
        assert [len(outcome.events) for outcome in whole] == [len(told.events)] * len(whole)
        assert 1 <= len(whole) <= 3
        assert {(one.state, one.n, one.batch) for one in got if one.state != EXECUTED} == {(SEQUENCED, 7, 1)}

    at_a_desk(test)


def test_events_with_fields_of_a_newer_engine_are_told_and_other_sides_stay_hidden() -> None:
    async def test(desk: Desk) -> None:
        call = desk.submit(desk.sign(), desk.sign())
        chunk = await desk.chunk(0)
        newer = b"\xa0\x06\x01"
        trade = event_pb2.Event(
            trade=event_pb2.Trade(
                market=3, price_ticks=5, maker_account=desk.account + 1, maker_order_id=8, taker_account=desk.account
            )
        )
        trade.trade.MergeFromString(newer)
        refused = event_pb2.Event(command_rejected=event_pb2.CommandRejected(command=1, account=desk.account))
        refused.command_rejected.MergeFromString(newer)
        frame = frame_pb2.ExecutionFrame.FromString(
            encode(ExecutionFrame(FORMAT, 1, 77, 1, bytes(32), bytes(32), (BatchResult(1),)))
        )
        frame.events.append(trade)
        frame.events.append(event_pb2.Event(batch_result=event_pb2.BatchResult(batch=2)))
        frame.events.append(refused)
        desk.submissions.take_executed(
            Executed(1, 1, 1, 2, 3, frame.SerializeToString(deterministic=True), [Part(chunk.chunk, 1)])
        )
        first, second = (await call).outcomes
        assert (first.state, second.state) == (EXECUTED, EXECUTED)
        seen = first.events[1].trade
        assert (seen.taker_account, seen.maker_account, seen.maker_order_id) == (desk.account, 0, 0)
        assert second.events[1].command_rejected.account == desk.account

    at_a_desk(test)


def test_a_result_that_was_trimmed_before_it_was_read_is_asked_of_settlement() -> None:
    async def test(desk: Desk) -> None:
        desk.settled = order_service_pb2.GetOutcomeResponse(state=order_service_pb2.OUTCOME_STATE_EXECUTED)
        desk.settled.outcome.n, desk.settled.outcome.batch = 3, 1
        call = desk.submit(desk.sign())
        chunk = await desk.chunk(0)
        desk.sequence(chunk, 3)
        desk.submissions.take_executed(Executed(1, 3, 0, 0, 0, b"", [Part(chunk.chunk, 1)]))
        (outcome,) = (await call).outcomes
        assert (outcome.state, outcome.n, outcome.repeated) == (EXECUTED, 3, False)
        desk.settled = None
        call = desk.submit(desk.sign())
        chunk = await desk.chunk(1)
        desk.sequence(chunk, 4)
        desk.submissions.take_executed(Executed(1, 4, 0, 0, 0, b"", [Part(chunk.chunk, 1)]))
        assert (await call).outcomes[0].state == SEQUENCED

    at_a_desk(test)


def test_frames_that_repetitions_ask_for_are_kept_in_bounded_memory() -> None:
    async def test(desk: Desk) -> None:
        for n in range(1, 21):
            desk.frames[n] = encode(ExecutionFrame(FORMAT, n, 77, 1, bytes(32), bytes(32), (BatchResult(1),)))
        cache = FrameCache(desk, 5 * len(desk.frames[1]))
        for n in range(1, 21):
            frame = await cache.get("s1", n)
            assert frame is not None
            assert frame.n == n
        assert desk.reads == 20
        for n in (20, 19, 18, 17):
            await cache.get("s1", n)
        assert desk.reads == 20
        await asyncio.gather(*(cache.get("s1", 1) for _ in range(5)))
        assert desk.reads == 21
        assert await cache.get("s1", 99) is None

    at_a_desk(test)


# --- funds elsewhere


def test_where_else_funds_are_is_told_only_if_it_is_known_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "ELSEWHERE_S_MAX", 0.05)

    async def test(desk: Desk) -> None:
        row = order_service_pb2.FundsElsewhere(account=desk.account, asset=2, shard=0, free_units=5)
        desk.elsewhere = [row]
        short = CommandRejected(1, desk.account, 1, RejectReason.INSUFFICIENT_FUNDS, 1, 0, 0, 9, 1, 2)
        call = desk.submit(desk.sign())
        desk.execute(await desk.chunk(0), 1, BatchResult(1), short)
        assert list((await call).funds_elsewhere) == [row]

        async def never(account: int, asset: int, shard: int) -> Sequence[order_service_pb2.FundsElsewhere]:
            await asyncio.Event().wait()
            return ()

        monkeypatch.setattr(desk.submissions, "_elsewhere_of", never)
        call = desk.submit(desk.sign())
        desk.execute(await desk.chunk(1), 2, BatchResult(1), short)
        response = await call
        assert not response.funds_elsewhere
        assert response.outcomes[0].state == EXECUTED

    at_a_desk(test)


def test_a_frame_that_cannot_be_read_leaves_its_senders_with_what_is_known() -> None:
    async def test(desk: Desk) -> None:
        call = desk.submit(desk.sign())
        chunk = await desk.chunk(0)
        desk.sequence(chunk, 1)
        desk.submissions.take_executed(Executed(1, 1, 0, 0, 0, b"\x08\x01\x10\x01\x99", [Part(chunk.chunk, 1)]))
        assert (await call).outcomes[0].state == SEQUENCED

    at_a_desk(test)
