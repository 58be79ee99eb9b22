"""Where every process of an exchange spends its time under load: flame graphs, and shares by function.

    python -m loadtest.profile_path [--per-signature N] [--seconds S] [--rate HZ]

The load is the closed loop of loadtest/bench_path.py. py-spy looks at every process so many times a second, at native
frames too, twice: for the flame graphs, and for the shares. A share counts samples in which a thread ran, by the
innermost Python function and the native library below it. py-spy halts a process for each look, so that throughput here
says nothing. Threads that wait in their outermost loop are left out of the shares.
"""

import argparse
import asyncio
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

import psutil

from exchange.cli.up import without_rates
from exchange.config.environment import LOAD_TEST_SETTINGS, Durability
from exchange.embedded.data_dir import open_data_dir
from exchange.embedded.demo import ENVIRONMENT
from exchange.embedded.exchange import EmbeddedExchange, Options
from loadtest.bench_core import HERE
from loadtest.bench_path import cases_of, parser
from loadtest.bench_reference import machine
from loadtest.generator_process import Phase, build
from loadtest.path_case import INGRESS, Case, Run, process_names, sources_of

BUILD: Final = HERE.parent / "build" / "profile-path"
ROWS_MAX: Final = 14
WAITING: Final = ("runners.py: Runner.run [libc]", "threading.py: Thread.run [libc]", "thread.py: _worker [libc]")
"""Outermost loops, where py-spy cannot tell a thread that waits from one that runs."""
_FRAME: Final = re.compile(r"^(?P<name>.+?) \((?P<file>[^()]+?)(:\d+)?\)$")


class Recording:
    """py-spy at every process of an exchange, while something else goes on."""

    def __init__(self, exchange: EmbeddedExchange, folder: Path, seconds: int, rate_hz: int) -> None:
        self._exchange = exchange
        self._folder = folder
        self._seconds = seconds
        self._rate_hz = rate_hz
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Recording":
        self._task = asyncio.create_task(self._record())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        await self._task

    async def _record(self) -> None:
        await asyncio.sleep(1)
        for form, suffix in (("flamegraph", "svg"), ("raw", "txt")):
            names = process_names(self._exchange)
            await asyncio.gather(*(self._look(process, name, form, suffix) for name, process in names.items()))

    async def _look(self, process: psutil.Process, name: str, form: str, suffix: str) -> None:
        path = self._folder / f"{name.replace(', ', '-').replace(' ', '-')}.{suffix}"
        command = ["py-spy", "record", "--native", "--format", form, "--output", str(path), "--pid", str(process.pid)]
        command += ["--duration", str(self._seconds), "--rate", str(self._rate_hz)]
        spy = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"},
        )
        _, said = await spy.communicate()
        if spy.returncode:
            print(f"{name}: {said.decode(errors='replace').strip()}", file=sys.stderr)


def shares(lines: Iterable[str]) -> Counter[str]:
    """Return samples by innermost Python function, with the native library that it was in, of collapsed stacks."""
    found: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        library, function = "", "native threads"
        for frame in reversed(stack.split(";")):
            match = _FRAME.match(frame)
            if match is None:
                continue
            file = match["file"]
            if file.endswith(".py"):
                function = f"{Path(file).name}: {match['name']}"
                break
            library = library or Path(file).name.partition(".")[0]
        found[f"{function} [{library}]" if library else function] += int(count)
    return found


async def profile(case: Case, folder: Path, out: Path, seconds: int, rate_hz: int) -> None:
    """Run the closed loop of a case and record it.

    Raises:
        ChildError, SetupError, GeneratorError, grpc.RpcError: something did not work that must.
    """
    sources = sources_of(case)
    data = open_data_dir(folder, environment=ENVIRONMENT, durability=Durability.MEMORY, settings=LOAD_TEST_SETTINGS)
    options = Options(
        shards=case.shards,
        workers=case.workers,
        listen_traders="127.0.0.1:0",
        listen_admin="127.0.0.1:0",
        log_level="warning",
        extra={INGRESS: without_rates()},
    )
    async with EmbeddedExchange(data, options) as exchange:
        run = Run(case, exchange, sources, build(), lambda text: print(text, file=sys.stderr))
        async with run.generator():
            await run.phase("fill", Phase(fill=True))
            length = 2 * seconds + 4
            tried = await run.phase("calibration", Phase(case.sending.per_signature * 100_000, 2.0))
            orders = int(tried["orders_per_s_answered"] * length)
            await run.phase("closed", Phase(orders, length), Recording(exchange, out, seconds, rate_hz))


def main() -> None:
    """Run as a program."""
    arguments = argparse.ArgumentParser(prog="profile_path", description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--per-signature", type=int, default=1, help="orders under one signature (%(default)s)")
    arguments.add_argument("--seconds", type=int, default=10, help="of each of two recordings (%(default)s)")
    arguments.add_argument("--rate", type=int, default=99, help="looks a second (%(default)s)")
    options = arguments.parse_args()
    [case] = cases_of(parser().parse_args(["--per-signature", str(options.per_signature)]))
    out = BUILD / f"{options.per_signature}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    folder = Path(tempfile.mkdtemp(prefix="clob-profile-"))
    try:
        asyncio.run(profile(replace(case, seconds=0), folder, out, options.seconds, options.rate))
    finally:
        shutil.rmtree(folder)
    about = machine()
    print(
        f"{about['cpu']}; commit {about['commit']}; {options.per_signature} orders a signature; flame graphs in {out}\n"
    )
    for path in sorted(out.glob("*.txt")):
        found = shares(path.read_text().splitlines())
        for name in WAITING:
            del found[name]
        total = sum(found.values())
        print(f"{path.stem}: {total / options.rate / options.seconds:.2f} cores\n")
        for name, count in found.most_common(ROWS_MAX):
            print(f"    {100 * count / total:5.1f} %  {name}")
        print()


if __name__ == "__main__":
    main()
