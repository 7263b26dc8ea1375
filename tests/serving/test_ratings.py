"""Histories in time order, and the ratings that they are slices of."""

from dataclasses import replace

import numpy as np
import pytest

from serving.ids import IdMap
from serving.ratings import EMPTY_HISTORY, NO_TIME, History, RatedMovies, Ratings


def history(*ratings: tuple[int, float, int]) -> History:
    rows, values, times = zip(*ratings, strict=True)
    return History(np.array(rows, np.int32), np.array(values, np.float32), np.array(times, np.int64))


def content(of: History) -> list[tuple[int, float, int]]:
    return list(zip(of.movie_rows.tolist(), of.values.tolist(), of.times.tolist(), strict=True))


RATINGS = Ratings(
    users=IdMap([5, 6, 9]),
    indptr=np.array([0, 2, 2, 5]),
    movie_rows=np.array([3, 1, 0, 3, 2], np.int32),
    values=np.array([5, 1, 4, 2, 3], np.float32),
    times=np.array([10, 20, 5, 6, 7]),
)
"""User 5 has rated two movies, 6 none, 9 three."""


@pytest.mark.parametrize(
    ("older", "newer", "joined"),
    [
        ([(0, 1, 10), (1, 2, 30)], [(2, 3, 20)], [(0, 1, 10), (2, 3, 20), (1, 2, 30)]),
        ([(0, 1, 10), (1, 2, 30)], [(0, 5, 40)], [(1, 2, 30), (0, 5, 40)]),
        ([(0, 1, 10), (1, 2, 30)], [(1, 5, 5)], [(1, 5, 5), (0, 1, 10)]),
        ([(0, 1, 10)], [(2, 3, 10), (1, 3, 10)], [(0, 1, 10), (2, 3, 10), (1, 3, 10)]),
        ([(0, 1, 10)], [(3, 2, NO_TIME), (2, 3, NO_TIME)], [(0, 1, 10), (3, 2, NO_TIME), (2, 3, NO_TIME)]),
        ([(0, 1, NO_TIME)], [(1, 2, 5), (2, 3, NO_TIME)], [(1, 2, 5), (0, 1, NO_TIME), (2, 3, NO_TIME)]),
    ],
    ids=[
        *("by time", "newer wins though rated later", "newer wins though rated earlier"),
        *("one time keeps the order", "unknown times last", "unknown times last on both sides"),
    ],
)
def test_joined_by(
    older: list[tuple[int, float, int]],
    newer: list[tuple[int, float, int]],
    joined: list[tuple[int, float, int]],
) -> None:
    assert content(history(*older).joined_by(history(*newer))) == joined


def test_joining_nothing_changes_nothing() -> None:
    one = history((0, 1, 10), (1, 2, 30))
    assert content(one.joined_by(EMPTY_HISTORY)) == content(one)
    joined = EMPTY_HISTORY.joined_by(one)
    assert content(joined) == content(one)
    types = [joined.movie_rows.dtype, joined.values.dtype, joined.times.dtype]
    assert types == [np.dtype(kind) for kind in (np.int32, np.float32, np.int64)]
    assert len(EMPTY_HISTORY.joined_by(EMPTY_HISTORY)) == 0


def test_a_request_is_put_in_time_order_without_what_is_unknown() -> None:
    rated = RatedMovies((40, 99, 20, 30, 10), (1, 2, 3, 4, 5), (NO_TIME, 1, 70, NO_TIME, 60))
    in_order = [(0, 5, 60), (1, 3, 70), (3, 1, NO_TIME), (2, 4, NO_TIME)]
    assert content(rated.history(IdMap([10, 20, 30, 40]))) == in_order
    assert len(RatedMovies().history(IdMap([10]))) == 0
    assert len(RatedMovies((99,), (1.0,), (5,)).history(IdMap([10]))) == 0


def test_each_users_ratings() -> None:
    assert content(RATINGS.of(0)) == [(3, 5, 10), (1, 1, 20)]
    assert content(RATINGS.of(1)) == []
    assert content(RATINGS.of(2)) == [(0, 4, 5), (3, 2, 6), (2, 3, 7)]
    assert RATINGS.counts().tolist() == [2, 0, 3]
    assert RATINGS.user_rows().tolist() == [0, 0, 2, 2, 2]
    assert len(RATINGS) == 5


def test_whether_times_are_known_is_worked_out_once() -> None:
    """GetUser asks at each request, and there may be a hundred million times."""
    ratings = replace(RATINGS, times=RATINGS.times.copy())
    assert ratings.is_timed
    ratings.times[:] = 0  # what nobody does: it shows that they are not read again
    assert ratings.is_timed
    assert not replace(ratings).is_timed


def test_where_keeps_users_without_ratings() -> None:
    kept = RATINGS.where(RATINGS.values >= 3)
    assert kept.users is RATINGS.users
    assert kept.indptr.tolist() == [0, 1, 1, 3]
    assert [content(kept.of(row)) for row in range(3)] == [[(3, 5, 10)], [], [(0, 4, 5), (2, 3, 7)]]
    nothing = RATINGS.where(np.zeros(5, dtype=np.bool_))
    assert nothing.indptr.tolist() == [0, 0, 0, 0]
    assert len(nothing) == 0


@pytest.mark.parametrize(
    ("indptr", "n_values"),
    [([0, 2, 5], 5), ([0, 2, 2, 4], 5), ([1, 2, 2, 5], 5), ([0, 3, 2, 5], 5), ([0, 2, 2, 5], 4)],
)
def test_arrays_that_do_not_fit_are_refused(indptr: list[int], n_values: int) -> None:
    with pytest.raises(ValueError, match="do not belong together"):
        Ratings(RATINGS.users, np.array(indptr), RATINGS.movie_rows, RATINGS.values[:n_values], RATINGS.times)
