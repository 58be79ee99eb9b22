"""`clob loadtest`: users, funds and signed payloads for load tests, and payloads that nobody sent yet."""

import asyncio
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from clob.v1.admin_service_pb2 import CreateUserRequest, DepositRequest
from clob.v1.market_data_service_pb2 import GetExchangeRequest
from clob.v1.operation_pb2 import ALLOCATION_POLICY_ONE_SHARD, Deposit
from exchange.cli.connection import Connection, operator_command
from exchange.cli.tables import draw_facts, draw_table
from exchange.client.aio import DEFAULT_ADDRESS, AsyncClient
from exchange.client.errors import ClientError
from exchange.client.keys import PrivateKey
from exchange.client.prepared import Plan, PreparedError, PreparedFolder, User
from exchange.client.preparing import Orders, Wanted, check_environment, write_folder
from exchange.domain.limits import REQUEST_ID_BYTES
from exchange.domain.rejects import RejectReason

EXIT_UNUSABLE: Final = 2
DEPOSITS_PER_CALL: Final = 1_000
CALLS_AT_ONCE: Final = 16
DEPOSIT_WAIT_MS: Final = 30_000
_FOLDER: Final = click.Path(file_okay=False, path_type=Path)
_COUNT: Final = click.IntRange(0, 10_000_000)


@click.group()
def loadtest() -> None:
    """Prepare load for tools that sign nothing, such as ghz; loadtest/README.md shows how."""


@loadtest.command("prepare")
@click.argument("folder", type=_FOLDER)
@click.option(
    "--traders", default=DEFAULT_ADDRESS, show_default=True, metavar="HOST:PORT", help="Traders' port of the exchange."
)
@click.option("--market", default="BTC-USD", show_default=True, help="Where the orders trade.")
@click.option("--users", type=click.IntRange(1, 100_000), default=100, show_default=True, help="To make.")
@click.option("--single", type=_COUNT, default=10_000, show_default=True, help="Messages of one order.")
@click.option("--batch", type=_COUNT, default=1_000, show_default=True, help="Messages of SIZE orders, signed once.")
@click.option("--many", type=_COUNT, default=1_000, show_default=True, help="Messages of SIZE orders, signed singly.")
@click.option("--verify", type=_COUNT, default=10_000, show_default=True, help="Messages for Verify, of one order.")
@click.option("--size", type=click.IntRange(1), default=64, show_default=True, help="Orders in a message of many.")
@click.option(
    "--valid-for",
    "valid_for_ms",
    type=click.IntRange(1),
    metavar="MS",
    help="How long the payloads are valid.  [default: as long as the environment allows, less a minute]",
)
@operator_command
def prepare(
    connection: Connection,
    folder: Path,
    traders: str,
    market: str,
    users: int,
    single: int,
    batch: int,
    many: int,
    verify: int,
    size: int,
    valid_for_ms: int | None,
) -> None:
    """Make users with keys and funds, and write payloads that they have signed to FOLDER, which must be new or empty.

    Every payload has a nonce of its own. The environment is one for load tests (`clob up --load-test`), and never
    production. `clob loadtest take` then hands the payloads out, each of them once. Private keys and the token of a
    session are in files that only their owner may read.
    """
    wanted = Wanted(users, single, batch, many, verify, size, valid_for_ms or 0)
    prepared = PreparedFolder(folder)
    try:
        wanted.check()
        plan = asyncio.run(_prepare(connection, prepared, traders, market, wanted))
    except (PreparedError, ClientError) as error:
        _fail(error)
    rows = [(name, stock.messages, stock.call) for name, stock in plan.stocks.items()]
    minutes = (plan.valid_until_ms - time.time_ns() // 1_000_000) // 60_000
    facts = [
        ("environment", plan.environment),
        ("market", f"{plan.symbol}, shard {plan.shard}"),
        ("users", f"{users:,}"),
        ("valid for", f"{minutes:,} min"),
    ]
    lines = [*draw_facts(facts), "", *draw_table(("PAYLOADS", "MESSAGES", "CALL"), rows, "lrl")]
    connection.show(_plan_json(plan, prepared), lines)


@loadtest.command("take")
@click.argument("folder", type=_FOLDER)
@click.argument("name")
@click.option("--calls", type=click.IntRange(1), required=True, help="Messages to hand out.")
@operator_command
def take(connection: Connection, folder: Path, name: str, calls: int) -> None:
    """Hand out messages of FOLDER that nobody got before, as FOLDER/NAME.bin.

    That is the file which loadtest/ghz/NAME.toml sends; give ghz the same number as --total. The exchange at --address
    must be the one that FOLDER is signed for. Messages of reads are the same each time.
    """
    prepared = PreparedFolder(folder)
    try:
        prepared.plan()
        exchange = connection.call(connection.market_data.GetExchange, GetExchangeRequest())
        part = prepared.take(exchange.environment, exchange.server_time_us // 1_000, name, calls)
        stock, taken = prepared.plan().stocks[name], prepared.taken().get(name, 0)
    except PreparedError as error:
        _fail(error)
    left = None if stock.reads else stock.messages - taken
    lines = draw_facts([("file", part), ("messages", calls), ("left", None if left is None else f"{left:,}")])
    connection.show({"file": str(part), "messages": calls, "left": left, "call": stock.call}, lines)


async def _prepare(connection: Connection, folder: PreparedFolder, traders: str, market: str, wanted: Wanted) -> Plan:
    exchange = connection.call(connection.market_data.GetExchange, GetExchangeRequest())
    keys = [PrivateKey.generate() for _ in range(wanted.users)]
    async with await AsyncClient.connect(traders, keys[0], environment=exchange.environment) as client:
        orders, valid_for_ms = await check_environment(client, market, wanted)
        folder.make()
        users = _make_users(connection, client.environment, keys)
        folder.write_users(users)
        _deposit(connection, users, orders, wanted)
        return await write_folder(folder, client, users, orders, wanted, valid_for_ms)


def _make_users(connection: Connection, environment: str, keys: list[PrivateKey]) -> list[User]:
    def make(key: PrivateKey) -> User:
        signature = key.registration(environment).signature
        request = CreateUserRequest(
            request_id=secrets.token_bytes(REQUEST_ID_BYTES), public_key=key.public_key, signature=signature
        )
        made = connection.call(connection.admin.CreateUser, request)
        return User(made.user_id, made.account_id, key.key_id.hex(), key.text)

    with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
        return list(pool.map(make, keys))


def _deposit(connection: Connection, users: list[User], orders: Orders, wanted: Wanted) -> None:
    deposits = [
        Deposit(
            account=user.account,
            asset=asset,
            amount_units=amount_units,
            allocate=ALLOCATION_POLICY_ONE_SHARD,
            to_shard=orders.market.shard,
        )
        for user in users
        for asset, amount_units in orders.needs(wanted).items()
    ]
    for start in range(0, len(deposits), DEPOSITS_PER_CALL):
        request = DepositRequest(
            request_id=secrets.token_bytes(REQUEST_ID_BYTES),
            deposits=deposits[start : start + DEPOSITS_PER_CALL],
            wait_ms_max=DEPOSIT_WAIT_MS,
        )
        answer = connection.call(connection.admin.Deposit, request, timeout_s=DEPOSIT_WAIT_MS / 1_000 + 10)
        refused = {RejectReason(result.reason).name for result in answer.results if result.reason}
        if refused:
            raise PreparedError(
                f"LOADTEST_FUNDS: deposits were refused: {', '.join(sorted(refused))}; ask for fewer payloads, or for "
                "a market whose orders need less"
            )
        if not answer.arrived:
            raise PreparedError(
                f"LOADTEST_FUNDS: deposits did not arrive in shard {orders.market.shard} within "
                f"{DEPOSIT_WAIT_MS // 1_000} s; `clob doctor` says what is wrong"
            )


def _plan_json(plan: Plan, folder: PreparedFolder) -> dict[str, Any]:
    return {
        "folder": str(folder.root),
        "environment": plan.environment,
        "market": plan.symbol,
        "shard": plan.shard,
        "valid_until_ms": plan.valid_until_ms,
        "session_until_ms": plan.session_until_ms,
        "stocks": {
            name: {"call": stock.call, "messages": stock.messages, "file": str(folder.stock_file(name))}
            for name, stock in plan.stocks.items()
        },
    }


def _fail(error: Exception) -> NoReturn:
    click.echo(f"Error: {error}", err=True)
    sys.exit(EXIT_UNUSABLE)
