"""Which sources of candidates are taken, on data where it is known which should be."""

from collections.abc import Sequence

import numpy as np
import pytest

from serving.sources import ALS_ALONE, SourceWeights
from tests.training.small import JOB, SPARSE_JOB, ratings_of, sparse, tastes
from training.evaluation.judging import judge
from training.evaluation.splits import Split, SplitProtocol, split
from training.experiments import source_weights
from training.experiments.source_weights import (
    POPULARITY_ALONE,
    SourceChoice,
    choose_source_weights,
    weights_grid,
)
from training.models.first_stage import FirstStage
from training.models.job_context import JobContext
from training.report.findings import sources_sentence


@pytest.fixture(scope="module")
def chosen() -> SourceChoice:
    return choose_source_weights(split(sparse(), SplitProtocol.USER).train, SPARSE_JOB)


def test_where_nobody_has_a_taste_popularity_is_a_source(chosen: SourceChoice) -> None:
    recall = chosen.recall
    assert recall[POPULARITY_ALONE] > recall[ALS_ALONE] + 0.05
    assert chosen.chosen.popularity > chosen.chosen.als
    assert recall[chosen.chosen] >= recall[POPULARITY_ALONE]
    assert chosen.low > 0


def test_and_the_job_says_why(chosen: SourceChoice) -> None:
    sentence = sources_sentence(chosen, 100)
    assert sentence.startswith("Sources of candidates: ")
    assert (
        f"als 1 {chosen.recall[ALS_ALONE]:.4f}; popularity 1 {chosen.recall[POPULARITY_ALONE]:.4f}"
        in sentence
    )


def test_what_was_chosen_holds_what_popularity_holds_later_too(chosen: SourceChoice) -> None:
    judged = split(sparse(), SplitProtocol.USER)

    def recall(weights: SourceWeights) -> float:
        job = SPARSE_JOB.with_recipe(sources=weights, n_candidates=100)
        stage = FirstStage.fit(judged.train, job, "a test")
        lists = [found.movie_rows for found in stage.candidates(judged.users)]
        return judge(lists, judged, candidates=100).means()["recall_at_100"]

    assert recall(chosen.chosen) >= recall(POPULARITY_ALONE) - 0.01
    assert recall(chosen.chosen) > recall(ALS_ALONE) + 0.05


def test_where_all_sources_hold_everything_als_stays_alone() -> None:
    found = choose_source_weights(tastes(), JOB)  # 58 movies, and 300 candidates
    assert found.chosen == ALS_ALONE
    assert (found.low, found.high) == (0, 0)


def test_nobody_to_judge_by_leaves_als_alone() -> None:
    nobody = ratings_of([(0, 5.0, 1)], [(1, 5.0, 1)])
    assert choose_source_weights(nobody, JOB).chosen == ALS_ALONE


def test_too_few_to_judge_by_leave_als_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One user for whom anything else is better is no reason, nor are nineteen."""

    def better_without_als(judged: Split, grid: Sequence[SourceWeights], _: JobContext) -> object:
        assert grid[0] == ALS_ALONE
        return np.repeat([0.0] + [1.0] * (len(grid) - 1), judged.users.size).reshape(len(grid), -1)

    monkeypatch.setattr(source_weights, "recalls_by_user", better_without_als)
    ratings = tastes()
    for n_users, stays in ((1, True), (19, True), (20, False)):
        found = choose_source_weights(ratings.where(ratings.user_rows() < n_users), JOB)
        assert (found.chosen == ALS_ALONE) == stays


def test_what_is_best_by_chance_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best of 37 would be above ALS alone on the same users in a third of the runs."""
    rng = np.random.default_rng(0)

    def noise(judged: Split, grid: Sequence[SourceWeights], _: JobContext) -> object:
        recall = rng.random((len(grid), judged.users.size))
        recall[grid.index(POPULARITY_ALONE)] = 0  # which is no reason, either
        return recall

    monkeypatch.setattr(source_weights, "recalls_by_user", noise)
    ratings = tastes()
    taken = [choose_source_weights(ratings, JOB).chosen != ALS_ALONE for _ in range(40)]
    assert sum(taken) <= 4


def test_ratings_without_times_have_no_transitions() -> None:
    timed, untimed = weights_grid(with_transitions=True), weights_grid(with_transitions=False)
    assert timed[0] == untimed[0] == ALS_ALONE
    assert (len(timed), len(untimed)) == (37, 7)
    assert not any(weights.transitions for weights in untimed)
    assert all(max(one.als, one.transitions, one.popularity) == 1 for one in timed)
    assert POPULARITY_ALONE in untimed
