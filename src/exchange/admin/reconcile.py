"""The reconciler: brings trading shards to what shard 0 lists, and the listing to the states that markets have.

A call that defines markets or changes their state has to do so in two logs, one after the other, and a crash may come
in between. Which log is right is settled once and for all: shard 0 about which markets there are and their settings,
the shard itself about the state, which it also changes by its own clock. A revoked key is one more thing that every
shard has to know: none may take a frame that was verified before the revocation.
"""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from exchange.admin.desk import Desk, Part, in_parts
from exchange.admin.executed import Outcome
from exchange.admin.port import Host, NotExecutedYet
from exchange.admin.refusals import AdminRefusal, refused_by_shard, unavailable
from exchange.domain.events import KeyRevoked
from exchange.domain.frames import ExecutionFrame
from exchange.domain.limits import REQUEST_ID_BYTES
from exchange.domain.markets import Market, with_state
from exchange.domain.operations import (
    DefineMarket,
    OperatorAction,
    OperatorRole,
    RaiseControlFloor,
    SetMarketState,
)
from exchange.domain.rejects import RejectReason
from exchange.domain.units import CONTROL_SHARD

_log = logging.getLogger(__name__)

PERIOD_S: Final = 5.0
"""How often shards are compared when nothing asks for it."""
WAIT_S: Final = 30.0


class ManyActions:
    """A job of any number of actions of one role.

    Attributes:
        refusals: why actions were refused, by index.
    """

    alone = False

    def __init__(self, role: OperatorRole, actions: Sequence[OperatorAction], *, named: bool = False) -> None:
        """Cut the actions into operations.

        Args:
            role: that signs.
            actions: in order.
            named: for shard 0: each operation gets a request id of its own.
        """
        cuts = in_parts(actions)
        names = [secrets.token_bytes(REQUEST_ID_BYTES) if named else b"" for _ in cuts]
        parts = [Part(role, cut, name) for cut, name in zip(cuts, names, strict=True)]
        self._left = {id(part): part for part in parts}
        self._first: dict[int, int] = {}
        first = 0
        for key, part in self._left.items():
            self._first[key] = first
            first += len(part.actions)
        self.refusals: dict[int, RejectReason] = {}

    def parts(self) -> Sequence[Part]:
        """Return the operations that are not applied yet."""
        return list(self._left.values())

    def take(self, part: Part, outcome: Outcome) -> None:
        """Take what became of an operation."""
        if outcome.reason:
            reason = RejectReason(outcome.reason)
            raise refused_by_shard(reason, f"an operation was refused as a whole in entry {outcome.n}")
        del self._left[id(part)]
        for place, reason in outcome.refusals().items():
            self.refusals[self._first[id(part)] + place - 1] = reason


class Reconciler:
    """Opens books, raises floors, and keeps both true."""

    def __init__(self, host: Host, desk: Desk) -> None:
        self._host = host
        self._desk = desk
        self._floor = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._busy: Counter[int] = Counter()
        self._creating = 0

    def start(self) -> None:
        """Start comparing, in a task of its own."""
        view = self._host.view
        if any(key.revoked for key in view.keys.values()):
            # Whether every shard was told of the last revocation is not known any more.
            self._floor = view.position
        self._task = asyncio.create_task(self._run(), name="admin-reconciler")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self) -> None:
        """Ask for a comparison soon."""
        self._wake.set()

    @contextmanager
    def leave_alone(self, markets: Iterable[int]) -> Iterator[None]:
        """Leave markets that a call opens or changes to that call, meanwhile."""
        numbers = set(markets)
        self._busy.update(numbers)
        try:
            yield
        finally:
            self._busy.subtract(numbers)
            for number in numbers:
                if not self._busy[number]:
                    del self._busy[number]

    @contextmanager
    def leave_new_alone(self) -> Iterator[None]:
        """Leave markets that are not open yet to a call that is about to list and open some, meanwhile."""
        self._creating += 1
        try:
            yield
        finally:
            self._creating -= 1

    def on_control_frame(self, frame: ExecutionFrame) -> None:
        """Take note of a frame of shard 0. The host calls it with each one, in order, once the view has it."""
        if any(isinstance(event, KeyRevoked) for event in frame.events):
            self._floor = frame.n
            self.wake()

    # --- what calls use too -----------------------------------------------------------------------------------------

    async def open_books(self, shard: int, markets: Iterable[int], wait_s: float) -> dict[int, RejectReason]:
        """Define listed markets in their trading shard, as listed; return which it refused, and why.

        Raises:
            AdminRefusal: UNAVAILABLE: it did not execute in time.
        """
        listed = self._host.view.markets
        numbers = list(markets)
        job = ManyActions(OperatorRole.MARKET, [DefineMarket(listed[number]) for number in numbers])
        await self._desk.do(shard, job, wait_s)
        return {numbers[index]: reason for index, reason in job.refusals.items()}

    async def open_missing(self, numbers: Iterable[int], wait_s: float) -> dict[int, RejectReason]:
        """Open the books of those listed markets that their shards do not have; return which were refused, and why.

        Raises:
            AdminRefusal: UNAVAILABLE: a shard did not execute in time.
        """
        by_shard: dict[int, list[int]] = {}
        for number in numbers:
            by_shard.setdefault(self._host.view.markets[number].shard, []).append(number)
        refused: dict[int, RejectReason] = {}

        async def one(shard: int, wanted: list[int]) -> None:
            await self._see_own_entries(shard, wait_s)
            there = self._host.markets(shard)
            missing = [number for number in wanted if number not in there]
            if missing:
                refused.update(await self.open_books(shard, missing, wait_s))

        await run_all(one(shard, wanted) for shard, wanted in by_shard.items())
        return refused

    async def raise_floor(self, shard: int, control_n: int, wait_s: float) -> bool:
        """Let a trading shard refuse frames verified before a position of shard 0; return whether it does now."""
        facts = self._host.facts(shard)
        if facts is not None and facts.control_floor >= control_n:
            return True
        try:
            # A floor that is higher already is as good: FLOOR_WOULD_FALL.
            await self._desk.operate(shard, OperatorRole.TREASURY, [RaiseControlFloor(control_n)], wait_s=wait_s)
        except AdminRefusal as refusal:
            _log.warning("shard %d does not show control floor %d yet: %s", shard, control_n, refusal)
            return False
        return True

    # --- the comparison ---------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            try:
                await self.compare()
            except AdminRefusal as refusal:
                _log.warning("what shard 0 lists is not in all shards yet: %s", refusal)
            except Exception:  # noqa: BLE001 - a mistake about one shard must not end the comparison of all
                _log.exception("comparing shards failed")
            self._wake.clear()
            try:
                async with asyncio.timeout(PERIOD_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def compare(self) -> None:
        """Compare every trading shard with shard 0 once and mend what differs.

        Raises:
            AdminRefusal: a shard did not execute in time; the others are mended.
        """
        listed: dict[int, list[Market]] = {shard: [] for shard in self._host.view.trading_shards()}
        for market in self._host.view.markets.values():
            listed[market.shard].append(market)
        # A call may end while the shards are being looked at: what it listed was not to be there yet when it was seen.
        is_creating = self._creating > 0
        await run_all(self._compare(shard, markets, is_creating) for shard, markets in listed.items())

    async def _compare(self, shard: int, listed: Sequence[Market], is_creating: bool) -> None:
        # The listing is looked at first and the shard then, as of a later moment: what differs in state is what the
        # shard has changed since, not what it has yet to do.
        if self._host.facts(shard) is None or not await self._is_seen(shard):
            return
        if self._floor:
            await self.raise_floor(shard, self._floor, WAIT_S)
        there = self._host.markets(shard)
        wanted, states = [], []
        for market in listed:
            book = there.get(market.market)
            if book == market or market.market in self._busy or (book is None and (is_creating or self._creating)):
                continue
            if book is None or with_state(book, market.state) != market:
                wanted.append(market.market)
            elif self._host.view.markets[market.market].state == market.state:
                states.append(SetMarketState(market.market, book.state))
        if wanted:
            _log.warning("shard %d does not have %d markets as listed: defining them", shard, len(wanted))
            refused = await self.open_books(shard, wanted, WAIT_S)
            for number, reason in sorted(refused.items())[:10]:
                _log.error("shard %d refuses market %d, which shard 0 lists: %s", shard, number, reason.name)
        if states:
            _log.info("the listing follows %d markets of shard %d that changed their state", len(states), shard)
            await self._desk.do(CONTROL_SHARD, ManyActions(OperatorRole.MARKET, states, named=True), WAIT_S)

    async def _is_seen(self, shard: int) -> bool:
        """Return whether the host's view of a shard has caught up, within a moment, with the shard of just now."""
        try:
            head = await self._host.head(shard)
        except NotExecutedYet:
            return False
        position = max(head.executions_n if head else 0, self._desk.last_entered(shard))
        return await self._host.wait(shard, lambda facts: facts.position >= position, PERIOD_S)

    async def _see_own_entries(self, shard: int, wait_s: float) -> None:
        """Wait until the host's view of a shard has what this process entered into it.

        Raises:
            AdminRefusal: UNAVAILABLE.
        """
        entered = self._desk.last_entered(shard)
        if not await self._host.wait(shard, lambda facts: facts.position >= entered, wait_s):
            raise unavailable(f"re-execution of shard {shard} has not come to entry {entered} yet; repeat the call")


async def run_all(coroutines: Iterable[Coroutine[object, object, None]]) -> None:
    """Run all to their end; then raise the first error, so that one shard that stands does not hold up the others."""
    results = await asyncio.gather(*coroutines, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
