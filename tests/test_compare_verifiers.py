import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exchange.reference.signing import public_key_of, sign
from tools.compare_verifiers import Row, differences, read_rows

ROOT = Path(__file__).parents[1]
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


@pytest.mark.skipif(shutil.which("cargo") is None, reason="there is no cargo")
def test_the_paths_of_the_core_and_the_reference_agree_on_random_and_mutated_signatures() -> None:
    core = pytest.importorskip("exchange_core", reason="the core is not built: make core")
    library = Path(core.__file__).parent / "lib" / "libexchange_ifma.so"
    if not library.is_file() or core.Verifier(1, library).path != "ifma":
        pytest.skip("the fast path is not for this machine")
    command = [sys.executable, "-m", "tools.compare_verifiers", "--count", "2000", "--profile", "dev"]
    command += ["--library", str(library)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2,000 signatures compared with the reference, seed 1: 0 differences" in ran.stdout
    assert "verify_one against portable, keys new; portable; ifma, keys new; ifma" in ran.stderr
