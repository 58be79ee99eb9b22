"""Cases of the benchmark of the whole path, without an exchange: what fails a run, and what such a run leaves."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadtest import bench_path
from loadtest.generator_process import GeneratorError
from loadtest.path_case import Case


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
