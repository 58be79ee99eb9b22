"""The client library against a real engine behind real gRPC, with faults."""

import asyncio
import itertools
import pickle
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import msgspec
import pytest

from clob.v1 import door_reason_pb2, order_service_pb2, outcome_pb2, session_pb2
from clob.v1 import market_data_service_pb2 as pb
from exchange.client import (
    AsyncClient,
    Client,
    ClientError,
    Cursor,
    LocalBook,
    PrivateKey,
    Result,
    Side,
    SignedCommands,
    Status,
    sign_many,
)
from exchange.client import instructions as instruct
from exchange.client.batches import new_nonce, packed, requests_of, sign_commands
from exchange.client.books import BookGapError
from exchange.client.pursuit import Next, Pursuit
from exchange.client.results import Told
from exchange.client.transport import Backoff, is_loopback
from exchange.domain.commands import Batch, CancelOrder, PlaceOrder, RequestWithdrawal
from exchange.domain.control import Registration
from exchange.domain.events import AccountOpened, OrderAccepted
from exchange.domain.limits import BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, REQUEST_BYTES_MAX, REQUEST_COMMANDS_MAX
from exchange.domain.markets import MarketState
from exchange.domain.signing import PrivateKeyError, SignedKind, signed_bytes
from exchange.reference.signing import sign, verify_one
from exchange.wire.messages import decode
from tests.support.mini_exchange import BTC_USD, ETH_USD, RICH, USD, MiniExchange, User, running_exchange

T = TypeVar("T")
WAIT_S = 20


@pytest.fixture
def exchange() -> Iterator[MiniExchange]:
    with running_exchange() as running:
        yield running


@pytest.fixture
def alice(exchange: MiniExchange) -> User:
    return exchange.new_user()


def with_client(
    exchange: MiniExchange, user: User | None, work: Callable[[AsyncClient], Awaitable[T]], **options: Any
) -> T:
    """Run a coroutine with a client of a user."""

    async def run() -> T:
        async with asyncio.timeout(WAIT_S):
            async with await AsyncClient.connect(exchange.address, user.key if user else None, **options) as client:
                return await work(client)

    return asyncio.run(run())


def order(price_ticks: int = 100, side: str = "buy", quantity_lots: int = 10, **options: Any) -> instruct.Instruction:
    return instruct.place("BTC-USD", side, quantity_lots, price_ticks, **options)


def one_batch(user: User, *, environment: str = "mini-1", shard: int = 1, valid_for_ms: int = 10_000) -> SignedCommands:
    """Return one order to buy as a batch that nobody has sent."""
    command = PlaceOrder(market=1, side=Side.BUY, order_type=1, price_ticks=100, quantity_lots=1)
    valid_until_ms = time.time_ns() // 1_000_000 + valid_for_ms
    return sign_commands(user.key.signer(environment), user.account, shard, valid_until_ms, (command,))


# --- keys -----------------------------------------------------------------------------------------------------------


def test_a_key_never_shows_itself() -> None:
    key = PrivateKey.generate()
    secret = key.text.removeprefix("clobsk_")
    assert secret not in repr(key)
    assert secret not in str(key)
    assert PrivateKey.from_text(f" {key.text}\n").key_id == key.key_id
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)
    with pytest.raises(PrivateKeyError) as refused:
        PrivateKey.from_text(f"clobsk_{secret[:-1]}")
    assert secret[:-1] not in str(refused.value)


def test_a_signer_makes_the_bytes_that_the_reference_makes() -> None:
    key = PrivateKey.generate()
    seed = bytes.fromhex(key.text.removeprefix("clobsk_"))
    signer = key.signer("test-1")
    for payload in (b"", b"a payload", bytes(300)):
        expected = sign(seed, signed_bytes(SignedKind.BATCH, "test-1", payload))
        assert signer.sign_batch(payload).signature == expected


def test_a_registration_proves_that_the_key_is_held() -> None:
    key = PrivateKey.generate()
    signed = key.registration("test-1", user=3)
    assert decode(Registration, signed.payload) == Registration(key.public_key, 3)
    covered = signed_bytes(SignedKind.REGISTER, "test-1", signed.payload)
    assert verify_one(key.public_key, covered, signed.signature)


def test_a_session_is_signed_in_its_canonical_encoding() -> None:
    key = PrivateKey.generate()
    signed = key.signer("test-1").sign_session(b"challenge", 5)
    assert signed.payload == bytes([0x0A, 9, *b"challenge", 0x10, 5])
    assert session_pb2.Session.FromString(signed.payload).valid_until_ms == 5
    assert verify_one(key.public_key, signed_bytes(SignedKind.SESSION, "test-1", signed.payload), signed.signature)


# --- batches --------------------------------------------------------------------------------------------------------


def test_nonces_differ() -> None:
    assert len({new_nonce() for _ in range(10_000)}) == 10_000


def test_signed_commands_are_what_the_door_expects() -> None:
    key = PrivateKey.generate()
    command = PlaceOrder(market=1, side=1, order_type=1, price_ticks=5, quantity_lots=6)
    made = sign_commands(key.signer("test-1"), 7, 2, 99, (command,), nonce=5)
    sent = order_service_pb2.SubmitRequest.FromString(made.wire).batches[0]
    assert decode(Batch, sent.payload) == Batch(7, 2, 5, 99, (command,))
    assert sent.key_id == key.key_id
    assert verify_one(key.public_key, signed_bytes(SignedKind.BATCH, "test-1", sent.payload), sent.signature)


@pytest.mark.parametrize("most", [1, 3, BATCH_COMMANDS_MAX, 100_000])
def test_packing_keeps_order_and_limits(most: int) -> None:
    commands = [CancelOrder(order_id=number) for number in range(1, 2_500)]
    parts = list(packed(commands, most))
    assert [command for part in parts for command in part] == commands
    assert max(map(len, parts)) == min(most, BATCH_COMMANDS_MAX)


def test_batches_of_long_commands_stay_below_the_limit_of_bytes() -> None:
    commands = [RequestWithdrawal(2**32 - 1, 2**63 - 1, "x" * 128)] * 1_024
    signed = sign_many(PrivateKey.generate().signer("e"), 2**64 - 1, 0, 2**53 - 1, commands)
    assert len(signed) > 1
    assert sum(len(batch.commands) for batch in signed) == 1_024
    assert all(len(batch.wire) <= BATCH_BYTES_MAX + 200 for batch in signed)


def test_the_longest_orders_fill_a_batch_to_its_number_of_commands() -> None:
    longest = PlaceOrder(2**32 - 1, 2**31 - 1, 2**31 - 1, 2**31 - 1, True, 2**31 - 1, 2**64 - 1, 2**64 - 1, 2**64 - 1)
    (batch,) = sign_many(PrivateKey.generate().signer("e"), 2**64 - 1, 4_095, 2**53 - 1, [longest] * 900)
    assert len(batch.commands) == 900


def test_requests_keep_the_limits_of_a_message() -> None:
    signer = PrivateKey.generate().signer("e")
    small = sign_many(signer, 1, 1, 9, [CancelOrder(order_id=1)] * 5_000, 1)
    parts = list(requests_of(small))
    assert [len(part) for part in parts] == [REQUEST_COMMANDS_MAX, 5_000 - REQUEST_COMMANDS_MAX]
    assert [batch for part in parts for batch in part] == small
    large = sign_many(signer, 1, 0, 9, [RequestWithdrawal(1, 2**63 - 1, "x" * 128)] * 20_000)
    parts = list(requests_of(large))
    assert len(parts) > 1
    assert all(sum(len(batch.wire) for batch in part) <= REQUEST_BYTES_MAX for part in parts)


def test_a_number_that_cannot_be_written_is_refused_before_anything_is_signed() -> None:
    for wrong in (-1, 2**64, 1.5, True, "7"):
        with pytest.raises(ClientError, match="INVALID_ARGUMENT: quantity_lots"):
            instruct.place(1, "buy", wrong, 5)  # type: ignore[arg-type]
    with pytest.raises(ClientError, match="MALFORMED: OUT_OF_RANGE: account"):
        sign_commands(PrivateKey.generate().signer("e"), 0, 1, 9, (CancelOrder(order_id=1),))


@pytest.mark.parametrize(("word", "found"), [("buy", 1), ("BUY", 1), ("SIDE_SELL", 2), (Side.SELL, 2)])
def test_words_name_members_with_and_without_prefix(word: str, found: int) -> None:
    command = instruct.place(1, word, 1, 1).command
    assert isinstance(command, PlaceOrder)
    assert command.side == found


def test_a_word_that_is_not_known_names_the_known_ones() -> None:
    with pytest.raises(ClientError, match="Side 'hold': say one of BUY, SELL"):
        instruct.place(1, "hold", 1, 1)


def test_a_client_order_id_alone_does_not_say_the_shard() -> None:
    with pytest.raises(ClientError, match="SHARD_UNKNOWN"):
        instruct.cancel(client_order_id=5)
    with pytest.raises(ClientError, match="SHARD_UNKNOWN"):
        instruct.instruction_of(CancelOrder(client_order_id=5))


# --- what to do after each answer -----------------------------------------------------------------------------------

NOW_MS = 1_000_000


def pursuit(**options: Any) -> Pursuit:
    batch = SignedCommands(1, 1, b"k" * 16, 5, NOW_MS + 1_000, (CancelOrder(order_id=1),), b"", b"d" * 32)
    return Pursuit(batch, Backoff(), **options)


def told(state: int, **fields: Any) -> Told:
    return Told(outcome_pb2.BatchOutcome(state=state, **fields), {})  # type: ignore[arg-type]


REFUSED_FOR_NOW = told(
    outcome_pb2.SEND_STATE_REFUSED, door_reason=door_reason_pb2.DOOR_REASON_OVERLOADED, retry_after_ms=50
)
REFUSED = told(outcome_pb2.SEND_STATE_REFUSED, door_reason=door_reason_pb2.DOOR_REASON_BAD_KEY_OR_SIGNATURE)
UNKNOWN = told(outcome_pb2.SEND_STATE_UNKNOWN)
SEQUENCED = told(outcome_pb2.SEND_STATE_SEQUENCED)
EXECUTED = told(outcome_pb2.SEND_STATE_EXECUTED)


@pytest.mark.parametrize(
    ("answer", "in_doubt", "elapsed_ms", "after", "doubt_after"),
    [
        (EXECUTED, False, 0, Next.NOTHING, False),
        (EXECUTED, True, 5_000, Next.NOTHING, True),
        (REFUSED, False, 0, Next.NOTHING, False),
        (REFUSED, True, 0, Next.ASK, True),
        (REFUSED_FOR_NOW, False, 0, Next.SEND, False),
        (REFUSED_FOR_NOW, True, 0, Next.SEND, True),
        (REFUSED_FOR_NOW, False, 960, Next.NOTHING, False),
        (REFUSED_FOR_NOW, True, 960, Next.ASK, True),
        (UNKNOWN, False, 0, Next.SEND, True),
        (UNKNOWN, False, 1_000, Next.ASK, True),
        (SEQUENCED, False, 0, Next.SEND, True),
        (SEQUENCED, False, 1_000, Next.ASK, True),
    ],
)
def test_after_an_answer(answer: Told, in_doubt: bool, elapsed_ms: int, after: Next, doubt_after: bool) -> None:
    followed = pursuit(in_doubt=in_doubt)
    followed.answered(answer, NOW_MS + elapsed_ms, sequenced_only=False, resend=True)
    assert (followed.next, followed.in_doubt) == (after, doubt_after)
    if answer is REFUSED_FOR_NOW and after is Next.SEND:
        assert followed.wait_s >= 0.05


def test_a_position_is_enough_where_nothing_more_was_asked_for() -> None:
    followed = pursuit()
    followed.answered(SEQUENCED, NOW_MS, sequenced_only=True, resend=True)
    assert followed.next is Next.NOTHING


@pytest.mark.parametrize(
    ("error", "in_doubt", "goes_on", "after"),
    [
        (ClientError("OVERLOADED", "", retry_after_ms=9, by_exchange=True), False, True, Next.SEND),
        (ClientError("UNREACHABLE", "", may_help_to_retry=True), False, True, Next.SEND),
        (ClientError("INTERNAL", "", by_exchange=True), False, True, Next.SEND),
        (ClientError("INVALID_FIELD", "", by_exchange=True), False, False, Next.SEND),
        (ClientError("INVALID_FIELD", "", by_exchange=True), True, True, Next.ASK),
    ],
)
def test_after_a_failed_call(error: ClientError, in_doubt: bool, goes_on: bool, after: Next) -> None:
    followed = pursuit(in_doubt=in_doubt)
    assert followed.failed(error, NOW_MS, resend=True) is goes_on
    assert followed.next is after
    assert followed.in_doubt is (in_doubt or not error.nothing_happened)


def test_the_outcome_of_another_batch_under_our_nonce_is_not_ours() -> None:
    followed = pursuit(in_doubt=True)
    answer = order_service_pb2.GetOutcomeResponse(
        state=order_service_pb2.OUTCOME_STATE_EXECUTED, payload_digest=b"x" * 32
    )
    followed.found(answer)
    assert followed.told is not None
    assert followed.told.outcome.state == outcome_pb2.SEND_STATE_REFUSED
    assert followed.next is Next.NOTHING


def test_a_batch_that_was_sent_before_and_is_too_old_is_asked_for() -> None:
    batch = pursuit().batch
    begun = Pursuit.begun(batch, Backoff(), batch.valid_until_ms, sent_before=True)
    assert (begun.next, begun.in_doubt) == (Next.ASK, True)


# --- connecting -----------------------------------------------------------------------------------------------------


def test_nothing_is_signed_for_another_environment(exchange: MiniExchange, alice: User) -> None:
    async def nothing(client: AsyncClient) -> str:
        return client.environment

    assert with_client(exchange, alice, nothing) == "mini-1"
    assert with_client(exchange, alice, nothing, environment="mini-1") == "mini-1"
    with pytest.raises(ClientError, match="WRONG_ENVIRONMENT") as refused:
        with_client(exchange, alice, nothing, environment="production")
    assert "mini-1" in str(refused.value)


def test_an_environment_that_changes_behind_the_address_is_refused(exchange: MiniExchange, alice: User) -> None:
    async def work(client: AsyncClient) -> None:
        exchange.environment = "other-1"
        with pytest.raises(ClientError, match="WRONG_ENVIRONMENT"):
            await client.place("BTC-USD", "buy", 1, 100)
        with pytest.raises(ClientError, match="WRONG_ENVIRONMENT"):
            await client.balances()

    with_client(exchange, alice, work)
    assert exchange.submits == 0


def test_an_address_where_nobody_answers_is_unreachable() -> None:
    async def run() -> None:
        await AsyncClient.connect("127.0.0.1:1", patience_s=0.1)

    with pytest.raises(ClientError) as failed:
        asyncio.run(run())
    assert failed.value.reason == "UNREACHABLE"
    assert "127.0.0.1:1" in str(failed.value)


def test_a_clock_that_is_off_is_corrected(exchange: MiniExchange, alice: User) -> None:
    exchange.clock_offset_us = 120_000_000

    async def work(client: AsyncClient) -> Result:
        assert 119_000_000 < client.exchange.clock_offset_us < 121_000_000
        return await client.place("BTC-USD", "buy", 1, 100)

    assert with_client(exchange, alice, work).accepted
    exchange.clock_offset_us = 3_600_000_000
    with pytest.raises(ClientError, match="CLOCK_OFF"):
        with_client(exchange, alice, work)


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1:8080", True),
        ("localhost:8080", True),
        ("[::1]:8080", True),
        ("10.0.0.5:8080", False),
        ("127.evil.example:8080", False),
        ("exchange.example:443", False),
        ("ipv4:127.0.0.1:1,10.0.0.5:2", False),
    ],
)
def test_loopback_is_told_from_the_rest(address: str, here: bool) -> None:
    assert is_loopback(address) is here


def test_plaintext_to_another_machine_has_to_be_said() -> None:
    with pytest.raises(ClientError, match="TLS_NOT_SAID"):
        asyncio.run(AsyncClient.connect("exchange.example:8080"))


def test_orders_without_a_key_are_refused(exchange: MiniExchange) -> None:
    async def work(client: AsyncClient) -> list[Any]:
        with pytest.raises(ClientError, match="KEY_NEEDED"):
            await client.place("BTC-USD", "buy", 1, 100)
        with pytest.raises(ClientError, match="KEY_NEEDED"):
            await client.balances()
        return [*await client.list_markets(), *await client.list_assets()]

    assert len(with_client(exchange, None, work)) == 5


def test_a_key_that_nobody_knows_is_refused(exchange: MiniExchange) -> None:
    stranger = User(0, 0, PrivateKey.generate())

    async def work(client: AsyncClient) -> None:
        await client.accounts()

    with pytest.raises(ClientError, match="BAD_KEY_OR_SIGNATURE"):
        with_client(exchange, stranger, work)

    async def send(client: AsyncClient) -> Result:
        return await client.place("BTC-USD", "buy", 1, 100)

    refused = with_client(exchange, stranger, send, account=1)
    assert (refused.status, refused.reason) == (Status.REFUSED, "BAD_KEY_OR_SIGNATURE")


# --- orders ---------------------------------------------------------------------------------------------------------


def test_what_became_of_each_command(exchange: MiniExchange, alice: User) -> None:
    bob = exchange.new_user()

    async def bobs(client: AsyncClient) -> list[Result]:
        return await client.submit([order(100, "sell", 4), order(101, "sell", 4)])

    assert [result.status for result in with_client(exchange, bob, bobs)] == [Status.RESTING, Status.RESTING]

    async def work(client: AsyncClient) -> list[Result]:
        return await client.submit(
            [
                order(100, quantity_lots=6, client_order_id=7),
                order(101, quantity_lots=9, time_in_force="ioc"),
                order(102, quantity_lots=1, time_in_force="fok"),
                instruct.reduce(client_order_id=7, quantity_lots=1, market="BTC-USD"),
                instruct.replace(client_order_id=7, price_ticks=99, market="BTC-USD"),
                order(99, "sell", 1),
                instruct.cancel(client_order_id=7, market="BTC-USD"),
                instruct.cancel_all("BTC-USD"),
                order(300),
            ]
        )

    results = with_client(exchange, alice, work)
    assert [result.status for result in results] == [
        Status.RESTING,
        Status.CANCELLED,
        Status.REJECTED,
        Status.RESTING,
        Status.RESTING,
        Status.CANCELLED,
        Status.CANCELLED,
        Status.DONE,
        Status.REJECTED,
    ]
    first, immediate, killed, reduced, replaced, own, cancelled, everything, outside = results
    assert (first.filled_lots, first.open_lots, [fill.quantity_lots for fill in first.fills]) == (4, 2, [4])
    assert first.fills[0].fee_quote_units == 4
    assert (immediate.filled_lots, immediate.cancelled_lots, immediate.reason) == (4, 5, "IMMEDIATE_OR_CANCEL")
    assert killed.reason == "FOK_NOT_FILLABLE"
    assert reduced.open_lots == 1
    assert (replaced.open_lots, replaced.order_id) == (1, first.order_id)
    assert (own.cancelled_lots, own.reason) == (1, "SELF_TRADE")
    assert (cancelled.cancelled_lots, cancelled.reason) == (1, "REQUESTED")
    assert everything.cancelled_lots == 0
    assert (outside.reason, outside.detail) == ("PRICE_OUTSIDE_BAND", "a rule was broken")
    assert isinstance(first.events[0], OrderAccepted)
    assert {result.n for result in results} == {first.n}
    assert "4 traded, 2 open" in str(first)
    assert exchange.submits == 2


def test_the_smallest_calls(exchange: MiniExchange, alice: User) -> None:
    async def work(client: AsyncClient) -> None:
        placed = await client.place("btc-usd", Side.BUY, 10, 100, post_only=True)
        assert placed.status is Status.RESTING
        assert (await client.reduce(placed.order_id, quantity_lots=2)).open_lots == 8
        assert (await client.replace(placed.order_id, price_ticks=90)).accepted
        assert (await client.cancel(placed.order_id)).status is Status.CANCELLED
        assert (await client.cancel(placed.order_id)).reason == "UNKNOWN_ORDER"
        assert (await client.cancel_all(shard=1)).status is Status.DONE
        assert (await client.place(BTC_USD.market, "buy", 1)).reason == "IMMEDIATE_OR_CANCEL"

    with_client(exchange, alice, work)


def test_commands_go_to_the_shards_of_their_markets_and_come_back_in_order(exchange: MiniExchange, alice: User) -> None:
    async def work(client: AsyncClient) -> list[Result]:
        commands = [instruct.place(("BTC-USD", "ETH-USD")[turn % 2], "buy", 1, 60 + turn) for turn in range(10)]
        return await client.submit(commands, commands_per_signature=2)

    results = with_client(exchange, alice, work)
    assert [result.shard for result in results] == [1, 2] * 5
    assert [result.command.price_ticks for result in results] == list(range(60, 70))  # type: ignore[union-attr]
    assert len({result.batch.nonce for result in results}) == 6
    assert exchange.submits == 1


def test_money_moves(exchange: MiniExchange, alice: User) -> None:
    async def work(client: AsyncClient) -> None:
        assert (await client.release(1, USD, 500)).status is Status.DONE
        assert (await client.balances()).free_units(0, USD) == 500
        assert (await client.allocate(USD, 200, 2)).accepted
        assert (await client.withdraw(USD, 100, "an account")).accepted
        refused = await client.withdraw(USD, 1_000, "an account")
        assert (refused.reason, refused.required_units, refused.available_units) == ("INSUFFICIENT_FUNDS", 1_000, 200)
        now = await client.balances()
        assert [now.free_units(shard, USD) for shard in (0, 1, 2)] == [200, RICH - 500, RICH + 200]
        assert [one.amount_units for one in now.withdrawals] == [100]
        assert [one.state for one in await client.withdrawals()] == ["OPEN"]

    with_client(exchange, alice, work)


def test_keys_and_accounts_are_made_by_commands(exchange: MiniExchange, alice: User) -> None:
    second = PrivateKey.generate()

    async def work(client: AsyncClient) -> None:
        assert (await client.register_key(second)).accepted
        opened = await client.open_account()
        assert isinstance(opened.events[0], AccountOpened)

    with_client(exchange, alice, work)

    async def with_two(client: AsyncClient) -> None:
        assert len(await client.accounts()) == 2
        with pytest.raises(ClientError, match="ACCOUNT_NEEDED"):
            await client.place("BTC-USD", "buy", 1, 100)
        assert (await client.submit([order()], account=alice.account))[0].accepted

    with_client(exchange, User(alice.user, 0, second), with_two)

    async def revoke(client: AsyncClient) -> Result:
        return await client.revoke_key(second.key_id)

    assert with_client(exchange, alice, revoke, account=alice.account).accepted


def test_an_unknown_market_is_not_sent(exchange: MiniExchange, alice: User) -> None:
    async def work(client: AsyncClient) -> None:
        with pytest.raises(ClientError, match="UNKNOWN_MARKET"):
            await client.place("NO-SUCH", "buy", 1, 100)
        with pytest.raises(ClientError, match="UNKNOWN_MARKET"):
            await client.place(77, "buy", 1, 100)

    with_client(exchange, alice, work)
    assert exchange.submits == 0


def test_a_market_that_is_made_later_is_found(exchange: MiniExchange, alice: User) -> None:
    async def work(client: AsyncClient) -> Result:
        assert len(await client.list_markets()) == 2
        exchange.define_market(msgspec.structs.replace(BTC_USD, market=9, symbol="NEW-USD"))
        assert (await client.market(9)).symbol == "NEW-USD"
        return await client.place("NEW-USD", "buy", 1, 100)

    assert with_client(exchange, alice, work).accepted


def test_stages_are_told_when_asked_for(exchange: MiniExchange, alice: User) -> None:
    async def work(client: AsyncClient) -> tuple[Result, Result]:
        return (await client.submit([order()], with_stages=True))[0], await client.place("BTC-USD", "buy", 1, 100)

    with_stages, without = with_client(exchange, alice, work)
    assert without.stages is None
    assert with_stages.stages is not None
    times = with_stages.stages[2:]
    assert list(times) == sorted(times)
    assert with_stages.stages.n == with_stages.n


def test_a_batch_can_be_verified_without_being_sent(exchange: MiniExchange, alice: User) -> None:
    async def work(client: AsyncClient) -> None:
        good = await client.sign([order()])
        stranger = one_batch(User(0, alice.account, PrivateKey.generate()))
        verdicts = await client.verify([*good, stranger])
        assert [verdict.reason for verdict in verdicts] == ["", "BAD_KEY_OR_SIGNATURE"]
        assert (verdicts[0].account, verdicts[0].shard, verdicts[0].commands) == (alice.account, 1, 1)

    with_client(exchange, alice, work)
    assert exchange.submits == 0


# --- faults ---------------------------------------------------------------------------------------------------------

PASSING_FAULTS = [
    "lose answer",
    "lose request",
    "unknown",
    "overloaded",
    "too fast",
    "draining",
    "unavailable",
    "sequenced",
]


@pytest.mark.parametrize("fault", PASSING_FAULTS)
def test_an_order_is_executed_exactly_once_whatever_happens_on_the_way(
    exchange: MiniExchange, alice: User, fault: str
) -> None:
    exchange.faults.append(fault)

    async def work(client: AsyncClient) -> tuple[Result, int]:
        result = await client.place("BTC-USD", "buy", 10, 100)
        return result, len((await client.open_orders()).orders)

    result, open_orders = with_client(exchange, alice, work)
    assert (result.status, result.open_lots, open_orders) == (Status.RESTING, 10, 1)
    assert result.repeated is (fault in {"lose answer", "unknown", "sequenced"})
    assert exchange.submits == 2


def test_many_faults_one_after_another(exchange: MiniExchange, alice: User) -> None:
    exchange.faults.extend(itertools.chain.from_iterable(itertools.permutations(PASSING_FAULTS[:3])))

    async def work(client: AsyncClient) -> int:
        results = await client.submit([order(60 + turn) for turn in range(40)], commands_per_signature=1)
        assert all(result.status is Status.RESTING for result in results)
        return len((await client.open_orders()).orders)

    assert with_client(exchange, alice, work, valid_for_ms=30_000) == 40


def test_an_answer_that_never_comes_is_asked_for_again(exchange: MiniExchange, alice: User) -> None:
    exchange.faults.append("hang")

    async def work(client: AsyncClient) -> Result:
        return await client.place("BTC-USD", "buy", 10, 100)

    result = with_client(exchange, alice, work, timeout_s=0.3)
    assert (result.status, result.repeated) == (Status.RESTING, True)


def test_what_was_executed_is_known_after_it_could_be_sent_again(exchange: MiniExchange, alice: User) -> None:
    exchange.faults.extend(["lose answer", *["lose request"] * 50])

    async def work(client: AsyncClient) -> Result:
        return await client.place("BTC-USD", "buy", 10, 100)

    result = with_client(exchange, alice, work, valid_for_ms=300)
    assert (result.status, result.open_lots) == (Status.RESTING, 10)


def test_what_never_came_to_the_shard_is_refused_when_its_time_has_passed(exchange: MiniExchange, alice: User) -> None:
    exchange.faults.extend(["lose request"] * 50)

    async def work(client: AsyncClient) -> tuple[Result, int]:
        return await client.place("BTC-USD", "buy", 10, 100), len((await client.open_orders()).orders)

    result, open_orders = with_client(exchange, alice, work, valid_for_ms=300)
    assert (result.status, result.reason, open_orders) == (Status.REFUSED, "BATCH_EXPIRED", 0)


def test_a_shard_that_stays_overloaded_refuses_in_the_end(exchange: MiniExchange, alice: User) -> None:
    exchange.faults.extend(["overloaded"] * 100)

    async def work(client: AsyncClient) -> Result:
        return await client.place("BTC-USD", "buy", 10, 100)

    result = with_client(exchange, alice, work, valid_for_ms=300)
    assert (result.status, result.reason) == (Status.REFUSED, "OVERLOADED")
    assert 2 < exchange.submits < 30


def test_without_resending_a_refusal_is_final_and_a_doubt_is_asked_about(exchange: MiniExchange, alice: User) -> None:
    exchange.faults.extend(["overloaded", "draining", "unknown"])

    async def work(client: AsyncClient) -> list[Result]:
        return [(await client.submit([order()], resend=False))[0] for _ in range(3)]

    results = with_client(exchange, alice, work)
    assert [(result.status, result.reason) for result in results] == [
        (Status.REFUSED, "OVERLOADED"),
        (Status.REFUSED, "DRAINING"),
        (Status.RESTING, ""),
    ]
    assert exchange.submits == 3


def test_a_call_that_is_wrong_fails(exchange: MiniExchange, alice: User) -> None:
    exchange.faults.append("reject")

    async def work(client: AsyncClient) -> None:
        await client.place("BTC-USD", "buy", 10, 100)

    with pytest.raises(ClientError, match="INVALID_FIELD: wait: 9 is no WaitLevel"):
        with_client(exchange, alice, work)


@pytest.mark.parametrize("first", ["", "unknown", "refuse"])
def test_a_later_call_that_fails_for_good_does_not_hide_what_became_of_the_earlier_ones(
    exchange: MiniExchange, alice: User, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.client.batches.REQUEST_COMMANDS_MAX", 2)
    exchange.faults.extend([first, "reject"])

    async def work(client: AsyncClient) -> tuple[list[Result], int]:
        results = await client.submit([order(), order(), order()], commands_per_signature=1)
        return results, len((await client.open_orders()).orders)

    (*earlier, later), open_orders = with_client(exchange, alice, work)
    assert {one.status for one in earlier} == {Status.REFUSED if first == "refuse" else Status.RESTING}
    assert (later.status, later.reason) == (Status.REFUSED, "INVALID_FIELD")
    assert "wait: 9 is no WaitLevel" in later.detail
    assert open_orders == (0 if first == "refuse" else 2)


def test_a_call_that_fails_for_good_before_anything_is_known_fails_as_a_whole(
    exchange: MiniExchange, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.client.batches.REQUEST_COMMANDS_MAX", 1)
    exchange.faults.extend(["draining", "reject"])

    async def work(client: AsyncClient) -> None:
        with pytest.raises(ClientError, match="INVALID_FIELD"):
            await client.submit([order(), order()], commands_per_signature=1)
        assert (await client.open_orders()).orders == ()

    with_client(exchange, alice, work)


def test_the_same_batch_sent_again_is_executed_once(exchange: MiniExchange, alice: User) -> None:
    async def work(client: AsyncClient) -> None:
        batches = await client.sign([order()])
        first = (await client.send(batches, sent_before=False))[0]
        again = (await client.send(batches))[0]
        asked = (await client.outcome(batches[0]))[0]
        assert [one.order_id for one in (first, again, asked)] == [first.order_id] * 3
        assert (first.repeated, again.repeated) == (False, True)
        assert len((await client.open_orders()).orders) == 1

    with_client(exchange, alice, work)


def test_a_batch_of_an_earlier_process_is_found_when_it_has_expired(exchange: MiniExchange, alice: User) -> None:
    old, never = one_batch(alice, valid_for_ms=400), one_batch(alice, valid_for_ms=400)

    async def work(client: AsyncClient) -> list[Result]:
        assert (await client.send([old]))[0].status is Status.RESTING
        while client.directory.now_ms() < max(old.valid_until_ms, never.valid_until_ms):
            await asyncio.sleep(0.01)
        return await client.send([old, never])

    results = with_client(exchange, alice, work)
    assert [result.status for result in results] == [Status.RESTING, Status.REFUSED]


def test_two_clients_of_one_key_never_use_a_nonce_twice(exchange: MiniExchange, alice: User) -> None:
    async def work(client: AsyncClient) -> list[Result]:
        async with await AsyncClient.connect(exchange.address, alice.key) as other:
            parts = [one.submit([order(60)] * 100, commands_per_signature=1) for one in (client, other)]
            return [result for part in await asyncio.gather(*parts) for result in part]

    results = with_client(exchange, alice, work)
    assert all(result.status is Status.RESTING for result in results)
    assert len({result.batch.nonce for result in results}) == 200


# --- the stream of batches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["", "lose answer", "lose request", "overloaded"])
def test_a_stream_answers_every_message_once(exchange: MiniExchange, alice: User, fault: str) -> None:
    async def work(client: AsyncClient) -> None:
        commands = [PlaceOrder(1, Side.BUY, 1, price_ticks=60, quantity_lots=1)] * 60
        valid_until_ms = client.directory.now_ms() + 10_000
        batches = sign_many(client.signer, alice.account, 1, valid_until_ms, commands, 2)
        async with client.open_stream(in_flight_max=4, with_stages=True) as stream:
            futures = []
            for start in range(0, 30, 3):
                if start == 15 and fault:
                    exchange.faults.append(fault)
                futures.append(await stream.send(batches[start : start + 3]))
        answers = [future.result() for future in futures]
        results = [result for answer in answers for result in answer.results()]
        assert len(results) == 60
        refused = [result for result in results if result.status is Status.REFUSED]
        assert len(refused) == (6 if fault == "overloaded" else 0)
        assert sum(result.status is Status.RESTING for result in results) == 60 - len(refused)
        assert len((await client.open_orders()).orders) == 60 - len(refused)
        assert max(answer.attempts for answer in answers) == (2 if fault.startswith("lose") else 1)

    with_client(exchange, alice, work)


def test_a_stream_outlives_the_exchange(exchange: MiniExchange, alice: User) -> None:
    async def work(client: AsyncClient) -> None:
        batches = [one_batch(alice) for _ in range(4)]
        async with client.open_stream() as stream:
            first = await stream.send(batches[:2])
            await first
            await asyncio.to_thread(exchange.stop)
            second = await stream.send(batches[2:])
            await asyncio.to_thread(exchange.start)
            assert all(result.accepted for result in (await second).results())
        assert len((await client.open_orders()).orders) == 4

    with_client(exchange, alice, work)


def test_a_stream_that_the_exchange_refuses_fails(exchange: MiniExchange, alice: User) -> None:
    exchange.faults.append("reject")

    async def work(client: AsyncClient) -> None:
        stream = client.open_stream()
        future = await stream.send([one_batch(alice)])
        with pytest.raises(ClientError, match="INVALID_FIELD"):
            await future
        with pytest.raises(ClientError, match="INVALID_FIELD"):
            await stream.send([one_batch(alice)])
        await stream.close()

    with_client(exchange, alice, work)


# --- sessions and feeds ---------------------------------------------------------------------------------------------


def test_a_session_that_ended_is_renewed(exchange: MiniExchange, alice: User) -> None:
    async def work(client: AsyncClient) -> None:
        await client.balances()
        exchange.end_sessions()
        await client.balances()
        assert await client.user() == alice.user

    with_client(exchange, alice, work)


def test_open_orders_are_all_of_them(exchange: MiniExchange, alice: User) -> None:
    async def work(client: AsyncClient) -> None:
        await client.submit([order(60 + turn) for turn in range(7)])
        await client.place("ETH-USD", "sell", 1, 500, client_order_id=5)
        found = await client.open_orders()
        assert len(found.orders) == 8
        assert set(found.cursors) == {1, 2}
        (one,) = (await client.open_orders("ETH-USD")).orders
        assert (one.side, one.price_ticks, one.open_lots, one.client_order_id) == (Side.SELL, 500, 1, 5)

    with_client(exchange, alice, work)


def test_executions_go_on_without_gap_or_repeat(exchange: MiniExchange, alice: User) -> None:
    bob = exchange.new_user()
    rounds = 12

    async def work(client: AsyncClient) -> None:
        feed = await client.executions()
        seqs: list[int] = []

        async def read() -> None:
            async for found in feed:
                seqs.extend(
                    getattr(event, "account_seq", 0) or getattr(event, "maker_account_seq", 0) for event in found.events
                )
                if len(seqs) >= 2 * rounds:
                    return

        reading = asyncio.create_task(read())
        async with await AsyncClient.connect(exchange.address, bob.key) as other:
            for turn in range(rounds):
                if turn % 4 == 1:
                    exchange.break_streams()
                if turn == 6:
                    exchange.end_sessions()
                    exchange.break_streams()
                await client.place("BTC-USD", "buy", 1, 100)
                await other.place("BTC-USD", "sell", 1, 100)
        await reading
        assert seqs == list(range(seqs[0], seqs[0] + 2 * rounds))
        assert feed.cursors[1].n > 0

    with_client(exchange, alice, work)


def test_executions_outlive_the_exchange(exchange: MiniExchange, alice: User) -> None:
    async def work(client: AsyncClient) -> None:
        feed = await client.executions()
        iterator = aiter(feed)
        await client.place("BTC-USD", "buy", 1, 100)
        assert len((await anext(iterator)).events) == 1
        await asyncio.to_thread(exchange.stop)
        await asyncio.to_thread(exchange.start)
        await client.place("BTC-USD", "buy", 1, 100)
        assert len((await anext(iterator)).events) == 1
        await iterator.aclose()  # type: ignore[attr-defined]

    with_client(exchange, alice, work)


def test_executions_resume_from_kept_cursors(exchange: MiniExchange, alice: User) -> None:
    async def first(client: AsyncClient) -> dict[int, Cursor]:
        feed = await client.executions()
        await client.submit([order(60), order(61), order(62)], commands_per_signature=3)
        async for found in feed:
            assert len(found.events) == 1
            return feed.cursors
        raise AssertionError

    kept = with_client(exchange, alice, first)

    async def second(client: AsyncClient) -> list[int]:
        feed = await client.executions(kept)
        prices: list[int] = []
        async for found in feed:
            prices += [event.price_ticks for event in found.events if isinstance(event, OrderAccepted)]
            if len(prices) == 2:
                break
        return prices

    assert with_client(exchange, alice, second) == [61, 62]


def test_a_lost_event_is_never_passed_over(exchange: MiniExchange, alice: User) -> None:
    async def work(client: AsyncClient) -> None:
        feed = await client.executions()
        feed._seqs[1] -= 5
        await client.place("BTC-USD", "buy", 1, 100)
        with pytest.raises(ClientError, match="EVENTS_LOST"):
            await anext(aiter(feed))

    with_client(exchange, alice, work)


def levels(book: LocalBook) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    return [one[:2] for one in book.bids()], [one[:2] for one in book.asks()]


def test_a_local_book_follows_the_market_through_gaps_and_breaks(exchange: MiniExchange, alice: User) -> None:
    async def work(client: AsyncClient) -> None:
        await client.submit([order(90), order(110, "sell", 5)])
        feed = await client.books(["BTC-USD", "ETH-USD"])
        changed = asyncio.Event()

        async def follow() -> None:
            async for _ in feed:
                changed.set()

        async def seen(expected: tuple[list[tuple[int, int]], list[tuple[int, int]]]) -> None:
            while levels(feed.books[1]) != expected or not feed.books[1].complete:
                changed.clear()
                await changed.wait()

        following = asyncio.create_task(follow())
        await seen(([(90, 10)], [(110, 5)]))
        best = feed.books[1].best_bid
        assert best is not None
        assert best.price_ticks == 90
        await client.place("BTC-USD", "buy", 3, 95)
        await seen(([(95, 3), (90, 10)], [(110, 5)]))
        exchange.skip_deltas = 1
        await client.place("BTC-USD", "buy", 1, 96)
        await client.cancel_all("BTC-USD", "sell")
        await seen(([(96, 1), (95, 3), (90, 10)], []))
        assert feed.resubscribed == 1
        exchange.break_streams()
        await client.cancel_all("BTC-USD")
        await seen(([], []))
        exchange.set_state(BTC_USD, MarketState.HALTED)
        while feed.books[1].state is not MarketState.HALTED:
            changed.clear()
            await changed.wait()
        following.cancel()

    with_client(exchange, alice, work)


def test_a_change_that_does_not_fit_leaves_the_book_as_it_was() -> None:
    book = LocalBook(1)
    level = pb.PriceLevel(price_ticks=5, quantity_lots=6, orders=1)
    with pytest.raises(BookGapError):
        book.delta(pb.BookDelta(market=1, market_seq=1))
    book.snapshot(pb.BookSnapshot(market=1, market_seq=4, bids=[level]))
    with pytest.raises(BookGapError):
        book.delta(pb.BookDelta(market=1, previous_market_seq=5, market_seq=6))
    assert levels(book) == ([(5, 6)], [])
    book.delta(pb.BookDelta(market=1, previous_market_seq=4, market_seq=6, bids=[pb.PriceLevel(price_ticks=5)]))
    assert (levels(book), book.market_seq) == (([], []), 6)


def test_trades_go_on_without_gap_or_repeat(exchange: MiniExchange, alice: User) -> None:
    bob = exchange.new_user()
    trades = 8

    async def work(client: AsyncClient) -> None:
        feed = await client.trades(["BTC-USD"])
        found: list[int] = []
        iterator = aiter(feed)

        async def read() -> None:
            async for trade in iterator:
                found.append(trade.trade_id)
                if len(found) == trades:
                    return

        reading = asyncio.create_task(read())
        while not feed.cursors[1]:
            await asyncio.sleep(0.01)
        async with await AsyncClient.connect(exchange.address, bob.key) as other:
            for turn in range(trades):
                if turn % 3 == 1:
                    exchange.break_streams()
                await client.place("BTC-USD", "buy", 1, 100)
                await other.place("BTC-USD", "sell", 1, 100)
        await reading
        last = await client.last_trades("BTC-USD")
        assert found == [trade.trade_id for trade in reversed(last)]
        assert {trade.taker_side for trade in last} == {Side.SELL}

    with_client(exchange, alice, work)


# --- without asyncio ------------------------------------------------------------------------------------------------


def test_the_client_without_asyncio_does_the_same(exchange: MiniExchange, alice: User) -> None:
    with Client(exchange.address, alice.key.text, environment="mini-1") as client:
        placed = client.place("BTC-USD", "buy", 10, 100)
        assert placed.status is Status.RESTING
        assert client.account == alice.account
        assert [one.order_id for one in client.open_orders().orders] == [placed.order_id]
        feed = client.executions()
        books = iter(client.books(["BTC-USD"]))
        assert next(books).best_bid.price_ticks == 100
        client.cancel(placed.order_id)
        assert next(books).best_bid is None
        for found in feed:
            assert (found.shard, len(found.events)) == (1, 1)
            break
        with pytest.raises(ClientError, match="UNKNOWN_MARKET"):
            client.place("NO-SUCH", "buy", 1, 1)
    client.close()


def test_two_clients_without_asyncio_share_a_process(exchange: MiniExchange, alice: User) -> None:
    with Client(exchange.address, alice.key) as one, Client(exchange.address) as two:
        assert one.place("BTC-USD", "buy", 1, 100).accepted
        assert two.book("BTC-USD").best_bid is not None
        assert two.market("ETH-USD").market == ETH_USD.market


def test_a_feed_that_is_silent_asks_whether_the_exchange_is_there(
    exchange: MiniExchange, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.client.feeds.SILENCE_S", 0.05)

    async def work(client: AsyncClient) -> None:
        feed = await client.books(["BTC-USD"])
        iterator = aiter(feed)
        await anext(iterator)
        following = asyncio.ensure_future(anext(iterator))
        await asyncio.sleep(0.3)
        await client.place("BTC-USD", "buy", 1, 100)
        assert (await following).best_bid is not None
        assert feed.resubscribed == 0

    with_client(exchange, alice, work)
