"""The load generator on a real exchange: what it says of the answers is what the log says."""

import asyncio
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clob.v1 import frame_pb2
from exchange.config.environment import LOAD_TEST_SETTINGS
from exchange.domain.rejects import RejectReason
from exchange.embedded.data_dir import DataDir
from loadtest.bench_path import case_lines, plot
from loadtest.generator_process import Generator, GeneratorError, Sending, build, count_frames
from loadtest.path_case import GENERATOR, Case, log_frames, run_case, sources_of

pytestmark = pytest.mark.skipif(shutil.which("cargo") is None, reason="the load generator needs cargo")

SMALL = Case(markets=20, traders=20, resting_per_market=4, seconds=30, orders=400, point_s=0.5, rates=(400.0,))
"""A closed loop that ends when its orders have run out, and an open loop of half a second."""
ANSWERING = frozenset({"order_accepted", "order_replaced", "order_reduced", "order_cancelled"})


@pytest.fixture(scope="module")
def binary() -> Path:
    return build()


def run(case: Case, folder: Path, binary: Path) -> dict[str, Any]:
    return asyncio.run(run_case(case, folder, binary, lambda text: None))


def count_plainly(folder: Path, result: dict[str, Any]) -> Counter[str]:
    """Count the log with the protobuf library."""
    counts: Counter[str] = Counter()
    positions = result["positions"]
    for _, frame in log_frames(DataDir(folder), positions["before"], positions["after"]):
        for event in frame_pb2.ExecutionFrame.FromString(frame).events:
            kind = event.WhichOneof("event")
            assert kind is not None
            if kind == "batch_result":
                assert not event.batch_result.reason
                counts["batches_executed"] += 1
            elif kind == "command_rejected":
                counts[RejectReason(event.command_rejected.reason).name] += 1
            elif kind == "trade":
                counts["trades"] += 1
            elif kind in ANSWERING and getattr(event, kind).command:
                counts["accepted"] += 1
    return counts


@pytest.mark.parametrize(
    "sending",
    [
        Sending(stream=True, connections=2, per_signature=1, per_message=10, in_flight=2),
        Sending(stream=False, connections=1, per_signature=16, per_message=40, in_flight=3),
    ],
    ids=["singly signed, stream", "in batches, unary"],
)
def test_every_acknowledged_order_is_in_the_log(sending: Sending, tmp_path: Path, binary: Path) -> None:
    result = run(replace(SMALL, sending=sending), tmp_path, binary)
    assert result["passed"], result["failures"]
    closed, opened = result["phases"]
    assert closed["sent"] == closed["prepared"]["commands"] >= SMALL.orders
    assert opened["sent"] > 0
    assert opened["latency"]["end to end"]["count"] == opened["sent"]
    assert closed["cpu_s"][GENERATOR] > 0
    answers = result["answers"]
    plainly = count_plainly(tmp_path, result)
    assert answers["accepted"] > 0
    assert answers["trades"] > 0
    assert plainly == Counter(
        {
            "batches_executed": answers["batches_executed"],
            "accepted": answers["accepted"],
            "trades": answers["trades"],
            **answers["rejected"],
        }
    )
    assert case_lines(result)[-1].startswith("passed")
    plot({"machine": {"cpu": "", "commit": ""}, "cases": [result]}, tmp_path / "plots")
    assert {path.name for path in (tmp_path / "plots").iterdir()} >= {"latency.svg", "cpu.svg"}


def test_a_frame_that_is_missing_from_the_log_shows(tmp_path: Path, binary: Path) -> None:
    result = run(replace(SMALL, rates=()), tmp_path, binary)
    positions = result["positions"]
    frames = list(log_frames(DataDir(tmp_path), positions["before"], positions["after"]))
    assert count_frames(binary, frames) == result["log"]
    missed = 0
    for left_out in range(len(frames)):
        part = count_frames(binary, frames[:left_out] + frames[left_out + 1 :])
        executed = frame_pb2.ExecutionFrame.FromString(frames[left_out][1]).events
        if any(event.WhichOneof("event") == "batch_result" for event in executed):
            assert part["fingerprint"] != result["answers"]["fingerprint"]
            missed += 1
    assert missed


def test_a_log_that_is_damaged_is_an_error(binary: Path) -> None:
    with pytest.raises(GeneratorError):
        count_frames(binary, [(1, b"\x3a\x05\x01")])


def test_a_job_that_cannot_be_is_refused_without_a_word_of_its_keys(
    binary: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "7" * 63

    async def start() -> None:
        users = [{"account": 5, "seed": secret}]
        asked = {"address": "127.0.0.1:1", "environment": "test", "validity_ms": LOAD_TEST_SETTINGS.max_validity_ms}
        sending = {"stream": True, "connections": 1, "in_flight": 1, "per_signature": 1, "per_message": 1}
        rest = {"wait_ms_max": 1_000, "nonce": 1, "seed": 1, "resting": 1, "users": users}
        malformed: list[dict[str, Any]] = [{}]
        for shards in (malformed, [{"shard": 1, "markets": []}]):
            generator = await Generator.start(binary, {**asked, **sending, **rest, "shards": shards})
            try:
                with pytest.raises(GeneratorError):
                    await generator.go()
            finally:
                await generator.close()

    asyncio.run(start())
    said = capfd.readouterr().err
    assert "the seed of account 5 is not 64 hex digits" in said
    assert secret not in said


def test_shards_divide_the_markets_and_every_market_has_who_trades_in_it() -> None:
    sources = sources_of(replace(SMALL, shards=3))
    assert sum(len(source.markets) for source in sources) == SMALL.markets
    assert len({market.market for source in sources for market in source.markets}) == SMALL.markets
    for source in sources:
        for market in source.markets:
            assert {owner.asset for owner in source.funding} >= {market.base_asset, market.quote_asset}
