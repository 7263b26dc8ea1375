"""The similarity index: the nearest movies of every movie, computed ahead."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.bundle.neighbours import NeighboursContent
from serving.movies import Movies
from serving.similarity import genre_jaccard, nearest, unit_factors

NEIGHBOURS: Final = 100
"""Per movie: as many as the API returns at the most."""
_MOVIES_PER_PRODUCT: Final = 512


def build_index(
    item_factors: npt.NDArray[np.float32],
    movies: Movies,
    popularity: npt.NDArray[np.float64],
    progress: Callable[[], None] = lambda: None,
    *,
    threads: int = 1,
) -> NeighboursContent:
    """Cosine neighbours among movies with ALS factors; shared genres for the others, whose factors are 0.

    Factors have the shape (n_movies, n_factors), popularity (n_movies,): among equally many shared genres,
    the more popular movie comes first. `progress` is called after each movie. The result does not depend on
    the number of threads.
    """
    n_movies = len(movies.ids)
    width = min(NEIGHBOURS, n_movies - 1)
    rows = np.full((n_movies, width), -1, dtype=np.int32)
    scores = np.zeros((n_movies, width), dtype=np.float32)
    unit = unit_factors(item_factors)
    cold = ~np.any(unit, axis=1)

    def fill(start: int) -> None:
        cosines = unit[start : start + _MOVIES_PER_PRODUCT] @ unit.T
        for row, cosine in enumerate(cosines, start):
            progress()
            if cold[row]:
                similarity = genre_jaccard(movies, row)
                blocked = similarity == 0
                blocked[row] = True
                allowed = np.flatnonzero(~blocked)
                order = np.lexsort((allowed, -popularity[allowed], -similarity[allowed]))[:width]
                found = allowed[order].astype(np.int32)
            else:
                # The index's own products differ from a later one of a single row in the last bits.
                similarity = np.clip(cosine, -1.0, 1.0)
                blocked = cold.copy()
                blocked[row] = True
                found = nearest(similarity, blocked, width)
            rows[row, : found.size] = found
            scores[row, : found.size] = similarity[found]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, range(0, n_movies, _MOVIES_PER_PRODUCT)))
    return NeighboursContent(movie_rows=rows, scores=scores)
