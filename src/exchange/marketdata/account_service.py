"""AccountService, as far as it reads: balances, open orders, executions, withdrawals of an account.

Whose accounts a caller may read is decided by the ingress, which has checked its session, and told here in headers;
only the environment's own processes can call this port.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Protocol

import grpc

from clob.v1 import account_service_pb2 as api
from clob.v1 import admin_service_pb2
from clob.v1.door_reason_pb2 import DoorReason
from clob.v1.withdrawal_pb2 import WITHDRAWAL_STATE_OPEN, Withdrawal
from exchange.domain.units import SHARD_MAX
from exchange.marketdata.book import Order
from exchange.marketdata.execution_feed import ExecutionFeed, StartAt
from exchange.marketdata.fold import ShardFold
from exchange.marketdata.origins import Origins
from exchange.marketdata.outbox import unavailable
from exchange.marketdata.paging import PAGE_SIZE_MAX, page_size, read_token, write_token
from exchange.marketdata.public_service import unknown_market
from exchange.marketdata.reader import Reader, ShardUnavailable, Source
from exchange.marketdata.treasury import WithdrawalRecord
from exchange.serving.bounds import Bounds, Each, Known, check_bounds
from exchange.serving.errors import Refusal, invalid, refused

SERVICE: Final = "clob.v1.AccountService"
USER_HEADER: Final = "clob-user"
"""User of the session."""
ACCOUNTS_HEADER: Final = "clob-accounts"
"""Accounts that the session may read, ascending, in decimal, a comma between."""
_PAGE_SIZE: Final = Bounds(1, PAGE_SIZE_MAX, or_zero=True)
_LIST_WITHDRAWALS: Final = "/clob.v1.AdminService/ListWithdrawals"


class Caller(Protocol):
    """How other processes are called; `serving.internal.Peers` does it."""

    async def call(self, kind: str, shard: int | None, method: str, request: bytes, *, is_safe: bool) -> bytes:
        """Return the encoded answer."""


class AccountService:
    """Answers from the reader's folds.

    Attributes:
        peers: the other processes; settlement-plane is asked for what folds do not know of withdrawals.
    """

    def __init__(self, reader: Reader, executions: ExecutionFeed, origins: Origins, peers: Caller) -> None:
        self._reader = reader
        self._executions = executions
        self._origins = origins
        self.peers: Caller = peers

    def handlers(self) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
        """Return the handlers of the methods that are served here; streams give encoded messages."""
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        return {
            "GetBalances": unary(
                self.get_balances, api.GetBalancesRequest.FromString, api.GetBalancesResponse.SerializeToString
            ),
            "ListOpenOrders": unary(
                self.list_open_orders,
                api.ListOpenOrdersRequest.FromString,
                api.ListOpenOrdersResponse.SerializeToString,
            ),
            "ListAccountWithdrawals": unary(
                self.list_withdrawals,
                api.ListAccountWithdrawalsRequest.FromString,
                api.ListAccountWithdrawalsResponse.SerializeToString,
            ),
            "StreamExecutions": stream(self.stream_executions, api.StreamExecutionsRequest.FromString),
        }

    # --- balances ---------------------------------------------------------------------------------------------------

    async def get_balances(self, request: api.GetBalancesRequest, context: Any) -> api.GetBalancesResponse:
        """Return all funds of an account and where they lie."""
        account = account_of(request.account, context)
        await self._catch_up()
        response = api.GetBalancesResponse(account=account)
        for shard in sorted(self._reader.sources):
            fold = self._fold(shard)
            part = response.shards.add(account_seq=fold.account_seq(account))
            part.cursor.SetInParent()
            part.cursor.shard, part.cursor.n = shard, fold.n
            for asset, (free_units, locked_units) in fold.balances(account).items():
                part.balances.add(asset=asset, free_units=free_units, locked_units=locked_units)
        for from_shard, to_shard, sequence, sent in self._reader.in_transit(account):
            response.transit.add(
                from_shard=from_shard,
                to_shard=to_shard,
                link_sequence=sequence,
                account=account,
                asset=sent.asset,
                amount_units=sent.amount_units,
                debited_us=sent.debited_us,
            )
        for record in self._reader.treasury.open_withdrawals(account):
            response.withdrawals.add(
                withdrawal=record.withdrawal,
                account=record.account,
                asset=record.asset,
                amount_units=record.amount_units,
                destination=record.destination,
            )
        return response

    # --- open orders ------------------------------------------------------------------------------------------------

    async def list_open_orders(self, request: api.ListOpenOrdersRequest, context: Any) -> api.ListOpenOrdersResponse:
        """List the open orders of an account, by shard and order."""
        check_bounds(request, {"page_size": _PAGE_SIZE})
        account = account_of(request.account, context)
        from_shard, after_order_id = read_token(request.page_token, 2)
        await self._catch_up()
        response = api.ListOpenOrdersResponse()
        wanted = page_size(request.page_size)
        listed: list[tuple[Source, Order]] = []
        for shard in self._shards_of(request.market):
            if shard < from_shard:
                continue
            source, fold = self._reader.sources[shard], self._fold(shard)
            assert isinstance(fold, ShardFold)
            response.cursors.add(shard=shard, n=fold.n)
            for order in fold.open_orders(account):
                if request.market not in (0, order.book.market) or (shard, order.order_id) <= (
                    from_shard,
                    after_order_id,
                ):
                    continue
                if len(listed) == wanted:
                    last_source, last = listed[-1]
                    response.next_page_token = write_token(last_source.shard, last.order_id)
                    break
                listed.append((source, order))
                _add_order(response, shard, order)
            if response.next_page_token:
                break
        await self._complete(response, listed)
        return response

    def _shards_of(self, market: int) -> list[int]:
        if not market:
            return [shard for shard in sorted(self._reader.sources) if shard]
        found = self._reader.book(market)
        if found is None:
            raise unknown_market(self._reader, market)
        return [found[0].shard]

    async def _complete(self, response: api.ListOpenOrdersResponse, listed: list[tuple[Source, Order]]) -> None:
        """Fill in what had to be looked up. It never changes, so that the rest may be older by now."""
        by_source: dict[Source, list[Order]] = {}
        for source, order in listed:
            by_source.setdefault(source, []).append(order)
        try:
            for source, orders in by_source.items():
                await self._origins.resolve(source, orders)
        except ShardUnavailable as error:
            raise unavailable(str(error)) from error
        for shown, (_, order) in zip(response.orders, listed, strict=True):
            shown.order.self_trade_prevention = order.self_trade_prevention  # type: ignore[assignment]

    # --- executions -------------------------------------------------------------------------------------------------

    async def stream_executions(self, request: api.StreamExecutionsRequest, context: Any) -> AsyncIterator[bytes]:
        """Send every event of an account."""
        check_bounds(request, {"cursors": Each(0, SHARD_MAX + 1, {"shard": Bounds(0, SHARD_MAX)})})
        account = account_of(request.account, context)
        await self._catch_up()
        cursors = [StartAt(cursor.shard, cursor.n, cursor.event) for cursor in request.cursors]
        async for message in self._executions.stream(account, cursors):
            yield message

    # --- withdrawals ------------------------------------------------------------------------------------------------

    async def list_withdrawals(
        self, request: api.ListAccountWithdrawalsRequest, context: Any
    ) -> api.ListAccountWithdrawalsResponse:
        """List the withdrawals of an account, newest first."""
        check_bounds(request, {"page_size": _PAGE_SIZE, "state": Known(or_zero=True)})
        account = account_of(request.account, context)
        (before,) = read_token(request.page_token, 1)
        await self._catch_up()
        there = await self._withdrawals(account)
        response = api.ListAccountWithdrawalsResponse()
        wanted = page_size(request.page_size)
        for number in sorted(there, reverse=True):
            withdrawal = there[number]
            if (before and number >= before) or request.state not in (0, withdrawal.state):
                continue
            if len(response.withdrawals) == wanted:
                response.next_page_token = write_token(response.withdrawals[-1].request.withdrawal)
                break
            response.withdrawals.append(withdrawal)
        return response

    async def _withdrawals(self, account: int) -> Mapping[int, Withdrawal]:
        """Return all withdrawals of an account by number.

        What came since this process started from a checkpoint is in the fold; what was closed before, when open ones
        were asked for, and what the audit has passed, settlement knows. Without settlement a fold from the genesis has
        everything but what is payable, of which nothing is said then.
        """
        try:
            treasury = self._reader.treasury
        except ShardUnavailable as error:
            raise unavailable(str(error)) from error
        settled: dict[int, Withdrawal] = {}
        try:
            settled = await self._settled_withdrawals(account)
        except Refusal:
            if not treasury.whole:
                raise
        for record in treasury.withdrawals_of.get(account, []):
            known = settled.get(record.withdrawal)
            settled[record.withdrawal] = _withdrawal(record, known)
        return settled

    async def _settled_withdrawals(self, account: int) -> dict[int, Withdrawal]:
        settled: dict[int, Withdrawal] = {}
        request = admin_service_pb2.ListWithdrawalsRequest(account=account, page_size=PAGE_SIZE_MAX)
        while True:
            answer = await self.peers.call(
                "settlement-plane", None, _LIST_WITHDRAWALS, request.SerializeToString(), is_safe=True
            )
            page = admin_service_pb2.ListWithdrawalsResponse.FromString(answer)
            settled |= {withdrawal.request.withdrawal: withdrawal for withdrawal in page.withdrawals}
            if not page.next_page_token:
                return settled
            request.page_token = page.next_page_token

    # --- for all ----------------------------------------------------------------------------------------------------

    async def _catch_up(self) -> None:
        try:
            await self._reader.catch_up()
        except ShardUnavailable as error:
            raise unavailable(str(error)) from error

    def _fold(self, shard: int) -> Any:
        try:
            return self._reader.fold(shard)
        except ShardUnavailable as error:
            raise unavailable(str(error)) from error


def account_of(asked: int, context: Any) -> int:
    """Return the account that a call is about, if its session may read it; zero: the session's only one.

    Raises:
        Refusal: there is no session, it may not read the account, or none was named and it may read several.
    """
    headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    listed = headers.get(ACCOUNTS_HEADER)
    if not headers.get(USER_HEADER) or listed is None:
        detail = "the call came without a session; open one with CreateChallenge and OpenSession on port 8080"
        raise refused(DoorReason.DOOR_REASON_SESSION_REQUIRED, detail)
    accounts = [int(part) for part in listed.split(",") if part.isascii() and part.isdigit()]
    if not asked:
        if len(accounts) != 1:
            raise invalid({"account": f"is zero, and the session may read {len(accounts)} accounts; name one"})
        return accounts[0]
    if asked not in accounts:
        raise refused(DoorReason.DOOR_REASON_ACCOUNT_NOT_OF_KEY, f"the session's key may not sign for account {asked}")
    return asked


def _add_order(response: api.ListOpenOrdersResponse, shard: int, order: Order) -> None:
    shown = response.orders.add(shard=shard, market=order.book.market, side=order.side)
    resting = shown.order
    resting.order_id = order.order_id
    resting.client_order_id = order.client_order_id
    resting.account = order.account
    resting.price_ticks = order.price_ticks
    resting.open_lots = order.open_lots
    resting.filled_lots = order.filled_lots
    resting.post_only = order.post_only
    resting.maker_fee_ppm = order.maker_fee_ppm
    resting.taker_fee_ppm = order.taker_fee_ppm
    resting.maker_prepaid_ppm = order.maker_prepaid_ppm
    resting.taker_prepaid_ppm = order.taker_prepaid_ppm


def _withdrawal(record: WithdrawalRecord, settled: Withdrawal | None) -> Withdrawal:
    """Return a withdrawal as the fold has it, with what only settlement knows."""
    withdrawal = Withdrawal(
        state=record.state,  # type: ignore[arg-type]
        requested_n=record.requested_n,
        requested_us=record.requested_us,
        closed_us=record.closed_us,
    )
    request = withdrawal.request
    request.withdrawal, request.account = record.withdrawal, record.account
    request.asset, request.amount_units = record.asset, record.amount_units
    request.destination = record.destination
    if settled is not None:
        if not record.requested_n:
            withdrawal.requested_n, withdrawal.requested_us = settled.requested_n, settled.requested_us
        is_open = record.state == WITHDRAWAL_STATE_OPEN
        withdrawal.payable = is_open and settled.payable
    return withdrawal
