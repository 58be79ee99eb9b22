"""The life of money through the two ports of a whole exchange: from a deposit over trades to a paid withdrawal."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.json_format import Parse
from grpc_reflection.v1alpha import reflection_pb2

from clob.v1 import (
    order_service_pb2,
    order_service_pb2_grpc,
    settlement_service_pb2,
    settlement_service_pb2_grpc,
)
from exchange.client import AsyncClient, ClientError, Cursor, Executions, LocalBook, PrivateKey, Status
from exchange.client.batches import SignedCommands, sign_commands
from exchange.client.feeds import ExecutionsFeed
from exchange.client.instructions import place
from exchange.domain.commands import OrderType, PlaceOrder, Side
from exchange.domain.events import OrderAccepted
from exchange.domain.signing import PRIVATE_KEY_PREFIX
from tests.support.hosted import Hosted
from tests.support.running import ENVIRONMENT, settle_and_audit

CALL_S_MAX = 30
SOON_S_MAX = 30
BTC, ETH = "BTC-USD", "ETH-USD"
BTC_SHARD, ETH_SHARD = 1, 2
USD_ASSET, BTC_ASSET = 1, 2
START_USD, START_BTC = 1_000_000_000_000, 10_000_000_000
UNITS_PER_LOT = 1_000
MAKER_PPM, TAKER_PPM, PPM = 100, 250, 1_000_000


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    made = Hosted(tmp_path_factory.mktemp("whole"))
    try:
        yield made
        assert made.run(settle_and_audit(made.exchange)).passed
    finally:
        made.close()


# --- what the tests say ---------------------------------------------------------------------------------------------


def curl(hosted: Hosted, path: str, body: Any = None, *options: str) -> Any:
    """Ask the operators' port as an operator would: POST with a body, or "" for none; else GET."""
    said = [] if body is None else ["-X", "POST"]
    if body:
        said += ["-H", "content-type: application/json", "-d", json.dumps(body)]
    command = ["curl", "-sS", "--max-time", str(CALL_S_MAX), *said, *options, f"http://{hosted.exchange.admin}{path}"]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def money_key() -> tuple[str, str]:
    return ("-H", f"Idempotency-Key: {secrets.token_hex(16)}")


def new_key(hosted: Hosted) -> tuple[PrivateKey, int]:
    """Make a user; return its key and account."""
    user = curl(hosted, "/users", "")
    return PrivateKey.from_text(user["private_key"]), int(user["account_id"])


async def connect(hosted: Hosted, key: PrivateKey | None = None) -> AsyncClient:
    return await AsyncClient.connect(hosted.exchange.traders, key, environment=ENVIRONMENT)


async def until(what: str, check: Any) -> Any:
    """Ask again until it is so; return what was found."""
    async with asyncio.timeout(SOON_S_MAX):
        while not (found := await check()):
            await asyncio.sleep(0.05)
    assert found, what
    return found


async def free_in(client: AsyncClient, shard: int, asset: int, units: int) -> None:
    """Wait until so much is free there: money between shards arrives a moment after it left."""

    async def there() -> bool:
        return (await client.balances()).free_units(shard, asset) == units

    await until(f"{units} of asset {asset} in shard {shard}", there)


def deposit(hosted: Hosted, account: int, units: int, allocate: str, to_shard: int = 0) -> Any:
    row = {"account": account, "asset": USD_ASSET, "amount_units": str(units), "allocate": allocate}
    answer = curl(hosted, "/deposits", {"deposits": [{**row, "to_shard": to_shard}]}, *money_key())
    assert answer["results"] == [{"reason": "REJECT_REASON_UNSPECIFIED"}]
    return answer


# --- users ----------------------------------------------------------------------------------------------------------


def test_a_user_is_made_with_one_curl_and_trades_at_once(hosted: Hosted) -> None:
    user = curl(hosted, "/users", "")
    assert user["private_key"].startswith(PRIVATE_KEY_PREFIX)
    assert {row["asset"] for row in user["starting_funds"]} == {1, 2, 3}

    async def trade() -> None:
        async with await connect(hosted, PrivateKey.from_text(user["private_key"])) as client:
            result = await client.place(BTC, Side.BUY, 1, 900_000)
            assert result.status is Status.RESTING
            assert (await client.cancel(result.order_id)).status is Status.CANCELLED

    hosted.run(trade())


def test_a_user_brings_its_own_key_with_the_proof_that_it_has_it(hosted: Hosted) -> None:
    key = PrivateKey.generate()
    proof = key.registration(ENVIRONMENT)
    body = {"public_key": key.public_key.hex(), "signature": proof.signature.hex()}
    user = curl(hosted, "/users", body)
    assert (user["key_id"], user["private_key"]) == (key.key_id.hex(), "")
    again = curl(hosted, "/users", body)
    assert again["error"]["reason"] == "KEY_EXISTS"
    assert "new key pair" in again["error"]["message"]

    async def reads_its_account() -> int:
        async with await connect(hosted, key) as client:
            return await client.own_account()

    assert hosted.run(reads_its_account()) == int(user["account_id"])


# --- deposits -------------------------------------------------------------------------------------------------------


def test_a_deposit_is_put_to_work_as_it_says(hosted: Hosted) -> None:
    key, account = new_key(hosted)
    assert deposit(hosted, account, 1_001, "EVEN")["arrived"]
    assert deposit(hosted, account, 500, "ONE_SHARD", ETH_SHARD)["arrived"]
    assert deposit(hosted, account, 70, "NONE")["arrived"]

    async def check() -> None:
        async with await connect(hosted, key) as client:
            balances = await client.balances()
            found = [balances.free_units(shard, USD_ASSET) for shard in (0, BTC_SHARD, ETH_SHARD)]
            assert found == [70, START_USD + 501, START_USD + 500 + 500]
            assert not balances.transit

    hosted.run(check())


def test_a_deposit_that_is_sent_again_is_credited_once(hosted: Hosted) -> None:
    _, account = new_key(hosted)
    row = {"account": account, "asset": USD_ASSET, "amount_units": "9", "allocate": "NONE"}
    header = money_key()
    first, again = (curl(hosted, "/deposits", {"deposits": [row]}, *header) for _ in range(2))
    assert (first["repeated"], again["repeated"]) == (False, True)
    treasury = curl(hosted, f"/accounts/{account}")["balances"]["shards"][0]["balances"]
    assert treasury == [{"asset": USD_ASSET, "free_units": "9", "locked_units": "0"}]


# --- trades ---------------------------------------------------------------------------------------------------------


def test_after_a_trade_the_balances_of_both_add_up(hosted: Hosted) -> None:
    (maker_key, _), (taker_key, _) = new_key(hosted), new_key(hosted)
    lots, ticks = 40, 1_000_000
    notional = lots * ticks

    async def trade() -> None:
        async with await connect(hosted, maker_key) as maker, await connect(hosted, taker_key) as taker:
            resting = await maker.place(BTC, Side.SELL, lots, ticks)
            assert resting.status is Status.RESTING
            taken = await taker.place(BTC, Side.BUY, lots, ticks)
            assert taken.status is Status.FILLED
            assert [(fill.price_ticks, fill.quantity_lots) for fill in taken.fills] == [(ticks, lots)]
            sold = bought = lots * UNITS_PER_LOT
            maker_fee, taker_fee = notional * MAKER_PPM // PPM, notional * TAKER_PPM // PPM
            assert taken.fills[0].fee_quote_units == taker_fee
            await free_in(maker, BTC_SHARD, USD_ASSET, START_USD + notional - maker_fee)
            await free_in(maker, BTC_SHARD, BTC_ASSET, START_BTC - sold)
            await free_in(taker, BTC_SHARD, USD_ASSET, START_USD - notional - taker_fee)
            await free_in(taker, BTC_SHARD, BTC_ASSET, START_BTC + bought)
            last = (await taker.last_trades(BTC, 1))[0]
            assert (last.price_ticks, last.quantity_lots, last.taker_side) == (ticks, lots, Side.BUY)

    hosted.run(trade())


# --- between shards and out -----------------------------------------------------------------------------------------


async def close_withdrawal(hosted: Hosted, withdrawal: int, state: str) -> Any:
    return await asyncio.to_thread(curl, hosted, f"/withdrawals/{withdrawal}/close", {"state": state}, *money_key())


def test_money_goes_from_shard_to_treasury_to_shard_and_out(hosted: Hosted) -> None:
    key, account = new_key(hosted)
    deposit(hosted, account, 1_000, "ONE_SHARD", BTC_SHARD)

    async def live() -> None:
        async with await connect(hosted, key) as client:
            assert (await client.release(BTC_SHARD, USD_ASSET, 1_000)).status is Status.DONE
            await free_in(client, 0, USD_ASSET, 1_000)
            assert (await client.allocate(USD_ASSET, 400, ETH_SHARD)).status is Status.DONE
            await free_in(client, ETH_SHARD, USD_ASSET, START_USD + 400)
            paid = await client.withdraw(USD_ASSET, 250, "bank 1")
            back = await client.withdraw(USD_ASSET, 150, "bank 2")
            assert (paid.status, back.status) == (Status.DONE, Status.DONE)
            too_much = await client.withdraw(USD_ASSET, 201, "bank 3")
            assert (too_much.status, too_much.reason) == (Status.REJECTED, "INSUFFICIENT_FUNDS")
            await free_in(client, 0, USD_ASSET, 200)
            numbers = {one.amount_units: one.withdrawal for one in (await client.balances()).withdrawals}
            assert set(numbers) == {250, 150}

            async with grpc.aio.insecure_channel(hosted.exchange.admin) as channel:
                await settlement_service_pb2_grpc.SettlementServiceStub(channel).Settle(
                    settlement_service_pb2.SettleRequest(), timeout=CALL_S_MAX
                )
            asked = await asyncio.to_thread(curl, hosted, f"/withdrawals?account={account}&state=OPEN")
            assert [row["payable"] for row in asked["withdrawals"]] == [True, True], "the audit has passed them"
            closed = await close_withdrawal(hosted, numbers[250], "PAID")
            assert closed["withdrawal"]["state"] == "WITHDRAWAL_STATE_PAID"
            given = await close_withdrawal(hosted, numbers[150], "GIVEN_BACK")
            assert given["withdrawal"]["state"] == "WITHDRAWAL_STATE_GIVEN_BACK"
            twice = await close_withdrawal(hosted, numbers[250], "GIVEN_BACK")
            assert twice["error"]["reason"] == "UNKNOWN_WITHDRAWAL"
            await free_in(client, 0, USD_ASSET, 350)
            states = {one.amount_units: one.state for one in await client.withdrawals()}
            assert states == {250: "PAID", 150: "GIVEN_BACK"}
            assert not (await client.balances()).withdrawals
        audit = await settle_and_audit(hosted.exchange)
        assert audit.passed
        assert [line.withdrawn_units for line in audit.lines if line.asset == USD_ASSET] == [250]

    hosted.run(live())


# --- keys -----------------------------------------------------------------------------------------------------------


def test_a_revoked_key_is_refused_everywhere_and_its_sessions_end(hosted: Hosted) -> None:
    key, _ = new_key(hosted)

    async def live() -> None:
        async with await connect(hosted, key) as client:
            assert (await client.place(BTC, Side.BUY, 1, 900_000)).accepted
            feed = await client.executions()
            following = asyncio.ensure_future(anext(aiter(feed)))
            signed = await client.sign([place(BTC, Side.BUY, 1, 900_000), place(ETH, Side.BUY, 1, 90_000)])
            revoked = await asyncio.to_thread(curl, hosted, f"/keys/{key.key_id.hex()}/revoke", "")
            assert revoked["shards_pending"] == []
            results = await client.send(signed, sent_before=False)
            assert {(one.status, one.reason) for one in results} == {(Status.REFUSED, "BAD_KEY_OR_SIGNATURE")}
            with pytest.raises(ClientError) as ended:
                await client.balances()
            assert ended.value.reason == "BAD_KEY_OR_SIGNATURE"
            with pytest.raises(ClientError) as stream_ended:
                await asyncio.wait_for(following, SOON_S_MAX)
            assert stream_ended.value.reason == "BAD_KEY_OR_SIGNATURE"

    hosted.run(live())


def test_a_second_key_for_one_account_signs_for_that_one_only(hosted: Hosted) -> None:
    key, account = new_key(hosted)
    narrow = PrivateKey.generate()

    async def live() -> None:
        async with await connect(hosted, key) as client:
            opened = await client.open_account()
            assert opened.status is Status.DONE
            client.account = account
            assert (await client.register_key(narrow, account)).status is Status.DONE
            assert len(await client.accounts()) == 2
        async with await connect(hosted, narrow) as client:
            assert await client.accounts() == (account,)
            assert (await client.place(BTC, Side.BUY, 1, 900_000)).accepted
            with pytest.raises(ClientError) as refused:
                await client.balances(account + 1)
            assert refused.value.reason == "ACCOUNT_NOT_OF_KEY"

    hosted.run(live())


# --- streams --------------------------------------------------------------------------------------------------------


async def collect(feed: ExecutionsFeed, orders: int) -> list[Executions]:
    """Read own executions until so many orders were answered."""
    found: list[Executions] = []
    seen = 0
    async with asyncio.timeout(90):
        async for one in feed:
            found.append(one)
            seen += sum(isinstance(event, OrderAccepted) for event in one.events)
            if seen >= orders:
                return found
    raise AssertionError("the feed ended")


def test_executions_go_on_from_their_cursor_when_market_data_is_killed(hosted: Hosted) -> None:
    key, _ = new_key(hosted)
    before, between, after = 12, 12, 12

    async def live() -> None:
        async with await connect(hosted, key) as client:
            start = (await client.balances()).cursors
            seqs = (await client.balances()).seqs
            feed = await client.executions(start)
            reading = asyncio.create_task(collect(feed, before + between + after))
            sent: list[tuple[int, int]] = []

            async def send(orders: int) -> None:
                for _ in range(orders):
                    name = len(sent) + 1
                    result = await client.place(BTC, Side.BUY, 1, 800_000, client_order_id=name)
                    assert result.accepted, result
                    sent.append((result.n, name))

            await send(before)
            await hosted.exchange.kill("market-data")
            await send(between)
            await hosted.exchange.wait_serving("market-data")
            await send(after)
            executions = await reading
            events = [(one.n, event) for one in executions for event in one.events]
            told = [(n, event.client_order_id) for n, event in events if isinstance(event, OrderAccepted)]
            assert told == sent, "none is missing and none told twice"
            numbers = [event.account_seq for _, event in events if isinstance(event, OrderAccepted)]
            assert len(numbers) == len(events)
            first = seqs.get(BTC_SHARD, 0) + 1
            assert numbers == list(range(first, first + len(numbers)))
            # From a cursor in the middle the rest comes again, and only that.
            middle = executions[len(executions) // 2]
            resumed = await client.executions({**start, BTC_SHARD: Cursor(middle.n)})
            rest = await collect(resumed, sum(n > middle.n for n, _ in sent))
            assert [one.n for one in rest] == [one.n for one in executions if one.n > middle.n]

    hosted.run(live())


def levels(book: LocalBook) -> Any:
    return [
        [(level.price_ticks, level.quantity_lots, level.orders) for level in side]
        for side in (book.bids(), book.asks())
    ]


def test_a_book_kept_from_snapshot_and_changes_is_the_book_that_is_asked_for(hosted: Hosted) -> None:
    (maker_key, _), (taker_key, _) = new_key(hosted), new_key(hosted)

    async def live() -> None:
        async with await connect(hosted, maker_key) as maker, await connect(hosted, taker_key) as taker:
            feed = await maker.books([ETH], every_command=True)
            kept: list[tuple[int, Any]] = []
            done = asyncio.Event()

            async def follow() -> None:
                async for book in feed:
                    kept.append((book.market_seq, levels(book)))
                    done.set()

            following = asyncio.create_task(follow())
            try:
                await asyncio.wait_for(done.wait(), SOON_S_MAX)
                for step in range(10):
                    for side, ticks in ((Side.BUY, 99_000 - step), (Side.SELL, 101_000 + step)):
                        assert (await maker.place(ETH, side, 5 + step, ticks)).accepted
                await taker.place(ETH, Side.BUY, 12, 102_000)
                await taker.place(ETH, Side.SELL, 7, 98_000)
                orders = (await maker.open_orders(ETH)).orders
                await maker.reduce(orders[0].order_id, quantity_lots=1)
                await maker.cancel(orders[1].order_id)
                await maker.replace(orders[2].order_id, price_ticks=98_500)
                asked = await maker.book(ETH, 100)

                async def reached() -> bool:
                    return kept[-1][0] >= asked.market_seq

                await until("the feed has what GetBook has", reached)
                seqs = [seq for seq, _ in kept]
                assert seqs == sorted(set(seqs))
                assert dict(kept)[asked.market_seq] == levels(asked)
                assert feed.resubscribed == 0
            finally:
                following.cancel()
            await maker.cancel_all(ETH)

            async def is_empty() -> bool:
                return bool(levels(await maker.book(ETH)) == [[], []])

            await until("the book is empty again", is_empty)

    hosted.run(live())


# --- what became of it ----------------------------------------------------------------------------------------------


def signed_order(client: AsyncClient, account: int, valid_for_ms: int) -> SignedCommands:
    order = PlaceOrder(1, Side.BUY, OrderType.LIMIT, price_ticks=700_000, quantity_lots=1)
    until_ms = time.time_ns() // 1_000_000 + valid_for_ms
    return sign_commands(client.signer, account, BTC_SHARD, until_ms, (order,))


def test_an_outcome_is_executed_pending_or_never(hosted: Hosted) -> None:
    key, account = new_key(hosted)

    async def live() -> None:
        async with await connect(hosted, key) as client:

            async def state(batch: SignedCommands) -> int:
                return int((await client._get_outcome(batch)).state)

            done, unsent, short = (signed_order(client, account, valid) for valid in (30_000, 30_000, 1_500))
            result = (await client.send([done], sent_before=False))[0]
            assert result.accepted
            answer = await client._get_outcome(done)
            assert answer.state == order_service_pb2.OUTCOME_STATE_EXECUTED
            assert answer.outcome.n == result.n
            assert await state(unsent) == order_service_pb2.OUTCOME_STATE_PENDING
            assert (await client._get_outcome(unsent)).executable_until_ms == unsent.valid_until_ms
            assert await state(short) == order_service_pb2.OUTCOME_STATE_PENDING

            async def is_never() -> bool:
                # The shard's own time decides, and goes on with its entries.
                await client.place(BTC, Side.BUY, 1, 700_000)
                return await state(short) == order_service_pb2.OUTCOME_STATE_NEVER

            await until("an expired batch can never be executed", is_never)
            late = (await client.send([short], sent_before=False))[0]
            assert (late.status, late.reason) == (Status.REFUSED, "BATCH_EXPIRED")

    hosted.run(live())


def test_verify_uses_nothing_up(hosted: Hosted) -> None:
    key, account = new_key(hosted)

    async def live() -> None:
        async with await connect(hosted, key) as client:
            batch = signed_order(client, account, 30_000)
            verdicts = await client.verify([batch, batch])
            assert [(one.reason, one.account, one.shard, one.commands) for one in verdicts] == [
                ("", account, BTC_SHARD, 1)
            ] * 2
            assert not (await client.open_orders()).orders
            result = (await client.send([batch], sent_before=False))[0]
            assert (result.accepted, result.repeated) == (True, False)

    hosted.run(live())


def test_a_stream_that_waits_for_positions_gets_them_in_order(hosted: Hosted) -> None:
    key, account = new_key(hosted)

    async def live() -> None:
        async with await connect(hosted, key) as client:
            batches = [signed_order(client, account, 30_000) for _ in range(50)]
            messages = [
                order_service_pb2.SubmitStreamRequest(
                    tag=tag,
                    submit=order_service_pb2.SubmitRequest(
                        environment=ENVIRONMENT, wait=order_service_pb2.WAIT_LEVEL_SEQUENCED
                    ),
                )
                for tag, _ in enumerate(batches)
            ]
            for message, batch in zip(messages, batches, strict=True):
                message.submit.MergeFromString(batch.wire)
            async with grpc.aio.insecure_channel(hosted.exchange.traders) as channel:
                stub = order_service_pb2_grpc.OrderServiceStub(channel)
                answers = {
                    answer.tag: answer.submit.outcomes[0]
                    async for answer in stub.SubmitStream(iter(messages), timeout=CALL_S_MAX)
                }
            places = [(answers[tag].n, answers[tag].batch) for tag in range(len(batches))]
            assert places == sorted(set(places)), "positions are in the order in which they were sent"
            results = await client.send(batches)
            assert all(result.accepted and result.repeated for result in results)
            assert [result.n for result in results] == [n for n, _ in places]
            assert len((await client.open_orders()).orders) == len(batches)

    hosted.run(live())


# --- tools ----------------------------------------------------------------------------------------------------------

LOBSTER_MESSAGES = """\
34200.1,1,10,5,100,1
34201.1,1,11,3,101,1
34202.1,1,12,4,105,-1
34203.1,2,10,2,100,1
34204.1,4,12,1,105,-1
34205.1,4,12,3,105,-1
34206.1,3,11,3,101,1
"""
LOBSTER_BOOK = """\
9999999999,0,100,5
9999999999,0,101,3
105,4,101,3
105,4,101,3
105,3,101,3
9999999999,0,101,3
9999999999,0,100,3
"""


def test_a_lobster_day_through_the_services_is_equal_in_every_row(hosted: Hosted, tmp_path: Path) -> None:
    messages, book = tmp_path / "message.csv", tmp_path / "orderbook.csv"
    messages.write_text(LOBSTER_MESSAGES, "ascii")
    book.write_text(LOBSTER_BOOK, "ascii")
    done = clob(
        ["replay", "lobster", str(messages), str(book), "--submit", "--json"],
        ["--traders", hosted.exchange.traders, "--address", hosted.exchange.admin],
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["passed"], found["rows_total"], found["rows_equal"]) == (True, 7, 6), found


def clob(*arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("clob")), *(one for part in arguments for one in part)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=90, check=False, env={**os.environ, **environment}
    )


def test_what_clob_sign_prints_can_be_sent_as_it_is(hosted: Hosted, tmp_path: Path) -> None:
    key, account = new_key(hosted)
    batch = tmp_path / "batch.json"
    command = {"market": 1, "side": "BUY", "order_type": "LIMIT", "price_ticks": 600_000, "quantity_lots": 5}
    batch.write_text(json.dumps({"account": account, "shard": 1, "commands": [{"place": command}]}), "utf-8")
    done = clob(["sign", str(batch), "--environment", ENVIRONMENT], CLOB_PRIVATE_KEY=key.text)
    assert done.returncode == 0, done.stderr
    request = Parse(done.stdout, order_service_pb2.SubmitRequest())
    assert key.text not in done.stdout

    async def send() -> order_service_pb2.SubmitResponse:
        async with grpc.aio.insecure_channel(hosted.exchange.traders) as channel:
            answer: order_service_pb2.SubmitResponse = await order_service_pb2_grpc.OrderServiceStub(channel).Submit(
                request, timeout=CALL_S_MAX
            )
            return answer

    assert [event.WhichOneof("event") for event in hosted.run(send()).outcomes[0].events] == [
        "batch_result",
        "order_accepted",
    ]


@pytest.mark.parametrize("command", [["audit"], ["doctor"], ["shard", "list"], ["market", "list"]])
def test_operators_commands_find_the_exchange_well(hosted: Hosted, command: list[str]) -> None:
    hosted.run(settle_and_audit(hosted.exchange))
    done = clob([*command, "--address", hosted.exchange.admin, "--json"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)


TRADERS = {"OrderService", "AccountService", "MarketDataService", "VerificationService", "MatchingService"}
OPERATORS = {"AdminService", "SettlementService", "MatchingService", "MarketDataService", "VerificationService"}


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
@pytest.mark.parametrize("port", ["traders", "admin"])
def test_reflection_lists_all_services_and_describes_their_methods(hosted: Hosted, port: str, version: str) -> None:
    ours = TRADERS if port == "traders" else OPERATORS
    expected = {f"clob.v1.{name}" for name in ours}
    expected |= {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    symbols = [*sorted(expected), "clob.v1.MarketDataService.GetBook", "clob.v1.GetBookRequest"]

    async def ask() -> list[Any]:
        async with grpc.aio.insecure_channel(getattr(hosted.exchange, port)) as channel:
            method = channel.stream_stream(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
            requests += [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in symbols]
            return [answer async for answer in method(iter(requests), timeout=CALL_S_MAX)]

    listed, *described = hosted.run(ask())
    assert {service.name for service in listed.list_services_response.service} == expected
    for name, answer in zip(symbols, described, strict=True):
        assert answer.HasField("file_descriptor_response"), name
