"""AdminService: users, accounts and keys."""

import asyncio
from collections.abc import Iterator

import pytest

from clob.v1 import admin_service_pb2 as api
from exchange.domain.control import RevokeKey
from exchange.domain.operations import OperatorRole, RaiseControlFloor
from exchange.domain.signing import key_id_of, parse_private_key
from exchange.reference.signing import public_key_of
from tests.support.admin_exchange import AdminExchange, KeyPair, admin_exchange
from tests.support.admin_host import NAME


@pytest.fixture
def exchange() -> Iterator[AdminExchange]:
    with admin_exchange() as opened:
        yield opened


# --- new users --------------------------------------------------------------------------------------------------------


def test_a_user_without_a_key_is_told_its_private_key_once(exchange: AdminExchange) -> None:
    request = api.CreateUserRequest(request_id=exchange.request_id())
    answer = exchange.ask(request)
    assert (answer.user_id, answer.account_id, answer.environment, answer.repeated) == (1, 1, NAME, False)
    assert key_id_of(public_key_of(parse_private_key(answer.private_key))) == answer.key_id
    again = exchange.ask(request)
    assert (again.user_id, again.account_id, again.key_id, again.control_n) == (1, 1, answer.key_id, answer.control_n)
    assert (again.private_key, again.repeated) == ("", True)
    assert exchange.host.view.users == {1: [1]}


def test_a_user_brings_its_own_key(exchange: AdminExchange) -> None:
    key = KeyPair("alice")
    request = api.CreateUserRequest(request_id=exchange.request_id(), public_key=key.public_key, signature=key.proof())
    answer = exchange.ask(request)
    assert (answer.key_id, answer.private_key, answer.repeated) == (key.key_id, "", False)
    exchange.restart()
    assert exchange.ask(request).repeated
    assert len(exchange.host.view.users) == 1


def test_a_request_id_of_one_user_makes_no_other(exchange: AdminExchange) -> None:
    alice, bob = KeyPair("alice"), KeyPair("bob")
    own, made = exchange.request_id(), exchange.request_id()
    exchange.ask(api.CreateUserRequest, request_id=own, public_key=alice.public_key, signature=alice.proof())
    exchange.ask(api.CreateUserRequest, request_id=made)
    others = [
        api.CreateUserRequest(request_id=own, public_key=bob.public_key, signature=bob.proof()),
        api.CreateUserRequest(request_id=own),
        api.CreateUserRequest(request_id=made, public_key=bob.public_key, signature=bob.proof()),
        api.OpenAccountRequest(request_id=own, user=1),
        api.OpenAccountRequest(request_id=made, user=1),
    ]
    assert [exchange.refused(other).reason for other in others] == ["REQUEST_ID_REUSED"] * 5
    assert exchange.host.view.users == {1: [1], 2: [2]}


def test_a_bad_proof_is_the_shards_refusal_and_no_answer(exchange: AdminExchange) -> None:
    key, request_id = KeyPair("alice"), exchange.request_id()
    wrong = api.CreateUserRequest(request_id=request_id, public_key=key.public_key, signature=bytes(64))
    assert exchange.refused(wrong).reason == "BAD_SIGNATURE"
    right = api.CreateUserRequest(request_id=request_id, public_key=key.public_key, signature=key.proof())
    assert not exchange.ask(right).repeated


def test_calls_of_one_request_that_come_together_make_one_user(exchange: AdminExchange) -> None:
    request = api.CreateUserRequest(request_id=exchange.request_id())

    async def together() -> list[api.CreateUserResponse]:
        return list(await asyncio.gather(*(exchange.call("CreateUser", request) for _ in range(5))))

    answers = exchange.run(together())
    assert sorted(answer.repeated for answer in answers) == [False, True, True, True, True]
    assert [bool(answer.private_key) for answer in answers] == [not answer.repeated for answer in answers]
    assert len({answer.key_id for answer in answers}) == 1


def test_many_users_share_entries(exchange: AdminExchange) -> None:
    async def together() -> list[api.CreateUserResponse]:
        return list(await asyncio.gather(*(exchange.call("CreateUser", api.CreateUserRequest()) for _ in range(200))))

    before = exchange.entries()
    assert sorted(answer.user_id for answer in exchange.run(together())) == list(range(1, 201))
    assert exchange.entries() - before <= 10


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"request_id": b"short"}, "request_id"),
        ({"public_key": bytes(31), "signature": bytes(64)}, "public_key"),
        ({"public_key": bytes(32)}, "signature"),
        ({"signature": bytes(64)}, "signature"),
    ],
)
def test_fields_out_of_bounds_are_named(exchange: AdminExchange, fields: dict[str, bytes], path: str) -> None:
    refusal = exchange.refused(api.CreateUserRequest, **fields)
    assert refusal.reason == "INVALID_FIELD"
    assert path in str(refusal.status.details[1].value)


# --- starting funds ---------------------------------------------------------------------------------------------------


def test_a_new_user_starts_with_funds_in_every_shard() -> None:
    with admin_exchange(starting_funds={"USD": 500, "BTC": 7}) as exchange:
        exchange.with_assets()
        request = api.CreateUserRequest(request_id=exchange.request_id())
        answer = exchange.ask(request)
        assert [(given.asset, given.amount_units) for given in answer.starting_funds] == [(1, 7), (2, 500)]
        for engine in exchange.host.trading.values():
            assert engine.balances(answer.account_id) == {1: (7, 0), 2: (500, 0)}
        again = exchange.ask(request)
        assert again.starting_funds == answer.starting_funds
        assert exchange.host.trading[1].balances(answer.account_id) == {1: (7, 0), 2: (500, 0)}


def test_funds_of_an_asset_that_was_not_there_are_never_given_later() -> None:
    with admin_exchange(starting_funds={"USD": 500, "BTC": 7}) as exchange:
        exchange.with_assets("USD")
        request = api.CreateUserRequest(request_id=exchange.request_id())
        assert [(given.asset, given.amount_units) for given in exchange.ask(request).starting_funds] == [(1, 500)]
        exchange.with_assets("BTC")
        assert [(given.asset, given.amount_units) for given in exchange.ask(request).starting_funds] == [(1, 500)]


def test_a_crash_between_user_and_funds_is_mended_by_the_repeat() -> None:
    with admin_exchange(starting_funds={"USD": 500}) as exchange:
        exchange.with_assets("USD")
        request = api.CreateUserRequest(request_id=exchange.request_id())
        exchange.seconds = 0.4

        async def interrupted() -> None:
            call = asyncio.create_task(exchange.call("CreateUser", request))
            while not exchange.host.view.users:
                await asyncio.sleep(0)
            exchange.host.down.add(0)
            with pytest.raises(BaseException, match="UNAVAILABLE"):
                await call

        exchange.run(interrupted())
        exchange.restart()
        exchange.host.down.clear()
        exchange.seconds = 10
        answer = exchange.ask(request)
        assert answer.repeated
        assert exchange.host.trading[2].balances(answer.account_id) == {1: (500, 0)}


def test_production_gives_nobody_anything() -> None:
    with admin_exchange(production=True) as exchange:
        exchange.with_assets()
        assert not exchange.ask(api.CreateUserRequest).starting_funds


def test_the_answer_does_not_wait_for_ever_for_funds_on_their_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with admin_exchange(starting_funds={"USD": 500}) as exchange:
        exchange.with_assets("USD")
        exchange.host.links_held = True
        exchange.seconds = 0.5
        answer = exchange.ask(api.CreateUserRequest)
        assert [given.amount_units for given in answer.starting_funds] == [500]


# --- accounts and keys ------------------------------------------------------------------------------------------------


def test_an_account_is_opened_once_per_request(exchange: AdminExchange) -> None:
    exchange.new_user("alice")
    request = api.OpenAccountRequest(request_id=exchange.request_id(), user=1)
    first = exchange.ask(request)
    exchange.restart()
    again = exchange.ask(request)
    assert (first.account, first.repeated) == (2, False)
    assert (again.account, again.control_n, again.repeated) == (2, first.control_n, True)
    assert exchange.refused(api.OpenAccountRequest(request_id=request.request_id, user=2)).reason == "REQUEST_ID_REUSED"


def test_what_a_shard_refused_may_be_asked_again_under_the_same_id(exchange: AdminExchange) -> None:
    request = api.OpenAccountRequest(request_id=exchange.request_id(), user=1)
    assert exchange.refused(request).reason == "UNKNOWN_USER"
    assert exchange.refused(request).reason == "UNKNOWN_USER"
    exchange.new_user("alice")
    first = exchange.ask(request)
    assert (first.account, first.repeated) == (2, False)
    assert (exchange.ask(request).account, exchange.ask(request).repeated) == (2, True)


def test_a_user_gets_another_key_by_its_own_proof(exchange: AdminExchange) -> None:
    exchange.new_user("alice")
    key = KeyPair("second")
    request = api.RegisterKeyRequest(
        request_id=exchange.request_id(), user=1, account=1, public_key=key.public_key, signature=key.proof(1, 1)
    )
    answer = exchange.ask(request)
    assert (answer.key_id, answer.repeated) == (key.key_id, False)
    assert exchange.host.view.accounts_of_key(key.key_id) == [1]
    assert exchange.ask(request).repeated
    exists = api.RegisterKeyRequest(user=1, public_key=key.public_key, signature=key.proof(1))
    assert exchange.refused(exists).reason == "KEY_EXISTS"
    nobody = api.RegisterKeyRequest(user=0, public_key=key.public_key, signature=key.proof())
    assert exchange.refused(nobody).reason == "INVALID_FIELD"


def test_a_revoked_key_is_known_to_be_in_every_shard(exchange: AdminExchange) -> None:
    _, key = exchange.new_user("alice")
    request = api.RevokeKeyRequest(request_id=exchange.request_id(), key_id=key.key_id)
    answer = exchange.ask(request)
    assert (list(answer.shards_pending), answer.repeated) == ([], False)
    assert answer.control_n == exchange.host.view.position
    assert [engine.facts().control_floor for engine in exchange.host.trading.values()] == [answer.control_n] * 2
    again = exchange.ask(request)
    assert (again.control_n, list(again.shards_pending), again.repeated) == (answer.control_n, [], True)
    assert exchange.refused(api.RevokeKeyRequest(key_id=key.key_id)).reason == "KEY_REVOKED"
    assert exchange.refused(api.RevokeKeyRequest(key_id=bytes(16))).reason == "UNKNOWN_KEY"


def test_a_shard_that_does_not_show_the_floor_is_named(exchange: AdminExchange) -> None:
    _, key = exchange.new_user("alice")
    exchange.host.down.add(2)
    exchange.seconds = 0.6
    request = api.RevokeKeyRequest(request_id=exchange.request_id(), key_id=key.key_id)
    answer = exchange.ask(request)
    assert list(answer.shards_pending) == [2]
    assert exchange.host.view.keys[key.key_id].revoked
    exchange.host.down.clear()
    exchange.seconds = 10
    assert list(exchange.ask(request).shards_pending) == []


def test_a_floor_that_is_higher_already_is_as_good(exchange: AdminExchange) -> None:
    _, key = exchange.new_user("alice")
    exchange.host.hold_facts(1)
    exchange.host.operate(OperatorRole.TREASURY, RaiseControlFloor(1_000), shard=1)
    exchange.host.facts_held.clear()
    assert list(exchange.ask(api.RevokeKeyRequest, key_id=key.key_id).shards_pending) == []
    assert exchange.host.trading[1].facts().control_floor == 1_000


def test_a_key_that_its_user_revokes_raises_the_floor_too(exchange: AdminExchange) -> None:
    account, key = exchange.new_user("alice")
    exchange.command(key, account, RevokeKey(key.key_id))
    position = exchange.host.view.position
    exchange.run(exchange.admin.reconciler.compare())
    assert [engine.facts().control_floor for engine in exchange.host.trading.values()] == [position] * 2


# --- lists ------------------------------------------------------------------------------------------------------------


def test_users_are_listed_page_by_page(exchange: AdminExchange) -> None:
    for name in ("alice", "bob", "carol"):
        exchange.new_user(name)
    first = exchange.ask(api.ListUsersRequest, page_size=2)
    assert [(user.user, list(user.accounts)) for user in first.users] == [(1, [1]), (2, [2])]
    rest = exchange.ask(api.ListUsersRequest, page_size=2, page_token=first.next_page_token)
    assert ([user.user for user in rest.users], rest.next_page_token) == ([3], "")
    assert exchange.refused(api.ListUsersRequest, page_token="nonsense").reason == "INVALID_FIELD"
    assert exchange.refused(api.ListUsersRequest, page_size=1_001).reason == "INVALID_FIELD"


def test_keys_are_listed_by_name_of_all_of_a_user_or_alone(exchange: AdminExchange) -> None:
    keys = [exchange.new_user(name)[1] for name in ("alice", "bob", "carol", "dave")]
    names = sorted(key.key_id for key in keys)
    found, token = [], ""
    while True:
        page = exchange.ask(api.ListKeysRequest, page_size=3, page_token=token)
        found += [key.key_id for key in page.keys]
        token = page.next_page_token
        if not token:
            break
    assert found == names
    assert [key.key_id for key in exchange.ask(api.ListKeysRequest, user=2).keys] == [keys[1].key_id]
    exchange.ask(api.RevokeKeyRequest, key_id=keys[0].key_id)
    alone = exchange.ask(api.ListKeysRequest, key_id=keys[0].key_id).keys
    assert [(key.user, key.public_key, key.revoked) for key in alone] == [(1, keys[0].public_key, True)]
    assert not exchange.ask(api.ListKeysRequest, key_id=bytes(16)).keys
    assert not exchange.ask(api.ListKeysRequest, key_id=keys[0].key_id, user=2).keys
    token = exchange.ask(api.ListKeysRequest, page_size=1).next_page_token
    assert exchange.refused(api.ListKeysRequest, user=1, page_token=token).reason == "INVALID_FIELD"


def test_a_user_is_shown_with_its_keys(exchange: AdminExchange) -> None:
    _, key = exchange.new_user("alice")
    answer = exchange.ask(api.GetUserRequest, user=1)
    assert (answer.user.user, list(answer.user.accounts)) == (1, [1])
    assert [found.key_id for found in answer.keys] == [key.key_id]
    assert exchange.refused(api.GetUserRequest, user=2).reason == "UNKNOWN_USER"
