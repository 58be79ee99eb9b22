"""Messages as JSON: what HTTP clients of the operators' port send and read.

It is protobuf's JSON mapping (https://protobuf.dev/programming-guides/json) with the fields' own names, all of them,
also those that are zero; a submessage that is not set is left out. 64-bit integers are strings, as JavaScript would
round them; numbers are taken too. Enum values have their full names; shorter ones without the prefix of their type
("OPEN"), in any case, and numbers are taken too. Bytes are hex, other than in protobuf's mapping; the name of a request
may be a UUID as well.

Nothing is guessed: a field that does not exist, comes twice or has another type is refused with its path.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final, NoReturn

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from exchange.domain.limits import REQUEST_ID_BYTES
from exchange.domain.signing import PRIVATE_KEY_PREFIX

ERRORS_MAX: Final = 16
"""Most fields that one refusal names."""

_BOUNDS: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_WIDE: Final = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
_DIGITS: Final = re.compile(r"-?[0-9]{1,20}")
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})*")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_REQUEST_ID: Final = re.compile(r"[0-9a-fA-F]{32}")
_IDEMPOTENCY_KEY: Final = re.compile(r"[ -~]{1,255}")
_IDEMPOTENCY_TAG: Final = b"clob.v1.Idempotency\0"


class JsonError(ValueError):
    """A text is no JSON, or no message of the method.

    Attributes:
        fields: what is wrong, by path of the field; empty when the text is no JSON at all.
    """

    def __init__(self, message: str, fields: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.fields = fields or {}


class _Refused(Exception):  # noqa: N818 - a word of a sentence
    """A value does not fit; the message says what is expected."""


# --- writing --------------------------------------------------------------------------------------------------------


def message_to_json(message: Message) -> dict[str, Any]:
    """Return the JSON object of a message."""
    return _writer(message.DESCRIPTOR)(message)


@cache
def _writer(descriptor: Descriptor) -> Callable[[Message], dict[str, Any]]:
    fields = tuple((field.name, _value_writer(field), _kind(field)) for field in descriptor.fields)

    def write(message: Message) -> dict[str, Any]:
        written: dict[str, Any] = {}
        for name, write_value, kind in fields:
            if kind == "list":
                values = getattr(message, name)
                written[name] = [write_value(value) for value in values] if write_value else list(values)
            elif kind == "message":
                if message.HasField(name):
                    assert write_value is not None
                    written[name] = write_value(getattr(message, name))
            else:
                value = getattr(message, name)
                written[name] = write_value(value) if write_value else value
        return written

    return write


def _kind(field: FieldDescriptor) -> str:
    if field.is_repeated:
        return "list"
    return "message" if field.message_type is not None else "value"


def _value_writer(field: FieldDescriptor) -> Callable[[Any], Any] | None:
    """Return what writes a value of the field; None: it is written as it is."""
    if field.message_type is not None:
        message_type = field.message_type
        # Not _writer(...) itself: types may hold themselves.
        return lambda value: _writer(message_type)(value)  # noqa: PLW0108
    if field.enum_type is not None:
        names = {value.number: value.name for value in field.enum_type.values}
        return lambda value: names.get(value, value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes.hex
    return str if field.cpp_type in _WIDE else None


@cache
def _short_names(enum: EnumDescriptor) -> dict[int, str]:
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {value.number: value.name.removeprefix(prefix) for value in enum.values}


@cache
def _numbers(enum: EnumDescriptor) -> dict[str, int]:
    """Return numbers by upper-case name, with the prefix and without."""
    long = {value.name: value.number for value in enum.values}
    return long | {name: number for number, name in _short_names(enum).items()}


# --- reading --------------------------------------------------------------------------------------------------------


def parse_json(text: bytes) -> Any:
    """Return what a JSON text says.

    Raises:
        JsonError: it is not JSON in UTF-8, has a fraction, NaN or a name twice in an object, or nests too deep.
    """
    try:
        return json.loads(
            text.decode("utf-8"), object_pairs_hook=_object, parse_float=_no_fraction, parse_constant=_no_fraction
        )
    except RecursionError:
        raise JsonError("the body nests deeper than any request does") from None
    except UnicodeDecodeError as error:
        raise JsonError(f"the body is not UTF-8: {error}") from None
    except json.JSONDecodeError as error:
        raise JsonError(f"the body is not JSON: {error}") from None
    except ValueError as error:
        # The one that an integer of more than 4,300 digits gives.
        raise JsonError(f"the body is not JSON that a request may be: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise JsonError(f"the name {twice!r} comes twice in one object; say it once")
    return made


def _no_fraction(text: str) -> NoReturn:
    raise JsonError(f"the body has the number {text}; all numbers of the exchange are whole, in smallest units")


def read_message(value: Any, message: Message) -> None:
    """Fill a message from what `parse_json` returned.

    Args:
        value: an object of the message's fields, by their own names or in lowerCamelCase.
        message: an empty one.

    Raises:
        JsonError: fields are unknown, or do not have the type of the message's; it names up to ERRORS_MAX of them.
    """
    errors: dict[str, str] = {}
    if isinstance(value, dict):
        _reader(message.DESCRIPTOR)(value, message, "", errors)
    else:
        errors["body"] = f"is {_shown(value)}, must be an object"
    if errors:
        raise JsonError("; ".join(f"{path} {what}" for path, what in errors.items()), errors)


def read_texts(texts: dict[str, list[str]], message: Message) -> None:
    """Fill fields of a message from texts: query parameters, or parts of a path.

    A list is given by repeating the parameter, or with commas.

    Raises:
        JsonError: as `read_message`.
    """
    fields = message.DESCRIPTOR.fields_by_name
    errors: dict[str, str] = {}
    for name, values in texts.items():
        field = fields.get(name)
        if field is None or field.message_type is not None:
            plain = [known for known, described in fields.items() if described.message_type is None]
            errors[name] = _unknown(name, plain)
        elif field.is_repeated:
            parts = [part for value in values for part in value.split(",") if part]
            _reader(message.DESCRIPTOR)({name: parts}, message, "", errors)
        elif len(values) > 1:
            errors[name] = "is given more than once; give it once"
        elif values[0] == "":
            continue
        elif field.type == FieldDescriptor.TYPE_BOOL:
            flag = {"true": True, "1": True, "false": False, "0": False}.get(values[0].lower())
            if flag is None:
                errors[name] = f"is {_shown(values[0])}, must be true or false"
            else:
                setattr(message, name, flag)
        else:
            _reader(message.DESCRIPTOR)({name: values[0]}, message, "", errors)
    if errors:
        raise JsonError("; ".join(f"{path} {what}" for path, what in errors.items()), errors)


def read_request_id(text: str) -> bytes:
    """Return the 16 bytes that name a request.

    Raises:
        JsonError: the text is neither 32 hex digits nor a UUID.
    """
    if _REQUEST_ID.fullmatch(text) is None and _UUID.fullmatch(text) is None:
        raise JsonError(f"is {_shown(text)}, must be 32 hex digits or a UUID")
    return bytes.fromhex(text.replace("-", ""))


def read_idempotency_key(text: str) -> bytes:
    """Return the 16 bytes that a header Idempotency-Key names a request with (docs/contracts.md, "Request ids").

    32 hex digits and UUIDs are taken as they are, any other text is hashed.

    Raises:
        JsonError: the text is empty, longer than 255 characters, or not printable ASCII.
    """
    try:
        return read_request_id(text)
    except JsonError:
        if _IDEMPOTENCY_KEY.fullmatch(text) is None:
            raise JsonError("must be a UUID, 32 hex digits, or 1 .. 255 printable ASCII characters") from None
    return hashlib.sha256(_IDEMPOTENCY_TAG + text.encode("ascii")).digest()[:REQUEST_ID_BYTES]


_Reader = Callable[[dict[str, Any], Message, str, dict[str, str]], None]


@cache
def _reader(descriptor: Descriptor) -> _Reader:
    """Return what fills a message from an object and adds to errors by path."""
    by_name = {field.name: _field_reader(field) for field in descriptor.fields}
    aliases = {field.json_name: field.name for field in descriptor.fields}

    def read(given: dict[str, Any], message: Message, path: str, errors: dict[str, str]) -> None:
        for key, value in given.items():
            name = key if key in by_name else aliases.get(key)
            if name is None:
                errors[f"{path}{key}"] = _unknown(key, list(by_name))
            elif name != key and name in given:
                errors[f"{path}{key}"] = f"is given as {name} too; give it once"
            elif value is not None:
                by_name[name](value, message, f"{path}{name}", errors)
            if len(errors) >= ERRORS_MAX:
                return

    return read


def _field_reader(field: FieldDescriptor) -> Callable[[Any, Message, str, dict[str, str]], None]:
    name, message_type = field.name, field.message_type
    read_value = _value_reader(field) if message_type is None else None

    def one(value: Any, message: Message, path: str, errors: dict[str, str]) -> None:
        try:
            assert read_value is not None
            setattr(message, name, read_value(value))
        except _Refused as refused:
            errors[path] = f"is {_shown(value)}, {refused}"

    def submessage(value: Any, message: Message, path: str, errors: dict[str, str]) -> None:
        oneof = field.containing_oneof
        if oneof is not None and message.WhichOneof(oneof.name) not in (None, name):
            errors[path] = f"stands beside {message.WhichOneof(oneof.name)}; give one of them"
        elif isinstance(value, dict):
            made = getattr(message, name)
            made.SetInParent()
            _reader(message_type)(value, made, f"{path}.", errors)
        else:
            errors[path] = f"is {_shown(value)}, must be an object"

    def many(value: Any, message: Message, path: str, errors: dict[str, str]) -> None:
        if not isinstance(value, list):
            errors[path] = f"is {_shown(value)}, must be a list"
            return
        made = getattr(message, name)
        for place, item in enumerate(value):
            if read_value is not None:
                try:
                    made.append(read_value(item))
                except _Refused as refused:
                    errors[f"{path}[{place}]"] = f"is {_shown(item)}, {refused}"
            elif isinstance(item, dict):
                _reader(message_type)(item, made.add(), f"{path}[{place}].", errors)
            else:
                errors[f"{path}[{place}]"] = f"is {_shown(item)}, must be an object"
            if len(errors) >= ERRORS_MAX:
                return

    if field.is_repeated:
        return many
    return one if message_type is None else submessage


def _value_reader(field: FieldDescriptor) -> Callable[[Any], Any]:
    """Return what gives the field's value for a JSON value, or raises _Refused with what must be there."""
    if field.enum_type is not None:
        return _enum_reader(field.enum_type)
    if field.cpp_type in _BOUNDS:
        return _integer_reader(*_BOUNDS[field.cpp_type])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _read_name if field.name == "request_id" else _read_hex
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _read_bool
    assert field.type == FieldDescriptor.TYPE_STRING, f"{field.full_name} has a type that the contracts do not use"
    return _read_text


def _integer_reader(lowest: int, highest: int) -> Callable[[Any], int]:
    rule = f"must be an integer, {lowest} .. {highest}"

    def read(value: Any) -> int:
        if isinstance(value, str) and _DIGITS.fullmatch(value):
            value = int(value)
        if type(value) is not int or not lowest <= value <= highest:
            raise _Refused(rule)
        return value

    return read


def _enum_reader(enum: EnumDescriptor) -> Callable[[Any], int]:
    numbers = _numbers(enum)
    rule = f"must be one of {', '.join(name for number, name in _short_names(enum).items() if number)}"

    def read(value: Any) -> int:
        number: int | None = None
        if isinstance(value, str):
            number = numbers.get(value.upper().replace("-", "_"))
            if number is None and value.isascii() and value.isdigit() and len(value) < 10:
                value = int(value)
        if type(value) is int and value in enum.values_by_number:
            number = value
        if number is None:
            raise _Refused(rule)
        return number

    return read


def _read_name(value: Any) -> bytes:
    if value == "":
        return b""
    try:
        return read_request_id(value if isinstance(value, str) else "")
    except JsonError:
        raise _Refused("must be 32 hex digits or a UUID") from None


def _read_hex(value: Any) -> bytes:
    if not isinstance(value, str) or _HEX.fullmatch(value) is None:
        raise _Refused("must be bytes in hex, two digits each")
    return bytes.fromhex(value)


def _read_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Refused("must be true or false")
    return value


def _read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Refused("must be a string")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise _Refused("must be a string of whole Unicode characters") from None
    return value


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f"is not a field; did you mean {near[0]}?"
    return f"is not a field; there are {', '.join(known)}" if known else "is not a field; there are none"


def _shown(value: Any) -> str:
    """Return a value for a message; long ones are cut, for nobody reads them and they may hold a secret."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value)
    if PRIVATE_KEY_PREFIX in text:
        return "a private key, which belongs in no request"
    return text if len(text) <= 48 else f"{text[:40]}..."
