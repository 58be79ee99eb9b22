"""The fold of a trading shard on the core: says and refuses what the Python fold does, and no statement per event.

Importing this needs the compiled module; `exchange.marketdata.folds` looks whether it is there. What the Python fold
keeps in its own objects, books, tapes, orders and accounts, are windows here through which the core is asked.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import exchange_core

from clob.v1 import market_pb2
from clob.v1.frame_pb2 import ExecutionFrame
from exchange.domain.markets import ShardSettings
from exchange.domain.state import ShardState
from exchange.engine.core import errors_of_the_project
from exchange.marketdata.book import BUY, STP_UNKNOWN, Book, BookChange, LevelView, Order
from exchange.marketdata.chain import FoldError, FoldReason
from exchange.marketdata.fold import Account, Applied, Sent, ShardFold
from exchange.marketdata.tape import Tape, TapeTrade
from exchange.wire.checkpoint import CheckpointError
from exchange.wire.messages import encode

K = TypeVar("K")
V = TypeVar("V")

_NOT_WATCHED, _EVERY_FRAME, _EVERY_COMMAND = range(3)
_TAPE_TRADES_MAX = 2_000
# As LevelView._make, which is a call of Python for each level.
_level_view = partial(tuple.__new__, LevelView)


class CoreTape(Tape):
    """A market's tape as the core keeps it."""

    __slots__ = ("_core", "_market")

    def __init__(self, core: exchange_core.ShardFold, market: int) -> None:
        self._core = core
        self._market = market

    @property
    def complete_after(self) -> int:  # type: ignore[override]
        """Every trade of a higher sequence number that there ever was is on the tape."""
        return self._core.trades_after(self._market, 0, 0)[1]

    def __len__(self) -> int:
        return len(self._core.trades_after(self._market, 0, _TAPE_TRADES_MAX)[0])

    def __iter__(self) -> Iterator[TapeTrade]:
        return self.after(0, _TAPE_TRADES_MAX)

    def __getitem__(self, place: int) -> TapeTrade:
        return list(self)[place]

    def after(self, market_seq: int, trades_max: int) -> Iterator[TapeTrade]:
        """Yield the first trades with a higher sequence number, oldest first."""
        return map(TapeTrade._make, self._core.trades_after(self._market, market_seq, trades_max)[0])

    def before(self, market_seq: int, trades_max: int) -> Iterator[TapeTrade]:
        """Yield the last trades with a lower sequence number, newest first; 0: of all."""
        return map(TapeTrade._make, self._core.trades_before(self._market, market_seq, trades_max)[0])


class CoreBook(Book):
    """A market's book as the core keeps it."""

    __slots__ = ("_core", "_every_command", "_watched")

    def __init__(self, core: exchange_core.ShardFold, market: int) -> None:
        self._core = core
        self._watched = self._every_command = False
        self.market = market
        self.tape = CoreTape(core, market)

    @property
    def market_seq(self) -> int:  # type: ignore[override]
        """Sequence number of the market's last event."""
        return self._core.last_of(self.market)[0]

    @property
    def last_price_ticks(self) -> int:  # type: ignore[override]
        """Price of the last trade; 0: none yet."""
        return self._core.last_of(self.market)[1]

    @property
    def settings(self) -> market_pb2.Market:  # type: ignore[override]
        """The market, with the state that it is in."""
        encoded, state = self._core.market(self.market)
        settings = market_pb2.Market.FromString(encoded)
        settings.state = state  # type: ignore[assignment]
        return settings

    @property
    def watched(self) -> bool:
        """Whether what changes is written down for readers."""
        return self._watched

    @watched.setter
    def watched(self, watched: bool) -> None:
        self._watched = watched
        self._watch()

    @property
    def every_command(self) -> bool:
        """Whether changes are written down command by command, or once for a frame."""
        return self._every_command

    @every_command.setter
    def every_command(self, every_command: bool) -> None:
        self._every_command = every_command
        self._watch()

    def _watch(self) -> None:
        how = _EVERY_COMMAND if self._every_command else _EVERY_FRAME
        self._core.watch(self.market, how if self._watched else _NOT_WATCHED)

    def level_at(self, side: int, price_ticks: int) -> LevelView:
        """Return the level of a price as it is now."""
        return LevelView(*self._core.level_at(self.market, side, price_ticks))

    def depth(self, side: int, levels_max: int | None = None) -> list[LevelView]:
        """Return the best levels of a side, best first; None: all."""
        bids, asks = self._core.depth(self.market, levels_max)
        return list(map(_level_view, bids if side == BUY else asks))


class CoreOrder(Order):
    """An open order at a moment. Only its self-trade prevention, which never changes, may be learnt later."""

    __slots__ = ("_core", "_self_trade_prevention")

    def __init__(self, core: exchange_core.ShardFold, book: Book, row: Any) -> None:
        self._core = core
        self.book = book
        (
            (
                self.order_id,
                self.client_order_id,
                self.account,
                _,
                self.side,
                self.price_ticks,
                self.open_lots,
                self.filled_lots,
            ),
            (
                self.post_only,
                self._self_trade_prevention,
                self.maker_fee_ppm,
                self.taker_fee_ppm,
                self.maker_prepaid_ppm,
                self.taker_prepaid_ppm,
            ),
            (self.origin_n, self.origin_batch, self.origin_command),
        ) = row

    @property
    def self_trade_prevention(self) -> int:
        """What it does about its account's own orders; STP_UNKNOWN until it was looked up."""
        if self._self_trade_prevention == STP_UNKNOWN:
            there = self._core.order(self.order_id)
            if there is not None:
                self._self_trade_prevention = there[1][1]
        mode: int = self._self_trade_prevention
        return mode

    @self_trade_prevention.setter
    def self_trade_prevention(self, mode: int) -> None:
        self._self_trade_prevention = mode
        self._core.set_self_trade_prevention(self.order_id, mode)


class _Orders(Mapping[int, Order]):
    def __init__(self, fold: "CoreShardFold") -> None:
        self._fold = fold

    def __getitem__(self, order_id: int) -> Order:
        row = self._fold.core.order(order_id)
        if row is None:
            raise KeyError(order_id)
        return self._fold.order_of(row)

    def __iter__(self) -> Iterator[int]:
        return iter(self._fold.core.order_ids())

    def __len__(self) -> int:
        return self._fold.core.open_orders_len


class _Accounts(Mapping[int, Account]):
    def __init__(self, core: exchange_core.ShardFold) -> None:
        self._core = core

    def __getitem__(self, account: int) -> Account:
        account_seq = self._core.account_seq(account)
        if not account_seq:
            raise KeyError(account)
        return Account(account_seq)

    def __iter__(self) -> Iterator[int]:
        return iter(self._core.accounts())

    def __len__(self) -> int:
        return len(self._core.accounts())


class CoreApplied(Applied):
    """What a frame did; parsed, and its places looked up, only when somebody asks."""

    __slots__ = ("_done", "_owners", "_parsed")

    def __init__(self, n: int, t_us: int, data: bytes, done: exchange_core.Applied) -> None:
        self.n, self.t_us, self.data = n, t_us, data
        self.changes = [_change_of(row, t_us) for row in done.changes]
        (self.traded,) = done.traded
        (self._owners,) = exchange_core.accounts_of(done)
        self._done = done
        self._parsed: ExecutionFrame | None = None

    @property
    def frame(self) -> ExecutionFrame:  # type: ignore[override]
        """The frame, parsed by the protobuf library."""
        if self._parsed is None:
            self._parsed = ExecutionFrame.FromString(self.data)
        return self._parsed

    @property
    def owners(self) -> Collection[int]:
        """The accounts that have events in the frame."""
        return self._owners

    @property
    def accounts(self) -> dict[int, list[int]]:  # type: ignore[override]
        """By account, the 1-based places of its events in the frame."""
        (places,) = self._done.places
        return places


class CoreShardFold(ShardFold):
    """A trading shard whose fold the core keeps.

    Attributes:
        core: the compiled fold.
    """

    __slots__ = ("core",)

    def __init__(self, state: ShardState) -> None:
        """Start from the state of a checkpoint."""
        with errors_of_the_project():
            self._open(exchange_core.ShardFold.from_state(encode(state)))

    @classmethod
    def _around(cls, core: exchange_core.ShardFold) -> "CoreShardFold":
        fold = cls.__new__(cls)
        fold._open(core)
        return fold

    @classmethod
    def from_genesis(cls, genesis: bytes) -> "CoreShardFold":
        """Return the fold before the first frame; `genesis` is the encoded Genesis of the shard."""
        with errors_of_the_project():
            return cls._around(exchange_core.ShardFold.from_genesis(genesis))

    @classmethod
    def from_checkpoint(cls, checkpoint: bytes) -> "CoreShardFold":
        """Return the fold at an encoded checkpoint, as `ShardFold.from_checkpoint`."""
        with errors_of_the_project():
            try:
                return cls._around(exchange_core.ShardFold.from_checkpoint(checkpoint))
            except exchange_core.LoadError as error:
                raise CheckpointError(*error.args) from None

    def _open(self, core: exchange_core.ShardFold) -> None:
        self.core = core
        self.shard = core.shard
        self.books = {}
        self._take_cursor()

    def _take_cursor(self) -> None:
        core = self.core
        self.n, self.t_us, self.chain_hash = core.n, core.t_us, core.chain_hash
        if core.markets_len != len(self.books):
            for market in core.markets():
                if market not in self.books:
                    self.books[market] = CoreBook(core, market)

    def apply(self, data: bytes) -> Applied:
        """Take in the next frame and return what it did, as `ShardFold.apply`."""
        with self._stops():
            done = self.core.apply((data,))
        if done.stop is not None:
            reason, n, detail = done.stop
            raise FoldError(FoldReason(reason), self.shard, n, detail)
        self._take_cursor()
        return CoreApplied(self.n, self.t_us, data, done)

    def take_in_the_past(self, frame: ExecutionFrame, data: bytes) -> None:
        """Put onto tapes and into transit what a frame before the checkpoint says."""
        with self._stops():
            self.core.take_in_the_past(data)

    @contextmanager
    def _stops(self) -> Iterator[None]:
        try:
            yield
        except exchange_core.FoldStop as stop:
            reason, n, detail = stop.args
            raise FoldError(FoldReason(reason), self.shard, n, detail) from stop
        except exchange_core.Stop as stop:
            reason, detail = stop.args
            raise FoldError(FoldReason(reason), self.shard, self.n + 1, detail) from stop

    # --- what it says -----------------------------------------------------------------------------------------------

    @property
    def settings(self) -> ShardSettings:  # type: ignore[override]
        """Settings of the shard."""
        return ShardSettings(*self.core.settings)

    @property
    def links_in(self) -> dict[int, int]:  # type: ignore[override]
        """Sequence number of the last link that was applied, by sender."""
        return self.core.links_in

    @property
    def links_out(self) -> dict[int, int]:  # type: ignore[override]
        """Sequence number of the last link that was sent, by receiver."""
        return self.core.links_out

    @property
    def sent(self) -> dict[tuple[int, int], list[Sent]]:  # type: ignore[override]
        """What each link carries that is not yet forgotten, by receiver and sequence number."""
        return {(to_shard, sequence): list(map(Sent._make, parts)) for to_shard, sequence, parts in self.core.sent}

    @property
    def accounts(self) -> Mapping[int, Account]:  # type: ignore[override]
        """Accounts that ever had an event, with their sequence numbers."""
        return _Accounts(self.core)

    @property
    def orders(self) -> Mapping[int, Order]:  # type: ignore[override]
        """Open orders by order_id."""
        return _Orders(self)

    def forget_sent(self, to_shard: int, up_to_sequence: int) -> None:
        """Forget what links to a shard carry that it has applied."""
        self.core.forget_sent(to_shard, up_to_sequence)

    def balances(self, account: int) -> dict[int, tuple[int, int]]:
        """Return free and locked units by asset, ascending; assets of which the account has nothing are left out."""
        return {asset: (free, locked) for asset, free, locked in self.core.balances(account)}

    def account_seq(self, account: int) -> int:
        """Return the sequence number of the account's last event; 0: it had none."""
        return self.core.account_seq(account)

    def open_orders(self, account: int) -> Iterator[Order]:
        """Yield the account's open orders by order_id."""
        return map(self.order_of, self.core.open_orders(account))

    def order_of(self, row: Any) -> CoreOrder:
        """Return an order of the core."""
        return CoreOrder(self.core, self.books[row[0][3]], row)


def _change_of(row: tuple[int, int, int, int, int, Sequence[Any], Sequence[Any]], t_us: int) -> BookChange:
    market, previous_market_seq, market_seq, state, last_price_ticks, bids, asks = row
    return BookChange(
        market,
        previous_market_seq,
        market_seq,
        t_us,
        state,
        last_price_ticks,
        tuple(map(_level_view, bids)),
        tuple(map(_level_view, asks)),
    )
