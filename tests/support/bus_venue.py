"""An exchange on a real bus without its services: shard 0 and trading shards whose entries are executed at once."""

import time
from pathlib import Path

from exchange.bus.client import Bus
from exchange.bus.entries import CommitFrame, Stamp
from exchange.bus.keys import BusKey, seal
from exchange.config.environment import Environment
from exchange.domain.commands import Command, SignedBatch
from exchange.domain.control import ControlRequest
from exchange.domain.events import AccountOpened, Event
from exchange.domain.frames import FORMAT, ExecutionFrame, OrderFrame
from exchange.domain.markets import Market
from exchange.domain.operations import (
    AllocationPolicy,
    DefineMarket,
    DefineShard,
    Deposit,
    OperatorAction,
    OperatorRole,
    SignedLink,
    SignedOperation,
)
from exchange.engine.choice import engine_named
from exchange.engine.port import RawEntry
from exchange.execution.checkpoints import CheckpointStore
from exchange.local.control_venue import ControlVenue, KeyPair, carried_by, signed_link
from exchange.local.venue import Venue, operator_seed
from exchange.reference.signing import public_key_of
from exchange.wire.messages import decode, encode

KEY = BusKey("ingress-1", bytes(range(32)))
INGRESS = bytes(range(16))


def environment_named(name: str) -> Environment:
    """Return the environment of the venues of that name."""
    return Environment(
        name, {role.name.lower(): public_key_of(operator_seed(name, role)).hex() for role in OperatorRole}
    )


class BusVenue:
    """A shard whose log is on a bus: a venue makes what enters, its engine executes, and the answer is committed.

    Attributes:
        venue: of the shard; shard 0 has a ControlVenue.
        frames: all execution frames.
    """

    def __init__(self, address: str, venue: Venue | ControlVenue) -> None:
        self.bus = Bus.connect(address)
        self.venue = venue
        self.shard = venue.engine.shard
        self.tag = f"s{self.shard}"
        self.frames: list[bytes] = []
        environment = environment_named(venue.environment)
        self.bus.initialise(self.tag, environment.name, self.shard, environment.genesis_hash(self.shard))
        self.bus.approve(self.tag, self.bus.server().run_id)
        self._epoch = self.bus.take_epoch(self.tag)
        self._totals: list[tuple[int, int]] = [(0, 0)]
        self._bytes_total = 0

    def enter(
        self,
        *batches: SignedBatch,
        links: tuple[SignedLink, ...] = (),
        operations: tuple[SignedOperation, ...] = (),
        requests: tuple[ControlRequest, ...] = (),
    ) -> tuple[Event, ...]:
        """Put one entry into the log and return what happened."""
        engine = self.venue.engine
        n, now_us = engine.position + 1, time.time_ns() // 1000
        order_frame = encode(
            OrderFrame(FORMAT, INGRESS, n, now_us, 0, tuple(batches), links, operations, tuple(requests))
        )
        entered = self.bus.ingest(self.tag, seal(KEY, self.shard, INGRESS, n, order_frame, len(batches), exempt=True))
        assert entered.n == n
        before = engine.chain_hash
        frame = engine.apply([RawEntry(n, entered.t_us, order_frame)])[0]
        entry = self.bus.orders_range(self.tag, n, n)[0]
        self._bytes_total += len(frame) + 128
        self._totals.append((entry.bytes_total, self._bytes_total))
        stamp = Stamp(
            self._epoch, now_us, time.time_ns() // 1000, entry.commands_total, self._bytes_total, entry.bytes_total
        )
        self.bus.commit(self.tag, self._epoch, n - 1, before, [CommitFrame(frame, stamp, b"")], engine.chain_hash)
        self.frames.append(frame)
        return decode(ExecutionFrame, frame).events

    def trade(self, account: int, *commands: Command) -> tuple[Event, ...]:
        """Enter one batch of an account."""
        assert isinstance(self.venue, Venue)
        self.venue.now_us = time.time_ns() // 1000
        return self.enter(self.venue.batch(account, *commands))

    def operate(self, role: OperatorRole, *actions: OperatorAction) -> tuple[Event, ...]:
        """Enter one operation."""
        return self.enter(operations=(self.venue.operation(role, *actions),))

    def checkpoint(self, store: CheckpointStore) -> int:
        """Write a checkpoint; return its position."""
        store.write(self.shard, self.venue.engine.position, self.venue.engine.checkpoint())
        return self.venue.engine.position

    def trim(self, n: int) -> None:
        """Trim both streams up to n."""
        self.bus.trim(self.tag, n, *self._totals[n])


class BusExchange:
    """Shard 0 and trading shards on one bus, with their folder of checkpoints."""

    def __init__(self, address: str, folder: Path, shards: int = 2, markets: tuple[Market, ...] = ()) -> None:
        self.address = address
        self.environment = environment_named("local")
        self.store = CheckpointStore(folder / "checkpoints")
        self.control = BusVenue(address, ControlVenue())
        self.shards: dict[int, BusVenue] = {}
        for number in range(1, shards + 1):
            self.add_shard(number)
        for market in markets:
            self.shards[market.shard].operate(OperatorRole.MARKET, DefineMarket(market))

    def add_shard(self, number: int) -> BusVenue:
        """Put another shard into the map."""
        factory = engine_named("reference")
        self.shards[number] = BusVenue(self.address, Venue(factory, shard=number, signed=False, keep_log=False))
        self.control.operate(OperatorRole.MARKET, DefineShard(number))
        return self.shards[number]

    def new_user(self, name: str) -> tuple[int, KeyPair]:
        """Register the key of that name; return the account that was made for it, and the key."""
        venue = self.control.venue
        assert isinstance(venue, ControlVenue)
        key = venue.key(name)
        events = self.control.enter(requests=(ControlRequest(venue.request_id(), venue.registration(key)),))
        return next(event.account for event in events if isinstance(event, AccountOpened)), key

    def deposit(self, account: int, asset: int, units: int) -> None:
        """Bring in money for an account, the same in every trading shard."""
        total = units * len(self.shards)
        self.deliver(
            self.control,
            self.control.operate(OperatorRole.TREASURY, Deposit(account, asset, total, AllocationPolicy.EVEN)),
        )

    def command(self, key: KeyPair, account: int, *commands: Command) -> tuple[Event, ...]:
        """Enter one batch of an account into shard 0; nothing that it sends is delivered."""
        venue = self.control.venue
        assert isinstance(venue, ControlVenue)
        venue.now_us = time.time_ns() // 1000
        return self.control.enter(venue.batch(key, account, *commands))

    def deliver(self, sender: BusVenue, events: tuple[Event, ...]) -> None:
        """Deliver what the last entry of a shard sent."""
        for link in carried_by(events, sender.shard, sender.venue.engine.position):
            receiver = self.shards[link.to_shard] if link.to_shard else self.control
            receiver.enter(links=(signed_link(self.environment.name, link),))

    def all(self) -> list[BusVenue]:
        """Return all shards, shard 0 first."""
        return [self.control, *(self.shards[number] for number in sorted(self.shards))]

    def close(self) -> None:
        """Close all clients."""
        for venue in self.all():
            venue.bus.close()
