"""The market-data process on a real bus: what it tells, from cursors on, after restarts and when things go wrong."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import redis
from msgspec.structs import replace

from clob.v1 import account_service_pb2 as account_api
from clob.v1 import admin_service_pb2 as admin_api
from clob.v1 import event_pb2
from clob.v1 import market_data_service_pb2 as public_api
from clob.v1.account_service_pb2_grpc import AccountServiceStub
from clob.v1.frame_pb2 import ExecutionFrame
from clob.v1.market_data_service_pb2_grpc import MarketDataServiceStub
from clob.v1.position_pb2 import Cursor
from clob.v1.process_service_pb2 import GetEvidenceRequest
from clob.v1.process_service_pb2_grpc import ProcessServiceStub
from clob.v1.withdrawal_pb2 import Withdrawal
from exchange.config.settings import load_settings
from exchange.domain.commands import (
    AllocateFunds,
    CancelAllOrders,
    OrderType,
    PlaceOrder,
    ReleaseFunds,
    RequestWithdrawal,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from exchange.domain.markets import Asset, Market, MarketState
from exchange.domain.operations import (
    AllocationPolicy,
    CloseWithdrawal,
    DefineAsset,
    Deposit,
    OperatorRole,
    SetMarketState,
)
from exchange.local.control_venue import ControlVenue, KeyPair
from exchange.local.venue import Venue
from exchange.marketdata import outbox
from exchange.marketdata.private import places_of
from exchange.marketdata.service import KIND, MarketDataService, MarketDataSettings
from exchange.serving.errors import Refusal, reason_of, status_of_error
from exchange.serving.process import Runtime, serve
from tests.support.bus_venue import BusExchange, BusVenue
from tests.support.markets import ALICE, BASE, BOB, QUOTE, RICH
from tests.support.servers import BusServer, valkey_server

__all__ = ["valkey_server"]

WAIT_S = 10
FIRST = Market(1, 1, "BTC-USD", BASE, QUOTE, 1, 10, maker_fee_ppm=1_000, taker_fee_ppm=2_500, state=MarketState.OPEN)
SECOND = replace(FIRST, market=2, shard=2, symbol="ETH-USD")


def buy(lots: int, price: int, market: int = 1, **more: Any) -> PlaceOrder:
    return PlaceOrder(market, Side.BUY, OrderType.LIMIT, price_ticks=price, quantity_lots=lots, **more)


def sell(lots: int, price: int, market: int = 1, **more: Any) -> PlaceOrder:
    return PlaceOrder(market, Side.SELL, OrderType.LIMIT, price_ticks=price, quantity_lots=lots, **more)


@pytest.fixture
def exchange(valkey_server: BusServer, tmp_path: Path) -> Iterator[BusExchange]:
    """Two shards with a market each, where Alice and Bob have RICH units of both assets."""
    exchange = BusExchange(valkey_server.address, tmp_path, 2, (FIRST, SECOND))
    exchange.control.operate(
        OperatorRole.MARKET, DefineAsset(Asset(BASE, "BTC", 8)), DefineAsset(Asset(QUOTE, "USD", 2))
    )
    assert [exchange.new_user(name)[0] for name in ("alice", "bob")] == [ALICE, BOB]
    for account in (ALICE, BOB):
        for asset in (BASE, QUOTE):
            exchange.deposit(account, asset, RICH)
    yield exchange
    exchange.close()


class Client:
    """Stubs of a running market-data process.

    Attributes:
        service: the process' own objects.
    """

    def __init__(self, channel: grpc.aio.Channel, service: MarketDataService) -> None:
        self.service = service
        self.public = MarketDataServiceStub(channel)
        self.private = AccountServiceStub(channel)
        self.process = ProcessServiceStub(channel)

    async def balances(self, account: int) -> account_api.GetBalancesResponse:
        request = account_api.GetBalancesRequest(account=account)
        call: Any = self.private.GetBalances(request, metadata=session(account), timeout=WAIT_S)
        answer: account_api.GetBalancesResponse = await call
        return answer

    async def open_orders(self, account: int, **fields: Any) -> account_api.ListOpenOrdersResponse:
        request = account_api.ListOpenOrdersRequest(account=account, **fields)
        call: Any = self.private.ListOpenOrders(request, metadata=session(account), timeout=WAIT_S)
        answer: account_api.ListOpenOrdersResponse = await call
        return answer

    async def book(self, market: int, levels_max: int = 0) -> public_api.BookSnapshot:
        request = public_api.GetBookRequest(market=market, levels_max=levels_max)
        call: Any = self.public.GetBook(request, timeout=WAIT_S)
        answer: public_api.GetBookResponse = await call
        return answer.book

    def executions(self, account: int, *cursors: Cursor) -> Any:
        request = account_api.StreamExecutionsRequest(account=account, cursors=cursors)
        return self.private.StreamExecutions(request, metadata=session(account))


def session(*accounts: int) -> tuple[tuple[str, str], ...]:
    return ("clob-user", "7"), ("clob-accounts", ",".join(map(str, accounts)))


def flags_for(exchange: BusExchange, folder: Path) -> dict[str, str]:
    """Return the settings that a process of the exchange needs, by name."""
    environment_file = folder / "environment.json"
    exchange.environment.save(environment_file)
    return {
        "redis_addr": exchange.address,
        "environment_file": str(environment_file),
        "checkpoints": str(exchange.store.folder),
        "bus_keys": str(folder / "bus.keys"),
        "bus_key_name": "market-data",
    }


@contextlib.asynccontextmanager
async def running(exchange: BusExchange, tmp_path: Path, **settings: Any) -> AsyncIterator[Client]:
    """Run the market-data process in this one, until the context ends, as SIGTERM would."""
    flags = {**flags_for(exchange, tmp_path), **{name: str(value) for name, value in settings.items()}}
    ready: asyncio.Future[Runtime[MarketDataSettings]] = asyncio.get_running_loop().create_future()
    made: list[MarketDataService] = []

    async def build(runtime: Runtime[MarketDataSettings]) -> MarketDataService:
        made.append(MarketDataService(runtime))
        return made[0]

    process = asyncio.create_task(
        serve(KIND, load_settings(MarketDataSettings, flags, {}), build, on_ready=ready.set_result)
    )
    await asyncio.wait((process, ready), timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
    assert ready.done(), "it does not start"
    runtime = ready.result()
    try:
        async with grpc.aio.insecure_channel(runtime.address) as channel:
            yield Client(channel, made[0])
    finally:
        runtime.end()
        assert await asyncio.wait_for(process, WAIT_S) == 0


async def next_of(stream: Any) -> Any:
    message = await asyncio.wait_for(stream.read(), WAIT_S)
    assert message is not grpc.aio.EOF
    return message


async def read_until(stream: Any, done: Callable[[list[Any]], bool]) -> list[Any]:
    messages: list[Any] = []
    while not done(messages):
        messages.append(await next_of(stream))
    return messages


async def reason_of_call(call: Any) -> str:
    """Return the reason that a call fails with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call if asyncio.iscoroutine(call) or not hasattr(call, "read") else _drain(call))
    return reason_of(status_of_error(caught.value))


async def _drain(stream: Any) -> None:
    async with asyncio.timeout(WAIT_S):
        while await stream.read() is not grpc.aio.EOF:
            pass


def run(work: Any) -> None:
    asyncio.run(work)


# --- the exchange, markets and assets ---------------------------------------------------------------------------------


def test_exchange_assets_and_markets_are_listed_page_by_page(exchange: BusExchange, tmp_path: Path) -> None:
    exchange.control.operate(OperatorRole.MARKET, *(DefineAsset(Asset(n, f"A{n}", 2)) for n in range(3, 6)))
    exchange.shards[2].operate(OperatorRole.MARKET, SetMarketState(2, MarketState.HALTED))

    async def work() -> None:
        async with running(exchange, tmp_path) as client:
            said = await client.public.GetExchange(public_api.GetExchangeRequest())
            assert (said.environment, said.production, said.durability) == ("local", False, 1)
            assert [(shard.shard, shard.max_validity_ms) for shard in said.shards] == [(n, 60_000) for n in (0, 1, 2)]
            pages: list[list[str]] = []
            token = ""
            while not pages or token:
                page = await client.public.ListAssets(public_api.ListAssetsRequest(page_size=2, page_token=token))
                pages.append([asset.symbol for asset in page.assets])
                token = page.next_page_token
            assert pages == [["BTC", "USD"], ["A3", "A4"], ["A5"]]
            both = await client.public.ListMarkets(public_api.ListMarketsRequest())
            assert [(market.symbol, market.state) for market in both.markets] == [("BTC-USD", 1), ("ETH-USD", 4)]
            one = await client.public.ListMarkets(public_api.ListMarketsRequest(page_size=1))
            two = await client.public.ListMarkets(
                public_api.ListMarketsRequest(page_size=1, page_token=one.next_page_token)
            )
            assert [market.market for market in (*one.markets, *two.markets)] == [1, 2]
            assert not two.next_page_token
            found = await client.public.ListMarkets(public_api.ListMarketsRequest(symbol="ETH-USD", shard=2))
            assert [market.market for market in found.markets] == [2]
            none = await client.public.ListMarkets(public_api.ListMarketsRequest(symbol="ETH-USD", shard=1))
            assert not none.markets

    run(work())


def test_what_is_out_of_bounds_is_named(exchange: BusExchange, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(exchange, tmp_path) as client:
            public, private = client.public, client.private
            bad = [
                public.ListMarkets(public_api.ListMarketsRequest(page_size=1_001)),
                public.ListMarkets(public_api.ListMarketsRequest(page_token="x")),
                public.ListAssets(public_api.ListAssetsRequest(page_size=1_001)),
                public.GetBook(public_api.GetBookRequest()),
                public.GetBook(public_api.GetBookRequest(market=1, levels_max=1_001)),
                public.ListTrades(public_api.ListTradesRequest(market=1, trades_max=1_001)),
                public.StreamBook(public_api.StreamBookRequest()),
                public.StreamBook(public_api.StreamBookRequest(markets=[1, 1])),
                public.StreamTrades(public_api.StreamTradesRequest()),
                public.StreamTrades(
                    public_api.StreamTradesRequest(cursors=[public_api.TradeCursor(market=1) for _ in range(2)])
                ),
                client.open_orders(ALICE, page_size=1_001),
                client.open_orders(ALICE, page_token="1"),
                client.executions(ALICE, Cursor(shard=1), Cursor(shard=1)),
                client.executions(ALICE, Cursor(shard=5_000)),
                client.executions(ALICE, Cursor(shard=1, event=1)),
                private.ListAccountWithdrawals(
                    account_api.ListAccountWithdrawalsRequest.FromString(b"\x08\x01\x10\x09"), metadata=session(1)
                ),
                private.GetBalances(account_api.GetBalancesRequest(), metadata=session(1, 2)),
            ]
            assert [await reason_of_call(call) for call in bad] == ["INVALID_FIELD"] * len(bad)
            unknown = [
                (public.GetBook(public_api.GetBookRequest(market=9)), "UNKNOWN_MARKET"),
                (public.ListTrades(public_api.ListTradesRequest(market=9)), "UNKNOWN_MARKET"),
                (public.StreamBook(public_api.StreamBookRequest(markets=[1, 9])), "UNKNOWN_MARKET"),
                (public.ListMarkets(public_api.ListMarketsRequest(shard=9)), "UNKNOWN_SHARD"),
                (client.executions(ALICE, Cursor(shard=9)), "UNKNOWN_SHARD"),
                (client.executions(ALICE, Cursor(shard=1, n=10_000)), "CURSOR_AHEAD"),
                (client.executions(ALICE, Cursor(shard=1, n=1, event=99)), "CURSOR_AHEAD"),
                (
                    public.StreamTrades(
                        public_api.StreamTradesRequest(
                            cursors=[public_api.TradeCursor(market=1, after_market_seq=1_000)]
                        )
                    ),
                    "CURSOR_AHEAD",
                ),
                (private.GetBalances(account_api.GetBalancesRequest(account=1)), "SESSION_REQUIRED"),
                (
                    private.GetBalances(account_api.GetBalancesRequest(account=1), metadata=session(2)),
                    "ACCOUNT_NOT_OF_KEY",
                ),
            ]
            assert [await reason_of_call(call) for call, _ in unknown] == [reason for _, reason in unknown]

    run(work())


# --- books and trades -------------------------------------------------------------------------------------------------


def test_book_has_levels_with_orders_and_the_last_trade(exchange: BusExchange, tmp_path: Path) -> None:
    shard = exchange.shards[1]
    shard.trade(ALICE, sell(5, 100), sell(3, 100), sell(4, 101), buy(2, 90))

    async def work() -> None:
        async with running(exchange, tmp_path) as client:
            shard.trade(BOB, buy(6, 100))
            book = await client.book(1)
            assert [(level.price_ticks, level.quantity_lots, level.orders) for level in book.asks] == [
                (100, 2, 1),
                (101, 4, 1),
            ]
            assert [(level.price_ticks, level.quantity_lots, level.orders) for level in book.bids] == [(90, 2, 1)]
            assert (book.last_price_ticks, int(book.state)) == (100, MarketState.OPEN)
            assert len((await client.book(1, levels_max=1)).asks) == 1
            listed = await client.public.ListTrades(public_api.ListTradesRequest(market=1))
            assert [(t.price_ticks, t.quantity_lots, t.taker_side) for t in listed.trades] == [(100, 1, 1), (100, 5, 1)]
            assert listed.market_seq == book.market_seq
            older = await client.public.ListTrades(
                public_api.ListTradesRequest(market=1, before_market_seq=listed.trades[0].market_seq)
            )
            assert list(older.trades) == [listed.trades[1]]

    run(work())


class FollowedBook:
    """A book as a client keeps it from a stream."""

    def __init__(self) -> None:
        self.seq = -1
        self.sides: tuple[dict[int, tuple[int, int]], dict[int, tuple[int, int]]] = ({}, {})
        self.deltas = 0

    def take(self, message: public_api.StreamBookResponse) -> None:
        for snapshot in message.snapshots:
            self.seq = snapshot.market_seq
            for side, levels in zip(self.sides, (snapshot.bids, snapshot.asks), strict=True):
                side.update({level.price_ticks: (level.quantity_lots, level.orders) for level in levels})
        for delta in message.deltas:
            assert delta.previous_market_seq == self.seq
            assert delta.market_seq > delta.previous_market_seq
            self.seq = delta.market_seq
            self.deltas += 1
            for side, levels in zip(self.sides, (delta.bids, delta.asks), strict=True):
                for level in levels:
                    side[level.price_ticks] = (level.quantity_lots, level.orders)
                    if not level.orders:
                        assert not level.quantity_lots
                        del side[level.price_ticks]

    def equals(self, book: public_api.BookSnapshot) -> bool:
        there = tuple(
            {level.price_ticks: (level.quantity_lots, level.orders) for level in levels}
            for levels in (book.bids, book.asks)
        )
        return self.sides == there and self.seq == book.market_seq


@pytest.mark.parametrize("every_command", [False, True])
def test_book_stream_gives_the_book_and_what_changes(
    exchange: BusExchange, tmp_path: Path, every_command: bool
) -> None:
    shard = exchange.shards[1]
    shard.trade(ALICE, *(sell(1 + n, 100 + n) for n in range(50)))

    async def work() -> None:
        async with running(exchange, tmp_path) as client:
            stream = client.public.StreamBook(public_api.StreamBookRequest(markets=[1, 2], every_command=every_command))
            first = await next_of(stream)
            assert [snapshot.market for snapshot in first.snapshots] == [1, 2]
            book = FollowedBook()
            book.take(public_api.StreamBookResponse(snapshots=[first.snapshots[0]]))
            shard.trade(BOB, buy(7, 102), buy(1, 95), buy(9, 103, time_in_force=TimeInForce.IOC))
            shard.trade(ALICE, CancelAllOrders())
            shard.operate(OperatorRole.MARKET, SetMarketState(1, MarketState.HALTED))
            target = await client.book(1, levels_max=1_000)
            while not book.equals(target):
                book.take(await next_of(stream))
            if every_command:
                assert book.deltas == 5

    run(work())


def test_deep_book_comes_in_parts(exchange: BusExchange, tmp_path: Path) -> None:
    shard = exchange.shards[1]
    for start in range(0, 9_000, 1_000):
        shard.trade(ALICE, *(sell(1, 100_000 + start + n) for n in range(1_000)))
    shard.trade(BOB, buy(1, 5))

    async def work() -> None:
        async with running(exchange, tmp_path) as client:
            stream = client.public.StreamBook(public_api.StreamBookRequest(markets=[2, 1]))
            messages = await read_until(
                stream,
                lambda seen: bool(seen) and seen[-1].snapshots[-1].market == 1 and not seen[-1].snapshots[-1].more,
            )
            parts = [snapshot for message in messages for snapshot in message.snapshots if snapshot.market == 1]
            assert len(parts) > 1
            assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
            prices = [level.price_ticks for part in parts for level in part.asks]
            assert prices == list(range(100_000, 109_000))
            assert [level.price_ticks for part in parts for level in part.bids] == [5]

    run(work())


def test_trade_stream_goes_on_from_cursors(exchange: BusExchange, tmp_path: Path) -> None:
    shard = exchange.shards[1]
    shard.trade(ALICE, sell(1_000, 100))
    for _ in range(3):
        shard.trade(BOB, buy(1, 100))

    async def work() -> None:
        async with running(exchange, tmp_path) as client:
            listed = await client.public.ListTrades(public_api.ListTradesRequest(market=1))
            oldest = listed.trades[-1].market_seq
            stream = client.public.StreamTrades(
                public_api.StreamTradesRequest(
                    cursors=[
                        public_api.TradeCursor(market=1, after_market_seq=oldest),
                        public_api.TradeCursor(market=2),
                    ]
                )
            )
            first = await next_of(stream)
            assert [cursor.market for cursor in first.cursors] == [1, 2]
            shard.trade(BOB, buy(2, 100))
            messages = await read_until(stream, lambda seen: sum(len(message.trades) for message in seen) >= 3)
            trades = [trade for message in messages for trade in message.trades]
            assert [trade.quantity_lots for trade in trades] == [1, 1, 2]
            assert messages[-1].cursors[-1].after_market_seq == (await client.book(1)).market_seq

    run(work())


def test_trades_that_are_not_kept_any_more_are_too_old(exchange: BusExchange, tmp_path: Path) -> None:
    shard = exchange.shards[1]
    shard.trade(ALICE, sell(10_000, 100))
    for _ in range(5):
        shard.trade(BOB, *(buy(1, 100) for _ in range(500)))

    async def work() -> None:
        async with running(exchange, tmp_path) as client:
            kept, before = [], 0
            while page := (
                await client.public.ListTrades(
                    public_api.ListTradesRequest(market=1, before_market_seq=before, trades_max=1_000)
                )
            ).trades:
                kept += page
                before = page[-1].market_seq
            assert 1_000 <= len(kept) < 2_000
            stream = client.public.StreamTrades(
                public_api.StreamTradesRequest(cursors=[public_api.TradeCursor(market=1, after_market_seq=2)])
            )
            assert await reason_of_call(stream) == "CURSOR_TOO_OLD"

    run(work())


# --- accounts ---------------------------------------------------------------------------------------------------------


def test_balances_show_what_is_free_locked_on_its_way_and_set_aside(exchange: BusExchange, tmp_path: Path) -> None:
    control, account, key = exchange.control, ALICE, alices_key(exchange)
    control.operate(OperatorRole.TREASURY, Deposit(account, QUOTE, 1_000, AllocationPolicy.NONE))
    allocated = exchange.command(key, account, AllocateFunds(QUOTE, 300, 1), RequestWithdrawal(QUOTE, 50, "bank"))
    exchange.shards[1].trade(account, buy(3, 7))
    exchange.shards[2].trade(account, ReleaseFunds(QUOTE, 9))

    async def work() -> None:
        async with running(exchange, tmp_path) as client:
            said = await client.balances(account)
            assert [(part.cursor.shard, part.cursor.n) for part in said.shards] == [
                (venue.shard, len(venue.frames)) for venue in exchange.all()
            ]
            rows = [[(row.asset, row.free_units, row.locked_units) for row in part.balances] for part in said.shards]
            assert rows == [
                [(QUOTE, 650, 0)],
                [(BASE, RICH, 0), (QUOTE, RICH - 211, 211)],
                [(BASE, RICH, 0), (QUOTE, RICH - 9, 0)],
            ]
            transit = [(t.from_shard, t.to_shard, t.link_sequence, t.asset, t.amount_units) for t in said.transit]
            assert transit == [(0, 1, 5, QUOTE, 300), (2, 0, 1, QUOTE, 9)]
            assert all(there.debited_us for there in said.transit)
            assert [(w.withdrawal, w.asset, w.amount_units, w.destination) for w in said.withdrawals] == [
                (1, QUOTE, 50, "bank")
            ]
        for venue in exchange.all():
            venue.checkpoint(exchange.store)
        async with running(exchange, tmp_path) as client:
            again = await client.balances(account)
            assert (again.shards, again.transit, again.withdrawals) == (said.shards, said.transit, said.withdrawals)
            exchange.deliver(control, allocated)
            arrived = await client.balances(account)
            assert [there.from_shard for there in arrived.transit] == [2]
            assert arrived.shards[1].balances[1].free_units == RICH - 211 + 300

    run(work())


def alices_key(exchange: BusExchange) -> KeyPair:
    assert isinstance(exchange.control.venue, ControlVenue)
    return exchange.control.venue.key("alice")


def test_open_orders_are_complete_and_listed_page_by_page(exchange: BusExchange, tmp_path: Path) -> None:
    """Also what no event says: it is looked up in the orders, or in a checkpoint where those are trimmed."""
    modes = [0, *SelfTradePrevention]
    first, second = exchange.shards[1], exchange.shards[2]
    first.trade(ALICE, *(sell(5, 100 + n, self_trade_prevention=mode) for n, mode in enumerate(modes)))
    first.trade(BOB, buy(2, 100, client_order_id=8), buy(7, 90, post_only=True, client_order_id=9))
    second.trade(ALICE, sell(1, 100, market=2))

    async def work() -> None:
        async with running(exchange, tmp_path) as client:
            first.checkpoint(exchange.store)
            first.trim(len(first.frames))
            late = first.trade(ALICE, sell(1, 200, self_trade_prevention=SelfTradePrevention.DECREMENT))
            assert late
            orders: list[account_api.OpenOrder] = []
            cursors: list[tuple[int, int]] = []
            token = ""
            while not orders or token:
                page = await client.open_orders(ALICE, page_size=3, page_token=token)
                assert len(page.orders) <= 3
                orders += page.orders
                cursors += [(cursor.shard, cursor.n) for cursor in page.cursors]
                token = page.next_page_token
            assert [(order.shard, order.market, order.side) for order in orders] == [(1, 1, 2)] * 7 + [(2, 2, 2)]
            assert cursors[-1] == (2, len(second.frames))
            assert [order.order.self_trade_prevention for order in orders] == [1, 1, 2, 3, 4, 5, 4, 1]
            for venue in (first, second):
                engine: Any = venue.venue.engine
                state = engine.state()
                known = {o.order_id: o for book in state.books for side in (book.bids, book.asks) for o in side}
                for order in orders:
                    if order.shard == venue.shard:
                        expected = known[order.order.order_id]
                        assert {name: getattr(order.order, name) for name in expected.__struct_fields__} == {
                            name: getattr(expected, name) for name in expected.__struct_fields__
                        }
            assert [order.shard for order in (await client.open_orders(ALICE, market=2)).orders] == [2]
            assert [order.order.post_only for order in (await client.open_orders(BOB)).orders] == [True]

    run(work())


def test_withdrawals_are_listed_newest_first(exchange: BusExchange, tmp_path: Path) -> None:
    control, key = exchange.control, alices_key(exchange)
    control.operate(OperatorRole.TREASURY, Deposit(ALICE, QUOTE, 1_000, AllocationPolicy.NONE))
    exchange.command(key, ALICE, *(RequestWithdrawal(QUOTE, units, f"bank {units}") for units in (1, 2, 3)))
    control.operate(OperatorRole.TREASURY, CloseWithdrawal(1, paid=True), CloseWithdrawal(2, paid=False))

    async def work() -> None:
        async with running(exchange, tmp_path) as client:

            async def listed(**fields: Any) -> account_api.ListAccountWithdrawalsResponse:
                request = account_api.ListAccountWithdrawalsRequest(account=ALICE, **fields)
                answer: account_api.ListAccountWithdrawalsResponse = await client.private.ListAccountWithdrawals(
                    request, metadata=session(ALICE)
                )
                return answer

            rows = [(w.request.withdrawal, w.request.destination, w.state) for w in (await listed()).withdrawals]
            assert rows == [(3, "bank 3", 1), (2, "bank 2", 3), (1, "bank 1", 2)]
            assert [bool(w.closed_us) for w in (await listed()).withdrawals] == [False, True, True]
            assert {w.requested_n for w in (await listed()).withdrawals} == {len(control.frames) - 1}
            page = await listed(page_size=2)
            rest = await listed(page_size=2, page_token=page.next_page_token)
            assert [w.request.withdrawal for w in (*page.withdrawals, *rest.withdrawals)] == [3, 2, 1]
            assert [w.request.withdrawal for w in (await listed(state=2)).withdrawals] == [1]

    run(work())


class Settlement:
    """Stands in for settlement-plane: knows withdrawals, in pages of two, oldest first."""

    def __init__(self, *withdrawals: Withdrawal) -> None:
        self.withdrawals = withdrawals

    async def call(self, kind: str, shard: int | None, method: str, request: bytes, *, is_safe: bool) -> bytes:
        assert (kind, shard, method) == ("settlement-plane", None, "/clob.v1.AdminService/ListWithdrawals")
        asked = admin_api.ListWithdrawalsRequest.FromString(request)
        start = int(asked.page_token or 0)
        answer = admin_api.ListWithdrawalsResponse(withdrawals=self.withdrawals[start : start + 2])
        if start + 2 < len(self.withdrawals):
            answer.next_page_token = str(start + 2)
        return answer.SerializeToString()


def test_withdrawals_from_before_the_checkpoint_are_settlements(exchange: BusExchange, tmp_path: Path) -> None:
    """What only settlement knows is in the list: closed ones, when the others were asked for, and what is payable."""
    control, key = exchange.control, alices_key(exchange)
    control.operate(OperatorRole.TREASURY, Deposit(ALICE, QUOTE, 1_000, AllocationPolicy.NONE))
    exchange.command(key, ALICE, *(RequestWithdrawal(QUOTE, units, "bank") for units in (1, 2, 3)))
    control.operate(OperatorRole.TREASURY, CloseWithdrawal(1, paid=True))
    control.checkpoint(exchange.store)
    known = [Withdrawal(state=state, requested_n=7, requested_us=9, payable=state == 1) for state in (2, 1, 1)]  # type: ignore[arg-type]
    for number, withdrawal in enumerate(known, 1):
        withdrawal.request.withdrawal = number

    async def work() -> None:
        async with running(exchange, tmp_path) as client:
            request = account_api.ListAccountWithdrawalsRequest(account=ALICE)
            call = client.private.ListAccountWithdrawals(request, metadata=session(ALICE))
            assert await reason_of_call(call) == "UNAVAILABLE", "nobody knows the closed one"
            client.service.accounts.peers = Settlement(*known)
            control.operate(OperatorRole.TREASURY, CloseWithdrawal(3, paid=False))
            answer = await client.private.ListAccountWithdrawals(request, metadata=session(ALICE))
            rows = [(w.request.withdrawal, w.state, w.requested_n, w.payable) for w in answer.withdrawals]
            assert rows == [(3, 3, 7, False), (2, 1, 7, True), (1, 2, 7, False)]

    run(work())


# --- the private stream -----------------------------------------------------------------------------------------------


class FollowedAccount:
    """The events of an account as a client puts them together from streams, and where it stands."""

    def __init__(self) -> None:
        self.events: list[tuple[int, event_pb2.Event]] = []
        self.cursors: dict[int, Cursor] = {}

    def take(self, message: account_api.StreamExecutionsResponse) -> None:
        self.events += [(message.cursor.shard, event) for event in message.events]
        self.cursors[message.cursor.shard] = message.cursor


def events_of(exchange: BusExchange, account: int) -> list[tuple[int, event_pb2.Event]]:
    """Return all events of an account, shard by shard, as a stream ought to give them."""
    events = []
    for venue in exchange.all():
        for data in venue.frames:
            frame = ExecutionFrame.FromString(data)
            for place in places_of(frame, account):
                event = frame.events[place - 1]
                trade = event.trade
                if event.WhichOneof("event") == "trade" and trade.maker_account != trade.taker_account:
                    other = "taker" if trade.maker_account == account else "maker"
                    for name in ("account", "order_id", "account_seq", "fee_quote_units"):
                        trade.ClearField(f"{other}_{name}")
                events.append((venue.shard, event))
    return events


def sorted_by_shard(events: list[tuple[int, event_pb2.Event]]) -> list[tuple[int, event_pb2.Event]]:
    return sorted(events, key=lambda item: item[0])


def test_stream_starts_with_every_shard_and_leaves_the_other_side_out(exchange: BusExchange, tmp_path: Path) -> None:
    shard = exchange.shards[1]

    async def work() -> None:
        async with running(exchange, tmp_path) as client:
            stream = client.executions(ALICE)
            first = [await next_of(stream) for _ in range(3)]
            assert [(m.cursor.shard, m.cursor.n, m.cursor.event) for m in first] == [
                (venue.shard, len(venue.frames), 0) for venue in exchange.all()
            ]
            assert not any(message.events for message in first)
            shard.trade(ALICE, sell(5, 100))
            shard.trade(BOB, buy(2, 100))
            shard.trade(ALICE, buy(1, 100, self_trade_prevention=SelfTradePrevention.NONE))
            messages = [await next_of(stream) for _ in range(3)]
            assert [message.cursor.n for message in messages] == [len(shard.frames) - 2 + n for n in range(3)]
            trade = messages[1].events[0].trade
            assert (trade.maker_account, trade.taker_account, trade.taker_order_id) == (ALICE, 0, 0)
            assert (trade.maker_fee_quote_units, trade.taker_fee_quote_units, trade.taker_account_seq) == (2, 0, 0)
            own = messages[2].events[1].trade
            assert (own.maker_account, own.taker_account, own.taker_fee_quote_units) == (ALICE, ALICE, 3)

    run(work())


def test_stream_from_any_cursor_has_neither_gap_nor_repeat(exchange: BusExchange, tmp_path: Path) -> None:
    shard = exchange.shards[1]
    for n in range(20):
        shard.trade(ALICE, sell(3, 100 + n), buy(1, 50), CancelAllOrders(market=1, side=Side.BUY))
        shard.trade(BOB, buy(2, 200, time_in_force=TimeInForce.IOC))
    expected = events_of(exchange, ALICE)
    frames = [ExecutionFrame.FromString(data) for data in shard.frames]

    async def work() -> None:
        async with running(exchange, tmp_path) as client:
            for n in (0, 1, 7, 20, len(frames) - 1, len(frames)):
                for event in {0, 1, 2, 3} & set(range(len(frames[n - 1].events) + 1)) if n else {0}:
                    after = sum(len(places_of(frame, ALICE)) for frame in frames[: n - 1 if event else n])
                    after += len([p for p in places_of(frames[n - 1], ALICE) if p <= event]) if event else 0
                    wanted = [item for item in expected if item[0] == 1][after:]
                    stream = client.executions(ALICE, Cursor(shard=1, n=n, event=event))
                    account = FollowedAccount()
                    while account.cursors.get(1) != Cursor(shard=1, n=len(frames)):
                        account.take(await next_of(stream))
                    assert account.events == wanted
                    stream.cancel()

    run(work())


def test_streams_go_on_over_a_restart_from_a_checkpoint(exchange: BusExchange, tmp_path: Path) -> None:
    """Live, then the process ends; events come while it is away; another one has started from a checkpoint."""
    shard = exchange.shards[1]
    account = FollowedAccount()

    async def work() -> None:
        async with running(exchange, tmp_path) as client:
            client.service.executions.heartbeat_s = 0.1
            stream = client.executions(ALICE, *(Cursor(shard=number) for number in range(3)))
            shard.trade(ALICE, sell(3, 100))
            while any(account.cursors.get(n, Cursor()).n < len(exchange.all()[n].frames) for n in (0, 1)):
                account.take(await next_of(stream))
        shard.trade(BOB, buy(2, 100))
        shard.trade(ALICE, sell(1, 101), sell(1, 102))
        for venue in exchange.all():
            venue.checkpoint(exchange.store)
        shard.trade(ALICE, CancelAllOrders())
        async with running(exchange, tmp_path) as client:
            client.service.executions.heartbeat_s = 0.1
            stream = client.executions(ALICE, *account.cursors.values())
            while any(account.cursors[venue.shard].n < len(venue.frames) for venue in exchange.all()):
                account.take(await next_of(stream))
            listed = await client.public.ListTrades(public_api.ListTradesRequest(market=1))
            assert len(listed.trades) == 1, "trades from before the checkpoint are read from the log"
        assert sorted_by_shard(account.events) == events_of(exchange, ALICE)

    run(work())


def test_what_is_not_kept_any_more_is_too_old(exchange: BusExchange, tmp_path: Path) -> None:
    shard = exchange.shards[1]

    async def work() -> None:
        async with running(exchange, tmp_path, history_bytes_max=1024 * 1024) as client:
            early = len(shard.frames)
            for _ in range(30):
                shard.trade(ALICE, *(sell(1, 100 + n) for n in range(1_000)))
            await client.balances(ALICE)
            assert await reason_of_call(client.executions(ALICE, Cursor(shard=1, n=early))) == "CURSOR_TOO_OLD"

    run(work())


def test_new_shard_appears_while_streaming(exchange: BusExchange, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(exchange, tmp_path) as client:
            stream = client.executions(ALICE)
            for _ in range(3):
                await next_of(stream)
            third = exchange.add_shard(3)
            message = await next_of(stream)
            assert (message.cursor.shard, message.cursor.n) == (3, 0)
            third.trade(ALICE, CancelAllOrders())
            assert [event.WhichOneof("event") for event in (await next_of(stream)).events] == [
                "cancel_all_accepted",
                "cancel_all_done",
            ]
            assert [part.cursor.shard for part in (await client.balances(ALICE)).shards] == [0, 1, 2, 3]

    run(work())


def test_large_frames_come_in_parts_with_cursors_inside(exchange: BusExchange, tmp_path: Path) -> None:
    shard = exchange.shards[1]
    shard.venue.now_us = 0

    async def work() -> None:
        async with running(exchange, tmp_path) as client:
            stream = client.executions(ALICE)
            for _ in range(3):
                await next_of(stream)
            orders = [sell(1, 100 + n) for n in range(1_000)]
            batches = [shard_batch(shard, orders) for _ in range(10)]
            shard.enter(*batches)
            account = FollowedAccount()
            places = []
            while account.cursors.get(1, Cursor(event=1)).event:
                message = await next_of(stream)
                account.take(message)
                places.append(message.cursor.event)
            assert len(account.events) == 10_000
            assert len(places) == 3
            again = client.executions(ALICE, Cursor(shard=1, n=len(shard.frames), event=places[0]))
            rest = FollowedAccount()
            while rest.cursors.get(1, Cursor(event=1)).event:
                rest.take(await next_of(again))
            assert rest.events == account.events[-len(rest.events) :]
            assert len(rest.events) == 10_000 - 4_096

    run(work())


def shard_batch(shard: BusVenue, orders: list[PlaceOrder]) -> Any:
    venue = shard.venue
    assert isinstance(venue, Venue)
    venue.now_us = time.time_ns() // 1000
    return venue.batch(ALICE, *orders)


def test_heartbeats_come_for_every_shard(exchange: BusExchange, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(exchange, tmp_path) as client:
            client.service.executions.heartbeat_s = 0.05
            stream = client.executions(ALICE)
            seen = [(await next_of(stream)).cursor.shard for _ in range(9)]
            assert seen == [0, 1, 2] * 3
            exchange.shards[1].trade(BOB, buy(1, 1))
            target = len(exchange.shards[1].frames)
            messages = await read_until(
                stream, lambda got: any(m.cursor.n == target and m.cursor.shard == 1 for m in got)
            )
            assert not any(message.events for message in messages), "nobody else's events, but the cursor goes on"

    run(work())


def test_reader_that_takes_less_than_there_is_is_ended(
    exchange: BusExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without gRPC, which takes megabytes for a reader before it holds anything back."""
    shard = exchange.shards[1]
    monkeypatch.setattr(outbox, "OUTBOX_BYTES_MAX", 50_000)

    async def work() -> None:
        async with running(exchange, tmp_path) as client:
            slow = client.service.executions.stream(ALICE, ())
            every = client.service.books.stream([1], every_command=True)
            merged = client.service.books.stream([1], every_command=False)
            for stream in (slow, every, merged):
                await anext(stream)
            for _ in range(3):
                shard.trade(ALICE, *(sell(1, 100 + n) for n in range(1_000)))
            await client.balances(BOB)
            for stream in (slow, every):
                with pytest.raises(Refusal) as caught:
                    await anext(stream)
                assert caught.value.reason == "TOO_SLOW"
            book = FollowedBook()
            book.seq = public_api.StreamBookResponse.FromString(await anext(merged)).deltas[0].market_seq
            assert book.seq == (await client.book(1)).market_seq, "who reads merged is never too slow"
            await merged.aclose()  # type: ignore[attr-defined]

    run(work())


# --- as a command ---------------------------------------------------------------------------------------------------


def test_command_says_when_it_serves_survives_a_kill_and_ends_with_0(exchange: BusExchange, tmp_path: Path) -> None:
    shard = exchange.shards[1]
    shard.trade(ALICE, sell(3, 100))
    flags = flags_for(exchange, tmp_path)
    arguments = [text for name, value in flags.items() for text in (f"--{name.replace('_', '-')}", value)]

    def start() -> tuple[subprocess.Popen[str], dict[str, Any]]:
        process = subprocess.Popen(
            [sys.executable, "-m", "exchange.marketdata.service", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())

    async def events_from(address: str, cursor: Cursor, last_n: int) -> list[str]:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = AccountServiceStub(channel)
            request = account_api.StreamExecutionsRequest(account=ALICE, cursors=[cursor])
            stream = stub.StreamExecutions(request, metadata=session(ALICE))
            account = FollowedAccount()
            while account.cursors.get(1) != Cursor(shard=1, n=last_n):
                account.take(await next_of(stream))
            return [str(event.WhichOneof("event")) for number, event in account.events if number == 1]

    first, ready = start()
    assert (ready["ready"], ready["kind"], ready["pid"]) == (True, KIND, first.pid)
    begin = Cursor(shard=1, n=len(shard.frames) - 1)
    assert asyncio.run(events_from(ready["address"], begin, len(shard.frames))) == ["order_accepted"]
    first.kill()
    first.communicate(timeout=WAIT_S)
    shard.trade(ALICE, CancelAllOrders())
    second, ready = start()
    seen = asyncio.run(events_from(ready["address"], begin, len(shard.frames)))
    assert seen == ["order_accepted", "cancel_all_accepted", "order_cancelled", "cancel_all_done"]
    second.terminate()
    second.communicate(timeout=WAIT_S)
    assert second.returncode == 0


# --- when things go wrong ---------------------------------------------------------------------------------------------


def test_process_that_was_behind_what_was_trimmed_reads_the_checkpoint(exchange: BusExchange, tmp_path: Path) -> None:
    shard = exchange.shards[1]
    shard.trade(ALICE, sell(3, 100))
    shard.checkpoint(exchange.store)
    shard.trim(len(shard.frames))
    shard.trade(ALICE, sell(4, 100))

    async def work() -> None:
        async with running(exchange, tmp_path) as client:
            assert (await client.book(1)).asks[0].quantity_lots == 7
            assert await reason_of_call(client.executions(ALICE, Cursor(shard=1, n=1))) == "CURSOR_TOO_OLD"

    run(work())


def test_frame_that_does_not_follow_stops_the_shard_and_only_that(exchange: BusExchange, tmp_path: Path) -> None:
    shard = exchange.shards[1]

    async def work() -> None:
        async with running(exchange, tmp_path) as client:
            stream = client.executions(ALICE)
            await next_of(stream)
            forged = ExecutionFrame(format=1, n=len(shard.frames) + 1, t_us=2**52, rules=1, previous_hash=bytes(32))
            key = f"clob:{{{shard.tag}}}:executions"
            with contextlib.closing(redis.Redis.from_url(exchange.address)) as raw:
                raw.xadd(key, {"f": forged.SerializeToString(), "x": b"1 1 1 1 1 1"}, id=f"{len(shard.frames) + 1}-0")
            assert await reason_of_call(stream) == "UNAVAILABLE"
            assert await reason_of_call(client.balances(ALICE)) == "UNAVAILABLE"
            evidence = await client.process.GetEvidence(GetEvidenceRequest(shards=[1]))
            assert evidence.shards[0].executed.n == len(shard.frames)
            assert evidence.shards[0].executed.chain_hash == shard.venue.engine.chain_hash
            assert (await client.book(2)).market == 2

    run(work())


def test_log_that_lost_its_end_is_noticed(valkey_server: BusServer, exchange: BusExchange, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(exchange, tmp_path) as client:
            await client.balances(ALICE)
            valkey_server.command("FLUSHALL")
            async with asyncio.timeout(WAIT_S):
                while not client.service.reader.problems():
                    await asyncio.sleep(0.02)
            assert await reason_of_call(client.balances(ALICE)) == "UNAVAILABLE"
            said = await client.public.GetExchange(public_api.GetExchangeRequest())
            assert len(said.shards) == 3, "who is to sign needs it, whatever is wrong"
            evidence = await client.process.GetEvidence(GetEvidenceRequest())
            assert [(item.shard, item.executed.n) for item in evidence.shards] == [
                (venue.shard, len(venue.frames)) for venue in exchange.all()
            ]

    run(work())
