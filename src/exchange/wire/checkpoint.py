"""Checkpoints as bytes: a state, its hash, and nothing else."""

from exchange.domain.frames import FORMAT
from exchange.domain.state import Checkpoint, ControlState, ShardState
from exchange.wire.entries import check_format
from exchange.wire.hashing import state_hash
from exchange.wire.messages import decode, encode


class CheckpointError(ValueError):
    """The bytes are no intact checkpoint. Nothing was loaded."""


def write_checkpoint(state: ShardState | ControlState) -> bytes:
    """Return the checkpoint of a state. Equal states give equal bytes, whatever engine they come from."""
    encoded = encode(state)
    return encode(Checkpoint(format=FORMAT, state_hash=state_hash(encoded), state=encoded))


def read_shard_checkpoint(data: bytes) -> ShardState:
    """Return the state in a checkpoint of a trading shard.

    Raises:
        UnknownFormatError: the checkpoint, or the state in it, is of another version.
        CheckpointError: the state does not have the hash that stands beside it.
        WireError: the bytes are not canonical.
    """
    encoded = _read(data)
    check_format("shard state", encoded)
    return decode(ShardState, encoded)


def read_control_checkpoint(data: bytes) -> ControlState:
    """Return the state in a checkpoint of shard 0. Raises as `read_shard_checkpoint` does."""
    encoded = _read(data)
    check_format("control state", encoded)
    return decode(ControlState, encoded)


def _read(data: bytes) -> bytes:
    check_format("checkpoint", data)
    checkpoint = decode(Checkpoint, data)
    if state_hash(checkpoint.state) != checkpoint.state_hash:
        raise CheckpointError("STATE_HASH: the checkpoint's state does not have the hash beside it; take an older one")
    return checkpoint.state
