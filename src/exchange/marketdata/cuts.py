"""What cuts frames into private messages: the core where it is built, else Python; both give the same bytes."""

from collections.abc import Callable, Sequence

from exchange.engine.choice import ENGINES
from exchange.marketdata.private import private_messages

cut: Callable[[int, bytes, Sequence[int], int], list[list[bytes]]] = private_messages

if "core" in ENGINES:
    import exchange_core

    cut = exchange_core.private_messages
