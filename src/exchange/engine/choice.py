"""Which engines there are: the reference always, the core where its module is installed.

Whoever runs one names it. What is not named is DEFAULT_ENGINE; everything that takes a default says which it took.
"""

from exchange.engine.port import EngineFactory
from exchange.engine.reference import ReferenceFactory

ENGINES: dict[str, EngineFactory] = {ReferenceFactory.name: ReferenceFactory()}

try:
    from exchange.engine.core import CoreFactory
except ModuleNotFoundError as error:
    # A module that is there and does not load is no reason to go on without it.
    if error.name != "exchange_core":
        raise
else:
    ENGINES[CoreFactory.name] = CoreFactory()

DEFAULT_ENGINE = "core" if "core" in ENGINES else ReferenceFactory.name


def engine_named(name: str) -> EngineFactory:
    """Return the factory of an engine.

    Raises:
        ValueError: there is no engine of that name here; the message lists those that there are.
    """
    if name not in ENGINES:
        hint = "; `make core` builds it, with cargo" if name == "core" else ""
        known = ", ".join(sorted(ENGINES))
        raise ValueError(f"UNKNOWN_ENGINE: there is no engine {name!r} here; there are: {known}{hint}")
    return ENGINES[name]


def describe(name: str) -> str:
    """Return an engine's name as people read it: what is slow says so."""
    slow = name == ReferenceFactory.name
    return f"{name} (the specification in Python, exact and slow; `make core` builds the core)" if slow else name
