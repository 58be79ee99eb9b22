"""The engines say the same over random and adversarial entries (`tests/differential`), and the test itself is tested.

200,000 commands, in slices so that several processes share them: half from seeds that never change, half from new ones,
which a failure prints. `make differential` compares as many as one likes. Where the core is not built there is one
engine only: it is then compared with itself, over fewer commands, so that entries of every kind are still made.
"""

import importlib.util
import json
import pickle
import secrets
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from exchange.domain.events import Event
from exchange.domain.rejects import RejectReason
from exchange.engine.choice import ENGINES, engine_named
from exchange.engine.port import RawEntry
from exchange.engine.reference import ReferenceFactory, ReferenceShard
from exchange.local.venue import Venue
from exchange.wire.errors import WireReason
from tests.differential import cases, codec, coverage, planted, run, worst
from tests.differential.cases import Case, Shrinker, Step
from tests.differential.draw import Draw
from tests.differential.pair import Difference, Pair
from tests.differential.run import Found, Report

UNDER_TEST = "core" if "core" in ENGINES else "reference"
SLICES = 20 if UNDER_TEST == "core" else 4
SLICE_COMMANDS = 10_000
CODEC_STRINGS = 10_000
ENTRY_SECONDS_MAX = 5.0
ENTRY_BYTES_MAX = 256 * 2**20
CASES = Path(__file__).parent / "differential" / "cases"


def _compare(seed: int, commands: int, folder: Path) -> Report:
    """Compare over so many commands; none: over the floods."""
    report = Report()
    left, right = engine_named("reference"), engine_named(UNDER_TEST)
    try:
        if commands:
            run.run_commands(seed, commands, left, right, report)
        else:
            run.run_floods(seed, left, right, report)
    except Found as found:
        small = Shrinker(found.case, left, right, 30.0).run()
        path = folder / f"{small.theme}-{small.seed}.json"
        small.write(path)
        message = f"{found}\n\nshrunk to {len(small.steps)} steps, in {path}; as its last step:\n{small.difference}"
        pytest.fail(message, pytrace=False)
    print(coverage.table(report.kinds))
    return report


@pytest.mark.parametrize("number", range(SLICES // 2))
def test_engines_say_the_same_over_entries_from_a_fixed_seed(number: int, tmp_path: Path) -> None:
    assert _compare(number, SLICE_COMMANDS, tmp_path).commands >= SLICE_COMMANDS


@pytest.mark.parametrize("number", range(SLICES // 2))
def test_engines_say_the_same_over_entries_from_a_new_seed(number: int, tmp_path: Path) -> None:
    seed = secrets.randbits(48)
    print(f"slice {number}: python -m tests.differential --commands {SLICE_COMMANDS} --seed {seed}")
    _compare(seed, SLICE_COMMANDS, tmp_path)


def test_everything_that_a_trading_shard_can_say_occurs(tmp_path: Path) -> None:
    report = _compare(secrets.randbits(48), 0, tmp_path)
    for seed in range(20):
        report.add(_compare(seed, SLICE_COMMANDS // 2, tmp_path))
        if not coverage.missing_from(report.kinds):
            return
    pytest.fail(f"never occurred: {', '.join(coverage.missing_from(report.kinds))}\n{coverage.table(report.kinds)}")


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_a_difference_that_was_found_once_is_not_there_again(path: Path) -> None:
    """Cases are kept when what they showed was mended."""
    assert cases.replay(Case.read(path), engine_named("reference"), engine_named(UNDER_TEST)) is None


# --- the test is tested -----------------------------------------------------------------------------------------------


class WrongShard(ReferenceShard):
    """An engine whose state goes wrong once it has seen three trades, while its frames stay right."""

    def apply(self, entries: list[RawEntry]) -> list[bytes]:  # type: ignore[override]
        frames = super().apply(entries)
        if self._trading.floor.last_trade >= 3:
            self._trading.last_timer += 1
        return frames


class WrongFactory(ReferenceFactory):
    """Makes shards that count a timer too many once they have seen three trades."""

    def from_genesis(self, genesis: bytes) -> ReferenceShard:
        shard = super().from_genesis(genesis)
        shard.__class__ = WrongShard
        return shard


def test_a_difference_is_found_shrunk_and_shown_again_from_its_file(tmp_path: Path) -> None:
    left, right = engine_named("reference"), WrongFactory()
    with pytest.raises(Found) as caught:
        run.run_commands(0, 20_000, left, right, Report())
    case = caught.value.case
    small = Shrinker(case, left, right, 20.0).run()
    assert len(small.steps) < max(8, len(case.steps) // 2)
    path = tmp_path / "case.json"
    small.write(path)
    assert json.loads(path.read_text())["seed"] == str(case.seed)
    again = cases.replay(Case.read(path), left, right)
    assert isinstance(again, Difference)
    assert str(again) == small.difference
    assert cases.replay(Case.read(path), left, left) is None


def test_entries_are_the_same_for_a_seed() -> None:
    def steps_of(seed: int) -> list[Step]:
        factory = _Recorder()
        run.run_commands(seed, 1_000, factory, engine_named("reference"), Report())
        return factory.entries  # type: ignore[return-value]

    assert steps_of(5) == steps_of(5)
    assert steps_of(5) != steps_of(6)


class _Recorder(ReferenceFactory):
    """Makes shards that write down what they are fed."""

    def __init__(self) -> None:
        self.entries: list[RawEntry] = []

    def from_genesis(self, genesis: bytes) -> ReferenceShard:
        shard = super().from_genesis(genesis)
        apply = shard.apply

        def recorded(entries: list[RawEntry]) -> list[bytes]:
            self.entries += entries
            return apply(entries)

        shard.apply = recorded  # type: ignore[method-assign, assignment]
        return shard


def test_a_difference_at_a_load_goes_from_process_to_process() -> None:
    genesis = Venue(engine_named("reference")).genesis

    class Trusting(ReferenceFactory):
        def from_checkpoint(self, checkpoint: bytes) -> ReferenceShard:
            return self.from_genesis(genesis)

    pair = Pair(engine_named("reference"), Trusting(), genesis)
    with pytest.raises(Difference) as found:
        pair.check_load(b"", b"")
    there = pickle.loads(pickle.dumps(found.value))  # noqa: S301 - bytes of its own
    assert str(there) == str(found.value)
    assert there.right == "a shard at position 0"


def test_every_event_and_reason_is_required_or_said_to_be_out_of_reach() -> None:
    names = {kind.partition(" ")[0] for kind in coverage.REQUIRED}
    events = {event.__name__ for event in Event.__args__}
    assert names & events | set(coverage.UNREACHABLE_EVENTS) == events
    reasons = {kind.partition(" ")[2] for kind in coverage.REQUIRED} | {
        reason.name for reason in coverage.SHARD_0_REASONS
    }
    assert {reason.name for reason in RejectReason} <= reasons


def test_a_kind_that_never_occurred_is_named() -> None:
    counts = Counter(coverage.REQUIRED)
    assert coverage.missing_from(counts) == []
    counts["Trade"] = 0
    assert coverage.missing_from(counts) == ["Trade"]
    assert "NEVER" in coverage.table(counts)


# --- what else is compared, and what an entry may cost ----------------------------------------------------------------

needs_core = pytest.mark.skipif(UNDER_TEST != "core", reason="needs the core: `make core` builds it, with cargo")


@needs_core
@pytest.mark.parametrize("is_new", [False, True], ids=["fixed seed", "new seed"])
def test_codecs_refuse_the_same_bytes_for_the_same_reason(is_new: bool) -> None:
    import exchange_core

    seed = secrets.randbits(48) if is_new else 1
    print(f"seed {seed}")
    counts = codec.compare(
        Draw(seed), exchange_core.MESSAGES, exchange_core.recode, exchange_core.WireError, CODEC_STRINGS
    )
    reasons = {"sound", *(reason.name for reason in WireReason)}
    # A reason may be too rare for some seeds.
    assert reasons >= set(counts) if is_new else reasons == set(counts)


@needs_core
def test_no_entry_within_limits_takes_long_or_much_memory() -> None:
    """Bounds are far above what is measured, so that a busy machine does not fail; the table is printed."""
    costs = list(worst.costs_of(engine_named("core")))
    print(worst.table(costs))
    assert [cost for cost in costs if cost.seconds > ENTRY_SECONDS_MAX or cost.grown_bytes > ENTRY_BYTES_MAX] == []


@needs_core
@pytest.mark.long
def test_planted_bugs_are_found(tmp_path: Path) -> None:
    for patch in (planted.PATCHES[0], planted.PATCHES[-1]):
        module = planted.build(tmp_path, patch)
        assert planted.run_child(module, 1, planted.COMMANDS_MAX)["found"], patch.stem


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tests.differential", "--engine", "nope"], "invalid choice: 'nope' (choose from"),
        (["tests.differential", "--replay", "nowhere.json"], "--replay nowhere.json is no case that can be read"),
        (["tests.differential", "--commands", "0"], "'0': a whole number from 1 on is needed"),
        (["tests.differential", "--seed", "-1"], "-1: 0 or more is needed"),
        (["tests.differential.planted", "zzz"], "no name of a patch has 'zzz' in it; there are 01-"),
        (["loadtest.bench_core", "--flows", "quiet,nope"], "'nope': there are quiet, "),
        (["loadtest.bench_core", "--engines", "nope"], "'nope': there are exchange_core, "),
        (["loadtest.bench_core", "--runs", "0"], "'0': a whole number from 1 on is needed"),
        (["loadtest.bench_core", "--messages", "-1"], "'-1': a whole number from 1 on is needed"),
    ],
)
def test_an_argument_that_means_nothing_is_refused_before_anything_is_built(arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=planted.ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr.splitlines()[-1]


def test_planted_patches_fit_the_crate() -> None:
    """A patch that does not fit any more has to be made anew: each changes one place of the crate's sources."""
    assert len(planted.PATCHES) >= 20
    for patch in planted.PATCHES:
        command = ["git", "apply", "--check", planted.CONTEXT, "--directory=src/exchange-core", str(patch)]
        subprocess.run(command, cwd=planted.ROOT, check=True)


def test_seeds_of_the_fuzzer_are_what_is_made_from_the_vectors() -> None:
    spec = importlib.util.spec_from_file_location("fuzz_seeds", planted.CRATE / "fuzz" / "seeds.py")
    assert spec is not None
    assert spec.loader is not None
    seeds = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(seeds)
    for name, data in seeds.files().items():
        assert (seeds.HERE / name).read_bytes() == data, f"{name}: run python src/exchange-core/fuzz/seeds.py"
