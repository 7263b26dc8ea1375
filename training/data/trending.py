"""What is rated of late, and well: popularity that forgets."""

from typing import Final

import numpy as np
import numpy.typing as npt

from serving.ratings import Ratings
from training.data.newest import newest_time

HALF_LIFE_DAYS: Final = 180.0
"""After so many days, a rating counts half."""

_MIDDLE: Final = 2.5
_DAY_SECONDS: Final = 24 * 60 * 60


def trending(ratings: Ratings, n_movies: int) -> npt.NDArray[np.float64]:
    """`Σ max(stars - 2.5, 0) · 0.5^(age / 180 days)` over a movie's ratings, shape (n_movies,).

    Age counts from the newest rating (`newest_time`): a data set that ended years ago has something that was
    trending when it did. Without times, all ratings are of one age.
    """
    if not len(ratings):
        return np.zeros(n_movies)
    ages = np.maximum(newest_time(ratings.times) - ratings.times, 0) / _DAY_SECONDS
    weights = np.maximum(ratings.values.astype(np.float64) - _MIDDLE, 0) * 0.5 ** (ages / HALF_LIFE_DAYS)
    return np.bincount(ratings.movie_rows, weights=weights, minlength=n_movies).astype(np.float64)
