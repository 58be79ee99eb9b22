"""Checkpoints as bytes: a state, its hash, and nothing else."""

from exchange.domain.frames import FORMAT
from exchange.domain.invariants import broken_in_control, broken_in_shard
from exchange.domain.state import Checkpoint, ControlState, ShardState
from exchange.domain.units import CONTROL_SHARD
from exchange.wire.entries import check_format
from exchange.wire.hashing import state_hash
from exchange.wire.messages import decode, encode


class CheckpointError(ValueError):
    """The bytes are no intact checkpoint of such a shard. Nothing was loaded."""


def write_checkpoint(state: ShardState | ControlState) -> bytes:
    """Return the checkpoint of a state. Equal states give equal bytes, whatever engine they come from."""
    encoded = encode(state)
    return encode(Checkpoint(format=FORMAT, state_hash=state_hash(encoded), state=encoded))


def read_shard_checkpoint(data: bytes) -> ShardState:
    """Return the state in a checkpoint of a trading shard.

    Raises:
        UnknownFormatError: the checkpoint, or the state in it, is of another version.
        CheckpointError: the state does not have the hash that stands beside it, is that of shard 0, or breaks an
            invariant, so that no engine can have written it.
        WireError: the bytes are not canonical.
    """
    encoded = _read(data)
    check_format("shard state", encoded)
    state = decode(ShardState, encoded)
    if state.core.genesis.shard == CONTROL_SHARD:
        raise CheckpointError(
            "CHECKPOINT_SHARD: the checkpoint is of shard 0, which does not trade; load it as control"
        )
    _check(broken_in_shard(state))
    return state


def read_control_checkpoint(data: bytes) -> ControlState:
    """Return the state in a checkpoint of shard 0. Raises as `read_shard_checkpoint` does, for any other shard."""
    encoded = _read(data)
    check_format("control state", encoded)
    state = decode(ControlState, encoded)
    if (shard := state.core.genesis.shard) != CONTROL_SHARD:
        raise CheckpointError(
            f"CHECKPOINT_SHARD: the checkpoint is of shard {shard}, control is shard 0; load that one"
        )
    _check(broken_in_control(state))
    return state


def _check(broken: list[str]) -> None:
    if broken:
        raise CheckpointError(f"CHECKPOINT_INVARIANT: {broken[0]}; take an older checkpoint and replay")


def _read(data: bytes) -> bytes:
    check_format("checkpoint", data)
    checkpoint = decode(Checkpoint, data)
    found = state_hash(checkpoint.state)
    if found != checkpoint.state_hash:
        raise CheckpointError(
            f"STATE_HASH: the checkpoint's state has hash {found.hex()}, not {checkpoint.state_hash.hex()} as it says: "
            "it was damaged; take an older one"
        )
    return checkpoint.state
