"""Ctrl-C and SIGTERM as a request that the demo looks at, not as an exception anywhere."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_SLICE_SECONDS: Final = 0.1


class StopRequest:
    """Whether the user, or a SIGTERM, has asked the demo to stop."""

    def __init__(self) -> None:
        self._signals: list[int] = []

    def receive(self, signal_number: int, _frame: FrameType | None = None) -> None:
        """Take note of a signal; the handler of SIGINT and SIGTERM."""
        self._signals.append(signal_number)

    @property
    def made(self) -> bool:
        """Whether a signal has come."""
        return bool(self._signals)

    @property
    def urgent(self) -> bool:
        """Whether it came again, so that nothing is worth waiting for."""
        return len(self._signals) > 1

    @property
    def exit_status(self) -> int:
        """What a shell expects of a process that the first signal ended; 0 if none came."""
        return 128 + self._signals[0] if self._signals else 0

    def wait(self, seconds: float) -> bool:
        """Sleep, but not beyond a request to stop; return whether there is one."""
        # A handler cannot cut a sleep short without raising, hence slices.
        end = time.monotonic() + seconds
        while not self.made and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE_SECONDS))
        return self.made


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Collect SIGINT and SIGTERM while the block runs."""
    request = StopRequest()
    previous = {number: signal.signal(number, request.receive) for number in _STOPPING}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


_STOPPING: Final = (signal.SIGINT, signal.SIGTERM)
