"""Ranking metrics of one list against one set of relevant movies, and coverage and novelty of many."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Places: TypeAlias = npt.NDArray[np.integer]
"""Movie rows, or places in a list of candidates: whatever names what is ranked."""


def hits(recommended: Places, relevant: Places, k: int) -> npt.NDArray[np.float64]:
    """Shape (k,): 1 where the list holds a relevant movie at that place; 0 past its end."""
    found = np.zeros(k)
    # Both are short: np.isin, which sorts, takes many times as long.
    found[: min(k, recommended.size)] = (recommended[:k, np.newaxis] == relevant).any(axis=1)
    return found


def ndcg(recommended: Places, relevant: Places, k: int) -> float:
    """Normalised discounted cumulative gain, 0 to 1; the ideal list is cut at k too."""
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    return float(hits(recommended, relevant, k) @ discounts / discounts[: relevant.size].sum())


def recall(recommended: Places, relevant: Places, k: int) -> float:
    """Share of the relevant movies that the first k hold."""
    return float(hits(recommended, relevant, k).sum() / relevant.size)


def precision(recommended: Places, relevant: Places, k: int) -> float:
    """Share of the first k places that hold a relevant movie; a short list is not excused."""
    return float(hits(recommended, relevant, k).sum() / k)


def average_precision(recommended: Places, relevant: Places, k: int) -> float:
    """Mean precision at the places of relevant movies, over min(k, relevant movies)."""
    found = hits(recommended, relevant, k)
    precisions = np.cumsum(found) / np.arange(1, k + 1)
    return float(found @ precisions / min(k, relevant.size))


def ceiling_ndcg(candidates: Places, relevant: Places, k: int) -> float:
    """The nDCG that ordering the candidates perfectly would reach: no ranker can do better with them."""
    found = hits(candidates, relevant, candidates.size)
    return ndcg(candidates[np.argsort(-found, kind="stable")], relevant, k)


def capped_recall(recommended: Places, relevant: Places, k: int) -> float:
    """Relevant movies among the first k, over min(k, relevant movies): 1 can be reached by everybody."""
    return float(hits(recommended, relevant, k).sum() / min(k, relevant.size))


def self_information(users_per_movie: npt.NDArray[np.int64], n_users: int) -> npt.NDArray[np.float64]:
    """How surprising each movie is, in bits: -log2 of the share of users who rated it.

    One that nobody rated counts as rated by one user: no list is infinitely novel.

    Args:
        users_per_movie: shape (n_movies,), in what was learned from.
        n_users: users with a rating in it.

    Returns:
        Shape (n_movies,).
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
