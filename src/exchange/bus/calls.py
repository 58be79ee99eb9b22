"""Calls to the bus as values: the arguments of a command and what its reply means. No input or output in here."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any, Final, Generic, TypeVar

from exchange.bus.entries import (
    ENTRY_OVERHEAD_BYTES,
    CommitFrame,
    ExecutionsEntry,
    Head,
    Ingested,
    Limits,
    OrdersEntry,
    ServerInfo,
    ShardKeys,
    read_executions_entry,
    read_orders_entry,
    read_stamp,
    tag_in,
    write_stamp,
)
from exchange.bus.errors import BusReason, BusRefusal
from exchange.bus.keys import SealedFrame
from exchange.bus.registry import ProcessRecord, name_of, read_record, write_record
from exchange.domain.limits import FRAME_BYTES_MAX

T = TypeVar("T")

HANDED_OUT_BYTES_MAX: Final = 1024 * 1024
"""Longest execution frame that a commit hands to its ingress; of longer ones it says only that they are there."""
RECORDS_KEY: Final = "clob:{processes}:records"
ALIVE_KEY: Final = "clob:{processes}:alive"

_HEAD_NUMBERS: Final = (
    "orders_n",
    "orders_t_us",
    "orders_commands",
    "orders_bytes",
    "executions_n",
    "executions_commands",
    "executed_bytes",
    "executions_bytes",
    "epoch",
    "trimmed_n",
    "trimmed_bytes",
)


class Script:
    """A Lua script: `scripts/common.lua` put in after its first line, and the SHA-1 by which the server knows it."""

    def __init__(self, name: str) -> None:
        folder = resources.files("exchange.bus") / "scripts"
        first, body = (folder / f"{name}.lua").read_text().split("\n", 1)
        self.name = name
        self.source = f"{first}\n{(folder / 'common.lua').read_text()}{body}"
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


SCRIPTS: Final = {
    name: Script(name)
    for name in (
        "ingest",
        "commit",
        "trim",
        "initialise",
        "take_epoch",
        "approve",
        "stop",
        "read_head",
        "announce",
        "processes",
        "withdraw",
    )
}


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One command: its words, and what its reply means. `script` is set where the words are of a script."""

    words: tuple[Any, ...]
    parse: Callable[[Any], T]
    script: Script | None = None

    @property
    def words_with_source(self) -> tuple[Any, ...]:
        """The same call where the server does not know the script yet."""
        assert self.script is not None
        return ("EVAL", self.script.source, *self.words[2:])


def ingest(tag: str, sealed: SealedFrame) -> Call[Ingested]:
    """Return the call that gives a frame its position and time, once."""
    keys = ShardKeys(tag)
    return _script(
        "ingest",
        (keys.head, keys.orders, keys.ingress(sealed.ingress)),
        (
            sealed.shard,
            sealed.ingress,
            sealed.counter,
            sealed.ingress_time_us,
            sealed.digest,
            sealed.order_frame,
            sealed.mac,
            sealed.key_name,
            sealed.commands,
            int(sealed.exempt),
            ENTRY_OVERHEAD_BYTES,
            FRAME_BYTES_MAX,
        ),
        lambda reply: Ingested(reply[0], reply[1], reply[2], bool(reply[3])),
    )


def commit(
    tag: str, epoch: int, after_n: int, after_hash: bytes, frames: Sequence[CommitFrame], chain_hash: bytes
) -> Call[None]:
    """Return the call that appends execution frames."""
    assert frames, "a commit has frames"
    keys = ShardKeys(tag)
    last = frames[-1].stamp
    return _script(
        "commit",
        (keys.head, keys.executions),
        (
            epoch,
            after_n,
            after_hash.hex(),
            len(frames),
            chain_hash.hex(),
            last.commands_total,
            last.orders_bytes_total,
            last.bytes_total,
            keys.results(b""),
            HANDED_OUT_BYTES_MAX,
            *(word for frame in frames for word in (frame.frame, write_stamp(frame.stamp), frame.ingress.hex())),
        ),
        _nothing,
    )


def trim(tag: str, n: int, orders_bytes_total: int, executions_bytes_total: int) -> Call[None]:
    """Return the call that removes entries up to n from both streams."""
    keys = ShardKeys(tag)
    words = (n, orders_bytes_total, executions_bytes_total)
    return _script("trim", (keys.head, keys.orders, keys.executions), words, _nothing)


def initialise(tag: str, environment: str, shard: int, genesis_hash: bytes, limits: Limits) -> Call[bool]:
    """Return the call that makes a shard's head, or changes its limits; the answer is whether it is new."""
    keys = ShardKeys(tag)
    words = (environment, shard, genesis_hash.hex(), *limits)
    return _script("initialise", (keys.head, keys.orders, keys.executions), words, lambda reply: bool(reply[0]))


def take_epoch(tag: str) -> Call[int]:
    """Return the call that raises the epoch and returns it."""
    return _script("take_epoch", (ShardKeys(tag).head,), (), lambda reply: int(reply[0]))


def approve(tag: str, run_id: str, resume: bool) -> Call[None]:
    """Return the call that lets the writers write to a server process."""
    return _script("approve", (ShardKeys(tag).head,), (run_id, int(resume)), _nothing)


def stop(tag: str, message: str) -> Call[None]:
    """Return the call that stops a shard's writers."""
    return _script("stop", (ShardKeys(tag).head,), (message or "stopped without a message",), _nothing)


def head(tag: str) -> Call[Head | None]:
    """Return the call that reads a shard's head; None: it has none."""
    return _script("read_head", (ShardKeys(tag).head,), (), _read_head, checked=False)


def orders_range(tag: str, first_n: int, last_n: int, count: int | None) -> Call[list[OrdersEntry]]:
    """Return the call that reads entries first_n to last_n of orders, those that are there."""
    return _range(ShardKeys(tag).orders, first_n, last_n, count, read_orders_entry)


def executions_range(tag: str, first_n: int, last_n: int, count: int | None) -> Call[list[ExecutionsEntry]]:
    """Return the call that reads entries first_n to last_n of executions, those that are there."""
    return _range(ShardKeys(tag).executions, first_n, last_n, count, read_executions_entry)


def read_orders(positions: Mapping[str, int], count: int, block_ms: int | None) -> Call[dict[str, list[OrdersEntry]]]:
    """Return the call that reads at most `count` entries per shard after its position, and waits for the first."""
    return _read([(ShardKeys(tag).orders, n) for tag, n in positions.items()], count, block_ms, read_orders_entry)


def read_executions(
    positions: Mapping[str, int], count: int, block_ms: int | None
) -> Call[dict[str, list[ExecutionsEntry]]]:
    """Return the call that reads at most `count` entries per shard after its position, and waits for the first."""
    named = [(ShardKeys(tag).executions, n) for tag, n in positions.items()]
    return _read(named, count, block_ms, read_executions_entry)


def announce(record: ProcessRecord, ttl_ms: int) -> Call[None]:
    """Return the call that puts a process into the registry for so long."""
    words = (name_of(record), write_record(record), ttl_ms)
    return _script("announce", (RECORDS_KEY, ALIVE_KEY), words, _nothing)


def withdraw(record: ProcessRecord) -> Call[None]:
    """Return the call that takes a process out of the registry."""
    return _script("withdraw", (RECORDS_KEY, ALIVE_KEY), (name_of(record),), _nothing)


def processes() -> Call[list[ProcessRecord]]:
    """Return the call that reads the registry."""
    keys = (RECORDS_KEY, ALIVE_KEY)
    return _script("processes", keys, (), lambda reply: [read_record(raw) for raw in reply if raw], checked=False)


def time_us() -> Call[int]:
    """Return the call that reads the bus' clock, in microseconds."""
    return Call(("TIME",), lambda reply: int(reply[0]) * 1_000_000 + int(reply[1]))


def info(section: str) -> Call[dict[str, str]]:
    """Return the call that reads what the server says of itself."""
    return Call(("INFO", section), _read_info)


def config(name: str) -> Call[str]:
    """Return the call that reads a setting of the server."""
    return Call(("CONFIG", "GET", name), lambda reply: reply[1].decode() if reply else "")


def shut_down(save: bool) -> Call[None]:
    """Return the call that ends the server process, with a snapshot or without."""
    return Call(("SHUTDOWN", "SAVE" if save else "NOSAVE"), lambda _: None)


def server_info(server: Mapping[str, str], memory: Mapping[str, str], appendonly: str, appendfsync: str) -> ServerInfo:
    """Return what is known of a server, from two sections of INFO and two settings."""
    is_valkey = server.get("server_name") == "valkey" or "valkey_version" in server
    return ServerInfo(
        run_id=server["run_id"],
        version=server.get("valkey_version", server["redis_version"]),
        kind="valkey" if is_valkey else "redis",
        maxmemory_bytes=int(memory["maxmemory"]),
        maxmemory_policy=memory["maxmemory_policy"],
        appendonly=appendonly,
        appendfsync=appendfsync,
    )


def read_result(message: Mapping[str, Any]) -> tuple[str, ExecutionsEntry, bool]:
    """Return tag and entry in a message of a results channel, and whether its frame was left out as too long."""
    said, frame = message["data"].split(b"\n", 1)
    n, stamp = said.split(b" ", 1)
    return tag_in(message["channel"]), ExecutionsEntry(int(n), frame, read_stamp(stamp)), not frame


def _script(
    name: str,
    keys: tuple[str, ...],
    words: tuple[Any, ...],
    parse: Callable[[Sequence[Any]], T],
    *,
    checked: bool = True,
) -> Call[T]:
    script = SCRIPTS[name]
    return Call(
        ("EVALSHA", script.sha, len(keys), *keys, *words), partial(_checked, parse) if checked else parse, script
    )


def _checked(parse: Callable[[Sequence[Any]], T], reply: Sequence[Any]) -> T:
    if reply[0] == b"REFUSED":
        raise BusRefusal(BusReason(reply[1].decode()), reply[2].decode(errors="replace"), reply[3])
    assert reply[0] == b"OK"
    return parse(reply[1:])


def _nothing(_: object) -> None:
    return None


def _range(key: str, first_n: int, last_n: int, count: int | None, read: Callable[[Any], T]) -> Call[list[T]]:
    words = ("XRANGE", key, f"{first_n}-0", f"{last_n}-0", *(("COUNT", count) if count is not None else ()))
    return Call(words, lambda reply: [read(entry) for entry in reply])


def _read(
    named: Sequence[tuple[str, int]], count: int, block_ms: int | None, read: Callable[[Any], T]
) -> Call[dict[str, list[T]]]:
    # BLOCK 0 is for ever, which no caller may ask for: it could not be told to stop.
    block = ("BLOCK", block_ms) if block_ms else ()
    names, positions = [name for name, _ in named], [f"{n}-0" for _, n in named]
    words = ("XREAD", "COUNT", count, *block, "STREAMS", *names, *positions)
    return Call(words, lambda reply: {tag_in(key): [read(entry) for entry in entries] for key, entries in reply or ()})


def _read_head(reply: Sequence[bytes]) -> Head | None:
    run_id_now, *named = reply
    if not named:
        return None
    fields = {name.decode(): value for name, value in zip(named[::2], named[1::2], strict=True)}
    return Head(
        environment=fields["environment"].decode(),
        shard=int(fields["shard"]),
        genesis_hash=bytes.fromhex(fields["genesis_hash"].decode()),
        run_id=fields["run_id"].decode(),
        run_id_now=run_id_now.decode(),
        stopped=fields["stopped"].decode(errors="replace"),
        executions_hash=bytes.fromhex(fields["executions_hash"].decode()),
        limits=Limits(*(int(fields[name]) for name in Limits._fields)),
        **{name: int(fields[name]) for name in _HEAD_NUMBERS},
    )


def _read_info(reply: bytes) -> dict[str, str]:
    lines = (line.split(":", 1) for line in reply.decode(errors="replace").splitlines() if ":" in line)
    return {name: value for name, value in lines}  # noqa: C416 - dict() of lists would not say that they are pairs
