"""The main job in one process, without a network: from signed orders to audited balances.

Users register their keys in shard 0, deposit, and trade in the shards, each with order flow of its own. Every message
is signed, verified at the door, framed with others, chained, matched, and settled from what the engine wrote. At the
end fees are swept, everything is audited, and each shard is restored from a checkpoint of half-way and must come to the
same hashes. On the way a batch is sent twice, and a forged one once.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from exchange.domain.commands import Batch, SignedBatch
from exchange.domain.events import (
    ActionRejected,
    BatchResult,
    CommandRejected,
    Event,
    LinkResult,
    OperationResult,
    OrderAccepted,
    Trade,
)
from exchange.domain.frames import FORMAT, OrderFrame
from exchange.domain.limits import FRAME_LINKS_MAX
from exchange.domain.markets import Asset
from exchange.domain.money import notional_of
from exchange.domain.operations import (
    AllocationPolicy,
    DefineAsset,
    DefineMarket,
    DefineShard,
    Deposit,
    Link,
    OperatorAction,
    OperatorRole,
    SweepFees,
    Transfer,
)
from exchange.domain.rejects import RejectReason
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.domain.state import ShardState
from exchange.domain.units import CONTROL_SHARD
from exchange.engine.port import Engine, EngineFactory, RawEntry
from exchange.flow.lobster import BookRow
from exchange.flow.seeded import ACCOUNTS, QUOTE_ASSET
from exchange.local.control_venue import ControlVenue, KeyPair, carried_by, signed_link
from exchange.local.demo_sources import Message, Order, Source
from exchange.local.venue import START_US, VALIDITY_MS, Venue
from exchange.reference.signing import sign, verify_one
from exchange.settlement.audit import Audit, audit
from exchange.settlement.ledger import Ledger
from exchange.wire.checkpoint import read_shard_checkpoint
from exchange.wire.messages import decode, encode

ENVIRONMENT: Final = "demo"
FRAME_BATCHES: Final = 64
FRAME_SPAN_US_MAX: Final = 5_000_000
"""No frame gathers for longer: a batch that waits must not expire on the way."""
SHARD_ACTIONS: Final = 256
"""Actions per operation when the exchange is set up."""
PROGRESS_MESSAGES: Final = 2_048


class SetupError(Exception):
    """The exchange refused something of its own: operations and links of the demo are never refused."""


class Stage(StrEnum):
    SIGN = "sign"
    """The traders': encode the batch, sign it."""
    VERIFY = "verify"
    """The ingress': decode strictly, find the key, verify the signature."""
    FRAME = "frame"
    """The ingress': encode the order frame."""
    MATCH = "match"
    """The engine's: parse, decide, encode, hash and chain."""
    SETTLE = "settle"
    """The ledger's: decode, check the chain, move the money."""


@dataclass(slots=True)
class ShardReport:
    """What happened in a shard.

    Attributes:
        volume_units: notional traded, by quote asset.
        rejected: commands refused, by reason.
        repeats: batches that came a second time and were not executed again.
        refused_at_door: batches whose signature did not verify.
        books_compared, books_equal: frames after which the recording says what the book is, and it was.
        cpu_ns: processor time by stage.
        replayed_frames: executed again from the checkpoint of half-way.
        replay_equal: these frames, the chain hash and the state hash were the same again.
    """

    source: str
    shard: int
    messages: int = 0
    batches: int = 0
    commands: int = 0
    accepted: int = 0
    orders: int = 0
    rejected: Counter[RejectReason] = field(default_factory=Counter)
    repeats: int = 0
    refused_at_door: int = 0
    trades: int = 0
    volume_units: Counter[int] = field(default_factory=Counter)
    events: int = 0
    frames: int = 0
    books_compared: int = 0
    books_equal: int = 0
    cpu_ns: dict[Stage, int] = field(default_factory=lambda: dict.fromkeys(Stage, 0))
    replayed_frames: int = 0
    replay_equal: bool = False
    chain_hash: bytes = b""
    state_hash: bytes = b""

    @property
    def passed(self) -> bool:
        """Whether the replay came to the same hashes and no book differed."""
        return self.replay_equal and self.books_equal == self.books_compared

    def cpu_ns_per_command(self, stage: Stage) -> int:
        """Return processor nanoseconds of a stage per command."""
        return self.cpu_ns[stage] // max(1, self.commands)

    def as_json(self) -> dict[str, Any]:
        """Return it for --json."""
        return {
            "source": self.source,
            "shard": self.shard,
            "messages": self.messages,
            "batches": self.batches,
            "commands": self.commands,
            "orders": self.orders,
            "accepted": self.accepted,
            "rejected": {reason.name: count for reason, count in sorted(self.rejected.items())},
            "repeats": self.repeats,
            "refused_at_door": self.refused_at_door,
            "trades": self.trades,
            "volume_units": {str(asset): units for asset, units in sorted(self.volume_units.items())},
            "events": self.events,
            "frames": self.frames,
            "books_compared": self.books_compared,
            "books_equal": self.books_equal,
            "cpu_ns_per_command": {stage.value: self.cpu_ns_per_command(stage) for stage in Stage},
            "replayed_frames": self.replayed_frames,
            "replay_equal": self.replay_equal,
            "chain_hash": self.chain_hash.hex(),
            "state_hash": self.state_hash.hex(),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What the demo did. `symbols` names the assets."""

    engine: str
    shards: tuple[ShardReport, ...]
    audit: Audit
    symbols: dict[int, str]

    @property
    def passed(self) -> bool:
        """Whether the audit is balanced and every shard passed."""
        return self.audit.balanced and all(shard.passed for shard in self.shards)

    def as_json(self) -> dict[str, Any]:
        """Return it for --json."""
        return {
            "passed": self.passed,
            "balanced": self.audit.balanced,
            "engine": self.engine,
            "shards": [shard.as_json() for shard in self.shards],
            "audit": [
                {
                    "asset": line.asset,
                    "symbol": self.symbols[line.asset],
                    "treasury_units": line.treasury_units,
                    "open_withdrawal_units": line.open_withdrawal_units,
                    "transit_units": line.transit_units,
                    "shard_units": line.shard_units,
                    "fee_units": line.fee_units,
                    "in_units": line.in_units,
                    "out_units": line.out_units,
                    "difference_units": line.difference_units,
                }
                for line in self.audit.lines
            ],
            "differences": [difference._asdict() for difference in self.audit.differences],
        }


# --- who takes part -------------------------------------------------------------------------------------------------


class _Exchange:
    """Shard 0 with its ledger, and the keys of the traders."""

    def __init__(self) -> None:
        self.control = ControlVenue(environment=ENVIRONMENT)
        self.ledger = Ledger(self.control.genesis)
        self.keys: dict[int, KeyPair] = {}

    def open(self, sources: Iterable[Source], traders: int) -> None:
        """Define assets, shards and markets, and register a key for each trader, numbered from 1."""
        actions: list[OperatorAction] = [DefineAsset(Asset(QUOTE_ASSET, "USD", 6))]
        for source in sources:
            actions += [DefineShard(source.shard)]
            actions += [DefineAsset(asset) for asset in source.assets]
            actions += [DefineMarket(market) for market in source.markets]
        for start in range(0, len(actions), SHARD_ACTIONS):
            _expect_no_refusal(self.control.operate(OperatorRole.MARKET, *actions[start : start + SHARD_ACTIONS]))
        for number in range(1, traders + 1):
            account, key = self.control.new_user(f"trader {number}")
            assert account == number
            self.keys[account] = key

    def public_keys(self) -> dict[bytes, tuple[bytes, tuple[int, ...]]]:
        """Return by key_id the public key and the accounts that it may sign for: what an ingress folds from shard 0."""
        state = self.control.state
        accounts = {user.user: user.accounts for user in state.users}
        return {key.key_id: (key.public_key, accounts[key.user]) for key in state.keys if not key.revoked}

    def settle(self) -> None:
        """Settle what shard 0 did since the last time."""
        done = self.ledger.n
        self.ledger.apply(self.control.frames[done:], self.control.entries[done:])


class _Ingress:
    """The door of a shard: batches that are what they say go on, in frames."""

    def __init__(self, exchange: _Exchange, shard: int) -> None:
        self._keys = exchange.public_keys()
        self._control_n = exchange.control.engine.position
        self._identity = shard.to_bytes(16, "big")
        self._counter = 0

    def verify(self, signed: SignedBatch) -> bool:
        """Return whether the batch is signed by a registered key that may sign for its account."""
        if signed.key_id not in self._keys:
            return False
        public_key, accounts = self._keys[signed.key_id]
        covered = signed_bytes(SignedKind.BATCH, ENVIRONMENT, signed.payload)
        return decode(Batch, signed.payload).account in accounts and verify_one(public_key, covered, signed.signature)

    def frame(self, batches: tuple[SignedBatch, ...], now_us: int) -> bytes:
        """Return the encoded order frame of verified batches."""
        self._counter += 1
        return encode(
            OrderFrame(
                format=FORMAT,
                ingress=self._identity,
                counter=self._counter,
                ingress_time_us=now_us,
                control_n=self._control_n,
                batches=batches,
            )
        )


class _Watch:
    """Adds processor time to stages, lap by lap."""

    def __init__(self, cpu_ns: dict[Stage, int]) -> None:
        self._cpu_ns = cpu_ns
        self._last_ns = time.process_time_ns()

    def lap(self, stage: Stage) -> None:
        now_ns = time.process_time_ns()
        self._cpu_ns[stage] += now_ns - self._last_ns
        self._last_ns = now_ns


class _Trading:
    """A shard with its ledger, from funding to audit."""

    def __init__(self, exchange: _Exchange, source: Source, factory: EngineFactory) -> None:
        self.venue = Venue(factory, environment=ENVIRONMENT, shard=source.shard)
        self.ledger = Ledger(self.venue.genesis)
        self.report = ShardReport(source.name, source.shard)
        self._exchange = exchange
        self._source = source
        self._factory = factory
        self._markets = {market.market: market for market in source.markets}
        self._checkpoint = self.venue.engine.checkpoint()
        self._checkpoint_n = 0
        self._nonces: Counter[int] = Counter()
        self._sent: list[Link] = []

    @property
    def engine(self) -> Engine:
        return self.venue.engine

    def fund(self) -> None:
        """Open the markets; carry what traders deposit over links from shard 0."""
        _expect_no_refusal(self.venue.define_markets(*self._source.markets))
        deposits = [
            Deposit(account, asset, units, AllocationPolicy.ONE_SHARD, self.venue.shard)
            for account, asset, units in (_fields(transfer) for transfer in self._source.funding)
        ]
        control = self._exchange.control
        for start in range(0, len(deposits), FRAME_BATCHES):
            events = control.operate(OperatorRole.TREASURY, *deposits[start : start + FRAME_BATCHES])
            links = carried_by(events, CONTROL_SHARD, control.engine.position)
            _expect_no_refusal(events)
            _expect_no_refusal(self.venue.enter(links=tuple(signed_link(ENVIRONMENT, link) for link in links)))
        self._exchange.settle()
        self._settle()

    def trade(self, on_progress: Callable[[str, int], None]) -> None:
        """Take the whole flow, frame by frame, and keep a checkpoint of half-way."""
        ingress = _Ingress(self._exchange, self.venue.shard)
        frames = list(_gather(self._source.messages))
        first: SignedBatch | None = None
        for place, messages in enumerate(frames, 1):
            if place == (len(frames) + 1) // 2:
                self._checkpoint, self._checkpoint_n = self.engine.checkpoint(), self.engine.position
            extra = [first, _forged(first)] if first is not None and place == 2 else []
            signed = self._trade_frame(ingress, messages, extra)
            first = first or (signed[0] if signed else None)
            if place % (PROGRESS_MESSAGES // FRAME_BATCHES) == 0:
                on_progress(self._source.name, self.report.messages)

    def _trade_frame(self, ingress: _Ingress, messages: list[Message], extra: list[SignedBatch]) -> list[SignedBatch]:
        """Sign, verify, frame, match and settle some messages as one entry; return what was signed."""
        report = self.report
        now_us = self.venue.now_us = START_US + messages[-1].time_us
        orders = [(message.time_us, order) for message in messages for order in message.orders]
        watch = _Watch(report.cpu_ns)
        signed = [self._sign(START_US + time_us, order) for time_us, order in orders]
        watch.lap(Stage.SIGN)
        arrived = [*signed, *extra]
        verified = tuple(batch for batch in arrived if ingress.verify(batch))
        watch.lap(Stage.VERIFY)
        entry = RawEntry(self.engine.position + 1, now_us, ingress.frame(verified, now_us))
        watch.lap(Stage.FRAME)
        frame = self.engine.apply([entry])[0]
        watch.lap(Stage.MATCH)
        settled = self.ledger.apply([frame], [entry])[0]
        watch.lap(Stage.SETTLE)
        self.venue.entries.append(entry)
        self.venue.frames.append(frame)
        report.messages += len(messages)
        report.batches += len(arrived)
        report.commands += sum(len(order.commands) for _, order in orders)
        report.refused_at_door += len(arrived) - len(verified)
        report.frames += 1
        self._sent += carried_by(settled.events, self.venue.shard, entry.n)
        self._count(settled.events)
        self._compare_book(messages[-1].book)
        return signed

    def _sign(self, now_us: int, order: Order) -> SignedBatch:
        key = self._exchange.keys[order.account]
        self._nonces[order.account] += 1
        nonce, valid_until_ms = self._nonces[order.account], now_us // 1000 + VALIDITY_MS
        payload = encode(Batch(order.account, self.venue.shard, nonce, valid_until_ms, order.commands))
        return SignedBatch(key.key_id, payload, sign(key.seed, signed_bytes(SignedKind.BATCH, ENVIRONMENT, payload)))

    def _count(self, events: tuple[Event, ...]) -> None:
        report = self.report
        report.events += len(events)
        for event in events:
            match event:
                case BatchResult():
                    report.repeats += bool(event.repeat_n)
                    if event.reason:
                        report.rejected[RejectReason(event.reason)] += 1
                case CommandRejected():
                    report.rejected[RejectReason(event.reason)] += 1
                case Trade():
                    market = self._markets[event.market]
                    report.trades += 1
                    notional = notional_of(market, event.price_ticks, event.quantity_lots)
                    report.volume_units[market.quote_asset] += notional
                case OrderAccepted():
                    report.orders += 1
                case _:
                    pass

    def _compare_book(self, book: BookRow | None) -> None:
        if book is not None:
            bids, asks = self.engine.depth(self._source.markets[0].market, max(len(book.bids), len(book.asks), 1))
            self.report.books_compared += 1
            self.report.books_equal += ([*map(tuple, bids)], [*map(tuple, asks)]) == (book.bids, book.asks)

    def close(self) -> None:
        """Sweep the fees; carry all that the shard sent to the treasury; settle."""
        fees = self.ledger.balances(0)
        if fees:
            _expect_no_refusal(self.venue.operate(OperatorRole.TREASURY, *(SweepFees(asset) for asset in fees)))
        control = self._exchange.control
        control.now_us = max(control.now_us, self.venue.now_us)
        self._settle()
        for start in range(0, len(self._sent), FRAME_LINKS_MAX):
            links = self._sent[start : start + FRAME_LINKS_MAX]
            _expect_no_refusal(control.enter(links=tuple(signed_link(ENVIRONMENT, link) for link in links)))
        self._exchange.settle()

    def _settle(self) -> None:
        """Settle what the shard did outside of trading."""
        done = self.ledger.n
        for frame in self.ledger.apply(self.venue.frames[done:], self.venue.entries[done:]):
            self._sent += carried_by(frame.events, self.venue.shard, frame.n)

    def restore(self) -> None:
        """Restore the checkpoint of half-way in a new engine, execute the rest again, and compare bytes and hashes."""
        report = self.report
        again = self._factory.from_checkpoint(self._checkpoint)
        entries, frames = self.venue.entries[self._checkpoint_n :], self.venue.frames[self._checkpoint_n :]
        report.replayed_frames = len(entries)
        report.chain_hash, report.state_hash = self.engine.chain_hash, self.engine.state_hash()
        same_frames = again.apply(entries) == frames
        same_hashes = (again.chain_hash, again.state_hash()) == (report.chain_hash, report.state_hash)
        report.replay_equal = same_frames and same_hashes

    def state(self) -> ShardState:
        """Return the engine's state."""
        return read_shard_checkpoint(self.engine.checkpoint())


def run_demo(
    factory: EngineFactory,
    sources: list[Source],
    on_progress: Callable[[str, int], None],
    before_audit: Callable[[Ledger], None] = lambda _: None,
) -> Report:
    """Trade all sources, each in its shard, and audit everything together.

    Args:
        factory: of the shards' engines.
        sources: of different shards.
        on_progress: called with the source's name and the messages done, now and then.
        before_audit: is given each shard's ledger before the audit: where a test plants what the audit must find.
    """
    exchange = _Exchange()
    exchange.open(sources, ACCOUNTS)
    shards = [_Trading(exchange, source, factory) for source in sources]
    for shard in shards:
        shard.fund()
        shard.trade(on_progress)
        shard.close()
        shard.report.accepted = shard.report.commands - shard.report.rejected.total()
        shard.restore()
        before_audit(shard.ledger)
    ledgers = [exchange.ledger, *(shard.ledger for shard in shards)]
    found = audit(ledgers, [exchange.control.state, *(shard.state() for shard in shards)])
    symbols = {asset.asset: asset.symbol for asset in exchange.control.state.assets}
    return Report(factory.name, tuple(shard.report for shard in shards), found, symbols)


def _gather(messages: Iterator[Message]) -> Iterator[list[Message]]:
    """Yield messages as they are framed together: at most FRAME_BATCHES batches, and not for longer than may be."""
    gathered: list[Message] = []
    batches = 0
    for message in messages:
        late = bool(gathered) and message.time_us - gathered[0].time_us > FRAME_SPAN_US_MAX
        if gathered and (late or batches + len(message.orders) > FRAME_BATCHES):
            yield gathered
            gathered, batches = [], 0
        gathered.append(message)
        batches += len(message.orders)
    if gathered:
        yield gathered


def _forged(signed: SignedBatch) -> SignedBatch:
    """Return the batch with one bit of its signature changed."""
    return SignedBatch(signed.key_id, signed.payload, bytes([signed.signature[0] ^ 1]) + signed.signature[1:])


def _fields(transfer: Transfer) -> tuple[int, int, int]:
    return transfer.account, transfer.asset, transfer.amount_units


def _expect_no_refusal(events: Iterable[Event]) -> None:
    for event in events:
        refused = isinstance(event, ActionRejected | OperationResult | LinkResult | BatchResult) and event.reason
        if refused:
            raise SetupError(f"{type(event).__name__}: {RejectReason(refused).name}")
