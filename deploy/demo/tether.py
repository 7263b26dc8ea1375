"""Becomes another program, which the kernel ends when the demo ends, however that happens.

A SIGKILL leaves the demo no chance to stop its servers; they would hold their ports until somebody
finds them. A program of its own and no `preexec_fn`, which is not safe beside the threads of gRPC.

Usage: python tether.py <pid of the demo> <program> [<argument> ...]
"""

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Tie this process to its parent and become the program."""
    demo, program = int(sys.argv[1]), sys.argv[2]
    if sys.platform == "linux":  # elsewhere there is no such tie
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != demo:  # it ended before the line above
        sys.exit("the demo has ended")
    try:
        os.execvp(program, sys.argv[2:])  # noqa: S606  the point of it; its arguments are the demo's own
    except OSError as error:
        sys.exit(f"{program}: {error.strerror}")


if __name__ == "__main__":
    main()
