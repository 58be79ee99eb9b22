"""Values that settings can have: how each is read from text, from a file, and shown to people."""

import re
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, NamedTuple, Self, Union, get_args, get_origin
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

_PORT_MAX: Final = 65_535
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_NUMBER: Final = re.compile(r"-?[0-9](?:_?[0-9])*")
_REDIS_PORT: Final = 6379
_SCHEMES: Final[Mapping[str, str]] = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "unix": "unix",
}
_HIDDEN: Final = "***"


class Endpoint(NamedTuple):
    """Where something listens: host, without brackets, and port; port 0: one that is free."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the endpoint that `host:port` or `[host]:port` names. Raises ValueError."""
        host, colon, port = text.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > _PORT_MAX:
            raise ValueError(f"wants host:port with a port of 0 .. {_PORT_MAX}, such as 127.0.0.1:8080 or [::1]:8080")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError("wants an IPv6 address in brackets, such as [::1]:8080")
        if not host:
            raise ValueError(f"wants a host before the port, such as 127.0.0.1:{port}; 0.0.0.0 is all addresses")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class RedisAddress:
    """Where the bus is. Its text form hides the password; only `url` has it.

    Attributes:
        url: redis://, rediss:// or unix:// with everything that was given.
        shown: the same with *** for the password.
        has_password: it carries one, and so is a secret.
    """

    __slots__ = ("has_password", "shown", "url")

    def __init__(self, url: str, shown: str, *, has_password: bool) -> None:
        self.url = url
        self.shown = shown
        self.has_password = has_password

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address that a URL, `host:port` or `host` names. Raises ValueError, without any part of it."""
        rule = "wants redis://host:port, rediss://user:password@host:port, unix:///path or host:port"
        full = text if "://" in text else f"redis://{text}"
        try:
            parts = urlsplit(full)
            host, port, password = parts.hostname, parts.port, parts.password
        except ValueError:
            raise ValueError(rule) from None
        scheme = _SCHEMES.get(parts.scheme)
        if scheme is None:
            raise ValueError(rule)
        if scheme == "unix":
            if not parts.path:
                raise ValueError(rule)
        elif not host or port == 0:
            raise ValueError(rule)
        query = parse_qsl(parts.query, keep_blank_values=True)
        in_query = any(name == "password" for name, _ in query)
        shown_query = urlencode([(name, _HIDDEN if name == "password" else value) for name, value in query], safe="*")
        place = parts.netloc.rpartition("@")[2]
        if scheme != "unix" and port is None:
            place = f"{place.rstrip(':')}:{_REDIS_PORT}"
        user = quote(parts.username or "", safe="")
        login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        shown_login = f"{user}:{_HIDDEN}@" if password else f"{user}@" if user else ""
        return cls(
            _url(scheme, login + place, parts.path, parts.query),
            _url(scheme, shown_login + place, parts.path, shown_query),
            has_password=bool(password) or in_query,
        )

    def __str__(self) -> str:
        return self.shown

    def __repr__(self) -> str:
        return f"RedisAddress({self.shown})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RedisAddress) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)


def _url(scheme: str, place: str, path: str, query: str) -> str:
    """Return a URL; urlunsplit leaves the slashes out where there is no host, and redis needs them."""
    return f"{scheme}://{place}{path}" + (f"?{query}" if query else "")


class Kind(NamedTuple):
    """How values of a type are read and named.

    Attributes:
        metavar: what the help calls it.
        parse: value of a text; raises ValueError that says what it wants, without the text.
        is_optional: there may be none.
        is_flag: given by a flag without a value.
    """

    metavar: str
    parse: Callable[[str], Any]
    is_optional: bool = False
    is_flag: bool = False


def _integer(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError("wants a whole number")
    return int(text)


def _boolean(text: str) -> bool:
    lowered = text.lower()
    if lowered in _TRUE or lowered in _FALSE:
        return lowered in _TRUE
    raise ValueError("wants true or false")


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("wants a path")
    return Path(text).expanduser()


_SIMPLE: Final[Mapping[type, Kind]] = {
    str: Kind("TEXT", str),
    int: Kind("NUMBER", _integer),
    bool: Kind("", _boolean, is_flag=True),
    Path: Kind("PATH", _path),
    Endpoint: Kind("HOST:PORT", Endpoint.parse),
    RedisAddress: Kind("URL", RedisAddress.parse),
}


def kind_of(annotation: Any) -> Kind:
    """Return how values of a type are read.

    Raises:
        TypeError: settings of that type are not supported.
    """
    if get_origin(annotation) in (Union, UnionType):
        rest = [argument for argument in get_args(annotation) if argument is not NoneType]
        if len(rest) == 1:
            return kind_of(rest[0])._replace(is_optional=True)
    if get_origin(annotation) is tuple:
        element = kind_of(get_args(annotation)[0])
        return Kind(f"{element.metavar},...", lambda text: _list(text, element.parse))
    if isinstance(annotation, type):
        if annotation in _SIMPLE:
            return _SIMPLE[annotation]
        if issubclass(annotation, Enum):
            return Kind("|".join(str(item.value) for item in annotation), lambda text: _member(annotation, text))
    raise TypeError(f"{annotation!r} is no type that a setting can have")


def _list(text: str, parse: Callable[[str], Any]) -> tuple[Any, ...]:
    return tuple(parse(part.strip()) for part in text.split(",")) if text.strip() else ()


def _member(enum: type[Enum], text: str) -> Enum:
    for item in enum:
        if str(item.value) == text:
            return item
    raise ValueError("wants one of " + ", ".join(str(item.value) for item in enum))


def text_of(value: object) -> str:
    """Return a value as its text form, which `Kind.parse` reads again; passwords are hidden."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Endpoint():
            return str(value)
        case tuple():
            return ",".join(text_of(item) for item in value)
        case Enum():
            return str(value.value)
        case _:
            return str(value)


def text_of_toml(value: object) -> str:
    """Return the text form of a value in a TOML file. Raises ValueError: tables and dates are no values of settings."""
    match value:
        case bool():
            return "true" if value else "false"
        case str() | int():
            return str(value)
        case list():
            parts = [text_of_toml(item) for item in value]
            if any("," in part for part in parts):
                raise ValueError("wants elements without commas")
            return ",".join(parts)
        case _:
            raise ValueError("wants a text, a whole number, true or false, or a list of such")
