"""The log of a shard wherever it is: on the bus, or trimmed there, in the archive."""

import asyncio

from exchange.bus.client import AsyncBus
from exchange.settlement.archive import Archived
from exchange.settlement.settler import Settler


class Log:
    """Entries of all shards by position."""

    def __init__(self, bus: AsyncBus, settler: Settler) -> None:
        self._bus = bus
        self._settler = settler

    async def entry(self, shard: int, tag: str, n: int) -> Archived | None:
        """Return an executed entry; None: neither bus nor archive has it.

        Raises:
            BusUnavailable: the archive does not have it, and the bus does not answer.
            ArchiveError: the archive is damaged there.
        """
        archive = self._settler.archive(shard)
        if archive is not None and archive.first_n <= n <= archive.last_n:
            return await asyncio.to_thread(archive.read, n)
        orders = await self._bus.orders_range(tag, n, n)
        executions = await self._bus.executions_range(tag, n, n)
        return Archived(orders[0], executions[0]) if orders and executions else None
