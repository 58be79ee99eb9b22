import asyncio
from collections.abc import Awaitable, Callable

import pytest

from exchange.ingress import crowd
from exchange.ingress.crowd import STREAM_UNSENT_BYTES_MAX, Grant, Room, Turn, Unsent

WAIT_S = 20


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(WAIT_S):
            await test()

    asyncio.run(bounded())


class Door:
    """Room with messages that say when they have theirs."""

    def __init__(self, patience_s: float = WAIT_S) -> None:
        self.under_way = 0
        self.room = Room(10, patience_s, lambda: self.under_way)

    def take(self, commands: int, size: int = 1) -> "asyncio.Task[Grant]":
        return asyncio.create_task(self.room.take(commands, size))

    def frees(self, under_way: int) -> None:
        self.under_way = under_way
        self.room.wake()


async def rounds(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --- room


def test_nobody_waits_where_there_is_room() -> None:
    async def test() -> None:
        door = Door()
        with await door.room.take(10, 1):
            pass
        # What is more than all the room there is has room when nothing else has some.
        with await door.room.take(11, 1):
            pass

    run(test)


def test_room_that_was_given_is_nobody_elses_until_it_is_used() -> None:
    async def test() -> None:
        door = Door()
        first = await door.room.take(6, 1)
        second = door.take(6)
        await rounds()
        assert not second.done()
        with first:
            door.under_way = 6
        await rounds()
        assert not second.done()
        door.frees(4)
        with await second:
            pass

    run(test)


def test_room_goes_to_those_who_came_first_and_no_more_than_there_is() -> None:
    async def test() -> None:
        door = Door()
        door.under_way = 10
        first, second, third = (door.take(commands) for commands in (4, 4, 1))
        await rounds()
        door.frees(7)
        await rounds()
        assert not first.done()
        door.frees(5)
        await rounds()
        assert (first.done(), second.done(), third.done()) == (True, False, False)
        # Whoever comes later has to wait behind the others, room or not.
        fourth = door.take(1)
        await rounds()
        assert not fourth.done()
        door.frees(0)
        await asyncio.gather(second, third)
        with await first:
            pass
        await fourth

    run(test)


def test_patience_ends_and_leaves_nothing_in_the_way() -> None:
    async def test() -> None:
        door = Door(patience_s=0.01)
        door.under_way = 9
        with await door.room.take(5, 1):
            pass
        with await door.room.take(1, 1):
            # It had not to wait: nobody stands before it any more.
            waiting = door.take(5)
            await waiting
        assert not door.room._waiting
        assert not door.room._granted

    run(test)


def test_who_stood_behind_a_large_message_goes_on_when_that_has_given_up() -> None:
    async def test() -> None:
        door = Door(patience_s=0.2)
        door.under_way = 9
        large = door.take(5)
        await asyncio.sleep(0.1)
        small = door.take(1)
        await large
        with await small:
            assert door.room._granted == 1

    run(test)


def test_who_leaves_is_passed_over_and_gives_back_what_it_was_given() -> None:
    async def test() -> None:
        door = Door()
        door.under_way = 10
        first, second = door.take(10), door.take(10)
        await rounds()
        first.cancel()
        await rounds()
        door.frees(0)
        # It leaves at the moment in which it is let go on.
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert not door.room._granted
        with await door.room.take(10, 1):
            pass

    run(test)


def test_what_waits_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "WAITING_BYTES_MAX", 100)

    async def test() -> None:
        door = Door()
        door.under_way = 10
        first = door.take(1, 60)
        await rounds()
        await door.room.take(1, 41)
        second = door.take(1, 40)
        await rounds()
        assert not second.done()
        door.frees(0)
        await asyncio.gather(first, second)
        door.under_way = 10
        third = door.take(1, 100)
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
