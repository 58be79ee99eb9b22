"""AdminService: deposits, transfers and withdrawals."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from clob.v1 import admin_service_pb2 as api
from clob.v1 import operation_pb2
from clob.v1.event_pb2 import RejectReason
from clob.v1.withdrawal_pb2 import WITHDRAWAL_STATE_GIVEN_BACK, WITHDRAWAL_STATE_OPEN, WITHDRAWAL_STATE_PAID
from exchange.domain.commands import RequestWithdrawal
from tests.support.admin_exchange import AdminExchange, KeyPair, admin_exchange

EVEN = operation_pb2.ALLOCATION_POLICY_EVEN
ONE_SHARD = operation_pb2.ALLOCATION_POLICY_ONE_SHARD
NONE = operation_pb2.ALLOCATION_POLICY_NONE
NO_POLICY: Any = -1


@pytest.fixture
def exchange() -> Iterator[AdminExchange]:
    with admin_exchange() as opened:
        yield opened.with_assets()


def deposit(units: int = 100, account: int = 1, allocate: Any = NONE, to_shard: int = 0) -> operation_pb2.Deposit:
    return operation_pb2.Deposit(account=account, asset=2, amount_units=units, allocate=allocate, to_shard=to_shard)


def reasons(answer: Any) -> list[str]:
    return [RejectReason.Name(result.reason).removeprefix("REJECT_REASON_") for result in answer.results]


def free(exchange: AdminExchange, shard: int, account: int = 1) -> int:
    return exchange.host.trading[shard].balances(account).get(2, (0, 0))[0]


# --- deposits ---------------------------------------------------------------------------------------------------------


def test_deposits_are_one_entry_each_with_a_result(exchange: AdminExchange) -> None:
    exchange.new_user("alice")
    request = api.DepositRequest(
        request_id=exchange.request_id(),
        deposits=[
            deposit(101, allocate=EVEN),
            deposit(7, allocate=ONE_SHARD, to_shard=2),
            deposit(account=9),
            deposit(0),
            deposit(5, to_shard=1),
            deposit(5, allocate=ONE_SHARD, to_shard=3),
            deposit(3),
        ],
    )
    before = len(exchange.host.logs[0])
    answer = exchange.ask(request)
    assert reasons(answer) == [
        "UNSPECIFIED",
        "UNSPECIFIED",
        "UNKNOWN_ACCOUNT",
        "INVALID_AMOUNT",
        "INVALID_POLICY",
        "UNKNOWN_SHARD",
        "UNSPECIFIED",
    ]
    assert (len(exchange.host.logs[0]) - before, answer.control_n, answer.arrived) == (1, before + 1, True)
    assert (free(exchange, 1), free(exchange, 2)) == (51, 57)


def test_a_deposit_is_never_made_twice(exchange: AdminExchange) -> None:
    exchange.new_user("alice")
    request = api.DepositRequest(request_id=exchange.request_id(), deposits=[deposit(allocate=EVEN)])
    answer = exchange.ask(request)
    exchange.restart()
    request.wait_ms_max = 77
    again = exchange.ask(request)
    assert (again.repeated, again.control_n, again.arrived, reasons(again)) == (
        True,
        answer.control_n,
        True,
        ["UNSPECIFIED"],
    )
    assert free(exchange, 1) == 50
    request.deposits[0].amount_units = 101
    assert exchange.refused(request).reason == "REQUEST_ID_REUSED"


def test_an_answer_that_was_lost_changes_nothing(exchange: AdminExchange) -> None:
    exchange.new_user("alice")
    exchange.host.lose_answers = 3
    request = api.DepositRequest(request_id=exchange.request_id(), deposits=[deposit(allocate=EVEN)])
    assert reasons(exchange.ask(request)) == ["UNSPECIFIED"]
    assert free(exchange, 1) == 50
    assert exchange.host.entered[0] >= 5


def test_deposits_that_were_all_refused_are_an_answer_too(exchange: AdminExchange) -> None:
    request = api.DepositRequest(request_id=exchange.request_id(), deposits=[deposit()])
    assert reasons(exchange.ask(request)) == ["UNKNOWN_ACCOUNT"]
    exchange.new_user("alice")
    again = exchange.ask(request)
    assert (reasons(again), again.repeated) == (["UNKNOWN_ACCOUNT"], True)


def test_a_deposit_without_a_request_id_is_refused(exchange: AdminExchange) -> None:
    assert exchange.refused(api.DepositRequest, deposits=[deposit()]).reason == "REQUEST_ID_MISSING"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"deposits": []}, "deposits"),
        ({"deposits": [operation_pb2.Deposit()] * 1_025}, "deposits"),
        ({"deposits": [operation_pb2.Deposit()], "wait_ms_max": 30_001}, "wait_ms_max"),
        ({"deposits": [operation_pb2.Deposit(allocate=NO_POLICY)]}, "deposits[0].allocate"),
    ],
)
def test_fields_of_a_deposit_out_of_bounds_are_named(
    exchange: AdminExchange, fields: dict[str, Any], path: str
) -> None:
    refusal = exchange.refused(api.DepositRequest, request_id=exchange.request_id(), **fields)
    assert refusal.reason == "INVALID_FIELD"
    assert path in refusal.status.message


def test_money_that_is_still_on_its_way_is_said_and_listed(exchange: AdminExchange) -> None:
    exchange.new_user("alice")
    exchange.new_user("bob")
    exchange.host.links_held = True
    request = api.DepositRequest(
        request_id=exchange.request_id(),
        deposits=[deposit(10, allocate=EVEN), deposit(11, 2, ONE_SHARD, 1), deposit(12, 1, ONE_SHARD, 1)],
        wait_ms_max=1,
    )
    assert not exchange.ask(request).arrived
    everything = exchange.ask(api.ListTransfersRequest).transfers
    assert [(t.to_shard, t.link_sequence, t.account, t.amount_units) for t in everything] == [
        (1, 1, 1, 5),
        (1, 1, 2, 11),
        (1, 1, 1, 12),
        (2, 1, 1, 5),
    ]
    found, token = [], ""
    while True:
        page = exchange.ask(api.ListTransfersRequest, page_size=1, page_token=token)
        found += list(page.transfers)
        token = page.next_page_token
        if not token:
            break
    assert found == list(everything)
    assert [t.amount_units for t in exchange.ask(api.ListTransfersRequest, account=2).transfers] == [11]

    async def released() -> Any:
        asking = asyncio.create_task(
            exchange.call("Deposit", api.DepositRequest(request_id=request.request_id, deposits=request.deposits))
        )
        await asyncio.sleep(0)
        await exchange.host.release_links()
        return await asking

    answer = exchange.run(released())
    assert (answer.arrived, answer.repeated) == (True, True)
    assert not exchange.ask(api.ListTransfersRequest).transfers


# --- withdrawals ------------------------------------------------------------------------------------------------------


def withdrawing(exchange: AdminExchange, *amounts: int) -> tuple[int, KeyPair]:
    """Make Alice, who has 1,000 and asks for payments."""
    account, key = exchange.new_user("alice")
    exchange.ask(api.DepositRequest, request_id=exchange.request_id(), deposits=[deposit(1_000)])
    for units in amounts:
        exchange.command(key, account, RequestWithdrawal(2, units, "bank"))
    return account, key


def test_a_withdrawal_is_paid_once(exchange: AdminExchange) -> None:
    withdrawing(exchange, 400)
    request = api.CloseWithdrawalRequest(request_id=exchange.request_id(), withdrawal=1, state=WITHDRAWAL_STATE_PAID)
    answer = exchange.ask(request)
    closed = answer.withdrawal
    assert (closed.request.withdrawal, closed.request.amount_units, closed.request.destination) == (1, 400, "bank")
    assert (closed.state, closed.payable, closed.closed_us > closed.requested_us) == (
        WITHDRAWAL_STATE_PAID,
        False,
        True,
    )
    exchange.restart()
    again = exchange.ask(request)
    assert (again.withdrawal, again.control_n, again.repeated) == (closed, answer.control_n, True)
    other = api.CloseWithdrawalRequest(
        request_id=exchange.request_id(), withdrawal=1, state=WITHDRAWAL_STATE_GIVEN_BACK
    )
    assert exchange.refused(other).reason == "UNKNOWN_WITHDRAWAL"
    assert not any(line.difference_units for line in exchange.run(exchange.host.audit()).lines)


def test_a_withdrawal_is_given_back(exchange: AdminExchange) -> None:
    withdrawing(exchange, 400)
    answer = exchange.ask(
        api.CloseWithdrawalRequest,
        request_id=exchange.request_id(),
        withdrawal=1,
        state=WITHDRAWAL_STATE_GIVEN_BACK,
    )
    assert answer.withdrawal.state == WITHDRAWAL_STATE_GIVEN_BACK
    assert exchange.host.control.state().treasury[0].balances[0].amount_units == 1_000


def test_what_the_audit_has_not_passed_is_not_paid(exchange: AdminExchange) -> None:
    withdrawing(exchange, 400)
    exchange.host.unaudited = True
    request = api.CloseWithdrawalRequest(request_id=exchange.request_id(), withdrawal=1, state=WITHDRAWAL_STATE_PAID)
    before = exchange.entries()
    assert exchange.refused(request).reason == "UNAVAILABLE"
    assert exchange.entries() == before
    exchange.host.unaudited = False
    assert not exchange.ask(request).repeated


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"withdrawal": 9, "state": WITHDRAWAL_STATE_PAID}, "UNKNOWN_WITHDRAWAL"),
        ({"withdrawal": 9, "state": WITHDRAWAL_STATE_GIVEN_BACK}, "UNKNOWN_WITHDRAWAL"),
        ({"withdrawal": 0, "state": WITHDRAWAL_STATE_PAID}, "INVALID_FIELD"),
        ({"withdrawal": 1, "state": WITHDRAWAL_STATE_OPEN}, "INVALID_FIELD"),
        ({"withdrawal": 1, "state": 9}, "INVALID_FIELD"),
    ],
)
def test_closing_what_is_no_open_withdrawal_is_refused(
    exchange: AdminExchange, fields: dict[str, Any], reason: str
) -> None:
    assert exchange.refused(api.CloseWithdrawalRequest, request_id=exchange.request_id(), **fields).reason == reason
    assert exchange.refused(api.CloseWithdrawalRequest, **fields).reason == "REQUEST_ID_MISSING"


def test_withdrawals_are_listed_oldest_first(exchange: AdminExchange) -> None:
    account, _ = withdrawing(exchange, 1, 2, 3)
    exchange.ask(
        api.CloseWithdrawalRequest, request_id=exchange.request_id(), withdrawal=2, state=WITHDRAWAL_STATE_PAID
    )
    first = exchange.ask(api.ListWithdrawalsRequest, page_size=2)
    assert [(w.request.withdrawal, w.payable) for w in first.withdrawals] == [(1, True), (2, False)]
    rest = exchange.ask(api.ListWithdrawalsRequest, page_size=2, page_token=first.next_page_token)
    assert ([w.request.withdrawal for w in rest.withdrawals], rest.next_page_token) == ([3], "")
    paid = exchange.ask(api.ListWithdrawalsRequest, account=account, state=WITHDRAWAL_STATE_PAID)
    assert [w.request.withdrawal for w in paid.withdrawals] == [2]
    assert exchange.refused(api.ListWithdrawalsRequest, state=9).reason == "INVALID_FIELD"
