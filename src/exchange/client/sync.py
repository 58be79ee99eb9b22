"""The client for programs without asyncio: `AsyncClient`, run by one event loop in a thread of its own."""

import asyncio
import threading
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterator
from functools import cache, update_wrapper
from typing import Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar

from exchange.client.aio import DEFAULT_ADDRESS, PATIENCE_S, VALID_FOR_MS, AsyncClient
from exchange.client.directory import ExchangeInfo
from exchange.client.keys import PrivateKey, Signer
from exchange.client.transport import Tls

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=AsyncIterable[Any])

_END: Final = object()


_starting: Final = threading.Lock()


@cache
def _started() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="clob-client", daemon=True).start()
    return loop


def _loop() -> asyncio.AbstractEventLoop:
    """Return the loop of all clients of this process: gRPC for asyncio works best when there is one."""
    with _starting:
        return _started()


class Feed(Generic[F]):
    """A feed that is iterated over without asyncio. What is iterated over again goes on from where it stands."""

    def __init__(self, client: "Client", feed: F) -> None:
        self._client = client
        self.feed = feed

    def __iter__(self) -> Iterator[Any]:
        """Yield what the feed gives, waiting for it; end the loop to stop it."""
        iterator = aiter(self.feed)

        async def following() -> Any:
            return await anext(iterator, _END)

        try:
            while (item := self._client.run(following())) is not _END:
                yield item
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                self._client.run(close())


def _blocking(
    method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["Client", P], T]:
    """Return a method of AsyncClient as one of Client, with the same arguments and answer."""

    def call(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.run(method(self.asynchronous, *args, **kwargs))

    update_wrapper(call, method)
    return call


def _feeding(
    method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, F]],
) -> Callable[Concatenate["Client", P], Feed[F]]:
    """Return a method of AsyncClient that gives a feed as one of Client."""

    def call(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Feed[F]:
        return Feed(self, self.run(method(self.asynchronous, *args, **kwargs)))

    update_wrapper(call, method)
    return call


class Client:
    """A connection to an exchange. Methods, arguments and answers are those of AsyncClient; threads may share it.

    Attributes:
        asynchronous: the client that does the work; use it only on the loop that `run` uses.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        key: PrivateKey | str | None = None,
        *,
        environment: str | None = None,
        account: int = 0,
        tls: Tls | bool | None = None,
        valid_for_ms: int = VALID_FOR_MS,
        timeout_s: float = 10.0,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Connect; arguments and errors are those of AsyncClient.connect."""
        self._closed = False
        self.asynchronous = self.run(
            AsyncClient.connect(
                address,
                key,
                environment=environment,
                account=account,
                tls=tls,
                valid_for_ms=valid_for_ms,
                timeout_s=timeout_s,
                patience_s=patience_s,
            )
        )

    @classmethod
    def connect(cls, address: str = DEFAULT_ADDRESS, key: PrivateKey | str | None = None, **options: Any) -> Self:
        """Return a client that has spoken with the exchange; the same as calling the class."""
        return cls(address, key, **options)

    def run(self, work: Awaitable[T]) -> T:
        """Run a coroutine on the client's loop and return what it returns. Ctrl-C cancels it."""

        async def awaited() -> T:
            return await work

        future = asyncio.run_coroutine_threadsafe(awaited(), _loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Close the connection. Closing again does nothing."""
        if not self._closed:
            self._closed = True
            self.run(self.asynchronous.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def environment(self) -> str:
        """The environment that everything is signed for."""
        return self.asynchronous.environment

    @property
    def exchange(self) -> ExchangeInfo:
        """The exchange as it described itself."""
        return self.asynchronous.exchange

    @property
    def key_id(self) -> bytes:
        """Name of the key; empty without one."""
        return self.asynchronous.key_id

    @property
    def account(self) -> int:
        """Account that commands are for unless told otherwise; 0: the key's only one, not asked for yet."""
        return self.asynchronous.account

    @property
    def signer(self) -> Signer:
        """What signs with the client's key, for the client's environment."""
        return self.asynchronous.signer

    market = _blocking(AsyncClient.market)
    list_markets = _blocking(AsyncClient.list_markets)
    list_assets = _blocking(AsyncClient.list_assets)
    user = _blocking(AsyncClient.user)
    accounts = _blocking(AsyncClient.accounts)
    own_account = _blocking(AsyncClient.own_account)

    place = _blocking(AsyncClient.place)
    cancel = _blocking(AsyncClient.cancel)
    reduce = _blocking(AsyncClient.reduce)
    replace = _blocking(AsyncClient.replace)
    cancel_all = _blocking(AsyncClient.cancel_all)
    release = _blocking(AsyncClient.release)
    allocate = _blocking(AsyncClient.allocate)
    withdraw = _blocking(AsyncClient.withdraw)
    register_key = _blocking(AsyncClient.register_key)
    revoke_key = _blocking(AsyncClient.revoke_key)
    open_account = _blocking(AsyncClient.open_account)
    submit = _blocking(AsyncClient.submit)
    sign = _blocking(AsyncClient.sign)
    send = _blocking(AsyncClient.send)
    outcome = _blocking(AsyncClient.outcome)
    verify = _blocking(AsyncClient.verify)

    balances = _blocking(AsyncClient.balances)
    open_orders = _blocking(AsyncClient.open_orders)
    withdrawals = _blocking(AsyncClient.withdrawals)
    executions = _feeding(AsyncClient.executions)

    book = _blocking(AsyncClient.book)
    books = _feeding(AsyncClient.books)
    last_trades = _blocking(AsyncClient.last_trades)
    trades = _feeding(AsyncClient.trades)
