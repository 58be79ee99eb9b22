"""Trading: an order meets the book (ARCHITECTURE.md). Price, then time; at the maker's price.

`Floor` keeps orders, books and funds of a shard consistent: each of its methods changes all three and writes the event.
"""

from sortedcontainers import SortedDict

from exchange.domain.commands import SelfTradePrevention, Side
from exchange.domain.events import (
    CancelReason,
    Event,
    OrderCancelled,
    OrderReduced,
    ReduceReason,
    Trade,
)
from exchange.domain.limits import COMMAND_EVENTS_MAX
from exchange.domain.money import fee_of, notional_of, resting_hold
from exchange.domain.units import name_of
from exchange.reference.book import Book, Order, meets
from exchange.reference.funds import Funds

STEP_EVENTS_MAX = 2
"""Most events of one step of matching: both orders of a self-trade end in one each."""
CLOSING_EVENTS_MAX = 1
"""The cancel of the taker's rest."""


class Floor:
    """Open orders of a shard by every name that they have, the books they stand in, the funds that back them.

    Attributes:
        orders_of: open orders by account, by market and side, and by order_id.
        open_orders: how many open orders an account has; none where it is missing.
        events: of the entry so far.
        looked_at: makers that refused fill-or-kill orders of the entry have looked at.
    """

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.books: SortedDict[int, Book] = SortedDict()
        self.funds = Funds()
        self.orders: dict[int, Order] = {}
        self.orders_of: dict[int, SortedDict[tuple[int, Side], SortedDict[int, Order]]] = {}
        self.open_orders: dict[int, int] = {}
        self.by_client_order_id: dict[tuple[int, int], Order] = {}
        self.last_order = 0
        self.last_trade = 0
        self.events: list[Event] = []
        self.looked_at = 0

    def begin(self) -> None:
        """Start an entry."""
        self.events = []
        self.looked_at = 0

    @property
    def work(self) -> int:
        """What the entry has done, as ENTRY_WORK_MAX counts it."""
        return len(self.events) + self.looked_at

    # --- names ------------------------------------------------------------------------------------------------------

    def next_order_id(self) -> int:
        """Return the name of the next order."""
        self.last_order += 1
        return name_of(self.shard, self.last_order)

    def next_market_seq(self, market: int) -> int:
        """Return the next sequence number of the market's events."""
        book = self.books[market]
        book.market_seq += 1
        return book.market_seq

    # --- orders -----------------------------------------------------------------------------------------------------

    def rest(self, order: Order) -> None:
        """Put an open order into its book; of what is held for it, release what resting does not need."""
        self.books[order.market].add(order)
        self.orders[order.order_id] = order
        self._group(order)[order.order_id] = order
        self.open_orders[order.account] = self.open_orders.get(order.account, 0) + 1
        if order.client_order_id:
            self.by_client_order_id[order.account, order.client_order_id] = order
        self.adjust_hold(order)

    def _group(self, order: Order) -> SortedDict[int, Order]:
        """Return the open orders of the order's account in its market and on its side."""
        groups = self.orders_of.get(order.account)
        if groups is None:
            groups = self.orders_of[order.account] = SortedDict()
        group = groups.get((order.market, order.side))
        if group is None:
            group = groups[order.market, order.side] = SortedDict()
        return group

    def leave(self, order: Order) -> None:
        """Take an order out of its book, with its hold unchanged."""
        self.books[order.market].remove(order)
        del self.orders[order.order_id]
        groups = self.orders_of[order.account]
        del groups[order.market, order.side][order.order_id]
        if not groups[order.market, order.side]:
            del groups[order.market, order.side]
        self.open_orders[order.account] -= 1
        if not self.open_orders[order.account]:
            del self.open_orders[order.account], self.orders_of[order.account]
        if order.client_order_id:
            del self.by_client_order_id[order.account, order.client_order_id]

    def adjust_hold(self, order: Order) -> None:
        """Hold for an order exactly what it needs as a maker with what is open of it (invariant I-03)."""
        asset, needed = self.hold_needed(order)
        self.funds.hold(order.account, asset, needed - order.held_units)
        order.held_units = needed

    def hold_needed(self, order: Order) -> tuple[int, int]:
        """Return the asset and the units that the order needs while it rests."""
        return resting_hold(
            self.books[order.market].market,
            order.side,
            order.price_ticks,
            order.open_lots,
            order.maker_fee_ppm,
            order.maker_prepaid_ppm,
        )

    def reduce(self, order: Order, lots: int, reason: ReduceReason, command: int = 0) -> None:
        """Take fewer lots off a resting order than are open; it keeps its place."""
        order.open_lots -= lots
        self.adjust_hold(order)
        self._write_reduced(order, lots, reason, command)

    def cancel(self, order: Order, reason: CancelReason, command: int = 0) -> None:
        """End a resting order."""
        self.leave(order)
        self.end(order, reason, command)

    def end(self, order: Order, reason: CancelReason, command: int = 0) -> None:
        """End an order that is not in the book: release its hold and write what was open as cancelled."""
        cancelled_lots, order.open_lots = order.open_lots, 0
        self.adjust_hold(order)
        self.events.append(
            OrderCancelled(
                command=command,
                account=order.account,
                account_seq=self.funds.next_seq(order.account),
                market=order.market,
                market_seq=self.next_market_seq(order.market),
                order_id=order.order_id,
                cancelled_lots=cancelled_lots,
                reason=reason,
            )
        )

    # --- matching ---------------------------------------------------------------------------------------------------

    def execute(self, taker: Order, may_rest: bool) -> None:
        """Trade an order, then rest or end it; its hold is taken, its acceptance or replacement is the last event."""
        reason = self._match(taker, len(self.events) - 1)
        if taker.open_lots == 0:
            self.adjust_hold(taker)
        elif reason is not None:
            self.end(taker, reason)
        elif may_rest:
            self.rest(taker)
        else:
            self.end(taker, CancelReason.IMMEDIATE_OR_CANCEL)

    def fillable(self, taker: Order) -> bool:
        """Return whether the order would trade in full at once: what fill-or-kill asks. Looking is work."""
        events, missing_lots = 1, taker.open_lots
        for maker in self.books[taker.market].orders(taker.side.opposite):
            if not meets(taker.side, taker.price_ticks, maker.price_ticks) or not _may_step(events):
                return False
            events += 1
            self.looked_at += 1
            if maker.account != taker.account or taker.self_trade_prevention == SelfTradePrevention.NONE:
                missing_lots -= min(missing_lots, maker.open_lots)
            elif taker.self_trade_prevention != SelfTradePrevention.CANCEL_MAKER:
                return False
            if missing_lots == 0:
                return True
        return False

    def _match(self, taker: Order, first_event: int) -> CancelReason | None:
        """Trade until the order is filled, meets nothing, or must stop; return why its rest must be cancelled."""
        book = self.books[taker.market]
        while taker.open_lots:
            maker = book.first(taker.side.opposite)
            if maker is None or not meets(taker.side, taker.price_ticks, maker.price_ticks):
                return None
            if not _may_step(len(self.events) - first_event):
                return CancelReason.MATCH_LIMIT
            if maker.account != taker.account or taker.self_trade_prevention == SelfTradePrevention.NONE:
                self._trade(taker, maker)
            elif self._prevent_self_trade(taker, maker):
                return CancelReason.SELF_TRADE
        return None

    def _prevent_self_trade(self, taker: Order, maker: Order) -> bool:
        """Do to the maker what the taker's mode says; return whether the rest of the taker is cancelled."""
        mode = taker.self_trade_prevention
        if mode == SelfTradePrevention.CANCEL_TAKER:
            return True
        if mode in (SelfTradePrevention.CANCEL_MAKER, SelfTradePrevention.CANCEL_BOTH):
            self.cancel(maker, CancelReason.SELF_TRADE)
            return mode == SelfTradePrevention.CANCEL_BOTH
        lots = min(taker.open_lots, maker.open_lots)
        if maker.open_lots == lots:
            self.cancel(maker, CancelReason.SELF_TRADE)
        else:
            self.reduce(maker, lots, ReduceReason.SELF_TRADE)
        if taker.open_lots == lots:
            return True
        taker.open_lots -= lots
        self._write_reduced(taker, lots, ReduceReason.SELF_TRADE, 0)
        return False

    def _trade(self, taker: Order, maker: Order) -> None:
        book = self.books[taker.market]
        lots = min(taker.open_lots, maker.open_lots)
        notional = notional_of(book.market, maker.price_ticks, lots)
        maker_fee, maker.maker_prepaid_ppm = fee_of(notional, maker.maker_fee_ppm, maker.maker_prepaid_ppm)
        taker_fee, taker.taker_prepaid_ppm = fee_of(notional, taker.taker_fee_ppm, taker.taker_prepaid_ppm)
        sides = (maker, maker_fee), (taker, taker_fee)
        for order, _ in sides:
            order.open_lots -= lots
            order.filled_lots += lots
        # Both sides pay before either is credited: an account that trades with itself would else own more for a moment
        # than there is. See test_an_account_that_owns_all_there_is_can_trade_with_itself.
        for order, fee in sides:
            self._pay(order, book, lots, notional, fee)
        for order, fee in sides:
            self._earn(order, book, lots, notional, fee)
        self.funds.collect(book.market.quote_asset, maker_fee + taker_fee)
        # A maker's hold is what its fills cost to the unit, so nothing is left to release; a taker's rest is released
        # when it comes to rest or to its end.
        if maker.open_lots == 0:
            self.leave(maker)
        self.last_trade += 1
        book.last_price_ticks = maker.price_ticks
        self.events.append(
            Trade(
                market=taker.market,
                market_seq=self.next_market_seq(taker.market),
                trade_id=name_of(self.shard, self.last_trade),
                price_ticks=maker.price_ticks,
                quantity_lots=lots,
                taker_side=taker.side,
                maker_order_id=maker.order_id,
                taker_order_id=taker.order_id,
                maker_account=maker.account,
                maker_account_seq=self.funds.next_seq(maker.account),
                taker_account=taker.account,
                taker_account_seq=self.funds.next_seq(taker.account),
                maker_fee_quote_units=maker_fee,
                taker_fee_quote_units=taker_fee,
            )
        )

    def _pay(self, order: Order, book: Book, lots: int, notional: int, fee: int) -> None:
        """Take what one side of a trade gives away from its hold; a buyer's fee comes on top."""
        if order.side is Side.BUY:
            asset, units = book.market.quote_asset, notional + fee
        else:
            asset, units = book.market.base_asset, lots * book.market.base_units_per_lot
        order.held_units -= units
        self.funds.spend(order.account, asset, units)

    def _earn(self, order: Order, book: Book, lots: int, notional: int, fee: int) -> None:
        """Credit one side of a trade with what it gets; a seller's fee is kept back."""
        if order.side is Side.BUY:
            self.funds.credit(order.account, book.market.base_asset, lots * book.market.base_units_per_lot)
        else:
            self.funds.credit(order.account, book.market.quote_asset, notional - fee)

    def _write_reduced(self, order: Order, lots: int, reason: ReduceReason, command: int) -> None:
        self.events.append(
            OrderReduced(
                command=command,
                account=order.account,
                account_seq=self.funds.next_seq(order.account),
                market=order.market,
                market_seq=self.next_market_seq(order.market),
                order_id=order.order_id,
                reduced_lots=lots,
                open_lots=order.open_lots,
                reason=reason,
            )
        )


def _may_step(events: int) -> bool:
    """Return whether a command that has caused so many events may meet one more maker."""
    return events + STEP_EVENTS_MAX + CLOSING_EVENTS_MAX <= COMMAND_EVENTS_MAX
