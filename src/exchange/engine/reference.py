"""The reference behind the port: bytes are parsed, the specification decides, what happened is encoded and chained."""

from collections.abc import Sequence

from sortedcontainers import SortedDict

from exchange.domain.commands import Side
from exchange.domain.events import Event
from exchange.domain.frames import FORMAT, ExecutionFrame
from exchange.domain.state import ControlState, Genesis, ShardCore, ShardState
from exchange.domain.units import CONTROL_SHARD
from exchange.engine.port import Level, OpenOrder, RawEntry
from exchange.reference.control import Control
from exchange.reference.core import genesis_core
from exchange.reference.shard import Shard
from exchange.wire.checkpoint import read_control_checkpoint, read_shard_checkpoint, write_checkpoint
from exchange.wire.entries import check_format, parse_entry, read_registration
from exchange.wire.hashing import chain_hash, genesis_hash, input_hash, state_hash
from exchange.wire.messages import decode, encode


class _Chained:
    """Parses entries, hands them to the specification, encodes and chains the answers."""

    def __init__(self, shard: Shard | Control) -> None:
        self._shard = shard
        self._position = shard.core.n
        self._stopped: Exception | None = None

    @property
    def shard(self) -> int:
        return self._shard.core.shard

    @property
    def position(self) -> int:
        return self._position

    @property
    def chain_hash(self) -> bytes:
        return self._shard.core.chain_hash

    def apply(self, entries: Sequence[RawEntry]) -> list[bytes]:
        self._check_running()
        try:
            return [self._apply_one(entry) for entry in entries]
        except Exception as stop:
            # Whatever it was, the state may be half way through an entry: nobody may go on from it.
            self._stopped = stop
            raise

    def state_hash(self) -> bytes:
        self._check_running()
        return state_hash(encode(self._shard.export()))

    def checkpoint(self) -> bytes:
        self._check_running()
        return write_checkpoint(self._shard.export())

    def _apply_one(self, entry: RawEntry) -> bytes:
        core = self._shard.core
        # The rules that answer an entry are those before it: raised rules hold from the next entry on.
        rules = core.rules
        events: tuple[Event, ...] = self._shard.apply(parse_entry(*entry))
        frame = encode(
            ExecutionFrame(
                format=FORMAT,
                n=entry.n,
                t_us=entry.t_us,
                rules=rules,
                previous_hash=core.chain_hash,
                input_hash=input_hash(*entry),
                events=events,
            )
        )
        core.chain_hash = chain_hash(frame)
        self._position = entry.n
        return frame

    def _check_running(self) -> None:
        if self._stopped is not None:
            raise self._stopped


class ReferenceShard(_Chained):
    """A trading shard on the reference."""

    def __init__(self, state: ShardState) -> None:
        self._trading = Shard(state)
        super().__init__(self._trading)

    def has_due_work(self, t_us: int) -> bool:
        return self._trading.has_due_work(t_us)

    def depth(self, market: int, levels_max: int) -> tuple[list[Level], list[Level]]:
        book = self._trading.floor.books[market]
        bids, asks = ([Level(*level) for level in book.depth(side, levels_max)] for side in Side)
        return bids, asks

    def balances(self, account: int) -> dict[int, tuple[int, int]]:
        known = self._trading.floor.funds.accounts.get(account)
        if known is None:
            return {}
        return {asset: (balance.free_units, balance.locked_units) for asset, balance in sorted(known.balances.items())}

    def open_orders(self, account: int) -> list[OpenOrder]:
        groups = self._trading.floor.orders_of.get(account, SortedDict())
        return sorted(
            OpenOrder(
                order.order_id,
                order.client_order_id,
                order.market,
                order.side,
                order.price_ticks,
                order.open_lots,
                order.filled_lots,
            )
            for orders in groups.values()
            for order in orders.values()
        )

    def state(self) -> ShardState:
        """Return the state as a value: for tests, audits and displays, not for the order path."""
        return self._trading.export()


class ReferenceControl(_Chained):
    """Shard 0 on the reference, the only engine that it has."""

    def __init__(self, state: ControlState) -> None:
        self._control = Control(state, read_registration)
        super().__init__(self._control)

    def state(self) -> ControlState:
        """Return the state as a value, which services fold into what they need."""
        return self._control.export()


class ReferenceFactory:
    """Makes trading shards on the reference."""

    name = "reference"

    def from_genesis(self, genesis: bytes) -> ReferenceShard:
        return ReferenceShard(ShardState(format=FORMAT, core=_core(genesis)))

    def from_checkpoint(self, checkpoint: bytes) -> ReferenceShard:
        return ReferenceShard(read_shard_checkpoint(checkpoint))


def control_from_genesis(genesis: bytes) -> ReferenceControl:
    """Return shard 0 before its first entry; `genesis` is an encoded Genesis of shard 0."""
    return ReferenceControl(ControlState(format=FORMAT, core=_core(genesis)))


def control_from_checkpoint(checkpoint: bytes) -> ReferenceControl:
    """Return shard 0 in the state of a checkpoint. Raises as `EngineFactory.from_checkpoint` does."""
    return ReferenceControl(read_control_checkpoint(checkpoint))


def _core(genesis: bytes) -> ShardCore:
    check_format("genesis", genesis)
    parsed = decode(Genesis, genesis)
    assert parsed.shard >= CONTROL_SHARD
    return genesis_core(parsed, genesis_hash(parsed.environment, parsed.shard, genesis))
