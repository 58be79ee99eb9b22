"""An exchange that is offered more than it can do, for a moment: what must hold however slow the machine is."""

import asyncio
import shutil
from pathlib import Path

import pytest

from loadtest.bench_overload import FORGED, Overload, lines_of, run_overload

pytestmark = pytest.mark.skipif(shutil.which("cargo") is None, reason="the load generator needs cargo")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
def test_a_crowd_loses_nothing_and_keeps_nobody_from_cancelling(stream: bool, tmp_path: Path) -> None:
    overload = Overload(
        seconds=1.5, factors=(5.0,), attacks=(FORGED,), connections=8, stream=stream, markets=20, traders=20
    )
    result = asyncio.run(run_overload(overload, tmp_path, lambda text: None))
    assert not result["wrong"]
    loads = {row["load"]: row for row in result["rows"]}
    assert list(loads) == ["capacity", "none", "5 x", "half", f"half, {FORGED}"]
    crowd = loads["5 x"]
    assert crowd["taken_per_s"] < crowd["offered_per_s"]
    assert crowd["goodput_per_s"] > 0
    assert loads[f"half, {FORGED}"]["attack"]["refused"]
    assert lines_of(result)[2].startswith("| capacity")
