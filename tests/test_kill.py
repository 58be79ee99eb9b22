"""Any one process is killed under load and comes back: nothing acknowledged is lost, nothing doubled, all balanced."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import grpc
import psutil
import pytest

from clob.v1 import frame_pb2, order_service_pb2, order_service_pb2_grpc
from exchange.bus.client import AsyncBus
from exchange.config.environment import Durability
from exchange.embedded.data_dir import DataDir
from exchange.embedded.exchange import EmbeddedExchange, Options
from tests.support.running import ENVIRONMENT, Stubborn, data_dir, new_trader, running_exchange, settle_and_audit
from tests.support.servers import KINDS, program_of

BEFORE, AFTER = 25, 25
"""Orders acknowledged before the kill, and after it."""


async def accepted_in_log(exchange: EmbeddedExchange, shard: int) -> dict[int, list[tuple[int, int]]]:
    """Return the positions at which orders were accepted, by client_order_id: every one there is in the stream."""
    bus = AsyncBus.connect(exchange.redis_addr)
    found: dict[int, list[tuple[int, int]]] = {}
    try:
        head = await bus.head(f"s{shard}")
        assert head is not None
        assert head.trimmed_n == 0, "the test looks at the whole log"
        for entry in await bus.executions_range(f"s{shard}", 1, head.executions_n):
            batch = 0
            for event in frame_pb2.ExecutionFrame.FromString(entry.frame).events:
                if event.WhichOneof("event") == "batch_result":
                    batch = event.batch_result.batch
                elif event.WhichOneof("event") == "order_accepted":
                    found.setdefault(event.order_accepted.client_order_id, []).append((entry.n, batch))
    finally:
        await bus.close()
    return found


async def kill_under_load(data: DataDir, name: str, bus_server: Path | None = None) -> None:
    async with running_exchange(data, bus_server) as exchange:
        trader = Stubborn(exchange, await new_trader(exchange))
        stop = asyncio.Event()
        running = asyncio.create_task(trader.run(stop))
        try:
            await trader.reach(BEFORE)
            await exchange.kill(name)
            await exchange.wait_serving(name)
            await trader.reach(len(trader.outcomes) + AFTER)
        finally:
            stop.set()
            await asyncio.wait_for(running, 60)
        log = await accepted_in_log(exchange, trader.shard)
        assert not trader.doubled
        assert {number: [place] for number, place in trader.outcomes.items()} == log
        audit = await settle_and_audit(exchange)
        assert audit.passed, audit


@pytest.mark.parametrize("name", ["ingress-verifier", "market-matcher-1", "settlement-plane", "market-data"])
def test_a_service_that_is_killed_under_load_loses_nothing(name: str, tmp_path: Path) -> None:
    asyncio.run(kill_under_load(data_dir(tmp_path), name))


@pytest.mark.parametrize("server", KINDS)
def test_a_bus_that_is_killed_under_load_loses_nothing_with_fsync(server: str, tmp_path: Path) -> None:
    asyncio.run(kill_under_load(data_dir(tmp_path, Durability.FSYNC), "bus", Path(program_of(server))))


async def stop_and_start(data: DataDir) -> None:
    async with running_exchange(data) as exchange:
        trader = Stubborn(exchange, await new_trader(exchange))
        stop = asyncio.Event()
        running = asyncio.create_task(trader.run(stop))
        await trader.reach(BEFORE)
        stop.set()
        await running
        first = dict(trader.outcomes)
    async with running_exchange(data) as exchange:
        log = await accepted_in_log(exchange, trader.shard)
        assert log == {number: [place] for number, place in first.items()}
        again = Stubborn(exchange, trader.trader)
        await again.send(1_000_000)
        assert (await settle_and_audit(exchange)).passed


@pytest.mark.parametrize("durability", list(Durability))
def test_an_exchange_that_was_stopped_goes_on_where_it_was(durability: Durability, tmp_path: Path) -> None:
    asyncio.run(stop_and_start(data_dir(tmp_path, durability)))


async def kill_the_supervisor(data: DataDir) -> None:
    """Run `clob up` as a user does, kill it, and start it again in the same folder."""
    command = [
        *(
            sys.executable,
            "-c",
            "from exchange.cli.main import main; main()",
            "up",
            "--json",
            "--data-dir",
            str(data.root),
        ),
        *("--environment", ENVIRONMENT, "--listen-traders", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0"),
    ]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert process.stdout is not None
    said = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
    family = psutil.Process(process.pid).children(recursive=True)
    exchange = EmbeddedExchange(data, Options())
    exchange.traders, exchange.admin = said["traders"], said["admin"]
    trader = Stubborn(exchange, await new_trader(exchange))
    for number in range(1, BEFORE + 1):
        await trader.send(number)
    process.kill()
    await process.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, family, 40)
    assert not alive, "a child outlived its supervisor"
    async with running_exchange(data) as again:
        log = await accepted_in_log(again, trader.shard)
        assert log == {number: [place] for number, place in trader.outcomes.items()}
        assert (await settle_and_audit(again)).passed


def test_a_supervisor_that_is_killed_takes_all_with_it_and_loses_nothing(tmp_path: Path) -> None:
    asyncio.run(kill_the_supervisor(data_dir(tmp_path)))


async def interrupt_at_once(data: DataDir) -> None:
    """Interrupt `clob up` as soon as it has a child: the bus then does not answer yet."""
    command = (sys.executable, "-c", "from exchange.cli.main import main; main()", "up", "--data-dir", str(data.root))
    process = await asyncio.create_subprocess_exec(
        *command,
        *("--environment", ENVIRONMENT, "--listen-traders", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    supervisor = psutil.Process(process.pid)
    async with asyncio.timeout(60):
        while not supervisor.children():
            await asyncio.sleep(0.001)
        process.send_signal(signal.SIGINT)
        await process.wait()


def test_an_interrupt_while_the_bus_starts_ends_everything(tmp_path: Path) -> None:
    asyncio.run(interrupt_at_once(data_dir(tmp_path)))


async def lose_the_bus(data: DataDir) -> None:
    async with running_exchange(data) as exchange:
        trader = Stubborn(exchange, await new_trader(exchange))
        stop = asyncio.Event()
        running = asyncio.create_task(trader.run(stop))
        await trader.reach(BEFORE)
        stop.set()
        await running
        await settle_and_audit(exchange)
        await exchange.kill("bus")
        await exchange.wait_serving("bus")
        bus = AsyncBus.connect(exchange.redis_addr)
        try:
            async with asyncio.timeout(60):
                while not ((head := await bus.head("s1")) and head.stopped):
                    await asyncio.sleep(0.05)
        finally:
            await bus.close()
        assert "shard 1" in head.stopped
        async with grpc.aio.insecure_channel(exchange.traders) as channel:
            stub = order_service_pb2_grpc.OrderServiceStub(channel)
            with pytest.raises(grpc.RpcError) as refused:
                await stub.Submit(order_service_pb2.SubmitRequest(), timeout=5)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT, "the door still answers"


def test_a_memory_bus_that_lost_what_was_acknowledged_stops_the_writers_and_says_what_is_missing(
    tmp_path: Path,
) -> None:
    asyncio.run(lose_the_bus(data_dir(tmp_path)))
