"""The desk: operations are signed and entered once each, whatever happens on the way."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clob.v1 import admin_service_pb2 as api
from clob.v1.frame_pb2 import OrderFrame
from exchange.admin.desk import Desk, OperatorKeyError, in_parts, read_operator_key
from exchange.admin.names import body_digest, derived, part_name
from exchange.admin.port import NotExecutedYet
from exchange.admin.reconcile import ManyActions
from exchange.admin.refusals import AdminRefusal
from exchange.domain.limits import OPERATION_BYTES_MAX
from exchange.domain.markets import Market, MarketState
from exchange.domain.operations import DefineMarket, Operation, OperatorRole, SetMarketState
from exchange.domain.signing import format_private_key
from exchange.local.venue import operator_seed
from exchange.wire.messages import decode, encode
from tests.support.admin_exchange import AdminExchange, a_market, admin_exchange
from tests.support.admin_host import KEYS, NAME, environment

MARKET, TREASURY = OperatorRole.MARKET, OperatorRole.TREASURY


@pytest.fixture
def exchange() -> Iterator[AdminExchange]:
    with admin_exchange() as opened:
        yield opened.with_assets()


def payloads(exchange: AdminExchange, shard: int) -> list[Operation]:
    """Return the operations of a shard's log, entry by entry."""
    return [
        decode(Operation, signed.payload)
        for entry in exchange.host.logs[shard]
        for signed in OrderFrame.FromString(entry.order_frame).operations
    ]


# --- what happens on the way ------------------------------------------------------------------------------------------


def test_the_same_bytes_are_entered_until_an_execution_shows_them(exchange: AdminExchange) -> None:
    exchange.new_user("alice")
    exchange.host.lose_answers = 2
    answer = exchange.ask(api.OpenAccountRequest, user=1)
    opened = [operation for operation in payloads(exchange, 0) if operation.role == TREASURY]
    assert len(opened) == 3
    assert len(set(map(encode, opened))) == 1
    assert (answer.account, exchange.host.view.users[1], answer.repeated) == (2, [1, 2], False)


def test_an_operation_of_a_trading_shard_whose_answer_was_lost_is_done_again(exchange: AdminExchange) -> None:
    exchange.host.lose_answers = 0
    enter = exchange.host.enter
    lost = []

    async def lose_once(shard: int, **what: Any) -> Any:
        executed = await enter(shard, **what)
        if shard and shard not in lost:
            lost.append(shard)
            raise NotExecutedYet(shard, "the answer was lost")
        return executed

    exchange.host.enter = lose_once  # type: ignore[method-assign]
    answer = exchange.ask(api.CreateMarketsRequest, markets=[a_market("A"), a_market("B")])
    assert not any(result.reason for result in answer.results)
    assert [len(exchange.host.markets(shard)) for shard in (1, 2)] == [1, 1]
    assert lost == [1, 2]


def test_what_waits_meanwhile_shares_the_next_entry(exchange: AdminExchange) -> None:
    exchange.new_user("alice")

    async def together() -> list[Any]:
        requests = [api.OpenAccountRequest(user=1) for _ in range(100)]
        return list(await asyncio.gather(*(exchange.call("OpenAccount", request) for request in requests)))

    before = len(exchange.host.logs[0])
    accounts = [answer.account for answer in exchange.run(together())]
    assert sorted(accounts) == list(range(2, 102))
    assert len(exchange.host.logs[0]) - before <= 3
    sequences = [operation.sequence for operation in payloads(exchange, 0) if operation.role == TREASURY]
    assert sequences == list(range(1, 101))


def test_a_call_that_gave_up_before_anything_was_entered_is_not_entered_later(exchange: AdminExchange) -> None:
    exchange.new_user("alice")
    exchange.host.down.add(0)
    exchange.seconds = 0.4
    first, second = exchange.request_id(), exchange.request_id()

    async def both() -> list[Any]:
        requests = [api.OpenAccountRequest(request_id=name, user=1) for name in (first, second)]
        begun = asyncio.create_task(exchange.call("OpenAccount", requests[0]))
        while exchange.host.entered.get(0, 0) < 5:
            await asyncio.sleep(0.001)
        waiting = asyncio.create_task(exchange.call("OpenAccount", requests[1]))
        return list(await asyncio.gather(begun, waiting, return_exceptions=True))

    assert [getattr(error, "reason", None) for error in exchange.run(both())] == ["UNAVAILABLE"] * 2
    exchange.host.down.clear()
    exchange.seconds = 10
    assert exchange.ask(api.OpenAccountRequest, request_id=first, user=1).account == 2
    assert exchange.host.view.users[1] == [1, 2]
    assert exchange.ask(api.OpenAccountRequest, request_id=second, user=1).account == 3


def test_a_mistake_in_one_call_does_not_close_the_desk(
    exchange: AdminExchange, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        alone = True

        def parts(self) -> Any:
            raise ZeroDivisionError

        def take(self, part: Any, outcome: Any) -> None: ...

    with caplog.at_level(logging.CRITICAL), pytest.raises(ZeroDivisionError):
        exchange.run(exchange.admin.desk.do(0, Broken(), 5))
    assert exchange.ask(api.CreateUserRequest).user_id == 1


def test_a_role_whose_key_is_not_here_signs_nothing(exchange: AdminExchange) -> None:
    async def without() -> None:
        desk = Desk(exchange.host, {MARKET: KEYS[MARKET]})
        try:
            await desk.operate(1, TREASURY, [SetMarketState()], wait_s=5)
        finally:
            await desk.close()

    with pytest.raises(AdminRefusal, match="does not have the key of role treasury"):
        exchange.run(without())


def test_a_key_that_is_not_the_roles_is_the_shards_refusal(exchange: AdminExchange) -> None:
    async def wrong() -> None:
        desk = Desk(exchange.host, {MARKET: operator_seed(NAME, OperatorRole.RECOVERY)})
        try:
            await desk.operate(1, MARKET, [SetMarketState()], wait_s=5)
        finally:
            await desk.close()

    with pytest.raises(AdminRefusal, match="BAD_SIGNATURE"):
        exchange.run(wrong())


def test_somebody_who_never_stops_using_the_numbers_is_named(exchange: AdminExchange) -> None:
    enter = exchange.host.enter

    async def stolen_first(shard: int, **what: Any) -> Any:
        exchange.host.operate(MARKET, SetMarketState(), shard=shard)
        return await enter(shard, **what)

    exchange.host.enter = stolen_first  # type: ignore[method-assign]
    with pytest.raises(AdminRefusal, match="somebody else uses the numbers of role market in shard 1"):
        exchange.run(exchange.admin.desk.operate(1, MARKET, [SetMarketState()], wait_s=5))


def test_a_private_key_is_told_though_an_answer_was_lost(exchange: AdminExchange) -> None:
    exchange.host.lose_answers = 1
    answer = exchange.ask(api.CreateUserRequest)
    assert (answer.private_key[:7], answer.repeated) == ("clobsk_", False)
    assert list(exchange.host.view.keys) == [answer.key_id]


def test_markets_whose_answer_was_lost_are_no_repetition(exchange: AdminExchange) -> None:
    exchange.host.lose_answers = 1
    answer = exchange.ask(api.CreateMarketsRequest, markets=[a_market("A")])
    assert ([result.market for result in answer.results], answer.repeated) == ([1], False)


# --- operations that fit ----------------------------------------------------------------------------------------------


def test_parts_fit_one_operation_each_with_the_largest_markets() -> None:
    widest = 2**53 - 1
    market = Market(
        market=2**32 - 1,
        shard=4095,
        symbol="W" * 32,
        base_asset=2**32 - 1,
        quote_asset=2**32 - 2,
        base_units_per_lot=widest,
        quote_units_per_tick_lot=widest,
        band_low_ticks=widest,
        band_high_ticks=widest,
        band_ppm=1_000_000,
        maker_fee_ppm=1_000_000,
        taker_fee_ppm=1_000_000,
        state=MarketState.HALTED,
    )
    for part in in_parts([DefineMarket(market)] * 5_000):
        assert len(encode(Operation(4095, MARKET, 2**64 - 1, part, bytes(16)))) <= OPERATION_BYTES_MAX


def test_many_actions_tell_refusals_by_their_index(exchange: AdminExchange) -> None:
    exchange.ask(api.CreateMarketsRequest, markets=[a_market("A", shard=1)])
    wanted = [SetMarketState(1, MarketState.HALTED)] * 2_000
    wanted[1_500] = SetMarketState(9, MarketState.HALTED)
    job = ManyActions(MARKET, wanted)
    exchange.run(exchange.admin.desk.do(1, job, 5))
    assert {index: reason.name for index, reason in job.refusals.items()} == {1_500: "UNKNOWN_MARKET"}


# --- names ------------------------------------------------------------------------------------------------------------


def test_names_of_parts_differ_in_everything_that_they_are_made_of() -> None:
    one, other = bytes(16), bytes([1]) + bytes(15)
    names = [part_name(name, digest, part) for name in (one, other) for digest in (b"a", b"b") for part in (0, 1)]
    assert len({*names, derived(one, b"part"), one}) == 10
    assert all(len(name) == 16 for name in names)


def test_request_id_and_wait_are_no_part_of_a_body() -> None:
    bodies = [api.DepositRequest(request_id=bytes(16)), api.DepositRequest(wait_ms_max=5), api.DepositRequest()]
    assert len({body_digest(body) for body in bodies}) == 1
    other = api.DepositRequest()
    other.deposits.add()
    assert body_digest(other) not in {body_digest(body) for body in bodies}
    assert body_digest(api.OpenAccountRequest()) != body_digest(api.DepositRequest())


# --- key files --------------------------------------------------------------------------------------------------------


def write_key(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "market.key"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_a_key_is_read_from_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    seed = operator_seed(NAME, MARKET)
    assert read_operator_key(write_key(tmp_path, format_private_key(seed) + "\n"), MARKET, environment()) == seed


@pytest.mark.parametrize(
    ("seed", "mode", "message"),
    [
        (operator_seed(NAME, MARKET), 0o640, "has mode 0640"),
        (operator_seed(NAME, MARKET), 0o604, "has mode 0604"),
        (operator_seed(NAME, TREASURY), 0o600, "does not hold the key of role market"),
        (None, 0o600, "INVALID_PRIVATE_KEY"),
    ],
)
def test_a_key_file_that_cannot_be_used_says_why_and_never_the_key(
    tmp_path: Path, seed: bytes | None, mode: int, message: str
) -> None:
    text = format_private_key(seed) if seed else "clobsk_" + "0" * 63
    with pytest.raises(OperatorKeyError, match=message) as caught:
        read_operator_key(write_key(tmp_path, text, mode), MARKET, environment())
    assert text.removeprefix("clobsk_") not in str(caught.value)


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorKeyError, match="cannot be read"):
        read_operator_key(tmp_path / "none.key", MARKET, environment())


def test_neither_desk_nor_errors_show_a_key(exchange: AdminExchange) -> None:
    shown = repr(exchange.admin.desk) + str(vars(exchange.admin.desk)["_host"])
    assert all(seed.hex() not in shown for seed in KEYS.values())
