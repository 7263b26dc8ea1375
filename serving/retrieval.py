"""Exact maximum inner product search: the movies with the highest ALS scores, whatever travels along.

A matrix product for one user and one for many differ in the last bits. So the product only chooses a few
more movies than asked for; these are scored again one user at a time, and the answer does not depend on
the batch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving.ids import Rows

# Movies scored again beyond those asked for, and all whose product lies as close to the last of these as
# rounding, some 1e-6 of the best, may have moved it: movies alike tie, and any number of them may.
_MARGIN = 20
_CLOSE = 1e-5


@dataclass(frozen=True)
class Candidates:
    """Movies of one user, best first; ties in ascending movie row. Arrays of one length."""

    movie_rows: Rows
    scores: npt.NDArray[np.float32]
    """Inner products, finite."""


def finite_factors(factors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The factors, with a zero row in place of each that is not finite: nobody is served from such a row."""
    finite: npt.NDArray[np.bool_] = np.all(np.isfinite(factors), axis=1)
    return factors if finite.all() else np.where(finite[:, None], factors, np.float32(0))


def inner_products(
    item_factors: npt.NDArray[np.float32], user_vector: npt.NDArray[np.float32], movie_rows: Rows
) -> npt.NDArray[np.float32]:
    """Scores of `movie_rows`, shape as given: the same bits for a movie whatever stands beside it."""
    products = item_factors[movie_rows] * user_vector
    scores: npt.NDArray[np.float32] = products.sum(axis=1, dtype=np.float64).astype(np.float32)
    return scores


def best_first(scores: npt.NDArray[np.floating], movie_rows: Rows) -> npt.NDArray[np.intp]:
    """The order that puts higher scores first, and lower movie rows first among equals."""
    return np.lexsort((movie_rows, -scores))


def best(scores: npt.NDArray[np.floating], movie_rows: Rows, limit: int) -> npt.NDArray[np.intp]:
    """The first `limit` places, at least 1, of `best_first`, without sorting the rest."""
    if scores.size <= limit:
        return best_first(scores, movie_rows)
    # All that tie with the last place compete for it: partitioning alone would pick at random.
    last = np.partition(scores, scores.size - limit)[scores.size - limit]
    near = np.flatnonzero(scores >= last)
    return near[best_first(scores[near], movie_rows[near])[:limit]]


def retrieve(
    item_factors: npt.NDArray[np.float32],
    user_vectors: npt.NDArray[np.float32],
    blocked: Iterable[npt.NDArray[np.bool_]],
    limits: Sequence[int],
) -> list[Candidates]:
    """The best movies of each user.

    Args:
        item_factors: shape (n_movies, n_factors).
        user_vectors: shape (n_users, n_factors).
        blocked: per user, a mask of shape (n_movies,): what must not be returned.
        limits: per user, movies to return; fewer come back when fewer are left.

    Returns:
        One list per user, in order.
    """
    n_movies = item_factors.shape[0]
    scores = user_vectors @ item_factors.T
    answers = []
    for user_scores, vector, out, limit in zip(scores, user_vectors, blocked, limits, strict=True):
        user_scores[out | ~np.isfinite(user_scores)] = -np.inf
        place = max(n_movies - limit - _MARGIN, 0)
        last = np.partition(user_scores, place)[place] - _CLOSE * np.abs(user_scores.max())
        rows = np.flatnonzero((user_scores >= last) & (user_scores > -np.inf)).astype(np.int32)
        exact = inner_products(item_factors, vector, rows)
        order = best_first(exact, rows)[:limit]
        answers.append(Candidates(movie_rows=rows[order], scores=exact[order]))
    return answers


def score_and_rank(
    item_factors: npt.NDArray[np.float32],
    user_vector: npt.NDArray[np.float32],
    blocked: npt.NDArray[np.bool_],
    movie_row: int,
) -> tuple[float, int]:
    """A movie's score, and the place, from 1, that it has or would have among all that may be returned.

    Args:
        item_factors: shape (n_movies, n_factors).
        user_vector: shape (n_factors,).
        blocked: shape (n_movies,): what must not be returned, and so is ahead of nothing.
        movie_row: the movie, blocked or not.
    """
    rows = np.flatnonzero(~blocked).astype(np.int32)
    rough = (item_factors @ user_vector)[rows]
    score = inner_products(item_factors, user_vector, np.array([movie_row], np.int32))[0]
    close = _CLOSE * np.abs(rough).max(initial=np.abs(score))
    near = rows[np.abs(rough - score) <= close]  # as in `retrieve`: scored again, one by one
    exact = inner_products(item_factors, user_vector, near)
    ahead = (exact > score) | ((exact == score) & (near < movie_row))
    rank = 1 + np.count_nonzero(rough > score + close) + np.count_nonzero(ahead)
    return float(score), int(rank)
