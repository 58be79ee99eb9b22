"""What a step was expected to do, compared with what it did."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from exchange.domain import events
from exchange.domain.record import Record
from exchange.domain.rejects import RejectReason
from exchange.local.drawing import NOTHING, Clause, draw, draw_book, draw_events, draw_orders, is_drawn_as
from exchange.local.scenario import Expect, ExpectedBalance, ExpectedBook, ExpectedOrder, ExpectedTrade, ScenarioError

_RESULTS = ("BatchResult", "LinkResult", "OperationResult")
_EVENTS: dict[str, type[Record]] = {
    name: value
    for name, value in vars(events).items()
    if isinstance(value, type) and issubclass(value, Record) and value.__module__ == events.__name__
}


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An expectation that was not met: path of its field, and what is so instead."""

    field: str
    message: str


class Board(Protocol):
    """What there is after a step. Methods raise ScenarioError where the scenario has nothing of that name."""

    @property
    def open_lots(self) -> Mapping[int, int]:
        """What is open of each order, by order_id."""

    def account_named(self, name: str | int, field: str) -> int:
        """Return the number of an account."""

    def order_id_named(self, name: str | int, field: str) -> int:
        """Return the order_id of an order that was sent."""

    def known_market(self, name: str | int | None, field: str) -> int:
        """Return the number of a market that has a book."""

    def book(self, market: int) -> Mapping[str, Any]:
        """Return a book as the output shows it."""

    def balances(self, account: int) -> Mapping[str, Mapping[str, int]]:
        """Return free and locked units by asset."""

    def open_orders(self, account: int) -> Sequence[Mapping[str, Any]]:
        """Return open orders as the output shows them."""


class Happened(msgspec.Struct, frozen=True):
    """What came of a step: events as the output shows them, the clauses that draw it, and how nothing is drawn."""

    views: Sequence[Mapping[str, Any]]
    clauses: list[Clause]
    none: str = NOTHING


def check_expect(path: str, expect: Expect | str | None) -> None:
    """Check that an expectation names reasons and events that exist; it could never be met otherwise.

    Raises:
        ScenarioError: it does not.
    """
    if not isinstance(expect, Expect):
        return
    if not isinstance(expect.rejected, UnsetType):
        _check_known(f"{path}.expect.rejected", "reason", expect.rejected, RejectReason.__members__)
    for index, wanted in enumerate(_given(expect.events)):
        at = f"{path}.expect.events[{index}]"
        if "event" not in wanted:
            raise ScenarioError(f"{at}.event", "is missing")
        _check_known(f"{at}.event", "event", wanted["event"], _EVENTS)
        fields = [*_EVENTS[wanted["event"]].__struct_fields__]
        fields += [name.removesuffix("order_id") + "order_name" for name in fields if name.endswith("order_id")]
        fields += [f"{name}_name" for name in fields if name.endswith("account")]
        fields += ["event", *(f"{name}_symbol" for name in fields if name in ("market", "asset"))]
        for field in wanted:
            _check_known(f"{at}.{field}", "field", field, fields)


def failures_of(board: Board, path: str, expect: Expect | str | None, happened: Happened) -> list[Failure]:
    """Return how what happened in the step at `path` differs from what it expects, field by field.

    Raises:
        ScenarioError: the expectation names an account, an order or a market that the scenario does not have.
    """
    if expect is None:
        return []
    if isinstance(expect, str):
        if is_drawn_as(happened.clauses, expect, happened.none):
            return []
        return [Failure(field=path, message=f"expected {expect!r}, got {draw(happened.clauses, happened.none)!r}")]
    return [
        Failure(field=f"{path}.expect.{field}", message=f"expected {wanted}, got {got}")
        for field, wanted, got in _differences(board, expect, happened)
    ]


def _differences(board: Board, expect: Expect, happened: Happened) -> Iterator[tuple[str, str, str]]:
    """Yield the field, what it wants and what there is, for each field of the expectation that is not met."""
    refusals = [view["reason"] for view in happened.views if _is_refusal(view)]
    if not isinstance(expect.accepted, UnsetType) and expect.accepted is bool(refusals):
        yield "accepted", str(expect.accepted).lower(), f"refusals {refusals}"
    if not isinstance(expect.rejected, UnsetType) and refusals[:1] != [expect.rejected]:
        yield "rejected", expect.rejected, refusals[0] if refusals else "no refusal"
    if not isinstance(expect.trades, UnsetType):
        trades = [view for view in happened.views if view["event"] == "Trade"]
        if len(trades) != len(expect.trades) or not all(map(_is_trade, trades, expect.trades)):
            yield "trades", _shown(expect.trades), draw(draw_events(trades))
    if not isinstance(expect.events, UnsetType):
        told = [view for view in happened.views if view["event"] not in _RESULTS or _is_refusal(view)]
        same = len(told) == len(expect.events) and all(
            all(name in view and view[name] == value for name, value in wanted.items())
            for view, wanted in zip(told, expect.events, strict=True)
        )
        if not same:
            yield "events", _shown(expect.events), _shown(told)
    if isinstance(expect.book, ExpectedBook):
        book = board.book(board.known_market(expect.book.market, "expect.book.market"))
        for side, levels in (("bids", expect.book.bids), ("asks", expect.book.asks)):
            if [(level["price_ticks"], level["quantity_lots"]) for level in book[side]] != levels:
                yield (
                    f"book.{side}",
                    _shown(levels),
                    draw(draw_book({"bids": [], "asks": [], side: book[side]}), "none"),
                )
    for name, wanted in _given_map(expect.balances):
        has = board.balances(board.account_named(name, f"expect.balances.{name}"))
        for asset, units in wanted.items():
            balance = units if isinstance(units, ExpectedBalance) else ExpectedBalance(free_units=units)
            if asset not in has:
                raise ScenarioError(f"expect.balances.{name}.{asset}", f"no such asset; there are: {', '.join(has)}")
            if not _agrees(balance, has[asset]):
                yield f"balances.{name}.{asset}", _shown(units), _shown(has[asset])
    for name, orders in _given_map(expect.orders):
        open_orders = board.open_orders(board.account_named(name, f"expect.orders.{name}"))
        if len(open_orders) != len(orders) or not all(map(_is_order, open_orders, orders)):
            yield f"orders.{name}", _shown(orders), draw(draw_orders(open_orders), "none")
    for name, lots in _given_map(expect.open_lots):
        found = board.open_lots.get(board.order_id_named(name, f"expect.open_lots.{name}"), 0)
        if found != lots:
            yield f"open_lots.{name}", str(lots), str(found)


def _is_refusal(view: Mapping[str, Any]) -> bool:
    refusing = (*_RESULTS, "FrameRefused", "CommandRejected", "ActionRejected")
    return view["event"] in refusing and view["reason"] is not None


def _is_trade(view: Mapping[str, Any], wanted: ExpectedTrade) -> bool:
    renamed = {**view, "maker": view["maker_order_name"], "taker": view["taker_order_name"]}
    return _agrees(wanted, renamed)


def _is_order(view: Mapping[str, Any], wanted: str | int | ExpectedOrder) -> bool:
    if not isinstance(wanted, ExpectedOrder):
        wanted = ExpectedOrder(order=wanted)
    return _agrees(wanted, {**view, "order": view["order_name"]})


def _agrees(wanted: msgspec.Struct, view: Mapping[str, Any]) -> bool:
    """Return whether the view has every value that `wanted` gives; names and enums compare as text."""
    for field in wanted.__struct_fields__:
        value, found = getattr(wanted, field), view.get(field)
        if value is UNSET:
            continue
        if field in ("maker", "taker", "order"):
            value = str(value)
        elif field == "side":
            value = value.upper()
        if value != found:
            return False
    return True


def _given(values: list[Any] | UnsetType) -> list[Any]:
    return [] if isinstance(values, UnsetType) else values


def _given_map(values: Mapping[str, Any] | UnsetType) -> list[tuple[str, Any]]:
    return [] if isinstance(values, UnsetType) else list(values.items())


def _shown(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _check_known(path: str, kind: str, name: object, known: Sequence[str] | Mapping[str, Any]) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
    raise ScenarioError(path, f"there is no {kind} {name!r}; {hint}")
