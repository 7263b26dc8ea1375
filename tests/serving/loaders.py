"""Loaders that a process of its own imports: what a bundle may do to whoever loads it."""

import os
import signal
import time

from serving.bundle.store import BundleError, BundleStore


def fine(store: BundleStore, bundle_id: str) -> str:
    return bundle_id


def dies(store: BundleStore, bundle_id: str) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs(store: BundleStore, bundle_id: str) -> None:
    time.sleep(3_600)


def refuses(store: BundleStore, bundle_id: str) -> None:
    raise BundleError(f"bundle {bundle_id}: not this one")


def ends(store: BundleStore, bundle_id: str) -> None:
    raise SystemExit(3)


def manifest(store: BundleStore, bundle_id: str) -> None:
    store.manifest(bundle_id)
