"""`clob user`, `clob account` and `clob key`: who may trade, with what."""

import json
import sys
from pathlib import Path
from typing import Final

import click

from clob.v1.admin_service_pb2 import (
    CreateUserRequest,
    GetAccountRequest,
    GetAccountResponse,
    GetUserRequest,
    ListKeysRequest,
    ListUsersRequest,
    OpenAccountRequest,
    RegisterKeyRequest,
    RevokeKeyRequest,
)
from clob.v1.market_data_service_pb2 import GetExchangeRequest
from clob.v1.state_pb2 import KeyState
from exchange.cli.amounts import draw_units
from exchange.cli.connection import Connection, operator_command, request_id_option
from exchange.cli.directory import Directory
from exchange.cli.tables import draw_facts, draw_table
from exchange.client.keys import PrivateKey
from exchange.domain.limits import KEY_ID_BYTES
from exchange.domain.signing import PRIVATE_KEY_PREFIX, PrivateKeyError
from exchange.ingress.http_json import message_to_json

KEY_MODE: Final = 0o600
_ACCOUNT = click.IntRange(1, 2**64 - 1)


def _private_key(text: str) -> PrivateKey:
    """Return a private key: itself, in a file that holds it, or on standard input (-). No message shows any of it."""
    try:
        if text == "-":
            return PrivateKey.from_text(sys.stdin.read())
        if text.startswith(PRIVATE_KEY_PREFIX):
            return PrivateKey.from_text(text)
        return PrivateKey.from_file(text)
    except PrivateKeyError as error:
        raise click.BadParameter(str(error)) from None
    except OSError as error:
        raise click.BadParameter(f"the file cannot be read: {error.strerror}") from None


def _key_id(text: str) -> bytes:
    """Return the 16 bytes of a key id."""
    try:
        key_id = bytes.fromhex(text)
    except ValueError:
        key_id = b""
    if len(key_id) != KEY_ID_BYTES:
        raise click.BadParameter(f"{text[:40]!r} is no key id: it has 32 hex digits")
    return key_id


# --- users ----------------------------------------------------------------------------------------------------------


@click.group()
def user() -> None:
    """Make and look at users."""


@user.command("create")
@click.option(
    "--public-key-of",
    "key",
    type=_private_key,
    metavar="FILE|KEY",
    help="Register the public key of this private key, which stays here. Without it the exchange makes the key pair "
    "and tells the private key once.",
)
@click.option("--environment", help="Name of the environment that you mean; without it, what the exchange says.")
@request_id_option
@operator_command
def create_user(connection: Connection, key: PrivateKey | None, environment: str | None, request_id: bytes) -> None:
    """Make a user with its first account and first key.

    FILE holds a private key as `clob key new` writes it; - is standard input.
    """
    request = CreateUserRequest(request_id=request_id)
    if key is not None:
        environment = environment or _environment_of(connection)
        signed = key.registration(environment)
        request.public_key, request.signature = key.public_key, signed.signature
    made = connection.call(connection.admin.CreateUser, request)
    directory = Directory(connection)
    funds = (
        []
        if connection.as_json
        else [
            f"{draw_units(amount.amount_units, directory.assets.get(amount.asset))} in each shard"
            for amount in made.starting_funds
        ]
    )
    lost = None
    if not made.private_key and key is None:
        lost = "lost: this repeats an earlier request, whose answer had it; register another key"
    connection.show(
        made,
        draw_facts(
            [
                ("user", made.user_id),
                ("account", made.account_id),
                ("key id", made.key_id.hex()),
                ("private key", made.private_key or lost),
                ("environment", made.environment),
                *(("starting funds", line) for line in funds),
                ("repeated", "yes, the first answer stands" if made.repeated else None),
            ]
        ),
    )


@user.command("show")
@click.argument("number", metavar="USER", type=_ACCOUNT)
@operator_command
def show_user(connection: Connection, number: int) -> None:
    """Show a user with its accounts and keys."""
    found = connection.call(connection.admin.GetUser, GetUserRequest(user=number))
    accounts = ", ".join(str(account) for account in found.user.accounts) or "none"
    lines = draw_facts([("user", found.user.user), ("accounts", accounts)])
    connection.show(found, [*lines, "", *_draw_keys(found.keys)])


@user.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Most users to show.")
@operator_command
def list_users(connection: Connection, limit: int) -> None:
    """List users, by number."""
    users = connection.pages(connection.admin.ListUsers, ListUsersRequest(), "users", limit)
    rows = [(found.user, ", ".join(str(account) for account in found.accounts)) for found in users]
    connection.show([message_to_json(found) for found in users], draw_table(("USER", "ACCOUNTS"), rows, "r"))


# --- accounts -------------------------------------------------------------------------------------------------------


@click.group()
def account() -> None:
    """Open and look at accounts."""


@account.command("open")
@click.argument("number", metavar="USER", type=_ACCOUNT)
@request_id_option
@operator_command
def open_account(connection: Connection, number: int, request_id: bytes) -> None:
    """Open another account of a user."""
    made = connection.call(connection.admin.OpenAccount, OpenAccountRequest(user=number, request_id=request_id))
    connection.show(made, [f"account {made.account}" + (" (as answered before)" if made.repeated else "")])


@account.command("show")
@click.argument("number", metavar="ACCOUNT", type=_ACCOUNT)
@operator_command
def show_account(connection: Connection, number: int) -> None:
    """Show what an account has and where."""
    found = connection.call(connection.admin.GetAccount, GetAccountRequest(account=number))
    lines = [] if connection.as_json else _draw_account(found, number, Directory(connection))
    connection.show(found, lines)


def _draw_account(found: GetAccountResponse, number: int, directory: Directory) -> list[str]:
    assets = directory.assets
    rows: list[tuple[object, ...]] = [
        (
            "treasury" if part.cursor.shard == 0 else f"shard {part.cursor.shard}",
            draw_units(balance.free_units, assets.get(balance.asset)),
            draw_units(balance.locked_units, assets.get(balance.asset)),
        )
        for part in found.balances.shards
        for balance in part.balances
    ]
    for moving in found.balances.transit:
        amount = draw_units(moving.amount_units, assets.get(moving.asset))
        rows.append((f"shard {moving.from_shard} to {moving.to_shard}", amount, "on its way"))
    for leaving in found.balances.withdrawals:
        amount = draw_units(leaving.amount_units, assets.get(leaving.asset))
        rows.append((f"withdrawal {leaving.withdrawal}", amount, "set aside"))
    return [
        *draw_facts([("account", number), ("user", found.user)]),
        "",
        *draw_table(("WHERE", "FREE", "LOCKED"), rows, "lrr"),
    ]


# --- keys -----------------------------------------------------------------------------------------------------------


@click.group()
def key() -> None:
    """Make, register, revoke and list keys."""


@key.command("new")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def new_key(file: Path, as_json: bool) -> None:
    """Make a key pair and write the private key to FILE, which must not exist and only its owner may read.

    Nobody is told. `clob user create --public-key-of FILE` makes a user with it, `clob key register` gives it to one.
    """
    made = PrivateKey.generate()
    try:
        file.touch(mode=KEY_MODE, exist_ok=False)
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}; a key is never written over something else") from None
    file.write_text(made.text + "\n", "utf-8")
    if as_json:
        click.echo(json.dumps({"key_id": made.key_id.hex(), "public_key": made.public_key.hex()}))
    else:
        click.echo("\n".join(draw_facts([("key id", made.key_id.hex()), ("public key", made.public_key.hex())])))


@key.command("register")
@click.argument("number", metavar="USER", type=_ACCOUNT)
@click.argument("key", metavar="FILE|KEY", type=_private_key)
@click.option("--account", "account_number", type=_ACCOUNT, help="The one account that it may sign for; else all.")
@click.option("--environment", help="Name of the environment that you mean; without it, what the exchange says.")
@request_id_option
@operator_command
def register_key(
    connection: Connection,
    number: int,
    key: PrivateKey,
    account_number: int | None,
    environment: str | None,
    request_id: bytes,
) -> None:
    """Give a user another key. FILE holds a private key, which stays here; - is standard input."""
    signed = key.registration(environment or _environment_of(connection), number, account_number or 0)
    request = RegisterKeyRequest(
        request_id=request_id,
        user=number,
        account=account_number or 0,
        public_key=key.public_key,
        signature=signed.signature,
    )
    made = connection.call(connection.admin.RegisterKey, request)
    connection.show(made, [f"key {made.key_id.hex()}" + (" (as answered before)" if made.repeated else "")])


@key.command("revoke")
@click.argument("key_id", metavar="KEY_ID", type=_key_id)
@request_id_option
@operator_command
def revoke_key(connection: Connection, key_id: bytes, request_id: bytes) -> None:
    """Revoke a key for ever; ends with 1 while a shard may still execute what it signed before."""
    done = connection.call(connection.admin.RevokeKey, RevokeKeyRequest(request_id=request_id, key_id=key_id))
    pending = ", ".join(str(shard) for shard in done.shards_pending)
    lines = [f"key {key_id.hex()} is revoked" + (" (as answered before)" if done.repeated else "")]
    if pending:
        lines.append(f"shards that may still execute what was verified before: {pending}; ask again to see it done")
    connection.show(done, lines)
    if pending:
        sys.exit(1)


@key.command("list")
@click.option("--user", "number", type=_ACCOUNT, help="Only this user's.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Most keys to show.")
@operator_command
def list_keys(connection: Connection, number: int | None, limit: int) -> None:
    """List keys, by key id, revoked ones too."""
    keys = connection.pages(connection.admin.ListKeys, ListKeysRequest(user=number or 0), "keys", limit)
    connection.show([message_to_json(found) for found in keys], _draw_keys(keys))


def _draw_keys(keys: list[KeyState]) -> list[str]:
    rows = [
        (found.key_id.hex(), found.user, found.account or "all", "revoked" if found.revoked else "") for found in keys
    ]
    return draw_table(("KEY ID", "USER", "ACCOUNT", ""), rows, "lrr")


def _environment_of(connection: Connection) -> str:
    exchange = connection.call(connection.market_data.GetExchange, GetExchangeRequest())
    return str(exchange.environment)
