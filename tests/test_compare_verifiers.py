import io

import pytest

from exchange.reference.signing import public_key_of, sign
from tools.compare_verifiers import Row, differences, read_rows

SEED = b"compare".ljust(32, b".")
KEY = public_key_of(SEED)


def row(message: bytes, *, signed: bytes, verdict: bool) -> bytes:
    head = len(message).to_bytes(2, "little") + bytes([3, verdict])
    return head + KEY + sign(SEED, signed) + message


def test_a_verdict_that_differs_from_the_reference_is_counted_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    right = row(b"one", signed=b"one", verdict=True) + row(b"", signed=b"x", verdict=False)
    wrong = row(b"two", signed=b"two", verdict=False) + row(b"3", signed=b"x", verdict=True)
    assert differences(read_rows(io.BytesIO(right))) == (2, 0)
    assert differences(read_rows(io.BytesIO(wrong + right))) == (4, 2)
    assert f"the core says True, the reference EQUATION: public_key {KEY.hex()}" in capsys.readouterr().out


def test_rows_are_read_as_they_were_written() -> None:
    stream = io.BytesIO(row(b"message", signed=b"message", verdict=True))
    assert list(read_rows(stream)) == [Row(3, True, KEY, sign(SEED, b"message"), b"message")]


@pytest.mark.parametrize("cut", [1, 99, 100, 106])
def test_a_stream_that_ends_within_a_row_is_an_error(cut: int) -> None:
    stream = io.BytesIO(row(b"message", signed=b"message", verdict=True)[:cut])
    with pytest.raises(EOFError, match="within a row"):
        list(read_rows(stream))
