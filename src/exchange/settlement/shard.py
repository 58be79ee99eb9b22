"""The settlement of one shard: from entries of both streams to a draft that a database writes and the ledger adopts.

What is checked of every entry: its MAC, that re-executing it gives the same bytes, and so its place in the chain and
its input; of a sample of batches, the signature. Then, and only then, its events become postings. Nothing here reads
the bus or writes the database, and a stop leaves ledger and archive as they were.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from clob.v1 import market_pb2
from exchange.bus.keys import BusKey, check_mac, frame_control_n, frame_origin
from exchange.domain.markets import Market
from exchange.domain.stops import EngineStop
from exchange.domain.units import CONTROL_SHARD
from exchange.engine.port import LogEngine, RawEntry
from exchange.settlement.archive import Archived
from exchange.settlement.frames import ReadFrame
from exchange.settlement.ledger import Draft, Ledger, LedgerError, SentLink
from exchange.settlement.names import BatchNames, Naming
from exchange.settlement.namings import DEFAULT_NAMING
from exchange.settlement.signatures import Sample, Sampler
from exchange.wire.errors import UnknownFormatError


class StopReason(StrEnum):
    """Why settlement of a shard has stopped. Names are stable."""

    SEAL_REFUSED = "SEAL_REFUSED"
    """An entry does not carry the MAC of a bus key: whoever wrote it is no ingress of ours."""
    EXECUTION_DIFFERS = "EXECUTION_DIFFERS"
    """Re-executing an entry gives other bytes than the log has."""
    ENGINE_STOPPED = "ENGINE_STOPPED"
    """An entry cannot be executed again."""
    BATCH_SIGNATURE = "BATCH_SIGNATURE"
    """A batch was executed that no key of its account has signed."""
    LEDGER = "LEDGER"
    """The events of a frame break a rule of double entry."""
    LOG_GAP = "LOG_GAP"
    """Entries that are not settled yet are neither on the bus nor in the archive."""
    ARCHIVE_WRITE = "ARCHIVE_WRITE"
    """The disk of the archive is full or broken."""
    HISTORY_DIFFERS = "HISTORY_DIFFERS"
    """What was settled before is not what bus, archive or checkpoint have at that position."""
    RECEIVER_AHEAD = "RECEIVER_AHEAD"
    """The shard has links that their sender never sent."""
    LINK_REFUSED = "LINK_REFUSED"
    """The shard refuses links that the treasury signed."""


class SettlementStop(Exception):  # noqa: N818 - it is no error of the caller's; it is settlement's last word on a shard
    """Settlement of a shard cannot go on; the others do.

    Attributes:
        reason: the rule that is broken.
        shard, n: where.
        detail: what was found, and what to do.
        evidence: bytes by name, to be kept.
    """

    def __init__(
        self, reason: StopReason, shard: int, n: int, detail: str, evidence: Mapping[str, bytes] | None = None
    ) -> None:
        super().__init__(f"{reason}: shard {shard}, entry {n}: {detail}")
        self.reason = reason
        self.shard = shard
        self.n = n
        self.detail = detail
        self.evidence = dict(evidence or {})


class Mark(NamedTuple):
    """A position, with the totals of both streams up to it, which trimming needs."""

    n: int
    orders_bytes: int
    executions_bytes: int

    @property
    def total_bytes(self) -> int:
        """Total of both streams."""
        return self.orders_bytes + self.executions_bytes


@dataclass(slots=True)
class Prepared:
    """Entries that were audited, and what they change.

    Attributes:
        entries: as they go to the archive.
        names: of the batches in them.
        draft: of the ledger.
        frames: what the execution frames say.
        samples: batches whose signatures are to be verified.
        commands: how many the entries have.
    """

    entries: list[Archived]
    names: BatchNames
    draft: Draft
    frames: list[ReadFrame]
    samples: list[Sample] = field(default_factory=list)
    commands: int = 0


class ShardSettlement:
    """One shard as settled.

    Attributes:
        shard, tag: number and hash tag on the bus.
        engine: that re-executes it; at the ledger's position, but for the moments in which entries are prepared.
        ledger: what everybody has.
        facts, markets: what operators ask of the state; replaced, never changed, so that other threads may read them.
        mark: settled position, with the totals that trimming needs.
        max_validity_ms: the longest that a batch may be valid, or might be while this process has known the shard.
        settled_commands: how many commands were settled by this process.
    """

    def __init__(
        self,
        tag: str,
        engine: LogEngine,
        ledger: Ledger,
        keys: Mapping[str, BusKey],
        sampler: Sampler,
        naming: Naming = DEFAULT_NAMING,
    ) -> None:
        assert engine.shard == ledger.shard
        assert (engine.position, engine.chain_hash) == (ledger.n, ledger.chain_hash)
        self.shard = ledger.shard
        self.tag = tag
        self.engine = engine
        self.ledger = ledger
        self.facts = engine.facts()
        self.markets: Mapping[int, Market] = engine.markets()
        self.mark = Mark(ledger.n, 0, 0)
        self.max_validity_ms = _max_validity_ms(engine)
        self.settled_commands = 0
        self._keys = keys
        self._sampler = sampler
        self._naming = naming

    def prepare(self, entries: Sequence[Archived], commands_before: int = 0) -> Prepared:
        """Audit the next entries and return what they change; the engine is then at their end.

        Args:
            entries: of both streams, dense, the first after the ledger's position.
            commands_before: total of commands up to the entry before the first.

        Raises:
            SettlementStop: something does not fit. The engine must not be used any more.
        """
        self._check_dense(entries)
        for entry in entries:
            self._check_seal(entry)
        repeat(self.engine, entries)
        proven = [entry.executions.frame for entry in entries]
        try:
            draft, frames = self.ledger.fold_proven(proven, self.engine.chain_hash)
        except LedgerError as error:
            found = next(entry for entry in entries if entry.orders.n == error.n)
            raise stop_at(StopReason.LEDGER, self.shard, found, f"{error.reason}: {error.detail}") from error
        names = self._naming.name_batches([entry.orders.order_frame for entry in entries], proven)
        commands = entries[-1].orders.commands_total - commands_before
        return Prepared(list(entries), names, draft, frames, self._samples(names), commands)

    def adopt(self, prepared: Prepared) -> None:
        """Make it so: the database has it."""
        self.ledger.adopt(prepared.draft)
        last = prepared.entries[-1]
        self.mark = Mark(last.orders.n, last.orders.bytes_total, last.executions.stamp.bytes_total)
        self.settled_commands += prepared.commands
        if any(frame.changes_markets for frame in prepared.frames):
            self.markets = self.engine.markets()
        self.facts = self.engine.facts()
        self.max_validity_ms = max(self.max_validity_ms, _max_validity_ms(self.engine))

    # --- checks -----------------------------------------------------------------------------------------------------

    def _check_dense(self, entries: Sequence[Archived]) -> None:
        wanted = self.ledger.n
        for entry in entries:
            wanted += 1
            if (entry.orders.n, entry.executions.n) != (wanted, wanted):
                detail = (
                    f"the bus gives orders {entry.orders.n} and executions {entry.executions.n}, {wanted} is next; "
                    "look who else writes to the streams, and restore the bus from its files"
                )
                raise SettlementStop(StopReason.LOG_GAP, self.shard, wanted, detail)

    def _check_seal(self, entry: Archived) -> None:
        orders = entry.orders
        try:
            ingress, counter = frame_origin(orders.order_frame)
            fits = check_mac(self._keys, self.shard, ingress, counter, orders)
        except ValueError:
            fits = False
        if not fits:
            detail = (
                f"it has no MAC of bus key {orders.key_name!r} as this process knows it; if that is a new ingress add "
                "its key to --bus-keys, else somebody writes to the bus who must not"
            )
            raise stop_at(StopReason.SEAL_REFUSED, self.shard, entry, detail)

    def _samples(self, names: BatchNames) -> list[Sample]:
        """Choose samples among the batches that were executed."""
        # The engine of shard 0 has the keys: re-executing it has verified every signature already.
        chosen = self._sampler.chosen(len(names)) if self.shard != CONTROL_SHARD else []
        return list(map(Sample._make, names.executed(chosen))) if chosen else []


def repeat(engine: LogEngine, entries: Sequence[Archived]) -> None:
    """Execute the next entries again and compare the bytes with those that the log has.

    Raises:
        SettlementStop: they differ, or an entry cannot be executed. The engine must not be used any more.
    """
    raw = [RawEntry(entry.orders.n, entry.orders.t_us, entry.orders.order_frame) for entry in entries]
    try:
        ours = engine.apply(raw)
    except (EngineStop, UnknownFormatError) as error:
        stopped = next((entry for entry in entries if entry.orders.n == engine.position + 1), entries[0])
        detail = f"it cannot be executed again: {error}; keep the log, and look how the matcher could"
        raise stop_at(StopReason.ENGINE_STOPPED, engine.shard, stopped, detail) from error
    for entry, frame in zip(entries, ours, strict=True):
        if frame != entry.executions.frame:
            detail = (
                f"re-executing it gives {len(frame)} bytes, the log has {len(entry.executions.frame)} others; compare "
                "the programs of matcher and settlement, the evidence has both frames"
            )
            kept = {"re-executed.frame": frame}
            raise stop_at(StopReason.EXECUTION_DIFFERS, engine.shard, entry, detail, kept)


def control_n_max(entries: Sequence[Archived]) -> int:
    """Return the highest position of shard 0 that entries name, before they are audited; 0: none."""
    highest = 0
    for entry in entries:
        # What is no frame names nothing: auditing it says what is wrong with it.
        with contextlib.suppress(ValueError):
            highest = max(highest, frame_control_n(entry.orders.order_frame))
    return highest


def _max_validity_ms(engine: LogEngine) -> int:
    return market_pb2.ShardSettings.FromString(engine.summary().settings).max_validity_ms


def stop_at(
    reason: StopReason, shard: int, entry: Archived, detail: str, evidence: Mapping[str, bytes] | None = None
) -> SettlementStop:
    """Return what to raise at an entry, with its bytes as evidence."""
    kept = {
        "orders.frame": entry.orders.order_frame,
        "orders.mac": entry.orders.mac,
        "executions.frame": entry.executions.frame,
        **(evidence or {}),
    }
    return SettlementStop(reason, shard, entry.orders.n, detail, kept)


def check_samples(
    prepared: Prepared, shard: int, refusal: Callable[[Sample], str], entry_of: Callable[[int], Archived]
) -> None:
    """Verify the samples again.

    Args:
        prepared: the entries that they are in.
        shard: number of the shard.
        refusal: says why a batch should not have been let in; empty: it is good.
        entry_of: gives an entry of `prepared`, for the evidence.

    Raises:
        SettlementStop: a batch was executed that nobody signed.
    """
    for sample in prepared.samples:
        why = refusal(sample)
        if why:
            entry = entry_of(sample.n)
            detail = (
                f"batch {sample.batch} was executed, but {why}; the ingress whose bus key is {entry.orders.key_name!r} "
                "lets in what it must not: stop it, and revoke that key"
            )
            kept = {"payload": sample.payload, "signature": sample.signature}
            raise stop_at(StopReason.BATCH_SIGNATURE, shard, entry, detail, kept)


def sent_links(prepared: Prepared) -> list[SentLink]:
    """Return the links that entries have sent, by receiver and sequence number."""
    return [prepared.draft.sent[name] for name in sorted(prepared.draft.sent)]
