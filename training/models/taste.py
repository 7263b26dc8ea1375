"""Which movies to ask a newcomer about: few answers should tell much."""

from typing import Final

import numpy as np
import numpy.typing as npt

from serving.ids import Rows

TASTE_MOVIES: Final = 30
_WELL_KNOWN: Final = 100


def taste_movies(
    item_factors: npt.NDArray[np.float32],
    popularity: npt.NDArray[np.float64],
    rating_counts: npt.NDArray[np.integer],
) -> Rows:
    """Movies that are well known and far apart in taste, the one to ask about first in front.

    Of the 100 most popular movies that have factors, the most popular one comes first. The next one is always
    that with the most of `(1 - c) · √n`: c is its highest cosine to those already chosen, n its ratings. An
    answer to it tells what the others do not, and many people have one. There are at most 30.

    Factors have the shape (n_movies, n_factors), zeros for cold movies, the others (n_movies,).
    """
    lengths = np.linalg.norm(item_factors, axis=1)
    order = np.argsort(-popularity, kind="stable")
    pool: Rows = order[lengths[order] > 0][:_WELL_KNOWN].astype(np.int32)
    if not pool.size:
        return pool
    directions = item_factors[pool] / lengths[pool, None]
    known = np.sqrt(rating_counts[pool])
    chosen = [0]
    nearest = directions @ directions[0]
    while len(chosen) < min(TASTE_MOVIES, pool.size):
        worth = (1 - nearest) * known
        worth[chosen] = -np.inf
        chosen.append(int(worth.argmax()))
        nearest = np.maximum(nearest, directions @ directions[chosen[-1]])
    rows: Rows = pool[chosen]
    return rows
