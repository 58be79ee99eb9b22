"""What a batch says of itself, strictly decoded: by the core where it is built, by the reference's codec elsewhere."""

from collections.abc import Callable
from typing import NamedTuple

from exchange.domain.commands import Batch, CancelAllOrders, CancelOrder, ReduceOrder
from exchange.engine.choice import DEFAULT_ENGINE
from exchange.wire.messages import decode


class BatchHead(NamedTuple):
    """A batch without its commands, of which it says how many there are, and whether all cancel or reduce orders."""

    account: int
    shard: int
    nonce: int
    valid_until_ms: int
    commands: int
    only_cancels: bool


def read_head(payload: bytes) -> BatchHead:
    """Return the head of a batch, of which every byte was checked.

    Raises:
        WireError: the payload is not the canonical encoding of any batch.
    """
    return BatchHead(*_head(payload))


def _head_by_the_reference(payload: bytes) -> tuple[int, int, int, int, int, bool]:
    batch = decode(Batch, payload)
    only_cancels = all(isinstance(command, CancelOrder | CancelAllOrders | ReduceOrder) for command in batch.commands)
    return batch.account, batch.shard, batch.nonce, batch.valid_until_ms, len(batch.commands), only_cancels


def _head_by_the_fastest() -> Callable[[bytes], tuple[int, int, int, int, int, bool]]:
    if DEFAULT_ENGINE != "core":
        return _head_by_the_reference
    from exchange.engine.core import batch_head

    return batch_head


_head = _head_by_the_fastest()
