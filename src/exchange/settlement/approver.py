"""The approver: asks everybody what they know, and lets the writers write to a bus server that has all of it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from clob.v1 import process_service_pb2
from exchange.bus.client import AsyncBus
from exchange.bus.entries import Head, Limits
from exchange.bus.errors import BusRefusal, BusUnavailable
from exchange.bus.registry import RECORD_TTL_MS, ProcessRecord
from exchange.config.environment import Environment
from exchange.domain.frames import ExecutionFrame
from exchange.execution.checkpoints import CheckpointStore
from exchange.serving.internal import Peers
from exchange.settlement.approval import Claim, Tail, judge
from exchange.wire.errors import UnknownFormatError, WireError
from exchange.wire.hashing import chain_hash, input_hash
from exchange.wire.messages import decode

_log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
ASK_S: Final = 2.0
TAIL_ENTRIES: Final = 64
_EVIDENCE: Final = "/clob.v1.ProcessService/GetEvidence"


class ShardNews(NamedTuple):
    """How the writers of a shard are: `stopped` says why they are stopped; empty: they are not."""

    is_approved: bool
    stopped: str


OwnClaims = Callable[[int], Awaitable[Sequence[Claim]]]


class Approver:
    """Looks at the heads of shards, now and every second.

    Attributes:
        news: what was found last, by shard.
        on_news: called when that changes.
    """

    def __init__(
        self,
        bus: AsyncBus,
        environment: Environment,
        store: CheckpointStore,
        peers: Peers,
        own_claims: OwnClaims,
        own_address: Callable[[], str],
        *,
        limits: Limits,
        wait_s: float,
    ) -> None:
        """Make it.

        Args:
            bus: client of the bus.
            environment: whose shards they are.
            store: has the checkpoints.
            peers: the other processes, which are asked for evidence.
            own_claims: what database, archive and the settler know of a shard.
            own_address: of this process, which is not asked.
            limits: of shards that are new.
            wait_s: time that processes have to register anew after the bus has been started again.
        """
        self.news: dict[int, ShardNews] = {}
        self.on_news: Callable[[], None] = lambda: None
        self._bus = bus
        self._environment = environment
        self._store = store
        self._peers = peers
        self._own_claims = own_claims
        self._own_address = own_address
        self._limits = limits
        self._wait_s = wait_s
        self._approved: set[int] = set()
        self._waited_for = ""
        self._approved_since: set[int] = set()

    async def watch(self, shards: Callable[[], Mapping[int, str]]) -> None:
        """Look at all shards, for ever."""
        while True:
            for shard, tag in dict(shards()).items():
                try:
                    await self.look(shard, tag)
                except BusUnavailable as error:
                    _log.warning("the bus does not answer, shard %d is looked at later: %s", shard, error)
                    break
            await asyncio.sleep(LOOK_S)

    async def ensure(self, shard: int, tag: str) -> ShardNews:
        """Look at a shard until its writers may write or are stopped; wait for the bus as long as it takes."""
        while True:
            try:
                news = await self.look(shard, tag)
            except BusUnavailable as error:
                _log.warning("the bus does not answer, shard %d is looked at later: %s", shard, error)
            else:
                if news.is_approved or news.stopped:
                    return news
            await asyncio.sleep(0.1)

    async def look(self, shard: int, tag: str) -> ShardNews:
        """Approve the server for a shard, or stop the shard's writers, if nobody has yet.

        Raises:
            BusUnavailable: it does not answer.
        """
        head = await self._bus.head(tag)
        if head is None or not (head.is_approved or head.stopped):
            head = await self._decide(shard, tag, head)
        if head is not None and head.is_approved:
            self._approved.add(shard)
            self._approved_since.add(shard)
        news = ShardNews(bool(head and head.is_approved), head.stopped if head else "")
        if self.news.get(shard) != news:
            self.news[shard] = news
            self.on_news()
        return news

    async def _decide(self, shard: int, tag: str, head: Head | None) -> Head | None:
        run_id = (await self._bus.server()).run_id
        claims = await self._claims(shard, head, run_id)
        if claims is None:
            return head
        tail = await self._tail(shard, tag, head)
        verdict = judge(tail, claims)
        try:
            if head is None:
                await self._bus.initialise(
                    tag, self._environment.name, shard, self._environment.genesis_hash(shard), self._limits
                )
            if verdict.loss:
                _log.critical("the writers of shard %d are stopped: %s", shard, verdict.loss)
                await self._bus.stop(tag, verdict.loss)
            else:
                await self._bus.approve(tag, run_id)
                _log.info("server process %s is approved for shard %d", run_id, shard)
        except BusRefusal as refusal:
            # It was started again meanwhile: look again.
            _log.warning("shard %d is looked at again: %s", shard, refusal)
        return await self._bus.head(tag)

    # --- evidence ---------------------------------------------------------------------------------------------------

    async def _claims(self, shard: int, head: Head | None, run_id: str) -> list[Claim] | None:
        """Return what everybody knows of a shard; None: somebody has not answered yet, look again.

        Processes get time to register first, unless the shard is new: once for all shards, and again when one is lost
        that was approved since, for the registry may be lost with it.
        """
        claims = list(await self._own_claims(shard))
        claims += [Claim("a checkpoint", n) for n in self._store.positions(shard)[:1]]
        if (
            (head is None or not head.run_id)
            and shard not in self._approved
            and not any(claim.n for claim in claims)
            and await self._is_new_to(shard, await self._others())
        ):
            return claims
        if self._waited_for != run_id or shard in self._approved_since:
            _log.info("processes have %g s to register with server process %s", self._wait_s, run_id)
            await asyncio.sleep(self._wait_s)
            self._waited_for = run_id
            self._approved_since.clear()
        said = await self._ask(shard, await self._others())
        return None if said is None else claims + said

    async def _others(self) -> list[ProcessRecord]:
        """Return the other processes of the registry."""
        return [one for one in await self._peers.processes(fresh=True) if one.address != self._own_address()]

    async def _is_new_to(self, shard: int, records: Sequence[ProcessRecord]) -> bool:
        """Return whether nobody serves a shard, and all say that they know no entry of it."""
        if any(shard in record.shards for record in records):
            return False
        said = await self._ask(shard, records)
        return said is not None and not any(claim.n for claim in said)

    async def _ask(self, shard: int, records: Sequence[ProcessRecord]) -> list[Claim] | None:
        """Return what processes know; None: one has not answered that may know something.

        One that is busy may be the only one who can prove a loss. One that is dead leaves the registry by itself.
        """
        now_us = await self._bus.time_us()
        said = await asyncio.gather(*(self._ask_one(shard, record) for record in records))
        claims: list[Claim] = []
        for record, known in zip(records, said, strict=True):
            if known is not None:
                claims += known
            elif not _is_gone(record, now_us):
                return None
        return claims

    async def _ask_one(self, shard: int, record: ProcessRecord) -> list[Claim] | None:
        """Return what a process knows; None: it does not answer."""
        request = process_service_pb2.GetEvidenceRequest(shards=[shard]).SerializeToString()
        name = f"{record.kind} at {record.address}"
        try:
            ask_evidence: Any = self._peers.channel(record).unary_unary(_EVIDENCE)
            said = await ask_evidence(request, timeout=ASK_S, metadata=self._peers.headers(record))
            answer = process_service_pb2.GetEvidenceResponse.FromString(bytes(said))
        except Exception as error:  # noqa: BLE001 - whatever it was, what the process knows is not known
            _log.warning("%s does not say what it knows of shard %d: %s", name, shard, error)
            return None
        found = []
        for item in answer.shards:
            found.append(Claim(name, item.ingested_n, item.ingested_hash, of_orders=True))
            found.append(Claim(name, item.executed.n, item.executed.chain_hash))
        return found

    async def _tail(self, shard: int, tag: str, head: Head | None) -> Tail:
        """Return what the server has; only hashes that may be asked for are there."""
        if head is None:
            return Tail(shard, None, (), lambda _: None, lambda _: None)
        faults: list[str] = []
        if (head.environment, head.shard, head.genesis_hash) != (
            self._environment.name,
            shard,
            self._environment.genesis_hash(shard),
        ):
            faults.append(f"its head is of shard {head.shard} of environment {head.environment}, with another genesis")
        first_n = max(head.trimmed_n + 1, head.executions_n - TAIL_ENTRIES + 1)
        executions = await self._bus.executions_range(tag, first_n, head.executions_n + 1)
        orders = await self._bus.orders_range(tag, first_n, head.orders_n + 1)
        wanted = list(range(first_n, head.executions_n + 1))
        if [entry.n for entry in executions] != wanted:
            faults.append(f"executions {first_n} .. {head.executions_n} are not all there, or one too many is")
        if [entry.n for entry in orders] != list(range(first_n, head.orders_n + 1)):
            faults.append(f"orders {first_n} .. {head.orders_n} are not all there, or one too many is")
        hashes: dict[int, bytes] = {0: self._environment.genesis_hash(shard)}
        for entry in executions:
            hashes[entry.n] = chain_hash(entry.frame)
            try:
                before = decode(ExecutionFrame, entry.frame).previous_hash
            except (WireError, UnknownFormatError) as error:
                faults.append(f"execution {entry.n} is no frame: {error}")
                continue
            if hashes.setdefault(entry.n - 1, before) != before:
                faults.append(f"execution {entry.n} does not follow execution {entry.n - 1}")
        if hashes.get(head.executions_n, head.executions_hash) != head.executions_hash:
            faults.append(f"the head has another hash than execution {head.executions_n}")
        inputs = {entry.n: input_hash(entry.n, entry.t_us, entry.order_frame) for entry in orders}
        return Tail(shard, head, faults, hashes.get, inputs.get)


def _is_gone(record: ProcessRecord, now_us: int) -> bool:
    """Return whether a process that does not answer is not waited for.

    The record of one that stopped stays for people when the process has ended; what lives announces itself anew.
    """
    is_expired = now_us - record.seen_us > RECORD_TTL_MS * 1000
    return record.state == "DRAINING" or (record.state == "STOPPED" and is_expired)
