"""The settlement plane: the `settlement-plane` command, with shard 0, the settler, and what operators ask of both.

Three kinds of work, each where it belongs: the loop of shard 0 and the settler are threads of their own, everything
else is on the event loop: approving bus servers, carrying links, and the services of the own port.
"""

import asyncio
import secrets
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import Final

import click
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from clob.v1 import process_service_pb2
from clob.v1.admin_service_pb2_grpc import add_AdminServiceServicer_to_server
from clob.v1.matching_service_pb2_grpc import add_MatchingServiceServicer_to_server
from clob.v1.order_service_pb2_grpc import add_OrderServiceServicer_to_server
from clob.v1.position_pb2 import ShardPosition
from clob.v1.settlement_service_pb2_grpc import add_SettlementServiceServicer_to_server
from exchange.admin.desk import OneOperation, OperatorKeyError, read_operator_key
from exchange.admin.peers import GrpcPeers
from exchange.admin.port import NotExecutedYet
from exchange.admin.refusals import AdminRefusal
from exchange.admin.service import Admin
from exchange.bus.client import Bus
from exchange.bus.errors import BusRefusal, BusUnavailable
from exchange.bus.keys import BusKeys
from exchange.config.settings import with_settings
from exchange.control.follower import ControlFollower
from exchange.control.view import CONTROL_TAG, ChainBrokenError
from exchange.domain.limits import REQUEST_ID_BYTES
from exchange.domain.operations import DefineShard, Link, OperatorRole, SignedLink
from exchange.domain.rejects import RejectReason
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.domain.units import CONTROL_SHARD
from exchange.engine.choice import engine_named
from exchange.engine.reference import ControlFactory
from exchange.execution.checkpoints import CheckpointStore
from exchange.execution.durability import durability_refusal
from exchange.execution.loop import Committed, LoopState, ShardLoop
from exchange.execution.stops import LoopStop
from exchange.reference.signing import sign
from exchange.serving.process import CannotStartError, Runtime, Service, State, run_service
from exchange.settlement.approval import Claim
from exchange.settlement.approver import Approver
from exchange.settlement.database import Database, DatabaseError, link_of
from exchange.settlement.host import PlaneHost
from exchange.settlement.intake import Intake
from exchange.settlement.links import LinksInTransit
from exchange.settlement.log import Log
from exchange.settlement.outcome_service import OutcomeServicer
from exchange.settlement.service import ControlServicer, SettlementServicer
from exchange.settlement.settings import PlaneSettings
from exchange.settlement.settler import Round, Settler
from exchange.wire.messages import encode

KIND: Final = "settlement-plane"
SWITCH_INTERVAL_S: Final = 0.001
"""How soon a thread that computes lets another one run: answers wait for it."""
OPEN_LOOK_S: Final = 0.02
CARRY_RETRY_S: Final = 0.2
REFUSED_RETRY_S: Final = 1.0
DEFINE_WAIT_S: Final = 30.0


class Plane(Service):
    """The process."""

    def __init__(self, runtime: Runtime[PlaneSettings]) -> None:
        settings, environment = runtime.settings, runtime.environment
        self.runtime = runtime
        try:
            self.keys = {
                role: read_operator_key(settings.operator_keys / f"{role.name.lower()}.key", role, environment)
                for role in (OperatorRole.TREASURY, OperatorRole.MARKET)
            }
            bus_keys = BusKeys.load(settings.bus_keys)
            own_key = bus_keys.named(settings.bus_key_name)
            factory = engine_named(settings.engine)
        except (OSError, ValueError, OperatorKeyError) as error:
            raise CannotStartError(str(error)) from error
        settings.database.parent.mkdir(parents=True, exist_ok=True)
        store = CheckpointStore(settings.checkpoints)
        self.follower = ControlFollower(runtime.bus, environment, store)
        self.settler = Settler(
            Bus.connect(settings.redis_addr.url),
            environment,
            factory,
            store,
            bus_keys,
            settings.database,
            settings.archive,
            settings.settler(environment.durability),
            self._round_settled,
        )
        self.loop = ShardLoop(
            Bus.connect(settings.redis_addr.url),
            CONTROL_TAG,
            environment.genesis(CONTROL_SHARD),
            ControlFactory(),
            store,
            bus_keys,
            own_key,
            on_progress=self._committed,
            on_state=lambda state, message: runtime.from_thread(self._loop_state, state, message),
            evidence=settings.database.parent / "evidence",
        )
        self.intake = Intake(runtime.bus, own_key)
        self.transit = LinksInTransit()
        self.approver = Approver(
            runtime.bus,
            environment,
            store,
            runtime.peers,
            self._own_claims,
            lambda: runtime.address,
            limits=settings.limits(),
            wait_s=settings.approval_wait_ms / 1000,
        )
        self.approver.on_news = self._spawn_tell_state
        log = Log(runtime.bus, self.settler)
        self.settlement = SettlementServicer(runtime.bus, self.follower, self.settler, log, self.approver.news.get)
        self.control = ControlServicer(runtime.bus, environment, self.loop, self.follower, self.intake, log)
        self.host = PlaneHost(
            runtime,
            self.follower,
            self.loop,
            self.settler,
            self.intake,
            log,
            self.transit,
            self.settlement,
            self.control,
            settings.database,
            settings.archive,
        )
        self.admin = Admin(self.host, GrpcPeers(runtime.peers), self.keys)
        self.follower.on_frame.append(self.admin.on_control_frame)
        own = runtime.own
        own.add(add_AdminServiceServicer_to_server, self.admin)
        own.add(add_SettlementServiceServicer_to_server, self.settlement)
        own.add(add_MatchingServiceServicer_to_server, self.control)
        own.add(
            add_OrderServiceServicer_to_server,
            OutcomeServicer(runtime.bus, environment, self.follower, self.settler),
        )
        runtime.evidence = self._evidence
        runtime.set_shards([CONTROL_SHARD])
        self._carry = {CONTROL_SHARD: asyncio.Event()}
        self._loop_stop = threading.Event()
        self._loop_thread = threading.Thread(target=self._run_loop, name="shard-0", daemon=True)
        self._committed_n = 0
        self._committed_hash = b""
        self._add_metrics()

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bring everything up, shard 0 first, until the shards of the map are settled and the map is as told."""
        runtime = self.runtime
        self.host.address = runtime.address
        refusal = durability_refusal(await runtime.bus.server(), runtime.environment.durability)
        if refusal:
            raise CannotStartError(refusal)
        try:
            self._cursors = self._read_cursors()
        except DatabaseError as error:
            raise CannotStartError(str(error)) from error
        news = await self.approver.ensure(CONTROL_SHARD, CONTROL_TAG)
        self._loop_thread.start()
        self.settler.start()
        while not self.settler.opened.is_set():
            await asyncio.sleep(OPEN_LOOK_S)
        if self.settler.fatal:
            raise CannotStartError(self.settler.fatal, code=3)
        for debited_us, link in await asyncio.wrap_future(self.settler.call(self.settler.links)):
            self.transit.add(link, debited_us)
        runtime.spawn(self._carry_to(CONTROL_SHARD), "links to shard 0")
        self._take_shards()
        if news.stopped:
            await self._tell_state()
            return
        await self._follow()
        for shard, tag in self.follower.view.shards.items():
            await self.approver.ensure(shard, tag)
        runtime.spawn(self.approver.watch(lambda: self.follower.view.shards), "approver")
        self.admin.start()
        await self._define_shards()
        await self._tell_state()

    async def _follow(self) -> None:
        while True:
            try:
                await self.follower.start()
                return
            except BusUnavailable as error:
                self.runtime.log.warning("shard 0 is followed later: %s", error)
                await asyncio.sleep(CARRY_RETRY_S)
            except ChainBrokenError as error:
                raise CannotStartError(str(error), code=3) from error

    async def drain(self) -> None:
        """Stop admin, then the loop of shard 0; what is executed by then is settled, and checkpoints are left."""
        await self.admin.close()
        self._loop_stop.set()
        if self._loop_thread.is_alive():
            await asyncio.to_thread(self._loop_thread.join)
        self.settler.stop()
        if self.settler.is_alive():
            await asyncio.to_thread(self.settler.join)

    async def close(self) -> None:
        """Let go of what is held; wait for what drain had no time for."""
        self._loop_stop.set()
        self.settler.stop()
        await self.follower.stop()
        await self.intake.close()
        for thread in (self._loop_thread, self.settler):
            if thread.is_alive():
                await asyncio.to_thread(thread.join)

    # --- the shard map ----------------------------------------------------------------------------------------------

    async def _define_shards(self) -> None:
        """Have the shards 1 .. --shards in the map, and wait until they are settled here."""
        wanted = [
            shard for shard in range(1, self.runtime.settings.shards + 1) if shard not in self.follower.view.shards
        ]
        if wanted:
            actions = [DefineShard(shard) for shard in wanted]
            job = OneOperation(OperatorRole.MARKET, actions, secrets.token_bytes(REQUEST_ID_BYTES))
            try:
                await self.admin.desk.do(CONTROL_SHARD, job, DEFINE_WAIT_S)
            except (AdminRefusal, NotExecutedYet) as error:
                raise CannotStartError(f"the shard map cannot be made: {error}", code=1) from error
            assert job.outcome is not None
            refusals = set(job.outcome.refusals().values())
            if job.outcome.reason or refusals - {RejectReason.ALREADY_DEFINED}:
                raise CannotStartError(f"the shard map cannot be made: {job.outcome}", code=1)
        for shard, tag in self.follower.view.shards.items():
            await self.approver.ensure(shard, tag)
        while not set(self.follower.view.shards) <= set(self.settler.progress) and not self.settler.fatal:
            await asyncio.sleep(OPEN_LOOK_S)

    def _take_shards(self) -> None:
        """Carry links to every shard that is settled."""
        for shard in self.settler.progress:
            if shard not in self._carry:
                self._carry[shard] = asyncio.Event()
                self.runtime.spawn(self._carry_to(shard), f"links to shard {shard}")
            self._carry[shard].set()

    # --- what the threads tell --------------------------------------------------------------------------------------

    def _round_settled(self, settled: Round) -> None:
        """Pass a round on to the event loop. In the settler's thread."""
        self.runtime.from_thread(self._take_round, settled)

    def _take_round(self, settled: Round) -> None:
        for from_shard, sent in settled.sent:
            self.transit.add(link_of(from_shard, sent), sent.debited_us)
            if sent.to_shard in self._carry:
                self._carry[sent.to_shard].set()
        for shard, n, answers in settled.answers:
            self.transit.settled(shard, n, answers)
            if shard in self._carry:
                self._carry[shard].set()
        if any(shard not in self._carry for shard in settled.progress):
            self._take_shards()
        self._notify()
        if self.settler.fatal or any(one.stopped for one in settled.progress.values()):
            self._spawn_tell_state()

    def _notify(self) -> None:
        self.runtime.spawn(self._notify_all(), "notify")

    async def _notify_all(self) -> None:
        async with self.settlement.moved:
            self.settlement.moved.notify_all()

    def _committed(self, committed: Committed) -> None:
        """Note what shard 0 has committed, as evidence. In the thread of its loop."""
        self._committed_n, self._committed_hash = committed.entries[-1].n, committed.chain_hash

    def _loop_state(self, state: LoopState, message: str) -> None:
        if state is LoopState.STOPPED:
            self._spawn_tell_state()
        elif self.runtime.state is State.SERVING:
            self.runtime.set_message(self._message())

    def _run_loop(self) -> None:
        try:
            self.loop.run(self._loop_stop)
        except LoopStop:
            # Told by its state; operators can still ask us everything.
            return

    def _spawn_tell_state(self) -> None:
        if self.runtime.state in (State.SERVING, State.STOPPED):
            self.runtime.spawn(self._tell_state(), "tell state")

    async def _tell_state(self) -> None:
        """Say whether everything is settled; what has stopped is told, and the rest goes on."""
        stopped = self._stops()
        if stopped and self.runtime.state is not State.DRAINING:
            await self.runtime.stop_rather_than_guess("; ".join(stopped), ends=False)

    def _stops(self) -> list[str]:
        stopped = [self.settler.fatal] if self.settler.fatal else []
        stopped += [one.stopped for one in self.settler.progress.values() if one.stopped and not self.settler.fatal]
        if self.loop.state is LoopState.STOPPED:
            stopped.append(self.loop.message)
        stopped += [news.stopped for news in self.approver.news.values() if news.stopped]
        return list(dict.fromkeys(stopped))

    def _message(self) -> str:
        refused = [
            f"shard {to_shard} refuses links of shard {from_shard}: {reason.name}"
            for (from_shard, to_shard), reason in self.transit.refused.items()
        ]
        waits = [self.loop.message] if self.loop.state is LoopState.WAITING else []
        return "; ".join([*waits, *refused])

    # --- links ------------------------------------------------------------------------------------------------------

    async def _carry_to(self, shard: int) -> None:
        """Send links to a shard for as long as the process runs, until its executions show them."""
        wake = self._carry[shard]
        while True:
            await wake.wait()
            wake.clear()
            while links := self.transit.take(shard):
                signed = [self._sign(link) for link in links]
                tag = self.settler.progress[shard].tag
                try:
                    ingested = await self.intake.enter(shard, tag, links=signed)
                    self.transit.entered(links, ingested.n)
                    # It may have been settled before we knew its position.
                    self.transit.settled(shard, self.settler.progress[shard].n, ())
                except BusRefusal as refusal:
                    self.transit.give_back(links)
                    self.runtime.log.warning("links to shard %d wait: %s", shard, refusal)
                    await asyncio.sleep(REFUSED_RETRY_S)
            if self.transit.refused:
                self.runtime.set_message(self._message())
                await asyncio.sleep(CARRY_RETRY_S)

    def _sign(self, link: Link) -> SignedLink:
        payload = encode(link)
        covered = signed_bytes(SignedKind.LINK, self.runtime.environment.name, payload)
        return SignedLink(payload, sign(self.keys[OperatorRole.TREASURY], covered))

    # --- evidence ---------------------------------------------------------------------------------------------------

    def _read_cursors(self) -> dict[int, tuple[int, bytes]]:
        """Return what the database says before the settler has opened it."""
        settings = self.runtime.settings
        database = Database(settings.database, self.runtime.environment.name, is_durable=False)
        try:
            return database.cursors()
        finally:
            database.close()

    async def _own_claims(self, shard: int) -> Sequence[Claim]:
        """Return what database, archive and we ourselves know of a shard."""
        claims = []
        progress = self.settler.progress.get(shard)
        if progress is not None:
            claims.append(Claim("the database", progress.n, progress.chain_hash))
        elif shard in self._cursors:
            claims.append(Claim("the database", *self._cursors[shard]))
        archive = self.settler.archive(shard)
        if archive is not None and archive.last_n >= archive.first_n:
            claims.append(Claim("the archive", archive.last_n))
        elif archive is None:
            segments = sorted((self.runtime.settings.archive / f"shard-{shard}").glob("*.segment"))
            claims += [Claim("the archive", int(segments[-1].stem) - 1)] if segments else []
        if shard == CONTROL_SHARD and self._committed_n:
            claims.append(Claim("the loop of shard 0", self._committed_n, self._committed_hash))
        if ingested_n := self.intake.ingested().get(shard):
            claims.append(Claim("the intake of settlement-plane", ingested_n, of_orders=True))
        return claims

    def _evidence(self) -> Iterable[process_service_pb2.ShardEvidence]:
        ingested = self.intake.ingested()
        for shard, progress in self.settler.progress.items():
            yield process_service_pb2.ShardEvidence(
                shard=shard,
                ingested_n=ingested.get(shard, 0),
                executed=ShardPosition(shard=shard, n=progress.n, t_us=progress.t_us, chain_hash=progress.chain_hash),
            )

    # --- metrics ----------------------------------------------------------------------------------------------------

    def _add_metrics(self) -> None:
        self.runtime.metrics.registry.register(_PlaneMetrics(self))


class _PlaneMetrics:
    """Reads the figures of settlement when somebody asks for metrics."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    def collect(self) -> Iterable[Metric]:
        """Yield all figures, by shard."""
        settler = self._plane.settler
        settled = GaugeMetricFamily("clob_settled_n", "Last settled position, by shard.", labels=["shard"])
        checkpoint = GaugeMetricFamily("clob_checkpoint_n", "Position of the last checkpoint.", labels=["shard"])
        stopped = GaugeMetricFamily("clob_settlement_stopped", "1: settlement of the shard stopped.", labels=["shard"])
        commands = CounterMetricFamily("clob_settled_commands", "Commands that were settled.", labels=["shard"])
        for shard, progress in settler.progress.items():
            label = [str(shard)]
            settled.add_metric(label, progress.n)
            checkpoint.add_metric(label, progress.checkpoint_n)
            stopped.add_metric(label, bool(progress.stopped))
            commands.add_metric(label, settler.commands_by_shard.get(shard, 0))
        transactions = CounterMetricFamily("clob_settlement_transactions", "Transactions of the database.")
        transactions.add_metric([], settler.transactions)
        links = GaugeMetricFamily("clob_links_in_transit", "Links on their way.")
        links.add_metric([], len(self._plane.transit.all()))
        yield from (settled, checkpoint, stopped, commands, transactions, links)


async def build(runtime: Runtime[PlaneSettings]) -> Plane:
    """Return the service of the process."""
    return Plane(runtime)


@click.command(KIND)
@with_settings(PlaneSettings)
def main(settings: PlaneSettings) -> None:
    """Run shard 0, settle all shards, and serve operators.

    Exit code 0: drained; 1: it failed; 2: it cannot start as it is set up; 3: what it has does not fit together, and it
    stops rather than guess.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    run_service(KIND, settings, build)


if __name__ == "__main__":
    main()
