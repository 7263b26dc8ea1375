"""Profiles of lists that can be checked by eye."""

import numpy as np
import pytest

from serving.ids import IdMap
from serving.movies import Movies, genre_bits
from tests.training.small import ratings_of
from training.evaluation.profiles import ListProfile, profile_of
from training.evaluation.splits import Split

MOVIES = Movies(
    ids=IdMap([1, 2, 3, 4]),
    years=np.full(4, 2000, np.int16),
    genre_bits=np.array(
        [genre_bits(g) for g in (["Drama"], ["Drama"], ["War"], ["Drama", "War"])], np.uint64
    ),
)
PAST = ratings_of([(0, 5.0, 1), (2, 2.0, 2)], [(0, 5.0, 1), (1, 1.0, 2)])
"""Movie 0 has two ratings, 1 and 2 one each, 3 none. Both users like a drama."""
JUDGED = Split(PAST, np.array([0, 1], np.int32), (np.array([1]), np.array([2])), eligible=2)


def rows(*movie_rows: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(movie_rows, np.int32)


def test_the_most_popular_of_three_stands_above_two_and_a_half() -> None:
    assert profile_of([rows(0), rows(0)], JUDGED, MOVIES).popularity_percentile == pytest.approx(2.5 / 3)
    # 1 and 2 are equal: each above half of the two.
    assert profile_of([rows(1), rows(2)], JUDGED, MOVIES).popularity_percentile == pytest.approx(1 / 3)
    assert profile_of([rows(3), rows(3)], JUDGED, MOVIES).popularity_percentile == 0


def test_overlap_is_what_two_lists_share_of_ten() -> None:
    assert profile_of([rows(0, 1, 2), rows(2, 3, 0)], JUDGED, MOVIES).overlap == pytest.approx(0.2)
    assert profile_of([rows(0), rows(1)], JUDGED, MOVIES).overlap == 0
    assert profile_of([rows(0), rows()], JUDGED, MOVIES).overlap == 0


def test_genres_of_the_list_are_held_against_those_of_the_likes() -> None:
    assert profile_of([rows(1), rows(1)], JUDGED, MOVIES).miscalibration == pytest.approx(0)
    assert profile_of([rows(2), rows(2)], JUDGED, MOVIES).miscalibration == pytest.approx(1)
    half = profile_of([rows(3), rows(1, 2)], JUDGED, MOVIES).miscalibration
    # (1/2, 1/2) from (1, 0): the entropy of (3/4, 1/4) less half a bit.
    assert half == pytest.approx(0.8112781 - 0.5)


@pytest.mark.parametrize("n_shown", range(1, 11))
def test_equal_shares_of_three_genres_are_no_divergence(n_shown: int) -> None:
    """Means of thirds differ in the last bit with their number."""
    bits = np.full(11, genre_bits(["Drama", "War", "Comedy"]), np.uint64)
    movies = Movies(ids=IdMap(range(1, 12)), years=np.full(11, 2000, np.int16), genre_bits=bits)
    judged = Split(ratings_of([(0, 5.0, 1)]), rows(0), (np.array([1]),), eligible=1)
    profile = profile_of([rows(*range(1, 1 + n_shown))], judged, movies)
    assert profile.miscalibration == pytest.approx(0, abs=1e-12)


def test_nobody_has_no_profile() -> None:
    nobody = Split(PAST, rows(), (), eligible=0)
    assert profile_of([], nobody, MOVIES) == ListProfile(0.0, 0.0, 0.0)
