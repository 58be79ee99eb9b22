"""The connection to an exchange: a channel, its calls, and when a call is made again."""

import asyncio
import ipaddress
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc

from clob.v1 import (
    account_service_pb2_grpc,
    market_data_service_pb2_grpc,
    order_service_pb2_grpc,
    verification_service_pb2_grpc,
)
from exchange.client.errors import ClientError, error_of

T = TypeVar("T")

ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
"""A command can have 1,024 events, and a request 4,096 commands (docs/contracts.md)."""
FIRST_BACKOFF_S: Final = 0.02
LAST_BACKOFF_S: Final = 1.0
_LOOPBACK_NAMES: Final = {"localhost"}
_random = secrets.SystemRandom()


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to the exchange.

    Attributes:
        roots: certificates to trust, PEM; None: those that come with gRPC.
        certificate, key: our own, PEM, for an exchange that asks for one.
    """

    roots: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None

    @classmethod
    def from_files(
        cls,
        roots: str | os.PathLike[str] | None = None,
        certificate: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
    ) -> "Tls":
        """Return TLS with what these files hold."""
        return cls(*(Path(path).read_bytes() if path else None for path in (roots, certificate, key)))


class Transport:
    """A channel to one address, with the stubs of what traders call.

    Attributes:
        address: as given, host:port or any target that gRPC knows.
        timeout_s: of one call.
        patience_s: how long a read is asked again while the exchange says that waiting helps, or does not answer.
    """

    def __init__(
        self, address: str, tls: Tls | bool | None = None, *, timeout_s: float = 10.0, patience_s: float = 10.0
    ) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self.patience_s = patience_s
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
            ("grpc.max_send_message_length", ANSWER_BYTES_MAX),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            # Below five minutes a gRPC server that was told nothing ends connections that are quiet (too_many_pings).
            ("grpc.keepalive_time_ms", 330_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            # Two transports to one address are two connections, so that load can be spread.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ]
        wanted = _tls_of(address, tls)
        self._tls = wanted or False
        if wanted is None:
            self.channel = grpc.aio.insecure_channel(address, options)
        else:
            credentials = grpc.ssl_channel_credentials(wanted.roots, wanted.key, wanted.certificate)
            self.channel = grpc.aio.secure_channel(address, credentials, options)
        self.orders: Any = order_service_pb2_grpc.OrderServiceStub(self.channel)
        self.verification: Any = verification_service_pb2_grpc.VerificationServiceStub(self.channel)
        self.accounts: Any = account_service_pb2_grpc.AccountServiceStub(self.channel)
        self.market_data: Any = market_data_service_pb2_grpc.MarketDataServiceStub(self.channel)

    def again(self) -> "Transport":
        """Return another connection to the same address."""
        return Transport(self.address, self._tls, timeout_s=self.timeout_s, patience_s=self.patience_s)

    async def close(self) -> None:
        """Close the channel; calls under way end."""
        await self.channel.close()

    async def once(self, call: Any, request: Any, *, token: str = "", timeout_s: float | None = None) -> Any:
        """Return the answer of one unary call.

        Raises:
            ClientError: it failed.
        """
        try:
            return await call(request, timeout=timeout_s or self.timeout_s, metadata=metadata_of(token))
        except grpc.aio.AioRpcError as failed:
            raise error_of(failed, self.address) from failed

    async def read(self, call: Any, request: Any) -> Any:
        """Return the answer of a unary call that changes nothing, asked again while that may help.

        Raises:
            ClientError: it failed, or did for `patience_s`.
        """
        return await patiently(lambda: self.once(call, request), self.patience_s)


class Backoff:
    """How long to wait before the next attempt: doubling, half of it random so that clients do not march in step."""

    def __init__(self, first_s: float = FIRST_BACKOFF_S, last_s: float = LAST_BACKOFF_S) -> None:
        self._first_s, self._last_s = first_s, last_s
        self._next_s = first_s

    def next_s(self, told_ms: int | None = None) -> float:
        """Return seconds to wait: at least what the exchange told."""
        waited = self._next_s * _random.uniform(0.5, 1.0)
        self._next_s = min(self._next_s * 2, self._last_s)
        return max(waited, (told_ms or 0) / 1000)

    def reset(self) -> None:
        """Begin again: something went well."""
        self._next_s = self._first_s


async def patiently(attempt: Callable[[], Awaitable[T]], patience_s: float) -> T:
    """Return what an attempt returns, made again while its ClientError says that this may help."""
    ends_s = time.monotonic() + patience_s
    backoff = Backoff()
    while True:
        try:
            return await attempt()
        except ClientError as error:
            wait_s = backoff.next_s(error.retry_after_ms)
            if not error.may_help_to_retry or time.monotonic() + wait_s >= ends_s:
                raise
        await asyncio.sleep(wait_s)


def metadata_of(token: str) -> tuple[tuple[str, str], ...] | None:
    """Return the metadata of a call with a session's token; none without."""
    return (("authorization", f"Bearer {token}"),) if token else None


def is_loopback(address: str) -> bool:
    """Return whether an address is one of this machine, as far as its text says."""
    target = address.removeprefix("dns:///").removeprefix("dns:").removeprefix("ipv4:").removeprefix("ipv6:")
    if address.startswith("unix:"):
        return True
    for one in target.split(","):
        host = one.rpartition(":")[0].strip("[]") if ":" in one else one
        if host in _LOOPBACK_NAMES:
            continue
        try:
            if not ipaddress.ip_address(host).is_loopback:
                return False
        except ValueError:
            return False
    return True


def _tls_of(address: str, tls: Tls | bool | None) -> Tls | None:
    """Return the TLS to use; None: plaintext."""
    if isinstance(tls, Tls):
        return tls
    if tls is None and not is_loopback(address):
        raise ClientError(
            "TLS_NOT_SAID",
            f"{address} is not on this machine: say tls=True, or tls=False to send orders and session tokens in the "
            "clear, as on a network of your own",
        )
    return Tls() if tls else None
