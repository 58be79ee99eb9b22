"""`clob demo`: the main job in one process, from signed orders to audited balances."""

import json
import sys
from typing import Final

import click

from exchange.engine.choice import ENGINES, engine_named
from exchange.flow.lobster import LobsterError
from exchange.local.demo import Report, ShardReport, Stage, run_demo
from exchange.local.demo_sources import SampleDataError, Source, find_lobster_pair, lobster_source, seeded_source
from exchange.settlement.audit import AuditLine

EXIT_UNBALANCED: Final = 1
SEED_MAX: Final = 2**64 - 1


@click.command("demo")
@click.option(
    "--orders", type=click.IntRange(1), default=20_000, show_default=True, help="Messages to take from each flow."
)
@click.option("--seed", type=click.IntRange(0, SEED_MAX), default=1, show_default=True, help="Of the seeded flow.")
@click.option("--engine", type=click.Choice(sorted(ENGINES)), default="reference", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def demo(orders: int, seed: int, engine: str, as_json: bool) -> None:
    """Sign, verify, frame, chain, match and settle order flow, and audit the balances, without a network.

    One shard trades a seeded flow. Another trades a recorded day, where the folder that CLOB_SAMPLE_DATA names, or
    shared/data beside the repository, has a LOBSTER pair.

    Exit code 0: the audit is balanced, books and replays are equal; 1: something is not; 2: the input cannot be used.
    """
    factory = engine_named(engine)
    try:
        pair = find_lobster_pair(orders)
        sources: list[Source] = [lobster_source(pair, orders)] if pair else []
        _say("making the seeded flow")
        sources.append(seeded_source(seed, orders, factory))
        report = run_demo(factory, sources, lambda name, done: _say(f"{name}: {done:,} messages"))
    except (SampleDataError, LobsterError) as error:
        raise click.UsageError(str(error)) from error
    _say("")
    click.echo(json.dumps(report.as_json(), indent=2) if as_json else report_text(report))
    if not report.passed:
        sys.exit(EXIT_UNBALANCED)


def _say(text: str) -> None:
    """Show on a terminal how far it is, in place."""
    if sys.stderr.isatty():
        click.echo(f"\r{text:<110.110}\r", nl=False, err=True)


def report_text(report: Report) -> str:
    """Return the report as people read it; the last line is the verdict of the audit."""
    lines = []
    for shard in report.shards:
        lines += [*_shard_lines(shard, report.symbols), ""]
    if len(report.shards) == 1:
        pair = "a LOBSTER pair, *message*.csv[.gz] and *orderbook*.csv[.gz]"
        lines += [f"no recorded flow: CLOB_SAMPLE_DATA names no folder with {pair}", ""]
    lines += _audit_lines(report)
    return "\n".join(lines)


def _shard_lines(shard: ShardReport, symbols: dict[int, str]) -> list[str]:
    rejected = ", ".join(f"{reason.name} {count:,}" for reason, count in sorted(shard.rejected.items()))
    volume = ", ".join(f"{units:,} units of {symbols[asset]}" for asset, units in sorted(shard.volume_units.items()))
    cpu = [(stage.value, shard.cpu_ns_per_command(stage)) for stage in Stage]
    cpu.append(("all", sum(ns for _, ns in cpu)))
    facts = [
        ("messages", f"{shard.messages:,} in {shard.batches:,} signed batches, {shard.frames:,} frames"),
        (
            "at the door",
            f"{shard.refused_at_door:,} forged batch refused, {shard.repeats:,} repeated not executed again",
        ),
        ("commands", f"{shard.commands:,}, of which {shard.accepted:,} accepted; orders {shard.orders:,}"),
        ("rejected", f"{shard.rejected.total():,}" + (f": {rejected}" if rejected else "")),
        ("trades", f"{shard.trades:,}" + (f", {volume}" if volume else "")),
        ("events", f"{shard.events:,}"),
        ("CPU us per command", ", ".join(f"{name} {ns // 1000}.{ns % 1000 // 100}" for name, ns in cpu)),
    ]
    if shard.books_compared:
        facts.append(("book is the recorded one", f"after {shard.books_equal:,} of {shard.books_compared:,} frames"))
    replay = "same bytes, same hashes" if shard.replay_equal else "NOT EQUAL"
    facts += [
        ("chain hash", shard.chain_hash.hex()),
        ("state hash", shard.state_hash.hex()),
        ("restored from half-way", f"{shard.replayed_frames:,} frames executed again: {replay}"),
    ]
    return [f"shard {shard.shard}: {shard.source}", *(f"  {name:<25} {value}" for name, value in facts)]


def _audit_lines(report: Report) -> list[str]:
    shown = [line for line in report.audit.lines if _has_moved(line)]
    lines = ["audit, per asset: treasury + open withdrawals + transit + shards + fees = deposits - payments"]
    for line in shown:
        parts = (line.treasury_units, line.open_withdrawal_units, line.transit_units, line.shard_units, line.fee_units)
        verdict = "ok" if not line.difference_units else f"DIFFERENCE {line.difference_units:,}"
        lines.append(
            f"  {report.symbols[line.asset]:<8} {' + '.join(f'{units:,}' for units in parts)}"
            f" = {line.in_units:,} - {line.out_units:,}  {verdict}"
        )
    still = len(report.audit.lines) - len(shown)
    if still:
        lines.append(f"  and {still} assets that neither left the shards nor paid a fee, all ok")
    lines += [
        f"  shard {found.shard}, {found.what}: the ledger has {found.ledger}, the engine {found.engine}"
        for found in report.audit.differences
    ]
    failed = [shard.shard for shard in report.shards if not shard.passed]
    if failed:
        lines.append(f"replay or book not equal in shard {', '.join(map(str, failed))}")
    lines.append("audit: balanced" if report.audit.balanced else "audit: NOT BALANCED")
    return lines


def _has_moved(line: AuditLine) -> bool:
    """Return whether there is more to say than that the shards have what was deposited."""
    return bool(line.difference_units or line.shard_units != line.in_units)
