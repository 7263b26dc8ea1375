"""ALS on shards against implicit's own fit."""

import numpy as np
import pytest

from tests.training.models.test_models import implicits_own_fit
from tests.training.small import N_MOVIES, RECIPE, tastes
from training.engine.local import LocalEngine
from training.models import als_shards
from training.models.als_shards import fit_item_factors, histories


def test_shards_hold_the_histories_of_their_users() -> None:
    ratings = tastes()
    shards = histories(ratings, np.array([4, 0, 9], np.int32), users_per_shard=2)
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
    expected = implicits_own_fit(ratings, parameters.confidences(ratings.values), n_movies)
    assert found.tobytes() == expected.tobytes()
    assert not found[N_MOVIES:].any()
