"""Settings of a command: one table of them, read from flags, environment and a file, each with its origin.

A model is a class below `Settings`, or `ServiceSettings`, whose fields are made by `setting`; instances are frozen.
The flag of a setting is --its-name, its environment variable CLOB_ITS_NAME, its key in the TOML file its_name: at the
top of the file for every command, or in a table named after the command for that one. A flag counts before the
environment, the environment before the file, the command's own table before the top. Whatever is wrong is told at once,
all of it, and no message has the value of a secret.
"""

import dataclasses
import difflib
import functools
import os
import sys
import tomllib
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import click

from exchange.config.values import Kind, RedisAddress, kind_of, text_of, text_of_toml

COMMANDS: Final = (
    "ingress-verifier",
    "market-matcher",
    "settlement-plane",
    "market-data",
    "benchmark-client",
    "clob",
)
"""Commands that can have a table of their own in a file."""

CONFIG_VARIABLE: Final = "CLOB_CONFIG"
_SPEC: Final = "setting"
_MISSING: Final = object()


class SettingsError(click.UsageError):
    """Settings that cannot be used; the message has a line for each mistake. A command ends with 2."""


class Origin(NamedTuple):
    """Where a value comes from: default, file, environment or flag, and its name there."""

    kind: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" if self.name else self.kind


class Spec(NamedTuple):
    """What the table says of a setting.

    Attributes:
        help: a sentence for people.
        secret: its value is never shown.
        env: name of its environment variable; empty: CLOB_ and its name.
        low, high: bounds of a number.
        required: there is no default; it must be given.
        hidden: not in the help.
    """

    help: str
    secret: bool
    env: str
    low: int | None
    high: int | None
    required: bool
    hidden: bool


class Shown(NamedTuple):
    """A setting as people and GetConfig see it; `value` is empty where it is a secret."""

    name: str
    value: str
    origin: str
    secret: bool


def setting(
    default: Any,
    help: str,  # noqa: A002 - the word of click and argparse
    *,
    secret: bool = False,
    env: str = "",
    low: int | None = None,
    high: int | None = None,
    hidden: bool = False,
) -> Any:
    """Return the field of a setting. A default of ... means that it must be given."""
    required = default is ...
    spec = Spec(help, secret, env, low, high, required, hidden)
    return dataclasses.field(default=None if required else default, metadata={_SPEC: spec})


def _bookkeeping() -> Any:
    """Return the field of the origins, which are no setting and no part of the value."""
    return dataclasses.field(default_factory=dict, repr=False, compare=False)


@typing.dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(setting, _bookkeeping))
class _Model:
    """Makes a frozen dataclass of every class below it."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        dataclass(frozen=True, kw_only=True)(cls)


class Settings(_Model):
    """What every model is made from: a class below it, whose fields are made by `setting`, and the command's name.

    Attributes:
        config: the file that was read.
        origins: where each value comes from, by name.
    """

    COMMAND: typing.ClassVar[str] = ""

    config: Path | None = setting(None, "TOML file with settings.", env=CONFIG_VARIABLE)
    origins: Mapping[str, Origin] = _bookkeeping()


class Row(NamedTuple):
    """A setting of a model: its name, what the table says, its type and its default."""

    name: str
    spec: Spec
    kind: Kind
    default: Any

    @property
    def flag(self) -> str:
        """Name of its flag."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Name of its environment variable."""
        return self.spec.env or f"CLOB_{self.name.upper()}"

    def is_secret(self, value: object) -> bool:
        """Return whether a value of it must not be shown: a bus address is a secret when it has a password."""
        return self.spec.secret or (isinstance(value, RedisAddress) and value.has_password)


def table(model: type[Settings]) -> tuple[Row, ...]:
    """Return the settings of a model in the order of their declaration, those of its bases first."""
    types = typing.get_type_hints(model)
    return tuple(
        Row(field.name, field.metadata[_SPEC], kind_of(types[field.name]), field.default)
        for field in dataclasses.fields(model)
        if _SPEC in field.metadata
    )


def settings_with_origins(settings: Settings) -> list[Shown]:
    """Return every setting with its value as text and its origin, by name; values of secrets are left out."""
    shown = []
    for row in table(type(settings)):
        value = getattr(settings, row.name)
        secret = row.is_secret(value)
        origin = settings.origins.get(row.name, Origin("default"))
        shown.append(Shown(row.name, "" if secret else text_of(value), str(origin), secret))
    return sorted(shown)


_Settings = TypeVar("_Settings", bound=Settings)


def load_settings(
    model: type[_Settings], flags: Mapping[str, str | None] | None = None, environ: Mapping[str, str] | None = None
) -> _Settings:
    """Return the settings that flags, environment and file give.

    Args:
        model: which settings there are.
        flags: texts by name of the setting; None: the flag was not given.
        environ: environment variables; None: those of the process. An empty variable counts as not set.

    Raises:
        SettingsError: a value has no meaning or is out of bounds, one that must be given is not, the file cannot be
            read or has a key that nobody knows.
    """
    environ = os.environ if environ is None else environ
    given = {name: text for name, text in (flags or {}).items() if text is not None}
    mistakes: list[str] = []
    path = given.get("config") or environ.get(CONFIG_VARIABLE) or ""
    texts = _file_texts(model, Path(path).expanduser(), mistakes) if path else {}
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for row in table(model):
        if row.name in given:
            text, origin = given[row.name], Origin("flag", row.flag)
        elif environ.get(row.variable):
            text, origin = environ[row.variable], Origin("environment", row.variable)
        elif row.name in texts:
            text, origin = texts[row.name], Origin("file", path)
        else:
            if row.spec.required:
                mistakes.append(
                    f"SETTING_MISSING: {row.name} ({_small(row.spec.help)}) is not set; give {row.flag}, "
                    f"{row.variable} or {row.name} in a --config file"
                )
            values[row.name], origins[row.name] = row.default, Origin("default")
            continue
        origins[row.name] = origin
        value = _value(row, text, origin, mistakes)
        values[row.name] = row.default if value is _MISSING else value
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return model(**values, origins=origins)


def _value(row: Row, text: str, origin: Origin, mistakes: list[str]) -> Any:
    """Return the value that a text has for a setting, or _MISSING and a mistake more."""
    if not text and row.kind.is_optional:
        return None
    try:
        value = row.kind.parse(text)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and not isinstance(number, bool):
                _check_bounds(row.spec, number)
    except ValueError as error:
        # An address may hold a password whatever is wrong with it.
        secret = row.spec.secret or row.kind.parse == RedisAddress.parse
        found = "its value (hidden)" if secret else f"{text!r}"
        mistakes.append(f"SETTING_INVALID: {row.name} from {origin}: {found}; it {error}")
        return _MISSING
    return value


def _check_bounds(spec: Spec, number: int) -> None:
    if (spec.low is not None and number < spec.low) or (spec.high is not None and number > spec.high):
        low = "" if spec.low is None else f"{spec.low:,} "
        high = "" if spec.high is None else f" {spec.high:,}"
        raise ValueError(f"wants a number in {low}..{high}")


def _file_texts(model: type[Settings], path: Path, mistakes: list[str]) -> dict[str, str]:
    """Return what a file says to a command, as texts by name."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        mistakes.append(f"CONFIG_FILE: {path} cannot be read: {error.strerror}; name another with --config")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        # TOML errors name line and column and no content.
        mistakes.append(f"CONFIG_FILE: {path} is no TOML: {error}")
        return {}
    rows = {row.name: row for row in table(model) if row.name != "config"}
    texts: dict[str, str] = {}
    own: Mapping[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            if key not in COMMANDS:
                mistakes.append(f"SETTING_UNKNOWN: {path}: no command is named {key!r}{_suggest(key, COMMANDS)}")
            elif key == model.COMMAND:
                own = value
        else:
            _take(path, key, value, rows, texts, mistakes)
    for key, value in own.items():
        _take(path, key, value, rows, texts, mistakes)
    return texts


def _take(
    path: Path, key: str, value: object, rows: Mapping[str, Row], texts: dict[str, str], mistakes: list[str]
) -> None:
    """Take a key of a file into the texts."""
    name = key.replace("-", "_")
    if name not in rows:
        mistakes.append(f"SETTING_UNKNOWN: {path}: there is no setting {key!r}{_suggest(name, tuple(rows))}")
        return
    try:
        texts[name] = text_of_toml(value)
    except ValueError as error:
        mistakes.append(f"SETTING_INVALID: {name} from file {path}: it {error}")


def _suggest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return "; those of one command only belong in a table with its name, such as [market-matcher]"


def _small(sentence: str) -> str:
    return sentence.rstrip(".").partition(". ")[0]


# --- click ----------------------------------------------------------------------------------------------------------

_Function = TypeVar("_Function", bound=Callable[..., Any])


def with_settings(model: type[Settings]) -> Callable[[_Function], _Function]:
    """Return a decorator that gives a click command a flag per setting and calls it with `settings`, an instance."""

    def decorate(function: _Function) -> _Function:
        names = [row.name for row in table(model)]

        @functools.wraps(function)
        def command(*args: Any, **options: Any) -> Any:
            flags = {name: _flag_text(options.pop(name)) for name in names}
            return function(*args, settings=load_settings(model, flags), **options)

        for row in reversed(table(model)):
            command = _option(row)(command)
        return typing.cast(_Function, command)

    return decorate


def _flag_text(value: object) -> str | None:
    match value:
        case None:
            return None
        case bool():
            return text_of(value)
        case tuple():
            # A flag of a list may be given several times.
            return ",".join(str(item) for item in value) if value else None
        case _:
            return str(value)


def _option(row: Row) -> Callable[[_Function], _Function]:
    shown = text_of(row.default)
    rule = "required" if row.spec.required else f"default: {shown}" if shown else ""
    note = "; ".join(part for part in (row.variable, rule) if part)
    arguments: dict[str, Any] = {
        "default": None,
        "help": f"{row.spec.help}  [{note}]",
        "hidden": row.spec.hidden,
        "expose_value": True,
    }
    if row.kind.is_flag:
        return click.option(f"{row.flag}/--no-{row.flag[2:]}", row.name, **arguments)
    many = row.kind.metavar.endswith(",...")
    return click.option(row.flag, row.name, type=str, metavar=row.kind.metavar, multiple=many, **arguments)


def show_settings(settings: Settings) -> str:
    """Return all settings as lines of `name = value  # origin`."""
    rows = settings_with_origins(settings)
    width = max(len(row.name) for row in rows)
    return "\n".join(f"{row.name:<{width}} = {'(secret)' if row.secret else row.value}  # {row.origin}" for row in rows)


def fail(message: str) -> typing.NoReturn:
    """End the process with 2 and a message on standard error, as click does for what cannot be used."""
    print(message, file=sys.stderr)
    raise SystemExit(2)
