"""What the whole path would do on another machine, by what each process costs per order on this one.

    python -m loadtest.model [bench-path.json] [--cores N ...] [--workers N ...] [--shards N ...]

Every process but the workers' verification runs on one core at a time, so that orders a second are bounded by the
busiest process, and by all cores together:

    min( e * cores / sum of all costs,  u * workers / cost of a worker,  u * shards / cost of a matcher,
         u / cost of the framer, u / cost of the bus, u / cost of settlement, u / cost of market data )

A cost is processor seconds per order in the closed loop of `bench_path`, all instances of a process together. `e` is
the part of all cores that the closed loop kept busy in the file: what is left is waiting, and it does not get better by
more cores. `u` is the part of one core that a process gets done without its queue growing, 0.9. The load generator
counts as a process that needs its share. What the model leaves out: caches that many cores share, networks between
machines, and the distribution of orders over shards, which it takes for even.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from loadtest.bench_path import BUILD

SERIAL_MAX: Final = 0.9
WORKER: Final = "worker"
MATCHER: Final = "market-matcher"
SERIAL: Final = ("bus", "settlement-plane", "market-data", "ingress-verifier")


class Prediction(NamedTuple):
    """Orders a second, and what bounds them."""

    orders_per_s: int
    bound_by: str


def costs_of(case: Mapping[str, Any]) -> dict[str, float]:
    """Return processor seconds per order by kind of process, of the closed loop of a case."""
    [closed] = [phase for phase in case["phases"] if phase["phase"] == "closed"]
    costs: dict[str, float] = {}
    for name, per_million in closed["cpu_s_per_million"].items():
        kind = name
        if name.startswith(MATCHER):
            kind = MATCHER
        elif WORKER in name:
            kind = WORKER
        costs[kind] = costs.get(kind, 0.0) + per_million / 1e6
    return costs


def efficiency_of(case: Mapping[str, Any], cores: int) -> float:
    """Return the part of all cores that the closed loop kept busy."""
    [closed] = [phase for phase in case["phases"] if phase["phase"] == "closed"]
    busy: float = sum(closed["cpu_s"].values()) / closed["settled_s"] / cores
    return min(1.0, busy)


def predict(costs: Mapping[str, float], efficiency: float, cores: int, workers: int, shards: int) -> Prediction:
    """Return what a machine comes to, as the head of this module says."""
    bounds = {
        "all cores": efficiency * cores / sum(costs.values()),
        **{
            name: SERIAL_MAX * count / costs[kind]
            for name, kind, count in (
                (f"{workers} workers", WORKER, workers),
                (f"{shards} matchers", MATCHER, shards),
                *((kind, kind, 1) for kind in SERIAL),
            )
            if costs.get(kind)
        },
    }
    bound_by = min(bounds, key=lambda name: bounds[name])
    return Prediction(round(bounds[bound_by]), bound_by)


def lines_of(
    result: Mapping[str, Any], cores: Sequence[int], workers: Sequence[int], shards: Sequence[int], here: int
) -> list[str]:
    """Return the predictions of a result of `bench_path` as a table."""
    lines = ["| case | cores | workers | shards | orders/s | bound by |", "| --- | ---: | ---: | ---: | ---: | --- |"]
    for case in result["cases"]:
        costs, efficiency = costs_of(case), efficiency_of(case, here)
        for row in zip(cores, workers, shards, strict=True):
            predicted = predict(costs, efficiency, *row)
            numbers = " | ".join(map(str, row))
            lines.append(f"| {case['case']} | {numbers} | {predicted.orders_per_s:,} | {predicted.bound_by} |")
    return lines


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(prog="model", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("result", type=Path, nargs="?", default=BUILD / "bench-path.json", help="of bench_path")
    parser.add_argument("--here", type=int, default=2, help="cores of the machine that it ran on (%(default)s)")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32], help="of other machines")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 1, 2, 4, 10, 22], help="for each of them")
    parser.add_argument("--shards", type=int, nargs="+", default=[2, 2, 2, 2, 4, 8], help="for each of them")
    options = parser.parse_args()
    if not len(options.cores) == len(options.workers) == len(options.shards):
        parser.error("--cores, --workers and --shards have as many numbers as there are machines")
    result = json.loads(options.result.read_text())
    print("\n".join(lines_of(result, options.cores, options.workers, options.shards, options.here)))


if __name__ == "__main__":
    main()
