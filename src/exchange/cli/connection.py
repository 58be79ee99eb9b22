"""The connection of operators' commands to port 9090: address, TLS, token, and what goes wrong on the way."""

import functools
import json
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, ParamSpec, TypeVar

import click
import grpc
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status

from clob.v1 import (
    admin_service_pb2_grpc,
    market_data_service_pb2_grpc,
    matching_service_pb2_grpc,
    settlement_service_pb2_grpc,
)
from exchange.domain.limits import REQUEST_ID_BYTES
from exchange.ingress.http_errors import error_body
from exchange.ingress.http_json import JsonError, message_to_json, read_request_id
from exchange.serving import errors
from exchange.serving.callers import is_loopback_host

DEFAULT_ADDRESS: Final = "127.0.0.1:9090"
EXIT_CALL_FAILED: Final = 2
MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024
PAGE_SIZE_MAX: Final = 1_000

_File = click.Path(exists=True, dir_okay=False, path_type=Path)
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class Connection:
    """Speaks gRPC to the operators' port.

    Attributes:
        address: host:port.
        as_json: print results as JSON.
        timeout_s: longest time that a call may take.
        admin, settlement, matching, market_data: stubs of the services.
    """

    def __init__(
        self, address: str, credentials: grpc.ChannelCredentials | None, token: str, timeout_s: float, as_json: bool
    ) -> None:
        self.address = address
        self.as_json = as_json
        self.timeout_s = timeout_s
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        options = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ]
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            self._channel = grpc.secure_channel(address, credentials, options)
        self.admin = admin_service_pb2_grpc.AdminServiceStub(self._channel)
        self.settlement = settlement_service_pb2_grpc.SettlementServiceStub(self._channel)
        self.matching = matching_service_pb2_grpc.MatchingServiceStub(self._channel)
        self.market_data = market_data_service_pb2_grpc.MarketDataServiceStub(self._channel)

    def close(self) -> None:
        """End it."""
        self._channel.close()

    def call(self, method: Any, request: Message, *, timeout_s: float | None = None) -> Any:
        """Return the response to a request.

        Args:
            method: of one of the stubs.
            request: its request.
            timeout_s: longest time that it may take; None: as the command was told.

        Raises:
            CallFailedError: it failed.
        """
        try:
            return method(request, timeout=timeout_s or self.timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise CallFailedError(self.address, errors.status_of_error(error), request) from None

    def pages(self, method: Any, request: Any, rows: str, rows_max: int | None = None) -> list[Any]:
        """Return the rows of all pages of a list, or the first `rows_max` of them."""
        found: list[Any] = []
        while True:
            left = PAGE_SIZE_MAX if rows_max is None else min(PAGE_SIZE_MAX, rows_max - len(found))
            if left <= 0:
                return found
            request.page_size = left
            page = self.call(method, request)
            found.extend(getattr(page, rows))
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    def show(self, value: Message | dict[str, Any] | list[Any], lines: Sequence[str]) -> None:
        """Print a result: a value as JSON, or lines for people."""
        if self.as_json:
            shown = message_to_json(value) if isinstance(value, Message) else value
            click.echo(json.dumps(shown, indent=2))
        else:
            for line in lines:
                click.echo(line)


class CallFailedError(Exception):
    """A call failed, or there is nobody to call.

    Attributes:
        status: what it failed with, the exchange's own words where it has some.
        request_id: under which it can be made again; empty: it has none.
    """

    def __init__(self, address: str, status: Status, request: Message) -> None:
        super().__init__(status.message)
        self.status = status
        if not status.details and status.code == Code.UNAVAILABLE:
            self.status = Status(
                code=status.code,
                message=f"UNREACHABLE: {address} does not answer ({status.message}); is the exchange running there "
                "(clob up), is it the operators' port, and is it TLS or plaintext?",
            )
        elif not status.details and status.code == Code.DEADLINE_EXCEEDED:
            self.status = Status(
                code=status.code,
                message=f"TIMED_OUT: no answer from {address} in time, and whether anything was changed is not known; "
                "--timeout allows more",
            )
        self.request_id: bytes = getattr(request, "request_id", b"")


def ask(connection: Connection, command: Callable[[], _Result]) -> _Result:
    """Return what a command returns; where a call of it fails, say so and end with 2."""
    try:
        return command()
    except CallFailedError as error:
        if connection.as_json:
            body = error_body(error.status)
            if error.request_id:
                body["request_id"] = error.request_id.hex()
            click.echo(json.dumps(body, indent=2))
        else:
            click.echo(f"Error: {error.status.message}", err=True)
            for path, what in error_body(error.status)["error"]["fields"].items():
                click.echo(f"  {path}: {what}", err=True)
            if error.request_id:
                click.echo(
                    f"To make the same request again, and once only: --request-id {error.request_id.hex()}", err=True
                )
        sys.exit(EXIT_CALL_FAILED)
    finally:
        connection.close()


# --- options --------------------------------------------------------------------------------------------------------


def operator_command(
    command: Callable[..., _Result],
) -> Callable[..., _Result]:
    """Return a command with the options of the connection; it gets a Connection first."""

    @functools.wraps(command)
    def connected(**options: Any) -> _Result:
        names = ("address", "token_file", "tls", "tls_ca", "tls_cert", "tls_key", "plaintext", "timeout", "as_json")
        given = {name: options.pop(name) for name in names}
        connection = _connect(**given)
        return ask(connection, lambda: command(connection, **options))

    for option in reversed(_OPTIONS):
        connected = option(connected)
    return connected


_OPTIONS: Final = (
    click.option(
        "--address",
        envvar="CLOB_ADDRESS",
        default=DEFAULT_ADDRESS,
        show_default=True,
        show_envvar=True,
        metavar="HOST:PORT",
        help="Operators' port of the exchange.",
    ),
    click.option(
        "--token-file",
        envvar="CLOB_TOKEN_FILE",
        type=_File,
        help="File with the operator's token; CLOB_TOKEN has the token itself. Not needed on the exchange's machine.",
    ),
    click.option("--tls", is_flag=True, help="Use TLS, and trust what this machine trusts."),
    click.option("--tls-ca", type=_File, help="Use TLS, and trust these issuers (PEM)."),
    click.option("--tls-cert", type=_File, help="Show this certificate (PEM chain)."),
    click.option("--tls-key", type=_File, help="Private key of the certificate (PEM)."),
    click.option("--plaintext", is_flag=True, help="Send a token without TLS beyond this machine."),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0.001, max=86_400),
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="Longest time that a call may take.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
)


def _connect(
    address: str,
    token_file: Path | None,
    tls: bool,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    plaintext: bool,
    timeout: float,
    as_json: bool,
) -> Connection:
    scheme, separator, rest = address.partition("://")
    if separator:
        if scheme not in ("http", "https"):
            _refuse(f"--address {address}: it is HOST:PORT, such as {DEFAULT_ADDRESS}")
        tls, address = tls or scheme == "https", rest.rstrip("/")
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65_536:
        _refuse(f"--address {address}: it is HOST:PORT, such as {DEFAULT_ADDRESS}")
    if (tls_cert is None) != (tls_key is None):
        _refuse("--tls-cert and --tls-key belong together; give both")
    token = token_file.read_text("utf-8").strip() if token_file else os.environ.get("CLOB_TOKEN", "").strip()
    if not token.isascii() or any(character.isspace() for character in token):
        _refuse("the token is not one: it is clobtk_ and 64 hex digits, on one line")
    tls = tls or tls_ca is not None or tls_cert is not None
    if token and not tls and not plaintext and not is_loopback_host(host.strip("[]")):
        _refuse(f"a token would go to {host} unencrypted; use --tls or --tls-ca, or say --plaintext if you mean it")
    credentials = None
    if tls:
        credentials = grpc.ssl_channel_credentials(
            tls_ca.read_bytes() if tls_ca else None,
            tls_key.read_bytes() if tls_key else None,
            tls_cert.read_bytes() if tls_cert else None,
        )
    return Connection(address, credentials, token, timeout, as_json)


def _refuse(sentence: str) -> NoReturn:
    raise click.UsageError(sentence)


def _request_id(value: str | bytes) -> bytes:
    """Return the 16 bytes that a text names."""
    if isinstance(value, bytes):
        return value
    try:
        return read_request_id(value)
    except JsonError as error:
        raise click.BadParameter(str(error)) from None


def request_id_option(command: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Return a command with --request-id."""
    return click.option(
        "--request-id",
        type=_request_id,
        default=lambda: secrets.token_bytes(REQUEST_ID_BYTES),
        metavar="HEX",
        help="Name of the request: 32 hex digits or a UUID; one of its own by default. The same command under the same "
        "name is done once, however often it is sent.",
    )(command)
