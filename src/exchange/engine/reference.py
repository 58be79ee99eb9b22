"""The reference behind the port: bytes are parsed, the specification decides, what happened is encoded and chained."""

from collections.abc import Sequence
from itertools import islice

from sortedcontainers import SortedDict

from exchange.domain.commands import Batch, Side
from exchange.domain.events import Event
from exchange.domain.frames import FORMAT, ExecutionFrame
from exchange.domain.markets import Market
from exchange.domain.state import AnsweredRequest, BookState, ControlState, Genesis, ShardCore, ShardState
from exchange.domain.units import CONTROL_SHARD
from exchange.engine.port import BookCut, Level, OpenOrder, RawEntry, ShardFacts, Summary
from exchange.engine.reference_what_if import ReferenceWhatIf, part_for
from exchange.reference.control import Control
from exchange.reference.core import RULES_MAX, genesis_core, genesis_key_refusal
from exchange.reference.shard import Shard, export_order
from exchange.wire.checkpoint import CheckpointError, read_control_checkpoint, read_shard_checkpoint, write_checkpoint
from exchange.wire.entries import check_format, parse_entry, read_registration
from exchange.wire.hashing import chain_hash, genesis_hash, input_hash, state_hash
from exchange.wire.messages import decode, encode


class _Chained:
    """Parses entries, hands them to the specification, encodes and chains the answers."""

    def __init__(self, shard: Shard | Control) -> None:
        self._shard = shard
        self._position = shard.core.n
        self._events_written = 0
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

    @property
    def events_written(self) -> int:
        return self._events_written

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

    def facts(self) -> ShardFacts:
        self._check_running()
        core = self._shard.core
        return ShardFacts(
            position=self._position,
            t_us=core.t_us,
            sequences={role: operator.last_sequence for role, operator in core.operators.items()},
            control_floor=core.control_floor,
            links_in={shard: link.last_sequence for shard, link in core.links_in.items()},
        )

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
        self._events_written += len(events)
        return frame

    def _summary(
        self,
        *,
        markets: int,
        accounts: int,
        open_orders: int = 0,
        timers: int = 0,
        pending_cancel_alls: int = 0,
    ) -> Summary:
        self._check_running()
        core = self._shard.core
        return Summary(
            n=core.n,
            t_us=core.t_us,
            chain_hash=core.chain_hash,
            rules=core.rules,
            rules_max=RULES_MAX,
            control_floor=core.control_floor,
            settings=encode(core.settings),
            markets=markets,
            accounts=accounts,
            open_orders=open_orders,
            live_nonces=len(core.nonces),
            timers=timers,
            pending_cancel_alls=pending_cancel_alls,
        )

    def _check_running(self) -> None:
        if self._stopped is not None:
            raise self._stopped


class ReferenceShard(_Chained):
    """A trading shard on the reference."""

    def __init__(self, state: ShardState) -> None:
        self._trading = Shard(state)
        super().__init__(self._trading)

    def has_due_work(self, t_us: int) -> bool:
        self._check_running()
        return self._trading.has_due_work(t_us)

    def next_due_us(self) -> int | None:
        self._check_running()
        if self._trading.pending:
            return 0
        return self._trading.timers.peekitem(0)[0][0] if self._trading.timers else None

    def summary(self) -> Summary:
        floor = self._trading.floor
        return self._summary(
            markets=len(floor.books),
            accounts=sum(account.account_seq > 0 for account in floor.funds.accounts.values()),
            open_orders=len(floor.orders),
            timers=len(self._trading.timers),
            pending_cancel_alls=len(self._trading.pending),
        )

    def markets(self) -> dict[int, Market]:
        self._check_running()
        return {number: book.market for number, book in self._trading.floor.books.items()}

    def depth(self, market: int, levels_max: int) -> tuple[list[Level], list[Level]]:
        self._check_running()
        book = self._trading.floor.books[market]
        bids, asks = ([Level(*level) for level in book.depth(side, levels_max)] for side in Side)
        return bids, asks

    def balances(self, account: int) -> dict[int, tuple[int, int]]:
        self._check_running()
        known = self._trading.floor.funds.accounts.get(account)
        if known is None:
            return {}
        return {
            asset: (balance.free_units, balance.locked_units)
            for asset, balance in sorted(known.balances.items())
            if balance.free_units or balance.locked_units
        }

    def open_orders(self, account: int) -> list[OpenOrder]:
        self._check_running()
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

    def book(self, market: int, orders_per_side_max: int) -> BookCut:
        self._check_running()
        book = self._trading.floor.books[market]
        bids, asks = (
            tuple(export_order(order) for order in islice(book.orders(side), orders_per_side_max)) for side in Side
        )
        cut = BookState(book.market, book.market_seq, book.last_price_ticks, bids, asks)
        bid_orders, ask_orders = (sum(map(len, book.levels[side].values())) for side in Side)
        return BookCut(encode(cut), bid_orders, ask_orders)

    def what_if(self, batches: Sequence[bytes], t_us: int) -> ReferenceWhatIf:
        self._check_running()
        return ReferenceWhatIf(part_for(self._trading, [decode(Batch, batch) for batch in batches]), batches, t_us)

    def state(self) -> ShardState:
        """Return the state as a value: for tests, audits and displays, not for the order path."""
        return self._trading.export()


class ReferenceControl(_Chained):
    """Shard 0 on the reference, the only engine that it has."""

    def __init__(self, state: ControlState) -> None:
        self._control = Control(state, read_registration)
        super().__init__(self._control)

    def has_due_work(self, t_us: int) -> bool:
        return False

    def next_due_us(self) -> int | None:
        return None

    def summary(self) -> Summary:
        return self._summary(markets=len(self._control.markets), accounts=len(self._control.user_of))

    def state(self) -> ControlState:
        """Return the state as a value, which services fold into what they need."""
        return self._control.export()

    def answered(self, request_id: bytes, by_operator: bool) -> AnsweredRequest | None:
        """Return what is remembered of a request id, of an operation or of a control request; None: never answered."""
        self._check_running()
        return self._control.requests.get((request_id, by_operator))

    def markets(self) -> dict[int, Market]:
        self._check_running()
        return dict(self._control.markets)


class ReferenceFactory:
    """Makes trading shards on the reference."""

    name = "reference"

    def from_genesis(self, genesis: bytes) -> ReferenceShard:
        return ReferenceShard(ShardState(format=FORMAT, core=_core(genesis)))

    def from_checkpoint(self, checkpoint: bytes) -> ReferenceShard:
        state = read_shard_checkpoint(checkpoint)
        _check_genesis_keys(state.core)
        return ReferenceShard(state)


class ControlFactory:
    """Makes shard 0 on the reference."""

    name = "reference"

    def from_genesis(self, genesis: bytes) -> ReferenceControl:
        return control_from_genesis(genesis)

    def from_checkpoint(self, checkpoint: bytes) -> ReferenceControl:
        return control_from_checkpoint(checkpoint)


def control_from_genesis(genesis: bytes) -> ReferenceControl:
    """Return shard 0 before its first entry; `genesis` is an encoded Genesis of shard 0."""
    return ReferenceControl(ControlState(format=FORMAT, core=_core(genesis)))


def control_from_checkpoint(checkpoint: bytes) -> ReferenceControl:
    """Return shard 0 in the state of a checkpoint. Raises as `EngineFactory.from_checkpoint` does."""
    state = read_control_checkpoint(checkpoint)
    _check_genesis_keys(state.core)
    return ReferenceControl(state)


def _core(genesis: bytes) -> ShardCore:
    check_format("genesis", genesis)
    parsed = decode(Genesis, genesis)
    assert parsed.shard >= CONTROL_SHARD
    return genesis_core(parsed, genesis_hash(parsed.environment, parsed.shard, genesis))


def _check_genesis_keys(core: ShardCore) -> None:
    """Check the one thing in a state that its reader cannot: it does no arithmetic on the curve."""
    if refusal := genesis_key_refusal(core.genesis):
        raise CheckpointError(f"CHECKPOINT_INVARIANT: I-13 genesis: {refusal}; take an older checkpoint and replay")
