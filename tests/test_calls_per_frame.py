"""Settlement and market-data run as many statements of Python for a frame of sixteen orders as for one of thousands.

Signatures that are verified again are left out: each is a call into another library, as often as an operator chooses.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest

from exchange.engine.choice import engine_named
from exchange.execution.checkpoints import CheckpointStore
from exchange.marketdata.book_feed import BookFeed
from exchange.marketdata.execution_feed import ExecutionFeed
from exchange.marketdata.folds import FOLDS
from exchange.marketdata.history import History
from exchange.marketdata.reader import Reader, Source
from exchange.marketdata.trade_feed import TradeFeed
from exchange.settlement.database import Database
from exchange.settlement.settler import Settler, SettlerSettings
from loadtest.bench_settlement import BUS_KEY, Log, MemoryBus

pytest.importorskip("exchange_core", reason="the core is not built: make core")

FRAMES = 2
"""Of each log; the last one is watched."""
SIZES = {"16 batches of 1": (16, 1), "512 batches of 1": (512, 1), "16 batches of 512": (16, 512)}
"""Batches of a frame, and commands of a batch."""


@pytest.fixture(scope="module")
def logs() -> dict[str, Log]:
    return {name: Log(FRAMES, *size) for name, size in SIZES.items()}


def work_of(work: Callable[[], object]) -> Counter[str]:
    """Return how often each line of Python ran, and each function was called from Python, compiled ones included."""
    ran: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        ran[f"{event} {frame.f_code.co_filename}:{frame.f_lineno}"] += 1
        return trace

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            ran[f"call of {argument.__qualname__}"] += 1

    before = sys.gettrace(), sys.getprofile()
    sys.settrace(trace)
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    return ran


def settled(log: Log, folder: Path) -> Counter[str]:
    """Return what the settler runs in the round that settles the last frame of a log, from the bus to the cursor."""
    folder.mkdir()
    bus = MemoryBus(log)
    last = bus.entries["s1"].pop()
    settler = Settler(
        cast(Any, bus),
        log.environment,
        engine_named("core"),
        CheckpointStore(folder / "checkpoints"),
        {BUS_KEY.name: BUS_KEY},
        folder / "settlement.db",
        folder / "archive",
        SettlerSettings(verify_one_in=0),
    )
    settler._database = Database(folder / "settlement.db", log.environment.name, is_durable=False)
    settler._open()
    while settler._round(None):
        pass
    bus.entries["s1"].append(last)
    ran = work_of(lambda: settler._round(None))
    assert settler.progress[1].n == last.orders.n
    assert not settler.progress[1].stopped
    for shard in log.entries:
        archive = settler.archive(shard)
        assert archive is not None
        archive.close()
    settler._database.close()
    return ran


def followed(log: Log) -> Counter[str]:
    """Return what market-data runs for the last frame of a log, with a private stream of an account that is in it."""
    reader = Reader(cast(Any, None), log.environment, cast(Any, None), shard_fold=FOLDS["core"])
    feed, trades, books = ExecutionFeed(reader), TradeFeed(reader), BookFeed(reader)
    source = Source(1, "s1", FOLDS["core"].from_genesis(log.environment.genesis(1)), History(0, 1 << 30), is_tried=True)
    reader.sources = {1: source}
    frames = [entry.executions.frame for entry in log.entries[1]]

    async def follow() -> Counter[str]:
        for data in frames[:-1]:
            assert reader._take(source, data)
        # Whose batch is the first one of the last frame where frames are small; large frames have it of everybody.
        stream: Any = feed.stream(1 + (FRAMES - 1) * 16, ())
        await anext(stream)
        ran = work_of(lambda: reader._take(source, frames[-1]))
        assert len(await anext(stream)) > 20
        await stream.aclose()
        return ran

    ran = asyncio.run(follow())
    assert (len(trades), len(books)) == (0, 0)
    return ran


def assert_same(ran: dict[str, Counter[str]]) -> None:
    """Show which lines and functions ran more or less often than for the smallest frame."""
    first = ran["16 batches of 1"]
    for name, one in ran.items():
        more, less = one - first, first - one
        assert not more, (name, more)
        assert not less, (name, less)


def test_settlement_runs_the_same_python_for_frames_of_every_size(logs: dict[str, Log], tmp_path: Path) -> None:
    ran = {name: settled(log, tmp_path / name.replace(" ", "-")) for name, log in logs.items()}
    assert sum(ran["16 batches of 1"].values()) > 300, "the round was not watched"
    assert_same(ran)


def test_market_data_runs_the_same_python_for_frames_of_every_size(logs: dict[str, Log]) -> None:
    ran = {name: followed(log) for name, log in logs.items()}
    assert sum(ran["16 batches of 1"].values()) > 30, "the fold was not watched"
    assert_same(ran)
