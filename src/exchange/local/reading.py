"""The reading of scenarios: from JSON to the model, with errors that name the field and the way out."""

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import msgspec

from exchange.local.scenario import (
    STEPS,
    SYMBOL_PATTERN,
    WORD_PATTERN,
    AccountSpec,
    Expect,
    ExpectedBook,
    ExpectedOrder,
    ExpectedTrade,
    LotRow,
    MarketSpec,
    Part,
    Scenario,
    ScenarioError,
    SettingsSpec,
    Step,
    TickRow,
)

SCHEMA_ID: Final = "urn:clob:scenario:v1"


def read_scenario(text: str | bytes) -> Scenario:
    """Return the scenario that a JSON text holds.

    Raises:
        ScenarioError: the text is no JSON, has a number that is no integer or a name twice in one object, or does not
            keep the schema; the message names the field.
    """
    try:
        data = json.loads(
            text, object_pairs_hook=_object_without_repeats, parse_float=_refuse_float, parse_constant=_refuse_float
        )
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ScenarioError("", "a text in it is no Unicode: half of a surrogate pair stands alone") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        shown = f"this is no JSON: {error}" if text.strip() else "it is empty; write a scenario (see docs/scenarios.md)"
        raise ScenarioError("", shown) from None
    except ScenarioError:
        raise
    except ValueError as error:
        # Python reads no integer of more than 4,300 digits.
        raise ScenarioError("", f"a number in it is far out of bounds: {error}") from None
    return scenario_of(data)


def scenario_of(data: object) -> Scenario:
    """Return the scenario of parsed JSON. Raises ScenarioError as `read_scenario` does."""
    try:
        return msgspec.convert(data, Scenario)
    except msgspec.ValidationError as error:
        raise _explain(str(error), data) from None


def scenario_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of scenarios."""
    schema = msgspec.json.schema(Scenario)
    root = schema["$defs"].pop("Scenario")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID}
    return {**head, **_plain(root), "$defs": _plain(schema["$defs"])}


def _plain(schema: Any) -> Any:
    """Return the schema without what JSON Schema does not know, each op as a described constant."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _plain(value) for key, value in schema.items() if key != "discriminator"}
    tag = plain.get("properties", {}).get("op")
    if isinstance(tag, dict) and "enum" in tag:
        plain["properties"]["op"] = {"description": "Which step this is.", "const": tag["enum"][0]}
    return plain


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise ScenarioError(name, "the name stands twice in one object; keep one")
        made[name] = value
    return made


def _refuse_float(text: str) -> NoReturn:
    raise ScenarioError("", f"{text} is no integer; prices count ticks, quantities lots, amounts smallest units")


_AT = re.compile(r"(?s)(?P<what>.*?)(?: - at `(?P<key>key` in `)?(?P<path>\$.*)`)?")
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`")
_MISSING_FIELD = re.compile(r"Object missing required field `(.*)`")
_INVALID_TAG = re.compile(r"Invalid value (.*)")
_INVALID_ENUM = re.compile(r"Invalid enum value (.*)")
_PATTERN = re.compile(r"Expected `str` matching regex '(.*)'")
_PATTERN_WORDS = {
    SYMBOL_PATTERN: "is no symbol: 1 to 32 of A-Z, 0-9, dot, _ and -",
    WORD_PATTERN: "is no name: it has a space or a comma, starts with #, or is empty",
}


def _explain(message: str, data: object) -> ScenarioError:
    """Return msgspec's message as a field and a sentence, with the way out where it can be known."""
    match = _AT.fullmatch(message)
    assert match is not None
    what, path = match["what"], (match["path"] or "$").removeprefix("$").removeprefix(".")
    value, found = _value_at(data, path)
    if unknown := _UNKNOWN_FIELD.fullmatch(what):
        kind = _kind_at(path, value)
        known = [] if kind is None else [*kind.__struct_fields__, *(["op"] if issubclass(kind, Step) else [])]
        near = difflib.get_close_matches(unknown[1], known, n=1) or [
            name for name in known if name.startswith(unknown[1] + "_")
        ]
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(known))}"
        return ScenarioError(_join(path, unknown[1]), f"there is no such field; {hint}")
    if missing := _MISSING_FIELD.fullmatch(what):
        return ScenarioError(_join(path, missing[1]), "is missing")
    if _INVALID_TAG.fullmatch(what) and path.endswith(".op"):
        near = difflib.get_close_matches(str(value), STEPS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(STEPS)}"
        return ScenarioError(path, f"there is no step {value!r}; {hint}")
    if pattern := _PATTERN.fullmatch(what):
        words = _PATTERN_WORDS[pattern[1].replace("\\\\", "\\")]
        bad = "a name in it" if match["key"] else json.dumps(value)
        return ScenarioError(path, f"{bad} {words}")
    if _INVALID_ENUM.fullmatch(what):
        return ScenarioError(path, f"{value!r} is none of {', '.join(_choices(data, path))}")
    shown = f"{json.dumps(value)[:80]}: " if found and not isinstance(value, dict | list) else ""
    return ScenarioError(path, shown + what[:1].lower() + what[1:])


def _choices(data: object, path: str) -> list[str]:
    """Return the lower-case words that the field at a path may hold."""
    owner, field = path.rpartition(".")[0::2]
    holder, _ = _value_at(data, owner)
    kind = _kind_at(owner, holder)
    assert kind is not None
    found: list[str] = []
    for part in _walk(scenario_schema()["$defs"][kind.__name__]["properties"][field]):
        found += [word for word in part.get("enum", ()) if word and word not in found and word.lower() == word]
    return found


def _walk(schema: Any) -> Iterator[dict[str, Any]]:
    yield schema
    for part in schema.get("anyOf", ()):
        yield from _walk(part)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _value_at(data: object, path: str) -> tuple[object, bool]:
    """Return the value at a path of names and indices, and whether there is one."""
    for part in re.findall(r"\[(\d+|\.\.\.)\]|([^.\[\]]+)", path):
        index, name = part
        if isinstance(data, list) and index.isdigit() and int(index) < len(data):
            data = data[int(index)]
        elif isinstance(data, dict) and name in data:
            data = data[name]
        else:
            return None, False
    return data, True


def _kind_at(path: str, value: object) -> type[Part] | None:
    """Return the part of a scenario that the object at a path is; None where it cannot be told."""
    shape = re.sub(r"\[\d+\]", "[]", path)
    step = re.fullmatch(r"commands\[\](?:\.commands\[\])?(?:\.(.+))?", shape)
    if step is None:
        return _KINDS.get(shape)
    if step[1] is not None:
        return _KINDS_IN_STEPS.get(re.sub(r"^(expect\.\w+)\.\w+", r"\1", step[1]))
    return STEPS.get(str(value.get("op"))) if isinstance(value, dict) else None


_KINDS: Final[dict[str, type[Part]]] = {
    "": Scenario,
    "settings": SettingsSpec,
    "markets[]": MarketSpec,
    "markets[].tick_table[]": TickRow,
    "markets[].lot_table[]": LotRow,
    "accounts[]": AccountSpec,
}
_KINDS_IN_STEPS: Final[dict[str, type[Part]]] = {
    "expect": Expect,
    "expect.book": ExpectedBook,
    "expect.trades[]": ExpectedTrade,
    "expect.orders[]": ExpectedOrder,
    "tick_table[]": TickRow,
    "lot_table[]": LotRow,
}
