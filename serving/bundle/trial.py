"""Loading a bundle in a process of its own first.

    python -m serving.bundle.trial root id keys shard module:loader …

A hash says that a file is what was published, not that what was published is sound. Of damaged CatBoost
models, one in fifty ends the process that reads it by SIGSEGV, which no `except` catches: all replicas would
die together, and again at each start.
"""

import os
import pkgutil
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from serving.bundle.signature import TrustedKeys
from serving.bundle.store import BundleError, BundleStore
from serving.shards import UserShard

Model = TypeVar("Model")
Loader = Callable[[BundleStore, str], Model]

TRIAL_SECONDS: Final = 300.0
"""A trial that takes longer has failed: the file system does not answer, or the file never ends."""

_LAST_SECONDS: Final = 2.0
_OOM_SCORE: Final = Path("/proc/self/oom_score_adj")
_FIRST_TO_BE_KILLED: Final = "1000"


def tried_first(load: Loader[Model]) -> Loader[Model]:
    """A loader that lets a process of its own load the bundle, and then does so itself.

    Args:
        load: a function or class method that can be found by its module and name.
    """
    owner = getattr(load, "__self__", load)
    name = f"{owner.__module__}:{load.__qualname__}"

    def tried(store: BundleStore, bundle_id: str) -> Model:
        try_loading([name], store, bundle_id)
        return load(store, bundle_id)

    return tried


def try_loading(
    loaders: Sequence[str], store: BundleStore, bundle_id: str, *, seconds: float = TRIAL_SECONDS
) -> None:
    """Returns if a process of its own loads the bundle and its golden values come out again.

    Args:
        loaders: each as `module:name`; one process asks all, in order.
        store: holds the bundle.
        bundle_id: of the bundle.
        seconds: how long it may take.

    Raises:
        BundleError: the loader refused the bundle, or the process died or did not end in time.
    """
    keys = "" if store.trusted is None else store.trusted.hex()
    shard = "" if store.user_shard is None else str(store.user_shard)
    trial = subprocess.Popen(  # noqa: S603  # our own interpreter and module
        [sys.executable, "-m", __name__, str(store.root), bundle_id, keys, shard, *loaders],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        _, errors = trial.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        trial.kill()
        with suppress(subprocess.TimeoutExpired):  # while it asks a file system that hangs, it does not die
            trial.communicate(timeout=_LAST_SECONDS)
        raise BundleError(f"bundle {bundle_id}: loading it did not end within {seconds:g} s") from None
    if trial.returncode < 0:
        number = -trial.returncode
        died = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        raise BundleError(f"bundle {bundle_id}: loading it ended in {died}")
    if trial.returncode > 0:
        last = (errors.strip().splitlines() or [f"exit status {trial.returncode}"])[-1]
        raise BundleError(last.removeprefix(f"{BundleError.__module__}.{BundleError.__qualname__}: "))


def main(root: str, bundle_id: str, keys: str, shard: str, *loaders: str) -> None:
    """Loads the bundle; what is wrong with it ends the process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if _OOM_SCORE.exists():  # the kernel ends this process before the server that waits for it
        _OOM_SCORE.write_text(_FIRST_TO_BE_KILLED, encoding="ascii")
    trusted = TrustedKeys.from_hex(keys) if keys else None
    user_shard = UserShard.of_text(shard) if shard else None
    for loader in loaders:
        store = BundleStore(Path(root), trusted=trusted, user_shard=user_shard)
        pkgutil.resolve_name(loader)(store, bundle_id)
    os._exit(0)  # nothing is left to be done, and tearing a model down takes time


if __name__ == "__main__":
    main(*sys.argv[1:])
