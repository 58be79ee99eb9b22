"""ingress-verifier as it runs, before a real bus, shard 0 and a shard whose engine runs: what its tests talk to."""

import contextlib
import json
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import grpc

from clob.v1 import order_service_pb2, order_service_pb2_grpc
from exchange.domain.commands import Batch, Command, OrderType, PlaceOrder, Side, SignedBatch
from exchange.domain.control import ControlRequest
from exchange.domain.events import KeyRegistered
from exchange.domain.markets import Asset, Market, MarketState
from exchange.domain.operations import DefineAsset, DefineMarket, DefineShard, OperatorRole, Transfer
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.engine.choice import engine_named
from exchange.local.control_venue import ControlVenue, KeyPair
from exchange.local.venue import Venue
from exchange.reference.signing import sign
from exchange.wire.messages import encode
from tests.support.bus_venue import BusVenue, environment_named
from tests.support.loops import RunningLoop
from tests.support.servers import BusServer
from tests.support.shard_log import INGRESS_KEY, ShardLog

ENVIRONMENT = "local"
READY_S_MAX = 60
RICH = 10**12
BASE, QUOTE = 1, 2
MARKET = Market(
    market=1,
    shard=1,
    symbol="BASE-QUOTE",
    base_asset=BASE,
    quote_asset=QUOTE,
    base_units_per_lot=1,
    quote_units_per_tick_lot=1,
    state=MarketState.OPEN,
)


class User:
    """A user with an account and a key.

    Attributes:
        user, account, key: as registered.
    """

    def __init__(self, user: int, account: int, key: KeyPair) -> None:
        self.user = user
        self.account = account
        self.key = key

    def sign(
        self,
        *commands: Command,
        shard: int = 1,
        nonce: int | None = None,
        valid_for_ms: int = 30_000,
        account: int | None = None,
        environment: str = ENVIRONMENT,
    ) -> SignedBatch:
        """Return commands as the user signs them."""
        account = self.account if account is None else account
        nonce = secrets.randbits(63) if nonce is None else nonce
        payload = encode(Batch(account, shard, nonce, time.time_ns() // 1_000_000 + valid_for_ms, commands))
        return SignedBatch(
            self.key.key_id, payload, sign(self.key.seed, signed_bytes(SignedKind.BATCH, environment, payload))
        )


def buy(price_ticks: int, quantity_lots: int, client_order_id: int = 0, market: int = 1) -> PlaceOrder:
    return PlaceOrder(
        market,
        Side.BUY,
        OrderType.LIMIT,
        price_ticks=price_ticks,
        quantity_lots=quantity_lots,
        client_order_id=client_order_id,
    )


def sell(price_ticks: int, quantity_lots: int, client_order_id: int = 0, market: int = 1) -> PlaceOrder:
    return PlaceOrder(
        market,
        Side.SELL,
        OrderType.LIMIT,
        price_ticks=price_ticks,
        quantity_lots=quantity_lots,
        client_order_id=client_order_id,
    )


def request_of(*batches: SignedBatch, **fields: Any) -> order_service_pb2.SubmitRequest:
    """Return a request of these batches."""
    request = order_service_pb2.SubmitRequest(**fields)
    for one in batches:
        request.batches.add(key_id=one.key_id, payload=one.payload, signature=one.signature)
    return request


class IngressExchange:
    """The bus, shard 0, shard 1 and ingress-verifier.

    Attributes:
        control: shard 0; what is entered is executed at once.
        log: shard 1, to enter links and operations.
        loop: the engine of shard 1; None while it is stopped.
        traders: host:port of the traders' port.
        ready: what ingress-verifier said when it began to serve.
    """

    def __init__(self, server: BusServer, folder: Path, *arguments: str, shards: int = 1) -> None:
        self.server = server
        self.folder = folder
        self.environment = environment_named(ENVIRONMENT)
        self.environment.save(folder / "environment.json")
        (folder / "bus.keys").write_text(f"{INGRESS_KEY.name} {INGRESS_KEY.secret.hex()}\n")
        (folder / "session.secret").write_text(secrets.token_hex(32))
        self.control = BusVenue(server.address, ControlVenue(environment=ENVIRONMENT))
        self.control.operate(
            OperatorRole.MARKET, DefineAsset(Asset(BASE, "BASE", 0)), DefineAsset(Asset(QUOTE, "QUOTE", 0))
        )
        self.control.operate(OperatorRole.MARKET, *(DefineShard(number) for number in range(1, shards + 1)))
        self.control.operate(OperatorRole.MARKET, DefineMarket(MARKET))
        self.log = ShardLog(server.address)
        self.venue = Venue(engine_named("reference"), environment=ENVIRONMENT)
        self.loop: RunningLoop | None = None
        self.start_loop()
        self.log.enter(operations=[self.venue.operation(OperatorRole.MARKET, DefineMarket(MARKET))])
        self.process: subprocess.Popen[bytes] | None = None
        self.ready: dict[str, Any] = {}
        self.arguments = arguments
        self._users = 0
        self._stdouts: list[IO[bytes]] = []
        self.start()

    # --- processes --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start ingress-verifier and wait until it serves."""
        with (self.folder / "ingress.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "exchange.ingress.service"),
                    *("--redis-addr", self.server.address, "--environment-file", str(self.folder / "environment.json")),
                    *("--checkpoints", str(self.folder / "checkpoints"), "--bus-keys", str(self.folder / "bus.keys")),
                    *("--bus-key-name", INGRESS_KEY.name, "--session-secret", str(self.folder / "session.secret")),
                    *("--listen-traders", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0"),
                    *self.arguments,
                ],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        stdout = self.process.stdout
        timer = threading.Timer(READY_S_MAX, self.process.kill)
        timer.start()
        line = stdout.readline()
        timer.cancel()
        self._stdouts.append(stdout)
        assert line, f"ingress-verifier did not come up:\n{self.told()}"
        self.ready = json.loads(line)

    @property
    def traders(self) -> str:
        """Address of the traders' port."""
        address: str = self.ready["traders"]
        return address

    def told(self) -> str:
        """Return the end of the log of ingress-verifier."""
        return (self.folder / "ingress.log").read_text()[-8000:]

    def terminate(self) -> None:
        """Tell ingress-verifier to end."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Wait for the end of ingress-verifier and return its exit code."""
        assert self.process is not None
        return self.process.wait(timeout=READY_S_MAX)

    def start_loop(self) -> None:
        """Run the engine of shard 1."""
        self.loop = RunningLoop(self.log, self.folder / "checkpoints-1", address=self.server.address)

    def stop_loop(self) -> None:
        """Stop the engine of shard 1: what is entered waits."""
        assert self.loop is not None
        self.loop.end()
        self.loop = None

    def close(self) -> None:
        """End everything."""
        if self.process is not None and self.process.poll() is None:
            self.terminate()
            try:
                self.process.wait(timeout=READY_S_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for stdout in self._stdouts:
            stdout.close()
        if self.loop is not None:
            self.loop.end()
        self.control.bus.close()
        self.log.close()

    # --- users ------------------------------------------------------------------------------------------------------

    def new_user(self, funds: int = RICH) -> User:
        """Register a user and give it funds in shard 1."""
        self._users += 1
        venue = self.control.venue
        assert isinstance(venue, ControlVenue)
        key = venue.key(f"user {self._users}")
        asked = ControlRequest(venue.request_id(), venue.registration(key))
        registered = next(event for event in self.control.enter(requests=(asked,)) if isinstance(event, KeyRegistered))
        account = next(user.accounts[0] for user in venue.state.users if user.user == registered.user)
        if funds:
            transfers = (Transfer(account, BASE, funds), Transfer(account, QUOTE, funds))
            entered = self.log.enter(links=[self.venue.link(*transfers)])
            if self.loop is not None:
                self.loop.wait_for(entered.n)
        return User(registered.user, account, key)

    # --- calls ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """Connect to the traders' port."""
        with grpc.insecure_channel(self.traders) as channel:
            yield channel

    def submit(self, *batches: SignedBatch, **fields: Any) -> order_service_pb2.SubmitResponse:
        """Send batches over a connection of their own."""
        with self.channel() as channel:
            stub = order_service_pb2_grpc.OrderServiceStub(channel)
            response: order_service_pb2.SubmitResponse = stub.Submit(request_of(*batches, **fields), timeout=40)
            return response


@contextlib.contextmanager
def ingress_exchange(server: BusServer, folder: Path, *arguments: str, shards: int = 1) -> Iterator[IngressExchange]:
    """Run everything for as long as the context lasts."""
    exchange = IngressExchange(server, folder, *arguments, shards=shards)
    try:
        yield exchange
    finally:
        exchange.close()
