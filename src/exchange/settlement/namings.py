"""Which ways to name batches there are: by the name of the engine that comes with each. They give the same rows."""

from exchange.engine.choice import DEFAULT_ENGINE, ENGINES
from exchange.engine.reference import ReferenceFactory
from exchange.settlement.names import PLAIN, Naming

NAMINGS: dict[str, Naming] = {ReferenceFactory.name: PLAIN}

if "core" in ENGINES:
    import exchange_core

    NAMINGS["core"] = Naming(exchange_core.name_batches, exchange_core.NameIndex)

DEFAULT_NAMING = NAMINGS[DEFAULT_ENGINE]


def naming_with(engine: str) -> Naming:
    """Return the way that comes with the engine of that name; the Python one beside all others."""
    return NAMINGS.get(engine, PLAIN)
