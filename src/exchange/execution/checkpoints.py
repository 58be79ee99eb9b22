"""A folder of checkpoints, written so that a crash leaves either all of a file or nothing."""

import logging
import os
import re
from pathlib import Path
from typing import Final

from exchange.domain.state import Checkpoint
from exchange.wire.entries import check_format
from exchange.wire.hashing import state_hash
from exchange.wire.messages import decode

_log = logging.getLogger(__name__)

_NAME: Final = re.compile(r"([0-9]{1,16})\.checkpoint")


class CheckpointStore:
    """Checkpoints by shard and position: `shard-<s>/<n>.checkpoint`, bytes of the engine's own format.

    Several processes may read a folder while one writes it.
    """

    def __init__(self, folder: str | Path) -> None:
        """Use a folder; it is made when something is written."""
        self.folder = Path(folder)

    def write(self, shard: int, n: int, data: bytes) -> Path:
        """Write a checkpoint, read it back, and return its path once it is on the disk.

        Raises:
            OSError: it could not be written, or not as it was meant; no file of that name is left that was not there.
        """
        folder = self.folder / f"shard-{shard}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{n}.checkpoint"
        scratch = folder / f".{n}.{os.getpid()}.part"
        try:
            with scratch.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if scratch.read_bytes() != data:
                raise OSError(f"CHECKPOINT_READ_BACK: {path} does not read as it was written; check the disk")
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
        _sync_folder(folder)
        return path

    def positions(self, shard: int) -> list[int]:
        """Return the positions of a shard's checkpoints, newest first, whatever is in them."""
        try:
            names = [path.name for path in (self.folder / f"shard-{shard}").iterdir()]
        except FileNotFoundError:
            return []
        return sorted((int(match[1]) for name in names if (match := _NAME.fullmatch(name))), reverse=True)

    def newest(self, shard: int) -> tuple[int, bytes] | None:
        """Return position and bytes of the newest checkpoint that is intact; None: there is none.

        Files that are damaged, or of a format that this program does not know, are named in the log and passed over.
        """
        for n in self.positions(shard):
            path = self.folder / f"shard-{shard}" / f"{n}.checkpoint"
            try:
                data = path.read_bytes()
                _check(data)
            except FileNotFoundError:
                continue  # pruned since it was listed
            except (OSError, ValueError) as error:
                _log.warning("passing over checkpoint %s: %s", path, error)
                continue
            return n, data
        return None

    def prune(self, keep: int = 3) -> None:
        """Delete all but the newest `keep` checkpoints of every shard."""
        assert keep > 0, "the newest checkpoint is never deleted"
        for folder in self.folder.glob("shard-*"):
            for n in self.positions(int(folder.name.removeprefix("shard-")))[keep:]:
                (folder / f"{n}.checkpoint").unlink(missing_ok=True)


def _check(data: bytes) -> None:
    check_format("checkpoint", data)
    checkpoint = decode(Checkpoint, data)
    found = state_hash(checkpoint.state)
    if found != checkpoint.state_hash:
        raise ValueError(f"STATE_HASH: its state has hash {found.hex()}, it says {checkpoint.state_hash.hex()}")


def _sync_folder(folder: Path) -> None:
    """Make the name of a new file survive a power cut, where folders can be synced."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
