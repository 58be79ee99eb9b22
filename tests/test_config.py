"""Settings: where values come from, and what is said about bad ones."""

from enum import StrEnum
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from exchange.config.service import ServiceSettings
from exchange.config.settings import (
    Settings,
    SettingsError,
    load_settings,
    setting,
    settings_with_origins,
    show_settings,
    table,
    with_settings,
)
from exchange.config.values import Endpoint, RedisAddress


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Sample(Settings):
    COMMAND = "market-matcher"

    name: str = setting("nobody", "A name.")
    count: int = setting(4, "A number.", low=1, high=10)
    fast: bool = setting(False, "A switch.")
    folder: Path | None = setting(None, "A folder.")
    listen: Endpoint = setting(Endpoint("127.0.0.1", 0), "An address.")
    bus: RedisAddress = setting(RedisAddress.parse("redis://127.0.0.1:6379"), "The bus.", env="REDIS_ADDR")
    colour: Colour = setting(Colour.RED, "A colour.")
    shards: tuple[int, ...] = setting((), "Some numbers.", low=0, high=4095)
    password: str = setting("", "A secret.", secret=True)


class Strict(Settings):
    must: Path = setting(..., "What must be given.")


def origins(settings: Settings) -> dict[str, str]:
    return {row.name: row.origin for row in settings_with_origins(settings)}


def mistakes(model: type[Settings], **arguments: object) -> str:
    with pytest.raises(SettingsError) as raised:
        load_settings(model, **arguments)  # type: ignore[arg-type]
    return raised.value.message


def test_flag_counts_before_environment_before_own_table_before_top_before_default(tmp_path: Path) -> None:
    file = tmp_path / "clob.toml"
    file.write_text(
        'name = "top"\ncount = 2\ncolour = "green"\nfast = true\n'
        "[market-matcher]\ncount = 3\nshards = [1, 2]\nfast = false\n[market-data]\nwhatever = 1\n"
    )
    environ = {"CLOB_CONFIG": str(file), "CLOB_NAME": "environment", "CLOB_COUNT": "5", "CLOB_FOLDER": ""}
    found = load_settings(Sample, {"name": "flag", "count": None}, environ)
    assert (found.name, found.count, found.colour, found.fast) == ("flag", 5, Colour.GREEN, False)
    assert (found.shards, found.folder, found.password) == ((1, 2), None, "")
    assert origins(found) == {
        "bus": "default",
        "colour": f"file {file}",
        "config": "environment CLOB_CONFIG",
        "count": "environment CLOB_COUNT",
        "fast": f"file {file}",
        "folder": "default",
        "listen": "default",
        "name": "flag --name",
        "password": "default",
        "shards": f"file {file}",
    }


def test_every_mistake_is_told_at_once_with_a_suggestion_for_unknown_keys(tmp_path: Path) -> None:
    file = tmp_path / "clob.toml"
    file.write_text('nmae = "x"\n[market-macher]\n[market-matcher]\nlisten = 5\nzzz = 1\ncolour = "blue"\n')
    told = mistakes(Sample, flags={"config": str(file), "count": "11", "fast": "perhaps"}, environ={}).splitlines()
    elsewhere = "those of one command only belong in a table with its name, such as [market-matcher]"
    address = "wants host:port with a port of 0 .. 65535, such as 127.0.0.1:8080 or [::1]:8080"
    assert told == [
        f"SETTING_UNKNOWN: {file}: there is no setting 'nmae'; did you mean 'name'?",
        f"SETTING_UNKNOWN: {file}: no command is named 'market-macher'; did you mean 'market-matcher'?",
        f"SETTING_UNKNOWN: {file}: there is no setting 'zzz'; {elsewhere}",
        "SETTING_INVALID: count from flag --count: '11'; it wants a number in 1 .. 10",
        "SETTING_INVALID: fast from flag --fast: 'perhaps'; it wants true or false",
        f"SETTING_INVALID: listen from file {file}: '5'; it {address}",
        f"SETTING_INVALID: colour from file {file}: 'blue'; it wants one of red, green",
    ]


def test_what_must_be_given_is_asked_for_by_all_its_names() -> None:
    told = mistakes(Strict, environ={})
    assert told == (
        "SETTING_MISSING: must (What must be given) is not set; give --must, CLOB_MUST or must in a --config file"
    )
    assert load_settings(Strict, environ={"CLOB_MUST": "/x"}).must == Path("/x")


@pytest.mark.parametrize("content", ["= 1", "a = 1979-05-27", "name = {x = 1}\n", "name = [[1, 2], [3]]"])
def test_a_file_that_makes_no_sense_is_an_error(tmp_path: Path, content: str) -> None:
    file = tmp_path / "clob.toml"
    file.write_text(content)
    assert str(file) in mistakes(Sample, flags={"config": str(file)}, environ={})


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    told = mistakes(Sample, flags={"config": str(tmp_path / "none.toml")}, environ={})
    assert "cannot be read: No such file or directory; name another with --config" in told


def test_secrets_are_never_shown() -> None:
    found = load_settings(
        Sample, {"password": "hunter2"}, {"REDIS_ADDR": "rediss://alice:s3cr3t@10.0.0.5:6380/1?password=s3cr3t"}
    )
    assert (found.password, found.bus.url) == ("hunter2", "rediss://alice:s3cr3t@10.0.0.5:6380/1?password=s3cr3t")
    shown = show_settings(found) + repr(found.bus) + str(found.bus) + f"{found.bus}" + repr(found)
    assert "s3cr3t" not in shown
    rows = {row.name: row for row in settings_with_origins(found)}
    assert (rows["password"].value, rows["password"].secret, rows["bus"].value, rows["bus"].secret) == (
        "",
        True,
        "",
        True,
    )
    assert str(found.bus) == "rediss://alice:***@10.0.0.5:6380/1?password=***"


def test_a_bus_address_without_password_is_no_secret() -> None:
    found = load_settings(Sample, environ={"REDIS_ADDR": "10.0.0.5"})
    row = next(row for row in settings_with_origins(found) if row.name == "bus")
    assert (row.value, row.origin, row.secret) == ("redis://10.0.0.5:6379", "environment REDIS_ADDR", False)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("10.0.0.5", "redis://10.0.0.5:6379"),
        ("10.0.0.5:7000", "redis://10.0.0.5:7000"),
        ("redis://10.0.0.5/", "redis://10.0.0.5:6379/"),
        ("redis://10.0.0.5:6379/2", "redis://10.0.0.5:6379/2"),
        ("redis://[::1]:6379/", "redis://[::1]:6379/"),
        ("valkeys://u:p@bus/", "rediss://u:p@bus:6379/"),
        ("rediss://:p@bus:1?ssl_ca_certs=/x.pem", "rediss://:p@bus:1?ssl_ca_certs=/x.pem"),
        ("unix:///run/bus.sock?db=1", "unix:///run/bus.sock?db=1"),
    ],
)
def test_bus_addresses(text: str, url: str) -> None:
    assert RedisAddress.parse(text).url == url


@pytest.mark.parametrize(
    "text",
    ["", "http://secret@x", "redis://", "redis://u:secret@", "rediss://u:secret@h:x", "unix://", "redis://h:99999"],
)
def test_bad_bus_addresses_are_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"^wants redis://") as raised:
        RedisAddress.parse(text)
    assert "secret" not in str(raised.value)
    if text:
        assert "secret" not in mistakes(Sample, environ={"REDIS_ADDR": text})


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_no_password_survives_in_what_is_shown(password: str) -> None:
    from urllib.parse import quote

    marked = "zq7" + quote(password, safe="") + "qz7"
    address = RedisAddress.parse(f"rediss://user:{marked}@host:1/0")
    assert marked in address.url
    assert "zq7" not in f"{address} {address!r}"
    assert address.has_password


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:0", ("::1", 0)), ("localhost:65535", ("localhost", 65535))],
)
def test_endpoints_read_and_write(text: str, endpoint: tuple[str, int]) -> None:
    assert Endpoint.parse(text) == endpoint
    assert str(Endpoint.parse(text)) == text


@pytest.mark.parametrize("text", ["", "80", "host", "host:", ":80", "::1:80", "host:65536", "host:-1", "host:8 0"])
def test_bad_endpoints_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="wants"):
        Endpoint.parse(text)


def test_flags_of_a_command_come_from_the_table_and_show_name_variable_and_default() -> None:
    @click.command()
    @click.argument("words", nargs=-1)
    @with_settings(Sample)
    def command(settings: Sample, words: tuple[str, ...]) -> None:
        click.echo(f"{settings.shards} {settings.fast} {settings.count} {words}")

    runner = CliRunner()
    arguments = ["--shards", "1,2", "--shards", "3", "--fast", "a", "--count", "7", "b"]
    assert runner.invoke(command, arguments).output == "(1, 2, 3) True 7 ('a', 'b')\n"
    told = " ".join(runner.invoke(command, ["--help"]).output.split())
    assert "--bus URL The bus. [REDIS_ADDR; default: redis://127.0.0.1:6379]" in told
    assert "--count NUMBER A number. [CLOB_COUNT; default: 4]" in told
    failed = runner.invoke(command, ["--count", "x"])
    assert failed.exit_code == 2
    assert "SETTING_INVALID: count from flag --count: 'x'; it wants a whole number" in failed.output
    assert runner.invoke(command, [], env={"CLOB_COUNT": "9"}).output == "() False 9 ()\n"


def test_settings_common_to_all_services_have_flag_variable_and_sentence() -> None:
    for row in table(ServiceSettings):
        assert row.spec.help.endswith("."), row.name
        assert row.flag == "--" + row.name.replace("_", "-")
        assert row.variable == ("REDIS_ADDR" if row.name == "redis_addr" else f"CLOB_{row.name.upper()}")
    assert len({row.name for row in table(ServiceSettings)}) == len(table(ServiceSettings))


def test_settings_are_frozen() -> None:
    found = load_settings(Sample, environ={})
    with pytest.raises(AttributeError):
        found.count = 5  # type: ignore[misc]
