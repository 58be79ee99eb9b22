"""Replay of a LOBSTER pair through running services: signed orders in, the book folded from what is published."""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from typing import Final

import grpc
from sortedcontainers import SortedDict

from clob.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    event_pb2,
    market_data_service_pb2,
    market_data_service_pb2_grpc,
    market_pb2,
    operation_pb2,
    outcome_pb2,
)
from exchange.domain.commands import Command
from exchange.domain.markets import Market
from exchange.domain.rejects import RejectReason
from exchange.embedded.demo_flow import (
    DOLLAR_FUNDS_UNITS,
    LOBSTER_TRADERS,
    STOCK_FUNDS_UNITS,
    lobster_steps,
    orders_of_step,
)
from exchange.embedded.flow_sender import FlowSender, Tally
from exchange.embedded.traders import Trader, register_trader
from exchange.flow.lobster import BookRow, LobsterPair, Row
from exchange.flow.lobster_driver import LobsterDriver
from exchange.local.lobster_replay import PROGRESS_ROWS, Replay, check_levels, compare_book

CALL_S_MAX: Final = 60
ANSWER_S_MAX: Final = 60
"""Longest wait for an answer or a change of the book while rows are open."""


class SubmitError(RuntimeError):
    """The exchange did not let the replay go on. The message says why."""


class PublishedBook:
    """A book kept from what the market-data feed sends: a snapshot, then changes by one command each."""

    def __init__(self) -> None:
        self.market_seq = 0
        self._bids: SortedDict[int, int] = SortedDict()
        self._asks: SortedDict[int, int] = SortedDict()

    def load(self, snapshot: market_data_service_pb2.BookSnapshot) -> None:
        """Start from a snapshot, or from its continuation."""
        self.market_seq = snapshot.market_seq
        self._put(snapshot.bids, snapshot.asks)

    def apply(self, delta: market_data_service_pb2.BookDelta) -> None:
        """Take in a change.

        Raises:
            SubmitError: it does not follow what the book has.
        """
        if delta.previous_market_seq != self.market_seq:
            raise SubmitError(
                f"BOOK_GAP: a change follows event {delta.previous_market_seq}, the book is at {self.market_seq}"
            )
        self.market_seq = delta.market_seq
        self._put(delta.bids, delta.asks)

    def best(self, levels: int) -> BookRow:
        """Return the best levels of both sides."""
        return BookRow(
            [(-key, self._bids[key]) for key in self._bids.islice(stop=levels)],
            [(key, self._asks[key]) for key in self._asks.islice(stop=levels)],
        )

    def _put(self, bids: "Levels", asks: "Levels") -> None:
        for side, sign_of, levels in ((self._bids, -1, bids), (self._asks, 1, asks)):
            for level in levels:
                if level.quantity_lots:
                    side[sign_of * level.price_ticks] = level.quantity_lots
                else:
                    side.pop(sign_of * level.price_ticks, None)


Levels = Iterable[market_data_service_pb2.PriceLevel]


class _Open:
    """A row on its way: answered orders, and the market's sequence number after the last of them."""

    __slots__ = ("expected_lots", "market_seq", "row", "traded_lots", "waiting")

    def __init__(self, row: Row, orders: int, expected_lots: int) -> None:
        self.row = row
        self.waiting = orders
        self.expected_lots = expected_lots
        self.traded_lots = 0
        self.market_seq = 0


class LobsterSubmit:
    """One replay: a market, makers and takers of its own in an exchange that runs."""

    def __init__(self, pair: LobsterPair, levels: int, on_progress: Callable[[Replay, int], None]) -> None:
        self._pair = pair
        self._levels = levels
        self._on_progress = on_progress
        self._traders: dict[int, Trader] = {}
        self._rows: deque[_Open] = deque()
        self._open_of: dict[int, _Open] = {}
        self._moved = asyncio.Event()
        self._has_snapshot = asyncio.Event()
        self._deltas: asyncio.Queue[market_data_service_pb2.BookDelta] = asyncio.Queue()
        self._book = PublishedBook()
        self._sent = 0
        self._all_sent = False
        self._result: Replay

    async def run(self, traders: grpc.aio.Channel, admin: grpc.aio.Channel) -> Replay:
        """Send all rows and compare after each.

        Raises:
            LevelsError, LobsterError: of the pair.
            SubmitError, grpc.RpcError: the exchange refused what it must not refuse, or went away.
        """
        check_levels(self._pair, self._levels)
        exchange = await market_data_service_pb2_grpc.MarketDataServiceStub(traders).GetExchange(
            market_data_service_pb2.GetExchangeRequest(), timeout=CALL_S_MAX
        )
        market = await self._set_up(admin, exchange.environment)
        driver = LobsterDriver(market.market, self._pair.levels)
        self._result = Replay("services", self._levels, self._pair.levels, self._pair.rows_total, driver.counts)
        feed = market_data_service_pb2_grpc.MarketDataServiceStub(traders).StreamBook(
            market_data_service_pb2.StreamBookRequest(markets=[market.market], every_command=True)
        )
        started_ns = time.perf_counter_ns()
        tally = Tally()
        sender = FlowSender(traders, exchange.environment, {market.market: market}, tally)
        reading = asyncio.create_task(self._read_feed(feed))
        # A snapshot that came after the first order would already have what later rows are compared with.
        async with asyncio.timeout(CALL_S_MAX):
            await asyncio.wait(
                (reading, asyncio.create_task(self._has_snapshot.wait())), return_when=asyncio.FIRST_COMPLETED
            )
        sending = asyncio.create_task(
            sender.send(market.shard, self._orders(driver), lambda batches: None, self._take_outcome)
        )
        comparing = asyncio.create_task(self._compare_rows(started_ns))
        tasks = {reading, sending, comparing}
        try:
            while not comparing.done():
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                    tasks.discard(task)
                self._all_sent = self._all_sent or sending.done()
                self._moved.set()
        finally:
            for task in (reading, sending, comparing):
                task.cancel()
            await asyncio.gather(reading, sending, comparing, return_exceptions=True)
        self._result.trades = tally.trades
        self._result.commands = tally.sent
        self._result.entries = tally.last_n.get(market.shard, 0)
        if tally.lost:
            self._result.fault(self._pair.rows_total, f"{tally.lost} orders without an outcome")
        return self._result

    # --- set-up -----------------------------------------------------------------------------------------------------

    async def _set_up(self, channel: grpc.aio.Channel, environment: str) -> Market:
        """Make a market, and accounts with funds for it; names are new at every run."""
        admin = admin_service_pb2_grpc.AdminServiceStub(channel)
        name = secrets.token_hex(4).upper()
        assets = [
            market_pb2.Asset(symbol=f"STOCK-{name}"),
            market_pb2.Asset(symbol=f"CASH-{name}", decimals=6),
        ]
        defined = await admin.DefineAssets(
            admin_service_pb2.DefineAssetsRequest(request_id=secrets.token_bytes(16), assets=assets), timeout=CALL_S_MAX
        )
        base, quote = (result.asset for result in defined.results)
        made = await admin.CreateMarkets(
            admin_service_pb2.CreateMarketsRequest(
                request_id=secrets.token_bytes(16),
                markets=[
                    market_pb2.Market(
                        symbol=f"LOBSTER-{name}",
                        base_asset=base,
                        quote_asset=quote,
                        base_units_per_lot=1,
                        quote_units_per_tick_lot=1,
                    )
                ],
            ),
            timeout=CALL_S_MAX,
        )
        result = made.results[0]
        if result.reason:
            raise SubmitError(f"SETUP: the market was refused: {RejectReason(result.reason).name}")
        for number in LOBSTER_TRADERS:
            self._traders[number] = await register_trader(admin, environment)
        deposits = [
            operation_pb2.Deposit(
                account=trader.account,
                asset=asset,
                amount_units=units,
                allocate=operation_pb2.ALLOCATION_POLICY_ONE_SHARD,
                to_shard=result.shard,
            )
            for trader in self._traders.values()
            for asset, units in ((base, STOCK_FUNDS_UNITS), (quote, DOLLAR_FUNDS_UNITS))
        ]
        answer = await admin.Deposit(
            admin_service_pb2.DepositRequest(request_id=secrets.token_bytes(16), deposits=deposits, wait_ms_max=30_000),
            timeout=CALL_S_MAX,
        )
        if not answer.arrived or any(deposit.reason for deposit in answer.results):
            raise SubmitError("SETUP: deposits were refused, or did not arrive in 30 s; ask `clob doctor`")
        return Market(
            market=result.market,
            shard=result.shard,
            symbol=f"LOBSTER-{name}",
            base_asset=base,
            quote_asset=quote,
            base_units_per_lot=1,
            quote_units_per_tick_lot=1,
        )

    # --- rows out, answers and books in -----------------------------------------------------------------------------

    def _orders(self, driver: LobsterDriver) -> Iterator[tuple[Trader, Command]]:
        for row, step in lobster_steps(self._pair, driver):
            orders = orders_of_step(row, step)
            opened = _Open(row, len(orders), sum(step.fills.values()))
            self._rows.append(opened)
            self._moved.set()
            for order in orders:
                self._open_of[self._sent] = opened
                self._sent += 1
                yield self._traders[order.trader], order.command

    def _take_outcome(self, place: int, outcome: outcome_pb2.BatchOutcome) -> None:
        opened = self._open_of.pop(place)
        opened.waiting -= 1
        self._moved.set()
        if outcome.state != outcome_pb2.SEND_STATE_EXECUTED:
            state = outcome_pb2.SendState.Name(outcome.state).removeprefix("SEND_STATE_")
            self._result.fault(opened.row.number, f"{state}: {outcome.detail}")
            return
        for event in outcome.events:
            kind = event.WhichOneof("event")
            body = getattr(event, kind)
            if kind == "command_rejected":
                rejected: event_pb2.CommandRejected = body
                self._result.fault(opened.row.number, f"refused {RejectReason(rejected.reason).name}")
            elif kind == "trade":
                opened.traded_lots += body.quantity_lots
            opened.market_seq = max(opened.market_seq, getattr(body, "market_seq", 0))

    async def _read_feed(
        self,
        feed: AsyncIterable[market_data_service_pb2.StreamBookResponse],
    ) -> None:
        async for message in feed:
            for snapshot in message.snapshots:
                self._book.load(snapshot)
                if not snapshot.more:
                    self._has_snapshot.set()
            for delta in message.deltas:
                self._deltas.put_nowait(delta)
        raise SubmitError("FEED_ENDED: the book's stream ended before the replay did")

    async def _compare_rows(self, started_ns: int) -> None:
        """Compare the book after each row with the file's."""
        while True:
            opened = await self._next_row()
            if opened is None:
                return
            if opened.traded_lots != opened.expected_lots:
                self._result.fault(
                    opened.row.number, f"execution traded {opened.traded_lots} lots, not {opened.expected_lots}"
                )
            while self._book.market_seq < opened.market_seq:
                async with asyncio.timeout(ANSWER_S_MAX):
                    self._book.apply(await self._deltas.get())
            compare_book(self._result, opened.row, self._book.best(self._levels))
            if opened.row.number % PROGRESS_ROWS == 0 or opened.row.number == self._pair.rows_total:
                self._result.elapsed_us = (time.perf_counter_ns() - started_ns) // 1000
                self._on_progress(self._result, opened.row.number)

    async def _next_row(self) -> _Open | None:
        """Return the next row when all its orders are answered; None: there are no more."""
        async with asyncio.timeout(ANSWER_S_MAX):
            while not (self._rows and self._rows[0].waiting == 0):
                if self._all_sent and not self._rows:
                    return None
                self._moved.clear()
                await self._moved.wait()
        return self._rows.popleft()


async def submit_lobster(
    pair: LobsterPair, levels: int, traders: str, admin: str, on_progress: Callable[[Replay, int], None]
) -> Replay:
    """Send a pair through the exchange at these addresses and return what was found. Raises as `LobsterSubmit.run`."""
    async with grpc.aio.insecure_channel(traders) as trading, grpc.aio.insecure_channel(admin) as operating:
        return await LobsterSubmit(pair, levels, on_progress).run(trading, operating)
