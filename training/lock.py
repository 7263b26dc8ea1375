"""One job at a time in one folder: two would undo each other's work."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from training.errors import TrainingError

_LOCK: Final = ".training.lock"
_POINTER_LOCK: Final = ".pointer.lock"
_POINTER_SECONDS: Final = 10


class BusyError(TrainingError):
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


@contextmanager
def moving_pointer(root: Path) -> Iterator[None]:
    """Holds the pointer's own lock, so that a rollback need not wait for a running job.

    Raises:
        BusyError: another move does not come to an end.
    """
    root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(root / _POINTER_LOCK, timeout=_POINTER_SECONDS):
            yield
    except Timeout:
        raise BusyError(f"Something else is moving the pointer in {root}.") from None
