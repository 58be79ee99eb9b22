"""Catching up with shard 0 before somebody is refused for what may be new."""

import asyncio
from typing import Final

from clob.v1 import door_reason_pb2 as reasons
from exchange.bus.errors import BusRefusal, BusUnavailable
from exchange.ingress.door import Control, Refusal

CATCH_UP_S_MAX: Final = 2.0


async def catch_up(control: Control) -> Refusal | None:
    """Wait until shard 0 is known up to now; return UNAVAILABLE if that cannot be: nobody is refused for a guess."""
    try:
        async with asyncio.timeout(CATCH_UP_S_MAX):
            await control.catch_up()
    except (BusUnavailable, BusRefusal, TimeoutError):
        return Refusal(
            reasons.DOOR_REASON_UNAVAILABLE,
            "keys and accounts cannot be looked up now, the bus does not answer; send the same bytes again in a second",
            1_000,
        )
    return None
