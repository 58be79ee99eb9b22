"""AdminService: shards, processes, settings, accounts, and the doctor."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from clob.v1 import admin_service_pb2 as api
from clob.v1.account_service_pb2 import GetBalancesResponse
from clob.v1.matching_service_pb2 import ShardStatus
from tests.support.admin_exchange import AdminExchange, a_market, admin_exchange
from tests.support.admin_host import ADDRESS

SERVING, DRAINING, SILENT = api.PROCESS_STATE_SERVING, api.PROCESS_STATE_DRAINING, api.PROCESS_STATE_SILENT


def process(
    kind: str, port: int, *shards: int, state: "api.ProcessState" = SERVING, started_us: int = 1
) -> api.Process:
    return api.Process(
        kind=kind, address=f"127.0.0.1:{port}", state=state, shards=shards, started_us=started_us, version="0.1.0"
    )


@pytest.fixture
def exchange() -> Iterator[AdminExchange]:
    with admin_exchange() as opened:
        opened.host.registry = [
            process("market-matcher", 7001, 1),
            process("market-matcher", 7002, 2),
            process("market-data", 7003, 1, 2),
            process("ingress-verifier", 7004),
        ]
        for shard in (1, 2):
            status = ShardStatus(engine="reference")
            status.executed.shard = shard
            opened.peers.statuses[f"127.0.0.1:{7000 + shard}"] = status
        yield opened


# --- shards -----------------------------------------------------------------------------------------------------------


def test_shards_are_shown_from_all_sides(exchange: AdminExchange) -> None:
    shards = exchange.ask(api.ListShardsRequest).shards
    assert [(shard.entry.shard, shard.entry.tag, shard.address) for shard in shards] == [
        (0, "s0", ADDRESS),
        (1, "s1", "127.0.0.1:7001"),
        (2, "s2", "127.0.0.1:7002"),
    ]
    assert all(shard.HasField("status") and shard.settlement.settled.shard == shard.entry.shard for shard in shards)


def test_a_shard_whose_matcher_is_mute_or_gone_is_shown_as_such(exchange: AdminExchange) -> None:
    del exchange.peers.statuses["127.0.0.1:7001"]
    exchange.host.registry[1].state = DRAINING
    _, mute, gone = exchange.ask(api.ListShardsRequest).shards
    assert (mute.address, mute.HasField("status")) == ("127.0.0.1:7001", False)
    assert (gone.address, gone.HasField("status")) == ("", False)


def test_the_newest_matcher_has_the_shard(exchange: AdminExchange) -> None:
    exchange.host.registry.append(process("market-matcher", 7009, 1, started_us=9))
    assert exchange.ask(api.ListShardsRequest).shards[1].address == "127.0.0.1:7009"


def test_shards_are_listed_page_by_page(exchange: AdminExchange) -> None:
    first = exchange.ask(api.ListShardsRequest, page_size=2)
    rest = exchange.ask(api.ListShardsRequest, page_size=2, page_token=first.next_page_token)
    numbers = [shard.entry.shard for page in (first, rest) for shard in page.shards]
    assert (numbers, rest.next_page_token) == ([0, 1, 2], "")


# --- processes and settings -------------------------------------------------------------------------------------------


def test_processes_are_listed_by_kind_and_address(exchange: AdminExchange) -> None:
    first = exchange.ask(api.ListProcessesRequest, page_size=3)
    rest = exchange.ask(api.ListProcessesRequest, page_size=3, page_token=first.next_page_token)
    found = [(one.kind, one.address) for page in (first, rest) for one in page.processes]
    assert found == sorted(found)
    assert (len(found), rest.next_page_token) == (5, "")


def test_settings_are_told_of_processes_of_the_registry_only(exchange: AdminExchange) -> None:
    own = exchange.ask(api.GetConfigRequest)
    assert exchange.ask(api.GetConfigRequest, address=ADDRESS) == own
    exchange.peers.configs["127.0.0.1:7003"] = api.GetConfigResponse(settings=[api.Setting(name="listen")])
    assert exchange.ask(api.GetConfigRequest, address="127.0.0.1:7003").settings[0].name == "listen"
    exchange.peers.configs["10.0.0.1:80"] = api.GetConfigResponse()
    assert exchange.refused(api.GetConfigRequest, address="10.0.0.1:80").reason == "NOT_FOUND"
    assert exchange.refused(api.GetConfigRequest, address="127.0.0.1:7004").reason == "UNAVAILABLE"


def test_an_account_is_shown_as_market_data_knows_it(exchange: AdminExchange) -> None:
    exchange.new_user("alice")
    assert exchange.refused(api.GetAccountRequest, account=1).reason == "UNAVAILABLE"
    exchange.peers.accounts["127.0.0.1:7003"] = GetBalancesResponse(account=1)
    answer = exchange.ask(api.GetAccountRequest, account=1)
    assert (answer.user, answer.balances.account) == (1, 1)
    assert exchange.refused(api.GetAccountRequest, account=2).reason == "UNKNOWN_ACCOUNT"


# --- the doctor -------------------------------------------------------------------------------------------------------


def checks(exchange: AdminExchange) -> dict[str, tuple[int, str]]:
    found = exchange.ask(api.DiagnoseRequest).checks
    assert len({check.name for check in found}) == len(found)
    assert all(check.found and bool(check.remedy) != (check.state == api.CHECK_STATE_OK) for check in found), found
    return {check.name: (check.state, check.found) for check in found}


def failing(exchange: AdminExchange, state: int = api.CHECK_STATE_FAILED) -> list[str]:
    return [name for name, (found, _) in checks(exchange).items() if found == state]


def test_a_sound_exchange_passes_every_check(exchange: AdminExchange) -> None:
    exchange.with_assets()
    exchange.ask(api.CreateMarketsRequest, markets=[a_market("A"), a_market("B")])
    for one in exchange.host.registry:
        one.version = ""
    assert {state for state, _ in checks(exchange).values()} == {api.CHECK_STATE_OK}


def test_what_failed_comes_first(exchange: AdminExchange) -> None:
    exchange.host.database_trouble = "a page is damaged"
    found = exchange.ask(api.DiagnoseRequest).checks
    assert found[0].name == "database"
    states = [check.state for check in found]
    assert states == sorted(states, reverse=True)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"maxmemory_policy": "allkeys-lru"}, ["bus-maxmemory-policy"]),
        ({"version": "6.2.1", "kind": "redis"}, ["bus-version"]),
        ({"skew_us": -700_000}, ["clock-skew"]),
        ({"run_id": "0" * 40}, ["bus-approved"]),
    ],
)
def test_a_bus_that_is_set_up_wrongly_is_found(
    exchange: AdminExchange, changes: dict[str, Any], names: list[str]
) -> None:
    host = exchange.host
    for shard in (0, 1, 2):
        head = exchange.run(host.head(shard))
        assert head is not None
        host.heads[shard] = head
    host.bus_facts = host.bus_facts._replace(**changes)
    assert failing(exchange) == names


@pytest.mark.parametrize(
    ("path", "why_portable", "state"),
    [
        ("ifma", "", api.CHECK_STATE_OK),
        ("dalek", "IFMA_PROCESSOR: lacks it", api.CHECK_STATE_OK),
        ("dalek", "IFMA_VERDICT: accepts a bad one", api.CHECK_STATE_WARNING),
        ("dalek", "IFMA_FAILED: on a batch", api.CHECK_STATE_WARNING),
        ("reference", "CORE_NONE: not built", api.CHECK_STATE_OK),
    ],
)
def test_the_doctor_says_by_what_signatures_are_verified_and_warns_of_a_library_that_failed(
    exchange: AdminExchange, monkeypatch: pytest.MonkeyPatch, path: str, why_portable: str, state: int
) -> None:
    verifier = SimpleNamespace(path=path, why_portable=why_portable)
    monkeypatch.setattr("exchange.admin.doctor.make_verifier", lambda _: verifier)
    found_state, found = checks(exchange)["signatures"]
    assert found_state == state
    assert found.endswith(why_portable)


def test_the_doctor_finds_a_library_that_does_not_load(
    exchange: AdminExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise ValueError("IFMA_LOAD: no such function")

    monkeypatch.setattr("exchange.admin.doctor.make_verifier", refuse)
    assert failing(exchange) == ["signatures"]


def test_a_stopped_shard_is_found(exchange: AdminExchange) -> None:
    head = exchange.run(exchange.host.head(1))
    assert head is not None
    exchange.host.heads[1] = head._replace(stopped="entry 7 is missing")
    assert checks(exchange)["shards-stopped"] == (api.CHECK_STATE_FAILED, "shard 1: entry 7 is missing")


def test_a_shard_that_is_behind_is_found(exchange: AdminExchange) -> None:
    head = exchange.run(exchange.host.head(2))
    assert head is not None
    exchange.host.heads[2] = head._replace(orders_n=5_000)
    assert checks(exchange)["lag-executions"][0] == api.CHECK_STATE_WARNING


def test_processes_that_are_missing_are_found(exchange: AdminExchange) -> None:
    exchange.host.registry = exchange.host.registry[1:2]
    assert failing(exchange) == ["ingress", "market-data", "matchers"]


def test_a_silent_process_is_found(exchange: AdminExchange) -> None:
    exchange.host.registry.append(process("ingress-verifier", 7010, state=SILENT))
    assert "processes" in failing(exchange, api.CHECK_STATE_WARNING)


def test_a_bus_that_is_not_there_is_found(exchange: AdminExchange, monkeypatch: pytest.MonkeyPatch) -> None:
    from exchange.admin.port import NotExecutedYet

    async def gone() -> None:
        raise NotExecutedYet(0, "connection refused")

    monkeypatch.setattr(exchange.host, "bus", gone)
    monkeypatch.setattr(exchange.host, "processes", gone)
    assert failing(exchange) == ["bus-reachable", "processes"]
    assert exchange.refused(api.ListProcessesRequest).reason == "UNAVAILABLE"


def test_markets_that_are_not_open_yet_are_found(exchange: AdminExchange) -> None:
    exchange.with_assets()
    exchange.host.down.add(1)
    exchange.seconds = 0.5
    exchange.refused(api.CreateMarketsRequest, markets=[a_market("A"), a_market("B")])
    assert checks(exchange)["markets"] == (api.CHECK_STATE_WARNING, "shard 1 has yet to open 1 markets")
