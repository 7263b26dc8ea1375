"""The two-stage recommender: ALS retrieves, CatBoost re-orders; trained without looking ahead."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from catboost import CatBoost

from serving.ids import Rows
from serving.ratings import Ratings
from serving.retrieval import best_first
from training.checkpoints import NO_WORK, Arrays, Work
from training.data.movielens.movies import MovieTable
from training.models.first_stage import FirstStage, fit_first_stage
from training.models.ranker import model_bytes, model_of
from training.models.ranker_groups import ranker_groups
from training.models.ranker_selection import RankerChoice, choose_ranker, fit_trees
from training.models.recipe import Recipe
from training.progress import Progress

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
        lists: list[Rows] = []
        for start in range(0, len(user_rows), _USERS_PER_PREDICTION):
            users = user_rows[start : start + _USERS_PER_PREDICTION]
            found = list(self.stage.candidates(users))
            features = [self.stage.features(int(user), own) for user, own in zip(users, found, strict=True)]
            scores = self._scores(np.concatenate(features))
            ends = np.cumsum([own.movie_rows.size for own in found])
            for own, own_scores in zip(found, np.split(scores, ends[:-1]), strict=True):
                lists.append(own.movie_rows[best_first(own_scores, own.movie_rows)])
                progress()
        return lists

    def _scores(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        if not len(features):
            return np.empty(0)
        scores: npt.NDArray[np.float64] = self.ranker.predict(
            features, prediction_type="RawFormulaVal", thread_count=1
        )
        return scores


def fit_two_stage(
    past: Ratings,
    table: MovieTable,
    recipe: Recipe,
    progress: Progress,
    choice: RankerChoice | None = None,
    *,
    work: Work = NO_WORK,
    users: Rows | None = None,
) -> TwoStage:
    """Trains on `past` alone.

    Args:
        past: what may be learned from.
        table: the catalogue.
        recipe: how.
        progress: shows the steps.
        choice: loss and trees; chosen on held-out groups when None.
        work: steps that were finished before, and where to keep those to come.
        users: rows of those whom it will recommend to; all when None.
    """
    groups, inner_scores = ranker_groups(past, table, recipe, progress, work)
    if choice is None:
        choice = choose_ranker(groups, recipe, progress, work)

    def trees() -> Arrays:
        return {"cbm": model_bytes(fit_trees(groups, choice.loss, choice.iterations, recipe))}

    with progress.step(f"Ranker: {choice.iterations} trees, {choice.loss}"):
        # Always by way of its bytes: a resumed job must end with those of an uninterrupted one.
        ranker = model_of(work.step("ranker", trees)["cbm"])
    stage = fit_first_stage(past, table, recipe, progress, "all of the past", work=work, users=users)
    return TwoStage(
        stage=stage,
        ranker=ranker,
        choice=choice,
        groups=np.unique(groups.group_ids).size,
        inner_scores=inner_scores,
    )
