"""A leash for children: asks the kernel for a SIGTERM when the parent is gone, then becomes the program (Linux).

Run as a script, before the program, with the parent's number and the child's niceness: between fork and exec it would
run in a copy of a process that has threads. The standard library alone is imported, so that it costs 10 ms.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the program that the arguments name."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent is gone")  # it died before the kernel was asked
    os.nice(int(sys.argv[2]))
    os.execv(sys.argv[3], sys.argv[3:])


if __name__ == "__main__":
    main()
