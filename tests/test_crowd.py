import asyncio
from collections.abc import Awaitable, Callable

import pytest

from exchange.ingress import crowd
from exchange.ingress.crowd import STREAM_UNSENT_BYTES_MAX, Room, Turn, Unsent

WAIT_S = 20


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(WAIT_S):
            await test()

    asyncio.run(bounded())


def waits(room: Room, commands: int, under_way: int, size: int = 1) -> "asyncio.Task[None]":
    return asyncio.create_task(room.wait(commands, size, under_way))


async def rounds(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --- room


def test_nobody_waits_where_there_is_room() -> None:
    async def test() -> None:
        room = Room(10, WAIT_S)
        await room.wait(10, 1, 0)
        # What is more than all the room there is has room when nothing else has some.
        await room.wait(11, 1, 0)

    run(test)


def test_room_goes_to_those_who_came_first_and_no_more_than_there_is() -> None:
    async def test() -> None:
        room = Room(10, WAIT_S)
        first, second, third = (waits(room, commands, 10) for commands in (4, 4, 1))
        await rounds()
        room.wake(7)
        await rounds()
        assert not first.done()
        room.wake(5)
        await rounds()
        assert (first.done(), second.done(), third.done()) == (True, False, False)
        # Whoever comes later has to wait behind the others, room or not.
        fourth = waits(room, 1, 0)
        await rounds()
        assert not fourth.done()
        room.wake(0)
        await asyncio.gather(first, second, third, fourth)

    run(test)


def test_patience_ends() -> None:
    async def test() -> None:
        await Room(10, 0.01).wait(1, 1, 10)
        await Room(10, 0).wait(1, 1, 10)

    run(test)


def test_who_leaves_is_passed_over() -> None:
    async def test() -> None:
        room = Room(10, WAIT_S)
        first, second = waits(room, 10, 10), waits(room, 10, 10)
        await rounds()
        first.cancel()
        await rounds()
        room.wake(0)
        await second

    run(test)


def test_what_waits_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "WAITING_BYTES_MAX", 100)

    async def test() -> None:
        room = Room(10, WAIT_S)
        first = waits(room, 1, 10, 60)
        await rounds()
        await room.wait(1, 41, 10)
        second = waits(room, 1, 10, 40)
        await rounds()
        assert not second.done()
        room.wake(0)
        await asyncio.gather(first, second)
        third = waits(room, 1, 10, 100)
        await rounds()
        assert not third.done()
        third.cancel()

    run(test)


# --- turns


def test_a_round_of_the_loop_has_one_slice_in_the_order_of_coming() -> None:
    async def test() -> None:
        turn = Turn()
        done: list[tuple[int, int]] = []
        round_now = 0

        async def count_rounds() -> None:
            nonlocal round_now
            while True:
                round_now += 1
                await asyncio.sleep(0)

        async def work(number: int) -> None:
            for _ in range(3):
                async with turn:
                    done.append((round_now, number))

        counting = asyncio.create_task(count_rounds())
        await asyncio.gather(*(work(number) for number in range(4)))
        counting.cancel()
        assert len({at for at, _ in done}) == len(done)
        assert [number for _, number in done] == [0, 1, 2, 3] * 3

    run(test)


# --- answers that nobody takes


def test_a_stream_that_does_not_take_its_answers_is_not_read_on() -> None:
    async def test() -> None:
        stream = Unsent().of_stream()
        stream.add(STREAM_UNSENT_BYTES_MAX)
        await stream.wait()
        stream.add(2)
        waiting = asyncio.create_task(stream.wait())
        await rounds()
        stream.take_off(1)
        await rounds()
        assert not waiting.done()
        stream.take_off(1)
        await waiting

    run(test)


def test_when_all_streams_together_hold_too_much_only_those_that_hold_nothing_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crowd, "UNSENT_BYTES_MAX", 100)

    async def test() -> None:
        unsent = Unsent()
        slow, quick, other = (unsent.of_stream() for _ in range(3))
        slow.add(60)
        other.add(41)
        await quick.wait()
        waiting = asyncio.create_task(slow.wait())
        await rounds()
        assert not waiting.done()
        other.close()
        assert unsent.bytes == 60
        slow.take_off(60)
        await waiting
        assert unsent.bytes == 0

    run(test)
