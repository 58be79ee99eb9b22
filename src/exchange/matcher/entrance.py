"""The operators' way into a shard: an ingress process of its own, with one frame in flight."""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Final

from exchange.bus.client import AsyncBus
from exchange.bus.entries import ExecutionsEntry, Ingested
from exchange.bus.errors import UNDECIDED, BusReason, BusRefusal, BusUnavailable
from exchange.bus.keys import BusKey, seal
from exchange.domain.commands import SignedBatch
from exchange.domain.frames import FORMAT, OrderFrame
from exchange.domain.limits import INGRESS_BYTES
from exchange.domain.operations import SignedOperation
from exchange.wire.messages import encode

_RETRY_S: Final = 0.05
_BLOCK_MS: Final = 1_000
_RENEW: Final = frozenset({BusReason.COUNTER_GAP, BusReason.COUNTER_CONFLICT})


class Entrance:
    """Enters frames of operators into the orders of one shard.

    Frames are entered one after another. Whoever is cancelled while its frame may be on its way leaves its identity to
    it: the next frame comes from a new ingress process.
    """

    def __init__(
        self,
        bus: AsyncBus,
        shard: int,
        tag: str,
        key: BusKey,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._bus = bus
        self._shard = shard
        self._tag = tag
        self._key = key
        self._now_us = now_us
        self._lock = asyncio.Lock()
        self._renew()

    async def enter(
        self, batches: Sequence[SignedBatch], operations: Sequence[SignedOperation], control_n: int, commands: int
    ) -> Ingested:
        """Give all of it a position in one entry, once. Bound it with asyncio.timeout: then it is not known.

        Args:
            batches: verified.
            operations: that come before them.
            control_n: position of shard 0 under which the batches were verified.
            commands: of the batches.

        Raises:
            BusRefusal: it has no position.
            WireError: it does not fit one frame.
        """
        async with self._lock:
            while True:
                frame = OrderFrame(
                    format=FORMAT,
                    ingress=self._ingress,
                    counter=self._counter,
                    ingress_time_us=self._now_us(),
                    control_n=control_n,
                    batches=tuple(batches),
                    operations=tuple(operations),
                )
                # Operations mend what is wrong with a shard: they are let in when it is full.
                sealed = seal(
                    self._key,
                    self._shard,
                    self._ingress,
                    self._counter,
                    encode(frame),
                    commands,
                    exempt=bool(operations),
                )
                answered = was_heard_maybe = False
                try:
                    while True:
                        try:
                            ingested = await self._bus.ingest(self._tag, sealed)
                        except BusUnavailable:
                            was_heard_maybe = True
                            await asyncio.sleep(_RETRY_S)
                            continue
                        except BusRefusal as refusal:
                            if was_heard_maybe and refusal.reason in UNDECIDED:
                                await asyncio.sleep(_RETRY_S)
                                continue
                            answered = True
                            if refusal.reason in _RENEW:
                                break
                            raise
                        answered = True
                        self._counter += 1
                        return ingested
                finally:
                    if not answered:
                        self._renew()
                self._renew()

    async def executed(self, n: int) -> ExecutionsEntry:
        """Wait for the execution of entry n and return it. Bound it with asyncio.timeout.

        Raises:
            LookupError: it is executed, and trimmed already.
        """
        while True:
            try:
                found = await self._bus.read_executions({self._tag: n - 1}, 1, _BLOCK_MS)
            except BusUnavailable:
                await asyncio.sleep(_RETRY_S)
                continue
            for entry in found.get(self._tag, ()):
                if entry.n == n:
                    return entry
                raise LookupError(f"entry {n} of shard {self._shard} is trimmed")

    async def logged(self, n: int) -> ExecutionsEntry | None:
        """Return execution n as long as the bus has it."""
        found = await self._bus.executions_range(self._tag, n, n)
        return found[0] if found else None

    def _renew(self) -> None:
        self._ingress = secrets.token_bytes(INGRESS_BYTES)
        self._counter = 1
