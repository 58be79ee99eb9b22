"""Replay of a LOBSTER pair on an engine, whose own book is compared with the file's after every message."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from exchange.domain.commands import Command, SignedBatch
from exchange.domain.events import BatchResult, CommandRejected, Event, OrderAccepted, OrderCancelled, Trade
from exchange.domain.limits import BATCH_COMMANDS_MAX
from exchange.domain.markets import Market, MarketState, ShardSettings
from exchange.domain.operations import Transfer
from exchange.domain.rejects import RejectReason
from exchange.engine.port import EngineFactory
from exchange.flow.lobster import BookRow, LobsterPair, Message, MessageType, Row, seconds_text
from exchange.flow.lobster_driver import Detour, DetourReason, DriverCounts, LobsterDriver, Step, check_seed
from exchange.local.venue import START_US, Venue

MARKET: Final = 1
BASE_ASSET: Final = 1
QUOTE_ASSET: Final = 2
MAKER: Final = 1
"""Account of the orders that rest."""
TAKER: Final = 2
"""Account of the executions' aggressors. It is not the makers', so that no trade is one with oneself."""
FUNDS_UNITS: Final = 2**62 - 1
"""Of each asset for each account: no flow exhausts it, and one account can hold what both have."""
PROGRESS_ROWS: Final = 512
FAULTS_KEPT_MAX: Final = 100

_SETTINGS: Final = ShardSettings(
    max_validity_ms=60_000, live_nonces_per_key_max=1_048_576, open_orders_per_account_max=10_000_000
)


class LevelsError(ValueError):
    """More levels are to be compared than the book file has."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A row after which the engine's best levels are not the file's; both books cut to the levels compared."""

    row: int
    message: Message
    engine: BookRow
    file: BookRow

    def as_json(self) -> dict[str, Any]:
        """Return what `clob replay --json` prints of it."""
        return {
            "row": self.row,
            "message": message_json(self.message),
            "engine": {"bids": self.engine.bids, "asks": self.engine.asks},
            "file": {"bids": self.file.bids, "asks": self.file.asks},
        }


@dataclass(frozen=True, slots=True)
class Fault:
    """A row at which the engine did not do what it was asked: it refused a command, or traded otherwise."""

    row: int
    what: str


@dataclass(slots=True)
class Replay:
    """What a replay found.

    Attributes:
        engine: name of the engine.
        levels, file_levels: price levels per side that were compared, and that the file has.
        rows_total: rows of the pair. Row 1 seeds the book, so one fewer can be compared.
        rows_compared, rows_equal: rows after the first whose book was compared, and agreed.
        counts: from the driver.
        faults: how often the engine did not do what it was asked; the first of them are in `first_faults`.
        commands, entries, trades: how many the engine was given, and made.
        elapsed_us: wall clock.
    """

    engine: str
    levels: int
    file_levels: int
    rows_total: int
    counts: DriverCounts
    rows_compared: int = 0
    rows_equal: int = 0
    first_difference: Difference | None = None
    faults: int = 0
    first_faults: list[Fault] | None = None
    commands: int = 0
    entries: int = 0
    trades: int = 0
    elapsed_us: int = 0

    @property
    def passed(self) -> bool:
        """Whether the engine did all it was asked, and its book was the file's after every message."""
        complete = self.rows_compared == self.rows_equal == self.rows_total - 1
        return complete and self.first_difference is None and not self.faults

    @property
    def commands_per_second(self) -> int:
        """Commands that the engine was given per second of wall clock, reading and comparing included."""
        return self.commands * 1_000_000 // max(1, self.elapsed_us)

    def fault(self, row: int, what: str) -> None:
        """Note that the engine did not do what it was asked."""
        self.faults += 1
        if self.first_faults is None:
            self.first_faults = []
        if len(self.first_faults) < FAULTS_KEPT_MAX:
            self.first_faults.append(Fault(row, what))

    def detours(self, reason: DetourReason) -> list[Detour]:
        """Return the executions that took a detour for this reason, in row order."""
        return [detour for detour in self.counts.detours if detour.reason is reason]

    def as_json(self) -> dict[str, Any]:
        """Return what `clob replay --json` prints."""
        return {
            "passed": self.passed,
            "engine": self.engine,
            "levels": self.levels,
            "file_levels": self.file_levels,
            "rows_total": self.rows_total,
            "rows_compared": self.rows_compared,
            "rows_equal": self.rows_equal,
            "first_difference": self.first_difference.as_json() if self.first_difference else None,
            "messages": {kind.name.lower(): self.counts.messages[kind] for kind in MessageType},
            "adoptions": self.counts.adoptions,
            **{reason.value: len(self.detours(reason)) for reason in DetourReason},
            "late_orders": self.counts.late_orders,
            "unmatched": len(self.counts.unmatched),
            "detours": [
                {"row": row, "reason": reason.value, "message": message_json(message)}
                for row, message, reason in self.counts.detours
            ],
            "unmatched_messages": [
                {"row": row, "missing_lots": missing_lots, "message": message_json(message)}
                for row, message, missing_lots in self.counts.unmatched
            ],
            "faults": self.faults,
            "first_faults": [{"row": fault.row, "what": fault.what} for fault in self.first_faults or ()],
            "commands": self.commands,
            "entries": self.entries,
            "trades": self.trades,
            "elapsed_us": self.elapsed_us,
            "commands_per_second": self.commands_per_second,
        }


class _Session:
    """A venue with one market and two rich accounts, that does what the driver's steps say and checks the answers."""

    def __init__(self, factory: EngineFactory, result: Replay) -> None:
        self._result = result
        self._maker_names: dict[int, int] = {}
        self._venue = Venue(factory, environment="lobster", settings=_SETTINGS, signed=False, keep_log=False)
        self._venue.define_markets(
            Market(
                market=MARKET,
                shard=self._venue.shard,
                symbol="LOBSTER",
                base_asset=BASE_ASSET,
                quote_asset=QUOTE_ASSET,
                base_units_per_lot=1,
                quote_units_per_tick_lot=1,
                state=MarketState.OPEN,
            )
        )
        accounts, assets = (MAKER, TAKER), (BASE_ASSET, QUOTE_ASSET)
        self._venue.credit(*(Transfer(account, asset, FUNDS_UNITS) for account in accounts for asset in assets))

    def perform(self, row: Row, step: Step) -> None:
        """Enter what a step says as one entry at the row's time and compare the answers with what it asks."""
        self._venue.now_us = max(self._venue.now_us, START_US + row.message.time_ns // 1000)
        batches: list[SignedBatch] = []
        if step.take is not None:
            batches.append(self._venue.batch(TAKER, step.take))
        batches += self._maker_batches(step.rest)
        if not batches:
            return
        self._result.commands += len(step.rest) + (step.take is not None)
        self._result.entries += 1
        fills = self._read(row, self._venue.enter(*batches))
        if fills != step.fills:
            self._fault(row, f"execution traded {fills}, not {step.fills} (lots by the maker's client_order_id)")

    def depth(self, levels: int) -> BookRow:
        """Return the engine's own book."""
        bids, asks = self._venue.engine.depth(MARKET, levels)
        return BookRow([(level[0], level[1]) for level in bids], [(level[0], level[1]) for level in asks])

    def _maker_batches(self, commands: list[Command]) -> list[SignedBatch]:
        starts = range(0, len(commands), BATCH_COMMANDS_MAX)
        return [self._venue.batch(MAKER, *commands[start : start + BATCH_COMMANDS_MAX]) for start in starts]

    def _read(self, row: Row, events: tuple[Event, ...]) -> dict[int, int]:
        """Return what was traded, by the maker's client_order_id; note whatever was refused."""
        fills: dict[int, int] = {}
        for event in events:
            match event:
                case OrderAccepted() if event.account == MAKER:
                    self._maker_names[event.order_id] = event.client_order_id
                case OrderCancelled():
                    self._maker_names.pop(event.order_id, None)
                case Trade():
                    self._result.trades += 1
                    maker = self._maker_names[event.maker_order_id]
                    fills[maker] = fills.get(maker, 0) + event.quantity_lots
                case CommandRejected():
                    name = event.client_order_id
                    self._fault(row, f"refused {RejectReason(event.reason).name}, client_order_id {name}")
                case BatchResult() if event.reason:
                    self._fault(row, f"batch refused {RejectReason(event.reason).name}")
                case _:
                    pass
        return fills

    def _fault(self, row: Row, what: str) -> None:
        self._result.fault(row.number, what)


def replay_lobster(
    factory: EngineFactory, pair: LobsterPair, levels: int, on_progress: Callable[[Replay, int], None]
) -> Replay:
    """Drive a fresh engine with a pair and return what was found.

    The engine follows all levels of the file, so that what is compared does not depend on what is cut.

    Args:
        factory: of the engine.
        pair: the two files.
        levels: best levels per side to compare; 1 .. pair.levels.
        on_progress: called every PROGRESS_ROWS rows and after the last with the result so far and the rows done.

    Raises:
        LevelsError: the book file has fewer levels.
        LobsterError: a row is malformed, or row 1 is not a book.
    """
    check_levels(pair, levels)
    driver = LobsterDriver(MARKET, pair.levels)
    result = Replay(factory.name, levels, pair.levels, pair.rows_total, driver.counts)
    session = _Session(factory, result)
    started_ns = time.perf_counter_ns()
    for row in pair.rows():
        if row.number == 1:
            check_seed(pair.book, row)
        session.perform(row, driver.step(row))
        compare_book(result, row, session.depth(levels))
        if row.number % PROGRESS_ROWS == 0 or row.number == pair.rows_total:
            result.elapsed_us = (time.perf_counter_ns() - started_ns) // 1000
            on_progress(result, row.number)
    return result


def check_levels(pair: LobsterPair, levels: int) -> None:
    """Raise LevelsError if more levels are to be compared than the book file has."""
    if levels > pair.levels:
        raise LevelsError(
            f"TOO_MANY_LEVELS: {levels} levels are to be compared, {pair.book} has {pair.levels};"
            f" give at most {pair.levels}"
        )


def message_json(message: Message) -> dict[str, Any]:
    """Return a message with the time as text, so that no reader makes a float of it."""
    return {
        "time": seconds_text(message.time_ns),
        "type": message.kind.name.lower(),
        "order_id": message.order_id,
        "quantity_lots": message.quantity_lots,
        "price_ticks": message.price_ticks,
        "side": message.side.name.lower(),
    }


def compare_book(result: Replay, row: Row, engine: BookRow) -> None:
    """Note whether the book after a row, cut to the levels compared, is the file's."""
    file = BookRow(row.book.bids[: result.levels], row.book.asks[: result.levels])
    equal = engine == file
    if row.number > 1:
        result.rows_compared += 1
        result.rows_equal += equal
    if not equal and result.first_difference is None:
        result.first_difference = Difference(row.number, row.message, engine, file)
