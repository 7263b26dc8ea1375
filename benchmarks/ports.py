"""Ports for servers that a benchmark or a test starts as processes, and so must name beforehand."""

import random
import socket
from contextlib import suppress

_CANDIDATES = iter(random.sample(range(15_000, 32_000), 17_000))
"""Each once: two servers never get the same. The kernel gives clients ports from 32,768 on."""


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on, no call returned before, and no client is given.

    A process that takes a port for its servers holds the UDP port of the same number until it ends: by that,
    tests and benchmarks that run at the same time never take the same one.
    """
    for port in _CANDIDATES:
        held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with suppress(OSError):
            held.bind(("127.0.0.1", port))
            with socket.create_server(("127.0.0.1", port)):
                held.detach()  # stays open
                return port
        held.close()
    raise RuntimeError("no port is left")
