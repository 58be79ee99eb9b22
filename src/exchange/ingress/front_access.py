"""Who may call the operators' port: roles, tokens, certificates, Host and Origin, and how often.

On loopback no token is needed, so a page in the operator's own browser could be the caller. Such a page can neither
hide its Origin nor, after DNS rebinding, the Host that it was loaded from, nor send JSON without asking first: all of
these are looked at. A call that a proxy on this machine has passed on is not of this machine.
"""

import ipaddress
import time
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from clob.v1.door_reason_pb2 import DoorReason
from exchange.ingress.front_methods import Role
from exchange.ingress.front_tokens import Principal, TokenStore
from exchange.ingress.rates import TokenBuckets
from exchange.serving import errors
from exchange.serving.callers import Caller

ALL_ROLES: Final = frozenset(Role)
_BEARER: Final = "bearer "
_PROXY_HEADERS: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


class AccessRules(NamedTuple):
    """What the settings say about callers.

    Attributes:
        loopback_trusted: callers on this machine need no token.
        allowed_hosts: names that the Host header may have, besides localhost and the port's own address.
        allowed_origins: `https://console.example`, whose pages may call from browsers.
        calls_per_second, calls_burst: of one caller; 0: no limit.
    """

    loopback_trusted: bool = True
    allowed_hosts: frozenset[str] = frozenset()
    allowed_origins: frozenset[str] = frozenset()
    calls_per_second: int = 2_000
    calls_burst: int = 4_000


class Access:
    """Decides about calls."""

    def __init__(self, rules: AccessRules, tokens: TokenStore) -> None:
        self._rules = rules
        self._tokens = tokens
        self._buckets = TokenBuckets(rules.calls_per_second, rules.calls_burst)

    def principal_of(self, caller: Caller, headers: Mapping[str, str]) -> Principal:
        """Return who calls, and count the call.

        Args:
            caller: the other end of the connection.
            headers: of the call, names in lower case.

        Raises:
            errors.Refusal: TOO_FAST, or a token or certificate that nobody has.
        """
        # An address is counted before its token is looked at: guessing is to cost something.
        self._count(f"address {caller.host}")
        principal = self._identify(caller, headers)._replace(host=caller.host)
        if principal.name != f"address {caller.host}":
            self._count(principal.name)
        return principal

    def require(self, principal: Principal, role: Role | None, what: str) -> None:
        """Refuse unless somebody has a role.

        Raises:
            errors.Refusal: TOKEN_REQUIRED when the caller has not said who it is, ROLE_REQUIRED when it has.
        """
        if role is None or role in principal.roles:
            return
        if not principal.roles and principal.name.startswith("address "):
            raise errors.refused(
                DoorReason.DOOR_REASON_TOKEN_REQUIRED,
                f"{what} needs the role {role}; send the header authorization: Bearer TOKEN (clob token create makes "
                "one on the exchange's machine), or a client certificate",
            )
        has = ", ".join(sorted(principal.roles)) or "no role"
        raise errors.refused(
            DoorReason.DOOR_REASON_ROLE_REQUIRED,
            f"{what} needs the role {role}, {principal.name} has {has}; use another token, or give this one the role",
        )

    def _count(self, name: str) -> None:
        wait_s = self._buckets.take(name, 1, time.monotonic())
        if wait_s:
            wait_ms = int(wait_s * 1_000) + 1
            raise errors.refused(
                DoorReason.DOOR_REASON_TOO_FAST,
                f"{name} makes more than {self._rules.calls_per_second} calls a second; wait {wait_ms} ms and send the "
                "same again",
                retry_after_ms=wait_ms,
            )

    def _identify(self, caller: Caller, headers: Mapping[str, str]) -> Principal:
        authorization = headers.get("authorization")
        if authorization is not None:
            found = None
            if authorization[: len(_BEARER)].lower() == _BEARER:
                found = self._tokens.by_token(authorization[len(_BEARER) :].strip())
            if found is None:
                raise errors.refused(
                    DoorReason.DOOR_REASON_TOKEN_REQUIRED,
                    "the authorization header has no token that is known here; it is Bearer and a token of clob token "
                    "create that has not ended",
                )
            return found
        if caller.certificate is not None:
            found = self._tokens.by_certificate(caller.certificate.fingerprint)
            if found is not None:
                return found
        passed_on = any(name in headers for name in _PROXY_HEADERS)
        if self._rules.loopback_trusted and caller.is_loopback and not passed_on:
            return Principal(f"address {caller.host}", ALL_ROLES)
        return Principal(f"address {caller.host}", frozenset())

    # --- browsers ---------------------------------------------------------------------------------------------------

    def check_browser(self, headers: Mapping[str, str], own_host: str, *, is_tls: bool) -> None:
        """Refuse what a page of somebody else's may have sent.

        Args:
            headers: of the request, names in lower case.
            own_host: address that the connection came in at.
            is_tls: the connection is encrypted.

        Raises:
            errors.Refusal: HOST_NOT_ALLOWED or ORIGIN_NOT_ALLOWED.
        """
        authority = headers.get("host", "")
        host = _host_of(authority)
        if not self.host_is_allowed(host, own_host):
            raise errors.refused(
                DoorReason.DOOR_REASON_HOST_NOT_ALLOWED,
                f"the Host header {authority[:80]!r} is not a name of this server; use 127.0.0.1 or localhost, or "
                "start it with --admin-hosts and the name",
            )
        origin = headers.get("origin")
        if origin is None:
            site = headers.get("sec-fetch-site", "none")
            if site in ("none", "same-origin"):
                return
        elif self.origin_is_allowed(origin, authority, is_tls=is_tls):
            return
        raise errors.refused(
            DoorReason.DOOR_REASON_ORIGIN_NOT_ALLOWED,
            f"a page of {(origin or 'another site')[:80]} may not call this server; if it is yours, start it "
            "with --admin-origins and the origin",
        )

    def host_is_allowed(self, host: str, own_host: str) -> bool:
        """Return whether a Host header may name this host, without port."""
        if host in self._rules.allowed_hosts or host == "localhost":
            return True
        try:
            address = ipaddress.ip_address(host)
            return address.is_loopback or address == ipaddress.ip_address(own_host)
        except ValueError:
            return False

    def origin_is_allowed(self, origin: str, authority: str, *, is_tls: bool) -> bool:
        """Return whether pages of an origin may call: this server's own, and those that the settings name."""
        own = f"{'https' if is_tls else 'http'}://{authority}"
        return origin in self._rules.allowed_origins or origin == own


def _host_of(authority: str) -> str:
    """Return the host of `host:port`, in lower case and without brackets; empty: it is none."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""
