"""How a scenario's output shows events and states: numbers as they are, enums by name, names beside numbers."""

from enum import IntEnum
from typing import Any

from exchange.domain.commands import OrderType, Side, TimeInForce
from exchange.domain.events import CancelReason, Event, OrderCancelled, OrderReduced, ReduceReason
from exchange.domain.markets import MarketState
from exchange.domain.operations import OperatorRole
from exchange.domain.record import Record
from exchange.domain.rejects import RejectReason
from exchange.domain.state import BookState, RestingOrder

_ENUMS: dict[str, type[IntEnum]] = {
    "side": Side,
    "taker_side": Side,
    "order_type": OrderType,
    "time_in_force": TimeInForce,
    "state": MarketState,
    "role": OperatorRole,
    "reason": RejectReason,
}
_REASONS: dict[type, type[IntEnum]] = {OrderCancelled: CancelReason, OrderReduced: ReduceReason}


class Names:
    """What the numbers of a shard are called, each name given once: accounts, orders, markets and assets by number."""

    def __init__(self) -> None:
        self.accounts: dict[int, str] = {}
        self.orders: dict[int, str] = {}
        self.markets: dict[int, str] = {}
        self.assets: dict[int, str] = {}

    def beside(self, field: str, number: int) -> tuple[str, str | None] | None:
        """Return the field to stand beside a number's and the name in it; None: such numbers have no names."""
        for kind, shown, names in (
            ("account", "account_name", self.accounts),
            ("order_id", "order_name", self.orders),
            ("market", "market_symbol", self.markets),
            ("asset", "asset_symbol", self.assets),
        ):
            if field == kind or (field.endswith("_" + kind) and field != "client_order_id"):
                return field.removesuffix(kind) + shown, names.get(number)
        return None


def view_event(event: Event, names: Names) -> dict[str, Any]:
    """Return an event as JSON: its type as `event`, then its fields; an enum's zero and a missing name are null."""
    return {"event": type(event).__name__, **_view_record(event, names)}


def view_book(book: BookState, names: Names) -> dict[str, Any]:
    """Return a book as JSON: levels best first, in each the orders in the order in which they trade."""
    return {
        "state": MarketState(book.market.state).name,
        "last_price_ticks": book.last_price_ticks,
        "bids": _view_levels(book.bids, names),
        "asks": _view_levels(book.asks, names),
    }


def _view_levels(orders: tuple[RestingOrder, ...], names: Names) -> list[dict[str, Any]]:
    levels: list[dict[str, Any]] = []
    for order in orders:
        if not levels or levels[-1]["price_ticks"] != order.price_ticks:
            levels.append({"price_ticks": order.price_ticks, "quantity_lots": 0, "orders": []})
        levels[-1]["quantity_lots"] += order.open_lots
        levels[-1]["orders"].append(
            {
                "order_id": order.order_id,
                "order_name": names.orders[order.order_id],
                "client_order_id": order.client_order_id,
                "account": order.account,
                "account_name": names.accounts[order.account],
                "open_lots": order.open_lots,
                "filled_lots": order.filled_lots,
            }
        )
    return levels


def _view_record(record: Record, names: Names) -> dict[str, Any]:
    view: dict[str, Any] = {}
    for field in record.__struct_fields__:
        value = getattr(record, field)
        view[field] = _view_value(type(record), field, value, names)
        if isinstance(value, int) and (beside := names.beside(field, value)) is not None:
            view[beside[0]] = beside[1]
    return view


def _view_value(owner: type, field: str, value: Any, names: Names) -> Any:
    if isinstance(value, Record):
        return _view_record(value, names)
    if isinstance(value, tuple):
        return [_view_value(owner, field, item, names) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    if field in _ENUMS:
        kind = _REASONS.get(owner, _ENUMS[field]) if field == "reason" else _ENUMS[field]
        return kind(value).name if value else None
    return value
