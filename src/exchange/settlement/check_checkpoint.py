"""The check of checkpoints: each is loaded once, in another process than the one that wrote it.

    python -m exchange.settlement.check_checkpoint

Each line of stdin asks for a check: a JSON object with `number`, `engine`, `shard` and `file`. Each line of stdout
answers one: `number`, and position, chain hash and state hash of what was loaded, or `error`. It ends with stdin.
"""

import json
import os
import sys
from pathlib import Path

from exchange.domain.state import Checkpoint
from exchange.domain.units import CONTROL_SHARD
from exchange.engine.choice import engine_named
from exchange.engine.port import LogEngine
from exchange.engine.reference import ControlFactory
from exchange.execution.loop import EngineMaker
from exchange.wire.messages import decode


def check(engine: str, shard: int, data: bytes) -> dict[str, object]:
    """Return what a checkpoint of a shard is.

    Raises:
        ValueError: it is of another shard, or the state that was loaded is not the one that was written.
        Exception: whatever loading it raises.
    """
    maker: EngineMaker[LogEngine] = ControlFactory() if shard == CONTROL_SHARD else engine_named(engine)
    loaded = maker.from_checkpoint(data)
    written = decode(Checkpoint, data).state_hash
    if loaded.shard != shard:
        raise ValueError(f"CHECKPOINT_SHARD: it is of shard {loaded.shard}, not {shard}")
    if loaded.state_hash() != written:
        raise ValueError("STATE_HASH: the state that was loaded has another hash than the one that was written")
    return {"n": loaded.position, "chain_hash": loaded.chain_hash.hex(), "state_hash": written.hex()}


def main() -> None:
    """Check what stdin asks for."""
    os.nice(5)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            found = check(asked["engine"], asked["shard"], Path(asked["file"]).read_bytes())
        except Exception as error:  # noqa: BLE001 - whatever it is, the checkpoint is not good
            found = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({"number": asked["number"], **found}), flush=True)


if __name__ == "__main__":
    main()
