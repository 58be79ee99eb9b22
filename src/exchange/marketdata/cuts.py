"""Which ways there are to cut frames into private messages: by the name of the engine that comes with each."""

from collections.abc import Callable, Sequence
from typing import Final

from exchange.engine.choice import DEFAULT_ENGINE, ENGINES
from exchange.engine.reference import ReferenceFactory
from exchange.marketdata.private import private_messages

Cut = Callable[[int, bytes, Sequence[int], int], list[list[bytes]]]
"""As `private_messages`. All give the same bytes."""

CUTS: dict[str, Cut] = {ReferenceFactory.name: private_messages}

if "core" in ENGINES:
    import exchange_core

    CUTS["core"] = exchange_core.private_messages

DEFAULT_CUT: Final = CUTS[DEFAULT_ENGINE]
