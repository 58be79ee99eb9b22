"""What stands on the bus: entries of the two streams, the head of a shard, and the names of their keys."""

from collections.abc import Sequence
from typing import Any, NamedTuple

ENTRY_OVERHEAD_BYTES = 128
"""What an entry counts in the limits beyond its frame: id, field names, MAC, stamp, and the server's bookkeeping."""


class OrdersEntry(NamedTuple):
    """Entry n of a shard's orders.

    Attributes:
        n: position, dense from 1.
        t_us: sequenced time, microseconds since 1970-01-01 UTC, never before that of entry n-1.
        order_frame: encoded OrderFrame.
        mac: HMAC of the ingress, 32 bytes.
        key_name: name of the bus key that made it.
        commands_total, bytes_total: commands and bytes of all entries up to this one. They serve the limits; they are
            no function of the log and nothing hashes them.
    """

    n: int
    t_us: int
    order_frame: bytes
    mac: bytes
    key_name: str
    commands_total: int
    bytes_total: int


class Stamp(NamedTuple):
    """Field x of an executions entry: what is no function of the log.

    Attributes:
        epoch: fencing token of the matcher that committed it.
        taken_us, executed_us: the matcher's clock when it began and when it had executed the frame.
        commands_total, orders_bytes_total: those of the orders entry that it answers.
        bytes_total: bytes of all executions entries up to this one.
    """

    epoch: int
    taken_us: int
    executed_us: int
    commands_total: int
    bytes_total: int
    orders_bytes_total: int


class ExecutionsEntry(NamedTuple):
    """Entry n of a shard's executions, the answer to entry n of its orders; `frame` is an encoded ExecutionFrame."""

    n: int
    frame: bytes
    stamp: Stamp


class CommitFrame(NamedTuple):
    """An execution frame to be committed; `ingress` (16 bytes) is told of it, nobody where it is empty."""

    frame: bytes
    stamp: Stamp
    ingress: bytes


class Ingested(NamedTuple):
    """Answer of ingest.

    Attributes:
        n, t_us: position and time of the entry.
        gather_us: how long the next frames for this shard should gather; 0: not at all.
        repeated: the frame was there before; this is its first answer again.
    """

    n: int
    t_us: int
    gather_us: int
    repeated: bool


class Limits(NamedTuple):
    """How much of a shard may be on the bus at once.

    Attributes:
        commands_unprocessed_max, bytes_unprocessed_max: in orders and not executed yet.
        bytes_untrimmed_max: in both streams; the bus' memory is bounded by the sum over all shards.
        frames_per_second_max: near it, ingresses are told to gather longer.
    """

    commands_unprocessed_max: int = 131_072
    bytes_unprocessed_max: int = 64 * 1024 * 1024
    bytes_untrimmed_max: int = 256 * 1024 * 1024
    frames_per_second_max: int = 2_000


class Head(NamedTuple):
    """Where a shard stands on the bus; the scripts read and write it together with the streams.

    Attributes:
        environment, shard, genesis_hash: whose streams these are; the hash has 32 bytes.
        run_id: of the approved server process; empty: none is.
        run_id_now: of the server process that answered.
        stopped: why the writers are stopped, for people; empty: they are not.
        orders_n, orders_t_us, orders_commands, orders_bytes: last entry of orders, its time, totals up to it.
        executions_n, executions_hash: last entry of executions and the chain hash after it.
        executions_commands, executed_bytes: totals of the orders entries that are executed.
        executions_bytes: total of the executions entries.
        epoch: fencing token of the present matcher; 0: there was none yet.
        trimmed_n, trimmed_bytes: entries up to there are gone from both streams, and the bytes that they had.
        limits: how much may wait.
    """

    environment: str
    shard: int
    genesis_hash: bytes
    run_id: str
    run_id_now: str
    stopped: str
    orders_n: int
    orders_t_us: int
    orders_commands: int
    orders_bytes: int
    executions_n: int
    executions_hash: bytes
    executions_commands: int
    executed_bytes: int
    executions_bytes: int
    epoch: int
    trimmed_n: int
    trimmed_bytes: int
    limits: Limits

    @property
    def is_approved(self) -> bool:
        """Whether the server that answered is the approved one."""
        return self.run_id != "" and self.run_id == self.run_id_now


class ServerInfo(NamedTuple):
    """The server behind the bus.

    Attributes:
        run_id: new at every start of its process.
        version: such as 7.0.15.
        kind: "redis" or "valkey".
        maxmemory_bytes: its memory limit; 0: none.
        maxmemory_policy: must be noeviction.
        appendonly, appendfsync: as configured, such as "yes" and "always"; empty where the server does not say.
    """

    run_id: str
    version: str
    kind: str
    maxmemory_bytes: int
    maxmemory_policy: str
    appendonly: str
    appendfsync: str


class ShardKeys:
    """Names of a shard's keys. The tag in braces puts all of them into one slot of a cluster."""

    __slots__ = ("executions", "head", "orders", "tag")

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.head = f"clob:{{{tag}}}:head"
        self.orders = f"clob:{{{tag}}}:orders"
        self.executions = f"clob:{{{tag}}}:executions"

    def ingress(self, ingress: bytes) -> str:
        """Return the key of the hash that remembers the last frame of an ingress process."""
        return f"clob:{{{self.tag}}}:ingress:{ingress.hex()}"

    def results(self, ingress: bytes) -> str:
        """Return the channel on which an ingress process is handed the results of its own entries."""
        return f"clob:{{{self.tag}}}:results:{ingress.hex()}"


def default_tag(shard: int) -> str:
    """Return the tag of a shard whose definition names none; that of shard 0."""
    return f"s{shard}"


def tag_in(key: bytes) -> str:
    """Return the tag in the name of a key or channel."""
    return key[key.index(b"{") + 1 : key.index(b"}")].decode()


def execution_bytes(frame: bytes) -> int:
    """Return what an executions entry counts in the limits."""
    return len(frame) + ENTRY_OVERHEAD_BYTES


def write_stamp(stamp: Stamp) -> bytes:
    """Return field x of an executions entry: its numbers in order, in decimal, a space between."""
    return b"%d %d %d %d %d %d" % stamp


def read_stamp(data: bytes) -> Stamp:
    """Return what `write_stamp` wrote."""
    return Stamp(*map(int, data.split(b" ")))


def read_orders_entry(raw: Sequence[Any]) -> OrdersEntry:
    """Return an entry of orders as XRANGE gives it: id, and field names and values in turn."""
    name, fields = raw
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    commands, size = values[b"x"].split(b" ")
    return OrdersEntry(
        n=int(name[: name.index(b"-")]),
        t_us=int(values[b"t"]),
        order_frame=values[b"f"],
        mac=values[b"m"],
        key_name=values[b"k"].decode(),
        commands_total=int(commands),
        bytes_total=int(size),
    )


def read_executions_entry(raw: Sequence[Any]) -> ExecutionsEntry:
    """Return an entry of executions as XRANGE gives it."""
    name, fields = raw
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    return ExecutionsEntry(int(name[: name.index(b"-")]), values[b"f"], read_stamp(values[b"x"]))
