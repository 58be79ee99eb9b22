"""`clob replay`: drives an engine with recorded order flow and compares its book with the recording."""

import asyncio
import json
import sys
import time
from itertools import zip_longest
from pathlib import Path
from typing import Final

import click
import grpc

from exchange.embedded.lobster_submit import SubmitError, submit_lobster
from exchange.engine.choice import DEFAULT_ENGINE, ENGINES, engine_named
from exchange.flow.lobster import BookRow, LobsterError, LobsterPair, Message, seconds_text
from exchange.flow.lobster_driver import DetourReason
from exchange.local.lobster_replay import Difference, LevelsError, Replay, replay_lobster

EXIT_DIFFERENT: Final = 1
EXIT_UNREADABLE: Final = 2
PROGRESS_NS_TERMINAL: Final = 200_000_000
PROGRESS_NS_LOG: Final = 5_000_000_000
SHOWN_MAX: Final = 5
"""Most detours and faults that the text shows; --json has all of the first and many of the second."""

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DETOURS: Final = {
    DetourReason.OUT_OF_ORDER: "executions out of order",
    DetourReason.BEHIND_UNNAMED: "executions behind unnamed volume",
    DetourReason.NOT_BEST_PRICE: "executions behind a better price",
}


@click.group()
def replay() -> None:
    """Drive an engine with recorded order flow."""


@replay.command()
@click.argument("messages", type=_FILE)
@click.argument("orderbook", type=_FILE)
@click.option("--levels", type=click.IntRange(min=1), help="Best levels to compare; without it, all that the file has.")
@click.option("--engine", type=click.Choice(sorted(ENGINES)), default=DEFAULT_ENGINE, show_default=True)
@click.option("--submit", is_flag=True, help="Send it through a running exchange instead, as signed orders.")
@click.option("--traders", default="127.0.0.1:8080", show_default=True, help="With --submit: the traders' port.")
@click.option(
    "--address",
    default="127.0.0.1:9090",
    show_default=True,
    envvar="CLOB_ADDRESS",
    help="With --submit: the operators' port.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def lobster(
    messages: Path,
    orderbook: Path,
    levels: int | None,
    engine: str,
    submit: bool,
    traders: str,
    address: str,
    as_json: bool,
) -> None:
    """Drive an engine with a LOBSTER pair and compare its book with the file's after every message.

    MESSAGES and ORDERBOOK are the two files of one download, .csv or .csv.gz.

    With --submit the day goes through a running exchange: in a market and with accounts that it makes for itself, every
    order signed on its own, and the book that is compared is folded from what the exchange publishes.

    Exit code 0: every row is equal; 1: one is not, or the engine did not do what the messages say; 2: the files cannot
    be read, or the exchange does not answer.
    """
    try:
        pair = LobsterPair(messages, orderbook)
        progress = _Progress(pair.rows_total)
        if submit:
            result = asyncio.run(submit_lobster(pair, levels or pair.levels, traders, address, progress.show))
        else:
            result = replay_lobster(engine_named(engine), pair, levels or pair.levels, progress.show)
        progress.clear()
    except (LobsterError, LevelsError, SubmitError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_UNREADABLE)
    except TimeoutError:
        click.echo("Error: NO_ANSWER: the exchange did not answer in time; ask `clob doctor`", err=True)
        sys.exit(EXIT_UNREADABLE)
    except grpc.RpcError as error:
        click.echo(f"Error: {traders}, {address}: {error.details()}", err=True)
        sys.exit(EXIT_UNREADABLE)
    if as_json:
        click.echo(json.dumps({"messages_file": str(messages), "orderbook_file": str(orderbook), **result.as_json()}))
    else:
        click.echo(
            f"{messages.name} on the {result.engine} engine, best {result.levels} of {result.file_levels} levels"
        )
        click.echo(_report(result))
    if not result.passed:
        sys.exit(EXIT_DIFFERENT)


class _Progress:
    """Says on stderr how far a replay is: in place on a terminal, else a line every few seconds."""

    def __init__(self, rows_total: int) -> None:
        self._rows_total = rows_total
        self._in_place = sys.stderr.isatty()
        self._every_ns = PROGRESS_NS_TERMINAL if self._in_place else PROGRESS_NS_LOG
        self._next_ns = time.monotonic_ns() + self._every_ns

    def show(self, result: Replay, rows: int) -> None:
        now_ns = time.monotonic_ns()
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + self._every_ns
        per_second = rows * 1_000_000 // max(1, result.elapsed_us)
        unequal = result.rows_compared - result.rows_equal
        text = (
            f"{rows:,} of {self._rows_total:,} rows ({rows * 100 // self._rows_total} %), {per_second:,} rows/s,"
            f" {unequal:,} rows differ"
        )
        click.echo(f"\r{text:<70}" if self._in_place else text, nl=not self._in_place, err=True)

    def clear(self) -> None:
        if self._in_place:
            click.echo(f"\r{'':<70}\r", nl=False, err=True)


# --- text -----------------------------------------------------------------------------------------------------------


def _report(result: Replay) -> str:
    counts = result.counts
    by_type = ", ".join(f"{kind.name.lower()} {number:,}" for kind, number in sorted(counts.messages.items()))
    seconds, rest_us = divmod(result.elapsed_us, 1_000_000)
    facts = [
        ("rows equal", f"{result.rows_equal:,} of {result.rows_compared:,} (row 1 is the seed)"),
        ("messages", by_type),
        ("adoptions of revealed levels", f"{counts.adoptions:,}"),
        *((name, f"{len(result.detours(reason)):,}") for reason, name in _DETOURS.items()),
        ("orders that came late", f"{counts.late_orders:,}"),
        ("messages that contradict others", f"{len(counts.unmatched):,}"),
        ("engine did otherwise", f"{result.faults:,}"),
        ("engine", f"{result.commands:,} commands in {result.entries:,} entries, {result.trades:,} trades"),
        ("time", f"{seconds}.{rest_us // 10_000:02d} s, {result.commands_per_second:,} commands/s"),
    ]
    lines = [f"  {name:<33} {value}" for name, value in facts]
    for reason, name in _DETOURS.items():
        detours = [f"row {row}: {_sentence(message)}" for row, message, _ in result.detours(reason)]
        lines += _listing(name, detours, len(detours))
    unmatched = [
        f"row {row}: {_sentence(message)}: " + (f"{lots} lots are not there" if lots else "the order has less")
        for row, message, lots in counts.unmatched
    ]
    lines += _listing("messages that contradict others", unmatched, len(unmatched))
    faults = [f"row {fault.row}: {fault.what}" for fault in result.first_faults or ()]
    lines += _listing("engine did otherwise", faults, result.faults)
    if result.first_difference is not None:
        lines += ["", *_drawing(result.first_difference)]
    lines += ["", "equal in every row" if result.passed else "NOT EQUAL"]
    return "\n".join(lines)


def _listing(name: str, items: list[str], total: int) -> list[str]:
    shown = items[:SHOWN_MAX]
    if not shown:
        return []
    more = [f"  ... and {total - len(shown):,} more; --json lists them"] if total > len(shown) else []
    return ["", f"{name}:", *(f"  {item}" for item in shown), *more]


def _sentence(message: Message) -> str:
    return (
        f"{seconds_text(message.time_ns)} {message.kind.name.lower()} {message.side.name.lower()}"
        f" {message.quantity_lots} @ {message.price_ticks}, order {message.order_id}"
    )


def _drawing(difference: Difference) -> list[str]:
    """Return both books side by side, level by level, with a mark where they differ."""
    columns = f"{'bid lots':>9} {'bid ticks':>10} {'ask ticks':>10} {'ask lots':>9}"
    lines = [
        f"first difference: row {difference.row}, after {_sentence(difference.message)}",
        f"        {'engine':^41} | {'file':^41}",
        f"  level {columns} | {columns}",
    ]
    pairs = zip_longest(_levels(difference.engine), _levels(difference.file), fillvalue=_level_line(None, None))
    lines += [
        f"  {number:>5} {ours} | {theirs}{'' if ours == theirs else '  <- differs'}"
        for number, (ours, theirs) in enumerate(pairs, 1)
    ]
    return lines


def _levels(book: BookRow) -> list[str]:
    return [_level_line(bid, ask) for bid, ask in zip_longest(book.bids, book.asks)]


def _level_line(bid: tuple[int, int] | None, ask: tuple[int, int] | None) -> str:
    bid_ticks, bid_lots = bid or ("-", "-")
    ask_ticks, ask_lots = ask or ("-", "-")
    return f"{bid_lots:>9} {bid_ticks:>10} {ask_ticks:>10} {ask_lots:>9}"
