"""A whole exchange in a temporary folder, and a trader who never gives up: for tests of what dies and comes back."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from clob.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    order_service_pb2,
    order_service_pb2_grpc,
    outcome_pb2,
    settlement_service_pb2,
    settlement_service_pb2_grpc,
)
from exchange.config.environment import Durability
from exchange.domain.commands import Batch, OrderType, PlaceOrder, Side
from exchange.domain.signing import SignedKind, key_id_of, parse_private_key, signed_bytes
from exchange.embedded.data_dir import DataDir, open_data_dir
from exchange.embedded.exchange import EmbeddedExchange, Options
from exchange.embedded.starter import STARTING_FUNDS, define_starter_set
from exchange.embedded.traders import Trader
from exchange.reference.signing import public_key_of, sign
from exchange.wire.messages import encode

ENVIRONMENT = "test"
CALL_S_MAX = 30


def data_dir(folder: Path, durability: Durability = Durability.MEMORY) -> DataDir:
    return open_data_dir(folder, environment=ENVIRONMENT, durability=durability, starting_funds=STARTING_FUNDS)


@asynccontextmanager
async def running_exchange(data: DataDir, bus_server: Path | None = None) -> AsyncIterator[EmbeddedExchange]:
    options = Options(listen_traders="127.0.0.1:0", listen_admin="127.0.0.1:0", bus_server=bus_server)
    async with EmbeddedExchange(data, options) as exchange:
        await define_starter_set(exchange.admin)
        yield exchange


async def new_trader(exchange: EmbeddedExchange) -> Trader:
    async with grpc.aio.insecure_channel(exchange.admin) as channel:
        user = await admin_service_pb2_grpc.AdminServiceStub(channel).CreateUser(
            admin_service_pb2.CreateUserRequest(), timeout=CALL_S_MAX
        )
    seed = parse_private_key(user.private_key)
    return Trader(user.account_id, seed, key_id_of(public_key_of(seed)))


async def settle_and_audit(exchange: EmbeddedExchange) -> settlement_service_pb2.AuditResponse:
    async with grpc.aio.insecure_channel(exchange.admin) as channel:
        stub = settlement_service_pb2_grpc.SettlementServiceStub(channel)
        await stub.Settle(settlement_service_pb2.SettleRequest(), timeout=CALL_S_MAX)
        audit: settlement_service_pb2.AuditResponse = await stub.Audit(
            settlement_service_pb2.AuditRequest(), timeout=CALL_S_MAX
        )
        return audit


@dataclass
class Stubborn:
    """A trader who sends order after order to one shard, and the same bytes again until an outcome is known.

    Attributes:
        outcomes: positions (n, batch) by client_order_id, of all that were acknowledged.
        doubled: orders whose later answers named another position than the first.
    """

    exchange: EmbeddedExchange
    trader: Trader
    shard: int = 1
    market: int = 1
    outcomes: dict[int, tuple[int, int]] = field(default_factory=dict)
    doubled: list[int] = field(default_factory=list)
    resent: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            await self.send(number)

    async def reach(self, acknowledged: int, seconds_max: float = 60) -> None:
        """Wait until so many orders are acknowledged."""
        async with asyncio.timeout(seconds_max):
            while len(self.outcomes) < acknowledged:
                await asyncio.sleep(0.01)

    async def send(self, number: int) -> None:
        side, price = (Side.BUY, 900_000) if number % 2 else (Side.SELL, 1_100_000)
        order = PlaceOrder(
            self.market, side, OrderType.LIMIT, price_ticks=price, quantity_lots=1, client_order_id=number
        )
        valid_until_ms = time.time_ns() // 1_000_000 + 50_000
        payload = encode(Batch(self.trader.account, self.shard, secrets.randbits(63), valid_until_ms, (order,)))
        signature = sign(self.trader.seed, signed_bytes(SignedKind.BATCH, ENVIRONMENT, payload))
        request = order_service_pb2.SubmitRequest(environment=ENVIRONMENT, wait_ms_max=1_000)
        request.batches.add(key_id=self.trader.key_id, payload=payload, signature=signature)
        while True:
            try:
                async with grpc.aio.insecure_channel(self.exchange.traders) as channel:
                    stub = order_service_pb2_grpc.OrderServiceStub(channel)
                    outcome = (await stub.Submit(request, timeout=5)).outcomes[0]
            except grpc.RpcError:
                self.resent += 1
                await asyncio.sleep(0.05)
                continue
            if outcome.state == outcome_pb2.SEND_STATE_EXECUTED:
                place = (outcome.n, outcome.batch)
                if self.outcomes.setdefault(number, place) != place:
                    self.doubled.append(number)
                return
            assert outcome.executable_until_ms, f"it can never be executed: {outcome}"
            self.resent += 1
            await asyncio.sleep(0.05)
