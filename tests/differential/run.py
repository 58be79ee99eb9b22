"""Runs episodes: makes entries, feeds both engines, compares, counts, and keeps what is needed to see it again."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from time import monotonic
from typing import Final

import msgspec

from exchange.domain.commands import CancelOrder
from exchange.domain.record import Record
from exchange.domain.state import Checkpoint, ShardState
from exchange.engine.port import EngineFactory, RawEntry
from exchange.wire.errors import WireError
from exchange.wire.hashing import state_hash
from exchange.wire.messages import decode, encode
from tests.differential.cases import Case, Step
from tests.differential.coverage import count_events
from tests.differential.damage import damaged
from tests.differential.draw import Draw
from tests.differential.episodes import BY_NAME, FLOODS, LIMITS, THEMES, entries_of, new_world
from tests.differential.making import Made, Maker, Theme
from tests.differential.pair import Difference, Pair, Stopped

EPISODE_COMMANDS: Final = 1_500
"""Commands of an episode: so few that books stay small and a difference is found near its cause."""
LIMITS_ONE_IN: Final = 30
"""Episodes of which one is about limits; they are long."""
SCRIPTED_ENTRIES: Final = 60
"""Entries that such an episode has at least."""


@dataclass
class Found(Exception):  # noqa: N818 - it is what was looked for
    """A difference, with the case that shows it."""

    case: Case
    difference: Difference
    commands: int = 0

    def __str__(self) -> str:
        return f"seed {self.case.seed}, theme {self.case.theme}, step {len(self.case.steps)}: {self.difference}"


@dataclass
class Report:
    """What was compared."""

    commands: int = 0
    entries: int = 0
    episodes: int = 0
    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    compared: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Report") -> None:
        """Take in what another run compared."""
        self.commands += other.commands
        self.entries += other.entries
        self.episodes += other.episodes
        self.seconds += other.seconds
        self.kinds.update(other.kinds)
        self.compared.update(other.compared)


def seeds_from(seed: int) -> Iterator[int]:
    """Yield the seeds of the episodes of a run."""
    for number in count():
        yield int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:6], "big")


def theme_of(seed: int) -> Theme:
    """Return the theme of an episode."""
    draw = Draw(seed ^ 0x7468656D65)
    return LIMITS if draw.one_in(LIMITS_ONE_IN) else draw.pick(THEMES)


def run_commands(seed: int, commands: int, left: EngineFactory, right: EngineFactory, report: Report) -> None:
    """Run episodes until so many commands were compared.

    Raises:
        Found: the engines differ.
    """
    most = report.commands + commands
    for episode in seeds_from(seed):
        if report.commands >= most:
            return
        run_episode(episode, theme_of(episode), left, right, report, most - report.commands)


def run_floods(seed: int, left: EngineFactory, right: EngineFactory, report: Report) -> None:
    """Run the episode that fills everything to its limits; it takes half a minute on the reference."""
    run_episode(seed, BY_NAME[FLOODS.name], left, right, report, EPISODE_COMMANDS)


def run_episode(
    seed: int, theme: Theme, left: EngineFactory, right: EngineFactory, report: Report, commands: int
) -> None:
    """Run one episode of at most so many commands, or of its theme's own length.

    Raises:
        Found: the engines differ.
    """
    episode = _Episode(seed, theme, left, right, report)
    started, before = monotonic(), report.commands
    try:
        episode.run(min(commands, EPISODE_COMMANDS))
    except Difference as difference:
        case = Case(seed, theme.name, episode.world.genesis, tuple(episode.steps), str(difference))
        raise Found(case, difference, report.commands) from difference
    finally:
        report.episodes += 1
        report.seconds += monotonic() - started
        report.compared.update(episode.pair.counts)
    assert report.commands >= before


class _Episode:
    def __init__(self, seed: int, theme: Theme, left: EngineFactory, right: EngineFactory, report: Report) -> None:
        self.draw = Draw(seed)
        self.checks = Draw(seed ^ 0x636865636B73)
        self.theme = theme
        self.world = new_world(theme, self.draw)
        self.pair = Pair(left, right, self.world.genesis)
        self.report = report
        self.steps: list[Step] = []
        self._last: object = None

    def run(self, commands: int) -> None:
        """Feed entries until there were so many commands, and all that the theme wants to be there was."""
        most = self.report.commands + commands
        for number, made in enumerate(entries_of(self.world, self.theme, self.draw), 1):
            going_on = self._enter(made)
            scripted = self.theme in (LIMITS, FLOODS) and number < SCRIPTED_ENTRIES
            if not going_on or (self.report.commands >= most and not scripted):
                break
        if not isinstance(self._last, Stopped):
            self.pair.check_state()

    def _enter(self, made: Made) -> bool:
        """Execute an entry; return whether the episode goes on."""
        pair, world, checks = self.pair, self.world, self.checks
        step = Step(made.n, made.t_us, made.order_frame, restores=self._may_stop(made))
        step = self._ask(step)
        self.steps.append(step)
        before = b""
        if step.loads:
            pair.check_load(step.loads, step.order_frame)
        if step.what_if:
            what_if = pair.check_what_if(step.what_if, step.what_if_us)
            self.report.kinds["what_if"] += not isinstance(what_if, Stopped)
        if step.reload:
            pair.reload(step.reload)
        if step.restores:
            before = pair.left.checkpoint()
        events = self._last = pair.apply(RawEntry(step.n, step.t_us, step.order_frame))
        self.report.commands += made.commands
        self.report.entries += 1
        if isinstance(events, Stopped):
            self.report.kinds[events.counted_as] += 1
            if before:
                pair.restore(before)
                self._last = None
            return bool(before)
        count_events(self.report.kinds, events)
        world.observe(made.order_frame, events)
        # The one episode that fills everything has states that take longer to hash than to come to.
        pair.check_entry(step.t_us, every_hash=self.theme is not FLOODS)
        if checks.one_in(12):
            markets = [checks.pick([*world.markets, 0, 99_999]) for _ in range(2)]
            accounts = [checks.pick([*world.orders_of, 0, 1, 2**64 - 1]) for _ in range(2)]
            pair.check_queries(markets, accounts)
        return True

    def _may_stop(self, made: Made) -> bool:
        """Return whether an entry is made to stop the shard, so that it has to go on from before it."""
        world = self.world
        is_next = made.n == world.n + 1 and made.t_us == world.now_us
        return not is_next or made.may_stop

    def _ask(self, step: Step) -> Step:
        """Return a step before which something else is asked, now and then."""
        checks, world = self.checks, self.world
        kind = checks.below(64)
        behind = world.orders_of.get(4)
        if self.theme is LIMITS and behind and checks.one_in(5):
            # Orders behind more others than a what-if looks at can be named in it all the same.
            maker = Maker(world, self.theme, checks)
            known = behind[checks.below(len(behind))]
            commands = (CancelOrder(known.order_id), maker.command(4))
            what_if = (maker.batch(4, commands, nonce=1).payload,)
            return replace(step, what_if=what_if, what_if_us=world.now_us)
        if kind == 0:
            return replace(step, reload=checks.pick(["left", "right", "both"]))
        if kind in (1, 2) and world.markets:
            maker = Maker(world, self.theme, checks)
            accounts = [checks.pick(maker.accounts) for _ in range(1 + checks.falling(2))]
            asked = [maker.batch(a, maker.commands(a, 1 + checks.below(6)), nonce=1).payload for a in accounts]
            if checks.one_in(10):
                asked.append(damaged(checks, asked[0])[:65_536])
            return replace(step, what_if=tuple(asked), what_if_us=max(0, world.now_us - checks.below(2)))
        if kind == 3:
            return replace(step, loads=self._odd_checkpoint())
        return step

    def _odd_checkpoint(self) -> bytes:
        """Return a checkpoint with something wrong in its bytes, in its hash, or in the state that it holds."""
        checks, checkpoint = self.checks, self.pair.left.checkpoint()
        if checks.one_in(3):
            return damaged(checks, checkpoint)
        state = decode(ShardState, decode(Checkpoint, checkpoint).state)
        maker = Maker(self.world, self.theme, checks)
        if checks.one_in(8):
            # What a shard starts from stands in every state, and too deep to be met by chance.
            genesis = _altered(checks, maker, state.core.genesis)
            altered: Record = msgspec.structs.replace(state, core=msgspec.structs.replace(state.core, genesis=genesis))
        else:
            altered = _altered(checks, maker, state)
        try:
            encoded = encode(altered)
        except WireError:
            return damaged(checks, checkpoint)
        if checks.one_in(4):
            encoded = damaged(checks, encoded)
        return encode(Checkpoint(1, state_hash(encoded), encoded)) if encoded else checkpoint


def _altered(draw: Draw, maker: Maker, record: Record) -> Record:
    """Return a record with another value somewhere in it, or with elements of a list in another order, twice or not.

    Whatever comes out is well-formed: only the invariants can find it.
    """
    lists = [
        name
        for name in type(record).__struct_fields__
        if isinstance(getattr(record, name), tuple) and getattr(record, name)
    ]
    inner = [name for name in type(record).__struct_fields__ if isinstance(getattr(record, name), Record)]
    kind = draw.below(8)
    if lists and kind < 5:
        name = draw.pick(lists)
        items = list(getattr(record, name))
        place = draw.below(len(items))
        if kind < 4 and isinstance(items[place], Record):
            items[place] = _altered(draw, maker, items[place])
        else:
            how = draw.below(3)
            if how == 0:
                del items[place]
            elif how == 1:
                items.insert(place, items[place])
            else:
                items.reverse()
        return msgspec.structs.replace(record, **{name: tuple(items)})
    if inner and kind < 7:
        name = draw.pick(inner)
        return msgspec.structs.replace(record, **{name: _altered(draw, maker, getattr(record, name))})
    words = [name for name in type(record).__struct_fields__ if isinstance(getattr(record, name), str | bytes)]
    if words and draw.below(2):
        name = draw.pick(words)
        return msgspec.structs.replace(record, **{name: _respelled(draw, getattr(record, name))})
    return maker.spoiled(record)


def _respelled(draw: Draw, word: str | bytes) -> str | bytes:
    """Return another word: most names admit no capitals, and few bytes of 32 are a key."""
    if isinstance(word, bytes):
        place = draw.below(len(word) + 1)
        return word[:place] + bytes([draw.below(256)]) + word[place + 1 :]
    return draw.pick([word.capitalize(), word.upper(), "", word + "\0", word + "-", word * 33])
