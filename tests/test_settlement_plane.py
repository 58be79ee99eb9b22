"""The settlement plane as a process: operators' calls, money that crosses shards, kill and restart, a lossy bus."""

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from clob.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    matching_service_pb2,
    matching_service_pb2_grpc,
    operation_pb2,
    order_service_pb2,
    order_service_pb2_grpc,
    outcome_pb2,
    position_pb2,
    settlement_service_pb2,
    settlement_service_pb2_grpc,
)
from exchange.bus.client import Bus
from exchange.bus.entries import Head
from exchange.bus.keys import BusKeys, seal
from exchange.config.environment import Durability
from exchange.domain.commands import Batch, Command, PlaceOrder, ReleaseFunds, Side, SignedBatch
from exchange.domain.frames import FORMAT, OrderFrame
from exchange.domain.limits import INGRESS_BYTES
from exchange.domain.signing import SignedKind, key_id_of, parse_private_key, signed_bytes
from exchange.embedded.child import Child, service
from exchange.embedded.data_dir import DataDir, open_data_dir
from exchange.engine.reference import ReferenceFactory
from exchange.execution.checkpoints import CheckpointStore
from exchange.execution.loop import ShardLoop
from exchange.execution.stops import LoopStop
from exchange.reference.signing import public_key_of, sign
from exchange.serving.errors import reason_of, status_of_error
from exchange.wire.messages import encode
from tests.support.servers import BusServer

CALL_S = 20
ENVIRONMENT = "plane-test"
USD, BTC = 1, 2


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    return open_data_dir(tmp_path / "data", environment=ENVIRONMENT, durability=Durability.MEMORY)


class Matchers:
    """Loops of trading shards in threads of the test, where market-matcher would be processes."""

    def __init__(self, data: DataDir, address: str, shards: int = 2) -> None:
        self._stop = threading.Event()
        self._buses: list[Bus] = []
        self._threads: list[threading.Thread] = []
        keys = BusKeys.load(data.bus_keys)
        for shard in range(1, shards + 1):
            bus = Bus.connect(address)
            loop = ShardLoop(
                bus,
                f"s{shard}",
                data.environment.genesis(shard),
                ReferenceFactory(),
                CheckpointStore(data.checkpoints),
                keys,
                keys.named("matcher"),
            )
            thread = threading.Thread(target=self._run, args=(loop,), daemon=True)
            thread.start()
            self._buses.append(bus)
            self._threads.append(thread)

    def _run(self, loop: ShardLoop[Any]) -> None:
        with contextlib.suppress(LoopStop):
            loop.run(self._stop)

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(CALL_S)
        for bus in self._buses:
            bus.close()


class Plane:
    """A settlement-plane process with clients of its own port.

    Attributes:
        child: the process.
    """

    def __init__(self, data: DataDir, address: str, *more: str) -> None:
        self.data = data
        self.address = address
        self.bus = Bus.connect(address)
        arguments = [
            *("--environment-file", str(data.environment_file), "--checkpoints", str(data.checkpoints)),
            *("--bus-keys", str(data.bus_keys), "--bus-key-name", "settlement", "--listen", "127.0.0.1:0"),
            *("--operator-keys", str(data.keys), "--database", str(data.database), "--archive", str(data.archive)),
            *("--shards", "2", "--approval-wait-ms", "100", "--log-level", "info", *more),
        ]
        log = data.logs / "plane.log"
        self.child: Child = service("plane", "exchange.settlement.plane", arguments, log, {"REDIS_ADDR": address})
        self._channel: grpc.aio.Channel | None = None

    async def start(self) -> None:
        await self.child.start()
        try:
            await self.child.wait_ready(CALL_S)
        except Exception:
            await self.child.kill()
            raise
        self._channel = grpc.aio.insecure_channel(self.child.ready["address"])
        self.admin = admin_service_pb2_grpc.AdminServiceStub(self._channel)
        self.settlement = settlement_service_pb2_grpc.SettlementServiceStub(self._channel)
        self.matching = matching_service_pb2_grpc.MatchingServiceStub(self._channel)
        self.orders = order_service_pb2_grpc.OrderServiceStub(self._channel)

    async def end(self, *, kill: bool = False) -> None:
        if self._channel is not None:
            await self._channel.close()
            self._channel = None
        if kill:
            await self.child.kill()
        else:
            assert await self.child.stop() == 0, self.child.last_words()

    def head(self, shard: int) -> Head:
        head = self.bus.head(f"s{shard}")
        assert head is not None
        return head

    async def eventually(self, holds: Callable[[], Awaitable[object]], what: str) -> None:
        async with asyncio.timeout(CALL_S):
            while not await holds():
                self.child.check_running()
                await asyncio.sleep(0.02)
        assert what

    # --- what operators do ---

    async def open_exchange(self) -> None:
        """Define two assets and a market in shard 1."""
        request = admin_service_pb2.DefineAssetsRequest(request_id=secrets.token_bytes(16))
        request.assets.add(asset=USD, symbol="USD", decimals=2)
        request.assets.add(asset=BTC, symbol="BTC", decimals=8)
        await self.admin.DefineAssets(request, timeout=CALL_S)
        markets = admin_service_pb2.CreateMarketsRequest(request_id=secrets.token_bytes(16))
        markets.markets.add(
            shard=1, symbol="BTC-USD", base_asset=BTC, quote_asset=USD, base_units_per_lot=1, quote_units_per_tick_lot=1
        )
        created = await self.admin.CreateMarkets(markets, timeout=CALL_S)
        assert [one.reason for one in created.results] == [0]

    async def new_trader(self, units: int = 1_000) -> "Trader":
        """Return a user with so many units of both assets in each shard."""
        user = await self.admin.CreateUser(admin_service_pb2.CreateUserRequest(), timeout=CALL_S)
        request = admin_service_pb2.DepositRequest(request_id=secrets.token_bytes(16))
        for asset in (USD, BTC):
            request.deposits.add(
                account=user.account_id,
                asset=asset,
                amount_units=2 * units,
                allocate=operation_pb2.ALLOCATION_POLICY_EVEN,
            )
        deposited = await self.admin.Deposit(request, timeout=CALL_S)
        assert deposited.arrived
        return Trader(self, user.account_id, parse_private_key(user.private_key), user.user_id)

    async def settle(self) -> Any:
        return await self.settlement.Settle(settlement_service_pb2.SettleRequest(), timeout=CALL_S)

    async def audit(self) -> Any:
        await self.settle()
        return await self.settlement.Audit(settlement_service_pb2.AuditRequest(), timeout=CALL_S)


class Trader:
    """A user who writes to the bus as an ingress would."""

    def __init__(self, plane: Plane, account: int, seed: bytes, user: int) -> None:
        self.account = account
        self.user = user
        self.key_id = key_id_of(public_key_of(seed))
        self._plane = plane
        self._seed = seed
        self._ingress = secrets.token_bytes(INGRESS_BYTES)
        self._counters: dict[int, int] = {}

    def batch(self, shard: int, *commands: Command, nonce: int, valid_ms: int = 30_000) -> tuple[SignedBatch, int]:
        valid_until_ms = time.time_ns() // 1_000_000 + valid_ms
        payload = encode(Batch(self.account, shard, nonce, valid_until_ms, commands))
        signature = sign(self._seed, signed_bytes(SignedKind.BATCH, ENVIRONMENT, payload))
        return SignedBatch(self.key_id, payload, signature), valid_until_ms

    def send(self, shard: int, *batches: SignedBatch) -> int:
        """Put batches into an entry of a shard; return its position."""
        counter = self._counters[shard] = self._counters.get(shard, 0) + 1
        control_n = self._plane.head(0).executions_n
        frame = encode(OrderFrame(FORMAT, self._ingress, counter, time.time_ns() // 1000, control_n, batches))
        key = BusKeys.load(self._plane.data.bus_keys).named("ingress")
        return self._plane.bus.ingest(f"s{shard}", seal(key, shard, self._ingress, counter, frame, len(batches))).n

    def trade(self, shard: int, *commands: Command, nonce: int) -> int:
        return self.send(shard, self.batch(shard, *commands, nonce=nonce)[0])

    async def outcome(self, shard: int, nonce: int, valid_until_ms: int = 0, user: int | None = None) -> Any:
        request = order_service_pb2.GetOutcomeRequest(
            key_id=self.key_id, shard=shard, nonce=nonce, valid_until_ms=valid_until_ms
        )
        metadata = (("clob-user", str(self.user if user is None else user)),)
        return await self._plane.orders.GetOutcome(request, timeout=CALL_S, metadata=metadata)


@contextlib.asynccontextmanager
async def running(data: DataDir, address: str, *more: str) -> AsyncIterator[Plane]:
    plane = Plane(data, address, *more)
    matchers = Matchers(data, address)
    try:
        await plane.start()
        yield plane
    finally:
        if plane.child.pid is not None:
            await plane.end()
        matchers.close()
        plane.bus.close()


def sell(lots: int, price: int = 100) -> PlaceOrder:
    return PlaceOrder(1, Side.SELL, 1, price_ticks=price, quantity_lots=lots)


def buy(lots: int, price: int = 100) -> PlaceOrder:
    return PlaceOrder(1, Side.BUY, 1, price_ticks=price, quantity_lots=lots)


def lines_of(audit: Any) -> dict[str, Any]:
    return {line.symbol: line for line in audit.lines}


async def refused(call: Awaitable[object]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return reason_of(status_of_error(error.value))


# --- money ----------------------------------------------------------------------------------------------------------


def test_deposits_trades_and_releases_cross_shards_and_the_audit_passes(
    data: DataDir, valkey_server: BusServer
) -> None:
    async def scenario() -> None:
        async with running(data, valkey_server.address) as plane:
            await plane.open_exchange()
            alice, bob = await plane.new_trader(), await plane.new_trader()
            alice.trade(1, sell(5), nonce=1)
            bob.trade(1, buy(3), ReleaseFunds(USD, 50), nonce=1)
            lines = lines_of(await plane.audit())
            assert lines["USD"].deposited_units == 4_000
            assert lines["BTC"].locked_units == 2

            async def arrived() -> bool:
                audit = await plane.audit()
                assert audit.passed, audit
                line = lines_of(audit)["USD"]
                return bool(line.treasury_units == 50 and line.transit_units == 0 and line.shards_units == 3_950)

            await plane.eventually(arrived, "the release in the treasury")
            transfers = await plane.admin.ListTransfers(admin_service_pb2.ListTransfersRequest(), timeout=CALL_S)
            assert not transfers.transfers

    asyncio.run(scenario())


def test_settle_is_a_barrier_with_hashes_that_a_kill_and_a_restart_do_not_change(
    data: DataDir, valkey_server: BusServer
) -> None:
    async def scenario() -> None:
        async with running(data, valkey_server.address) as plane:
            await plane.open_exchange()
            alice = await plane.new_trader()
            n = alice.trade(1, sell(5), nonce=1)
            request = settlement_service_pb2.SettleRequest(with_state_hashes=True)
            request.positions.add(shard=1, n=n)
            (before,) = (await plane.settlement.Settle(request, timeout=CALL_S)).shards
            assert before.settled.n >= n
            assert len(before.state_hash) == 32
            await plane.end(kill=True)
            alice.trade(1, sell(1), nonce=2)
            await plane.start()
            request.positions[0].CopyFrom(before.settled)
            (after,) = (await plane.settlement.Settle(request, timeout=CALL_S)).shards
            assert after.settled.n >= before.settled.n
            request.positions[0].chain_hash = bytes(32)
            assert await refused(plane.settlement.Settle(request, timeout=CALL_S)) == "INVALID_FIELD"
            assert (await plane.audit()).passed
            request.positions[0].CopyFrom(position_pb2.ShardPosition(shard=9, n=1))
            assert await refused(plane.settlement.Settle(request, timeout=CALL_S)) == "UNKNOWN_SHARD"

    asyncio.run(scenario())


def test_plane_that_is_killed_again_and_again_settles_every_order_once(data: DataDir, valkey_server: BusServer) -> None:
    async def scenario() -> None:
        async with running(data, valkey_server.address, "--checkpoint-entries", "7", "--tail-entries", "5") as plane:
            await plane.open_exchange()
            alice, bob = await plane.new_trader(100_000), await plane.new_trader(100_000)
            nonce = 0
            for _ in range(3):
                for _ in range(20):
                    nonce += 1
                    alice.trade(1, sell(1), nonce=nonce)
                    bob.trade(1, buy(1), ReleaseFunds(USD, 1), nonce=nonce)
                await plane.end(kill=True)
                for _ in range(5):
                    nonce += 1
                    alice.trade(1, sell(1), nonce=nonce)
                    bob.trade(1, buy(1), ReleaseFunds(USD, 1), nonce=nonce)
                await plane.start()

            async def arrived() -> bool:
                audit = await plane.audit()
                assert audit.passed, audit
                line = lines_of(audit)["USD"]
                return bool(line.treasury_units == nonce and line.transit_units == 0)

            await plane.eventually(arrived, "all releases in the treasury")

            async def trimmed() -> bool:
                return plane.head(1).trimmed_n > 0

            await plane.eventually(trimmed, "trimmed")
            line = lines_of(await plane.audit())["BTC"]
            assert (line.shards_units, line.locked_units) == (400_000, 0)

    asyncio.run(scenario())


# --- outcomes -------------------------------------------------------------------------------------------------------


def test_outcomes_are_told_long_after_their_entries_were_trimmed(data: DataDir, valkey_server: BusServer) -> None:
    async def scenario() -> None:
        flags = ("--checkpoint-entries", "1", "--tail-entries", "0")
        async with running(data, valkey_server.address, *flags) as plane:
            await plane.open_exchange()
            alice, bob = await plane.new_trader(), await plane.new_trader()
            alice.trade(1, sell(5), nonce=1)
            signed, valid_until_ms = bob.batch(1, buy(3), nonce=7)
            n = bob.send(1, signed)

            async def trimmed() -> bool:
                # Trimming follows settling, so something has to be settled after the checkpoint.
                await plane.settle()
                return plane.head(1).trimmed_n >= n

            for nonce in range(100, 104):
                alice.trade(1, sell(1, price=200), nonce=nonce)
                await plane.settle()
            await plane.eventually(trimmed, "trimmed")
            for given in (valid_until_ms, 0):
                found = await bob.outcome(1, 7, given)
                assert found.state == order_service_pb2.OUTCOME_STATE_EXECUTED
                assert (found.outcome.n, found.outcome.batch) == (n, 1)
                kinds = [event.WhichOneof("event") for event in found.outcome.events]
                assert kinds == ["batch_result", "order_accepted", "trade"]
                assert found.outcome.events[2].trade.maker_account == 0
                assert len(found.payload_digest) == 32
            assert (await bob.outcome(1, 8)).state == order_service_pb2.OUTCOME_STATE_PENDING
            soon = time.time_ns() // 1_000_000 + 60_000
            pending = await bob.outcome(1, 8, soon)
            assert (pending.state, pending.executable_until_ms) == (order_service_pb2.OUTCOME_STATE_PENDING, soon)
            past = time.time_ns() // 1_000_000 - 1
            assert (await bob.outcome(1, 8, past)).state == order_service_pb2.OUTCOME_STATE_NEVER
            expired, until_ms = bob.batch(1, buy(1), nonce=9, valid_ms=-5_000)
            bob.send(1, expired)
            await plane.settle()
            never = await bob.outcome(1, 9, until_ms)
            assert never.state == order_service_pb2.OUTCOME_STATE_NEVER
            assert await refused(bob.outcome(1, 7, user=alice.user)) == "ACCOUNT_NOT_OF_KEY"
            assert await refused(bob.outcome(9, 7)) == "UNKNOWN_SHARD"

    asyncio.run(scenario())


def test_batch_that_waits_in_the_log_is_pending_with_its_place(data: DataDir, valkey_server: BusServer) -> None:
    async def scenario() -> None:
        async with running(data, valkey_server.address) as plane:
            await plane.open_exchange()
            alice = await plane.new_trader()
            await plane.settle()
            plane.bus.take_epoch("s1")  # whoever executes the shard is fenced now
            signed, valid_until_ms = alice.batch(1, sell(1), nonce=1)
            n = alice.send(1, signed)
            found = await alice.outcome(1, 1, valid_until_ms)
            assert found.state == order_service_pb2.OUTCOME_STATE_PENDING
            assert (found.outcome.state, found.outcome.n) == (outcome_pb2.SEND_STATE_SEQUENCED, n)

    asyncio.run(scenario())


# --- shard 0 --------------------------------------------------------------------------------------------------------


def test_operators_enter_batches_and_see_shard_0(data: DataDir, valkey_server: BusServer) -> None:
    async def scenario() -> None:
        async with running(data, valkey_server.address) as plane:
            await plane.open_exchange()
            alice = await plane.new_trader()
            from exchange.domain.commands import AllocateFunds, RequestWithdrawal

            await plane.audit()
            alice.trade(1, ReleaseFunds(USD, 40), nonce=1)

            async def arrived() -> bool:
                return bool(lines_of(await plane.audit())["USD"].treasury_units == 40)

            await plane.eventually(arrived, "in the treasury")
            signed, _ = alice.batch(0, RequestWithdrawal(USD, 30, "bank"), AllocateFunds(USD, 5, 2), nonce=1)
            request = matching_service_pb2.MatchRequest(shard=0)
            request.batches.add(key_id=signed.key_id, payload=signed.payload, signature=signed.signature)
            (first,) = (await plane.matching.Match(request, timeout=CALL_S)).batches
            assert first.state == outcome_pb2.SEND_STATE_EXECUTED
            (again,) = (await plane.matching.Match(request, timeout=CALL_S)).batches
            assert again.repeated
            assert (again.n, list(again.events)) == (first.n, list(first.events))
            await plane.settle()
            listed = await plane.admin.ListWithdrawals(admin_service_pb2.ListWithdrawalsRequest(), timeout=CALL_S)
            assert [(one.request.amount_units, one.payable) for one in listed.withdrawals] == [(30, True)]
            line = lines_of(await plane.audit())["USD"]
            assert line.set_aside_units == 30
            bad = matching_service_pb2.MatchRequest(shard=0)
            bad.batches.add(key_id=signed.key_id, payload=signed.payload, signature=bytes(64))
            (outcome,) = (await plane.matching.Match(bad, timeout=CALL_S)).batches
            assert outcome.state == outcome_pb2.SEND_STATE_REFUSED
            assert outcome.detail
            status = await plane.matching.GetShard(
                matching_service_pb2.GetShardRequest(shard=0, with_state_hash=True), timeout=CALL_S
            )
            assert status.status.executed.n == plane.head(0).executions_n
            assert len(status.state_hash) == 32
            book = matching_service_pb2.MatchingServiceGetBookRequest(market=1)
            assert await refused(plane.matching.GetBook(book, timeout=CALL_S)) == "NOT_FOUND"
            what_if = matching_service_pb2.WhatIfRequest(shard=0)
            assert await refused(plane.matching.WhatIf(what_if, timeout=CALL_S)) == "INVALID_FIELD"
            empty = matching_service_pb2.MatchRequest(shard=1)
            assert await refused(plane.matching.Match(empty, timeout=CALL_S)) == "UNKNOWN_SHARD"

    asyncio.run(scenario())


# --- what stops it --------------------------------------------------------------------------------------------------


def test_bus_that_lost_everything_stops_the_writers_and_says_what_is_missing(
    data: DataDir, valkey_server: BusServer
) -> None:
    async def scenario() -> None:
        async with running(data, valkey_server.address) as plane:
            await plane.open_exchange()
            await plane.settle()
            had_n = plane.head(0).executions_n
            valkey_server.kill()
            valkey_server.start()

            async def stopped() -> bool:
                head = plane.bus.head("s0")
                return head is not None and bool(head.stopped)

            await plane.eventually(stopped, "stopped")
            said = plane.head(0).stopped
            assert "BUS_LOST: shard 0" in said
            assert f"1 .. {had_n}" in said
            assert "the database knows executions" in said
            assert not plane.head(0).is_approved

            async def told() -> bool:
                positions = await plane.settlement.GetPositions(
                    settlement_service_pb2.GetPositionsRequest(), timeout=CALL_S
                )
                return "BUS_LOST" in positions.positions[0].stopped

            await plane.eventually(told, "told")
            request = settlement_service_pb2.SettleRequest()
            request.positions.add(shard=0, n=had_n + 1)
            assert await refused(plane.settlement.Settle(request, timeout=CALL_S)) == "SETTLEMENT_STOPPED"

    asyncio.run(scenario())


def test_bus_that_kept_everything_is_approved_again(tmp_path: Path) -> None:
    async def scenario(server: BusServer) -> None:
        data = open_data_dir(tmp_path / "data", environment=ENVIRONMENT, durability=Durability.FSYNC)
        async with running(data, server.address) as plane:
            await plane.open_exchange()
            alice = await plane.new_trader()
            await plane.settle()
            server.kill()
            server.start()

            async def approved() -> bool:
                heads = [plane.bus.head(f"s{shard}") for shard in (0, 1, 2)]
                assert not any(head.stopped for head in heads if head)
                return all(head is not None and head.is_approved for head in heads)

            await plane.eventually(approved, "approved")
            alice.trade(1, sell(1), nonce=1)
            assert (await plane.audit()).passed

    from tests.support.servers import bus_server_of

    with bus_server_of("valkey", ("--appendonly", "yes", "--appendfsync", "always")) as server:
        asyncio.run(scenario(server))


def test_plane_does_not_start_on_a_bus_that_does_not_keep_what_the_environment_promises(
    tmp_path: Path, valkey_server: BusServer
) -> None:
    async def scenario() -> None:
        data = open_data_dir(tmp_path / "data", environment=ENVIRONMENT, durability=Durability.FSYNC)
        plane = Plane(data, valkey_server.address)
        try:
            await plane.child.start()
            assert await plane.child.wait() == 2
            assert "BUS_NOT_DURABLE" in plane.child.last_words()
        finally:
            await plane.child.kill()
            plane.bus.close()

    asyncio.run(scenario())
