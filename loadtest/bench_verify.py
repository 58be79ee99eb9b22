"""Processor time per signature: the core's paths beside OpenSSL, libsodium and ed25519-dalek, on one core.

The example `bench_verify` of the crate measures what is Rust, without Python around it, and says what distinct, known
and bad mean. OpenSSL and libsodium are measured here, through `cryptography` and `pynacl`, on signatures of the same
kind; they verify one at a time and remember nothing about keys, so n and known keys make no difference to them.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from exchange.reference.signing import public_key_of, sign, verify_one
from loadtest.bench_reference import machine
from loadtest.plots import Plots
from tools.core_examples import CRATE, build_library, command_of

BUILD: Final = Path(__file__).parent.parent / "build" / "bench-verify"
SIZES: Final = (1, 8, 64, 512, 1_024)
MESSAGE_BYTES: Final = 128
PEER_KEYS: Final = 512
PEER_RUNS: Final = 5

Row = tuple[bytes, bytes, bytes]
"""Key, message, signature."""
Verify = Callable[[bytes, bytes, bytes], bool]


def openssl(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Return OpenSSL's verdict."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def libsodium(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Return libsodium's verdict."""
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True


PEERS: Final[dict[str, Verify]] = {
    "OpenSSL (cryptography)": openssl,
    "libsodium (pynacl)": libsodium,
    "reference (Python, OpenSSL)": verify_one,
}


def signed_rows(*, good: bool) -> list[Row]:
    """Return PEER_KEYS rows under as many keys; the last bit of bad ones' messages was changed after signing."""
    rows = []
    for number in range(PEER_KEYS):
        seed = number.to_bytes(32, "little")
        message = number.to_bytes(MESSAGE_BYTES, "big")
        sent = message if good else message[:-1] + bytes([message[-1] ^ 1])
        rows.append((public_key_of(seed), sent, sign(seed, message)))
    return rows


def peer_figures() -> list[dict[str, Any]]:
    """Return nanoseconds per signature of each peer, the median of runs, in the form of the example's lines."""
    figures = []
    for good in (True, False):
        rows = signed_rows(good=good)
        for name, verify in PEERS.items():
            runs_ns = []
            for _ in range(PEER_RUNS):
                started_ns = time.process_time_ns()
                verdicts = [verify(*row) for row in rows]
                runs_ns.append((time.process_time_ns() - started_ns) // len(rows))
                assert all(verdict == good for verdict in verdicts)
            signatures = "good" if good else "bad"
            common = {"verifier": name, "signatures": signatures, "n": 1, "ns": int(statistics.median(runs_ns))}
            figures += [{"keys": keys, **common} for keys in ("distinct", "known")]
    return figures


def core_figures() -> list[dict[str, Any]]:
    """Return the lines of the crate's example.

    Raises:
        CalledProcessError: it does not build, or a verdict was wrong.
    """
    library = build_library()
    command = command_of("bench_verify") + ([str(library)] if library else [])
    ran = subprocess.run(command, cwd=CRATE, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in ran.stdout.splitlines()]


def table(figures: list[dict[str, Any]]) -> str:
    """Return the figures as lines: a verifier, keys and signatures each, a column for each n."""
    heads = "".join(f"{f'n = {n:,}':>10}" for n in SIZES)
    lines = [f"{'us per signature':<30}{'keys':<10}{'signatures':<10}{heads}"]
    found = {(one["verifier"], one["keys"], one["signatures"], one["n"]): one["ns"] for one in figures}
    for verifier, keys, signatures in dict.fromkeys(key[:3] for key in found):
        at = [found.get((verifier, keys, signatures, n)) for n in SIZES]
        cells = "".join(f"{'' if ns is None else f'{ns / 1000:.1f}':>10}" for ns in at)
        lines.append(f"{verifier:<30}{keys:<10}{signatures:<10}{cells}".rstrip())
    return "\n".join(lines)


def plot(figures: list[dict[str, Any]], about: dict[str, Any], folder: Path) -> None:
    """Write microseconds per good signature by n as SVG, where pygal is installed: a line for each verifier.

    A verifier that takes rows together has a second line, dashed, for known keys. One that takes them one at a time has
    its only figure at every n.
    """
    plots = Plots.open(folder, about)
    if plots is None:
        return
    chart = plots.chart(
        "XY",
        "Microseconds per good signature, one core",
        x_title="signatures verified at a time; those without a word on keys take one",
        x_value_formatter=lambda n: f"{n:,.0f}",
        value_formatter=lambda us: f"{us:,.1f}",
        legend_at_bottom=True,
        truncate_legend=-1,
    )
    chart.x_labels = SIZES
    found = {(one["verifier"], one["keys"], one["n"]): one["ns"] for one in figures if one["signatures"] == "good"}
    for verifier, keys in dict.fromkeys(key[:2] for key in found):
        at = {n: found[verifier, keys, n] / 1000 for n in SIZES if (verifier, keys, n) in found}
        if list(at) != [1]:
            dashes = {"dasharray": "6, 4"} if keys == "known" else {}
            chart.add(f"{verifier}, {keys} keys", list(at.items()), stroke_style=dashes)
        elif keys == "distinct":
            chart.add(verifier, [(n, at[1]) for n in SIZES])
    plots.write(chart, "verify")


def main() -> None:
    """Measure, print a table, write JSON and a plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, metavar="FILE", default=BUILD / "bench-verify.json")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", default=BUILD / "plots")
    options = parser.parse_args()
    about = machine() | {"command": " ".join(["python", "-m", "loadtest.bench_verify", *sys.argv[1:]])}
    print(f"{about['cpu']}; {about['python']}; commit {about['commit']}")
    print(f"{about['command']}: processor time on one core, messages of {MESSAGE_BYTES} bytes\n")
    order = {"distinct": 0, "known": 1}
    figures = core_figures() + peer_figures()
    figures.sort(key=lambda one: (order[one["keys"]], one["signatures"] == "bad"))
    print(table(figures))
    if not any("IFMA" in one["verifier"] for one in figures):
        print("\nno fast path: the library was not built")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"machine": about, "figures": figures}, indent=2) + "\n")
    plot(figures, about, options.plots)


if __name__ == "__main__":
    main()
