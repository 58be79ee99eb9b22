"""`clob config`: which settings a process has, and where each comes from."""

import click

from clob.v1.admin_service_pb2 import GetConfigRequest
from exchange.cli.connection import Connection, operator_command
from exchange.cli.tables import draw_table


@click.group()
def config() -> None:
    """Look at settings."""


@config.command("show")
@click.argument("process", metavar="[PROCESS]", default="")
@operator_command
def show_config(connection: Connection, process: str) -> None:
    """Show the settings of a process and where each comes from; secrets are hidden.

    PROCESS is an address of `clob process list`; without it, the settlement plane, which answers.
    """
    found = connection.call(connection.admin.GetConfig, GetConfigRequest(address=process))
    rows = [(row.name, "(secret)" if row.secret else row.value, row.origin) for row in found.settings]
    connection.show(found, draw_table(("NAME", "VALUE", "ORIGIN"), rows))
