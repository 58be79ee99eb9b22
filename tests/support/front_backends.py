"""Services behind the operators' front, small and real: gRPC servers on loopback, found through a registry."""
# ruff: noqa: N802 - methods are named by the contracts

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import grpc

from clob.v1 import (
    account_service_pb2,
    admin_service_pb2,
    admin_service_pb2_grpc,
    market_data_service_pb2,
    market_data_service_pb2_grpc,
    matching_service_pb2,
    matching_service_pb2_grpc,
    position_pb2,
    settlement_service_pb2,
    settlement_service_pb2_grpc,
    state_pb2,
    verification_service_pb2,
    withdrawal_pb2,
)
from clob.v1.batch_pb2 import Side
from clob.v1.door_reason_pb2 import DoorReason
from clob.v1.event_pb2 import RejectReason as RejectReasonPb
from clob.v1.market_pb2 import Asset, Market, MarketState
from exchange.bus.registry import ProcessRecord
from exchange.config.settings import load_settings
from exchange.config.values import Endpoint
from exchange.control.view import ControlView
from exchange.domain import markets as domain_markets
from exchange.domain.rejects import RejectReason
from exchange.domain.state import ControlState
from exchange.ingress.front import make_port, rules_of
from exchange.ingress.front_access import Access
from exchange.ingress.front_calls import Front
from exchange.ingress.front_tokens import TokenStore
from exchange.ingress.settings import IngressSettings
from exchange.serving import errors
from exchange.serving.guard import CallGuard
from exchange.serving.internal import Peers
from exchange.serving.metrics import Metrics

ENVIRONMENT = "test-front"
_T = TypeVar("_T")


class Exchange(
    admin_service_pb2_grpc.AdminServiceServicer,
    settlement_service_pb2_grpc.SettlementServiceServicer,
    market_data_service_pb2_grpc.MarketDataServiceServicer,
    matching_service_pb2_grpc.MatchingServiceServicer,
):
    """An exchange without logs: users, assets, markets and deposits in memory, answered as the contracts say.

    Attributes:
        calls: (method, request, metadata) of each call, in order.
        waiting, cancelled: Settle waits until it is cancelled; these say that it began and that it ended.
    """

    def __init__(self, shard: int = 0) -> None:
        self.shard = shard
        self.calls: list[tuple[str, Any, dict[str, str]]] = []
        self.users: dict[int, list[int]] = {}
        self.assets: dict[int, Asset] = {}
        self.markets: dict[int, Market] = {}
        self.answers: dict[bytes, Any] = {}
        self.deposited: dict[int, int] = {}
        self.withdrawals: dict[int, withdrawal_pb2.Withdrawal] = {}
        self.missing_units = 0
        self.checks: list[admin_service_pb2.Check] = []
        self.waiting = threading.Event()
        self.cancelled = threading.Event()

    def _called(self, method: str, request: Any, context: Any) -> None:
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        self.calls.append((method, request, metadata))

    # --- users ------------------------------------------------------------------------------------------------------

    async def CreateUser(self, request: Any, context: Any) -> Any:
        self._called("CreateUser", request, context)
        if request.request_id in self.answers:
            answer = admin_service_pb2.CreateUserResponse()
            answer.CopyFrom(self.answers[request.request_id])
            answer.private_key, answer.repeated = "", True
            return answer
        user = len(self.users) + 1
        self.users[user] = [100 + user]
        answer = admin_service_pb2.CreateUserResponse(
            user_id=user,
            account_id=100 + user,
            key_id=bytes(15) + bytes([user]),
            private_key="" if request.public_key else "clobsk_" + "11" * 32,
            environment=ENVIRONMENT,
            starting_funds=[
                state_pb2.AssetAmount(asset=number, amount_units=10**18) for number in self.assets if number < 3
            ],
            control_n=7,
        )
        self.answers[request.request_id] = answer
        return answer

    async def GetUser(self, request: Any, context: Any) -> Any:
        self._called("GetUser", request, context)
        if request.user not in self.users:
            raise errors.rejected(RejectReason.UNKNOWN_USER, f"there is no user {request.user}")
        state = state_pb2.UserState(user=request.user, accounts=self.users[request.user])
        key = state_pb2.KeyState(key_id=bytes(16), public_key=bytes(32), user=request.user)
        return admin_service_pb2.GetUserResponse(user=state, keys=[key])

    async def ListUsers(self, request: Any, context: Any) -> Any:
        self._called("ListUsers", request, context)
        start = int(request.page_token or 0)
        size = request.page_size or 100
        rows = [state_pb2.UserState(user=user, accounts=accounts) for user, accounts in self.users.items()]
        more = str(start + size) if start + size < len(rows) else ""
        return admin_service_pb2.ListUsersResponse(users=rows[start : start + size], next_page_token=more)

    async def OpenAccount(self, request: Any, context: Any) -> Any:
        self._called("OpenAccount", request, context)
        return admin_service_pb2.OpenAccountResponse(account=500, control_n=8)

    async def RegisterKey(self, request: Any, context: Any) -> Any:
        self._called("RegisterKey", request, context)
        return admin_service_pb2.RegisterKeyResponse(key_id=bytes(16), control_n=8)

    async def RevokeKey(self, request: Any, context: Any) -> Any:
        self._called("RevokeKey", request, context)
        return admin_service_pb2.RevokeKeyResponse(control_n=9, shards_pending=[2] if request.key_id[0] else [])

    async def ListKeys(self, request: Any, context: Any) -> Any:
        self._called("ListKeys", request, context)
        key = state_pb2.KeyState(key_id=bytes(16), public_key=bytes(32), user=1, revoked=True)
        return admin_service_pb2.ListKeysResponse(keys=[key])

    async def GetAccount(self, request: Any, context: Any) -> Any:
        self._called("GetAccount", request, context)
        balances = account_service_pb2.GetBalancesResponse(
            account=request.account,
            shards=[
                account_service_pb2.ShardBalances(
                    cursor=position_pb2.Cursor(shard=shard, n=4),
                    balances=[state_pb2.Balance(asset=1, free_units=2**62, locked_units=5)],
                )
                for shard in (0, 1)
            ],
        )
        return admin_service_pb2.GetAccountResponse(user=1, balances=balances)

    # --- markets ----------------------------------------------------------------------------------------------------

    async def DefineAssets(self, request: Any, context: Any) -> Any:
        self._called("DefineAssets", request, context)
        results = []
        for asset in request.assets:
            known = next((number for number, row in self.assets.items() if row.symbol == asset.symbol), 0)
            if known:
                reason = RejectReasonPb.REJECT_REASON_ALREADY_DEFINED
                results.append(admin_service_pb2.AssetResult(asset=known, reason=reason))
                continue
            number = asset.asset or len(self.assets) + 1
            asset.asset = number
            self.assets[number] = asset
            results.append(admin_service_pb2.AssetResult(asset=number))
        return admin_service_pb2.DefineAssetsResponse(results=results, control_n=10)

    async def CreateMarkets(self, request: Any, context: Any) -> Any:
        self._called("CreateMarkets", request, context)
        if request.request_id in self.answers:
            answer = admin_service_pb2.CreateMarketsResponse()
            answer.CopyFrom(self.answers[request.request_id])
            answer.repeated = True
            return answer
        results = []
        symbols = {market.symbol for market in self.markets.values()}
        for market in request.markets:
            if market.symbol in symbols:
                reason = RejectReasonPb.REJECT_REASON_ALREADY_DEFINED
                results.append(admin_service_pb2.MarketResult(reason=reason))
                continue
            market.market = market.market or len(self.markets) + 1
            market.shard = market.shard or 1 + market.market % 2
            market.state = market.state or MarketState.MARKET_STATE_OPEN
            self.markets[market.market] = market
            results.append(admin_service_pb2.MarketResult(market=market.market, shard=market.shard))
        answer = admin_service_pb2.CreateMarketsResponse(results=results, control_n=11)
        self.answers[request.request_id] = answer
        return answer

    async def SetMarketState(self, request: Any, context: Any) -> Any:
        self._called("SetMarketState", request, context)
        results = []
        for number in request.markets:
            if number not in self.markets:
                reason = RejectReasonPb.REJECT_REASON_UNKNOWN_MARKET
                results.append(admin_service_pb2.MarketResult(market=number, reason=reason))
                continue
            self.markets[number].state = request.state
            results.append(admin_service_pb2.MarketResult(market=number, shard=self.markets[number].shard))
        return admin_service_pb2.SetMarketStateResponse(results=results)

    # --- money ------------------------------------------------------------------------------------------------------

    async def Deposit(self, request: Any, context: Any) -> Any:
        self._called("Deposit", request, context)
        if not request.request_id:
            raise errors.refused(DoorReason.DOOR_REASON_REQUEST_ID_MISSING, "a deposit needs a request_id")
        results = []
        for deposit in request.deposits:
            if deposit.account not in {account for accounts in self.users.values() for account in accounts}:
                reason = RejectReasonPb.REJECT_REASON_UNKNOWN_ACCOUNT
                results.append(admin_service_pb2.DepositResult(reason=reason))
                continue
            self.deposited[deposit.asset] = self.deposited.get(deposit.asset, 0) + deposit.amount_units
            results.append(admin_service_pb2.DepositResult())
        return admin_service_pb2.DepositResponse(results=results, control_n=12, arrived=True)

    async def ListTransfers(self, request: Any, context: Any) -> Any:
        self._called("ListTransfers", request, context)
        row = account_service_pb2.FundsInTransit(
            from_shard=0, to_shard=1, link_sequence=3, account=101, asset=1, amount_units=5, debited_us=1_000_000
        )
        return admin_service_pb2.ListTransfersResponse(transfers=[row])

    async def ListWithdrawals(self, request: Any, context: Any) -> Any:
        self._called("ListWithdrawals", request, context)
        rows = [row for row in self.withdrawals.values() if request.state in (0, row.state)]
        return admin_service_pb2.ListWithdrawalsResponse(withdrawals=rows)

    async def CloseWithdrawal(self, request: Any, context: Any) -> Any:
        self._called("CloseWithdrawal", request, context)
        row = self.withdrawals.get(request.withdrawal)
        if row is None:
            raise errors.rejected(RejectReason.UNKNOWN_WITHDRAWAL, f"there is no withdrawal {request.withdrawal}")
        row.state, row.payable = request.state, False
        return admin_service_pb2.CloseWithdrawalResponse(withdrawal=row, control_n=13)

    # --- how it is doing --------------------------------------------------------------------------------------------

    async def ListShards(self, request: Any, context: Any) -> Any:
        self._called("ListShards", request, context)
        rows = [
            admin_service_pb2.ShardOverview(
                entry=state_pb2.ShardEntry(shard=0, tag="s0"),
                address="127.0.0.1:1",
                status=self._status(0),
                settlement=self._position(0),
            ),
            admin_service_pb2.ShardOverview(entry=state_pb2.ShardEntry(shard=1, tag="s1")),
        ]
        return admin_service_pb2.ListShardsResponse(shards=rows)

    async def ListProcesses(self, request: Any, context: Any) -> Any:
        self._called("ListProcesses", request, context)
        row = admin_service_pb2.Process(
            kind="market-matcher",
            address="127.0.0.1:5",
            state=admin_service_pb2.ProcessState.PROCESS_STATE_SERVING,
            shards=[1, 2, 3, 7],
            pid=9,
        )
        return admin_service_pb2.ListProcessesResponse(processes=[row])

    async def Diagnose(self, request: Any, context: Any) -> Any:
        self._called("Diagnose", request, context)
        return admin_service_pb2.DiagnoseResponse(checks=self.checks)

    async def GetConfig(self, request: Any, context: Any) -> Any:
        self._called("GetConfig", request, context)
        setting = admin_service_pb2.Setting(name="redis_addr", value="", origin="flag --redis-addr", secret=True)
        return admin_service_pb2.GetConfigResponse(settings=[setting])

    async def Settle(self, request: Any, context: Any) -> Any:
        self._called("Settle", request, context)
        if request.with_state_hashes:
            self.waiting.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return settlement_service_pb2.SettleResponse()

    async def GetPositions(self, request: Any, context: Any) -> Any:
        self._called("GetPositions", request, context)
        rows = [self._position(shard) for shard in request.shards or (0, 1)]
        return settlement_service_pb2.GetPositionsResponse(positions=rows)

    async def Audit(self, request: Any, context: Any) -> Any:
        self._called("Audit", request, context)
        lines = [
            settlement_service_pb2.AuditLine(
                asset=number,
                symbol=asset.symbol,
                treasury_units=self.deposited.get(number, 0),
                deposited_units=self.deposited.get(number, 0) + self.missing_units,
                difference_units=-self.missing_units,
            )
            for number, asset in self.assets.items()
        ]
        return settlement_service_pb2.AuditResponse(
            lines=lines, passed=not self.missing_units, positions=[self._position(0)]
        )

    def _position(self, shard: int) -> Any:
        settled = position_pb2.ShardPosition(shard=shard, n=5, chain_hash=bytes(32))
        return settlement_service_pb2.SettlementPosition(settled=settled, executions_n=5, audited_n=5)

    def _status(self, shard: int) -> Any:
        return matching_service_pb2.ShardStatus(
            executed=position_pb2.ShardPosition(shard=shard, n=5, chain_hash=bytes(32)), orders_n=7, engine="reference"
        )

    # --- market data ------------------------------------------------------------------------------------------------

    async def GetExchange(self, request: Any, context: Any) -> Any:
        self._called("GetExchange", request, context)
        return market_data_service_pb2.GetExchangeResponse(environment=ENVIRONMENT)

    async def ListAssets(self, request: Any, context: Any) -> Any:
        self._called("ListAssets", request, context)
        return market_data_service_pb2.ListAssetsResponse(assets=self.assets.values())

    async def ListMarkets(self, request: Any, context: Any) -> Any:
        self._called("ListMarkets", request, context)
        rows = [
            market
            for market in self.markets.values()
            if request.symbol in ("", market.symbol) and request.shard in (0, market.shard)
        ]
        start = int(request.page_token or 0)
        more = str(start + request.page_size) if start + request.page_size < len(rows) else ""
        return market_data_service_pb2.ListMarketsResponse(
            markets=rows[start : start + (request.page_size or 100)], next_page_token=more
        )

    async def ListTrades(self, request: Any, context: Any) -> Any:
        self._called("ListTrades", request, context)
        trade = market_data_service_pb2.PublicTrade(
            market=request.market,
            market_seq=4,
            trade_id=2**52 + 1,
            price_ticks=7,
            quantity_lots=1,
            taker_side=Side.SIDE_BUY,
        )
        return market_data_service_pb2.ListTradesResponse(trades=[trade], market_seq=9)

    async def StreamTrades(self, request: Any, context: Any) -> Any:
        self._called("StreamTrades", request, context)
        for number in range(3):
            cursor = market_data_service_pb2.TradeCursor(market=1, after_market_seq=number)
            yield market_data_service_pb2.StreamTradesResponse(cursors=[cursor])
        raise errors.refused(DoorReason.DOOR_REASON_TOO_SLOW, "the reader takes less than there is")

    # --- one shard --------------------------------------------------------------------------------------------------

    async def GetShard(self, request: Any, context: Any) -> Any:
        self._called("GetShard", request, context)
        return matching_service_pb2.GetShardResponse(status=self._status(self.shard))

    async def Match(self, request: Any, context: Any) -> Any:
        self._called("Match", request, context)
        return matching_service_pb2.MatchResponse()


class _MarketData(market_data_service_pb2_grpc.MarketDataServiceServicer):
    """The part of an exchange that market data serves."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        for name in ("GetExchange", "ListAssets", "ListMarkets", "ListTrades", "StreamTrades"):
            setattr(self, name, getattr(exchange, name))

    async def GetBook(self, request: Any, context: Any) -> Any:
        self._exchange._called("GetBook", request, context)
        level = market_data_service_pb2.PriceLevel(price_ticks=5, quantity_lots=6, orders=1)
        return market_data_service_pb2.GetBookResponse(
            book=market_data_service_pb2.BookSnapshot(
                market=request.market, bids=[level], state=MarketState.MARKET_STATE_OPEN
            )
        )


class _Matching(matching_service_pb2_grpc.MatchingServiceServicer):
    """The part of an exchange that one shard serves."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        for name in ("GetShard", "Match"):
            setattr(self, name, getattr(exchange, name))

    async def GetBook(self, request: Any, context: Any) -> Any:
        self._exchange._called("MatchingGetBook", request, context)
        order = state_pb2.RestingOrder(order_id=2**52 + 7, account=101, price_ticks=5, open_lots=3)
        return matching_service_pb2.MatchingServiceGetBookResponse(
            position=position_pb2.ShardPosition(shard=self._exchange.shard, n=5),
            book=state_pb2.BookState(market=Market(market=request.market), bids=[order]),
            bid_orders=1,
        )


class Registry:
    """What Peers asks the bus for."""

    def __init__(self) -> None:
        self.records: list[ProcessRecord] = []

    async def processes(self) -> list[ProcessRecord]:
        return self.records


class Listing:
    """Shard 0 as the front follows it: one asset pair, market 7 in shard 1."""

    def __init__(self) -> None:
        self.view = ControlView(ControlState())
        self.view.shards = {0: "s0", 1: "s1", 2: "s2"}
        self.caught_up = 0

    async def catch_up(self) -> None:
        self.caught_up += 1

    def list_market(self, number: int, shard: int, symbol: str) -> None:
        self.view.markets[number] = domain_markets.Market(market=number, shard=shard, symbol=symbol)
        self.view.market_by_symbol[symbol] = number


class Running:
    """A front with its backends, in an event loop in a thread of its own.

    Attributes:
        address: of the front, host:port.
        control, shard_one: what is behind it.
        listing, registry: what it knows.
    """

    def __init__(self, folder: Path, flags: dict[str, str] | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._flags = {
            "environment_file": str(folder / "environment.json"),
            "checkpoints": str(folder),
            "bus_keys": str(folder / "bus.keys"),
            "bus_key_name": "ingress",
            **(flags or {}),
        }
        self.registry = Registry()
        self.listing = Listing()
        self.control = Exchange()
        self.shard_one = Exchange(shard=1)
        self.verified: list[tuple[bytes, str]] = []
        self._servers: list[Any] = []
        self.address = self.run(self._start())

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=20)

    def call(self, function: Callable[[], _T]) -> _T:
        async def work() -> _T:
            return function()

        return self.run(work())

    async def _start(self) -> str:
        self.stop_event = asyncio.Event()
        await self.serve("settlement-plane", self.control, (0,))
        await self.serve("market-data", self.control)
        await self.serve("market-matcher", self.shard_one, (1,))
        settings = load_settings(IngressSettings, self._flags, {})
        self._peers = Peers(self.registry, settings)  # type: ignore[arg-type]
        access = Access(rules_of(settings), TokenStore(settings.admin_tokens))

        async def verify(request: bytes, host: str) -> bytes:
            self.verified.append((request, host))
            return verification_service_pb2.VerifyResponse(control_n=3).SerializeToString()

        self.access = access
        front = Front(access, self._peers, self.listing, verify)
        self.port = make_port(front, settings, ENVIRONMENT, Endpoint("127.0.0.1", 0), self.stop_event)
        await self.port.open()
        await self.port.set_serving(True)
        return self.port.address

    async def serve(self, kind: str, exchange: Exchange, shards: tuple[int, ...] = ()) -> Any:
        """Start a backend and register it."""
        guard = CallGuard(Metrics(kind, "test"), lambda: None, calls_max=100, calls_per_host_max=100)
        server = grpc.aio.server(interceptors=[guard])
        if kind == "settlement-plane":
            admin_service_pb2_grpc.add_AdminServiceServicer_to_server(exchange, server)
            settlement_service_pb2_grpc.add_SettlementServiceServicer_to_server(exchange, server)
        if kind == "market-data":
            market_data_service_pb2_grpc.add_MarketDataServiceServicer_to_server(_MarketData(exchange), server)
        else:
            matching_service_pb2_grpc.add_MatchingServiceServicer_to_server(_Matching(exchange), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._servers.append(server)
        record = ProcessRecord(kind, f"127.0.0.1:{port}", "SERVING", shards)
        self.registry.records.append(record)
        return server, record

    def close(self) -> None:
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    async def _close(self) -> None:
        self.stop_event.set()
        await self.port.close(0.1)
        await self._peers.close()
        for server in self._servers:
            await server.stop(0)
