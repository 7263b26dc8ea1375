"""How much each source of candidates weighs, chosen on a validation part by recall."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.features.sets import FeatureSet
from serving.ratings import Ratings
from serving.sources import ALS_ALONE, SourceWeights, fused
from training.checkpoints import Arrays
from training.evaluation.judging import interval
from training.evaluation.splits import Split
from training.experiments.regularization import validation_part
from training.models.first_stage import FirstStage
from training.models.job_context import JobContext

POPULARITY_ALONE: Final = SourceWeights(als=0.0, popularity=1.0)
_GRID: Final = (0.0, 0.25, 0.5, 1.0)
_MOST_JUDGED: Final = 1_000
_LEAST_JUDGED: Final = 20
"""With fewer, a bootstrap interval is narrower than it should be."""
_FOLDS: Final = 5


@dataclass(frozen=True)
class SourceChoice:
    """Which weights were tried, and which were taken."""

    recall: Mapping[SourceWeights, float]
    """By weights, recall at the number of candidates; empty where there were too few users to judge by."""
    chosen: SourceWeights
    low: float
    high: float
    """Ends of the paired 95 % interval of the gain over ALS alone. Each fifth of the users is judged with the
    weights that are best for the other four: the best of many on the same users is better by chance."""


def choose_source_weights(past: Ratings, job: JobContext) -> SourceChoice:
    """Merges the sources with all weights of a grid, and judges the candidates on a validation part.

    The weights with the best recall are taken where choosing by recall is better than ALS alone beyond
    chance, or where ALS alone is below popularity alone: candidates never hold less than what is popular
    does. Where fewer than 20 users judge, ALS stays alone.

    `past` is all but the test part, and the job has the λ of ALS that was chosen.
    """
    judged = validation_part(past, job.recipe.protocol)[0].sample(_MOST_JUDGED)
    if judged.users.size < _LEAST_JUDGED:
        return SourceChoice(recall={}, chosen=ALS_ALONE, low=0.0, high=0.0)
    grid = weights_grid(with_transitions=past.is_timed)

    def recalls() -> Arrays:
        return {"recall": recalls_by_user(judged, grid, job)}

    found = job.checkpoints.step("source-weights", recalls)["recall"]
    means = dict(zip(grid, found.mean(axis=1).tolist(), strict=True))
    best = max(means, key=means.__getitem__)
    low, high = interval(_best_of_others(found) - found[grid.index(ALS_ALONE)])
    pays = low > 0 or means[ALS_ALONE] < means[POPULARITY_ALONE]
    return SourceChoice(recall=means, chosen=best if pays else ALS_ALONE, low=low, high=high)


def _best_of_others(recall: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Each user's recall with the weights that are best for other folds; `recall` by weights and users."""
    fold_of = np.arange(recall.shape[1]) % _FOLDS
    found = np.empty(recall.shape[1])
    for fold in range(_FOLDS):
        is_out = fold_of == fold
        found[is_out] = recall[recall[:, ~is_out].mean(axis=1).argmax(), is_out]
    return found


def weights_grid(*, with_transitions: bool) -> list[SourceWeights]:
    """Each source weighs 0, 1/4, 1/2 or 1, and the strongest 1; ALS alone comes first.

    Where ratings have no order there are no transitions: nothing is soon after another.
    """
    grid = [
        SourceWeights(als, transitions, popularity)
        for popularity, transitions, als in product(_GRID, _GRID if with_transitions else (0.0,), _GRID)
        if max(als, transitions, popularity) == 1
    ]
    return sorted(grid, key=lambda weights: weights != ALS_ALONE)


def recalls_by_user(judged: Split, grid: Sequence[SourceWeights], job: JobContext) -> npt.NDArray[np.float64]:
    """Recall at the number of candidates with each weights of `grid`, shape (n_weights, n_users)."""
    every = SourceWeights(1.0, 1.0 if judged.train.is_timed else 0.0, 1.0)
    # No features are asked for: the reference's have the least arrays.
    asking_all = job.with_recipe(feature_groups=FeatureSet.REFERENCE.groups, sources=every)
    stage = FirstStage.fit(
        judged.train, asking_all, "what was before the validation part", users=judged.users
    )
    recalls = np.empty((len(grid), judged.users.size))
    offers_of = zip(stage.offers(judged.users), judged.relevant, strict=True)
    with job.progress.step("Sources of candidates, on a validation part", judged.users.size) as advance:
        for user, (found, relevant) in enumerate(offers_of):
            # Merging takes as long as the highest row: movies are numbered anew, in their order.
            offered = np.unique(np.concatenate(list(found.values())))
            offers = {
                source: np.searchsorted(offered, rows).astype(np.int32) for source, rows in found.items()
            }
            is_relevant = np.isin(offered, relevant)
            for place, weights in enumerate(grid):
                rows, _ = fused(offers, weights, limit=stage.n_candidates)
                recalls[place, user] = np.count_nonzero(is_relevant[rows]) / relevant.size
            advance()
    return recalls
