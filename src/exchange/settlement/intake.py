"""The settlement plane's own way into the logs: links, operations, requests and operators' batches, a frame each.

It is an ingress like others, with an id and a counter per shard and one frame under way in each. A frame is sent until
the bus has said what became of it; the caller may stop waiting before that, the frame goes on.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from exchange.bus.client import AsyncBus
from exchange.bus.entries import ExecutionsEntry, Ingested
from exchange.bus.errors import UNDECIDED, BusReason, BusRefusal, BusUnavailable
from exchange.bus.keys import BusKey, seal
from exchange.domain.commands import SignedBatch
from exchange.domain.control import ControlRequest
from exchange.domain.frames import FORMAT, OrderFrame
from exchange.domain.limits import INGRESS_BYTES
from exchange.domain.operations import SignedLink, SignedOperation
from exchange.wire.messages import encode

_log = logging.getLogger(__name__)

RETRY_S: Final = 0.1
BLOCK_MS: Final = 1_000
_START_OVER: Final = frozenset({BusReason.COUNTER_GAP, BusReason.COUNTER_CONFLICT})


@dataclass(slots=True)
class _Lane:
    """Our side of a shard's orders: id and counter of the last frame, and who has its turn."""

    ingress: bytes
    counter: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    ingested_n: int = 0


class Intake:
    """The lanes of all shards.

    Attributes:
        key: bus key that seals our frames.
    """

    def __init__(self, bus: AsyncBus, key: BusKey) -> None:
        self.key = key
        self._bus = bus
        self._lanes: dict[int, _Lane] = {}
        self._tasks: set[asyncio.Task[Ingested]] = set()

    async def enter(
        self,
        shard: int,
        tag: str,
        *,
        links: Sequence[SignedLink] = (),
        operations: Sequence[SignedOperation] = (),
        requests: Sequence[ControlRequest] = (),
        batches: Sequence[SignedBatch] = (),
        control_n: int = 0,
        commands: int = 0,
    ) -> Ingested:
        """Put all of it into one entry and return its position. Cancelling the wait does not take the frame back.

        Args:
            shard: that it is for.
            tag: of the shard on the bus.
            links: money on its way.
            operations: of operators.
            requests: for shard 0.
            batches: that were verified.
            control_n: position of shard 0 under which they were.
            commands: how many the batches have; frames without batches are never refused for overload.

        Raises:
            BusRefusal: it is not in the log.
        """
        lane = self._lanes.setdefault(shard, _Lane(secrets.token_bytes(INGRESS_BYTES)))
        parts = OrderFrame(
            FORMAT, b"", 0, 0, control_n, tuple(batches), tuple(links), tuple(operations), tuple(requests)
        )
        task = asyncio.create_task(self._send(shard, tag, lane, parts, commands), name=f"intake of shard {shard}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def executed(self, tag: str, n: int) -> ExecutionsEntry:
        """Wait for the execution of entry n and return it; bound the wait with asyncio.timeout.

        Raises:
            LookupError: it was trimmed before it was read; the archive has it.
        """
        while True:
            try:
                read = await self._bus.read_executions({tag: n - 1}, 1, BLOCK_MS)
            except BusUnavailable:
                await asyncio.sleep(RETRY_S)
                continue
            if entries := read.get(tag):
                if entries[0].n != n:
                    raise LookupError(f"entry {n} of {tag} is trimmed from the bus, which begins at {entries[0].n}")
                return entries[0]

    def ingested(self) -> dict[int, int]:
        """Return by shard the highest position that the bus gave to a frame of ours."""
        return {shard: lane.ingested_n for shard, lane in self._lanes.items() if lane.ingested_n}

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: "asyncio.Task[Ingested]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Whoever entered it may be gone; then nobody else asks what became of it.
            task.exception()

    async def _send(self, shard: int, tag: str, lane: _Lane, parts: OrderFrame, commands: int) -> Ingested:
        async with lane.turn:
            while True:
                try:
                    done = await self._send_once(shard, tag, lane, parts, commands)
                except BusRefusal as refusal:
                    if refusal.reason in _START_OVER:
                        # The bus has forgotten us, as it does after a day without a frame.
                        lane.ingress, lane.counter = secrets.token_bytes(INGRESS_BYTES), 0
                        continue
                    raise
                lane.ingested_n = max(lane.ingested_n, done.n)
                return done

    async def _send_once(self, shard: int, tag: str, lane: _Lane, parts: OrderFrame, commands: int) -> Ingested:
        """Send one frame under the lane's next counter until the bus says what became of it."""
        counter = lane.counter + 1
        frame = encode(
            OrderFrame(
                FORMAT,
                lane.ingress,
                counter,
                time.time_ns() // 1000,
                parts.control_n,
                parts.batches,
                parts.links,
                parts.operations,
                parts.requests,
            )
        )
        exempt = not parts.batches
        sealed = seal(self.key, shard, lane.ingress, counter, frame, commands, exempt)
        may_be_heard = False
        while True:
            try:
                done = await self._bus.ingest(tag, sealed)
            except BusUnavailable as error:
                _log.warning("the bus does not answer, a frame for shard %d is sent again: %s", shard, error)
                may_be_heard = True
            except BusRefusal as refusal:
                if not (may_be_heard and refusal.reason in UNDECIDED):
                    raise
            else:
                lane.counter = counter
                return done
            await asyncio.sleep(RETRY_S)
