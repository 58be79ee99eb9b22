"""The ill will of `loadtest.hostile` against a port as the exchange serves it."""

import asyncio

from exchange.config.values import Endpoint
from exchange.serving.metrics import Metrics
from exchange.serving.ports import Port
from loadtest import hostile


def test_a_message_that_is_too_large_is_refused_before_it_has_come() -> None:
    async def scenario() -> str:
        port = Port("traders", Endpoint("127.0.0.1", 0), Metrics("test", "0"), lambda: None)
        await port.open()
        try:
            return await hostile.oversized(port.address)
        finally:
            await port.close(0)

    said = asyncio.run(scenario())
    assert "RST_STREAM" in said
    taken_mib = int(said.split()[1])
    assert taken_mib < hostile.HUGE_MIB / 4
