"""Money: deposits, transfers between shards, withdrawals."""

import asyncio
from typing import Final

from clob.v1 import admin_service_pb2 as api
from clob.v1.account_service_pb2 import FundsInTransit
from clob.v1.withdrawal_pb2 import Withdrawal, WithdrawalState
from exchange.admin.calls import Calls, Time, check_count, request_id_of
from exchange.admin.executed import Outcome
from exchange.admin.pages import page_size_of, place_of, token_of
from exchange.admin.port import Host
from exchange.admin.refusals import AdminRefusal, explain, refuse_field, unavailable
from exchange.domain.limits import OPERATION_ACTIONS_MAX
from exchange.domain.operations import CloseWithdrawal, Deposit, OperatorRole
from exchange.domain.rejects import RejectReason
from exchange.domain.units import CONTROL_SHARD

ARRIVAL_WAIT_MS_DEFAULT: Final = 5_000
ARRIVAL_WAIT_MS_MAX: Final = 30_000
PROJECTION_POLL_S: Final = 0.02
_OPEN, _PAID, _GIVEN_BACK = (
    WithdrawalState.WITHDRAWAL_STATE_OPEN,
    WithdrawalState.WITHDRAWAL_STATE_PAID,
    WithdrawalState.WITHDRAWAL_STATE_GIVEN_BACK,
)


async def arrived(host: Host, outcome: Outcome, wait_s: float) -> bool:
    """Return whether what an operation of shard 0 has sent arrived in the trading shards, within wait_s."""
    links: dict[int, int] = {}
    for event in outcome.events:
        if event.WhichOneof("event") == "funds_sent":
            sent = event.funds_sent
            links[sent.to_shard] = max(links.get(sent.to_shard, 0), sent.link_sequence)

    async def one(shard: int, sequence: int) -> bool:
        return await host.wait(shard, lambda facts: facts.links_in.get(CONTROL_SHARD, 0) >= sequence, wait_s)

    return all(await asyncio.gather(*(one(shard, sequence) for shard, sequence in links.items())))


class MoneyCalls:
    """Deposit, ListTransfers, ListWithdrawals and CloseWithdrawal."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._host = calls.host

    async def deposit(self, request: api.DepositRequest, time_: Time) -> api.DepositResponse:
        """Credit accounts, each or not, in one entry; wait for the money to arrive where it is put to work."""
        request_id = request_id_of(request.request_id, required=True)
        check_count("deposits", len(request.deposits), OPERATION_ACTIONS_MAX)
        wait_ms = request.wait_ms_max or ARRIVAL_WAIT_MS_DEFAULT
        if wait_ms > ARRIVAL_WAIT_MS_MAX:
            refuse_field("wait_ms_max", f"is {wait_ms}; 1 .. {ARRIVAL_WAIT_MS_MAX:,} are allowed")
        for place, deposit in enumerate(request.deposits):
            if deposit.allocate < 0:
                refuse_field(f"deposits[{place}].allocate", f"is {deposit.allocate}, which no policy is")
        deposits = [
            Deposit(deposit.account, deposit.asset, deposit.amount_units, deposit.allocate, deposit.to_shard)
            for deposit in request.deposits
        ]
        answer = await self._calls.once(OperatorRole.TREASURY, deposits, request_id, time_)
        refusals = answer.outcome.refusals()
        response = api.DepositResponse(control_n=answer.outcome.n, repeated=answer.repeated)
        for place, _ in enumerate(deposits, 1):
            response.results.add(reason=refusals.get(place, 0))
        response.arrived = await arrived(self._host, answer.outcome, min(wait_ms / 1000, time_.left_s))
        explain(response)
        return response

    async def list_transfers(self, request: api.ListTransfersRequest) -> api.ListTransfersResponse:
        """Return a page of funds on their way, oldest first."""
        size = page_size_of(request.page_size)
        what = f"transfers {request.account}"
        place = place_of(what, request.page_token, int, int, int, int, int)
        transfers = list(await self._host.transfers(request.account))
        # A link may carry many transfers: they are told apart by their place in what is left of it.
        places: list[tuple[int, ...]] = []
        for transfer in transfers:
            link = _link_of(transfer)
            places.append((*link, places[-1][4] + 1 if places and places[-1][:4] == link else 0))
        left = [
            (where, transfer)
            for where, transfer in zip(places, transfers, strict=True)
            if place is None or where > place
        ]
        token = token_of(what, left[size - 1][0]) if len(left) > size else ""
        return api.ListTransfersResponse(transfers=[transfer for _, transfer in left[:size]], next_page_token=token)

    async def list_withdrawals(self, request: api.ListWithdrawalsRequest) -> api.ListWithdrawalsResponse:
        """Return a page of withdrawals, oldest first."""
        size = page_size_of(request.page_size)
        if request.state not in WithdrawalState.values():
            refuse_field("state", f"is {request.state}; OPEN, PAID, GIVEN_BACK, or none for all")
        what = f"withdrawals {request.account} {request.state}"
        place = place_of(what, request.page_token, int)
        after = place[0] if place else 0
        assert isinstance(after, int)
        found = list(await self._host.withdrawals(request.account, request.state, after, size + 1))
        token = token_of(what, (found[size - 1].request.withdrawal,)) if len(found) > size else ""
        return api.ListWithdrawalsResponse(withdrawals=found[:size], next_page_token=token)

    async def close_withdrawal(self, request: api.CloseWithdrawalRequest, time_: Time) -> api.CloseWithdrawalResponse:
        """Say that a withdrawal was paid, or give its money back."""
        request_id = request_id_of(request.request_id, required=True)
        if not request.withdrawal:
            refuse_field("withdrawal", "is 0; withdrawals are numbered from 1")
        if request.state not in (_PAID, _GIVEN_BACK):
            refuse_field("state", "a withdrawal is closed as PAID or as GIVEN_BACK")
        paid = request.state == _PAID
        if paid and (await self._calls.answer_of(request_id))[1] is None:
            await self._check_payable(request.withdrawal)
        answer = await self._calls.one_thing(
            OperatorRole.TREASURY,
            CloseWithdrawal(request.withdrawal, paid),
            request_id,
            time_,
            f"closing withdrawal {request.withdrawal}",
        )
        return api.CloseWithdrawalResponse(
            withdrawal=await self._closed(answer.outcome, time_),
            control_n=answer.outcome.n,
            repeated=answer.repeated,
        )

    async def _check_payable(self, number: int) -> None:
        """Refuse a payment that the audit has not passed.

        Raises:
            AdminRefusal: UNAVAILABLE: not yet; UNKNOWN_WITHDRAWAL: there is no such open withdrawal.
        """
        found = await self._withdrawal(number)
        if found is None:
            positions = {position.settled.shard: position.settled.n for position in await self._host.positions()}
            if positions.get(CONTROL_SHARD, 0) >= self._host.view.position:
                raise AdminRefusal(RejectReason.UNKNOWN_WITHDRAWAL, f"there is no withdrawal {number}")
        elif found.state != _OPEN:
            state = WithdrawalState.Name(found.state).removeprefix("WITHDRAWAL_STATE_")
            raise AdminRefusal(RejectReason.UNKNOWN_WITHDRAWAL, f"withdrawal {number} is closed already: {state}")
        if found is None or not found.payable:
            raise unavailable(
                f"withdrawal {number} is not payable: the audit has not passed its request. Nothing was changed; wait "
                "until ListWithdrawals says payable, and see Audit and GetPositions if it does not come"
            )

    async def _closed(self, outcome: Outcome, time_: Time) -> Withdrawal:
        """Return the closed withdrawal: as requested, by the projection, and as closed, by shard 0's event."""
        closed = next(
            event.withdrawal_closed for event in outcome.events if event.WhichOneof("event") == "withdrawal_closed"
        )
        found = await self._withdrawal(closed.withdrawal)
        while found is None and time_.left_s > 0:
            # The projection has yet to see even the request.
            await asyncio.sleep(PROJECTION_POLL_S)
            found = await self._withdrawal(closed.withdrawal)
        if found is None:
            raise unavailable(
                f"withdrawal {closed.withdrawal} was closed in entry {outcome.n}, which is not settled yet; repeat the "
                "call under the same request_id"
            )
        withdrawal = Withdrawal()
        withdrawal.CopyFrom(found)
        withdrawal.state = _PAID if closed.paid else _GIVEN_BACK
        withdrawal.closed_us, withdrawal.payable = outcome.t_us, False
        return withdrawal

    async def _withdrawal(self, number: int) -> Withdrawal | None:
        found = await self._host.withdrawals(0, 0, number - 1, 1)
        return found[0] if found and found[0].request.withdrawal == number else None


def _link_of(transfer: FundsInTransit) -> tuple[int, int, int, int]:
    return transfer.debited_us, transfer.from_shard, transfer.to_shard, transfer.link_sequence
