"""The strongest links of each movie, as the groups of links hold them."""

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from serving.ids import Rows
from serving.retrieval import best

_LINKS_PER_MOVIE: Final = 200
_CELLS_PER_BLOCK: Final = 4_000_000
"""Pairs of movies that are counted at once: those of a large catalogue do not fit into memory."""

Links: TypeAlias = tuple[Rows, npt.NDArray[np.float64]]
"""Of one movie: the movies that its links lead to, none twice, and their weights, above 0."""


def blocks(n_movies: int) -> Iterator[range]:
    """Rows of the catalogue that are counted at once."""
    rows = max(1, _CELLS_PER_BLOCK // max(n_movies, 1))
    for start in range(0, n_movies, rows):
        yield range(start, min(start + rows, n_movies))


def strongest(links: Iterator[Links]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of `LinkFeatures`: the strongest links of each movie, ties to the lower movie row."""
    indptr, kept_targets, kept_weights = [0], [np.empty(0, np.int32)], [np.empty(0, np.float32)]
    for targets, weights in links:
        order = best(weights, targets, _LINKS_PER_MOVIE)
        kept_targets.append(targets[order])
        kept_weights.append(weights[order].astype(np.float32))
        indptr.append(indptr[-1] + order.size)
    return {
        "indptr": np.array(indptr, dtype=np.int64),
        "movie_rows": np.concatenate(kept_targets),
        "weights": np.concatenate(kept_weights),
    }
