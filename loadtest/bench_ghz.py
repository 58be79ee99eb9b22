"""The traders' port under ghz and the operators' HTTP under h2load, 1, 25 and 100 calls in flight.

An exchange of its own starts in a scratch folder, which stays when something was not as it should be, in an environment
for load tests, on free ports. `clob loadtest` prepares users, funds and signed payloads; every config in loadtest/ghz
is sent once for each number of calls in flight, with payloads that nobody sent before. What each process used of the
processor is read from the operating system before and after. Then the logs are read: every batch that was answered
must be in them, once, byte by byte, and nothing else; and the audit must balance.

ghz sees gRPC's status and not what became of a batch, so that the log alone says whether an OK was an execution.
"""

import argparse
import asyncio
import html
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from clob.v1 import frame_pb2, order_service_pb2, verification_service_pb2
from exchange.bus.client import AsyncBus
from exchange.cli.tables import draw_table
from exchange.cli.up import without_rates
from exchange.client.prepared import PreparedFolder, Stock, now_ms, read_delimited
from exchange.client.preparing import BALANCES, BATCH, BOOK, EXCHANGE, MANY, SINGLE, VERIFY
from exchange.config.environment import LOAD_TEST_SETTINGS, Durability
from exchange.embedded.data_dir import open_data_dir
from exchange.embedded.exchange import EmbeddedExchange, Options, cpu_seconds
from exchange.embedded.starter import STARTING_FUNDS, define_starter_set
from exchange.engine.choice import DEFAULT_ENGINE, ENGINES
from exchange.settlement.archive import Archive
from loadtest.bench_reference import machine

ROOT: Final = Path(__file__).parents[1]
CONFIGS: Final = ROOT / "loadtest" / "ghz"
TOOLS: Final = ROOT / ".tools" / "bin"
ENVIRONMENT: Final = "load"
MARKET: Final = "BTC-USD"
SIZE: Final = 64
IN_FLIGHT: Final = (1, 25, 100)
SUBMITS: Final = (SINGLE, BATCH, MANY)
NAMES: Final = (*SUBMITS, VERIFY, BOOK, BALANCES, EXCHANGE)
HTTP_PATHS: Final = {"http exchange": "/exchange", "http book": f"/markets/{MARKET}/book"}
BIG_PART: Final = 8
"""Messages of 64 orders are so many times fewer than those of one."""
CALLS_PER_CONNECTION: Final = 25
IDLE_S: Final = 2.0
RANGE: Final = 256
TOOL_S_MAX: Final = 600
INGRESS: Final = "ingress-verifier"
_H2LOAD_DONE: Final = re.compile(r"requests: \d+ total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed")
_H2LOAD_TIME: Final = re.compile(r"finished in ([\d.]+)(us|ms|s|m|h)")
_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class BenchError(RuntimeError):
    """The measurement cannot go on. The message says why and what to do."""


@dataclass
class Row:
    """One run.

    Attributes:
        calls: that were answered; `errors` of them with something else than OK, by what it was.
        commands: orders, of all calls together; zero: the call has none.
        calls_per_s: over the time on the clock.
        cpu_us_per_call: of all processes of the exchange; `ingress_us_per_call`: of ingress-verifier with its children.
        cpu_us: by process, tool included.
        latency_us: by percentile.
    """

    name: str
    in_flight: int
    calls: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    commands: int = 0
    seconds: float = 0.0
    calls_per_s: float = 0.0
    cpu_us_per_call: float = 0.0
    ingress_us_per_call: float = 0.0
    tool_us_per_call: float = 0.0
    cpu_us: dict[str, int] = field(default_factory=dict)
    latency_us: dict[str, int] = field(default_factory=dict)


class Sent:
    """What was sent and what is in the log, for the check afterwards.

    Attributes:
        answered: payloads of runs in which every call was OK.
        unsure: batches of runs in which some were not: they may be in the log or not.
        verified: batches that were to be verified only: none of them may be in the log.
    """

    def __init__(self) -> None:
        self.answered: set[bytes] = set()
        self.unsure: set[bytes] = set()
        self.verified: set[bytes] = set()
        self.ok_batches_min = 0
        """Batches of runs with errors that were answered with OK."""

    def failures(self, executed: Counter[bytes], refused: Counter[str]) -> list[str]:
        """Return what is wrong with a log, in sentences.

        Args:
            executed: payloads that the shard executed, with how often.
            refused: batches that it did not, by why.
        """
        found = []
        if missing := len(self.answered - executed.keys()):
            found.append(f"{missing:,} batches were answered with OK and are not executed in the log")
        if (unsure := len(self.unsure & executed.keys())) < self.ok_batches_min:
            found.append(f"{self.ok_batches_min - unsure:,} batches of runs with errors were OK and are not in the log")
        if doubled := sum(times > 1 for times in executed.values()):
            found.append(f"{doubled:,} batches are executed more than once")
        if let_on := len(self.verified & executed.keys()):
            found.append(f"{let_on:,} batches were to be verified and are in the log")
        if foreign := len(executed.keys() - self.answered - self.unsure - self.verified):
            found.append(f"{foreign:,} batches in the log were sent by nobody")
        found += [f"{count:,} batches in the log were refused: {reason}" for reason, count in sorted(refused.items())]
        return found


def find_tool(name: str) -> Path | None:
    """Return the path of a tool: ours, else the one on the PATH; None: there is none."""
    found = shutil.which(name, path=str(TOOLS)) or shutil.which(name)
    return Path(found) if found else None


# --- the run --------------------------------------------------------------------------------------------------------


class Bench:
    """One exchange and all runs against it."""

    def __init__(self, options: argparse.Namespace, exchange: EmbeddedExchange, ghz: Path, scratch: Path) -> None:
        self._options = options
        self._exchange = exchange
        self._ghz = ghz
        self._traders = exchange.traders
        self._h2load = find_tool("h2load")
        self._folder = PreparedFolder(scratch / "load")
        self.rows: list[Row] = []
        self.failures: list[str] = []
        self.idle_cores = 0.0
        self.executed = 0
        self.sent = Sent()

    async def run(self) -> None:
        """Prepare, run everything, check the ledger."""
        calls = {in_flight: self._calls(in_flight) for in_flight in self._options.in_flight}
        await self._prepare(calls.values())
        before = self._cpu()
        await asyncio.sleep(IDLE_S)
        self.idle_cores = sum(_used(before, self._cpu()).values()) / 1e6 / IDLE_S
        for name in self._options.only:
            for in_flight, small in calls.items():
                await self._run_ghz(name, in_flight, _part(name, small))
        if self._h2load is None:
            print("no h2load: HTTP is not measured (Debian: apt-get install nghttp2-client)")
        else:
            for name, path in HTTP_PATHS.items():
                for in_flight, small in calls.items():
                    await self._run_h2load(self._h2load, name, path, in_flight, small)
        await self._check_ledger()

    def _calls(self, in_flight: int) -> int:
        """Return how many calls are made with so many in flight: a few are slower, and give as good an average."""
        calls = self._options.calls if in_flight > 1 else max(1, self._options.calls // 4)
        # ghz and h2load want a call for each worker.
        return int(max(calls, in_flight * BIG_PART))

    async def _prepare(self, calls: Iterable[int]) -> None:
        calls = list(calls)
        small = sum(_part(SINGLE, count) for count in calls)
        big = sum(_part(BATCH, count) for count in calls)
        print(f"preparing {2 * small + big * (SIZE + 1):,} signatures", flush=True)
        self._clob(
            *("loadtest", "prepare", str(self._folder.root), "--traders", self._exchange.traders, "--market", MARKET),
            *("--users", str(self._options.users), "--size", str(SIZE), "--single", str(small)),
            *("--batch", str(big), "--many", str(big), "--verify", str(small)),
        )

    def _clob(self, *arguments: str) -> None:
        """Run a command of ours as an operator does."""
        command = [sys.executable, "-c", "from exchange.cli.main import main; main()", *arguments]
        done = subprocess.run(
            [*command, "--address", self._exchange.admin],
            capture_output=True,
            text=True,
            check=False,
            timeout=TOOL_S_MAX,
        )
        if done.returncode:
            raise BenchError(f"clob {' '.join(arguments[:2])}: {(done.stderr or done.stdout).strip()}")

    # --- one run ----------------------------------------------------------------------------------------------------

    async def _run_ghz(self, name: str, in_flight: int, calls: int) -> None:
        part = self._folder.take(ENVIRONMENT, now_ms(), name, calls)
        stock = self._folder.plan().stocks[name]
        # It has the token of the session until it is cleaned.
        report_file = self._folder.root / "report.json"
        command = [
            *(str(self._ghz), "--config", str(CONFIGS / f"{name}.toml"), "--binary-file", str(part)),
            *(("--metadata-file", str(self._folder.session_file)) if stock.session else ()),
            *("--total", str(calls), "--concurrency", str(in_flight)),
            *("--connections", str(-(-in_flight // CALLS_PER_CONNECTION))),
            *("--format", "json", "--output", str(report_file)),
            self._traders,
        ]
        row = Row(name, in_flight)
        await self._measured(row, command)
        report = cleaned(json.loads(report_file.read_bytes()))
        (self._options.out / "reports" / f"{name}-{in_flight}.json").write_text(json.dumps(report, indent=2) + "\n")
        row.seconds = report["total"] / 1e9
        row.calls = report["count"]
        statuses = report["statusCodeDistribution"] or {}
        row.errors = {status: count for status, count in statuses.items() if status != "OK"}
        row.latency_us = {
            f"p{entry['percentage']}": entry["latency"] // 1_000 for entry in report["latencyDistribution"] or []
        }
        row.commands = row.calls * stock.batches_per_message * stock.commands_per_batch
        self._count_sent(name, stock, part, row, statuses.get("OK", 0))
        self._finish(row)

    async def _run_h2load(self, h2load: Path, name: str, path: str, in_flight: int, calls: int) -> None:
        command = [
            *(str(h2load), "--h1", "--threads", "1", "--clients", str(in_flight), "--requests", str(calls)),
            f"http://{self._exchange.admin}{path}",
        ]
        row = Row(name, in_flight)
        said = await self._measured(row, command)
        done, took = _H2LOAD_DONE.search(said), _H2LOAD_TIME.search(said)
        if done is None or took is None:
            raise BenchError(f"h2load said something that is not understood: {said.strip()[-500:]}")
        row.calls = int(done[1]) + int(done[2])
        row.errors = {"failed": int(done[2])} if int(done[2]) else {}
        row.seconds = float(took[1]) * _UNITS[took[2]]
        self._finish(row)

    async def _measured(self, row: Row, command: list[str]) -> str:
        """Run a tool and put what everybody used of the processor in the row; return what the tool printed."""
        before = {**self._cpu(), "tool": _children_s()}
        try:
            done = await asyncio.to_thread(
                subprocess.run,
                command,
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
                timeout=TOOL_S_MAX,
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"{row.name}: the tool did not end; see the logs of the exchange") from None
        row.cpu_us = _used(before, {**self._cpu(), "tool": _children_s()})
        if done.returncode:
            raise BenchError(f"{row.name}: {(done.stderr or done.stdout).strip()[-1000:]}")
        return str(done.stdout)

    def _finish(self, row: Row) -> None:
        calls = max(1, row.calls)
        row.calls_per_s = row.calls / max(row.seconds, 1e-9)
        row.tool_us_per_call = row.cpu_us["tool"] / calls
        row.cpu_us_per_call = (sum(row.cpu_us.values()) - row.cpu_us["tool"]) / calls
        row.ingress_us_per_call = row.cpu_us[INGRESS] / calls
        self.rows.append(row)
        self.failures += [
            f"{row.name} with {row.in_flight} in flight: {count:,} of {row.calls:,} calls ended with {status}"
            for status, count in row.errors.items()
        ]
        print(f"{row.name:<14} {row.in_flight:>4} in flight: {row.calls_per_s:>9,.0f} calls/s", flush=True)

    def _cpu(self) -> dict[str, float]:
        return {running.name: cpu_seconds(running.pid) for running in self._exchange.running()}

    # --- the ledger -------------------------------------------------------------------------------------------------

    def _count_sent(self, name: str, stock: Stock, part: Path, row: Row, ok: int) -> None:
        if stock.reads:
            return
        request = verification_service_pb2.VerifyRequest if name == VERIFY else order_service_pb2.SubmitRequest
        messages = [request.FromString(message) for message in read_delimited(part.read_bytes())]
        # Otherwise ghz would have begun again with the first, and nonces repeated.
        if row.calls != len(messages):
            self.failures.append(
                f"{name} with {row.in_flight} in flight: {row.calls:,} calls of {len(messages):,} payloads"
            )
        sent = {batch.payload for message in messages for batch in message.batches}
        if name == VERIFY:
            self.sent.verified |= sent
        elif ok == row.calls:
            self.sent.answered |= sent
        else:
            self.sent.unsure |= sent
            self.sent.ok_batches_min += ok * stock.batches_per_message

    async def _check_ledger(self) -> None:
        print("checking the ledger", flush=True)
        try:
            self._clob("audit", "--settle", "--timeout", "120")
        except BenchError as error:
            self.failures.append(str(error))
        # Readers of the archive repair its end, so that what is being written is read in a copy.
        executed, refused = await read_log(
            self._exchange.redis_addr,
            self._exchange.data.archive,
            self._folder.root / "archive",
            self._folder.plan().shard,
        )
        self.executed = executed.total()
        self.failures += self.sent.failures(executed, refused)


async def read_log(
    redis_addr: str, archive_folder: Path, copy: Path, shard: int
) -> tuple[Counter[bytes], Counter[str]]:
    """Return the payloads of a shard's log that were executed, with how often, and reasons of those that were not.

    Args:
        redis_addr: of the bus, which has the end of the log.
        archive_folder: which has its beginning.
        copy: where the archive may be copied to.
        shard: whose log.

    Raises:
        BenchError: a part of the log is neither on the bus nor in the archive.
    """
    bus, tag = AsyncBus.connect(redis_addr), f"s{shard}"
    executed: Counter[bytes] = Counter()
    refused: Counter[str] = Counter()
    try:
        head = await bus.head(tag)
        assert head is not None, f"shard {shard} has executed orders and is not on the bus"
        if head.trimmed_n:
            shutil.copytree(archive_folder, copy)
            archive = Archive(copy, shard, is_durable=False)
            if archive.first_n > 1 or archive.last_n < head.trimmed_n:
                raise BenchError(
                    f"the log of shard {shard} has gone from the bus up to {head.trimmed_n:,}, and the archive has "
                    f"{archive.first_n:,} to {archive.last_n:,} of it; ask for fewer calls"
                )
            for entry in archive.read_range(1, head.trimmed_n):
                _count_entry(entry.orders.order_frame, entry.executions.frame, executed, refused)
            archive.close()
        for first in range(head.trimmed_n + 1, head.executions_n + 1, RANGE):
            last = min(first + RANGE - 1, head.executions_n)
            orders = await bus.orders_range(tag, first, last)
            executions = await bus.executions_range(tag, first, last)
            for order, answer in zip(orders, executions, strict=True):
                _count_entry(order.order_frame, answer.frame, executed, refused)
    finally:
        await bus.close()
    return executed, refused


def _count_entry(order_frame: bytes, execution_frame: bytes, executed: Counter[bytes], refused: Counter[str]) -> None:
    batches = frame_pb2.OrderFrame.FromString(order_frame).batches
    for event in frame_pb2.ExecutionFrame.FromString(execution_frame).events:
        if event.WhichOneof("event") != "batch_result":
            continue
        result = event.batch_result
        if result.repeat_n:
            refused["it repeats another"] += 1
        elif result.reason:
            refused[f"reject reason {result.reason}"] += 1
        else:
            executed[batches[result.batch - 1].payload] += 1


# --- small things ---------------------------------------------------------------------------------------------------


def _part(name: str, calls: int) -> int:
    """Return how many calls of a name are made where so many of a small one are."""
    return calls // BIG_PART if name in (BATCH, MANY) else calls


def _children_s() -> float:
    """Return the processor seconds of the children of this process that have ended: of the tools."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _used(before: dict[str, float], after: dict[str, float]) -> dict[str, int]:
    return {name: int((after[name] - before[name]) * 1e6) for name in before if name in after}


def cleaned(report: dict[str, Any]) -> dict[str, Any]:
    """Return ghz's report without its metadata, which has the token of the session, and without a row for each call."""
    options = {key: value for key, value in report.get("options", {}).items() if key != "metadata"}
    return {**{key: value for key, value in report.items() if key != "details"}, "options": options}


# --- reports --------------------------------------------------------------------------------------------------------

HEADERS: Final = (
    "CALL",
    "IN FLIGHT",
    "CALLS",
    "CALLS/S",
    "ORDERS/S",
    "CPU US/CALL",
    "INGRESS",
    "TOOL",
    "P50 US",
    "P99 US",
)
SIDES: Final = "lrrrrrrrrr"


def cells(row: Row) -> tuple[object, ...]:
    """Return a row of the table."""
    orders = f"{row.commands / row.seconds:,.0f}" if row.commands and row.name != VERIFY else None
    times = (f"{row.latency_us[name]:,}" if name in row.latency_us else None for name in ("p50", "p99"))
    figures = (row.cpu_us_per_call, row.ingress_us_per_call, row.tool_us_per_call)
    return (
        *(row.name, row.in_flight, f"{row.calls:,}", f"{row.calls_per_s:,.0f}", orders),
        *(f"{figure:,.0f}" for figure in figures),
        *times,
    )


def text_of(report: dict[str, Any], rows: Sequence[Row]) -> str:
    """Return the report as people read it; the last line is the verdict."""
    about = report["machine"]
    lines = [
        f"{about['cpu']}; {about['python']}; commit {about['commit']}; engine {report['engine']}; {platform.system()}",
        "gRPC: traders' port, by ghz; http: operators' port, by h2load",
        f"CPU: all processes of the exchange, {report['idle_cores'] * 100:.0f} % of a core when idle included",
        "",
        *draw_table(HEADERS, map(cells, rows), SIDES),
        "",
        *(f"FAILED: {failure}" for failure in report["failures"]),
    ]
    if report["passed"]:
        lines.append(f"every answered batch is in the log, once: {report['executed_batches']:,}; all balanced")
    return "\n".join(lines)


def page_of(report: dict[str, Any], rows: Sequence[Row], reports: Iterable[Path]) -> str:
    """Return the report as one page that needs nothing from elsewhere: the table, then each run of ghz."""
    table = _html_table(HEADERS, map(cells, rows))
    parts = [_html_run(path.stem, json.loads(path.read_bytes())) for path in sorted(reports)]
    verdict = "".join(f"<p class=bad>FAILED: {html.escape(failure)}</p>" for failure in report["failures"])
    if report["passed"]:
        verdict = f"<p>Every answered batch is in the log, once: {report['executed_batches']:,}. All balanced.</p>"
    about = html.escape(f"{report['machine']['cpu']}; commit {report['machine']['commit']}; engine {report['engine']}")
    return (
        "<!doctype html><meta charset=utf-8><title>clob under ghz</title><style>body{font:14px sans-serif;margin:2em}"
        "td,th{padding:2px 10px;text-align:right}td:first-child{text-align:left}.bad{color:#b00}"
        ".bar{background:#69c;height:10px}</style>"
        f"<h1>clob under ghz</h1><p>{about}</p>{verdict}{table}{''.join(parts)}\n"
    )


def _html_run(name: str, report: dict[str, Any]) -> str:
    buckets = report["histogram"] or []
    most = max((bucket["count"] for bucket in buckets), default=1) or 1
    rows = "".join(
        f"<tr><td>{bucket['mark'] * 1e3:,.2f} ms<td>{bucket['count']:,}"
        f"<td><div class=bar style='width:{bucket['count'] * 400 // most}px'></div>"
        for bucket in buckets
    )
    percentiles = _html_table(
        ("percentile", "ms"),
        (
            (f"{entry['percentage']} %", f"{entry['latency'] / 1e6:,.2f}")
            for entry in report["latencyDistribution"] or []
        ),
    )
    link = f"<a href='reports/{name}.json'>JSON</a>"
    return (
        f"<h2>{html.escape(name)}</h2><p>{report['count']:,} calls, {report['rps']:,.0f} a second; {link}</p>"
        f"{percentiles}<table>{rows}</table>"
    )


def _html_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{html.escape(name)}" for name in headers)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape('' if cell is None else str(cell))}" for cell in row) for row in rows
    )
    return f"<table><tr>{head}{body}</table>"


def write_reports(out: Path, report: dict[str, Any], rows: Sequence[Row]) -> None:
    """Write summary.json, summary.txt and index.html beside the reports of ghz."""
    (out / "summary.json").write_text(json.dumps(report, indent=2) + "\n")
    (out / "summary.txt").write_text(text_of(report, rows) + "\n")
    (out / "index.html").write_text(page_of(report, rows, (out / "reports").glob("*.json")))


# --- the command ----------------------------------------------------------------------------------------------------


async def run(options: argparse.Namespace, ghz: Path, scratch: Path) -> tuple[dict[str, Any], list[Row]]:
    """Run everything; return the report and its rows."""
    data = open_data_dir(
        scratch / "data",
        environment=ENVIRONMENT,
        durability=Durability(options.durability),
        starting_funds=STARTING_FUNDS,
        settings=LOAD_TEST_SETTINGS,
    )
    running = Options(
        shards=1,
        workers=options.workers,
        listen_traders="127.0.0.1:0",
        listen_admin="127.0.0.1:0",
        engine=options.engine,
        log_level="warning",
        extra={INGRESS: without_rates()},
    )
    happened: list[str] = []
    async with EmbeddedExchange(data, running, on_change=happened.append) as exchange:
        await define_starter_set(exchange.admin)
        bench = Bench(options, exchange, ghz, scratch)
        started = time.monotonic()
        await bench.run()
    bench.failures += [f"died or stopped: {text}" for text in happened]
    report = {
        "machine": {**machine(), "command": " ".join(["python -m loadtest.bench_ghz", *sys.argv[1:]])},
        "cores": os.cpu_count(),
        "engine": options.engine,
        "durability": options.durability,
        "workers": options.workers,
        "calls": options.calls,
        "seconds": round(time.monotonic() - started, 1),
        "idle_cores": round(bench.idle_cores, 3),
        "executed_batches": bench.executed,
        "rows": [asdict(row) for row in bench.rows],
        "failures": bench.failures,
        "passed": not bench.failures,
    }
    return report, bench.rows


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.split(","))
    if not numbers or min(numbers) < 1 or len(set(numbers)) < len(numbers):
        raise ValueError
    return numbers


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(NAMES):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    return names


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the measurement and return its report; exit with 2 when it cannot be made."""
    parser = argparse.ArgumentParser(prog="bench_ghz", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=2_000, help="calls of one order a run (default: 2000)")
    parser.add_argument(
        "--in-flight", type=_numbers, default=IN_FLIGHT, metavar="N,...", help="calls at once (default: 1,25,100)"
    )
    parser.add_argument("--only", type=_names, default=NAMES, metavar="NAME,...", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--users", type=int, default=100, help="who sign (default: 100)")
    parser.add_argument("--workers", type=int, default=1, help="verifying processes (default: 1)")
    parser.add_argument("--durability", choices=[durability.value for durability in Durability], default="memory")
    parser.add_argument("--engine", choices=sorted(ENGINES), default=DEFAULT_ENGINE)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "ghz", metavar="DIR", help="(default: build/ghz)")
    options = parser.parse_args(arguments)
    for name in ("calls", "users", "workers"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)}: 1 is the least")
    ghz = find_tool("ghz")
    if ghz is None:
        parser.error("there is no ghz in .tools/bin or on the PATH: `make loadtest-tools` installs it (needs Go)")
    options.out = options.out.absolute()
    shutil.rmtree(options.out / "reports", ignore_errors=True)
    (options.out / "reports").mkdir(parents=True)
    scratch = Path(tempfile.mkdtemp(prefix="clob-ghz-"))
    kept = True
    try:
        report, rows = asyncio.run(run(options, ghz, scratch))
        kept = not report["passed"]
    except BenchError as error:
        parser.error(str(error))
    finally:
        if kept:
            print(f"logs, archive and what was prepared are in {scratch}", file=sys.stderr)
        else:
            shutil.rmtree(scratch)
    write_reports(options.out, report, rows)
    print(f"\n{text_of(report, rows)}\n{options.out / 'index.html'}")
    return report


if __name__ == "__main__":
    if not main()["passed"]:
        raise SystemExit(1)
