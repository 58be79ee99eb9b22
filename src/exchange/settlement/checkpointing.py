"""Checkpoints of a shard: written from the engine that re-executes it, loaded once by another process, then stored."""

import contextlib
import json
import logging
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exchange.bus.entries import execution_bytes
from exchange.execution.checkpoints import CheckpointStore
from exchange.settlement.shard import Prepared, ShardSettlement

_log = logging.getLogger(__name__)

KEEP: Final = 3
CHECK_S_MAX: Final = 300
RETRY_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class CheckpointPolicy:
    """When a checkpoint is due: as soon as any of these has come together since the last one.

    Attributes:
        entries: so many entries.
        stream_bytes: so many bytes of both streams.
        seconds: so much time, when there was an entry at all.
    """

    entries: int = 200_000
    stream_bytes: int = 64 * 1024 * 1024
    seconds: int = 600


class Checker:
    """Another process that loads checkpoints, for all shards of this one.

    It stays: at a million orders a second a checkpoint is due every half second, and starting a process takes as long.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._last_number = 0
        self._asked: set[int] = set()
        self._answers: dict[int, dict[str, object]] = {}

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        return self._process.pid if self._process is not None else None

    def ask(self, engine: str, shard: int, file: Path) -> int:
        """Ask for a check; return its number."""
        self._collect()
        if self._process is None:
            command = [sys.executable, "-m", "exchange.settlement.check_checkpoint"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert self._process.stdout is not None
            os.set_blocking(self._process.stdout.fileno(), False)
        self._last_number += 1
        self._asked.add(self._last_number)
        asked = {"number": self._last_number, "engine": engine, "shard": shard, "file": str(file)}
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            # It has died, which whoever asks for the answer is told.
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            self._process.stdin.flush()
        return self._last_number

    def answer(self, number: int) -> dict[str, object] | None:
        """Return what a check has found, once; None: it is not known yet."""
        self._collect()
        return self._answers.pop(number, None)

    def wait(self, number: int, seconds_max: float) -> None:
        """Return when the answer to a check is there, or when the process has been killed for taking too long."""
        end_s = time.monotonic() + seconds_max
        while number in self._asked:
            process = self._process
            assert process is not None
            left_s = end_s - time.monotonic()
            assert process.stdout is not None
            if left_s <= 0 or not select.select([process.stdout], [], [], left_s)[0]:
                process.kill()
                process.wait()
            self._collect()

    def forget(self, number: int) -> None:
        """Nobody asks for an answer any more."""
        self._asked.discard(number)
        self._answers.pop(number, None)

    def close(self) -> None:
        """End the process; what it was asked for has no answer."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._collect()
        self._answers.clear()

    def _collect(self) -> None:
        """Take in what the process has said, and what its end says of the rest."""
        process = self._process
        if process is None:
            return
        code = process.poll()
        assert process.stdin is not None
        assert process.stdout is not None
        while chunk := process.stdout.read():
            self._unread += chunk
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            found = json.loads(line)
            if (number := found.pop("number")) in self._asked:
                self._asked.remove(number)
                self._answers[number] = found
        if code is not None:
            self._answers |= {number: {"error": f"the checking process ended with {code}"} for number in self._asked}
            self._asked.clear()
            self._unread = b""
            self._process = None
            process.stdout.close()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()


class Checkpointing:
    """The checkpoints of one shard.

    A checkpoint counts when another process has loaded it and found position, chain and state as they were; until then
    nobody sees it and nothing is trimmed for it.

    Attributes:
        checkpoint_n: position of the last one that counts; 0: the genesis.
        count: how many were written by this process.
    """

    def __init__(
        self,
        store: CheckpointStore,
        engine: str,
        shard: int,
        policy: CheckpointPolicy,
        *,
        checkpoint_n: int,
        settled_n: int,
        settled_bytes: int = 0,
        scratch: Path,
        checker: Checker,
    ) -> None:
        """Make it.

        Args:
            store: where checkpoints go.
            engine: name of the engine of trading shards.
            shard: number of the shard.
            policy: when one is due.
            checkpoint_n: position of the last one that there is; 0: none.
            settled_n: settled position; what is between the two counts for the next one.
            settled_bytes: bytes of both streams between the two, as far as the bus has them.
            scratch: folder for the file that is checked.
            checker: that loads it; may be shared with other shards of this thread.
        """
        self.checkpoint_n = checkpoint_n
        self.count = 0
        self._store = store
        self._engine = engine
        self._shard = shard
        self._policy = policy
        self._scratch = scratch / f".shard-{shard}.checkpoint"
        self._entries = settled_n - checkpoint_n
        self._bytes = settled_bytes
        self._last_s = time.monotonic()
        self._checker = checker
        self._checking: int | None = None
        self._data = b""
        self._wanted: dict[str, object] = {}

    def note(self, prepared: Prepared) -> None:
        """Count what was settled."""
        self._entries += len(prepared.entries)
        self._bytes += sum(
            execution_bytes(entry.orders.order_frame) + execution_bytes(entry.executions.frame)
            for entry in prepared.entries
        )

    def is_due(self) -> bool:
        """Return whether it is time for another one."""
        policy = self._policy
        return self._entries > 0 and (
            self._entries >= policy.entries
            or self._bytes >= policy.stream_bytes
            or time.monotonic() - self._last_s >= policy.seconds
        )

    def step(self, settlement: ShardSettlement) -> None:
        """Take in what a check has found, or begin a checkpoint when one is due. Quick, but for the engine's own part.

        Raises:
            OSError: it cannot be written; it is tried again later.
        """
        if self._checking is not None:
            self._poll()
        elif self.is_due():
            self._begin(settlement)

    def begin_last(self, settlement: ShardSettlement) -> None:
        """Begin a checkpoint at the settled position, unless there is one. Raises OSError."""
        if self._checking is not None and self._wanted["n"] != settlement.ledger.n:
            self._give_up()
        if self._checking is None and settlement.ledger.n != self.checkpoint_n:
            self._begin(settlement)

    def end_last(self) -> None:
        """Wait for the check that is under way and take in what it has found. Raises OSError."""
        if self._checking is None:
            return
        self._checker.wait(self._checking, CHECK_S_MAX)
        self._poll()

    def close(self) -> None:
        """End a check that is under way; its checkpoint does not count."""
        self._give_up()

    def _give_up(self) -> None:
        if self._checking is None:
            return
        self._checker.forget(self._checking)
        self._checking = None
        self._data = b""
        self._scratch.unlink(missing_ok=True)

    def _begin(self, settlement: ShardSettlement) -> None:
        began_s = time.monotonic()
        # What comes in while it is checked counts for the next one.
        self._entries = self._bytes = 0
        self._last_s = began_s
        self._data = settlement.engine.checkpoint()
        self._wanted = {"n": settlement.ledger.n, "chain_hash": settlement.ledger.chain_hash.hex()}
        self._scratch.write_bytes(self._data)
        self._checking = self._checker.ask(self._engine, self._shard, self._scratch)
        _log.info(
            "checkpoint of shard %d at %d: %d bytes in %.2f s, being checked",
            self._shard,
            settlement.ledger.n,
            len(self._data),
            time.monotonic() - began_s,
        )

    def _poll(self) -> None:
        """Store the checkpoint when its check has ended well."""
        assert self._checking is not None
        found = self._checker.answer(self._checking)
        if found is None:
            return
        self._checking = None
        self._scratch.unlink(missing_ok=True)
        data, self._data = self._data, b""
        if {name: found.get(name) for name in self._wanted} != self._wanted:
            # Due again, but not at once: whatever is wrong may be wrong for long.
            self._entries = max(1, self._entries)
            self._last_s = time.monotonic() - self._policy.seconds + RETRY_S
            raise OSError(
                f"CHECKPOINT_CHECK: the checkpoint of shard {self._shard} at {self._wanted['n']} does not load as it "
                f"was written: {found}"
            )
        n = int(str(self._wanted["n"]))
        self._store.write(self._shard, n, data)
        self._store.prune(KEEP)
        self.checkpoint_n = n
        self.count += 1
