"""The load generator (loadtest/generator, in Rust) as Python drives it: a job, phases, and the counting of a log."""

import asyncio
import json
import os
import secrets
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from clob.v1 import door_reason_pb2
from exchange.domain.markets import Market
from exchange.domain.rejects import RejectReason
from exchange.embedded import leash
from exchange.embedded.demo_flow import Source
from exchange.embedded.flow_sender import STAGES as FLOW_STAGES
from exchange.embedded.traders import Trader
from loadtest.bench_core import cargo

LINE_BYTES_MAX: Final = 16 * 1024 * 1024
WAIT_MS_MAX: Final = 30_000
STAGES: Final = ("wait to be sent", *(name for name, _, _ in FLOW_STAGES), "end to end, refused")
"""Names of latencies, in the order in which the generator gives them (send.rs)."""
END_TO_END: Final = STAGES[-2]
_FRAME_HEAD: Final = struct.Struct("<II")


class GeneratorError(RuntimeError):
    """The generator ended; what it said is on stderr."""


@dataclass(frozen=True, slots=True)
class Sending:
    """How to send. Fields are described in loadtest/generator/src/job.rs."""

    stream: bool = True
    connections: int = 1
    in_flight: int = 16
    per_signature: int = 1
    per_message: int = 64
    resting: int = 0
    seed: int = 1
    sources: tuple[str, ...] = ()
    forges: bool = False


@dataclass(frozen=True, slots=True)
class Phase:
    """What to send next. Fields are described in loadtest/generator/src/job.rs."""

    commands: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    holds: bool = False
    fill: bool = False


def build() -> Path:
    """Return the generator's binary, built if it is not up to date.

    Raises:
        BuildError: cargo cannot build it.
    """
    return cargo("generator", "bench-generator")


def job(
    address: str,
    environment: str,
    traders: Mapping[int, Trader],
    sources: Iterable[Source],
    sending: Sending,
    validity_ms: int,
) -> dict[str, Any]:
    """Return a job. It holds private keys: it is for the generator's stdin and nothing else.

    Args:
        address: of the traders' port.
        environment: its name.
        traders: by their number in the sources.
        sources: markets and funding of each shard; who has both of a market's assets trades in it.
        sending: how.
        validity_ms: how long batches are valid, from the planned time of their message on.
    """
    numbers = sorted(traders)
    place_of = {number: place for place, number in enumerate(numbers)}
    return {
        "address": address,
        "environment": environment,
        "validity_ms": validity_ms,
        "wait_ms_max": WAIT_MS_MAX,
        "nonce": secrets.randbits(63),
        "users": [{"account": traders[number].account, "seed": traders[number].seed.hex()} for number in numbers],
        "shards": [{"shard": source.shard, "markets": _markets(source, place_of)} for source in sources],
        **asdict(sending),
    }


def _markets(source: Source, place_of: Mapping[int, int]) -> list[dict[str, Any]]:
    funded: dict[int, set[int]] = {}
    for transfer in source.funding:
        funded.setdefault(transfer.asset, set()).add(transfer.account)
    return [
        {
            "market": market.market,
            "fair_ticks": _fair_ticks(market),
            "multiple_ticks": market.tick_table[-1].multiple_ticks if market.tick_table else 1,
            "multiple_lots": market.lot_table[-1].multiple_lots if market.lot_table else 1,
            "users": sorted(place_of[number] for number in funded[market.base_asset] & funded[market.quote_asset]),
        }
        for market in source.markets
    ]


def _fair_ticks(market: Market) -> int:
    """Return the price that a market of a seeded flow has at first: its band begins at half of that."""
    return market.band_low_ticks * 2


class Generator:
    """A generator that runs; `start` makes one, `close` ends it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    @classmethod
    async def start(cls, binary: Path, asked: dict[str, Any]) -> "Generator":
        """Start a generator with a job. It ends with this process, also in the middle of a phase."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), "0"),
            *(str(binary), "run"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            limit=LINE_BYTES_MAX,
        )
        generator = cls(process)
        await generator._write(asked)
        return generator

    async def prepare(self, phase: Phase) -> dict[str, Any]:
        """Make and sign what a phase sends; return `Prepared` (job.rs).

        Raises:
            GeneratorError: it ended.
        """
        await self._write(asdict(phase))
        return await self._read()

    async def go(self) -> dict[str, Any]:
        """Send what was prepared and return what became of it: `Outcome` (job.rs), with names for reasons and stages.

        Raises:
            GeneratorError: it ended.
        """
        await self._write("go")
        outcome = await self._read()
        outcome["counts"] = with_names(outcome["counts"])
        stages = zip(STAGES, outcome["latency"], strict=True)
        outcome["latency"] = {stage: latency for stage, latency in stages if latency is not None}
        return outcome

    async def close(self) -> None:
        """End it, whatever it does."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def _write(self, line: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            await self._process.stdin.drain()
        except ConnectionError as error:
            raise GeneratorError(f"the generator ended with {await self._process.wait()}") from error

    async def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise GeneratorError(f"the generator ended with {await self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def count_frames(binary: Path, frames: Iterable[tuple[int, bytes]]) -> dict[str, Any]:
    """Return what execution frames, each with its shard, come to: `Counts` (count.rs), with names for reasons.

    Raises:
        GeneratorError: a frame is malformed.
    """
    with subprocess.Popen([binary, "count"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for shard, frame in frames:
                process.stdin.write(_FRAME_HEAD.pack(shard, len(frame)) + frame)
            process.stdin.close()
        except BrokenPipeError:
            pass
        line = process.stdout.read()
    if process.returncode != 0:
        raise GeneratorError(f"the counting of the log ended with {process.returncode}")
    return with_names(json.loads(line))


def with_names(counts: dict[str, Any]) -> dict[str, Any]:
    """Return counts with the names of reasons in the place of their numbers."""
    named = dict(counts)
    for field in ("rejected", "batches_refused"):
        named[field] = {RejectReason(int(number)).name: count for number, count in counts[field].items()}
    named["refused"] = {_refusal(reason): count for reason, count in counts["refused"].items()}
    named["last_n"] = {int(shard): n for shard, n in counts["last_n"].items()}
    return named


def _refusal(reason: str) -> str:
    kind, _, number = reason.partition(" ")
    if kind == "shard":
        return RejectReason(int(number)).name
    if kind == "door":
        return door_reason_pb2.DoorReason.Name(int(number)).removeprefix("DOOR_REASON_")
    return reason


def sum_of(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what the counts of several phases come to together."""
    total: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            if isinstance(value, int):
                total[name] = total.get(name, 0) + value
            else:
                into = total.setdefault(name, {})
                for key, count in value.items():
                    into[key] = max(into.get(key, 0), count) if name == "last_n" else into.get(key, 0) + count
    total["fingerprint"] = total.get("fingerprint", 0) % 2**64
    return total
