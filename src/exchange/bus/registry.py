"""The registry: which processes there are, where, and how they are. Records end by themselves."""

import msgspec

RECORD_TTL_MS = 5_000
"""How long a record lives unless it is announced again."""


class ProcessRecord(msgspec.Struct, frozen=True):
    """A process, as it announces itself.

    Attributes:
        kind: such as "market-matcher".
        address: host:port of its own port.
        state: such as "STARTING", "SERVING", "DRAINING" or "STOPPED".
        shards: that it serves.
        pid: number of the process on its host.
        started_us, seen_us: when it was started and last announced itself, by its own clock.
        version: of the program.
        message: why it is in this state, for people.
        extra: what a kind has besides, such as the address of another port.
    """

    kind: str
    address: str
    state: str
    shards: tuple[int, ...] = ()
    pid: int = 0
    started_us: int = 0
    seen_us: int = 0
    version: str = ""
    message: str = ""
    extra: dict[str, str] = {}


def name_of(record: ProcessRecord) -> str:
    """Return the name of a record: the same process always has the same."""
    return f"{record.kind}/{record.address}/{record.pid}"


def write_record(record: ProcessRecord) -> bytes:
    """Return a record as it stands on the bus."""
    return msgspec.json.encode(record)


def read_record(data: bytes) -> ProcessRecord:
    """Return what `write_record` wrote; fields that a newer program added are passed over."""
    return msgspec.json.decode(data, type=ProcessRecord)
