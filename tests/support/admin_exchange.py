"""Admin over a MemoryHost, asked from a test that is not asynchronous itself."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from clob.v1 import admin_service_pb2 as api
from clob.v1 import market_pb2
from exchange.admin.service import Admin
from exchange.domain.commands import Batch, Command, SignedBatch
from exchange.domain.control import Registration
from exchange.domain.signing import SignedKind, key_id_of, signed_bytes
from exchange.domain.units import CONTROL_SHARD
from exchange.reference.signing import public_key_of, sign
from exchange.serving.errors import Refusal
from exchange.wire.messages import encode
from tests.support.admin_host import KEYS, NAME, MemoryHost, MemoryPeers, environment

R = TypeVar("R")


class Patience:
    """A caller who waits so long; None: without a deadline."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def time_remaining(self) -> float | None:
        return self._seconds


class AdminExchange:
    """An exchange with two trading shards, seen through its AdminService.

    Attributes:
        host, peers: what admin runs in and whom it asks.
        admin: the service; another one after `restart`.
        seconds: patience of the callers.
    """

    def __init__(self, runner: asyncio.Runner, host: MemoryHost) -> None:
        self._runner = runner
        self.host = host
        self.peers = MemoryPeers()
        self.seconds: float | None = 10.0
        self._request = 0
        self._nonce = 0
        self.admin = runner.run(self._open())

    async def _open(self) -> Admin:
        admin = Admin(self.host, self.peers, KEYS)
        self.host.frames_seen[:] = [admin.on_control_frame]
        return admin

    def restart(self) -> None:
        """Put an admin that knows nothing in the place of the one there is."""
        self._runner.run(self.admin.close())
        self.admin = self._runner.run(self._open())

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Return what a coroutine returns, which it does within a minute."""
        return self._runner.run(asyncio.wait_for(work, 60))

    async def call(self, method: str, request: Any) -> Any:
        """Make a call, from within the loop."""
        answer: Callable[[Any, Any], Awaitable[Any]] = getattr(self.admin, method)
        return await answer(request, Patience(self.seconds))

    def ask(self, request: Any, **fields: Any) -> Any:
        """Make the call that a request, or a class of requests with its fields, is for."""
        message = request(**fields) if isinstance(request, type) else request
        return self.run(self.call(message.DESCRIPTOR.name.removesuffix("Request"), message))

    def refused(self, request: Any, **fields: Any) -> Refusal:
        """Make a call that fails; return how."""
        try:
            answer = self.ask(request, **fields)
        except Refusal as refusal:
            return refusal
        raise AssertionError(f"not refused: {answer}")

    def request_id(self) -> bytes:
        """Return a request id that was not used before."""
        self._request += 1
        return self._request.to_bytes(16, "big")

    # --- what many tests start from ---------------------------------------------------------------------------------

    def with_assets(self, *symbols: str) -> "AdminExchange":
        """Define assets, BTC and USD unless told otherwise."""
        assets = [market_pb2.Asset(symbol=symbol, decimals=2) for symbol in symbols or ("BTC", "USD")]
        answer = self.ask(api.DefineAssetsRequest, assets=assets)
        assert not any(result.reason for result in answer.results)
        return self

    def new_user(self, name: str) -> tuple[int, "KeyPair"]:
        """Make a user with a key of its own; return its account and key."""
        key = KeyPair(name)
        answer = self.ask(api.CreateUserRequest, public_key=key.public_key, signature=key.proof())
        return answer.account_id, key

    def command(self, key: "KeyPair", account: int, *commands: Command) -> None:
        """Let a trader's batch into shard 0."""
        self._nonce += 1
        valid_until_ms = self.host.now_us // 1000 + 30_000
        payload = encode(Batch(account, CONTROL_SHARD, self._nonce, valid_until_ms, commands))
        signature = sign(key.seed, signed_bytes(SignedKind.BATCH, NAME, payload))
        self.host.trade(SignedBatch(key.key_id, payload, signature))

    def entries(self) -> int:
        """Return how many entries all shards have."""
        return sum(len(log) for log in self.host.logs.values())


class KeyPair:
    """A user's key."""

    def __init__(self, name: str) -> None:
        self.seed = name.encode().ljust(32, b"\0")
        self.public_key = public_key_of(self.seed)
        self.key_id = key_id_of(self.public_key)

    def proof(self, user: int = 0, account: int = 0) -> bytes:
        """Return the proof of possession over a registration."""
        return sign(
            self.seed, signed_bytes(SignedKind.REGISTER, NAME, encode(Registration(self.public_key, user, account)))
        )


@contextmanager
def admin_exchange(shards: int = 2, **settings: Any) -> Iterator[AdminExchange]:
    """Open an exchange whose environment has these settings; close it at the end."""
    with asyncio.Runner() as runner:

        async def host() -> MemoryHost:
            return MemoryHost(environment(**settings), shards)

        exchange = AdminExchange(runner, runner.run(host()))
        try:
            yield exchange
        finally:
            runner.run(exchange.admin.close())


def a_market(symbol: str = "BTC-USD", **fields: Any) -> market_pb2.Market:
    """Return a market as an operator asks for it: without number, shard and state unless they are given."""
    settings: dict[str, Any] = {
        "symbol": symbol,
        "base_asset": 1,
        "quote_asset": 2,
        "base_units_per_lot": 1,
        "quote_units_per_tick_lot": 10,
    }
    return market_pb2.Market(**(settings | fields))
