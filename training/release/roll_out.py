"""Pointing servers to a bundle, no sooner than they can follow."""

import time
from collections.abc import Callable

from serving.bundle.store import BundleStore
from training.lock import moving_pointer


def roll_out(
    store: BundleStore,
    bundle_id: str,
    *,
    settle_seconds: float,
    wait: Callable[[float], None],
    published_at: float | None = None,
    previous: str | None = None,
) -> None:
    """Moves the pointer to a published bundle, once servers have taken the one before.

    Args:
        store: holds the bundle.
        bundle_id: of the bundle.
        settle_seconds: how long servers take; not less than their settle delay.
        wait: called with the seconds that are left; the pointer is not locked meanwhile.
        published_at: Unix seconds; None: when it moves.
        previous: the bundle before it; None: the one that is current when it moves.

    Raises:
        BundleError: there is no such bundle.
        BusyError: another move of the pointer does not come to an end.
    """
    while True:
        with moving_pointer(store.root):
            seconds = store.seconds_to_settle(bundle_id, now=time.time(), settle_seconds=settle_seconds)
            if not seconds:
                at = time.time() if published_at is None else published_at
                store.point_to(bundle_id, published_at=at, previous=previous)
                return
        wait(seconds)
