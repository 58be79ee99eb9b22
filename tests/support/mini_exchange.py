"""A small exchange for tests of the client: real gRPC, real signatures, the reference engine, and faults on demand.

One process, no bus, no durability: every message is executed at once, one frame for each shard. The door checks what
ingress checks. It runs in threads of its own, so that tests with and without asyncio can use it.
"""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from clob.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    batch_pb2,
    door_reason_pb2,
    event_pb2,
    market_data_service_pb2,
    market_data_service_pb2_grpc,
    market_pb2,
    order_service_pb2,
    order_service_pb2_grpc,
    outcome_pb2,
    position_pb2,
    session_pb2,
    verification_service_pb2,
    verification_service_pb2_grpc,
    withdrawal_pb2,
)
from exchange.client.keys import PrivateKey
from exchange.domain.commands import Batch, SignedBatch
from exchange.domain.control import RegisterKey
from exchange.domain.events import (
    AccountOpened,
    BatchResult,
    Event,
    MarketDefined,
    MarketStateChanged,
    Trade,
    WithdrawalRequested,
)
from exchange.domain.markets import Asset, Market, MarketState
from exchange.domain.operations import (
    AllocationPolicy,
    DefineAsset,
    DefineMarket,
    DefineShard,
    Deposit,
    OperatorRole,
    SetMarketState,
)
from exchange.domain.rejects import RejectReason
from exchange.domain.signing import SignedKind, key_id_of, signed_bytes
from exchange.domain.state import KeyState
from exchange.engine.choice import engine_named
from exchange.local.control_venue import ControlVenue, carried_by, signed_link
from exchange.local.venue import Venue
from exchange.reference.signing import verify_one
from exchange.wire.errors import WireError
from exchange.wire.hashing import digest_of
from exchange.wire.messages import CODECS, decode

BTC, USD = 1, 2
BTC_USD = Market(
    market=1,
    shard=1,
    symbol="BTC-USD",
    base_asset=BTC,
    quote_asset=USD,
    base_units_per_lot=1,
    quote_units_per_tick_lot=10,
    band_low_ticks=50,
    band_high_ticks=200,
    taker_fee_ppm=1_000,
    state=MarketState.OPEN,
)
ETH_USD = Market(
    market=2,
    shard=2,
    symbol="ETH-USD",
    base_asset=3,
    quote_asset=USD,
    base_units_per_lot=1,
    quote_units_per_tick_lot=10,
    state=MarketState.OPEN,
)
SHARDS = (1, 2)
RICH = 10**9


@dataclass(frozen=True, slots=True)
class User:
    """A user with its first account and key."""

    user: int
    account: int
    key: PrivateKey


@dataclass(slots=True)
class _Executed:
    """An entry of a shard with its events."""

    n: int
    t_us: int
    events: tuple[Event, ...]


class MiniExchange:
    """An exchange with two shards and two markets.

    Attributes:
        address: host:port of the traders' port.
        faults: what happens to the next Submit calls or stream messages, one each:
            "lose answer": executed, and the connection breaks; "lose request": not executed, and the connection breaks;
            "unknown": executed, and answered UNKNOWN; "overloaded", "too fast": every batch refused, with a time to
            come again; "draining", "unavailable": the call fails so; "sequenced": executed, and answered SEQUENCED;
            "hang": executed, and not answered; "reject": the call fails with INVALID_FIELD; "refuse": every batch
            refused for good.
        submits: number of Submit calls and stream messages.
        skip_deltas: number of book changes that are not told.
        clock_offset_us: how far its clock is off.
    """

    def __init__(self, environment: str = "mini-1") -> None:
        self.environment = environment
        self.faults: deque[str] = deque()
        self.submits = 0
        self.skip_deltas = 0
        self.clock_offset_us = 0
        self._changed = threading.Condition(threading.RLock())
        self._stopping = False
        self._generation = 0
        self.control = ControlVenue(environment=environment)
        self.venues = {
            shard: Venue(engine_named("reference"), environment=environment, shard=shard, signed=False)
            for shard in SHARDS
        }
        self._logs: dict[int, list[_Executed]] = {shard: [] for shard in (0, *SHARDS)}
        self._seqs: dict[tuple[int, int], int] = {}
        self._market_seqs: dict[int, int] = {}
        self._deltas: list[tuple[int, Any]] = []
        self._seen: dict[int, tuple[set[int], set[int]]] = {}
        self._trades: list[Any] = []
        self._placed: dict[tuple[bytes, int, int], tuple[bytes, int, int]] = {}
        self._challenges: set[bytes] = set()
        self._sessions: dict[str, KeyState] = {}
        self._server: grpc.Server | None = None
        self.address = ""
        with self._changed:
            self._open()

    # --- running ----------------------------------------------------------------------------------------------------

    def start(self, address: str = "127.0.0.1:0") -> None:
        """Serve; after `stop`, under the same address."""
        self._stopping = False
        self._server = grpc.server(ThreadPoolExecutor(64))
        order_service_pb2_grpc.add_OrderServiceServicer_to_server(_Orders(self), self._server)
        account_service_pb2_grpc.add_AccountServiceServicer_to_server(_Accounts(self), self._server)
        market_data_service_pb2_grpc.add_MarketDataServiceServicer_to_server(_MarketData(self), self._server)
        verification_service_pb2_grpc.add_VerificationServiceServicer_to_server(_Verification(self), self._server)
        port = self._server.add_insecure_port(self.address or address)
        self.address = self.address or f"127.0.0.1:{port}"
        self._server.start()

    def stop(self) -> None:
        """End all calls and stop serving."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        assert self._server is not None
        self._server.stop(None).wait()

    def break_streams(self) -> None:
        """End every stream of executions, trades and books as a broken connection does."""
        with self._changed:
            self._generation += 1
            self._changed.notify_all()

    def end_sessions(self) -> None:
        """Forget every session."""
        with self._changed:
            self._sessions.clear()

    # --- users and markets ------------------------------------------------------------------------------------------

    def new_user(self, *, funds: bool = True) -> User:
        """Return a user; with funds, RICH units of every asset in every trading shard."""
        with self._changed:
            key = PrivateKey.generate()
            self._stamp()
            events = self._control(self.control.ask(RegisterKey(key.registration(self.environment))))
            opened = next(event for event in events if isinstance(event, AccountOpened))
            if funds:
                for asset in (BTC, USD, 3):
                    for shard in SHARDS:
                        self.deposit(opened.account, asset, RICH, shard)
            return User(opened.user, opened.account, key)

    def deposit(self, account: int, asset: int, amount_units: int, shard: int = 0) -> None:
        """Credit an account in a shard, or in the treasury."""
        policy = AllocationPolicy.ONE_SHARD if shard else AllocationPolicy.NONE
        with self._changed:
            self._stamp()
            action = Deposit(account, asset, amount_units, policy, shard)
            self._control(self.control.operate(OperatorRole.TREASURY, action))

    def define_market(self, market: Market) -> None:
        """Open a market."""
        with self._changed:
            self._stamp()
            self._control(self.control.operate(OperatorRole.MARKET, DefineMarket(market)))
            self._take(market.shard, self.venues[market.shard].define_markets(market))

    def set_state(self, market: Market, state: MarketState) -> None:
        """Change the state of a market."""
        with self._changed:
            self._stamp()
            action = SetMarketState(market.market, state)
            self._take(market.shard, self.venues[market.shard].operate(OperatorRole.MARKET, action))

    def _open(self) -> None:
        self._stamp()
        assets = (Asset(BTC, "BTC", 8), Asset(USD, "USD", 2), Asset(3, "ETH", 8))
        shards = [DefineShard(shard, f"s{shard}") for shard in SHARDS]
        self._control(self.control.operate(OperatorRole.MARKET, *map(DefineAsset, assets), *shards))
        for market in (BTC_USD, ETH_USD):
            self.define_market(market)

    # --- logs -------------------------------------------------------------------------------------------------------

    def now_us(self) -> int:
        """The exchange's clock."""
        return time.time_ns() // 1000 + self.clock_offset_us

    def _stamp(self) -> None:
        """Give the next entries their time."""
        self.control.now_us = max(self.control.now_us, self.now_us())
        for venue in self.venues.values():
            venue.now_us = max(venue.now_us, self.now_us())

    def _control(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        """Take what happened in shard 0, and carry what it sent."""
        n = self._take(0, events)
        for link in carried_by(events, 0, n):
            venue = self.venues[link.to_shard]
            self._take(link.to_shard, venue.enter(links=(signed_link(self.environment, link),)))
        return events

    def _take(self, shard: int, events: tuple[Event, ...]) -> int:
        """Keep what happened in an entry; return its position."""
        venue = self.venues[shard] if shard else self.control
        n = venue.engine.position
        self._logs[shard].append(_Executed(n, venue.now_us, events))
        touched: dict[int, int] = {}
        for event in events:
            for account, seq in _seqs(event):
                self._seqs[shard, account] = max(seq, self._seqs.get((shard, account), 0))
            market = event.market.market if isinstance(event, MarketDefined) else getattr(event, "market", 0)
            market_seq = getattr(event, "market_seq", 0)
            if shard and market_seq:
                touched.setdefault(market, self._market_seqs.get(market, 0))
                self._market_seqs[market] = market_seq
            if isinstance(event, Trade):
                self._trades.append(_public(event, venue.now_us))
        for market, before in touched.items():
            self._deltas.append((market, self._delta(market, before, venue.now_us)))
        self._changed.notify_all()
        return n

    def _delta(self, market: int, before: int, t_us: int) -> Any:
        """Return a change that names every level as it is now, those that are gone too: all prices ever seen."""
        book = self.book(market, 1_000_000)
        delta = market_data_service_pb2.BookDelta(
            market=market,
            previous_market_seq=before,
            market_seq=self._market_seqs[market],
            t_us=t_us,
            state=book.state,
            last_price_ticks=book.last_price_ticks,
        )
        seen = self._seen.setdefault(market, (set(), set()))
        for levels, now, prices in ((delta.bids, book.bids, seen[0]), (delta.asks, book.asks, seen[1])):
            levels.extend(now)
            there = {level.price_ticks for level in now}
            levels.extend(market_data_service_pb2.PriceLevel(price_ticks=price) for price in prices - there)
            prices |= there
        return delta

    def market(self, number: int) -> Market | None:
        """Return a market with its listing in shard 0."""
        return next((market for market in self.control.state.markets if market.market == number), None)

    def book(self, market: int, levels_max: int) -> Any:
        """Return a BookSnapshot."""
        listed = self.market(market)
        assert listed is not None
        bids, asks = self.venues[listed.shard].engine.depth(market, levels_max)
        log = self._logs[listed.shard]
        states = [
            event.state
            for entry in log
            for event in entry.events
            if isinstance(event, MarketStateChanged) and event.market == market
        ]
        prices = [trade.price_ticks for trade in self._trades if trade.market == market]
        return market_data_service_pb2.BookSnapshot(
            market=market,
            market_seq=self._market_seqs.get(market, 0),
            t_us=log[-1].t_us,
            state=cast(Any, states[-1] if states else listed.state),
            last_price_ticks=prices[-1] if prices else 0,
            bids=[_level(level.price_ticks, level.quantity_lots) for level in bids],
            asks=[_level(level.price_ticks, level.quantity_lots) for level in asks],
        )

    # --- orders -----------------------------------------------------------------------------------------------------

    def submit(self, request: Any, context: Any) -> Any:
        """Answer a SubmitRequest, with the next fault."""
        with self._changed:
            self.submits += 1
            fault = self.faults.popleft() if self.faults else ""
        if fault == "lose request":
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
        if fault in {"draining", "unavailable"}:
            fail(context, grpc.StatusCode.UNAVAILABLE, fault.upper(), "send it again", retry_after_ms=10)
        if fault == "reject":
            fail(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "wait: 9 is no WaitLevel")
        if request.environment not in {"", self.environment}:
            fail(context, grpc.StatusCode.INVALID_ARGUMENT, "WRONG_ENVIRONMENT", f"this is {self.environment}")
        response = order_service_pb2.SubmitResponse(durability=outcome_pb2.DURABILITY_MEMORY)
        if fault in {"overloaded", "too fast", "refuse"}:
            reason, wait_ms = {
                "overloaded": (door_reason_pb2.DOOR_REASON_OVERLOADED, 10),
                "too fast": (door_reason_pb2.DOOR_REASON_TOO_FAST, 10),
                "refuse": (door_reason_pb2.DOOR_REASON_BAD_KEY_OR_SIGNATURE, 0),
            }[fault]
            for batch in request.batches:
                valid_until_ms = batch_pb2.Batch.FromString(batch.payload).valid_until_ms
                response.outcomes.append(_refused(reason, "a fault", valid_until_ms, wait_ms))
            return response
        with self._changed:
            self._execute(request, response)
        if fault == "lose answer":
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
        if fault == "hang":
            while context.is_active() and not self._stopping:
                time.sleep(0.01)
        if fault in {"unknown", "sequenced"}:
            state = outcome_pb2.SEND_STATE_UNKNOWN if fault == "unknown" else outcome_pb2.SEND_STATE_SEQUENCED
            for index in range(len(response.outcomes)):
                response.outcomes[index].CopyFrom(outcome_pb2.BatchOutcome(state=state))
        return response

    def _execute(self, request: Any, response: Any) -> None:
        """Check batches, execute what may be, in one frame for each shard, and fill in the response."""
        received_us = self.now_us()
        self._stamp()
        outcomes: list[Any] = []
        waiting: dict[int, list[tuple[int, SignedBatch, Batch]]] = {}
        for index, message in enumerate(request.batches):
            signed = SignedBatch(message.key_id, message.payload, message.signature)
            refusal, batch = self.judge(signed)
            outcomes.append(refusal)
            if refusal is None and batch is not None:
                waiting.setdefault(batch.shard, []).append((index, signed, batch))
        verified_us = self.now_us()
        for shard, parts in waiting.items():
            venue = self.venues[shard] if shard else self.control
            signed_batches = tuple(signed for _, signed, _ in parts)
            if shard:
                events = self.venues[shard].enter(*signed_batches)
                for link in carried_by(events, shard, self._take(shard, events)):
                    self._take(0, self.control.enter(links=(signed_link(self.environment, link),)))
            else:
                events = self._control(self.control.enter(batches=signed_batches))
            n = venue.engine.position if shard else self._logs[0][-1].n
            for place, (index, signed, batch) in enumerate(parts, 1):
                outcomes[index] = self._outcome(shard, n, place, signed, batch)
            if request.with_stages:
                response.stages.append(
                    order_service_pb2.EntryStages(
                        shard=shard,
                        n=n,
                        received_us=received_us,
                        verified_us=verified_us,
                        framed_us=verified_us,
                        sequenced_us=self.now_us(),
                        taken_us=self.now_us(),
                        executed_us=self.now_us(),
                        durable_us=self.now_us(),
                        answered_us=self.now_us(),
                    )
                )
        response.outcomes.extend(outcomes)
        for outcome in outcomes:
            for wrapped in outcome.events:
                if wrapped.HasField("command_rejected"):
                    response.explanations.append(
                        outcome_pb2.Explanation(reason=wrapped.command_rejected.reason, text="a rule was broken")
                    )

    def judge(self, signed: SignedBatch) -> tuple[Any, Batch | None]:
        """Return the door's refusal, or None, and the batch."""
        try:
            batch = decode(Batch, signed.payload)
        except WireError as error:
            return _refused(door_reason_pb2.DOOR_REASON_MALFORMED, str(error), 0, 0), None
        key = self._key(signed.key_id)
        covered = signed_bytes(SignedKind.BATCH, self.environment, signed.payload)
        until = batch.valid_until_ms
        if key is None or key.revoked or not verify_one(key.public_key, covered, signed.signature):
            return _refused(door_reason_pb2.DOOR_REASON_BAD_KEY_OR_SIGNATURE, "check it", until, 0), batch
        if batch.account not in self.accounts_of(key):
            return _refused(door_reason_pb2.DOOR_REASON_ACCOUNT_NOT_OF_KEY, "not yours", until, 0), batch
        if batch.shard not in {0, *SHARDS}:
            return _refused(door_reason_pb2.DOOR_REASON_UNKNOWN_SHARD, "no such shard", until, 0), batch
        if self.now_us() // 1000 >= until:
            return _refused(door_reason_pb2.DOOR_REASON_BATCH_EXPIRED, "too late", 0, 0), batch
        return None, batch

    def _outcome(self, shard: int, n: int, place: int, signed: SignedBatch, batch: Batch) -> Any:
        """Return what became of a batch of an entry, or of the entry that it repeats."""
        events = self._batch_events(shard, n, place)
        judged = cast(BatchResult, events[0])
        name = (signed.key_id, shard, batch.nonce)
        repeated = bool(judged.repeat_n)
        if repeated:
            n, place = judged.repeat_n, judged.repeat_batch
            events = self._batch_events(shard, n, place)
        outcome: Any = outcome_pb2.BatchOutcome(n=n, batch=place, t_us=self._entry(shard, n).t_us, repeated=repeated)
        if judged.reason:
            outcome.state = outcome_pb2.SEND_STATE_REFUSED
            outcome.reject_reason = judged.reason
            outcome.detail = RejectReason(judged.reason).name
        else:
            outcome.state = outcome_pb2.SEND_STATE_EXECUTED
            self._placed[name] = (digest_of(signed.payload), n, place)
        outcome.events.extend(_as_message(event, batch.account) for event in events)
        return outcome

    def _batch_events(self, shard: int, n: int, place: int) -> list[Event]:
        found: list[Event] = []
        inside = False
        for event in self._entry(shard, n).events:
            if isinstance(event, BatchResult):
                inside = event.batch == place
            if inside:
                found.append(event)
        return found

    def _entry(self, shard: int, n: int) -> _Executed:
        return next(entry for entry in self._logs[shard] if entry.n == n)

    def get_outcome(self, request: Any, context: Any) -> Any:
        """Answer a GetOutcomeRequest."""
        with self._changed:
            self.session(context)
            response = order_service_pb2.GetOutcomeResponse()
            placed = self._placed.get((request.key_id, request.shard, request.nonce))
            if placed is not None:
                digest, n, place = placed
                key = self._key(request.key_id)
                assert key is not None
                outcome = outcome_pb2.BatchOutcome(
                    state=outcome_pb2.SEND_STATE_EXECUTED, n=n, batch=place, t_us=self._entry(request.shard, n).t_us
                )
                events = self._batch_events(request.shard, n, place)
                account = next((owner for event in events for owner, _ in _seqs(event)), 0)
                outcome.events.extend(_as_message(event, account) for event in events)
                response.state = order_service_pb2.OUTCOME_STATE_EXECUTED
                response.outcome.CopyFrom(outcome)
                response.payload_digest = digest
            elif self.now_us() // 1000 >= request.valid_until_ms:
                response.state = order_service_pb2.OUTCOME_STATE_NEVER
            else:
                response.state = order_service_pb2.OUTCOME_STATE_PENDING
                response.executable_until_ms = request.valid_until_ms
            return response

    # --- sessions ---------------------------------------------------------------------------------------------------

    def _key(self, key_id: bytes) -> KeyState | None:
        return next((key for key in self.control.state.keys if key.key_id == key_id), None)

    def accounts_of(self, key: KeyState) -> tuple[int, ...]:
        """Return the accounts that a key may act for."""
        if key.account:
            return (key.account,)
        return next(user.accounts for user in self.control.state.users if user.user == key.user)

    def session(self, context: Any) -> KeyState:
        """Return the key of the call's session."""
        header = dict(context.invocation_metadata()).get("authorization", "")
        key = self._sessions.get(header.removeprefix("Bearer "))
        if key is None:
            fail(context, grpc.StatusCode.UNAUTHENTICATED, "SESSION_REQUIRED", "open another")
        return key

    def account(self, context: Any, account: int) -> int:
        """Return the account that a call is about."""
        accounts = self.accounts_of(self.session(context))
        if account not in accounts:
            fail(context, grpc.StatusCode.PERMISSION_DENIED, "ACCOUNT_NOT_OF_KEY", "not yours")
        return account

    def follow(self, context: Any, step: Callable[[], list[Any]]) -> Iterator[Any]:
        """Yield what a step finds, whenever something has changed, until the connection breaks."""
        with self._changed:
            generation = self._generation
        while True:
            with self._changed:
                found = step()
                while not found and generation == self._generation and not self._stopping and context.is_active():
                    self._changed.wait(0.05)
                    found = step()
            if not context.is_active():
                return
            yield from found
            if generation != self._generation or self._stopping:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")


class _Orders(order_service_pb2_grpc.OrderServiceServicer):
    def __init__(self, exchange: MiniExchange) -> None:
        self._exchange = exchange

    def Submit(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        return self._exchange.submit(request, context)

    def SubmitStream(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        for request in request_iterator:
            submit = self._exchange.submit(request.submit, context)
            yield order_service_pb2.SubmitStreamResponse(tag=request.tag, submit=submit)

    def GetOutcome(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        return self._exchange.get_outcome(request, context)


class _Verification(verification_service_pb2_grpc.VerificationServiceServicer):
    def __init__(self, exchange: MiniExchange) -> None:
        self._exchange = exchange

    def Verify(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        self._exchange.session(context)
        response = verification_service_pb2.VerifyResponse()
        for message in request.batches:
            refusal, batch = self._exchange.judge(SignedBatch(message.key_id, message.payload, message.signature))
            verdict = response.verdicts.add()
            if refusal is not None:
                verdict.door_reason = refusal.door_reason
                verdict.detail = refusal.detail
            elif batch is not None:
                verdict.account, verdict.shard, verdict.commands = batch.account, batch.shard, len(batch.commands)
        return response


class _Accounts(account_service_pb2_grpc.AccountServiceServicer):
    def __init__(self, exchange: MiniExchange) -> None:
        self._exchange = exchange

    def CreateChallenge(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        challenge = secrets.token_bytes(16)
        self._exchange._challenges.add(challenge)
        return account_service_pb2.CreateChallengeResponse(
            challenge=challenge, environment=self._exchange.environment, valid_until_ms=2**50
        )

    def OpenSession(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        exchange, signed = self._exchange, request.session
        session = session_pb2.Session.FromString(signed.payload)
        covered = signed_bytes(SignedKind.SESSION, exchange.environment, signed.payload)
        key = exchange._key(signed.key_id)
        if session.challenge not in exchange._challenges:
            fail(context, grpc.StatusCode.UNAUTHENTICATED, "CHALLENGE_REFUSED", "ask for another")
        exchange._challenges.remove(session.challenge)
        if key is None or not verify_one(key.public_key, covered, signed.signature):
            fail(context, grpc.StatusCode.UNAUTHENTICATED, "BAD_KEY_OR_SIGNATURE", "check key and environment")
        assert key_id_of(key.public_key) == signed.key_id
        token = secrets.token_hex(8)
        exchange._sessions[token] = key
        return account_service_pb2.OpenSessionResponse(
            token=token, valid_until_ms=session.valid_until_ms, user=key.user, accounts=exchange.accounts_of(key)
        )

    def GetBalances(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        exchange = self._exchange
        with exchange._changed:
            account = exchange.account(context, request.account)
            response = account_service_pb2.GetBalancesResponse(account=account)
            treasury = next((one for one in exchange.control.state.treasury if one.account == account), None)
            self._shard(response, 0, account)
            for held in treasury.balances if treasury else ():
                response.shards[0].balances.add(asset=held.asset, free_units=held.amount_units)
            for shard in SHARDS:
                part = self._shard(response, shard, account)
                for asset, (free, locked) in exchange.venues[shard].engine.balances(account).items():
                    part.balances.add(asset=asset, free_units=free, locked_units=locked)
            for asked in exchange.control.state.withdrawals:
                response.withdrawals.add(
                    withdrawal=asked.withdrawal,
                    account=asked.account,
                    asset=asked.asset,
                    amount_units=asked.amount_units,
                    destination=asked.destination,
                )
            return response

    def _shard(self, response: Any, shard: int, account: int) -> Any:
        part = response.shards.add(account_seq=self._exchange._seqs.get((shard, account), 0))
        part.cursor.shard, part.cursor.n = shard, self._exchange._logs[shard][-1].n
        return part

    def ListOpenOrders(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        exchange = self._exchange
        with exchange._changed:
            account = exchange.account(context, request.account)
            response = account_service_pb2.ListOpenOrdersResponse()
            orders = [
                (shard, order)
                for shard in SHARDS
                for order in exchange.venues[shard].engine.open_orders(account)
                if request.market in {0, order.market}
            ]
            start = int(request.page_token or 0)
            for shard, order in orders[start : start + 2]:
                one: Any = response.orders.add(shard=shard, market=order.market)
                one.side = order.side
                one.order.order_id = order.order_id
                one.order.client_order_id = order.client_order_id
                one.order.account = account
                one.order.price_ticks = order.price_ticks
                one.order.open_lots = order.open_lots
                one.order.filled_lots = order.filled_lots
            if start + 2 < len(orders):
                response.next_page_token = str(start + 2)
            for shard in SHARDS:
                response.cursors.add(shard=shard, n=exchange._logs[shard][-1].n)
            return response

    def StreamExecutions(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        exchange = self._exchange
        with exchange._changed:
            account = exchange.account(context, request.account)
            given = {cursor.shard: (cursor.n, cursor.event) for cursor in request.cursors}
            read = {shard: given.get(shard, (exchange._logs[shard][-1].n, 0)) for shard in (0, *SHARDS)}
        for shard, (n, place) in read.items():
            cursor = position_pb2.Cursor(shard=shard, n=n, event=place)
            yield account_service_pb2.StreamExecutionsResponse(cursor=cursor)

        def step() -> list[Any]:
            found: list[Any] = []
            for shard, log in exchange._logs.items():
                for entry in log:
                    n, place = read[shard]
                    if entry.n < n or (entry.n == n and not place):
                        continue
                    unread = entry.events[place:] if entry.n == n else entry.events
                    read[shard] = entry.n, 0
                    own = [event for event in unread if any(owner == account for owner, _ in _seqs(event))]
                    # An entry is told in two messages, so that cursors stand inside of entries, too.
                    half = len(own) // 2
                    if half:
                        place = 1 + entry.events.index(own[half - 1])
                        found.append(_told(shard, entry, own[:half], account, place))
                    found.append(_told(shard, entry, own[half:], account, 0))
            return found

        yield from exchange.follow(context, step)

    def ListAccountWithdrawals(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        exchange = self._exchange
        with exchange._changed:
            account = exchange.account(context, request.account)
            response = account_service_pb2.ListAccountWithdrawalsResponse()
            for entry in reversed(exchange._logs[0]):
                for event in entry.events:
                    if isinstance(event, WithdrawalRequested) and event.account == account:
                        one = response.withdrawals.add(
                            state=withdrawal_pb2.WITHDRAWAL_STATE_OPEN, requested_n=entry.n, requested_us=entry.t_us
                        )
                        one.request.withdrawal = event.withdrawal
                        one.request.asset = event.asset
                        one.request.amount_units = event.amount_units
                        one.request.destination = event.destination
            return response


class _MarketData(market_data_service_pb2_grpc.MarketDataServiceServicer):
    def __init__(self, exchange: MiniExchange) -> None:
        self._exchange = exchange

    def GetExchange(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        return market_data_service_pb2.GetExchangeResponse(
            environment=self._exchange.environment,
            durability=outcome_pb2.DURABILITY_MEMORY,
            server_time_us=self._exchange.now_us(),
            shards=[market_data_service_pb2.ShardInfo(shard=shard, max_validity_ms=60_000) for shard in (0, *SHARDS)],
            version="mini",
        )

    def ListAssets(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        assets = [
            market_pb2.Asset(asset=one.asset, symbol=one.symbol, decimals=one.decimals)
            for one in self._exchange.control.state.assets
        ]
        return market_data_service_pb2.ListAssetsResponse(assets=assets)

    def ListMarkets(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        listed = [
            market
            for market in self._exchange.control.state.markets
            if request.shard in {0, market.shard} and request.symbol in {"", market.symbol}
        ]
        start = int(request.page_token or 0)
        response = market_data_service_pb2.ListMarketsResponse()
        for market in listed[start : start + 1]:
            message: Any = market_pb2.Market.FromString(bytes(CODECS["Market"].encode(market)))
            message.state = self._exchange.book(market.market, 1).state
            response.markets.append(message)
        if start + 1 < len(listed):
            response.next_page_token = str(start + 1)
        return response

    def GetBook(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        with self._exchange._changed:
            book = self._exchange.book(request.market, request.levels_max or 20)
        return market_data_service_pb2.GetBookResponse(book=book)

    def StreamBook(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        exchange = self._exchange
        with exchange._changed:
            read = len(exchange._deltas)
            books = [exchange.book(market, 1_000_000) for market in request.markets]
        for book in books:
            # Every snapshot comes in two parts.
            first = market_data_service_pb2.BookSnapshot.FromString(book.SerializeToString())
            del first.asks[:]
            first.more = True
            del book.bids[:]
            yield market_data_service_pb2.StreamBookResponse(snapshots=[first])
            yield market_data_service_pb2.StreamBookResponse(snapshots=[book])

        def step() -> list[Any]:
            nonlocal read
            found = []
            for market, delta in exchange._deltas[read:]:
                if market in request.markets and exchange.skip_deltas:
                    exchange.skip_deltas -= 1
                elif market in request.markets:
                    found.append(market_data_service_pb2.StreamBookResponse(deltas=[delta]))
            read = len(exchange._deltas)
            return found

        yield from exchange.follow(context, step)

    def ListTrades(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        trades = [trade for trade in reversed(self._exchange._trades) if trade.market == request.market]
        return market_data_service_pb2.ListTradesResponse(
            trades=trades[: request.trades_max or 100], market_seq=self._exchange._market_seqs.get(request.market, 0)
        )

    def StreamTrades(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        exchange = self._exchange
        with exchange._changed:
            read = {
                cursor.market: cursor.after_market_seq or exchange._market_seqs.get(cursor.market, 0)
                for cursor in request.cursors
            }
        yield market_data_service_pb2.StreamTradesResponse(
            cursors=[
                market_data_service_pb2.TradeCursor(market=market, after_market_seq=seq) for market, seq in read.items()
            ]
        )

        def step() -> list[Any]:
            fresh = [trade for trade in exchange._trades if trade.market_seq > read.get(trade.market, 2**63)]
            for trade in fresh:
                read[trade.market] = trade.market_seq
            return [market_data_service_pb2.StreamTradesResponse(trades=[trade]) for trade in fresh]

        yield from exchange.follow(context, step)


@contextmanager
def running_exchange(environment: str = "mini-1") -> Iterator[MiniExchange]:
    """Serve an exchange while the block runs."""
    exchange = MiniExchange(environment)
    exchange.start()
    try:
        yield exchange
    finally:
        exchange.stop()


def fail(
    context: Any, code: grpc.StatusCode, reason: str, detail: str, *, retry_after_ms: int | None = None
) -> NoReturn:
    """End a call as the services do: one ErrorInfo, and RetryInfo where coming again helps."""
    status = status_pb2.Status(code=getattr(code_pb2, code.name), message=f"{reason}: {detail}")
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=reason, domain="clob.v1")]
    if retry_after_ms is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(retry_after_ms)
        details.append(retry)
    for one in details:
        packed = Packed()
        packed.Pack(one)
        status.details.append(packed)
    context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort raises")


def _refused(reason: int, detail: str, valid_until_ms: int, wait_ms: int) -> Any:
    outcome: Any = outcome_pb2.BatchOutcome(
        state=outcome_pb2.SEND_STATE_REFUSED,
        executable_until_ms=valid_until_ms,
        retry_after_ms=wait_ms,
        detail=detail,
    )
    outcome.door_reason = reason
    return outcome


def _seqs(event: Event) -> Sequence[tuple[int, int]]:
    """Return the accounts that an event is about, with their sequence numbers."""
    if isinstance(event, Trade):
        return ((event.maker_account, event.maker_account_seq), (event.taker_account, event.taker_account_seq))
    account, seq = getattr(event, "account", 0), getattr(event, "account_seq", 0)
    return ((account, seq),) if account and seq else ()


def _as_message(event: Event, account: int) -> Any:
    """Return an event as one account may see it."""
    message: Any = event_pb2.Event.FromString(bytes(CODECS["Event"].encode(event)))
    if isinstance(event, Trade):
        for role in ("maker", "taker"):
            if getattr(event, f"{role}_account") != account:
                for name in ("account", "order_id", "account_seq", "fee_quote_units"):
                    message.trade.ClearField(f"{role}_{name}")
    return message


def _told(shard: int, entry: _Executed, events: Sequence[Event], account: int, place: int) -> Any:
    return account_service_pb2.StreamExecutionsResponse(
        cursor=position_pb2.Cursor(shard=shard, n=entry.n, event=place),
        t_us=entry.t_us,
        events=[_as_message(event, account) for event in events],
    )


def _public(trade: Trade, t_us: int) -> Any:
    return market_data_service_pb2.PublicTrade(
        market=trade.market,
        market_seq=trade.market_seq,
        trade_id=trade.trade_id,
        price_ticks=trade.price_ticks,
        quantity_lots=trade.quantity_lots,
        taker_side=cast(Any, trade.taker_side),
        t_us=t_us,
    )


def _level(price_ticks: int, quantity_lots: int) -> Any:
    return market_data_service_pb2.PriceLevel(price_ticks=price_ticks, quantity_lots=quantity_lots, orders=1)
