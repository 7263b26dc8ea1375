"""Ports for servers that a benchmark or a test starts as processes, and so must name beforehand."""

import random
import socket
from contextlib import suppress

_CANDIDATES = iter(random.sample(range(15_000, 32_000), 17_000))
"""Each once: two servers never get the same. The kernel gives clients ports from 32,768 on."""


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on, no call returned before, and no client is given."""
    for port in _CANDIDATES:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError("no port is left")
