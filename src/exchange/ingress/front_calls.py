"""A call of the operators' port, however it came in: who may make it, who answers it, and the answer as bytes.

Requests and responses are passed on as they are; of a request only what decides where it goes is read. Errors pass
through with everything they say. A process that has just gone is looked for again, for as long as repeating the call
is safe: when it changes nothing, or has a request id and no secret in its answer.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final, Protocol

from google.protobuf.message import DecodeError, Message

from clob.v1 import admin_service_pb2, matching_service_pb2, operation_pb2
from clob.v1.door_reason_pb2 import DoorReason
from exchange.control.view import ControlView
from exchange.domain.rejects import RejectReason
from exchange.domain.units import CONTROL_SHARD
from exchange.ingress.front_access import Access
from exchange.ingress.front_methods import Destination, Method, Role
from exchange.ingress.front_tokens import Principal
from exchange.serving import errors
from exchange.serving.callers import Caller
from exchange.serving.internal import Peers

OPERATOR_HEADER: Final = "clob-operator"
"""Header of a call that is passed on: who made it, for logs."""
_LOOK_FOR_S: Final = 10.0
"""Longest time that a process is looked for which does not answer, where the call may be repeated, and no more than
half of the time that the call has."""
_LOOK_EVERY_S: Final = 0.2
_HOURS_S: Final = 86_400.0
"""Bound of a call whose caller gave none."""
_COME_BACK: Final = frozenset({"UNAVAILABLE", "DRAINING"})

Verifier = Callable[[bytes, str], Awaitable[bytes]]
"""Answers VerificationService.Verify: an encoded request and the caller's host in, the encoded response out."""


class Listing(Protocol):
    """Shard 0 as this process follows it."""

    @property
    def view(self) -> ControlView:
        """As far as it was followed."""

    async def catch_up(self) -> None:
        """Wait until the view is where the log was at the time of the call."""


class Front:
    """Makes calls for those who may.

    Attributes:
        access: who may.
    """

    def __init__(self, access: Access, peers: Peers, listing: Listing, verify: Verifier) -> None:
        """Make one.

        Args:
            access: who may.
            peers: the other processes.
            listing: where shards and markets are.
            verify: what this process answers by itself.
        """
        self.access = access
        self._peers = peers
        self._listing = listing
        self._verify = verify

    # --- who --------------------------------------------------------------------------------------------------------

    def admit(self, method: Method, caller: Caller, headers: Mapping[str, str]) -> Principal:
        """Return who calls, if it may call the method.

        Raises:
            errors.Refusal: it may not, or not now.
        """
        principal = self.access.principal_of(caller, headers)
        self.access.require(principal, method.role, method.descriptor.name)
        return principal

    def _check_match(self, principal: Principal, request: Message) -> None:
        """Refuse an entry with an operation of the treasury's role to somebody without the role money."""
        assert isinstance(request, matching_service_pb2.MatchRequest)
        for signed in request.operations:
            try:
                role = operation_pb2.Operation.FromString(signed.payload).role
            except DecodeError:
                # The shard will say what is wrong with it.
                role = operation_pb2.OPERATOR_ROLE_UNSPECIFIED
            if role not in (operation_pb2.OPERATOR_ROLE_MARKET, operation_pb2.OPERATOR_ROLE_RECOVERY):
                self.access.require(principal, Role.MONEY, "Match with an operation of the treasury")

    # --- calls ------------------------------------------------------------------------------------------------------

    async def unary(self, method: Method, principal: Principal, request: bytes, timeout_s: float | None) -> bytes:
        """Return the response to a request.

        Args:
            method: what is called; its answer is one message.
            principal: who calls.
            request: the encoded request.
            timeout_s: how long it may take; None: as long as it takes.

        Raises:
            errors.Refusal: it failed; of whoever answers it, unchanged.
        """
        parsed = self._parse(method, request)
        if isinstance(parsed, matching_service_pb2.MatchRequest):
            self._check_match(principal, parsed)
        if method.destination is Destination.HERE:
            return await self._verify(request, principal.host)
        kind, shard = await self._target(method, parsed)
        is_repeatable = _is_repeatable(method, parsed)
        now_s = time.monotonic()
        ends_s = None if timeout_s is None else now_s + timeout_s
        gives_up_s = now_s + (_LOOK_FOR_S if timeout_s is None else min(_LOOK_FOR_S, timeout_s / 2))
        while True:
            try:
                return await self._peers.call(
                    kind,
                    shard,
                    method.name,
                    request,
                    headers=_headers(principal),
                    timeout_s=_HOURS_S if ends_s is None else max(0.001, ends_s - time.monotonic()),
                    is_safe=is_repeatable,
                )
            except errors.Refusal as refusal:
                over = time.monotonic() + _LOOK_EVERY_S >= gives_up_s
                if not is_repeatable or over or refusal.reason not in _COME_BACK:
                    raise
            await asyncio.sleep(_LOOK_EVERY_S)

    async def stream(
        self, method: Method, principal: Principal, request: bytes, timeout_s: float | None
    ) -> AsyncIterator[bytes]:
        """Yield the responses to a request. Raises as `unary` does."""
        kind, shard = await self._target(method, self._parse(method, request))
        responses = self._peers.stream(
            kind, shard, method.name, request, headers=_headers(principal), timeout_s=timeout_s
        )
        async with contextlib.aclosing(responses):  # type: ignore[type-var]
            async for response in responses:
                yield response

    def _parse(self, method: Method, request: bytes) -> Message:
        try:
            return method.request.FromString(request)
        except DecodeError:
            what = f"is {len(request)} bytes that are not a {method.descriptor.input_type.full_name}"
            raise errors.invalid({"request": what}) from None

    # --- where ------------------------------------------------------------------------------------------------------

    async def market_of_symbol(self, symbol: str) -> int | None:
        """Return the number of a market; None: there is no such market."""
        number = self._listing.view.market_by_symbol.get(symbol)
        if number is None:
            await self._listing.catch_up()
            number = self._listing.view.market_by_symbol.get(symbol)
        return number

    async def _target(self, method: Method, request: Message) -> tuple[str, int | None]:
        """Return which kind of process is called, and the shard that it has to serve."""
        if method.destination is not Destination.SHARD:
            return method.destination, None
        if isinstance(request, matching_service_pb2.MatchingServiceGetBookRequest):
            shard = await self._shard_of_market(request.market)
        else:
            assert isinstance(request, _WITH_SHARD)
            shard = await self._known_shard(request.shard)
        return (Destination.SETTLEMENT, None) if shard == CONTROL_SHARD else (Destination.SHARD, shard)

    async def _shard_of_market(self, market: int) -> int:
        shard = self._listing.view.shard_of_market(market)
        if shard is None:
            await self._listing.catch_up()
            shard = self._listing.view.shard_of_market(market)
        if shard is None:
            raise unknown_market(market)
        return shard

    async def _known_shard(self, shard: int) -> int:
        if shard not in self._listing.view.shards:
            await self._listing.catch_up()
        if shard not in self._listing.view.shards:
            raise errors.refused(
                DoorReason.DOOR_REASON_UNKNOWN_SHARD, f"the shard map has no shard {shard}; clob shard list shows all"
            )
        return shard


_WITH_SHARD: Final = (
    matching_service_pb2.MatchRequest,
    matching_service_pb2.WhatIfRequest,
    matching_service_pb2.GetShardRequest,
)


def unknown_market(market: int | str) -> errors.Refusal:
    """Return what says that there is no such market."""
    return errors.rejected(RejectReason.UNKNOWN_MARKET, f"there is no market {market}; clob market list shows all")


def _is_repeatable(method: Method, request: Message) -> bool:
    if isinstance(request, admin_service_pb2.CreateUserRequest) and not request.public_key:
        # Its first answer, which is lost, had the only copy of the private key.
        return False
    if method.role in (None, Role.READ):
        return True
    return bool(method.takes_request_id and getattr(request, "request_id"))  # noqa: B009 - messages of many types


def _headers(principal: Principal) -> tuple[tuple[str, str], ...]:
    return ((OPERATOR_HEADER, principal.name.encode("ascii", "replace").decode("ascii")),)
