"""Judging lists by hand, and intervals that hold what they promise."""

import numpy as np
import pytest

from tests.training.small import ratings_of
from training.evaluation.judging import (
    BANDS,
    CUTOFFS,
    Quality,
    bands,
    by_history_length,
    interval,
    judge,
)
from training.evaluation.splits import Split

SPLIT = Split(
    train=ratings_of([(0, 5, 1)], [(1, 5, 1), (2, 5, 2)], [(3, 5, 1)]),
    users=np.array([0, 2], dtype=np.int32),
    relevant=(np.array([1, 2], np.int32), np.array([0], np.int32)),
    eligible=2,
)
"""Four movies were rated in the past; user 0 will like 1 and 2, user 2 will like 0."""

LISTS = [np.array([3, 1], np.int32), np.array([1, 2, 0], np.int32)]


def test_judge_by_hand() -> None:
    quality = judge(LISTS, SPLIT, candidates=300)
    assert set(quality.per_user) == {
        *(f"{name}_at_{k}" for name in ("ndcg", "recall", "precision", "map", "novelty") for k in CUTOFFS),
        *(f"recall_at_10_{band}" for band in BANDS),
        "recall_at_300",
        "ceiling_ndcg_at_10",
    }
    second, third = 1 / np.log2(3), 1 / 2
    np.testing.assert_allclose(quality.per_user["ndcg_at_10"], [second / (1 + second), third])
    assert quality.per_user["recall_at_10"].tolist() == [0.5, 1]
    assert quality.per_user["recall_at_300"].tolist() == [0.5, 1]
    assert quality.per_user["precision_at_5"].tolist() == [0.2, 0.2]
    np.testing.assert_allclose(quality.per_user["map_at_5"], [0.25, 1 / 3])
    assert quality.coverage == {f"coverage_at_{k}": 1.0 for k in CUTOFFS}


def test_coverage_is_of_the_movies_rated_in_the_past() -> None:
    past = ratings_of([(0, 5, 1)], [(7, 5, 1)])
    split = Split(past, np.array([0], np.int32), (np.array([7], np.int32),), eligible=1)
    assert judge([np.array([7], np.int32)], split, candidates=300).coverage["coverage_at_5"] == 0.5


def test_a_list_of_movies_that_nobody_rated_is_not_infinitely_novel() -> None:
    """JSON has no infinity: a bundle with such a metric could not be read."""
    quality = judge([np.array([3, 9], np.int32), np.array([9], np.int32)], SPLIT, candidates=300)
    np.testing.assert_allclose(quality.per_user["novelty_at_10"], [np.log2(3), np.log2(3)])


def test_means_over_users_and_over_runs() -> None:
    quality = judge(LISTS, SPLIT, candidates=300)
    assert quality.means()["recall_at_10"] == 0.75
    assert quality.means()["coverage_at_10"] == 1
    other = Quality(
        per_user={name: values + 1 for name, values in quality.per_user.items()},
        coverage=dict.fromkeys(quality.coverage, 0.5),
    )
    mean = Quality.mean_of([quality, other])
    np.testing.assert_allclose(mean.per_user["recall_at_10"], [1, 1.5])
    assert mean.coverage["coverage_at_10"] == 0.75


def test_the_interval_brackets_a_known_difference() -> None:
    """Users differ much, models little: only pairing by user shows it."""
    rng = np.random.default_rng(1)
    users = rng.normal(0.5, 1, 400)
    worse = users + rng.normal(0, 0.1, 400)
    better = users + 0.05 + rng.normal(0, 0.1, 400)
    low, high = interval(better - worse)
    assert 0 < low < 0.05 < high
    # that of the normal approximation
    half = 1.96 * (better - worse).std(ddof=1) / 20
    mean = (better - worse).mean()
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.1 * half)
    assert interval(worse - better) == pytest.approx((-high, -low))
    assert interval(better - worse) == (low, high)
    assert interval(better - better) == (0, 0)


def test_about_95_percent_of_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(40):
        differences = rng.normal(0.1, 1, 60)
        low, high = interval(differences)
        held += low < 0.1 < high
    assert 34 <= held <= 40


def test_each_band_took_a_third_of_the_ratings() -> None:
    # 12 ratings: the movie with 5 reaches over a third, those with 2 end the second, the rest is the tail.
    assert bands(np.array([1, 5, 2, 2, 0, 1, 1])).tolist() == [2, 0, 1, 1, 2, 2, 2]


def test_recall_by_band_counts_only_liked_movies_of_that_band() -> None:
    past = ratings_of(
        [(0, 5, 1), (1, 5, 2)], [(0, 5, 1), (2, 5, 2)], [(0, 5, 1), (3, 5, 2)]
    )  # the head is movie 0; 1 is the middle; 2 and 3 are the tail
    split = Split(
        past,
        np.array([0, 1], dtype=np.int32),
        (np.array([2, 3], np.int32), np.array([1, 3], np.int32)),
        eligible=2,
    )
    quality = judge([np.array([3, 1], np.int32), np.array([1, 2], np.int32)], split, candidates=300)
    assert quality.per_user["recall_at_10_tail"].tolist() == [0.5, 0.0]
    np.testing.assert_array_equal(quality.per_user["recall_at_10_mid"], [np.nan, 1.0])
    assert quality.means()["recall_at_10_mid"] == 1.0
    assert "recall_at_10_head" not in quality.means(), "nobody liked a movie of the head"


def test_history_segments_are_thirds_of_the_users() -> None:
    segments = by_history_length(np.array([3, 50, 4, 7, 9, 8]))
    assert [(one.shortest, one.longest, int(one.members.sum())) for one in segments] == [
        *((3, 4, 2), (7, 8, 2), (9, 50, 2))
    ]
    same = by_history_length(np.array([5, 5, 5]))
    assert [(one.shortest, one.longest, int(one.members.sum())) for one in same] == [(5, 5, 3)]
    assert by_history_length(np.empty(0, dtype=np.int64)) == []
