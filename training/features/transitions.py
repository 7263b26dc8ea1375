"""What is rated after what."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from serving.ratings import Ratings
from training.data.movielens.movies import MovieTable
from training.features.links import Links, blocks, strongest

_WINDOW: Final = 20
_SHRINKAGE: Final = 10.0


def build(ratings: Ratings, table: MovieTable) -> dict[str, npt.NDArray[Any]]:
    """How often movie j is rated within 20 places after movie i.

    A pair weighs 1 / sqrt(distance); the sum is divided by `sqrt((n_i + 10)(n_j + 10))`, so that popular
    movies do not follow everything.
    """
    n_movies = len(table.movies.ids)
    users, movie_rows = ratings.user_rows(), ratings.movie_rows
    counts = np.bincount(movie_rows, minlength=n_movies)
    scale = 1.0 / np.sqrt(counts + _SHRINKAGE)
    by_movie = np.argsort(movie_rows, kind="stable")
    ends = np.concatenate([[0], np.cumsum(counts)])

    def links() -> Iterator[Links]:
        for block in blocks(n_movies):
            sums = np.zeros((len(block), n_movies), np.float32)
            places = by_movie[ends[block.start] : ends[block.stop]]
            for gap in range(1, _WINDOW + 1):
                places = places[places < len(ratings) - gap]
                places = places[users[places] == users[places + gap]]  # who is not, is not for wider ones
                cells = (movie_rows[places] - block.start) * np.int64(n_movies) + movie_rows[places + gap]
                np.add.at(sums.reshape(-1), cells, np.float32(gap**-0.5))
            for row, weights in zip(block, sums, strict=True):
                targets = np.flatnonzero(weights).astype(np.int32)
                yield targets, weights[targets] * scale[row] * scale[targets]

    return strongest(links())
