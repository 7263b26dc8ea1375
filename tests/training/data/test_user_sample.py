"""A tenth of the users: the same each time, from idle to active, their ratings whole."""

from itertools import count, islice

import numpy as np
import pytest

from serving.ratings import Ratings
from tests.training.small import ratings_of
from training.data.user_sample import active_and_idle


@pytest.fixture
def ratings() -> Ratings:
    """User u has u ratings, for u from 1 to 100; no two are alike."""
    places = count()
    return ratings_of(*([(place, 4.0, place) for place in islice(places, n)] for n in range(1, 101)))


def test_one_user_of_each_tenth_by_activity(ratings: Ratings) -> None:
    sample = active_and_idle(ratings)
    assert (sample.counts() - 1).tolist() == sorted((sample.counts() - 1).tolist())
    assert ((sample.counts() - 1) // 10).tolist() == list(range(10))


def test_the_ratings_of_each_are_whole(ratings: Ratings) -> None:
    sample = active_and_idle(ratings)
    for row, user_id in enumerate(sample.users.ids.tolist()):
        original = ratings.of(ratings.users.row(user_id))
        np.testing.assert_array_equal(sample.of(row).movie_rows, original.movie_rows)
        np.testing.assert_array_equal(sample.of(row).times, original.times)


def test_always_the_same_users(ratings: Ratings) -> None:
    np.testing.assert_array_equal(active_and_idle(ratings).users.ids, active_and_idle(ratings).users.ids)


@pytest.mark.parametrize(("share", "n_users"), [(1.0, 100), (0.25, 25), (0.001, 1)])
def test_shares(ratings: Ratings, share: float, n_users: int) -> None:
    assert len(active_and_idle(ratings, share).users) == n_users
