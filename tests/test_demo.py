"""`clob demo`: a whole exchange, from signed orders to audited balances, and what it says when something is missing."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from clob.v1 import settlement_service_pb2
from exchange.cli.demo import report_text
from exchange.cli.main import main
from exchange.embedded.demo import DemoReport
from exchange.embedded.demo_flow import SAMPLE_DATA_VARIABLE

SAMPLES = Path(os.environ.get(SAMPLE_DATA_VARIABLE, Path(__file__).parents[2] / "shared" / "data"))
PAIR = (
    "34200.1,1,11,5,1000,1\n34200.2,1,12,7,1100,-1\n34200.3,1,13,2,1000,1\n34200.4,4,11,3,1000,1\n34200.4,2,13,1,1000,1\n",
    "9999999999,0,1000,5\n1100,7,1000,5\n1100,7,1000,7\n1100,7,1000,4\n1100,7,1000,3\n",
)
"""Five LOBSTER rows, one level: two bids, an ask, an execution of the first bid, and the second made smaller."""
SMALL = ("--orders", "2000", "--markets", "40", "--traders", "40", "--rows", "500")


def run(*options: str, samples: Path) -> Result:
    return CliRunner(env={SAMPLE_DATA_VARIABLE: str(samples)}).invoke(main, ["demo", *options])


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    (tmp_path / "X_message_1.csv").write_text(PAIR[0])
    (tmp_path / "X_orderbook_1.csv").write_text(PAIR[1])
    return tmp_path


def test_demo_sends_both_flows_through_every_service_and_everything_balances(pair: Path) -> None:
    result = run(*SMALL, "--json", samples=pair)
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    assert report["passed"]
    assert report["seeded"]["sent"] == report["seeded"]["executed"] == 2_000
    assert report["seeded"]["accepted"] >= 1_900
    assert report["seeded"]["trades"] >= 400
    assert report["recorded"]["trades"] == 1
    assert report["book_equal"]
    assert report["audit"]["passed"]
    assert not report["audit"]["differing"]
    assert report["latency_us"]["end to end"]["p50"] > 0
    assert {"bus", "settlement-plane", "market-matcher-1", "market-data", "ingress-verifier"} <= set(report["cpu_us"])
    assert not report["left_behind"]


@pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"no sample data: {SAMPLE_DATA_VARIABLE} names no folder")
def test_the_published_book_of_a_recorded_day_is_the_recorded_one() -> None:
    result = run(*SMALL, "--json", samples=SAMPLES)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["book_equal"]


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    result = run(samples=tmp_path / "missing")
    assert result.exit_code == 2
    assert "is no folder" in result.output


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda report: setattr(report.seeded, "lost", 3), "3 orders without an outcome"),
        (lambda report: report.seeded.refused.update(OVERLOADED=2), "2 batches refused: OVERLOADED"),
        (lambda report: setattr(report.audit, "passed", False), "the audit does not balance"),
        (lambda report: setattr(report.seeded, "accepted", 900), "only 900 of 1,000 seeded orders were accepted"),
        (lambda report: setattr(report.seeded, "trades", 100), "only 100 trades in 1,000 seeded orders"),
        (lambda report: setattr(report, "book_equal", False), "the book is not the recorded one"),
        (lambda report: report.at_the_door.update(forged="EXECUTED"), "at the door"),
        (lambda report: report.left_behind.append("market-data (pid 7)"), "left behind: market-data (pid 7)"),
    ],
)
def test_whatever_is_not_as_it_should_be_fails_the_demo_and_is_said(change: Any, sentence: str) -> None:
    report = DemoReport(["seeded flow"], 40, 40)
    report.seeded.sent, report.seeded.accepted, report.seeded.trades = 1_000, 990, 250
    report.seeded.ended_ns = 10**9
    report.at_the_door = {"forged": "REFUSED", "repeated": "EXECUTED, not again"}
    report.audit = settlement_service_pb2.AuditResponse(passed=True)
    assert report.failures == []
    assert report_text(report).endswith("all balanced")
    change(report)
    assert any(sentence in failure for failure in report.failures)
    assert f"FAILED: {report.failures[0]}" in report_text(report)
