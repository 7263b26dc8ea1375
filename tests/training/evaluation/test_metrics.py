"""Metrics by hand, nDCG against scikit-learn's, and all against RecTools'."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score  # type: ignore[import-untyped]

from serving.ids import Rows
from tests.training.small import ratings_of
from training.evaluation.judging import CUTOFFS, judge
from training.evaluation.metrics import (
    average_precision,
    capped_recall,
    ceiling_ndcg,
    coverage,
    hits,
    ndcg,
    novelty,
    precision,
    recall,
    self_information,
)
from training.evaluation.splits import Split

LIST = np.array([7, 3, 9, 1])
SECOND, FOURTH = 1 / np.log2(3), 1 / np.log2(5)
"""Discounts of places; those of the first and third are 1 and 1/2."""


@pytest.mark.parametrize(
    ("relevant", "k", "expected"),
    [
        ([7], 2, {"ndcg": 1, "recall": 1, "precision": 1 / 2, "map": 1}),
        ([3], 2, {"ndcg": SECOND, "recall": 1, "precision": 1 / 2, "map": 1 / 2}),
        ([9], 2, {"ndcg": 0, "recall": 0, "precision": 0, "map": 0}),
        (
            [3, 1],
            4,
            {"ndcg": (SECOND + FOURTH) / (1 + SECOND), "recall": 1, "precision": 1 / 2, "map": 1 / 2},
        ),
        ([7, 9, 5], 3, {"ndcg": 1.5 / (1.5 + SECOND), "recall": 2 / 3, "precision": 2 / 3, "map": 5 / 9}),
        # more relevant movies than places: the ideal list is cut too, recall is not
        ([7, 3, 5, 6], 2, {"ndcg": 1, "recall": 1 / 2, "precision": 1, "map": 1}),
        # a list shorter than k
        ([7, 1], 10, {"ndcg": (1 + FOURTH) / (1 + SECOND), "recall": 1, "precision": 1 / 5, "map": 3 / 4}),
    ],
)
def test_by_hand(relevant: list[int], k: int, expected: dict[str, float]) -> None:
    metrics = {"ndcg": ndcg, "recall": recall, "precision": precision, "map": average_precision}
    found = hits(LIST, np.array(relevant), k)
    got = {name: metric(found, len(relevant), k) for name, metric in metrics.items()}
    assert got == pytest.approx(expected)


def test_hits_stand_at_their_places() -> None:
    assert hits(LIST, np.array([3, 1, 5]), 3).tolist() == [0, 1, 0]
    assert hits(LIST, np.array([3, 1, 5]), 6).tolist() == [0, 1, 0, 1, 0, 0]


def test_an_empty_list_reaches_nothing() -> None:
    nothing = hits(np.empty(0, dtype=np.int32), np.array([1]), 10)
    for metric in (ndcg, recall, precision, average_precision, capped_recall, ceiling_ndcg):
        assert metric(nothing, 1, 10) == 0


def test_many_lists_are_judged_as_each_of_them() -> None:
    relevant = [np.array([7]), np.array([3, 1, 5]), np.array([8]), np.array([1, 3])]
    found = np.array([hits(LIST, one, 4) for one in relevant])
    sizes = np.array([one.size for one in relevant])
    for metric in (ndcg, recall, precision, average_precision, capped_recall, ceiling_ndcg):
        each = [metric(own, size, 3) for own, size in zip(found, sizes.tolist(), strict=True)]
        assert metric(found, sizes, 3).tolist() == each


@given(
    order=st.permutations(range(30)), relevant=st.sets(st.integers(0, 29), min_size=1), k=st.integers(1, 40)
)
def test_ndcg_equals_scikit_learns(order: list[int], relevant: set[int], k: int) -> None:
    gains = np.isin(np.arange(30), list(relevant)).astype(float)
    scores = np.empty(30)
    scores[order] = np.arange(30, 0, -1)
    expected = ndcg_score(gains[None], scores[None], k=k)
    found = hits(np.array(order), np.array(sorted(relevant)), k)
    assert ndcg(found, len(relevant), k) == pytest.approx(expected, abs=1e-12)


def test_coverage_counts_each_movie_once_among_the_first_k() -> None:
    lists = [np.array([1, 2, 3]), np.array([2, 4]), np.array([], dtype=np.int64)]
    assert coverage(lists, 8, 2) == 3 / 8
    assert coverage(lists, 8, 1) == 2 / 8
    assert coverage(lists, 8, 10) == 4 / 8
    assert coverage([], 8, 10) == 0


def test_ceiling_is_what_a_perfect_order_reaches() -> None:
    candidates, relevant = np.array([7, 1, 8, 2]), np.array([1, 2, 3])
    found, ordered = (hits(own, relevant, 10) for own in (candidates, np.array([1, 2, 7, 8])))
    assert ceiling_ndcg(found, 3, 10) == ndcg(ordered, 3, 10)
    assert ceiling_ndcg(found, 3, 2) == 1.0


def test_capped_recall_can_be_reached_by_everybody() -> None:
    assert capped_recall(np.array([1.0, 1.0]), 4, 2) == 1.0
    assert capped_recall(np.array([1.0, 0.0]), 4, 2) == 0.5
    assert capped_recall(np.array([1.0, 0.0]), 1, 2) == 1.0


def test_novelty_is_mean_self_information_in_bits() -> None:
    information = self_information(np.array([4, 2, 1, 0]), n_users=4)
    assert information.tolist() == [0, 1, 2, 2]  # who nobody rated counts as rated by one
    assert novelty(np.array([0, 2, 1]), information, 2) == 1.0
    assert novelty(np.array([]), information, 2) == 0.0


_ORACLE = json.loads((Path(__file__).parent / "rectools_metrics.json").read_text())


def rows(*movies: int) -> Rows:
    return np.array(movies, dtype=np.int32)


def generated() -> tuple[list[Rows], Split]:
    relevant = tuple(rows(*movies) for movies in _ORACLE["truth"])
    users = np.arange(len(relevant), dtype=np.int32)
    past = ratings_of(*([(movie, 4.0, 0) for movie in movies] for movies in _ORACLE["past"]))
    split = Split(past, users, relevant, eligible=users.size)
    return [rows(*movies) for movies in _ORACLE["lists"]], split


@pytest.mark.parametrize("k", CUTOFFS)
def test_metrics_equal_those_of_rectools(k: int) -> None:
    theirs = {name: np.array(values) for name, values in _ORACLE["per_user"].items()}
    # RecTools divides by k or by the relevant movies; ours by the smaller of both, so that 1 can be reached.
    theirs[f"map_at_{k}"] = np.maximum(theirs[f"map_by_relevant_at_{k}"], theirs[f"map_by_k_at_{k}"])
    ours = judge(*generated(), candidates=300)
    for metric in ("ndcg", "recall", "precision", "novelty", "map"):
        name = f"{metric}_at_{k}"
        np.testing.assert_allclose(ours.per_user[name], theirs[name], rtol=0, atol=1e-9, err_msg=name)
    assert ours.coverage[f"coverage_at_{k}"] == pytest.approx(
        _ORACLE["coverage"][f"coverage_at_{k}"], abs=1e-9
    )
