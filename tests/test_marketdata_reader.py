"""How calls of market data wait for the end of the logs: by looks that they share."""

import asyncio
from typing import Any

import pytest

from exchange.bus.errors import BusUnavailable
from exchange.config.environment import Environment
from exchange.marketdata import reader
from exchange.marketdata.reader import Reader, ShardUnavailable

CALLS = 20


class SlowBus:
    """A bus without shards that answers when it is let.

    Attributes:
        begun: looks so far.
        may_answer: what those under way wait for.
        is_away: it does not answer.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.may_answer = asyncio.Event()
        self.is_away = False

    async def heads(self, tags: list[str]) -> list[None]:
        self.begun += 1
        await self.may_answer.wait()
        if self.is_away:
            raise BusUnavailable("BUS_UNAVAILABLE: a test")
        return [None for _ in tags]


def reader_of(bus: SlowBus) -> Reader:
    parts: Any = bus, Environment("test", {}), None
    return Reader(*parts)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def test_calls_that_come_during_a_look_share_the_next_and_none_gets_one_from_before() -> None:
    async def scenario() -> None:
        bus = SlowBus()
        read = reader_of(bus)
        first = asyncio.create_task(read.catch_up())
        await until(lambda: bus.begun == 1)
        later = [asyncio.create_task(read.catch_up()) for _ in range(CALLS)]
        await until(lambda: read._next_look is not None)
        assert bus.begun == 1
        bus.may_answer.set()
        await first
        # The second look has not begun yet: who comes now needs no third.
        later += [asyncio.create_task(read.catch_up()) for _ in range(CALLS)]
        await asyncio.gather(*later)
        assert bus.begun == 2
        await read.catch_up()
        assert bus.begun == 3

    asyncio.run(scenario())


def test_a_look_that_others_wait_for_begins_a_while_after_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        bus = SlowBus()
        read = reader_of(bus)
        bus.may_answer.set()
        # One call after the other never waits, however long the while is.
        for _ in range(3):
            await read.catch_up()
        assert bus.begun == 3
        bus.may_answer.clear()
        first = asyncio.create_task(read.catch_up())
        await until(lambda: bus.begun == 4)
        second = asyncio.create_task(read.catch_up())
        await until(lambda: read._next_look is not None)
        bus.may_answer.set()
        await first
        assert not second.done()
        assert bus.begun == 4
        second.cancel()

    monkeypatch.setattr(reader, "LOOK_S", 60.0)
    asyncio.run(scenario())


def test_a_look_that_failed_is_told_to_all_who_shared_it_and_the_next_call_looks_again() -> None:
    async def scenario() -> None:
        bus = SlowBus()
        read = reader_of(bus)
        bus.is_away = True
        first = asyncio.create_task(read.catch_up())
        await until(lambda: bus.begun == 1)
        others = [asyncio.create_task(read.catch_up()) for _ in range(CALLS)]
        await until(lambda: read._next_look is not None)
        bus.may_answer.set()
        for call in (first, *others):
            with pytest.raises(ShardUnavailable):
                await call
        assert bus.begun == 2
        bus.is_away = False
        await read.catch_up()

    asyncio.run(scenario())
