"""What those who send know of a shard: folded from its answers, never asked of the engine under test."""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from exchange.domain.commands import SignedBatch
from exchange.domain.events import (
    ControlFloorRaised,
    Event,
    LinkResult,
    MarketDefined,
    MarketStateChanged,
    MarketStateScheduled,
    OperationResult,
    OperatorKeyRotated,
    OrderAccepted,
    OrderCancelled,
    OrderReduced,
    OrderReplaced,
    ShardSettingsChanged,
    Trade,
)
from exchange.domain.frames import OrderFrame
from exchange.domain.markets import Market, ShardSettings, with_state
from exchange.domain.operations import Operation, OperatorRole, SignedLink, SignedOperation
from exchange.domain.signing import SEED_BYTES
from exchange.local.venue import START_US, make_genesis, operator_seed, seed_of
from exchange.reference.signing import public_key_of
from exchange.wire.messages import decode, encode

ENVIRONMENT: Final = "differential"
SPARE_KEYS: Final = 4
"""Keys that operators may change to."""
T = TypeVar("T")


class Pool(Generic[T]):
    """Values by name, one of which can be picked by its place."""

    def __init__(self) -> None:
        self._values: list[tuple[int, T]] = []
        self._places: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, place: int) -> T:
        return self._values[place][1]

    def __iter__(self) -> Iterator[T]:
        return (value for _, value in self._values)

    def add(self, name: int, value: T) -> None:
        self._places[name] = len(self._values)
        self._values.append((name, value))

    def remove(self, name: int) -> None:
        place = self._places.pop(name)
        last = self._values.pop()
        if place < len(self._values):
            self._values[place] = last
            self._places[last[0]] = place


@dataclass(slots=True, eq=False)
class Known:
    """An open order."""

    order_id: int
    client_order_id: int
    account: int
    market: int
    side: int
    price_ticks: int
    open_lots: int
    filled_lots: int = 0


class World:
    """A shard as its senders know it.

    Attributes:
        shard, genesis: which shard, and the encoded Genesis that it starts from.
        now_us, n: time of the next entry, position of the last one.
        markets, settings, control_floor: as the shard last said.
        orders: open orders, of all, by account and by market; `ended` names of some that ended last.
        batches, links, operations: some that were sent, to be sent again.
        seeds, sequences: what each role signs with now, and the last sequence number that it used.
        link_sequences: of the last link that was applied, by sending shard.
        timers: deadlines that were set, some of them gone.
        expiries_ms: when batches expire that were sent last.
    """

    def __init__(self, shard: int, settings: ShardSettings) -> None:
        self.shard = shard
        self.genesis = encode(make_genesis(ENVIRONMENT, shard, settings))
        self.settings = settings
        self.now_us = START_US
        self.n = 0
        self.markets: dict[int, Market] = {}
        self.control_floor = 0
        self.by_id: dict[int, Known] = {}
        self.orders: Pool[Known] = Pool()
        self.orders_of: dict[int, Pool[Known]] = {}
        self.orders_in: dict[int, Pool[Known]] = {}
        self.ended: deque[Known] = deque(maxlen=32)
        self.batches: deque[SignedBatch] = deque(maxlen=24)
        self.links: deque[SignedLink] = deque(maxlen=24)
        self.operations: deque[SignedOperation] = deque(maxlen=8)
        self.seeds = {role: operator_seed(ENVIRONMENT, role) for role in OperatorRole}
        self.sequences = dict.fromkeys(OperatorRole, 0)
        self.link_sequences: dict[int, int] = {}
        self.timers: deque[int] = deque(maxlen=64)
        self.expiries_ms: deque[int] = deque(maxlen=16)
        self.nonces: dict[bytes, int] = {}
        self._by_key = {public_key_of(seed): seed for seed in (*self.seeds.values(), *spare_seeds())}

    def next_nonce(self, key_id: bytes) -> int:
        """Return a nonce that the key has not used here."""
        self.nonces[key_id] = self.nonces.get(key_id, 0) + 1
        return self.nonces[key_id]

    def observe(self, order_frame: bytes, events: Sequence[Event]) -> None:
        """Take in what became of an entry."""
        self.n += 1
        frame: OrderFrame | None = None
        for event in events:
            match event:
                case OrderAccepted():
                    self._add(
                        Known(
                            event.order_id,
                            event.client_order_id,
                            event.account,
                            event.market,
                            event.side,
                            event.price_ticks,
                            event.quantity_lots,
                        )
                    )
                case Trade():
                    for order_id in (event.maker_order_id, event.taker_order_id):
                        self.by_id[order_id].filled_lots += event.quantity_lots
                        self._take(order_id, event.quantity_lots)
                case OrderCancelled():
                    self._take(event.order_id, event.cancelled_lots)
                case OrderReduced():
                    self._take(event.order_id, event.reduced_lots)
                case OrderReplaced():
                    order = self.by_id[event.order_id]
                    order.price_ticks, order.open_lots = event.price_ticks, event.open_lots
                case MarketDefined():
                    self.markets[event.market.market] = event.market
                case MarketStateChanged():
                    self.markets[event.market] = with_state(self.markets[event.market], event.state)
                case MarketStateScheduled():
                    self.timers.append(event.effective_us)
                case ShardSettingsChanged():
                    self.settings = event.settings
                case ControlFloorRaised():
                    self.control_floor = event.control_n
                case OperatorKeyRotated():
                    # Some of the keys drawn at random are good ones; nobody can sign with them.
                    self.seeds[OperatorRole(event.role)] = self._by_key.get(event.public_key, bytes(SEED_BYTES))
                case OperationResult() if not event.reason and not event.repeated:
                    frame = frame or decode(OrderFrame, order_frame)
                    operation = decode(Operation, frame.operations[event.operation - 1].payload)
                    self.sequences[OperatorRole(operation.role)] = operation.sequence
                case LinkResult() if not event.reason and not event.repeated:
                    self.link_sequences[event.from_shard] = event.sequence
                case _:
                    pass

    def _add(self, order: Known) -> None:
        self.by_id[order.order_id] = order
        for pool in self._pools(order):
            pool.add(order.order_id, order)

    def _take(self, order_id: int, lots: int) -> None:
        order = self.by_id[order_id]
        order.open_lots -= lots
        if order.open_lots == 0:
            del self.by_id[order_id]
            self.ended.append(order)
            for pool in self._pools(order):
                pool.remove(order_id)

    def _pools(self, order: Known) -> tuple[Pool[Known], ...]:
        return (
            self.orders,
            self.orders_of.setdefault(order.account, Pool()),
            self.orders_in.setdefault(order.market, Pool()),
        )


def spare_seeds() -> tuple[bytes, ...]:
    """Return the private keys that operators may change to."""
    return tuple(seed_of(ENVIRONMENT, f"spare {number}") for number in range(SPARE_KEYS))


def key_id_for(name: int) -> bytes:
    """Return a key id. A trading shard does not look at keys, nor at signatures of batches."""
    return hashlib.sha256(name.to_bytes(16, "big")).digest()[:16]
