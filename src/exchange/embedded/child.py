"""A child process: started, waited for until it serves, restarted when it dies, drained, and never left behind."""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from exchange.embedded import leash

_log = logging.getLogger(__name__)

STOP_S_MAX: Final = 30
"""Longest drain; then the child is killed, loudly."""


class ChildError(RuntimeError):
    """A child did not do what it should; the message names its log."""


class Child:
    """A program with its log file.

    Attributes:
        name: for people, and of its log.
        niceness: how far it stands back where processes compete for processors.
        arguments: what it is told when it is started the next time.
        ready: what the line said that it printed when it served; empty until then.
    """

    def __init__(
        self,
        name: str,
        program: Sequence[str],
        arguments: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.niceness = 0
        self.arguments = list(arguments)
        self.ready: dict[str, Any] = {}
        self._program = list(program)
        self._log = log
        self._env = dict(env) if env is not None else None
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Number of the process; None: it does not run."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def serves(self) -> bool:
        """Whether it runs and has said that it serves."""
        return self.pid is not None and bool(self.ready)

    @property
    def exit_code(self) -> int | None:
        """How it ended; None: it runs, or never ran."""
        return self._process.returncode if self._process is not None else None

    async def start(self) -> None:
        """Start the program."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), str(self.niceness)),
                *self._program,
                *self.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, **self._env} if self._env is not None else None,
                # Its own process group: Ctrl-C at the terminal is for the parent, which drains children in order.
                process_group=0,
            )
        self.ready = {}

    async def wait_ready(self, seconds_max: float) -> dict[str, Any]:
        """Wait for the line that it prints when it serves; return what it says.

        Raises:
            ChildError: it ended first, or took too long.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(seconds_max):
                while line := await self._process.stdout.readline():
                    if (said := _object(line)).get("ready") is True:
                        self.ready = said
                        self._reading = asyncio.create_task(_discard(self._process.stdout))
                        return said
                code = await self._process.wait()
        except TimeoutError:
            raise ChildError(
                f"NOT_READY: {self.name} did not serve within {seconds_max:.0f} s; {self.last_words()}"
            ) from None
        raise ChildError(f"ENDED: {self.name} ended with {code} before it served; {self.last_words()}")

    def check_running(self) -> None:
        """Raise ChildError if it has ended."""
        if self.exit_code is not None:
            raise ChildError(f"ENDED: {self.name} ended with {self.exit_code}; {self.last_words()}")

    def last_words(self) -> str:
        """Return the end of its log, and where that is."""
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.exists() else []
        errors = [said["message"] for line in lines if (said := _object(line)).get("level") in ("error", "critical")]
        return f"see {self._log}: " + (errors[-1] if errors else " | ".join(lines[-3:]))

    async def wait(self) -> int:
        """Wait until it has ended; return its exit code."""
        assert self._process is not None
        code = await self._process.wait()
        self.ready = {}
        return code

    async def stop(self, seconds_max: float = STOP_S_MAX) -> int | None:
        """Let it drain; kill it where that takes too long. Return its exit code."""
        if self._process is None:
            return None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(seconds_max):
                    await self.wait()
            except TimeoutError:
                _log.error("%s did not drain within %.0f s and is killed; see %s", self.name, seconds_max, self._log)
                await self.kill()
        return self._process.returncode

    async def kill(self) -> None:
        """Kill it and wait until it is gone."""
        if self.pid is not None:
            assert self._process is not None
            self._process.kill()
            await self.wait()


def service(name: str, module: str, arguments: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> Child:
    """Return one of our services as a child, run by this interpreter."""
    return Child(name, [sys.executable, "-m", module], arguments, log, env)


async def _discard(stream: asyncio.StreamReader) -> None:
    """Read what a child still prints, so that it never waits for a reader."""
    while await stream.read(65_536):
        pass


def _object(line: bytes | str) -> dict[str, Any]:
    """Return the JSON object of a line; empty where it is none."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
