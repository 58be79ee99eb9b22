"""`clob demo`: the main job through every service, from signed orders to audited balances."""

import asyncio
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import click
import grpc
from hdrh.histogram import HdrHistogram

from clob.v1 import settlement_service_pb2
from exchange.config.environment import Durability
from exchange.embedded.bus_server import NoBusServerError
from exchange.embedded.child import ChildError
from exchange.embedded.demo import DemoReport, SetupError, run_demo
from exchange.embedded.demo_flow import SampleDataError, Source, find_lobster_pair, lobster_source, seeded_source
from exchange.embedded.flow_sender import STAGES, Tally
from exchange.engine.choice import DEFAULT_ENGINE, ENGINES, describe, engine_named
from exchange.flow.lobster import LobsterError
from exchange.flow.seeded import ACCOUNTS_PER_MARKET, MARKETS_MAX

EXIT_FAILED: Final = 1
SEED_MAX: Final = 2**64 - 1
SEEDED_SHARDS: Final = 2
LOBSTER_SHARD: Final = 3
PERCENTILES: Final = (50, 90, 99)


@click.command("demo")
@click.option(
    "--orders", type=click.IntRange(1), default=40_000, show_default=True, help="Orders of the seeded flow, in all."
)
@click.option(
    "--rows", type=click.IntRange(1), default=10_000, show_default=True, help="Most rows of the recorded day."
)
@click.option(
    "--markets",
    type=click.IntRange(SEEDED_SHARDS, MARKETS_MAX),
    default=MARKETS_MAX,
    show_default=True,
    help="To create.",
)
@click.option(
    "--traders",
    type=click.IntRange(max(ACCOUNTS_PER_MARKET, 24)),
    default=1_000,
    show_default=True,
    help="Users, each with a key and funds of its own.",
)
@click.option("--seed", type=click.IntRange(0, SEED_MAX), default=1, show_default=True, help="Of the seeded flow.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that verify.")
@click.option(
    "--durability",
    type=click.Choice([durability.value for durability in Durability]),
    default=Durability.MEMORY.value,
    show_default=True,
)
@click.option("--engine", type=click.Choice(sorted(ENGINES)), default=DEFAULT_ENGINE, show_default=True)
@click.option("--keep", is_flag=True, help="Keep the scratch folder with logs, database and checkpoints.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def demo(
    orders: int,
    rows: int,
    markets: int,
    traders: int,
    seed: int,
    workers: int,
    durability: str,
    engine: str,
    keep: bool,
    as_json: bool,
) -> None:
    """Run a whole exchange on free ports in a scratch folder, send real order flow through it, and audit it.

    Two shards trade a seeded flow over all markets, every order signed on its own. A third trades a recorded day, where
    the folder that CLOB_SAMPLE_DATA names, or shared/data beside the repository, has a LOBSTER pair.

    Exit code 0: nothing is lost, everything balances; 1: something is not as it should be; 2: the input cannot be used.
    """
    try:
        sources = _sources(orders, rows, markets, traders, seed, engine)
    except (SampleDataError, LobsterError) as error:
        raise click.UsageError(str(error)) from error
    folder = Path(tempfile.mkdtemp(prefix="clob-demo-"))
    kept = keep
    try:
        report = asyncio.run(
            run_demo(
                folder,
                sources,
                traders=traders,
                workers=workers,
                durability=Durability(durability),
                engine=engine,
                say=_say,
            )
        )
        kept = keep or bool(report.failures)
    except (ChildError, NoBusServerError, SetupError, grpc.RpcError) as error:
        kept = True
        detail = error.details() if isinstance(error, grpc.RpcError) else error
        click.echo(f"Error: {detail}; the logs are in {folder / 'logs'}", err=True)
        sys.exit(EXIT_FAILED)
    finally:
        if not kept:
            shutil.rmtree(folder)
    _say("")
    click.echo(json.dumps(report_json(report), indent=2) if as_json else report_text(report))
    if kept:
        click.echo(f"logs, database and checkpoints are in {folder}", err=True)
    if report.failures:
        sys.exit(EXIT_FAILED)


def _sources(orders: int, rows: int, markets: int, traders: int, seed: int, engine: str) -> list[Source]:
    factory = engine_named(engine)
    pair = find_lobster_pair(rows)
    sources = []
    for place in range(SEEDED_SHARDS):
        first = 1 + markets * place // SEEDED_SHARDS
        count = 1 + markets * (place + 1) // SEEDED_SHARDS - first
        part = orders * (place + 1) // SEEDED_SHARDS - orders * place // SEEDED_SHARDS
        if part:
            _say(f"making the seeded flow of shard {place + 1}: {part:,} orders")
            sources.append(seeded_source(seed + place, part, place + 1, first, count, traders, factory))
    if pair is not None:
        # Asset numbers of the seeded flows end one after the markets'.
        sources.append(lobster_source(pair, rows, len(sources) + 1, markets + 1, markets + 2))
    return sources


def _say(text: str) -> None:
    """Show on a terminal how far it is, in place."""
    if sys.stderr.isatty():
        click.echo(f"\r{text:<110.110}\r", nl=False, err=True)


# --- text -----------------------------------------------------------------------------------------------------------


def report_text(report: DemoReport) -> str:
    """Return the report as people read it; the last line is the verdict."""
    lines = [f"flow       {name}" for name in report.sources]
    if report.recorded is None:
        pair = "a LOBSTER pair, *message*.csv[.gz] and *orderbook*.csv[.gz]"
        lines.append(
            f"           no recorded flow: neither CLOB_SAMPLE_DATA nor ../shared/data is a folder with {pair}"
        )
    lines += [f"engine     {describe(report.engine)}", f"bus        {report.bus}", ""]
    lines += [f"set up     {name:<32} {seconds:7.1f} s" for name, seconds in report.setup_s.items()]
    lines.append("")
    lines += _tally_lines("seeded", report.seeded, report.symbols)
    if report.recorded is not None:
        lines += _tally_lines("recorded", report.recorded, report.symbols)
        equal = {True: "is the recorded one", False: "is NOT the recorded one", None: "was not compared"}
        lines += [f"  {'book at the end':<18} {equal[report.book_equal]}", ""]
    lines += [
        "at the door  " + "; ".join(f"{name} batch: {became}" for name, became in report.at_the_door.items()),
        "",
    ]
    lines += _latency_lines(report)
    lines += _cpu_lines(report)
    lines += _audit_lines(report)
    lines += [f"FAILED: {failure}" for failure in report.failures] or [
        "passed: nothing lost, nothing doubled, all balanced"
    ]
    return "\n".join(lines)


def _tally_lines(name: str, tally: Tally, symbols: dict[int, str]) -> list[str]:
    rejected = ", ".join(f"{reason.name} {count:,}" for reason, count in tally.rejected.most_common())
    refused = ", ".join(f"{reason} {count:,}" for reason, count in tally.refused.most_common())
    volume = sorted(tally.volume_units.items(), key=lambda item: -item[1])
    most = ", ".join(f"{units:,} {symbols.get(asset, asset)} units" for asset, units in volume[:2])
    share = tally.trades / max(1, tally.sent)
    return [
        f"{name} flow, every order signed on its own",
        f"  {'orders in':<18} {tally.sent:,}",
        f"  {'accepted':<18} {tally.accepted:,} ({tally.accepted / max(1, tally.sent):.1%})",
        f"  {'rejected':<18} {tally.rejected.total():,}" + (f": {rejected}" if rejected else ""),
        *([f"  {'refused':<18} {tally.refused.total():,}: {refused}"] if refused else []),
        f"  {'without outcome':<18} {tally.lost:,}",
        f"  {'trades':<18} {tally.trades:,} ({share:.1%} of the orders)",
        f"  {'volume':<18} {most or 'none'}" + (f" and {len(volume) - 2} more assets" if len(volume) > 2 else ""),
        f"  {'orders a second':<18} {tally.sent / tally.seconds:,.0f}",
        "",
    ]


def _latency(report: DemoReport, stage: str) -> HdrHistogram:
    merged = HdrHistogram(1, 60_000_000, 3)
    for tally in report.tallies:
        merged.add(tally.latency[stage])
    return merged


def _latency_lines(report: DemoReport) -> list[str]:
    lines = [f"{'latency, ms':<24}" + "".join(f"{name:>9}" for name in ("p50", "p90", "p99", "max"))]
    for stage, _, _ in STAGES:
        values = _latency(report, stage)
        shown = [*(values.get_value_at_percentile(rank) for rank in PERCENTILES), values.get_max_value()]
        lines.append(f"  {stage:<22}" + "".join(f"{value / 1000:9.2f}" for value in shown))
    return [
        *lines,
        "  (under full load: the sender keeps messages of 64 orders waiting; benchmark-client measures at a rate)",
        "",
    ]


def _cpu_lines(report: DemoReport) -> list[str]:
    orders = max(1, sum(tally.sent for tally in report.tallies))
    total = sum(report.cpu_us.values())
    lines = [f"{'CPU time':<34} {'s':>8} {'us an order':>12}"]
    lines += [f"  {name:<32} {us / 1e6:8.2f} {us / orders:12.1f}" for name, us in report.cpu_us.items()]
    return [
        *lines,
        f"  {'all':<32} {total / 1e6:8.2f} {total / orders:12.1f}",
        "",
        f"{orders / max(0.001, report.settled_s):,.0f} orders a second, first sent to last settled and audited:",
        f"{orders:,} in {report.settled_s:.1f} s",
        "",
    ]


def _audit_lines(report: DemoReport) -> list[str]:
    lines = ["audit, per asset: treasury + transit + shards + fees = deposits - withdrawals"]
    moved = [line for line in report.audit.lines if line.fees_units or line.difference_units or line.transit_units]
    for line in moved[:6]:
        parts = (line.treasury_units, line.transit_units, line.shards_units, line.fees_units)
        verdict = "ok" if not line.difference_units else f"DIFFERENCE {line.difference_units:,}"
        lines.append(
            f"  {line.symbol:<8} {' + '.join(f'{units:,}' for units in parts)} = {line.deposited_units:,} - "
            f"{line.withdrawn_units:,}  {verdict}"
        )
    rest = len(report.audit.lines) - len(moved[:6])
    unequal = sum(1 for line in report.audit.lines if line.difference_units)
    if rest:
        lines.append(f"  and {rest:,} more assets; {unequal:,} of all differ")
    lines.append("audit: balanced, complete" if report.audit.passed else "audit: NOT PASSED")
    return [*lines, ""]


# --- JSON -----------------------------------------------------------------------------------------------------------


def report_json(report: DemoReport) -> dict[str, Any]:
    """Return the report for --json."""
    return {
        "passed": not report.failures,
        "failures": report.failures,
        "sources": report.sources,
        "engine": report.engine,
        "bus": report.bus,
        "markets": report.markets,
        "traders": report.traders,
        "setup_s": {name: round(seconds, 3) for name, seconds in report.setup_s.items()},
        "seeded": _tally_json(report.seeded),
        "recorded": _tally_json(report.recorded) if report.recorded is not None else None,
        "book_equal": report.book_equal,
        "at_the_door": report.at_the_door,
        "latency_us": {
            stage: {
                **{f"p{rank}": _latency(report, stage).get_value_at_percentile(rank) for rank in PERCENTILES},
                "max": _latency(report, stage).get_max_value(),
            }
            for stage, _, _ in STAGES
        },
        "cpu_us": report.cpu_us,
        "settled_s": round(report.settled_s, 3),
        "audit": {
            "passed": report.audit.passed,
            "assets": len(report.audit.lines),
            "differing": _differing(report.audit),
        },
        "left_behind": report.left_behind,
    }


def _differing(audit: settlement_service_pb2.AuditResponse) -> list[dict[str, Any]]:
    return [
        {"asset": line.asset, "difference_units": line.difference_units}
        for line in audit.lines
        if line.difference_units
    ]


def _tally_json(tally: Tally) -> dict[str, Any]:
    return {
        "sent": tally.sent,
        "executed": tally.executed,
        "accepted": tally.accepted,
        "rejected": {reason.name: count for reason, count in tally.rejected.items()},
        "refused": dict(tally.refused),
        "lost": tally.lost,
        "trades": tally.trades,
        "volume_units": {str(asset): units for asset, units in tally.volume_units.items()},
        "orders_per_second": round(tally.sent / tally.seconds),
    }
