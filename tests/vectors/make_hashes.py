"""Makes hashes.json: every hash of the logs, with the bytes that it is taken of, put together by hand."""

import hashlib
import hmac
from collections.abc import Iterator
from typing import Any

from exchange.domain.commands import CancelAllOrders
from exchange.engine.reference import ReferenceFactory
from exchange.local.venue import Venue
from exchange.wire.checkpoint import read_shard_checkpoint
from exchange.wire.messages import encode

INGRESS, BUS_KEY = bytes(range(16)), bytes(range(32))


def vectors() -> dict[str, Any]:
    """Return the document."""
    return {
        "format": 1,
        "what": "Hashes of payloads, entries, execution frames, genesis and state, and the MAC of the bus.",
        "rule": (
            "ARCHITECTURE.md: H = SHA-256, integers are 8 bytes, big-endian. digest = H(payload); "
            "input = H('clob.v1.in' 00 n t f); chain h_n = H('clob.v1.chain' 00 execution frame n); "
            "genesis h_0 = H('clob.v1.genesis' 00 environment 00 shard genesis); state = H('clob.v1.state' 00 state); "
            "mac = HMAC-SHA-256(bus key, 'clob.v1.bus' 00 shard ingress counter f)."
        ),
        "encoding": "bytes are hex; all integers are decimal strings, since they are of 64 bits",
        "digest": [{"payload": data.hex(), "hash": hashlib.sha256(data).hexdigest()} for data in (b"", b"payload")],
        "input": [*_inputs()],
        "chain": [_hashed("execution_frame", b"clob.v1.chain\0", frame) for frame in (b"", _venue().frames[0])],
        "genesis": [*_geneses()],
        "state": [_hashed("state", b"clob.v1.state\0", state) for state in (b"", _state())],
        "mac": [*_macs()],
    }


def _venue() -> Venue:
    venue = Venue(ReferenceFactory(), environment="vectors")
    venue.trade(7, CancelAllOrders())
    return venue


def _state() -> bytes:
    return encode(read_shard_checkpoint(_venue().engine.checkpoint()))


def _hashed(name: str, tag: bytes, data: bytes) -> dict[str, str]:
    return {name: data.hex(), "hashed": (tag + data).hex(), "hash": hashlib.sha256(tag + data).hexdigest()}


def _integer(value: int) -> bytes:
    return bytes([value >> shift & 0xFF for shift in range(56, -8, -8)])


def _inputs() -> Iterator[dict[str, str]]:
    for n, t_us, frame in (
        (1, 0, b""),
        (1, 1_700_000_000_000_000, b"frame"),
        (2**63, 2**53 - 1, _venue().entries[0].order_frame),
    ):
        hashed = b"clob.v1.in\0" + _integer(n) + _integer(t_us) + frame
        yield {
            "n": str(n),
            "t_us": str(t_us),
            "order_frame": frame.hex(),
            "hashed": hashed.hex(),
            "hash": hashlib.sha256(hashed).hexdigest(),
        }


def _geneses() -> Iterator[dict[str, str]]:
    for environment, shard, genesis in (
        ("a", 0, b""),
        ("production", 4095, b"genesis"),
        ("vectors", 1, _venue().genesis),
    ):
        hashed = b"clob.v1.genesis\0" + environment.encode() + b"\0" + _integer(shard) + genesis
        yield {
            "environment": environment,
            "shard": str(shard),
            "genesis": genesis.hex(),
            "hashed": hashed.hex(),
            "hash": hashlib.sha256(hashed).hexdigest(),
        }


def _macs() -> Iterator[dict[str, str]]:
    for key, shard, counter, frame in (
        (b"", 0, 0, b""),
        (BUS_KEY, 1, 1, b"frame"),
        (BUS_KEY, 4095, 2**64 - 1, b"frame"),
    ):
        covered = b"clob.v1.bus\0" + _integer(shard) + INGRESS + _integer(counter) + frame
        yield {
            "bus_key": key.hex(),
            "shard": str(shard),
            "ingress": INGRESS.hex(),
            "counter": str(counter),
            "order_frame": frame.hex(),
            "covered": covered.hex(),
            "mac": hmac.new(key, covered, "sha256").hexdigest(),
        }
