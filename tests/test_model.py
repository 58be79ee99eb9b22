from typing import Any

import pytest

from loadtest.model import costs_of, efficiency_of, lines_of, predict

PER_MILLION = {
    "bus": 2.0,
    "settlement-plane": 8.0,
    "market-matcher-1": 2.0,
    "market-matcher-2": 2.0,
    "market-data": 2.0,
    "ingress-verifier": 2.0,
    "ingress-verifier, worker 1": 12.0,
    "ingress-verifier, front 2": 0.0,
    "load generator": 2.0,
}


def case() -> dict[str, Any]:
    cpu_s = {name: cost * 3 for name, cost in PER_MILLION.items()}
    closed = {"phase": "closed", "cpu_s_per_million": PER_MILLION, "cpu_s": cpu_s, "settled_s": 60.0}
    return {"case": "singly", "phases": [{"phase": "calibration"}, closed]}


def test_what_processes_cost_is_told_by_kind() -> None:
    costs = costs_of(case())
    assert costs["market-matcher"] == pytest.approx(4e-6)
    assert costs["worker"] == pytest.approx(12e-6)
    assert sum(costs.values()) == pytest.approx(32e-6)
    assert efficiency_of(case(), 2) == pytest.approx(0.8)


def test_the_machine_that_was_measured_is_predicted_and_then_one_process_after_the_other_bounds() -> None:
    costs = costs_of(case())
    assert predict(costs, 0.8, 2, 1, 2) == (50_000, "all cores")
    assert predict(costs, 0.8, 4, 1, 2) == (75_000, "1 workers")
    assert predict(costs, 0.8, 64, 64, 64) == (112_500, "settlement-plane")


def test_a_table_has_a_row_for_each_machine() -> None:
    lines = lines_of({"cases": [case()]}, [2, 4], [1, 1], [2, 2], 2)
    assert lines[2:] == ["| singly | 2 | 1 | 2 | 50,000 | all cores |", "| singly | 4 | 1 | 2 | 75,000 | 1 workers |"]
