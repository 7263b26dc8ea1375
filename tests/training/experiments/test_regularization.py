"""λ is chosen by what a validation part says, on a grid that goes where the best is."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.ratings import Ratings
from tests.training.small import JOB, N_MOVIES, RECIPE, ratings_of, table_of, tastes
from training.checkpoints import Checkpoints
from training.engine.local import LocalEngine
from training.evaluation.judging import mean_ndcg
from training.evaluation.splits import Split, SplitProtocol, judged_split, split
from training.experiments import regularization
from training.experiments.regularization import (
    GRID_FACTOR,
    MOST_WIDENINGS,
    best_regularization,
    choose_als_regularization,
    search_grid,
    validation_part,
)
from training.models import als
from training.models.als import Als

SOMEBODY = split(tastes(), SplitProtocol.USER)
NOBODY = SOMEBODY.only(np.array([], dtype=np.int64))


def peak_at(best: float) -> Callable[[float], float]:
    return lambda value: -abs(math.log(value / best))


@pytest.mark.parametrize("best", [30.0, 1.0, 300.0, 2_000.0])
def test_a_grid_widens_until_its_best_is_inside(best: float) -> None:
    found = search_grid(SOMEBODY, 30.0, peak_at(best))
    chosen = best_regularization(found)
    assert min(found) < chosen < max(found)
    assert max(chosen / best, best / chosen) <= math.sqrt(GRID_FACTOR) * (1 + 1e-9)
    assert list(found) == sorted(found)


@pytest.mark.parametrize("growing", [1.0, -1.0])
def test_a_grid_without_a_best_ends(growing: float) -> None:
    found = search_grid(SOMEBODY, 30.0, lambda value: growing * value)
    assert len(found) == 3 + MOST_WIDENINGS
    assert best_regularization(found) == (max(found) if growing > 0 else min(found))


def test_a_part_that_tells_nothing_keeps_what_there_was() -> None:
    found = search_grid(SOMEBODY, 30.0, lambda _: 0.25)
    assert found == {15.0: 0.25, 30.0: 0.25, 60.0: 0.25}
    assert best_regularization(found) == 30.0


def test_nobody_to_judge_by_keeps_what_there_was() -> None:
    assert search_grid(NOBODY, 30.0, peak_at(1.0)) == {30.0: 0.0}


def test_few_users_after_one_moment_are_replaced_by_each_users_last_ratings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    past = tastes()
    by_user, by_time = split(past, SplitProtocol.USER), split(past, SplitProtocol.TIME)
    assert by_time.users.size < by_user.users.size
    assert validation_part(past, SplitProtocol.TIME)[0].users.tolist() == by_user.users.tolist()
    monkeypatch.setattr(regularization, "ENOUGH_USERS", 1)
    assert validation_part(past, SplitProtocol.TIME)[0].users.tolist() == by_time.users.tolist()


def noisy(n_users: int, n_movies: int) -> Ratings:
    """Everybody likes by popularity alone, in random order: the less a model learns of users, the better."""
    rng = np.random.default_rng(0)
    weights = 1.0 / np.arange(1, n_movies + 1) ** 0.8
    liked = [rng.choice(n_movies, 20, replace=False, p=weights / weights.sum()) for _ in range(n_users)]
    return ratings_of(*([(movie, 5.0, time) for time, movie in enumerate(movies)] for movies in liked))


def als_ndcg(judged: Split, n_movies: int, value: float) -> float:
    parameters = replace(RECIPE.als, regularization=value)
    als = Als.fit(judged.train, n_movies, parameters, seed=0, engine=LocalEngine(1), users=judged.users)
    found = als.candidates(judged.users, judged.train, 300)
    return mean_ndcg([one.movie_rows for one in found], judged)


def test_als_finds_a_regularization_ten_times_that_of_the_recipe() -> None:
    """And it is right: on the test part, which it never saw, it is better than where the grid began."""
    ratings = noisy(400, 200)
    test = judged_split(ratings, SplitProtocol.USER)
    tried = choose_als_regularization(test.train, replace(JOB, table=table_of(200)))
    chosen = best_regularization(tried)
    assert chosen >= 10 * RECIPE.als.regularization
    assert als_ndcg(test, 200, chosen) > 1.1 * als_ndcg(test, 200, RECIPE.als.regularization)


def test_a_resumed_job_fits_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    past = tastes()

    def choose() -> dict[float, float]:
        return choose_als_regularization(past, replace(JOB, checkpoints=Checkpoints.of(tmp_path, "job")))

    first = choose()
    monkeypatch.setattr(als, "fit_item_factors", None)
    Als.fit(
        validation_part(past, SplitProtocol.USER)[0].train,
        N_MOVIES,
        replace(RECIPE.als, regularization=best_regularization(first)),
        seed=0,
        engine=LocalEngine(1),
        checkpoints=Checkpoints.of(tmp_path, "job"),
    )
    monkeypatch.setattr(Als, "fit", None)
    assert choose() == first
