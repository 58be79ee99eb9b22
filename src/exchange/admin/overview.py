"""How the exchange is doing, shard by shard and process by process, and what one account has."""

import asyncio
from collections.abc import Sequence
from typing import Final

from clob.v1 import admin_service_pb2 as api
from clob.v1.door_reason_pb2 import DoorReason
from clob.v1.matching_service_pb2 import ShardStatus
from clob.v1.settlement_service_pb2 import SettlementPosition
from clob.v1.state_pb2 import ShardEntry
from exchange.admin.calls import Time
from exchange.admin.pages import page_size_of, place_of, token_of
from exchange.admin.port import Host, NotExecutedYet, Peers
from exchange.admin.refusals import AdminRefusal, unavailable
from exchange.domain.rejects import RejectReason
from exchange.domain.units import CONTROL_SHARD

PEER_WAIT_S: Final = 2.0
"""Longest wait for one other process; what does not answer by then is shown without its answer."""
PEERS_AT_ONCE: Final = 32
MATCHER: Final = "market-matcher"
MARKET_DATA: Final = "market-data"
SERVING: Final = api.PROCESS_STATE_SERVING


class OverviewCalls:
    """ListShards, ListProcesses, GetConfig and GetAccount."""

    def __init__(self, host: Host, peers: Peers) -> None:
        self._host = host
        self._peers = peers
        self._at_once = asyncio.Semaphore(PEERS_AT_ONCE)

    async def list_shards(self, request: api.ListShardsRequest, time_: Time) -> api.ListShardsResponse:
        """Return a page of the shard map with how each shard is doing."""
        size = page_size_of(request.page_size)
        place = place_of("shards", request.page_token, int)
        after = place[0] if place else -1
        assert isinstance(after, int)
        tags = self._host.view.shards
        shards = [shard for shard in sorted(tags) if shard > after]
        processes = await processes_of(self._host)
        positions = {position.settled.shard: position for position in await self._host.positions()}
        wait_s = min(PEER_WAIT_S, time_.left_s)
        overviews = await asyncio.gather(
            *(self._overview(shard, tags[shard], processes, positions, wait_s) for shard in shards[:size])
        )
        token = token_of("shards", (shards[size - 1],)) if len(shards) > size else ""
        return api.ListShardsResponse(shards=overviews, next_page_token=token)

    async def _overview(
        self,
        shard: int,
        tag: str,
        processes: Sequence[api.Process],
        positions: dict[int, SettlementPosition],
        wait_s: float,
    ) -> api.ShardOverview:
        address, status = await self.status_of(shard, processes, wait_s)
        return api.ShardOverview(
            entry=ShardEntry(shard=shard, tag=tag), address=address, status=status, settlement=positions.get(shard)
        )

    async def status_of(
        self, shard: int, processes: Sequence[api.Process], wait_s: float
    ) -> tuple[str, ShardStatus | None]:
        """Return which process serves a shard, empty if none does, and what its engine says, None without an answer."""
        if shard == CONTROL_SHARD:
            return self._host.address, self._host.control_status()
        address = address_of_shard(shard, processes)
        if not address:
            return "", None
        async with self._at_once:
            return address, await self._peers.shard_status(address, shard, wait_s)

    async def list_processes(self, request: api.ListProcessesRequest) -> api.ListProcessesResponse:
        """Return a page of the processes."""
        size = page_size_of(request.page_size)
        place = place_of("processes", request.page_token, str, str)
        found = await processes_of(self._host)
        left = [process for process in found if place is None or (process.kind, process.address) > place]
        last = left[size - 1] if len(left) > size else None
        token = token_of("processes", (last.kind, last.address)) if last else ""
        return api.ListProcessesResponse(processes=left[:size], next_page_token=token)

    async def get_config(self, request: api.GetConfigRequest, time_: Time) -> api.GetConfigResponse:
        """Return the settings of this process, or of one of the registry."""
        if request.address in ("", self._host.address):
            return self._host.own_settings()
        # Only addresses of the registry: nobody may make this process call whom they want.
        if all(process.address != request.address for process in await processes_of(self._host)):
            raise AdminRefusal(
                DoorReason.DOOR_REASON_NOT_FOUND,
                f"no process of this environment has the address {request.address!r}; see ListProcesses",
            )
        settings = await self._peers.settings(request.address, min(PEER_WAIT_S, time_.left_s))
        if settings is None:
            raise unavailable(f"the process at {request.address} does not answer")
        return settings

    async def get_account(self, request: api.GetAccountRequest, time_: Time) -> api.GetAccountResponse:
        """Return what an account has and where, from market-data."""
        user = self._host.view.user_of.get(request.account)
        if user is None:
            raise AdminRefusal(RejectReason.UNKNOWN_ACCOUNT, f"there is no account {request.account}")
        for process in await processes_of(self._host):
            if process.kind == MARKET_DATA and process.state == SERVING:
                wait_s = min(2 * PEER_WAIT_S, time_.left_s)
                balances = await self._peers.balances(process.address, user, request.account, wait_s)
                if balances is not None:
                    return api.GetAccountResponse(user=user, balances=balances)
        raise unavailable(
            "no market-data process answers, which knows what accounts have; start one, see ListProcesses"
        )


async def processes_of(host: Host) -> list[api.Process]:
    """Return the processes, by kind and address.

    Raises:
        AdminRefusal: UNAVAILABLE: the bus, which has the registry, cannot be reached.
    """
    try:
        found = await host.processes()
    except NotExecutedYet as trouble:
        raise unavailable(f"the registry of processes cannot be read: {trouble.detail}") from None
    return sorted(found, key=lambda process: (process.kind, process.address))


def address_of_shard(shard: int, processes: Sequence[api.Process]) -> str:
    """Return the address of the matcher that serves a trading shard; empty: none does."""
    serving = [p for p in processes if p.kind == MATCHER and shard in p.shards and p.state == SERVING]
    # A successor starts before its predecessor's record has ended: the newest one has the shard.
    return max(serving, key=lambda process: process.started_us).address if serving else ""
