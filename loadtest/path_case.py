"""A case of the benchmark of the whole path: an exchange, load of one kind, the audit, the count of the log.

Every acknowledged order is counted in the log. The generator counts in the answers what shards executed: batches,
commands accepted, commands rejected by reason, trades, and a sum of hashes over (shard, n, batch, accepted, rejected,
trades) of every executed batch. When all is settled and the exchange has stopped, the execution frames from the
position before the load to the one after it are read from settlement's archive, whose bytes are those that were hashed
into the chain, and the same numbers come from their events. All must be equal: then no acknowledged batch is missing
from the log, none is in it twice, none has another result, and no other load was there.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import grpc
import psutil

from clob.v1 import position_pb2, settlement_service_pb2, settlement_service_pb2_grpc
from exchange.cli.up import without_rates
from exchange.config.environment import LOAD_TEST_SETTINGS, Durability
from exchange.domain.operations import Transfer
from exchange.embedded.data_dir import DataDir, open_data_dir
from exchange.embedded.demo import CALL_S_MAX, ENVIRONMENT, MESSAGE_BYTES_MAX, Demo
from exchange.embedded.demo_flow import SEEDED_FUNDS_UNITS, Source
from exchange.embedded.exchange import EmbeddedExchange, Options, own_cpu_seconds
from exchange.embedded.traders import Trader
from exchange.engine.choice import DEFAULT_ENGINE
from exchange.flow.seeded import QUOTE_ASSET, SeededFlow
from exchange.settlement.archive import Archive
from loadtest.generator_process import Generator, Phase, Sending, count_frames, job, sum_of

INGRESS: Final = "ingress-verifier"
OVERLOADED: Final = "OVERLOADED"
VALIDITY_MARGIN_MS: Final = 1_000
SAMPLE_S: Final = 1.0
CALIBRATION_S: Final = 2.0
GUESS_SIGNATURES: Final = 200_000
GUESS_MAX: Final = 2_000_000
"""What the calibration has ready: signatures, and orders at most; what it leaves is sent later."""
SURPLUS: Final = 1.5
"""How many times as much is signed as the calibration says that the time has room for."""
ACCEPTED_MIN: Final = 0.95
CHILD_MODULE: Final = "exchange.ingress.child"
GENERATOR: Final = "load generator"
BENCH: Final = "this process: samples memory"
COUNTED: Final = ("batches_executed", "accepted", "rejected", "trades", "fingerprint")
"""What answers and log must agree in."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured.

    Attributes:
        sending: how the generator sends; `resting` is worked out from `resting_per_market`.
        shards, workers, durability, engine: of the exchange.
        markets, traders: how many, over all shards.
        resting_per_market: orders that rest before the clock starts, and on average through the run.
        seconds: how long the closed loop sends; 0: no closed loop.
        orders: commands made for it; 0: as many as a short run before shows to be enough.
        point_s: how long an open loop sends.
        percents: open loops at so much of what the closed loop had settled a second.
        rates: open loops at so many commands a second.
    """

    sending: Sending = field(default_factory=Sending)
    shards: int = 2
    workers: int = 1
    durability: Durability = Durability.MEMORY
    engine: str = DEFAULT_ENGINE
    markets: int = 1_000
    traders: int = 1_000
    resting_per_market: int = 10
    seconds: float = 20.0
    orders: int = 0
    point_s: float = 15.0
    percents: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """What tells the case from others of a run, for people."""
        how = "stream" if self.sending.stream else "unary"
        return f"{self.sending.per_signature} a signature, {self.commands_per_message} a message, {how}"

    @property
    def commands_per_message(self) -> int:
        """Commands in a message."""
        return max(self.sending.per_message, self.sending.per_signature)


def flow_source(seed: int, shard: int, first_market: int, markets: int, traders: int) -> Source:
    """Return markets and funding as the seeded flow has them, without orders: the generator makes those."""
    flow = SeededFlow(seed, markets, shard, first_market=first_market, accounts=traders)
    return Source(
        name=f"{markets:,} markets in shard {shard}",
        shard=shard,
        seeded=True,
        assets=tuple(asset for asset in flow.assets if asset.asset != QUOTE_ASSET),
        markets=flow.markets,
        # No flow exhausts it, and what all traders deposit stays below 2^63.
        funding=tuple(Transfer(owner.account, owner.asset, SEEDED_FUNDS_UNITS) for owner in flow.funding()),
        orders=(),
    )


def sources_of(case: Case) -> list[Source]:
    """Return markets and funding of all shards of a case."""
    firsts = [1 + case.markets * place // case.shards for place in range(case.shards + 1)]
    return [
        flow_source(case.sending.seed + place, place + 1, first, firsts[place + 1] - first, case.traders)
        for place, first in enumerate(firsts[:-1])
    ]


async def run_case(case: Case, folder: Path, binary: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Run a case in a scratch folder and return its result.

    Args:
        case: it.
        folder: empty; the exchange's files.
        binary: of the generator.
        say: shows how far it is.

    Raises:
        ChildError, SetupError, GeneratorError, grpc.RpcError: something did not work that must.
    """
    sources = sources_of(case)
    data = open_data_dir(folder, environment=ENVIRONMENT, durability=case.durability, settings=LOAD_TEST_SETTINGS)
    options = Options(
        shards=case.shards,
        workers=case.workers,
        listen_traders="127.0.0.1:0",
        listen_admin="127.0.0.1:0",
        engine=case.engine,
        log_level="warning",
        # All load comes from one address, and a few keys send most of it: by default both may send less.
        extra={INGRESS: without_rates()},
    )
    happened: list[str] = []
    async with EmbeddedExchange(data, options, on_change=happened.append) as exchange:
        run = Run(case, exchange, sources, binary, say)
        async with run.generator():
            await run.all_phases()
        audit = await run.audit()
        settled = await run.settle()
    counted = sum_of([phase["counts"] for phase in run.phases])
    say("counting the log")
    log = await asyncio.to_thread(count_frames, binary, log_frames(data, run.settled_before, settled))
    result = {
        **_about(case),
        "bus": exchange.bus_origin,
        "setup_s": run.setup_s,
        "phases": [phase for phase in run.phases if phase["phase"] != "fill"],
        "audit_passed": audit.passed,
        "answers": counted,
        "log": log,
        "positions": {"before": run.settled_before, "after": settled},
    }
    failures = [f"died or stopped: {text}" for text in happened] + failures_of(result, run.phases)
    return {**result, "passed": not failures, "failures": failures}


def log_frames(data: DataDir, after: Mapping[int, int], to: Mapping[int, int]) -> Iterator[tuple[int, bytes]]:
    """Yield the execution frames that follow positions, up to others, from the archive of an exchange that has stopped.

    Raises:
        ArchiveError: the archive is damaged.
    """
    for shard, last_n in sorted(to.items()):
        first_n = after.get(shard, 0) + 1
        archive = Archive(data.archive, shard, is_durable=False)
        try:
            found = 0
            for entry in archive.read_range(first_n, last_n):
                found += 1
                yield shard, entry.executions.frame
            assert found == last_n - first_n + 1, f"the archive of shard {shard} has {found} of {first_n} to {last_n}"
        finally:
            archive.close()


def _about(case: Case) -> dict[str, Any]:
    sending = case.sending
    return {
        "case": case.name,
        "per_signature": sending.per_signature,
        "per_message": case.commands_per_message,
        "stream": sending.stream,
        "connections": sending.connections,
        "in_flight_per_lane": sending.in_flight,
        "shards": case.shards,
        "workers": case.workers,
        "durability": case.durability.value,
        "engine": case.engine,
        "markets": case.markets,
        "keys": case.traders,
        "resting": case.resting_per_market * case.markets,
        "seed": sending.seed,
    }


def failures_of(result: Mapping[str, Any], phases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with a case, in sentences; none: it passed.

    Args:
        result: audit, and what answers and log come to.
        phases: all, the filling of the books too.
    """
    found = [
        f"{phase['phase']}: {text} ({times:,} times)" for phase in phases for text, times in phase["errors"].items()
    ]
    for phase in phases:
        name, counts = phase["phase"], phase["counts"]
        if phase["lost"]:
            found.append(f"{name}: {phase['lost']:,} orders without an outcome")
        if counts["batches_repeated"]:
            found.append(f"{name}: {counts['batches_repeated']:,} batches had been executed before")
        # A rate that was asked for may be more than there is room for: then OVERLOADED is right, and told.
        found += [
            f"{name}: {count:,} orders refused: {reason}"
            for reason, count in counts["refused"].items()
            if not (phase["may_overload"] and reason == OVERLOADED)
        ]
        executed = counts["accepted"] + sum(counts["rejected"].values())
        if not executed:
            found.append(f"{name}: no order was executed")
        if counts["accepted"] < executed * ACCEPTED_MIN and not counts["refused"]:
            found.append(f"{name}: only {counts['accepted']:,} of {executed:,} orders were accepted")
    if not result["audit_passed"]:
        found.append("the audit does not balance, or is not complete")
    for name in COUNTED:
        if result["answers"][name] != result["log"][name]:
            found.append(f"{name}: the answers say {result['answers'][name]}, the log says {result['log'][name]}")
    return found


class Run:
    """A case while its exchange runs.

    Attributes:
        traders: by number, once the generator runs.
        phases: results so far.
        setup_s: seconds by step of the set-up.
        settled_before: positions by shard before the first order.
    """

    def __init__(
        self,
        case: Case,
        exchange: EmbeddedExchange,
        sources: Sequence[Source],
        binary: Path,
        say: Callable[[str], None],
        apart: int = 0,
    ) -> None:
        """Make it.

        Args:
            case: what is measured.
            exchange: that runs.
            sources: markets and funding of its shards.
            binary: of the generator.
            say: shows how far it is.
            apart: number of a market that the generator sends nothing for; 0: there is none.
        """
        self._apart = apart
        self._case = case
        self._exchange = exchange
        self._sources = sources
        self._binary = binary
        self._say = say
        self._settlement: Any = None
        self._generator: Generator | None = None
        self.traders: dict[int, Trader] = {}
        self.phases: list[dict[str, Any]] = []
        self.setup_s: dict[str, float] = {}
        self.settled_before: dict[int, int] = {}

    @contextlib.asynccontextmanager
    async def generator(self) -> AsyncIterator[None]:
        """Set the exchange up and start the generator."""
        case = self._case
        options = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ]
        admin = grpc.aio.insecure_channel(self._exchange.admin, options=options)
        self._settlement = settlement_service_pb2_grpc.SettlementServiceStub(admin)
        demo = Demo(self._exchange, self._sources, case.traders, self._say)
        await demo.set_up(admin)
        self.setup_s = {name: round(seconds, 3) for name, seconds in demo.report.setup_s.items()}
        self.settled_before = await self.settle()
        resting = case.resting_per_market * case.markets // case.shards
        asked = job(
            self._exchange.traders,
            ENVIRONMENT,
            demo.traders,
            [
                replace(source, markets=tuple(one for one in source.markets if one.market != self._apart))
                for source in self._sources
            ],
            replace(case.sending, resting=resting),
            LOAD_TEST_SETTINGS.max_validity_ms - VALIDITY_MARGIN_MS,
        )
        self.traders = demo.traders
        self._generator = await Generator.start(self._binary, asked)
        try:
            yield
        finally:
            await self._generator.close()

    async def all_phases(self) -> None:
        """Fill the books, find out what there is room for, send."""
        case = self._case
        if case.resting_per_market:
            await self.phase("fill", Phase(fill=True))
        capacity = 0.0
        if case.seconds:
            orders = case.orders
            if not orders:
                guess = min(GUESS_MAX, case.sending.per_signature * GUESS_SIGNATURES)
                tried = await self.phase("calibration", Phase(commands=guess, seconds=CALIBRATION_S))
                orders = int(tried["orders_per_s_answered"] * case.seconds * SURPLUS)
            closed = await self.phase("closed", Phase(orders, case.seconds))
            if closed["counts"]["refused"]:
                # The books are not what the flow takes them for: what follows would measure something else.
                return
            capacity = closed["orders_per_s_settled"]
        for percent in case.percents:
            rate = capacity * percent / 100
            await self.phase(f"{percent} %", Phase(int(rate * case.point_s), case.point_s, rate))
        for rate in case.rates:
            await self.phase(f"rate {rate:,.0f}", Phase(int(rate * case.point_s), case.point_s, rate))

    async def settle(self) -> dict[int, int]:
        """Wait until everything executed is settled and durable; return positions by shard, shard 0 left out."""
        request = settlement_service_pb2.SettleRequest()
        answer = await self._settlement.Settle(request, timeout=CALL_S_MAX)
        return {line.settled.shard: line.settled.n for line in answer.shards if line.settled.shard}

    async def audit(self) -> settlement_service_pb2.AuditResponse:
        """Return the audit of everything."""
        answer: settlement_service_pb2.AuditResponse = await self._settlement.Audit(
            settlement_service_pb2.AuditRequest(), timeout=CALL_S_MAX
        )
        return answer

    async def phase(
        self, name: str, phase: Phase, beside: contextlib.AbstractAsyncContextManager[object] | None = None
    ) -> dict[str, Any]:
        """Prepare and send a phase, with something else beside it; the clock stops when its last order is settled."""
        assert self._generator is not None
        self._say(f"{self._case.name}: {name}: signing {phase.commands:,} orders")
        prepared = await self._generator.prepare(phase)
        self._say(f"{self._case.name}: {name}: sending {prepared['commands']:,} orders")
        async with beside or contextlib.nullcontext():
            return await self._send(name, phase, prepared)

    async def _send(self, name: str, phase: Phase, prepared: dict[str, Any]) -> dict[str, Any]:
        assert self._generator is not None
        with _Meter(self._exchange, self._generator.pid) as meter:
            started = time.monotonic()
            outcome = await self._generator.go()
            positions = [
                position_pb2.ShardPosition(shard=shard, n=n) for shard, n in outcome["counts"]["last_n"].items()
            ]
            self._say(f"{self._case.name}: {name}: settling")
            request = settlement_service_pb2.SettleRequest(positions=positions)
            await self._settlement.Settle(request, timeout=CALL_S_MAX)
            settled_s = time.monotonic() - started
        counts = outcome["counts"]
        executed = counts["accepted"] + sum(counts["rejected"].values())
        result = {
            "phase": name,
            "rate": phase.rate,
            "prepared": prepared,
            **outcome,
            "executed": executed,
            "started_s": started,
            "settled_s": round(settled_s, 3),
            "orders_per_s_settled": round(executed / settled_s),
            "orders_per_s_answered": round(executed / max(1e-3, outcome["seconds"])),
            "trades_per_order": round(counts["trades"] / max(1, executed), 3),
            "cpu_s": meter.cpu_s,
            # Where nothing was executed, which fails the run, there is nothing to divide by.
            "cpu_s_per_million": {
                who: round(used / executed * 1e6, 3) if executed else None for who, used in meter.cpu_s.items()
            },
            "may_overload": name.startswith("rate "),
            "cores_busy": round(sum(meter.cpu_s.values()) / settled_s, 2),
            "memory_bytes": meter.memory_bytes,
        }
        self.phases.append(result)
        return result


class _Meter:
    """Processor time of every process, and its memory over time."""

    def __init__(self, exchange: EmbeddedExchange, generator_pid: int) -> None:
        self._exchange = exchange
        self._generator = psutil.Process(generator_pid)
        self._processes: dict[str, psutil.Process] = {}
        self._before: dict[str, float] = {}
        self._started = 0.0
        self._task: asyncio.Task[None] | None = None
        self.cpu_s: dict[str, float] = {}
        self.memory_bytes: dict[str, list[tuple[float, int]]] = {}

    def __enter__(self) -> "_Meter":
        self._processes = {**process_names(self._exchange), GENERATOR: self._generator, BENCH: psutil.Process()}
        self._before = {name: own_cpu_seconds(process.pid) for name, process in self._processes.items()}
        self._started = time.monotonic()
        self._task = asyncio.get_running_loop().create_task(self._sample())
        return self

    def __exit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        self._look()
        used = {name: own_cpu_seconds(process.pid) - self._before[name] for name, process in self._processes.items()}
        self.cpu_s = {name: round(max(0.0, seconds), 6) for name, seconds in used.items()}

    async def _sample(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(SAMPLE_S)

    def _look(self) -> None:
        at_s = round(time.monotonic() - self._started, 2)
        for name, process in self._processes.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                self.memory_bytes.setdefault(name, []).append((at_s, process.memory_info().rss))


def process_names(exchange: EmbeddedExchange) -> dict[str, psutil.Process]:
    """Return the processes of an exchange by name; those that one has started are told by their place."""
    found = {}
    for running in exchange.running():
        process = psutil.Process(running.pid)
        found[running.name] = process
        for place, child in enumerate(process.children(recursive=True), 1):
            found[f"{running.name}, {_role(child)} {place}"] = child
    return found


def _role(child: psutil.Process) -> str:
    """Return what a child of a service is for, by its command line."""
    try:
        words = child.cmdline()
    except psutil.Error:
        return "child"
    return words[words.index(CHILD_MODULE) + 1] if CHILD_MODULE in words[:-1] else "child"
