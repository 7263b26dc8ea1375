"""EASE and item-kNN against dense recomputes; users held out whole."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from serving.ids import IdMap
from serving.ratings import Ratings
from tests.training.small import JOB, ratings_of
from training.checkpoints import Checkpoints
from training.data.ease import Ease, likes
from training.evaluation.splits import SplitProtocol, split
from training.experiments.baselines import baseline_lists, choose_ease_regularization, lists_by_scores
from training.experiments.held_out_users import strong_generalisation
from training.models.item_knn import ItemKnn
from training.models.recipe import DEFAULT_PARAMETERS


def random_ratings(n_users: int, n_movies: int) -> Ratings:
    """About half of all pairs; the last movie is never liked."""
    rng = np.random.default_rng(n_users)
    rated = rng.random((n_users, n_movies)) < 0.5
    stars = rng.integers(1, 6, rated.shape).astype(np.float32)
    stars[:, -1] = 1.0
    movie_rows = np.nonzero(rated)[1].astype(np.int32)
    return Ratings(
        users=IdMap(range(1, n_users + 1)),
        indptr=np.concatenate([[0], np.cumsum(rated.sum(axis=1))]),
        movie_rows=movie_rows,
        values=stars[rated],
        times=np.arange(movie_rows.size, dtype=np.int64),
    )


def dense_likes(ratings: Ratings, n_movies: int) -> npt.NDArray[np.float64]:
    matrix = np.zeros((len(ratings.users), n_movies))
    liked = ratings.values >= 4
    matrix[ratings.user_rows()[liked], ratings.movie_rows[liked]] = 1
    return matrix


@pytest.mark.parametrize(("n_users", "n_movies"), [(9, 20), (40, 8)], ids=["few users", "few movies"])
def test_ease_equals_the_closed_form(n_users: int, n_movies: int) -> None:
    ratings = random_ratings(n_users, n_movies)
    x = dense_likes(ratings, n_movies)
    p = np.linalg.inv(x.T @ x + 7.0 * np.eye(n_movies))
    weights = -p / np.diag(p)
    np.fill_diagonal(weights, 0.0)
    model = Ease.fit(ratings, n_movies, 7.0)
    scores = model.scores(likes(ratings, n_movies))
    known = x.sum(axis=0) > 0
    np.testing.assert_allclose(scores[:, known], (x @ weights)[:, known], atol=1e-12)
    assert not known[-1]
    assert np.all(scores[:, ~known] == -np.inf)


def test_item_knn_sums_cosines_with_liked_movies() -> None:
    ratings = random_ratings(12, 9)
    x = dense_likes(ratings, 9)
    unit = x / np.maximum(np.linalg.norm(x, axis=0), 1)
    scores = ItemKnn.fit(ratings, 9).scores(likes(ratings, 9))
    known = x.sum(axis=0) > 0
    np.testing.assert_allclose(scores[:, known], (x @ (unit.T @ unit))[:, known], atol=1e-12)
    assert np.all(scores[:, ~known] == -np.inf)


def test_lists_hold_unseen_movies_best_first() -> None:
    judged = split(random_ratings(30, 12), SplitProtocol.USER)
    scores = np.tile(np.arange(12.0), (30, 1))
    lists = lists_by_scores(judged, lambda rows: scores[rows], 300)
    for user_row, found in zip(judged.users, lists, strict=True):
        seen = judged.train.of(int(user_row)).movie_rows
        assert found.tolist() == sorted(set(range(12)) - set(seen.tolist()), reverse=True)


def test_regularization_is_chosen_on_the_past_alone() -> None:
    ratings = random_ratings(30, 12)
    test = split(ratings, SplitProtocol.USER)
    chosen = choose_ease_regularization(test.train, 12, SplitProtocol.USER)
    assert set(baseline_lists(test, 12, chosen, limit=300)) == {"popularity", "item_knn", "ease"}


def test_baselines_are_skipped_beyond_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.experiments.baselines.MOST_MOVIES", 5)
    test = split(random_ratings(30, 12), SplitProtocol.USER)
    assert choose_ease_regularization(test.train, 12, SplitProtocol.USER) == {}
    assert set(baseline_lists(test, 12, {}, limit=300)) == {"popularity"}


def test_held_out_users_are_served_from_their_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tastes that share no movie: who folds a history in finds the rest of the taste.

    A job that was killed fits nothing again.
    """
    rng = np.random.default_rng(0)
    movies = [rng.permutation(30)[:24] + 30 * (user % 2) for user in range(60)]
    ratings = ratings_of(*([(movie, 5.0, 0) for movie in liked] for liked in movies))
    job = replace(JOB.with_recipe(als=DEFAULT_PARAMETERS), checkpoints=Checkpoints.of(tmp_path, "evaluate"))
    found = strong_generalisation(ratings, job, {10.0: 1.0})
    assert found.users == 60
    assert found.recall["als"] == found.recall["ease"] == 1.0, "11 unseen movies of the taste, 20 places"
    assert found.recall["popularity"] < 0.9
    monkeypatch.setattr("training.models.als_shards._HalfStep", None)
    assert strong_generalisation(ratings, job, {10.0: 1.0}) == found
