"""One job at a time in one folder: two would undo each other's work."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK = ".training.lock"


class BusyError(Exception):
    """Another job is at work in the folder."""


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Holds the folder's lock while the block runs; the lock goes with the process, however it ends.

    Raises:
        BusyError: another job holds it.
    """
    root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(root / _LOCK, timeout=0):
            yield
    except Timeout:
        raise BusyError(f"Another training job is at work in {root}.") from None
