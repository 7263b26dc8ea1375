"""Brings the champion down beside a server: `python -m training.sync --bundle-root bundles`.

Needs the extra `sync` and nothing of the training stack.
"""

import os

from training.release.mlflow_env import MLFLOW_QUIET

os.environ.update({**MLFLOW_QUIET, **os.environ})

import argparse
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import structlog

from serving.bundle import SETTLE_SECONDS
from serving.bundle.manifest import SERVED_FOLDERS
from serving.bundle.signature import KeyFileError, TrustedKeys
from serving.bundle.store import BundleError, BundleStore
from serving.logs import configure_logs
from serving.shards import UserShard
from training.lock import BusyError, alone
from training.release.champion import pull_champion
from training.release.registry import Registry, RegistryError, limited_requests, require_tracking_uri

_ANSWER_SECONDS: Final = 30
_TERMINATED: Final = 128 + signal.SIGTERM

_logger = structlog.get_logger(__name__)
_Value = TypeVar("_Value")


def main(arguments: list[str] | None = None) -> int:
    """Syncs once, or until a signal asks to stop; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.sync", description=__doc__)
    parser.add_argument("--bundle-root", type=Path, required=True, help="folder that the servers read")
    parser.add_argument(
        "--tracking-uri",
        type=_if_set(require_tracking_uri),
        default=os.environ.get("MLFLOW_TRACKING_URI"),
        help="MLflow server with the registry; default: MLFLOW_TRACKING_URI, else a store beside the bundles",
    )
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="look again and again, this often")
    parser.add_argument(
        "--until-synced", action="store_true", help="with --watch: end once the champion is there"
    )
    parser.add_argument(
        "--settle-seconds",
        type=float,
        metavar="SECONDS",
        default=SETTLE_SECONDS,
        help="least time between two bundles, as long as the servers' settle delay (default: %(default)s)",
    )
    parser.add_argument(
        "--bundle-key",
        type=_if_set(lambda file: TrustedKeys.read(Path(file))),
        default=os.environ.get("MOVIEREC_BUNDLE_KEY_FILE"),
        metavar="FILE",
        help="public keys in PEM: what none of them signed is refused (default: MOVIEREC_BUNDLE_KEY_FILE)",
    )
    parser.add_argument(
        "--user-shard",
        type=_if_set(UserShard.of_text),
        default=os.environ.get("MOVIEREC_USER_SHARD"),
        metavar="K/N",
        help="whose users the server beside it serves; no other comes (default: MOVIEREC_USER_SHARD, or all)",
    )
    parser.add_argument(
        "--folder",
        type=_if_set(_served_folder),
        default=os.environ.get("MOVIEREC_BUNDLE_FOLDER"),
        metavar="NAME",
        help="what the server beside it reads, in a root of its own; nothing else comes "
        "(default: MOVIEREC_BUNDLE_FOLDER, or all)",
    )
    options = parser.parse_args(arguments)
    if options.until_synced and options.watch is None:
        parser.error("--until-synced needs --watch")
    if options.watch is not None and not 0 < options.watch <= threading.TIMEOUT_MAX:
        parser.error(f"--watch must be a finite number of seconds above 0, not {options.watch:g}")
    if not 0 <= options.settle_seconds <= threading.TIMEOUT_MAX:
        parser.error(f"--settle-seconds must be finite and not below 0, not {options.settle_seconds:g}")
    configure_logs("sync")
    store = BundleStore(  # one for all rounds: it knows what it has verified
        options.bundle_root,
        trusted=options.bundle_key,
        user_shard=options.user_shard,
        folder=options.folder,
    )
    stopped = threading.Event()

    def wait(seconds: float) -> None:
        _logger.info("servers are still taking the bundle before", seconds=round(seconds))
        if stopped.wait(seconds):
            raise _StoppedError

    def sync() -> bool:
        return _sync(options.tracking_uri, store, settle_seconds=options.settle_seconds, wait=wait)

    with limited_requests(seconds=_ANSWER_SECONDS):
        if options.watch is None:
            return 0 if sync() else 1
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        signal.signal(signal.SIGINT, lambda *_: stopped.set())
        with suppress(_StoppedError):
            while not stopped.is_set():
                if sync() and options.until_synced:
                    return 0
                stopped.wait(options.watch)
    return 1 if options.until_synced else 0


def _served_folder(name: str) -> str:
    if name not in SERVED_FOLDERS:
        raise ValueError(f"must be one of {', '.join(SERVED_FOLDERS)}, not {name!r}")
    return name


def _if_set(read: Callable[[str], _Value]) -> Callable[[str], _Value | None]:
    """Reads an option, or a variable that may be empty, and says in the command's words what is wrong."""

    def value_of(text: str) -> _Value | None:
        try:
            return read(text) if text else None
        except (KeyFileError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return value_of


class _StoppedError(Exception):
    """A signal came while waiting."""


def _sync(
    tracking_uri: str | None, store: BundleStore, *, settle_seconds: float, wait: Callable[[float], None]
) -> bool:
    """Whether it went well. What went wrong is logged, and servers go on with what they have."""
    try:
        with alone(store.root):
            registry = Registry.open(store.root, tracking_uri)
            bundle_id = pull_champion(registry, store, settle_seconds=settle_seconds, wait=wait)
    except (BundleError, BusyError, OSError, RegistryError) as error:
        _logger.error("not synced", error=str(error))  # noqa: TRY400  # the message says all there is
        return False
    if bundle_id is not None:
        _logger.info("champion pulled", bundle_id=bundle_id)
    return True


if __name__ == "__main__":
    # Without a handler the first process of a container ignores the signal. `--watch` has one of its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    sys.exit(main())
