"""Orders per second through the whole path: signed orders in, settled and audited money out, all on this machine.

A whole exchange starts in a scratch folder. Flows are made and signed first, every order on its own; then they are sent
for so many seconds, some messages ahead of the answers. The clock stops when the last order is settled and audited.
What each process used of the processor is read from the operating system, the sender's share beside it.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import grpc

from clob.v1 import order_service_pb2, position_pb2, settlement_service_pb2, settlement_service_pb2_grpc
from exchange.cli.demo import report_json, report_text
from exchange.config.environment import Durability
from exchange.domain.markets import ShardSettings
from exchange.embedded.data_dir import open_data_dir
from exchange.embedded.demo import CALL_S_MAX, ENVIRONMENT, SENDER, Demo
from exchange.embedded.demo_flow import seeded_source
from exchange.embedded.exchange import EmbeddedExchange, Options, cpu_seconds
from exchange.embedded.flow_sender import BATCHES_PER_MESSAGE, FlowSender
from exchange.engine.choice import DEFAULT_ENGINE, ENGINES, engine_named
from loadtest.bench_reference import machine

SETTINGS: Final = ShardSettings(
    max_validity_ms=3_600_000, live_nonces_per_key_max=1_048_576, open_orders_per_account_max=1_000_000
)
"""Orders that are signed before the run must stay valid through it."""


class Bench(Demo):
    """A demo whose orders are signed ahead, and that stops sending when its time is over."""

    seconds = 60.0

    async def _trade(self, admin: grpc.aio.Channel, channel: grpc.aio.Channel) -> None:
        settlement = settlement_service_pb2_grpc.SettlementServiceStub(admin)
        await settlement.Settle(settlement_service_pb2.SettleRequest(), timeout=CALL_S_MAX)
        await self._knock(channel)
        started_cpu = cpu_seconds(os.getpid())
        sender = FlowSender(channel, ENVIRONMENT, self._markets, self.report.seeded)
        signed = []
        for source in self._sources:
            self._say(f"signing {len(source.orders):,} orders for shard {source.shard}")
            orders = [(self._traders[order.trader], order.command) for order in source.orders]
            signed.append(
                (source.shard, list(sender.messages(source.shard, orders, SETTINGS.max_validity_ms - 60_000)))
            )
        orders_signed = sum(len(source.orders) for source in self._sources)
        self.report.setup_s[f"{orders_signed:,} orders signed"] = cpu_seconds(os.getpid()) - started_cpu
        before, started = self._cpu(), time.monotonic()
        ends = started + self.seconds

        def in_time(
            messages: list[order_service_pb2.SubmitRequest],
        ) -> Iterator[order_service_pb2.SubmitRequest]:
            for message in messages:
                if time.monotonic() >= ends:
                    return
                yield message

        def show(_: int) -> None:
            self._say(f"{self.report.seeded.executed:,} orders in {time.monotonic() - started:.0f} s")

        await asyncio.gather(*(sender.send_messages(shard, in_time(messages), show) for shard, messages in signed))
        self._say("settling")
        positions = [position_pb2.ShardPosition(shard=shard, n=n) for shard, n in self.report.seeded.last_n.items()]
        await settlement.Settle(settlement_service_pb2.SettleRequest(positions=positions), timeout=CALL_S_MAX)
        self.report.settled_s = time.monotonic() - started
        after = self._cpu()
        self.report.cpu_us = {name: int((after[name] - before[name]) * 1e6) for name in before}


async def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the exchange and the flow; print the report and return it for --json."""
    factory = engine_named(options.engine)
    orders, markets = options.orders // options.shards, options.markets // options.shards
    sources = [
        seeded_source(1 + place, orders, place + 1, 1 + place * markets, markets, options.traders, factory)
        for place in range(options.shards)
    ]
    durability = Durability(options.durability)
    data = open_data_dir(folder, environment=ENVIRONMENT, durability=durability, settings=SETTINGS)
    running = Options(
        shards=options.shards,
        workers=options.workers,
        listen_traders="127.0.0.1:0",
        listen_admin="127.0.0.1:0",
        engine=options.engine,
        log_level="warning",
    )
    # All load comes from one address, which by default may send less than one machine takes.
    os.environ.setdefault("CLOB_ADDRESS_PER_SECOND", "0")
    async with EmbeddedExchange(data, running, on_change=print) as exchange:
        bench = Bench(exchange, sources, options.traders, lambda text: None)
        bench.seconds = options.seconds
        bench.report.engine = options.engine
        await bench.run()
    report = bench.report
    orders = report.seeded.sent
    sender_us, total_us = report.cpu_us[SENDER], sum(report.cpu_us.values())
    rate = orders / report.settled_s
    print(report_text(report))
    print(
        f"\n{rate:,.0f} orders/s settled and audited, all signed singly; {total_us / orders:.0f} us of CPU each,"
        f" {sender_us / orders:.0f} of them the sender's; {total_us / 1e6 / report.settled_s:.2f} cores busy\n"
        f"durability {durability}, {options.traders:,} keys, {options.markets:,} markets, {options.shards} shards, "
        f"{options.workers} workers, {BATCHES_PER_MESSAGE} batches a message"
    )
    return {**report_json(report), "orders_per_second_settled": round(rate), "seconds": options.seconds}


def main() -> None:
    """Run the benchmark; exit with 1 when anything was lost or does not balance."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=60, help="how long to send (default: 60)")
    parser.add_argument("--orders", type=int, default=420_000, help="orders made and signed ahead (default: 420000)")
    parser.add_argument("--markets", type=int, default=1_000, help="markets over all shards (default: 1000)")
    parser.add_argument("--traders", type=int, default=1_000, help="users with a key each (default: 1000)")
    parser.add_argument("--shards", type=int, default=2, help="shards (default: 2)")
    parser.add_argument("--workers", type=int, default=1, help="verifying processes (default: 1)")
    parser.add_argument("--durability", choices=[durability.value for durability in Durability], default="memory")
    parser.add_argument("--engine", choices=sorted(ENGINES), default=DEFAULT_ENGINE)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file as well")
    options = parser.parse_args()
    about = machine()
    print(f"{about['cpu']}, {os.cpu_count()} cores; {about['python']}; commit {about['commit']}; {platform.system()}")
    folder = Path(tempfile.mkdtemp(prefix="clob-bench-"))
    try:
        report = asyncio.run(run(options, folder))
    finally:
        shutil.rmtree(folder)
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": about, **report}, indent=2) + "\n")
    if not report["passed"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
