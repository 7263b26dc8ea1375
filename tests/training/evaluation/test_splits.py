"""Cuts by hand: what is the past, who is judged, and by what."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.ratings import LIKED, Ratings
from tests.training.small import ratings_of, tastes
from training.evaluation.splits import Split, SplitProtocol, judged_split, sample_users, split


def relevant_of(cut: Split) -> dict[int, list[int]]:
    """Movie rows by user row."""
    return {int(user): rows.tolist() for user, rows in zip(cut.users, cut.relevant, strict=True)}


def test_by_user_the_last_fifth_is_the_future() -> None:
    ratings = ratings_of(
        [(row, 5, row) for row in range(10)],  # 8 and 9 are the future
        [(row, 5, 100 - row) for row in (9, 8, 7, 6, 5)],  # 5 is
    )
    cut = split(ratings, SplitProtocol.USER)
    assert cut.train.of(0).movie_rows.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert cut.train.of(1).movie_rows.tolist() == [9, 8, 7, 6]
    assert relevant_of(cut) == {0: [8, 9], 1: [5]}


@pytest.mark.parametrize(("n", "n_past"), [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4), (6, 4), (10, 8), (14, 11)])
def test_by_user_the_past_is_floor_of_four_fifths(n: int, n_past: int) -> None:
    everything = [(row, 5, row) for row in range(14)]
    cut = split(ratings_of(everything[:n], everything, everything), SplitProtocol.USER)
    assert len(cut.train.of(0)) == n_past == n * 4 // 5


def test_only_likes_count_of_movies_that_somebody_rated_in_the_past() -> None:
    ratings = ratings_of(
        [(0, 5, 1), (1, 5, 2), (2, 5, 3), (3, 1, 4), (4, 4, 5)],  # 4 is rated in nobody's past
        [(0, 5, 1), (1, 5, 2), (2, 5, 3), (3, 1, 4), (5, 3.5, 5)],  # not a like
        [(5, 5, 1), (6, 1, 2), (2, 5, 3), (3, 1, 4), (0, 4, 5)],
        [(0, 5, 1), (1, 5, 2), (2, 5, 3), (3, 1, 4), (6, 5, 5)],  # rated in the past, by a disliker
        [(0, 5, 1)],  # no past
    )
    cut = split(ratings, SplitProtocol.USER)
    assert relevant_of(cut) == {2: [0], 3: [6]}
    assert cut.users.dtype == np.dtype(np.int32)
    assert cut.train.users is ratings.users
    assert len(cut.train.of(4)) == 0


def test_by_time_one_moment_cuts_for_all() -> None:
    ratings = ratings_of(
        [(row, 5, row + 1) for row in range(5)] + [(5, 5, 100), (6, 5, 101)],
        [(row, 5, 10 + row) for row in (4, 5, 6)] + [(0, 5, 102)],  # too short a past
        [(row, 5, 20 + row) for row in range(9)],  # no future
    )
    cut = split(ratings, SplitProtocol.TIME)  # 20 ratings: the moment is that of the sixteenth
    assert [len(cut.train.of(user)) for user in range(3)] == [5, 3, 8]
    assert cut.train.times.max() == 27
    assert relevant_of(cut) == {0: [5, 6]}


def test_by_time_everything_up_to_the_moment_is_past() -> None:
    """Ten ratings; the moment is that of the eighth, and what shares its second goes with it."""
    ratings = ratings_of([(row, 5, min(row, 7)) for row in range(10)])
    assert len(split(ratings, SplitProtocol.TIME).train) == 10
    ratings = ratings_of([(row, 5, row) for row in range(10)])
    assert split(ratings, SplitProtocol.TIME).train.times.tolist() == list(range(8))
    assert split(ratings, SplitProtocol.TIME, 0.5).train.times.tolist() == list(range(5))


def test_by_time_five_ratings_are_past_enough() -> None:
    def cut_of(n_past: int) -> Split:
        one = [(row, 5.0, row) for row in range(n_past)] + [(0 if n_past < 20 else 1, 5.0, 500)]
        return split(ratings_of(one, [(row, 5.0, 100 + row) for row in range(20)]), SplitProtocol.TIME, 0.9)

    assert 0 not in relevant_of(cut_of(4))
    assert relevant_of(cut_of(5))[0] == [0]


@given(
    protocol=st.sampled_from(list(SplitProtocol)),
    share=st.sampled_from([0.5, 0.8, 0.9]),
    seed=st.integers(0, 9),
)
def test_a_cut_loses_nothing_and_never_looks_ahead(protocol: SplitProtocol, share: float, seed: int) -> None:
    ratings = tastes(seed=seed)
    cut = split(ratings, protocol, share)
    rated_before = set(cut.train.movie_rows.tolist())
    moment = cut.train.times.max()
    for user, future in relevant_of(cut).items():
        past, whole = cut.train.of(user), ratings.of(user)
        n_past = len(past)
        assert whole.movie_rows[:n_past].tolist() == past.movie_rows.tolist()
        later = whole.movie_rows[n_past:][whole.values[n_past:] >= LIKED].tolist()
        assert future == [row for row in later if row in rated_before]
        if protocol is SplitProtocol.TIME:
            assert whole.times[n_past:].min() > moment
    assert cut.users.size > 0


def test_nothing_cuts_to_nothing() -> None:
    nothing: Ratings = ratings_of([], [])
    assert split(nothing, SplitProtocol.USER).users.size == 0


def test_what_counts_as_liked_can_be_told() -> None:
    ratings = ratings_of(
        [(0, 5.0, 1), (1, 5.0, 2), (2, 5.0, 3), (3, 5.0, 4), (4, 3.0, 5)], [(4, 5.0, 0), (0, 1.0, 9)]
    )
    assert split(ratings, SplitProtocol.USER).users.size == 0
    (liked,) = split(ratings, SplitProtocol.USER, liked=3.0).relevant
    assert liked.tolist() == [4]


def test_many_users_are_judged_by_a_sample_and_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = split(tastes(), SplitProtocol.USER)
    monkeypatch.setattr("training.evaluation.splits.MOST_JUDGED", 12)
    one, other = (judged_split(tastes(), SplitProtocol.USER) for _ in range(2))
    assert one.users.size == 12
    assert one.eligible == whole.eligible == whole.users.size
    assert one.users.tolist() == sorted(set(one.users.tolist()))
    assert one.users.tolist() != whole.users[:12].tolist()
    assert relevant_of(one) == relevant_of(other)
    assert relevant_of(one).items() <= relevant_of(whole).items()
    assert len(one.train) == len(whole.train)


def test_a_sample_of_several_cuts_is_drawn_from_all_of_them() -> None:
    cuts = [split(tastes(), SplitProtocol.TIME, share) for share in (0.5, 0.8)]
    assert sample_users(cuts, 1_000, np.random.default_rng(0)) == cuts
    sampled = sample_users(cuts, 30, np.random.default_rng(0))
    assert sum(cut.users.size for cut in sampled) == 30
    for few, cut in zip(sampled, cuts, strict=True):
        assert few.train is cut.train
        assert 0 < few.users.size < cut.users.size
        assert relevant_of(few).items() <= relevant_of(cut).items()
