"""Lists of the models that nobody serves: what a recommender must beat to be worth its trouble."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.ids import Rows
from serving.ratings import Ratings
from training.data.ease import MOST_MOVIES, Ease, likes
from training.data.popularity import MovieStatistics, popularity
from training.evaluation.judging import mean_ndcg
from training.evaluation.splits import Split, SplitProtocol
from training.experiments.regularization import best_regularization, search_grid, validation_part
from training.models.item_knn import ItemKnn
from training.models.lists import best_unseen
from training.models.svd import Svd

_EASE_START: Final = 200.0
_JUDGED: Final = 10
_USERS_PER_BLOCK: Final = 256

Scorer = Callable[[Rows], npt.NDArray[np.float64]]
"""Scores of some user rows, shape (n_user_rows, n_movies); -inf for what must not be recommended."""


def choose_ease_regularization(past: Ratings, n_movies: int, protocol: SplitProtocol) -> dict[float, float]:
    """Judges EASE with each λ of a grid on a validation part.

    Returns:
        nDCG@10 by λ, ascending; empty where EASE is not fitted, as more than 10,000 movies are rated.
    """
    if np.unique(past.movie_rows).size > MOST_MOVIES:
        return {}
    judged, _ = validation_part(past, protocol)
    return search_grid(
        judged,
        _EASE_START,
        lambda value: mean_ndcg(ease_lists(judged, n_movies, value, limit=_JUDGED), judged),
    )


def baseline_lists(
    judged: Split, n_movies: int, ease_ndcg: Mapping[float, float], *, limit: int
) -> dict[str, Sequence[Rows]]:
    """Lists of popularity, and of item-kNN and EASE if there is a λ to choose from: no seed changes them."""
    lists: dict[str, Sequence[Rows]] = {"popularity": popular_lists(judged, n_movies, limit=limit)}
    if ease_ndcg:
        own = likes(judged.train, n_movies)
        knn = ItemKnn.fit(judged.train, n_movies)
        lists["item_knn"] = lists_by_scores(judged, lambda rows: knn.scores(own[rows]), limit)
        lists["ease"] = ease_lists(judged, n_movies, best_regularization(ease_ndcg), limit=limit)
    return lists


def popular_lists(judged: Split, n_movies: int, *, limit: int) -> list[Rows]:
    """The most popular movies that each user has not seen."""
    scores = popularity(MovieStatistics.of(judged.train, n_movies))
    return lists_by_scores(judged, lambda rows: np.tile(scores, (rows.size, 1)), limit)


def svd_lists(judged: Split, n_movies: int, seed: int, *, limit: int) -> list[Rows]:
    """The movies that truncated SVD expects the highest stars of."""
    model = Svd.fit(judged.train, n_movies, seed=seed)
    unrated = np.bincount(judged.train.movie_rows, minlength=n_movies) == 0
    return lists_by_scores(judged, lambda rows: np.where(unrated, -np.inf, model.scores(rows)), limit)


def ease_lists(judged: Split, n_movies: int, regularization: float, *, limit: int) -> list[Rows]:
    """The movies that EASE scores highest."""
    own = likes(judged.train, n_movies)
    model = Ease.fit(judged.train, n_movies, regularization)
    return lists_by_scores(judged, lambda rows: model.scores(own[rows]), limit)


def lists_by_scores(judged: Split, scorer: Scorer, limit: int) -> list[Rows]:
    """Each judged user's best movies, at most `limit`, seen ones left out."""
    lists = []
    for start in range(0, judged.users.size, _USERS_PER_BLOCK):
        users = judged.users[start : start + _USERS_PER_BLOCK]
        for scores, user_row in zip(scorer(users), users, strict=True):
            lists.append(best_unseen(scores, judged.train.of(int(user_row)).movie_rows, limit))
    return lists
