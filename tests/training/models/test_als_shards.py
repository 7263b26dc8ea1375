"""ALS on shards against the equations of the paper, written out in full."""

import numpy as np
import pytest

from serving.fold_in import FoldIn
from tests.training.small import N_MOVIES, RECIPE, tastes
from training.engine.local import LocalEngine
from training.models import als_shards
from training.models.als_shards import UserShards, fit_on_shards


def test_shards_hold_the_histories_of_their_users() -> None:
    ratings = tastes()
    shards = UserShards(ratings, np.array([4, 0, 9], np.int32), users_per_shard=2)
    first, second = shards
    assert first["indptr"].tolist() == [0, 25, 50]
    assert first["movie_rows"].tolist() == [*ratings.of(4).movie_rows, *ratings.of(0).movie_rows]
    assert second["values"].tolist() == ratings.of(9).values.tolist()


@pytest.mark.parametrize("users_per_shard", [3, 1_000])
def test_item_factors_solve_the_normal_equations(
    users_per_shard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(als_shards, "_USERS_PER_SHARD", users_per_shard)
    monkeypatch.setattr(als_shards, "_BYTES_PER_BLOCK", 5_000)
    ratings, parameters = tastes(), RECIPE.als
    iterations: list[None] = []
    found = fit_on_shards(
        LocalEngine(2), ratings, N_MOVIES, parameters, seed=3, progress=lambda: iterations.append(None)
    )
    assert len(iterations) == parameters.iterations

    rated = np.unique(ratings.movie_rows)
    factors = np.zeros((N_MOVIES, parameters.factors), np.float32)
    factors[rated] = np.random.default_rng(3).normal(0, 0.01, (rated.size, parameters.factors))
    for _ in iterations:
        fold_in = FoldIn(factors, parameters)
        users = np.zeros((len(ratings.users), parameters.factors))
        for row in range(len(users)):
            vector = fold_in.user_vector(ratings.of(row))
            users[row] = 0 if vector is None else vector
        rows, confidences = ratings.user_rows(), parameters.confidences(ratings.values)
        for movie in rated:
            of_movie = ratings.movie_rows == movie
            c = np.ones(len(users))
            c[rows[of_movie]] = confidences[of_movie]
            p = np.bincount(rows[of_movie], minlength=len(users))
            system = users.T @ np.diag(c) @ users + parameters.regularization * np.eye(parameters.factors)
            factors[movie] = np.linalg.solve(system, users.T @ np.diag(c) @ p)
    np.testing.assert_allclose(found, factors, rtol=1e-3, atol=1e-4)
    assert not found[np.setdiff1d(np.arange(N_MOVIES), rated)].any()
