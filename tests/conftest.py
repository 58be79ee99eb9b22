import pytest

from exchange.engine.choice import ENGINES
from exchange.engine.port import EngineFactory
from tests.support.servers import bus_server, durable_bus_server, valkey_server

__all__ = ["bus_server", "durable_bus_server", "engine", "valkey_server"]


@pytest.fixture(params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest) -> EngineFactory:
    """Every engine there is here, one after another: what a test says of one it says of all."""
    return ENGINES[request.param]
