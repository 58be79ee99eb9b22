"""The port that every engine satisfies: bytes and plain numbers only, so that an engine in any language fits."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


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


class Engine(Protocol):
    """A shard: a pure function from (state, entry) to (state, execution frame), with its state kept inside.

    Not thread-safe. After an EngineStop every call but `position` and `chain_hash` raises it again.
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

    def has_due_work(self, t_us: int) -> bool:
        """Return whether an empty entry of time t_us would do something: when a clock entry is due."""

    def state_hash(self) -> bytes:
        """Return the hash of the state, which does not depend on how an engine stores it; 32 bytes."""

    def checkpoint(self) -> bytes:
        """Return the state as bytes that every engine loads; equal states give equal bytes."""

    def depth(self, market: int, levels_max: int) -> tuple[list[Level], list[Level]]:
        """Return the best levels of bids and asks, best first.

        Raises:
            KeyError: the shard has no such market.
        """

    def balances(self, account: int) -> dict[int, tuple[int, int]]:
        """Return free and locked units by asset; an account that the shard does not know has none."""

    def open_orders(self, account: int) -> list[OpenOrder]:
        """Return the account's open orders by order_id."""


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
