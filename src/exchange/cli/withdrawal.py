"""`clob withdrawal` and `clob transfer`: money on its way out, and between shards."""

from datetime import UTC, datetime

import click

from clob.v1.admin_service_pb2 import CloseWithdrawalRequest, ListTransfersRequest, ListWithdrawalsRequest
from clob.v1.withdrawal_pb2 import Withdrawal, WithdrawalState
from exchange.cli.amounts import draw_units
from exchange.cli.connection import Connection, operator_command, request_id_option
from exchange.cli.directory import Directory
from exchange.cli.tables import draw_table
from exchange.ingress.http_json import message_to_json

_PREFIX = "WITHDRAWAL_STATE_"
_STATES = {
    "open": WithdrawalState.WITHDRAWAL_STATE_OPEN,
    "paid": WithdrawalState.WITHDRAWAL_STATE_PAID,
    "given-back": WithdrawalState.WITHDRAWAL_STATE_GIVEN_BACK,
}
_limit = click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Most rows to show.")
_account = click.option("--account", type=click.IntRange(1, 2**64 - 1), help="Only of this account.")


@click.group()
def withdrawal() -> None:
    """Look at withdrawals, and close them when they are paid.

    Traders ask for withdrawals with signed commands. One that is payable has been audited: pay it, then close it.
    """


@withdrawal.command("list")
@_account
@click.option("--state", type=click.Choice(sorted(_STATES)), help="Only those in this state.")
@_limit
@operator_command
def list_withdrawals(connection: Connection, account: int | None, state: str | None, limit: int) -> None:
    """List withdrawals, oldest first."""
    request = ListWithdrawalsRequest(account=account or 0, state=_STATES[state] if state else None)
    rows = connection.pages(connection.admin.ListWithdrawals, request, "withdrawals", limit)
    connection.show(
        [message_to_json(row) for row in rows], [] if connection.as_json else _draw(rows, Directory(connection))
    )


@withdrawal.command("close")
@click.argument("number", metavar="WITHDRAWAL", type=click.IntRange(1, 2**64 - 1))
@click.option("--paid", "state", flag_value="paid", help="The money has left.")
@click.option("--give-back", "state", flag_value="given-back", help="It has not left and will not: give it back.")
@request_id_option
@operator_command
def close_withdrawal(connection: Connection, number: int, state: str | None, request_id: bytes) -> None:
    """Say that a withdrawal was paid, or give its money back."""
    if state is None:
        raise click.UsageError("say what became of it: --paid or --give-back")
    request = CloseWithdrawalRequest(request_id=request_id, withdrawal=number, state=_STATES[state])
    done = connection.call(connection.admin.CloseWithdrawal, request)
    lines = [] if connection.as_json else _draw([done.withdrawal], Directory(connection))
    if done.repeated:
        lines.append("as answered before")
    connection.show(done, lines)


def _draw(rows: list[Withdrawal], directory: Directory) -> list[str]:
    return draw_table(
        ("WITHDRAWAL", "ACCOUNT", "AMOUNT", "STATE", "REQUESTED", "DESTINATION"),
        [
            (
                row.request.withdrawal,
                row.request.account,
                draw_units(row.request.amount_units, directory.assets.get(row.request.asset)),
                _state_of(row),
                _time(row.requested_us),
                row.request.destination,
            )
            for row in rows
        ],
        "rrr",
    )


def _state_of(row: Withdrawal) -> str:
    state = WithdrawalState.Name(row.state).removeprefix(_PREFIX).lower().replace("_", " ")
    return f"{state}, payable" if row.payable else state


@click.group()
def transfer() -> None:
    """Look at money on its way between treasury and shards."""


@transfer.command("list")
@_account
@_limit
@operator_command
def list_transfers(connection: Connection, account: int | None, limit: int) -> None:
    """List transfers that have not arrived yet, oldest first."""
    request = ListTransfersRequest(account=account or 0)
    rows = connection.pages(connection.admin.ListTransfers, request, "transfers", limit)
    lines: list[str] = []
    if not connection.as_json:
        assets = Directory(connection).assets
        lines = draw_table(
            ("FROM", "TO", "LINK", "ACCOUNT", "AMOUNT", "SINCE"),
            [
                (
                    row.from_shard,
                    row.to_shard,
                    row.link_sequence,
                    row.account or "exchange",
                    draw_units(row.amount_units, assets.get(row.asset)),
                    _time(row.debited_us),
                )
                for row in rows
            ],
            "rrrrr",
        )
    connection.show([message_to_json(row) for row in rows], lines)


def _time(t_us: int) -> str:
    return datetime.fromtimestamp(t_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if t_us else ""
