"""A worker of ingress-verifier: speaks with traders, judges what they send, hands it to the framer of the machine."""

import asyncio
import logging
import secrets
from functools import partial
from pathlib import Path
from typing import Final

from aiohttp import web
from prometheus_client import Gauge

from clob.v1 import order_service_pb2, position_pb2, process_service_pb2
from exchange.bus.errors import BusUnavailable
from exchange.control.follower import ControlFollower
from exchange.control.view import ChainBrokenError
from exchange.domain.units import CONTROL_SHARD
from exchange.engine.verifying import describe_path, is_amiss
from exchange.execution.checkpoints import CheckpointStore
from exchange.ingress.desks import DESK
from exchange.ingress.door import ReadBatch, make_door
from exchange.ingress.messages import Chunk, Connection, FromFramer, Hello, framer_decoder
from exchange.ingress.rates import TokenBuckets
from exchange.ingress.sessions import Sessions
from exchange.ingress.settings import SECRET_BYTES_MIN, IngressSettings
from exchange.ingress.traders import Elsewhere, Traders, follow_settings
from exchange.serving.process import FAILED_EXIT, CannotStartError, Runtime, Service

_log = logging.getLogger(__name__)

RETRY_S: Final = 0.5


class Worker(Service):
    """What a worker process does."""

    def __init__(self, runtime: Runtime[IngressSettings]) -> None:
        settings, environment = runtime.settings, runtime.environment
        self._runtime = runtime
        self._follower = ControlFollower(runtime.bus, environment, CheckpointStore(settings.checkpoints))
        try:
            self._door = make_door(environment, self._follower, settings)
        except ValueError as error:
            raise CannotStartError(str(error)) from error
        verifier = self._door.verifier
        _log.log(
            logging.WARNING if is_amiss(verifier) else logging.INFO,
            "signatures are verified by %s",
            describe_path(verifier),
        )
        self._framer: Connection | None = None
        self._submissions = DESK(
            door=self._door,
            executions=runtime.bus,
            send=self._send,
            outcome_of=self._outcome_of,
            elsewhere_of=Elsewhere(runtime.peers, lambda: self._follower.view).of,
            durability=environment.durability.number,
            commands_max=settings.commands_under_way_max,
        )
        try:
            secret = settings.read_session_secret()
        except (OSError, ValueError) as error:
            raise CannotStartError(str(error)) from error
        if secret is None:
            _log.warning("sessions end with this process: give all ingresses the same --session-secret")
            secret = secrets.token_bytes(SECRET_BYTES_MIN)
        self._traders = Traders(
            door=self._door,
            follower=self._follower,
            submissions=self._submissions,
            sessions=Sessions(environment.name, secret),
            session_rates=TokenBuckets(settings.session_per_second, settings.session_burst),
            peers=runtime.peers,
            stream_messages_max=settings.stream_messages_max,
        )
        port = runtime.add_port("traders", settings.listen_traders, app=_no_http(), reuse_port=True)
        self._traders.add_to(port)
        runtime.evidence = self._evidence
        counts = Gauge(
            "clob_ingress", "What this worker has done so far, by name.", ["what"], registry=runtime.metrics.registry
        )
        for what in self._submissions.counts.as_dict():
            counts.labels(what).set_function(partial(getattr, self._submissions.counts, what))
        counts.labels("commands_under_way").set_function(lambda: self._submissions.commands_under_way)
        Gauge(
            "clob_ingress_verifies_in_lanes",
            "Whether signatures are verified eight at once; 0: one by one, and the log or `clob doctor` says why.",
            registry=runtime.metrics.registry,
        ).set_function(lambda: verifier.path == "ifma")

    async def start(self) -> None:
        """Follow shard 0 to its end and connect to the framer."""
        while True:
            try:
                await self._follower.start()
                break
            except (BusUnavailable, ChainBrokenError) as error:
                _log.warning("shard 0 cannot be followed yet: %s", error)
                await asyncio.sleep(RETRY_S)
        path = self._runtime.settings.child_framer
        if path is None:
            raise CannotStartError("FRAMER: a worker is started by ingress-verifier; run that")
        await self._connect(path)
        self._runtime.spawn(follow_settings(self._door, self._runtime.peers), "shard-settings")

    async def drain(self) -> None:
        """Answer what is under way; take nothing new."""
        self._submissions.is_draining = True
        while not self._submissions.is_idle or self._traders.unanswered:
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Let go of the framer and of shard 0."""
        if self._framer is not None:
            self._framer.close()
        await self._follower.stop()

    # --- the framer -------------------------------------------------------------------------------------------------

    async def _connect(self, path: Path) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, self._framer = await loop.create_unix_connection(
                lambda: Connection(framer_decoder(), self._heard, self._lost), str(path)
            )
        except OSError as error:
            raise CannotStartError(f"FRAMER: {path} does not answer ({error}); ingress-verifier has ended") from error
        self._framer.send(Hello(self._runtime.settings.child_number))

    def _send(self, chunk: Chunk) -> bool:
        return self._framer is not None and self._framer.send(chunk)

    def _heard(self, _: Connection, message: FromFramer) -> None:
        self._submissions.hear(message)

    def _lost(self, _: Connection) -> None:
        """The parent is gone, and this worker goes with it."""
        self._submissions.framer_lost()
        if not self._runtime.stopping.is_set():
            _log.error("the framer is gone; the worker ends")
            self._runtime.end(FAILED_EXIT)

    # --- for others -------------------------------------------------------------------------------------------------

    async def _outcome_of(self, batch: ReadBatch) -> order_service_pb2.GetOutcomeResponse | None:
        return await self._traders.outcome_of(batch)

    def _evidence(self) -> list[process_service_pb2.ShardEvidence]:
        view = self._follower.view
        if not view.position:
            return []
        executed = position_pb2.ShardPosition(
            shard=CONTROL_SHARD, n=view.position, t_us=view.t_us, chain_hash=view.chain_hash
        )
        return [process_service_pb2.ShardEvidence(shard=CONTROL_SHARD, executed=executed)]


async def build(runtime: Runtime[IngressSettings]) -> Worker:
    """Return the service of a worker process."""
    return Worker(runtime)


def _no_http() -> web.Application:
    """Return what answers HTTP/1.1 on the traders' port: where to go instead."""

    async def answer(request: web.Request) -> web.Response:
        message = (
            f"NOT_FOUND: {request.method} {request.path}: this port speaks gRPC with traders; HTTP and JSON are on the "
            "operators' port, 9090 by default"
        )
        error: dict[str, object] = {
            "code": "NOT_FOUND",
            "reason": "NOT_FOUND",
            "message": message,
            "fields": {},
            "retry_after_ms": None,
        }
        return web.json_response({"error": error}, status=404)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return app
