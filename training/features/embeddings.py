"""Vectors of movies that are rated near the same others."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds

from serving.ratings import Ratings
from serving.similarity import unit_factors
from training.data.movielens.movies import MovieTable

_MOST_MOVIES: Final = 5_000
"""The most rated ones: a matrix of as many rows and columns is counted."""
_WINDOW: Final = 10
_DIMENSIONS: Final = 64
_CONTEXT_POWER: Final = 0.75
_SHRINKAGE: Final = 5.0


def build(ratings: Ratings, table: MovieTable) -> dict[str, npt.NDArray[Any]]:
    """Singular vectors of positive pointwise mutual information within 10 places (Levy, Goldberg 2014).

    Pairs that were seen c times are shrunk by c / (c + 5), and frequent contexts are smoothed.
    """
    n_movies = len(table.movies.ids)
    vectors = np.zeros((n_movies, _DIMENSIONS), np.float32)
    counts = np.bincount(ratings.movie_rows, minlength=n_movies)
    rated = np.sort(np.lexsort((np.arange(n_movies), -counts))[: min(_MOST_MOVIES, np.count_nonzero(counts))])
    information = pointwise_information(pair_counts(ratings, rated, n_movies))
    rank = min(_DIMENSIONS, rated.size - 1)
    if rank > 0 and information.nnz:
        left, values, _ = svds(information, k=rank, rng=np.random.default_rng(0))
        vectors[rated, :rank] = unit_factors((left * np.sqrt(values)).astype(np.float32))
    return {"vectors": vectors}


def pair_counts(ratings: Ratings, rated: npt.NDArray[np.int64], n_movies: int) -> npt.NDArray[np.float32]:
    """How often two of the `rated` movies are within the window, shape (n_rated, n_rated)."""
    place_of = np.full(n_movies, -1)
    place_of[rated] = np.arange(rated.size)
    users, places = ratings.user_rows(), place_of[ratings.movie_rows]
    counts = np.zeros((rated.size, rated.size), np.float32)
    for gap in range(1, _WINDOW + 1):
        earlier, later = places[:-gap], places[gap:]
        counted = (users[:-gap] == users[gap:]) & (earlier >= 0) & (later >= 0)
        np.add.at(counts, (earlier[counted], later[counted]), np.float32(1))
    counts += counts.T.copy()
    return counts


def pointwise_information(counts: npt.NDArray[np.float32]) -> csr_array:
    """Shrunk positive pointwise mutual information of each pair."""
    pairs = csr_array(counts)
    sums = counts.sum(axis=1, dtype=np.float64)
    contexts = sums**_CONTEXT_POWER
    contexts /= max(contexts.sum(), 1.0)
    expected = np.repeat(sums, np.diff(pairs.indptr)) * contexts[pairs.indices]
    information = np.maximum(np.log(pairs.data / expected), 0)
    pairs.data = information * pairs.data / (pairs.data + _SHRINKAGE)
    pairs.eliminate_zeros()
    return pairs
