"""From how many ratings on a new user is served better than by what is popular."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.ids import IdMap, Rows
from serving.ratings import LIKED, History, Ratings
from training.checkpoints import Arrays
from training.data.popularity import MovieStatistics, popularity
from training.evaluation.judging import Lift, lift_of, ndcg_at_10
from training.evaluation.splits import Split
from training.models.als import Als
from training.models.first_stage import FirstStage
from training.models.job_context import JobContext
from training.models.lists import best_unseen, else_popular
from training.models.two_stage import TwoStage

LENGTHS: Final = (1, 2, 3, 5, 10, 20)
"""Ratings that are known of a user."""
_PARTS: Final = 5
_MOST_JUDGED: Final = 400
_LEAST_JUDGED: Final = 20
"""With fewer, a bootstrap interval is narrower than it should be."""


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
    alone; the ranker is that of `two_stage`, which tells users apart by their histories only. `past` is all
    but the test part.
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
    known = np.bincount(others.movie_rows, minlength=job.n_movies) > 0
    users = rng.permutation(np.flatnonzero(held_out))[:_MOST_JUDGED].tolist()
    beginnings = [one for user_row in users for one in _beginnings(past.of(user_row), known)]
    if not beginnings:
        return {}
    no_users = np.empty(0, np.int32)  # the others are only learned from
    stage = FirstStage.fit(others, job, "the past without some users", users=no_users)
    lengths, histories, relevant = zip(*beginnings, strict=True)
    # As many users, each known by nothing but a beginning.
    new = Ratings(
        users=IdMap(range(1, len(histories) + 1)),
        indptr=np.cumsum([0, *lengths]),
        movie_rows=np.concatenate([one.movie_rows for one in histories]),
        values=np.concatenate([one.values for one in histories]),
        times=np.concatenate([one.times for one in histories]),
    )
    judged = Split(new, np.arange(len(histories), dtype=np.int32), relevant, eligible=len(histories))
    with job.progress.step("New users, by number of ratings", len(histories)) as advance:
        als = Als.of_items(stage.als.item_factors, new, stage.als.parameters, engine=job.engine)
        of_new = replace(two_stage, stage=replace(stage, ratings=new, als=als))
        scores = popularity(MovieStatistics.of(others, job.n_movies))
        popular = [best_unseen(scores, one.movie_rows, 10) for one in histories]
        ours = else_popular(of_new.recommend(judged.users, advance), popular)
    found = np.array([ndcg_at_10(lists, judged) for lists in (ours, popular)])
    return {length: found[:, np.array(lengths) == length] for length in LENGTHS}


def _beginnings(everything: History, known: npt.NDArray[np.bool_]) -> Iterator[tuple[int, History, Rows]]:
    """The first ratings of a user, and the known movies liked later, for each length with both."""
    rows, values, times = everything.movie_rows, everything.values, everything.times
    for length in LENGTHS:
        later = rows[length:]
        relevant = later[(values[length:] >= LIKED) & known[later]]
        if relevant.size:
            yield length, History(rows[:length], values[:length], times[:length]), relevant
