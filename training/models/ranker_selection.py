"""Choosing the ranker's loss and number of trees on held-out groups."""

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
from training.models.ranker import Groups, fit_ranker
from training.models.ranker_groups import LEAST_GROUPS, require_groups
from training.models.recipe import Loss, RankerParameters, Recipe

_FEW_GROUPS: Final = 2_000
_CHOICE_GROUPS: Final = 3_000
"""Groups at the most that loss and trees are chosen on."""
_TREES_STEP: Final = 50
_FIRST_TREES: Final = 300
"""Where the curve does not rise at its end, no more are tried."""
_SECONDS_PER_CELL: Final[Mapping[Loss, float]] = MappingProxyType(
    {Loss.LOGLOSS: 5e-9, Loss.YETI_RANK: 3.3e-8}
)
"""Processor seconds of a fit for each tree and value of the feature matrix."""
LOSS_SHARE: Final = 0.2
"""Of the recipe's `selection_seconds`: what trying YetiRank may take. The rest is for groups of features."""


@dataclass(frozen=True)
class LearningCurve:
    """Held-out nDCG@10 on sampled lists by number of trees. Parallel."""

    loss: Loss
    trees: tuple[int, ...]
    ndcg: tuple[float, ...]
    """Means over the held-out groups."""
    standard_errors: tuple[float, ...]


@dataclass(frozen=True)
class RankerChoice:
    """Loss and number of trees, chosen on held-out groups."""

    loss: Loss
    iterations: int
    held_out_ndcg: Mapping[Loss, float]
    """The best nDCG@10 of each loss, on sampled lists: for comparing losses, with nothing else."""
    curves: tuple[LearningCurve, ...] = ()
    """What was chosen from; empty when the choice was given."""


def choose_ranker(groups: Groups, job: JobContext) -> RankerChoice:
    """Chooses loss and number of trees on groups that the candidates for the choice did not learn from.

    With few groups one held-out part says little, so that each third is held out once. The number of
    trees is that of the best mean over three neighbouring numbers: single ones are noise. There are 300 to
    choose from, and twice as many as long as the second half of them is worth more than a standard error.

    Logloss is taken. Where a share of the recipe's `selection_seconds` suffices to try YetiRank, that is
    taken if it is better by more than a standard error of the difference.

    Raises:
        TooFewUsersError: there are too few groups to hold any out.
    """
    recipe = job.recipe
    groups = _at_most(groups, _CHOICE_GROUPS, recipe.seed)
    folds = _folds(groups, job)
    qualities: dict[Loss, Quality] = {}
    for loss in _losses(groups, len(folds), recipe.ranker):
        with job.progress.step(f"Choosing the number of trees with {loss}, on held-out groups"):
            qualities[loss] = _by_trees(groups, folds, loss, job)
    means = {loss: _smoothed(quality.ndcg.mean(axis=0)) for loss, quality in qualities.items()}
    best = {loss: int(mean.argmax()) for loss, mean in means.items()}
    loss = _better(qualities, best) if len(qualities) > 1 else next(iter(qualities))
    return RankerChoice(
        loss=loss,
        iterations=qualities[loss].trees[best[loss]],
        held_out_ndcg={name: float(mean.max()) for name, mean in means.items()},
        curves=tuple(_curve(name, quality) for name, quality in qualities.items()),
    )


class Quality(NamedTuple):
    """What a loss reaches on held-out groups."""

    trees: Sequence[int]
    ndcg: npt.NDArray[np.float64]
    """nDCG@10, shape (n_groups, len(trees))."""


def estimated_seconds(loss: Loss, groups: Groups, trees: int) -> float:
    """Processor seconds of a fit, by what it has to read; the machine has no say in it."""
    return _SECONDS_PER_CELL[loss] * groups.features.size * trees


def _folds(groups: Groups, job: JobContext) -> list[npt.NDArray[np.bool_]]:
    """Which rows are held out: of each third once where there are few groups, else of one fifth."""
    unique = np.unique(groups.group_ids)
    require_groups(unique.size, job.recipe, least=LEAST_GROUPS)
    n_folds = 3 if unique.size < _FEW_GROUPS else 5
    fold_of = np.random.default_rng(job.recipe.seed).permutation(unique.size) % n_folds
    folds = range(n_folds if unique.size < _FEW_GROUPS else 1)
    return [np.isin(groups.group_ids, unique[fold_of == fold]) for fold in folds]


def _losses(groups: Groups, n_folds: int, parameters: RankerParameters) -> list[Loss]:
    if parameters.only_loss is not None:
        return [parameters.only_loss]
    trees = min(_FIRST_TREES, parameters.iterations)
    seconds = n_folds * estimated_seconds(Loss.YETI_RANK, groups, trees)
    return [Loss.LOGLOSS, *([Loss.YETI_RANK] if seconds <= LOSS_SHARE * parameters.selection_seconds else [])]


def _by_trees(groups: Groups, folds: Sequence[npt.NDArray[np.bool_]], loss: Loss, job: JobContext) -> Quality:
    most = job.recipe.ranker.iterations
    trees = min(_FIRST_TREES, most)
    while True:
        grid = range(_TREES_STEP, trees + 1, _TREES_STEP) or range(trees, trees + 1)
        parts = [
            job.checkpoints.step(
                f"held-out-{loss}-{trees}-{fold}",
                partial(_held_out, groups.where(~out), groups.where(out), loss, grid, job.recipe),
            )
            for fold, out in enumerate(folds)
        ]
        quality = Quality(grid, np.concatenate([part["ndcg"] for part in parts]))
        if trees == most or not _still_rises(quality.ndcg):
            return quality
        trees = min(2 * trees, most)


def _held_out(
    learned_from: Groups, held_out: Groups, loss: Loss, grid: Sequence[int], recipe: Recipe
) -> Arrays:
    model = fit_trees(learned_from, loss, grid[-1], recipe, held_out=held_out)
    return {"ndcg": _held_out_ndcg(model, held_out, grid)}


def _still_rises(ndcg: npt.NDArray[np.float64]) -> bool:
    """Whether the second half of the trees is worth more than a standard error; `ndcg` as in `Quality`."""
    return is_worth(ndcg[:, -1] - ndcg[:, (ndcg.shape[1] - 1) // 2])


def is_worth(gains: npt.NDArray[np.float64]) -> bool:
    """Whether the mean of gains by group is above its standard error."""
    return bool(gains.mean() > gains.std() / np.sqrt(gains.size))


def _better(qualities: Mapping[Loss, Quality], best: Mapping[Loss, int]) -> Loss:
    """YetiRank if its lead is more than a standard error, else Logloss."""
    ours, other = (qualities[loss].ndcg[:, best[loss]] for loss in (Loss.LOGLOSS, Loss.YETI_RANK))
    return Loss.YETI_RANK if is_worth(other - ours) else Loss.LOGLOSS


def sampled_groups(groups: Groups, share: float, seed: int) -> Groups:
    """So large a share of the groups, drawn at random, and as many as a choice needs at the least."""
    n_groups = np.unique(groups.group_ids).size
    return _at_most(groups, max(LEAST_GROUPS, int(share * n_groups)), seed)


def _at_most(groups: Groups, most: int, seed: int) -> Groups:
    """So many of the groups, drawn at random."""
    unique = np.unique(groups.group_ids)
    if unique.size <= most:
        return groups
    chosen = np.random.default_rng(seed).choice(unique, most, replace=False)
    return groups.where(np.isin(groups.group_ids, chosen))


def fit_trees(
    groups: Groups,
    loss: Loss,
    iterations: int,
    recipe: Recipe,
    *,
    feature_names: tuple[str, ...] | None = None,
    held_out: Groups | None = None,
) -> CatBoost:
    """Fits a ranker of so many trees, with all else as the recipe says; see `fit_ranker`."""
    return fit_ranker(
        groups,
        loss,
        recipe.ranker,
        iterations=iterations,
        seed=recipe.seed,
        threads=recipe.threads,
        feature_names=feature_names,
        held_out=held_out,
    )


def _held_out_ndcg(model: CatBoost, groups: Groups, grid: Sequence[int]) -> npt.NDArray[np.float64]:
    """nDCG@10 of each group by number of trees, shape (n_groups, len(grid))."""
    starts = np.flatnonzero(np.diff(groups.group_ids, prepend=-1))
    scores = [
        np.split(
            model.predict(groups.features, "RawFormulaVal", ntree_end=min(trees, model.tree_count_)),
            starts[1:],
        )
        for trees in grid
    ]
    labels = np.split(groups.labels, starts[1:])
    found = [
        [
            hits(best_first(by_trees[g], np.arange(liked.size, dtype=np.int32)), np.flatnonzero(liked), 10)
            for by_trees in scores
        ]
        for g, liked in enumerate(labels)
    ]
    n_liked = np.array([[np.count_nonzero(liked)] for liked in labels])
    return ndcg(np.array(found), n_liked, 10)


def _curve(loss: Loss, quality: Quality) -> LearningCurve:
    ndcg = quality.ndcg
    return LearningCurve(
        loss=loss,
        trees=tuple(quality.trees),
        ndcg=tuple(ndcg.mean(axis=0).tolist()),
        standard_errors=tuple((ndcg.std(axis=0) / np.sqrt(len(ndcg))).tolist()),
    )


def _smoothed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Each value's mean with its neighbours, shape as given."""
    padded = np.pad(values, 1, mode="edge")
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3
