"""How an exchange behaves when it is offered more than it can do, and when somebody wants it to fail.

    python -m loadtest.bench_overload [--seconds S] [--factors 2 10] [--unary] [--attacks KIND ...]

A closed loop finds the capacity of a whole exchange with default limits. Then the load generator offers multiples of it
in an open loop over many connections, each from an address of its own, and at the end sends nothing more that the
server's flow control has no room for. Meanwhile a prober places orders, each by a call, and cancels others on a stream
that has nothing else to carry, twenty times a second. After that comes half the capacity together with each attack: a
flood of forged signatures, and the kinds of loadtest/attacks.py. What must hold is in `wrong_in` and `slow_in`.
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import msgspec

from clob.v1 import order_service_pb2, order_service_pb2_grpc, outcome_pb2
from exchange.config.environment import LOAD_TEST_SETTINGS, Durability
from exchange.domain.commands import (
    Batch,
    CancelOrder,
    Command,
    OrderType,
    PlaceOrder,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.embedded.data_dir import open_data_dir
from exchange.embedded.demo import ENVIRONMENT
from exchange.embedded.demo_flow import Source
from exchange.embedded.exchange import EmbeddedExchange, Options
from exchange.embedded.traders import Trader
from exchange.reference.signing import sign
from exchange.wire.messages import encode
from loadtest.bench_core import HERE
from loadtest.bench_reference import machine
from loadtest.generator_process import Generator, Phase, Sending, build, job
from loadtest.path_case import VALIDITY_MARGIN_MS, Case, Run, sources_of

PROBES_PER_S: Final = 20
PROBE_S_MAX: Final = 30.0
RESTING: Final = 300
"""Orders of the prober that rest, to be cancelled."""
FIRST_ADDRESS: Final = 1
FORGERS: Final = tuple(f"127.0.9.{place}" for place in range(1, 5))
GOODPUT_MIN: Final = 0.9
RECOVERY_S_MAX: Final = 10.0
CANCEL_S_MAX: Final = 1.0
REFUSED_S_MAX: Final = 1.0
CALM_S: Final = 3.0
"""How long the prober looks on before and after everything."""
INGRESS_MIB_MAX: Final = 128
MIB: Final = 1024 * 1024
EXECUTED: Final = "EXECUTED"
FORGED: Final = "forged-signatures"
GUESS_PER_S: Final = 200_000
"""Orders a second that are made for the closed loop."""
RATES: Final = ("offered_per_s", "taken_per_s", "goodput_per_s")
COLUMNS: Final = (
    *("load", "offered/s", "taken/s", "executed/s", "refused", "refused p50 / p99 ms"),
    *("cancels served", "p50 / p99 ms", "orders served", "calm after s", "settled after s"),
)
BUILD: Final = HERE.parent / "build" / "bench-overload"


class Probe(NamedTuple):
    """What a single call came to.

    Attributes:
        at_s: when it began, by the clock that never goes back.
        seconds: how long it took.
        is_cancel: whether it was one; else an order was placed.
        outcome: EXECUTED, or why not.
    """

    at_s: float
    seconds: float
    is_cancel: bool
    outcome: str


class Prober:
    """A trader with one order at a time.

    Attributes:
        probes: what its calls came to so far.
    """

    def __init__(self, address: str, trader: Trader, source: Source) -> None:
        market = source.markets[-1]
        multiple = market.tick_table[-1].multiple_ticks if market.tick_table else 1
        lots = market.lot_table[-1].multiple_lots if market.lot_table else 1
        # Nobody else sends anything for this market.
        price_ticks = -(-market.band_low_ticks // multiple) * multiple
        none = SelfTradePrevention.NONE
        self._order = PlaceOrder(
            market.market, Side.BUY, OrderType.LIMIT, TimeInForce.GTC, True, none, price_ticks, lots, 0
        )
        self._trader = trader
        self._shard = source.shard
        self._channel = grpc.aio.insecure_channel(address)
        self._stub = order_service_pb2_grpc.OrderServiceStub(self._channel)
        self._last_id = 1 << 62
        self._resting: deque[int] = deque()
        self._cancels = self._stub.SubmitStream()
        # A stream of gRPC takes one message at a time.
        self._writing = asyncio.Lock()
        self._answers: dict[int, asyncio.Future[str]] = {}
        self._reading = asyncio.create_task(self._read())
        self.probes: list[Probe] = []

    async def rest(self, orders: int) -> None:
        """Place orders that rest."""
        for _ in range(orders):
            outcome = await self._place()
            assert outcome == EXECUTED, f"an order of the prober is not taken: {outcome}"

    async def run(self) -> None:
        """Place and cancel in turns until this is cancelled; calls do not wait for one another."""
        calls: set[asyncio.Task[None]] = set()
        try:
            for number in range(1 << 62):
                task = asyncio.create_task(self._probe(is_cancel=bool(number % 2)))
                calls.add(task)
                task.add_done_callback(calls.discard)
                await asyncio.sleep(1 / PROBES_PER_S)
        finally:
            await asyncio.gather(*calls)

    async def close(self) -> None:
        """Let go of the connection."""
        self._reading.cancel()
        self._cancels.cancel()
        await self._channel.close()

    async def _probe(self, is_cancel: bool) -> None:
        at_s = time.monotonic()
        outcome = await (self._cancel() if is_cancel else self._place())
        self.probes.append(Probe(at_s, time.monotonic() - at_s, is_cancel, outcome))

    async def _place(self) -> str:
        """Place an order by a call."""
        self._last_id += 1
        number = self._last_id
        request = self._request(msgspec.structs.replace(self._order, client_order_id=number))
        try:
            answer = await self._stub.Submit(request, timeout=PROBE_S_MAX)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {(error.details() or '').partition(':')[0]}"
        outcome = _outcome_of(answer)
        if outcome == EXECUTED:
            self._resting.append(number)
        return outcome

    async def _cancel(self) -> str:
        """Cancel the oldest order, on the stream for cancels."""
        number = self._resting.popleft()
        request = self._request(CancelOrder(client_order_id=number))
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            async with asyncio.timeout(PROBE_S_MAX):
                async with self._writing:
                    await self._cancels.write(order_service_pb2.SubmitStreamRequest(tag=number, submit=request))
                return await answer
        except TimeoutError:
            return grpc.StatusCode.DEADLINE_EXCEEDED.name
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        finally:
            del self._answers[number]

    async def _read(self) -> None:
        """Hand answers to those who wait; the end of the stream is seen by who writes to it next."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for answer in self._cancels:
                waiting = self._answers.get(answer.tag)
                if waiting is not None and not waiting.done():
                    waiting.set_result(_outcome_of(answer.submit))
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_result("the stream ended")

    def _request(self, command: Command) -> order_service_pb2.SubmitRequest:
        valid_until_ms = time.time_ns() // 1_000_000 + 30_000
        payload = encode(Batch(self._trader.account, self._shard, time.monotonic_ns(), valid_until_ms, (command,)))
        request = order_service_pb2.SubmitRequest(environment=ENVIRONMENT)
        signature = sign(self._trader.seed, signed_bytes(SignedKind.BATCH, ENVIRONMENT, payload))
        request.batches.add(key_id=self._trader.key_id, payload=payload, signature=signature)
        return request


def _outcome_of(answer: order_service_pb2.SubmitResponse) -> str:
    [outcome] = answer.outcomes
    state: str = outcome_pb2.SendState.Name(outcome.state).removeprefix("SEND_STATE_")
    rejected = [event for event in outcome.events if event.HasField("command_rejected")]
    return f"{state}, rejected: {rejected[0].command_rejected.reason}" if rejected else state


def median_ms(probes: Sequence[Probe], part: float = 0.5) -> float:
    """Return a quantile of what probes took, in milliseconds; 0: there are none."""
    sorted_s = sorted(probe.seconds for probe in probes)
    return round(sorted_s[min(len(sorted_s) - 1, int(len(sorted_s) * part))] * 1000, 2) if sorted_s else 0.0


def about_probes(probes: Sequence[Probe]) -> dict[str, Any]:
    """Return what some probes came to, cancels and orders apart."""
    about: dict[str, Any] = {}
    for name, is_cancel in (("orders", False), ("cancels", True)):
        chosen = [probe for probe in probes if probe.is_cancel is is_cancel]
        served = [probe for probe in chosen if probe.outcome == EXECUTED]
        outcomes: dict[str, int] = {}
        for probe in chosen:
            outcomes[probe.outcome] = outcomes.get(probe.outcome, 0) + 1
        about[name] = {
            "sent": len(chosen),
            "served": len(served),
            "outcomes": outcomes,
            "p50_ms": median_ms(served),
            "p99_ms": median_ms(served, 0.99),
        }
    return about


def recovery_s(probes: Sequence[Probe], ended_s: float, calm_ms: float) -> float:
    """Return how long after the end of a load the last probe began that was refused, or took longer than when calm."""
    late = [
        probe.at_s + probe.seconds - ended_s
        for probe in probes
        if probe.at_s > ended_s and (probe.outcome != EXECUTED or probe.seconds * 1000 > calm_ms)
    ]
    return round(max(late, default=0.0), 2)


@dataclass(frozen=True, slots=True)
class Overload:
    """What is tried.

    Attributes:
        seconds: how long each load lasts.
        factors: multiples of the capacity that are offered.
        attacks: by what, together with half the capacity.
        connections: of the load; each has an address of its own, 127.0.1.x.
        stream: SubmitStream or Submit.
        per_signature, per_message, markets, traders, shards, workers: as in `Case`.
    """

    seconds: float = 10.0
    factors: tuple[float, ...] = (2.0, 10.0)
    attacks: tuple[str, ...] = (FORGED,)
    connections: int = 32
    stream: bool = True
    per_signature: int = 1
    per_message: int = 64
    markets: int = 1_000
    traders: int = 1_000
    shards: int = 2
    workers: int = 1

    def case(self) -> Case:
        """Return it as a case, without phases."""
        sending = Sending(
            stream=self.stream,
            connections=self.connections,
            in_flight=2,
            per_signature=self.per_signature,
            per_message=self.per_message,
            sources=tuple(f"127.0.1.{place}" for place in range(FIRST_ADDRESS, FIRST_ADDRESS + self.connections)),
        )
        return Case(
            sending, shards=self.shards, workers=self.workers, markets=self.markets, traders=self.traders, seconds=0
        )


class Forgers:
    """A generator of its own that sends forged batches of keys that there are, as fast as they are taken."""

    def __init__(self, run: Run, overload: Overload, sources: Sequence[Source], address: str, rate: float) -> None:
        sending = replace(
            overload.case().sending, connections=len(FORGERS), sources=FORGERS, forges=True, per_signature=1
        )
        validity_ms = LOAD_TEST_SETTINGS.max_validity_ms - VALIDITY_MARGIN_MS
        self._job = job(address, ENVIRONMENT, run.traders, sources, sending, validity_ms)
        self._phase = Phase(int(rate * overload.seconds), overload.seconds, rate, holds=True)
        self._generator: Generator | None = None
        self._going: asyncio.Task[dict[str, Any]] | None = None
        self.told: dict[str, Any] = {}

    async def __aenter__(self) -> "Forgers":
        self._generator = await Generator.start(build(), self._job)
        await self._generator.prepare(self._phase)
        self._going = asyncio.create_task(self._generator.go())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._generator is not None
        assert self._going is not None
        try:
            outcome = await self._going
            seconds = self._phase.seconds
            self.told = {
                "offered_per_s": round(self._phase.rate),
                "taken_per_s": round(outcome["sent"] / seconds),
                "refused": outcome["counts"]["refused"],
                "executed": outcome["counts"]["batches_executed"],
                "cpu_s": round(outcome["cpu_s"], 2),
            }
        finally:
            await self._generator.close()


class Attackers:
    """A process of loadtest/attacks.py."""

    def __init__(self, kind: str, address: str, seconds: float) -> None:
        self._command = [sys.executable, "-m", "loadtest.attacks", kind, address, "--seconds", str(seconds)]
        self._process: asyncio.subprocess.Process | None = None
        self.told: dict[str, Any] = {}

    async def __aenter__(self) -> "Attackers":
        self._process = await asyncio.create_subprocess_exec(
            *self._command, "--source", FORGERS[0], stdout=asyncio.subprocess.PIPE
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        try:
            async with asyncio.timeout(30):
                self.told = json.loads((await self._process.communicate())[0])
        finally:
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()


class Trial:
    """An exchange that is tried.

    Attributes:
        rows: what was found out, load by load.
    """

    def __init__(self, overload: Overload, exchange: EmbeddedExchange, run: Run, sources: Sequence[Source]) -> None:
        self._overload = overload
        self._exchange = exchange
        self._run = run
        self._sources = sources
        self._calm_ms = 0.0
        self.rows: list[dict[str, Any]] = []

    async def all(self, say: Callable[[str], None]) -> None:
        """Try everything."""
        overload, run, address = self._overload, self._run, self._exchange.traders
        prober = Prober(address, run.traders[trader_in_last_market(self._sources[0])], self._sources[0])
        try:
            say("orders of the prober")
            await prober.rest(RESTING)
            await run.phase("fill", Phase(fill=True))
            closed = await run.phase("closed", Phase(int(GUESS_PER_S * overload.seconds), overload.seconds))
            capacity = closed["orders_per_s_settled"]
            self.rows.append({"load": "capacity", "goodput_per_s": capacity})
            calm = await self._calm(prober)
            self._calm_ms = 2 * max(calm["orders"]["p99_ms"], calm["cancels"]["p99_ms"]) + 5
            for factor in overload.factors:
                await self._watched(prober, f"{factor:g} x", self._offer(capacity * factor), capacity)
            half = self._offer(capacity / 2)
            await self._watched(prober, "half", half, half.rate)
            for kind in overload.attacks:
                attack: Forgers | Attackers
                if kind == FORGED:
                    attack = Forgers(run, overload, self._sources, address, 2 * capacity)
                else:
                    attack = Attackers(kind, address, overload.seconds)
                await self._watched(prober, f"half, {kind}", half, half.rate, attack)
        finally:
            await prober.close()

    def _offer(self, rate: float) -> Phase:
        seconds = self._overload.seconds
        return Phase(int(rate * seconds), seconds, rate, holds=True)

    async def _calm(self, prober: Prober) -> dict[str, Any]:
        async with _probing(prober):
            await asyncio.sleep(CALM_S)
        probes = about_probes(prober.probes)
        self.rows.append({"load": "none", "probes": probes})
        return probes

    async def _watched(
        self, prober: Prober, name: str, phase: Phase, asked: float, attack: Forgers | Attackers | None = None
    ) -> None:
        """Send a load while the prober looks on, and some time longer; add a row.

        Args:
            prober: it.
            name: of the row.
            phase: the load.
            asked: orders a second that are to be executed, nine in ten of them at least.
            attack: what there is beside the load.
        """
        async with _probing(prober):
            result = await self._run.phase(name, phase, attack)
            await asyncio.sleep(CALM_S)
        ended_s = result["started_s"] + phase.seconds
        during = [probe for probe in prober.probes if result["started_s"] <= probe.at_s <= ended_s]
        executed, refused = (
            {name: round(result["latency"].get(what, {}).get(name, 0) / 1000, 2) for name in ("p50", "p99")}
            for what in ("end to end", "end to end, refused")
        )
        row = {
            "load": name,
            "probes": about_probes(during),
            "offered_per_s": round(phase.rate),
            "taken_per_s": round(result["sent"] / phase.seconds),
            "asked_per_s": round(asked),
            "goodput_per_s": result["orders_per_s_settled"],
            "refused": result["counts"]["refused"],
            "refused_without_wait": result["counts"]["refused_without_wait"],
            "refused_ms": refused,
            "executed_ms": executed,
            "lost": result["lost"],
            "settled_after_s": round(result["settled_s"] - phase.seconds, 2),
            "recovered_after_s": recovery_s(prober.probes, ended_s, self._calm_ms),
            "mib": {who: _mib(sizes) for who, sizes in result["memory_bytes"].items() if sizes},
            "cpu_s": {who: round(used, 2) for who, used in result["cpu_s"].items()},
            "attack": attack.told if attack is not None else {},
        }
        row |= {"wrong": wrong_in(row), "slow": slow_in(row)}
        self.rows.append(row)


def trader_in_last_market(source: Source) -> int:
    """Return the number of a trader of the market that the prober has for itself."""
    market, funding = source.markets[-1], source.funding
    with_base = {transfer.account for transfer in funding if transfer.asset == market.base_asset}
    with_quote = {transfer.account for transfer in funding if transfer.asset == market.quote_asset}
    return min(with_base & with_quote)


def wrong_in(row: Mapping[str, Any]) -> list[str]:
    """Return what must not be under a load, however slow the machine is, in sentences."""
    found = []
    if row["lost"]:
        found.append(f"{row['lost']:,} orders without an outcome")
    if row["refused_without_wait"]:
        found.append(f"{row['refused_without_wait']:,} orders refused without a time to come again")
    cancels = row["probes"]["cancels"]
    if not cancels["sent"] or cancels["served"] < cancels["sent"]:
        found.append(f"cancels not served: {cancels['outcomes']}")
    for who, (before, most, _) in row["mib"].items():
        if who.startswith("ingress") and most - before > INGRESS_MIB_MAX:
            found.append(f"{who} grew from {before} to {most} MiB")
    if row["attack"].get("executed"):
        found.append(f"{row['attack']['executed']:,} forged batches were executed")
    return [f"{row['load']}: {text}" for text in found]


def slow_in(row: Mapping[str, Any]) -> list[str]:
    """Return what takes too long under a load, in sentences."""
    found = []
    if row["goodput_per_s"] < GOODPUT_MIN * row["asked_per_s"]:
        found.append(f"{row['goodput_per_s']:,} orders/s executed of {row['asked_per_s']:,}")
    if row["refused_ms"]["p99"] > REFUSED_S_MAX * 1000:
        found.append(f"refusals take {row['refused_ms']['p99']} ms (p99)")
    if row["probes"]["cancels"]["p99_ms"] > CANCEL_S_MAX * 1000:
        found.append(f"cancels take {row['probes']['cancels']['p99_ms']} ms (p99)")
    if max(row["recovered_after_s"], row["settled_after_s"]) > RECOVERY_S_MAX:
        found.append(
            f"calm {row['recovered_after_s']} s after the load, all settled {row['settled_after_s']} s after it"
        )
    return [f"{row['load']}: {text}" for text in found]


@contextlib.asynccontextmanager
async def _probing(prober: Prober) -> AsyncIterator[None]:
    prober.probes.clear()
    task = asyncio.create_task(prober.run())
    try:
        await asyncio.sleep(0)
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _mib(sizes: Sequence[tuple[float, int]]) -> tuple[int, int, int]:
    """Return memory before, at most and after, in MiB."""
    return round(sizes[0][1] / MIB), round(max(size for _, size in sizes) / MIB), round(sizes[-1][1] / MIB)


async def run_overload(overload: Overload, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Try an exchange in a scratch folder; return what was found out.

    Raises:
        ChildError, SetupError, GeneratorError, grpc.RpcError: something did not work that must.
    """
    case = overload.case()
    sources = sources_of(case)
    data = open_data_dir(folder, environment=ENVIRONMENT, durability=Durability.MEMORY, settings=LOAD_TEST_SETTINGS)
    options = Options(
        shards=case.shards,
        workers=case.workers,
        listen_traders="127.0.0.1:0",
        listen_admin="127.0.0.1:0",
        engine=case.engine,
        log_level="warning",
    )
    happened: list[str] = []
    async with EmbeddedExchange(data, options, on_change=happened.append) as exchange:
        run = Run(case, exchange, sources, build(), say, apart=sources[0].markets[-1].market)
        trial = Trial(overload, exchange, run, sources)
        async with run.generator():
            await trial.all(say)
        audit = await run.audit()
    slow = [text for row in trial.rows for text in row.get("slow", [])]
    wrong = [f"died or stopped: {text}" for text in happened]
    wrong += [text for row in trial.rows for text in row.get("wrong", [])]
    wrong += [
        f"{phase['phase']}: {text} ({times:,} times)" for phase in run.phases for text, times in phase["errors"].items()
    ]
    if not audit.passed:
        wrong.append("the audit does not balance, or is not complete")
    return {"overload": asdict(overload), "rows": trial.rows, "wrong": wrong, "slow": slow, "passed": not wrong + slow}


def lines_of(result: Mapping[str, Any]) -> list[str]:
    """Return a result as people read it; the last line is the verdict."""
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in result["rows"]:
        cells = [row["load"]] + [f"{row[name]:,}" if name in row else "" for name in RATES]
        cells.append(", ".join(f"{reason} {count:,}" for reason, count in row.get("refused", {}).items()))
        refused = row.get("refused_ms")
        cells.append(f"{refused['p50']} / {refused['p99']}" if refused else "")
        probes = row.get("probes")
        if probes:
            cancels, orders = probes["cancels"], probes["orders"]
            cells += [
                f"{cancels['served']} of {cancels['sent']}",
                f"{cancels['p50_ms']} / {cancels['p99_ms']}",
                f"{orders['served']} of {orders['sent']}",
            ]
        else:
            cells += [""] * 3
        cells += [str(row.get(name, "")) for name in ("recovered_after_s", "settled_after_s")]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"attack in '{row['load']}': {row['attack']}" for row in result["rows"] if row.get("attack")]
    verdict = "passed: what was offered too much was refused or left to the sender, and nothing suffered"
    lines.append(verdict if result["passed"] else "FAILED: " + "; ".join(result["wrong"] + result["slow"]))
    return lines


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(prog="bench_overload", description=(__doc__ or "").partition("\n")[0])
    default = Overload()
    parser.add_argument("--seconds", type=float, default=default.seconds, help="of each load (%(default)s)")
    parser.add_argument("--factors", type=float, nargs="*", default=default.factors, help="multiples of the capacity")
    parser.add_argument("--attacks", nargs="*", default=default.attacks, help=f"{FORGED!r}, and kinds of attacks.py")
    parser.add_argument("--connections", type=int, default=default.connections, help="of the load (%(default)s)")
    parser.add_argument("--unary", action="store_true", help="Submit instead of SubmitStream")
    parser.add_argument("--per-signature", type=int, default=default.per_signature, help="orders (%(default)s)")
    parser.add_argument("--per-message", type=int, default=default.per_message, help="orders (%(default)s)")
    parser.add_argument("--workers", type=int, default=default.workers, help="of the ingress (%(default)s)")
    parser.add_argument("--json", type=Path, default=BUILD / "bench-overload.json", help="where the result goes")
    options = parser.parse_args()
    overload = Overload(
        seconds=options.seconds,
        factors=tuple(options.factors),
        attacks=tuple(options.attacks),
        connections=options.connections,
        stream=not options.unary,
        per_signature=options.per_signature,
        per_message=options.per_message,
        workers=options.workers,
    )
    folder = Path(tempfile.mkdtemp(prefix="clob-overload-"))
    kept = True
    try:
        result = asyncio.run(run_overload(overload, folder, lambda text: print(text, file=sys.stderr)))
        kept = not result["passed"]
    finally:
        if kept:
            print(f"logs and archive are in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"machine": machine(), **result}, indent=1))
    print("\n".join(lines_of(result)))
    sys.exit(0 if result["passed"] else 1)


if __name__ == "__main__":
    main()
