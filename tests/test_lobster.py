"""`clob replay lobster`: tiny pairs that each show one quirk, days from a simulated exchange, and real days."""

import gzip
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from exchange.cli.main import main
from exchange.domain.commands import Side
from exchange.flow.lobster import BookRow, LobsterPair, MessageType, read_book, read_messages, seconds_text
from exchange.reference.book import Book, Order

SAMPLES = Path(os.environ.get("CLOB_SAMPLE_DATA", Path(__file__).parents[2] / "shared" / "data")) / "lobster"
AAPL_10 = "AAPL_2012-06-21_message_10_first999.csv.gz", "AAPL_2012-06-21_orderbook_10_first999.csv.gz"
MSFT_5 = "MSFT_2012-06-21_message_5_first20000.csv.gz", "MSFT_2012-06-21_orderbook_5_first20000.csv.gz"
AAPL_1 = (
    "AAPL_2012-06-21_34200000_57600000_message_1.csv.gz",
    "AAPL_2012-06-21_34200000_57600000_orderbook_1.csv.gz",
)
NO_ASK, NO_BID = "9999999999,0", "-9999999999,0"


@dataclass
class Pair:
    """Two files that a test has written."""

    messages: Path
    book: Path

    def replay(self, *options: str) -> Result:
        return CliRunner().invoke(main, ["replay", "lobster", str(self.messages), str(self.book), *options])

    def found(self, *options: str, exit_code: int = 0, **expected: object) -> dict[str, object]:
        """Replay, check the exit code and the fields named, and return the result."""
        result = self.replay("--json", *options)
        assert result.exit_code == exit_code, result.output
        found: dict[str, object] = json.loads(result.stdout)
        assert {name: found[name] for name in expected} == expected
        return found


@dataclass
class Drawing:
    """A pair as a test draws it: one line per row, `message | bids / asks`, sizes and prices as `lots@ticks`."""

    folder: Path
    levels: int
    rows: list[str] = field(default_factory=list)

    def write(self, drawn: str) -> Pair:
        messages, books = [], []
        for number, line in enumerate(filter(None, map(str.strip, drawn.splitlines()))):
            message, book = line.split("|")
            messages.append(f"{34_200 + number}.5,{','.join(message.split())}")
            books.append(self._book(book))
        return write_pair(self.folder, "\n".join(messages) + "\n", "\n".join(books) + "\n")

    def _book(self, drawn: str) -> str:
        bids, asks = (side.split() for side in drawn.split("/"))
        levels = []
        for place in range(self.levels):
            levels += [_level(asks, place, NO_ASK), _level(bids, place, NO_BID)]
        return ",".join(levels)


def _level(side: list[str], place: int, empty: str) -> str:
    if place >= len(side):
        return empty
    lots, ticks = side[place].split("@")
    return f"{ticks},{lots}"


def write_pair(folder: Path, messages: str, book: str) -> Pair:
    pair = Pair(folder / "message.csv", folder / "orderbook.csv")
    pair.messages.write_bytes(messages.encode())
    pair.book.write_bytes(book.encode())
    return pair


@pytest.fixture
def one(tmp_path: Path) -> Drawing:
    return Drawing(tmp_path, 1)


@pytest.fixture
def two(tmp_path: Path) -> Drawing:
    return Drawing(tmp_path, 2)


# --- what messages do -----------------------------------------------------------------------------------------------
# In the drawings: type id size price direction | bids / asks.


def test_orders_are_placed_reduced_executed_and_deleted(two: Drawing) -> None:
    pair = two.write("""
        1 10 5 100  1 | 5@100        / 7@105
        1 11 3 101  1 | 3@101 5@100  / 7@105
        1 12 4 101  1 | 7@101 5@100  / 7@105
        2 12 1 101  1 | 6@101 5@100  / 7@105
        4 11 2 101  1 | 4@101 5@100  / 7@105
        4 11 1 101  1 | 3@101 5@100  / 7@105
        3 12 3 101  1 | 5@100        / 7@105
    """)
    found = pair.found(passed=True, rows_compared=6, rows_equal=6, adoptions=0, trades=2, out_of_order=0, unmatched=0)
    assert found["messages"] == {
        "submit": 3,
        "reduce": 1,
        "delete": 1,
        "execute": 2,
        "execute_hidden": 0,
        "cross": 0,
        "halt": 0,
    }


def test_hidden_executions_crosses_and_halts_leave_the_book_alone(one: Drawing) -> None:
    pair = one.write("""
        1 10 5   100  1 | 5@100 / 7@105
        5 0  9   102  1 | 5@100 / 7@105
        6 -1 0     0 -1 | 5@100 / 7@105
        7 0  0    -1 -1 | 5@100 / 7@105
        7 0  0     0 -1 | 5@100 / 7@105
        7 0  0     1 -1 | 5@100 / 7@105
    """)
    assert pair.found(passed=True, rows_equal=5)["messages"]["halt"] == 3  # type: ignore[index]


def test_ids_that_were_never_announced_act_on_the_seed(one: Drawing) -> None:
    pair = one.write("""
        1 10 5 100  1 | 9@100 / 7@105
        1 20 2 100  1 | 11@100 / 7@105
        2 5  1 100  1 | 10@100 / 7@105
        4 6  3 100  1 | 7@100  / 7@105
        3 10 5 100  1 | 2@100  / 7@105
        4 20 2 100  1 |        / 7@105
    """)
    pair.found(passed=True, trades=2, behind_unnamed=0, unmatched=0)


def test_a_book_may_start_empty_and_become_empty(two: Drawing) -> None:
    pair = two.write("""
        7 0 0 1   -1 |       /
        1 1 5 100  1 | 5@100 /
        3 1 5 100  1 |       /
    """)
    pair.found(passed=True, rows_equal=2, adoptions=0)


def test_prices_of_nine_digits_and_large_sizes_fit(one: Drawing) -> None:
    pair = one.write("""
        1 1 1000000000 999999990  1 | 1000000000@999999990 / 1@999999999
        4 1 1000000000 999999990  1 |                      / 1@999999999
    """)
    pair.found(passed=True, trades=1)


# --- the edge of the view -------------------------------------------------------------------------------------------


def test_a_revealed_level_is_adopted_as_one_unnamed_order(one: Drawing) -> None:
    pair = one.write("""
        1 10 5 100  1 | 5@100 / 7@105
        1 11 3 101  1 | 3@101 / 7@105
        4 11 3 101  1 | 8@100 / 7@105
        3 10 5 100  1 | 3@100 / 7@105
        4 99 3 100  1 | 6@90  / 7@105
    """)
    pair.found(passed=True, adoptions=2, trades=2, unmatched=0)


def test_a_level_out_of_view_is_forgotten_with_the_ids_in_it(one: Drawing) -> None:
    pair = one.write("""
        1 10 5 100  1 | 5@100 / 7@105
        3 10 5 100  1 | 2@90  / 7@105
        1 11 4 95   1 | 4@95  / 7@105
        1 12 1 96   1 | 1@96  / 7@105
        3 12 1 96   1 | 9@95  / 7@105
        3 11 4 95   1 | 5@95  / 7@105
    """)
    pair.found(passed=True, adoptions=2, unmatched=0)


def test_no_level_is_adopted_unless_one_emptied(two: Drawing) -> None:
    pair = two.write("""
        1 10 5 100  1 | 5@100       / 7@105
        2 10 1 100  1 | 4@100 6@99  / 7@105
    """)
    pair.found(exit_code=1, passed=False, adoptions=0, rows_equal=0)


def test_no_level_is_adopted_on_the_other_side(two: Drawing) -> None:
    pair = two.write("""
        1 10 5 100  1 | 5@100 4@99  / 7@105 8@106
        3 10 5 100  1 | 4@99        / 7@105 9@106
    """)
    pair.found(exit_code=1, adoptions=0)


def test_no_level_is_adopted_where_the_book_was_all_in_view(two: Drawing) -> None:
    pair = two.write("""
        1 10 5 100  1 | 5@100  / 7@105
        3 10 5 100  1 | 4@99   / 7@105
    """)
    pair.found(exit_code=1, adoptions=0)


def test_no_level_is_adopted_while_one_above_it_disagrees(two: Drawing) -> None:
    pair = two.write("""
        1 10 5 100  1 | 5@100 4@99  / 7@105
        3 10 5 100  1 | 3@99  8@98  / 7@105
    """)
    pair.found(exit_code=1, adoptions=0)


def test_at_most_one_level_is_adopted_in_a_row(two: Drawing) -> None:
    pair = two.write("""
        1 10 5 100  1 | 5@100 4@99  / 7@105
        3 10 5 100  1 | 8@98  9@97  / 7@105
    """)
    pair.found(exit_code=1, adoptions=0)


# --- executions that an engine would not make -----------------------------------------------------------------------


def test_an_execution_of_a_younger_order_is_listed_and_the_books_stay_equal(one: Drawing) -> None:
    pair = one.write("""
        7 0  0 1   -1 |        / 7@105
        1 10 5 100  1 | 5@100  / 7@105
        1 11 3 100  1 | 8@100  / 7@105
        4 11 2 100  1 | 6@100  / 7@105
        4 11 1 100  1 | 5@100  / 7@105
        4 10 5 100  1 |        / 7@105
    """)
    found = pair.found(passed=True, out_of_order=2, trades=1, behind_unnamed=0)
    assert [(detour["row"], detour["reason"]) for detour in found["detours"]] == [  # type: ignore[attr-defined]
        (4, "out_of_order"),
        (5, "out_of_order"),
    ]
    text = pair.replay().output
    assert "executions out of order           2" in text
    assert "row 4: 34203.500000000 execute buy 2 @ 100, order 11" in text


def test_an_older_order_that_comes_late_is_seated_before_the_younger(one: Drawing) -> None:
    pair = one.write("""
        7 0  0 1   -1 |        / 7@105
        1 11 3 100  1 | 3@100  / 7@105
        1 12 4 100  1 | 7@100  / 7@105
        1 10 5 100  1 | 12@100 / 7@105
        4 10 5 100  1 | 7@100  / 7@105
        4 11 3 100  1 | 4@100  / 7@105
        3 12 4 100  1 |        / 7@105
    """)
    pair.found(passed=True, late_orders=1, out_of_order=0, trades=2)


def test_an_execution_behind_unnamed_volume_is_listed_by_itself(one: Drawing) -> None:
    pair = one.write("""
        1 10 5 100  1 | 5@100 / 7@105
        1 11 3 100  1 | 8@100 / 7@105
        4 11 3 100  1 | 5@100 / 7@105
    """)
    pair.found(passed=True, behind_unnamed=1, out_of_order=0, trades=0)


def test_an_execution_behind_a_better_price_is_listed_by_itself(two: Drawing) -> None:
    pair = two.write("""
        1 10 5 100  1 | 5@100 4@99 / 7@105
        4 77 4 99   1 | 5@100      / 7@105
    """)
    pair.found(passed=True, not_best_price=1, out_of_order=0, trades=0)


# --- data that contradicts itself -----------------------------------------------------------------------------------


def test_a_level_loses_what_the_message_says_whatever_the_order_had(one: Drawing) -> None:
    pair = one.write("""
        7 0  0 1   -1 |       / 7@105
        1 10 5 100  1 | 5@100 / 7@105
        1 11 4 100  1 | 9@100 / 7@105
        3 10 3 100  1 | 6@100 / 7@105
        3 10 2 100  1 | 4@100 / 7@105
        3 12 1 100  1 | 3@100 / 7@105
        2 11 9 100  1 |       / 7@105
        3 11 9 100  1 |       / 7@105
    """)
    found = pair.found(passed=True, unmatched=3)
    assert [(each["row"], each["missing_lots"]) for each in found["unmatched_messages"]] == [  # type: ignore[attr-defined]
        (6, 0),
        (7, 6),
        (8, 9),
    ]
    assert "row 7: 34206.500000000 reduce buy 9 @ 100, order 11: 6 lots are not there" in pair.replay().output


def test_an_id_that_comes_twice_names_the_later_order(two: Drawing) -> None:
    pair = two.write("""
        7 0  0 1   -1 |             / 7@105
        1 10 5 100  1 | 5@100       / 7@105
        1 10 4 99   1 | 5@100 4@99  / 7@105
        3 10 4 99   1 | 5@100       / 7@105
        4 10 5 100  1 |             / 7@105
    """)
    pair.found(passed=True, unmatched=0, trades=1)


def test_an_order_that_would_cross_is_refused_and_fails_the_replay(one: Drawing) -> None:
    pair = one.write("""
        1 10 5 100  1 | 5@100 / 7@105
        1 11 1 105  1 | 1@105 / 7@105
    """)
    found = pair.found(exit_code=1, faults=1, trades=0)
    assert "POST_ONLY_WOULD_TRADE" in found["first_faults"][0]["what"]  # type: ignore[index]


def test_a_planted_difference_is_drawn_with_both_books(two: Drawing) -> None:
    pair = two.write("""
        1 10 5 100  1 | 5@100       / 7@105
        1 11 3 99   1 | 5@100 4@99  / 7@105
        3 11 3 99   1 | 5@100       / 7@105
    """)
    found = pair.found(exit_code=1, passed=False, rows_compared=2, rows_equal=1)
    assert found["first_difference"] == {
        "row": 2,
        "message": {
            "time": "34201.500000000",
            "type": "submit",
            "order_id": 11,
            "quantity_lots": 3,
            "price_ticks": 99,
            "side": "buy",
        },
        "engine": {"bids": [[100, 5], [99, 3]], "asks": [[105, 7]]},
        "file": {"bids": [[100, 5], [99, 4]], "asks": [[105, 7]]},
    }
    result = pair.replay()
    assert result.exit_code == 1
    assert drawn_lines(result.output, "first difference") == [
        "first difference: row 2, after 34201.500000000 submit buy 3 @ 99, order 11",
        "engine | file",
        "level bid lots bid ticks ask ticks ask lots | bid lots bid ticks ask ticks ask lots",
        "1 5 100 105 7 | 5 100 105 7",
        "2 3 99 - - | 4 99 - - <- differs",
        "",
        "NOT EQUAL",
    ]


def drawn_lines(output: str, first: str) -> list[str]:
    """Return the lines from the one that starts with `first`, blanks between words taken together."""
    lines = [" ".join(line.split()) for line in output.splitlines()]
    return lines[next(number for number, line in enumerate(lines) if line.startswith(first)) :]


def test_an_engine_that_trades_with_the_youngest_is_caught(one: Drawing, monkeypatch: pytest.MonkeyPatch) -> None:
    def youngest_first(book: Book, side: Side) -> Iterator[Order]:
        for level in book.levels[side].values():
            yield from reversed(level.values())

    monkeypatch.setattr(Book, "orders", youngest_first)
    pair = one.write("""
        7 0  0 1   -1 |        / 7@105
        1 10 5 100  1 | 5@100  / 7@105
        1 11 5 100  1 | 10@100 / 7@105
        4 10 5 100  1 | 5@100  / 7@105
    """)
    found = pair.found("--engine", "reference", exit_code=1, rows_equal=3, faults=1)
    assert found["first_faults"][0]["row"] == 4  # type: ignore[index]


# --- files ----------------------------------------------------------------------------------------------------------

MESSAGES = "34200.1,1,10,5,100,1\n34200.2,1,11,3,101,1\n"
BOOK = "105,7,100,5\n105,7,101,3\n"


@pytest.mark.parametrize(
    ("messages", "book"),
    [
        pytest.param(MESSAGES.replace("\n", "\r\n"), BOOK.replace("\n", "\r\n"), id="windows line ends"),
        pytest.param(MESSAGES.rstrip(), BOOK.rstrip(), id="no last line end"),
        pytest.param("\n" + MESSAGES.replace("\n", "\n\n"), BOOK + "\n\n", id="blank lines"),
        pytest.param(MESSAGES.replace("\n", ",\n"), BOOK.replace("\n", ",,\n"), id="trailing commas"),
        pytest.param(MESSAGES.replace(",", ", "), BOOK.replace(",", " ,\t"), id="blanks around commas"),
        pytest.param("\ufeff" + MESSAGES, "\ufeff" + BOOK, id="byte order mark"),
        pytest.param(MESSAGES.replace(",1\n", ",1,NSDQ\n"), BOOK, id="participant column"),
    ],
)
def test_files_of_every_make_are_read_alike(tmp_path: Path, messages: str, book: str) -> None:
    write_pair(tmp_path, messages, book).found(passed=True, rows_compared=1)


def test_gzipped_files_are_known_by_their_bytes(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, MESSAGES, BOOK)
    pair.messages.write_bytes(gzip.compress(pair.messages.read_bytes()))
    pair.found(passed=True)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("34200", "34200.000000000"),
        ("34200.", "34200.000000000"),
        ("34200.18960767", "34200.189607670"),
        ("34200.000000001", "34200.000000001"),
        ("34397.878728270996", "34397.878728271"),
        ("34397.9999999999", "34398.000000000"),
        ("9.00000000049", "9.000000000"),
    ],
)
def test_times_are_padded_on_the_right_and_never_floats(tmp_path: Path, text: str, time: str) -> None:
    pair = write_pair(tmp_path, f"{text},1,10,5,100,1\n", "105,7,100,5\n")
    [message] = read_messages(pair.messages)
    assert seconds_text(message.time_ns) == time


def test_levels_that_do_not_exist_are_left_out(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, MESSAGES, f"105,7,{NO_BID},{NO_ASK},{NO_BID}\n{NO_ASK},100,5,{NO_ASK},99,1\n")
    assert list(read_book(pair.book)) == [BookRow([], [(105, 7)]), BookRow([(100, 5), (99, 1)], [])]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("time,type,id,size,price,direction", "message.csv:2: column 1 (time) is 'time'"),
        ("-1.5,1,11,3,101,1", "message.csv:2: column 1 (time) is '-1.5'"),
        ("3.42e4,1,11,3,101,1", "message.csv:2: column 1 (time) is '3.42e4'"),
        ("34200.2,8,11,3,101,1", "message.csv:2: column 2 (type) is 8"),
        ("34200.2,1,x11,3,101,1", "message.csv:2: column 3 (order id) is 'x11'"),
        ("34200.2,1,11,3.5,101,1", "message.csv:2: column 4 (size) is '3.5'"),
        ("34200.2,1,11,0,101,1", "message.csv:2: column 4 (size) is 0"),
        ("34200.2,3,11,-3,101,1", "message.csv:2: column 4 (size) is -3"),
        ("34200.2,5,0,-3,101,1", "message.csv:2: column 4 (size) is -3"),
        ("34200.2,1,11,9007199254740992,101,1", "message.csv:2: column 4 (size) is 9007199254740992"),
        ("34200.2,1,11,3,0,1", "message.csv:2: column 5 (price) is 0"),
        ("34200.2,1,11,3,9999999999,1", "message.csv:2: column 5 (price) is 9999999999"),
        ("34200.2,1,11,3,1_01,1", "message.csv:2: column 5 (price) is '1_01'"),
        ("34200.2,1,11,3,101,0", "message.csv:2: column 6 (direction) is 0"),
        ("34200.2,1,11,3,101", "message.csv:2: 5 columns"),
        ("34200.2,1,11,3,101,1,A,B", "message.csv:2: 8 columns"),
    ],
)
def test_a_bad_message_is_named_by_file_line_column_and_value(tmp_path: Path, line: str, expected: str) -> None:
    result = write_pair(tmp_path, f"34200.1,1,10,5,100,1\n{line}\n", BOOK).replay()
    assert result.exit_code == 2
    assert expected in result.stderr


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("105,7,101,3,106,1,99,1", "orderbook.csv:2: 8 columns; the rows before it have 4"),
        ("105,seven,101,3", "orderbook.csv:2: column 2 (ask size 1) is 'seven'"),
        ("105,7,101,0", "orderbook.csv:2: column 4 (bid size 1) is 0"),
        ("105,-7,101,3", "orderbook.csv:2: column 2 (ask size 1) is -7"),
        ("0,7,101,3", "orderbook.csv:2: column 1 (ask price 1) is 0"),
        ("9999999999,7,101,3", "orderbook.csv:2: column 1 (ask price 1) is 9999999999"),
        ("105,7,,3", "orderbook.csv:2: column 3 (bid price 1) is ''"),
    ],
)
def test_a_bad_book_row_is_named_by_file_line_column_and_value(tmp_path: Path, line: str, expected: str) -> None:
    result = write_pair(tmp_path, MESSAGES, f"105,7,100,5\n{line}\n").replay()
    assert result.exit_code == 2
    assert expected in result.stderr


@pytest.mark.parametrize(
    ("messages", "book", "expected"),
    [
        pytest.param(MESSAGES, "105,7,100,5\n", "ROWS_DIFFER", id="book too short"),
        pytest.param("34200.1,1,10,5,100,1\n", BOOK, "ROWS_DIFFER", id="book too long"),
        pytest.param("\n", "", "NO_ROWS", id="empty"),
        pytest.param(MESSAGES, BOOK.replace("105,7", "105"), "3 columns; a book row has four per level", id="columns"),
        pytest.param(MESSAGES, "105,7,105,5\n105,7,101,3\n", "BAD_SEED", id="seed locked"),
        pytest.param(MESSAGES, "105,7,99,5,106,1,100,2\n" * 2, "BAD_SEED", id="seed out of order"),
        pytest.param(
            MESSAGES, f"{NO_ASK},101,3,105,7,100,5\n" * 2, "level of column 1 is empty", id="level behind an empty one"
        ),
    ],
)
def test_files_that_make_no_pair_are_refused(tmp_path: Path, messages: str, book: str, expected: str) -> None:
    result = write_pair(tmp_path, messages, book).replay()
    assert result.exit_code == 2
    assert expected in result.stderr


GZIPPED = gzip.compress(MESSAGES.encode())


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(GZIPPED[:-4], id="cut off"),
        pytest.param(GZIPPED[:12] + b"\xff\xff\xff" + GZIPPED[15:], id="damaged inside"),
        pytest.param(b"\x1f\x8bno gzip", id="not gzip"),
        pytest.param(b"34200.1,\xff", id="not text"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    pair = write_pair(tmp_path, MESSAGES, BOOK)
    pair.messages.write_bytes(content)
    result = pair.replay()
    assert result.exit_code == 2
    assert "UNREADABLE" in result.stderr
    assert str(pair.messages) in result.stderr


def test_no_more_levels_are_compared_than_the_file_has(two: Drawing) -> None:
    result = two.write("1 10 5 100 1 | 5@100 / 7@105").replay("--levels", "3")
    assert result.exit_code == 2
    assert "TOO_MANY_LEVELS" in result.stderr
    assert "give at most 2" in result.stderr


def test_fewer_levels_may_be_compared_than_the_file_has(two: Drawing) -> None:
    pair = two.write("""
        1 10 5 100  1 | 5@100 4@99 / 7@105
        1 11 3 101  1 | 3@101 6@100 / 7@105
    """)
    assert pair.replay("--levels", "2").exit_code == 1
    assert pair.replay("--levels", "1").exit_code == 0


# --- simulated days -------------------------------------------------------------------------------------------------


@dataclass
class Exchange:
    """A full book whose day is written as LOBSTER would: the best levels, and the messages that touch them.

    A simulation by different means than the driver's: it knows every order, and derives what the files hide.
    """

    dice: random.Random
    levels: int
    sides: dict[int, dict[int, dict[int, int]]] = field(default_factory=lambda: {1: {}, -1: {}})
    last_id: int = 0
    messages: list[str] = field(default_factory=list)
    books: list[str] = field(default_factory=list)

    def best(self, direction: int) -> list[int]:
        return sorted(self.sides[direction], reverse=direction == 1)

    def act(self) -> None:
        direction = self.dice.choice((1, -1))
        action = self.dice.choices(("submit", "cancel", "sweep", "hidden"), (50, 35, 12, 3))[0]
        if action == "submit" or not self.sides[direction]:
            self.submit(direction)
        elif action == "cancel":
            self.cancel(direction)
        elif action == "sweep":
            self.sweep(direction, self.dice.randint(1, 40))
        else:
            self.write(5, 0, self.dice.randint(1, 9), 1000, direction)

    def submit(self, direction: int) -> None:
        others = self.best(-direction)
        limit = others[0] - direction if others else 1000 - direction
        price = limit - direction * self.dice.randint(0, 12)
        self.last_id += self.dice.randint(1, 5)
        lots = self.dice.randint(1, 20)
        self.sides[direction].setdefault(price, {})[self.last_id] = lots
        if price in self.best(direction)[: self.levels]:
            self.write(1, self.last_id, lots, price, direction)

    def cancel(self, direction: int) -> None:
        price = self.dice.choice(self.best(direction))
        order_id = self.dice.choice(list(self.sides[direction][price]))
        open_lots = self.sides[direction][price][order_id]
        lots = self.dice.randint(1, open_lots)
        self.take(3 if lots == open_lots else 2, order_id, lots, price, direction)

    def sweep(self, direction: int, lots: int) -> None:
        while lots and self.sides[direction]:
            price = self.best(direction)[0]
            order_id, open_lots = next(iter(self.sides[direction][price].items()))
            fill = min(lots, open_lots)
            self.take(4, order_id, fill, price, direction)
            lots -= fill

    def take(self, kind: int, order_id: int, lots: int, price: int, direction: int) -> None:
        visible = price in self.best(direction)[: self.levels]
        level = self.sides[direction][price]
        level[order_id] -= lots
        if not level[order_id]:
            del level[order_id]
        if not level:
            del self.sides[direction][price]
        if visible:
            self.write(kind, order_id, lots, price, direction)

    def write(self, kind: int, order_id: int, lots: int, price: int, direction: int) -> None:
        self.messages.append(f"{34_200 + len(self.messages) // 7}.25,{kind},{order_id},{lots},{price},{direction}")
        columns = []
        for place in range(self.levels):
            for side, empty in ((-1, NO_ASK), (1, NO_BID)):
                prices = self.best(side)
                price_there = prices[place] if place < len(prices) else None
                level = self.sides[side][price_there].values() if price_there is not None else ()
                columns.append(f"{price_there},{sum(level)}" if level else empty)
        self.books.append(",".join(columns))


@pytest.mark.parametrize(("seed", "levels"), [(1, 1), (2, 1), (3, 2), (4, 3), (5, 5), (6, 30)])
def test_a_simulated_day_is_equal_in_every_row(tmp_path: Path, seed: int, levels: int) -> None:
    exchange = Exchange(random.Random(seed), levels)
    while len(exchange.messages) < 800:
        exchange.act()
    pair = write_pair(tmp_path, "\n".join(exchange.messages), "\n".join(exchange.books))
    found = pair.found(passed=True, faults=0, unmatched=0, detours=[], late_orders=0)
    executed = found["messages"]["execute"]  # type: ignore[index]
    assert found["trades"] >= executed > 0
    assert (found["adoptions"] > 0) == (levels < 30)  # type: ignore[operator]


# --- real days ------------------------------------------------------------------------------------------------------


def sample(names: tuple[str, str]) -> Pair:
    pair = Pair(*(SAMPLES / name for name in names))
    if not (pair.messages.exists() and pair.book.exists()):
        pytest.skip(f"LOBSTER samples are not at {SAMPLES}; set CLOB_SAMPLE_DATA to the folder that has lobster/")
    return pair


def test_aapl_with_ten_levels_is_equal_in_every_row() -> None:
    sample(AAPL_10).found(passed=True, rows_compared=998, rows_equal=998, adoptions=318, out_of_order=0, unmatched=0)


def test_aapl_with_ten_levels_is_equal_at_every_cut() -> None:
    pair = sample(AAPL_10)
    for levels in (1, 3, 9):
        assert pair.replay("--levels", str(levels)).exit_code == 0


def test_msft_with_five_levels_is_equal_in_every_row() -> None:
    sample(MSFT_5).found(passed=True, rows_compared=19_999, rows_equal=19_999, adoptions=320, out_of_order=45)


def test_aapl_of_one_level_is_equal_in_its_first_rows(tmp_path: Path) -> None:
    whole = sample(AAPL_1)
    rows = 20_000
    pair = write_pair(tmp_path, first_lines(whole.messages, rows), first_lines(whole.book, rows))
    pair.found(passed=True, rows_compared=rows - 1, rows_equal=rows - 1, unmatched=0)


@pytest.mark.long
def test_aapl_of_one_level_is_equal_all_day() -> None:
    sample(AAPL_1).found(
        passed=True, rows_compared=118_496, rows_equal=118_496, adoptions=30_071, out_of_order=23, unmatched=0
    )


def test_real_messages_have_the_types_that_the_format_names() -> None:
    pair = sample(AAPL_10)
    kinds = {row.message.kind for row in LobsterPair(pair.messages, pair.book).rows()}
    assert kinds == {MessageType.SUBMIT, MessageType.DELETE, MessageType.EXECUTE, MessageType.EXECUTE_HIDDEN}


def first_lines(path: Path, number: int) -> str:
    with gzip.open(path, "rt") as lines:
        return "".join(islice(lines, number))
