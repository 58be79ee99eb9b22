"""Operators' commands against the operators' port, with small real services behind it."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from clob.v1.admin_service_pb2 import Check, CheckState
from clob.v1.market_pb2 import Asset, MarketState
from clob.v1.operation_pb2 import AllocationPolicy
from clob.v1.state_pb2 import OpenWithdrawal
from clob.v1.withdrawal_pb2 import Withdrawal, WithdrawalState
from exchange.cli.amounts import AmountError, draw_units, parse_amount
from exchange.cli.main import main
from exchange.client.keys import PrivateKey
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.ingress.front_methods import Role
from exchange.ingress.front_tokens import TokenStore, create_token
from exchange.reference.signing import verify_one
from tests.support.front_backends import ENVIRONMENT, Exchange, Running

USD = Asset(asset=1, symbol="USD", decimals=2)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = Running(tmp_path_factory.mktemp("cli"))
    made.listing.list_market(1, 1, "BTC-USD")
    yield made
    made.close()


@pytest.fixture
def exchange(running: Running) -> Exchange:
    """Return the exchange behind the port, as new but for its assets USD and BTC."""
    control = running.control
    control.__init__()  # type: ignore[misc]
    control.assets = {1: USD, 2: Asset(asset=2, symbol="BTC", decimals=8)}
    return control


def clob(running: Running | None, *arguments: str, exit_code: int = 0, **extra: Any) -> Result:
    """Run a command against the port and expect its exit code."""
    environ = {"CLOB_ADDRESS": running.address if running else ""}
    result = CliRunner().invoke(main, arguments, env=environ, **extra)
    assert result.exit_code == exit_code, (result.output, result.stderr, result.exception)
    return result


def asked(running: Running, *arguments: str, exit_code: int = 0) -> Any:
    """Return what a command with --json prints."""
    return json.loads(clob(running, *arguments, "--json", exit_code=exit_code).stdout)


# --- all of them ----------------------------------------------------------------------------------------------------

COMMANDS = [
    ("user", "create"),
    ("user", "show"),
    ("user", "list"),
    ("account", "open"),
    ("account", "show"),
    ("key", "register"),
    ("key", "revoke"),
    ("key", "list"),
    ("market", "create"),
    ("market", "list"),
    ("market", "show"),
    ("market", "state"),
    ("deposit",),
    ("withdrawal", "list"),
    ("withdrawal", "close"),
    ("transfer", "list"),
    ("book",),
    ("shard", "list"),
    ("shard", "show"),
    ("process", "list"),
    ("audit",),
    ("doctor",),
    ("config", "show"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_an_address_and_json(command: tuple[str, ...]) -> None:
    text = clob(None, *command, "--help").stdout
    assert "--address" in text
    assert "--json" in text
    assert "CLOB_ADDRESS" in text


@pytest.mark.parametrize(
    "command", [("user", "list"), ("audit",), ("doctor",), ("book", "1"), ("market", "list")], ids=" ".join
)
def test_an_exchange_that_does_not_answer_is_exit_code_2(command: tuple[str, ...]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        result = CliRunner().invoke(main, [*command, "--address", address])
        assert result.exit_code == 2
        assert "UNREACHABLE" in result.stderr
        result = CliRunner().invoke(main, [*command, "--address", address, "--json"])
        assert json.loads(result.stdout)["error"]["code"] == "UNAVAILABLE"


@pytest.mark.parametrize("address", ["", "9090", "host", "host:port", "host:0", "ftp://host:1"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    result = CliRunner().invoke(main, ["doctor", "--address", address])
    assert result.exit_code == 2
    assert "HOST:PORT" in result.stderr


def test_an_error_says_reason_fields_and_under_which_name_to_send_it_again(
    running: Running, exchange: Exchange
) -> None:
    name = "ab" * 16
    arguments = ("withdrawal", "close", "9", "--paid", "--request-id", name)
    text = clob(running, *arguments, exit_code=2).stderr
    assert "UNKNOWN_WITHDRAWAL: there is no withdrawal 9" in text
    assert f"--request-id {name}" in text
    error = asked(running, *arguments, exit_code=2)
    assert error["error"]["reason"] == "UNKNOWN_WITHDRAWAL"
    assert error["request_id"] == name


# --- tokens ---------------------------------------------------------------------------------------------------------


def test_a_token_goes_along_from_a_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    token = create_token(file, "reader", (Role.READ,))
    strict = Running(tmp_path, {"admin_tokens": str(file), "admin_loopback_trusted": "false"})
    try:
        assert "TOKEN_REQUIRED" in clob(strict, "user", "list", exit_code=2).stderr
        held = tmp_path / "token"
        held.write_text(token + "\n", "utf-8")
        clob(strict, "user", "list", "--token-file", str(held))
        environ = {"CLOB_ADDRESS": strict.address, "CLOB_TOKEN": token}
        result = CliRunner().invoke(main, ["user", "create"], env=environ)
        assert "ROLE_REQUIRED" in result.stderr
        assert token not in result.output
    finally:
        strict.close()


def test_a_token_is_not_sent_unencrypted_beyond_this_machine() -> None:
    environ = {"CLOB_TOKEN": "clobtk_" + "00" * 32}
    result = CliRunner().invoke(main, ["doctor", "--address", "exchange.example:9090"], env=environ)
    assert result.exit_code == 2
    assert "unencrypted" in result.stderr


def test_tokens_are_made_listed_and_revoked(tmp_path: Path) -> None:
    file = str(tmp_path / "keys" / "tokens.json")
    made = clob(None, "token", "create", "desk", "--role", "read", "--role", "money", "--file", file).stdout.strip()
    store = TokenStore(Path(file))
    principal = store.by_token(made)
    assert principal is not None
    assert principal.roles == {Role.READ, Role.MONEY}
    arguments = ("certificate", "payments", "AB:" * 31 + "AB", "--role", "money", "--file", file, "--json")
    assert json.loads(clob(None, "token", *arguments).stdout)["fingerprint"] == "ab" * 32
    listed = json.loads(clob(None, "token", "list", "--file", file, "--json").stdout)
    assert [(row["kind"], row["name"]) for row in listed] == [("token", "desk"), ("certificate", "payments")]
    assert made not in clob(None, "token", "list", "--file", file).stdout
    assert json.loads(clob(None, "token", "revoke", "desk", "--file", file, "--json").stdout) == {"revoked": "desk"}
    assert TokenStore(Path(file)).by_token(made) is None
    clob(None, "token", "revoke", "desk", "--file", file, exit_code=2)


# --- users ----------------------------------------------------------------------------------------------------------


def test_user_create_tells_the_private_key_once(running: Running, exchange: Exchange) -> None:
    first = clob(running, "user", "create", "--request-id", "11" * 16).stdout
    assert re.search(r"private key +clobsk_[0-9a-f]{64}", first)
    assert "10,000,000,000 BTC in each shard" in first
    again = clob(running, "user", "create", "--request-id", "11" * 16).stdout
    assert "lost: this repeats an earlier request" in again


def test_user_create_with_a_key_of_ones_own_proves_possession_and_sends_no_secret(
    running: Running, exchange: Exchange, tmp_path: Path
) -> None:
    file = tmp_path / "trader.key"
    other = json.loads(clob(None, "key", "new", str(file.with_name("other")), "--json").stdout)
    assert [len(other[name]) for name in ("key_id", "public_key")] == [32, 64]
    clob(None, "key", "new", str(file))
    assert file.stat().st_mode & 0o077 == 0
    clob(None, "key", "new", str(file), exit_code=2)
    key = PrivateKey.from_file(file)
    for given in (str(file), key.text):
        user = asked(running, "user", "create", "--public-key-of", given)
        assert user["private_key"] == ""
        request = exchange.calls[-1][1]
        assert request.public_key == key.public_key
        signed = signed_bytes(SignedKind.REGISTER, ENVIRONMENT, b"\x0a\x20" + key.public_key)
        assert verify_one(key.public_key, signed, request.signature)


def test_a_file_without_a_key_is_refused_and_not_shown(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "wrong"
    file.write_text("clobsk_secret", "utf-8")
    result = clob(running, "user", "create", "--public-key-of", str(file), exit_code=2)
    assert "INVALID_PRIVATE_KEY" in result.stderr
    assert "clobsk_secret" not in result.output


def test_users_are_listed_over_pages_and_shown(running: Running, exchange: Exchange) -> None:
    exchange.users = {number: [100 + number] for number in range(1, 2_501)}
    assert len(asked(running, "user", "list", "--limit", "2400")) == 2_400
    assert asked(running, "user", "show", "7")["user"] == {"user": "7", "accounts": ["107"]}
    assert "107" in clob(running, "user", "show", "7").stdout
    assert "UNKNOWN_USER" in clob(running, "user", "show", "9999", exit_code=2).stderr


def test_accounts_and_keys(running: Running, exchange: Exchange) -> None:
    assert "account 500" in clob(running, "account", "open", "1").stdout
    shown = clob(running, "account", "show", "101").stdout
    assert "treasury" in shown
    assert "46,116,860,184,273,879.04 USD" in re.sub(r" +", " ", shown)
    key = PrivateKey.generate()
    clob(running, "key", "register", "1", key.text, "--account", "101")
    assert exchange.calls[-1][1].account == 101
    assert "revoked" in clob(running, "key", "list").stdout
    assert "ask again" in clob(running, "key", "revoke", "ff" * 16, exit_code=1).stdout
    clob(running, "key", "revoke", "00" * 16)
    clob(running, "key", "revoke", "short", exit_code=2)


# --- markets --------------------------------------------------------------------------------------------------------


def test_21000_markets_are_made_in_chunks_and_a_repeat_changes_nothing(running: Running, exchange: Exchange) -> None:
    arguments = ("market", "create", "--count", "21000", "--request-id", "33" * 16)
    made = asked(running, *arguments)
    assert (made["made"], made["refused"], made["repeated_calls"]) == (21_000, 0, 0)
    assert exchange.markets[21_000].symbol == "BTC21000-USD"
    chunks = [request for method, request, _ in exchange.calls if method == "CreateMarkets"]
    assert [len(chunk.markets) for chunk in chunks] == [1_024] * 20 + [520]
    assert len({chunk.request_id for chunk in chunks}) == 21
    again = asked(running, *arguments)
    assert (again["made"], again["repeated_calls"]) == (21_000, 21)
    assert len(exchange.markets) == 21_000


def test_progress_goes_to_stderr(running: Running, exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.cli.market._PROGRESS_LOG_S", 0.0)
    result = clob(running, "market", "create", "--count", "2048", "--json")
    assert "1,024 of 2,048 markets (50 %)" in result.stderr
    assert json.loads(result.stdout)["made"] == 2_048


def test_markets_from_a_file_name_assets_by_symbol(running: Running, exchange: Exchange, tmp_path: Path) -> None:
    file = tmp_path / "markets.json"
    rows = {
        "assets": [{"symbol": "SOL", "decimals": 9}],
        "markets": [
            {
                "symbol": "SOL-USD",
                "base_asset": "SOL",
                "quote_asset": "USD",
                "base_units_per_lot": 1000,
                "quote_units_per_tick_lot": 1,
                "tick_table": [{"from_price_ticks": 1, "multiple_ticks": 5}],
            }
        ],
    }
    file.write_text(json.dumps(rows), "utf-8")
    assert "1 of 1 markets" in clob(running, "market", "create", str(file)).stdout
    market = exchange.markets[1]
    assert (market.base_asset, market.quote_asset, market.tick_table[0].multiple_ticks) == (3, 1, 5)
    refused = clob(running, "market", "create", str(file), exit_code=1).stdout
    assert "SOL-USD: ALREADY_DEFINED" in refused
    file.write_text('[{"symbol": "X", "bas_asset": 1}]', "utf-8")
    assert "did you mean base_asset" in clob(running, "market", "create", str(file), exit_code=2).stderr


def test_markets_are_listed_shown_and_halted(running: Running, exchange: Exchange) -> None:
    clob(running, "market", "create", "--symbol", "btc-usd", "--maker-fee-ppm", "7")
    clob(running, "market", "create", "--symbol", "ETH-USD", "--base", "ETH")
    assert [row["symbol"] for row in asked(running, "market", "list")] == ["BTC-USD", "ETH-USD"]
    assert asked(running, "market", "show", "BTC-USD")["maker_fee_ppm"] == 7
    assert "halted" in clob(running, "market", "state", "halt", "BTC-USD", "2").stdout
    assert {market.state for market in exchange.markets.values()} == {MarketState.MARKET_STATE_HALTED}
    clob(running, "market", "state", "open", "--all")
    assert {market.state for market in exchange.markets.values()} == {MarketState.MARKET_STATE_OPEN}
    assert "market 77: UNKNOWN_MARKET" in clob(running, "market", "state", "halted", "77", exit_code=1).stdout
    clob(running, "market", "state", "post-only", "1", "--at", "2031-05-01T12:00:00Z")
    assert exchange.calls[-1][1].effective_us == 1_935_403_200_000_000
    clob(running, "market", "state", "halted", exit_code=2)
    clob(running, "market", "state", "halted", "NO-SUCH", exit_code=2)


def test_the_book_by_level_and_by_order(running: Running, exchange: Exchange) -> None:
    clob(running, "market", "create", "--symbol", "BTC-USD")
    assert "BTC-USD, open" in clob(running, "book", "BTC-USD").stdout
    assert asked(running, "book", "1")["book"]["bids"] == [{"price_ticks": "5", "quantity_lots": "6", "orders": 1}]
    assert "1 buy and 0 sell orders" in clob(running, "book", "1", "--orders", "5").stdout


# --- money ----------------------------------------------------------------------------------------------------------


def test_deposits_count_in_decimals_or_units(running: Running, exchange: Exchange) -> None:
    exchange.users = {1: [101]}
    text = clob(running, "deposit", "--account", "101", "--asset", "usd", "--amount", "1,000.5").stdout
    assert "1,000.5 USD (100050 units) for account 101: arrived" in text
    clob(running, "deposit", "--account", "101", "--asset", "2", "--units", "7", "--allocate", "2")
    deposit = exchange.calls[-1][1].deposits[0]
    assert (deposit.asset, deposit.amount_units, deposit.to_shard) == (2, 7, 2)
    assert deposit.allocate == AllocationPolicy.ALLOCATION_POLICY_ONE_SHARD
    refused = clob(running, "deposit", "--account", "9", "--asset", "USD", "--units", "7", exit_code=1).stdout
    assert "UNKNOWN_ACCOUNT" in refused
    for wrong in (("--amount", "1.005"), ("--amount", "-1"), ("--amount", "0"), ("--units", "0"), ()):
        clob(running, "deposit", "--account", "101", "--asset", "USD", *wrong, exit_code=2)
    clob(running, "deposit", "--account", "101", "--asset", "NONE", "--units", "1", exit_code=2)


def test_withdrawals_are_listed_and_closed(running: Running, exchange: Exchange) -> None:
    request = OpenWithdrawal(withdrawal=4, account=101, asset=1, amount_units=250, destination="iban")
    exchange.withdrawals[4] = Withdrawal(
        request=request, state=WithdrawalState.WITHDRAWAL_STATE_OPEN, requested_us=1_700_000_000_000_000, payable=True
    )
    listed = clob(running, "withdrawal", "list", "--state", "open").stdout
    assert "2.5 USD" in listed
    assert "open, payable" in listed
    assert "2023-11-14" in listed
    clob(running, "withdrawal", "close", "4", exit_code=2)
    assert "paid" in clob(running, "withdrawal", "close", "4", "--paid").stdout
    assert exchange.withdrawals[4].state == WithdrawalState.WITHDRAWAL_STATE_PAID
    assert "0.05 USD" in clob(running, "transfer", "list").stdout


def test_the_audit_ends_with_1_when_money_is_missing(running: Running, exchange: Exchange) -> None:
    exchange.deposited = {1: 123_456, 2: 0}
    text = clob(running, "audit", "--settle").stdout
    assert "balanced: treasury + transit + shards + fees = deposited - withdrawn" in text
    assert re.search(r"USD +1,234.56 +0 +0 +0 +1,234.56 +0 +0", text)
    exchange.missing_units = 1
    text = clob(running, "audit", "--asset", "USD", exit_code=1).stdout
    assert "NOT BALANCED" in text
    assert "-0.01" in text
    assert asked(running, "audit", exit_code=1)["balanced"] is False


@pytest.mark.parametrize(
    ("text", "units"), [("1", 100), ("0.01", 1), ("1_000", 100_000), ("1,000.50", 100_050), ("2.500", 250)]
)
def test_amounts_are_exact(text: str, units: int) -> None:
    assert parse_amount(text, USD) == units


@pytest.mark.parametrize("text", ["", ".5", "1e3", "-1", "0", "0.001", "1.2.3", "92233720368547758.08", "٣"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(AmountError):
        parse_amount(text, USD)


def test_amounts_are_drawn_in_the_assets_own_decimals() -> None:
    assert draw_units(100_050, USD) == "1,000.5 USD"
    assert draw_units(-1, USD) == "-0.01 USD"
    assert draw_units(5, Asset(symbol="JPY")) == "5 JPY"
    assert draw_units(5_000, None) == "5,000 units"


# --- how it is doing ------------------------------------------------------------------------------------------------


def test_shards_and_processes(running: Running, exchange: Exchange) -> None:
    text = clob(running, "shard", "list").stdout
    assert re.search(r"0 +127.0.0.1:1 +runs +5 +2 +5 +5", text)
    assert re.search(r"1 +none +no answer", text)
    assert "2 entries" in clob(running, "shard", "show", "1").stdout
    assert asked(running, "shard", "show", "0")["status"]["engine"] == "reference"
    assert "1-3,7" in clob(running, "process", "list").stdout
    assert "UNKNOWN_SHARD" in clob(running, "shard", "show", "9", exit_code=2).stderr


def test_doctor_ends_with_1_when_a_check_failed(running: Running, exchange: Exchange) -> None:
    exchange.checks = [Check(name="bus", state=CheckState.CHECK_STATE_OK, found="it answers")]
    assert "1 checks, 0 failed" in clob(running, "doctor").stdout
    exchange.checks.append(
        Check(name="disk", state=CheckState.CHECK_STATE_FAILED, found="full", remedy="make some room")
    )
    text = clob(running, "doctor", exit_code=1).stdout
    assert "FAILED   disk  full" in text
    assert "make some room" in text


def test_config_hides_secrets_and_says_origins(running: Running, exchange: Exchange) -> None:
    text = clob(running, "config", "show", "127.0.0.1:7").stdout
    assert exchange.calls[-1][1].address == "127.0.0.1:7"
    assert re.search(r"redis_addr +\(secret\) +flag --redis-addr", text)
