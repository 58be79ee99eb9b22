"""Two engines side by side: each is asked the same, and must say the same."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec

from exchange.domain.events import Event
from exchange.domain.frames import ExecutionFrame
from exchange.domain.stops import EngineStop
from exchange.engine.port import Engine, EngineFactory, RawEntry
from exchange.wire.checkpoint import CheckpointError
from exchange.wire.errors import UnknownFormatError, WireError
from exchange.wire.messages import decode
from tests.support.plain import to_plain

HASHED_PER_ENTRY: Final = 100
"""Records from which on the episode that fills everything hashes after so many records' worth of entries."""
LEVELS_MAX: Final = 5


class Difference(AssertionError):  # noqa: N818 - it is what was looked for
    """The engines do not say the same.

    Attributes:
        what: was asked.
        left, right: what the engine that is compared with said, and what the engine under test said.
    """

    def __init__(self, what: str, left: object, right: object) -> None:
        super().__init__(what, left, right)
        self.what = what
        self.left = left
        self.right = right

    def __str__(self) -> str:
        return f"{self.what}\n  expected {_shown(self.left)}\n  got      {_shown(self.right)}"


@dataclass(frozen=True)
class Stopped:
    """An error that an engine raised: kind, and what of it must be the same on both sides."""

    kind: str
    detail: tuple[object, ...]
    text: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stopped) and (self.kind, self.detail) == (other.kind, other.detail)

    def __hash__(self) -> int:
        return hash((self.kind, self.detail))

    @property
    def counted_as(self) -> str:
        """What coverage counts it as."""
        return f"stop {self.detail[0] if self.kind == 'EngineStop' else 'UNKNOWN_FORMAT'}"


def outcome(ask: Callable[[], Any]) -> Any:
    """Return what a call returns, or as Stopped what it raises, as far as the port says what it raises.

    What else an engine raises, a panic among it, is an outcome of its own that no other is equal to.
    """
    try:
        return ask()
    except EngineStop as stop:
        return Stopped("EngineStop", (str(stop.reason),), str(stop))
    except UnknownFormatError as error:
        return Stopped("UnknownFormatError", (error.what, error.found), str(error))
    except WireError as error:
        return Stopped("WireError", (str(error.reason), error.field, error.offset), str(error))
    except CheckpointError as error:
        return Stopped("CheckpointError", (_reason_in(str(error)),), str(error))
    except KeyError as error:
        return Stopped("KeyError", error.args, str(error))
    except ValueError as error:
        return Stopped("ValueError", (str(error).partition(":")[0],), str(error))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of the core is no Exception
        return Stopped(f"unforeseen {type(error).__name__}", (object(),), str(error))


def _reason_in(text: str) -> str:
    """Return the reason that an error's text starts with, and the number of the invariant that was broken."""
    reason, _, rest = text.partition(": ")
    return f"{reason} {rest[:4]}" if reason == "CHECKPOINT_INVARIANT" else reason


class Pair:
    """An engine under test on the right, another that says what is right on the left, in the same state.

    Attributes:
        counts: what was compared, by kind.
    """

    def __init__(self, left: EngineFactory, right: EngineFactory, genesis: bytes) -> None:
        self._factories = left, right
        self.left: Engine = left.from_genesis(genesis)
        self.right: Engine = right.from_genesis(genesis)
        self.counts: Counter[str] = Counter()
        self._unhashed = 0

    def same(self, what: str, ask: Callable[[Engine], Any]) -> Any:
        """Ask both the same and return the answer.

        Raises:
            Difference: they do not say the same.
        """
        left, right = outcome(lambda: ask(self.left)), outcome(lambda: ask(self.right))
        self.counts[what.partition(" ")[0]] += 1
        if left != right:
            raise Difference(what, left, right)
        return left

    def apply(self, entry: RawEntry) -> tuple[Event, ...] | Stopped:
        """Execute an entry; return what happened."""
        left, right = outcome(lambda: self.left.apply([entry])), outcome(lambda: self.right.apply([entry]))
        self.counts["apply"] += 1
        if isinstance(left, Stopped):
            if left != right:
                raise Difference(f"entry {entry.n} stops", left, right)
            self._check_stopped(entry)
            return left
        frame: bytes = left[0]
        if isinstance(right, Stopped) or frame != right[0]:
            raise _frame_difference(entry, frame, right if isinstance(right, Stopped) else right[0])
        return decode(ExecutionFrame, frame).events

    def _check_stopped(self, entry: RawEntry) -> None:
        self.same("position after a stop", lambda engine: engine.position)
        self.same("chain_hash after a stop", lambda engine: engine.chain_hash)
        again = RawEntry(entry.n, entry.t_us, b"")
        self.same("apply after a stop", lambda engine: engine.apply([again]))
        self.same("checkpoint after a stop", lambda engine: engine.checkpoint())
        self.same("summary after a stop", lambda engine: engine.summary())

    def check_entry(self, t_us: int, *, every_hash: bool) -> None:
        """Compare what costs little after each entry, and the state's hash as often as its size allows."""
        summary = self.same("summary", lambda engine: engine.summary())
        self.same("has_due_work", lambda engine: engine.has_due_work(t_us + 1))
        self.same("next_due_us", lambda engine: engine.next_due_us())
        records = summary.open_orders + summary.live_nonces + summary.accounts + summary.markets + summary.timers
        self._unhashed += HASHED_PER_ENTRY
        if every_hash or self._unhashed >= records:
            self._unhashed = 0
            self.check_state()

    def check_state(self) -> None:
        """Compare state hash and position."""
        self.same("state_hash", lambda engine: engine.state_hash())
        self.same("position", lambda engine: (engine.shard, engine.position, engine.chain_hash, engine.events_written))

    def check_queries(self, markets: Sequence[int], accounts: Sequence[int]) -> None:
        """Compare what services ask about these markets and accounts, which need not be there."""
        for market in markets:
            self._check_market(market)
        for account in accounts:
            self._check_account(account)
        self.same("facts", lambda engine: engine.facts())
        self.same("markets", lambda engine: engine.markets())

    def _check_market(self, market: int) -> None:
        self.same(f"depth of market {market}", lambda engine: engine.depth(market, LEVELS_MAX))
        self.same(f"book of market {market}", lambda engine: engine.book(market, LEVELS_MAX))

    def _check_account(self, account: int) -> None:
        self.same(f"balances of account {account}", lambda engine: engine.balances(account))
        self.same(f"open_orders of account {account}", lambda engine: engine.open_orders(account))

    def check_what_if(self, batches: Sequence[bytes], t_us: int) -> tuple[Event, ...] | Stopped:
        """Compare what would become of batches."""

        def ask(engine: Engine) -> tuple[object, ...]:
            asked = engine.what_if(batches, t_us)
            return asked.position, asked.run()

        answer = self.same("what_if", ask)
        return answer if isinstance(answer, Stopped) else decode(ExecutionFrame, answer[1]).events

    def reload(self, which: str) -> None:
        """Load the checkpoint of each into a new engine of the other kind, and go on with `which` of the new ones.

        Args:
            which: left, right or both.
        """
        checkpoint = self.same("checkpoint", lambda engine: engine.checkpoint())
        left, right = self._loaded(checkpoint)
        written = self.left.events_written
        if which in ("left", "both"):
            self.left = left
        if which in ("right", "both"):
            self.right = right
        self.same("state_hash after a load", lambda engine: engine.state_hash())
        if which != "both":
            # What was written since an engine was made is no longer the same on both sides.
            _Counted.wrap(self, written)

    def restore(self, checkpoint: bytes) -> None:
        """Go on from a checkpoint with both."""
        self.left, self.right = self._loaded(checkpoint)

    def check_load(self, checkpoint: bytes, order_frame: bytes) -> bool:
        """Compare what becomes of loading a checkpoint, a damaged one perhaps, and of the next entry on its state.

        Returns:
            whether it was loaded.
        """
        left, right = (outcome(partial(factory.from_checkpoint, checkpoint)) for factory in self._factories)
        self.counts["load"] += 1
        if isinstance(left, Stopped) or isinstance(right, Stopped):
            if left != right:
                raise Difference("load of a checkpoint", _of_load(left), _of_load(right))
            return False
        hashes = [engine.state_hash() for engine in (left, right)]
        if hashes[0] != hashes[1]:
            raise Difference("state_hash after a load", *hashes)
        summary = left.summary()
        entry = RawEntry(summary.n + 1, summary.t_us, order_frame)
        answers = [outcome(partial(engine.apply, [entry])) for engine in (left, right)]
        if answers[0] != answers[1]:
            if isinstance(answers[0], Stopped) or isinstance(answers[1], Stopped):
                raise Difference("entry after a load", *answers)
            raise _frame_difference(entry, answers[0][0], answers[1][0])
        return True

    def _loaded(self, checkpoint: bytes) -> list[Engine]:
        loaded = [outcome(partial(factory.from_checkpoint, checkpoint)) for factory in self._factories]
        for engine in loaded:
            if isinstance(engine, Stopped):
                raise Difference("load of a checkpoint that an engine wrote", *map(_of_load, loaded))
        return loaded


def _of_load(loaded: Engine | Stopped) -> object:
    """Return what is said of a load: a difference goes from process to process, which no engine does."""
    return loaded if isinstance(loaded, Stopped) else f"a shard at position {loaded.position}"


class _Counted:
    """An engine whose events are counted from before it was loaded."""

    def __init__(self, engine: Engine, before: int) -> None:
        self._engine = engine
        self._before = before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    @property
    def events_written(self) -> int:
        return self._before + self._engine.events_written

    @classmethod
    def wrap(cls, pair: Pair, written: int) -> None:
        """Make the engines of a pair count alike."""
        for side in ("left", "right"):
            engine: Engine = getattr(pair, side)
            if engine.events_written != written:
                setattr(pair, side, cls(engine, written - engine.events_written))


def _frame_difference(entry: RawEntry, left: bytes, right: bytes | Stopped) -> Difference:
    if isinstance(right, Stopped):
        return Difference(f"entry {entry.n} is answered", "a frame", right)
    expected = decode(ExecutionFrame, left)
    try:
        found = decode(ExecutionFrame, right)
    except WireError as error:
        return Difference(f"frame of entry {entry.n} is canonical", f"{len(left)} bytes", f"{error}: {right.hex()}")
    for place, (event, other) in enumerate(zip(expected.events, found.events, strict=False)):
        if event != other:
            return Difference(f"event {place} of entry {entry.n}", event, other)
    if len(expected.events) != len(found.events):
        place = min(len(expected.events), len(found.events))
        rest = [events[place] if place < len(events) else "nothing" for events in (expected.events, found.events)]
        return Difference(f"event {place} of entry {entry.n}", *rest)
    heads = [msgspec.structs.replace(frame, events=()) for frame in (expected, found)]
    if heads[0] != heads[1]:
        return Difference(f"head of the frame of entry {entry.n}", *heads)
    return Difference(f"bytes of the frame of entry {entry.n}", left.hex(), right.hex())


def _shown(value: object) -> str:
    if isinstance(value, Stopped):
        return f"{value.kind}: {value.text}"
    if isinstance(value, msgspec.Struct) and type(value).__name__ in _ENCODED:
        return f"{type(value).__name__} {to_plain(value)}"  # type: ignore[arg-type]
    if isinstance(value, bytes):
        return value.hex()
    return repr(value)


_ENCODED: Final = frozenset(["ExecutionFrame", *(kind.__name__ for kind in Event.__args__)])
