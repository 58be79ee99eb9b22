"""`clob deposit`: money that arrived is credited to an account."""

import sys

import click

from clob.v1.admin_service_pb2 import DepositRequest
from clob.v1.event_pb2 import RejectReason
from clob.v1.operation_pb2 import AllocationPolicy, Deposit
from exchange.cli.amounts import AmountError, draw_units, parse_amount
from exchange.cli.connection import Connection, operator_command, request_id_option
from exchange.cli.directory import Directory
from exchange.domain.units import AMOUNT_UNITS_MAX, SHARD_MAX

_POLICIES = {
    "even": AllocationPolicy.ALLOCATION_POLICY_EVEN,
    "none": AllocationPolicy.ALLOCATION_POLICY_NONE,
}


def _allocation(value: str) -> tuple[AllocationPolicy, int]:
    """Return the policy and its shard."""
    text = value.lower()
    if text in _POLICIES:
        return _POLICIES[text], 0
    if text.isdigit() and 0 < int(text) <= SHARD_MAX:
        return AllocationPolicy.ALLOCATION_POLICY_ONE_SHARD, int(text)
    raise click.BadParameter(f"{value!r} is neither even, none nor the number of a shard")


@click.command()
@click.option("--account", required=True, type=click.IntRange(1, 2**64 - 1), help="Account that receives it.")
@click.option("--asset", "asset_name", required=True, metavar="SYMBOL|NUMBER", help="What arrived.")
@click.option("--amount", help="How much, such as 1000.50, in the asset's own decimals.")
@click.option("--units", type=click.IntRange(1, AMOUNT_UNITS_MAX), help="How much, in its smallest units.")
@click.option(
    "--allocate",
    type=_allocation,
    metavar="even|none|SHARD",
    default="even",
    show_default=True,
    help="Where it is put to work: in equal parts in all shards, in one shard, or nowhere: it stays in the treasury.",
)
@click.option(
    "--wait",
    "wait_ms_max",
    type=click.IntRange(1, 30_000),
    default=5_000,
    show_default=True,
    metavar="MS",
    help="Longest wait for it to arrive in the shards.",
)
@request_id_option
@operator_command
def deposit(
    connection: Connection,
    account: int,
    asset_name: str,
    amount: str | None,
    units: int | None,
    allocate: tuple[AllocationPolicy, int],
    wait_ms_max: int,
    request_id: bytes,
) -> None:
    """Credit an account with money that arrived.

    Ends with 1 when it is refused. Money that has not arrived in its shards yet is on its way, and safe.
    """
    if (amount is None) == (units is None):
        raise click.UsageError("say how much: --amount 1000.50, or --units 100050")
    asset = Directory(connection).asset(asset_name)
    try:
        amount_units = parse_amount(amount, asset) if amount is not None else units
    except AmountError as error:
        raise click.UsageError(str(error)) from None
    policy, to_shard = allocate
    made = Deposit(account=account, asset=asset.asset, amount_units=amount_units, allocate=policy, to_shard=to_shard)
    request = DepositRequest(request_id=request_id, deposits=[made], wait_ms_max=wait_ms_max)
    answer = connection.call(connection.admin.Deposit, request, timeout_s=connection.timeout_s + wait_ms_max / 1_000)
    reason = answer.results[0].reason
    if reason:
        name = RejectReason.Name(reason).removeprefix("REJECT_REASON_")
        connection.show(answer, [f"refused, {name}: nothing was credited"])
        sys.exit(1)
    drawn = f"{draw_units(made.amount_units, asset)} ({made.amount_units} units)"
    state = "arrived" if answer.arrived else "credited, and on its way to the shards"
    if policy == AllocationPolicy.ALLOCATION_POLICY_NONE:
        state = "credited, in the treasury"
    again = " (as answered before)" if answer.repeated else ""
    connection.show(answer, [f"{drawn} for account {account}: {state}{again}", f"request {request_id.hex()}"])
