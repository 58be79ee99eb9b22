"""The desk on the core against the one in Python: the same answers, chunks and refusals to the same messages.

`test_submissions` runs on both. Here both get what nobody would write by hand, and the core's parts are compared one by
one with what they stand for.
"""

import asyncio
import secrets
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from random import Random
from types import FrameType
from typing import Any

import pytest

from clob.v1 import door_reason_pb2, event_pb2, order_service_pb2
from exchange.bus.entries import ExecutionsEntry, Stamp
from exchange.control.view import ControlView
from exchange.domain.commands import Batch, CancelOrder, Command, ReleaseFunds, SignedBatch
from exchange.domain.control import RevokeKey
from exchange.domain.events import BatchResult, CommandRejected, Event, OrderCancelled, Trade
from exchange.domain.frames import FORMAT, ExecutionFrame
from exchange.domain.operations import DefineShard, OperatorRole
from exchange.domain.rejects import RejectReason
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.engine.choice import ENGINES
from exchange.ingress import submissions as submissions_module
from exchange.ingress.desk import Desk
from exchange.ingress.door import Door, ReadBatch
from exchange.ingress.messages import Chunk, Executed, Part, Refused, Sequenced
from exchange.ingress.rates import TokenBuckets
from exchange.ingress.submissions import Submissions
from exchange.local.control_venue import ControlVenue
from exchange.reference.signing import sign
from exchange.serving import errors
from exchange.wire.messages import encode

if "core" not in ENGINES:
    pytest.skip("the core is not built: `make core` builds it, with cargo", allow_module_level=True)

from exchange_core import FrameFormError, IngressDesk, KeyRates, SubmitMessage, Verifier

from exchange.ingress import core_submissions
from exchange.ingress.core_submissions import SLICE, CoreSubmissions
from exchange.ingress.crowd import SMALL_BATCHES

ENVIRONMENT = "local"
KEY_BURST = 40


class World:
    """Shard 0 with some users, a revoked key, and a key that shard 0 has and the view does not know yet."""

    def __init__(self) -> None:
        self.venue = ControlVenue(environment=ENVIRONMENT)
        self.venue.now_us = time.time_ns() // 1000
        for shard in (1, 2, 3):
            self.venue.operate(OperatorRole.MARKET, DefineShard(shard))
        self.users = [self.venue.new_user(name) for name in ("alice", "bob", "carol", "dave")]
        account, key = self.users[3]
        self.venue.command(key, account, RevokeKey(key.key_id))
        self.known = len(self.venue.frames)
        self.users.append(self.venue.new_user("erin"))

    def change(self, draw: Random) -> None:
        """Make another user, or take the key of one that came late."""
        if draw.random() < 0.5:
            self.users.append(self.venue.new_user(f"late {len(self.users)}"))
        else:
            account, key = draw.choice(self.users[4:])
            self.venue.command(key, account, RevokeKey(key.key_id))

    async def catch_up(self, view: ControlView) -> None:
        for frame in self.venue.frames[view.position :]:
            view.apply(frame)


class Follower:
    def __init__(self, world: World) -> None:
        self.world = world
        self.view = ControlView.from_genesis(world.venue.genesis)
        for frame in world.venue.frames[: world.known]:
            self.view.apply(frame)

    async def catch_up(self) -> None:
        await self.world.catch_up(self.view)

    async def reload(self) -> None:
        """Begin again with another view, as behind a gap in what is read of shard 0."""
        self.view = ControlView.from_genesis(self.world.venue.genesis)
        await self.catch_up()


class Side:
    """One of the two desks, and what it has sent to its framer."""

    def __init__(self, world: World, kind: type[Desk], executions: "Executions | None" = None) -> None:
        self.chunks: list[Chunk] = []
        self.follower = Follower(world)
        rates = KeyRates(5, KEY_BURST) if kind is CoreSubmissions else TokenBuckets(5, KEY_BURST)
        door = Door(ENVIRONMENT, self.follower, TokenBuckets(0, 1), rates)
        door.max_validity_ms = {2: 60_000}

        async def elsewhere(account: int, asset: int, shard: int) -> Any:
            return [order_service_pb2.FundsElsewhere(account=account, asset=asset, shard=shard, free_units=5)]

        executions = executions or Executions()
        self.desk = kind(door, executions, self._send, _settled_outcome, elsewhere, 1, 400, patience_s=0)

    def _send(self, chunk: Chunk) -> bool:
        self.chunks.append(chunk)
        return True

    def handed(self) -> dict[int, tuple[int, int, int, bytes]]:
        """Return what was handed over by shard: lowest position of shard 0, batches, commands, bytes."""
        handed: dict[int, tuple[int, int, int, bytes]] = {}
        for chunk in self.chunks:
            control_n, batches, commands, data = handed.get(chunk.shard, (chunk.control_n, 0, 0, b""))
            control_n = min(control_n, chunk.control_n)
            handed[chunk.shard] = control_n, batches + chunk.batches, commands + chunk.commands, data + chunk.data
        return handed

    def parts(self, shard: int) -> list[Part]:
        """Return the chunks of a shard, one behind the other in one frame."""
        parts, first = [], 1
        for chunk in self.chunks:
            if chunk.shard == shard:
                parts.append(Part(chunk.chunk, first))
                first += chunk.batches
        return parts


class Clock:
    """Stands in for `time` in both desks: no time passes between what one and the other is asked."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.now_ns = time.time_ns()

    def monotonic(self) -> float:
        return self.now_s

    def time_ns(self) -> int:
        return self.now_ns

    def tick(self, seconds: float) -> None:
        self.now_s += seconds
        self.now_ns += int(seconds * 1e9)


class Executions:
    """What was executed.

    Attributes:
        frames: by position; every fifth has gone from the bus.
        executed: positions and places of batches, by shard.
    """

    def __init__(self) -> None:
        self.frames: dict[int, bytes] = {}
        self.executed: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)

    async def executions_range(
        self, tag: str, first_n: int, last_n: int, count: int | None = None
    ) -> list[ExecutionsEntry]:
        return [
            ExecutionsEntry(n, self.frames[n], Stamp(1, 2, 3, 0, 0, 0))
            for n in range(first_n, last_n + 1)
            if n in self.frames and n % 5
        ]


async def _settled_outcome(batch: ReadBatch) -> order_service_pb2.GetOutcomeResponse | None:
    """Say of every third batch that it was executed and its command rejected, of another that nothing is known."""
    chance = batch.payload[-1] + batch.signature[0]
    if not chance % 3:
        return None
    answer = order_service_pb2.GetOutcomeResponse(state=order_service_pb2.OUTCOME_STATE_PENDING)
    if chance % 3 == 1:
        answer.state = order_service_pb2.OUTCOME_STATE_EXECUTED
        answer.outcome.n = 7
        answer.outcome.events.add().command_rejected.reason = event_pb2.REJECT_REASON_UNKNOWN_ORDER
    return answer


class Maker:
    """Makes messages, most of them good, with something wrong here and there."""

    def __init__(self, world: World, seed: int, now_ns: Callable[[], int] = time.time_ns) -> None:
        self.draw = Random(seed)
        self.now_ns = now_ns
        self.world = world
        self.nonce = seed << 32

    def batch(self) -> SignedBatch:
        draw = self.draw
        self.nonce += 1
        weights = (10, 4, 4, *(1 for _ in self.world.users[3:]))
        place = draw.choices(range(len(self.world.users)), weights)[0]
        account, key = self.world.users[place]
        if draw.random() < 0.05:
            account = self.world.users[0][0] + 17 * (draw.random() < 0.5)
        now_ms = self.now_ns() // 1_000_000
        until_ms = now_ms + draw.choices((30_000, 3_600_000, 100_000_000, -60_000), (40, 2, 1, 1))[0]
        shard = draw.choices((1, 2, 3, 9), (10, 3, 3, 1))[0]
        commands: tuple[Command, ...] = (CancelOrder(order_id=1),) * draw.choices((1, 2, 60), (20, 5, 1))[0]
        if draw.random() < 0.5:
            commands += (ReleaseFunds(asset=1, amount_units=5),)
        payload = encode(Batch(account, shard, self.nonce, until_ms, commands))
        signature = sign(key.seed, signed_bytes(SignedKind.BATCH, ENVIRONMENT, payload))
        key_id = key.key_id
        wrong = draw.random()
        if wrong < 0.03:
            payload = payload[:-1]
        elif wrong < 0.06:
            signature = signature[:-1] + bytes([signature[-1] ^ 1])
        elif wrong < 0.08:
            signature = signature[: draw.randrange(64)]
        elif wrong < 0.10:
            key_id = draw.choice([key_id[:-1], b"", draw.randbytes(16)])
        elif wrong < 0.11:
            payload = b""
        elif wrong < 0.12:
            payload = draw.randbytes(70_000)
        return SignedBatch(key_id, payload, signature)

    def message(self) -> bytes:
        draw = self.draw
        request = order_service_pb2.SubmitRequest(
            environment=draw.choices(("", ENVIRONMENT, "other"), (10, 10, 1))[0],
            wait=draw.choices((0, 1, 2, 5, -1), (10, 3, 10, 1, 1))[0],  # type: ignore[arg-type]
            wait_ms_max=draw.choices((0, 30_000, 30_001), (10, 10, 1))[0],
            with_stages=draw.random() < 0.5,
        )
        for _ in range(draw.choices((0, 1, 3, 20, 200), (1, 10, 10, 6, 1))[0]):
            one = self.batch()
            request.batches.add(key_id=one.key_id, payload=one.payload, signature=one.signature)
        streamed = order_service_pb2.SubmitStreamRequest(tag=draw.choice((0, 1, 300)), submit=request)
        data = streamed.SerializeToString()
        odd = draw.random()
        if odd < 0.05:
            # Fields that nobody knows, and a field that comes twice, of which the last counts.
            data += b"\xa8\x06\x01" + b"\x08\x07"
        elif odd < 0.08:
            inner = b"\x18\xa0\x1f" + request.SerializeToString() + b"\x9a\x06\x02hi"
            data = b"\x12" + _varint(len(inner)) + inner
        elif odd < 0.10:
            data = data[: draw.randrange(len(data) + 1)]
        return data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def events_of(
    draw: Random, chunks: Sequence[Chunk], accounts: Sequence[int], n: int, executed: list[tuple[int, int]]
) -> list[Event]:
    """Return the events of a frame: of some kind for each batch; those of `executed` may be repeated, and it grows."""
    events: list[Event] = []
    before = list(executed)
    for place in range(1, 1 + sum(chunk.batches for chunk in chunks)):
        kind = draw.random()
        if kind < 0.05:
            events.append(BatchResult(place, draw.choice([RejectReason.NONCE_REUSED, RejectReason.BATCH_EXPIRED])))
            continue
        if kind < 0.15:
            events.append(BatchResult(place, RejectReason.STALE_CONTROL))
            continue
        if kind < 0.25 and before:
            repeat_n, repeat_batch = draw.choice(before)
            events.append(BatchResult(place, repeat_n=repeat_n, repeat_batch=repeat_batch))
            continue
        executed.append((n, place))
        events.append(BatchResult(place))
        for _ in range(draw.choice((0, 1, 1, 3))):
            what = draw.random()
            if what < 0.5:
                maker, taker = draw.choice(accounts), draw.choice(accounts)
                ids = draw.randrange(1, 2**40), draw.randrange(1, 2**60)
                events.append(
                    Trade(3, 9, draw.randrange(1, 2**30), 700, 5, 1, *ids, maker, 4, taker, 300, draw.choice((0, 7)), 8)
                )
            elif what < 0.7:
                reason = draw.choice([RejectReason.INSUFFICIENT_FUNDS, RejectReason.UNKNOWN_ORDER])
                events.append(CommandRejected(1, draw.choice(accounts), 5, reason, asset=draw.randrange(3)))
            else:
                events.append(OrderCancelled(1, draw.choice(accounts), 6, 3, 10, draw.randrange(1, 2**60), 4, 1))
    return events


@pytest.mark.parametrize("seed", range(12))
def test_both_desks_say_the_same(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Others get their turn as often, so that chunks are cut alike.
    monkeypatch.setattr(submissions_module, "SLICE", SLICE)
    clock = Clock()
    monkeypatch.setattr(submissions_module, "time", clock)
    monkeypatch.setattr(core_submissions, "time", clock)
    seen: Counter[str] = Counter()

    async def play() -> None:
        world, executions = World(), Executions()
        maker = Maker(world, seed, clock.time_ns)
        draw = maker.draw
        sides = [Side(world, kind, executions) for kind in (Submissions, CoreSubmissions)]
        lost_at = draw.randrange(40, 60)
        for turn in range(60):
            is_lost = turn >= lost_at
            clock.tick(draw.choice((0, 0.5, 20)))
            if draw.random() < 0.2:
                world.change(draw)
            if draw.random() < 0.1:
                seen["reloaded"] += 1
                for side in sides:
                    await side.follower.reload()
                    side.desk.door.max_validity_ms = {2: 60_000, 3: 1_000_000}
            waiting: list[tuple[Any, Any]] = []
            for _ in range(draw.randrange(1, 6)):
                data = maker.message()
                taken = [await _taken(side.desk, data) for side in sides]
                if isinstance(taken[0], str) or isinstance(taken[1], str):
                    assert taken[0] == taken[1]
                    seen["no message"] += 1
                    continue
                assert taken[0][0] == taken[1][0]
                waiting.append((taken[0][1], taken[1][1]))
            # What is stale is handed on again.
            while await _all_handed(sides):
                assert sides[0].handed() == sides[1].handed()
                for shard in sorted(sides[0].handed()):
                    if not is_lost or draw.random() < 0.5:
                        t_us = clock.now_ns // 1000
                        seen.update(_play_frame(draw, sides, executions, shard, t_us, is_lost))
                if is_lost:
                    seen["lost with something under way"] += 1
                    for side in sides:
                        side.desk.framer_lost()
                for side in sides:
                    side.chunks.clear()
            for pair in waiting:
                answers = [await _answered(side.desk, one) for side, one in zip(sides, pair, strict=True)]
                assert answers[0] == answers[1]
                if not isinstance(answers[0], str):
                    seen.update(f"state {outcome.state}" for outcome in answers[0].outcomes)
                    seen.update(f"door {outcome.door_reason}" for outcome in answers[0].outcomes)
                    seen["repeated"] += sum(outcome.repeated for outcome in answers[0].outcomes)
            assert [side.desk.is_idle for side in sides] == [True, True]
            assert sides[0].desk.counts.as_dict() == sides[1].desk.counts.as_dict()
        assert seen["state 1"] > 100
        assert seen["state 3"] > 10
        assert seen["Trade"] > 10
        assert seen["repeated"] > 10
        assert sides[0].desk.counts.batches_stale > 10
        assert seen["reloaded"] > 0
        assert seen["lost with something under way"] == 1

    asyncio.run(play())


async def _all_handed(sides: Sequence[Side]) -> bool:
    """Wait until both desks have handed on what they let in; return whether it is anything."""
    async with asyncio.timeout(20):
        # Who is asked first lets the other's chunks go too: they may be cut elsewhere, and hold the same.
        while any(
            side.desk._tasks or side.desk.commands_under_way != sum(chunk.commands for chunk in side.chunks)
            for side in sides
        ):
            await asyncio.sleep(0)
    return any(side.chunks for side in sides)


def _play_frame(
    draw: Random, sides: Sequence[Side], executions: Executions, shard: int, t_us: int, is_lost: bool
) -> list[str]:
    """Let a framer say to both what becomes of the chunks of a shard; return what was in the frame.

    Where the framer is about to be lost it says no more than where they are, if that.
    """
    if draw.random() < 0.05:
        for side in sides:
            numbers = [part.chunk for part in side.parts(shard)]
            side.desk.take_refused(Refused(numbers, door_reason_pb2.DOOR_REASON_UNAVAILABLE, "the bus is full", 9))
        return ["refused by the framer"]
    n = len(executions.frames) + 1
    for side in sides:
        side.desk.take_sequenced(Sequenced(shard, n, t_us, 5, side.parts(shard)))
    if is_lost:
        return ["lost"]
    chunks = [chunk for chunk in sides[0].chunks if chunk.shard == shard]
    accounts = [account for account, _ in sides[0].follower.world.users]
    events = events_of(draw, chunks, accounts, n, executions.executed[shard])
    frame = encode(ExecutionFrame(FORMAT, n, t_us, 1, bytes(32), bytes(32), tuple(events)))
    executions.frames[n] = frame
    # It may have gone from the bus before it was read.
    read = frame if draw.random() < 0.95 else b""
    for side in sides:
        side.desk.take_executed(Executed(shard, n, 1, 2, 3, read, side.parts(shard)))
    return [type(event).__name__ for event in events]


async def _taken(desk: Desk, data: bytes) -> Any:
    try:
        return await desk.take(data, "192.0.2.1")
    except errors.Refusal as refusal:
        return str(refusal)


async def _answered(desk: Desk, submission: Any) -> Any:
    async with asyncio.timeout(20):
        return order_service_pb2.SubmitResponse.FromString(await desk.answer(submission, fails=False))


def test_a_message_costs_as_many_calls_whatever_the_number_of_its_batches_and_commands() -> None:
    """Python's calls and statements: one batch of one command, and a slice full of batches of thirty."""

    async def calls_of(batches: int, commands: int) -> Counter[str]:
        world = World()
        side = Side(world, CoreSubmissions)
        side.desk.door.key_rates = KeyRates(0, 1)
        desk = CoreSubmissions(side.desk.door, Executions(), side._send, None, None, 1, 10**6)
        account, key = world.users[0]
        until_ms = time.time_ns() // 1_000_000 + 30_000
        request = order_service_pb2.SubmitRequest()
        for _ in range(batches):
            payload = encode(Batch(account, 1, secrets.randbits(60), until_ms, (CancelOrder(order_id=1),) * commands))
            signature = sign(key.seed, signed_bytes(SignedKind.BATCH, ENVIRONMENT, payload))
            request.batches.add(key_id=key.key_id, payload=payload, signature=signature)
        data = order_service_pb2.SubmitStreamRequest(tag=1, submit=request).SerializeToString()
        results = tuple(BatchResult(place) for place in range(1, batches + 1))
        frame = encode(ExecutionFrame(FORMAT, 1, 77, 1, bytes(32), bytes(32), results))
        steps: Counter[str] = Counter()

        def count(frame: FrameType, event: str, _: Any) -> Any:
            name = frame.f_code.co_filename
            if "/exchange/" in name:
                steps[f"{event} in {name.rpartition('/')[2]}"] += 1
                return count
            return None

        async def whole() -> bytes:
            _, submission = await desk.take(data, "192.0.2.1")
            await asyncio.sleep(0)
            [chunk] = side.chunks
            assert (chunk.batches, chunk.commands) == (batches, batches * commands)
            desk.take_sequenced(Sequenced(1, 1, 77, 5, [Part(chunk.chunk, 1)]))
            desk.take_executed(Executed(1, 1, 1, 2, 3, frame, [Part(chunk.chunk, 1)]))
            return await desk.answer(submission, fails=False)

        desk._follow()
        sys.settrace(count)
        try:
            answer = await whole()
        finally:
            sys.settrace(None)
        assert len(order_service_pb2.SubmitResponse.FromString(answer).outcomes) == batches
        return steps

    assert asyncio.run(calls_of(1, 1)) == asyncio.run(calls_of(SMALL_BATCHES, 30))
    few, many = asyncio.run(calls_of(SMALL_BATCHES + 1, 1)), asyncio.run(calls_of(128, 30))
    assert few
    assert few == many


def test_buckets_of_keys_are_those_of_the_reference() -> None:
    for seed in range(20):
        draw = Random(seed)
        keys = [bytes([number]) * 16 for number in range(12)]
        per_second, burst = draw.choice([(0, 1), (1, 5), (10, 3), (1000, 1.5)])
        ours, core = TokenBuckets(per_second, burst, 8), KeyRates(per_second, burst, 8)
        now_s = 1000.0
        for _ in range(400):
            now_s += draw.choice((0, 0.001, 0.05, 1))
            key, tokens = draw.choice(keys), draw.choice((1, 1, 1, 2, 30))
            match draw.randrange(4):
                case 0:
                    assert core.has_more_than(tokens, key, now_s) == ours.has_more_than(tokens, key, now_s)
                case 1:
                    ours.give_back(key, 1)
                    core.give_back(key, 1)
                case _:
                    assert core.take(key, tokens, now_s) == pytest.approx(ours.take(key, tokens, now_s))
            assert core.per_second == ours.per_second


def test_arguments_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="SHAPE: a key_id has 16 bytes, not 3"):
        KeyRates(1, 1).take(b"abc", 1, 0)
    for per_second, burst in ((-1, 1), (1, 0), (float("nan"), 1), (1, float("inf"))):
        with pytest.raises(ValueError, match="SHAPE"):
            KeyRates(per_second, burst)
    desk = IngressDesk(b"", Verifier(0), KeyRates(0, 1), 1)
    with pytest.raises(ValueError, match="SHAPE: a public key has 32 bytes, not 1"):
        desk.set_keys([(bytes(16), b"x", 1, 1, False)])
    message = SubmitMessage.read(b"")
    assert message is not None
    assert message.batches == 0
    with pytest.raises(ValueError, match="SHAPE: batch 0 of 0"):
        message.head(0)
    with pytest.raises(ValueError, match="SHAPE: batches 0 to 1 of 0"):
        desk.admit(message, 0, 1, False, 0, 0.0, 0)
    assert desk.forget(1) == []


def test_a_message_that_was_released_holds_nothing() -> None:
    one = Maker(World(), 5).batch()
    request = order_service_pb2.SubmitRequest()
    request.batches.add(key_id=one.key_id, payload=one.payload, signature=one.signature)
    message = SubmitMessage.read(request.SerializeToString())
    assert message is not None
    assert message.fields(0)[0] == one.key_id
    message.release()
    assert not message.is_open
    assert message.answer() == (b"", [], [], [])
    assert not message.give_up()
    with pytest.raises(ValueError, match="SHAPE: batch 0 of 0"):
        message.fields(0)


@pytest.mark.parametrize(
    "frame", [b"\x10", b"\x3a", b"\x3a\x05\x12", b"\x3a\x00", b"\x3a\x04\x12\x02\x08\x02", b"\x12\xff"]
)
def test_bytes_that_are_no_execution_frame_are_refused(frame: bytes) -> None:
    desk = IngressDesk(b"", Verifier(0), KeyRates(0, 1), 1)
    with pytest.raises(FrameFormError):
        desk.executed(1, frame, (1, 2, 3, 4), [(1, 1)])


def test_bytes_cut_or_changed_anywhere_are_read_as_the_contract_reads_them_or_not_at_all() -> None:
    world = World()
    maker = Maker(world, 99)
    request = order_service_pb2.SubmitRequest(
        environment=ENVIRONMENT, wait=order_service_pb2.WAIT_LEVEL_SEQUENCED, wait_ms_max=5, with_stages=True
    )
    for _ in range(2):
        one = maker.batch()
        request.batches.add(key_id=one.key_id, payload=one.payload, signature=one.signature)
    data = request.SerializeToString()
    read = 0
    for place in range(len(data)):
        for change in (data[:place], data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]):
            message = SubmitMessage.read(change)
            if message is None:
                continue
            read += 1
            parsed = order_service_pb2.SubmitRequest.FromString(change)
            assert parsed.SerializeToString(deterministic=True) == change
            fields = (message.environment, message.wait, message.wait_ms_max, message.with_stages)
            assert fields == (parsed.environment, parsed.wait, parsed.wait_ms_max, parsed.with_stages)
            assert [message.fields(index) for index in range(message.batches)] == [
                (one.key_id, one.payload, one.signature) for one in parsed.batches
            ]
    assert read > 100
