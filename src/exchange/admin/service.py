"""AdminService: the calls of admin_service.proto, as they come over gRPC."""
# ruff: noqa: N802, D102 - the methods have the names of the contract, and its descriptions

import logging
from collections.abc import Awaitable, Mapping
from typing import Protocol, TypeVar

from clob.v1 import admin_service_pb2 as api
from clob.v1.admin_service_pb2_grpc import AdminServiceServicer
from exchange.admin.calls import Calls, Time
from exchange.admin.desk import Desk
from exchange.admin.directory import Directory
from exchange.admin.doctor import Doctor
from exchange.admin.markets import MarketCalls
from exchange.admin.money import MoneyCalls
from exchange.admin.overview import OverviewCalls
from exchange.admin.port import Host, NotExecutedYet, NotInLogError, Peers
from exchange.admin.reconcile import Reconciler
from exchange.admin.refusals import AdminRefusal, unavailable
from exchange.admin.users import UserCalls
from exchange.domain.frames import ExecutionFrame
from exchange.domain.operations import OperatorRole
from exchange.domain.rejects import RejectReason
from exchange.serving.errors import Refusal, refused, rejected

_log = logging.getLogger(__name__)

R = TypeVar("R")


class Context(Protocol):
    """What a call knows of its caller's patience (grpc.aio.ServicerContext)."""

    def time_remaining(self) -> float | None:
        """Return the seconds to the caller's deadline; None: it has none."""


class Admin(AdminServiceServicer):
    """The service. Make it within a running event loop, `start` it when the host has shard 0, `close` it at the end."""

    def __init__(self, host: Host, peers: Peers, keys: Mapping[OperatorRole, bytes]) -> None:
        """Put the service together.

        Args:
            host: the process that it runs in.
            peers: the other processes.
            keys: private keys of the roles treasury and market (`desk.read_operator_key`).
        """
        self.desk = Desk(host, keys)
        self.reconciler = Reconciler(host, self.desk)
        calls = Calls(host, self.desk)
        self._users = UserCalls(calls, Directory(host), self.reconciler)
        self._markets = MarketCalls(calls, self.reconciler)
        self._money = MoneyCalls(calls)
        self._overview = OverviewCalls(host, peers)
        self._doctor = Doctor(host, peers, self._overview)

    def start(self) -> None:
        """Start keeping shards as shard 0 lists them."""
        self.reconciler.start()

    async def close(self) -> None:
        """Stop; what is under way may still be executed."""
        await self.reconciler.close()
        await self.desk.close()

    def on_control_frame(self, frame: ExecutionFrame) -> None:
        """Take note of a frame of shard 0; the host calls it with each one, in order, once its view has it."""
        self.reconciler.on_control_frame(frame)

    # --- users, accounts and keys -----------------------------------------------------------------------------------

    async def CreateUser(self, request: api.CreateUserRequest, context: Context) -> api.CreateUserResponse:
        return await _answer(self._users.create_user(request, _time(context)))

    async def GetUser(self, request: api.GetUserRequest, context: Context) -> api.GetUserResponse:
        return await _answer(self._users.get_user(request))

    async def ListUsers(self, request: api.ListUsersRequest, context: Context) -> api.ListUsersResponse:
        return await _answer(self._users.list_users(request))

    async def OpenAccount(self, request: api.OpenAccountRequest, context: Context) -> api.OpenAccountResponse:
        return await _answer(self._users.open_account(request, _time(context)))

    async def RegisterKey(self, request: api.RegisterKeyRequest, context: Context) -> api.RegisterKeyResponse:
        return await _answer(self._users.register_key(request, _time(context)))

    async def RevokeKey(self, request: api.RevokeKeyRequest, context: Context) -> api.RevokeKeyResponse:
        return await _answer(self._users.revoke_key(request, _time(context)))

    async def ListKeys(self, request: api.ListKeysRequest, context: Context) -> api.ListKeysResponse:
        return await _answer(self._users.list_keys(request))

    async def GetAccount(self, request: api.GetAccountRequest, context: Context) -> api.GetAccountResponse:
        return await _answer(self._overview.get_account(request, _time(context)))

    # --- assets and markets -----------------------------------------------------------------------------------------

    async def DefineAssets(self, request: api.DefineAssetsRequest, context: Context) -> api.DefineAssetsResponse:
        return await _answer(self._markets.define_assets(request, _time(context)))

    async def CreateMarkets(self, request: api.CreateMarketsRequest, context: Context) -> api.CreateMarketsResponse:
        return await _answer(self._markets.create_markets(request, _time(context, WORK_S)))

    async def SetMarketState(self, request: api.SetMarketStateRequest, context: Context) -> api.SetMarketStateResponse:
        return await _answer(self._markets.set_market_state(request, _time(context, WORK_S)))

    # --- money ------------------------------------------------------------------------------------------------------

    async def Deposit(self, request: api.DepositRequest, context: Context) -> api.DepositResponse:
        return await _answer(self._money.deposit(request, _time(context)))

    async def ListTransfers(self, request: api.ListTransfersRequest, context: Context) -> api.ListTransfersResponse:
        return await _answer(self._money.list_transfers(request))

    async def ListWithdrawals(
        self, request: api.ListWithdrawalsRequest, context: Context
    ) -> api.ListWithdrawalsResponse:
        return await _answer(self._money.list_withdrawals(request))

    async def CloseWithdrawal(
        self, request: api.CloseWithdrawalRequest, context: Context
    ) -> api.CloseWithdrawalResponse:
        return await _answer(self._money.close_withdrawal(request, _time(context)))

    # --- the exchange -----------------------------------------------------------------------------------------------

    async def ListShards(self, request: api.ListShardsRequest, context: Context) -> api.ListShardsResponse:
        return await _answer(self._overview.list_shards(request, _time(context)))

    async def ListProcesses(self, request: api.ListProcessesRequest, context: Context) -> api.ListProcessesResponse:
        return await _answer(self._overview.list_processes(request))

    async def Diagnose(self, request: api.DiagnoseRequest, context: Context) -> api.DiagnoseResponse:
        return await _answer(self._doctor.diagnose(_time(context)))

    async def GetConfig(self, request: api.GetConfigRequest, context: Context) -> api.GetConfigResponse:
        return await _answer(self._overview.get_config(request, _time(context)))


WORK_S = 600.0
"""Time of calls about many markets whose caller gives no deadline."""


def _time(context: Context, wait_s: float | None = None) -> Time:
    """Return the time that a call has: to its deadline, or `wait_s` without one; None: the default."""
    remaining = context.time_remaining()
    return Time(wait_s if remaining is None else remaining)


async def _answer(call: Awaitable[R]) -> R:
    """Return the answer of a call; what it is refused with becomes the error of the call.

    Raises:
        Refusal: as serving.errors has it.
    """
    try:
        return await call
    except AdminRefusal as refusal:
        raise _refusal(refusal) from None
    except NotExecutedYet as trouble:
        raise _refusal(unavailable(trouble.detail)) from None
    except NotInLogError as trouble:
        _log.error("%s", trouble)
        raise _refusal(unavailable(f"the first answer cannot be read at the moment: {trouble}")) from None


def _refusal(refusal: AdminRefusal) -> Refusal:
    if isinstance(refusal.reason, RejectReason):
        return rejected(refusal.reason, refusal.detail)
    return refused(refusal.reason, refusal.detail, retry_after_ms=refusal.retry_after_ms, fields=refusal.fields or None)
