"""Commands per second on an engine, flow by flow, on one core: no network, no signatures, no settlement.

Every flow is made first. Then a fresh engine executes its frames while processor time is taken. What of it is decoding
(bytes of the entry to parsed commands) and encoding (events to bytes, hashes) is measured by doing these alone on the
same entries and answers; the rest is the engine's own work.
"""

import argparse
import gc
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from exchange.domain.commands import Command
from exchange.domain.events import CommandRejected, Trade
from exchange.domain.frames import ExecutionFrame
from exchange.domain.operations import Transfer
from exchange.embedded.demo_flow import find_lobster_pair, lobster_source
from exchange.engine.choice import ENGINES, engine_named
from exchange.engine.port import EngineFactory, RawEntry
from exchange.flow.seeded import CROSSING, QUIET, REALISTIC, SWEEPS, Mix, SeededFlow
from exchange.local.flow_venue import open_flow_venue, record_flow
from exchange.local.venue import START_US, Venue
from exchange.wire.checkpoint import read_shard_checkpoint
from exchange.wire.entries import parse_entry
from exchange.wire.hashing import chain_hash, input_hash
from exchange.wire.messages import decode, encode

SEED: Final = 1
FRAME_BATCHES: Final = 64
PARTS: Final = ("decode", "apply", "encode")

Sending = tuple[int, int, Command]
"""Time in microseconds after the start, account, command."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A flow as entries, one command per batch, and the state that they start from."""

    name: str
    checkpoint: bytes
    entries: list[RawEntry]
    frames: list[bytes]
    commands: int
    resting: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What a workload took: processor nanoseconds in all and by part, the median of the runs."""

    workload: Workload
    cpu_ns: int
    parts_ns: dict[str, int]
    trades: int
    rejected: int
    events: int

    def as_json(self) -> dict[str, Any]:
        """Return it for --json; times are nanoseconds of processor time per command."""
        commands = self.workload.commands
        return {
            "flow": self.workload.name,
            "commands": commands,
            "frames": len(self.workload.entries),
            "events": self.events,
            "trades": self.trades,
            "rejected": self.rejected,
            "resting_at_the_end": self.workload.resting,
            "commands_per_second": commands * 1_000_000_000 // self.cpu_ns,
            "cpu_ns_per_command": self.cpu_ns // commands,
            **{f"{part}_ns_per_command": self.parts_ns[part] // commands for part in PARTS},
        }


# --- flows ----------------------------------------------------------------------------------------------------------


def seeded_workload(name: str, mix: Mix, markets: int, commands: int, factory: EngineFactory) -> Workload:
    """Return a seeded flow."""
    sent = record_flow(SeededFlow(SEED, markets, mix=mix), commands, factory)
    venue = open_flow_venue(SeededFlow(SEED, markets, mix=mix), factory)
    return _workload(name, venue, ((one.time_us, one.account, one.command) for one in sent))


def lobster_workload(commands: int, factory: EngineFactory) -> Workload | None:
    """Return the first commands of a recorded day, where there is one."""
    pair = find_lobster_pair(commands)
    if pair is None:
        return None
    source = lobster_source(pair, commands, shard=1, market=1, asset=2)
    venue = Venue(factory, shard=source.shard, signed=False)
    venue.define_markets(*source.markets)
    venue.credit(*(Transfer(one.account, one.asset, one.amount_units) for one in source.funding))
    # A microsecond apart: no rule of this flow looks at the time.
    sent = ((time_us, order.trader, order.command) for time_us, order in enumerate(source.orders))
    return _workload(f"LOBSTER, {pair.messages.name.split('_')[0]}", venue, islice(sent, commands))


def _workload(name: str, venue: Venue, sent: Iterable[Sending]) -> Workload:
    """Return commands as entries, in frames of FRAME_BATCHES, on what is now in the venue."""
    checkpoint, start = venue.engine.checkpoint(), venue.engine.position
    waiting = list(sent)
    for first in range(0, len(waiting), FRAME_BATCHES):
        part = waiting[first : first + FRAME_BATCHES]
        venue.now_us = START_US + part[-1][0]
        venue.enter(*(venue.batch(account, command) for _, account, command in part))
    books = read_shard_checkpoint(venue.engine.checkpoint()).books
    resting = sum(len(book.bids) + len(book.asks) for book in books)
    return Workload(name, checkpoint, venue.entries[start:], venue.frames[start:], len(waiting), resting)


# --- measuring ------------------------------------------------------------------------------------------------------


def measure(workload: Workload, factory: EngineFactory, runs: int) -> Figures:
    """Return what the workload takes; every run starts from a fresh engine and must give the same answers."""
    answers = [decode(ExecutionFrame, frame) for frame in workload.frames]
    total_ns, decode_ns, encode_ns = [], [], []
    for _ in range(runs):
        engine = factory.from_checkpoint(workload.checkpoint)
        total_ns.append(_cpu_ns(partial(engine.apply, workload.entries)))
        assert engine.position == workload.entries[-1].n
        assert engine.chain_hash == chain_hash(workload.frames[-1])
        decode_ns.append(_cpu_ns(lambda: [parse_entry(*entry) for entry in workload.entries]))
        encode_ns.append(_cpu_ns(lambda: _encode(workload.entries, answers)))
    whole, decoding, encoding = (int(statistics.median(times)) for times in (total_ns, decode_ns, encode_ns))
    events = [event for answer in answers for event in answer.events]
    return Figures(
        workload,
        whole,
        {"decode": decoding, "apply": max(0, whole - decoding - encoding), "encode": encoding},
        trades=sum(isinstance(event, Trade) for event in events),
        rejected=sum(isinstance(event, CommandRejected) for event in events),
        events=len(events),
    )


def _encode(entries: list[RawEntry], answers: list[ExecutionFrame]) -> None:
    for entry, answer in zip(entries, answers, strict=True):
        input_hash(*entry)
        chain_hash(encode(answer))


def _cpu_ns(work: Callable[[], object]) -> int:
    gc.collect()
    started_ns = time.process_time_ns()
    work()
    return time.process_time_ns() - started_ns


def machine() -> dict[str, str]:
    """Return what the figures depend on: processor, interpreter, commit and command."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        cpu = f"{models[0]}, {len(models)} threads" if models else cpu
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "cpu": cpu,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "commit": commit.stdout.strip() or "unknown",
        "command": " ".join(["python", "loadtest/bench_reference.py", *sys.argv[1:]]),
    }


# --- printing -------------------------------------------------------------------------------------------------------


def _row(figures: Figures) -> str:
    row = figures.as_json()
    times = "".join(f"{_us(row[f'{part}_ns_per_command']):>9}" for part in PARTS)
    share = row["trades"] * 100 // row["commands"]
    return (
        f"{row['flow']:<26}{row['commands_per_second']:>10,}{_us(row['cpu_ns_per_command']):>10}{times}"
        f"{row['commands']:>10,}{share:>8} %{row['resting_at_the_end']:>10,}"
    )


def _us(ns: int) -> str:
    return f"{ns // 1000}.{ns % 1000 // 100}"


HEAD: Final = (
    f"{'flow':<26}{'commands/s':>10}{'us/cmd':>10}{'decode':>9}{'apply':>9}{'encode':>9}"
    f"{'commands':>10}{'trades':>10}{'resting':>10}"
)


def main() -> None:
    """Run all flows and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--commands", type=int, default=20_000, help="commands per flow (default: 20000)")
    parser.add_argument("--runs", type=int, default=3, help="runs per flow, of which the median counts (default: 3)")
    parser.add_argument("--engine", choices=sorted(ENGINES), default="reference")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file as well")
    options = parser.parse_args()
    if options.commands < 1 or options.runs < 1:
        parser.error("--commands and --runs are at least 1")
    factory = engine_named(options.engine)
    about = machine()
    print(f"{about['cpu']}; {about['python']}; commit {about['commit']}; engine {options.engine}")
    print(f"{about['command']}: processor time on one core, {FRAME_BATCHES} batches of one command per frame\n")
    print(HEAD)
    seeded = (
        ("quiet: adds, cancels", QUIET, 1),
        ("crossing: 1 in 2 takes", CROSSING, 1),
        ("sweeps", SWEEPS, 1),
        ("realistic, 1 market", REALISTIC, 1),
        ("realistic, 1,000 markets", REALISTIC, 1_000),
    )
    makers: list[Callable[[], Workload | None]] = [
        partial(seeded_workload, name, mix, markets, options.commands, factory) for name, mix, markets in seeded
    ]
    makers.append(partial(lobster_workload, options.commands, factory))
    rows = []
    for make in makers:
        workload = make()
        if workload is None:
            print("LOBSTER: no files; set CLOB_SAMPLE_DATA to a folder with a pair")
            continue
        figures = measure(workload, factory, options.runs)
        print(_row(figures), flush=True)
        rows.append(figures.as_json())
    if options.json is not None:
        options.json.write_text(
            json.dumps({"machine": about, "engine": options.engine, "flows": rows}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
