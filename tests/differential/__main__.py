"""Compare two engines over random entries: `python -m tests.differential --commands 200000 --engine core`."""

import argparse
import secrets
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from time import monotonic

from exchange.engine.choice import ENGINES, engine_named
from tests.differential import cases, coverage, run
from tests.differential.episodes import BY_NAME
from tests.differential.run import Found, Report

SLICE_COMMANDS = 10_000
"""Commands that a process takes at a time."""


def main() -> int:
    """Run, print what occurred, and return 1 when the engines differ or something never occurred."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.differential", usage="%(prog)s [options]; --help lists them", description=__doc__
    )
    parser.add_argument("--commands", type=_positive, default=200_000, help="how many to compare")
    parser.add_argument("--seed", type=int, help="0 or more; a new one unless given")
    engines = sorted(ENGINES)
    default = "core" if "core" in ENGINES else "reference"
    parser.add_argument("--engine", choices=engines, default=default, help="under test")
    parser.add_argument("--against", choices=engines, default="reference", help="the engine that says what is right")
    parser.add_argument("--processes", type=_positive, default=1)
    parser.add_argument("--theme", choices=sorted(BY_NAME), help="episodes of this theme only")
    parser.add_argument("--no-floods", action="store_true", help="leave out the half minute of frames at their limits")
    parser.add_argument("--cases", type=Path, default=Path("build/differential"), help="folder for what differs")
    parser.add_argument("--replay", type=Path, help="compare over this case alone")
    parser.add_argument("--shrink-seconds", type=float, default=60.0, help="0: keep a case as it was found")
    parser.add_argument("--quiet", action="store_true", help="leave out the table of what occurred")
    args = parser.parse_args()
    if args.seed is not None and args.seed < 0:
        parser.error(f"argument --seed: {args.seed}: 0 or more is needed")
    if args.replay:
        try:
            case = cases.Case.read(args.replay)
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(f"--replay {args.replay} is no case that can be read: {error!r}", file=sys.stderr)
            return 2
        return _replay(case, args.engine, args.against)
    seed = secrets.randbits(48) if args.seed is None else args.seed
    print(f"{args.engine} against {args.against}: {args.commands} commands, seed {seed}", flush=True)
    started = monotonic()
    try:
        report = _run(args, seed)
    except Found as found:
        _keep(found, args)
        return 1
    seconds = monotonic() - started
    print(
        f"{report.commands} commands in {report.entries} entries of {report.episodes} episodes, no difference; "
        f"{seconds:.1f} s, {report.seconds / max(1, report.commands) * 1e6:.0f} us a command"
    )
    print("compared: " + ", ".join(f"{count} {what}" for what, count in report.compared.most_common()))
    if not args.quiet:
        print(coverage.table(report.kinds))
    missing = coverage.missing_from(report.kinds)
    if missing and not args.theme and not args.no_floods:
        print(f"NEVER occurred: {', '.join(missing)}", file=sys.stderr)
        return 1
    return 0


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 on is needed")
    return int(text)


def _run(args: argparse.Namespace, seed: int) -> Report:
    report = Report()
    slices = [
        (seed + start, min(SLICE_COMMANDS, args.commands - start)) for start in range(0, args.commands, SLICE_COMMANDS)
    ]
    work = [] if args.no_floods or args.theme else [(seed, 0)]
    if args.processes == 1:
        for job in [*slices, *work]:
            report.add(_slice(*job, args.engine, args.against, args.theme))
        return report
    with ProcessPoolExecutor(args.processes) as pool:
        futures = [pool.submit(_slice, *job, args.engine, args.against, args.theme) for job in [*work, *slices]]
        for done, future in enumerate(as_completed(futures), 1):
            try:
                report.add(future.result())
            except Found:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            if done % 50 == 0:
                print(f"  {report.commands} commands", flush=True)
    return report


def _slice(seed: int, commands: int, engine: str, against: str, theme: str | None) -> Report:
    """Run so many commands; none: the floods."""
    report, left, right = Report(), engine_named(against), engine_named(engine)
    if not commands:
        run.run_floods(seed, left, right, report)
    elif theme is None:
        run.run_commands(seed, commands, left, right, report)
    else:
        for episode in run.seeds_from(seed):
            if report.commands >= commands:
                break
            run.run_episode(episode, BY_NAME[theme], left, right, report, commands - report.commands)
    return report


def _keep(found: Found, args: argparse.Namespace) -> None:
    print(f"DIFFERENCE after {found.commands} commands of its slice: {found}", flush=True)
    args.cases.mkdir(parents=True, exist_ok=True)
    path = args.cases / f"{found.case.theme}-{found.case.seed}.json"
    found.case.write(path)
    if args.shrink_seconds:
        shrinker = cases.Shrinker(
            found.case, engine_named(args.against), engine_named(args.engine), args.shrink_seconds
        )
        small = shrinker.run()
        small.write(path)
        print(f"shrunk from {len(found.case.steps)} steps to {len(small.steps)} in {shrinker.tries} tries:")
        print(small.difference)
    print(f"replay: python -m tests.differential --engine {args.engine} --replay {path}")


def _replay(case: cases.Case, engine: str, against: str) -> int:
    difference = cases.replay(case, engine_named(against), engine_named(engine))
    print(difference or "no difference")
    return 1 if difference else 0


if __name__ == "__main__":
    sys.exit(main())
