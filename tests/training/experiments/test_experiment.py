"""Measurements and searches on ratings that hardly suffice for one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catboost import CatBoost

from serving.ratings import Ratings
from tests.training.small import HERE, JOB, PROGRESS, RECIPE, ratings_of, table_of, tastes
from training.checkpoints import Checkpoints
from training.experiments.experiment import measure
from training.experiments.tuning import Bounds, tune
from training.models.job_context import JobContext
from training.models.ranker import Groups, fit_ranker
from training.models.ranker_groups import TooFewUsersError
from training.models.recipe import Loss


def short_histories(n_ratings: int) -> Ratings:
    """60 users, each with so many of 12 movies, all of them liked."""
    rng = np.random.default_rng(0)
    return ratings_of(
        *(
            [(int(movie), 5.0, time) for time, movie in enumerate(rng.choice(12, n_ratings, replace=False))]
            for _ in range(60)
        )
    )


def test_histories_too_short_for_a_validation_part_are_measured_without() -> None:
    """Of three ratings one is cut off for the test, one for the inner cut: the last has no past."""
    measurement = measure(short_histories(3), JOB, validate=True)
    assert measurement.judged_users > 30
    assert measurement.validation == {}
    assert set(measure(short_histories(5), JOB, validate=True).validation) == set(measurement.qualities)


def test_a_validation_part_that_judges_nobody_is_left_out() -> None:
    """Of 25 ratings the last five are the test part, and of the others the last four: nobody likes those."""
    ratings = tastes()
    values = ratings.values.reshape(-1, 25).copy()  # not a frame
    values[:, 16:20] = 1.0
    measurement = measure(replace(ratings, values=values.ravel()), JOB, validate=True)
    assert measurement.judged_users
    assert (measurement.validated, measurement.validation) == (None, {})


@pytest.mark.parametrize(
    ("n_ratings", "words"),
    [(2, "nobody can be judged on the validation part"), (3, "only 0 lists of candidates give the ranker")],
)
def test_a_search_that_has_nothing_to_go_by_ends_in_words(tmp_path: Path, n_ratings: int, words: str) -> None:
    bounds = Bounds(storage=tmp_path / "tuning.db", name="short", trials=1, seconds=60.0)
    with pytest.raises(TooFewUsersError, match=words):
        tune(short_histories(n_ratings), JOB, bounds)


def test_a_search_tries_the_ranker_that_training_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = []

    def remember(groups: Groups, loss: Loss, trees: int, *rest: Any, **options: Any) -> CatBoost:
        fitted.append((loss, trees))
        return fit_ranker(groups, loss, trees, *rest, **options)

    monkeypatch.setattr("training.experiments.tuning.fit_ranker", remember)
    for name, only_loss in (("open", None), ("asked for", Loss.YETI_RANK)):
        recipe = replace(RECIPE, ranker=replace(RECIPE.ranker, only_loss=only_loss))
        bounds = Bounds(storage=tmp_path / "tuning.db", name=name, trials=2, seconds=60.0)
        found = tune(tastes(), JobContext(table_of(), recipe, PROGRESS, HERE), bounds)
        # A file of `--params` with a number of trees would be the most that `train` chooses from.
        assert all("iterations" not in trial.parameters for trial in found["ranker"].trials)
    trees = RECIPE.ranker.iterations
    assert fitted == [(loss, trees) for loss in (Loss.LOGLOSS, Loss.YETI_RANK) for _ in range(2)]


def test_a_search_that_goes_on_tries_what_was_not_tried_before(tmp_path: Path) -> None:
    bounds = Bounds(storage=tmp_path / "tuning.db", name="mine", trials=2, seconds=60.0)
    first = tune(tastes(), JOB, bounds)["als"].trials
    trials = tune(tastes(), JOB, replace(bounds, trials=3))["als"].trials
    assert trials[:2] == first
    tried = [trial.parameters for trial in trials]
    assert all(tried.count(parameters) == 1 for parameters in tried)
    other = tune(tastes(), JOB, replace(bounds, name="other", trials=1))["als"].trials
    assert [trial.number for trial in other] == [0]


def test_an_open_regularization_is_chosen_before_anything_is_fitted() -> None:
    ratings, table = tastes(), table_of()
    given = measure(ratings, JobContext(table, RECIPE, PROGRESS, HERE))
    assert (given.recipe, given.als_ndcg) == (RECIPE, {})
    chosen = measure(ratings, JobContext(table, replace(RECIPE, choose_regularization=True), PROGRESS, HERE))
    best = max(chosen.als_ndcg, key=lambda value: chosen.als_ndcg[value])
    assert chosen.recipe.als == replace(RECIPE.als, regularization=best)
    again = measure(
        ratings,
        JobContext(table, replace(chosen.recipe, choose_regularization=False), PROGRESS, HERE),
    )
    assert again.qualities["als"].means() == chosen.qualities["als"].means()


def test_the_regularization_of_ease_is_looked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other seeds, and the gate, meet it again."""
    job = replace(JOB, checkpoints=Checkpoints(tmp_path))
    first, second = (measure(tastes(), job.part(f"{seed}").with_recipe(seed=seed)) for seed in (0, 1))
    assert first.ease_ndcg
    assert second.ease_ndcg == first.ease_ndcg
    monkeypatch.setattr("training.experiments.experiment.choose_ease_regularization", None)
    assert measure(tastes(), job.part("gate")).ease_ndcg == first.ease_ndcg


def test_a_killed_job_fits_als_for_no_model_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = replace(JOB, checkpoints=Checkpoints(tmp_path))
    lists = measure(tastes(), job, variants=True).lists
    monkeypatch.setattr("training.models.als_shards._HalfStep", None)
    again = measure(tastes(), job, variants=True).lists
    for model, found in lists.items():
        assert [rows.tolist() for rows in again[model]] == [rows.tolist() for rows in found], model


def test_users_with_short_histories_get_what_is_popular_from_either_ranker() -> None:
    """Else a lift of one over the other would tell of who gets what is popular."""
    ratings = tastes()
    longest = int(ratings.counts().max())
    lists = measure(ratings, JOB.with_recipe(least_history=longest + 1), variants=True).lists
    for model in ("two_stage", "two_stage_reference"):
        for ours, popular in zip(lists[model], lists["popularity"], strict=True):
            assert ours.tolist() == popular.tolist()
