"""Who is calling: the real address behind a connection, and the certificate it showed."""

import ipaddress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web

from exchange.serving.tls import Certificate, grpc_certificate


@dataclass(frozen=True, slots=True)
class Caller:
    """The other end of a connection.

    Attributes:
        address: host:port, an IPv6 host in brackets; empty: not known.
        host: the host alone, without brackets.
        is_loopback: it is on this machine.
        is_tls: what it sends is encrypted and so is what it gets.
        certificate: its verified certificate; None: it showed none.
    """

    address: str
    host: str
    is_loopback: bool
    is_tls: bool = False
    certificate: Certificate | None = None


UNKNOWN: Final = Caller("", "", is_loopback=False)

# Connections that one_port relays, by the name that the gRPC server sees as its peer. Names are never used twice.
_RELAYED: Final[dict[str, Caller]] = {}


def is_loopback_host(host: str) -> bool:
    """Return whether an address, or the name localhost, is this machine's own."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def caller_of_peername(peername: Any, certificate: Certificate | None = None, *, is_tls: bool = False) -> Caller:
    """Return the caller behind a socket's peer name; a Unix socket is this machine's own."""
    if not isinstance(peername, tuple) or len(peername) < 2:
        return Caller("unix", "unix", is_loopback=True, is_tls=is_tls, certificate=certificate)
    host, port = str(peername[0]).partition("%")[0], peername[1]
    if host.startswith("::ffff:") and "." in host:
        host = host.removeprefix("::ffff:")
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Caller(address, host, is_loopback_host(host), is_tls, certificate)


def remember(peer: str, caller: Caller) -> None:
    """Say who is behind a relayed connection, named as the gRPC server names its peer."""
    _RELAYED[peer] = caller


def forget(peer: str) -> None:
    """Say that a relayed connection has ended."""
    _RELAYED.pop(peer, None)


def caller_of(context: Any) -> Caller:
    """Return who made a gRPC call, of whatever port of ours: relayed or not. UNKNOWN is trusted with nothing."""
    peer = context.peer()
    relayed = _RELAYED.get(peer)
    if relayed is not None:
        return relayed
    scheme, _, rest = peer.partition(":")
    if scheme not in ("ipv4", "ipv6"):
        return UNKNOWN
    host, _, port = unquote(rest).rpartition(":")
    auth = context.auth_context()
    # A plaintext connection is of the type b"insecure".
    is_tls = b"ssl" in auth.get("transport_security_type", ())
    return caller_of_peername((host.strip("[]"), port), grpc_certificate(auth), is_tls=is_tls)


def caller_of_request(request: web.BaseRequest) -> Caller:
    """Return who made an HTTP request. Headers that proxies set are not believed."""
    caller = getattr(request.protocol, "caller", None)
    return caller if isinstance(caller, Caller) else UNKNOWN
