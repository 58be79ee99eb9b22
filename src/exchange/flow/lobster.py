"""LOBSTER files: one book's day as a file of messages and a file with the book after each message.

Format: LOBSTER_SampleFiles_ReadMe.txt of lobsterdata.com. A message is `time, type, order id, size, price, direction`,
with a seventh column (the market participant) in some editions. A book row is `ask price, ask size, bid price, bid
size` per level, best first. There is no header. Plain or gzipped; line ends of any kind; blank lines and trailing
commas are passed over. Sizes are lots of one share, prices ticks of 1/10,000 dollar, times nanoseconds after midnight.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from enum import IntEnum
from itertools import zip_longest
from pathlib import Path
from typing import IO, Final, NamedTuple

from exchange.domain.commands import Side
from exchange.domain.units import QUANTITY_LOTS_MAX

NS_PER_SECOND: Final = 1_000_000_000
EMPTY_PRICE: Final = 9_999_999_999
"""Price of a level that does not exist, negative for bids; its size is 0."""
COLUMNS_PER_LEVEL: Final = 4

_MESSAGE_COLUMNS: Final = ("time", "type", "order id", "size", "price", "direction")
_MESSAGE_COLUMNS_MAX: Final = len(_MESSAGE_COLUMNS) + 1
_BOOK_COLUMNS: Final = ("ask price", "ask size", "bid price", "bid size")
_TIME = re.compile(r"([0-9]{1,6})(?:\.([0-9]{0,9})([0-9]{0,20}))?")
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_INTEGERS = re.compile(r"-?[0-9]{1,19}(?:,-?[0-9]{1,19})*")
_GZIP_MAGIC: Final = b"\x1f\x8b"


class LobsterError(ValueError):
    """A file is not what LOBSTER writes; the message names file, line, column and value."""


class MessageType(IntEnum):
    SUBMIT = 1
    REDUCE = 2
    DELETE = 3
    EXECUTE = 4
    EXECUTE_HIDDEN = 5
    CROSS = 6
    HALT = 7


VISIBLE: Final = (MessageType.SUBMIT, MessageType.REDUCE, MessageType.DELETE, MessageType.EXECUTE)
"""Messages that change the visible book. The others leave it as it is, and name no order."""


class Message(NamedTuple):
    """One event. `side` is that of the order concerned, so an execution's aggressor is on the other."""

    time_ns: int
    kind: MessageType
    order_id: int
    quantity_lots: int
    price_ticks: int
    side: Side


class BookRow(NamedTuple):
    """(price_ticks, quantity_lots) of the levels of each side, best first; levels that do not exist are left out."""

    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]

    def of(self, side: Side) -> list[tuple[int, int]]:
        """Return the levels of one side."""
        return self.bids if side is Side.BUY else self.asks


class Row(NamedTuple):
    """Row `number` of a pair, from 1, as both files have it."""

    number: int
    message: Message
    book: BookRow


class LobsterPair:
    """A message file and its book file.

    Attributes:
        rows_total: rows of either file, 1 or more.
        levels: price levels per side in the book file, 1 or more.
    """

    def __init__(self, messages: Path, book: Path) -> None:
        """Count the rows of both files.

        Raises:
            LobsterError: a file cannot be read, is empty, or the files differ in length.
        """
        self.messages = messages
        self.book = book
        self.rows_total = sum(1 for _ in _lines(messages))
        book_rows = sum(1 for _ in _lines(book))
        if self.rows_total != book_rows:
            raise LobsterError(
                f"ROWS_DIFFER: {messages} has {self.rows_total} rows, {book} has {book_rows}; a pair has one book row"
                " per message: give the two files of one download"
            )
        if not self.rows_total:
            raise LobsterError(f"NO_ROWS: {messages} and {book} have no rows; give a pair that has some")
        self.levels = _book_levels(book)

    def rows(self) -> Iterator[Row]:
        """Yield the rows in file order.

        Raises:
            LobsterError: a row is malformed; the rows before it were yielded.
        """
        pairs = zip_longest(_lines(self.messages), read_book(self.book))
        for number, (line, book) in enumerate(pairs, 1):
            assert line is not None, "the message file shrank while it was read"
            assert book is not None, "the book file shrank while it was read"
            yield Row(number, _message(self.messages, *line), book)


def read_messages(path: Path) -> Iterator[Message]:
    """Yield the messages of a file in file order. Raises LobsterError at the first row that is malformed."""
    for number, text in _lines(path):
        yield _message(path, number, text)


def read_book(path: Path) -> Iterator[BookRow]:
    """Yield the book rows of a file in file order. Raises LobsterError at the first row that is malformed."""
    columns = 0
    last_text, last_row = "", BookRow([], [])
    for number, text in _lines(path):
        if text != last_text:
            last_text, last_row = text, _book_row(path, number, text, columns)
            columns = columns or text.count(",") + 1
        yield last_row


def seconds_text(time_ns: int) -> str:
    """Return a time as a message file writes it, with all nine digits."""
    seconds, rest_ns = divmod(time_ns, NS_PER_SECOND)
    return f"{seconds}.{rest_ns:09d}"


# --- lines ----------------------------------------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, text without blanks and trailing commas) of the lines that say something."""
    try:
        with _open(path) as lines:
            for number, line in enumerate(lines, 1):
                text = line.strip().rstrip(", \t")
                if " " in text or "\t" in text:
                    text = re.sub(r"\s*,\s*", ",", text)
                if text:
                    yield number, text
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise LobsterError(f"UNREADABLE: {path} cannot be read as text or gzipped text: {error}") from error


def _open(path: Path) -> IO[str]:
    with path.open("rb") as raw:
        is_gzip = raw.read(2) == _GZIP_MAGIC
    if is_gzip:
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


def _bad(path: Path, line: int, column: int, name: str, value: object, rule: str) -> LobsterError:
    return LobsterError(f"BAD_ROW: {path}:{line}: column {column} ({name}) is {value!r}; {rule}")


# --- messages -------------------------------------------------------------------------------------------------------


def _message(path: Path, line: int, text: str) -> Message:
    fields = text.split(",")
    if not len(_MESSAGE_COLUMNS) <= len(fields) <= _MESSAGE_COLUMNS_MAX:
        raise LobsterError(
            f"BAD_ROW: {path}:{line}: {len(fields)} columns ({text[:80]!r});"
            f" a message has six: {', '.join(_MESSAGE_COLUMNS)}"
        )
    time = _TIME.fullmatch(fields[0])
    if time is None:
        raise _bad(path, line, 1, "time", fields[0], "want seconds after midnight, in digits with a point")
    for column, name in enumerate(_MESSAGE_COLUMNS[1:], 1):
        if _INTEGER.fullmatch(fields[column]) is None:
            raise _bad(path, line, column + 1, name, fields[column], "want an integer")
    kind, order_id, quantity_lots, price_ticks, direction = map(int, fields[1:6])
    if not MessageType.SUBMIT <= kind <= MessageType.HALT:
        raise _bad(path, line, 2, "type", kind, "want 1 to 7")
    if kind <= MessageType.EXECUTE:
        if not 0 < price_ticks < EMPTY_PRICE:
            raise _bad(path, line, 5, "price", price_ticks, f"want 1 to {EMPTY_PRICE - 1}")
        if direction not in (1, -1):
            raise _bad(path, line, 6, "direction", direction, "want 1 (buy) or -1 (sell)")
    if kind <= MessageType.EXECUTE_HIDDEN and not 0 < quantity_lots <= QUANTITY_LOTS_MAX:
        raise _bad(path, line, 4, "size", quantity_lots, f"want 1 to {QUANTITY_LOTS_MAX}")
    return Message(
        time_ns=_time_ns(*time.groups(default="")),
        kind=MessageType(kind),
        order_id=order_id,
        quantity_lots=quantity_lots,
        price_ticks=price_ticks,
        side=Side.BUY if direction == 1 else Side.SELL,
    )


def _time_ns(seconds: str, fraction: str, beyond: str) -> int:
    """Return nanoseconds of the digits before the point, up to nine behind it, and those beyond, rounded half up.

    Copies that went through a float have such digits: 34397.878728270996 was 34397.878728271.
    """
    return int(seconds) * NS_PER_SECOND + int(fraction.ljust(9, "0")) + (beyond >= "5")


# --- book rows ------------------------------------------------------------------------------------------------------


def _book_levels(path: Path) -> int:
    line, text = next(_lines(path))
    columns = text.count(",") + 1
    if columns % COLUMNS_PER_LEVEL:
        raise LobsterError(
            f"BAD_ROW: {path}:{line}: {columns} columns; a book row has four per level: {', '.join(_BOOK_COLUMNS)}"
        )
    return columns // COLUMNS_PER_LEVEL


def _book_row(path: Path, line: int, text: str, columns: int) -> BookRow:
    """Return the row; `columns` is how many the first row has, 0 if this is the first."""
    if _INTEGERS.fullmatch(text) is None:
        for column, value in enumerate(text.split(","), 1):
            if _INTEGER.fullmatch(value) is None:
                raise _bad(path, line, column, _book_column(column), value, "want an integer")
    numbers = list(map(int, text.split(",")))
    if columns and len(numbers) != columns:
        raise LobsterError(f"BAD_ROW: {path}:{line}: {len(numbers)} columns; the rows before it have {columns}")
    prices, sizes = numbers[0::2], numbers[1::2]
    if min(sizes) > 0 and max(sizes) <= QUANTITY_LOTS_MAX and 0 < min(prices) and max(prices) < EMPTY_PRICE:
        return BookRow(
            bids=list(zip(prices[1::2], sizes[1::2], strict=True)),
            asks=list(zip(prices[0::2], sizes[0::2], strict=True)),
        )
    return BookRow(bids=_levels_there(path, line, numbers, 2), asks=_levels_there(path, line, numbers, 0))


def _levels_there(path: Path, line: int, numbers: list[int], offset: int) -> list[tuple[int, int]]:
    """Return one side's levels up to the first empty one; `offset` is that of the side's columns in a level."""
    there: list[tuple[int, int]] = []
    empty_at = 0
    for index in range(offset, len(numbers), COLUMNS_PER_LEVEL):
        price_ticks, quantity_lots = numbers[index : index + 2]
        if abs(price_ticks) == EMPTY_PRICE and quantity_lots == 0:
            empty_at = empty_at or index + 1
        elif not 0 < price_ticks < EMPTY_PRICE:
            rule = (
                f"want 1 to {EMPTY_PRICE - 1}, or {EMPTY_PRICE} (bids: -{EMPTY_PRICE}) with size 0 where there is none"
            )
            raise _bad(path, line, index + 1, _book_column(index + 1), price_ticks, rule)
        elif not 0 < quantity_lots <= QUANTITY_LOTS_MAX:
            rule = f"want 1 to {QUANTITY_LOTS_MAX}"
            raise _bad(path, line, index + 2, _book_column(index + 2), quantity_lots, rule)
        elif empty_at:
            rule = f"the level of column {empty_at} is empty, so all behind it must be"
            raise _bad(path, line, index + 1, _book_column(index + 1), price_ticks, rule)
        else:
            there.append((price_ticks, quantity_lots))
    return there


def _book_column(column: int) -> str:
    level, place = divmod(column - 1, COLUMNS_PER_LEVEL)
    return f"{_BOOK_COLUMNS[place]} {level + 1}"
