"""The demo: a whole exchange in a scratch folder, from keys and deposits over real order flow to the audit."""

import asyncio
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import psutil

from clob.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    market_data_service_pb2,
    market_data_service_pb2_grpc,
    market_pb2,
    operation_pb2,
    order_service_pb2,
    order_service_pb2_grpc,
    outcome_pb2,
    position_pb2,
    settlement_service_pb2,
    settlement_service_pb2_grpc,
)
from exchange.config.environment import Durability
from exchange.domain.commands import Batch, CancelOrder
from exchange.domain.limits import OPERATION_ACTIONS_MAX
from exchange.domain.markets import Asset
from exchange.domain.rejects import RejectReason
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.embedded.data_dir import open_data_dir
from exchange.embedded.demo_flow import Source
from exchange.embedded.exchange import EmbeddedExchange, Options, cpu_seconds
from exchange.embedded.flow_sender import FlowSender, Tally
from exchange.embedded.traders import Trader, register_trader
from exchange.flow.seeded import QUOTE_ASSET
from exchange.reference.signing import sign
from exchange.wire.messages import encode

ENVIRONMENT: Final = "demo"
DOLLAR: Final = Asset(QUOTE_ASSET, "USD", 6)
REGISTRATIONS_IN_FLIGHT: Final = 64
DEPOSITS_PER_CALL: Final = 1_000
CALL_S_MAX: Final = 120
SENDER: Final = "this process: signs and counts"
LEFT_BEHIND_S_MAX: Final = 2
MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024


class SetupError(RuntimeError):
    """The exchange refused something that the demo needs; the message says what and why."""


@dataclass(slots=True)
class DemoReport:
    """What the demo did.

    Attributes:
        sources: names of the flows.
        seeded, recorded: what became of the seeded flows, and of the recorded one; None: there was none.
        setup_s: seconds by step before the flow.
        cpu_us: processor time from the first order to the settled last one, by process, in microseconds.
        settled_s: from the first order to the audited end.
        at_the_door: what became of a forged batch, and of one that was sent twice.
        audit: the audit's answer.
        books: levels of the recorded book's sides compared, and whether they were equal; None: not compared.
        symbols: of assets.
        left_behind: processes that were still there afterwards.
        engine: of the shards.
    """

    sources: list[str]
    markets: int
    traders: int
    seeded: Tally = field(default_factory=Tally)
    recorded: Tally | None = None
    setup_s: dict[str, float] = field(default_factory=dict)
    cpu_us: dict[str, int] = field(default_factory=dict)
    settled_s: float = 0.0
    at_the_door: dict[str, str] = field(default_factory=dict)
    audit: settlement_service_pb2.AuditResponse = field(default_factory=settlement_service_pb2.AuditResponse)
    book_equal: bool | None = None
    symbols: dict[int, str] = field(default_factory=dict)
    bus: str = ""
    engine: str = ""
    left_behind: list[str] = field(default_factory=list)

    @property
    def tallies(self) -> list[Tally]:
        """What became of all flows."""
        return [tally for tally in (self.seeded, self.recorded) if tally is not None]

    @property
    def failures(self) -> list[str]:
        """What went wrong, in sentences; none: the demo passed."""
        found = []
        if lost := sum(tally.lost for tally in self.tallies):
            found.append(f"{lost:,} orders without an outcome")
        refused = sum((tally.refused for tally in self.tallies), Counter())
        found += [f"{count:,} batches refused: {reason}" for reason, count in sorted(refused.items())]
        if not self.audit.passed:
            found.append("the audit does not balance, or is not complete")
        if self.seeded.sent and self.seeded.accepted < self.seeded.sent * 0.95:
            found.append(f"only {self.seeded.accepted:,} of {self.seeded.sent:,} seeded orders were accepted")
        if self.seeded.sent >= 1_000 and self.seeded.trades < self.seeded.sent * 0.2:
            found.append(f"only {self.seeded.trades:,} trades in {self.seeded.sent:,} seeded orders")
        if self.recorded is not None and self.recorded.rejected:
            found.append(f"{self.recorded.rejected.total():,} recorded orders rejected")
        if self.book_equal is False:
            found.append("the book is not the recorded one")
        if self.at_the_door != {"forged": "REFUSED", "repeated": "EXECUTED, not again"}:
            found.append(f"at the door: {self.at_the_door}")
        found += [f"left behind: {name}" for name in self.left_behind]
        return found


class Demo:
    """One run.

    Attributes:
        traders: by number, once they are registered.
        report: what was done so far.
    """

    def __init__(
        self, exchange: EmbeddedExchange, sources: Sequence[Source], traders: int, say: Callable[[str], None]
    ) -> None:
        self._exchange = exchange
        self._sources = sources
        self._say = say
        self.traders: dict[int, Trader] = {}
        markets = {market.market: market for source in sources for market in source.markets}
        self._markets = markets
        self.report = DemoReport([source.name for source in sources], len(markets), traders)
        self.report.symbols = {asset.asset: asset.symbol for asset in self._assets()}

    async def run(self) -> None:
        """Set up, trade, settle, audit.

        Raises:
            SetupError, grpc.RpcError: the exchange refused what it must not refuse.
        """
        self.report.bus = self._exchange.bus_origin
        options = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ]
        async with (
            grpc.aio.insecure_channel(self._exchange.admin, options=options) as admin,
            grpc.aio.insecure_channel(self._exchange.traders, options=options) as traders,
        ):
            await self.set_up(admin)
            await self._trade(admin, traders)
            await self._compare_book(traders)
            settlement = settlement_service_pb2_grpc.SettlementServiceStub(admin)
            self.report.audit = await settlement.Audit(settlement_service_pb2.AuditRequest(), timeout=CALL_S_MAX)

    # --- set-up -----------------------------------------------------------------------------------------------------

    def _assets(self) -> list[Asset]:
        return [DOLLAR, *(asset for source in self._sources for asset in source.assets)]

    async def set_up(self, channel: grpc.aio.Channel) -> None:
        """Define assets, create markets, register traders, deposit what they need.

        Raises:
            SetupError, grpc.RpcError: the exchange refused it.
        """
        admin = admin_service_pb2_grpc.AdminServiceStub(channel)
        steps = (
            ("assets", self._define_assets),
            ("markets", self._create_markets),
            ("users with keys", self._register_traders),
            ("deposits", self._deposit),
        )
        for name, step in steps:
            started = time.monotonic()
            done = await step(admin)
            self.report.setup_s[f"{done:,} {name}"] = time.monotonic() - started

    async def _define_assets(self, admin: Any) -> int:
        assets = [market_pb2.Asset(asset=a.asset, symbol=a.symbol, decimals=a.decimals) for a in self._assets()]
        for start in range(0, len(assets), OPERATION_ACTIONS_MAX):
            self._say(f"assets: {start:,} of {len(assets):,}")
            part = assets[start : start + OPERATION_ACTIONS_MAX]
            answer = await admin.DefineAssets(
                admin_service_pb2.DefineAssetsRequest(request_id=secrets.token_bytes(16), assets=part),
                timeout=CALL_S_MAX,
            )
            _expect_no_refusal("an asset", answer.results)
        return len(assets)

    async def _create_markets(self, admin: Any) -> int:
        self._say(f"markets: {len(self._markets):,} in one call")
        markets = [market_pb2.Market.FromString(encode(market)) for market in self._markets.values()]
        answer = await admin.CreateMarkets(
            admin_service_pb2.CreateMarketsRequest(request_id=secrets.token_bytes(16), markets=markets),
            timeout=CALL_S_MAX,
        )
        _expect_no_refusal("a market", answer.results)
        return len(markets)

    async def _register_traders(self, admin: Any) -> int:
        room = asyncio.Semaphore(REGISTRATIONS_IN_FLIGHT)

        async def register(number: int) -> None:
            async with room:
                self.traders[number] = await register_trader(admin, ENVIRONMENT)
            if len(self.traders) % 100 == 0:
                self._say(f"users with keys: {len(self.traders):,} of {self.report.traders:,}")

        await asyncio.gather(*(register(number) for number in range(1, self.report.traders + 1)))
        return len(self.traders)

    async def _deposit(self, admin: Any) -> int:
        deposits = [
            operation_pb2.Deposit(
                account=self.traders[transfer.account].account,
                asset=transfer.asset,
                amount_units=transfer.amount_units,
                allocate=operation_pb2.ALLOCATION_POLICY_ONE_SHARD,
                to_shard=source.shard,
            )
            for source in self._sources
            for transfer in source.funding
        ]
        for start in range(0, len(deposits), DEPOSITS_PER_CALL):
            self._say(f"deposits: {start:,} of {len(deposits):,}")
            part = deposits[start : start + DEPOSITS_PER_CALL]
            request = admin_service_pb2.DepositRequest(
                request_id=secrets.token_bytes(16), deposits=part, wait_ms_max=30_000
            )
            answer = await admin.Deposit(request, timeout=CALL_S_MAX)
            _expect_no_refusal("a deposit", answer.results)
            if not answer.arrived:
                raise SetupError("SETUP: deposits did not arrive in 30 s; see the logs of the matchers")
        return len(deposits)

    # --- the flow ---------------------------------------------------------------------------------------------------

    async def _trade(self, admin: grpc.aio.Channel, channel: grpc.aio.Channel) -> None:
        settlement = settlement_service_pb2_grpc.SettlementServiceStub(admin)
        await settlement.Settle(settlement_service_pb2.SettleRequest(), timeout=CALL_S_MAX)
        await self._knock(channel)
        total = sum(len(source.orders) for source in self._sources)
        done = 0

        def on_progress(batches: int) -> None:
            nonlocal done
            done += batches
            self._say(f"orders: {done:,} of {total:,}")

        before = self._cpu()
        started = time.monotonic()
        sends = []
        for source in self._sources:
            if source.seeded:
                tally = self.report.seeded
            else:
                tally = self.report.recorded = Tally()
            orders = [(self.traders[order.trader], order.command) for order in source.orders]
            sender = FlowSender(channel, ENVIRONMENT, self._markets, tally)
            sends.append(sender.send(source.shard, orders, on_progress))
        await asyncio.gather(*sends)
        last = {shard: n for tally in self.report.tallies for shard, n in tally.last_n.items()}
        self._say("settling")
        positions = [position_pb2.ShardPosition(shard=shard, n=n) for shard, n in last.items()]
        await settlement.Settle(settlement_service_pb2.SettleRequest(positions=positions), timeout=CALL_S_MAX)
        self.report.settled_s = time.monotonic() - started
        after = self._cpu()
        self.report.cpu_us = {name: int((after[name] - before[name]) * 1e6) for name in before}

    def _cpu(self) -> dict[str, float]:
        used = {running.name: cpu_seconds(running.pid) for running in self._exchange.running()}
        return {**used, SENDER: cpu_seconds(os.getpid())}

    async def _knock(self, channel: grpc.aio.Channel) -> None:
        """Send a forged batch, and a good one twice: a cancel of an order that does not exist."""
        stub = order_service_pb2_grpc.OrderServiceStub(channel)
        trader, shard = self.traders[1], self._sources[0].shard
        valid_until_ms = time.time_ns() // 1_000_000 + 30_000
        payload = encode(Batch(trader.account, shard, secrets.randbits(63), valid_until_ms, (CancelOrder(order_id=1),)))
        signature = sign(trader.seed, signed_bytes(SignedKind.BATCH, ENVIRONMENT, payload))
        forged = bytes([signature[0] ^ 1]) + signature[1:]
        said = []
        for name in (forged, signature, signature):
            request = order_service_pb2.SubmitRequest(environment=ENVIRONMENT, wait_ms_max=30_000)
            request.batches.add(key_id=trader.key_id, payload=payload, signature=name)
            said.append((await stub.Submit(request, timeout=CALL_S_MAX)).outcomes[0])
        state = outcome_pb2.SendState.Name(said[0].state).removeprefix("SEND_STATE_")
        executed = [outcome.state == outcome_pb2.SEND_STATE_EXECUTED for outcome in said[1:]]
        same = said[1].n == said[2].n and said[1].events == said[2].events and said[2].repeated
        self.report.at_the_door = {
            "forged": state,
            "repeated": "EXECUTED, not again" if all(executed) and same else "NOT the first answer again",
        }

    async def _compare_book(self, channel: grpc.aio.Channel) -> None:
        """Compare the published book of the recorded market with the recording's last row."""
        for source in self._sources:
            if source.last_book is None:
                continue
            stub = market_data_service_pb2_grpc.MarketDataServiceStub(channel)
            request = market_data_service_pb2.GetBookRequest(market=source.markets[0].market, levels_max=1_000)
            book = (await stub.GetBook(request, timeout=CALL_S_MAX)).book
            depth = max(len(source.last_book.bids), len(source.last_book.asks))
            found = tuple(
                [(level.price_ticks, level.quantity_lots) for level in side[:depth]] for side in (book.bids, book.asks)
            )
            self.report.book_equal = found == (source.last_book.bids, source.last_book.asks)


async def run_demo(
    folder: Path,
    sources: Sequence[Source],
    *,
    traders: int,
    workers: int,
    durability: Durability,
    engine: str,
    say: Callable[[str], None],
) -> DemoReport:
    """Run a whole exchange in a scratch folder and send the flows through it.

    Args:
        folder: empty.
        sources: flows of different shards, numbered from 1 without a gap.
        traders: users with a key of their own to register; no flow has more.
        workers: processes that verify.
        durability: of the environment.
        engine: of the shards.
        say: shows how far it is.

    Raises:
        ChildError, NoBusServerError: a process did not come up.
        SetupError, grpc.RpcError: the exchange refused what it must not refuse.
    """
    data = open_data_dir(folder, environment=ENVIRONMENT, durability=durability)
    options = Options(
        shards=max(source.shard for source in sources),
        workers=workers,
        listen_traders="127.0.0.1:0",
        listen_admin="127.0.0.1:0",
        engine=engine,
        log_level="warning",
    )
    exchange = EmbeddedExchange(data, options, on_change=say)
    say("starting the exchange")
    started = time.monotonic()
    async with exchange:
        demo = Demo(exchange, sources, traders, say)
        demo.report.engine = engine
        demo.report.setup_s["start of all processes"] = time.monotonic() - started
        await demo.run()
        family = psutil.Process().children(recursive=True)
        say("draining")
    _, left = psutil.wait_procs(family, timeout=LEFT_BEHIND_S_MAX)
    demo.report.left_behind = [f"pid {process.pid}" for process in left]
    return demo.report


def _expect_no_refusal(what: str, results: Iterable[Any]) -> None:
    refused = Counter(RejectReason(result.reason).name for result in results if result.reason)
    if refused:
        counts = ", ".join(f"{reason} {count:,}" for reason, count in refused.items())
        raise SetupError(f"SETUP: {what} was refused: {counts}")
