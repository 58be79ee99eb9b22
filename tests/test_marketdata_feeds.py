"""The feeds of market data over random flow, without a bus: whoever follows them has what the engine has."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from clob.v1.account_service_pb2 import StreamExecutionsResponse
from clob.v1.event_pb2 import Event
from clob.v1.frame_pb2 import ExecutionFrame
from clob.v1.market_data_service_pb2 import PriceLevel, StreamBookResponse, StreamTradesResponse
from exchange.domain.commands import Side
from exchange.engine.choice import engine_named
from exchange.execution.checkpoints import CheckpointStore
from exchange.flow.seeded import SeededFlow
from exchange.local.flow_venue import open_flow_venue
from exchange.local.venue import START_US, Venue
from exchange.marketdata import book_feed
from exchange.marketdata.book_feed import BookFeed
from exchange.marketdata.execution_feed import ExecutionFeed, StartAt
from exchange.marketdata.fold import ShardFold
from exchange.marketdata.folds import FOLDS
from exchange.marketdata.history import History
from exchange.marketdata.private import places_of
from exchange.marketdata.reader import Reader, Source
from exchange.marketdata.tape import TRADES_KEPT, Tape
from exchange.marketdata.trade_feed import TradeFeed
from tests.support.bus_venue import environment_named

REFERENCE = engine_named("reference")


@pytest.fixture(params=FOLDS, autouse=True)
def every_fold(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every test fold with each kind of fold there is here, one after another."""
    monkeypatch.setattr(sys.modules[__name__], "ShardFold", FOLDS[request.param])


COMMANDS = 1_200
MARKETS = 3
ENTRY_COMMANDS = 5
"""Commands of an entry, so that entries have several and commands share them."""


class FedFlow:
    """A seeded flow whose frames a reader is fed, one after another."""

    def __init__(self, seed: int, folder: Path) -> None:
        flow = SeededFlow(seed, MARKETS)
        recorder = open_flow_venue(flow, REFERENCE, keep_log=False)

        def execute(command: Any) -> Any:
            recorder.now_us = START_US + command.time_us
            return recorder.trade(command.account, command.command)

        commands = list(flow.run(COMMANDS, execute))
        self.venue: Venue = open_flow_venue(flow, REFERENCE)
        self.reader = Reader(cast(Any, None), environment_named("flow"), CheckpointStore(folder))
        self.source = self.reader.sources[1] = Source(1, "s1", is_tried=True)
        del self.reader.sources[0]
        self.source.fold = ShardFold.from_genesis(self.venue.genesis)
        self.source.history = History(0, 2**30)
        self.fed = 0
        self.feed(None)
        for start in range(0, COMMANDS, ENTRY_COMMANDS):
            part = commands[start : start + ENTRY_COMMANDS]
            self.venue.now_us = START_US + part[-1].time_us
            self.venue.enter(*(self.venue.batch(command.account, command.command) for command in part))

    @property
    def fold(self) -> ShardFold:
        assert isinstance(self.source.fold, ShardFold)
        return self.source.fold

    def feed(self, frames: int | None) -> bool:
        """Feed so many more frames, or all there are; return whether there are more."""
        end = len(self.venue.frames) if frames is None else min(len(self.venue.frames), self.fed + frames)
        for data in self.venue.frames[self.fed : end]:
            assert self.reader._take(self.source, data)
        self.fed = end
        return end < len(self.venue.frames)


class FollowedBooks:
    """Books as a client keeps them: levels by market, side and price, and sequence numbers."""

    def __init__(self) -> None:
        self.seqs: dict[int, int] = {}
        self.levels: dict[tuple[int, str], dict[int, tuple[int, int]]] = {}
        self.deltas = 0

    def take(self, data: bytes) -> None:
        message = StreamBookResponse.FromString(data)
        for snapshot in message.snapshots:
            self.seqs[snapshot.market] = snapshot.market_seq
            for side in ("bids", "asks"):
                self._add(snapshot.market, side, getattr(snapshot, side))
        for delta in message.deltas:
            assert delta.previous_market_seq == self.seqs[delta.market] < delta.market_seq
            self.seqs[delta.market] = delta.market_seq
            self.deltas += 1
            for side in ("bids", "asks"):
                self._add(delta.market, side, getattr(delta, side))

    def _add(self, market: int, side: str, levels: list[PriceLevel]) -> None:
        there = self.levels.setdefault((market, side), {})
        for level in levels:
            assert bool(level.orders) == bool(level.quantity_lots)
            if level.orders:
                there[level.price_ticks] = level.quantity_lots, level.orders
            else:
                there.pop(level.price_ticks, None)

    def assert_equal(self, fold: ShardFold) -> None:
        for market, seq in self.seqs.items():
            book = fold.books[market]
            assert seq == book.market_seq
            for side, name in ((Side.BUY, "bids"), (Side.SELL, "asks")):
                assert self.levels[market, name] == {
                    level.price_ticks: (level.quantity_lots, level.orders) for level in book.depth(side)
                }


class Following:
    """A task that follows a stream and lets itself be stopped for a while, as a slow reader does."""

    def __init__(self, stream: AsyncIterator[bytes], take: Any) -> None:
        self._stream = stream
        self._take = take
        self._may_read = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for data in self._stream:
            self._take(data)
            await self._may_read.wait()

    async def read_up(self, done: Any) -> None:
        """Read until something holds."""
        self._may_read.set()
        async with asyncio.timeout(10):
            while not done():
                assert not self._task.done(), self._task.result()
                await asyncio.sleep(0)
        self._may_read.clear()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))
        await self._stream.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("log_entries_max", [4, 512])
@pytest.mark.parametrize("seed", [1, 2])
def test_books_that_are_followed_equal_the_fold_however_slowly_they_are_read(
    seed: int, log_entries_max: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book_feed, "LOG_ENTRIES_MAX", log_entries_max)
    dice = random.Random(seed)

    async def work() -> None:
        flow = FedFlow(seed, tmp_path)
        feed = BookFeed(flow.reader)
        flow.feed(30)
        books = {"slow": FollowedBooks(), "late": FollowedBooks(), "each": FollowedBooks()}
        following = {
            "slow": Following(feed.stream([1, 2, 3], every_command=False), books["slow"].take),
            "each": Following(feed.stream([2, 1, 3], every_command=True), books["each"].take),
        }
        for name, follower in following.items():
            await follower.read_up(lambda there=books[name]: len(there.seqs) == 3)
        more = True
        while more:
            more = flow.feed(1 + dice.randrange(40))
            seqs = {market: book.market_seq for market, book in flow.fold.books.items()}
            if "late" not in following:
                following["late"] = Following(feed.stream([1], every_command=False), books["late"].take)
            for name, follower in following.items():
                if dice.randrange(2) or not more:
                    await follower.read_up(
                        lambda there=books[name].seqs, seqs=seqs: there and there.items() <= seqs.items()
                    )
                    books[name].assert_equal(flow.fold)
        assert books["each"].deltas > books["slow"].deltas
        for follower in following.values():
            await follower.stop()
        assert len(feed) == 0
        assert not any(book.watched for book in flow.fold.books.values())

    asyncio.run(work())


@pytest.mark.parametrize("seed", [1, 2])
def test_private_streams_that_start_anywhere_end_with_the_same_events(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)

    async def work() -> None:
        flow = FedFlow(seed, tmp_path)
        frames = [ExecutionFrame.FromString(data) for data in flow.venue.frames]
        feed = ExecutionFeed(flow.reader, heartbeat_s=0.01)
        accounts = dice.sample(sorted(flow.fold.accounts), 8)
        got: list[tuple[int, tuple[int, int], list[Event]]] = []
        followers: list[Following] = []
        ends: list[tuple[int, int]] = []
        more = True
        while more:
            more = flow.feed(1 + dice.randrange(40))
            if len(followers) < 12:
                account = dice.choice(accounts)
                n = dice.randrange(flow.fold.n + 1)
                event = dice.randrange(1 + len(frames[n - 1].events)) if n else 0
                events: list[Event] = []
                got.append((account, (n, event), events))
                place = len(ends)
                ends.append((0, 0))

                def take(data: bytes, place: int = place, events: list[Event] = events) -> None:
                    message = StreamExecutionsResponse.FromString(data)
                    events += message.events
                    ends[place] = message.cursor.n, message.cursor.event

                followers.append(Following(feed.stream(account, [StartAt(1, n, event)]), take))
            for place, follower in enumerate(followers):
                if dice.randrange(3) == 0 or not more:
                    await follower.read_up(lambda place=place: ends[place] == (flow.fold.n, 0))
        for account, (n, event), events in got:
            sequences = [_account_seq(item, account) for item in events]
            expected = [
                frame.events[place - 1]
                for frame in frames[max(0, n - 1 if event else n) :]
                for place in places_of(frame, account, event if frame.n == n else 0)
            ]
            assert [item.WhichOneof("event") for item in events] == [item.WhichOneof("event") for item in expected]
            assert sequences == [_account_seq(item, account) for item in expected]
        for follower in followers:
            await follower.stop()
        assert len(feed) == 0

    asyncio.run(work())


def _account_seq(event: Event, account: int) -> int:
    name = event.WhichOneof("event")
    assert name is not None
    inner = getattr(event, name)
    if name != "trade":
        return int(inner.account_seq)
    return int(inner.taker_account_seq if inner.taker_account == account else inner.maker_account_seq)


def test_trades_that_are_followed_are_all_trades(tmp_path: Path) -> None:
    dice = random.Random(5)

    async def work() -> None:
        flow = FedFlow(5, tmp_path)
        feed = TradeFeed(flow.reader)
        trades: list[tuple[int, int]] = []
        cursors: dict[int, int] = {}

        def take(data: bytes) -> None:
            message = StreamTradesResponse.FromString(data)
            trades.extend((trade.market, trade.market_seq) for trade in message.trades)
            cursors.update((cursor.market, cursor.after_market_seq) for cursor in message.cursors)

        first = {market: book.market_seq for market, book in flow.fold.books.items()}
        follower = Following(feed.stream(list(first.items())), take)
        more = True
        while more:
            more = flow.feed(1 + dice.randrange(30))
            last = {market: book.tape[-1].market_seq for market, book in flow.fold.books.items() if len(book.tape)}
            await follower.read_up(
                lambda last=last: cursors and all(cursors[market] >= seq for market, seq in last.items())
            )
        for market, book in flow.fold.books.items():
            assert [seq for number, seq in trades if number == market] == [trade.market_seq for trade in book.tape]
        assert len(trades) > 100
        await follower.stop()
        assert len(feed) == 0

    asyncio.run(work())


# --- parts ------------------------------------------------------------------------------------------------------------


def test_tape_keeps_a_thousand_trades_and_knows_what_it_lacks() -> None:
    tape = Tape(complete_after=7)
    for n in range(1, 5_001):
        tape.append((10 + n, n, 1, 1, 1, n))
        assert len(tape) >= min(n, TRADES_KEPT)
        assert len(tape) < 2 * TRADES_KEPT
        first = tape[0].market_seq
        assert tape.complete_after == (7 if first == 11 else first - 1)
    assert [trade.trade_id for trade in tape.before(0, 3)] == [5_000, 4_999, 4_998]
    assert [trade.trade_id for trade in tape.before(5_009, 2)] == [4_998, 4_997]
    assert [trade.trade_id for trade in tape.after(5_008, 9)] == [4_999, 5_000]
    assert [trade.trade_id for trade in tape.after(5_000, 2)] == [4_991, 4_992]
    assert list(tape.after(5_010, 2)) == []
