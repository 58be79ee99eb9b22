"""Order flow made from a seed: the same commands for the same seed on every machine and with every Python.

What it looks like: a few markets get most of the flow (Zipf); orders come near the touch or deeper, most of them end by
a cancel, some are reduced or replaced; takers are market orders, immediate-or-cancel, fill-or-kill, and sweeps through
several levels; makers may be post-only; accounts now and then meet themselves; a little is refused, because it came too
late or would have traded. Where books have had time to fill, a third to a half of all orders trade; in a market that
has seen a handful of orders there is nobody to trade with yet.

How it stays the same: all choices are draws of whole bits (`Dice`); nothing depends on hashes, clocks or floats. What
it knows about the books it folds from events: whoever runs a flow enters each command and hands back what happened
before the next command is made. A flow is therefore a function of seed, markets, shard and mix alone, and what is later
put into other batches and frames has the same outcomes in the same order.
"""

import random
from bisect import bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Final, NamedTuple, TypeVar

from exchange.domain.commands import (
    CancelAllOrders,
    CancelOrder,
    Command,
    OrderType,
    PlaceOrder,
    ReduceOrder,
    ReleaseFunds,
    ReplaceOrder,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from exchange.domain.events import Event, OrderAccepted, OrderCancelled, OrderReduced, OrderReplaced, Trade
from exchange.domain.markets import Asset, LotRule, Market, MarketState, TickRule
from exchange.domain.operations import Transfer
from exchange.domain.units import PPM

T = TypeVar("T")

MARKETS_MAX: Final = 21_000
ACCOUNTS: Final = 64
"""Accounts of a flow, numbered from 1."""
ACCOUNTS_PER_MARKET: Final = 16
QUOTE_ASSET: Final = 1
SECOND_QUOTE_ASSET: Final = 2
"""Base of market 1, and what every fifth market is quoted in."""
QUOTE_FUNDS_UNITS: Final = 10**16
BASE_FUNDS_UNITS: Final = 10**14
GAP_US_MAX: Final = 2_000
"""Commands are 1 to so many microseconds apart, evenly."""
ZIPF_SCALE: Final = 1_000_000_000
"""Weight of the first market; that of market r is this divided by r."""


class FlowKind(StrEnum):
    """What a command is meant to be."""

    NEAR = "near"
    """A limit order at the touch or a few steps behind it."""
    DEEP = "deep"
    """A limit order far behind the touch."""
    POST_ONLY = "post_only"
    CROSSING = "crossing"
    """A limit order that trades with the touch; what is left of it rests."""
    MARKET = "market"
    IOC = "ioc"
    FOK = "fok"
    SWEEP = "sweep"
    """A large immediate-or-cancel order that takes several levels."""
    CANCEL = "cancel"
    LATE_CANCEL = "late_cancel"
    """A cancel of an order that has just ended: refused."""
    REDUCE = "reduce"
    REPLACE = "replace"
    CANCEL_ALL = "cancel_all"
    RELEASE = "release"
    """Funds on their way back to the treasury."""


class Mix(NamedTuple):
    """What a flow is made of.

    Attributes:
        weights: how often each kind is drawn, relative to the others.
        open_orders_max: open orders of a market from which on cancels take the place of orders that would rest.
        moves_one_in: a market's price moves by a step once in so many of its commands; 0: never.
    """

    weights: dict[FlowKind, int]
    open_orders_max: int
    moves_one_in: int


REALISTIC: Final = Mix(
    {
        FlowKind.NEAR: 290,
        FlowKind.DEEP: 110,
        FlowKind.POST_ONLY: 80,
        FlowKind.CROSSING: 30,
        FlowKind.MARKET: 30,
        FlowKind.IOC: 36,
        FlowKind.FOK: 12,
        FlowKind.SWEEP: 8,
        FlowKind.CANCEL: 310,
        FlowKind.LATE_CANCEL: 4,
        FlowKind.REDUCE: 40,
        FlowKind.REPLACE: 45,
        FlowKind.CANCEL_ALL: 1,
        FlowKind.RELEASE: 1,
    },
    open_orders_max=200,
    moves_one_in=64,
)
LIVELY: Final = Mix(
    {
        **REALISTIC.weights,
        FlowKind.DEEP: 60,
        FlowKind.CROSSING: 110,
        FlowKind.MARKET: 60,
        FlowKind.IOC: 80,
        FlowKind.CANCEL: 200,
    },
    open_orders_max=200,
    moves_one_in=64,
)
"""More takers, so that a fifth of the orders trade even where most markets see a handful of orders."""
QUIET: Final = Mix({FlowKind.NEAR: 300, FlowKind.DEEP: 200, FlowKind.CANCEL: 450}, 1_000, 0)
CROSSING: Final = Mix({FlowKind.NEAR: 400, FlowKind.CROSSING: 250, FlowKind.IOC: 250, FlowKind.CANCEL: 100}, 1_000, 0)
SWEEPS: Final = Mix({FlowKind.NEAR: 600, FlowKind.DEEP: 200, FlowKind.SWEEP: 150, FlowKind.CANCEL: 50}, 1_000, 0)


class FlowCommand(NamedTuple):
    """Command `number`, from 1, as `account` sends it `time_us` microseconds after the start of the flow."""

    number: int
    time_us: int
    account: int
    kind: FlowKind
    command: Command


class Dice:
    """Whole random numbers from a seed.

    All of them come from `random.Random.getrandbits`: 32-bit words of the Mersenne Twister, whose seeding by an integer
    and whose output are fixed. The other methods of `random` may choose otherwise in another version of Python.
    """

    def __init__(self, seed: int) -> None:
        """Start from 0 <= seed."""
        assert seed >= 0
        self._bits = random.Random(seed).getrandbits  # noqa: S311 - it is to be repeatable, not secret

    def below(self, n: int) -> int:
        """Return 0 .. n-1, evenly to within n / 2^64."""
        return self._bits(64) * n >> 64

    def one_in(self, n: int) -> bool:
        """Return true once in n times."""
        return self.below(n) == 0

    def falling(self, most: int) -> int:
        """Return 0 .. most, each half as often as the one before."""
        word = self._bits(most) | 1 << most
        return (word & -word).bit_length() - 1

    def pick(self, items: Sequence[T]) -> T:
        """Return one of the items, each as often."""
        return items[self.below(len(items))]

    def weighted(self, sums: Sequence[int]) -> int:
        """Return an index, each as often as its step in these running sums."""
        return bisect_right(sums, self.below(sums[-1]))


@dataclass(slots=True, eq=False)
class _Order:
    """An open order as its account knows it; `place` is where it stands in its market's list."""

    order_id: int
    client_order_id: int
    account: int
    side: Side
    price_ticks: int
    open_lots: int
    filled_lots: int
    post_only: bool
    place: int = -1


class _Side:
    """Open lots by price; `keys` are prices, negated for bids, best first."""

    def __init__(self, side: Side) -> None:
        self.sign = -1 if side is Side.BUY else 1
        self.keys: list[int] = []
        self.lots: dict[int, int] = {}

    def add(self, price_ticks: int, lots: int) -> None:
        key = self.sign * price_ticks
        if key not in self.lots:
            insort(self.keys, key)
        self.lots[key] = self.lots.get(key, 0) + lots

    def take(self, price_ticks: int, lots: int) -> None:
        key = self.sign * price_ticks
        self.lots[key] -= lots
        if self.lots[key] == 0:
            del self.lots[key]
            del self.keys[bisect_right(self.keys, key) - 1]

    def best_ticks(self) -> int | None:
        return self.sign * self.keys[0] if self.keys else None

    def through(self, levels: int) -> tuple[int, int]:
        """Return the price of the level that many deep, or of the last, and all lots up to it. There is a level."""
        keys = self.keys[:levels]
        return self.sign * keys[-1], sum(self.lots[key] for key in keys)


class _Market:
    """A market as the flow sees it: where its price is, and who has what in its book."""

    def __init__(self, market: Market, fair_ticks: int, accounts: tuple[int, ...]) -> None:
        self.market = market
        self.accounts = accounts
        self.tick = market.tick_table[-1].multiple_ticks if market.tick_table else 1
        self.lot = market.lot_table[-1].multiple_lots if market.lot_table else 1
        self.step_ticks = self.tick * max(1, fair_ticks // 5_000 // self.tick)
        self.fair_ticks = fair_ticks
        self.lowest_ticks, self.highest_ticks = fair_ticks * 3 // 4, fair_ticks * 5 // 4
        self.sides = {side: _Side(side) for side in Side}
        self.orders: list[_Order] = []
        self.last_ended: _Order | None = None

    def rest(self, order: _Order) -> None:
        order.place = len(self.orders)
        self.orders.append(order)
        self.sides[order.side].add(order.price_ticks, order.open_lots)

    def leave(self, order: _Order) -> None:
        self.sides[order.side].take(order.price_ticks, order.open_lots)
        last = self.orders.pop()
        if last is not order:
            self.orders[order.place] = last
            last.place = order.place
        order.place = -1

    def shrink(self, order: _Order, lots: int) -> None:
        """Take lots off an order that rests; it leaves when none are left."""
        if lots == order.open_lots:
            self.leave(order)
            self.last_ended = order
        else:
            self.sides[order.side].take(order.price_ticks, lots)
        order.open_lots -= lots


class SeededFlow:
    """A flow from its first command on.

    Attributes:
        assets, markets: what the flow trades; markets are numbered from `first_market`, the busiest first.
        accounts: who trades.
    """

    def __init__(
        self,
        seed: int,
        markets: int,
        shard: int = 1,
        mix: Mix = REALISTIC,
        *,
        first_market: int = 1,
        accounts: int = ACCOUNTS,
    ) -> None:
        """Start a flow.

        Args:
            seed: 0 or more.
            markets: how many; 1 .. MARKETS_MAX.
            shard: that the markets are in. It is part of order ids, which some commands name.
            mix: what the flow is made of.
            first_market: number of the first one, so that flows of several shards fit beside one another.
            accounts: how many trade, numbered from 1; at least ACCOUNTS_PER_MARKET.
        """
        assert 1 <= markets <= MARKETS_MAX
        assert accounts >= ACCOUNTS_PER_MARKET
        self._dice = Dice(seed)
        self._first_market = first_market
        self._accounts = accounts
        self._mix = mix
        self._kinds = list(mix.weights)
        self._kind_sums = list(accumulate(mix.weights.values()))
        self._market_sums = list(accumulate(ZIPF_SCALE // rank for rank in range(1, markets + 1)))
        self._books = [self._make_market(first_market + place, shard) for place in range(markets)]
        self._by_order_id: dict[int, tuple[_Market, _Order]] = {}
        self._taker: tuple[_Market, _Order] | None = None
        self._number = 0
        self._time_us = 0
        self.markets = tuple(book.market for book in self._books)
        self.assets = (
            Asset(QUOTE_ASSET, "USD", 6),
            *(Asset(book.market.base_asset, book.market.symbol.split("-")[0], 8) for book in self._books),
        )
        self.accounts = tuple(sorted({account for book in self._books for account in book.accounts}))

    def funding(self) -> tuple[Transfer, ...]:
        """Return what every account needs, by account and asset: enough that none runs dry, in any market it trades."""
        needed: dict[tuple[int, int], int] = {}
        for book in self._books:
            for account in book.accounts:
                for asset in (book.market.base_asset, book.market.quote_asset):
                    dollars = asset == QUOTE_ASSET
                    needed[account, asset] = QUOTE_FUNDS_UNITS if dollars else BASE_FUNDS_UNITS
        return tuple(Transfer(*owner, units) for owner, units in sorted(needed.items()))

    def run(self, commands: int, execute: Callable[[FlowCommand], Sequence[Event]]) -> Iterator[FlowCommand]:
        """Yield so many commands. Each is executed, and what happened is taken in, before it is yielded.

        Args:
            commands: how many.
            execute: enters a command as a batch of its own and returns all events of its entry.
        """
        for _ in range(commands):
            command = self.next_command()
            self.observe(execute(command))
            yield command

    # --- what happened ----------------------------------------------------------------------------------------------

    def observe(self, events: Sequence[Event]) -> None:
        """Take in what happened, in order; an order that is still open after its events rests."""
        for event in events:
            match event:
                case OrderAccepted():
                    self._settle_taker()
                    order = _Order(
                        event.order_id,
                        event.client_order_id,
                        event.account,
                        Side(event.side),
                        event.price_ticks,
                        event.quantity_lots,
                        0,
                        event.post_only,
                    )
                    book = self._books[event.market - self._first_market]
                    self._taker = self._by_order_id[event.order_id] = (book, order)
                case OrderReplaced():
                    self._settle_taker()
                    book, order = self._by_order_id[event.order_id]
                    book.leave(order)
                    order.price_ticks, order.open_lots = event.price_ticks, event.open_lots
                    self._taker = (book, order)
                case OrderReduced():
                    self._take_off(event.order_id, event.reduced_lots)
                case OrderCancelled():
                    self._take_off(event.order_id, event.cancelled_lots)
                case Trade():
                    for order_id in (event.maker_order_id, event.taker_order_id):
                        self._by_order_id[order_id][1].filled_lots += event.quantity_lots
                        self._take_off(order_id, event.quantity_lots)
                case _:
                    pass
        self._settle_taker()

    def _settle_taker(self) -> None:
        if self._taker is not None:
            book, order = self._taker
            book.rest(order)
            self._taker = None

    def _take_off(self, order_id: int, lots: int) -> None:
        book, order = self._by_order_id[order_id]
        if self._taker is not None and self._taker[1] is order:
            order.open_lots -= lots
            if not order.open_lots:
                self._taker = None
        else:
            book.shrink(order, lots)
        if not order.open_lots:
            del self._by_order_id[order_id]

    # --- what comes next --------------------------------------------------------------------------------------------

    def next_command(self) -> FlowCommand:
        """Return the next command, given all that was observed."""
        dice = self._dice
        self._number += 1
        self._time_us += 1 + dice.below(GAP_US_MAX)
        book = self._books[dice.weighted(self._market_sums)]
        if self._mix.moves_one_in and dice.one_in(self._mix.moves_one_in):
            moved = book.fair_ticks + (book.step_ticks if dice.below(2) else -book.step_ticks)
            if book.lowest_ticks <= moved <= book.highest_ticks:
                book.fair_ticks = moved
        kind = self._possible(self._kinds[dice.weighted(self._kind_sums)], book)
        account, command = self._make(kind, book)
        return FlowCommand(self._number, self._time_us, account, kind, command)

    def _possible(self, kind: FlowKind, book: _Market) -> FlowKind:
        """Return the kind, or what is done instead where the market has too many orders, or none, for it."""
        if kind in _RESTING and len(book.orders) >= self._mix.open_orders_max:
            return FlowKind.CANCEL
        if kind in _CHANGING and not book.orders:
            return FlowKind.NEAR
        if kind is FlowKind.LATE_CANCEL and book.last_ended is None:
            return FlowKind.NEAR
        if kind in _TAKING and not book.orders:
            return FlowKind.NEAR
        return kind

    def _make(self, kind: FlowKind, book: _Market) -> tuple[int, Command]:
        match kind:
            case FlowKind.CANCEL:
                order = self._dice.pick(book.orders)
                return order.account, CancelOrder(*self._name(order))
            case FlowKind.LATE_CANCEL:
                assert book.last_ended is not None
                return book.last_ended.account, CancelOrder(order_id=book.last_ended.order_id)
            case FlowKind.REDUCE:
                return self._reduce(book)
            case FlowKind.REPLACE:
                return self._replace(book)
            case FlowKind.CANCEL_ALL:
                return self._dice.pick(book.orders).account, CancelAllOrders(market=book.market.market)
            case FlowKind.RELEASE:
                units = 1 + self._dice.below(book.market.base_units_per_lot)
                return self._dice.pick(book.accounts), ReleaseFunds(book.market.base_asset, units)
            case _:
                return self._dice.pick(book.accounts), self._place(kind, book)

    def _name(self, order: _Order) -> tuple[int, int]:
        """Return order_id and client_order_id, one of them zero."""
        if order.client_order_id and not self._dice.one_in(4):
            return 0, order.client_order_id
        return order.order_id, 0

    def _place(self, kind: FlowKind, book: _Market) -> PlaceOrder:
        dice = self._dice
        side = Side.BUY if dice.below(2) else Side.SELL
        if kind in _TAKING and not book.sides[side.opposite].keys:
            side = side.opposite
        order_type, time_in_force, post_only = OrderType.LIMIT, TimeInForce.GTC, False
        opposite = book.sides[side.opposite]
        lots = book.lot * (1 + dice.below(12)) if kind in _TAKING else self._lots(book)
        match kind:
            case FlowKind.NEAR:
                price_ticks = self._behind(book, side, dice.falling(6))
            case FlowKind.DEEP:
                price_ticks = self._behind(book, side, 4 + dice.below(40))
            case FlowKind.POST_ONLY:
                price_ticks, post_only = self._passive(book, side, self._behind(book, side, dice.falling(3))), True
            case FlowKind.CROSSING:
                price_ticks, _ = opposite.through(1)
            case FlowKind.MARKET:
                price_ticks, order_type, time_in_force = 0, OrderType.MARKET, TimeInForce.IOC
            case FlowKind.IOC:
                (price_ticks, _), time_in_force = opposite.through(2), TimeInForce.IOC
            case FlowKind.FOK:
                (price_ticks, there_lots), time_in_force = opposite.through(2), TimeInForce.FOK
                lots = min(lots, there_lots) if dice.below(10) else there_lots + book.lot
            case _:
                assert kind is FlowKind.SWEEP
                (price_ticks, lots), time_in_force = opposite.through(3 + dice.below(6)), TimeInForce.IOC
        return PlaceOrder(
            market=book.market.market,
            side=side,
            order_type=order_type,
            time_in_force=time_in_force,
            post_only=post_only,
            self_trade_prevention=dice.pick(_PREVENTION) if dice.one_in(3) else 0,
            price_ticks=price_ticks,
            quantity_lots=lots,
            client_order_id=0 if dice.one_in(5) else self._number,
        )

    def _lots(self, book: _Market) -> int:
        """Return a quantity: mostly small, one in eight ten times as large."""
        return book.lot * (1 + self._dice.below(12)) * (10 if self._dice.one_in(8) else 1)

    def _behind(self, book: _Market, side: Side, steps: int) -> int:
        """Return the price that many steps behind the touch, as the market's price has it."""
        away = book.step_ticks * (1 + steps)
        price_ticks = book.fair_ticks - away if side is Side.BUY else book.fair_ticks + away
        return max(book.tick, price_ticks // book.tick * book.tick)

    def _passive(self, book: _Market, side: Side, price_ticks: int) -> int:
        """Return the price, or the best one that does not trade, unless it is one in sixteen that does not look."""
        best = book.sides[side.opposite].best_ticks()
        if best is None or self._dice.one_in(16):
            return price_ticks
        return min(price_ticks, best - book.tick) if side is Side.BUY else max(price_ticks, best + book.tick)

    def _reduce(self, book: _Market) -> tuple[int, Command]:
        order = self._dice.pick(book.orders)
        lots = book.lot * (1 + self._dice.below(max(1, order.open_lots // book.lot)))
        return order.account, ReduceOrder(*self._name(order), quantity_lots=lots)

    def _replace(self, book: _Market) -> tuple[int, Command]:
        """Move an order nearer or further, make it larger, or make it smaller in its place."""
        dice = self._dice
        order = dice.pick(book.orders)
        total_lots = order.open_lots + order.filled_lots
        names = self._name(order)
        match dice.below(3):
            case 0:
                price_ticks = self._behind(book, order.side, dice.falling(5))
                if order.post_only:
                    price_ticks = self._passive(book, order.side, price_ticks)
                return order.account, ReplaceOrder(*names, price_ticks=price_ticks)
            case 1:
                return order.account, ReplaceOrder(*names, quantity_lots=total_lots + self._lots(book))
            case _:
                kept_lots = book.lot * (1 + dice.below(max(1, order.open_lots // book.lot)))
                return order.account, ReplaceOrder(*names, quantity_lots=order.filled_lots + kept_lots)

    def _make_market(self, number: int, shard: int) -> _Market:
        """Return a market; every third has a tick table, every fourth a lot table, every seventh no maker fee."""
        dice = self._dice
        tick_table = (TickRule(1, 1), TickRule(1_000, 5)) if number % 3 == 0 else ()
        fair_ticks = (2_000 + dice.below(98_000)) // 5 * 5
        base = "BTC" if number == 1 else f"C{number:05d}"
        dollars = number % 5 != 0
        market = Market(
            market=number,
            shard=shard,
            symbol=f"{base}-{'USD' if dollars else 'BTC'}",
            base_asset=number + 1,
            quote_asset=QUOTE_ASSET if dollars else SECOND_QUOTE_ASSET,
            base_units_per_lot=1_000,
            quote_units_per_tick_lot=10 if dollars else 1,
            tick_table=tick_table,
            lot_table=(LotRule(1, 10),) if number % 4 == 0 else (),
            band_low_ticks=fair_ticks // 2,
            band_high_ticks=fair_ticks * 2,
            band_ppm=PPM // 2,
            maker_fee_ppm=0 if number % 7 == 0 else 100,
            taker_fee_ppm=250,
            state=MarketState.OPEN,
        )
        first = dice.below(self._accounts)
        accounts = tuple(1 + (first + place) % self._accounts for place in range(ACCOUNTS_PER_MARKET))
        return _Market(market, fair_ticks, accounts)


_PREVENTION: Final = tuple(SelfTradePrevention)
_RESTING: Final = (FlowKind.NEAR, FlowKind.DEEP, FlowKind.POST_ONLY)
_CHANGING: Final = (FlowKind.CANCEL, FlowKind.REDUCE, FlowKind.REPLACE, FlowKind.CANCEL_ALL)
_TAKING: Final = (FlowKind.CROSSING, FlowKind.MARKET, FlowKind.IOC, FlowKind.FOK, FlowKind.SWEEP)
