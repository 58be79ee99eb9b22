"""The host of admin: what the settlement plane gives it (`admin.port.Host`)."""

import asyncio
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from clob.v1 import frame_pb2
from clob.v1.account_service_pb2 import FundsInTransit
from clob.v1.admin_service_pb2 import GetConfigResponse, Process
from clob.v1.matching_service_pb2 import ShardStatus
from clob.v1.settlement_service_pb2 import AuditResponse, SettlementPosition
from clob.v1.withdrawal_pb2 import Withdrawal
from exchange.admin.port import (
    BusFacts,
    DiskFacts,
    Executed,
    HeadFacts,
    LoggedEntry,
    NotExecutedYet,
    NotInLogError,
)
from exchange.bus.errors import BusReason, BusRefusal, BusUnavailable
from exchange.bus.registry import ProcessRecord, name_of
from exchange.config.environment import Environment
from exchange.control.follower import ControlFollower
from exchange.control.view import CONTROL_TAG, ControlView
from exchange.domain.control import ControlRequest
from exchange.domain.markets import Market
from exchange.domain.operations import SignedOperation
from exchange.domain.state import AnsweredRequest
from exchange.domain.units import CONTROL_SHARD
from exchange.engine.port import ShardFacts
from exchange.engine.reference import ReferenceControl
from exchange.execution.loop import EngineBusyError, ShardLoop
from exchange.serving.process import Runtime
from exchange.serving.process_service import process_message, setting_messages
from exchange.settlement.archive import ArchiveError
from exchange.settlement.database import WITHDRAWAL_OPEN, Database
from exchange.settlement.intake import Intake
from exchange.settlement.links import LinksInTransit
from exchange.settlement.log import Log
from exchange.settlement.service import ControlServicer, SettlementServicer
from exchange.settlement.settler import Settler

LOOK_S: Final = 0.25
SILENT_US_MAX: Final = 600_000_000
"""How long a process that ended without a word is shown as silent."""
_DOOR_REASON: Final = {
    BusReason.OVERLOADED: "OVERLOADED",
    BusReason.OUT_OF_MEMORY: "OVERLOADED",
    BusReason.CLOCK_SKEW: "CLOCK_SKEW",
}


class PlaneHost:
    """The settlement plane as admin sees it.

    Attributes:
        environment: that it is of.
        address: host:port of the own port, once it is open.
    """

    def __init__(
        self,
        runtime: Runtime[Any],
        follower: ControlFollower,
        loop: ShardLoop[ReferenceControl],
        settler: Settler,
        intake: Intake,
        log: Log,
        transit: LinksInTransit,
        settlement: SettlementServicer,
        control: ControlServicer,
        database_path: Path,
        archive_folder: Path,
    ) -> None:
        self.environment: Environment = runtime.environment
        self.address = ""
        self._runtime = runtime
        self._follower = follower
        self._loop = loop
        self._settler = settler
        self._intake = intake
        self._log = log
        self._transit = transit
        self._settlement = settlement
        self._control = control
        self._database_path = database_path
        self._archive_folder = archive_folder
        self._seen: dict[str, ProcessRecord] = {}

    # --- shard 0 ----------------------------------------------------------------------------------------------------

    @property
    def view(self) -> ControlView:
        """Shard 0 folded."""
        return self._follower.view

    def answered(self, request_id: bytes, by_operator: bool) -> AnsweredRequest | None:
        """Return what shard 0 remembers of a request id."""
        try:
            with self._loop.reading() as engine:
                return engine.answered(request_id, by_operator)
        except EngineBusyError as busy:
            raise NotExecutedYet(CONTROL_SHARD, str(busy)) from None

    # --- every shard ------------------------------------------------------------------------------------------------

    def facts(self, shard: int) -> ShardFacts | None:
        """Return what the state of a shard says."""
        if shard == CONTROL_SHARD:
            try:
                with self._loop.reading() as engine:
                    return engine.facts()
            except EngineBusyError:
                return None
        settlement = self._settler.settlement(shard)
        return settlement.facts if settlement is not None else None

    def markets(self, shard: int) -> Mapping[int, Market]:
        """Return the markets of a trading shard."""
        settlement = self._settler.settlement(shard)
        return settlement.markets if settlement is not None else {}

    async def wait(self, shard: int, holds: Callable[[ShardFacts], bool], wait_s: float) -> bool:
        """Wait until the facts of a shard satisfy something; return whether they do."""
        ends_s = time.monotonic() + wait_s
        while True:
            facts = self.facts(shard)
            if facts is not None and holds(facts):
                return True
            left_s = ends_s - time.monotonic()
            if left_s <= 0:
                return False
            async with self._settlement.moved:
                try:
                    async with asyncio.timeout(min(left_s, LOOK_S)):
                        await self._settlement.moved.wait()
                except TimeoutError:
                    continue

    async def enter(
        self,
        shard: int,
        *,
        operations: Sequence[SignedOperation] = (),
        requests: Sequence[ControlRequest] = (),
        wait_s: float,
    ) -> Executed:
        """Put all of it into one entry of a shard and return its execution frame."""
        tag = self.view.shards.get(shard)
        if tag is None:
            raise NotExecutedYet(shard, f"the shard map has no shard {shard}")
        n, t_us = 0, 0
        try:
            async with asyncio.timeout(wait_s):
                ingested = await self._intake.enter(shard, tag, operations=operations, requests=requests)
                n, t_us = ingested.n, ingested.t_us
                frame = await self._frame(shard, tag, n)
                if shard == CONTROL_SHARD:
                    await self._follower.wait_for(n)
        except TimeoutError:
            what = (
                f"entry {n} is not executed within {wait_s:.1f} s"
                if n
                else f"the bus gave no position in {wait_s:.1f} s"
            )
            raise NotExecutedYet(shard, f"{what}; see `clob doctor`") from None
        except BusRefusal as refusal:
            raise NotExecutedYet(shard, str(refusal), _DOOR_REASON.get(refusal.reason, "UNAVAILABLE")) from None
        except (BusUnavailable, ArchiveError) as error:
            raise NotExecutedYet(shard, str(error)) from None
        return Executed(n, t_us, frame)

    async def _frame(self, shard: int, tag: str, n: int) -> frame_pb2.ExecutionFrame:
        """Return the execution of an entry."""
        try:
            data = (await self._intake.executed(tag, n)).frame
        except LookupError:
            entry = await self._log.entry(shard, tag, n)
            if entry is None:
                raise NotExecutedYet(shard, f"entry {n} is neither on the bus nor in the archive") from None
            data = entry.executions.frame
        return frame_pb2.ExecutionFrame.FromString(data)

    async def entry(self, shard: int, n: int) -> LoggedEntry:
        """Return entry n."""
        tag = self.view.shards.get(shard)
        try:
            found = await self._log.entry(shard, tag, n) if tag is not None else None
        except (BusUnavailable, ArchiveError) as error:
            raise NotInLogError(f"entry {n} of shard {shard}: {error}") from error
        if found is None:
            raise NotInLogError(f"entry {n} of shard {shard} is neither on the bus nor in the archive")
        return LoggedEntry(found.orders.order_frame, found.executions.frame)

    # --- projections ------------------------------------------------------------------------------------------------

    async def transfers(self, account: int) -> Sequence[FundsInTransit]:
        """Return all funds on their way."""
        return [
            FundsInTransit(
                from_shard=one.link.from_shard,
                to_shard=one.link.to_shard,
                link_sequence=one.link.sequence,
                account=transfer.account,
                asset=transfer.asset,
                amount_units=transfer.amount_units,
                debited_us=one.debited_us,
            )
            for one in self._transit.all()
            for transfer in one.link.transfers
            if account in (0, transfer.account)
        ]

    async def withdrawals(self, account: int, state: int, after: int, count: int) -> Sequence[Withdrawal]:
        """Return withdrawals above a number."""
        rows = await self._read(lambda database: database.withdrawals(account, state, after, count))
        progress = self._settler.progress.get(CONTROL_SHARD)
        audited_n = progress.audited_n if progress is not None and not progress.stopped else 0
        found = []
        for row in rows:
            withdrawal = Withdrawal(
                state=row.state,
                requested_n=row.requested_n,
                requested_us=row.requested_us,
                closed_us=row.closed_us,
                payable=row.state == WITHDRAWAL_OPEN and row.requested_n <= audited_n,
            )
            withdrawal.request.withdrawal = row.withdrawal
            withdrawal.request.account = row.account
            withdrawal.request.asset = row.asset
            withdrawal.request.amount_units = row.amount_units
            withdrawal.request.destination = row.destination
            found.append(withdrawal)
        return found

    async def positions(self) -> Sequence[SettlementPosition]:
        """Return how far every shard is settled."""
        return await self._settlement.positions()

    async def audit(self) -> AuditResponse:
        """Return the audit of all assets."""
        return await self._settlement.audit()

    # --- the environment --------------------------------------------------------------------------------------------

    async def processes(self) -> Sequence[Process]:
        """Return the processes of the registry."""
        try:
            records = await self._runtime.bus.processes()
        except BusUnavailable as error:
            raise NotExecutedYet(CONTROL_SHARD, str(error)) from None
        return [process_message(record) for record in self._with_silent(records)]

    def _with_silent(self, records: Sequence[ProcessRecord]) -> list[ProcessRecord]:
        """Return the records with those that were there and ended without a word; they are remembered for a while."""
        now_us = time.time_ns() // 1000
        self._seen.update({name_of(record): record for record in records})
        here = {name_of(record) for record in records}
        for name, record in list(self._seen.items()):
            if name in here:
                continue
            # A process that comes again at the same address, or said that it ends, is not missed.
            replaced = any((one.kind, one.address) == (record.kind, record.address) for one in records)
            if replaced or record.state == "DRAINING" or now_us - record.seen_us > SILENT_US_MAX:
                del self._seen[name]
        missed = [msgspec.structs.replace(one, state="SILENT") for name, one in self._seen.items() if name not in here]
        return [*records, *missed]

    async def bus(self) -> BusFacts:
        """Ask the bus how it is."""
        bus = self._runtime.bus
        try:
            server = await bus.server()
            began_us = time.time_ns() // 1000
            bus_us = await bus.time_us()
            ended_us = time.time_ns() // 1000
        except BusUnavailable as error:
            raise NotExecutedYet(CONTROL_SHARD, str(error)) from None
        return BusFacts(
            kind=server.kind,
            version=server.version,
            run_id=server.run_id,
            maxmemory_policy=server.maxmemory_policy,
            appendonly=server.appendonly,
            appendfsync=server.appendfsync,
            skew_us=bus_us - (began_us + ended_us) // 2,
            round_trip_us=ended_us - began_us,
            maxmemory_bytes=server.maxmemory_bytes,
        )

    async def head(self, shard: int) -> HeadFacts | None:
        """Return the head of a shard."""
        tag = CONTROL_TAG if shard == CONTROL_SHARD else self.view.shards.get(shard)
        try:
            head = await self._runtime.bus.head(tag) if tag is not None else None
        except BusUnavailable as error:
            raise NotExecutedYet(shard, str(error)) from None
        if head is None:
            return None
        return HeadFacts(head.run_id, head.stopped, head.orders_n, head.executions_n, head.trimmed_n)

    async def disks(self) -> Sequence[DiskFacts]:
        """Return where things are kept."""
        places = (
            ("database", self._database_path.parent),
            ("archive", self._archive_folder),
            ("checkpoints", self._runtime.settings.checkpoints),
        )

        def look() -> list[DiskFacts]:
            found = []
            for what, path in places:
                if path.exists():
                    usage = shutil.disk_usage(path)
                    found.append(DiskFacts(what, str(path), usage.free, usage.total))
            return found

        return await asyncio.to_thread(look)

    async def check_database(self) -> str:
        """Return what is wrong with the database."""
        return str(await self._read(lambda database: database.check()))

    def control_status(self) -> ShardStatus:
        """Return the status of shard 0."""
        return self._control.status()

    def own_settings(self) -> GetConfigResponse:
        """Return the settings of this process."""
        return GetConfigResponse(settings=setting_messages(self._runtime.settings))

    async def _read(self, question: Callable[[Database], Any]) -> Any:
        """Return what a question to the database gives, asked over a connection of its own, in another thread."""

        def ask() -> Any:
            database = Database(self._database_path, self.environment.name, is_durable=False, read_only=True)
            try:
                return question(database)
            finally:
                database.close()

        return await asyncio.to_thread(ask)
