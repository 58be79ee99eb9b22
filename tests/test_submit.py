import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc

from clob.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    door_reason_pb2,
    event_pb2,
    market_data_service_pb2,
    market_data_service_pb2_grpc,
    matching_service_pb2,
    matching_service_pb2_grpc,
    order_service_pb2,
    order_service_pb2_grpc,
    outcome_pb2,
    process_service_pb2,
    process_service_pb2_grpc,
    session_pb2,
    verification_service_pb2,
    verification_service_pb2_grpc,
)
from exchange.bus.registry import ProcessRecord
from exchange.domain.commands import CancelOrder
from exchange.domain.control import RevokeKey
from exchange.domain.operations import OperatorRole, RaiseControlFloor
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.local.control_venue import ControlVenue
from exchange.reference.signing import sign
from exchange.serving import errors
from exchange.wire.hashing import chain_hash
from tests.support.ingress_exchange import (
    BASE,
    ENVIRONMENT,
    QUOTE,
    IngressExchange,
    User,
    buy,
    ingress_exchange,
    request_of,
    sell,
)
from tests.support.servers import bus_server_of

EXECUTED = outcome_pb2.SEND_STATE_EXECUTED
SEQUENCED = outcome_pb2.SEND_STATE_SEQUENCED
REFUSED = outcome_pb2.SEND_STATE_REFUSED
UNKNOWN = outcome_pb2.SEND_STATE_UNKNOWN
WAIT_S = 30


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IngressExchange]:
    """One exchange for the tests that leave it as it was."""
    with bus_server_of("valkey") as server, ingress_exchange(server, tmp_path_factory.mktemp("ingress")) as running:
        yield running


@contextlib.contextmanager
def own_exchange(folder: Path, *arguments: str, kind: str = "valkey") -> Iterator[IngressExchange]:
    """An exchange for one test."""
    with bus_server_of(kind) as server, ingress_exchange(server, folder, *arguments) as running:
        yield running


@pytest.fixture
def alice(exchange: IngressExchange) -> User:
    return exchange.new_user()


@pytest.fixture
def bob(exchange: IngressExchange) -> User:
    return exchange.new_user()


def until(holds: Callable[[], Any], what: str) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.01)


def failure(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str, Status]:
    """Return code and reason with which a call fails, and its status."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    error: Any = raised.value
    status = errors.status_of_error(error)
    return error.code(), errors.reason_of(status), status


def door_reason(outcome: outcome_pb2.BatchOutcome) -> str:
    return door_reason_pb2.DoorReason.Name(outcome.door_reason).removeprefix("DOOR_REASON_")


def names(outcome: outcome_pb2.BatchOutcome) -> list[str]:
    return [event.WhichOneof("event") or "" for event in outcome.events]


# --- what became of batches


def test_an_order_is_executed_and_its_events_are_told(exchange: IngressExchange, alice: User) -> None:
    response = exchange.submit(alice.sign(buy(10, 5, 77)))
    (outcome,) = response.outcomes
    assert outcome.state == EXECUTED
    assert names(outcome) == ["batch_result", "order_accepted"]
    assert outcome.events[1].order_accepted.client_order_id == 77
    assert response.durability == outcome_pb2.DURABILITY_MEMORY
    assert not response.stages
    assert not response.explanations
    entry = exchange.log.bus.executions_range("s1", outcome.n, outcome.n)[0]
    assert b"".join(b"\x3a" + bytes([len(e)]) + e for e in map(_bytes, outcome.events)) in entry.frame


def _bytes(event: event_pb2.Event) -> bytes:
    return event.SerializeToString()


def test_stages_are_told_in_the_order_in_which_they_were_passed(exchange: IngressExchange, alice: User) -> None:
    before_us = time.time_ns() // 1000
    response = exchange.submit(alice.sign(buy(10, 5)), alice.sign(buy(10, 5)), with_stages=True)
    (stages,) = response.stages
    assert (stages.shard, stages.n) == (1, response.outcomes[0].n)
    times = [
        stages.received_us,
        stages.verified_us,
        stages.framed_us,
        stages.sequenced_us,
        stages.taken_us,
        stages.executed_us,
        stages.durable_us,
        stages.answered_us,
    ]
    assert times == sorted(times)
    assert before_us <= times[0]
    assert times[-1] <= time.time_ns() // 1000
    assert stages.sequenced_us == response.outcomes[0].t_us


def test_of_a_trade_each_side_is_told_its_own(exchange: IngressExchange, alice: User, bob: User) -> None:
    exchange.submit(alice.sign(sell(2_000_000, 3)))
    (outcome,) = exchange.submit(bob.sign(buy(2_000_000, 2))).outcomes
    assert names(outcome) == ["batch_result", "order_accepted", "trade"]
    trade = outcome.events[2].trade
    assert (trade.taker_account, trade.quantity_lots, trade.price_ticks) == (bob.account, 2, 2_000_000)
    assert (trade.maker_account, trade.maker_order_id, trade.maker_account_seq, trade.maker_fee_quote_units) == (0,) * 4
    exchange.submit(bob.sign(buy(2_000_000, 1)))


def test_commands_have_outcomes_of_their_own_and_reasons_are_explained_once(
    exchange: IngressExchange, alice: User
) -> None:
    response = exchange.submit(
        alice.sign(buy(10, 1), CancelOrder(client_order_id=404), buy(10, 10**15)),
        alice.sign(CancelOrder(client_order_id=405)),
        alice.sign(buy(10, 1, market=9)),
    )
    first, second, third = response.outcomes
    assert [one.state for one in response.outcomes] == [EXECUTED] * 3
    assert names(first) == ["batch_result", "order_accepted", "command_rejected", "command_rejected"]
    short = first.events[3].command_rejected
    assert short.reason == event_pb2.REJECT_REASON_INSUFFICIENT_FUNDS
    assert (short.required_units, short.asset) == (10**16, QUOTE)
    assert second.events[1].command_rejected.reason == event_pb2.REJECT_REASON_UNKNOWN_ORDER
    assert third.events[1].command_rejected.reason == event_pb2.REJECT_REASON_UNKNOWN_MARKET
    assert [one.reason for one in response.explanations] == [
        event_pb2.REJECT_REASON_UNKNOWN_MARKET,
        event_pb2.REJECT_REASON_INSUFFICIENT_FUNDS,
        event_pb2.REJECT_REASON_UNKNOWN_ORDER,
    ]
    assert all(one.text for one in response.explanations)


def test_sequenced_is_answered_before_the_engine_has_seen_it_and_the_same_bytes_later_have_the_outcome(
    tmp_path: Path,
) -> None:
    with own_exchange(tmp_path) as exchange:
        alice = exchange.new_user()
        exchange.stop_loop()
        batch = alice.sign(buy(10, 5))
        (outcome,) = exchange.submit(batch, wait=order_service_pb2.WAIT_LEVEL_SEQUENCED).outcomes
        assert outcome.state == SEQUENCED
        assert outcome.n > 0
        assert outcome.batch == 1
        assert outcome.t_us > 0
        assert outcome.executable_until_ms > time.time_ns() // 1_000_000
        began_s = time.monotonic()
        (waited,) = exchange.submit(batch, wait_ms_max=200, with_stages=True).outcomes
        assert 0.15 < time.monotonic() - began_s < 5
        assert (waited.state, waited.n) == (SEQUENCED, outcome.n + 1)
        exchange.start_loop()
        (repeated,) = exchange.submit(batch).outcomes
        assert (repeated.state, repeated.n, repeated.repeated) == (EXECUTED, outcome.n, True)
        assert names(repeated) == ["batch_result", "order_accepted"]
        assert repeated.t_us == outcome.t_us


def test_the_same_bytes_again_are_answered_with_the_first_outcome_and_another_payload_is_refused(
    exchange: IngressExchange, alice: User
) -> None:
    batch = alice.sign(buy(10, 5), nonce=9)
    (first,) = exchange.submit(batch).outcomes
    for _ in range(2):
        (again,) = exchange.submit(batch).outcomes
        assert again.repeated
        again.repeated = False
        assert again == first
    one, two = exchange.submit(alice.sign(buy(11, 5), nonce=9), alice.sign(buy(10, 5))).outcomes
    assert (one.state, one.reject_reason) == (REFUSED, event_pb2.REJECT_REASON_NONCE_REUSED)
    assert names(one) == ["batch_result"]
    assert one.executable_until_ms > 0
    assert one.detail
    assert two.state == EXECUTED


def test_the_same_bytes_twice_in_one_message_are_executed_once(exchange: IngressExchange, alice: User) -> None:
    batch = alice.sign(buy(10, 5))
    first, again = exchange.submit(batch, batch).outcomes
    assert (first.state, first.repeated) == (EXECUTED, False)
    assert (again.state, again.repeated, again.n, again.batch) == (EXECUTED, True, first.n, first.batch)


def test_a_repetition_of_what_was_trimmed_is_answered_by_settlement(tmp_path: Path) -> None:
    with own_exchange(tmp_path) as exchange:
        alice = exchange.new_user()
        batch = alice.sign(buy(10, 5))
        (first,) = exchange.submit(batch).outcomes
        entry = exchange.log.bus.orders_range("s1", first.n, first.n)[0]
        stamp = exchange.log.bus.executions_range("s1", first.n, first.n)[0].stamp
        exchange.log.bus.trim("s1", first.n, entry.bytes_total, stamp.bytes_total)
        (unknown,) = exchange.submit(batch).outcomes
        assert (unknown.state, unknown.n, unknown.batch) == (SEQUENCED, first.n, first.batch), "settlement does not run"
        settlement = Peer(exchange, "settlement-plane")
        settlement.outcome = order_service_pb2.GetOutcomeResponse(
            state=order_service_pb2.OUTCOME_STATE_EXECUTED, outcome=first
        )
        with settlement.serving():
            (told,) = exchange.submit(batch).outcomes
        assert told.repeated
        told.repeated = False
        assert told == first


# --- what is refused


def test_each_refusal_at_the_door_is_an_outcome_of_its_batch_alone(exchange: IngressExchange, alice: User) -> None:
    good = alice.sign(buy(10, 1))
    stranger = User(0, alice.account, exchange.control.venue.key("nobody"))  # type: ignore[union-attr]
    cases = {
        "MALFORMED": _with(good, payload=good.payload + b"\x00"),
        "BATCH_SIZE": _with(good, payload=b""),
        "BAD_KEY_OR_SIGNATURE": stranger.sign(buy(10, 1)),
        "ACCOUNT_NOT_OF_KEY": alice.sign(buy(10, 1), account=10**9),
        "UNKNOWN_SHARD": alice.sign(buy(10, 1), shard=77),
        "BATCH_EXPIRED": alice.sign(buy(10, 1), valid_for_ms=-1_000),
        "VALIDITY_TOO_LONG": alice.sign(buy(10, 1), valid_for_ms=100_000_000),
    }
    *refused, executed = exchange.submit(*cases.values(), good).outcomes
    assert [door_reason(one) for one in refused] == list(cases)
    for one in refused:
        assert one.state == REFUSED
        assert not one.events
        assert 20 < len(one.detail) <= 512
    final = [door_reason(one) for one in refused if one.executable_until_ms == 0]
    assert final == ["MALFORMED", "BATCH_SIZE", "BATCH_EXPIRED"]
    assert executed.state == EXECUTED, "the others are not held up"


def _with(signed: Any, **changes: bytes) -> Any:
    import msgspec

    return msgspec.structs.replace(signed, **changes)


def test_a_batch_for_another_environment_has_a_bad_signature_and_a_request_for_one_says_so(
    exchange: IngressExchange, alice: User
) -> None:
    foreign = alice.sign(buy(10, 1), environment="mainnet")
    assert door_reason(exchange.submit(foreign).outcomes[0]) == "BAD_KEY_OR_SIGNATURE"
    code, reason, status = failure(lambda: exchange.submit(foreign, environment="mainnet"))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "WRONG_ENVIRONMENT")
    assert "mainnet" in status.message
    assert exchange.submit(alice.sign(buy(10, 1)), environment=ENVIRONMENT).outcomes[0].state == EXECUTED


def test_what_the_shard_allows_is_left_to_the_shard_where_the_door_does_not_know_it(
    exchange: IngressExchange, alice: User
) -> None:
    (outcome,) = exchange.submit(alice.sign(buy(10, 1), valid_for_ms=300_000)).outcomes
    assert (outcome.state, outcome.reject_reason) == (REFUSED, event_pb2.REJECT_REASON_VALIDITY_TOO_LONG)
    assert outcome.executable_until_ms > 0


def test_a_key_that_was_registered_a_moment_ago_is_known(exchange: IngressExchange) -> None:
    for _ in range(5):
        user = exchange.new_user(funds=0)
        (outcome,) = exchange.submit(user.sign(CancelOrder(client_order_id=1))).outcomes
        assert outcome.state == EXECUTED


def test_a_request_that_is_out_of_bounds_fails_with_its_fields(exchange: IngressExchange, alice: User) -> None:
    batch = alice.sign(buy(10, 1))
    with exchange.channel() as channel:
        stub = order_service_pb2_grpc.OrderServiceStub(channel)
        for request, field in (
            (request_of(), "batches"),
            (request_of(batch, wait_ms_max=30_001), "wait_ms_max"),
            (request_of(batch, wait=7), "wait"),
        ):
            code, reason, status = failure(lambda request=request: stub.Submit(request))  # type: ignore[misc]
            assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
            assert field in status.message
        raw: Any = channel.unary_unary("/clob.v1.OrderService/Submit")
        code, reason, _ = failure(lambda: raw(b"\xff\xff\xff"))
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


def test_a_message_that_is_too_large_is_refused_as_a_whole_and_nothing_of_it_is_executed(
    exchange: IngressExchange, alice: User
) -> None:
    position = exchange.log.bus.head("s1").orders_n  # type: ignore[union-attr]
    many = alice.sign(*[CancelOrder(client_order_id=1)] * 1_024)
    more = [alice.sign(*[CancelOrder(client_order_id=1)] * 1_024) for _ in range(4)]
    tiny = _with(many, payload=b"x")
    for batches in ([many, *more], [tiny] * 4_097):
        code, reason, _ = failure(lambda batches=batches: exchange.submit(*batches))  # type: ignore[misc]
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_SIZE")
    fat = _with(many, payload=bytes(65_000))
    code, reason, _ = failure(lambda: exchange.submit(*[fat] * 40))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_SIZE")
    assert exchange.log.bus.head("s1").orders_n == position  # type: ignore[union-attr]
    assert [one.state for one in exchange.submit(*more).outcomes] == [EXECUTED] * 4


def test_a_sender_that_is_too_fast_is_told_when_to_come_again(tmp_path: Path) -> None:
    with own_exchange(tmp_path, "--key-per-second", "1", "--key-burst", "3") as exchange:
        alice, bob = exchange.new_user(), exchange.new_user()
        response = exchange.submit(*(alice.sign(buy(10, 1)) for _ in range(5)), bob.sign(buy(10, 1)))
        states = [door_reason(one) if one.state == REFUSED else "" for one in response.outcomes]
        assert states == ["", "", "", "TOO_FAST", "TOO_FAST", ""]
        assert response.outcomes[3].retry_after_ms > 0
        code, reason, status = failure(lambda: exchange.submit(alice.sign(buy(10, 1))))
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_FAST"), "all of it for one reason"
        after_ms = errors.retry_after_ms(status)
        assert after_ms is not None
        assert 0 < after_ms <= 1_001
        until(lambda: exchange.submit(bob.sign(buy(10, 1))), "another key is not held up")


def test_an_address_that_is_too_fast_is_refused_before_its_signatures_are_looked_at(tmp_path: Path) -> None:
    with own_exchange(tmp_path, "--address-per-second", "100", "--address-burst", "4097") as exchange:
        alice = exchange.new_user()
        junk = _with(alice.sign(buy(10, 1)), signature=bytes(64))
        outcomes = exchange.submit(*[junk] * 3_000).outcomes
        assert {door_reason(one) for one in outcomes} == {"BAD_KEY_OR_SIGNATURE"}
        code, reason, _ = failure(lambda: exchange.submit(*[junk] * 2_000))
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_FAST")


def test_a_shard_that_is_stopped_or_was_never_made_is_unavailable(tmp_path: Path) -> None:
    with own_exchange(tmp_path) as exchange:
        alice = exchange.new_user()
        exchange.log.bus.stop("s1", "an auditor asked for it")
        code, reason, status = failure(lambda: exchange.submit(alice.sign(buy(10, 1))))
        assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
        assert "an auditor asked for it" in status.message
        assert errors.retry_after_ms(status)
        exchange.log.bus.approve("s1", exchange.log.bus.server().run_id, resume=True)
        assert exchange.submit(alice.sign(buy(10, 1))).outcomes[0].state == EXECUTED


# --- keys that change


def test_a_batch_under_a_floor_that_is_not_reached_is_refused_and_executed_when_it_is(tmp_path: Path) -> None:
    with own_exchange(tmp_path) as exchange:
        alice = exchange.new_user()
        floor = exchange.control.venue.engine.position + 1
        exchange.log.enter(operations=[exchange.venue.operation(OperatorRole.TREASURY, RaiseControlFloor(floor))])
        batch = alice.sign(buy(10, 1))
        (outcome,) = exchange.submit(batch).outcomes
        assert (outcome.state, outcome.reject_reason) == (REFUSED, event_pb2.REJECT_REASON_STALE_CONTROL)
        assert outcome.retry_after_ms > 0
        assert outcome.executable_until_ms > 0
        exchange.new_user(funds=0)
        assert exchange.submit(batch).outcomes[0].state == EXECUTED


def test_a_revoked_key_is_refused_from_the_moment_that_shard_0_says_so(tmp_path: Path) -> None:
    with own_exchange(tmp_path) as exchange:
        alice = exchange.new_user()
        token = open_session(exchange, alice)
        assert exchange.submit(alice.sign(buy(10, 1))).outcomes[0].state == EXECUTED
        venue = exchange.control.venue
        assert isinstance(venue, ControlVenue)
        venue.now_us = time.time_ns() // 1000
        exchange.control.enter(venue.batch(alice.key, alice.account, RevokeKey(alice.key.key_id)))
        exchange.log.enter(
            operations=[exchange.venue.operation(OperatorRole.TREASURY, RaiseControlFloor(venue.engine.position))]
        )
        outcome = exchange.submit(alice.sign(buy(10, 1))).outcomes[0]
        assert door_reason(outcome) == "BAD_KEY_OR_SIGNATURE"
        with exchange.channel() as channel:
            stub = verification_service_pb2_grpc.VerificationServiceStub(channel)
            code, reason, _ = failure(lambda: stub.Verify(verify_request(alice), metadata=bearer(token)))
        assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "SESSION_REQUIRED")


# --- streams


def stream_of(exchange: IngressExchange, requests: Any) -> Iterator[order_service_pb2.SubmitStreamResponse]:
    with exchange.channel() as channel:
        yield from order_service_pb2_grpc.OrderServiceStub(channel).SubmitStream(requests, timeout=60)


def test_a_stream_answers_every_message_once_and_keeps_the_order_in_the_shard(
    exchange: IngressExchange, alice: User
) -> None:
    batches = [[alice.sign(CancelOrder(client_order_id=tag)) for _ in range(3)] for tag in range(1, 101)]
    requests = [
        order_service_pb2.SubmitStreamRequest(tag=tag, submit=request_of(*those))
        for tag, those in enumerate(batches, 1)
    ]
    answers = {answer.tag: answer.submit for answer in stream_of(exchange, iter(requests))}
    assert set(answers) == set(range(1, 101))
    places = [(one.n, one.batch) for tag in range(1, 101) for one in answers[tag].outcomes]
    assert places == sorted(places)
    assert len(set(places)) == 300


def test_what_a_call_would_fail_with_is_an_outcome_on_a_stream_and_the_stream_goes_on(
    exchange: IngressExchange, alice: User
) -> None:
    good = alice.sign(CancelOrder(client_order_id=1))
    many = alice.sign(*[CancelOrder(client_order_id=1)] * 1_024)
    submits = [
        request_of(good, good, environment="mainnet"),
        request_of(*[many] * 5),
        request_of(good, wait_ms_max=90_000),
        request_of(),
        request_of(good),
    ]
    requests = [order_service_pb2.SubmitStreamRequest(tag=tag, submit=submit) for tag, submit in enumerate(submits)]
    answers = {answer.tag: answer.submit for answer in stream_of(exchange, iter(requests))}
    reasons = [[door_reason(one) for one in answers[tag].outcomes] for tag in range(5)]
    assert reasons == [["WRONG_ENVIRONMENT"] * 2, ["MESSAGE_SIZE"] * 5, ["INVALID_FIELD"], [], ["UNSPECIFIED"]]
    assert all(one.executable_until_ms for one in answers[0].outcomes)
    assert answers[4].outcomes[0].state == EXECUTED


def test_a_stream_is_read_no_further_than_it_is_answered(tmp_path: Path) -> None:
    with own_exchange(tmp_path, "--stream-messages-max", "5") as exchange:
        alice = exchange.new_user()
        exchange.stop_loop()

        def requests() -> Iterator[order_service_pb2.SubmitStreamRequest]:
            for tag in range(1, 31):
                yield order_service_pb2.SubmitStreamRequest(
                    tag=tag, submit=request_of(alice.sign(CancelOrder(client_order_id=tag)), wait_ms_max=30_000)
                )

        with ThreadPoolExecutor(1) as pool:
            answers = pool.submit(lambda: list(stream_of(exchange, requests())))
            until(lambda: exchange.log.bus.head("s1").orders_commands >= 7, "all five")  # type: ignore[union-attr]
            # Nothing tells that a message was not read, so this waits for what would have come.
            time.sleep(0.3)
            assert exchange.log.bus.head("s1").orders_commands == 7  # type: ignore[union-attr]
            exchange.start_loop()
            assert sorted(answer.tag for answer in answers.result(WAIT_S)) == list(range(1, 31))


# --- sessions and what is passed on


def open_session(exchange: IngressExchange, user: User, valid_for_ms: int = 60_000) -> str:
    with exchange.channel() as channel:
        stub = account_service_pb2_grpc.AccountServiceStub(channel)
        challenge = stub.CreateChallenge(account_service_pb2.CreateChallengeRequest())
        assert challenge.environment == ENVIRONMENT
        payload = session_pb2.Session(
            challenge=challenge.challenge, valid_until_ms=time.time_ns() // 1_000_000 + valid_for_ms
        ).SerializeToString()
        signature = sign(user.key.seed, signed_bytes(SignedKind.SESSION, ENVIRONMENT, payload))
        session = session_pb2.SignedSession(key_id=user.key.key_id, payload=payload, signature=signature)
        opened = stub.OpenSession(account_service_pb2.OpenSessionRequest(session=session))
        assert (opened.user, list(opened.accounts)) == (user.user, [user.account])
        code, reason, _ = failure(lambda: stub.OpenSession(account_service_pb2.OpenSessionRequest(session=session)))
        assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "CHALLENGE_REFUSED")
        token: str = opened.token
        return token


def bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


def verify_request(*users: User) -> verification_service_pb2.VerifyRequest:
    request = verification_service_pb2.VerifyRequest()
    for user in users:
        signed = user.sign(buy(10, 1))
        request.batches.add(key_id=signed.key_id, payload=signed.payload, signature=signed.signature)
    return request


def test_verify_says_what_the_door_would_say_and_hands_nothing_on(exchange: IngressExchange, alice: User) -> None:
    token = open_session(exchange, alice)
    position = exchange.log.bus.head("s1").orders_n  # type: ignore[union-attr]
    stranger = User(0, alice.account, exchange.control.venue.key("nobody"))  # type: ignore[union-attr]
    request = verify_request(alice, stranger)
    other = alice.sign(buy(10, 1), shard=99)
    request.batches.add(key_id=other.key_id, payload=other.payload, signature=other.signature)
    request.batches.add(key_id=b"x", payload=b"y", signature=b"z")
    with exchange.channel() as channel:
        stub = verification_service_pb2_grpc.VerificationServiceStub(channel)
        response = stub.Verify(request, metadata=bearer(token))
        code, reason, _ = failure(lambda: stub.Verify(request))
        assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "SESSION_REQUIRED")
    good, unknown, shard, malformed = response.verdicts
    assert (good.door_reason, good.account, good.shard, good.commands) == (0, alice.account, 1, 1)
    assert good.executable_until_ms > 0
    assert not good.detail
    assert (unknown.account, unknown.shard, unknown.commands, unknown.executable_until_ms) == (0, 0, 0, 0)
    assert unknown.door_reason == door_reason_pb2.DOOR_REASON_BAD_KEY_OR_SIGNATURE
    assert (shard.door_reason, shard.account, shard.shard) == (
        door_reason_pb2.DOOR_REASON_UNKNOWN_SHARD,
        alice.account,
        99,
    )
    assert malformed.door_reason == door_reason_pb2.DOOR_REASON_MALFORMED
    assert response.control_n == exchange.control.venue.engine.position
    assert exchange.log.bus.head("s1").orders_n == position  # type: ignore[union-attr]


class Peer(
    account_service_pb2_grpc.AccountServiceServicer,
    market_data_service_pb2_grpc.MarketDataServiceServicer,
    order_service_pb2_grpc.OrderServiceServicer,
    matching_service_pb2_grpc.MatchingServiceServicer,
):
    """Another process of the environment, which remembers what it was asked and by whom."""

    def __init__(self, exchange: IngressExchange, kind: str) -> None:
        self.exchange = exchange
        self.kind = kind
        self.headers: list[dict[str, str]] = []
        self.outcome = order_service_pb2.GetOutcomeResponse(state=order_service_pb2.OUTCOME_STATE_NEVER)
        self.free_units = 0
        self.ended = threading.Event()

    @contextlib.contextmanager
    def serving(self) -> Iterator["Peer"]:
        with ThreadPoolExecutor(8) as pool:
            server = grpc.server(pool)
            account_service_pb2_grpc.add_AccountServiceServicer_to_server(self, server)
            market_data_service_pb2_grpc.add_MarketDataServiceServicer_to_server(self, server)
            order_service_pb2_grpc.add_OrderServiceServicer_to_server(self, server)
            matching_service_pb2_grpc.add_MatchingServiceServicer_to_server(self, server)
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            record = ProcessRecord(self.kind, f"127.0.0.1:{port}", "SERVING", shards=(1,), pid=os.getpid())
            self.exchange.log.bus.announce(record, 120_000)
            # Registries are read at most twice a second.
            time.sleep(0.6)
            try:
                yield self
            finally:
                self.exchange.log.bus.withdraw(record)
                server.stop(0)

    def _remember(self, context: Any) -> None:
        self.headers.append({name: value for name, value in context.invocation_metadata() if name.startswith("clob-")})

    def GetBalances(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's names
        self._remember(context)
        response = account_service_pb2.GetBalancesResponse(account=request.account)
        for shard in (0, 1):
            place = response.shards.add()
            place.cursor.shard = shard
            place.balances.add(asset=QUOTE, free_units=self.free_units)
        return response

    def StreamExecutions(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._remember(context)
        context.add_callback(self.ended.set)
        while context.is_active():
            yield account_service_pb2.StreamExecutionsResponse(t_us=1)
            time.sleep(0.02)

    def GetExchange(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._remember(context)
        response = market_data_service_pb2.GetExchangeResponse(environment=ENVIRONMENT)
        response.shards.add(shard=1, max_validity_ms=60_000)
        return response

    def GetOutcome(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._remember(context)
        return self.outcome

    def WhatIf(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._remember(context)
        response = matching_service_pb2.WhatIfResponse()
        response.position.n = 5
        response.events.add().batch_result.batch = 1
        trade = response.events.add().trade
        trade.maker_account, trade.maker_order_id, trade.taker_account = 999, 8, request.batches[0].account
        return response


def test_private_reads_are_passed_on_with_the_identity_of_the_session_and_public_ones_without(
    exchange: IngressExchange, alice: User, bob: User
) -> None:
    token = open_session(exchange, alice)
    forged = [*bearer(token), ("clob-accounts", "1,2,3"), ("clob-user", "999")]
    with Peer(exchange, "market-data").serving() as peer, exchange.channel() as channel:
        accounts = account_service_pb2_grpc.AccountServiceStub(channel)
        request = account_service_pb2.GetBalancesRequest(account=alice.account)
        peer.headers.clear()
        assert accounts.GetBalances(request, metadata=forged).account == alice.account
        asked = [headers for headers in peer.headers if "clob-user" in headers]
        assert asked == [{"clob-user": str(alice.user), "clob-accounts": str(alice.account)}]
        code, reason, _ = failure(lambda: accounts.GetBalances(request))
        assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "SESSION_REQUIRED")
        market_data = market_data_service_pb2_grpc.MarketDataServiceStub(channel)
        peer.headers.clear()
        assert market_data.GetExchange(market_data_service_pb2.GetExchangeRequest()).environment == ENVIRONMENT
        assert {} in peer.headers


def test_a_command_that_lacks_funds_is_told_where_some_are(exchange: IngressExchange) -> None:
    poor = exchange.new_user(funds=1)
    peer = Peer(exchange, "market-data")
    peer.free_units = 12_345
    with peer.serving():
        response = exchange.submit(poor.sign(buy(10, 1)))
    (row,) = response.funds_elsewhere
    assert (row.account, row.asset, row.shard, row.free_units) == (poor.account, QUOTE, 0, 12_345)
    assert BASE != QUOTE


def test_an_outcome_is_asked_for_by_a_session_of_the_keys_user_only(
    exchange: IngressExchange, alice: User, bob: User
) -> None:
    token = open_session(exchange, alice)
    with Peer(exchange, "settlement-plane").serving() as peer, exchange.channel() as channel:
        stub = order_service_pb2_grpc.OrderServiceStub(channel)

        def ask(key_id: bytes, shard: int = 1, metadata: Any = None) -> Any:
            request = order_service_pb2.GetOutcomeRequest(key_id=key_id, shard=shard, nonce=1)
            return stub.GetOutcome(request, metadata=metadata or bearer(token))

        assert ask(alice.key.key_id).state == order_service_pb2.OUTCOME_STATE_NEVER
        assert peer.headers[-1]["clob-user"] == str(alice.user)
        assert failure(lambda: ask(bob.key.key_id))[:2] == (grpc.StatusCode.PERMISSION_DENIED, "ACCOUNT_NOT_OF_KEY")
        assert failure(lambda: ask(bytes(16)))[:2] == (grpc.StatusCode.PERMISSION_DENIED, "ACCOUNT_NOT_OF_KEY")
        assert failure(lambda: ask(alice.key.key_id, 9))[:2] == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_SHARD")
        assert failure(lambda: ask(b"x"))[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        refused = failure(lambda: ask(alice.key.key_id, metadata=[("authorization", "Bearer x")]))
        assert refused[:2] == (grpc.StatusCode.UNAUTHENTICATED, "SESSION_REQUIRED")


def test_a_stream_of_executions_ends_with_its_session(tmp_path: Path) -> None:
    with own_exchange(tmp_path) as exchange:
        alice, bob = exchange.new_user(), exchange.new_user()
        short, revoked = open_session(exchange, alice, valid_for_ms=2_500), open_session(exchange, bob)
        with Peer(exchange, "market-data").serving() as peer, exchange.channel() as channel:
            stub = account_service_pb2_grpc.AccountServiceStub(channel)
            request = account_service_pb2.StreamExecutionsRequest()

            def end_of(token: str, after_first: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
                peer.ended.clear()  # before what may end the stream: it can be over at once
                stream = stub.StreamExecutions(request, metadata=bearer(token), timeout=20)
                assert next(stream).t_us == 1
                after_first()
                ended = failure(lambda: list(stream))[:2]
                assert peer.ended.wait(WAIT_S), "the other end goes on"
                return ended

            required = (grpc.StatusCode.UNAUTHENTICATED, "SESSION_REQUIRED")
            assert end_of(short, lambda: None) == required
            venue = exchange.control.venue
            assert isinstance(venue, ControlVenue)
            venue.now_us = time.time_ns() // 1000
            revoke = venue.batch(bob.key, bob.account, RevokeKey(bob.key.key_id))
            assert end_of(revoked, lambda: exchange.control.enter(revoke)) == required


def test_what_if_is_for_the_sessions_own_accounts_with_their_view_of_trades(
    exchange: IngressExchange, alice: User, bob: User
) -> None:
    token = open_session(exchange, alice)
    with Peer(exchange, "market-matcher").serving(), exchange.channel() as channel:
        stub = matching_service_pb2_grpc.MatchingServiceStub(channel)
        request = matching_service_pb2.WhatIfRequest(shard=1)
        request.batches.add(account=alice.account).commands.add().cancel.order_id = 1
        response = stub.WhatIf(request, metadata=bearer(token))
        assert response.position.n == 5
        trade = response.events[1].trade
        assert (trade.maker_account, trade.maker_order_id, trade.taker_account) == (0, 0, alice.account)
        request.batches[0].account = bob.account
        refused = failure(lambda: stub.WhatIf(request, metadata=bearer(token)))
        assert refused[:2] == (grpc.StatusCode.PERMISSION_DENIED, "ACCOUNT_NOT_OF_KEY")


def test_what_is_passed_on_to_nobody_is_unavailable(exchange: IngressExchange, alice: User) -> None:
    with exchange.channel() as channel:
        stub = market_data_service_pb2_grpc.MarketDataServiceStub(channel)
        code, reason, _ = failure(lambda: stub.ListAssets(market_data_service_pb2.ListAssetsRequest()))
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")


# --- the processes


def test_every_address_says_that_it_serves_and_the_parent_tells_what_it_saw(
    exchange: IngressExchange, alice: User
) -> None:
    (outcome,) = exchange.submit(alice.sign(buy(10, 1))).outcomes
    entry = exchange.log.bus.executions_range("s1", outcome.n, outcome.n)[0]
    for address in (exchange.ready["traders"], exchange.ready["address"]):
        with grpc.insecure_channel(address) as channel:
            health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert health.status == health_pb2.HealthCheckResponse.SERVING
    with grpc.insecure_channel(exchange.ready["address"]) as channel:
        stub = process_service_pb2_grpc.ProcessServiceStub(channel)
        (evidence,) = stub.GetEvidence(process_service_pb2.GetEvidenceRequest()).shards
        assert evidence.ingested_n >= outcome.n
        if evidence.executed.n == outcome.n:
            assert evidence.executed.chain_hash == chain_hash(entry.frame)


def children_of(exchange: IngressExchange) -> dict[str, psutil.Process]:
    assert exchange.process is not None
    return {
        role: child
        for child in psutil.Process(exchange.process.pid).children()
        for role in ("worker", "front")
        if role in child.cmdline()
    }


def test_a_worker_that_dies_is_started_again_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    with own_exchange(tmp_path) as exchange:
        alice = exchange.new_user()
        batch = alice.sign(buy(10, 5))
        (first,) = exchange.submit(batch).outcomes
        worker = children_of(exchange)["worker"]
        worker.kill()

        def serves() -> bool:
            with contextlib.suppress(grpc.RpcError):
                return bool(exchange.submit(alice.sign(buy(10, 1))).outcomes[0].state == EXECUTED)
            return False

        until(serves, "a worker that serves again")
        (again,) = exchange.submit(batch).outcomes
        assert (again.repeated, again.n) == (True, first.n)
        assert "is started again" in exchange.told()


def test_when_the_parent_dies_its_children_end(tmp_path: Path) -> None:
    with own_exchange(tmp_path) as exchange:
        children = list(children_of(exchange).values())
        assert len(children) == 2
        assert exchange.process is not None
        exchange.process.kill()
        exchange.process.wait()
        gone, alive = psutil.wait_procs(children, timeout=WAIT_S)
        assert not alive
        assert len(gone) == 2
        exchange.start()
        assert exchange.submit(exchange.new_user().sign(buy(10, 1))).outcomes[0].state == EXECUTED


def test_what_is_under_way_when_it_is_told_to_end_is_answered(tmp_path: Path) -> None:
    with own_exchange(tmp_path) as exchange:
        alice = exchange.new_user()
        exchange.stop_loop()
        before = exchange.log.bus.head("s1").orders_n  # type: ignore[union-attr]
        with ThreadPoolExecutor(2) as pool:
            call = pool.submit(exchange.submit, alice.sign(buy(10, 1)), wait_ms_max=20_000)
            until(lambda: exchange.log.bus.head("s1").orders_n > before, "the order in the log")  # type: ignore[union-attr]
            exchange.terminate()
            until(lambda: "draining" in exchange.told(), "the news of its end")
            exchange.start_loop()
            assert call.result(WAIT_S).outcomes[0].state == EXECUTED
        assert exchange.wait() == 0
        code, reason, _ = failure(lambda: exchange.submit(alice.sign(buy(10, 1))))
        assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "")


def test_an_open_stream_is_ended_with_the_reason_that_the_process_ends(tmp_path: Path) -> None:
    with own_exchange(tmp_path) as exchange:
        alice = exchange.new_user()
        go_on = threading.Event()

        def requests() -> Iterator[order_service_pb2.SubmitStreamRequest]:
            yield order_service_pb2.SubmitStreamRequest(tag=1, submit=request_of(alice.sign(buy(10, 1))))
            go_on.wait(WAIT_S)

        stream = stream_of(exchange, requests())
        assert next(stream).submit.outcomes[0].state == EXECUTED
        exchange.terminate()
        code, reason, _ = failure(lambda: list(stream))
        assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        go_on.set()
        assert exchange.wait() == 0


def test_a_second_ingress_does_not_share_the_port_of_the_first_without_a_word(exchange: IngressExchange) -> None:
    second = IngressExchange.__new__(IngressExchange)
    second.__dict__.update(exchange.__dict__, process=None, folder=exchange.folder / "second")
    (exchange.folder / "second").mkdir()
    for name in ("environment.json", "bus.keys", "session.secret"):
        (second.folder / name).write_bytes((exchange.folder / name).read_bytes())
    second.arguments = ("--listen-traders", exchange.traders)
    with pytest.raises(AssertionError, match="did not come up"):
        second.start()
    assert "choose another with --listen-traders" in second.told()
    assert second.wait() == 2
    assert second.process is not None
