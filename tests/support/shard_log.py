"""A shard on a real bus as tests need it: its head, an ingress that seals frames, and what it answers."""

import secrets
import time
from collections.abc import Sequence

from exchange.bus.client import Bus
from exchange.bus.entries import Ingested, Limits
from exchange.bus.keys import BusKey, BusKeys, SealedFrame, seal
from exchange.domain.commands import SignedBatch
from exchange.domain.frames import FORMAT, OrderFrame
from exchange.domain.operations import SignedLink, SignedOperation
from exchange.local.venue import make_genesis
from exchange.wire.hashing import genesis_hash
from exchange.wire.messages import encode

ENVIRONMENT = "local"
INGRESS_KEY = BusKey("ingress-1", bytes(range(32)))
MATCHER_KEY = BusKey("matcher", bytes(range(1, 33)))
KEYS = BusKeys.of(INGRESS_KEY, MATCHER_KEY)


class ShardLog:
    """A shard of the venues' environment on a bus, initialised and approved, and one ingress process.

    Attributes:
        bus: a client.
        shard, tag, genesis, genesis_hash: whose log it is.
        ingress: of the frames that are made here, 16 bytes.
    """

    def __init__(self, address: str, shard: int = 1, limits: Limits | None = None) -> None:
        self.bus = Bus.connect(address)
        self.shard = shard
        self.tag = f"s{shard}"
        self.genesis = encode(make_genesis(ENVIRONMENT, shard))
        self.genesis_hash = genesis_hash(ENVIRONMENT, shard, self.genesis)
        self.ingress = secrets.token_bytes(16)
        self.counter = 0
        self.bus.initialise(self.tag, ENVIRONMENT, shard, self.genesis_hash, limits)
        self.bus.approve(self.tag, self.bus.server().run_id)

    def sealed(
        self,
        *batches: SignedBatch,
        links: Sequence[SignedLink] = (),
        operations: Sequence[SignedOperation] = (),
        commands: int = 1,
        exempt: bool = False,
        key: BusKey = INGRESS_KEY,
        time_us: int | None = None,
        counter: int | None = None,
    ) -> SealedFrame:
        """Return the next frame, sealed."""
        if counter is None:
            self.counter += 1
            counter = self.counter
        frame = OrderFrame(
            format=FORMAT,
            ingress=self.ingress,
            counter=counter,
            ingress_time_us=time_us or time.time_ns() // 1000,
            batches=tuple(batches),
            links=tuple(links),
            operations=tuple(operations),
        )
        return seal(key, self.shard, self.ingress, counter, encode(frame), commands, exempt)

    def enter(
        self,
        *batches: SignedBatch,
        links: Sequence[SignedLink] = (),
        operations: Sequence[SignedOperation] = (),
        commands: int = 1,
    ) -> Ingested:
        """Ingest the next frame."""
        return self.bus.ingest(self.tag, self.sealed(*batches, links=links, operations=operations, commands=commands))

    def close(self) -> None:
        """Close the client."""
        self.bus.close()
