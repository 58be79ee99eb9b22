"""A market's book as market data keeps it: levels, and every open order by what its account may see of it."""

from typing import Final, NamedTuple

from sortedcontainers import SortedDict

from clob.v1 import market_pb2
from exchange.domain.commands import Side
from exchange.marketdata.tape import Tape

STP_UNKNOWN: Final = 0
"""OrderAccepted does not say what an order does about its account's own orders: it has to be looked up."""
BUY: Final = int(Side.BUY)


class Level:
    """All open orders of one price."""

    __slots__ = ("orders", "price_ticks", "quantity_lots")

    def __init__(self, price_ticks: int) -> None:
        self.price_ticks = price_ticks
        self.quantity_lots = 0
        self.orders = 0


class Order:
    """An open order, as RestingOrder has it.

    Attributes:
        level: where it rests; None: it does not, its command is not done.
        origin_n, origin_batch, origin_command: the entry, the batch in it and the command in that which placed it, for
            `self_trade_prevention`, which is STP_UNKNOWN until it was looked up there.
    """

    __slots__ = (
        "account",
        "book",
        "client_order_id",
        "filled_lots",
        "level",
        "maker_fee_ppm",
        "maker_prepaid_ppm",
        "open_lots",
        "order_id",
        "origin_batch",
        "origin_command",
        "origin_n",
        "post_only",
        "price_ticks",
        "self_trade_prevention",
        "side",
        "taker_fee_ppm",
        "taker_prepaid_ppm",
    )

    level: Level | None

    def __init__(
        self,
        book: "Book",
        order_id: int,
        client_order_id: int,
        account: int,
        side: int,
        price_ticks: int,
        open_lots: int,
        post_only: bool,
    ) -> None:
        """Make an order that has just been accepted, at the fee rates of the day."""
        self.book = book
        self.order_id = order_id
        self.client_order_id = client_order_id
        self.account = account
        self.side = side
        self.price_ticks = price_ticks
        self.open_lots = open_lots
        self.filled_lots = 0
        self.post_only = post_only
        self.self_trade_prevention = STP_UNKNOWN
        self.maker_fee_ppm = book.maker_fee_ppm
        self.taker_fee_ppm = book.taker_fee_ppm
        self.maker_prepaid_ppm = 0
        self.taker_prepaid_ppm = 0
        self.level = None
        self.origin_n = self.origin_batch = self.origin_command = 0


class LevelView(NamedTuple):
    """A level at a moment; a quantity of zero: it is gone."""

    price_ticks: int
    quantity_lots: int
    orders: int


class BookChange(NamedTuple):
    """What a command, or a part of an entry that no command asked for, changed in a watched book; or a whole frame.

    `bids` and `asks` are the levels that are new, different or gone, each as it is after the change.
    """

    market: int
    previous_market_seq: int
    market_seq: int
    t_us: int
    state: int
    last_price_ticks: int
    bids: tuple[LevelView, ...]
    asks: tuple[LevelView, ...]


class Book:
    """A market with its levels and its tape.

    Attributes:
        settings: the market, with the state that it is in.
        bids, asks: levels by price, negated for bids, so that the best comes first; None until there was an order.
        watched: what changes is written down for readers.
        every_command: of a watched book, command by command; else it may be written down once for a frame.
        changed_bids, changed_asks: prices whose level a command under way has changed, while the book is watched.
        seq_before: sequence number before that command; -1: it has not touched the book.
    """

    __slots__ = (
        "asks",
        "base_asset",
        "base_units_per_lot",
        "bids",
        "changed_asks",
        "changed_bids",
        "every_command",
        "last_price_ticks",
        "maker_fee_ppm",
        "market",
        "market_seq",
        "quote_asset",
        "quote_units_per_tick_lot",
        "seq_before",
        "settings",
        "taker_fee_ppm",
        "tape",
        "watched",
    )

    bids: "SortedDict[int, Level] | None"
    asks: "SortedDict[int, Level] | None"

    def __init__(self, settings: market_pb2.Market, market_seq: int, last_price_ticks: int) -> None:
        self.market = settings.market
        self.market_seq = market_seq
        self.last_price_ticks = last_price_ticks
        self.tape = Tape(market_seq)
        self.bids = self.asks = None
        self.watched = False
        self.every_command = False
        self.changed_bids: set[int] = set()
        self.changed_asks: set[int] = set()
        self.seq_before = -1
        self.define(settings)

    def define(self, settings: market_pb2.Market) -> None:
        """Take over the market's settings; open orders keep the fee rates that they came with."""
        self.settings = settings
        self.base_asset = settings.base_asset
        self.quote_asset = settings.quote_asset
        self.base_units_per_lot = settings.base_units_per_lot
        self.quote_units_per_tick_lot = settings.quote_units_per_tick_lot
        self.maker_fee_ppm = settings.maker_fee_ppm
        self.taker_fee_ppm = settings.taker_fee_ppm

    def rest(self, order: Order) -> None:
        """Add what is open of an order to the level of its price."""
        price_ticks = order.price_ticks
        if order.side == BUY:
            key, levels = -price_ticks, self.bids
            if levels is None:
                levels = self.bids = SortedDict()
        else:
            key, levels = price_ticks, self.asks
            if levels is None:
                levels = self.asks = SortedDict()
        level = levels.get(key)
        if level is None:
            levels[key] = level = Level(price_ticks)
        level.quantity_lots += order.open_lots
        level.orders += 1
        order.level = level
        if self.watched:
            self.note(order.side, price_ticks)

    def leave(self, order: Order) -> None:
        """Take what is open of an order, and the order, out of its level."""
        level = order.level
        assert level is not None
        order.level = None
        level.quantity_lots -= order.open_lots
        level.orders -= 1
        if not level.orders:
            if order.side == BUY:
                assert self.bids is not None
                del self.bids[-level.price_ticks]
            else:
                assert self.asks is not None
                del self.asks[level.price_ticks]
        if self.watched:
            self.note(order.side, level.price_ticks)

    def note(self, side: int, price_ticks: int) -> None:
        """Write down that a level changed."""
        (self.changed_bids if side == BUY else self.changed_asks).add(price_ticks)

    # --- what it says -----------------------------------------------------------------------------------------------

    def level_at(self, side: int, price_ticks: int) -> LevelView:
        """Return the level of a price as it is now."""
        levels, key = (self.bids, -price_ticks) if side == BUY else (self.asks, price_ticks)
        level = levels.get(key) if levels is not None else None
        return LevelView(price_ticks, level.quantity_lots if level else 0, level.orders if level else 0)

    def depth(self, side: int, levels_max: int | None = None) -> list[LevelView]:
        """Return the best levels of a side, best first; None: all."""
        levels = self.bids if side == BUY else self.asks
        if levels is None:
            return []
        best = (levels[key] for key in levels.islice(stop=levels_max))
        return [LevelView(level.price_ticks, level.quantity_lots, level.orders) for level in best]

    def take_change(self, t_us: int) -> BookChange:
        """Return what changed since `seq_before`, and forget it."""
        change = BookChange(
            self.market,
            self.seq_before,
            self.market_seq,
            t_us,
            self.settings.state,
            self.last_price_ticks,
            tuple(self.level_at(BUY, price_ticks) for price_ticks in self.changed_bids),
            tuple(self.level_at(Side.SELL, price_ticks) for price_ticks in self.changed_asks),
        )
        self.changed_bids.clear()
        self.changed_asks.clear()
        self.seq_before = -1
        return change
