"""Ranking metrics of lists against what is relevant, and coverage and novelty of many.

Metrics of lists take their hits, shape (..., depth), and how many movies are relevant to each, shape (...).
They look at the first k places, and `depth` is at least k.
"""

from collections.abc import Sequence
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Places: TypeAlias = npt.NDArray[np.integer]
"""Movie rows, or places in a list of candidates: whatever names what is ranked."""
Hits: TypeAlias = npt.NDArray[np.float64]
Values: TypeAlias = npt.NDArray[np.float64]
"""One per list; of a single one a number."""
Counts: TypeAlias = int | npt.NDArray[np.integer]


def hits(recommended: Places, relevant: Places, k: int) -> Hits:
    """Shape (k,): 1 where the list holds a relevant movie at that place; 0 past its end."""
    found = np.zeros(k)
    # Both are short: np.isin, which sorts, takes many times as long.
    found[: min(k, recommended.size)] = (recommended[:k, np.newaxis] == relevant).any(axis=1)
    return found


@cache
def _gains(k: int) -> tuple[Values, Values]:
    """What a hit at each of k places gains, and what ideal lists do.

    The latter is the gain of a list whose first n places are all hits, for n from 0 to k.
    """
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    return discounts, np.array([discounts[:n].sum() for n in range(k + 1)])


def ndcg(found: Hits, n_relevant: Counts, k: int) -> Values:
    """Normalised discounted cumulative gain, 0 to 1; the ideal list is cut at k too."""
    discounts, ideal = _gains(k)
    # Not a matrix product, in which equal rows may differ in the last bits.
    gained: Values = (found[..., :k] * discounts).sum(axis=-1) / ideal[np.minimum(n_relevant, k)]
    return gained


def recall(found: Hits, n_relevant: Counts, k: int) -> Values:
    """Share of the relevant movies that the first k hold."""
    shares: Values = found[..., :k].sum(axis=-1) / n_relevant
    return shares


def precision(found: Hits, _n_relevant: Counts, k: int) -> Values:
    """Share of the first k places that hold a relevant movie; a short list is not excused."""
    shares: Values = found[..., :k].sum(axis=-1) / k
    return shares


def average_precision(found: Hits, n_relevant: Counts, k: int) -> Values:
    """Mean precision at the places of relevant movies, over min(k, relevant movies)."""
    precisions = np.cumsum(found[..., :k], axis=-1) / np.arange(1, k + 1)
    means: Values = (found[..., :k] * precisions).sum(axis=-1) / np.minimum(k, n_relevant)
    return means


def ceiling_ndcg(found: Hits, n_relevant: Counts, k: int) -> Values:
    """The nDCG that ordering all places perfectly would reach: no ranker can do better with them."""
    _, ideal = _gains(k)
    n_hits = found.sum(axis=-1).astype(np.int64)
    reached: Values = ideal[np.minimum(n_hits, k)] / ideal[np.minimum(n_relevant, k)]
    return reached


def capped_recall(found: Hits, n_relevant: Counts, k: int) -> Values:
    """Relevant movies among the first k, over min(k, relevant movies): 1 can be reached by everybody."""
    shares: Values = found[..., :k].sum(axis=-1) / np.minimum(k, n_relevant)
    return shares


def self_information(users_per_movie: npt.NDArray[np.int64], n_users: int) -> npt.NDArray[np.float64]:
    """How surprising each movie is, in bits: -log2 of the share of users who rated it, shape (n_movies,).

    One that nobody rated counts as rated by one user: no list is infinitely novel. `n_users` are those with a
    rating in what was learned from.
    """
    return np.abs(np.log2(np.maximum(users_per_movie, 1) / n_users))  # abs: no -0 for a movie that all rated


def novelty(recommended: Places, information: npt.NDArray[np.float64], k: int) -> float:
    """Mean self-information of the first k movies, in bits; 0 for an empty list.

    0 is what everybody knows, and each bit halves the number of users who rated the movies shown. High is
    not good in itself: movies at random are very novel.
    """
    return float(information[recommended[:k]].mean()) if recommended.size else 0.0


def coverage(lists: Sequence[Places], n_movies: int, k: int) -> float:
    """Share of `n_movies` that at least one of the lists holds among its first k."""
    shown = np.concatenate([movies[:k] for movies in lists]) if lists else np.empty(0)
    return np.unique(shown).size / n_movies
