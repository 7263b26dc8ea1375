"""What is trending, on ratings whose scores follow by hand."""

import numpy as np

from serving.ids import IdMap
from serving.ratings import Ratings
from training.data.trending import HALF_LIFE_DAYS, trending

HALF_LIFE = int(HALF_LIFE_DAYS * 24 * 60 * 60)


def ratings(movie_rows: list[int], values: list[float], times: list[int]) -> Ratings:
    """Those of one user."""
    return Ratings(
        users=IdMap([1]),
        indptr=np.array([0, len(movie_rows)]),
        movie_rows=np.array(movie_rows, np.int32),
        values=np.array(values, np.float32),
        times=np.array(times, np.int64),
    )


def test_stars_above_the_middle_count_and_halve_with_age() -> None:
    rated = ratings([0, 1, 2, 3], [4.5, 4.5, 4.5, 1.0], [0, HALF_LIFE, 2 * HALF_LIFE, 2 * HALF_LIFE])
    assert trending(rated, 5).tolist() == [0.5, 1.0, 2.0, 0.0, 0.0]


def test_ratings_add_up_and_without_times_all_are_of_one_age() -> None:
    assert trending(ratings([1, 1, 0], [5.0, 3.0, 4.0], [0, 0, 0]), 2).tolist() == [1.5, 3.0]


def test_without_ratings_nothing_is_trending() -> None:
    assert trending(ratings([], [], []), 2).tolist() == [0.0, 0.0]
