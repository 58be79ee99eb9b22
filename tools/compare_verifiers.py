"""Compare the verdicts of the core's paths and of the reference on random and mutated signatures.

`examples/compare_verifiers.rs` of the crate makes them, asks ed25519-dalek and each of the core's paths, and passes
them on; here the reference judges: its rule, with OpenSSL for the equation. The fast path takes part where the
processor has AVX-512 IFMA; the program says so. Status 1 when any verdict differs.
"""

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple

from exchange.reference.signing import key_refusal, signature_refusal
from tools.core_examples import CRATE, build_library, command_of

PROGRESS_ROWS: Final = 500_000

_HEAD_BYTES: Final = 2 + 1 + 1 + 32 + 64


class Row(NamedTuple):
    """A signature and the verdict of the core."""

    kind: int
    verdict: bool
    public_key: bytes
    signature: bytes
    message: bytes


def read_rows(stream: IO[bytes]) -> Iterator[Row]:
    """Yield what the program wrote with --write, to its end.

    Raises:
        EOFError: the stream ends within a row.
    """
    while head := stream.read(_HEAD_BYTES):
        length = int.from_bytes(head[:2], "little")
        message = stream.read(length)
        if len(head) < _HEAD_BYTES or len(message) < length:
            raise EOFError("the stream ends within a row: the program that makes signatures was stopped")
        yield Row(head[2], head[3] == 1, head[4:36], head[36:100], message)


def differences(rows: Iterator[Row]) -> tuple[int, int]:
    """Return how many rows there were and how many the reference judges differently; print the latter."""
    registered: set[bytes] = set()
    count = found = 0
    start = time.monotonic()
    for count, row in enumerate(rows, start=1):
        if row.public_key not in registered:
            assert key_refusal(row.public_key) is None, f"key {row.public_key.hex()} may not be registered"
            registered.add(row.public_key)
        refusal = signature_refusal(row.public_key, row.message, row.signature)
        if (refusal is None) != row.verdict:
            found += 1
            print(
                f"the core says {row.verdict}, the reference {refusal or 'accepts'}: public_key {row.public_key.hex()} "
                f"message {row.message.hex()} signature {row.signature.hex()}"
            )
        if count % PROGRESS_ROWS == 0:
            print(f"{count:,} signatures, {found} differences, {time.monotonic() - start:.0f} s", flush=True)
    return count, found


def main() -> None:
    """Compare, print the counts, end with status 1 when a verdict differs or the program failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000_000, help="signatures (10,000,000: 17 minutes)")
    parser.add_argument("--seed", type=int, default=1, help="the same signatures for the same seed (1)")
    parser.add_argument("--library", type=Path, metavar="FILE", help="of the fast path (built from ifma/)")
    parser.add_argument("--profile", default="release", help="of cargo: dev builds sooner, release is faster (release)")
    options = parser.parse_args()
    library = options.library.resolve() if options.library else build_library()
    command = [*command_of("compare_verifiers", options.profile), str(options.count), str(options.seed), "--write"]
    command += [f"--library={library}"] if library else []
    with subprocess.Popen(command, cwd=CRATE, stdout=subprocess.PIPE, bufsize=1 << 20) as process:
        assert process.stdout is not None
        count = found = 0
        with contextlib.closing(process.stdout) as stream:
            count, found = differences(read_rows(stream))
    print(f"{count:,} signatures compared with the reference, seed {options.seed}: {found} differences")
    sys.exit(found > 0 or process.returncode != 0 or count != options.count)


if __name__ == "__main__":
    main()
