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
    with _held(root / _LOCK, f"Another training job is at work in {root}."):
        yield


@contextmanager
def moving_pointer(root: Path) -> Iterator[None]:
    """Holds the pointer's own lock, so that a rollback need not wait for a running job.

    Raises:
        BusyError: another move does not come to an end.
    """
    with _held(root / _POINTER_LOCK, f"Something else is moving the pointer in {root}.", _POINTER_SECONDS):
        yield


@contextmanager
def _held(lock: Path, refusal: str, seconds: float = 0.0) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=seconds):
            yield
    except Timeout:
        raise BusyError(refusal) from None
