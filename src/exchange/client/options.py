"""What traders' commands are told on the command line: the exchange's address, TLS, the key and where it comes from."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from exchange.client.aio import DEFAULT_ADDRESS, VALID_FOR_MS, AsyncClient
from exchange.client.keys import ENVIRONMENT_VARIABLE, PrivateKey
from exchange.client.transport import Tls, is_loopback
from exchange.domain.signing import PRIVATE_KEY_PREFIX, PrivateKeyError

EXIT_NOT_DONE: Final = 1
EXIT_UNUSABLE: Final = 2
C = TypeVar("C", bound=Callable[..., Any])

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_ADDRESS: Final = (
    click.option("--address", default=DEFAULT_ADDRESS, envvar="CLOB_ADDRESS", show_default=True, help="Traders' port."),
    click.option(
        "--environment",
        envvar="CLOB_ENVIRONMENT",
        metavar="NAME",
        help="Environment that you mean; nothing is signed for another. Without it, the one that answers.",
    ),
    click.option("--tls/--plaintext", "tls", default=None, help="Plaintext is the default on loopback only."),
    click.option("--ca", type=_FILE, help="Certificates to trust, PEM."),
    click.option("--cert", type=_FILE, help="Own certificate, PEM."),
    click.option("--cert-key", type=_FILE, help="Private key of --cert, PEM."),
)


@dataclass(frozen=True, slots=True)
class Where:
    """The exchange that a command is about."""

    address: str
    environment: str | None
    tls: Tls | bool | None

    async def connect(
        self, key: PrivateKey | None, *, account: int = 0, valid_for_ms: int = VALID_FOR_MS, patience_s: float = 10.0
    ) -> AsyncClient:
        """Return a client; errors are those of AsyncClient.connect."""
        return await AsyncClient.connect(
            self.address,
            key,
            environment=self.environment,
            account=account,
            tls=self.tls,
            valid_for_ms=valid_for_ms,
            patience_s=patience_s,
        )


def address_options(command: C) -> C:
    """Add --address, --environment and the TLS options to a command."""
    for option in reversed(_ADDRESS):
        command = option(command)
    return command


def where_of(
    address: str,
    environment: str | None,
    tls: bool | None,
    ca: Path | None,
    cert: Path | None,
    cert_key: Path | None,
) -> Where:
    """Return what the options of `address_options` say.

    Raises:
        click.UsageError: they contradict one another.
    """
    if (cert is None) != (cert_key is None):
        raise click.UsageError("--cert and --cert-key belong together")
    files = ca or cert
    if files and tls is False:
        raise click.UsageError("--plaintext sends everything in the clear: --ca and --cert have no use then")
    return Where(address, environment, Tls.from_files(ca, cert, cert_key) if files else tls)


def private_key(given: str | None, address: str) -> PrivateKey:
    """Return the key that a command is to use. No message shows any of it.

    Args:
        given: the key, a file that holds it, or - for standard input; None: the variable CLOB_PRIVATE_KEY has one of
            these.
        address: that it is used with, for the warning.

    Raises:
        click.UsageError: there is none, or it is no key.
    """
    text = given if given is not None else os.environ.get(ENVIRONMENT_VARIABLE, "")
    if not text:
        raise click.UsageError(
            f"no key: set {ENVIRONMENT_VARIABLE} to it or to the file that holds it, or say - and send it on standard "
            "input; `curl -X POST http://127.0.0.1:9090/users` makes a user with a key"
        )
    try:
        if text == "-":
            return PrivateKey.from_text(sys.stdin.read())
        if not text.strip().startswith(PRIVATE_KEY_PREFIX):
            return PrivateKey.from_file(text)
        if given is not None and not is_loopback(address):
            click.echo(
                f"warning: a key on the command line is seen by everybody on this machine (ps); use "
                f"{ENVIRONMENT_VARIABLE}, a file or -",
                err=True,
            )
        return PrivateKey.from_text(text)
    except PrivateKeyError as error:
        raise click.UsageError(str(error)) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no path"
        raise click.UsageError(
            f"the key is neither '{PRIVATE_KEY_PREFIX}' and 64 hex digits nor a file that can be read ({reason}); "
            "what was given is not shown"
        ) from None
