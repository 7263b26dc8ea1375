"""ALS on shards against implicit's own fit."""

import numpy as np
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix

from tests.training.small import N_MOVIES, RECIPE, tastes
from training.engine.local import LocalEngine
from training.models import als_shards
from training.models.als_shards import UserShards, fit_item_factors


def test_shards_hold_the_histories_of_their_users() -> None:
    ratings = tastes()
    shards = UserShards(ratings, np.array([4, 0, 9], np.int32), users_per_shard=2)
    first, second = shards
    assert first["indptr"].tolist() == [0, 25, 50]
    assert first["movie_rows"].tolist() == [*ratings.of(4).movie_rows, *ratings.of(0).movie_rows]
    assert second["values"].tolist() == ratings.of(9).values.tolist()


@pytest.mark.parametrize("ratings_per_shard", [1, 60, 1_000_000])
def test_item_factors_have_the_bits_of_implicits_own_fit(
    ratings_per_shard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(als_shards, "_RATINGS_PER_SHARD", ratings_per_shard)
    ratings, parameters = tastes(), RECIPE.als
    n_movies = N_MOVIES + 2  # which nobody has rated
    iterations: list[None] = []
    found = fit_item_factors(
        ratings, n_movies, parameters, seed=3, engine=LocalEngine(2), progress=lambda: iterations.append(None)
    )
    assert len(iterations) == parameters.iterations

    model = AlternatingLeastSquares(
        factors=parameters.factors,
        regularization=parameters.regularization,
        alpha=1.0,  # ours is in the confidences
        iterations=parameters.iterations,
        random_state=3,
    )
    confidences = parameters.confidences(ratings.values)
    shape = (len(ratings.users), n_movies)
    model.fit(csr_matrix((confidences, ratings.movie_rows, ratings.indptr), shape), show_progress=False)
    assert found.tobytes() == model.item_factors.tobytes()
    assert not found[N_MOVIES:].any()
