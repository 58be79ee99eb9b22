"""`clob demo`: the main job in one process, and what it says when money is missing."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from exchange.cli.demo import report_text
from exchange.cli.main import main
from exchange.engine.choice import engine_named
from exchange.local.demo import FRAME_BATCHES, Report, run_demo
from exchange.local.demo_sources import LOBSTER_SHARD, SAMPLE_DATA_VARIABLE, SEEDED_SHARD, seeded_source
from exchange.settlement.ledger import Ledger, account_holder

REFERENCE = engine_named("reference")
SAMPLES = Path(os.environ.get(SAMPLE_DATA_VARIABLE, Path(__file__).parents[2] / "shared" / "data"))
PAIR = (
    "34200.1,1,11,5,1000,1\n34200.2,1,12,7,1100,-1\n34200.3,1,13,2,1000,1\n34200.4,4,11,3,1000,1\n34200.4,2,13,1,1000,1\n",
    "9999999999,0,1000,5\n1100,7,1000,5\n1100,7,1000,7\n1100,7,1000,4\n1100,7,1000,3\n",
)
"""Five LOBSTER rows, one level: two bids, an ask, an execution of the first bid, and the second made smaller."""


def run(*options: str, samples: Path) -> Result:
    return CliRunner(env={SAMPLE_DATA_VARIABLE: str(samples)}).invoke(main, ["demo", *options])


def found(*options: str, samples: Path) -> dict[str, Any]:
    result = run(*options, "--json", samples=samples)
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    (tmp_path / "X_message_1.csv").write_text(PAIR[0])
    (tmp_path / "X_orderbook_1.csv").write_text(PAIR[1])
    return tmp_path


def test_demo_without_samples_trades_the_seeded_flow_and_is_balanced(tmp_path: Path) -> None:
    report = found("--orders", "300", samples=tmp_path)
    (shard,) = report["shards"]
    assert report["passed"]
    assert report["balanced"]
    assert (shard["shard"], shard["messages"], shard["commands"]) == (SEEDED_SHARD, 300, 300)
    assert shard["accepted"] + sum(shard["rejected"].values()) == 300
    assert shard["frames"] == -(-300 // FRAME_BATCHES)
    assert shard["trades"] > 0
    assert shard["replay_equal"]
    assert shard["replayed_frames"] > 0
    assert all(ns > 0 for ns in shard["cpu_ns_per_command"].values())


def test_demo_trades_a_recorded_day_where_there_is_one_and_its_book_is_the_recorded_one(pair: Path) -> None:
    report = found("--orders", "200", samples=pair)
    recorded, seeded = report["shards"]
    assert (recorded["shard"], seeded["shard"]) == (LOBSTER_SHARD, SEEDED_SHARD)
    assert "X_message_1.csv" in recorded["source"]
    assert (recorded["messages"], recorded["trades"], recorded["rejected"]) == (5, 1, {})
    assert (recorded["books_compared"], recorded["books_equal"]) == (1, 1)
    assert recorded["volume_units"] == {"1": 3 * 1000 * 100}


def test_demo_of_one_seed_makes_one_chain(tmp_path: Path) -> None:
    hashes = [
        found("--orders", "130", "--seed", seed, samples=tmp_path)["shards"][0]["chain_hash"]
        for seed in ("4", "4", "5")
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_batch_that_comes_twice_is_executed_once_and_a_forged_one_is_refused_at_the_door(tmp_path: Path) -> None:
    (shard,) = found("--orders", "130", samples=tmp_path)["shards"]
    assert (shard["repeats"], shard["refused_at_door"]) == (1, 1)
    assert shard["batches"] == shard["commands"] + 2


def test_last_line_is_the_verdict_of_the_audit(tmp_path: Path) -> None:
    result = run("--orders", "70", samples=tmp_path)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "audit: balanced"
    assert "CLOB_SAMPLE_DATA" in result.stdout


def tampered() -> Report:
    """Return the report of a demo in which an account has one unit more in the ledger than its engine knows of."""

    def plant(ledger: Ledger) -> None:
        ledger._units[account_holder(1), 1] = ledger.units(account_holder(1), 1) + 1

    return run_demo(REFERENCE, [seeded_source(1, 70, REFERENCE)], lambda *_: None, before_audit=plant)


def test_unit_that_comes_from_nowhere_is_named() -> None:
    report = tampered()
    assert not report.passed
    (difference,) = report.audit.differences
    assert (difference.shard, difference.what) == (SEEDED_SHARD, "account 1, asset 1")
    assert report_text(report).splitlines()[-1] == "audit: NOT BALANCED"


def test_demo_that_is_not_balanced_exits_with_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report = tampered()
    monkeypatch.setattr("exchange.cli.demo.run_demo", lambda *_: report)
    result = run("--orders", "70", samples=tmp_path)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "audit: NOT BALANCED"
    as_json = run("--orders", "70", "--json", samples=tmp_path)
    assert (as_json.exit_code, json.loads(as_json.stdout)["balanced"]) == (1, False)


def test_samples_that_are_no_folder_are_a_sentence_and_exit_code_2(tmp_path: Path) -> None:
    result = run(samples=tmp_path / "missing")
    assert result.exit_code == 2
    assert "CLOB_SAMPLE_DATA" in result.stderr
    assert "missing" in result.stderr


def test_samples_that_cannot_be_read_are_a_sentence_and_exit_code_2(pair: Path) -> None:
    (book,) = pair.glob("*orderbook*")
    book.write_bytes(b"")
    result = run("--orders", "10", samples=pair)
    assert result.exit_code == 2
    assert book.name in result.stderr


def test_treasury_has_what_was_released_and_the_fees_that_were_swept(tmp_path: Path) -> None:
    dollars = found("--orders", "400", samples=tmp_path)["audit"][0]
    assert dollars["symbol"] == "USD"
    assert dollars["fee_units"] > 0
    assert dollars["shard_units"] + dollars["fee_units"] + dollars["treasury_units"] == dollars["in_units"]
    assert (dollars["transit_units"], dollars["difference_units"]) == (0, 0)


@pytest.mark.skipif(not (SAMPLES / "lobster").is_dir(), reason="needs the LOBSTER sample files (CLOB_SAMPLE_DATA)")
def test_real_messages_are_all_accepted_and_the_book_is_the_recorded_one() -> None:
    recorded, _ = found("--orders", "900", samples=SAMPLES)["shards"]
    assert (recorded["messages"], recorded["rejected"]) == (900, {})
    assert recorded["books_compared"] == recorded["books_equal"] == recorded["frames"] > 10
    assert recorded["trades"] > 0
