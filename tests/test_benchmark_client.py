"""`benchmark-client`, `clob order` and `clob sign` as a user starts them, against a real engine behind real gRPC."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import grpc
import msgspec
import pytest
from click.testing import CliRunner, Result
from google.protobuf.json_format import ParseDict

from clob.v1 import order_service_pb2, order_service_pb2_grpc, outcome_pb2
from exchange.cli.main import main as clob
from exchange.client.benchmark import main as benchmark
from exchange.client.books import LocalBook
from exchange.client.keys import PrivateKey
from exchange.client.load import LIVE_NONCES, Flow, Load
from exchange.client.options import private_key
from exchange.client.probing import Probe, band, meeting_price, probe_at, resting_probe, tick_from, tick_to
from exchange.domain.commands import Batch, CancelOrder, PlaceOrder, Side
from exchange.domain.markets import LotRule, Market, MarketState, TickRule
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.domain.units import AMOUNT_UNITS_MAX
from exchange.reference.signing import verify_one
from exchange.wire.messages import decode
from tests.support.mini_exchange import BTC, BTC_USD, ETH_USD, RICH, USD, MiniExchange, User, running_exchange

WAIT_S = 60


@pytest.fixture
def exchange() -> Iterator[MiniExchange]:
    with running_exchange() as running:
        yield running


@pytest.fixture
def alice(exchange: MiniExchange) -> User:
    return exchange.new_user()


def run_benchmark(exchange: MiniExchange, user: User, *options: str) -> "subprocess.CompletedProcess[str]":
    """Start benchmark-client as a process of its own, the key on its standard input."""
    return subprocess.run(
        [sys.executable, "-m", "exchange.client.benchmark", "-", "--address", exchange.address, *options],
        input=user.key.text,
        text=True,
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )


def run_clob(exchange: MiniExchange, user: User, *arguments: str, stdin: str | None = None) -> Result:
    """Run `clob` with a user's key in its environment."""
    environment = {"CLOB_PRIVATE_KEY": user.key.text, "CLOB_ADDRESS": exchange.address}
    return CliRunner(env=environment).invoke(clob, list(arguments), input=stdin)


def resting(exchange: MiniExchange, user: User) -> int:
    return sum(len(venue.engine.open_orders(user.account)) for venue in exchange.venues.values())


# --- one transaction ------------------------------------------------------------------------------------------------


def test_a_transaction_shows_every_stage_and_leaves_nothing_behind(exchange: MiniExchange, alice: User) -> None:
    done = run_benchmark(exchange, alice)
    assert (done.returncode, done.stderr) == (0, "")
    for stage in (
        "sent",
        "received",
        "verified",
        "framed",
        "sequenced",
        "taken",
        "executed",
        "durable",
        "answered",
        "got",
    ):
        assert re.search(rf"^{stage} ", done.stdout, re.MULTILINE), stage
    assert "BTC-USD" in done.stdout
    assert re.search(r"^end to end +[\d,]+ +[\d,]+$", done.stdout, re.MULTILINE)
    assert alice.key.text.removeprefix("clobsk_") not in done.stdout + done.stderr
    assert resting(exchange, alice) == 0


def test_a_transaction_as_json(exchange: MiniExchange, alice: User) -> None:
    done = run_benchmark(exchange, alice, "--json", "--count", "3")
    shown = json.loads(done.stdout)
    assert (shown["environment"], shown["symbol"], shown["account"]) == ("mini-1", "BTC-USD", str(alice.account))
    assert len(shown["transactions"]) == 3
    for transaction in shown["transactions"]:
        assert [command["status"] for command in transaction["commands"]] == ["RESTING", "CANCELLED"]
        for command in transaction["commands"]:
            times = list(command["since_sent_us"].values())
            assert times == sorted(times)
            assert command["end_to_end_us"] == times[-1]


def test_transactions_one_after_another_have_percentiles(exchange: MiniExchange, alice: User) -> None:
    done = run_benchmark(exchange, alice, "--count", "10", "--market", "eth-usd", "--side", "sell")
    assert done.returncode == 0
    assert "20 commands, 20 accepted" in done.stdout
    assert "ETH-USD" in done.stdout
    assert re.search(r"^end to end +([\d,]+ +){4}[\d,]+$", done.stdout, re.MULTILINE)


def test_an_order_as_one_says(exchange: MiniExchange, alice: User) -> None:
    done = run_benchmark(exchange, alice, "--side", "buy", "--price", "100", "--quantity", "7", "--json")
    commands = json.loads(done.stdout)["transactions"][0]["commands"]
    assert [command["status"] for command in commands] == ["RESTING", "CANCELLED"]
    refused = run_benchmark(exchange, alice, "--side", "buy", "--price", "1000")
    assert refused.returncode == 1
    assert "PRICE_OUTSIDE_BAND" in refused.stdout


def test_an_account_without_funds_is_told_what_to_do(exchange: MiniExchange, monkeypatch: pytest.MonkeyPatch) -> None:
    poor = exchange.new_user(funds=False)
    monkeypatch.setattr("exchange.client.benchmark.FUNDS_WAIT_S", 0.2)
    done = CliRunner().invoke(benchmark, ["-", "--address", exchange.address], input=poor.key.text)
    assert done.exit_code == 2
    assert "NO_FUNDS" in done.stderr
    assert "clob deposit" in done.stderr


def test_a_market_that_is_not_open_is_passed_over(exchange: MiniExchange, alice: User) -> None:
    exchange.set_state(BTC_USD, MarketState.HALTED)
    done = run_benchmark(exchange, alice)
    assert done.returncode == 0
    assert "ETH-USD" in done.stdout


def test_nobody_there(alice: User) -> None:
    done = CliRunner().invoke(benchmark, [alice.key.text, "--address", "127.0.0.1:1"])
    assert done.exit_code == 2
    assert "UNREACHABLE" in done.stderr


def test_options_that_do_not_go_together(exchange: MiniExchange, alice: User) -> None:
    for options in (["--duration", "3"], ["--rate", "5", "--count", "2"], ["--cert", __file__]):
        done = CliRunner().invoke(benchmark, ["-", "--address", exchange.address, *options], input=alice.key.text)
        assert done.exit_code == 2
    done = CliRunner().invoke(
        benchmark, ["-", "--rate", "5", "--batch", "4096", "--commands-per-signature", "2"], input=alice.key.text
    )
    assert "at most 4,096 commands" in done.stderr


# --- load -----------------------------------------------------------------------------------------------------------


def test_load_counts_every_order(exchange: MiniExchange, alice: User) -> None:
    done = run_benchmark(
        exchange,
        alice,
        "--rate",
        "200",
        "--duration",
        "1",
        "--connections",
        "2",
        "--batch",
        "4",
        "--trades",
        "20",
        "--json",
    )
    shown = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert (shown["commands"], shown["batches"], shown["messages"]) == (200, 200, 50)
    assert (shown["accepted"], shown["rejected"], shown["refused"]) == (200, {}, {})
    assert shown["trades"] >= 15
    assert (shown["lost"], shown["in_doubt"], shown["left_behind"]) == (0, 0, 0)
    assert shown["latency_us"]["end_to_end"]["p50"] <= shown["latency_us"]["end_to_end"]["max"]
    assert len(shown["latency_us"]) == 11
    assert shown["cpu_us"] > 0
    assert resting(exchange, alice) == 0


def test_load_with_faults_loses_nothing(exchange: MiniExchange, alice: User) -> None:
    exchange.faults.extend(["", "", "lose answer", "unknown", "overloaded", "lose request", "sequenced", "too fast"])
    done = run_benchmark(exchange, alice, "--rate", "100", "--duration", "0.5", "--json")
    shown = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert shown["commands"] == 50
    assert shown["accepted"] + sum(shown["refused"].values()) + sum(shown["rejected"].values()) == 50
    # A message that a broken stream sent again may be the one that is refused: that is a doubt, and is sent once more.
    assert set(shown["refused"]) <= {"OVERLOADED", "TOO_FAST"}
    assert (shown["in_doubt"] >= 2, shown["lost"]) == (True, 0)
    assert resting(exchange, alice) == 0


def test_load_for_people(exchange: MiniExchange, alice: User) -> None:
    done = run_benchmark(exchange, alice, "--rate", "500", "--duration", "0.4", "--commands-per-signature", "20")
    assert done.returncode == 0, done.stderr
    for line in ("accepted", "rejected", "refused", "lost", "end to end, from planned", "this process"):
        assert line in done.stdout


def load(**options: Any) -> Load:
    probe = probe_at(BTC_USD, Side.BUY, 50)
    values: dict[str, Any] = {
        "rate": 100,
        "duration_s": 1.0,
        "connections": 1,
        "batch": 1,
        "commands_per_signature": 1,
        "resting": probe,
    }
    return Load(**(values | options))


def test_validity_is_short_enough_for_the_nonces_of_a_key() -> None:
    for rate in (1, 100, 5_000, 20_000):
        valid_for_ms = load(rate=rate).valid_for_ms
        assert rate * valid_for_ms // 1_000 <= LIVE_NONCES
        assert valid_for_ms >= 2_000
    assert load(rate=1_000_000, commands_per_signature=512).valid_for_ms == 10_000


@pytest.mark.parametrize("percent", [0, 10, 20, 50, 100])
def test_so_many_orders_of_a_flow_come_in_pairs(percent: int) -> None:
    flow = Flow(load(trade_percent=percent, meeting_ticks=100, meeting_lots=2))
    commands = [command for command, _ in zip(flow, range(4_000), strict=False)]
    pairs = sum(isinstance(command, PlaceOrder) and command.price_ticks == 100 for command in commands)
    assert abs(pairs - 40 * percent) <= 4
    placed = {command.client_order_id for command in commands if isinstance(command, PlaceOrder)}
    cancelled = [command.client_order_id for command in commands if isinstance(command, CancelOrder)]
    assert set(cancelled) <= placed
    assert len(set(cancelled)) == len(cancelled)
    assert all(flow.has_made(client_order_id) for client_order_id in placed)


# --- orders to measure with -----------------------------------------------------------------------------------------

TABLED = msgspec.structs.replace(
    ETH_USD,
    tick_table=(TickRule(1, 3), TickRule(100, 25), TickRule(1_000, 70)),
    lot_table=(LotRule(1, 5), LotRule(500, 2)),
)


@pytest.mark.parametrize(
    ("low", "found"), [(1, 3), (3, 3), (4, 6), (98, 99), (100, 100), (101, 125), (990, 1_050), (1_001, 1_050)]
)
def test_the_lowest_price_from_here_on(low: int, found: int) -> None:
    assert tick_from(TABLED, low) == found


@pytest.mark.parametrize(
    ("high", "found"), [(2, 0), (5, 3), (101, 100), (124, 100), (999, 975), (1_049, 975), (1_050, 1_050)]
)
def test_the_highest_price_up_to_here(high: int, found: int) -> None:
    assert tick_to(TABLED, high) == found


def everything(_: int) -> int:
    return RICH


def test_a_probe_rests_away_from_the_market() -> None:
    book = LocalBook(1)
    assert resting_probe(BTC_USD, book, everything) == Probe(BTC_USD, Side.BUY, 50, 1, USD, 501)
    assert resting_probe(BTC_USD, book, everything, Side.SELL) == Probe(BTC_USD, Side.SELL, 200, 1, BTC, 1)
    only_base = {BTC: 5}
    found = resting_probe(BTC_USD, book, lambda asset: only_base.get(asset, 0))
    assert found is not None
    assert found.side is Side.SELL
    assert resting_probe(BTC_USD, book, lambda _: 0) is None
    unbanded = resting_probe(TABLED, book, everything, Side.SELL)
    assert unbanded is not None
    assert unbanded.price_ticks % 70 == 0
    assert unbanded.price_ticks * unbanded.quantity_lots * 10 < AMOUNT_UNITS_MAX // 2


def test_a_band_around_the_last_price_is_the_references() -> None:
    market = msgspec.structs.replace(BTC_USD, band_ppm=100_000)
    assert band(market, 0) == (50, 200)
    assert band(market, 101) == (91, 111)
    assert band(market, 1_000) == (50, 200)


@pytest.mark.parametrize("market", [BTC_USD, ETH_USD, TABLED])
@pytest.mark.parametrize("side", list(Side))
def test_pairs_meet_between_bid_and_ask(market: Market, side: Side) -> None:
    book = LocalBook(1)
    probe = resting_probe(market, book, everything, side)
    assert probe is not None
    price_ticks = meeting_price(probe, book)
    assert price_ticks
    assert price_ticks > probe.price_ticks if side is Side.BUY else price_ticks < probe.price_ticks


# --- keys -----------------------------------------------------------------------------------------------------------


def test_a_key_comes_from_the_argument_a_file_the_environment_or_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = PrivateKey.generate()
    file = tmp_path / "a.key"
    file.write_text(key.text + "\n")
    assert private_key(key.text, "127.0.0.1:1").key_id == key.key_id
    assert private_key(str(file), "10.0.0.1:1").key_id == key.key_id
    monkeypatch.setenv("CLOB_PRIVATE_KEY", key.text)
    assert private_key(None, "10.0.0.1:1").key_id == key.key_id
    assert capsys.readouterr().err == ""
    assert private_key(key.text, "10.0.0.1:1").key_id == key.key_id
    warned = capsys.readouterr().err
    assert "ps" in warned
    assert key.text not in warned


@pytest.mark.parametrize("text", ["", "clobsk_0123", "/no/such/file", "clobsk_" + "g" * 64, "a\0b"])
def test_what_is_no_key_is_refused_without_being_shown(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLOB_PRIVATE_KEY", raising=False)
    with pytest.raises(click.UsageError) as refused:
        private_key(text or None, "127.0.0.1:1")
    assert not text or text not in str(refused.value)


# --- clob order -----------------------------------------------------------------------------------------------------


def test_orders_from_the_command_line(exchange: MiniExchange, alice: User) -> None:
    placed = run_clob(exchange, alice, "order", "place", "btc-usd", "buy", "10", "--price", "100", "--json")
    assert placed.exit_code == 0, placed.output
    shown = json.loads(placed.stdout)
    assert (shown["status"], shown["open_lots"]) == ("RESTING", "10")
    order_id = shown["order_id"]
    assert "10" in run_clob(exchange, alice, "order", "list").stdout
    assert run_clob(exchange, alice, "order", "reduce", order_id, "--by", "3").exit_code == 0
    assert run_clob(exchange, alice, "order", "replace", order_id, "--price", "90").exit_code == 0
    (listed,) = json.loads(run_clob(exchange, alice, "order", "list", "--market", "1", "--json").stdout)
    assert (listed["price_ticks"], listed["open_lots"], listed["side"]) == ("90", "7", "BUY")
    assert run_clob(exchange, alice, "order", "cancel", order_id).exit_code == 0
    again = run_clob(exchange, alice, "order", "cancel", order_id)
    assert (again.exit_code, "UNKNOWN_ORDER" in again.stdout) == (1, True)
    assert "no open orders" in run_clob(exchange, alice, "order", "list").stdout


def test_orders_by_their_own_name(exchange: MiniExchange, alice: User) -> None:
    place = ("order", "place", "1", "sell", "5", "--price", "150", "--client-order-id", "7", "--post-only")
    assert run_clob(exchange, alice, *place).exit_code == 0
    nameless = run_clob(exchange, alice, "order", "cancel", "--client-order-id", "7")
    assert (nameless.exit_code, "SHARD_UNKNOWN" in nameless.stderr) == (2, True)
    assert run_clob(exchange, alice, "order", "cancel", "--client-order-id", "7", "--market", "1").exit_code == 0
    assert run_clob(exchange, alice, "order", "cancel").exit_code == 2
    assert run_clob(exchange, alice, "order", "cancel-all", "--market", "1").exit_code == 0
    assert run_clob(exchange, alice, "order", "cancel-all").exit_code == 2


def test_funds_from_the_command_line(exchange: MiniExchange, alice: User) -> None:
    assert run_clob(exchange, alice, "order", "release", "usd", "12.50", "--from-shard", "1").exit_code == 0
    assert run_clob(exchange, alice, "order", "allocate", "USD", "250", "--to-shard", "2", "--units").exit_code == 0
    assert run_clob(exchange, alice, "order", "withdraw", "USD", "1", "an account").exit_code == 0
    shown = run_clob(exchange, alice, "order", "balances").stdout
    assert re.search(r"treasury +9 USD", shown)
    assert re.search(r"withdrawal 1 +1 USD", shown)
    poor = run_clob(exchange, alice, "order", "withdraw", "USD", "100", "an account")
    assert (poor.exit_code, "needs 10,000 units of asset 2, 900 are free" in poor.stdout) == (1, True)
    for wrong in (("XYZ", "1"), ("USD", "1.234"), ("USD", "-")):
        assert run_clob(exchange, alice, "order", "release", *wrong, "--from-shard", "1").exit_code == 2


def test_another_environment_is_refused_on_the_command_line(exchange: MiniExchange, alice: User) -> None:
    done = run_clob(exchange, alice, "order", "place", "1", "buy", "1", "--price", "60", "--environment", "production")
    assert (done.exit_code, "WRONG_ENVIRONMENT" in done.stderr) == (2, True)
    assert exchange.submits == 0


# --- clob sign ------------------------------------------------------------------------------------------------------

BATCH = {
    "account": 1,
    "shard": 1,
    "commands": [
        {"place": {"market": 1, "side": "BUY", "order_type": "LIMIT", "price_ticks": "60", "quantity_lots": 5}},
        {"place": {"market": 1, "side": "SIDE_SELL", "orderType": "ORDER_TYPE_LIMIT", "price_ticks": 150}},
        {"cancel_all": {}},
    ],
}


def run_sign(key: PrivateKey, text: str, *options: str) -> Result:
    environment = {"CLOB_PRIVATE_KEY": key.text}
    return CliRunner(env=environment).invoke(clob, ["sign", "-", "--environment", "mini-1", *options], input=text)


def test_what_is_signed_is_what_grpcurl_sends(exchange: MiniExchange, alice: User) -> None:
    done = run_sign(alice.key, json.dumps({**BATCH, "account": alice.account}), "--stages")
    assert done.exit_code == 0, done.stderr
    request = ParseDict(json.loads(done.stdout), order_service_pb2.SubmitRequest())
    with grpc.insecure_channel(exchange.address) as channel:
        answer = order_service_pb2_grpc.OrderServiceStub(channel).Submit(request, timeout=WAIT_S)
    (outcome,) = answer.outcomes
    assert outcome.state == outcome_pb2.SEND_STATE_EXECUTED
    assert [event.WhichOneof("event") for event in outcome.events] == [
        "batch_result",
        "order_accepted",
        "command_rejected",
        "cancel_all_accepted",
        "order_cancelled",
        "cancel_all_done",
    ]
    assert len(answer.stages) == 1


def test_a_list_of_batches_with_nonce_and_time_of_ones_own() -> None:
    key = PrivateKey.generate()
    named = {**BATCH, "nonce": "18446744073709551615", "valid_until_ms": 5}
    done = run_sign(key, json.dumps([named, BATCH]), "--sequenced")
    request = json.loads(done.stdout)
    assert (request["environment"], request["wait"]) == ("mini-1", "WAIT_LEVEL_SEQUENCED")
    first, second = (decode(Batch, base64.b64decode(one["payload"])) for one in request["batches"])
    assert (first.nonce, first.valid_until_ms) == (2**64 - 1, 5)
    assert second.nonce
    assert second.valid_until_ms > 1_700_000_000_000
    for one in request["batches"]:
        covered = signed_bytes(SignedKind.BATCH, "mini-1", base64.b64decode(one["payload"]))
        assert verify_one(key.public_key, covered, base64.b64decode(one["signature"]))
        assert base64.b64decode(one["key_id"]) == key.key_id


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "NOT_JSON"),
        ("3", "NOT_A_BATCH: the text"),
        ("[]", "BATCH_MISSING"),
        ("[3]", "NOT_A_BATCH: [0]"),
        ('{"acount": 1}', "UNKNOWN_FIELD: acount: Batch has account, shard"),
        ('{"account": 1}', "LENGTH: commands"),
        ('{"account": 0, "commands": [{"cancel": {}}]}', "OUT_OF_RANGE: account"),
        ('{"account": 1, "shard": 4096, "commands": [{"cancel": {}}]}', "OUT_OF_RANGE: shard"),
        (
            '[{"account": 1, "commands": [{"place": {"side": "HOLD"}}]}]',
            "[0].commands[0].place.side: 'HOLD' is none of",
        ),
        ('{"account": 1, "commands": [{"place": {"price_ticks": -1}}]}', "price_ticks"),
        ('{"account": 1, "commands": [{"place": {"price_ticks": 1.5}}]}', "price_ticks"),
        ('{"account": 1, "commands": [{}]}', "ONEOF_MISSING: commands[0]"),
        ('{"account": 1, "commands": [{"place": 3}]}', "commands[0].place: PlaceOrder is an object"),
        ('{"account": 1, "commands": [{"place": {}, "cancel": {}}]}', "NOT_A_BATCH"),
        ('{"account": 1, "commands": [{"withdraw": {"destination": "\\ud800"}}]}', ""),
    ],
)
def test_what_is_no_batch_is_refused_by_the_name_of_the_field(text: str, sentence: str) -> None:
    done = run_sign(PrivateKey.generate(), text)
    assert done.exit_code == 2, done.output
    assert sentence in done.stderr
    assert done.stdout == ""


def test_nothing_is_signed_for_an_environment_that_was_not_named(tmp_path: Path) -> None:
    file = tmp_path / "batch.json"
    file.write_text(json.dumps(BATCH))
    key = PrivateKey.generate().text
    clean = {name: None for name in os.environ if name.startswith("CLOB_")}
    done = CliRunner(env=clean).invoke(clob, ["sign", str(file), "--key", key])
    assert (done.exit_code, "--environment" in done.stderr) == (2, True)
    done = CliRunner(env=clean).invoke(clob, ["sign", str(file), "--key", key, "--environment", "No Such"])
    assert (done.exit_code, "INVALID_ENVIRONMENT" in done.stderr) == (2, True)
