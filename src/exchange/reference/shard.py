"""A trading shard: what becomes of an entry, part by part.

An entry is taken in this order: timers that are due, by deadline and number; mass cancels under way, by number;
operations; links; batches. Timers and mass cancels cause at most PENDING_EVENTS_MAX events together; what is left goes
on at the start of the next entry.
"""

from collections.abc import Iterator
from itertools import islice, product

import msgspec
from sortedcontainers import SortedDict

from exchange.domain.commands import (
    Batch,
    CancelAllOrders,
    CancelOrder,
    Command,
    PlaceOrder,
    ReduceOrder,
    ReleaseFunds,
    ReplaceOrder,
    SelfTradePrevention,
    Side,
)
from exchange.domain.events import (
    CancelAllAccepted,
    CancelAllDone,
    CancelOrdersAccepted,
    CancelReason,
    CommandRejected,
    ControlFloorRaised,
    Event,
    FrameRefused,
    FundsCredited,
    FundsSent,
    MarketDefined,
    MarketStateChanged,
    MarketStateScheduled,
    RequestResult,
)
from exchange.domain.frames import FORMAT, Entry, ParsedBatch, ParsedLink, ParsedOperation
from exchange.domain.limits import COMMAND_EVENTS_MAX, ENTRY_WORK_MAX, PENDING_EVENTS_MAX, TIMERS_MAX
from exchange.domain.markets import (
    MARKET_FIXED_FIELDS,
    Market,
    MarketState,
    market_is_valid,
    with_state,
)
from exchange.domain.operations import (
    CancelOrders,
    DefineMarket,
    OperatorAction,
    OperatorRole,
    RaiseControlFloor,
    RaiseRules,
    RotateOperatorKey,
    SetMarketState,
    SetShardSettings,
    SweepFees,
)
from exchange.domain.record import known
from exchange.domain.rejects import RejectReason
from exchange.domain.state import (
    AccountState,
    Balance,
    BookState,
    PendingCancelAll,
    RestingOrder,
    ShardState,
    Timer,
)
from exchange.domain.units import AMOUNT_UNITS_MAX, CONTROL_SHARD, name_of
from exchange.reference import orders
from exchange.reference.book import Book, Order
from exchange.reference.core import Core, amounts_in, amounts_out
from exchange.reference.matching import Floor
from exchange.reference.orders import Sender
from exchange.reference.refusal import Refused, require


class Shard:
    """The state of a trading shard, and what it does with entries, one after another."""

    def __init__(self, state: ShardState) -> None:
        """Load a state: one that was exported, or `genesis_core` and nothing else."""
        self.core = Core(state.core)
        self.floor = Floor(self.core.shard)
        self.floor.last_order = state.last_order
        self.floor.last_trade = state.last_trade
        self.last_cancel_all = state.last_cancel_all
        self.last_timer = state.last_timer
        self.timers: SortedDict[tuple[int, int], Timer] = SortedDict()
        for timer in state.timers:
            self.timers[timer.deadline_us, timer.timer_id] = timer
        self.pending: list[PendingCancelAll] = list(state.pending)
        self.floor.funds.fees = amounts_in(state.fees)
        for owner in state.accounts:
            account = self.floor.funds.account(owner.account)
            account.account_seq = owner.account_seq
            for balance in owner.balances:
                self.floor.funds.credit(owner.account, balance.asset, balance.free_units + balance.locked_units)
        for book in state.books:
            self.floor.books[book.market.market] = Book(book.market, book.market_seq, book.last_price_ticks)
            for side, resting in ((Side.BUY, book.bids), (Side.SELL, book.asks)):
                for order in resting:
                    self.floor.rest(_load_order(order, book.market.market, side))

    def export(self) -> ShardState:
        """Return the state as a value that does not depend on how it is kept here."""
        return ShardState(
            format=FORMAT,
            core=self.core.export(),
            last_order=self.floor.last_order,
            last_trade=self.floor.last_trade,
            last_cancel_all=self.last_cancel_all,
            last_timer=self.last_timer,
            books=tuple(
                BookState(
                    market=book.market,
                    market_seq=book.market_seq,
                    last_price_ticks=book.last_price_ticks,
                    bids=tuple(export_order(order) for order in book.orders(Side.BUY)),
                    asks=tuple(export_order(order) for order in book.orders(Side.SELL)),
                )
                for book in self.floor.books.values()
            ),
            accounts=tuple(
                AccountState(
                    account=number,
                    account_seq=account.account_seq,
                    balances=tuple(
                        Balance(asset, balance.free_units, balance.locked_units)
                        for asset, balance in sorted(account.balances.items())
                        if balance.free_units or balance.locked_units
                    ),
                )
                for number, account in sorted(self.floor.funds.accounts.items())
                if account.account_seq
            ),
            fees=amounts_out(self.floor.funds.fees),
            timers=tuple(self.timers.values()),
            pending=tuple(self.pending),
        )

    def apply(self, entry: Entry) -> tuple[Event, ...]:
        """Execute the next entry and return what happened.

        Raises:
            EngineStop: the entry cannot be answered; the shard must not be used any more.
        """
        self.core.begin(entry)
        self.floor.begin()
        self._go_on()
        if not entry.well_formed:
            self._write(FrameRefused(RejectReason.MALFORMED))
        for place, operation in enumerate(entry.operations, 1):
            self._apply_operation(place, operation)
        for place, link in enumerate(entry.links, 1):
            self._apply_link(place, link)
        for place, _ in enumerate(entry.requests, 1):
            self._write(RequestResult(place, RejectReason.NOT_FOR_THIS_SHARD))
        for place, batch in enumerate(entry.batches, 1):
            self._apply_batch(entry, place, batch)
        return tuple(self.floor.events)

    def has_due_work(self, t_us: int) -> bool:
        """Return whether an entry of time t_us would do something even if it were empty: when a clock entry is due."""
        return bool(self.pending) or bool(self.timers and self.timers.peekitem(0)[0][0] <= t_us)

    def _write(self, event: Event) -> None:
        self.floor.events.append(event)

    # --- timers and pending work ------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        events = self.floor.events
        while self.timers and self.timers.peekitem(0)[0][0] <= self.core.t_us and len(events) < PENDING_EVENTS_MAX:
            _, timer = self.timers.popitem(0)
            self._set_state(timer.market, timer.state)
        while self.pending and len(events) < PENDING_EVENTS_MAX:
            rest = self._cancel_some(self.pending.pop(0), PENDING_EVENTS_MAX)
            if rest is not None:
                self.pending.insert(0, rest)
                return

    def _start_cancel_all(self, pending: PendingCancelAll, events_max: int) -> None:
        rest = self._cancel_some(pending, events_max)
        if rest is not None:
            self.pending.append(rest)

    def _cancel_some(self, pending: PendingCancelAll, events_max: int) -> PendingCancelAll | None:
        """Cancel orders until the entry has `events_max` events; return what is left to do.

        A trader's go by market, buys first, then oldest first; those of the exchange that are for all accounts go by
        market, bids first, in the order in which they would trade.
        """
        reason = CancelReason.OPERATOR if pending.by_operator else CancelReason.CANCEL_ALL
        room = max(0, events_max - 1 - len(self.floor.events))
        concerned = list(islice(self._concerned(pending), room + 1))
        for order in concerned[:room]:
            self.floor.cancel(order, reason)
        cancelled = pending.cancelled_orders + len(concerned[:room])
        if len(concerned) > room:
            return msgspec.structs.replace(pending, cancelled_orders=cancelled)
        account_seq = self.floor.funds.next_seq(pending.account) if pending.account else 0
        self._write(CancelAllDone(pending.cancel_all_id, cancelled, pending.account, account_seq))
        return None

    def _concerned(self, pending: PendingCancelAll) -> Iterator[Order]:
        """Yield the orders that a mass cancel has yet to end; a trader's own leaves halted markets alone."""
        markets = [pending.market] if pending.market else list(self.floor.books)
        sides = [Side(pending.side)] if pending.side else list(Side)
        groups = self.floor.orders_of.get(pending.account, SortedDict())
        for market, side in groups if pending.account else product(markets, sides):
            book = self.floor.books[market]
            wanted = pending.market in (0, market) and pending.side in (0, side)
            if wanted and (pending.by_operator or book.state is not MarketState.HALTED):
                orders = groups[market, side].values() if pending.account else book.orders(side)
                yield from (order for order in orders if order.order_id <= pending.last_order_id)

    def _new_cancel_all(self, account: int, market: int, side: int, by_operator: bool) -> PendingCancelAll:
        self.last_cancel_all += 1
        newest = name_of(self.core.shard, self.floor.last_order) if self.floor.last_order else 0
        return PendingCancelAll(self.last_cancel_all, account, market, side, newest, 0, by_operator)

    # --- batches ----------------------------------------------------------------------------------------------------

    def _apply_batch(self, entry: Entry, place: int, parsed: ParsedBatch) -> None:
        result = self.core.judge_batch(entry, place, parsed, self.floor.work)
        self._write(result)
        if result.reason or result.repeat_n:
            return
        assert parsed.batch is not None
        self._apply_commands(parsed.batch)

    def _apply_commands(self, batch: Batch) -> None:
        for number, command in enumerate(batch.commands, 1):
            sender = Sender(batch.account, number, self.core.settings.open_orders_per_account_max)
            try:
                require(self.floor.work < ENTRY_WORK_MAX, RejectReason.ENTRY_WORK_LIMIT)
                self._apply_command(sender, command)
            except Refused as refused:
                market, order_id, client_order_id = orders.names_in(self.floor, batch.account, command)
                self._write(
                    CommandRejected(
                        command=number,
                        account=batch.account,
                        account_seq=self.floor.funds.next_seq(batch.account),
                        reason=refused.reason,
                        market=market,
                        order_id=order_id,
                        client_order_id=client_order_id,
                        required_units=refused.required_units,
                        available_units=refused.available_units,
                        asset=refused.asset,
                    )
                )

    def _apply_command(self, sender: Sender, command: Command) -> None:
        match command:
            case PlaceOrder():
                orders.place(self.floor, sender, command)
            case CancelOrder():
                orders.cancel(self.floor, sender, command)
            case ReduceOrder():
                orders.reduce(self.floor, sender, command)
            case ReplaceOrder():
                orders.replace(self.floor, sender, command)
            case CancelAllOrders():
                self._cancel_all(sender, command)
            case ReleaseFunds():
                self._release(sender, command)
            case _:
                raise Refused(RejectReason.NOT_FOR_THIS_SHARD)

    def _cancel_all(self, sender: Sender, command: CancelAllOrders) -> None:
        """Cancel what the account has open now; what does not fit one command goes on in the following entries."""
        if command.market:
            require(command.market in self.floor.books, RejectReason.UNKNOWN_MARKET)
            halted = self.floor.books[command.market].state is MarketState.HALTED
            require(not halted, RejectReason.MARKET_HALTED)
        require(command.side == 0 or known(Side, command.side), RejectReason.INVALID_SIDE)
        pending = self._new_cancel_all(sender.account, command.market, command.side, by_operator=False)
        first_event = len(self.floor.events)
        self._write(
            CancelAllAccepted(
                command=sender.command,
                account=sender.account,
                account_seq=self.floor.funds.next_seq(sender.account),
                cancel_all_id=pending.cancel_all_id,
                market=command.market,
                side=command.side,
            )
        )
        self._start_cancel_all(pending, first_event + COMMAND_EVENTS_MAX)

    def _release(self, sender: Sender, command: ReleaseFunds) -> None:
        """Send free funds to the treasury."""
        require(0 < command.amount_units <= AMOUNT_UNITS_MAX, RejectReason.INVALID_AMOUNT)
        available = self.floor.funds.free(sender.account, command.asset)
        if command.amount_units > available:
            raise Refused(RejectReason.INSUFFICIENT_FUNDS, command.amount_units, available, command.asset)
        self.floor.funds.debit(sender.account, command.asset, command.amount_units)
        self._write(
            FundsSent(
                command=sender.command,
                account=sender.account,
                account_seq=self.floor.funds.next_seq(sender.account),
                asset=command.asset,
                amount_units=command.amount_units,
                to_shard=CONTROL_SHARD,
                link_sequence=self.core.send(CONTROL_SHARD, command.asset, command.amount_units),
            )
        )

    # --- links ------------------------------------------------------------------------------------------------------

    def _apply_link(self, place: int, parsed: ParsedLink) -> None:
        """Credit what a link carries. It is refused for no state of any market or account."""
        result = self.core.judge_link(place, parsed)
        self._write(result)
        if result.reason or result.repeated:
            return
        assert parsed.link is not None
        for transfer in parsed.link.transfers:
            if transfer.account:
                self.floor.funds.credit(transfer.account, transfer.asset, transfer.amount_units)
            else:
                self.floor.funds.collect(transfer.asset, transfer.amount_units)
            self._write(
                FundsCredited(
                    account=transfer.account,
                    account_seq=self.floor.funds.next_seq(transfer.account) if transfer.account else 0,
                    asset=transfer.asset,
                    amount_units=transfer.amount_units,
                    from_shard=parsed.link.from_shard,
                )
            )

    # --- operations -------------------------------------------------------------------------------------------------

    def _apply_operation(self, place: int, parsed: ParsedOperation) -> None:
        result = self.core.judge_operation(place, parsed, self.floor.work)
        self._write(result)
        if result.reason or result.repeated:
            return
        assert parsed.operation is not None
        self.core.apply_actions(parsed.operation, lambda: self.floor.work, self._apply_action, self._write)

    def _apply_action(self, role: OperatorRole, action: OperatorAction) -> None:
        match action:
            case DefineMarket():
                self._define_market(action.market)
            case SetMarketState():
                self._set_market_state(action)
            case CancelOrders():
                self._cancel_orders(action)
            case RaiseControlFloor():
                require(action.control_n >= self.core.control_floor, RejectReason.FLOOR_WOULD_FALL)
                self.core.control_floor = action.control_n
                self._write(ControlFloorRaised(action.control_n))
            case SetShardSettings() | RaiseRules() | RotateOperatorKey():
                self._write(self.core.change(role, action))
            case SweepFees():
                self._sweep_fees(action.asset)
            case _:
                raise Refused(RejectReason.NOT_FOR_THIS_SHARD)

    def _define_market(self, market: Market) -> None:
        """Open a book, or change the settings of one; open orders stay as they are, with the fees they came with."""
        require(market_is_valid(market), RejectReason.INVALID_MARKET)
        require(market.shard == self.core.shard, RejectReason.WRONG_SHARD)
        book = self.floor.books.get(market.market)
        if book is None:
            book = self.floor.books[market.market] = Book(market)
        fixed = all(getattr(market, name) == getattr(book.market, name) for name in MARKET_FIXED_FIELDS)
        require(fixed, RejectReason.MARKET_FIELD_FIXED)
        book.market = with_state(market, book.market.state)
        self._write(MarketDefined(book.market, self.floor.next_market_seq(market.market)))

    def _set_market_state(self, action: SetMarketState) -> None:
        require(action.market in self.floor.books, RejectReason.UNKNOWN_MARKET)
        require(known(MarketState, action.state), RejectReason.INVALID_MARKET_STATE)
        if action.effective_us <= self.core.t_us:
            # A halt in an emergency must not be undone by what was planned before.
            for name in [name for name, timer in self.timers.items() if timer.market == action.market]:
                del self.timers[name]
            self._set_state(action.market, action.state)
            return
        require(len(self.timers) < TIMERS_MAX, RejectReason.TOO_MANY_TIMERS)
        self.last_timer += 1
        timer = Timer(action.effective_us, self.last_timer, action.market, action.state)
        self.timers[timer.deadline_us, timer.timer_id] = timer
        self._write(MarketStateScheduled(timer.market, timer.timer_id, timer.deadline_us, timer.state))

    def _set_state(self, market: int, state: int) -> None:
        book = self.floor.books[market]
        book.market = with_state(book.market, state)
        self._write(MarketStateChanged(market, self.floor.next_market_seq(market), state))

    def _cancel_orders(self, action: CancelOrders) -> None:
        require(bool(action.account or action.market), RejectReason.INVALID_SCOPE)
        require(action.market == 0 or action.market in self.floor.books, RejectReason.UNKNOWN_MARKET)
        require(action.side == 0 or known(Side, action.side), RejectReason.INVALID_SIDE)
        pending = self._new_cancel_all(action.account, action.market, action.side, by_operator=True)
        first_event = len(self.floor.events)
        self._write(CancelOrdersAccepted(pending.cancel_all_id, action.account, action.market, action.side))
        # An operation holds many actions: what exceeds the entry waits, so that no operator can burst a frame.
        self._start_cancel_all(pending, min(first_event + COMMAND_EVENTS_MAX, ENTRY_WORK_MAX))

    def _sweep_fees(self, asset: int) -> None:
        units = self.floor.funds.fees.pop(asset, 0)
        require(units > 0, RejectReason.INVALID_AMOUNT)
        sequence = self.core.send(CONTROL_SHARD, asset, units)
        self._write(FundsSent(asset=asset, amount_units=units, to_shard=CONTROL_SHARD, link_sequence=sequence))


def _load_order(order: RestingOrder, market: int, side: Side) -> Order:
    return Order(
        order_id=order.order_id,
        client_order_id=order.client_order_id,
        account=order.account,
        market=market,
        side=side,
        price_ticks=order.price_ticks,
        open_lots=order.open_lots,
        filled_lots=order.filled_lots,
        post_only=order.post_only,
        self_trade_prevention=SelfTradePrevention(order.self_trade_prevention),
        maker_fee_ppm=order.maker_fee_ppm,
        taker_fee_ppm=order.taker_fee_ppm,
        maker_prepaid_ppm=order.maker_prepaid_ppm,
        taker_prepaid_ppm=order.taker_prepaid_ppm,
    )


def export_order(order: Order) -> RestingOrder:
    """Return an open order as it stands in the state."""
    return RestingOrder(
        order_id=order.order_id,
        client_order_id=order.client_order_id,
        account=order.account,
        price_ticks=order.price_ticks,
        open_lots=order.open_lots,
        filled_lots=order.filled_lots,
        post_only=order.post_only,
        self_trade_prevention=order.self_trade_prevention,
        maker_fee_ppm=order.maker_fee_ppm,
        taker_fee_ppm=order.taker_fee_ppm,
        maker_prepaid_ppm=order.maker_prepaid_ppm,
        taker_prepaid_ppm=order.taker_prepaid_ppm,
    )
