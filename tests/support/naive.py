"""A second opinion on trading, from the log alone: books, money, fees and sequence numbers folded out of events.

It shares no code with an engine. Books are plain lists in the order of arrival; whoever trades must be the one that a
search through the whole list finds first. An `AssertionError` names the event that cannot be.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil

from exchange.domain.commands import (
    Batch,
    Command,
    OrderType,
    PlaceOrder,
    SelfTradePrevention,
    Side,
    SignedBatch,
    TimeInForce,
)
from exchange.domain.events import (
    BatchResult,
    CancelAllAccepted,
    CancelAllDone,
    CancelOrdersAccepted,
    CancelReason,
    CommandRejected,
    Event,
    FundsCredited,
    FundsSent,
    MarketDefined,
    MarketStateChanged,
    OrderAccepted,
    OrderCancelled,
    OrderReduced,
    OrderReplaced,
    ReduceReason,
    Trade,
)
from exchange.domain.markets import Market
from exchange.domain.rejects import RejectReason
from exchange.domain.state import RestingOrder, ShardState
from exchange.wire.messages import decode

COMMAND_EVENTS_MAX = 1_024
MAKERS_MAX = 1_021
"""Most makers of one command: its acceptance, the second event of a self-trade and the cancel of its rest need room."""
EXCHANGE = 0


@dataclass
class NaiveOrder:
    """What the log says of an order; rates, fees due in millionths and fees paid are as a maker and as a taker."""

    order_id: int
    account: int
    side: int
    price_ticks: int
    quantity_lots: int
    rates_ppm: tuple[int, int]
    rests: bool
    fills_or_nothing: bool
    post_only: bool
    mode: int
    client_order_id: int
    open_lots: int = 0
    filled_lots: int = 0
    due_ppm: list[int] = field(default_factory=lambda: [0, 0])
    fees: list[int] = field(default_factory=lambda: [0, 0])


@dataclass
class NaiveBook:
    """The open orders of a market in the order in which they came to their prices."""

    market: Market
    orders: list[NaiveOrder] = field(default_factory=list)
    last_price_ticks: int = 0

    def allows(self, price_ticks: int) -> bool:
        """Return whether a price is between the edges and near enough to the last trade, where prices can be both."""
        low, high = self.market.band_low_ticks or 1, self.market.band_high_ticks or 2**53 - 1
        last, width = self.last_price_ticks, self.last_price_ticks * self.market.band_ppm // 1_000_000
        near = self.market.band_ppm and last and last - width <= high and last + width >= low
        return low <= price_ticks <= high and (not near or abs(price_ticks - last) <= width)

    @property
    def rates_ppm(self) -> tuple[int, int]:
        """The fee rates of the day, as a maker and as a taker."""
        return self.market.maker_fee_ppm, self.market.taker_fee_ppm

    def first(self, side: int) -> NaiveOrder | None:
        """Return who trades next: the best price, and at one price who came first (Python's min keeps the first)."""
        there = [order for order in self.orders if order.side == side]
        sign = -1 if side == Side.BUY else 1
        return min(there, key=lambda order: sign * order.price_ticks, default=None)

    def ranked(self, side: int) -> list[NaiveOrder]:
        """Return a side in the order in which it trades (Python's sort is stable)."""
        sign = -1 if side == Side.BUY else 1
        return sorted(
            (order for order in self.orders if order.side == side), key=lambda order: sign * order.price_ticks
        )


class LogReader:
    """Folds the events of one shard, entry by entry, and checks every one of them against what it knows."""

    def __init__(self) -> None:
        self.books: dict[int, NaiveBook] = {}
        self.orders: dict[int, NaiveOrder] = {}
        self.units: Counter[tuple[int, int]] = Counter()
        self.collected: Counter[int] = Counter()
        self.account_seq: Counter[int] = Counter()
        self.market_seq: Counter[int] = Counter()
        self.mass_cancels: dict[int, int] = {}
        """Orders that each mass cancel under way has cancelled."""
        self.trades = 0
        self.executed: set[bytes] = set()
        self._last_order = self._last_trade = self._last_mass_cancel = self._mass_cancel = 0
        self._taker: tuple[NaiveBook, NaiveOrder] | None = None
        self._commands: tuple[Command, ...] = ()

    # --- an entry ---------------------------------------------------------------------------------------------------

    def read(self, batches: Sequence[SignedBatch], events: Sequence[Event]) -> None:
        """Take the next entry: the batches in it and the events that answered it."""
        self._check_heads(batches, events)
        self._mass_cancel = min(self.mass_cancels, default=0)
        for event in events:
            if isinstance(event, BatchResult):
                executed = not event.reason and not event.repeat_n
                self._commands = decode(Batch, batches[event.batch - 1].payload).commands if executed else ()
            try:
                self._take(event)
            except AssertionError as error:
                raise AssertionError(f"{error}: {event}") from error
        self._settle_taker()

    def _check_heads(self, batches: Sequence[SignedBatch], events: Sequence[Event]) -> None:
        """Check that each executed batch, and each only once, has one bounded answer per command, in order."""
        results = [(place, event) for place, event in enumerate(events) if isinstance(event, BatchResult)]
        assert [result.batch for _, result in results] == list(range(1, len(batches) + 1))
        ends = [place for place, _ in results][1:] + [len(events)] * bool(results)
        for signed, (start, result), end in zip(batches, results, ends, strict=True):
            answers = events[start + 1 : end]
            heads = [place for place, event in enumerate(answers) if getattr(event, "command", 0)]
            if result.reason or result.repeat_n:
                assert not answers, "a batch that is not executed has consequences"
                continue
            assert signed.payload not in self.executed, "a batch is executed twice"
            self.executed.add(signed.payload)
            commands = decode(Batch, signed.payload).commands
            numbers = [getattr(answers[place], "command", 0) for place in heads]
            assert numbers == list(range(1, len(commands) + 1)), "commands are not answered one by one"
            assert heads[0] == 0
            lengths = [after - before for before, after in zip(heads, [*heads[1:], len(answers)], strict=True)]
            assert max(lengths) <= COMMAND_EVENTS_MAX

    # --- an event ---------------------------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        if getattr(event, "command", 0) or not isinstance(event, (Trade, OrderCancelled, OrderReduced)):
            self._settle_taker()
        self._check_sequences(event)
        match event:
            case MarketDefined(market):
                self.books.setdefault(market.market, NaiveBook(market)).market = market
            case FundsCredited():
                self._book_units(event.account, event.asset, event.amount_units)
            case FundsSent():
                self._book_units(event.account, event.asset, -event.amount_units)
            case OrderAccepted():
                self._accept(event)
            case CommandRejected():
                self._reject(event)
            case OrderReplaced():
                self._replace(event)
            case OrderReduced():
                self._reduce(event)
            case OrderCancelled():
                self._cancel(event)
            case Trade():
                self._trade(event)
            case CancelAllAccepted() | CancelOrdersAccepted():
                self._last_mass_cancel += 1
                assert event.cancel_all_id == self._last_mass_cancel, "mass cancels are not dense"
                self._mass_cancel, self.mass_cancels[event.cancel_all_id] = event.cancel_all_id, 0
            case CancelAllDone():
                assert event.cancel_all_id == self._mass_cancel
                assert self.mass_cancels.pop(event.cancel_all_id) == event.cancelled_orders
                self._mass_cancel = min(self.mass_cancels, default=0)
            case _:
                pass

    def _check_sequences(self, event: Event) -> None:
        """Check that the numbers of accounts and markets go on by one. A trade has the maker's before the taker's."""
        if isinstance(event, Trade):
            numbers = [(event.maker_account, event.maker_account_seq), (event.taker_account, event.taker_account_seq)]
        else:
            numbers = [(getattr(event, "account", 0), getattr(event, "account_seq", 0))]
        for account, number in numbers:
            if account and number:
                self.account_seq[account] += 1
                assert number == self.account_seq[account], "account_seq is not dense"
        market_seq = getattr(event, "market_seq", 0)
        if market_seq:
            market = event.market.market if isinstance(event, MarketDefined) else event.market  # type: ignore[union-attr]
            self.market_seq[market] += 1
            assert market_seq == self.market_seq[market], "market_seq is not dense"
        else:
            assert not isinstance(event, (Trade, OrderAccepted, OrderReplaced, OrderReduced, MarketStateChanged))

    def _book_units(self, account: int, asset: int, units: int) -> None:
        if account == EXCHANGE:
            self.collected[asset] += units
        self.units[account, asset] += units
        assert self.units[account, asset] >= 0 or account == EXCHANGE, "an account spent what it does not have"

    # --- orders -----------------------------------------------------------------------------------------------------

    def _accept(self, event: OrderAccepted) -> None:
        book, command = self.books[event.market], self._commands[event.command - 1]
        assert isinstance(command, PlaceOrder)
        assert event.order_id > self._last_order, "order ids do not rise"
        self._last_order = event.order_id
        order = NaiveOrder(
            order_id=event.order_id,
            account=event.account,
            side=event.side,
            price_ticks=event.price_ticks,
            quantity_lots=event.quantity_lots,
            rates_ppm=book.rates_ppm,
            rests=event.time_in_force == TimeInForce.GTC,
            fills_or_nothing=event.time_in_force == TimeInForce.FOK,
            post_only=event.post_only,
            mode=command.self_trade_prevention or SelfTradePrevention.CANCEL_TAKER,
            client_order_id=event.client_order_id,
            open_lots=event.quantity_lots,
        )
        assert order.rests or not event.post_only
        assert event.order_type == OrderType.LIMIT or not order.rests, "a market order rests"
        assert command.price_ticks in (0, event.price_ticks)
        assert (command.market, command.side, command.quantity_lots) == (event.market, event.side, event.quantity_lots)
        assert not command.price_ticks or book.allows(command.price_ticks), "an order is accepted outside the band"
        assert not self._name_is_taken(event.account, event.client_order_id), "a client_order_id is given twice"
        assert not (event.post_only and self._meets(book, order)), "a post-only order takes"
        self.orders[event.order_id] = order
        self._taker = book, order

    def _reject(self, event: CommandRejected) -> None:
        """Check the reasons that can be seen from outside: each of them must be true."""
        command = self._commands[event.command - 1]
        if not isinstance(command, PlaceOrder):
            return
        match RejectReason(event.reason):
            case RejectReason.UNKNOWN_MARKET:
                assert command.market not in self.books
            case RejectReason.PRICE_OUTSIDE_BAND:
                assert not self.books[command.market].allows(command.price_ticks)
            case RejectReason.DUPLICATE_CLIENT_ORDER_ID:
                assert self._name_is_taken(event.account, command.client_order_id)
            case RejectReason.POST_ONLY_WOULD_TRADE:
                assert command.post_only
                best = self.books[command.market].first(3 - command.side)
                assert best is not None
                assert _meet(command.side, command.price_ticks, best.price_ticks)
            case RejectReason.FOK_NOT_FILLABLE if command.price_ticks:
                assert not self._fills(event.account, command), "a fill-or-kill order is refused that could be filled"
            case _:
                pass

    def _name_is_taken(self, account: int, client_order_id: int) -> bool:
        names = {(order.account, order.client_order_id) for order in self.orders.values() if order.client_order_id}
        return (account, client_order_id) in names

    def _fills(self, account: int, command: PlaceOrder) -> bool:
        """Return whether an order meets enough makers before it meets one of its own that stops it, or too many."""
        mode = command.self_trade_prevention or SelfTradePrevention.CANCEL_TAKER
        met = 0
        for maker in self.books[command.market].ranked(3 - command.side)[:MAKERS_MAX]:
            if not _meet(command.side, command.price_ticks, maker.price_ticks):
                return False
            if maker.account != account or mode == SelfTradePrevention.NONE:
                met += maker.open_lots
            elif mode != SelfTradePrevention.CANCEL_MAKER:
                return False
            if met >= command.quantity_lots:
                return True
        return False

    def _replace(self, event: OrderReplaced) -> None:
        book, order = self.books[event.market], self.orders[event.order_id]
        assert order in book.orders, "an order that is not open is replaced"
        kept = event.price_ticks == order.price_ticks and event.open_lots <= order.open_lots
        assert event.priority_kept == kept
        order.price_ticks, order.open_lots = event.price_ticks, event.open_lots
        order.quantity_lots = order.filled_lots + event.open_lots
        if not kept:
            book.orders.remove(order)
            order.rates_ppm = book.rates_ppm
            assert not (order.post_only and self._meets(book, order)), "a post-only order takes"
            self._taker = book, order

    def _reduce(self, event: OrderReduced) -> None:
        book, order = self.books[event.market], self.orders[event.order_id]
        order.open_lots -= event.reduced_lots
        assert order.open_lots == event.open_lots > 0
        if event.reason == ReduceReason.SELF_TRADE:
            self._check_self_trade(order, SelfTradePrevention.DECREMENT)
            if not self._is_taker(order):
                self._check_next_maker(book, order)

    def _cancel(self, event: OrderCancelled) -> None:
        book, order = self.books[event.market], self.orders.pop(event.order_id)
        assert order.open_lots == event.cancelled_lots > 0
        if self._is_taker(order):
            self._taker = None
            assert not order.fills_or_nothing, "a fill-or-kill order is accepted and not filled"
            meets = self._meets(book, order)
            if event.reason == CancelReason.IMMEDIATE_OR_CANCEL:
                assert not order.rests
                assert not meets, "an order that could trade is cancelled"
            elif event.reason == CancelReason.SELF_TRADE:
                assert order.mode not in (SelfTradePrevention.CANCEL_MAKER, SelfTradePrevention.NONE)
            else:
                assert event.reason == CancelReason.MATCH_LIMIT
                assert meets, "the rest of an order is cancelled that met everybody"
            return
        if event.reason == CancelReason.SELF_TRADE:
            self._check_next_maker(book, order)
            modes = SelfTradePrevention.CANCEL_MAKER, SelfTradePrevention.CANCEL_BOTH, SelfTradePrevention.DECREMENT
            self._check_self_trade(order, *modes)
        elif event.reason in (CancelReason.CANCEL_ALL, CancelReason.OPERATOR):
            self.mass_cancels[self._mass_cancel] += 1
        else:
            assert event.reason == CancelReason.REQUESTED
            assert event.command, "an order is cancelled without a command"
        book.orders.remove(order)

    def _trade(self, event: Trade) -> None:
        assert self._taker is not None, "a trade without a taker"
        book, taker = self._taker
        maker = self.orders[event.maker_order_id]
        assert (event.taker_order_id, event.taker_side) == (taker.order_id, taker.side)
        assert (event.maker_account, event.taker_account) == (maker.account, taker.account)
        assert event.trade_id > self._last_trade, "trade ids do not rise"
        self._last_trade = event.trade_id
        self.trades += 1
        self._check_next_maker(book, maker)
        assert maker.account != taker.account or taker.mode == SelfTradePrevention.NONE, "a trade with itself"
        assert event.price_ticks == maker.price_ticks, "a trade is not at the maker's price"
        assert event.quantity_lots == min(maker.open_lots, taker.open_lots) > 0, "a trade is not of all that both want"
        notional = event.price_ticks * event.quantity_lots * book.market.quote_units_per_tick_lot
        base = event.quantity_lots * book.market.base_units_per_lot
        fees = (event.maker_fee_quote_units, event.taker_fee_quote_units)
        for role, order in enumerate((maker, taker)):
            order.open_lots -= event.quantity_lots
            order.filled_lots += event.quantity_lots
            assert order.filled_lots <= order.quantity_lots, "an order is filled beyond its quantity"
            order.due_ppm[role] += notional * order.rates_ppm[role]
            order.fees[role] += fees[role]
            due = ceil(Fraction(order.due_ppm[role], 1_000_000))
            assert order.fees[role] == due, "fees are not the notional times the rate, added up and rounded up once"
        for role, order in enumerate((maker, taker)):
            sign = 1 if order.side == Side.BUY else -1
            self.units[order.account, book.market.base_asset] += sign * base
            self.units[order.account, book.market.quote_asset] -= sign * notional + fees[role]
        self.collected[book.market.quote_asset] += sum(fees)
        book.last_price_ticks = event.price_ticks
        if maker.open_lots == 0:
            book.orders.remove(maker)
            del self.orders[maker.order_id]

    def _settle_taker(self) -> None:
        """Let what is open of the taker rest: it met everybody that it could."""
        if self._taker is None:
            return
        book, taker = self._taker
        self._taker = None
        if taker.open_lots == 0:
            del self.orders[taker.order_id]
            return
        assert taker.rests, f"order {taker.order_id:x} rests, but it may not"
        assert not self._meets(book, taker), f"order {taker.order_id:x} rests, but it could trade"
        book.orders.append(taker)

    def _is_taker(self, order: NaiveOrder) -> bool:
        return self._taker is not None and self._taker[1] is order

    def _check_next_maker(self, book: NaiveBook, maker: NaiveOrder) -> None:
        assert self._taker is not None, "a maker is met by nobody"
        taker = self._taker[1]
        assert self._meets(book, taker), "a taker trades beyond its price"
        assert book.first(maker.side) is maker, "a maker is met out of its turn"
        assert maker.side != taker.side

    def _meets(self, book: NaiveBook, taker: NaiveOrder) -> bool:
        opposite = Side.SELL if taker.side == Side.BUY else Side.BUY
        best = book.first(opposite)
        if best is None:
            return False
        return _meet(taker.side, taker.price_ticks, best.price_ticks)

    def _check_self_trade(self, maker: NaiveOrder, *modes: SelfTradePrevention) -> None:
        assert self._taker is not None
        taker = self._taker[1]
        assert taker.account == maker.account, "self-trade prevention between two accounts"
        assert taker.mode in modes, "another self-trade prevention than the taker's"

    # --- what the state must say ------------------------------------------------------------------------------------

    def check(self, state: ShardState) -> None:
        """Check that books, money, fees and numbers of a state are those of the log."""
        for book_state in state.books:
            book = self.books[book_state.market.market]
            for side, resting in ((Side.BUY, book_state.bids), (Side.SELL, book_state.asks)):
                assert [_shown(order) for order in resting] == [_known(order) for order in book.ranked(side)]
            assert book_state.market_seq == self.market_seq[book.market.market]
            assert book_state.last_price_ticks == book.last_price_ticks
        there = {
            (owner.account, balance.asset): balance.free_units + balance.locked_units
            for owner in state.accounts
            for balance in owner.balances
        }
        assert there == {name: units for name, units in self.units.items() if units and name[0] != EXCHANGE}
        assert {fee.asset: fee.amount_units for fee in state.fees} == {k: v for k, v in self.collected.items() if v}
        assert {owner.account: owner.account_seq for owner in state.accounts} == dict(self.account_seq)


def _shown(order: RestingOrder) -> tuple[int, int, int, int, int]:
    return order.order_id, order.account, order.price_ticks, order.open_lots, order.filled_lots


def _known(order: NaiveOrder) -> tuple[int, int, int, int, int]:
    return order.order_id, order.account, order.price_ticks, order.open_lots, order.filled_lots


def _meet(side: int, price_ticks: int, opposite_price_ticks: int) -> bool:
    return price_ticks >= opposite_price_ticks if side == Side.BUY else price_ticks <= opposite_price_ticks
