"""`clob sign`: a batch of commands as JSON and a key become what grpcurl sends to OrderService.Submit."""

import base64
import json
import sys
import time
from typing import Any, BinaryIO, Final, NoReturn

import click
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError

from clob.v1 import batch_pb2
from exchange.client.batches import new_nonce
from exchange.client.options import EXIT_UNUSABLE, private_key
from exchange.domain.commands import Batch
from exchange.domain.signing import EnvironmentNameError
from exchange.wire.errors import WireError
from exchange.wire.messages import decode, encode

VALID_FOR_MS: Final = 30_000
VALID_FOR_MS_MAX: Final = 86_400_000
JSON_BYTES_MAX: Final = 16 * 1024 * 1024
_BATCH: Final = batch_pb2.Batch.DESCRIPTOR


class BatchJsonError(ValueError):
    """The JSON is no batch; the message names the field and says what is wanted."""


@click.command("sign")
@click.argument("file", metavar="BATCH.json", type=click.File("rb"))
@click.option("--key", metavar="KEY", help="Private key, a file that holds it, or -.  [default: CLOB_PRIVATE_KEY]")
@click.option("--environment", envvar="CLOB_ENVIRONMENT", metavar="NAME", help="What it is signed for; required.")
@click.option(
    "--valid-for",
    "valid_for_ms",
    type=click.IntRange(1, VALID_FOR_MS_MAX),
    default=VALID_FOR_MS,
    show_default=True,
    help="Milliseconds, where the batch has no valid_until_ms.",
)
@click.option("--sequenced", is_flag=True, help="Wait for a position only, not for the execution.")
@click.option("--stages", is_flag=True, help="Ask for the times of the stages.")
@click.option("--json", "as_json", is_flag=True, help="The output is JSON in any case; for uniformity.")
def sign(
    file: BinaryIO,
    key: str | None,
    environment: str | None,
    valid_for_ms: int,
    sequenced: bool,
    stages: bool,
    as_json: bool,
) -> None:
    """Sign a batch, or a list of batches, and print the SubmitRequest as JSON.

    \b
      clob sign batch.json --environment local | grpcurl -plaintext -d @ 127.0.0.1:8080 clob.v1.OrderService/Submit

    BATCH.json (- for standard input) holds a clob.v1.Batch as protobuf's JSON, with the field names of batch.proto:

    \b
      {"account": 1, "shard": 1, "commands": [
        {"place": {"market": 1, "side": "BUY", "order_type": "LIMIT", "price_ticks": 100, "quantity_lots": 5}}]}

    Enums may leave out their prefix. Without nonce and valid_until_ms it gets new ones. Nothing is sent; the key leaves
    this process in no way.
    """  # noqa: D301 - click wants the backspace itself
    del as_json
    if not environment:
        raise click.UsageError("say --environment (or CLOB_ENVIRONMENT): a signature is good for one environment only")
    if key == "-" and file is sys.stdin.buffer:
        raise click.UsageError("batch and key cannot both come on standard input")
    private = private_key(key, "127.0.0.1")
    try:
        signer = private.signer(environment)
        now_ms = time.time_ns() // 1_000_000
        batches = [
            signer.sign_batch(payload) for payload in payloads_of(file.read(JSON_BYTES_MAX), now_ms + valid_for_ms)
        ]
    except (BatchJsonError, EnvironmentNameError) as error:
        _refuse(str(error))
    request: dict[str, Any] = {"environment": environment}
    if sequenced:
        request["wait"] = "WAIT_LEVEL_SEQUENCED"
    if stages:
        request["with_stages"] = True
    request["batches"] = [
        {"key_id": _base64(one.key_id), "payload": _base64(one.payload), "signature": _base64(one.signature)}
        for one in batches
    ]
    click.echo(json.dumps(request, indent=2))


def payloads_of(text: bytes, valid_until_ms: int) -> list[bytes]:
    """Return the canonical encoding of each batch in a JSON text.

    Args:
        text: a batch as a JSON object, or a list of them.
        valid_until_ms: for batches that have none.

    Raises:
        BatchJsonError: it is none.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BatchJsonError(f"NOT_JSON: {error}") from None
    listed = isinstance(value, list)
    given = value if listed else [value]
    if not given:
        raise BatchJsonError("BATCH_MISSING: the list is empty; a batch is an object with account, shard and commands")
    return [_payload(one, f"[{place}]" if listed else "", valid_until_ms) for place, one in enumerate(given)]


def _payload(value: Any, path: str, valid_until_ms: int) -> bytes:
    if not isinstance(value, dict):
        raise BatchJsonError(f"NOT_A_BATCH: {path or 'the text'} is no object with account, shard and commands")
    fields = _with_full_names(value, _BATCH, path)
    fields.setdefault("nonce", new_nonce())
    fields.setdefault("valid_until_ms", valid_until_ms)
    try:
        message = ParseDict(fields, batch_pb2.Batch())
    except ParseError as error:
        raise BatchJsonError(f"NOT_A_BATCH: {f'{path}: ' if path else ''}{error}") from None
    try:
        # What protobuf wrote is judged by the strict decoder, and signed in the encoding that is ours.
        return encode(decode(Batch, message.SerializeToString()))
    except WireError as error:
        where = f"{path}.{error.field}" if path else error.field
        raise BatchJsonError(f"{error.reason}: {where}: {error.detail}") from None


def _with_full_names(value: dict[str, Any], message: Any, path: str) -> dict[str, Any]:
    """Return the fields with enums by their full names, as protobuf wants them.

    Raises:
        BatchJsonError: a field or a name is not known; the known ones are named.
    """
    known = {field.name: field for field in message.fields} | {field.camelcase_name: field for field in message.fields}
    named: dict[str, Any] = {}
    for name, content in value.items():
        here = f"{path}.{name}".lstrip(".")
        field = known.get(name)
        if field is None:
            names = ", ".join(field.name for field in message.fields)
            raise BatchJsonError(f"UNKNOWN_FIELD: {here}: {message.name} has {names}")
        if field.name in named:
            raise BatchJsonError(f"FIELD_REPEATED: {here} is given twice")
        named[field.name] = _full(content, field, here)
    return named


def _full(content: Any, field: FieldDescriptor, path: str) -> Any:
    if isinstance(content, list):
        return [_full(one, field, f"{path}[{place}]") for place, one in enumerate(content)]
    if field.message_type is not None:
        if not isinstance(content, dict):
            raise BatchJsonError(f"NOT_A_BATCH: {path}: {field.message_type.name} is an object")
        return _with_full_names(content, field.message_type, path)
    if field.enum_type is not None and isinstance(content, str):
        return _full_enum(content, field.enum_type, path)
    return content


def _full_enum(name: str, kind: EnumDescriptor, path: str) -> str:
    prefix = kind.values[0].name.removesuffix("UNSPECIFIED")
    full = name.upper().replace("-", "_")
    full = full if full.startswith(prefix) else prefix + full
    if full not in kind.values_by_name:
        short = ", ".join(value.name.removeprefix(prefix) for value in kind.values if value.number)
        raise BatchJsonError(f"UNKNOWN_NAME: {path}: {name!r} is none of {short}")
    return full


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _refuse(sentence: str) -> NoReturn:
    click.echo(sentence, err=True)
    sys.exit(EXIT_UNUSABLE)
