"""`clob audit`: all money there is against all that came in and went out."""

import sys

import click

from clob.v1.market_pb2 import Asset
from clob.v1.settlement_service_pb2 import AuditLine, AuditRequest, AuditResponse, SettleRequest
from exchange.cli.amounts import draw_units
from exchange.cli.connection import Connection, operator_command
from exchange.cli.directory import Directory
from exchange.cli.tables import draw_table
from exchange.ingress.http_json import message_to_json

EXIT_NOT_PASSED = 1


@click.command()
@click.option("--asset", "names", metavar="SYMBOL|NUMBER", multiple=True, help="Only this one; may be repeated.")
@click.option("--settle", is_flag=True, help="First wait until everything that is in the logs now is settled.")
@click.option("--units", "in_units", is_flag=True, help="Show smallest units.")
@operator_command
def audit(connection: Connection, names: tuple[str, ...], settle: bool, in_units: bool) -> None:
    """Add up all money: treasury + transit + shards + fees against deposits - withdrawals, per asset.

    Ends with 1 when an asset does not balance, a shard has stopped, or one is not audited as far as it is settled.
    """
    directory = Directory(connection)
    assets = [directory.asset(name).asset for name in names]
    if settle:
        connection.call(connection.settlement.Settle, SettleRequest())
    found = connection.call(connection.settlement.Audit, AuditRequest(assets=assets))
    lines: list[str] = []
    if not connection.as_json:
        lines = _draw(found, {} if in_units else directory.assets)
    connection.show({**message_to_json(found), "balanced": _is_balanced(found)}, lines)
    if not (found.passed and _is_balanced(found)):
        sys.exit(EXIT_NOT_PASSED)


def _is_balanced(found: AuditResponse) -> bool:
    """Return whether every line balances, by our own sum as well as by the exchange's."""
    return all(line.difference_units == 0 == _difference(line) for line in found.lines)


def _difference(line: AuditLine) -> int:
    there = line.treasury_units + line.transit_units + line.shards_units + line.fees_units
    return int(there - (line.deposited_units - line.withdrawn_units))


def _draw(found: AuditResponse, assets: dict[int, Asset]) -> list[str]:
    columns = ("treasury", "transit", "shards", "fees", "deposited", "withdrawn")
    rows = []
    for line in found.lines:
        asset = assets.get(line.asset)
        amounts = [_amount(getattr(line, f"{column}_units"), asset) for column in columns]
        rows.append((line.symbol or line.asset, *amounts, _amount(_difference(line), asset)))
    headers = ("ASSET", *(column.upper() for column in columns), "DIFFERENCE")
    lines = draw_table(headers, rows, "lrrrrrrr") if rows else ["no money yet"]
    positions = []
    for position in found.positions:
        settled = position.settled
        positions.append(
            f"shard {settled.shard}: settled to {settled.n:,} of {position.executions_n:,}, audited to "
            f"{position.audited_n:,}" + (f", STOPPED: {position.stopped}" if position.stopped else "")
        )
    if found.passed and _is_balanced(found):
        verdict = "balanced: treasury + transit + shards + fees = deposited - withdrawn, in every asset"
    elif not _is_balanced(found):
        verdict = "NOT BALANCED"
    else:
        verdict = "NOT PASSED: the sums balance, and a shard has stopped or is not audited as far as it is settled"
    return [*lines, "", *positions, "", verdict]


def _amount(units: int, asset: Asset | None) -> str:
    return draw_units(units, asset).partition(" ")[0]
