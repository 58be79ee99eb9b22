"""How the example programs of the core's crate are run, with the library of its fast path where it can be built."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Final

CRATE: Final = Path(__file__).parent.parent / "src" / "exchange-core"
LIBRARY_VARIABLE: Final = "EXCHANGE_IFMA_LIBRARY"


def command_of(example: str) -> list[str]:
    """Return the command that builds and runs an example, for the folder CRATE; its arguments are appended."""
    return ["cargo", "run", "--quiet", "--release", "--locked", "--example", example, "--"]


def environment_of_examples() -> dict[str, str]:
    """Return this environment; it names the library of the fast path, which is built unless it was named before.

    Whether the processor has AVX-512 IFMA is asked by whoever loads the library, not here.

    Raises:
        CalledProcessError: the library does not build.
    """
    if LIBRARY_VARIABLE in os.environ or platform.machine() not in {"x86_64", "AMD64"}:
        return dict(os.environ)
    subprocess.run(["cargo", "build", "--quiet", "--release", "--locked"], cwd=CRATE / "ifma", check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", CRATE / "ifma" / "target"))
    return os.environ | {LIBRARY_VARIABLE: str(target / "release" / "libexchange_ifma.so")}
