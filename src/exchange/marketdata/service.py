"""The market-data command: one reader of all shards, and the services that tell of them."""

import asyncio
from collections.abc import Iterable
from typing import Final

import click
from prometheus_client import Gauge

from clob.v1.process_service_pb2 import ShardEvidence
from exchange.config.service import ServiceSettings
from exchange.config.settings import setting, with_settings
from exchange.execution.checkpoints import CheckpointStore
from exchange.marketdata import account_service, public_service
from exchange.marketdata.account_service import AccountService
from exchange.marketdata.book_feed import BookFeed
from exchange.marketdata.execution_feed import ExecutionFeed
from exchange.marketdata.origins import Origins
from exchange.marketdata.public_service import PublicService
from exchange.marketdata.reader import HISTORY_BYTES_MAX, Reader
from exchange.marketdata.trade_feed import TradeFeed
from exchange.serving.process import Runtime, Service, run_service

KIND: Final = "market-data"
_LOOK_S: Final = 1.0
_US_PER_S: Final = 1_000_000


class MarketDataSettings(ServiceSettings):
    """What market-data is told."""

    COMMAND = KIND

    history_bytes_max: int = setting(
        HISTORY_BYTES_MAX,
        "Memory for the last execution frames of each shard, in bytes: how far back private streams can go on from.",
        low=1024 * 1024,
        high=2**40,
    )


class MarketDataService(Service):
    """Follows all shards and serves what was read."""

    def __init__(self, runtime: Runtime[MarketDataSettings]) -> None:
        self._runtime = runtime
        store = CheckpointStore(runtime.settings.checkpoints)
        self.reader = Reader(
            runtime.bus, runtime.environment, store, history_bytes_max=runtime.settings.history_bytes_max
        )
        self.books = BookFeed(self.reader)
        self.trades = TradeFeed(self.reader)
        self.executions = ExecutionFeed(self.reader)
        public = PublicService(self.reader, runtime.environment, runtime.version, self.books, self.trades)
        self.accounts = AccountService(self.reader, self.executions, Origins(runtime.bus, store), runtime.peers)
        runtime.own.add_handler(public_service.SERVICE, public.handlers())
        runtime.own.add_handler(account_service.SERVICE, self.accounts.handlers())
        runtime.evidence = self._evidence
        registry = runtime.metrics.registry
        streams = Gauge("clob_market_data_streams", "Open streams, by feed.", ["feed"], registry=registry)
        streams.labels("books").set_function(self.books.__len__)
        streams.labels("trades").set_function(self.trades.__len__)
        streams.labels("executions").set_function(self.executions.__len__)
        self._position = Gauge(
            "clob_market_data_position", "Last frame that was folded, by shard.", ["shard"], registry=registry
        )
        self._lag = Gauge(
            "clob_market_data_lag_seconds",
            "Time from a frame's execution to its folding, of the last frame, by shard.",
            ["shard"],
            registry=registry,
        )
        self._history = Gauge(
            "clob_market_data_history_bytes", "Memory that the history takes, by shard.", ["shard"], registry=registry
        )

    async def start(self) -> None:
        """Read every shard that can be read up to the end of its log."""
        self._runtime.spawn(self.reader.run(), "reader")
        await self.reader.wait_for_start()
        self._look()
        self._runtime.spawn(self._look_around(), "look around")

    async def _look_around(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            self._look()

    def _look(self) -> None:
        """Tell registry and metrics how the shards are doing."""
        readable = [source for source in self.reader.sources.values() if source.fold is not None]
        shards, problems = [source.shard for source in readable], "; ".join(self.reader.problems())
        if (shards, problems) != (list(self._runtime.record().shards), self._runtime.message):
            self._runtime.set_shards(shards)
            self._runtime.set_message(problems)
        for source in readable:
            shard = str(source.shard)
            self._position.labels(shard).set(source.n)
            self._lag.labels(shard).set(source.lag_us / _US_PER_S)
            if source.history is not None:
                self._history.labels(shard).set(source.history.size_bytes)

    def _evidence(self) -> Iterable[ShardEvidence]:
        for shard, n, t_us, chain_hash in self.reader.evidence():
            evidence = ShardEvidence(shard=shard)
            evidence.executed.shard, evidence.executed.n = shard, n
            evidence.executed.t_us, evidence.executed.chain_hash = t_us, chain_hash
            yield evidence


async def build(runtime: Runtime[MarketDataSettings]) -> MarketDataService:
    """Return the service of a process."""
    return MarketDataService(runtime)


@click.command(KIND)
@with_settings(MarketDataSettings)
def main(settings: MarketDataSettings) -> None:
    """Fold executions of all shards into books, trades and private feeds, and serve them."""
    run_service(KIND, settings, build)


if __name__ == "__main__":
    main()
