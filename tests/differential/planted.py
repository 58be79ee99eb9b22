"""Bugs that are planted into the core, one at a time, and how soon the differential test finds each.

`python -m tests.differential.planted` builds every one of `planted/*.patch` in a copy of the crate, with little
optimisation, and prints a table. A bug is found by the differential test alone: nothing else is asked.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
CRATE: Final = ROOT / "src" / "exchange-core"
PATCHES: Final = sorted((Path(__file__).parent / "planted").glob("*.patch"))
MODULE: Final = "exchange_core.abi3.so"
CONTEXT: Final = "-C1"
"""One line before and after is enough to know the place."""
COMMANDS_MAX: Final = 200_000
FAST_BUILD: Final = {
    "CARGO_INCREMENTAL": "1",
    "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
    "CARGO_PROFILE_RELEASE_DEBUG": "false",
    "CARGO_PROFILE_RELEASE_LTO": "off",
    "CARGO_PROFILE_RELEASE_OPT_LEVEL": "1",
}


class Planted(NamedTuple):
    """What became of a bug: found after so many commands and seconds, or not, and the difference that showed it."""

    name: str
    found: bool
    commands: int
    seconds: float
    difference: str


def main() -> int:
    """Plant bugs, print the table, and return 1 when one is not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential.planted", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names of patches; all of them unless given")
    parser.add_argument("--commands", type=int, default=COMMANDS_MAX, help="after which a bug counts as not found")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "planted", help="where the copies are built")
    parser.add_argument("--built", action="store_true", help="take the modules that an earlier run has built")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(_find(args.seed, args.commands)))
        return 0
    unknown = [name for name in args.names if not any(name in path.stem for path in PATCHES)]
    if unknown:
        there = ", ".join(path.stem for path in PATCHES)
        parser.error(f"no name of a patch has {', '.join(map(repr, unknown))} in it; there are {there}")
    chosen = [path for path in PATCHES if not args.names or any(name in path.stem for name in args.names)]
    print("| planted bug | found after | in | by |\n|---|---:|---:|---|", flush=True)
    found = [_plant(path, args) for path in chosen]
    print(f"{sum(found)} of {len(found)} found")
    return 0 if all(found) else 1


def _plant(patch: Path, args: argparse.Namespace) -> bool:
    """Plant a bug, print what became of it as a row of a table in Markdown, and return whether it was found."""
    module = args.folder / "modules" / patch.stem if args.built else build(args.folder, patch)
    result = Planted(patch.stem, **run_child(module, args.seed, args.commands))
    after = f"{result.commands:,} commands" if result.found else "NOT FOUND"
    print(f"| {result.name} | {after} | {result.seconds:.1f} s | {result.difference} |", flush=True)
    return result.found


def run_child(module: Path, seed: int, commands: int) -> dict[str, Any]:
    """Return what the differential test says of the module in a folder, in a process of its own."""
    paths = [str(module), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    command = [sys.executable, "-m", "tests.differential.planted", "--child"]
    done = subprocess.run(
        [*command, "--seed", str(seed), "--commands", str(commands)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode > 0:
        raise RuntimeError(f"the differential test did not run with {module}:\n{done.stderr}")
    if done.returncode < 0:
        # The module brought the interpreter down: no comparison is needed to see that.
        return {"found": True, "commands": 0, "seconds": 0.0, "difference": f"ended by signal {-done.returncode}"}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _find(seed: int, commands: int) -> dict[str, Any]:
    """Run until a difference is found; the floods come last, as they take long."""
    import exchange_core

    from exchange.engine.choice import engine_named
    from tests.differential import run
    from tests.differential.run import Found, Report

    assert Path(exchange_core.__file__).parent == Path(sys.path[1]).resolve(), "the module is not the planted one"
    report, started = Report(), monotonic()
    left, right = engine_named("reference"), engine_named("core")
    try:
        run.run_commands(seed, commands, left, right, report)
        run.run_floods(seed, left, right, report)
    except Found as found:
        what = found.difference.what
        return {"found": True, "commands": report.commands, "seconds": monotonic() - started, "difference": what}
    return {"found": False, "commands": report.commands, "seconds": monotonic() - started, "difference": ""}


def build(folder: Path, patch: Path | None = None) -> Path:
    """Return a folder with the module, built from a copy of the crate with the patch in it.

    Raises:
        subprocess.CalledProcessError: the patch does not fit any more, or what comes out does not compile.
    """
    copy = folder / "crate"
    _copy_crate(copy)
    if patch is not None:
        subprocess.run(["git", "apply", CONTEXT, str(patch)], cwd=copy, check=True)
    target = folder / "target"
    environment = os.environ | FAST_BUILD | {"CARGO_TARGET_DIR": str(target), "PYO3_PYTHON": sys.executable}
    # What a bug leaves unused is no news.
    environment["RUSTFLAGS"] = '--cfg=curve25519_dalek_backend="avx512" -A unused'
    command = ["cargo", "build", "--quiet", "--release", "--locked", "--offline", "--lib", "--features", "python"]
    subprocess.run(command, cwd=copy, env=environment, check=True)
    there = folder / "modules" / (patch.stem if patch else "sound")
    there.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(target / "release" / "libexchange_core.so", there / MODULE)
    return there


def _copy_crate(copy: Path) -> None:
    """Make the copy equal to the crate; what is equal already keeps its time, so that it is not compiled again."""
    copy.mkdir(parents=True, exist_ok=True)
    # A repository of its own: `git apply` then takes paths from here, wherever the copy stands.
    if not (copy / ".git").exists():
        subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
    wanted = [path for name in ("src", ".cargo") for path in (CRATE / name).rglob("*") if path.is_file()]
    wanted += [CRATE / name for name in ("Cargo.toml", "Cargo.lock", "pyproject.toml")]
    for path in wanted:
        there = copy / path.relative_to(CRATE)
        if not there.exists() or there.read_bytes() != path.read_bytes():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, there)
    for name in ("src", ".cargo"):
        for there in [path for path in (copy / name).rglob("*") if path.is_file()]:
            if not (CRATE / there.relative_to(copy)).exists():
                there.unlink()


if __name__ == "__main__":
    sys.exit(main())
