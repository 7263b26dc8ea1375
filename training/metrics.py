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
    found[: min(k, recommended.size)] = np.isin(recommended[:k], relevant)
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


def coverage(lists: Sequence[Places], n_movies: int, k: int) -> float:
    """Share of `n_movies` that at least one of the lists holds among its first k."""
    shown = np.concatenate([movies[:k] for movies in lists]) if lists else np.empty(0)
    return np.unique(shown).size / n_movies
