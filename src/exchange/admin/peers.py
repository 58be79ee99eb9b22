"""The other processes over gRPC: channels, tokens and TLS are those of `serving.internal`."""

from typing import Final, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from clob.v1.account_service_pb2 import GetBalancesRequest, GetBalancesResponse
from clob.v1.admin_service_pb2 import GetConfigResponse
from clob.v1.matching_service_pb2 import GetShardRequest, GetShardResponse, ShardStatus
from clob.v1.process_service_pb2 import GetProcessRequest, GetProcessResponse
from exchange.serving.internal import Peers as Channels

M = TypeVar("M", bound=Message)

USER_HEADER: Final = "clob-user"
ACCOUNTS_HEADER: Final = "clob-accounts"
"""How a process that has checked who is asking tells another whose accounts may be read."""


class GrpcPeers:
    """Asks the processes of the registry, and nobody else."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def shard_status(self, address: str, shard: int, wait_s: float) -> ShardStatus | None:
        """Return the status of a shard from the process that serves it; None: no answer."""
        method = "/clob.v1.MatchingService/GetShard"
        answer = await self._ask(address, method, GetShardRequest(shard=shard), GetShardResponse, wait_s)
        return answer.status if answer is not None else None

    async def settings(self, address: str, wait_s: float) -> GetConfigResponse | None:
        """Return the settings of a process; None: no answer."""
        method = "/clob.v1.ProcessService/GetProcess"
        answer = await self._ask(address, method, GetProcessRequest(), GetProcessResponse, wait_s)
        return GetConfigResponse(settings=answer.settings) if answer is not None else None

    async def balances(self, address: str, user: int, account: int, wait_s: float) -> GetBalancesResponse | None:
        """Return what an account has and where, from a market-data process; None: no answer."""
        return await self._ask(
            address,
            "/clob.v1.AccountService/GetBalances",
            GetBalancesRequest(account=account),
            GetBalancesResponse,
            wait_s,
            headers=((USER_HEADER, str(user)), (ACCOUNTS_HEADER, str(account))),
        )

    async def _ask(
        self,
        address: str,
        method: str,
        request: Message,
        response: type[M],
        wait_s: float,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> M | None:
        """Return the answer of the process at an address; None: it gave none, or there is no such process."""
        records = await self._channels.processes()
        record = next((record for record in records if record.address == address), None)
        if record is None or wait_s <= 0:
            return None
        call = self._channels.channel(record).unary_unary(
            method, request_serializer=type(request).SerializeToString, response_deserializer=response.FromString
        )
        try:
            answer: M = await call(request, timeout=wait_s, metadata=(*headers, *self._channels.headers(record)))
            return answer
        except (TimeoutError, grpc.aio.AioRpcError):
            return None
