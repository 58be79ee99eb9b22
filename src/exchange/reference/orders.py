"""The rules of traders' commands in a trading shard, and the order in which they are checked.

Each handler checks all of its rules before it changes anything; the first rule that is broken is the reason. Rules
stand in this order: what the command names, what the market allows now, what the command says by itself, what the
market's tables demand, what the account may, what it can pay, what the book would do.
"""

import dataclasses
from dataclasses import dataclass

from exchange.domain.commands import (
    CancelAllOrders,
    CancelOrder,
    Command,
    OrderType,
    PlaceOrder,
    ReduceOrder,
    ReplaceOrder,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from exchange.domain.events import (
    CancelReason,
    OrderAccepted,
    OrderReplaced,
    ReduceReason,
)
from exchange.domain.markets import MarketState
from exchange.domain.money import fee_of, notional_of
from exchange.domain.record import known
from exchange.domain.rejects import RejectReason
from exchange.domain.units import AMOUNT_UNITS_MAX, PPM, PRICE_TICKS_MAX, QUANTITY_LOTS_MAX, ceil_div
from exchange.reference.book import Book, Order
from exchange.reference.matching import Floor
from exchange.reference.refusal import Refused, require


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a command and where it stands: account of the batch, 1-based place in it, most open orders allowed."""

    account: int
    command: int
    open_orders_max: int


# --- placing --------------------------------------------------------------------------------------------------------


def place(floor: Floor, sender: Sender, command: PlaceOrder) -> None:
    """Accept an order, trade it, and let the rest of it rest if its time in force says so."""
    book = _book(floor, command.market)
    _check_state(book, command.post_only)
    side, order_type, time_in_force, self_trade_prevention = _instructions(command)
    may_rest = time_in_force is TimeInForce.GTC
    _check_quantity(command.quantity_lots)
    price_ticks = _price(book, side, order_type, command.price_ticks)
    if command.price_ticks:
        _check_price(book, price_ticks)
    _check_lots(book, price_ticks, command.quantity_lots)
    _check_client_order_id(floor, sender.account, command.client_order_id)
    if may_rest:
        open_orders = floor.open_orders.get(sender.account, 0)
        require(open_orders < sender.open_orders_max, RejectReason.TOO_MANY_OPEN_ORDERS)
    order = Order(
        order_id=0,
        client_order_id=command.client_order_id,
        account=sender.account,
        market=command.market,
        side=side,
        price_ticks=price_ticks,
        open_lots=command.quantity_lots,
        filled_lots=0,
        post_only=command.post_only,
        self_trade_prevention=self_trade_prevention,
        maker_fee_ppm=book.market.maker_fee_ppm,
        taker_fee_ppm=book.market.taker_fee_ppm,
    )
    crosses = book.crosses(side, price_ticks)
    asset, needed = entry_hold(book, order, crosses, may_rest)
    _check_funds(floor, order, asset, needed)
    require(not (command.post_only and crosses), RejectReason.POST_ONLY_WOULD_TRADE)
    if time_in_force is TimeInForce.FOK:
        require(floor.fillable(order), RejectReason.FOK_NOT_FILLABLE)

    order.order_id = floor.next_order_id()
    floor.funds.hold(order.account, asset, needed)
    order.held_units = needed
    floor.events.append(
        OrderAccepted(
            command=sender.command,
            account=order.account,
            account_seq=floor.funds.next_seq(order.account),
            market=order.market,
            market_seq=floor.next_market_seq(order.market),
            order_id=order.order_id,
            client_order_id=order.client_order_id,
            side=side,
            order_type=order_type,
            time_in_force=time_in_force,
            post_only=order.post_only,
            price_ticks=price_ticks,
            quantity_lots=order.open_lots,
        )
    )
    floor.execute(order, may_rest)


def entry_hold(book: Book, order: Order, crosses: bool, may_rest: bool) -> tuple[int, int]:
    """Return the asset and the most units that the order can need: what its account must have free to enter it.

    A buy can cost its open notional at its own price, and fees. An order that cannot rest only takes; one that does not
    cross only makes; one that can do both pays at the higher rate, and rounds up in each role.
    """
    if order.side is Side.SELL:
        return book.market.base_asset, order.open_lots * book.market.base_units_per_lot
    notional = notional_of(book.market, order.price_ticks, order.open_lots)
    if not may_rest:
        fee, _ = fee_of(notional, order.taker_fee_ppm, order.taker_prepaid_ppm)
    elif not crosses:
        fee, _ = fee_of(notional, order.maker_fee_ppm, order.maker_prepaid_ppm)
    else:
        rounds_twice = order.maker_fee_ppm > 0 and order.taker_fee_ppm > 0
        fee = ceil_div(notional * max(order.maker_fee_ppm, order.taker_fee_ppm), PPM) + rounds_twice
    return book.market.quote_asset, notional + fee


# --- changing -------------------------------------------------------------------------------------------------------


def cancel(floor: Floor, sender: Sender, command: CancelOrder) -> None:
    """End an order."""
    order = _order(floor, sender.account, command)
    _check_not_halted(floor.books[order.market])
    floor.cancel(order, CancelReason.REQUESTED, sender.command)


def reduce(floor: Floor, sender: Sender, command: ReduceOrder) -> None:
    """Take lots off an order, which keeps its place; taking all that is open, or more, ends it."""
    order = _order(floor, sender.account, command)
    book = floor.books[order.market]
    _check_not_halted(book)
    _check_quantity(command.quantity_lots)
    if command.quantity_lots >= order.open_lots:
        floor.cancel(order, CancelReason.REQUESTED, sender.command)
        return
    _check_lots(book, order.price_ticks, command.quantity_lots)
    floor.reduce(order, command.quantity_lots, ReduceReason.REQUESTED, sender.command)


def replace(floor: Floor, sender: Sender, command: ReplaceOrder) -> None:
    """Change an order's price and total quantity. It keeps its place only at the same price and if it does not grow.

    Else it comes to the book like a new order of the same name, at the fee rates of the day, with the post-only mark
    and the self-trade prevention that it has.
    """
    order = _order(floor, sender.account, command)
    book = floor.books[order.market]
    _check_state(book, order.post_only)
    price_ticks = command.price_ticks or order.price_ticks
    quantity_lots = command.quantity_lots or order.open_lots + order.filled_lots
    _check_quantity(quantity_lots)
    require(price_ticks <= PRICE_TICKS_MAX, RejectReason.INVALID_PRICE)
    require(quantity_lots > order.filled_lots, RejectReason.QUANTITY_NOT_ABOVE_FILLED)
    if price_ticks != order.price_ticks:
        _check_price(book, price_ticks)
    if (price_ticks, quantity_lots) != (order.price_ticks, order.open_lots + order.filled_lots):
        _check_lots(book, price_ticks, quantity_lots)
    open_lots = quantity_lots - order.filled_lots
    if price_ticks == order.price_ticks and open_lots <= order.open_lots:
        order.open_lots = open_lots
        floor.adjust_hold(order)
        _write_replaced(floor, sender, order, priority_kept=True)
        return
    crosses = book.crosses(order.side, price_ticks)
    changed = dataclasses.replace(
        order,
        price_ticks=price_ticks,
        open_lots=open_lots,
        maker_fee_ppm=book.market.maker_fee_ppm,
        taker_fee_ppm=book.market.taker_fee_ppm,
    )
    asset, needed = entry_hold(book, changed, crosses, may_rest=True)
    _check_funds(floor, changed, asset, needed)
    require(not (order.post_only and crosses), RejectReason.POST_ONLY_WOULD_TRADE)

    floor.leave(order)
    order = changed
    floor.funds.hold(order.account, asset, needed - order.held_units)
    order.held_units = needed
    _write_replaced(floor, sender, order, priority_kept=False)
    floor.execute(order, may_rest=True)


def _write_replaced(floor: Floor, sender: Sender, order: Order, priority_kept: bool) -> None:
    floor.events.append(
        OrderReplaced(
            command=sender.command,
            account=order.account,
            account_seq=floor.funds.next_seq(order.account),
            market=order.market,
            market_seq=floor.next_market_seq(order.market),
            order_id=order.order_id,
            price_ticks=order.price_ticks,
            open_lots=order.open_lots,
            priority_kept=priority_kept,
        )
    )


# --- rules ----------------------------------------------------------------------------------------------------------


def _book(floor: Floor, market: int) -> Book:
    require(market in floor.books, RejectReason.UNKNOWN_MARKET)
    return floor.books[market]


def _order(floor: Floor, account: int, command: CancelOrder | ReduceOrder | ReplaceOrder) -> Order:
    """Return the account's open order of that name. Another account's order does not exist for it."""
    named_once = bool(command.order_id) != bool(command.client_order_id)
    require(named_once, RejectReason.INVALID_ORDER_REFERENCE)
    if command.order_id:
        order = floor.orders.get(command.order_id)
    else:
        order = floor.by_client_order_id.get((account, command.client_order_id))
    if order is None or order.account != account:
        raise Refused(RejectReason.UNKNOWN_ORDER)
    return order


def _check_not_halted(book: Book) -> None:
    require(book.state is not MarketState.HALTED, RejectReason.MARKET_HALTED)


def _check_state(book: Book, post_only: bool) -> None:
    """Check that the market takes new orders and replacements."""
    _check_not_halted(book)
    require(book.state is not MarketState.CANCEL_ONLY, RejectReason.MARKET_CANCEL_ONLY)
    require(book.state is not MarketState.POST_ONLY or post_only, RejectReason.MARKET_POST_ONLY)


def _instructions(command: PlaceOrder) -> tuple[Side, OrderType, TimeInForce, SelfTradePrevention]:
    """Return what the command says by itself, with defaults filled in, once it is known to make sense."""
    require(known(Side, command.side), RejectReason.INVALID_SIDE)
    require(known(OrderType, command.order_type), RejectReason.INVALID_ORDER_TYPE)
    order_type = OrderType(command.order_type)
    default = TimeInForce.GTC if order_type is OrderType.LIMIT else TimeInForce.IOC
    time_in_force = command.time_in_force or default
    require(known(TimeInForce, time_in_force), RejectReason.INVALID_TIME_IN_FORCE)
    market_rests = order_type is OrderType.MARKET and time_in_force == TimeInForce.GTC
    require(not market_rests, RejectReason.INVALID_TIME_IN_FORCE)
    require(not command.post_only or time_in_force == TimeInForce.GTC, RejectReason.INVALID_POST_ONLY)
    mode = command.self_trade_prevention or SelfTradePrevention.CANCEL_TAKER
    require(known(SelfTradePrevention, mode), RejectReason.INVALID_SELF_TRADE_PREVENTION)
    return Side(command.side), order_type, TimeInForce(time_in_force), SelfTradePrevention(mode)


def _check_quantity(quantity_lots: int) -> None:
    require(0 < quantity_lots <= QUANTITY_LOTS_MAX, RejectReason.INVALID_QUANTITY)


def _price(book: Book, side: Side, order_type: OrderType, price_ticks: int) -> int:
    """Return the worst price at which the order may trade."""
    require(price_ticks <= PRICE_TICKS_MAX, RejectReason.INVALID_PRICE)
    if price_ticks or order_type is OrderType.LIMIT:
        require(price_ticks > 0, RejectReason.INVALID_PRICE)
        return price_ticks
    low, high = book.band()
    edge = high if side is Side.BUY else low
    if edge is None:
        raise Refused(RejectReason.NO_PROTECTION_PRICE)
    return edge


def _check_price(book: Book, price_ticks: int) -> None:
    low, high = book.band()
    inside = (low is None or low <= price_ticks) and (high is None or price_ticks <= high)
    require(inside, RejectReason.PRICE_OUTSIDE_BAND)
    require(price_ticks % book.tick_multiple(price_ticks) == 0, RejectReason.PRICE_OFF_TICK)


def _check_lots(book: Book, price_ticks: int, quantity_lots: int) -> None:
    require(quantity_lots % book.lot_multiple(price_ticks) == 0, RejectReason.QUANTITY_OFF_LOT)


def _check_client_order_id(floor: Floor, account: int, client_order_id: int) -> None:
    taken = client_order_id and (account, client_order_id) in floor.by_client_order_id
    require(not taken, RejectReason.DUPLICATE_CLIENT_ORDER_ID)


def _check_funds(floor: Floor, order: Order, asset: int, needed: int) -> None:
    """Check that the account has free what the order needs beyond what is held for it already."""
    require(needed <= AMOUNT_UNITS_MAX, RejectReason.AMOUNT_TOO_LARGE)
    missing = needed - order.held_units
    available = floor.funds.free(order.account, asset)
    if missing > available:
        raise Refused(RejectReason.INSUFFICIENT_FUNDS, missing, available, asset)


# --- what a rejection shows -----------------------------------------------------------------------------------------


def names_in(floor: Floor, account: int, command: Command) -> tuple[int, int, int]:
    """Return market, order_id and client_order_id for the rejection of a command: what it names, zero for the rest.

    The market of an order is shown to its own account only.
    """
    match command:
        case PlaceOrder():
            return command.market, 0, command.client_order_id
        case CancelOrder() | ReduceOrder() | ReplaceOrder():
            try:
                market = _order(floor, account, command).market
            except Refused:
                market = 0
            return market, command.order_id, command.client_order_id
        case CancelAllOrders():
            return command.market, 0, 0
        case _:
            return 0, 0, 0
