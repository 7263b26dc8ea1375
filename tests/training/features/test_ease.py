"""The largest weights of EASE, against its closed form."""

import numpy as np
import numpy.typing as npt
import pytest

from serving.ratings import LIKED
from tests.training.small import N_MOVIES, ratings_of, table_of, tastes
from training.engine.local import LocalEngine
from training.features import ease


def closed_form(n_movies: int) -> npt.NDArray[np.float64]:
    """B of the likes of `tastes`, with λ = 200."""
    ratings = tastes()
    likes = np.zeros((len(ratings.users), n_movies))
    liked = ratings.values >= LIKED
    likes[ratings.user_rows()[liked], ratings.movie_rows[liked]] = 1
    inverse = np.linalg.inv(likes.T @ likes + 200 * np.eye(n_movies))
    weights: npt.NDArray[np.float64] = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


@pytest.mark.parametrize("kept", [7, 100], ids=["some weights", "all"])
def test_the_largest_weights_to_each_movie(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    monkeypatch.setattr(ease, "_WEIGHTS_PER_MOVIE", kept)
    monkeypatch.setattr(ease, "_MOVIES_PER_BLOCK", 7)
    built = ease.build(tastes(), table_of(), LocalEngine(2))
    expected = closed_form(N_MOVIES)
    for movie in range(N_MOVIES):
        sources, weights = built["sources"][movie], built["weights"][movie]
        np.testing.assert_allclose(weights, expected[sources, movie], atol=1e-7)
        if weights.any():
            assert np.unique(sources).size == sources.size
            others = np.delete(np.abs(expected[:, movie]), sources)
            assert others.max(initial=0) <= np.abs(weights).min() + 1e-7
        else:
            assert not expected[:, movie].any()


def test_only_the_most_liked_movies_have_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "_MOST_MOVIES", 2)
    users = [[(0, 5.0, 1), (1, 5.0, 2), (2, 5.0, 3)], [(2, 5.0, 1), (1, 5.0, 2)], [(1, 2.0, 1)]]
    built = ease.build(ratings_of(*users), table_of(4), LocalEngine(2))
    assert (built["weights"] != 0).any(axis=1).tolist() == [False, True, True, False]
    assert built["sources"].dtype == np.dtype(np.int32)
    assert built["weights"].dtype == np.dtype(np.float32)


def test_nobody_likes_anything() -> None:
    built = ease.build(ratings_of([(0, 1.0, 1)], [(1, 2.0, 1)]), table_of(3), LocalEngine(2))
    assert built["weights"].shape == built["sources"].shape == (3, 0)
