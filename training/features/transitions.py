"""What is rated after what."""

from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from serving.ratings import Ratings
from training.data.movielens.movies import MovieTable

_WINDOW: Final = 20
_SHRINKAGE: Final = 10.0
_LINKS_PER_MOVIE: Final = 200
_RATINGS_PER_BLOCK: Final = 250_000
"""Whose pairs are counted at once: those of all ratings do not fit into memory."""


def build(ratings: Ratings, table: MovieTable) -> dict[str, npt.NDArray[Any]]:
    """How often movie j is rated within 20 places after movie i: the strongest links of each movie.

    A pair weighs 1 / sqrt(distance); the sum is divided by `sqrt((n_i + 10)(n_j + 10))`, so that popular
    movies do not follow everything. Links of equal weight are kept in ascending movie row.
    """
    n_movies = len(table.movies.ids)
    users, movie_rows = ratings.user_rows(), ratings.movie_rows
    counts = np.bincount(movie_rows, minlength=n_movies)
    scale = 1.0 / np.sqrt(counts + _SHRINKAGE)
    by_movie = np.argsort(movie_rows, kind="stable")
    ends = np.concatenate([[0], np.cumsum(counts)])
    kept_counts, kept_targets, kept_weights = [], [], []
    for start, stop in pairwise(_block_borders(ends)):
        places = by_movie[ends[start] : ends[stop]]
        rows, targets, weights = [], [], []
        for gap in range(1, _WINDOW + 1):
            places = places[places < len(ratings) - gap]
            places = places[users[places] == users[places + gap]]  # who is not, is not for wider ones
            rows.append(movie_rows[places] - start)
            targets.append(movie_rows[places + gap])
            weights.append(np.full(places.size, gap**-0.5))
        sums = csr_array(
            (np.concatenate(weights), (np.concatenate(rows), np.concatenate(targets))),
            shape=(stop - start, n_movies),
        )
        row_of = np.repeat(np.arange(stop - start), np.diff(sums.indptr))
        of_pair = sums.data * scale[start + row_of] * scale[sums.indices]
        strongest_first = np.lexsort((-of_pair, row_of))  # stable: ties stay in ascending movie row
        is_kept = np.arange(row_of.size) - sums.indptr[row_of] < _LINKS_PER_MOVIE
        kept = strongest_first[is_kept]
        kept_counts.append(np.bincount(row_of[is_kept], minlength=stop - start))
        kept_targets.append(sums.indices[kept].astype(np.int32))
        kept_weights.append(of_pair[kept].astype(np.float32))
    return {
        "indptr": np.concatenate([[0], np.cumsum(np.concatenate(kept_counts))]),
        "movie_rows": np.concatenate(kept_targets),
        "weights": np.concatenate(kept_weights),
    }


def _block_borders(ends: npt.NDArray[np.int64]) -> list[int]:
    """Movie rows between which about so many ratings lie as are counted at once, from 0 to all."""
    inner = np.searchsorted(ends, np.arange(_RATINGS_PER_BLOCK, ends[-1], _RATINGS_PER_BLOCK))
    return [int(row) for row in np.unique([0, *inner, ends.size - 1])]
