"""Where orders come from: the one thing that is asked for and that no event says, an order's self-trade prevention.

OrderAccepted leaves it out. It stands in the command that placed the order, in the orders stream, and in checkpoints;
and entries are trimmed only behind a checkpoint. So it is looked up when somebody lists the order, and kept with it.
"""

import asyncio
import logging
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from clob.v1.batch_pb2 import Batch
from clob.v1.frame_pb2 import OrderFrame
from clob.v1.state_pb2 import Checkpoint, ShardState
from exchange.bus.client import AsyncBus
from exchange.bus.errors import BusUnavailable
from exchange.domain.commands import SelfTradePrevention
from exchange.execution.checkpoints import CheckpointStore
from exchange.marketdata.book import STP_UNKNOWN, Order
from exchange.marketdata.fold import ShardFold
from exchange.marketdata.reader import ShardUnavailable, Source

_log = logging.getLogger(__name__)

ENTRIES_AT_ONCE: int = 16
"""Entries of orders that are read at once: a busy one has megabytes."""


class Origins:
    """Looks up self-trade prevention."""

    def __init__(self, bus: AsyncBus, store: CheckpointStore) -> None:
        self._bus = bus
        self._store = store
        self._absorbed: dict[int, int] = {}
        self._lock = asyncio.Lock()

    async def resolve(self, source: Source, orders: Sequence[Order]) -> None:
        """Find out the self-trade prevention of open orders of one shard.

        Raises:
            ShardUnavailable: the bus does not answer, or neither it nor a checkpoint has an order.
        """
        entries = sorted({order.origin_n for order in orders if order.self_trade_prevention == STP_UNKNOWN})
        if not entries:
            return
        fold = source.fold
        for start in range(0, len(entries), ENTRIES_AT_ONCE):
            part = entries[start : start + ENTRIES_AT_ONCE]
            try:
                found = await asyncio.gather(*(self._bus.orders_range(source.tag, n, n) for n in part))
            except BusUnavailable as error:
                raise ShardUnavailable(str(error)) from error
            frames = {entry.n: entry.order_frame for there in found for entry in there}
            for n, data in frames.items():
                _read(data, [order for order in orders if order.origin_n == n])
        missing = [order for order in orders if order.self_trade_prevention == STP_UNKNOWN]
        if missing and isinstance(fold, ShardFold):
            await self._absorb(source.shard, fold)
            missing = [order for order in missing if order.self_trade_prevention == STP_UNKNOWN]
        if missing:
            raise ShardUnavailable(
                f"the self-trade prevention of order {missing[0].order_id} cannot be told: entry "
                f"{missing[0].origin_n} of shard {source.shard} is trimmed, and --checkpoints has none behind it"
            )

    async def _absorb(self, shard: int, fold: ShardFold) -> None:
        """Take over from the newest checkpoint what open orders were not known."""
        async with self._lock:
            newest = await asyncio.to_thread(self._newest, shard)
            for order_id, mode in newest.items():
                order = fold.orders.get(order_id)
                if order is not None and order.self_trade_prevention == STP_UNKNOWN:
                    order.self_trade_prevention = mode

    def _newest(self, shard: int) -> dict[int, int]:
        """Return the self-trade prevention by order of the newest checkpoint, if it was not absorbed before."""
        newest = self._store.newest(shard)
        if newest is None or newest[0] <= self._absorbed.get(shard, 0):
            return {}
        n, data = newest
        # The store has compared the state with its hash; it is ours, so the protobuf library may read it.
        state = ShardState.FromString(Checkpoint.FromString(data).state)
        self._absorbed[shard] = n
        return {
            order.order_id: order.self_trade_prevention
            for book in state.books
            for side in (book.bids, book.asks)
            for order in side
        }


def _read(order_frame: bytes, orders: Sequence[Order]) -> None:
    """Take over what the commands say that placed these orders, all of one entry."""
    try:
        frame = OrderFrame.FromString(order_frame)
        batches = {
            place: Batch.FromString(frame.batches[place - 1].payload) for place in {o.origin_batch for o in orders}
        }
    except (DecodeError, IndexError) as error:
        raise ShardUnavailable(f"entry {orders[0].origin_n} of orders does not have what its answer says") from error
    for order in orders:
        place = batches[order.origin_batch].commands[order.origin_command - 1].place
        order.self_trade_prevention = place.self_trade_prevention or SelfTradePrevention.CANCEL_TAKER
