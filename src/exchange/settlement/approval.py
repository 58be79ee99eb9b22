"""Approval of a bus server: whether what it has of a shard is all that anybody ever knew to be there.

Writers write to a server process only while it is the approved one. After another start of it settlement compares the
ends of its streams with everything that remembers more: database, archive, checkpoints, and the processes that wrote or
read. When nothing is missing the server is approved; when something is, or fits badly, the writers are stopped with a
message that says what, and who knew it. Decisions only; asking is done elsewhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from exchange.bus.entries import Head

WAY_OUT: Final = (
    "restore the bus from its files or a copy that has them and start it again, or, to give up what is missing, start "
    "a new environment; nothing is written meanwhile"
)
MISSING_NAMED_MAX: Final = 6


class Claim(NamedTuple):
    """What somebody knows of the log of a shard.

    Attributes:
        source: who, for people, such as "the database" or "market-matcher at 127.0.0.1:4711".
        n: highest position that they know.
        digest: hash that they know of it; empty: the position alone.
        of_orders: `n` is of the orders stream and `digest` its input hash; else of executions, and the chain hash.
    """

    source: str
    n: int
    digest: bytes = b""
    of_orders: bool = False


@dataclass(frozen=True, slots=True)
class Tail:
    """What a server has of a shard.

    Attributes:
        shard: number of the shard.
        head: as the server has it; None: none.
        faults: what does not fit between head and streams, for people.
        chain_hash_at: gives the chain hash of an execution that is on the bus, or follows one that is; None: not there.
        input_hash_at: gives the input hash of an entry of orders that is on the bus; None: not there.
    """

    shard: int
    head: Head | None
    faults: Sequence[str]
    chain_hash_at: Callable[[int], bytes | None]
    input_hash_at: Callable[[int], bytes | None]


class Verdict(NamedTuple):
    """What to do with a shard: `loss` empty: approve it; `initialise`: make its head first."""

    loss: str
    initialise: bool = False


def judge(tail: Tail, claims: Sequence[Claim]) -> Verdict:
    """Return whether a server has all that is known of a shard.

    Claims of positions that were trimmed from the bus are not looked at: before it was trimmed an entry was settled,
    archived and in a checkpoint, so that nothing can miss it.
    """
    known = [claim for claim in claims if claim.n]
    if tail.head is None:
        if not known:
            return Verdict("", initialise=True)
        most = max(claim.n for claim in known)
        who = _named([f"{claim.source} knows {_stream(claim)} up to {claim.n}" for claim in known])
        return Verdict(
            f"BUS_LOST: shard {tail.shard}: the bus has nothing of it; missing are positions 1 .. "
            f"{most}: {who}; {WAY_OUT}"
        )
    problems = list(tail.faults)
    missing_to = {False: 0, True: 0}
    for claim in known:
        last = tail.head.orders_n if claim.of_orders else tail.head.executions_n
        if claim.n > last:
            missing_to[claim.of_orders] = max(missing_to[claim.of_orders], claim.n)
            problems.append(f"{claim.source} knows {_stream(claim)} up to {claim.n}")
        elif claim.digest:
            found = (tail.input_hash_at if claim.of_orders else tail.chain_hash_at)(claim.n)
            if found is not None and found != claim.digest:
                problems.append(
                    f"{claim.source} knows hash {claim.digest.hex()} at {claim.n} of {_stream(claim)}, the bus has "
                    f"{found.hex()}"
                )
    if not problems:
        return Verdict("")
    missing = [
        f"{stream} {last + 1} .. {missing_to[of_orders]}"
        for stream, of_orders, last in (
            ("orders", True, tail.head.orders_n),
            ("executions", False, tail.head.executions_n),
        )
        if missing_to[of_orders]
    ]
    what = f"missing are {' and '.join(missing)}" if missing else "the log is not the one that was written"
    return Verdict(f"BUS_LOST: shard {tail.shard}: {what}: {_named(problems)}; {WAY_OUT}")


def _stream(claim: Claim) -> str:
    return "orders" if claim.of_orders else "executions"


def _named(problems: Sequence[str]) -> str:
    more = f", and {len(problems) - MISSING_NAMED_MAX} more" if len(problems) > MISSING_NAMED_MAX else ""
    return ", ".join(problems[:MISSING_NAMED_MAX]) + more
