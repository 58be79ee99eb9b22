"""The fold of a trading shard: books, open orders and what everybody has, after each execution frame.

Pure: frames in, state out. It starts from a checkpoint or the genesis and takes frames in order; whatever does not
follow from what it knows stops it (`FoldError`), and then the whole fold is to be thrown away. Between two frames it
equals the engine that wrote them: the tests compare after every entry.

How events are read. A command's first event carries its place; the ones behind it are its consequences. An order that
was accepted, or replaced with its priority lost, is the taker until the next command begins; only then does what is
open of it stand in the book. So a book is seen between commands and never in the middle of one.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, NoReturn

from clob.v1 import market_pb2
from clob.v1.frame_pb2 import ExecutionFrame
from exchange.domain.commands import OrderType, SelfTradePrevention, Side, TimeInForce
from exchange.domain.markets import Market, ShardSettings
from exchange.domain.state import Genesis, RestingOrder, ShardCore, ShardState
from exchange.domain.units import PPM
from exchange.marketdata.book import BUY, Book, BookChange, Order
from exchange.marketdata.chain import Chain, FoldError, FoldReason
from exchange.wire.checkpoint import read_shard_checkpoint
from exchange.wire.entries import check_format
from exchange.wire.hashing import genesis_hash
from exchange.wire.messages import decode, encode

_GTC: Final = int(TimeInForce.GTC)
_LIMIT: Final = int(OrderType.LIMIT)


class Account:
    """An account in a shard.

    Attributes:
        account_seq: of its last event.
        units: what it has, free and locked together, by asset.
        orders: its open orders by order_id, ascending: ids are given in order and an order that is replaced stays.
    """

    __slots__ = ("account_seq", "orders", "units")

    def __init__(self, account_seq: int = 0) -> None:
        self.account_seq = account_seq
        self.units: dict[int, int] = {}
        self.orders: dict[int, Order] = {}


class Sent(NamedTuple):
    """Part of a link: units of an asset that were debited from an account at a time; account 0: the exchange's own."""

    account: int
    asset: int
    amount_units: int
    debited_us: int


@dataclass(slots=True)
class Applied:
    """What a frame did.

    Attributes:
        n, t_us: position and time of the frame.
        data: its bytes.
        frame: it, parsed.
        accounts: by account, the 1-based places of its events in the frame.
        changes: what happened to watched books, command by command.
        traded: markets with trades.
    """

    n: int
    t_us: int
    data: bytes
    frame: ExecutionFrame
    accounts: dict[int, list[int]] = field(default_factory=dict)
    changes: list[BookChange] = field(default_factory=list)
    traded: set[int] = field(default_factory=set)

    @property
    def owners(self) -> Collection[int]:
        """The accounts that have events in the frame; nothing that changes any more."""
        return frozenset(self.accounts)


class Fold(Chain):
    """What trading shards and shard 0 have in common: the chain, accounts with what they have, links, settings.

    Attributes:
        settings: of the shard.
        accounts: by number; those that ever had an event.
        links_in: sequence number of the last link that was applied, by sender.
        links_out: sequence number of the last link that was sent, by receiver.
        sent: what each link carries, by receiver and sequence number, of those not yet forgotten.
    """

    __slots__ = ("_applied", "_begun", "_handlers", "_place", "accounts", "links_in", "links_out", "sent", "settings")

    def __init__(self, core: ShardCore) -> None:
        """Start from the state of a checkpoint or a genesis."""
        super().__init__(core.genesis.shard, core.n, core.t_us, core.chain_hash)
        self.settings: ShardSettings = core.settings
        self.accounts: dict[int, Account] = {}
        self.links_in = {link.from_shard: link.last_sequence for link in core.links_in}
        self.links_out = {link.to_shard: link.last_sequence for link in core.links_out}
        self.sent: dict[tuple[int, int], list[Sent]] = {}
        self._applied: Applied
        self._place = 0
        self._begun: set[int] = set()
        self._handlers: dict[str, Callable[[Any], None]] = {
            "command_rejected": self._on_event_of_account,
            "funds_credited": self._on_credited,
            "funds_sent": self._on_sent,
            "link_result": self._on_link,
            "shard_settings_changed": self._on_settings,
        }

    def apply(self, data: bytes) -> Applied:
        """Take in the next frame and return what it did.

        Raises:
            FoldError: it does not follow. The fold must not be used any more.
        """
        frame = self.read(data)
        applied = self._applied = Applied(frame.n, frame.t_us, data, frame)
        self._begun.clear()
        handlers = self._handlers
        for place, wrapped in enumerate(frame.events, 1):
            self._place = place
            name = wrapped.WhichOneof("event")
            handler = handlers.get(name)
            if handler is None:
                self._fail(FoldReason.UNKNOWN_EVENT, f"event {place} is {name}")
            handler(getattr(wrapped, name))
        self._end_of_frame()
        return applied

    # --- what it says -----------------------------------------------------------------------------------------------

    def balances(self, account: int) -> dict[int, tuple[int, int]]:
        """Return free and locked units by asset, ascending; assets of which the account has nothing are left out."""
        owner = self.accounts.get(account)
        if owner is None:
            return {}
        locked = self._locked(owner)
        return {
            asset: (units - locked.get(asset, 0), locked.get(asset, 0))
            for asset, units in sorted(owner.units.items())
            if units
        }

    def account_seq(self, account: int) -> int:
        """Return the sequence number of the account's last event; 0: it had none."""
        owner = self.accounts.get(account)
        return owner.account_seq if owner else 0

    def take_in_the_past(self, frame: ExecutionFrame, data: bytes) -> None:
        """Put onto tapes and into transit what a frame before the checkpoint says; the rest is in the checkpoint.

        Args:
            frame: parsed; frames come in their order, before any is applied.
            data: its bytes.
        """
        for wrapped in frame.events:
            if wrapped.WhichOneof("event") == "funds_sent":
                sent = wrapped.funds_sent
                part = Sent(sent.account, sent.asset, sent.amount_units, frame.t_us)
                self.sent.setdefault((sent.to_shard, sent.link_sequence), []).append(part)

    def forget_sent(self, to_shard: int, up_to_sequence: int) -> None:
        """Forget what links to a shard carry that it has applied."""
        for link in [link for link in self.sent if link[0] == to_shard and link[1] <= up_to_sequence]:
            del self.sent[link]

    def _locked(self, owner: Account) -> dict[int, int]:
        """Return the units that the account's open orders hold, by asset."""
        return {}

    # --- events -----------------------------------------------------------------------------------------------------

    def _on_event_of_account(self, event: Any) -> None:
        self._begin()
        self._touch(event.account, event.account_seq)

    def _on_other(self, event: Any) -> None:
        self._begin()

    def _on_credited(self, event: Any) -> None:
        if event.account:
            owner = self._touch(event.account, event.account_seq)
            self._credit(owner, event.asset, event.amount_units)

    def _on_sent(self, event: Any) -> None:
        self._begin()
        if event.account:
            owner = self._touch(event.account, event.account_seq)
            self._debit(owner, event.asset, event.amount_units)
        self._count_sent(event)

    def _count_sent(self, event: Any) -> None:
        to_shard, sequence = event.to_shard, event.link_sequence
        last = self.links_out.get(to_shard, 0)
        if sequence == last + 1:
            self._begun.add(to_shard)
        elif sequence != last or to_shard not in self._begun:
            self._fail(FoldReason.LINK_GAP, f"link {sequence} to shard {to_shard} after {last}")
        self.links_out[to_shard] = sequence
        part = Sent(event.account, event.asset, event.amount_units, self.t_us)
        self.sent.setdefault((to_shard, sequence), []).append(part)

    def _on_link(self, event: Any) -> None:
        self._begin()
        if event.reason or event.repeated:
            return
        last = self.links_in.get(event.from_shard, 0)
        if event.sequence != last + 1:
            self._fail(FoldReason.LINK_GAP, f"link {event.sequence} from shard {event.from_shard} after {last}")
        self.links_in[event.from_shard] = event.sequence

    def _on_settings(self, event: Any) -> None:
        self._begin()
        changed = event.settings
        self.settings = ShardSettings(
            changed.max_validity_ms, changed.live_nonces_per_key_max, changed.open_orders_per_account_max
        )

    def _begin(self) -> None:
        """Note that a command, or something else of its own, begins here."""

    def _end_of_frame(self) -> None:
        """Note that the frame has been read to its end."""

    # --- money ------------------------------------------------------------------------------------------------------

    def _touch(self, account: int, account_seq: int) -> Account:
        """Write down that the event is the account's, and return the account."""
        owner = self.accounts.get(account)
        if owner is None:
            owner = self.accounts[account] = Account()
        if account_seq != owner.account_seq + 1:
            self._fail(FoldReason.SEQUENCE_GAP, f"account {account}: {account_seq} after {owner.account_seq}")
        owner.account_seq = account_seq
        places = self._applied.accounts.get(account)
        if places is None:
            self._applied.accounts[account] = [self._place]
        elif places[-1] != self._place:
            places.append(self._place)
        return owner

    def _credit(self, owner: Account, asset: int, units: int) -> None:
        owner.units[asset] = owner.units.get(asset, 0) + units

    def _debit(self, owner: Account, asset: int, units: int) -> None:
        left = owner.units.get(asset, 0) - units
        if left < 0:
            self._fail(FoldReason.OVERDRAWN, f"an account has {left} of asset {asset}")
        owner.units[asset] = left

    def _fail(self, reason: FoldReason, detail: str) -> NoReturn:
        raise FoldError(reason, self.shard, self.n, f"event {self._place}: {detail}")


class ShardFold(Fold):
    """A trading shard.

    Attributes:
        books: by market.
        orders: open orders by order_id.
    """

    __slots__ = ("_batch", "_taker", "_taker_rests", "_touched", "books", "orders")

    def __init__(self, state: ShardState) -> None:
        """Start from the state of a checkpoint, or from one that has `core` and nothing else."""
        super().__init__(state.core)
        self.books: dict[int, Book] = {}
        self.orders: dict[int, Order] = {}
        self._taker: Order | None = None
        self._taker_rests = False
        self._touched: list[Book] = []
        self._batch = 0
        self._handlers |= {
            "frame_refused": self._on_other,
            "batch_result": self._on_batch,
            "order_accepted": self._on_accepted,
            "order_replaced": self._on_replaced,
            "order_reduced": self._on_reduced,
            "order_cancelled": self._on_cancelled,
            "trade": self._on_trade,
            "cancel_all_accepted": self._on_event_of_account,
            "cancel_all_done": self._on_cancel_all_done,
            "operation_result": self._on_other,
            "action_rejected": self._on_other,
            "market_defined": self._on_market,
            "market_state_changed": self._on_market_state,
            "market_state_scheduled": self._on_other,
            "cancel_orders_accepted": self._on_other,
            "control_floor_raised": self._on_other,
            "rules_raised": self._on_other,
            "operator_key_rotated": self._on_other,
            "request_result": self._on_other,
        }
        for account in state.accounts:
            owner = self.accounts[account.account] = Account(account.account_seq)
            owner.units = {balance.asset: balance.free_units + balance.locked_units for balance in account.balances}
        resting: list[Order] = []
        for state_of_book in state.books:
            book = Book(_settings(state_of_book.market), state_of_book.market_seq, state_of_book.last_price_ticks)
            self.books[book.market] = book
            for side, orders in ((Side.BUY, state_of_book.bids), (Side.SELL, state_of_book.asks)):
                resting += (_load(book, side, order) for order in orders)
        for order in sorted(resting, key=lambda order: order.order_id):
            self.orders[order.order_id] = order
            self.accounts[order.account].orders[order.order_id] = order
            order.book.rest(order)

    @classmethod
    def from_genesis(cls, genesis: bytes) -> "ShardFold":
        """Return the fold before the first frame; `genesis` is the encoded Genesis of the shard."""
        return cls(ShardState(core=genesis_core(genesis)))

    @classmethod
    def from_checkpoint(cls, checkpoint: bytes) -> "ShardFold":
        """Return the fold at an encoded checkpoint.

        Raises:
            CheckpointError, UnknownFormatError, WireError: it is damaged, of another version, or not canonical.
        """
        return cls(read_shard_checkpoint(checkpoint))

    def take_in_the_past(self, frame: ExecutionFrame, data: bytes) -> None:
        """Put onto tapes and into transit what a frame before the checkpoint says; the rest is in the checkpoint."""
        super().take_in_the_past(frame, data)
        for wrapped in frame.events:
            name = wrapped.WhichOneof("event")
            event = getattr(wrapped, name) if name else None
            market_seq = getattr(event, "market_seq", 0)
            if not market_seq or event is None:
                continue
            tape = self.books[event.market.market if name == "market_defined" else event.market].tape
            # The oldest event of the market that is at hand: what came before it is not.
            tape.complete_after = min(tape.complete_after, market_seq - 1)
            if name == "trade":
                tape.append(
                    (
                        market_seq,
                        event.trade_id,
                        event.price_ticks,
                        event.quantity_lots,
                        event.taker_side,
                        frame.t_us,
                    )
                )

    # --- what it says -----------------------------------------------------------------------------------------------

    def open_orders(self, account: int) -> Iterator[Order]:
        """Yield the account's open orders by order_id."""
        owner = self.accounts.get(account)
        return iter(owner.orders.values() if owner else ())

    def _locked(self, owner: Account) -> dict[int, int]:
        locked: dict[int, int] = {}
        for order in owner.orders.values():
            book = order.book
            if order.side == BUY:
                notional = order.price_ticks * order.open_lots * book.quote_units_per_tick_lot
                due_ppm = notional * order.maker_fee_ppm - order.maker_prepaid_ppm
                asset, units = book.quote_asset, notional + (-(-due_ppm // PPM) if due_ppm > 0 else 0)
            else:
                asset, units = book.base_asset, order.open_lots * book.base_units_per_lot
            locked[asset] = locked.get(asset, 0) + units
        return locked

    # --- commands ---------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._taker is not None:
            self._settle_taker(self._taker)
        if self._touched:
            self._flush()

    def _end_of_frame(self) -> None:
        self._begin()
        self._batch = 0

    def _settle_taker(self, taker: Order) -> None:
        """End the taker's command: what is open of it rests."""
        self._taker = None
        if not taker.open_lots:
            self._end(taker)
            return
        if not self._taker_rests:
            self._fail(FoldReason.ORDER_MISMATCH, f"order {taker.order_id} would rest and must not")
        taker.book.rest(taker)
        there = self.orders.get(taker.order_id)
        if there is None:
            self.orders[taker.order_id] = taker
            self.accounts[taker.account].orders[taker.order_id] = taker
        elif there is not taker:
            self._fail(FoldReason.ORDER_MISMATCH, f"order {taker.order_id} is open already")

    def _end(self, order: Order) -> None:
        """Forget an order that is in no level any more."""
        if self.orders.get(order.order_id) is order:
            del self.orders[order.order_id]
            del self.accounts[order.account].orders[order.order_id]

    def _flush(self) -> None:
        """Write down what the command that has ended changed in watched books."""
        for book in self._touched:
            self._applied.changes.append(book.take_change(self.t_us))
        self._touched.clear()

    def _number(self, market: int, market_seq: int) -> Book:
        """Return the book that an event is in, after counting the event."""
        book = self.books.get(market)
        if book is None:
            self._fail(FoldReason.UNKNOWN_MARKET, f"market {market}")
        if market_seq != book.market_seq + 1:
            self._fail(FoldReason.SEQUENCE_GAP, f"market {market}: {market_seq} after {book.market_seq}")
        if book.watched and book.seq_before < 0:
            book.seq_before = book.market_seq
            self._touched.append(book)
        book.market_seq = market_seq
        return book

    def _order(self, order_id: int, account: int, book: Book) -> Order:
        order = self.orders.get(order_id)
        if order is None or order.account != account or order.book is not book:
            self._fail(FoldReason.UNKNOWN_ORDER, f"order {order_id}")
        return order

    # --- events -----------------------------------------------------------------------------------------------------

    def _on_batch(self, event: Any) -> None:
        self._begin()
        self._batch = event.batch

    def _on_accepted(self, event: Any) -> None:
        self._begin()
        account = event.account
        self._touch(account, event.account_seq)
        book = self._number(event.market, event.market_seq)
        order = Order(
            book,
            event.order_id,
            event.client_order_id,
            account,
            event.side,
            event.price_ticks,
            event.quantity_lots,
            event.post_only,
        )
        order.origin_n, order.origin_batch, order.origin_command = self.n, self._batch, event.command
        self._taker = order
        self._taker_rests = event.time_in_force == _GTC and event.order_type == _LIMIT

    def _on_replaced(self, event: Any) -> None:
        self._begin()
        self._touch(event.account, event.account_seq)
        book = self._number(event.market, event.market_seq)
        order = self._order(event.order_id, event.account, book)
        if event.priority_kept:
            if event.price_ticks != order.price_ticks or event.open_lots > order.open_lots:
                self._fail(FoldReason.ORDER_MISMATCH, f"order {order.order_id} keeps a priority that it has lost")
            self._shrink(order, order.open_lots - event.open_lots)
            return
        book.leave(order)
        order.price_ticks, order.open_lots = event.price_ticks, event.open_lots
        order.maker_fee_ppm, order.taker_fee_ppm = book.maker_fee_ppm, book.taker_fee_ppm
        self._taker, self._taker_rests = order, True

    def _on_reduced(self, event: Any) -> None:
        if event.command:
            self._begin()
        self._touch(event.account, event.account_seq)
        book = self._number(event.market, event.market_seq)
        taker = self._taker
        if taker is not None and taker.order_id == event.order_id:
            order = taker
            taker.open_lots -= event.reduced_lots
        else:
            order = self._order(event.order_id, event.account, book)
            self._shrink(order, event.reduced_lots)
        if order.open_lots != event.open_lots or order.open_lots <= 0:
            self._fail(FoldReason.ORDER_MISMATCH, f"order {order.order_id} has {order.open_lots} lots open")

    def _on_cancelled(self, event: Any) -> None:
        if event.command:
            self._begin()
        self._touch(event.account, event.account_seq)
        book = self._number(event.market, event.market_seq)
        taker = self._taker
        if taker is not None and taker.order_id == event.order_id:
            order, self._taker = taker, None
        else:
            order = self._order(event.order_id, event.account, book)
            book.leave(order)
        if order.open_lots != event.cancelled_lots:
            self._fail(FoldReason.ORDER_MISMATCH, f"order {order.order_id} has {order.open_lots} lots open")
        self._end(order)

    def _on_trade(self, event: Any) -> None:
        market, market_seq = event.market, event.market_seq
        book = self._number(market, market_seq)
        maker_account, taker_account = event.maker_account, event.taker_account
        maker_owner = self._touch(maker_account, event.maker_account_seq)
        taker_owner = self._touch(taker_account, event.taker_account_seq)
        maker = self._order(event.maker_order_id, maker_account, book)
        taker = self._taker
        if (
            taker is None
            or taker.order_id != event.taker_order_id
            or taker.account != taker_account
            or taker.book is not book
        ):
            self._fail(FoldReason.UNKNOWN_ORDER, "it is not the taker's")
        price_ticks, lots = event.price_ticks, event.quantity_lots
        level = maker.level
        if level is None or level.price_ticks != price_ticks or lots > maker.open_lots or lots > taker.open_lots:
            self._fail(FoldReason.ORDER_MISMATCH, f"{lots} lots at {price_ticks}")

        notional = price_ticks * lots * book.quote_units_per_tick_lot
        # As domain.money.fee_of, inline: this is the hottest place of the process.
        due_ppm = notional * maker.maker_fee_ppm - maker.maker_prepaid_ppm
        maker_fee = -(-due_ppm // PPM) if due_ppm > 0 else 0
        maker.maker_prepaid_ppm = maker_fee * PPM - due_ppm
        due_ppm = notional * taker.taker_fee_ppm - taker.taker_prepaid_ppm
        taker_fee = -(-due_ppm // PPM) if due_ppm > 0 else 0
        taker.taker_prepaid_ppm = taker_fee * PPM - due_ppm
        if maker_fee != event.maker_fee_quote_units or taker_fee != event.taker_fee_quote_units:
            said = f"{event.maker_fee_quote_units} and {event.taker_fee_quote_units}"
            self._fail(FoldReason.FEE_MISMATCH, f"fees are {said}, by the orders' rates {maker_fee} and {taker_fee}")

        base_units = lots * book.base_units_per_lot
        if taker.side == BUY:
            self._debit(taker_owner, book.quote_asset, notional + taker_fee)
            self._debit(maker_owner, book.base_asset, base_units)
            self._credit(taker_owner, book.base_asset, base_units)
            self._credit(maker_owner, book.quote_asset, notional - maker_fee)
        else:
            self._debit(maker_owner, book.quote_asset, notional + maker_fee)
            self._debit(taker_owner, book.base_asset, base_units)
            self._credit(maker_owner, book.base_asset, base_units)
            self._credit(taker_owner, book.quote_asset, notional - taker_fee)

        book.last_price_ticks = price_ticks
        book.tape.append((market_seq, event.trade_id, price_ticks, lots, taker.side, self.t_us))
        self._applied.traded.add(market)
        taker.open_lots -= lots
        taker.filled_lots += lots
        maker.filled_lots += lots
        if lots == maker.open_lots:
            book.leave(maker)
            maker.open_lots = 0
            self._end(maker)
        else:
            self._shrink(maker, lots)

    def _shrink(self, order: Order, lots: int) -> None:
        """Take lots off an order that rests."""
        level = order.level
        if level is None:
            self._fail(FoldReason.ORDER_MISMATCH, f"order {order.order_id} rests not")
        order.open_lots -= lots
        level.quantity_lots -= lots
        if order.book.watched:
            order.book.note(order.side, level.price_ticks)

    def _on_cancel_all_done(self, event: Any) -> None:
        if event.account:
            self._touch(event.account, event.account_seq)

    def _on_market(self, event: Any) -> None:
        self._begin()
        market = event.market.market
        if market not in self.books:
            self.books[market] = Book(market_pb2.Market(), 0, 0)
        # A copy of its own: the event's message keeps the whole frame alive.
        settings = market_pb2.Market()
        settings.CopyFrom(event.market)
        book = self._number(market, event.market_seq)
        book.market = market
        book.define(settings)

    def _on_market_state(self, event: Any) -> None:
        self._begin()
        self._number(event.market, event.market_seq).settings.state = event.state


def genesis_core(genesis: bytes) -> ShardCore:
    """Return what a shard has before its first frame, as far as folds ask; `genesis` is its encoded Genesis."""
    check_format("genesis", genesis)
    parsed = decode(Genesis, genesis)
    chain_hash = genesis_hash(parsed.environment, parsed.shard, genesis)
    return ShardCore(genesis=parsed, chain_hash=chain_hash, rules=parsed.rules, settings=parsed.settings)


def _settings(market: Market) -> market_pb2.Market:
    return market_pb2.Market.FromString(encode(market))


def _load(book: Book, side: Side, resting: RestingOrder) -> Order:
    order = Order(
        book,
        resting.order_id,
        resting.client_order_id,
        resting.account,
        side,
        resting.price_ticks,
        resting.open_lots,
        resting.post_only,
    )
    order.filled_lots = resting.filled_lots
    order.self_trade_prevention = SelfTradePrevention(resting.self_trade_prevention)
    order.maker_fee_ppm, order.taker_fee_ppm = resting.maker_fee_ppm, resting.taker_fee_ppm
    order.maker_prepaid_ppm, order.taker_prepaid_ppm = resting.maker_prepaid_ppm, resting.taker_prepaid_ppm
    return order
