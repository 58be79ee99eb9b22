"""AdminService: assets and markets, and the reconciler that keeps shards as shard 0 lists them."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from clob.v1 import admin_service_pb2 as api
from clob.v1 import market_pb2
from clob.v1.event_pb2 import RejectReason
from exchange.admin.listing import MarketPlanner
from exchange.admin.port import NotExecutedYet
from exchange.domain.markets import Market, MarketState
from exchange.domain.operations import DefineMarket, OperatorRole, SetMarketState
from tests.support.admin_exchange import AdminExchange, a_market, admin_exchange

HALTED, OPEN = market_pb2.MARKET_STATE_HALTED, market_pb2.MARKET_STATE_OPEN


@pytest.fixture
def exchange() -> Iterator[AdminExchange]:
    with admin_exchange() as opened:
        yield opened.with_assets()


def results(answer: Any) -> list[tuple[int, int, str]]:
    """Return number, shard and reason of each market."""
    return [
        (result.market, result.shard, RejectReason.Name(result.reason).removeprefix("REJECT_REASON_"))
        for result in answer.results
    ]


def created(exchange: AdminExchange, *symbols: str) -> list[int]:
    answer = exchange.ask(api.CreateMarketsRequest, markets=[a_market(symbol) for symbol in symbols])
    assert not any(result.reason for result in answer.results)
    return [result.market for result in answer.results]


# --- assets -----------------------------------------------------------------------------------------------------------


def test_assets_get_the_next_free_numbers_and_each_its_own_result(exchange: AdminExchange) -> None:
    request = api.DefineAssetsRequest(
        request_id=exchange.request_id(),
        assets=[
            market_pb2.Asset(symbol="EUR"),
            market_pb2.Asset(symbol="USD"),
            market_pb2.Asset(asset=4, symbol="GBP"),
            market_pb2.Asset(symbol="jpy"),
            market_pb2.Asset(asset=1, symbol="XXX"),
            market_pb2.Asset(symbol="CHF", decimals=19),
            market_pb2.Asset(symbol="JPY"),
        ],
    )
    answer = exchange.ask(request)
    named = [
        (result.asset, RejectReason.Name(result.reason).removeprefix("REJECT_REASON_")) for result in answer.results
    ]
    assert named == [
        (3, "UNSPECIFIED"),
        (0, "ALREADY_DEFINED"),
        (4, "UNSPECIFIED"),
        (0, "INVALID_DEFINITION"),
        (1, "ALREADY_DEFINED"),
        (0, "INVALID_DEFINITION"),
        (5, "UNSPECIFIED"),
    ]
    again = exchange.ask(request)
    assert (again.repeated, again.results, again.control_n) == (True, answer.results, answer.control_n)
    request.assets[0].decimals = 7
    assert exchange.refused(request).reason == "REQUEST_ID_REUSED"


# --- making markets ---------------------------------------------------------------------------------------------------


def test_markets_are_numbered_spread_and_open(exchange: AdminExchange) -> None:
    answer = exchange.ask(api.CreateMarketsRequest, markets=[a_market(f"M{place}") for place in range(5)])
    assert results(answer) == [(number, 1 + (number - 1) % 2, "UNSPECIFIED") for number in range(1, 6)]
    for shard, numbers in ((1, [1, 3, 5]), (2, [2, 4])):
        there = exchange.host.markets(shard)
        assert (list(there), {market.state for market in there.values()}) == (numbers, {MarketState.OPEN})
        assert all(exchange.host.view.markets[number] == market for number, market in there.items())


def test_numbers_shards_and_states_may_be_asked_for(exchange: AdminExchange) -> None:
    markets = [a_market("A", market=7, shard=2, state=HALTED), a_market("B", market=0, shard=2), a_market("C")]
    answer = exchange.ask(api.CreateMarketsRequest, markets=markets)
    assert results(answer) == [(7, 2, "UNSPECIFIED"), (1, 2, "UNSPECIFIED"), (2, 1, "UNSPECIFIED")]
    assert exchange.host.markets(2)[7].state == MarketState.HALTED


def test_each_market_that_is_refused_says_why_and_takes_no_number(exchange: AdminExchange) -> None:
    created(exchange, "TAKEN")
    before = exchange.host.view.markets[1]
    markets = [
        a_market("A", maker_fee_ppm=1_000_001),
        a_market("B" * 100),
        a_market("C", base_asset=9),
        a_market("D", shard=9),
        a_market("E", market=1),
        a_market("TAKEN"),
        a_market("F"),
        a_market("F"),
        a_market("G", market=3),
        a_market("H", market=3),
        a_market("I", state=99),
        a_market("J"),
    ]
    answer = exchange.ask(api.CreateMarketsRequest, markets=markets)
    assert results(answer) == [
        (0, 0, "INVALID_MARKET"),
        (0, 0, "INVALID_MARKET"),
        (0, 0, "UNKNOWN_ASSET"),
        (0, 9, "UNKNOWN_SHARD"),
        (1, 0, "ALREADY_DEFINED"),
        (0, 0, "ALREADY_DEFINED"),
        (2, 2, "UNSPECIFIED"),
        (0, 0, "ALREADY_DEFINED"),
        (3, 1, "UNSPECIFIED"),
        (3, 0, "ALREADY_DEFINED"),
        (0, 0, "INVALID_MARKET"),
        (4, 2, "UNSPECIFIED"),
    ]
    assert exchange.host.view.markets[1] == before
    assert set(exchange.host.view.markets) == {1, 2, 3, 4}


def test_a_repeat_gives_the_first_answer_from_the_log(exchange: AdminExchange) -> None:
    request = api.CreateMarketsRequest(
        request_id=exchange.request_id(), markets=[a_market("A"), a_market("A"), a_market("B")]
    )
    answer = exchange.ask(request)
    created(exchange, "C")
    entries = exchange.entries()
    exchange.restart()
    again = exchange.ask(request)
    assert (results(again), again.control_n, again.repeated) == (results(answer), answer.control_n, True)
    assert exchange.entries() == entries


def test_another_body_under_the_id_is_refused_also_where_numbers_alone_differ(exchange: AdminExchange) -> None:
    request = api.CreateMarketsRequest(request_id=exchange.request_id(), markets=[a_market("A")])
    exchange.ask(request)
    request.markets[0].market = 1
    assert exchange.refused(request).reason == "REQUEST_ID_REUSED"
    account = api.OpenAccountRequest(request_id=request.request_id, user=1)
    assert exchange.refused(account).reason == "REQUEST_ID_REUSED"
    assets = api.DefineAssetsRequest(request_id=request.request_id, assets=[market_pb2.Asset(symbol="EUR")])
    assert exchange.refused(assets).reason == "REQUEST_ID_REUSED"


def test_large_tables_are_cut_into_operations_and_frames_that_fit(exchange: AdminExchange) -> None:
    wide = 2**50
    tables = {
        "tick_table": [
            market_pb2.TickRule(from_price_ticks=1 + row * wide // 64, multiple_ticks=wide) for row in range(32)
        ],
        "lot_table": [
            market_pb2.LotRule(from_price_ticks=1 + row * wide // 64, multiple_lots=wide) for row in range(32)
        ],
    }
    markets = [a_market(f"M{place}", **tables) for place in range(900)]
    answer = exchange.ask(api.CreateMarketsRequest, markets=markets)
    assert [result.market for result in answer.results] == list(range(1, 901))
    assert len(exchange.host.markets(1)) == len(exchange.host.markets(2)) == 450


def test_a_crash_in_the_middle_is_completed_by_the_repeat(exchange: AdminExchange) -> None:
    exchange.host.down.add(2)
    exchange.seconds = 0.6
    request = api.CreateMarketsRequest(request_id=exchange.request_id(), markets=[a_market("A"), a_market("B")])
    assert exchange.refused(request).reason == "UNAVAILABLE"
    assert (set(exchange.host.view.markets), set(exchange.host.markets(1)), set(exchange.host.markets(2))) == (
        {1, 2},
        {1},
        set(),
    )
    exchange.restart()
    exchange.host.down.clear()
    exchange.seconds = 10
    again = exchange.ask(request)
    assert (results(again), again.repeated) == ([(1, 1, "UNSPECIFIED"), (2, 2, "UNSPECIFIED")], True)
    assert set(exchange.host.markets(2)) == {2}


def test_markets_are_made_while_somebody_else_uses_the_key(exchange: AdminExchange) -> None:
    """The role's numbers are used by another holder of the key between signing and execution."""
    host = exchange.host
    enter = host.enter
    stolen: list[Any] = []

    async def stolen_first(shard: int, **what: Any) -> Any:
        if len(stolen) < 2:
            stolen.append(host.operate(OperatorRole.MARKET, SetMarketState(), shard=shard))
        return await enter(shard, **what)

    host.enter = stolen_first  # type: ignore[method-assign]
    assert created(exchange, "A", "B") == [1, 2]
    assert len(host.view.markets) == 2


def test_planning_waits_until_shard_0_can_be_looked_at(
    exchange: AdminExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, looks = exchange.host.answered, []

    def busy(request_id: bytes, by_operator: bool) -> Any:
        looks.append(request_id)
        if 4 < len(looks) < 8:
            raise NotExecutedYet(0, "a commit waits for the bus")
        return answered(request_id, by_operator)

    monkeypatch.setattr(exchange.host, "answered", busy)
    assert created(exchange, "A") == [1]
    assert len(looks) > 8


def test_calls_that_come_together_get_different_numbers(exchange: AdminExchange) -> None:
    async def together() -> list[Any]:
        requests = [api.CreateMarketsRequest(markets=[a_market(f"M{place}")]) for place in range(20)]
        return list(await asyncio.gather(*(exchange.call("CreateMarkets", request) for request in requests)))

    numbers = [answer.results[0].market for answer in exchange.run(together())]
    assert sorted(numbers) == list(range(1, 21))
    assert len(exchange.host.markets(1)) == len(exchange.host.markets(2)) == 10


@pytest.mark.parametrize("count", [0, 32_769])
def test_how_many_markets_a_call_may_have(exchange: AdminExchange, count: int) -> None:
    refusal = exchange.refused(api.CreateMarketsRequest, markets=[a_market()] * count)
    assert refusal.reason == "INVALID_FIELD"


def test_parts_do_not_depend_on_what_there_is() -> None:
    markets = [Market(symbol=f"M{place}") for place in range(2_500)]
    assert [len(part) for part in MarketPlanner(markets).parts] == [1_024, 1_024, 452]


def test_without_a_shard_there_is_no_place_for_a_market() -> None:
    with admin_exchange(shards=0) as exchange:
        exchange.with_assets()
        answer = exchange.ask(api.CreateMarketsRequest, markets=[a_market()])
        assert results(answer) == [(0, 0, "UNKNOWN_SHARD")]


# --- states -----------------------------------------------------------------------------------------------------------


def states(exchange: AdminExchange) -> dict[int, tuple[int, int]]:
    """Return state in the listing and in the shard, by market."""
    return {
        number: (market.state, exchange.host.markets(market.shard)[number].state)
        for number, market in exchange.host.view.markets.items()
    }


def test_a_halt_is_at_once_in_shard_and_listing(exchange: AdminExchange) -> None:
    created(exchange, "A", "B", "C")
    request = api.SetMarketStateRequest(request_id=exchange.request_id(), markets=[1, 2, 9], state=HALTED)
    answer = exchange.ask(request)
    assert results(answer) == [(1, 1, "UNSPECIFIED"), (2, 2, "UNSPECIFIED"), (9, 0, "UNKNOWN_MARKET")]
    assert states(exchange) == {1: (HALTED, HALTED), 2: (HALTED, HALTED), 3: (OPEN, OPEN)}


def test_a_repeated_halt_does_not_halt_again_what_was_opened_since(exchange: AdminExchange) -> None:
    created(exchange, "A")
    request = api.SetMarketStateRequest(request_id=exchange.request_id(), markets=[1], state=HALTED)
    exchange.ask(request)
    exchange.ask(api.SetMarketStateRequest, markets=[1], state=OPEN)
    exchange.restart()
    again = exchange.ask(request)
    assert (results(again), again.repeated) == ([(1, 1, "UNSPECIFIED")], True)
    assert states(exchange) == {1: (OPEN, OPEN)}
    request.state = OPEN
    assert exchange.refused(request).reason == "REQUEST_ID_REUSED"


def test_a_scheduled_state_comes_in_the_shard_and_the_listing_follows(exchange: AdminExchange) -> None:
    created(exchange, "A")
    at_us = exchange.host.now_us + 1_000_000
    request = api.SetMarketStateRequest(
        request_id=exchange.request_id(), markets=[1, 5], state=HALTED, effective_us=at_us
    )
    answer = exchange.ask(request)
    assert results(answer) == [(1, 1, "UNSPECIFIED"), (5, 0, "UNKNOWN_MARKET")]
    assert states(exchange) == {1: (OPEN, OPEN)}
    exchange.host.tick(1, at_us)
    assert states(exchange) == {1: (OPEN, HALTED)}
    exchange.run(exchange.admin.reconciler.compare())
    assert states(exchange) == {1: (HALTED, HALTED)}
    assert results(exchange.ask(request)) == results(answer)


def test_a_shard_without_room_for_timers_says_so_also_in_the_repeat(
    exchange: AdminExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    created(exchange, "A", "B", "C")
    monkeypatch.setattr("exchange.reference.shard.TIMERS_MAX", 1)
    request = api.SetMarketStateRequest(
        request_id=exchange.request_id(), markets=[1, 3], state=HALTED, effective_us=2**53 - 1
    )
    answer = exchange.ask(request)
    assert results(answer) == [(1, 1, "UNSPECIFIED"), (3, 1, "TOO_MANY_TIMERS")]
    assert results(exchange.ask(request)) == results(answer)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"markets": [], "state": HALTED}, "markets"),
        ({"markets": [1, 1], "state": HALTED}, "markets"),
        ({"markets": [1]}, "state"),
        ({"markets": [1], "state": 77}, "state"),
    ],
)
def test_a_state_change_names_markets_once_and_a_state(
    exchange: AdminExchange, fields: dict[str, Any], path: str
) -> None:
    refusal = exchange.refused(api.SetMarketStateRequest, **fields)
    assert refusal.reason == "INVALID_FIELD"
    assert path in str(refusal.status.message)


# --- the reconciler ---------------------------------------------------------------------------------------------------


def listed_only(exchange: AdminExchange, **fields: Any) -> None:
    """List a market in shard 0 and go no further, as a crash does."""
    market = Market(1, 2, "A", 1, 2, 1, 10, state=MarketState.OPEN)
    for name, value in fields.items():
        market = Market(**{**{field: getattr(market, field) for field in market.__struct_fields__}, name: value})
    exchange.host.operate(OperatorRole.MARKET, DefineMarket(market))


def test_a_market_that_is_only_listed_is_opened(exchange: AdminExchange) -> None:
    listed_only(exchange, state=MarketState.POST_ONLY)
    exchange.run(exchange.admin.reconciler.compare())
    assert exchange.host.markets(2)[1] == exchange.host.view.markets[1]


def test_changed_settings_of_a_listing_reach_the_shard(exchange: AdminExchange) -> None:
    created(exchange, "B", "A")
    market = exchange.host.view.markets[2]
    fields = {field: getattr(market, field) for field in market.__struct_fields__}
    exchange.host.operate(OperatorRole.MARKET, DefineMarket(Market(**{**fields, "taker_fee_ppm": 77})))
    exchange.run(exchange.admin.reconciler.compare())
    assert exchange.host.markets(2)[2].taker_fee_ppm == 77


def test_the_listing_does_not_follow_what_re_execution_has_yet_to_see(exchange: AdminExchange) -> None:
    created(exchange, "A")
    exchange.host.hold_facts(1)
    exchange.ask(api.SetMarketStateRequest, markets=[1], state=HALTED)

    async def compared() -> None:
        comparing = asyncio.create_task(exchange.admin.reconciler.compare())
        await asyncio.sleep(0)
        exchange.host.facts_held.clear()
        await exchange.host.changed()
        await comparing

    exchange.run(compared())
    assert states(exchange) == {1: (HALTED, HALTED)}


def test_markets_that_a_call_is_opening_are_left_to_it(exchange: AdminExchange) -> None:
    exchange.host.down.add(2)

    async def compared_meanwhile() -> None:
        request = api.CreateMarketsRequest(markets=[a_market("A", shard=2)])
        creating = asyncio.create_task(exchange.call("CreateMarkets", request))
        while not exchange.host.entered.get(2):
            await asyncio.sleep(0)
        await exchange.admin.reconciler.compare()
        exchange.host.down.clear()
        await creating

    exchange.run(compared_meanwhile())
    assert len(exchange.host.logs[2]) == 1


def test_markets_that_a_call_has_opened_while_re_execution_was_behind_are_not_opened_again(
    exchange: AdminExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.admin.desk.FRAME_ACTIONS_MAX", 2_048)
    host = exchange.host

    async def compared_meanwhile() -> None:
        host.hold_facts(2)
        before = host.facts_held[2]
        request = api.CreateMarketsRequest(markets=[a_market(f"M{place}", shard=2) for place in range(3_000)])
        creating = asyncio.create_task(exchange.call("CreateMarkets", request))
        while not host.logs[2]:
            await asyncio.sleep(0)
        host.down.add(2)
        host.hold_facts(2)
        after_the_first_frame, host.facts_held[2] = host.facts_held[2], before
        attempts = host.entered[2]
        comparing = asyncio.create_task(exchange.admin.reconciler.compare())
        # By the time of two more attempts to enter the second frame the comparison waits for the first.
        while host.entered[2] < attempts + 2:
            await asyncio.sleep(0.001)
        host.down.clear()
        await creating
        host.facts_held[2] = after_the_first_frame
        await host.changed()
        await comparing

    exchange.run(compared_meanwhile())
    assert len(host.logs[2]) == 2


def test_what_is_as_it_should_be_is_left_alone(exchange: AdminExchange) -> None:
    created(exchange, "A", "B")
    before = exchange.entries()
    exchange.run(exchange.admin.reconciler.compare())
    assert exchange.entries() == before


def test_the_reconciler_runs_by_itself(exchange: AdminExchange) -> None:
    listed_only(exchange)

    async def opened() -> None:
        exchange.admin.start()
        async with asyncio.timeout(5):
            while 1 not in exchange.host.markets(2):
                await asyncio.sleep(0.001)

    exchange.run(opened())
