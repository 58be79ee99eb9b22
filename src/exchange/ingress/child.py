"""The children of ingress-verifier: workers and the operators' front, each a process of its own.

    python -m exchange.ingress.child worker|front ARGUMENTS

ARGUMENTS are those of ingress-verifier and hidden ones of its. The parent holds the other end of standard input: when
it is closed, the parent is gone, and the child ends.
"""

import asyncio
import dataclasses
import sys
from typing import Final

import click

from exchange.config.settings import with_settings
from exchange.config.values import Endpoint
from exchange.ingress.settings import IngressSettings
from exchange.serving.process import FAILED_EXIT, Build, Runtime, Service, run_service

WORKER: Final = "ingress-worker"
FRONT: Final = "ingress-front"
ADMIN: Final = "admin"
"""What the ready line calls the operators' address."""


class Front(Service):
    """The operators' front as the service of a process."""

    def __init__(self, runtime: Runtime[IngressSettings]) -> None:
        self._runtime = runtime
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve; returns when the port is open."""
        from exchange.ingress.front import serve_front

        runtime = self._runtime
        address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        listen = str(runtime.settings.listen_admin)
        serving = serve_front(
            runtime.settings, runtime.environment, runtime.bus, listen, address.set_result, self._stop
        )
        self._task = runtime.spawn(serving, "front")
        await asyncio.wait((address, self._task), return_when=asyncio.FIRST_COMPLETED)
        if not address.done():
            # Whatever it failed with is what this process fails with.
            self._task.result()
        runtime.set_extra(ADMIN, await address)

    async def drain(self) -> None:
        """End the calls that are under way."""
        self._stop.set()
        if self._task is not None:
            await asyncio.wait((self._task,))


async def watch_parent(runtime: Runtime[IngressSettings]) -> None:
    """End the process when its parent is gone."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(1024):
        pass
    if not runtime.stopping.is_set():
        runtime.log.error("ingress-verifier is gone; the process ends")
        runtime.end(FAILED_EXIT)


async def _build_front(runtime: Runtime[IngressSettings]) -> Front:
    return Front(runtime)


def _with_parent(build: Build[IngressSettings]) -> Build[IngressSettings]:
    async def watched(runtime: Runtime[IngressSettings]) -> Service:
        runtime.spawn(watch_parent(runtime), "watch-parent")
        return await build(runtime)

    return watched


@click.command()
@click.argument("role", type=click.Choice(["worker", "front"]))
@with_settings(IngressSettings)
def main(role: str, settings: IngressSettings) -> None:
    """Run a child of ingress-verifier; it is started by its parent."""
    # Its own port is for this machine: operators reach it through the parent's address and the registry.
    settings = dataclasses.replace(settings, listen=Endpoint("127.0.0.1", 0), advertise=None)
    if role == "worker":
        from exchange.ingress import worker

        run_service(WORKER, settings, _with_parent(worker.build))
    else:
        run_service(FRONT, settings, _with_parent(_build_front))


if __name__ == "__main__":
    main()
