"""What to tell an engine so that its book follows a LOBSTER pair. Pure: rows in, commands out.

The rules come from the format and from what Nasdaq's days look like:

- Seed: the book before the first message is unknown, so row 1 enters as one unnamed order per level.
- View: the files show the best `levels` per side and only the messages within them. A level that falls out is
  forgotten: its orders are cancelled and their ids mean nothing any more. When a level empties, the one that moves into
  the last place was never announced: it is adopted from the book row as one unnamed order, at most one per row, only on
  the side and in the row where a level emptied, and only if every level above it already agrees.
- Names: a message that names no order we know acts on the unnamed orders of its price. Whatever the names, a level
  always loses exactly what the message says.
- Age: ids grow with time, so within a price the smallest id is the oldest. An order that the file shows late (a smaller
  id than others there, as at the opening cross) is seated at its place by entering the younger ones again behind it.
- Executions are an opposite immediate-or-cancel order of that price and size. Where it would not trade with exactly the
  order named, that order is reduced instead, and the execution is listed with the reason (`Detour`).
"""

from bisect import bisect_left, insort
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from exchange.domain.commands import CancelOrder, Command, OrderType, PlaceOrder, ReduceOrder, Side, TimeInForce
from exchange.flow.lobster import BookRow, LobsterError, Message, MessageType, Row


class DetourReason(StrEnum):
    OUT_OF_ORDER = "out_of_order"
    """An older order that is known by name stands at the price: the data itself is out of order."""
    BEHIND_UNNAMED = "behind_unnamed"
    """Volume that never had a name stands before the order."""
    NOT_BEST_PRICE = "not_best_price"
    """A better price stands in the book."""


class Detour(NamedTuple):
    """An execution that the engine would not have made with the order that the row names."""

    row: int
    message: Message
    reason: DetourReason


class Unmatched(NamedTuple):
    """A message that takes more than its order has, or than unnamed orders of its price have if it names none we know.

    Other orders of the price made up for it, but for `missing_lots`, which nothing there could give. The books can be
    equal all the same, yet the data contradicts itself.
    """

    row: int
    message: Message
    missing_lots: int


class Step(NamedTuple):
    """What one row asks of the engine, in this order.

    Attributes:
        take: order of the aggressors' account, if the row is an execution in order.
        fills: lots that `take` must trade, by client_order_id of the maker.
        rest: commands of the account whose orders rest.
    """

    take: PlaceOrder | None
    fills: dict[int, int]
    rest: list[Command]


@dataclass(slots=True)
class DriverCounts:
    """What happened on the way.

    Attributes:
        messages: by type, the first message included.
        adoptions: levels taken from the book file.
        late_orders: orders that the file showed after younger ones of their price.
    """

    messages: Counter[MessageType] = field(default_factory=Counter)
    adoptions: int = 0
    late_orders: int = 0
    detours: list[Detour] = field(default_factory=list)
    unmatched: list[Unmatched] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Resting:
    """An order in the engine; `order_id` is the file's name for it, None if the file has none."""

    client_order_id: int
    order_id: int | None
    open_lots: int


@dataclass(slots=True, eq=False)
class _Level:
    """Orders of one price by client_order_id, oldest first; `total_lots` is their sum."""

    total_lots: int = 0
    orders: dict[int, _Resting] = field(default_factory=dict)


class _View:
    """One side of the book as far as the files show it. `keys` are prices, negated for bids, best first."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.sign = -1 if side is Side.BUY else 1
        self.keys: list[int] = []
        self.levels: dict[int, _Level] = {}

    def open(self, price_ticks: int) -> _Level:
        level = self.levels.get(price_ticks)
        if level is None:
            level = self.levels[price_ticks] = _Level()
            insort(self.keys, self.sign * price_ticks)
        return level

    def close(self, price_ticks: int) -> _Level:
        del self.keys[bisect_left(self.keys, self.sign * price_ticks)]
        return self.levels.pop(price_ticks)

    def best_ticks(self) -> int:
        return self.sign * self.keys[0]

    def agrees_with(self, levels: list[tuple[int, int]]) -> bool:
        prices = [self.sign * key for key in self.keys]
        return levels == [(price_ticks, self.levels[price_ticks].total_lots) for price_ticks in prices]


class LobsterDriver:
    """Follows a pair from its first row.

    Attributes:
        counts: so far.
    """

    def __init__(self, market: int, levels: int) -> None:
        """Start before the first row; `levels` is how many per side the book file has."""
        self.counts = DriverCounts()
        self._market = market
        self._levels = levels
        self._views = {side: _View(side) for side in Side}
        self._named: dict[int, tuple[_View, int, _Resting]] = {}
        self._last_client_order_id = 0

    def step(self, row: Row) -> Step:
        """Return what row 1 seeds, or what the next row changes."""
        message = row.message
        self.counts.messages[message.kind] += 1
        step = Step(None, {}, [])
        if row.number == 1:
            self._seed(row.book, step)
        elif message.kind is MessageType.SUBMIT:
            self._submit(message, step)
        elif message.kind in (MessageType.REDUCE, MessageType.DELETE, MessageType.EXECUTE):
            step = self._take(row)
        return step

    def _seed(self, book: BookRow, step: Step) -> None:
        for side, view in self._views.items():
            for price_ticks, quantity_lots in book.of(side):
                self._place(view, price_ticks, quantity_lots, None, step.rest)

    # --- orders that come -------------------------------------------------------------------------------------------

    def _submit(self, message: Message, step: Step) -> None:
        """Place an order, seat it by its age, and forget the level that it pushes out of view."""
        view = self._views[message.side]
        self._forget_name(message.order_id)
        resting = self._place(view, message.price_ticks, message.quantity_lots, message.order_id, step.rest)
        self._named[message.order_id] = (view, message.price_ticks, resting)
        self._seat(view, message.price_ticks, resting, step.rest)
        if len(view.keys) > self._levels:
            self._forget_level(view, view.sign * view.keys[-1], step.rest)

    def _place(
        self, view: _View, price_ticks: int, quantity_lots: int, order_id: int | None, rest: list[Command]
    ) -> _Resting:
        self._last_client_order_id += 1
        resting = _Resting(self._last_client_order_id, order_id, quantity_lots)
        level = view.open(price_ticks)
        level.orders[resting.client_order_id] = resting
        level.total_lots += quantity_lots
        rest.append(
            PlaceOrder(
                market=self._market,
                side=view.side,
                order_type=OrderType.LIMIT,
                time_in_force=TimeInForce.GTC,
                # What rests never takes: an order that would cross is not what the file says, and must not trade.
                post_only=True,
                price_ticks=price_ticks,
                quantity_lots=quantity_lots,
                client_order_id=resting.client_order_id,
            )
        )
        return resting

    def _seat(self, view: _View, price_ticks: int, late: _Resting, rest: list[Command]) -> None:
        """Enter the orders again that are younger than the one that came last, so that they stand behind it."""
        level = view.levels[price_ticks]
        younger = [order for order in level.orders.values() if _is_younger(order, late)]
        self.counts.late_orders += bool(younger)
        for order in younger:
            rest.append(CancelOrder(client_order_id=order.client_order_id))
            del level.orders[order.client_order_id]
            level.total_lots -= order.open_lots
            again = self._place(view, price_ticks, order.open_lots, order.order_id, rest)
            assert order.order_id is not None
            self._named[order.order_id] = (view, price_ticks, again)

    # --- orders that go ---------------------------------------------------------------------------------------------

    def _take(self, row: Row) -> Step:
        """Take a message's lots off its price: by trading if it is an execution in order, else by reducing."""
        message = row.message
        view = self._views[message.side]
        level = view.levels.get(message.price_ticks)
        if level is None:
            self.counts.unmatched.append(Unmatched(row.number, message, message.quantity_lots))
            return Step(None, {}, [])
        pieces = self._pieces(level, row)
        rest: list[Command] = []
        take: PlaceOrder | None = None
        fills: dict[int, int] = {}
        detour = self._detour(view, level, message, pieces) if message.kind is MessageType.EXECUTE else None
        if message.kind is MessageType.EXECUTE and detour is None:
            take = self._aggressor(message)
            fills = pieces
        else:
            rest.extend(_reduction(level.orders[name], lots) for name, lots in pieces.items())
        if detour is not None:
            self.counts.detours.append(Detour(row.number, message, detour))
        self._remove(view, level, message, pieces)
        if not level.orders:
            was_full = len(view.keys) == self._levels
            view.close(message.price_ticks)
            if was_full:
                self._adopt(view, row.book, rest)
        return Step(take, fills, rest)

    def _pieces(self, level: _Level, row: Row) -> dict[int, int]:
        """Return the lots to take by client_order_id: of the order named, else unnamed ones; then any, oldest first."""
        message = row.message
        named = self._known(message)
        unnamed = [order for order in level.orders.values() if order.order_id is None] if named is None else []
        pieces: dict[int, int] = {}
        missing_lots = message.quantity_lots
        for order in (named,) if named is not None else unnamed:
            missing_lots -= _add_piece(pieces, order, missing_lots)
        if missing_lots:
            for order in sorted(level.orders.values(), key=lambda order: order.order_id is not None):
                missing_lots -= _add_piece(pieces, order, missing_lots)
            self.counts.unmatched.append(Unmatched(row.number, message, missing_lots))
        return pieces

    def _known(self, message: Message) -> _Resting | None:
        """Return the order that the message names, if it stands at the message's side and price."""
        known = self._named.get(message.order_id)
        if known is None:
            return None
        view, price_ticks, resting = known
        return resting if view.side is message.side and price_ticks == message.price_ticks else None

    def _detour(self, view: _View, level: _Level, message: Message, pieces: dict[int, int]) -> DetourReason | None:
        """Return why an opposite order would not trade with exactly these pieces; None: it would."""
        named = self._known(message)
        if named is not None and any(_is_younger(named, order) for order in level.orders.values()):
            return DetourReason.OUT_OF_ORDER
        if view.best_ticks() != message.price_ticks:
            return DetourReason.NOT_BEST_PRICE
        in_order: dict[int, int] = {}
        missing_lots = sum(pieces.values())
        for order in level.orders.values():
            missing_lots -= _add_piece(in_order, order, missing_lots)
            if not missing_lots:
                break
        return None if in_order == pieces else DetourReason.BEHIND_UNNAMED

    def _aggressor(self, message: Message) -> PlaceOrder:
        return PlaceOrder(
            market=self._market,
            side=message.side.opposite,
            order_type=OrderType.LIMIT,
            time_in_force=TimeInForce.IOC,
            price_ticks=message.price_ticks,
            quantity_lots=message.quantity_lots,
        )

    def _remove(self, view: _View, level: _Level, message: Message, pieces: dict[int, int]) -> None:
        for client_order_id, lots in pieces.items():
            order = level.orders[client_order_id]
            order.open_lots -= lots
            level.total_lots -= lots
            if order.open_lots == 0:
                del level.orders[client_order_id]
                if order.order_id is not None:
                    del self._named[order.order_id]
        if message.kind is MessageType.DELETE and self._known(message) is not None:
            self._forget_name(message.order_id)

    # --- the edge of the view ---------------------------------------------------------------------------------------

    def _adopt(self, view: _View, book: BookRow, rest: list[Command]) -> None:
        """Take the level that moved into the last place from the book row, if all above it is as we have it."""
        levels = book.of(view.side)
        if len(levels) < self._levels or not view.agrees_with(levels[:-1]):
            return
        price_ticks, quantity_lots = levels[-1]
        if not view.keys or view.sign * price_ticks > view.keys[-1]:
            self._place(view, price_ticks, quantity_lots, None, rest)
            self.counts.adoptions += 1

    def _forget_level(self, view: _View, price_ticks: int, rest: list[Command]) -> None:
        for order in view.close(price_ticks).orders.values():
            rest.append(CancelOrder(client_order_id=order.client_order_id))
            if order.order_id is not None:
                del self._named[order.order_id]

    def _forget_name(self, order_id: int) -> None:
        """Let an order stand without a name: its id was deleted with some of it left, or came a second time."""
        known = self._named.pop(order_id, None)
        if known is not None:
            known[2].order_id = None


def check_seed(path: object, row: Row) -> None:
    """Check that row 1 is a book: prices strictly from best to worst, bids below asks.

    Raises:
        LobsterError: it is not; the message names the prices.
    """
    bids, asks = ([price_ticks for price_ticks, _ in row.book.of(side)] for side in Side)
    in_order = bids == sorted(set(bids), reverse=True) and asks == sorted(set(asks))
    if not in_order or (bids and asks and bids[0] >= asks[0]):
        raise LobsterError(
            f"BAD_SEED: row 1 of {path} has bids {bids} and asks {asks}; a replay starts from a book whose prices run"
            " from best to worst and do not cross"
        )


def _add_piece(pieces: dict[int, int], order: _Resting, missing_lots: int) -> int:
    """Take as much of an order as is missing and not taken yet; return how much that is."""
    lots = min(missing_lots, order.open_lots - pieces.get(order.client_order_id, 0))
    if lots:
        pieces[order.client_order_id] = pieces.get(order.client_order_id, 0) + lots
    return lots


def _reduction(order: _Resting, lots: int) -> Command:
    if lots == order.open_lots:
        return CancelOrder(client_order_id=order.client_order_id)
    return ReduceOrder(client_order_id=order.client_order_id, quantity_lots=lots)


def _is_younger(order: _Resting, other: _Resting) -> bool:
    """Return whether both have names and the first came to the exchange after the second."""
    return order.order_id is not None and other.order_id is not None and order.order_id > other.order_id
