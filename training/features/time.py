"""When movies were rated."""

from typing import Any

import numpy as np
import numpy.typing as npt

from serving.features.time import RECENT_SECONDS
from serving.ratings import Ratings
from training.data.movielens.movies import MovieTable
from training.data.newest import newest_time
from training.engine.engine import Engine


def build(ratings: Ratings, table: MovieTable, _engine: Engine) -> dict[str, npt.NDArray[Any]]:
    """The arrays of `TimeFeatures`."""
    n_movies = len(table.movies.ids)
    return {
        "first_times": _first_times(ratings, n_movies),
        "recent_ratings": _recent_ratings(ratings, n_movies),
        "span": np.array([ratings.times.min(), newest_time(ratings.times)]),
    }


def _first_times(ratings: Ratings, n_movies: int) -> npt.NDArray[np.float64]:
    times = np.full(n_movies, np.inf)
    np.minimum.at(times, ratings.movie_rows, ratings.times)
    times[np.isinf(times)] = np.nan
    return times


def _recent_ratings(ratings: Ratings, n_movies: int) -> npt.NDArray[np.int32]:
    bins = (ratings.times - ratings.times.min()) // RECENT_SECONDS
    n_bins = int(bins.max()) + 1
    counts = np.bincount(ratings.movie_rows * n_bins + bins, minlength=n_movies * n_bins)
    counts = counts.reshape(n_movies, n_bins)
    counts[:, 1:] += counts[:, :-1].copy()
    return np.ascontiguousarray(counts, dtype=np.int32)
