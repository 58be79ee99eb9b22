"""How the example programs of the core's crate are run, and the library of its fast path built."""

import platform
import subprocess
from pathlib import Path
from typing import Final

CRATE: Final = Path(__file__).parent.parent / "src" / "exchange-core"


def command_of(example: str, profile: str = "release") -> list[str]:
    """Return the command that builds and runs an example, for the folder CRATE; its arguments are appended."""
    return ["cargo", "run", "--quiet", "--profile", profile, "--locked", "--example", example, "--"]


def build_library() -> Path | None:
    """Build the library of the fast path and return its file; None on a machine of another architecture.

    Whether the processor has AVX-512 IFMA is asked by whoever loads the library, not here.

    Raises:
        CalledProcessError: the library does not build.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return None
    target = CRATE / "ifma" / "target"
    command = ["cargo", "build", "--quiet", "--release", "--locked", "--target-dir", str(target)]
    subprocess.run(command, cwd=CRATE / "ifma", check=True)
    return target / "release" / "libexchange_ifma.so"
