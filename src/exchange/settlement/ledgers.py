"""Which ledgers there are: by the name of the engine that comes with each. They say and refuse the same."""

from exchange.engine.choice import ENGINES
from exchange.engine.reference import ReferenceFactory
from exchange.settlement.ledger import Ledger

LEDGERS: dict[str, type[Ledger]] = {ReferenceFactory.name: Ledger}

if "core" in ENGINES:
    from exchange.settlement.core_ledger import CoreLedger

    LEDGERS["core"] = CoreLedger


def ledger_with(engine: str) -> type[Ledger]:
    """Return the ledger that settles what an engine of that name re-executes; the Python one beside all others."""
    return LEDGERS.get(engine, Ledger)
