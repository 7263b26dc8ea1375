"""Links between movies by hand, against a plain recount, and cut to the strongest."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from serving.ratings import Ratings
from tests.training.small import N_MOVIES, ratings_of, table_of, tastes
from training.engine.local import LocalEngine
from training.features import transitions

Arrays = dict[str, npt.NDArray[Any]]


def dense(of: Arrays, n_movies: int) -> npt.NDArray[np.float64]:
    matrix = np.zeros((n_movies, n_movies))
    for row in range(n_movies):
        one = slice(of["indptr"][row], of["indptr"][row + 1])
        assert np.unique(of["movie_rows"][one]).size == of["movie_rows"][one].size
        matrix[row, of["movie_rows"][one]] = of["weights"][one]
    return matrix


def recounted(ratings: Ratings, n_movies: int) -> npt.NDArray[np.float64]:
    sums = np.zeros((n_movies, n_movies))
    for user in range(len(ratings.users)):
        rated = ratings.of(user).movie_rows
        for i in range(rated.size):
            for j in range(i + 1, min(i + 20, rated.size - 1) + 1):
                sums[rated[i], rated[j]] += 1 / np.sqrt(j - i)
    shrunk = np.bincount(ratings.movie_rows, minlength=n_movies) + 10
    return sums / np.sqrt(np.outer(shrunk, shrunk))


def test_transitions_by_hand() -> None:
    """Movie 0 is rated three times, 1 twice, 2 once."""
    ratings = ratings_of([(0, 5, 1), (1, 1, 2), (2, 5, 3)], [(1, 5, 1), (0, 5, 2)], [(0, 5, 1)])
    found = dense(transitions.build(ratings, table_of(4), LocalEngine(2)), 4)
    expected = np.zeros((4, 4))
    expected[0, 1] = 1 / np.sqrt(13 * 12)
    expected[0, 2] = 1 / np.sqrt(2) / np.sqrt(13 * 11)
    expected[1, 2] = 1 / np.sqrt(12 * 11)
    expected[1, 0] = 1 / np.sqrt(12 * 13)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_they_equal_a_plain_recount() -> None:
    ratings = tastes()
    found = dense(transitions.build(ratings, table_of(N_MOVIES), LocalEngine(2)), N_MOVIES)
    np.testing.assert_allclose(found, recounted(ratings, N_MOVIES), rtol=1e-5)


@pytest.mark.parametrize("ratings_per_block", [1, 7, 100])
def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, ratings_per_block: int) -> None:
    ratings = tastes()
    whole = transitions.build(ratings, table_of(), LocalEngine(2))
    monkeypatch.setattr(transitions, "_RATINGS_PER_BLOCK", ratings_per_block)
    in_blocks = transitions.build(ratings, table_of(), LocalEngine(2))
    for name in ("indptr", "movie_rows", "weights"):
        np.testing.assert_array_equal(in_blocks[name], whole[name])


def test_a_movie_keeps_its_200_strongest_links_ties_to_the_lower_row() -> None:
    """Twelve users rate 0, then 20 movies that nobody else rates: links are as strong as they are near."""
    ratings = ratings_of(
        *([(0, 5, 0), *((1 + 20 * user + gap, 5, 1 + gap) for gap in range(20))] for user in range(12))
    )
    found = transitions.build(ratings, table_of(241), LocalEngine(2))
    strongest = found["movie_rows"][: found["indptr"][1]].tolist()
    nearest_first = [1 + 20 * user + gap for gap in range(20) for user in range(12)]
    assert strongest == nearest_first[:200]
    assert np.diff(found["indptr"]).max() == 200
    assert np.all(np.diff(found["weights"][: found["indptr"][1]]) <= 0)


def test_types_and_ratings_without_pairs() -> None:
    found = transitions.build(ratings_of([(0, 5, 1)], [(1, 5, 1)], []), table_of(3), LocalEngine(2))
    assert found["indptr"].tolist() == [0, 0, 0, 0]
    dtypes = [found["indptr"].dtype, found["movie_rows"].dtype, found["weights"].dtype]
    assert dtypes == [np.dtype(kind) for kind in (np.int64, np.int32, np.float32)]
