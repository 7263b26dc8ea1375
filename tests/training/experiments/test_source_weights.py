"""Which sources of candidates are taken, on data where it is known which should be."""

import pytest

from serving.sources import ALS_ALONE, SourceWeights
from tests.training.small import JOB, RECIPE, SPARSE_JOB, ratings_of, sparse, tastes
from training.evaluation.judging import judge
from training.evaluation.splits import SplitProtocol, split
from training.experiments.source_weights import (
    POPULARITY_ALONE,
    SourceChoice,
    choose_source_weights,
    weights_grid,
)
from training.models.first_stage import FirstStage
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
        stage = FirstStage.fit(
            judged.train,
            SPARSE_JOB.table,
            RECIPE.als,
            RECIPE.feature_groups,
            weights,
            n_candidates=100,
            seed=0,
            threads=1,
        )
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


def test_ratings_without_times_have_no_transitions() -> None:
    timed, untimed = weights_grid(with_transitions=True), weights_grid(with_transitions=False)
    assert timed[0] == untimed[0] == ALS_ALONE
    assert (len(timed), len(untimed)) == (37, 7)
    assert not any(weights.transitions for weights in untimed)
    assert all(max(one.als, one.transitions, one.popularity) == 1 for one in timed)
    assert POPULARITY_ALONE in untimed
