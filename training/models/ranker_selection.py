"""Choosing the ranker's loss and number of trees on a validation part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from catboost import CatBoost

from serving.retrieval import best_first
from training.checkpoints import Arrays
from training.evaluation.metrics import hits, ndcg
from training.models.job_context import JobContext
from training.models.ranker import Groups, fit_ranker, ranker_seeds
from training.models.ranker_groups import LEAST_GROUPS
from training.models.recipe import Loss

_FEW_GROUPS: Final = 2_000
_TREES_STEP: Final = 50
_FIRST_TREES: Final = 300
"""Where the curve does not rise at its end, no more are tried."""
_UNCHOSEN_TREES: Final = 200
"""Where there are too few to choose by."""
_SECONDS_PER_CELL: Final[Mapping[Loss, float]] = MappingProxyType(
    {Loss.LOGLOSS: 5e-9, Loss.YETI_RANK: 3.3e-8}
)
"""Processor seconds of a fit for each tree and value of the feature matrix."""
LOSS_SHARE: Final = 0.2
"""Of the recipe's `selection_seconds`: what trying YetiRank may take. The rest is for groups of features."""


@dataclass(frozen=True)
class LearningCurve:
    """nDCG@10 on the validation part by number of trees. Parallel."""

    loss: Loss
    trees: tuple[int, ...]
    ndcg: tuple[float, ...]
    """Means over the lists."""
    standard_errors: tuple[float, ...]


@dataclass(frozen=True)
class RankerChoice:
    """Loss and number of trees, chosen on a validation part."""

    loss: Loss
    iterations: int
    validation_ndcg: Mapping[Loss, float]
    """nDCG@10 of each loss with the trees chosen for it, of users with a liked movie among their candidates;
    empty where there were too few of them to choose by, or the choice was given."""
    curves: tuple[LearningCurve, ...] = ()
    """What was chosen from; empty where `validation_ndcg` is."""


def choose_ranker(groups: Groups, validation: Groups, job: JobContext) -> RankerChoice:
    """Chooses loss and number of trees by how well rankers order the lists of a validation part.

    Numbers of trees are judged by the mean over three neighbouring ones: single ones are noise. The highest
    is taken that the best one does not lead by more than a standard error, as what is served learns from more
    than what is judged. There are 300 to choose from, and twice as many as long as the second half
    of them is worth more than a standard error. With few groups one ranker says little, and it is the sum of
    several that is judged.

    Logloss is taken. Where a share of the recipe's `selection_seconds` suffices to try YetiRank, that is
    taken if it is better by more than a standard error of the difference.

    `validation` are whole lists of candidates, of users who liked some of them later than what `groups` tell.
    The columns of both are those of the job's groups of features.
    """
    parameters = job.recipe.ranker
    if min(np.unique(part.group_ids).size for part in (groups, validation)) < LEAST_GROUPS:
        trees = min(_UNCHOSEN_TREES, parameters.iterations)
        return RankerChoice(parameters.only_loss or Loss.LOGLOSS, trees, validation_ndcg={})
    qualities: dict[Loss, NdcgByTrees] = {}
    for loss in _losses(groups, job):
        with job.progress.step(f"Choosing the number of trees with {loss}, on a validation part"):
            qualities[loss] = _by_trees(groups, validation, loss, job)
    smoothed = {loss: _smoothed(quality.ndcg) for loss, quality in qualities.items()}
    chosen = {loss: _highest_as_good(ndcg) for loss, ndcg in smoothed.items()}
    loss = _better(smoothed, chosen) if len(smoothed) > 1 else next(iter(smoothed))
    return RankerChoice(
        loss=loss,
        iterations=qualities[loss].trees[chosen[loss]],
        validation_ndcg={name: float(ndcg[:, chosen[name]].mean()) for name, ndcg in smoothed.items()},
        curves=tuple(_curve(name, quality) for name, quality in qualities.items()),
    )


class NdcgByTrees(NamedTuple):
    """What a loss reaches on the validation part."""

    trees: Sequence[int]
    ndcg: npt.NDArray[np.float64]
    """nDCG@10, shape (n_lists, len(trees))."""


def estimated_seconds(loss: Loss, groups: Groups, trees: int) -> float:
    """Processor seconds of a fit, by what it has to read; the machine has no say in it."""
    return _SECONDS_PER_CELL[loss] * groups.features.size * trees


def _seeds(groups: Groups, job: JobContext) -> Sequence[int]:
    seeds = ranker_seeds(job.recipe.seed)
    return seeds if np.unique(groups.group_ids).size < _FEW_GROUPS else seeds[:1]


def _losses(groups: Groups, job: JobContext) -> list[Loss]:
    parameters = job.recipe.ranker
    if parameters.only_loss is not None:
        return [parameters.only_loss]
    trees = min(_FIRST_TREES, parameters.iterations)
    seconds = len(_seeds(groups, job)) * estimated_seconds(Loss.YETI_RANK, groups, trees)
    return [Loss.LOGLOSS, *([Loss.YETI_RANK] if seconds <= LOSS_SHARE * parameters.selection_seconds else [])]


def _by_trees(groups: Groups, validation: Groups, loss: Loss, job: JobContext) -> NdcgByTrees:
    most = job.recipe.ranker.iterations
    trees = min(_FIRST_TREES, most)
    while True:
        grid = [*range(_TREES_STEP, trees, _TREES_STEP), trees]
        judged = partial(_judged, groups, validation, loss, grid, job)
        ndcg = job.checkpoints.step(f"trees-{loss}-{trees}", judged)["ndcg"]
        quality = NdcgByTrees(grid[: ndcg.shape[1]], ndcg)
        if trees == most or len(quality.trees) < len(grid) or not _still_rises(ndcg):
            return quality
        trees = min(2 * trees, most)


def _judged(groups: Groups, validation: Groups, loss: Loss, grid: Sequence[int], job: JobContext) -> Arrays:
    rankers = [
        fit_ranker(groups, loss, grid[-1], job, seed=seed, held_out=validation)
        for seed in _seeds(groups, job)
    ]
    n_trees = max(ranker.tree_count_ for ranker in rankers)  # fewer where the fits stopped early
    n_steps = 1 + sum(trees < n_trees for trees in grid[:-1])
    return {"ndcg": ndcg_by_trees(rankers, validation, grid[:n_steps])}


def _still_rises(ndcg: npt.NDArray[np.float64]) -> bool:
    """Whether the second half of the trees is worth more than a standard error; shape (n_lists, n_steps)."""
    return is_worth(ndcg[:, -1] - ndcg[:, (ndcg.shape[1] - 1) // 2])


def is_worth(gains: npt.NDArray[np.float64]) -> bool:
    """Whether the mean of gains by list is above its standard error."""
    return bool(gains.mean() > gains.std() / np.sqrt(gains.size))


def _highest_as_good(ndcg: npt.NDArray[np.float64]) -> int:
    """The last step that the best one does not lead by more than a standard error.

    Args:
        ndcg: shape (n_lists, n_steps).
    """
    best = ndcg[:, ndcg.mean(axis=0).argmax()]
    return max(step for step, one in enumerate(ndcg.T) if not is_worth(best - one))


def _better(smoothed: Mapping[Loss, npt.NDArray[np.float64]], chosen: Mapping[Loss, int]) -> Loss:
    """YetiRank if its lead is more than a standard error, else Logloss."""
    ours, other = (smoothed[loss][:, chosen[loss]] for loss in (Loss.LOGLOSS, Loss.YETI_RANK))
    return Loss.YETI_RANK if is_worth(other - ours) else Loss.LOGLOSS


def ndcg_by_trees(
    rankers: Sequence[CatBoost], validation: Groups, grid: Sequence[int]
) -> npt.NDArray[np.float64]:
    """nDCG@10 of each list, ordered by the rankers' sum, by number of trees, shape (n_lists, len(grid))."""
    starts = np.flatnonzero(np.diff(validation.group_ids, prepend=-1))
    labels = np.split(validation.labels, starts[1:])
    n_liked = np.array([np.count_nonzero(liked) for liked in labels])
    found = []
    for trees in grid:
        sums = sum(
            ranker.predict(validation.features, "RawFormulaVal", ntree_end=min(trees, ranker.tree_count_))
            for ranker in rankers
        )
        found.append(
            [
                hits(best_first(scores, np.arange(liked.size, dtype=np.int32)), np.flatnonzero(liked), 10)
                for scores, liked in zip(np.split(sums, starts[1:]), labels, strict=True)
            ]
        )
    return ndcg(np.array(found).swapaxes(0, 1), n_liked[:, None], 10)


def _curve(loss: Loss, quality: NdcgByTrees) -> LearningCurve:
    ndcg = quality.ndcg
    return LearningCurve(
        loss=loss,
        trees=tuple(quality.trees),
        ndcg=tuple(ndcg.mean(axis=0).tolist()),
        standard_errors=tuple((ndcg.std(axis=0) / np.sqrt(len(ndcg))).tolist()),
    )


def _smoothed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Each value's mean with its neighbours in the row, shape as given."""
    padded = np.pad(values, ((0, 0), (1, 1)), mode="edge")
    return (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
