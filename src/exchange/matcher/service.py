"""The command market-matcher: finds its shard, runs its loop in a thread, and answers operators beside it."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Iterable
from typing import Final, NoReturn

import click
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from clob.v1 import position_pb2, process_service_pb2
from clob.v1.matching_service_pb2_grpc import add_MatchingServiceServicer_to_server
from exchange.bus.client import Bus
from exchange.bus.entries import ServerInfo
from exchange.bus.errors import BusUnavailable
from exchange.bus.keys import BusKeys
from exchange.config.settings import fail, with_settings
from exchange.control.follower import ControlFollower
from exchange.control.view import CONTROL_TAG, ControlView
from exchange.engine.choice import engine_named
from exchange.engine.port import Engine
from exchange.execution.checkpoints import CheckpointStore
from exchange.execution.durability import durability_refusal
from exchange.execution.loop import LoopFigures, LoopState, ShardLoop
from exchange.execution.stops import LoopStop
from exchange.matcher.entrance import Entrance
from exchange.matcher.markets import MarketsError, parse_markets, resolve, resolve_shard
from exchange.matcher.servicer import MatcherServicer
from exchange.matcher.settings import MatcherSettings
from exchange.serving.process import CannotStartError, Runtime, Service, run_service

KIND: Final = "market-matcher"
_LOOK_S: Final = 0.2
_MATCHES_S: Final = 5.0
_THREAD_S: Final = 10.0


class MatcherService(Service):
    """One shard, from finding it to its last commit."""

    def __init__(self, runtime: Runtime[MatcherSettings], markets: frozenset[int]) -> None:
        settings = runtime.settings
        self._runtime = runtime
        self._markets = markets
        self._factory = engine_named(settings.engine)
        self._store = CheckpointStore(settings.checkpoints)
        self._keys = BusKeys.load(settings.bus_keys)
        self._key = self._keys.named(settings.bus_key_name)
        self._follower = ControlFollower(runtime.bus, runtime.environment, self._store)
        self._stop = threading.Event()
        self._running = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._servicer = MatcherServicer(runtime.environment, runtime.bus, self._follower)
        runtime.own.add(add_MatchingServiceServicer_to_server, self._servicer)
        self._bus: Bus | None = None

    async def start(self) -> None:
        """Find the shard, execute its log again, and go on with it."""
        runtime = self._runtime
        environment = runtime.environment
        if refusal := durability_refusal(await self._ask_server(), environment.durability.value):
            raise CannotStartError(refusal)
        view = await self._wait_for_map()
        shard = self._shard(view)
        self._bus = Bus.connect(runtime.settings.redis_addr.url)
        loop: ShardLoop[Engine] = ShardLoop(
            self._bus,
            view.shards[shard],
            environment.genesis(shard),
            self._factory,
            self._store,
            self._keys,
            self._key,
            on_state=lambda state, message: runtime.from_thread(self._heard, state, message),
            check_server=lambda server: durability_refusal(server, environment.durability.value),
        )
        self._servicer.serve(loop, Entrance(runtime.bus, shard, loop.tag, self._key))
        runtime.set_shards([shard])
        runtime.set_extra("engine", self._factory.name)
        runtime.metrics.registry.register(LoopCollector(loop.figures))
        runtime.evidence = lambda: _evidence(loop)
        self._thread = threading.Thread(target=self._run, args=(loop,), name=f"shard-{shard}", daemon=True)
        self._thread.start()
        await self._running.wait()

    async def drain(self) -> None:
        """Let calls under way have their answers, then end the loop behind its last commit."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MATCHES_S):
                await self._servicer.idle()
        await self._end_loop()

    async def close(self) -> None:
        """End what is left."""
        await self._end_loop()
        await self._follower.stop()
        if self._bus is not None:
            self._bus.close()

    # --- finding the shard ------------------------------------------------------------------------------------------

    async def _ask_server(self) -> ServerInfo:
        while True:
            try:
                return await self._runtime.bus.server()
            except BusUnavailable:
                await asyncio.sleep(_LOOK_S)

    async def _wait_for_map(self) -> ControlView:
        """Return shard 0, once there is a shard map in it."""
        while True:
            try:
                if await self._runtime.bus.head(CONTROL_TAG) is not None:
                    await self._follower.start()
                    break
            except BusUnavailable:
                pass
            self._runtime.set_message("waits for settlement-plane to make shard 0")
            await asyncio.sleep(_LOOK_S)
        while not self._follower.view.trading_shards():
            self._runtime.set_message("waits for a shard map: none is defined yet (`clob shard define`)")
            await asyncio.sleep(_LOOK_S)
        self._runtime.set_message("")
        return self._follower.view

    def _shard(self, view: ControlView) -> int:
        markets_of = {shard: view.markets_of(shard) for shard in view.trading_shards()}
        shard = self._runtime.settings.shard
        try:
            if shard is not None:
                resolve_shard(shard, markets_of)
                if self._markets and self._markets != frozenset(markets_of[shard]):
                    resolve(self._markets, {shard: markets_of[shard]})
                return shard
            return resolve(self._markets, markets_of)
        except MarketsError as error:
            # For people too, whose screen has only the log's JSON else.
            print(error, file=sys.stderr, flush=True)
            raise CannotStartError(str(error).partition("\n")[0]) from None

    # --- the loop ---------------------------------------------------------------------------------------------------

    def _run(self, loop: ShardLoop[Engine]) -> None:
        try:
            loop.run(self._stop)
        except LoopStop:
            pass  # it was told by the loop's state
        except Exception:
            self._runtime.log.exception("the loop of shard %d failed", loop.shard)

    def _heard(self, state: LoopState, message: str) -> None:
        """Take what the loop says of itself, in the event loop."""
        if state is LoopState.RUNNING:
            self._running.set()
        if state is LoopState.STOPPED:
            self._runtime.spawn(self._runtime.stop_rather_than_guess(message, ends=True), "stopping")
        elif state is not LoopState.ENDED:
            self._runtime.set_message(message)

    async def _end_loop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _THREAD_S)


class LoopCollector(Collector):
    """Metrics of a shard's loop."""

    def __init__(self, figures: LoopFigures) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """Return the figures as they are now."""
        figures = self._figures
        counters = (
            ("clob_entries", "Entries executed and committed.", figures.entries),
            ("clob_commands", "Commands in them.", figures.commands),
            ("clob_events", "Events in their answers.", figures.events),
            ("clob_commits", "Commits.", figures.commits),
            ("clob_clock_entries", "Clock entries that this process has ingested.", figures.clock_entries),
            ("clob_replayed_entries", "Entries executed again when restoring.", figures.replayed_entries),
            ("clob_apply_seconds", "Time spent executing.", figures.apply_s),
            ("clob_commit_seconds", "Time spent waiting for commits.", figures.commit_s),
        )
        for name, text, value in counters:
            yield CounterMetricFamily(name, text, value=value)
        yield GaugeMetricFamily("clob_position", "Last entry whose answer is committed.", value=figures.position)
        yield GaugeMetricFamily("clob_orders_position", "Last entry that was read.", value=figures.orders_n)


def _evidence(loop: ShardLoop[Engine]) -> Iterable[process_service_pb2.ShardEvidence]:
    n, t_us, chain_hash = loop.committed
    if n:
        executed = position_pb2.ShardPosition(shard=loop.shard, n=n, t_us=t_us, chain_hash=chain_hash)
        yield process_service_pb2.ShardEvidence(shard=loop.shard, executed=executed)


@click.command(KIND)
@click.argument("markets", nargs=-1)
@with_settings(MatcherSettings)
def main(markets: tuple[str, ...], settings: MatcherSettings) -> NoReturn:
    """Run the engine of one shard.

    MARKETS are the shard's, all of them and no others: numbers and ranges, such as `1 2 3` or `1-2100`. --shard names
    it instead. What is no shard's complete set is answered with the shards that there are.
    """
    try:
        numbers = parse_markets(markets)
        engine_named(settings.engine)
        BusKeys.load(settings.bus_keys).named(settings.bus_key_name)
    except (ValueError, OSError) as error:
        fail(str(error))
    if not numbers and settings.shard is None:
        fail("MARKETS: name the markets of a shard, such as `market-matcher 1-2100`, or give --shard")

    async def build(runtime: Runtime[MatcherSettings]) -> MatcherService:
        return MatcherService(runtime, numbers)

    run_service(KIND, settings, build)


if __name__ == "__main__":
    main()
