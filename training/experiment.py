"""One honest measurement: split, fit every model on the past, judge all on the same future."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.ids import Rows
from serving.ratings import Ratings
from serving.retrieval import best_first
from training.evaluation import Quality, judge
from training.models.first_stage import CANDIDATES
from training.models.popularity import MovieStatistics, popularity
from training.models.svd import Svd
from training.models.two_stage import RankerChoice, Recipe, fit_two_stage, inner_cuts
from training.progress import Progress
from training.ratings import MovieTable
from training.splits import Protocol, Split, split

_ENOUGH_USERS: Final = 300


@dataclass(frozen=True)
class Measurement:
    """What one seed of a recipe reached."""

    recipe: Recipe
    choice: RankerChoice
    groups: int
    judged_users: int
    qualities: Mapping[str, Quality]
    """By model: popularity, svd, als, two_stage."""


def production_protocol(ratings: Ratings) -> Protocol:
    """`time` where that leaves enough users to learn from and to judge by, else `user`.

    Production recommends for the future, so cutting by time is closer to it; with few users in it, it
    says nothing.
    """
    judged = split(ratings, Protocol.TIME)
    groups = sum(cut.users.size for cut in inner_cuts(judged.past, Protocol.TIME))
    enough = min(judged.users.size, groups) >= _ENOUGH_USERS
    return Protocol.TIME if enough else Protocol.USER


def measure(ratings: Ratings, table: MovieTable, recipe: Recipe, progress: Progress) -> Measurement:
    """Fits the models on the past and judges them on the future, by the recipe's protocol."""
    test = split(ratings, recipe.protocol)
    two_stage = fit_two_stage(test.past, table, recipe, progress)
    n_movies = len(table.movies.ids)
    with progress.step("Baselines"):
        lists = {
            "popularity": _popularity_lists(test, n_movies),
            "svd": _svd_lists(test, n_movies, recipe.seed),
            "als": [found.movie_rows for found in two_stage.stage.candidates(test.users)],
        }
    with progress.step("Two-stage recommendations", test.users.size) as advance:
        lists["two_stage"] = two_stage.recommend(test.users, advance)
    # A user without a vector gets popularity from the gateway: what is served is what is judged.
    for model in ("als", "two_stage"):
        lists[model] = [
            ours if ours.size else popular
            for ours, popular in zip(lists[model], lists["popularity"], strict=True)
        ]
    return Measurement(
        recipe=recipe,
        choice=two_stage.choice,
        groups=two_stage.groups,
        judged_users=test.users.size,
        qualities={model: judge(found, test, candidates=CANDIDATES) for model, found in lists.items()},
    )


def measure_seeds(
    ratings: Ratings, table: MovieTable, recipe: Recipe, seeds: Iterable[int], progress: Progress
) -> list[Measurement]:
    """One measurement per seed of the recipe."""
    return [measure(ratings, table, replace(recipe, seed=seed), progress) for seed in seeds]


def _popularity_lists(test: Split, n_movies: int) -> list[Rows]:
    scores = popularity(MovieStatistics.of(test.past, n_movies))
    return [_best_unseen(scores.copy(), test, user_row) for user_row in test.users]


def _svd_lists(test: Split, n_movies: int, seed: int) -> list[Rows]:
    model = Svd.fit(test.past, n_movies, seed=seed)
    rated = np.bincount(test.past.movie_rows, minlength=n_movies) > 0
    lists = []
    for user_row in test.users:
        scores = model.scores(np.array([user_row], dtype=np.int32))[0]
        lists.append(_best_unseen(np.where(rated, scores, -np.inf), test, user_row))
    return lists


def _best_unseen(scores: npt.NDArray[np.float64], test: Split, user_row: np.int32) -> Rows:
    """The candidates' number of best movies that the user has not seen; overwrites `scores`."""
    scores[test.past.of(int(user_row)).movie_rows] = -np.inf
    rows = np.flatnonzero(scores > -np.inf).astype(np.int32)
    return rows[best_first(scores[rows], rows)[:CANDIDATES]]
