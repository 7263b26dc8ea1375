"""Exact maximum inner product search: the movies with the highest ALS scores, whatever else is in the call.

A matrix product for one user and one for many differ in the last bits. So the product only chooses a few
more movies than asked for; these are scored again one user at a time, and the answer does not depend on
the batch.

Of a large catalogue most rows need not be read. A score is at most the product of both norms
(Cauchy-Schwarz), so that rows sorted by norm can be scanned until no later one can be among the best: the
bound of LEMP (Teflioudi, Gemulla, Mykytiuk 2015), without its buckets. What that saves depends on how unequal
norms are, and where it saves little the matrix product is faster (Abuzaid et al. 2019).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.ids import Rows

# Movies scored again beyond those asked for, and all whose product lies as close to the last of these as
# rounding, some 1e-6 of the best, may have moved it: movies alike tie, and any number of them may.
_MARGIN: Final = 20
_CLOSE: Final = 1e-5
_LEAST: Final = np.finfo(np.float32).min

LARGE_CATALOGUE: Final = 100_000
"""Movies from which on training measures the share of rows that a scan by norm reads."""
SMALL_SHARE: Final = 0.2
"""Up to here the scan is faster: a product for 32 users at once takes as long per user as reading this."""

_BLOCK_ROWS: Final = 2_048
_STRICT: Final = 1 / 16
"""Share of the rows: where fewer are allowed, they are gathered before the scan."""


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
    item_factors: npt.NDArray[np.float32],
    user_vector: npt.NDArray[np.float32],
    movie_rows: Rows | npt.NDArray[np.intp],
) -> npt.NDArray[np.float32]:
    """Scores of `movie_rows`, shape as given: the same bits for a movie whatever stands beside it."""
    factors = item_factors.take(movie_rows, axis=0).astype(np.float64)
    scores: npt.NDArray[np.float32] = np.vecdot(factors, user_vector.astype(np.float64)).astype(np.float32)
    return scores


def best_first(scores: npt.NDArray[np.floating], movie_rows: Rows) -> npt.NDArray[np.intp]:
    """The order that puts higher scores first, and lower movie rows first among equals."""
    order = np.argsort(-scores)  # sorting by both at once takes twice as long, and few movies tie
    ordered = scores[order]
    ties = ~(ordered[1:] < ordered[:-1])
    if ties.any():
        tied = np.zeros(order.size, np.bool_)
        tied[1:] = ties
        tied[:-1] |= ties
        places = order[tied]
        order[tied] = places[np.lexsort((movie_rows[places], -scores[places]))]
    return order


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
        rows = np.flatnonzero(user_scores >= max(last, _LEAST)).astype(np.int32)
        exact = inner_products(item_factors, vector, rows)
        order = best_first(exact, rows)[:limit]
        answers.append(Candidates(movie_rows=rows[order], scores=exact[order]))
    return answers


@dataclass(frozen=True)
class RowsByNorm:
    """Item factors sorted by norm, the longest first. A copy: to gather rows takes three times as long."""

    factors: npt.NDArray[np.float32]
    """Shape (n_movies, n_factors)."""
    movie_rows: Rows
    """Shape (n_movies,): the movie of each."""
    norms: npt.NDArray[np.float64]
    """Shape (n_movies,), never rising."""

    @classmethod
    def of(cls, item_factors: npt.NDArray[np.float32]) -> "RowsByNorm":
        """Sorts finite factors."""
        norms = np.sqrt(np.einsum("ij,ij->i", item_factors, item_factors, dtype=np.float64))
        order = np.argsort(-norms).astype(np.int32)
        return cls(item_factors[order], order, norms[order])

    def share_read(self, user_vectors: npt.NDArray[np.float32], worst: npt.NDArray[np.float32]) -> float:
        """The mean share of the rows that `retrieve_by_norm` reads.

        Args:
            user_vectors: shape (n_users, n_factors), none of them zero.
            worst: shape (n_users,): the lowest score of each user's answer; -inf where it has fewer movies
                than asked for, as these are only known to be all when every row has been read.
        """
        least_norms = worst / np.linalg.norm(user_vectors, axis=1)
        return float(1 - np.searchsorted(self.norms[::-1], least_norms).mean() / self.norms.size)


def retrieve_by_norm(
    items: RowsByNorm,
    user_vectors: npt.NDArray[np.float32],
    blocked: Iterable[npt.NDArray[np.bool_]],
    limits: Sequence[int],
    *,
    block_rows: int = _BLOCK_ROWS,
) -> list[Candidates]:
    """What `retrieve` returns for the same factors, to the last bit; arguments as there.

    After every `block_rows` rows it looks whether more are needed.
    """
    return [
        _scan(items, vector, out, limit, block_rows)
        for vector, out, limit in zip(user_vectors, blocked, limits, strict=True)
    ]


def _scan(
    items: RowsByNorm,
    vector: npt.NDArray[np.float32],
    blocked: npt.NDArray[np.bool_],
    limit: int,
    block_rows: int,
) -> Candidates:
    n_rows, n_factors = items.factors.shape
    allowed: npt.NDArray[np.intp] | None = None
    if n_rows - np.count_nonzero(blocked) < _STRICT * n_rows:
        allowed = np.flatnonzero(~blocked[items.movie_rows])
        n_rows = allowed.size
    length = np.linalg.norm(vector.astype(np.float64))

    # A product in float32, of n terms summed in any order, is off by no more than n u |x||y|, where u is
    # 2^-24 and |x||y| bounds the sum of the terms' sizes (Higham 2002, 3.1); that of `inner_products`, by
    # u |x||y|; where terms underflow, each step by `tiny` more. So both of one movie differ by less than
    # half of `slack`: the other half is for the rounding of norms and of `least`.
    #
    # Let L be the `limit`-th best product so far. `limit` movies score at least L - slack. Whatever has a
    # product below L - 2 slack scores less than that, and so does whatever has |x||y| below it, read or not.
    float32 = np.finfo(np.float32)
    longest = items.norms[:1].sum() * length  # 0 of an empty catalogue
    slack = (n_factors + 4) * (float32.eps * longest + 4 * float32.tiny)
    least = np.float64(float32.min)

    places = np.empty(0, np.intp)
    products = np.empty(0, np.float32)
    for start in range(0, n_rows, block_rows):
        within = slice(start, start + block_rows)
        block = within if allowed is None else allowed[within]
        if items.norms[block][0] * length < least:
            break
        block_products = items.factors[block] @ vector
        near = np.flatnonzero(block_products >= least)  # few, but for the first block
        near_places = near + start if allowed is None else allowed[near + start]
        near_products = block_products[near]
        usable = ~blocked[items.movie_rows[near_places]] & (near_products < np.inf)
        places = np.concatenate([places, near_places[usable]])
        products = np.concatenate([products, near_products[usable]])
        if products.size >= limit:
            least = np.partition(products, -limit)[-limit] - 2 * slack
            kept = products >= least
            places, products = places[kept], products[kept]
    exact = inner_products(items.factors, vector, places)
    rows = items.movie_rows[places]
    order = best_first(exact, rows)[:limit]
    return Candidates(movie_rows=rows[order], scores=exact[order])


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
