"""Request ids: what shard 0 remembers a request by, and the names of its parts.

A call has one name, its request_id. Shard 0 remembers the request ids of operations for ever, with the position of the
answer and a digest of the body (`Control.requests`); that memory is the only one that admin has, so nothing that
happens between the log and the answer to the caller can change an answer. Three rules make one name do for every call:

* An operation that was refused is remembered by shard 0 too, but is no answer: asking again is an attempt of its own,
  whose name is derived from the first one's.
* A call whose actions depend on what there is (numbers that are chosen for the caller) cannot be recognised by the
  digest of its actions. It claims its name with an operation that changes nothing, in the same entry as the first of
  its parts, and the names of the parts are derived from the name and the digest of the request: another request finds
  the name claimed and no parts.
* A user whose key is made here has a name derived from the request's, so that it is told from one who brings a key.
"""

import hashlib
from typing import Final

from google.protobuf.message import Message

from exchange.domain.limits import REQUEST_ID_BYTES

_TAG: Final = b"clob.v1.admin.request\0"
NOT_BODY: Final = ("request_id", "wait_ms_max")
"""Fields that are no part of a request's body."""


def derived(request_id: bytes, *what: bytes | int) -> bytes:
    """Return the name of a part of a request: H over the request's name and what the part is, 16 bytes."""
    parts = [part if isinstance(part, bytes) else part.to_bytes(8, "big") for part in what]
    lengths = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hashlib.sha256(_TAG + request_id + lengths).digest()[:REQUEST_ID_BYTES]


def attempt_name(request_id: bytes, attempt: int) -> bytes:
    """Return the name under which a request is asked the (attempt + 1)-th time, those before having been refused."""
    return derived(request_id, b"attempt", attempt) if attempt else request_id


def made_key_name(request_id: bytes) -> bytes:
    """Return the name of a new user whose key pair is made here."""
    return derived(request_id, b"made key")


def starting_funds_name(user_name: bytes) -> bytes:
    """Return the name of the deposits that a new user starts with."""
    return derived(user_name, b"starting funds")


def body_digest(request: Message) -> bytes:
    """Return H of the request's body: everything but request_id and wait_ms_max; 32 bytes."""
    body = type(request)()
    body.CopyFrom(request)
    for field in NOT_BODY:
        if field in body.DESCRIPTOR.fields_by_name:
            body.ClearField(field)
    body.DiscardUnknownFields()
    return hashlib.sha256(
        body.DESCRIPTOR.full_name.encode() + b"\0" + body.SerializeToString(deterministic=True)
    ).digest()


def part_name(name: bytes, digest: bytes, part: int) -> bytes:
    """Return the name of a part, from 0, of the request of that name and body."""
    return derived(name, b"part", digest, part)
