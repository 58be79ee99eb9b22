"""Bounds of requests: declared per message, checked at the edge, told all at once."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from google.protobuf.message import Message

from exchange.serving.errors import invalid

_VIOLATIONS_MAX: Final = 32
"""Most fields that an answer names."""


class Bounds(NamedTuple):
    """What a field may hold: a number, a length in bytes or characters, or a count of elements.

    Attributes:
        low, high: of a number, a length or a count.
        or_zero: zero, or nothing, is allowed as well; it means what the contract says.
        each: bounds of the elements of a list.
        unique: no element of a list comes twice.
    """

    low: int
    high: int
    or_zero: bool = False
    each: "Bounds | None" = None
    unique: bool = False


class Known(NamedTuple):
    """A field of an enum holds a member of it.

    Attributes:
        or_zero: zero is allowed as well.
    """

    or_zero: bool = False


class Present(NamedTuple):
    """A message is set; `bounds` are those of its fields."""

    bounds: "Mapping[str, Rule] | None" = None


class Each(NamedTuple):
    """A list of messages: how many, and the bounds of each one's fields."""

    low: int
    high: int
    bounds: "Mapping[str, Rule]"


Rule = Bounds | Known | Present | Each
Check = Callable[[Any], Mapping[str, str]]


def check_bounds(request: Message, rules: Mapping[str, Rule], *more: Check) -> None:
    """Check a request by rules, which are by name of the field; what has none may be anything.

    Args:
        request: a message of the contracts.
        rules: for example {"page_size": Bounds(1, 1000, or_zero=True)}.
        more: further checks, each returning what is wrong by path.

    Raises:
        Refusal: INVALID_FIELD, with a BadRequest that names every field (32 at most).
    """
    wrong: dict[str, str] = {}
    _check(request, rules, "", wrong)
    for check in more:
        wrong.update(check(request))
    if wrong:
        raise invalid(wrong)


def _check(message: Message, rules: Mapping[str, Rule], prefix: str, wrong: dict[str, str]) -> None:
    for name, rule in rules.items():
        if len(wrong) >= _VIOLATIONS_MAX:
            return
        path = f"{prefix}{name}"
        value = getattr(message, name)
        match rule:
            case Bounds():
                _check_value(path, value, rule, wrong)
            case Known():
                enum = message.DESCRIPTOR.fields_by_name[name].enum_type
                assert enum is not None, f"{path} is no enum"
                if value not in enum.values_by_number or (value == 0 and not rule.or_zero):
                    names = ", ".join(item.name for item in enum.values if item.number)
                    wrong[path] = f"{value} is none of {names}"
            case Present():
                if not message.HasField(name):
                    wrong[path] = "is not set, and must be"
                elif rule.bounds is not None:
                    _check(value, rule.bounds, f"{path}.", wrong)
            case Each():
                if not rule.low <= len(value) <= rule.high:
                    wrong[path] = f"has {len(value):,} elements, allowed are {rule.low:,} .. {rule.high:,}"
                    continue
                for place, element in enumerate(value):
                    _check(element, rule.bounds, f"{path}[{place}].", wrong)


def _check_value(path: str, value: Any, bounds: Bounds, wrong: dict[str, str]) -> None:
    zero = "0, " if bounds.or_zero and bounds.low > 0 else ""
    if isinstance(value, int):
        if not (bounds.low <= value <= bounds.high or (bounds.or_zero and value == 0)):
            wrong[path] = f"{value} is not in {zero}{bounds.low} .. {bounds.high}"
        return
    size = len(value)
    if not (bounds.low <= size <= bounds.high or (bounds.or_zero and size == 0)):
        unit = "bytes" if isinstance(value, bytes) else "characters" if isinstance(value, str) else "elements"
        allowed = f"{bounds.low}" if bounds.low == bounds.high else f"{bounds.low:,} .. {bounds.high:,}"
        wrong[path] = f"has {size:,} {unit}, allowed are {zero}{allowed}"
        return
    if isinstance(value, (bytes, str)):
        return
    if bounds.each is not None:
        for place, element in enumerate(value):
            _check_value(f"{path}[{place}]", element, bounds.each, wrong)
            if len(wrong) >= _VIOLATIONS_MAX:
                return
    if bounds.unique and len(set(value)) < size:
        seen: set[Any] = set()
        for place, element in enumerate(value):
            if element in seen:
                wrong[f"{path}[{place}]"] = f"{element} comes twice"
                return
            seen.add(element)
