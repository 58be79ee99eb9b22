"""Cases: a genesis and entries as JSON, replayed with everything compared after each, and made small."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any, Final

import msgspec

from exchange.domain.commands import Batch, SignedBatch
from exchange.domain.events import BatchResult, Event, LinkResult, OperationResult, OrderAccepted
from exchange.domain.frames import OrderFrame
from exchange.domain.operations import Link, Operation, OperatorRole, SignedLink, SignedOperation
from exchange.domain.signing import SignedKind, signed_bytes
from exchange.engine.port import EngineFactory, RawEntry
from exchange.local.venue import operator_seed
from exchange.reference.signing import sign
from exchange.wire.errors import UnknownFormatError, WireError
from exchange.wire.messages import decode, encode
from tests.differential.pair import Difference, Pair, Stopped
from tests.differential.world import ENVIRONMENT
from tests.support.plain import to_plain

REPLAY: Final = "python -m tests.differential --replay FILE"


@dataclass(frozen=True)
class Step:
    """An entry, and what else was asked then.

    Attributes:
        n, t_us, order_frame: of the entry; n is counted from the one before, which is 1 where nothing is wrong.
        reload: which engines were loaded anew before it: left, right or both.
        restores: the entry may stop the shard, which then goes on from before it.
        what_if: encoded batches that were asked about before it; `what_if_us` at which time.
        loads: a checkpoint, damaged perhaps, that was loaded before it.
    """

    n: int
    t_us: int
    order_frame: bytes
    reload: str = ""
    restores: bool = False
    what_if: tuple[bytes, ...] = ()
    what_if_us: int = 0
    loads: bytes = b""


@dataclass(frozen=True)
class Case:
    """Everything that is needed to see a difference again."""

    seed: int
    theme: str
    genesis: bytes
    steps: tuple[Step, ...]
    difference: str = ""

    def write(self, path: Path) -> None:
        """Write the case as JSON; what the entries say stands beside their bytes."""
        document = {
            "what": f"Entries that two engines answer differently. Replay: {REPLAY}",
            "seed": str(self.seed),
            "theme": self.theme,
            "difference": self.difference.splitlines(),
            "genesis": self.genesis.hex(),
            "steps": [_step_to_json(step) for step in self.steps],
        }
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Case":
        """Return the case that `write` wrote."""
        document = json.loads(path.read_text())
        steps = tuple(_step_from_json(step) for step in document["steps"])
        difference = "\n".join(document["difference"])
        return cls(int(document["seed"]), document["theme"], bytes.fromhex(document["genesis"]), steps, difference)


def _step_to_json(step: Step) -> dict[str, Any]:
    plain: dict[str, Any] = {"n": str(step.n), "t_us": str(step.t_us), "order_frame": step.order_frame.hex()}
    plain |= {"reload": step.reload} if step.reload else {}
    plain |= {"restores": True} if step.restores else {}
    plain |= {"loads": step.loads.hex()} if step.loads else {}
    if step.what_if:
        plain |= {"what_if": [batch.hex() for batch in step.what_if], "what_if_us": str(step.what_if_us)}
    return plain | {"says": _said(step.order_frame)}


def _step_from_json(plain: dict[str, Any]) -> Step:
    return Step(
        int(plain["n"]),
        int(plain["t_us"]),
        bytes.fromhex(plain["order_frame"]),
        plain.get("reload", ""),
        plain.get("restores", False),
        tuple(map(bytes.fromhex, plain.get("what_if", ()))),
        int(plain.get("what_if_us", 0)),
        bytes.fromhex(plain.get("loads", "")),
    )


def _said(order_frame: bytes) -> Any:
    """Return what a frame says, for people."""
    frame = _decoded(OrderFrame, order_frame)
    if frame is None:
        return "malformed"
    said: list[Any] = []
    for message, parts in ((Operation, frame.operations), (Link, frame.links), (Batch, frame.batches)):
        for part in parts:
            record = _decoded(message, part.payload)
            said.append({message.__name__: to_plain(record) if record else "malformed"})
    return said


def _decoded(record: Any, data: bytes) -> Any:
    try:
        return decode(record, data)
    except WireError:
        return None


# --- replay -----------------------------------------------------------------------------------------------------------


def replay(case: Case, left: EngineFactory, right: EngineFactory) -> Difference | None:
    """Return the first difference between two engines over a case, with everything compared after every entry."""
    return _Replay(case, left, right).run()


class _Replay:
    def __init__(self, case: Case, left: EngineFactory, right: EngineFactory) -> None:
        self.case = case
        self.pair = Pair(left, right, case.genesis)
        self.position = 0
        self.steps: list[Step] = []

    def run(self) -> Difference | None:
        try:
            for step in self.case.steps:
                self.enter(step)
        except Difference as difference:
            return difference
        return None

    def enter(self, step: Step) -> tuple[Event, ...] | Stopped:
        """Take a step; `step.n` is what it was in the whole log."""
        pair = self.pair
        self.steps.append(step)
        if step.loads:
            pair.check_load(step.loads, step.order_frame)
        if step.what_if:
            pair.check_what_if(step.what_if, step.what_if_us)
        if step.reload:
            pair.reload(step.reload)
        before = pair.left.checkpoint() if step.restores else b""
        events = pair.apply(RawEntry(step.n, step.t_us, step.order_frame))
        if isinstance(events, Stopped):
            if before:
                pair.restore(before)
            return events
        self.position = step.n
        pair.check_entry(step.t_us, every_hash=True)
        summary = pair.left.summary()
        if summary.open_orders < 400:
            accounts = {event.account for event in events if isinstance(event, OrderAccepted)}
            pair.check_queries(sorted(pair.left.markets()), sorted(accounts))
        return events


# --- shrinking --------------------------------------------------------------------------------------------------------

Name = tuple[int, int, int]
"""A command of the whole log: its entry, its batch there, its place in the batch, from 0."""


@dataclass(frozen=True)
class _Part:
    """A step, or what is left of it; `names` say where the commands of each batch stood in the whole log."""

    step: Step
    place: int
    frame: OrderFrame | None
    batches: tuple[Batch | None, ...] = ()
    names: tuple[tuple[Name, ...], ...] = ()


@dataclass
class Shrinker:
    """Makes a case small while the engines still differ over it.

    What is left is repaired after each cut: positions are dense, operations and links that were executed get the
    sequence numbers that are then the next, and commands name the orders that have other numbers now.
    """

    case: Case
    left: EngineFactory
    right: EngineFactory
    seconds_max: float = 60.0
    tries: int = 0
    _executed: set[tuple[int, str, int]] = field(default_factory=set)
    _named: dict[int, Name] = field(default_factory=dict)
    _best: Case | None = None

    def run(self) -> Case:
        """Return the smallest case that was found in time; the whole one if it does not even differ in a replay."""
        self._deadline = monotonic() + self.seconds_max
        parts = self._read_log()
        if not self._differs(parts):
            return self.case
        parts = self._cut(parts, lambda part: True)
        parts = self._cut_inside(parts)
        parts = self._cut(parts, lambda part: True)
        return self._best or self.case

    def _read_log(self) -> list[_Part]:
        """Return the steps in their parts; learn from the left engine what was executed and how orders are named."""
        parts = []
        log = _Replay(self.case, self.left, self.left)
        for place, step in enumerate(self.case.steps):
            events = log.enter(replace(step, loads=b"", what_if=()))
            frame = _frame_of(step.order_frame)
            batches = tuple(_decoded(Batch, signed.payload) for signed in frame.batches) if frame else ()
            names = tuple(
                tuple((place, number, command) for command in range(len(batch.commands) if batch else 0))
                for number, batch in enumerate(batches)
            )
            parts.append(_Part(step, place, frame, batches, names))
            if not isinstance(events, Stopped):
                self._learn(place, events)
        return parts

    def _learn(self, place: int, events: Iterable[Event]) -> None:
        batch = 0
        for event in events:
            match event:
                case BatchResult():
                    batch = event.batch - 1
                case OrderAccepted():
                    self._named[event.order_id] = (place, batch, event.command - 1)
                case OperationResult() if not event.reason and not event.repeated:
                    self._executed.add((place, "operation", event.operation - 1))
                case LinkResult() if not event.reason and not event.repeated:
                    self._executed.add((place, "link", event.link - 1))
                case _:
                    pass

    def _cut(self, parts: list[_Part], may_go: Callable[[_Part], bool]) -> list[_Part]:
        """Leave out runs of parts, long ones first."""
        length = len(parts) // 2
        while length:
            start = 0
            while start < len(parts):
                fewer = parts[:start] + parts[start + length :]
                if fewer and self._differs(fewer):
                    parts = self._up_to_difference(fewer)
                else:
                    start += length
                if monotonic() > self._deadline:
                    return parts
            length //= 2
        return parts

    def _up_to_difference(self, parts: list[_Part]) -> list[_Part]:
        assert self._best is not None
        return parts[: len(self._best.steps)]

    def _cut_inside(self, parts: list[_Part]) -> list[_Part]:
        """Leave out batches, commands, links and operations."""
        for place in range(len(parts) - 1, -1, -1):
            if place >= len(parts) or parts[place].frame is None:
                continue
            for smaller in (self._without_batch, self._without_command, self._without_other):
                item = 0
                while monotonic() < self._deadline and place < len(parts):
                    part = smaller(parts[place], item)
                    if part is None:
                        break
                    fewer = [*parts[:place], part, *parts[place + 1 :]]
                    if self._differs(fewer):
                        parts = self._up_to_difference(fewer)
                    else:
                        item += 1
        return parts

    @staticmethod
    def _without_batch(part: _Part, item: int) -> _Part | None:
        assert part.frame is not None
        if item >= len(part.batches):
            return None
        frame = msgspec.structs.replace(part.frame, batches=_without(part.frame.batches, item))
        return replace(part, frame=frame, batches=_without(part.batches, item), names=_without(part.names, item))

    @staticmethod
    def _without_command(part: _Part, item: int) -> _Part | None:
        for number, batch in enumerate(part.batches):
            if batch is None or len(batch.commands) == 1:
                continue
            if item < len(batch.commands):
                fewer = msgspec.structs.replace(batch, commands=_without(batch.commands, item))
                names = _without(part.names[number], item)
                return replace(
                    part,
                    batches=(*part.batches[:number], fewer, *part.batches[number + 1 :]),
                    names=(*part.names[:number], names, *part.names[number + 1 :]),
                )
            item -= len(batch.commands)
        return None

    @staticmethod
    def _without_other(part: _Part, item: int) -> _Part | None:
        """Leave out the first parts last: those that stay keep their places, by which it is known what was executed."""
        assert part.frame is not None
        frame = part.frame
        for name in ("operations", "links"):
            there = getattr(frame, name)
            if there and item == 0:
                return replace(part, frame=msgspec.structs.replace(frame, **{name: there[:-1]}))
            item -= bool(there)
        return None

    def _differs(self, parts: Sequence[_Part]) -> bool:
        """Return whether the engines differ over what is left, and remember the smallest such case."""
        self.tries += 1
        case = replace(self.case, steps=())
        run = _Replay(case, self.left, self.right)
        repair = _Repair(self, run.pair.left.shard)
        try:
            for part in parts:
                step = repair.step(part, run.position)
                events = run.enter(step)
                if not isinstance(events, Stopped):
                    repair.observe(part, events)
        except Difference as difference:
            self._best = replace(case, steps=tuple(run.steps), difference=str(difference))
            return True
        return False


class _Repair:
    """Gives what is left of a log the numbers that it needs to be executed."""

    def __init__(self, log: Shrinker, shard: int) -> None:
        self._log = log
        self._shard = shard
        self._orders: dict[Name, int] = {}
        self._sequences: dict[int, int] = {}
        self._links: dict[int, int] = {}

    def step(self, part: _Part, position: int) -> Step:
        n = part.step.n - part.place + position if abs(part.step.n - part.place) < 2**32 else part.step.n
        n = position + 1 if not part.step.restores else n
        if part.frame is None:
            return replace(part.step, n=n)
        batches = [
            self._batch(signed, batch) if batch else signed
            for signed, batch in zip(part.frame.batches, part.batches, strict=True)
        ]
        operations = [self._operation(part.place, *item) for item in enumerate(part.frame.operations)]
        links = [self._link(part.place, *item) for item in enumerate(part.frame.links)]
        frame = msgspec.structs.replace(
            part.frame, batches=tuple(batches), operations=tuple(operations), links=tuple(links)
        )
        return replace(part.step, n=n, order_frame=encode(frame))

    def observe(self, part: _Part, events: Iterable[Event]) -> None:
        names: tuple[Name, ...] = ()
        for event in events:
            if isinstance(event, BatchResult):
                names = part.names[event.batch - 1]
            elif isinstance(event, OrderAccepted) and event.command <= len(names):
                self._orders[names[event.command - 1]] = event.order_id

    def _batch(self, signed: SignedBatch, batch: Batch) -> SignedBatch:
        commands = tuple(self._renamed(command) for command in batch.commands)
        payload = encode(msgspec.structs.replace(batch, commands=commands))
        return signed if payload == signed.payload else msgspec.structs.replace(signed, payload=payload)

    def _renamed(self, command: Any) -> Any:
        name = self._log._named.get(getattr(command, "order_id", 0))
        order_id = self._orders.get(name) if name else None
        return msgspec.structs.replace(command, order_id=order_id) if order_id else command

    def _operation(self, place: int, number: int, signed: SignedOperation) -> SignedOperation:
        operation = _decoded(Operation, signed.payload)
        if operation is None or (place, "operation", number) not in self._log._executed:
            return signed
        sequence = self._sequences[operation.role] = self._sequences.get(operation.role, 0) + 1
        if sequence == operation.sequence:
            return signed
        payload = encode(msgspec.structs.replace(operation, sequence=sequence))
        seed = operator_seed(ENVIRONMENT, OperatorRole(operation.role))
        return SignedOperation(payload, sign(seed, signed_bytes(SignedKind.OPERATOR, ENVIRONMENT, payload)))

    def _link(self, place: int, number: int, signed: SignedLink) -> SignedLink:
        link = _decoded(Link, signed.payload)
        if link is None or (place, "link", number) not in self._log._executed:
            return signed
        sequence = self._links[link.from_shard] = self._links.get(link.from_shard, 0) + 1
        if sequence == link.sequence:
            return signed
        payload = encode(msgspec.structs.replace(link, sequence=sequence))
        seed = operator_seed(ENVIRONMENT, OperatorRole.TREASURY)
        return SignedLink(payload, sign(seed, signed_bytes(SignedKind.LINK, ENVIRONMENT, payload)))


def _frame_of(order_frame: bytes) -> OrderFrame | None:
    try:
        return decode(OrderFrame, order_frame)
    except (WireError, UnknownFormatError):
        return None


def _without(items: tuple[Any, ...], place: int) -> tuple[Any, ...]:
    return items[:place] + items[place + 1 :]
