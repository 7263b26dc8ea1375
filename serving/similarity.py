"""How alike movies are: by ALS factors where there are some, by shared genres otherwise."""

from typing import Final

import numpy as np
import numpy.typing as npt

from serving.ids import Rows
from serving.movies import Movies
from serving.retrieval import best

_NO_GENRE_BIT: Final = np.uint64(1)


def unit_factors(item_factors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Item factors of length one, shape (n_movies, n_factors); zero where a row is zero or not finite."""
    lengths = np.linalg.norm(item_factors, axis=1, keepdims=True)
    unit = np.zeros_like(item_factors)
    np.divide(item_factors, lengths, out=unit, where=(lengths > 0) & np.isfinite(lengths))
    return unit


def genre_jaccard(movies: Movies, row: int) -> npt.NDArray[np.float32]:
    """Shape (n_movies,): shared genres over all genres of both, 0 to 1; 0 where nothing is shared."""
    bits = movies.genre_bits & ~_NO_GENRE_BIT  # "no genre" is not something to share
    shared = np.bitwise_count(bits & bits[row])
    either = np.bitwise_count(bits | bits[row])
    jaccard: npt.NDArray[np.float32] = (shared / np.maximum(either, 1)).astype(np.float32)
    return jaccard


def nearest(similarities: npt.NDArray[np.float32], blocked: npt.NDArray[np.bool_], limit: int) -> Rows:
    """Rows of the highest similarities, best first, ties in ascending row; at most `limit`.

    Args:
        similarities: shape (n_movies,).
        blocked: shape (n_movies,): what must not be returned.
        limit: movies to return; fewer come back when fewer are left.
    """
    allowed = np.flatnonzero(~blocked).astype(np.int32)
    return allowed[best(similarities[allowed], allowed, limit)]
