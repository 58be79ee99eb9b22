"""`clob doctor`: what is wrong with the exchange, and what to do."""

import sys

import click

from clob.v1.admin_service_pb2 import CheckState, DiagnoseRequest
from exchange.cli.connection import Connection, operator_command

EXIT_FAILED = 1
_MARKS = {
    CheckState.CHECK_STATE_OK: "ok     ",
    CheckState.CHECK_STATE_WARNING: "WARNING",
    CheckState.CHECK_STATE_FAILED: "FAILED ",
}


@click.command()
@operator_command
def doctor(connection: Connection) -> None:
    """Examine the environment and say what is wrong and what to do. Ends with 1 when a check failed."""
    found = connection.call(connection.admin.Diagnose, DiagnoseRequest())
    width = max((len(check.name) for check in found.checks), default=0)
    lines = []
    for check in found.checks:
        lines.append(f"{_MARKS.get(check.state, '?      ')}  {check.name:<{width}}  {check.found}")
        if check.remedy:
            lines.append(f"{'':>{width + 11}}{check.remedy}")
    failed = sum(check.state == CheckState.CHECK_STATE_FAILED for check in found.checks)
    warnings = sum(check.state == CheckState.CHECK_STATE_WARNING for check in found.checks)
    lines.append(f"{len(found.checks)} checks, {failed} failed, {warnings} want attention")
    connection.show(found, lines)
    if failed:
        sys.exit(EXIT_FAILED)
