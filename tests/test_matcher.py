"""market-matcher as a command, over its real port: its shard, its answers, its ends."""

import asyncio
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import grpc
import msgspec
import pytest
from click.testing import CliRunner
from grpc_health.v1 import health_pb2, health_pb2_grpc

from clob.v1 import batch_pb2, event_pb2, matching_service_pb2, operation_pb2, outcome_pb2, process_service_pb2
from clob.v1.door_reason_pb2 import DoorReason
from clob.v1.event_pb2 import (
    REJECT_REASON_BAD_SIGNATURE,
    REJECT_REASON_MARKET_HALTED,
    REJECT_REASON_VALIDITY_TOO_LONG,
    REJECT_REASON_WRONG_SHARD,
)
from clob.v1.process_service_pb2_grpc import ProcessServiceStub
from exchange.bus.client import AsyncBus
from exchange.bus.entries import Ingested
from exchange.bus.errors import UNDECIDED, BusReason, BusRefusal, BusUnavailable
from exchange.bus.keys import BusKey, SealedFrame
from exchange.config.environment import Durability, Environment
from exchange.domain.commands import Batch, Command, Side, SignedBatch
from exchange.domain.markets import MarketState
from exchange.domain.operations import OperatorRole, SetMarketState, SignedOperation
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.engine.choice import DEFAULT_ENGINE
from exchange.local.control_venue import KeyPair
from exchange.matcher.entrance import Entrance
from exchange.matcher.markets import MarketsError, describe, parse_markets, ranges, resolve, resolve_shard
from exchange.matcher.service import main
from exchange.reference.signing import sign
from exchange.serving.errors import reason_of, status_of_error
from exchange.wire.messages import encode
from tests.support.markets import BOOK, UNBANDED, limit
from tests.support.matcher import MatcherProcess, Stage
from tests.support.servers import BusServer
from tests.support.shard_log import ENVIRONMENT

OTHER = msgspec.structs.replace(UNBANDED, market=7, symbol="SOL-USD", shard=2)
MARKETS = (BOOK, UNBANDED, OTHER)


@pytest.fixture
def stage(bus_server: BusServer, tmp_path: Path) -> Iterator[Stage]:
    yield from staged(bus_server, tmp_path)


@pytest.fixture
def valkey_stage(valkey_server: BusServer, tmp_path: Path) -> Iterator[Stage]:
    yield from staged(valkey_server, tmp_path)


def staged(bus: BusServer, folder: Path) -> Iterator[Stage]:
    stage = Stage(bus, folder, MARKETS)
    try:
        yield stage
    finally:
        stage.close()


@pytest.fixture
def start() -> Iterator[Callable[..., MatcherProcess]]:
    started: list[MatcherProcess] = []

    def start_one(stage: Stage, *arguments: str) -> MatcherProcess:
        started.append(MatcherProcess(stage, *arguments))
        return started[-1]

    yield start_one
    for process in started:
        process.close()


def signed(
    account: int, key: KeyPair, *commands: Command, nonce: int, shard: int = 1, valid_for_ms: int = 30_000
) -> SignedBatch:
    """Return commands as a key signs them for an account."""
    payload = encode(Batch(account, shard, nonce, time.time_ns() // 1_000_000 + valid_for_ms, commands))
    return SignedBatch(key.key_id, payload, sign(key.seed, signed_bytes(SignedKind.BATCH, ENVIRONMENT, payload)))


def raw(batch: SignedBatch) -> batch_pb2.SignedBatch:
    return batch_pb2.SignedBatch(key_id=batch.key_id, payload=batch.payload, signature=batch.signature)


def match(
    process: MatcherProcess, *batches: SignedBatch, operations: tuple[operation_pb2.SignedOperation, ...] = ()
) -> matching_service_pb2.MatchResponse:
    request = matching_service_pb2.MatchRequest(shard=1, batches=map(raw, batches), operations=operations)
    answer: matching_service_pb2.MatchResponse = process.stub().Match(request, timeout=20)
    return answer


def kinds(events: object) -> list[str]:
    return [event.WhichOneof("event") for event in events]  # type: ignore[attr-defined]


def refusal_of(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), reason_of(status_of_error(caught.value))


# --- the whole --------------------------------------------------------------------------------------------------------


def test_a_matcher_serves_its_shard_and_answers_operators(stage: Stage, start: Callable[..., MatcherProcess]) -> None:
    alice, alices_key = stage.new_user("alice")
    bob, bobs_key = stage.new_user("bob")
    matcher = start(stage, "1", "2").wait_ready()
    assert matcher.ready["kind"] == "market-matcher"

    first = signed(alice, alices_key, limit(Side.BUY, 4, 100), nonce=1)
    answer = match(matcher, first)
    assert answer.durability == outcome_pb2.DURABILITY_MEMORY
    [outcome] = answer.batches
    assert outcome.state == outcome_pb2.SEND_STATE_EXECUTED
    assert kinds(outcome.events) == ["batch_result", "order_accepted"]
    assert (outcome.batch, outcome.n > 0, outcome.t_us > 0) == (1, True, True)

    # The same bytes again are answered with what came of them the first time.
    again = match(matcher, signed(bob, bobs_key, limit(Side.SELL, 2, 100), nonce=1), first)
    taken, repeated = again.batches
    assert kinds(taken.events) == ["batch_result", "order_accepted", "trade"]
    assert taken.events[2].trade.maker_account == 0
    assert taken.events[2].trade.taker_account == bob
    assert repeated.repeated
    assert (repeated.n, repeated.batch, repeated.t_us) == (outcome.n, outcome.batch, outcome.t_us)
    assert repeated.events == outcome.events

    stub = matcher.stub()
    book = stub.GetBook(matching_service_pb2.MatchingServiceGetBookRequest(market=1), timeout=20)
    assert [(order.account, order.price_ticks, order.open_lots) for order in book.book.bids] == [(alice, 100, 2)]
    assert (book.bid_orders, book.ask_orders) == (1, 0)
    assert book.position.n == taken.n
    assert book.book.market.symbol == "BTC-USD"

    shard = stub.GetShard(matching_service_pb2.GetShardRequest(shard=1, with_state_hash=True), timeout=20)
    status = shard.status
    assert (status.executed.n, status.durable_n, status.orders_n) == (taken.n, taken.n, taken.n)
    assert (status.markets, status.accounts, status.open_orders, status.live_nonces) == (2, 2, 1, 2)
    assert (status.engine, status.rules, status.rules_max, status.stopped) == (DEFAULT_ENGINE, 1, 1, "")
    assert status.epoch > 0
    assert status.settings.max_validity_ms == 60_000
    assert len(shard.state_hash) == 32
    assert status.executed.chain_hash == book.position.chain_hash

    with grpc.insecure_channel(matcher.ready["address"]) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        evidence = ProcessServiceStub(channel).GetEvidence(process_service_pb2.GetEvidenceRequest(), timeout=20)
        assert evidence.shards[0].executed == status.executed
    metrics = urllib.request.urlopen(f"http://{matcher.ready['address']}/metrics", timeout=20).read().decode()
    assert f"clob_position {float(taken.n)}" in metrics
    assert "clob_commands_total 3.0" in metrics

    matcher.process.send_signal(signal.SIGTERM)
    assert matcher.wait_end() == 0
    assert [record.kind for record in stage.log.bus.processes()] == []


def test_kill_and_restart_lose_nothing(valkey_stage: Stage, start: Callable[..., MatcherProcess]) -> None:
    stage = valkey_stage
    alice, key = stage.new_user("alice")
    matcher = start(stage, "--shard", "1").wait_ready()
    first = signed(alice, key, limit(Side.BUY, 4, 100), nonce=1)
    [outcome] = match(matcher, first).batches
    matcher.process.kill()
    matcher.process.wait()
    waiting = signed(alice, key, limit(Side.BUY, 4, 105), nonce=2)
    stage.log.enter(waiting)
    again = start(stage, "--shard", "1").wait_ready()
    [repeated] = match(again, first).batches
    assert (repeated.repeated, repeated.n) == (True, outcome.n)
    book = again.stub().GetBook(matching_service_pb2.MatchingServiceGetBookRequest(market=1), timeout=20).book
    assert [order.price_ticks for order in book.bids] == [105, 100]


def test_a_second_matcher_takes_over_and_the_first_ends_with_3(
    valkey_stage: Stage, start: Callable[..., MatcherProcess]
) -> None:
    stage = valkey_stage
    first = start(stage, "--shard", "1").wait_ready()
    second = start(stage, "--shard", "1").wait_ready()
    assert first.wait_end() == 3
    assert "FENCED" in first.errors
    assert "taken over" in first.errors
    status = second.stub().GetShard(matching_service_pb2.GetShardRequest(shard=1), timeout=20).status
    assert status.stopped == ""


def test_a_forged_entry_ends_the_matcher_and_the_registry_says_why(
    valkey_stage: Stage, start: Callable[..., MatcherProcess]
) -> None:
    stage = valkey_stage
    matcher = start(stage, "--shard", "1").wait_ready()
    stage.log.bus.ingest(stage.log.tag, stage.log.sealed(key=BusKey("ingress-1", bytes(32))))
    assert matcher.wait_end() == 3
    [record] = [one for one in stage.log.bus.processes() if one.kind == "market-matcher"]
    assert record.state == "STOPPED"
    assert record.message.startswith("BAD_MAC: entry ")
    head = stage.log.bus.head(stage.log.tag)
    assert head is not None
    assert head.stopped == record.message


def test_a_matcher_promises_nothing_that_its_bus_does_not_keep(
    valkey_stage: Stage, start: Callable[..., MatcherProcess]
) -> None:
    path = valkey_stage.folder / "environment.json"
    msgspec.structs.replace(Environment.load(path), durability=Durability.FSYNC).save(path)
    matcher = start(valkey_stage, "--shard", "1")
    assert matcher.wait_end() == 2
    assert "BUS_NOT_DURABLE" in matcher.errors


# --- which shard ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("1",), "shard 1 also has 2"),
        (("1", "2", "7"), "they are in 2 shards (1-2)"),
        (("1-3",), "there are no markets 3"),
        (("900",), "there are no markets 900"),
        (("--shard", "9"), "the shard map has no shard 9"),
    ],
)
def test_markets_that_are_no_shards_are_answered_with_the_shards(
    valkey_stage: Stage, start: Callable[..., MatcherProcess], arguments: tuple[str, ...], said: str
) -> None:
    matcher = start(valkey_stage, *arguments)
    assert matcher.wait_end() == 2
    assert said in matcher.errors
    assert "--shard 1: 1-2 (2)\n  --shard 2: 7 (1)\n" in matcher.errors


@pytest.mark.parametrize("arguments", [(), ("x",), ("0",), ("3-1",), ("1-",)])
def test_words_that_name_no_markets_end_with_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    keys = tmp_path / "bus.keys"
    keys.write_text(f"matcher {'ab' * 32}\n")
    needed = ["--environment-file", "environment.json", "--checkpoints", str(tmp_path), "--bus-keys", str(keys)]
    result = CliRunner().invoke(main, [*needed, "--bus-key-name", "matcher", "--", *arguments])
    assert result.exit_code == 2
    assert "MARKETS: " in result.output


def test_markets_are_numbers_and_ranges() -> None:
    assert parse_markets(["7", "1-3", "10,12-13"]) == {1, 2, 3, 7, 10, 12, 13}
    for wrong in ("", "-1", "01", "1-", "2-1", "1--2", "4294967296", "1-1000002", "a"):
        with pytest.raises(MarketsError, match="MARKETS"):
            parse_markets([wrong])
    assert ranges([5, 1, 2, 3, 9]) == "1-3, 5, 9"
    assert ranges(range(1, 40, 2), parts_max=2) == "1, 3, and 18 ranges more"


def test_a_shard_is_found_by_its_complete_set_of_markets() -> None:
    shards = {1: [1, 2], 2: [7], 3: []}
    assert resolve({2, 1}, shards) == 1
    assert resolve({7}, shards) == 2
    assert resolve_shard(3, shards) == 3
    for wrong in ({1}, {1, 2, 7}, {1, 2, 8}, {8}):
        with pytest.raises(MarketsError) as caught:
            resolve(wrong, shards)
        assert describe(shards) in str(caught.value)
    assert "no markets (0)" in describe(shards)
    assert "no shards yet" in describe({})


# --- Match ------------------------------------------------------------------------------------------------------------


def test_operations_come_before_batches_and_are_answered_apart(
    valkey_stage: Stage, start: Callable[..., MatcherProcess]
) -> None:
    stage = valkey_stage
    alice, key = stage.new_user("alice")
    matcher = start(stage, "--shard", "1").wait_ready()
    halt = stage.signer.operation(OperatorRole.MARKET, SetMarketState(1, MarketState.HALTED))
    entered = operation_pb2.SignedOperation(payload=halt.payload, signature=halt.signature)
    forged = operation_pb2.SignedOperation(payload=halt.payload, signature=bytes(64))
    answer = match(matcher, signed(alice, key, limit(Side.BUY, 4, 100), nonce=1), operations=(entered, forged))
    done, refused = answer.operations
    assert done.state == outcome_pb2.SEND_STATE_EXECUTED
    assert kinds(done.events) == ["operation_result", "market_state_changed"]
    # It is the same operation again, which is recognised before its signature is looked at.
    assert refused.events[0].operation_result.repeated
    assert kinds(answer.batches[0].events) == ["batch_result", "command_rejected"]
    assert answer.batches[0].events[1].command_rejected.reason == REJECT_REASON_MARKET_HALTED
    third = stage.signer.operation(OperatorRole.MARKET, SetMarketState(1, MarketState.OPEN))
    bad = operation_pb2.SignedOperation(payload=third.payload, signature=bytes(64))
    [outcome] = match(matcher, operations=(bad,)).operations
    assert (outcome.state, outcome.reject_reason) == (outcome_pb2.SEND_STATE_REFUSED, REJECT_REASON_BAD_SIGNATURE)
    assert "signature" in outcome.detail


def test_batches_are_let_in_by_the_rules_of_the_door(valkey_stage: Stage, start: Callable[..., MatcherProcess]) -> None:
    stage = valkey_stage
    alice, key = stage.new_user("alice")
    matcher = start(stage, "--shard", "1").wait_ready()
    # Made after the matcher has read shard 0: it catches up before it refuses.
    bob, bobs_key = stage.new_user("bob")
    order = limit(Side.BUY, 2, 100)
    good = signed(bob, bobs_key, order, nonce=1)
    cases = {
        DoorReason.DOOR_REASON_MALFORMED: [
            SignedBatch(key.key_id, b"\xff\xff", bytes(64)),
            SignedBatch(b"short", good.payload, good.signature),
        ],
        DoorReason.DOOR_REASON_BATCH_SIZE: [
            SignedBatch(key.key_id, b"", bytes(64)),
            SignedBatch(key.key_id, bytes(65_537), bytes(64)),
        ],
        DoorReason.DOOR_REASON_BAD_KEY_OR_SIGNATURE: [
            SignedBatch(bytes(16), good.payload, good.signature),
            SignedBatch(good.key_id, good.payload, bytes(64)),
        ],
        DoorReason.DOOR_REASON_ACCOUNT_NOT_OF_KEY: [signed(alice, bobs_key, order, nonce=3)],
        DoorReason.DOOR_REASON_BATCH_EXPIRED: [signed(alice, key, order, nonce=4, valid_for_ms=-1_000)],
    }
    batches = [(reason, batch) for reason, bad in cases.items() for batch in bad]
    answer = match(matcher, *(batch for _, batch in batches), good)
    for (reason, _), outcome in zip(batches, answer.batches[:-1], strict=True):
        assert (outcome.state, outcome.door_reason) == (outcome_pb2.SEND_STATE_REFUSED, reason)
        assert outcome.detail
        assert outcome.n == 0
    assert answer.batches[-1].state == outcome_pb2.SEND_STATE_EXECUTED
    assert answer.batches[-1].batch == 1
    wrong_shard, too_long = match(
        matcher,
        signed(alice, key, order, nonce=5, shard=2),
        signed(alice, key, order, nonce=6, valid_for_ms=90_000),
    ).batches
    assert (wrong_shard.reject_reason, wrong_shard.executable_until_ms) == (REJECT_REASON_WRONG_SHARD, 0)
    assert too_long.reject_reason == REJECT_REASON_VALIDITY_TOO_LONG
    assert too_long.executable_until_ms > 0
    assert too_long.retry_after_ms > 0


def test_requests_out_of_bounds_are_refused_by_name(valkey_stage: Stage, start: Callable[..., MatcherProcess]) -> None:
    stub = start(valkey_stage, "--shard", "1").wait_ready().stub()
    match_request, what_if = matching_service_pb2.MatchRequest, matching_service_pb2.WhatIfRequest
    empty = batch_pb2.SignedBatch()
    cases: list[tuple[Callable[[], object], grpc.StatusCode, str]] = [
        (lambda: stub.Match(match_request(shard=2)), grpc.StatusCode.NOT_FOUND, "UNKNOWN_SHARD"),
        (
            lambda: stub.Match(match_request(shard=1, wait_ms_max=30_001)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
        ),
        (
            lambda: stub.Match(match_request(shard=1, operations=[operation_pb2.SignedOperation()])),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
        ),
        (
            lambda: stub.Match(match_request(shard=1, batches=[empty] * 4_097)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "MESSAGE_SIZE",
        ),
        (
            lambda: stub.Match(
                match_request(
                    shard=1,
                    operations=[operation_pb2.SignedOperation(payload=bytes(262_144), signature=bytes(64))] * 17,
                )
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
            "MESSAGE_SIZE",
        ),
        (lambda: stub.WhatIf(what_if(shard=1)), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        (
            lambda: stub.WhatIf(what_if(shard=1, batches=[batch_pb2.Batch()])),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
        ),
        (
            lambda: stub.GetBook(matching_service_pb2.MatchingServiceGetBookRequest(market=7)),
            grpc.StatusCode.NOT_FOUND,
            "NOT_FOUND",
        ),
        (
            lambda: stub.GetBook(matching_service_pb2.MatchingServiceGetBookRequest()),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
        ),
        (
            lambda: stub.GetShard(matching_service_pb2.GetShardRequest(shard=2)),
            grpc.StatusCode.NOT_FOUND,
            "UNKNOWN_SHARD",
        ),
    ]
    for call, code, reason in cases:
        assert refusal_of(call) == (code, reason)
    assert stub.Match(match_request(shard=1)).batches == []


def test_a_shard_that_takes_nothing_says_so_and_what_is_not_known_is_called_so(
    valkey_stage: Stage, start: Callable[..., MatcherProcess]
) -> None:
    stage = valkey_stage
    alice, key = stage.new_user("alice")
    matcher = start(stage, "--shard", "1").wait_ready()
    stub = matcher.stub()
    batch = signed(alice, key, limit(Side.BUY, 2, 100), nonce=1)
    request = matching_service_pb2.MatchRequest(shard=1, wait_ms_max=300, batches=[raw(batch)])
    stage.log.bus.stop(stage.log.tag, "LOST: a test says so; mend it")
    assert refusal_of(lambda: stub.Match(request, timeout=20)) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
    status = stub.GetShard(matching_service_pb2.GetShardRequest(shard=1), timeout=20).status
    assert "LOST: a test says so" in status.stopped
    stage.log.bus.approve(stage.log.tag, stage.log.bus.server().run_id, resume=True)
    assert stub.Match(request, timeout=20).batches[0].state == outcome_pb2.SEND_STATE_EXECUTED
    stage.bus.command("CLIENT", "PAUSE", 1_500, "WRITE")
    late = signed(alice, key, limit(Side.BUY, 2, 100), nonce=2)
    request = matching_service_pb2.MatchRequest(shard=1, wait_ms_max=200, batches=[raw(late)])
    [outcome] = stub.Match(request, timeout=20).batches
    assert outcome.state == outcome_pb2.SEND_STATE_UNKNOWN
    assert outcome.executable_until_ms > 0
    stage.bus.command("CLIENT", "UNPAUSE")
    [outcome] = stub.Match(matching_service_pb2.MatchRequest(shard=1, batches=[raw(late)]), timeout=20).batches
    assert outcome.state == outcome_pb2.SEND_STATE_EXECUTED


class ScriptedBus:
    """A bus that refuses frames as a test says, and sequences the rest."""

    def __init__(self, *script: Exception) -> None:
        self.script = list(script)
        self.sealed: list[SealedFrame] = []

    async def ingest(self, tag: str, sealed: SealedFrame) -> Ingested:
        self.sealed.append(sealed)
        if self.script:
            raise self.script.pop(0)
        return Ingested(7, 1, 0, False)


def enter_through(bus: ScriptedBus) -> Ingested:
    entrance = Entrance(cast(AsyncBus, bus), 1, "tag", BusKey("local", bytes(32)))
    return asyncio.run(entrance.enter((), (SignedOperation(b"payload", bytes(64)),), 1, 0))


@pytest.mark.parametrize("reason", sorted(UNDECIDED))
def test_a_frame_that_may_have_been_heard_is_not_called_refused_by_a_server_that_does_not_know(
    reason: BusReason,
) -> None:
    bus = ScriptedBus(BusUnavailable("restarted"), BusRefusal(reason, "another server"))
    assert enter_through(bus).n == 7
    assert len(bus.sealed) == 3
    assert len({sealed.digest for sealed in bus.sealed}) == 1


@pytest.mark.parametrize("reason", [*sorted(UNDECIDED), BusReason.STOPPED])
def test_a_frame_that_nobody_can_have_heard_is_refused(reason: BusReason) -> None:
    bus = ScriptedBus(BusRefusal(reason, "not now"))
    with pytest.raises(BusRefusal, match=reason):
        enter_through(bus)
    assert len(bus.sealed) == 1


# --- WhatIf -----------------------------------------------------------------------------------------------------------


def test_what_if_touches_nothing(valkey_stage: Stage, start: Callable[..., MatcherProcess]) -> None:
    stage = valkey_stage
    alice, alices_key = stage.new_user("alice")
    bob, bobs_key = stage.new_user("bob")
    matcher = start(stage, "--shard", "1").wait_ready()
    match(matcher, signed(alice, alices_key, limit(Side.BUY, 4, 100), nonce=1))
    stub = matcher.stub()

    def state_hash() -> bytes:
        request = matching_service_pb2.GetShardRequest(shard=1, with_state_hash=True)
        found: bytes = stub.GetShard(request, timeout=20).state_hash
        return found

    before = state_hash()
    asked = Batch(bob, 1, 1, 1, (limit(Side.SELL, 2, 100), limit(Side.SELL, 4, 100)))
    unsigned = batch_pb2.Batch.FromString(encode(asked))
    unsigned.shard = unsigned.nonce = unsigned.valid_until_ms = 0
    request = matching_service_pb2.WhatIfRequest(shard=1, batches=[unsigned])
    answer = stub.WhatIf(request, timeout=20)
    assert kinds(answer.events) == ["batch_result", "order_accepted", "trade", "order_accepted", "trade"]
    assert [event.trade.quantity_lots for event in answer.events if event.HasField("trade")] == [2, 2]
    assert answer.position.n == stub.GetShard(matching_service_pb2.GetShardRequest(shard=1)).status.executed.n
    assert state_hash() == before
    [outcome] = match(matcher, signed(bob, bobs_key, *asked.commands, nonce=1)).batches
    trades = [event.trade for event in outcome.events if event.HasField("trade")]
    assert [trade.quantity_lots for trade in trades] == [2, 2]
    assert isinstance(outcome.events[0], event_pb2.Event)
