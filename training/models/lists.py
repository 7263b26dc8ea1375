"""From a model's scores to a user's list: the best that is unseen, or else what is popular."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from serving.ids import Rows
from serving.retrieval import best


def best_unseen(scores: npt.NDArray[np.floating], seen: Rows, limit: int) -> Rows:
    """The movies with the highest of `scores`, shape (n_movies,), but for those seen, and those at -inf."""
    allowed = scores > -np.inf
    allowed[seen] = False
    rows = np.flatnonzero(allowed).astype(np.int32)
    return rows[best(scores[rows], rows, limit)]


def else_popular(lists: Sequence[Rows], popular: Sequence[Rows]) -> list[Rows]:
    """The lists, each that is empty replaced by the same user's in `popular`, as the gateway does it."""
    return [ours if ours.size else other for ours, other in zip(lists, popular, strict=True)]
