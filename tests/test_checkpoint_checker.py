"""The process that loads checkpoints once before they count."""

import os
import signal
import time
from pathlib import Path

import pytest

from exchange.engine.choice import DEFAULT_ENGINE
from exchange.local.control_venue import ControlVenue
from exchange.settlement.checkpointing import Checker

WAIT_S = 30


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    venue = ControlVenue(environment="local")
    venue.new_user("alice")
    path = tmp_path / "a"
    path.write_bytes(venue.engine.checkpoint())
    return path


def test_many_checks_are_made_by_one_process(checkpoint: Path, tmp_path: Path) -> None:
    checker = Checker()
    try:
        damaged = tmp_path / "damaged"
        damaged.write_bytes(checkpoint.read_bytes()[:-1])
        asked = [checker.ask(DEFAULT_ENGINE, 0, file) for file in (checkpoint, damaged, tmp_path / "nowhere")]
        pid = checker.pid
        forgotten = checker.ask(DEFAULT_ENGINE, 0, checkpoint)
        checker.forget(forgotten)
        asked.append(checker.ask(DEFAULT_ENGINE, 0, checkpoint))
        assert checker.pid == pid
        checker.wait(asked[-1], WAIT_S)
        good, bad, missing, again = (checker.answer(number) for number in asked)
        assert good is not None
        assert set(good) == {"n", "chain_hash", "state_hash"}
        assert again == good
        assert bad is not None
        assert "error" in bad
        assert missing is not None
        assert str(missing["error"]).startswith("FileNotFoundError")
        assert checker.answer(asked[0]) is None
        assert checker.answer(forgotten) is None
    finally:
        checker.close()


def test_a_check_whose_process_dies_has_failed_and_the_next_one_has_another_process(checkpoint: Path) -> None:
    checker = Checker()
    try:
        first = checker.ask(DEFAULT_ENGINE, 0, checkpoint)
        assert checker.pid is not None
        os.kill(checker.pid, signal.SIGSTOP)
        second = checker.ask(DEFAULT_ENGINE, 0, checkpoint)
        os.kill(checker.pid, signal.SIGKILL)
        checker.wait(second, WAIT_S)
        for number in (first, second):
            answer = checker.answer(number)
            assert answer == {"error": "the checking process ended with -9"}
        third = checker.ask(DEFAULT_ENGINE, 0, checkpoint)
        checker.wait(third, WAIT_S)
        assert "n" in (checker.answer(third) or {})
    finally:
        checker.close()


def test_a_check_that_takes_too_long_is_ended(checkpoint: Path) -> None:
    checker = Checker()
    try:
        number = checker.ask(DEFAULT_ENGINE, 0, checkpoint)
        assert checker.pid is not None
        os.kill(checker.pid, signal.SIGSTOP)
        began_s = time.monotonic()
        checker.wait(number, 0.1)
        assert time.monotonic() - began_s < WAIT_S
        assert "error" in (checker.answer(number) or {})
    finally:
        checker.close()
