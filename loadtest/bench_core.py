"""Messages per second of the core on one thread, beside published engines on the same flow.

    python -m loadtest.bench_core [--short] [--json FILE] [--plots FOLDER] [--engines NAMES] [--flows NAMES]

A flow is made once (loadtest/flow) and every engine reads the same file, before the clock starts. Each engine runs in
a process of its own, in a small adapter (loadtest/peers), several times on fresh books; the first run is not counted.
What is counted is processor time, so that helper threads of a runtime count and other processes do not. An engine
whose trades differ from those of the plain book that made the flow is marked.

`--short` takes less than a minute: three flows, the core and `matchcore`. What is built and installed stays in
build/bench-core. Engines that cannot be built are left out, and the table says so.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loadtest.bench_reference import machine
from loadtest.plots import Plots

HERE: Final = Path(__file__).parent
BUILD: Final = HERE.parent / "build" / "bench-core"
SEED: Final = 1
MESSAGES: Final = 1_000_000
SHORT_MESSAGES: Final = 200_000
FLOWS: Final = (
    "quiet",
    "volatile",
    "late",
    "deep",
    "sparse",
    "pairs",
    "cancels",
    "sweeps",
    "static",
    "markets-1",
    "markets-21000",
)
OWN_FLOWS: Final = ("rich",)
SHARD_FLOWS: Final = ("quiet", "volatile", "markets-1", "markets-21000")
CURVE: Final = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
CXX: Final = ("-std=c++17", "-O3", "-DNDEBUG", "-Wall", "-Wextra")

Row = dict[str, Any]


class BuildError(Exception):
    """An engine could not be built or installed; the message has the last lines of what said so."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine in an adapter.

    Attributes:
        name: as tables have it.
        language: what it is written in.
        build: builds and installs, and returns the command to which FLOW-FILE RUNS SECONDS is appended.
        messages: timed messages of a flow at most; a slow engine gets the first part of what the others get.
        resting_max: largest point of the curve.
        environment: what the process gets besides.
    """

    name: str
    language: str
    build: Callable[[], list[str]]
    messages: int = MESSAGES
    resting_max: int = 1_000_000
    environment: tuple[tuple[str, str], ...] = ()


# --- building -------------------------------------------------------------------------------------------------------


def run_tool(*command: str | Path, cwd: Path | None = None) -> str:
    """Return what a command prints; what it says on the way is shown only when it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{words[0]}: {error.strerror}") from error
    if done.returncode != 0:
        raise BuildError(f"{' '.join(words)}\n" + "\n".join(done.stderr.strip().splitlines()[-8:]))
    return done.stdout


def cargo(folder: str, binary: str) -> Path:
    """Build a Rust crate with its own lock file and return its binary."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", BUILD / "cargo"))
    # From within its folder, so that the .cargo/config.toml of a crate holds.
    run_tool("cargo", "build", "--release", "--locked", "--quiet", "--target-dir", target, cwd=HERE / folder)
    return target / "release" / binary


def installed(name: str) -> Path:
    """Install a Python package and all it needs, by hash, into a folder of its own, and return that."""
    folder, wanted = BUILD / "pip" / name, HERE / "peers" / name / "requirements.txt"
    stamp = folder / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        shutil.rmtree(folder, ignore_errors=True)
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-deps")
        run_tool(*pip, "--require-hashes", "--target", folder, "--requirement", wanted)
        shutil.copy(wanted, stamp)
    return folder


def cxx(name: str, *arguments: str) -> Path:
    """Compile an adapter in C++ and return its binary."""
    binary = BUILD / name
    run_tool("g++", *CXX, "-o", binary, HERE / "peers" / name / "main.cpp", *arguments)
    return binary


def build_liquibook() -> list[str]:
    """Return the command of the adapter over the headers in the PyPI package."""
    return [str(cxx("liquibook", "-isystem", str(installed("liquibook") / "include" / "liquibook")))]


def build_obook() -> list[str]:
    """Return the command of the adapter over the shared library in the PyPI package."""
    folder = installed("obook") / "obook"
    return [str(cxx("obook", str(folder / "libobook.so"), f"-Wl,-rpath,{folder}"))]


def build_fastlob() -> list[str]:
    """Return the command of the adapter in Python."""
    installed("fastlob")
    return [sys.executable, str(HERE / "peers" / "fastlob" / "peer.py")]


ENGINES: Final = (
    Engine("exchange_core", "Rust", lambda: [str(cargo("core", "bench-core"))], resting_max=10_000_000),
    Engine("matchcore", "Rust", lambda: [str(cargo("peers/matchcore", "peer-matchcore"))]),
    Engine("orderbook-rs", "Rust", lambda: [str(cargo("peers/orderbook-rs", "peer-orderbook-rs"))], 200_000, 100_000),
    Engine("liquibook", "C++", build_liquibook, 100_000, 100_000),
    # A collection at four times the live heap instead of two: the more favourable of what a user would set.
    Engine("obook", "Go", build_obook, 200_000, 100_000, environment=(("GOGC", "400"), ("GOMAXPROCS", "1"))),
    Engine("fastlob", "Python", build_fastlob, 20_000, 10_000, (("PYTHONPATH", str(BUILD / "pip" / "fastlob")),)),
)


# --- measuring ------------------------------------------------------------------------------------------------------


def lines(command: Iterable[str | Path], environment: Iterable[tuple[str, str]] = ()) -> list[Row]:
    """Run a command that prints JSON, one object a line, and return the objects."""
    words = [str(word) for word in command]
    done = subprocess.run(words, env={**os.environ, **dict(environment)}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return [{"failed": done.stderr.strip()[-200:] or f"exit {done.returncode}"}]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for word, value in (line.split() for line in done.stderr.splitlines() if line.startswith("call_ns ")):
        rows[0][word] = int(value)
    return rows


class Bench:
    """All that is measured in one go, on the flows in one folder."""

    def __init__(self, messages: int, runs: int, seconds: int) -> None:
        self.messages, self.runs, self.seconds = messages, runs, seconds
        self.resting_max = CURVE[-1]
        self.folder = BUILD / "flows"
        self.maker = cargo("flow", "bench-flow")
        self.commands: dict[str, list[str]] = {}
        self.missing: dict[str, str] = {}

    def build(self, engines: Iterable[Engine]) -> list[Engine]:
        """Build engines and return those that could be."""
        for engine in engines:
            try:
                self.commands[engine.name] = engine.build()
            except BuildError as error:
                self.missing[engine.name] = str(error)
                print(f"{engine.name} is left out: {error}", file=sys.stderr)
        return [engine for engine in engines if engine.name in self.commands]

    def flow(self, name: str, messages: int) -> Path:
        """Return the file of a flow, made if it is not there."""
        path = self.folder / str(messages) / f"{name}.flow"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            run_tool(self.maker, path.parent, str(messages), str(SEED), name)
        return path

    def forget_flows(self) -> None:
        """Remove the files of flows: those of the curve take gigabytes."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, engine: Engine, flow: str) -> Row:
        """Return what an engine does on a flow, with its rates."""
        path = self.flow(flow, min(self.messages, engine.messages))
        command: list[str | Path] = [*self.commands[engine.name], path, str(self.runs), str(self.seconds)]
        row = lines(command, engine.environment)[0]
        return {"engine": engine.name, "flow": flow, **row, **rates(row)}

    def own(self, *words: str | Path) -> list[Row]:
        """Return what one of the core's own parts prints."""
        return [{**row, **rates(row)} for row in lines([*self.commands["exchange_core"], *words])]


def rates(row: Row) -> Row:
    """Return messages per second and nanoseconds per message of the runs in a row."""
    if not row.get("runs_ns") or "messages" not in row:
        return {}
    per_s = sorted(row["messages"] * 1_000_000_000 // ns for ns in row["runs_ns"])
    median = int(statistics.median(per_s))
    return {
        "per_s_min": per_s[0],
        "per_s_median": median,
        "per_s_max": per_s[-1],
        "ns_per_message": round(1_000_000_000 / median, 1),
    }


# --- printing -------------------------------------------------------------------------------------------------------


def in_millions(row: Row) -> str:
    """Return min, median and max in millions a second."""
    if "failed" in row or "per_s_median" not in row:
        return "failed"
    low, mid, high = (row[f"per_s_{which}"] / 1e6 for which in ("min", "median", "max"))
    digits = 1 if mid >= 10 else 3
    return f"{mid:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def table(title: str, rows: list[Row], columns: list[str]) -> None:
    """Print rows by flow, one column per engine; a star marks other trades than the flow's."""
    print(f"\n{title}: million messages a second, median (min-max)")
    print(f"{'flow':<16}" + "".join(f"{column:>24}" for column in columns))
    for flow in flows_of(rows):
        cells = {row["engine"]: in_millions(row) + star(row) for row in rows if row["flow"] == flow}
        print(f"{flow:<16}" + "".join(f"{cells.get(column, '-'):>24}" for column in columns), flush=True)


def print_targets(result: Row, say: Callable[[str], object] = print) -> None:
    """Print what is asked of the core beside what it did: the median, or the worst of several."""
    say(f"\n{'target':<72}{'figure':>12}  met")
    for what, figure, target, more_is_better in targets(result):
        met = figure >= target if more_is_better else figure <= target
        say(f"{what:<72}{figure:>12,.2f}  {'yes' if met else 'no'}")


def targets(result: Row) -> list[tuple[str, float, float, bool]]:
    """Return what is asked, the figure, the target, and whether more is better; nothing for what was not measured."""
    found: list[tuple[str, float, float, bool]] = []
    alone = [row for row in (*result["flows"], *result["curve"]) if "per_s_median" in row]
    ours = {row["flow"]: row["per_s_median"] for row in alone if row["engine"] == "exchange_core"}
    small = {
        flow: rate for flow, rate in ours.items() if flow not in ("markets-21000", "curve-1000000", "curve-10000000")
    }
    if small:
        worst = min(small, key=lambda flow: small[flow])
        found.append(
            (f"book, worst flow of one market up to 100,000 resting ({worst}), M/s", small[worst] / 1e6, 10, True)
        )
    ahead = [
        ours[row["flow"]] / row["per_s_median"]
        for row in alone
        if row["engine"] != "exchange_core" and row["flow"] in ours
    ]
    if ahead:
        found.append(("book, times as fast as the fastest peer, least of all flows", min(ahead), 1, True))
    for packing in dict.fromkeys(row["packing"] for row in result["shard"] if "packing" in row):
        rows = {row["flow"]: row for row in result["shard"] if row.get("packing") == packing}
        many, one = rows.get("markets-21000"), rows.get("markets-1")
        if many and one:
            found.append((f"shard, 21,000 markets, {packing}, M/s", many["per_s_median"] / 1e6, 5, True))
            found.append(("  times slower than one market", one["per_s_median"] / many["per_s_median"], 1.5, False))
        slowest = min(row["replay_messages"] * 1_000 / row["replay_ns"] for row in rows.values())
        found.append((f"replay, slowest flow, {packing}, M/s", slowest, 2, True))
        codec = max(row["parts_ns_per_command"]["decode, encode"] for row in rows.values())
        found.append((f"decode and encode, {packing}, ns a command", codec, 100, False))
    grown = [row["bytes_per_order"] for row in result["memory"] if row["memory"] == "shard"]
    if grown:
        found.append(("shard, growth of memory from 100,000 to 10,000,000 orders, bytes each", grown[-1], 96, False))
    if result["restore"]:
        slow = max(statistics.median(row["runs_ns"]) for row in result["restore"]) / 1e9
        found.append(("restore of 1,000,000 resting orders, s", slow, 1, False))
    return found


def print_shard(rows: list[Row]) -> None:
    """Print what the shard does."""
    print(
        "\nshard with funds, fees, nonces, events and hashes: million commands a second; ns per command of parts alone"
    )
    print(
        f"{'flow':<16}{'frame':<20}{'nonces':>12}{'median (min-max)':>22}{'replay':>9}"
        + "".join(f"{part:>19}" for part in PARTS)
    )
    for row in rows:
        if "failed" in row:
            print(f"failed: {row['failed']}")
            continue
        replay = row["replay_messages"] * 1_000 / row["replay_ns"]
        parts = "".join(f"{row['parts_ns_per_command'][part]:>19.0f}" for part in PARTS)
        print(
            f"{row['flow']:<16}{row['packing']:<20}{row['live_nonces']:>12,}{in_millions(row):>22}{replay:>9.2f}{parts}",
            flush=True,
        )


PARTS: Final = ("parse and digests", "input hash", "chain hash", "decode", "decode, encode")


def markdown(result: Row) -> str:
    """Return the tables as Markdown, for the README."""
    about, names = result["machine"], [engine["name"] for engine in result["engines"]]
    text = [f"{about['cpu']}; commit {about['commit']}; `{about['command']}`."]
    for title, rows in (("flow", result["flows"]), ("resting orders", result["curve"])):
        if not rows:
            continue
        lines_of = {flow: {row["engine"]: row for row in rows if row["flow"] == flow} for flow in flows_of(rows)}
        text += ["", f"Book alone, million messages a second, median (min-max), by {title}:", ""]
        text += ["| " + " | ".join([title, *names]) + " |", "| --- |" + " ---: |" * len(names)]
        for flow, found in lines_of.items():
            cells = [in_millions(found[name]) + star(found[name]) if name in found else "" for name in names]
            text.append("| " + " | ".join([flow.removeprefix("curve-"), *cells]) + " |")
    if result["latency"]:
        text += ["", "Latency of a message on the book alone, ns:", "", "| flow | " + " | ".join(MARKS) + " |"]
        text.append("| --- |" + " ---: |" * len(MARKS))
        for row in result["latency"]:
            text.append(f"| {row['latency']} | " + " | ".join(f"{row[f'{mark}_ns']:,}" for mark in MARKS) + " |")
    text += ["", "Shard, million commands a second, and ns per command of parts alone:", ""]
    text += shard_rows(result["shard"])
    if result.get("nonces"):
        text += ["", "The same by nonces that are remembered, of 2 runs after the parts about memory; the middle row"]
        text += ["is the case of markets-1 above, measured again:", ""]
        text += shard_rows(result["nonces"])
    if result["memory"]:
        text.append("")
        for name in dict.fromkeys(row["memory"] for row in result["memory"]):
            grown = [row["bytes_per_order"] for row in result["memory"] if row["memory"] == name]
            text.append(f"Growth of memory per resting order, {name}: {grown[-1]:.0f} bytes up to 10,000,000, at most")
            text.append(f"{max(grown):.0f} on the way.")
    for row in result["restore"]:
        seconds = ", ".join(f"{ns / 1e9:.2f}" for ns in row["runs_ns"])
        text.append(f"Restore of {row['resting']:,} resting orders in {row['markets']:,} markets, s: {seconds}.")
    text += ["", "| target | figure | asked | met |", "| --- | ---: | ---: | --- |"]
    for what, figure, target, more in targets(result):
        met = "yes" if (figure >= target if more else figure <= target) else "no"
        text.append(f"| {what.strip()} | {figure:,.2f} | {'at least' if more else 'at most'} {target:g} | {met} |")
    calls = sorted(row["call_ns"] for row in result["flows"] if "call_ns" in row)
    if calls:
        text += [
            "",
            f"A call from C into Go took {calls[0]} to {calls[-1]} ns; `obook` pays it once or twice a message.",
        ]
    return "\n".join(text) + "\n"


def shard_rows(rows: list[Row]) -> list[str]:
    """Return a table of what the shard does, as lines of Markdown."""
    text = ["| flow | frame | live nonces | median (min-max) | replay | " + " | ".join(PARTS) + " |"]
    text.append("| --- | --- |" + " ---: |" * (3 + len(PARTS)))
    for row in rows:
        if "failed" in row:
            continue
        replay = row["replay_messages"] * 1_000 / row["replay_ns"]
        parts = " | ".join(f"{row['parts_ns_per_command'][part]:.0f}" for part in PARTS)
        text.append(
            f"| {row['flow']} | {row['packing']} | {row['live_nonces']:,} | {in_millions(row)} | {replay:.2f} |"
            f" {parts} |"
        )
    return text


def flows_of(rows: list[Row]) -> list[str]:
    """Return the names of flows in the order in which they come."""
    return list(dict.fromkeys(row["flow"] for row in rows))


def star(row: Row) -> str:
    """Return the mark of an engine whose trades are not the flow's."""
    return "" if row.get("agrees", True) else " *"


def plot(result: Row, folder: Path) -> None:
    """Write the curve and the flows as SVG, where pygal is installed."""
    plots = Plots.open(folder, result["machine"])
    if plots is None:
        return
    names = [engine["name"] for engine in result["engines"]]
    how = {"range": (10_000, 100_000_000), "value_formatter": lambda per_s: f"{per_s:,.0f}"}
    bars = plots.chart("Bar", "Messages a second by flow, one thread", x_label_rotation=20, zero=10_000, **how)
    flows = flows_of(result["flows"])
    bars.x_labels = flows
    for name in names:
        found = {row["flow"]: row.get("per_s_median") for row in result["flows"] if row["engine"] == name}
        bars.add(name, [found.get(flow) for flow in flows])
    plots.write(bars, "flows")
    if result["curve"]:
        curve = plots.chart("Line", "Messages a second by resting orders, one thread", **how)
        curve.x_labels = [f"{resting:,}" for resting in CURVE]
        for name in names:
            found = {row["flow"]: row.get("per_s_median") for row in result["curve"] if row["engine"] == name}
            curve.add(name, [found.get(f"curve-{resting}") for resting in CURVE])
        plots.write(curve, "curve")


# --- what is run ----------------------------------------------------------------------------------------------------


def short(bench: Bench, engines: list[Engine]) -> Row:
    """Run what a change needs to be judged by."""
    rows = [bench.run(engine, flow) for flow in ("quiet", "deep") for engine in engines]
    rows += [bench.run(engine, flow) for flow in OWN_FLOWS for engine in engines if engine.name == "exchange_core"]
    table("book alone", rows, [engine.name for engine in engines])
    shard = bench.own("shard", bench.flow("quiet", bench.messages), "1")
    print_shard(shard)
    return {"flows": rows, "shard": shard, "curve": [], "latency": [], "memory": [], "restore": []}


def whole(bench: Bench, engines: list[Engine], flows: Iterable[str]) -> Row:
    """Run everything."""
    columns = [engine.name for engine in engines]
    rows: list[Row] = []
    for flow in (*flows, *OWN_FLOWS):
        wanted = [engine for engine in engines if flow not in OWN_FLOWS or engine.name == "exchange_core"]
        rows += [bench.run(engine, flow) for engine in wanted]
        print(f"{flow}: done", file=sys.stderr)
    table("book alone", rows, columns)
    calls = sorted(row["call_ns"] for row in rows if "call_ns" in row)
    if calls:
        print(f"a call from C into Go, which obook pays once or twice a message: {calls[0]} to {calls[-1]} ns")
    curve = [
        bench.run(engine, f"curve-{resting}")
        for resting in CURVE
        if resting <= bench.resting_max
        for engine in engines
        if resting <= engine.resting_max
    ]
    table("book alone, by resting orders", curve, columns)
    latency = [bench.own("latency", bench.flow(flow, bench.messages))[0] for flow in (*flows, *OWN_FLOWS)]
    print("\nlatency of a message on the book alone, ns (time stamp counter between fences)")
    print(f"{'flow':<16}" + "".join(f"{mark:>10}" for mark in MARKS))
    for row in latency:
        print(f"{row.get('latency', '?'):<16}" + "".join(f"{row.get(f'{mark}_ns', 0):>10,}" for mark in MARKS))
    shard = [
        row for flow in SHARD_FLOWS for row in bench.own("shard", bench.flow(flow, bench.messages), str(bench.runs))
    ]
    print_shard(shard)
    memory = [row for part in ("memory-book", "memory-shard") for row in bench.own(part, "10000000")]
    nonces = bench.own("nonces", bench.flow("markets-1", bench.messages))
    print("\nthe same by nonces that are remembered")
    print_shard(nonces)
    print("\nresident memory per resting order, growth since the first size")
    for row in memory:
        print(f"{row['memory']:<8}{row['resting']:>12,}{row['bytes_per_order']:>10.1f} bytes")
    restore = bench.own("restore", "1000000")
    for row in restore:
        seconds = ", ".join(f"{ns / 1e9:.2f}" for ns in row["runs_ns"])
        print(f"\nrestore of {row['resting']:,} resting orders in {row['markets']:,} markets: {seconds} s", end="")
        print(f"; checkpoint of {row['checkpoint_bytes']:,} bytes written in {row['write_ns'] / 1e9:.2f} s")
    return {
        "flows": rows,
        "curve": curve,
        "latency": latency,
        "shard": shard,
        "nonces": nonces,
        "memory": memory,
        "restore": restore,
    }


def names_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what reads names of these, separated by commas."""
    there = list(known)

    def names(text: str) -> list[str]:
        unknown = [name for name in text.split(",") if name not in there]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(map(repr, unknown))}: there are {', '.join(there)}")
        return text.split(",")

    return names


def positive(text: str) -> int:
    """Return a whole number from 1 on."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 on is needed")
    return int(text)


MARKS: Final = ("p50", "p90", "p99", "p99_9", "p99_99", "max")


def main() -> int:
    """Build, measure, print; return 1 when the core failed or its trades are not the flow's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="less than a minute: three flows, two engines")
    parser.add_argument("--messages", type=positive, help=f"timed messages per flow (default: {MESSAGES:,})")
    parser.add_argument("--runs", type=positive, default=7, help="counted runs at most (default: 7)")
    parser.add_argument("--seconds", type=positive, default=20, help="start no further run after so long (default: 20)")
    engines_there = [engine.name for engine in ENGINES]
    parser.add_argument("--engines", type=names_of(engines_there), help="names, separated by commas (default: all)")
    parser.add_argument("--flows", type=names_of(FLOWS), help="names, separated by commas (default: all)")
    parser.add_argument("--resting-max", type=positive, default=CURVE[-1], help="where the curve ends (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", default=BUILD / "bench-core.json")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown as well")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", default=BUILD / "plots")
    options = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    messages = options.messages or (SHORT_MESSAGES if options.short else MESSAGES)
    runs, seconds = (3, 3) if options.short else (options.runs, options.seconds)
    names = options.engines or engines_there
    if options.short and not options.engines:
        names = ["exchange_core", "matchcore"]
    about = {**machine(), "command": " ".join(["python", "-m", "loadtest.bench_core", *sys.argv[1:]])}
    bench = Bench(messages, runs, seconds)
    bench.resting_max = options.resting_max
    engines = bench.build([engine for engine in ENGINES if engine.name in names])
    print(f"{about['cpu']}; commit {about['commit']}; {about['command']}")
    print("one thread, processor time, flow parsed before the clock starts; * other trades than the flow's")
    flows = options.flows or FLOWS
    result = short(bench, engines) if options.short else whole(bench, engines, flows)
    result = {
        "machine": about,
        "engines": [{"name": engine.name, "language": engine.language} for engine in engines],
        "left_out": bench.missing,
        **result,
    }
    print_targets(result)
    bench.forget_flows()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    if options.markdown is not None:
        options.markdown.write_text(markdown(result))
    plot(result, options.plots)
    ours = [row for row in (*result["flows"], *result["curve"]) if row["engine"] == "exchange_core"]
    others = (*result["shard"], *result.get("nonces", ()), *result["memory"], *result["restore"])
    good = bool(ours) and all(row.get("agrees") for row in ours) and not any("failed" in row for row in others)
    if not good:
        print("the core failed, or its trades are not the flow's", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
