"""Golden values: what a bundle answered in training must come out again wherever it is loaded."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.bundle.manifest import GOLDEN_TOLERANCE
from serving.bundle.store import BundleError

WARM_UP_REQUESTS: Final = 100
"""Answers to compute before a bundle is served: the first ones are slow."""


def check_scores(bundle_id: str, scores: npt.ArrayLike, expected: Sequence[float]) -> None:
    """Compares scores with those of the manifest.

    Raises:
        BundleError: another number of scores, or one is off by more than `GOLDEN_TOLERANCE`.
    """
    got, wanted = np.asarray(scores, dtype=np.float64), np.array(expected, dtype=np.float64)
    if got.shape != wanted.shape:
        raise BundleError(f"bundle {bundle_id}: {got.size} golden scores instead of {wanted.size}")
    allowed = GOLDEN_TOLERANCE * np.maximum(1.0, np.abs(wanted))
    if not np.all(np.abs(got - wanted) <= allowed):
        raise BundleError(f"bundle {bundle_id}: golden scores do not come out again")


def check_movie_ids(bundle_id: str, movie_ids: npt.ArrayLike, expected: Sequence[int]) -> None:
    """Compares movies and their order with those of the manifest.

    Raises:
        BundleError: they differ.
    """
    if not np.array_equal(np.asarray(movie_ids), np.array(expected, dtype=np.int64)):
        raise BundleError(f"bundle {bundle_id}: golden movies do not come out again")
