import pytest

from exchange.engine.choice import ENGINES
from exchange.engine.port import EngineFactory


@pytest.fixture(params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest) -> EngineFactory:
    """Every engine there is here, one after another: what a test says of one it says of all."""
    return ENGINES[request.param]
