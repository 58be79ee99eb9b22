"""grpcio beside pygrpc-native on the traders' port: calls a second, processor time a call, and what ill will does.

An exchange of its own starts as for `make ghz`, and beside its worker one more, with a backend, with the same guard
and servicers, and the same framer and market-data behind it; ghz sends it every call. Backends take turns. Then each
gets workers of its own for the checks of `loadtest.hostile`, one for each check; whether others are answered meanwhile
is asked ten times a second.

    grpcio          as the exchange is served: behind the relay of `serving.one_port`
    grpcio-direct   grpcio on the port itself, without the relay
    pygrpc-native   likewise on the port itself
"""

import argparse
import asyncio
import contextlib
import importlib.metadata
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import grpc
import grpc.aio
import psutil

from clob.v1 import market_data_service_pb2 as market_data
from clob.v1 import order_service_pb2 as orders
from clob.v1.market_data_service_pb2_grpc import MarketDataServiceStub
from clob.v1.order_service_pb2_grpc import OrderServiceStub
from exchange.cli.tables import draw_table
from exchange.cli.up import without_rates
from exchange.client.prepared import now_ms, read_delimited
from exchange.client.preparing import BALANCES, BOOK, EXCHANGE, SINGLE
from exchange.config.environment import LOAD_TEST_SETTINGS, Durability
from exchange.embedded.data_dir import open_data_dir
from exchange.embedded.exchange import EmbeddedExchange, Options, cpu_seconds
from exchange.embedded.starter import STARTING_FUNDS, define_starter_set
from exchange.engine.choice import DEFAULT_ENGINE
from loadtest import hostile
from loadtest.backend_worker import BACKENDS, NATIVE
from loadtest.bench_ghz import ENVIRONMENT, INGRESS, ROOT, Bench, BenchError, Row, find_tool
from loadtest.bench_reference import machine

SITE: Final = ROOT / "build" / "bench-backend" / "site"
NAMES: Final = (SINGLE, BOOK, BALANCES, EXCHANGE)
WORKER: Final = "worker"
READY_S_MAX: Final = 30
FIRST_NUMBER: Final = 1_000
"""Above the numbers of the children that ingress-verifier starts itself."""
WARM_UP: Final = 500
STIRS: Final = 40
PROBE_S: Final = 0.1
PROBE_S_MAX: Final = 2.0
STOP_S_MAX: Final = 30.0


class Worker:
    """A worker with a backend, beside those of ingress-verifier.

    Attributes:
        address: of its traders' port.
        pid: of the process.
    """

    numbers = FIRST_NUMBER

    def __init__(self, process: Process, address: str) -> None:
        self._process = process
        self.address = address
        self.pid = process.pid

    @classmethod
    async def start(cls, exchange: EmbeddedExchange, backend: str, log: Path) -> Self:
        """Start one with arguments and environment of the worker that ingress-verifier has started.

        Raises:
            BenchError: it does not serve.
        """
        Worker.numbers += 1
        parent = next(running.pid for running in exchange.running() if running.name == INGRESS)
        [like] = [child for child in psutil.Process(parent).children() if WORKER in child.cmdline()]
        words = like.cmdline()
        path = os.pathsep.join((os.environ.get("PYTHONPATH", ""), str(SITE)))
        with log.open("ab") as to:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "loadtest.backend_worker", backend, *words[words.index(WORKER) + 1 :]),
                *("--listen-traders", "127.0.0.1:0", "--child-number", str(Worker.numbers)),
                stdin=PIPE,
                stdout=PIPE,
                stderr=to,
                cwd=ROOT,
                env={**like.environ(), "PYTHONPATH": path.lstrip(os.pathsep)},
                start_new_session=True,
            )
        assert process.stdout is not None
        line = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_S_MAX):
                line = await process.stdout.readline()
        if not line:
            process.kill()
            raise BenchError(f"a worker with {backend} does not serve: {log.read_text()[-1000:]}")
        return cls(process, json.loads(line)["traders"])

    def rss_mib(self) -> float:
        """Return its resident memory; zero: it is gone."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return float(psutil.Process(self.pid).memory_info().rss / hostile.MIB)
        return 0.0

    async def stop(self) -> float | None:
        """Tell it to end; return how many seconds that took, None: it had to be killed."""
        began_s = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S_MAX):
                await self._process.wait()
            return time.monotonic() - began_s
        self._process.kill()
        await self._process.wait()
        return None


# --- calls a second -------------------------------------------------------------------------------------------------


class BackendBench(Bench):
    """The runs of `bench_ghz`, each against every backend.

    Attributes:
        by_backend: rows with their backend, in the order of the runs.
        memory: of workers before their runs and after them, with their backend; resident, in MiB.
        stirring: orders that nobody has sent yet.
    """

    def __init__(self, options: argparse.Namespace, exchange: EmbeddedExchange, ghz: Path, scratch: Path) -> None:
        super().__init__(options, exchange, ghz, scratch)
        self._scratch = scratch
        self._worker: Worker | None = None
        self.by_backend: list[tuple[str, Row]] = []
        self.memory: list[tuple[str, float, float]] = []
        self.stirring: list[bytes] = []

    async def run(self) -> None:
        """Prepare, run everything, check the ledger."""
        calls = {in_flight: self._calls(in_flight) for in_flight in self._options.in_flight}
        runs = len(self._options.backends) * self._options.rounds
        spare = STIRS * 3 * len(self._options.backends)
        await self._prepare([*(count for count in calls.values() for _ in range(runs)), spare])
        for _ in range(self._options.rounds):
            for backend in self._options.backends:
                self._worker = worker = await self.worker(backend)
                self._traders = worker.address
                # The first calls of a process are slower.
                await self._run_ghz(BOOK, 25, WARM_UP)
                self.rows.clear()
                began_mib = worker.rss_mib()
                for name in self._options.only:
                    for in_flight, count in calls.items():
                        await self._run_ghz(name, in_flight, count)
                self.by_backend += [(backend, row) for row in self.rows]
                self.memory.append((backend, began_mib, worker.rss_mib()))
                await worker.stop()
        self._worker = None
        await self._check_ledger()
        stir = self._folder.take(ENVIRONMENT, now_ms(), SINGLE, spare)
        self.stirring = list(read_delimited(stir.read_bytes()))

    async def worker(self, backend: str) -> Worker:
        """Start a worker with a backend."""
        return await Worker.start(self._exchange, backend, self._scratch / f"{backend}.log")

    def _cpu(self) -> dict[str, float]:
        worker = {WORKER: cpu_seconds(self._worker.pid)} if self._worker is not None else {}
        return {**super()._cpu(), **worker}


# --- ill will -------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What became of a check.

    Attributes:
        what: in words.
        rss_mib: memory before, at most, and afterwards.
        asked, unanswered: calls of somebody else meanwhile; those that had no answer in 2 s.
        slowest_ms: of those that had.
        stop_s: how long the worker took to end when it was told to; None: it had to be killed.
    """

    backend: str
    check: str
    what: str = ""
    rss_mib: tuple[float, float, float] = (0.0, 0.0, 0.0)
    asked: int = 0
    unanswered: int = 0
    slowest_ms: float = 0.0
    cpu_s: float = 0.0
    stop_s: float | None = None


@contextlib.asynccontextmanager
async def watched(worker: Worker, outcome: Outcome) -> AsyncIterator[None]:
    """Ask a worker as somebody else would, and look at its memory, until the block ends."""
    before, cpu_before, peak = worker.rss_mib(), cpu_seconds(worker.pid), 0.0

    async def look() -> None:
        nonlocal peak
        while True:
            peak = max(peak, worker.rss_mib())
            await asyncio.sleep(0.02)

    async def ask(stub: Any) -> None:
        while True:
            began_s = time.perf_counter()
            outcome.asked += 1
            try:
                await stub.GetExchange(market_data.GetExchangeRequest(), timeout=PROBE_S_MAX)
                outcome.slowest_ms = max(outcome.slowest_ms, (time.perf_counter() - began_s) * 1e3)
            except grpc.aio.AioRpcError:
                outcome.unanswered += 1
            await asyncio.sleep(PROBE_S)

    async with grpc.aio.insecure_channel(worker.address) as channel:
        stub = MarketDataServiceStub(channel)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await stub.GetExchange(market_data.GetExchangeRequest(), timeout=PROBE_S_MAX)
        tasks = [asyncio.create_task(look()), asyncio.create_task(ask(stub))]
        try:
            yield
            # One call more, from after it all.
            await asyncio.sleep(2 * PROBE_S)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    outcome.rss_mib = (before, peak, worker.rss_mib())
    outcome.cpu_s = cpu_seconds(worker.pid) - cpu_before


async def check(bench: BackendBench, backend: str, name: str) -> Outcome:
    """Make one check on a worker of its own."""
    outcome = Outcome(backend, name)
    worker = await bench.worker(backend)
    try:
        async with watched(worker, outcome):
            try:
                outcome.what = await hostile.CHECKS[name](worker.address)
            except (TimeoutError, OSError) as error:
                outcome.what = f"ended with {type(error).__name__} {error}".strip()
    finally:
        outcome.stop_s = await worker.stop()
    return outcome


async def check_slow_readers(bench: BackendBench, backend: str) -> Outcome:
    """Let 16 readers of a stream take nothing, and see what a good one gets; then end the worker among them."""
    outcome = Outcome(backend, "16 slow readers")
    worker, other = await bench.worker(backend), await bench.worker("grpcio")
    slow: list[hostile.Connection] = []
    got = 0

    async def stir() -> None:
        async with grpc.aio.insecure_channel(other.address) as channel:
            for _ in range(STIRS):
                await OrderServiceStub(channel).Submit(orders.SubmitRequest.FromString(bench.stirring.pop()))

    async def read(channel: Any) -> None:
        nonlocal got
        request = market_data.StreamBookRequest(markets=[1], every_command=True)
        async for _ in MarketDataServiceStub(channel).StreamBook(request):
            got += 1

    try:
        async with watched(worker, outcome):
            slow = await hostile.slow_readers(worker.address, stir)
            async with grpc.aio.insecure_channel(worker.address) as channel:
                reading = asyncio.create_task(read(channel))
                await asyncio.sleep(1)
                await stir()
                await asyncio.sleep(2)
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        outcome.what = f"one that reads got {got} messages of {STIRS + 1} or more"
    finally:
        outcome.stop_s = await worker.stop()
        await asyncio.gather(*(connection.close() for connection in slow), other.stop())
    return outcome


async def check_stream(bench: BackendBench, backend: str) -> Outcome:
    """Send an order on a stream."""
    outcome = Outcome(backend, "SubmitStream")
    worker = await bench.worker(backend)
    submit = orders.SubmitRequest.FromString(bench.stirring.pop())

    async def requests() -> AsyncIterator[orders.SubmitStreamRequest]:
        yield orders.SubmitStreamRequest(tag=7, submit=submit)

    try:
        async with watched(worker, outcome), grpc.aio.insecure_channel(worker.address) as channel:
            try:
                async for answer in OrderServiceStub(channel).SubmitStream(requests(), timeout=10):
                    outcome.what = f"answer to {answer.tag}"
            except grpc.aio.AioRpcError as error:
                outcome.what = f"{error.code().name} {(error.details() or '')[:60]}"
    finally:
        outcome.stop_s = await worker.stop()
    return outcome


async def all_checks(bench: BackendBench, backends: Sequence[str]) -> list[Outcome]:
    """Make every check on every backend."""
    found = []
    for name in (*hostile.CHECKS, "slow", "stream"):
        for backend in backends:
            make = {"slow": check_slow_readers, "stream": check_stream}.get(name)
            found.append(await (make(bench, backend) if make else check(bench, backend, name)))
            print(text_of([], found[-1:]), flush=True)
    return found


# --- the command ----------------------------------------------------------------------------------------------------


def text_of(rows: Sequence[tuple[str, Row]], outcomes: Sequence[Outcome]) -> str:
    """Return tables of runs and checks as people read them."""
    lines = []
    if rows:
        headers = ("CALL", "IN FLIGHT", "BACKEND", "CALLS/S", "CPU US/CALL", "WORKER", "P50 US", "P99 US", "ERRORS")
        cells = [
            (
                *(row.name, row.in_flight, backend, f"{row.calls_per_s:,.0f}", f"{row.cpu_us_per_call:,.0f}"),
                f"{row.cpu_us[WORKER] / max(1, row.calls):,.0f}",
                *(f"{row.latency_us.get(name, 0):,}" for name in ("p50", "p99")),
                sum(row.errors.values()),
            )
            for backend, row in rows
        ]
        lines += draw_table(headers, cells, "lrlrrrrrr")
    lines += [
        f"{outcome.check}, {outcome.backend}: {outcome.what}; memory "
        f"{' / '.join(f'{figure:,.0f}' for figure in outcome.rss_mib)} MiB before, at most, after; "
        f"{outcome.unanswered} of {outcome.asked} others without answer, slowest {outcome.slowest_ms:,.0f} ms; "
        f"{outcome.cpu_s:.1f} s of processor; "
        + ("ends only by force" if outcome.stop_s is None else f"ends in {outcome.stop_s:.1f} s")
        for outcome in outcomes
    ]
    return "\n".join(lines)


async def run(options: argparse.Namespace, ghz: Path, scratch: Path) -> dict[str, Any]:
    """Run everything; return the report."""
    data = open_data_dir(
        scratch / "data",
        environment=ENVIRONMENT,
        durability=Durability.MEMORY,
        starting_funds=STARTING_FUNDS,
        settings=LOAD_TEST_SETTINGS,
    )
    running = Options(
        shards=1,
        workers=1,
        listen_traders="127.0.0.1:0",
        listen_admin="127.0.0.1:0",
        engine=DEFAULT_ENGINE,
        log_level="warning",
        extra={INGRESS: without_rates()},
    )
    kinds = [(name, in_flight) for name in options.only for in_flight in options.in_flight]

    def place(run: tuple[str, Row]) -> tuple[int, int]:
        return kinds.index((run[1].name, run[1].in_flight)), options.backends.index(run[0])

    async with EmbeddedExchange(data, running) as exchange:
        await define_starter_set(exchange.admin)
        bench = BackendBench(options, exchange, ghz, scratch)
        await bench.run()
        outcomes = await all_checks(bench, options.backends) if options.hostile else []
    versions = {"grpcio": grpc.__version__}
    for found in importlib.metadata.distributions(path=[str(SITE)]):
        versions[found.metadata["Name"]] = found.version
    return {
        "machine": {**machine(), "command": " ".join(["python -m loadtest.bench_backend", *sys.argv[1:]])},
        "versions": versions,
        "rows": [{"backend": backend, **asdict(row)} for backend, row in bench.by_backend],
        "memory_mib": bench.memory,
        "outcomes": [asdict(outcome) for outcome in outcomes],
        "failures": bench.failures,
        "text": text_of(sorted(bench.by_backend, key=place), outcomes),
    }


def main() -> None:
    """Run the measurement, print it, and write build/bench-backend/bench-backend.json."""
    parser = argparse.ArgumentParser(prog="bench_backend", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=2_000, help="calls a run (default: 2000)")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each kind, backends in turns (default: 2)")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 25, 100], metavar="N")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--backends", nargs="+", choices=sorted(BACKENDS), default=list(BACKENDS))
    parser.add_argument("--hostile", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    options.users, options.workers = 100, 1
    options.out = SITE.parent
    ghz = find_tool("ghz")
    if ghz is None or (NATIVE in options.backends and not SITE.is_dir()):
        parser.error("ghz or pygrpc-native is missing: `make bench-backend` brings both")
    shutil.rmtree(options.out / "reports", ignore_errors=True)
    (options.out / "reports").mkdir(parents=True)
    scratch = Path(tempfile.mkdtemp(prefix="clob-backend-"))
    try:
        report = asyncio.run(run(options, ghz, scratch))
    except BenchError as error:
        parser.error(str(error))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    (options.out / "bench-backend.json").write_text(json.dumps(report, indent=2) + "\n")
    for backend, before, after in report["memory_mib"]:
        print(f"{backend}: {before:.0f} MiB before its runs, {after:.0f} after")
    print(report["versions"], report["text"], *(f"FAILED: {failure}" for failure in report["failures"]), sep="\n")
    if report["failures"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
