"""The port that every engine satisfies: bytes and plain numbers only, so that an engine in any language fits."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from exchange.domain.markets import Market
from exchange.domain.operations import OperatorRole


class RawEntry(NamedTuple):
    """Entry n of a shard's orders: position, sequenced time in microseconds, and the encoded order frame."""

    n: int
    t_us: int
    order_frame: bytes


class Level(NamedTuple):
    """All that is open at one price of one side."""

    price_ticks: int
    quantity_lots: int


class OpenOrder(NamedTuple):
    """An open order as its account sees it; `side` is 1 to buy, 2 to sell."""

    order_id: int
    client_order_id: int
    market: int
    side: int
    price_ticks: int
    open_lots: int
    filled_lots: int


class ShardFacts(NamedTuple):
    """What operators ask of a shard's state, after entry `position`.

    Attributes:
        position, t_us: of the last entry.
        sequences: last sequence number of each operator role; 0: none yet.
        control_floor: of a trading shard; 0 in shard 0.
        links_in: last sequence number of the links that were applied, by sending shard.
    """

    position: int
    t_us: int
    sequences: Mapping[OperatorRole, int]
    control_floor: int
    links_in: Mapping[int, int]


class Summary(NamedTuple):
    """How a shard is doing, in numbers that an engine has at hand; shard 0 has no books.

    Attributes:
        n, t_us, chain_hash: the last entry that was executed.
        rules, rules_max: version of the rules in force, and the highest that the engine knows.
        control_floor: lowest control position of a frame whose batches are executed.
        settings: encoded ShardSettings.
        markets, open_orders, live_nonces, timers, pending_cancel_alls: how many there are.
        accounts: those that had an event.
    """

    n: int
    t_us: int
    chain_hash: bytes
    rules: int
    rules_max: int
    control_floor: int
    settings: bytes
    markets: int
    accounts: int
    open_orders: int
    live_nonces: int
    timers: int
    pending_cancel_alls: int


class BookCut(NamedTuple):
    """The best orders of a book, as an encoded BookState, and how many orders each side has in all."""

    book: bytes
    bid_orders: int
    ask_orders: int


class WhatIf(Protocol):
    """A copy of as much of a shard as some batches can reach; it may go to another thread."""

    @property
    def position(self) -> tuple[int, int, bytes]:
        """Position, time in microseconds and chain hash of the shard when the copy was taken."""

    def run(self) -> bytes:
        """Execute the batches on the copy, once, and return the encoded execution frame."""


class LogEngine(Protocol):
    """What every shard can do, shard 0 included: a pure function from (state, entry) to (state, execution frame).

    The state is kept inside. Not thread-safe. After `apply` has raised every method raises the same again; properties
    are as they were.
    """

    @property
    def shard(self) -> int:
        """Number of the shard."""

    @property
    def position(self) -> int:
        """Position n of the last entry that was executed; 0: none."""

    @property
    def chain_hash(self) -> bytes:
        """Chain hash after that entry; 32 bytes."""

    def apply(self, entries: Sequence[RawEntry]) -> list[bytes]:
        """Execute the next entries and return their encoded execution frames, in order.

        Raises:
            UnknownFormatError: an order frame is of another version.
            EngineStop: an entry cannot be answered. In both cases the answers to the entries before it are lost with
                the engine; load a checkpoint and apply them again.
        """

    @property
    def events_written(self) -> int:
        """Events in all frames that this engine has written since it was made."""

    def has_due_work(self, t_us: int) -> bool:
        """Return whether an empty entry of time t_us would do something: when a clock entry is due."""

    def next_due_us(self) -> int | None:
        """Return the earliest t_us at which there is due work; 0: at any; None: nothing waits."""

    def summary(self) -> Summary:
        """Return how the shard is doing; takes no longer with more orders."""

    def state_hash(self) -> bytes:
        """Return the hash of the state, which does not depend on how an engine stores it; 32 bytes."""

    def checkpoint(self) -> bytes:
        """Return the state as bytes that every engine loads; equal states give equal bytes."""

    def facts(self) -> ShardFacts:
        """Return what operators ask of the state."""

    def markets(self) -> dict[int, Market]:
        """Return the markets by number, with settings and state as the shard has them. A copy."""


class Engine(LogEngine, Protocol):
    """A trading shard."""

    def depth(self, market: int, levels_max: int) -> tuple[list[Level], list[Level]]:
        """Return the best levels of bids and asks, best first.

        Raises:
            KeyError: the shard has no such market.
        """

    def balances(self, account: int) -> dict[int, tuple[int, int]]:
        """Return free and locked units by asset, without assets of which there is neither."""

    def open_orders(self, account: int) -> list[OpenOrder]:
        """Return the account's open orders by order_id."""

    def book(self, market: int, orders_per_side_max: int) -> BookCut:
        """Return the best orders of a book.

        Raises:
            KeyError: the shard has no such market.
        """

    def what_if(self, batches: Sequence[bytes], t_us: int) -> WhatIf:
        """Return a copy on which these batches can be executed as the next entry, of time t_us or of the last one's.

        Args:
            batches: encoded Batch each; their shard, nonce and valid_until_ms are not looked at.
            t_us: time of the entry.

        Raises:
            WireError: a batch is not canonical.
        """


class EngineFactory(Protocol):
    """How an engine comes into being."""

    name: str

    def from_genesis(self, genesis: bytes) -> Engine:
        """Return a shard before its first entry; `genesis` is an encoded Genesis."""

    def from_checkpoint(self, checkpoint: bytes) -> Engine:
        """Return a shard in the state of a checkpoint.

        Raises:
            UnknownFormatError, CheckpointError, WireError: the bytes are of another version, damaged, or no checkpoint.
        """
