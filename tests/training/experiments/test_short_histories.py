"""From how many ratings on two-stage serves a new user better than popularity."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from typing_extensions import override

from tests.training.small import JOB, SPARSE_JOB, sparse, tastes
from training.evaluation.judging import Lift
from training.experiments.short_histories import ShortHistories, measure_short_histories
from training.models.ranker_selection import RankerChoice
from training.models.recipe import Loss
from training.models.two_stage import TwoStage, fit_two_stage


@dataclass(frozen=True)
class Unpopular(TwoStage):
    """Puts the least popular movies first."""

    @override
    def scores(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        column = self.stage.tables.names.index("movie_popularity")
        return -features[:, column].astype(np.float64)


CHOICE = RankerChoice(loss=Loss.LOGLOSS, iterations=20, validation_ndcg={})


@pytest.fixture(scope="module")
def two_stage() -> TwoStage:
    return fit_two_stage(tastes(), JOB, CHOICE)


def test_a_ranker_that_knows_tastes_needs_no_popularity(
    two_stage: TwoStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.experiments.short_histories._LEAST_JUDGED", 5)
    found = measure_short_histories(tastes(), two_stage, JOB)
    assert list(found.over_popularity) == [1, 2, 3, 5, 10, 20]
    assert found.least_history == 0
    assert found.over_popularity[10].mean > 0.05


def test_where_popularity_is_better_at_every_length_all_get_it() -> None:
    unpopular = Unpopular(**vars(fit_two_stage(sparse(), SPARSE_JOB, CHOICE)))
    found = measure_short_histories(sparse(), unpopular, SPARSE_JOB)
    assert list(found.over_popularity) == [1, 2, 3, 5]  # there are ten ratings: none is left after as many
    assert all(lift.high < 0 for lift in found.over_popularity.values())
    assert found.least_history == 6


def test_a_handful_of_users_says_nothing(two_stage: TwoStage) -> None:
    found = measure_short_histories(tastes(), two_stage, JOB)  # ten are held out
    assert found == ShortHistories({})
    assert found.least_history == 0


def test_the_length_is_the_first_from_which_popularity_is_not_better() -> None:
    def lift(low: float, high: float) -> Lift:
        return Lift("two_stage", "popularity", (low + high) / 2, low, high)

    worse, may_be, better = lift(-0.2, -0.1), lift(-0.1, 0.1), lift(0.1, 0.2)
    assert ShortHistories({1: better, 2: worse}).least_history == 0
    assert ShortHistories({1: worse, 2: worse, 3: may_be, 5: worse}).least_history == 3
    assert ShortHistories({1: worse, 2: worse, 3: worse}).least_history == 4
