"""The traders' gRPC services of a worker: what is answered here, and what is passed on with the caller's identity."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Final

import grpc

from clob.v1 import (
    account_service_pb2,
    market_data_service_pb2,
    matching_service_pb2,
    order_service_pb2,
    verification_service_pb2,
)
from clob.v1 import (
    door_reason_pb2 as reasons,
)
from exchange.control.follower import ControlFollower
from exchange.control.view import ControlView
from exchange.domain.events import KeyRevoked
from exchange.domain.frames import ExecutionFrame
from exchange.domain.limits import KEY_ID_BYTES
from exchange.domain.units import CONTROL_SHARD, SHARD_MAX
from exchange.ingress.crowd import Unsent
from exchange.ingress.desk import Desk, parsed
from exchange.ingress.door import Door, ReadBatch, Refusal, as_error, varint
from exchange.ingress.keys import catch_up
from exchange.ingress.outcomes import blank_trades
from exchange.ingress.rates import TokenBuckets
from exchange.ingress.sessions import Opened, Sessions
from exchange.ingress.verification import verify_bytes
from exchange.serving import errors
from exchange.serving.callers import caller_of
from exchange.serving.internal import Peers, Target
from exchange.serving.ports import Port

_log = logging.getLogger(__name__)

MARKET_DATA: Final = "market-data"
SETTLEMENT: Final = "settlement-plane"
MATCHER: Final = "market-matcher"
USER_HEADER: Final = "clob-user"
ACCOUNTS_HEADER: Final = "clob-accounts"
SETTINGS_EVERY_S: Final = 5.0
ELSEWHERE_PER_SECOND: Final = 20
ELSEWHERE_AGE_S: Final = 1.0
ELSEWHERE_KEPT_MAX: Final = 4_096

_ORDERS: Final = order_service_pb2.DESCRIPTOR.services_by_name["OrderService"]
_VERIFICATION: Final = verification_service_pb2.DESCRIPTOR.services_by_name["VerificationService"]
_ACCOUNTS: Final = account_service_pb2.DESCRIPTOR.services_by_name["AccountService"]
_MARKET_DATA: Final = market_data_service_pb2.DESCRIPTOR.services_by_name["MarketDataService"]
_MATCHING: Final = matching_service_pb2.DESCRIPTOR.services_by_name["MatchingService"]


class Traders:
    """Handlers of port 8080.

    Attributes:
        unanswered: messages of streams that were read and whose answers are not written yet.
    """

    def __init__(
        self,
        door: Door,
        follower: ControlFollower,
        submissions: Desk,
        sessions: Sessions,
        session_rates: TokenBuckets,
        peers: Peers,
        stream_messages_max: int,
    ) -> None:
        self._door = door
        self._follower = follower
        self._submissions = submissions
        self._sessions = sessions
        self._session_rates = session_rates
        self._peers = peers
        self._stream_messages_max = stream_messages_max
        self.unanswered = 0
        self._unsent = Unsent()
        self._scopes: dict[bytes, set[asyncio.Timeout]] = {}
        follower.on_frame.append(self._look_for_revocations)
        follower.on_reload.append(self._end_revoked)

    def add_to(self, port: Port) -> None:
        """Serve on a port."""
        unary = grpc.unary_unary_rpc_method_handler
        port.add_handler(
            _ORDERS.full_name,
            {
                "Submit": unary(self.submit),
                "SubmitStream": grpc.stream_stream_rpc_method_handler(self.submit_stream),
                **self._peers.proxy_handlers(_ORDERS, self._to_settlement, methods=["GetOutcome"], safe=["GetOutcome"]),
            },
        )
        port.add_handler(_VERIFICATION.full_name, {"Verify": unary(self.verify)})
        reads = [method.name for method in _ACCOUNTS.methods if method.name not in ("CreateChallenge", "OpenSession")]
        port.add_handler(
            _ACCOUNTS.full_name,
            {
                **self._peers.proxy_handlers(_ACCOUNTS, self._to_market_data, methods=reads, safe=reads),
                "CreateChallenge": unary(self.create_challenge),
                "OpenSession": unary(self.open_session),
                "StreamExecutions": grpc.unary_stream_rpc_method_handler(self.stream_executions),
            },
        )
        everything = [method.name for method in _MARKET_DATA.methods]
        port.add_handler(
            _MARKET_DATA.full_name, self._peers.proxy_handlers(_MARKET_DATA, self._for_everybody, safe=everything)
        )
        port.add_handler(_MATCHING.full_name, {"WhatIf": unary(self.what_if)})

    # --- orders -----------------------------------------------------------------------------------------------------

    async def submit(self, request: bytes, context: Any) -> bytes:
        """OrderService.Submit."""
        return await self._submissions.submit(request, caller_of(context).host)

    async def submit_stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """OrderService.SubmitStream: messages are let in one after the other, answers come as they are ready."""
        host = caller_of(context).host
        room = asyncio.Semaphore(self._stream_messages_max)
        answers: asyncio.Queue[bytes | None] = asyncio.Queue()
        waiting: set[asyncio.Task[None]] = set()
        unsent = self._unsent.of_stream()
        mine = 0

        async def answer(tag: int, submission: Any) -> None:
            submit = await self._submissions.answer(submission, fails=False)
            response = _stream_response(tag, submit)
            unsent.add(len(response))
            answers.put_nowait(response)

        async def read() -> None:
            nonlocal mine
            try:
                async for request in requests:
                    await room.acquire()
                    await unsent.wait()
                    self.unanswered += 1
                    mine += 1
                    tag, submission = await self._submissions.take(request, host)
                    task = asyncio.create_task(answer(tag, submission))
                    waiting.add(task)
                    task.add_done_callback(waiting.discard)
                if waiting:
                    await asyncio.gather(*waiting)
            finally:
                answers.put_nowait(None)

        reader = asyncio.create_task(read(), name="submit-stream")
        try:
            while (message := await answers.get()) is not None:
                yield message
                unsent.take_off(len(message))
                room.release()
                self.unanswered -= 1
                mine -= 1
            await reader
        finally:
            unsent.close()
            self.unanswered -= mine
            reader.cancel()
            for task in list(waiting):
                task.cancel()

    async def verify(self, request: bytes, context: Any) -> bytes:
        """VerificationService.Verify."""
        await self._session(context)
        return await verify_bytes(self._door, request, caller_of(context).host)

    async def _to_settlement(self, _: str, request: bytes, context: Any) -> Target:
        """GetOutcome is for a key of the session's user."""
        session = await self._session(context)
        message = parsed(order_service_pb2.GetOutcomeRequest, request)
        fields: dict[str, str] = {}
        if len(message.key_id) != KEY_ID_BYTES:
            fields["key_id"] = f"has {len(message.key_id)} bytes, it has {KEY_ID_BYTES}"
        if message.shard > SHARD_MAX:
            fields["shard"] = f"{message.shard} is not in 0 .. {SHARD_MAX}"
        if fields:
            raise errors.invalid(fields)
        view = self._view()
        if message.key_id not in view.keys or message.shard not in view.shards:
            view = await self._caught_up()
        key = view.keys.get(message.key_id)
        if key is None or key.user != session.user:
            raise errors.refused(
                reasons.DOOR_REASON_ACCOUNT_NOT_OF_KEY,
                "key_id is not a key of the session's user; open a session with a key of its user",
            )
        if message.shard not in view.shards:
            raise _unknown_shard(message.shard)
        return Target(SETTLEMENT, None, self._identity(session))

    async def outcome_of(self, batch: ReadBatch) -> order_service_pb2.GetOutcomeResponse | None:
        """Return what settlement knows of a batch; None: it does not answer."""
        request = order_service_pb2.GetOutcomeRequest(
            key_id=batch.key_id, shard=batch.shard, nonce=batch.nonce, valid_until_ms=batch.valid_until_ms
        )
        key = self._view().keys.get(batch.key_id)
        headers = ((USER_HEADER, str(key.user)), (ACCOUNTS_HEADER, str(batch.account))) if key else ()
        try:
            answer = await self._peers.call(
                SETTLEMENT,
                None,
                f"/{_ORDERS.full_name}/GetOutcome",
                request.SerializeToString(),
                headers=headers,
                timeout_s=5,
                is_safe=True,
            )
        except errors.Refusal as refusal:
            _log.warning("settlement-plane does not say what became of a batch: %s", refusal)
            return None
        return order_service_pb2.GetOutcomeResponse.FromString(answer)

    # --- accounts ---------------------------------------------------------------------------------------------------

    async def create_challenge(self, _: bytes, context: Any) -> bytes:
        """AccountService.CreateChallenge."""
        self._admit(context)
        challenge, until_ms = self._sessions.challenge(_now_ms())
        return account_service_pb2.CreateChallengeResponse(
            challenge=challenge, valid_until_ms=until_ms, environment=self._door.environment
        ).SerializeToString()

    async def open_session(self, request: bytes, context: Any) -> bytes:
        """AccountService.OpenSession."""
        self._admit(context)
        signed = parsed(account_service_pb2.OpenSessionRequest, request).session

        def attempt() -> tuple[str, Opened] | Refusal:
            return self._sessions.open(self._view(), signed.key_id, signed.payload, signed.signature, _now_ms())

        opened = attempt()
        if isinstance(opened, Refusal) and opened.may_change:
            await self._caught_up()
            opened = attempt()
        if isinstance(opened, Refusal):
            raise as_error(opened)
        token, session = opened
        return account_service_pb2.OpenSessionResponse(
            token=token,
            valid_until_ms=session.valid_until_ms,
            user=session.user,
            accounts=self._view().accounts_of_key(session.key_id),
        ).SerializeToString()

    async def stream_executions(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """AccountService.StreamExecutions: passed on until the session is over."""
        session = await self._session(context)
        messages = self._peers.stream(
            MARKET_DATA,
            None,
            f"/{_ACCOUNTS.full_name}/StreamExecutions",
            request,
            headers=self._identity(session),
            timeout_s=context.time_remaining(),
        )
        with self._scope(session) as scope:
            try:
                async with scope, aclosing(messages):  # type: ignore[type-var]
                    async for message in messages:
                        yield message
            except TimeoutError:
                if not scope.expired():
                    raise
                raise errors.refused(
                    reasons.DOOR_REASON_SESSION_REQUIRED,
                    "the session is over, or its key was revoked; open another and go on from the last cursor",
                ) from None

    async def what_if(self, request: bytes, context: Any) -> bytes:
        """MatchingService.WhatIf, for the session's own accounts and with their view of trades."""
        session = await self._session(context)
        message = parsed(matching_service_pb2.WhatIfRequest, request)
        accounts = set(self._view().accounts_of_key(session.key_id))
        named = {batch.account for batch in message.batches}
        if not named <= accounts:
            raise errors.refused(
                reasons.DOOR_REASON_ACCOUNT_NOT_OF_KEY,
                f"accounts {sorted(named - accounts)} are not the session's; it may ask for {sorted(accounts)[:16]}",
            )
        if message.shard == CONTROL_SHARD or message.shard not in self._view().shards:
            raise _unknown_shard(message.shard)
        answer = matching_service_pb2.WhatIfResponse.FromString(
            await self._peers.call(
                MATCHER,
                message.shard,
                f"/{_MATCHING.full_name}/WhatIf",
                request,
                headers=self._identity(session),
                timeout_s=context.time_remaining(),
                is_safe=True,
            )
        )
        seen = matching_service_pb2.WhatIfResponse(events=answer.events).SerializeToString()
        # Of trades with others, the side of the account that asks stays.
        for account in sorted(named):
            seen = blank_trades(seen, 0, len(seen), account) if len(named) == 1 else seen
        position = matching_service_pb2.WhatIfResponse(position=answer.position).SerializeToString()
        return position + seen

    async def _to_market_data(self, _: str, __: bytes, context: Any) -> Target:
        return Target(MARKET_DATA, None, self._identity(await self._session(context)))

    def _for_everybody(self, _: str, __: bytes, context: Any) -> Target:
        self._admit(context)
        return Target(MARKET_DATA)

    # --- callers ----------------------------------------------------------------------------------------------------

    def _admit(self, context: Any) -> None:
        refusal = self._door.admit_address(caller_of(context).host, 1, time.monotonic())
        if refusal is not None:
            raise as_error(refusal)

    async def _session(self, context: Any) -> Opened:
        """Return the session of a call.

        Raises:
            errors.Refusal: TOO_FAST, SESSION_REQUIRED, or UNAVAILABLE.
        """
        self._admit(context)
        authorization = ""
        for name, value in context.invocation_metadata() or ():
            if name == "authorization" and isinstance(value, str):
                authorization = value
        session = self._sessions.session_of(self._view(), authorization, _now_ms())
        if isinstance(session, Refusal) and session.may_change:
            session = self._sessions.session_of(await self._caught_up(), authorization, _now_ms())
        if isinstance(session, Refusal):
            raise as_error(session)
        wait_s = self._session_rates.take(session.user, 1, time.monotonic())
        if wait_s:
            wait_ms = int(wait_s * 1000) + 1
            raise errors.refused(
                reasons.DOOR_REASON_TOO_FAST,
                f"the user reads more than {self._session_rates.per_second:g} times per second; ask again later",
                retry_after_ms=wait_ms,
            )
        return session

    def _identity(self, session: Opened) -> tuple[tuple[str, str], ...]:
        """Return the headers that say to other processes of ours who asks."""
        accounts = self._view().accounts_of_key(session.key_id)
        return (USER_HEADER, str(session.user)), (ACCOUNTS_HEADER, ",".join(map(str, accounts)))

    def _view(self) -> ControlView:
        return self._follower.view

    async def _caught_up(self) -> ControlView:
        refusal = await catch_up(self._follower)
        if refusal is not None:
            raise as_error(refusal)
        return self._view()

    # --- the end of sessions ----------------------------------------------------------------------------------------

    @contextmanager
    def _scope(self, session: Opened) -> Iterator[asyncio.Timeout]:
        """Give a timeout that runs out when the session ends, or sooner when its key is revoked."""
        scope = asyncio.timeout(max(0.0, session.valid_until_ms / 1000 - time.time()))
        scopes = self._scopes.setdefault(session.key_id, set())
        scopes.add(scope)
        try:
            yield scope
        finally:
            scopes.discard(scope)
            if not scopes:
                self._scopes.pop(session.key_id, None)

    def _look_for_revocations(self, frame: ExecutionFrame) -> None:
        for event in frame.events:
            if isinstance(event, KeyRevoked):
                self._end_streams(event.key_id)

    def _end_revoked(self, view: ControlView) -> None:
        for key_id in list(self._scopes):
            key = view.keys.get(key_id)
            if key is None or key.revoked:
                self._end_streams(key_id)

    def _end_streams(self, key_id: bytes) -> None:
        for scope in self._scopes.get(key_id, ()):
            scope.reschedule(asyncio.get_running_loop().time())


class Elsewhere:
    """Says where else funds are: asks market data, seldom, and remembers the answer for a moment."""

    def __init__(self, peers: Peers, view: Callable[[], ControlView]) -> None:
        self._peers = peers
        self._view = view
        self._rates = TokenBuckets(ELSEWHERE_PER_SECOND, ELSEWHERE_PER_SECOND)
        self._known: dict[int, tuple[float, account_service_pb2.GetBalancesResponse]] = {}

    async def of(self, account: int, asset: int, shard: int) -> list[order_service_pb2.FundsElsewhere]:
        """Return other shards than `shard` in which the account has free units of the asset."""
        balances = await self._balances(account)
        if balances is None:
            return []
        return [
            order_service_pb2.FundsElsewhere(
                account=account, asset=asset, shard=place.cursor.shard, free_units=balance.free_units
            )
            for place in balances.shards
            for balance in place.balances
            if balance.asset == asset and balance.free_units and place.cursor.shard != shard
        ]

    async def _balances(self, account: int) -> account_service_pb2.GetBalancesResponse | None:
        now_s = time.monotonic()
        known = self._known.get(account)
        if known is not None and now_s - known[0] < ELSEWHERE_AGE_S:
            return known[1]
        if self._rates.take("all", 1, now_s):
            return None
        user = self._view().user_of.get(account, 0)
        try:
            answer = await self._peers.call(
                MARKET_DATA,
                None,
                f"/{_ACCOUNTS.full_name}/GetBalances",
                account_service_pb2.GetBalancesRequest(account=account).SerializeToString(),
                headers=((USER_HEADER, str(user)), (ACCOUNTS_HEADER, str(account))),
                timeout_s=1,
                is_safe=True,
            )
        except errors.Refusal:
            return None
        if len(self._known) >= ELSEWHERE_KEPT_MAX:
            self._known.clear()
        balances = account_service_pb2.GetBalancesResponse.FromString(answer)
        self._known[account] = now_s, balances
        return balances


async def follow_settings(door: Door, peers: Peers) -> None:
    """Keep the door's longest validities up with what market data says of the shards; ends when it is cancelled."""
    while True:
        try:
            answer = await peers.call(
                MARKET_DATA, None, f"/{_MARKET_DATA.full_name}/GetExchange", b"", timeout_s=2, is_safe=True
            )
            exchange = market_data_service_pb2.GetExchangeResponse.FromString(answer)
            door.max_validity_ms = {
                shard.shard: shard.max_validity_ms for shard in exchange.shards if shard.max_validity_ms
            }
        except errors.Refusal:
            # Nobody knows how long is too long: the shards decide.
            door.max_validity_ms = {}
        await asyncio.sleep(SETTINGS_EVERY_S)


def _stream_response(tag: int, submit: bytes) -> bytes:
    head = b"\x08" + varint(tag) if tag else b""
    return head + b"\x12" + varint(len(submit)) + submit


def _unknown_shard(shard: int) -> errors.Refusal:
    return errors.refused(
        reasons.DOOR_REASON_UNKNOWN_SHARD, f"there is no shard {shard} that this can be asked of; GetExchange has all"
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
