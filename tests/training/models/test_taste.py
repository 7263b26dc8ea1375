"""Which movies a newcomer is asked about, on factors whose cosines are seen by eye."""

import numpy as np

from training.models.taste import TASTE_MOVIES, taste_movies

POPULARITY = np.array([3.0, 5.0, 4.0, 2.0, 1.0])
COUNTS = np.array([4, 9, 9, 4, 1])


def test_the_most_popular_comes_first_and_then_what_is_far_from_it() -> None:
    factors = np.array([[1, 0], [2, 0], [4, 1e-3], [0, 3], [0, 0]], np.float32)
    # Rows 0 and 2 have the taste of row 1; row 3 another one; row 4 has no factors.
    assert taste_movies(factors, POPULARITY, COUNTS).tolist() == [1, 3, 2, 0]


def test_of_two_that_are_as_far_the_better_known_comes_first() -> None:
    factors = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]], np.float32)
    assert taste_movies(factors, POPULARITY, COUNTS).tolist() == [1, 2, 0]


def test_none_without_factors_and_never_more_than_thirty() -> None:
    assert taste_movies(np.zeros((5, 2), np.float32), POPULARITY, COUNTS).size == 0
    n = 200
    factors = np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
    rows = taste_movies(factors, np.arange(n, 0, -1.0), np.full(n, 7))
    assert rows.size == TASTE_MOVIES == np.unique(rows).size
    assert rows.max() < 100
