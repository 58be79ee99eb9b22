"""The features of exchange-core that fit a spot engine, played; DEPARTURES names what does not fit."""

import os
from pathlib import Path

import pytest

from exchange.engine.port import EngineFactory
from exchange.local.player import play_scenario
from exchange.local.reading import scenario_of
from tests.adapters.exchange_core import DEPARTURES, Departure, scenarios_of

ROOT = Path(__file__).resolve().parents[1]
FEATURES = Path(os.environ.get("CLOB_SAMPLE_DATA") or ROOT.parent / "shared" / "data") / "exchange-core"
SCENARIOS = {
    "basic.feature": {"basic full cycle test EUR_USD", "basic full cycle test ETH_XBT", "cancel BID order"},
    "risk.feature": {"basic scenario", "move orders UP and DOWN"},
}
needs_features = pytest.mark.skipif(
    not FEATURES.is_dir(),
    reason=f"needs {FEATURES}; CLOB_SAMPLE_DATA names the folder that has exchange-core/",
)


@needs_features
@pytest.mark.parametrize("feature", SCENARIOS)
def test_every_scenario_of_a_feature_is_played(feature: str) -> None:
    assert set(scenarios_of(feature, (FEATURES / feature).read_text())) == SCENARIOS[feature]


@needs_features
@pytest.mark.parametrize(
    ("feature", "name"), [(feature, name) for feature in SCENARIOS for name in sorted(SCENARIOS[feature])]
)
def test_scenario_of_a_feature_comes_out_as_published(engine: EngineFactory, feature: str, name: str) -> None:
    scenario = scenario_of(scenarios_of(feature, (FEATURES / feature).read_text())[name])
    assert play_scenario(scenario, engine).failures == []


@needs_features
@pytest.mark.parametrize("departure", DEPARTURES, ids=lambda departure: f"{departure.feature}:{departure.line}")
def test_departure_is_needed(engine: EngineFactory, departure: Departure) -> None:
    others = tuple(other for other in DEPARTURES if other != departure)
    assert not _comes_out_as_published(engine, departure.feature, others)
    assert _comes_out_as_published(engine, departure.feature, DEPARTURES)


def _comes_out_as_published(engine: EngineFactory, feature: str, departures: tuple[Departure, ...]) -> bool:
    """Return whether a feature can be converted, played and met."""
    try:
        scenarios = scenarios_of(feature, (FEATURES / feature).read_text(), departures)
        return all(play_scenario(scenario_of(scenario), engine).ok for scenario in scenarios.values())
    except ValueError:
        return False


def test_a_sentence_that_is_not_known_is_an_error_and_never_skipped() -> None:
    with pytest.raises(ValueError, match="line 2: no sentence of this kind is known"):
        scenarios_of("x.feature", "Scenario: x\nGiven the moon is full")


def test_documentation_lists_every_departure() -> None:
    page = (ROOT / "docs" / "scenarios.md").read_text()
    for departure in DEPARTURES:
        assert f"| {departure.feature}:{departure.line} |" in page
        assert departure.why in page
