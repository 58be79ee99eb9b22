"""`clob token`: tokens of operators beyond the exchange's machine, in the file that the operators' port reads."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from exchange.cli.tables import draw_table
from exchange.ingress.front_methods import Role
from exchange.ingress.front_tokens import (
    CertificateRoles,
    TokenFileError,
    Tokens,
    create_token,
    read_tokens,
    write_tokens,
)

_file = click.option(
    "--file",
    envvar="CLOB_ADMIN_TOKENS",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(".clob/keys/tokens.json"),
    show_default=True,
    show_envvar=True,
    help="File of the tokens' hashes; clob up reads keys/tokens.json of its data folder.",
)
_roles = click.option(
    "--role",
    "roles",
    multiple=True,
    required=True,
    type=click.Choice([role.value for role in Role]),
    help="What it may do; may be repeated. None contains another.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.group()
def token() -> None:
    """Make and revoke operators' tokens. They are needed beyond the exchange's own machine only."""


@token.command("create")
@click.argument("name")
@_roles
@click.option("--days", type=click.IntRange(1, 3_650), default=90, show_default=True, help="How long it is good.")
@_file
@_json
def create(name: str, roles: tuple[str, ...], days: int, file: Path, as_json: bool) -> None:
    """Make a token called NAME and print it: the only time that it is told."""
    expires_ms = time.time_ns() // 1_000_000 + days * 86_400_000
    try:
        made = create_token(file, name, tuple(Role(role) for role in roles), expires_ms)
    except TokenFileError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        click.echo(json.dumps({"name": name, "roles": list(roles), "token": made, "expires_ms": expires_ms}))
    else:
        click.echo(made)


@token.command("certificate")
@click.argument("name")
@click.argument("fingerprint")
@_roles
@_file
@_json
def certificate(name: str, fingerprint: str, roles: tuple[str, ...], file: Path, as_json: bool) -> None:
    """Let the owner of a client certificate in.

    FINGERPRINT is the SHA-256 of its DER form, as openssl x509 -noout -fingerprint -sha256 prints it.
    """
    # The whole line that openssl prints will do as well.
    digits = fingerprint.rpartition("=")[2].strip().lower().replace(":", "")
    try:
        found = read_tokens(file)
        added = CertificateRoles(name, tuple(Role(role) for role in roles), digits)
        write_tokens(file, Tokens(found.tokens, (*found.certificates, added)))
    except TokenFileError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        click.echo(json.dumps({"name": name, "roles": list(roles), "fingerprint": digits}))


@token.command("list")
@_file
@_json
def list_tokens(file: Path, as_json: bool) -> None:
    """List tokens and certificates: names and roles, never the tokens."""
    try:
        found = read_tokens(file)
    except TokenFileError as error:
        raise click.UsageError(str(error)) from None
    rows = [("token", entry.name, entry.roles, entry.expires_ms) for entry in found.tokens]
    rows += [("certificate", owner.name, owner.roles, 0) for owner in found.certificates]
    if as_json:
        names = ("kind", "name", "roles", "expires_ms")
        click.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2))
        return
    drawn = [(kind, name, ", ".join(roles), _day(expires_ms)) for kind, name, roles, expires_ms in rows]
    click.echo("\n".join(draw_table(("KIND", "NAME", "ROLES", "ENDS"), drawn)))


@token.command("revoke")
@click.argument("name")
@_file
@_json
def revoke(name: str, file: Path, as_json: bool) -> None:
    """End the token or certificate called NAME, within a second."""
    try:
        found = read_tokens(file)
        kept = Tokens(
            tuple(entry for entry in found.tokens if entry.name != name),
            tuple(owner for owner in found.certificates if owner.name != name),
        )
        if kept == found:
            raise click.UsageError(f"{file} has nobody called {name!r}; clob token list shows all")
        write_tokens(file, kept)
    except TokenFileError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        click.echo(json.dumps({"revoked": name}))


def _day(t_ms: int) -> str:
    return datetime.fromtimestamp(t_ms // 1_000, UTC).strftime("%Y-%m-%d") if t_ms else "never"
