"""Which engines there are. The choice is always explicit: a name, never what happens to be installed."""

from exchange.engine.port import EngineFactory
from exchange.engine.reference import ReferenceFactory

ENGINES: dict[str, EngineFactory] = {factory.name: factory for factory in (ReferenceFactory(),)}


def engine_named(name: str) -> EngineFactory:
    """Return the factory of an engine.

    Raises:
        ValueError: there is no engine of that name here; the message lists those that there are.
    """
    if name not in ENGINES:
        raise ValueError(f"UNKNOWN_ENGINE: there is no engine {name!r} here; there are: {', '.join(sorted(ENGINES))}")
    return ENGINES[name]
