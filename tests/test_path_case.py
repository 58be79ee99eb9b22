"""Cases of the benchmark of the whole path, without an exchange: what fails a run, and what such a run leaves."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from loadtest import bench_path
from loadtest.generator_process import GeneratorError
from loadtest.path_case import COUNTED, OVERLOADED, Case, failures_of


@pytest.mark.parametrize("passed", [True, False])
def test_cases_that_were_finished_are_written_where_another_failed(
    passed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run_case(case: Case, *_: object) -> dict[str, Any]:
        if case.sending.per_signature == 64 and not passed:
            raise GeneratorError("the generator ended with -9")
        return {"case": case.name, "per_signature": 1, "phases": [], "passed": True, "failures": []}

    file = tmp_path / "figures.json"
    options = ["--per-signature", "512", "64", "1", "--json", str(file), "--plots", str(tmp_path / "plots")]
    monkeypatch.setattr("sys.argv", ["bench_path", *options])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(bench_path, "build", Path)
    monkeypatch.setattr(bench_path, "run_case", run_case)
    if passed:
        bench_path.main()
    else:
        with pytest.raises(SystemExit, match="1"):
            bench_path.main()
    found = [(case["passed"], case["failures"]) for case in json.loads(file.read_text())["cases"]]
    failed = (False, ["the generator ended with -9"])
    assert found == [(True, []), (True, []) if passed else failed, (True, [])]
    assert (tmp_path / "plots" / "cpu.svg").exists()
    said = capsys.readouterr()
    assert ("FAILED: the generator ended with -9" in said.out) is not passed
    assert [str(folder) in said.err for folder in tmp_path.glob("clob-bench-*")] == ([] if passed else [True])


def failures(*, counts: dict[str, Any] | None = None, result: dict[str, Any] | None = None, **phase: Any) -> list[str]:
    """Return what is wrong with a case of one phase in which all is well but for this."""
    good = {"accepted": 96, "rejected": {"UNKNOWN_ORDER": 4}, "refused": {}, "batches_repeated": 0}
    sums = dict.fromkeys(COUNTED, 7)
    of_phase = {"phase": "closed", "errors": {}, "lost": 0, "may_overload": False, "counts": good | (counts or {})}
    return failures_of({"audit_passed": True, "answers": sums, "log": sums} | (result or {}), [of_phase | phase])


def test_a_case_in_which_all_is_well_passes() -> None:
    assert failures() == []


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"errors": {"a stream ended": 2}}, "closed: a stream ended (2 times)"),
        ({"lost": 1_000}, "closed: 1,000 orders without an outcome"),
        ({"counts": {"batches_repeated": 3}}, "closed: 3 batches had been executed before"),
        ({"counts": {"refused": {OVERLOADED: 5}}}, "closed: 5 orders refused: OVERLOADED"),
        (
            {"counts": {"refused": {"BATCH_EXPIRED": 5}}, "may_overload": True},
            "closed: 5 orders refused: BATCH_EXPIRED",
        ),
        ({"counts": {"accepted": 0, "rejected": {}}}, "closed: no order was executed"),
        ({"counts": {"accepted": 94, "rejected": {"A": 4, "B": 2}}}, "closed: only 94 of 100 orders were accepted"),
        ({"result": {"audit_passed": False}}, "the audit does not balance, or is not complete"),
        *(
            ({"result": {"log": dict.fromkeys(COUNTED, 7) | {name: 6}}}, f"{name}: the answers say 7, the log says 6")
            for name in COUNTED
        ),
    ],
)
def test_each_thing_that_may_go_wrong_fails_a_case(wrong: dict[str, Any], sentence: str) -> None:
    assert failures(**wrong) == [sentence]


def test_a_rate_that_was_asked_for_may_be_too_much() -> None:
    assert failures(counts={"refused": {OVERLOADED: 5}}, may_overload=True) == []
    # Where orders are refused the books are not what the flow takes them for: then more may be rejected.
    assert failures(counts={"accepted": 1, "refused": {OVERLOADED: 5}}, may_overload=True) == []


STARTS_A_GENERATOR = """
import asyncio, sys
from pathlib import Path
from loadtest.generator_process import Generator

async def main():
    print((await Generator.start(Path(sys.argv[1]), {})).pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the leash is the kernel's")
def test_a_generator_ends_with_the_benchmark_that_was_killed(tmp_path: Path) -> None:
    busy = tmp_path / "generator"
    busy.write_text("#!/bin/sh\nexec sleep 600\n")
    busy.chmod(0o700)
    with subprocess.Popen([sys.executable, "-c", STARTS_A_GENERATOR, busy], stdout=subprocess.PIPE) as benchmark:
        assert benchmark.stdout is not None
        generator = psutil.Process(int(benchmark.stdout.readline()))
        benchmark.kill()
    _, left = psutil.wait_procs([generator], timeout=20)
    for process in left:
        process.kill()
    assert not left
