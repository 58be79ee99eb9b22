"""Hashes of the logs (ARCHITECTURE.md). H is SHA-256; integers are 8 bytes, big-endian."""

import hashlib
import hmac

IN_TAG = b"clob.v1.in\0"
CHAIN_TAG = b"clob.v1.chain\0"
GENESIS_TAG = b"clob.v1.genesis\0"
STATE_TAG = b"clob.v1.state\0"
BUS_TAG = b"clob.v1.bus\0"


def integer(value: int) -> bytes:
    """Return 0 <= value < 2^64 as it stands in everything that is hashed."""
    return value.to_bytes(8, "big")


def digest_of(payload: bytes) -> bytes:
    """Return H(payload): what a nonce, a link or a request id remembers of the bytes that came with it."""
    return hashlib.sha256(payload).digest()


def input_hash(n: int, t_us: int, order_frame: bytes) -> bytes:
    r"""Return H("clob.v1.in\0" n t f), which ties an execution frame to the entry that it answers."""
    return hashlib.sha256(IN_TAG + integer(n) + integer(t_us) + order_frame).digest()


def chain_hash(execution_frame: bytes) -> bytes:
    r"""Return h_n = H("clob.v1.chain\0" ExecutionFrame_n); the frame has h_(n-1) inside."""
    return hashlib.sha256(CHAIN_TAG + execution_frame).digest()


def genesis_hash(environment: str, shard: int, genesis: bytes) -> bytes:
    r"""Return h_0 = H("clob.v1.genesis\0" environment "\0" shard genesis), `genesis` being the encoded Genesis."""
    return hashlib.sha256(GENESIS_TAG + environment.encode() + b"\0" + integer(shard) + genesis).digest()


def state_hash(state: bytes) -> bytes:
    r"""Return H("clob.v1.state\0" state), `state` being the encoded ShardState or ControlState."""
    return hashlib.sha256(STATE_TAG + state).digest()


def bus_mac(bus_key: bytes, shard: int, ingress: bytes, counter: int, order_frame: bytes) -> bytes:
    r"""Return field m of an orders entry: HMAC-SHA-256 under the bus key of the ingress.

    Over "clob.v1.bus\0", shard, the 16 bytes of the ingress, counter, and the frame.
    """
    return hmac.digest(bus_key, BUS_TAG + integer(shard) + ingress + integer(counter) + order_frame, "sha256")
