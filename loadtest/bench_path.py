"""Orders per second through the whole path: signed orders in, settled and audited money out, all on this machine.

    python -m loadtest.bench_path [--per-signature N ...] [--per-message N] [--percent P ...] [--rate R ...] [--set]

For each number of orders per signature a whole exchange starts in a scratch folder. The load generator
(loadtest/generator, in Rust) makes and signs orders before the clock starts; books are filled before it too. Then it
sends in a closed loop for so many seconds, some messages ahead of the answers: the clock stops when the last order is
settled. After that come open loops at parts of what was reached, or at given rates: latency counts from the planned
time of a message. Every run ends with the audit, and every acknowledged order is counted in the log: how, says
loadtest/path_case.py. What each process used of the processor is read from the operating system, the generator's share
beside it. `--set` runs what `make bench-path` runs.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import grpc

from exchange.config.environment import Durability
from exchange.embedded.bus_server import NoBusServerError
from exchange.embedded.child import ChildError
from exchange.embedded.demo import SetupError
from exchange.engine.choice import DEFAULT_ENGINE, ENGINES
from exchange.settlement.archive import ArchiveError
from loadtest.bench_core import HERE, BuildError
from loadtest.bench_reference import machine
from loadtest.generator_process import END_TO_END, STAGES, GeneratorError, Sending, build
from loadtest.path_case import BENCH, GENERATOR, Case, run_case
from loadtest.plots import Plots

BUILD: Final = HERE.parent / "build" / "bench-path"
SET_PER_SIGNATURE: Final = (512, 64, 1)
SET_PERCENTS: Final = (10, 50, 80)
SET_SECONDS: Final = 30.0
SINGLE_PER_MESSAGE: Final = 64
BATCHED_PER_MESSAGE: Final = 4_096
COMMANDS_IN_FLIGHT: Final = 32_768
"""Over all lanes, by default: an ingress worker takes 65,536 commands at once."""
MESSAGES_IN_FLIGHT: Final = 16
"""Of a lane, at most, by default."""
MIB: Final = 1024 * 1024

Row = dict[str, Any]


def cases_of(options: argparse.Namespace) -> list[Case]:
    """Return what the options ask for."""
    per_signatures = options.per_signature or (SET_PER_SIGNATURE if options.set else (1,))
    seconds = options.seconds if options.seconds is not None else SET_SECONDS if options.set else 60.0
    percents = options.percent if options.percent is not None else SET_PERCENTS if options.set else ()
    cases = []
    for per_signature in per_signatures:
        per_message = options.per_message or (SINGLE_PER_MESSAGE if per_signature == 1 else BATCHED_PER_MESSAGE)
        lanes = options.connections * options.shards
        fitting = COMMANDS_IN_FLIGHT // max(per_message, per_signature) // lanes
        sending = Sending(
            stream=not options.unary,
            connections=options.connections,
            in_flight=options.in_flight or max(1, min(MESSAGES_IN_FLIGHT, fitting)),
            per_signature=per_signature,
            per_message=per_message,
            seed=options.seed,
        )
        cases.append(
            Case(
                sending,
                shards=options.shards,
                workers=options.workers,
                durability=Durability(options.durability),
                engine=options.engine,
                markets=options.markets,
                traders=options.traders,
                resting_per_market=options.resting_per_market,
                seconds=seconds,
                orders=options.orders,
                point_s=options.point_seconds,
                percents=tuple(percents),
                rates=tuple(options.rate),
            )
        )
    return cases


def run(cases: Sequence[Case], say: Callable[[str], None]) -> list[Row]:
    """Run the cases, each in a scratch folder of its own, which stays when something was not as it should be.

    A case that could not be finished has no phases, and its error is among its failures.

    Raises:
        BuildError: cargo cannot build the load generator.
    """
    binary = build()
    results = []
    for case in cases:
        folder = Path(tempfile.mkdtemp(prefix="clob-bench-"))
        kept = True
        try:
            result = asyncio.run(run_case(case, folder, binary, say))
            kept = not result["passed"]
        except (ArchiveError, ChildError, GeneratorError, NoBusServerError, SetupError, grpc.RpcError) as error:
            failure = str(error.details() if isinstance(error, grpc.RpcError) else error)
            about = {"case": case.name, "per_signature": case.sending.per_signature}
            result = {**about, "phases": [], "passed": False, "failures": [failure]}
        finally:
            if kept:
                print(f"logs and archive are in {folder}", file=sys.stderr)
            else:
                shutil.rmtree(folder)
        print("\n".join(case_lines(result)), flush=True)
        results.append(result)
    return results


# --- text -----------------------------------------------------------------------------------------------------------


def case_lines(result: Row) -> list[str]:
    """Return a case as people read it; the last line is the verdict."""
    failures = [f"FAILED: {failure}" for failure in result["failures"]]
    if not result["phases"]:
        return [f"\n## {result['case']}\n", *failures]
    about = (
        f"durability {result['durability']}, {result['keys']:,} keys, {result['markets']:,} markets, "
        f"{result['resting']:,} orders resting, {result['shards']} shards, {result['workers']} workers, "
        f"{result['connections']} connections, {result['in_flight_per_lane']} messages in flight for each shard and "
        f"connection; engine {result['engine']}, bus {result['bus']}\n"
    )
    head = (
        "| phase | sent | refused | settled/s | trades an order | p50 ms | p99 ms | p99.9 ms | max ms | cores busy | "
        "us of CPU an order | of them the generator's |"
    )
    lines = [
        f"\n## {result['case']}\n",
        about,
        head,
        "| --- |" + " ---: |" * 11,
    ]
    for phase in result["phases"]:
        latency = phase["latency"].get(END_TO_END, {})
        per_million = phase["cpu_s_per_million"]
        cells = [
            f"{phase['sent']:,}",
            f"{sum(phase['counts']['refused'].values()):,}",
            f"{phase['orders_per_s_settled']:,}",
            f"{phase['trades_per_order']:.2f}",
            *(f"{latency.get(name, 0) / 1000:.2f}" for name in ("p50", "p99", "p99_9", "max")),
            f"{phase['cores_busy']:.2f}",
            *((f"{sum(per_million.values()):.2f}", f"{per_million[GENERATOR]:.2f}") if phase["executed"] else ("", "")),
        ]
        lines.append(f"| {phase['phase']} | " + " | ".join(cells) + " |")
    lines += ["", *cpu_lines(result["phases"]), "", *stage_lines(result["phases"]), "", *memory_lines(result["phases"])]
    counts = result["answers"]
    rejected = ", ".join(f"{reason} {count:,}" for reason, count in counts["rejected"].items()) or "none"
    refused = ", ".join(f"{reason} {count:,}" for reason, count in counts["refused"].items()) or "none"
    came_to = (
        f"all phases with the filling of the books: {counts['batches_executed']:,} batches executed, "
        f"{counts['accepted']:,} orders accepted, {counts['trades']:,} trades; rejected: {rejected}; "
        f"refused: {refused}"
    )
    lines += [
        "",
        came_to,
        *(
            f"{phase['phase']}: the prepared orders ran out after {phase['sending_s']:.1f} s"
            for phase in ran_out(result)
        ),
        *(
            f"{phase['phase']}: {phase['backwards']:,} times an order's stage ended before it began: clocks were set"
            for phase in result["phases"]
            if phase["backwards"]
        ),
        *failures,
    ]
    return [*lines, "passed: nothing lost, every order in the log, all balanced"] if result["passed"] else lines


def ran_out(result: Row) -> list[Row]:
    """Return the closed loops that ended because nothing was left to send."""
    return [phase for phase in result["phases"] if phase["phase"] == "closed" and not phase["left"]]


def table(head: str, names: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Return a table: a column of names, and one for each phase."""
    lines = [f"| {head} | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    return lines + [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows]


def cpu_lines(phases: Sequence[Row]) -> list[str]:
    """Return processor seconds per million orders by process and phase."""
    names = [name for name in phases[0]["cpu_s_per_million"] if name != BENCH]

    def cell(phase: Row, value: float | None) -> str:
        return f"{value:.3f}" if phase["executed"] and value is not None else ""

    rows = [(name, [cell(phase, phase["cpu_s_per_million"].get(name)) for phase in phases]) for name in names]
    rows.append(("all but the generator", [cell(phase, without_generator(phase)) for phase in phases]))
    return table("CPU s per million orders", [phase["phase"] for phase in phases], rows)


def without_generator(phase: Row) -> float:
    """Return the processor seconds per million orders of the exchange alone."""
    per_million = phase["cpu_s_per_million"]
    return float(sum(value or 0 for name, value in per_million.items() if name not in {GENERATOR, BENCH}))


def stage_lines(phases: Sequence[Row]) -> list[str]:
    """Return median and 99th percentile by stage and phase."""

    def cell(phase: Row, stage: str) -> str:
        found = phase["latency"].get(stage)
        return f"{found['p50'] / 1000:.2f} / {found['p99'] / 1000:.2f}" if found else ""

    stages = [stage for stage in STAGES if any(stage in phase["latency"] for phase in phases)]
    rows = [(stage, [cell(phase, stage) for phase in phases]) for stage in stages]
    return table("latency p50 / p99, ms", [phase["phase"] for phase in phases], rows)


def memory_lines(phases: Sequence[Row]) -> list[str]:
    """Return resident memory by process: at the start and at the end of each phase."""
    names = [name for name in phases[0]["memory_bytes"] if name != BENCH]

    def cell(phase: Row, name: str) -> str:
        samples = phase["memory_bytes"].get(name)
        return f"{samples[0][1] / MIB:,.0f} -> {samples[-1][1] / MIB:,.0f}" if samples else ""

    rows = [(name, [cell(phase, name) for phase in phases]) for name in names]
    return table("resident MiB, before -> after", [phase["phase"] for phase in phases], rows)


# --- plots ----------------------------------------------------------------------------------------------------------


def plot(result: Row, folder: Path) -> None:
    """Write throughput against latency, CPU by process and memory over time as SVG, where pygal is installed."""
    plots = Plots.open(folder, result["machine"])
    if plots is None:
        return
    how: Row = {"truncate_legend": -1, "truncate_label": -1}
    curve = plots.chart(
        "XY", "Latency by throughput, open loop", x_title="orders settled a second", y_title="end to end, ms", **how
    )
    for case in result["cases"]:
        points = [phase for phase in case["phases"] if phase["rate"] and END_TO_END in phase["latency"]]
        for quantile in ("p50", "p99"):
            curve.add(
                f"{case['per_signature']} a signature, {quantile}",
                [
                    (phase["orders_per_s_settled"], phase["latency"][END_TO_END][quantile] / 1000)
                    for phase in sorted(points, key=lambda phase: float(phase["rate"]))
                ],
            )
    plots.write(curve, "latency")
    closed = [
        (case, phase)
        for case in result["cases"]
        for phase in case["phases"]
        if phase["phase"] == "closed" and phase["executed"]
    ]
    used: list[dict[str, float]] = [phase["cpu_s_per_million"] for _, phase in closed]
    how["logarithmic"] = False
    bars = plots.chart(
        "StackedBar",
        "Processor time by process, closed loop",
        y_title="per cent of the CPU time",
        range=(0, 100),
        **how,
    )
    bars.x_labels = [
        f"{case['per_signature']} a signature: {sum(one.values()):.1f} s per million orders"
        for (case, _), one in zip(closed, used, strict=True)
    ]
    for name in [name for name in dict.fromkeys(name for one in used for name in one) if name != BENCH]:
        bars.add(name, [100 * one.get(name, 0) / max(1e-9, sum(one.values())) for one in used])
    plots.write(bars, "cpu")
    for case, phase in closed:
        title = f"Memory by process, closed loop, {case['case']}"
        lines = plots.chart("XY", title, x_title="seconds", y_title="resident MiB", show_dots=False, **how)
        memory: dict[str, list[tuple[float, int]]] = phase["memory_bytes"]
        for name, samples in memory.items():
            lines.add(name, [(at_s, resident / MIB) for at_s, resident in samples])
        plots.write(lines, f"memory-{case['per_signature']}")


# --- the command ----------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = made.add_argument
    add("--set", action="store_true", help="512, 64 and 1 orders per signature, open loops at 10, 50 and 80 percent")
    add("--per-signature", type=int, nargs="+", metavar="N", help="orders per signature (default: 1)")
    add("--per-message", type=int, metavar="N", help="orders per message (default: 64 where signed singly, else 4096)")
    add("--unary", action="store_true", help="one call for each message; else a stream for each shard and connection")
    add("--connections", type=int, default=1, help="connections to the ingress (default: 1)")
    add("--in-flight", type=int, default=0, help="messages of a stream ahead of the answers (default: what fits)")
    add("--seconds", type=float, help="how long a closed loop sends; 0: none (default: 60, in a set 30)")
    add("--orders", type=int, default=0, help="orders made ahead for it (default: as many as a short run shows)")
    add("--percent", type=int, nargs="+", metavar="P", help="open loops at so much of what the closed loop reached")
    add("--rate", type=float, nargs="+", default=[], metavar="R", help="open loops at so many orders a second")
    add("--point-seconds", type=float, default=20, help="how long an open loop sends (default: 20)")
    add("--markets", type=int, default=1_000, help="markets over all shards (default: 1000)")
    add("--traders", type=int, default=1_000, help="users with a key each (default: 1000)")
    add("--resting-per-market", type=int, default=10, help="orders that rest, on average (default: 10)")
    add("--shards", type=int, default=2, help="shards (default: 2)")
    add("--workers", type=int, default=1, help="verifying processes (default: 1)")
    add("--durability", choices=[durability.value for durability in Durability], default="memory")
    add("--engine", choices=sorted(ENGINES), default=DEFAULT_ENGINE)
    add("--seed", type=int, default=1, help="of the flow (default: 1)")
    add("--json", type=Path, metavar="FILE", help="write the figures to this file as well")
    add("--plots", type=Path, metavar="FOLDER", help="write plots to this folder as well")
    return made


def main() -> None:
    """Run the benchmark; exit with 1 when a case failed, or anything was lost or does not balance."""
    options = parser().parse_args()
    if options.seconds is not None and options.seconds <= 0 and (not options.rate or options.percent):
        parser().error("--seconds 0 is for --rate alone: --percent needs to know what the closed loop reaches")
    if options.set:
        options.json = options.json or BUILD / "bench-path.json"
        options.plots = options.plots or BUILD / "plots"
    about = {**machine(), "command": " ".join(["python -m loadtest.bench_path", *sys.argv[1:]])}
    about["load"] = " ".join(f"{load:.1f}" for load in os.getloadavg())
    print(
        f"{about['cpu']}; {about['python']}; commit {about['commit']}; load before {about['load']}; {about['command']}"
    )

    def say(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{text:<110.110}\r", end="", file=sys.stderr)

    try:
        result: Row = {"machine": about, "cases": run(cases_of(options), say)}
    except BuildError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    if options.plots is not None:
        plot(result, options.plots)
    if not all(case["passed"] for case in result["cases"]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
