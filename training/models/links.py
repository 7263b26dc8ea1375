"""Links between movies that the ranker's sequence features add up: transitions and co-occurrence."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from serving.features import MovieLinks
from serving.ids import Rows
from serving.ratings import Ratings
from serving.retrieval import best

_WINDOW = 20
_TRANSITION_SHRINKAGE = 10.0
_COSINE_SHRINKAGE = 20.0
_LINKS_PER_MOVIE = 200
_CELLS_PER_BLOCK = 4_000_000
"""Pairs of movies that are counted at once: those of a large catalogue do not fit into memory."""

_Links = tuple[Rows, npt.NDArray[np.float64]]
"""Of one movie: the movies that its links lead to, ascending, and their weights, above 0."""


def transitions(ratings: Ratings, n_movies: int) -> MovieLinks:
    """How often movie j is rated within 20 places after movie i.

    A pair weighs 1 / sqrt(distance); the sum is divided by `sqrt((n_i + 10)(n_j + 10))`, so that popular
    movies do not follow everything.
    """
    users, movie_rows = ratings.user_rows(), ratings.movie_rows
    counts = np.bincount(movie_rows, minlength=n_movies)
    scale = 1.0 / np.sqrt(counts + _TRANSITION_SHRINKAGE)
    by_movie = np.argsort(movie_rows, kind="stable")
    ends = np.concatenate([[0], np.cumsum(counts)])

    def links() -> Iterator[_Links]:
        for block in _blocks(n_movies):
            shape = (len(block), n_movies)
            sums, of_gap = np.zeros(shape, np.float32), np.empty(shape, np.float32)
            places = by_movie[ends[block.start] : ends[block.stop]]
            for gap in range(1, _WINDOW + 1):
                places = places[places < len(ratings) - gap]
                places = places[users[places] == users[places + gap]]  # who is not, is not for wider ones
                of_gap[:] = 0.0
                cells = (movie_rows[places] - block.start) * np.int64(n_movies) + movie_rows[places + gap]
                np.add.at(of_gap.reshape(-1), cells, np.float32(gap**-0.5))
                sums += of_gap
            for row, weights in zip(block, sums, strict=True):
                targets = np.flatnonzero(weights).astype(np.int32)
                yield targets, weights[targets] * scale[row] * scale[targets]

    return _strongest(links())


def cooccurrence(ratings: Ratings, n_movies: int) -> MovieLinks:
    """How often two movies are rated by the same users, as a shrunk cosine: `c_ij / (sqrt(n_i n_j) + 20)`."""
    rated = csr_array(
        (np.ones(len(ratings), dtype=np.float32), ratings.movie_rows, ratings.indptr),
        shape=(len(ratings.users), n_movies),
    )
    by_movie = rated.T.tocsr()
    roots = np.sqrt(np.bincount(ratings.movie_rows, minlength=n_movies))

    def links() -> Iterator[_Links]:
        for block in _blocks(n_movies):
            counts = by_movie[block.start : block.stop] @ rated
            counts.sort_indices()
            for place, row in enumerate(block):
                one = slice(counts.indptr[place], counts.indptr[place + 1])
                others = counts.indices[one] != row
                targets = counts.indices[one][others].astype(np.int32)
                yield targets, counts.data[one][others] / (roots[row] * roots[targets] + _COSINE_SHRINKAGE)

    return _strongest(links())


def _blocks(n_movies: int) -> Iterator[range]:
    """Rows of the catalogue that are counted at once."""
    rows = max(1, _CELLS_PER_BLOCK // max(n_movies, 1))
    for start in range(0, n_movies, rows):
        yield range(start, min(start + rows, n_movies))


def _strongest(links: Iterator[_Links]) -> MovieLinks:
    """Keeps the strongest links of each movie, ties to the lower movie row."""
    indptr, kept_targets, kept_weights = [0], [np.empty(0, np.int32)], [np.empty(0, np.float32)]
    for targets, weights in links:
        order = best(weights, targets, _LINKS_PER_MOVIE)
        kept_targets.append(targets[order])
        kept_weights.append(weights[order].astype(np.float32))
        indptr.append(indptr[-1] + order.size)
    return MovieLinks(
        indptr=np.array(indptr, dtype=np.int64),
        movie_rows=np.concatenate(kept_targets),
        weights=np.concatenate(kept_weights),
    )
