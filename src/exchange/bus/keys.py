"""Bus keys, with which an ingress seals its frames: who has Redis' password alone cannot make an entry that counts."""

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from exchange.bus.entries import OrdersEntry
from exchange.domain.limits import INGRESS_BYTES
from exchange.wire.hashing import bus_mac

_HEADER = b"\x08\x01\x12\x10"
_LINE = re.compile(r"([A-Za-z0-9._-]{1,64})\s+([0-9a-f]{64})")


class BusKey(NamedTuple):
    """A secret of 32 bytes, shared by one ingress, the matchers and settlement, under a name."""

    name: str
    secret: bytes

    def __repr__(self) -> str:
        return f"BusKey(name={self.name!r})"


class FrameOrigin(NamedTuple):
    """Who made an order frame: the ingress process (16 bytes) and its counter."""

    ingress: bytes
    counter: int


class SealedFrame(NamedTuple):
    """An order frame as it is handed to `ingest`; sending the same one again is always safe.

    Attributes:
        shard, ingress, counter, ingress_time_us: what the MAC covers, read from the frame.
        order_frame: the encoded frame.
        mac, key_name: the seal.
        digest: SHA-256 of the frame, hex, by which a repetition is known.
        commands: how many it has, for the limits.
        exempt: it is never refused as OVERLOADED: links, operations and clock entries.
    """

    shard: int
    ingress: bytes
    counter: int
    ingress_time_us: int
    order_frame: bytes
    mac: bytes
    key_name: str
    digest: str
    commands: int
    exempt: bool


class BusKeys(Mapping[str, BusKey]):
    """The bus keys that a reader of orders accepts, by name."""

    def __init__(self, keys: Mapping[str, BusKey]) -> None:
        self._keys = dict(keys)

    def __getitem__(self, name: str) -> BusKey:
        return self._keys[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    @classmethod
    def of(cls, *keys: BusKey) -> "BusKeys":
        """Return these keys."""
        return cls({key.name: key for key in keys})

    @classmethod
    def load(cls, path: str | Path) -> "BusKeys":
        """Return the keys in a file of lines `name hex64`; empty lines and those that start with # say nothing.

        Raises:
            ValueError: a line is neither, a name comes twice, or there is no key. No secret is in the message.
            OSError: the file cannot be read.
        """
        keys: dict[str, BusKey] = {}
        for number, line in enumerate(Path(path).read_text().splitlines(), 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            match = _LINE.fullmatch(text)
            if match is None or match[1] in keys:
                raise ValueError(
                    f"BUS_KEYS: line {number} of {path} is not a new name and 64 lowercase hex digits; "
                    "make a secret with `openssl rand -hex 32`"
                )
            keys[match[1]] = BusKey(match[1], bytes.fromhex(match[2]))
        if not keys:
            raise ValueError(f"BUS_KEYS: {path} has no keys; write a line `name` and 64 hex digits for each ingress")
        return cls(keys)

    def named(self, name: str) -> BusKey:
        """Return the key of that name.

        Raises:
            ValueError: there is none; the message lists the names that there are.
        """
        if name not in self._keys:
            raise ValueError(f"BUS_KEYS: there is no bus key {name!r}; there are: {', '.join(sorted(self._keys))}")
        return self._keys[name]


def frame_origin(order_frame: bytes) -> FrameOrigin:
    """Return who made a frame, from its first fields alone.

    The ingest script lets no frame through that does not start with them, so an entry for which this fails was written
    by something else.

    Raises:
        ValueError: the bytes do not start with format 1, an ingress of 16 bytes, a counter and a time.
    """
    start = len(_HEADER) + INGRESS_BYTES
    if not order_frame.startswith(_HEADER) or order_frame[start : start + 1] != b"\x18":
        raise ValueError("FRAME_ORIGIN: an order frame starts with format 1, an ingress of 16 bytes and a counter")
    counter, _ = _varint(order_frame, start + 1)
    return FrameOrigin(order_frame[len(_HEADER) : start], counter)


def frame_time_us(order_frame: bytes) -> int:
    """Return the ingress' time in a frame, in microseconds.

    Raises:
        ValueError: the bytes do not start as a frame does, up to the time.
    """
    return _frame_time_us(order_frame)[0]


def frame_control_n(order_frame: bytes) -> int:
    """Return the position of shard 0 under which a frame was verified; 0: it names none.

    Raises:
        ValueError: the bytes do not start as a frame does, up to the time.
    """
    _, at = _frame_time_us(order_frame)
    return _varint(order_frame, at + 1)[0] if order_frame[at : at + 1] == b"\x28" else 0


def seal(
    key: BusKey,
    shard: int,
    ingress: bytes,
    counter: int,
    order_frame: bytes,
    commands: int,
    exempt: bool = False,
) -> SealedFrame:
    """Return a frame as its ingress hands it to the bus.

    Args:
        key: the bus key of the ingress.
        shard: that it is for.
        ingress: start of the ingress process, 16 bytes; as in the frame.
        counter: of the frame; as in the frame.
        order_frame: the encoded frame.
        commands: how many commands it has.
        exempt: it must never be refused as OVERLOADED.

    Raises:
        ValueError: the frame does not start with this ingress and counter, and with a time.
    """
    if frame_origin(order_frame) != (ingress, counter):
        raise ValueError(f"FRAME_ORIGIN: the order frame is not frame {counter} of ingress {ingress.hex()}")
    return SealedFrame(
        shard=shard,
        ingress=ingress,
        counter=counter,
        ingress_time_us=frame_time_us(order_frame),
        order_frame=order_frame,
        mac=bus_mac(key.secret, shard, ingress, counter, order_frame),
        key_name=key.name,
        digest=hashlib.sha256(order_frame).hexdigest(),
        commands=commands,
        exempt=exempt,
    )


def check_mac(keys: Mapping[str, BusKey], shard: int, ingress: bytes, counter: int, entry: OrdersEntry) -> bool:
    """Return whether the entry was sealed with one of the keys, for this shard, as this frame of this ingress."""
    key = keys.get(entry.key_name)
    if key is None:
        return False
    return hmac.compare_digest(bus_mac(key.secret, shard, ingress, counter, entry.order_frame), entry.mac)


def _frame_time_us(order_frame: bytes) -> tuple[int, int]:
    """Return the ingress' time in a frame, and where the field after it begins."""
    frame_origin(order_frame)
    _, at = _varint(order_frame, len(_HEADER) + INGRESS_BYTES + 1)
    if order_frame[at : at + 1] != b"\x20":
        raise ValueError("FRAME_ORIGIN: an order frame names the time of its ingress after its counter")
    return _varint(order_frame, at + 1)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift <= 63:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("FRAME_ORIGIN: a number at the start of the order frame does not end")
