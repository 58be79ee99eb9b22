"""Users, their accounts and their keys."""

import asyncio
import secrets
from typing import Final

from clob.v1 import admin_service_pb2 as api
from clob.v1.event_pb2 import Event
from clob.v1.state_pb2 import AssetAmount, KeyState, UserState
from exchange.admin.calls import Calls, Time, check_bytes, request_id_of, reused
from exchange.admin.desk import Desk
from exchange.admin.directory import Directory
from exchange.admin.executed import Outcome
from exchange.admin.money import arrived
from exchange.admin.names import made_key_name, starting_funds_name
from exchange.admin.pages import page_size_of, place_of, token_of
from exchange.admin.port import Host
from exchange.admin.reconcile import Reconciler
from exchange.admin.refusals import AdminRefusal, refuse_field, refused_by_shard
from exchange.domain.control import (
    ControlRequest,
    OpenAccount,
    RegisterKey,
    Registration,
    RevokeKey,
    SignedRegistration,
)
from exchange.domain.limits import KEY_ID_BYTES, PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from exchange.domain.operations import AllocationPolicy, Deposit, OperatorRole
from exchange.domain.rejects import RejectReason
from exchange.domain.signing import SEED_BYTES, SignedKind, format_private_key, key_id_of, signed_bytes
from exchange.domain.units import AMOUNT_UNITS_MAX
from exchange.reference.signing import public_key_of, sign
from exchange.wire.hashing import digest_of
from exchange.wire.messages import encode

KEYS_OF_USER_MAX: Final = 1_000
"""Most keys that GetUser returns."""
FUNDS_WAIT_S: Final = 5.0
"""Longest wait for starting funds to arrive in the shards."""


class UserCalls:
    """CreateUser, GetUser, ListUsers, OpenAccount, RegisterKey, RevokeKey and ListKeys."""

    def __init__(self, calls: Calls, directory: Directory, reconciler: Reconciler) -> None:
        self._calls = calls
        self._host: Host = calls.host
        self._desk: Desk = calls.desk
        self._directory = directory
        self._reconciler = reconciler

    # --- new users --------------------------------------------------------------------------------------------------

    async def create_user(self, request: api.CreateUserRequest, time_: Time) -> api.CreateUserResponse:
        """Make a user, with the key that it brings or one that is made here, and give it what users start with."""
        request_id = request_id_of(request.request_id)
        check_bytes("public_key", request.public_key, 0, PUBLIC_KEY_BYTES)
        check_bytes("signature", request.signature, SIGNATURE_BYTES if request.public_key else 0)
        brings_key = bool(request.public_key)
        name, other = request_id, made_key_name(request_id)
        if not brings_key:
            name, other = other, name
        if self._host.answered(other, by_operator=False) or (await self._calls.answer_of(request_id))[1] is not None:
            raise reused(request_id)
        seed = b""
        outcome, repeated = await self._known_user(name, request)
        if outcome is None:
            if brings_key:
                registration = SignedRegistration(encode(Registration(request.public_key)), request.signature)
            else:
                seed = secrets.token_bytes(SEED_BYTES)
                registration = self._registration_of(seed)
            outcome = await self._desk.request(ControlRequest(name, RegisterKey(registration)), time_.left_s)
            if outcome.repeat_n or outcome.reason == RejectReason.REQUEST_ID_REUSED:
                # The same call is under way twice and the other one was first, or the desk had to enter this one twice.
                is_own = outcome.reentered and bool(outcome.repeat_n)
                outcome, _ = await self._known_user(name, request)
                if outcome is None:
                    raise reused(request_id)
                repeated = not is_own
                if repeated:
                    seed = b""
            elif outcome.reason:
                reason = RejectReason(outcome.reason)
                raise refused_by_shard(
                    reason, f"shard 0 refused the registration in entry {outcome.n}; no user was made"
                )
        response = api.CreateUserResponse(
            user_id=_event(outcome, "user_created").user_created.user,
            account_id=_event(outcome, "account_opened").account_opened.account,
            key_id=_event(outcome, "key_registered").key_registered.key_id,
            private_key=format_private_key(seed) if seed else "",
            environment=self._host.environment.name,
            control_n=outcome.n,
            repeated=repeated,
        )
        await self._give_starting_funds(name, response, time_)
        return response

    async def _known_user(self, name: bytes, request: api.CreateUserRequest) -> tuple[Outcome | None, bool]:
        """Return what became of the request of that name, where it was granted before.

        Raises:
            AdminRefusal: REQUEST_ID_REUSED: it was for another key.
        """
        known = self._host.answered(name, by_operator=False)
        if known is None:
            return None, False
        if request.public_key:
            registration = SignedRegistration(encode(Registration(request.public_key)), request.signature)
            if digest_of(encode(RegisterKey(registration))) != known.digest:
                raise reused(request.request_id)
        return await self._calls.logged_request(known.n, name), True

    def _registration_of(self, seed: bytes) -> SignedRegistration:
        """Return the registration of a new user's key with its proof of possession."""
        payload = encode(Registration(public_key_of(seed)))
        return SignedRegistration(
            payload, sign(seed, signed_bytes(SignedKind.REGISTER, self._host.environment.name, payload))
        )

    async def _give_starting_funds(self, user_name: bytes, response: api.CreateUserResponse, time_: Time) -> None:
        """Deposit what a new user starts with, once; say what it was given, and wait a while for it to arrive.

        Each asset of the environment's list has a deposit, also where there is no such asset (yet): shard 0 then
        refuses it, and that is the answer for ever.
        """
        funds = self._host.environment.starting_funds
        name = starting_funds_name(user_name)
        known = self._host.answered(name, by_operator=True)
        if known is not None:
            outcome = (await self._calls.logged(known.n))[name].outcome
        elif funds and not self._host.environment.production:
            view = self._host.view
            shards = len(view.trading_shards())
            deposits = [
                Deposit(
                    response.account_id,
                    view.asset_by_symbol.get(symbol, 0),
                    min(units * shards, AMOUNT_UNITS_MAX + 1),
                    AllocationPolicy.EVEN,
                )
                for symbol, units in funds.items()
            ]
            outcome = await self._desk.operate(0, OperatorRole.TREASURY, deposits, name=name, wait_s=time_.left_s)
            if not outcome.is_applied:
                known = self._host.answered(name, by_operator=True)
                if known is None:
                    reason = RejectReason(outcome.reason)
                    raise AdminRefusal(
                        reason,
                        f"user {response.user_id} was made; shard 0 refused its starting funds in entry {outcome.n}",
                    )
                outcome = (await self._calls.logged(known.n))[name].outcome
        else:
            return
        given: dict[int, int] = {}
        for event in outcome.events:
            if event.WhichOneof("event") == "funds_sent":
                given.setdefault(event.funds_sent.asset, event.funds_sent.amount_units)
        for asset, units in sorted(given.items()):
            response.starting_funds.append(AssetAmount(asset=asset, amount_units=units))
        await arrived(self._host, outcome, min(FUNDS_WAIT_S, time_.left_s))

    # --- users that exist -------------------------------------------------------------------------------------------

    async def get_user(self, request: api.GetUserRequest) -> api.GetUserResponse:
        """Return a user with its accounts and keys."""
        user = self._directory.user(request.user)
        if user is None:
            raise AdminRefusal(RejectReason.UNKNOWN_USER, f"there is no user {request.user}")
        return api.GetUserResponse(user=user, keys=self._directory.keys_after(b"", KEYS_OF_USER_MAX, request.user))

    async def list_users(self, request: api.ListUsersRequest) -> api.ListUsersResponse:
        """Return a page of users."""
        size = page_size_of(request.page_size)
        place = place_of("users", request.page_token, int)
        first = place[0] if place else 0
        assert isinstance(first, int)
        users: list[UserState] = self._directory.users_after(first, size + 1)
        token = token_of("users", (users[size - 1].user,)) if len(users) > size else ""
        return api.ListUsersResponse(users=users[:size], next_page_token=token)

    async def open_account(self, request: api.OpenAccountRequest, time_: Time) -> api.OpenAccountResponse:
        """Open another account of a user."""
        request_id = request_id_of(request.request_id)
        answer = await self._calls.one_thing(
            OperatorRole.TREASURY, OpenAccount(request.user), request_id, time_, f"an account of user {request.user}"
        )
        account = _event(answer.outcome, "account_opened").account_opened.account
        return api.OpenAccountResponse(account=account, control_n=answer.outcome.n, repeated=answer.repeated)

    # --- keys -------------------------------------------------------------------------------------------------------

    async def register_key(self, request: api.RegisterKeyRequest, time_: Time) -> api.RegisterKeyResponse:
        """Give a user another key."""
        request_id = request_id_of(request.request_id)
        if not request.user:
            refuse_field("user", "is 0; a new user is made with CreateUser")
        check_bytes("public_key", request.public_key, PUBLIC_KEY_BYTES)
        check_bytes("signature", request.signature, SIGNATURE_BYTES)
        payload = encode(Registration(request.public_key, request.user, request.account))
        action = RegisterKey(SignedRegistration(payload, request.signature))
        key_id = key_id_of(request.public_key)
        what = f"key {key_id.hex()} for user {request.user}"
        answer = await self._calls.one_thing(OperatorRole.TREASURY, action, request_id, time_, what)
        return api.RegisterKeyResponse(key_id=key_id, control_n=answer.outcome.n, repeated=answer.repeated)

    async def revoke_key(self, request: api.RevokeKeyRequest, time_: Time) -> api.RevokeKeyResponse:
        """Revoke a key, then wait until every shard refuses frames that were verified before."""
        request_id = request_id_of(request.request_id)
        check_bytes("key_id", request.key_id, KEY_ID_BYTES)
        what = f"revoking key {request.key_id.hex()}"
        answer = await self._calls.one_thing(OperatorRole.TREASURY, RevokeKey(request.key_id), request_id, time_, what)
        control_n = answer.outcome.n
        shards = self._host.view.trading_shards()
        shown = await asyncio.gather(
            *(self._reconciler.raise_floor(shard, control_n, time_.left_s) for shard in shards)
        )
        pending = [shard for shard, is_shown in zip(shards, shown, strict=True) if not is_shown]
        return api.RevokeKeyResponse(control_n=control_n, shards_pending=pending, repeated=answer.repeated)

    async def list_keys(self, request: api.ListKeysRequest) -> api.ListKeysResponse:
        """Return a page of keys."""
        size = page_size_of(request.page_size)
        check_bytes("key_id", request.key_id, 0, KEY_ID_BYTES)
        what = f"keys {request.user} {request.key_id.hex()}"
        place = place_of(what, request.page_token, bytes)
        if request.key_id:
            key = self._directory.key(request.key_id)
            wanted = key is not None and request.user in (0, key.user) and place is None
            return api.ListKeysResponse(keys=[key] if key is not None and wanted else [])
        after = place[0] if place else b""
        assert isinstance(after, bytes)
        keys: list[KeyState] = self._directory.keys_after(after, size + 1, request.user)
        token = token_of(what, (keys[size - 1].key_id,)) if len(keys) > size else ""
        return api.ListKeysResponse(keys=keys[:size], next_page_token=token)


def _event(outcome: Outcome, name: str) -> Event:
    """Return the first event of a kind; one of that kind is there."""
    return next(event for event in outcome.events if event.WhichOneof("event") == name)
