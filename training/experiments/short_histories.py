"""From how many ratings on a new user is served better than by what is popular."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.features.group import FeatureQuery
from serving.fold_in import FoldIn
from serving.ids import Rows
from serving.ratings import LIKED, History, Ratings
from serving.retrieval import best_first, retrieve
from training.checkpoints import Arrays
from training.data.popularity import MovieStatistics, popularity
from training.evaluation.judging import Lift, lift_of
from training.evaluation.metrics import ndcg
from training.models.first_stage import FirstStage, fit_first_stage
from training.models.job_context import JobContext
from training.models.lists import best_unseen
from training.models.two_stage import TwoStage

LENGTHS: Final = (1, 2, 3, 5, 10, 20)
"""Ratings that are known of a user."""
_PARTS: Final = 5
_MOST_JUDGED: Final = 400
_LEAST_JUDGED: Final = 20
"""With fewer, a bootstrap interval is narrower than it should be."""
_JUDGED: Final = 10


@dataclass(frozen=True)
class ShortHistories:
    """How new users are served, by the number of their ratings that are known."""

    over_popularity: Mapping[int, Lift]
    """Of two-stage, by number of ratings; those with at least 20 users to judge by."""

    @property
    def least_history(self) -> int:
        """Ratings below which popularity serves users better, beyond chance; 0 where it never does."""
        least = 0
        for length, lift in self.over_popularity.items():
            if lift.high >= 0:
                break
            least = length + 1
        return least


def measure_short_histories(past: Ratings, two_stage: TwoStage, job: JobContext) -> ShortHistories:
    """Holds a fifth of the users out whole and judges lists for the first few ratings of each.

    What each liked later is relevant, of movies that the others have rated. Stage one is fitted on the others
    alone; the ranker is the one at hand, which tells users apart by their histories only.

    Args:
        past: all but the test part.
        two_stage: whose ranker is taken.
        job: the two-stage recommender's.
    """

    def judged() -> Arrays:
        return {str(length): values for length, values in _ndcg(past, two_stage, job).items()}

    found = job.checkpoints.step("short-histories", judged)
    return ShortHistories(
        {
            int(length): lift_of(values[0], values[1], model="two_stage", over="popularity")
            for length, values in found.items()
            if values.shape[1] >= _LEAST_JUDGED
        }
    )


def _ndcg(past: Ratings, two_stage: TwoStage, job: JobContext) -> dict[int, npt.NDArray[np.float64]]:
    """By length, nDCG@10 of two-stage and of popularity, shape (2, n_users)."""
    rng = np.random.default_rng(job.recipe.seed)
    held_out = rng.permutation(len(past.users)) % _PARTS == 0
    others = past.where(np.repeat(~held_out, past.counts()))
    if not len(others):
        return {}
    no_users = np.empty(0, np.int32)  # the others are only learned from
    stage = fit_first_stage(others, job, "the past without some users", users=no_users)
    lists = _Lists(stage, two_stage, popularity(MovieStatistics.of(others, job.n_movies)))
    known = np.bincount(others.movie_rows, minlength=job.n_movies) > 0
    users = np.flatnonzero(held_out).astype(np.int32)[:_MOST_JUDGED]
    found: dict[int, list[tuple[float, float]]] = {length: [] for length in LENGTHS}
    with job.progress.step("New users, by number of ratings", users.size) as advance:
        for user_row in users.tolist():
            for length, history, relevant in _beginnings(past.of(user_row), known):
                ours, popular = lists.of(history)
                found[length].append((ndcg(ours, relevant, _JUDGED), ndcg(popular, relevant, _JUDGED)))
            advance()
    return {length: np.array(values, np.float64).reshape(-1, 2).T for length, values in found.items()}


def _beginnings(everything: History, known: npt.NDArray[np.bool_]) -> Iterator[tuple[int, History, Rows]]:
    """The first ratings of a user, and the known movies liked later, for each length with both."""
    rows, values, times = everything.movie_rows, everything.values, everything.times
    for length in LENGTHS:
        later = rows[length:]
        relevant = later[(values[length:] >= LIKED) & known[later]]
        if relevant.size:
            yield length, History(rows[:length], values[:length], times[:length]), relevant


@dataclass(frozen=True)
class _Lists:
    """The first movies that a new user is shown."""

    stage: FirstStage
    two_stage: TwoStage
    popularity: npt.NDArray[np.float64]

    @cached_property
    def _fold_in(self) -> FoldIn:
        return FoldIn(self.stage.als.item_factors, self.stage.als.parameters)

    def of(self, history: History) -> tuple[Rows, Rows]:
        """By two-stage, and by popularity, which is also what a user without a vector gets."""
        popular = best_unseen(self.popularity, history.movie_rows, _JUDGED)
        item_factors, n = self.stage.als.item_factors, self.stage.n_candidates
        vector = self._fold_in.user_vector(history)
        if vector is None:
            return popular, popular
        blocked = ~np.any(item_factors, axis=1)
        blocked[history.movie_rows] = True
        (of_als,) = retrieve(item_factors, vector[None], [blocked], [n])
        found = self.stage.sources.fuse(of_als, vector, history, blocked, depth=n, limit=n)
        if not found.movie_rows.size:
            return popular, popular
        features = self.stage.tables.compute(
            [FeatureQuery(history, found.movie_rows, found.scores, source_ranks=found.source_ranks)]
        )
        scores = self.two_stage.scores(features)
        return found.movie_rows[best_first(scores, found.movie_rows)[:_JUDGED]], popular
