"""`clob shard` and `clob process`: how the parts of the exchange are doing."""

import time

import click

from clob.v1.admin_service_pb2 import ListProcessesRequest, ListShardsRequest, ProcessState, ShardOverview
from clob.v1.matching_service_pb2 import GetShardRequest, ShardStatus
from clob.v1.outcome_pb2 import Durability
from exchange.cli.connection import Connection, operator_command
from exchange.cli.tables import draw_facts, draw_table
from exchange.ingress.http_json import message_to_json


@click.group()
def shard() -> None:
    """Look at shards."""


@shard.command("list")
@operator_command
def list_shards(connection: Connection) -> None:
    """List shards, by number, shard 0 first: how far each is executed and settled."""
    rows = connection.pages(connection.admin.ListShards, ListShardsRequest(), "shards")
    lines = draw_table(
        ("SHARD", "PROCESS", "STATE", "EXECUTED", "WAITING", "SETTLED", "AUDITED", "MARKETS", "OPEN ORDERS"),
        [_row(row) for row in rows],
        "rllrrrrrr",
    )
    stopped = [
        f"shard {row.entry.shard}: {row.status.stopped or row.settlement.stopped}"
        for row in rows
        if row.status.stopped or row.settlement.stopped
    ]
    connection.show([message_to_json(row) for row in rows], [*lines, *stopped])


def _row(row: ShardOverview) -> tuple[object, ...]:
    status, settlement = row.status, row.settlement
    if not row.HasField("status"):
        known: tuple[object, ...] = ("no answer", None, None)
    else:
        executed = status.executed.n
        state = "stopped" if status.stopped else "runs"
        known = (state, f"{executed:,}", f"{max(0, status.orders_n - executed):,}")
    settled: tuple[object, ...] = (None, None)
    if row.HasField("settlement"):
        settled = ("stopped" if settlement.stopped else f"{settlement.settled.n:,}", f"{settlement.audited_n:,}")
    return (
        row.entry.shard,
        row.address or "none",
        *known,
        *settled,
        f"{status.markets:,}" if row.HasField("status") else None,
        f"{status.open_orders:,}" if row.HasField("status") else None,
    )


@shard.command("show")
@click.argument("number", metavar="SHARD", type=click.IntRange(0, 4095))
@click.option("--state-hash", is_flag=True, help="Compute the state hash too, which stops the engine for a moment.")
@operator_command
def show_shard(connection: Connection, number: int, state_hash: bool) -> None:
    """Show how a shard is doing, by what its engine knows."""
    request = GetShardRequest(shard=number, with_state_hash=state_hash)
    found = connection.call(connection.matching.GetShard, request)
    connection.show(found, _draw(found.status, found.state_hash))


def _draw(status: ShardStatus, state_hash: bytes) -> list[str]:
    settings = status.settings
    durability = Durability.Name(status.durability).removeprefix("DURABILITY_").lower()
    return draw_facts(
        [
            ("shard", status.executed.shard),
            ("executed", f"{status.executed.n:,}, chain {status.executed.chain_hash.hex()}"),
            ("waiting", f"{max(0, status.orders_n - status.executed.n):,} entries"),
            ("durable", f"{status.durable_n:,} ({durability})"),
            ("state hash", state_hash.hex() or None),
            ("engine", f"{status.engine}, epoch {status.epoch}, rules {status.rules} of {status.rules_max}"),
            ("control floor", f"{status.control_floor:,}"),
            ("markets", f"{status.markets:,}"),
            ("accounts", f"{status.accounts:,}"),
            ("open orders", f"{status.open_orders:,}"),
            ("live nonces", f"{status.live_nonces:,}"),
            ("timers", f"{status.timers:,}, mass cancels under way {status.pending_cancel_alls:,}"),
            (
                "settings",
                (
                    f"validity {settings.max_validity_ms:,} ms, {settings.live_nonces_per_key_max:,} nonces a key, "
                    f"{settings.open_orders_per_account_max:,} open orders an account"
                ),
            ),
            ("stopped", status.stopped or None),
        ]
    )


@click.group()
def process() -> None:
    """Look at processes."""


@process.command("list")
@operator_command
def list_processes(connection: Connection) -> None:
    """List the processes of the environment, by kind and address."""
    rows = connection.pages(connection.admin.ListProcesses, ListProcessesRequest(), "processes")
    now_us = time.time_ns() // 1_000
    lines = draw_table(
        ("KIND", "ADDRESS", "STATE", "SHARDS", "PID", "UP", "VERSION", "MESSAGE"),
        [
            (
                row.kind,
                row.address,
                ProcessState.Name(row.state).removeprefix("PROCESS_STATE_").lower(),
                _ranges(list(row.shards)),
                row.pid,
                _duration(now_us - row.started_us),
                row.version,
                row.message,
            )
            for row in rows
        ],
        "llllrr",
    )
    connection.show([message_to_json(row) for row in rows], lines)


def _duration(us: int) -> str:
    seconds = max(0, us) // 1_000_000
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7_200:
        return f"{seconds // 60} min"
    return f"{seconds // 3_600} h"


def _ranges(numbers: list[int]) -> str:
    """Return ascending numbers as `0-3,7`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)
