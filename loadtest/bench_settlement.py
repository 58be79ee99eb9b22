"""What an order costs in settlement and market-data, part by part, in microseconds of one core.

    python -m loadtest.bench_settlement [--orders N] [--per-frame N] [--engine NAME] [--verify-one-in N]

A shard's log is made and signed first; then the settler itself settles it, into a real archive and a real SQLite file,
and market-data folds it and feeds private streams. No bus and no sockets: entries come from memory. Prices are random
around one, so that about every second order trades.
"""

import argparse
import asyncio
import functools
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

from exchange.bus.entries import ExecutionsEntry, OrdersEntry, Stamp, execution_bytes
from exchange.bus.keys import BusKey, BusKeys, frame_origin
from exchange.config.environment import LOAD_TEST_SETTINGS, Environment
from exchange.control.view import CONTROL_TAG
from exchange.domain.commands import Batch, OrderType, PlaceOrder, SelfTradePrevention, Side, SignedBatch, TimeInForce
from exchange.domain.frames import FORMAT, OrderFrame
from exchange.domain.markets import Market, MarketState
from exchange.domain.operations import DefineShard, OperatorRole, Transfer
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.engine.choice import DEFAULT_ENGINE, ENGINES, engine_named
from exchange.execution.checkpoints import CheckpointStore
from exchange.local.control_venue import ControlVenue
from exchange.local.venue import Venue, operator_seed
from exchange.marketdata.execution_feed import ExecutionFeed
from exchange.marketdata.folds import FOLDS
from exchange.marketdata.history import History
from exchange.marketdata.reader import Reader, Source
from exchange.reference.signing import public_key_of, sign
from exchange.settlement import settler as settler_module
from exchange.settlement import shard as shard_module
from exchange.settlement.archive import Archive, Archived
from exchange.settlement.checkpointing import Checkpointing, CheckpointPolicy
from exchange.settlement.database import Database
from exchange.settlement.ledgers import ledger_with
from exchange.settlement.namings import naming_with
from exchange.settlement.settler import Settler, SettlerSettings
from exchange.settlement.shard import ShardSettlement
from exchange.wire.hashing import bus_mac
from exchange.wire.messages import encode

ENVIRONMENT: Final = "local"
KEYS: Final = 200
MARKETS: Final = 20
FUNDS: Final = 10**15
BASE, QUOTE = 1, 2
BUS_KEY: Final = BusKey("bench", bytes(32))
NAMES: Final = "names of the batches"


class Log:
    """The logs of shard 0, with some users, and of a shard in which they trade.

    Attributes:
        environment: whose logs they are.
        entries: by shard.
        first_n: of the trading shard: its first entry with orders.
    """

    def __init__(self, frames: int, per_frame: int, commands: int) -> None:
        operators = {role.name.lower(): public_key_of(operator_seed(ENVIRONMENT, role)).hex() for role in OperatorRole}
        self.environment = Environment(ENVIRONMENT, operators, settings=LOAD_TEST_SETTINGS)
        control = ControlVenue(environment=ENVIRONMENT, settings=LOAD_TEST_SETTINGS)
        control.operate(OperatorRole.MARKET, DefineShard(1))
        users = [control.new_user(str(number)) for number in range(KEYS)]
        venue = Venue(engine_named(DEFAULT_ENGINE), environment=ENVIRONMENT, settings=LOAD_TEST_SETTINGS)
        venue.define_markets(*map(_market, range(1, MARKETS + 1)))
        for account, _ in users:
            venue.credit(Transfer(account, BASE, FUNDS), Transfer(account, QUOTE, FUNDS))
        self.first_n = venue.engine.position + 1
        chance = random.Random(1)
        for counter in range(frames):
            batches = []
            for place in range(per_frame):
                account, key = users[(counter * per_frame + place) % KEYS]
                orders = tuple(_order(chance, counter * 10**6 + place * commands + one) for one in range(commands))
                until_ms = venue.now_us // 1000 + 3_000_000
                payload = encode(Batch(account, 1, chance.getrandbits(63), until_ms, orders))
                covered = signed_bytes(SignedKind.BATCH, ENVIRONMENT, payload)
                batches.append(SignedBatch(key.key_id, payload, sign(key.seed, covered)))
            venue.now_us += 2_000
            position = control.engine.position
            frame = OrderFrame(FORMAT, bytes(16), counter + 1, venue.now_us, position, tuple(batches))
            venue.enter_raw(encode(frame))
        self.entries = {0: _archived(0, control), 1: _archived(1, venue, self.first_n, per_frame * commands)}


def _market(number: int) -> Market:
    return Market(
        market=number,
        shard=1,
        symbol=f"M{number}-USD",
        base_asset=BASE,
        quote_asset=QUOTE,
        base_units_per_lot=1,
        quote_units_per_tick_lot=1,
        maker_fee_ppm=100,
        taker_fee_ppm=200,
        state=MarketState.OPEN,
    )


def _order(chance: random.Random, number: int) -> PlaceOrder:
    side = chance.choice((Side.BUY, Side.SELL))
    price_ticks = 10_000 + chance.randint(-40, 40) + (-20 if side is Side.BUY else 20)
    lots = chance.randint(1, 20)
    none = SelfTradePrevention.CANCEL_TAKER
    market = chance.randint(1, MARKETS)
    return PlaceOrder(market, side, OrderType.LIMIT, TimeInForce.GTC, False, none, price_ticks, lots, number + 1)


def _archived(shard: int, venue: ControlVenue | Venue, first_n: int = 0, commands: int = 0) -> list[Archived]:
    found = []
    commands_total = orders_bytes = executions_bytes = 0
    for entry, frame in zip(venue.entries, venue.frames, strict=True):
        commands_total += commands if entry.n >= first_n else 0
        orders_bytes += execution_bytes(entry.order_frame)
        executions_bytes += execution_bytes(frame)
        ingress, counter = frame_origin(entry.order_frame)
        mac = bus_mac(BUS_KEY.secret, shard, ingress, counter, entry.order_frame)
        orders = OrdersEntry(entry.n, entry.t_us, entry.order_frame, mac, BUS_KEY.name, commands_total, orders_bytes)
        stamp = Stamp(1, entry.t_us, entry.t_us, commands_total, executions_bytes, orders_bytes)
        found.append(Archived(orders, ExecutionsEntry(entry.n, frame, stamp)))
    return found


class MemoryBus:
    """A bus that has everything; when nothing is left it calls `on_end`."""

    def __init__(self, log: Log) -> None:
        self.entries = {CONTROL_TAG: log.entries[0], "s1": log.entries[1]}
        self.on_end: Callable[[], None] = lambda: None

    def read_executions(
        self, positions: Mapping[str, int], count: int, block_ms: int | None = None
    ) -> dict[str, list[ExecutionsEntry]]:
        """Return what comes after positions."""
        found = {
            tag: [entry.executions for entry in self.entries[tag][n : n + count]]
            for tag, n in positions.items()
            if n < len(self.entries[tag])
        }
        if not found:
            self.on_end()
        return found

    def orders_range(self, tag: str, first_n: int, last_n: int, count: int | None = None) -> list[OrdersEntry]:
        """Return entries of orders."""
        return [entry.orders for entry in self.entries[tag][max(0, first_n - 1) : last_n]]

    def executions_range(self, tag: str, first_n: int, last_n: int, count: int | None = None) -> list[ExecutionsEntry]:
        """Return entries of executions."""
        return [entry.executions for entry in self.entries[tag][max(0, first_n - 1) : last_n]]

    def trim(self, tag: str, n: int, orders_bytes: int, executions_bytes: int) -> None:
        """Keep everything."""


class Watch:
    """Adds up what calls cost, by name."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._undo: list[Callable[[], None]] = []

    def on(self, owner: Any, name: str, part: str) -> None:
        """Time a function or method of this name from now on."""
        original = getattr(owner, name)
        setattr(owner, name, self.timed(original, part))
        self._undo.append(lambda: setattr(owner, name, original))

    def timed(self, original: Callable[..., Any], part: str) -> Callable[..., Any]:
        """Return a function that does the same and is timed."""
        clock, seconds = time.thread_time, self.seconds

        @functools.wraps(original)
        def timed(*arguments: Any, **named: Any) -> Any:
            began = clock()
            try:
                return original(*arguments, **named)
            finally:
                seconds[part] += clock() - began

        return timed

    def off(self) -> None:
        """Time nothing any more."""
        while self._undo:
            self._undo.pop()()

    def print(self, orders: int, whole: str, inside: tuple[str, ...]) -> None:
        """Print microseconds per order, and what of `whole` is in no part."""
        for part, seconds in self.seconds.items():
            if part != whole:
                print(f"    {part:<58}{seconds / orders * 1e6:8.3f}")
        rest = self.seconds[whole] - sum(self.seconds[part] for part in inside)
        print(f"    {'the rest':<58}{rest / orders * 1e6:8.3f}")
        print(f"    {whole:<58}{self.seconds[whole] / orders * 1e6:8.3f}")


def settle(log: Log, folder: Path, orders: int, engine: str, verify_one_in: int) -> None:
    """Settle the log and print what it cost."""
    bus = MemoryBus(log)
    policy = CheckpointPolicy(entries=10**9, stream_bytes=10**15, seconds=10**9)
    settings = SettlerSettings(verify_one_in=verify_one_in, interval_s=0, archive_retention_s=0, checkpoints=policy)
    settler = Settler(
        cast(Any, bus),
        log.environment,
        engine_named(engine),
        CheckpointStore(folder / "checkpoints"),
        BusKeys.of(BUS_KEY),
        folder / "settlement.db",
        folder / "archive",
        settings,
    )
    bus.on_end = settler.stop
    watch = Watch()
    whole = "a round, all of it"
    parts = (
        (settler_module, "control_n_max", "position of shard 0 in the frames"),
        (ShardSettlement, "_check_seal", "MAC of the bus key"),
        (shard_module, "repeat", "execute again, compare"),
        (ledger_with(engine), "fold_proven", "ledger: fold"),
        (ShardSettlement, "_samples", "choose samples"),
        (settler_module, "check_samples", "signatures of the samples, on OpenSSL"),
        (Archive, "append", "archive: append"),
        (Database, "settle", "database"),
        (ShardSettlement, "adopt", "adopt"),
        (Checkpointing, "note", "count for checkpoints"),
    )
    for owner, name, part in parts:
        watch.on(owner, name, part)
    naming = naming_with(engine)
    settler._naming = naming._replace(name_batches=watch.timed(naming.name_batches, NAMES))
    watch.on(Settler, "_round", whole)
    watch.on(Archive, "_close_segment", "archive: close a segment (part of append)")
    # The last round of the thread waits for the checks of checkpoints, which is not what is measured.
    watch.on(Settler, "_finish", "at the end, not part of a round")
    try:
        settler.run()
    finally:
        watch.off()
    assert not settler.fatal, settler.fatal
    assert settler.progress[1].n == len(log.entries[1]), settler.progress
    del watch.seconds["at the end, not part of a round"]
    print(
        f"  settlement, engine {engine}, {settler.transactions} transactions; one signature verified in {verify_one_in}"
    )
    watch.print(orders, whole, (NAMES, *(part for _, _, part in parts)))


def follow(log: Log, orders: int, engine: str, subscribers: int) -> None:
    """Fold the log as market-data does, with so many private streams, and print what it cost."""
    reader = Reader(cast(Any, None), log.environment, cast(Any, None), shard_fold=FOLDS[engine])
    feed = ExecutionFeed(reader)
    fold = FOLDS[engine].from_genesis(log.environment.genesis(1))
    source = Source(1, "s1", fold, History(0, 1 << 30), is_tried=True)
    reader.sources = {1: source}
    watch = Watch()
    whole = "a frame, all of it"

    async def run() -> int:
        for entry in log.entries[1][: log.first_n - 1]:
            assert reader._take(source, entry.executions.frame)
        streams = [feed.stream(account, ()) for account in range(1, subscribers + 1)]
        for stream in streams:
            await anext(stream)
        taken = [asyncio.create_task(_drain(stream)) for stream in streams]
        await asyncio.sleep(0)
        watch.on(FOLDS[engine], "apply", "fold")
        watch.on(History, "append", "history")
        watch.on(ExecutionFeed, "on_applied", "private feed: cut, encode")
        watch.on(Reader, "_take", whole)
        for entry in log.entries[1][log.first_n - 1 :]:
            assert reader._take(source, entry.executions.frame)
            await asyncio.sleep(0)
        watch.off()
        for task in taken:
            task.cancel()
        await asyncio.gather(*taken, return_exceptions=True)
        return source.n

    assert asyncio.run(run()) == len(log.entries[1])
    print(f"  market-data, fold of {engine}, {subscribers} private streams")
    watch.print(orders, whole, ("fold", "history", "private feed: cut, encode"))


async def _drain(stream: Any) -> None:
    with suppress(asyncio.CancelledError):
        async for _ in stream:
            pass


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--engine", choices=sorted(ENGINES), default=DEFAULT_ENGINE)
    parser.add_argument("--orders", type=int, default=131_072, help="in each of the two logs (default: 131072)")
    parser.add_argument(
        "--per-frame", type=int, default=128, help="batches in a frame where each has one order (default: 128)"
    )
    parser.add_argument("--verify-one-in", type=int, default=64, help="one signature in so many (default: 64)")
    options = parser.parse_args()
    for commands, per_frame in ((1, options.per_frame), (512, 8)):
        frames = max(1, options.orders // (commands * per_frame))
        orders = frames * commands * per_frame
        log = Log(frames, per_frame, commands)
        print(f"{frames} frames of {per_frame} batches of {commands}, {KEYS} keys, {MARKETS} markets; us per order")
        with tempfile.TemporaryDirectory() as folder:
            settle(log, Path(folder), orders, options.engine, options.verify_one_in)
        for subscribers in (0, 1, KEYS):
            follow(log, orders, options.engine, subscribers)


if __name__ == "__main__":
    main()
