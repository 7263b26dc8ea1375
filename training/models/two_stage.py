"""The two-stage recommender: sources offer candidates, CatBoost orders; trained without looking ahead."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from catboost import CatBoost

from serving.ids import Rows
from serving.ratings import Ratings
from serving.retrieval import best_first
from training.checkpoints import Arrays
from training.models.first_stage import FirstStage
from training.models.job_context import JobContext
from training.models.ranker import Groups, fit_ranker, mean_ranker, model_bytes, model_of, ranker_seeds
from training.models.ranker_groups import ranker_groups
from training.models.ranker_selection import RankerChoice

_USERS_PER_PREDICTION: Final = 100


@dataclass(frozen=True)
class TwoStage:
    """A trained recommender."""

    stage: FirstStage
    ranker: CatBoost
    choice: RankerChoice
    groups: int
    """Groups that the ranker learned from."""
    inner_scores: npt.NDArray[np.float32]
    """ALS scores of candidates in the inner cuts, of some users: what the ranker learned to read."""

    def recommend(self, user_rows: Rows, progress: Callable[[], None] = lambda: None) -> list[Rows]:
        """Every candidate of each user, best first, as the servers order them."""
        return [ranked for _, ranked in self.rankings(user_rows, progress)]

    def rankings(self, user_rows: Rows, progress: Callable[[], None]) -> Iterator[tuple[Rows, Rows]]:
        """Every candidate of each user, in the order of stage one and in that of the servers."""
        for start in range(0, len(user_rows), _USERS_PER_PREDICTION):
            users = user_rows[start : start + _USERS_PER_PREDICTION]
            found = list(self.stage.candidates(users))
            scores = self.scores(self.stage.features(users.tolist(), found))
            ends = np.cumsum([own.movie_rows.size for own in found])
            for own, own_scores in zip(found, np.split(scores, ends[:-1]), strict=True):
                yield own.movie_rows, own.movie_rows[best_first(own_scores, own.movie_rows)]
                progress()

    def scores(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The ranker's scores of feature rows, shape (n_rows,)."""
        if not len(features):
            return np.empty(0)
        scores: npt.NDArray[np.float64] = self.ranker.predict(
            features, prediction_type="RawFormulaVal", thread_count=1
        )
        return scores


def fit_two_stage(
    past: Ratings, job: JobContext, choice: RankerChoice, *, users: Rows | None = None
) -> TwoStage:
    """Trains on `past` alone; `users` are the rows of those whom it will recommend to, or None for all."""
    groups, inner_scores = ranker_groups(past, job)
    ranker = _fit_ranker(groups, job, choice)
    stage = FirstStage.fit(past, job, "all of the past", users=users)
    return TwoStage(
        stage=stage,
        ranker=ranker,
        choice=choice,
        groups=np.unique(groups.group_ids).size,
        inner_scores=inner_scores,
    )


def _fit_ranker(groups: Groups, job: JobContext, choice: RankerChoice) -> CatBoost:
    seeds = ranker_seeds(job.recipe.seed)

    def trees() -> Arrays:
        rankers = [fit_ranker(groups, choice.loss, choice.iterations, job, seed=seed) for seed in seeds]
        return {"cbm": model_bytes(mean_ranker(rankers))}

    with job.progress.step(f"Ranker: {len(seeds)} times {choice.iterations} trees, {choice.loss}"):
        # Always by way of its bytes: a resumed job must end with those of an uninterrupted one.
        return model_of(job.checkpoints.step("ranker", trees)["cbm"])
