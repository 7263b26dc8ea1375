"""Ratings small enough to check by hand, and somewhat larger ones with tastes to learn."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console

from serving.features.sets import FeatureSet
from serving.fold_in import AlsParameters, Confidence
from serving.ids import IdMap
from serving.movies import Movies
from serving.ratings import Ratings
from training.data.movielens.movies import MovieTable
from training.engine.local import LocalEngine
from training.evaluation.splits import SplitProtocol
from training.models.job_context import JobContext
from training.models.ranker_selection import RankerChoice
from training.models.recipe import Loss, RankerParameters, Recipe
from training.models.two_stage import fit_two_stage
from training.progress import Progress
from training.publish.publish import Build

N_MOVIES = 60
N_USERS = 50
PROGRESS = Progress(Console(quiet=True))

HERE = LocalEngine(2)

RECIPE = Recipe(
    als=AlsParameters(factors=8, iterations=5, regularization=1.0, alpha=5.0, confidence=Confidence.LIKES),
    ranker=RankerParameters(iterations=20, depth=3, negatives=10),
    feature_groups=FeatureSet.EXTENDED.groups,
    protocol=SplitProtocol.USER,
    seed=0,
    threads=1,
)


def ratings_of(*users: Sequence[tuple[int, float, int]]) -> Ratings:
    """Of users 1, 2, …: each a list of (movie row, stars, time), oldest first."""
    flat = [rating for user in users for rating in user]
    return Ratings(
        users=IdMap(range(1, len(users) + 1)),
        indptr=np.cumsum([0, *(len(user) for user in users)]),
        movie_rows=np.array([row for row, _, _ in flat], dtype=np.int32),
        values=np.array([stars for _, stars, _ in flat], dtype=np.float32),
        times=np.array([time for _, _, time in flat], dtype=np.int64),
    )


def tastes(*, seed: int = 0, n_users: int = N_USERS) -> Ratings:
    """Users who like every other movie of 58, odd ones or even ones, and dislike some of the rest."""
    rng = np.random.default_rng(seed)
    users = []
    for user in range(n_users):
        movies = rng.choice(N_MOVIES - 2, 25, replace=False)
        liked = (movies % 2 == user % 2) | (rng.random(25) < 0.1)
        times = np.sort(rng.integers(0, 10**8, 25))
        users.append(
            [
                (int(movie), 4.5 if likes else 2.0, int(time))
                for movie, likes, time in zip(movies, liked, times, strict=True)
            ]
        )
    return ratings_of(*users)


def table_of(n_movies: int = N_MOVIES) -> MovieTable:
    """Movies with ids 10, 20, …, of every genre and year in turn; the first has an unknown year."""
    rows = np.arange(n_movies)
    return MovieTable(
        movies=Movies(
            ids=IdMap(10 * (rows + 1)),
            years=np.where(rows == 0, 0, 1950 + rows % 60).astype(np.int16),
            genre_bits=(1 << rows % 20).astype(np.uint64),
        ),
        titles=tuple(f"Film {row}" for row in rows),
        title_lengths=(10 + rows).astype(np.int32),
        tmdb_ids=np.zeros(n_movies, dtype=np.int32),
    )


JOB = JobContext(table_of(), RECIPE, PROGRESS, HERE)


def build_of(
    ratings: Ratings | None = None,
    job: JobContext = JOB,
    *,
    loss: Loss = Loss.LOGLOSS,
    iterations: int = 5,
    **fields: Any,
) -> Build:
    """What a bundle is made from, trained anew each time: on `tastes` unless there are other ratings."""
    choice = RankerChoice(loss=loss, iterations=iterations, validation_ndcg={})
    two_stage = fit_two_stage(tastes() if ratings is None else ratings, job, choice)
    described: dict[str, Any] = {"table": job.table, "recipe": job.recipe, "dataset_tag": "tastes"}
    return Build(two_stage=two_stage, **{**described, "metrics": {}, **fields})


N_SPARSE_MOVIES = 400
SPARSE_JOB = JobContext(table_of(N_SPARSE_MOVIES), replace(RECIPE, n_candidates=100), PROGRESS, HERE)


def sparse(*, seed: int = 0) -> Ratings:
    """400 users who each like ten movies without any taste: some movies are simply watched more."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, N_SPARSE_MOVIES + 1)
    users = []
    for _ in range(400):
        movies = rng.choice(N_SPARSE_MOVIES, 10, replace=False, p=shares / shares.sum())
        users.append([(int(movie), 4.5, time) for time, movie in enumerate(movies, start=1)])
    return ratings_of(*users)
