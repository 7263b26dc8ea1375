"""Choosing the ranker's loss and number of trees on held-out groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from catboost import CatBoost

from serving.retrieval import best_first
from training.checkpoints import Arrays
from training.evaluation.metrics import ndcg
from training.models.job_context import JobContext
from training.models.ranker import Groups, fit_ranker
from training.models.ranker_groups import LEAST_GROUPS, require_groups
from training.models.recipe import Loss, Recipe

_FEW_GROUPS: Final = 2_000
_CHOICE_GROUPS: Final = 3_000
"""Groups at the most that loss and trees are chosen on. With more, a fit of YetiRank takes minutes."""
_TREES_STEP: Final = 50


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
    trees is that of the best mean over three neighbouring numbers: single ones are noise. YetiRank is
    taken unless Logloss is better by more than a standard error of the difference. Where there are so many
    groups that a sample of them is looked at, it is the other way round: YetiRank has to be worth its time.

    Raises:
        TooFewUsersError: there are too few groups to hold any out.
    """
    recipe = job.recipe
    preferred = Loss.YETI_RANK if np.unique(groups.group_ids).size <= _CHOICE_GROUPS else Loss.LOGLOSS
    groups = _at_most(groups, _CHOICE_GROUPS, recipe.seed)
    unique = np.unique(groups.group_ids)
    n_folds = 3 if unique.size < _FEW_GROUPS else 5
    require_groups(unique.size, recipe, least=LEAST_GROUPS)
    fold_of = np.random.default_rng(recipe.seed).permutation(unique.size) % n_folds
    folds = range(n_folds if unique.size < _FEW_GROUPS else 1)
    grid = range(_TREES_STEP, recipe.ranker.iterations + 1, _TREES_STEP) or [recipe.ranker.iterations]
    losses = tuple(Loss) if recipe.ranker.only_loss is None else (recipe.ranker.only_loss,)
    qualities: dict[Loss, npt.NDArray[np.float64]] = {}
    with job.progress.step("Choosing loss and trees on held-out groups", len(folds) * len(losses)) as advance:
        for loss in losses:
            rows = []
            for fold in folds:
                out = np.isin(groups.group_ids, unique[fold_of == fold])

                def held_out(loss: Loss = loss, out: npt.NDArray[np.bool_] = out) -> Arrays:
                    held = groups.where(out)
                    model = fit_trees(
                        groups.where(~out), loss, recipe.ranker.iterations, recipe, held_out=held
                    )
                    return {"ndcg": _held_out_ndcg(model, held, grid)}

                rows.append(job.checkpoints.step(f"held-out-{loss}-{fold}", held_out)["ndcg"])
                advance()
            qualities[loss] = np.concatenate(rows)
    means = {loss: _smoothed(quality.mean(axis=0)) for loss, quality in qualities.items()}
    best = {loss: int(mean.argmax()) for loss, mean in means.items()}
    loss = losses[0] if len(losses) == 1 else _better(preferred, qualities, best)
    return RankerChoice(
        loss=loss,
        iterations=grid[best[loss]],
        held_out_ndcg={name: float(mean.max()) for name, mean in means.items()},
        curves=tuple(_curve(name, tuple(grid), quality) for name, quality in qualities.items()),
    )


def _better(
    preferred: Loss, qualities: Mapping[Loss, npt.NDArray[np.float64]], best: Mapping[Loss, int]
) -> Loss:
    """The other loss if its lead is more than a standard error, else the preferred one."""
    (other,) = set(Loss) - {preferred}
    lead = qualities[other][:, best[other]] - qualities[preferred][:, best[preferred]]
    return other if lead.mean() > lead.std() / np.sqrt(lead.size) else preferred


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
    return np.array(
        [
            [
                ndcg(
                    best_first(by_trees[g], np.arange(liked.size, dtype=np.int32)), np.flatnonzero(liked), 10
                )
                for by_trees in scores
            ]
            for g, liked in enumerate(labels)
        ]
    )


def _curve(loss: Loss, trees: tuple[int, ...], quality: npt.NDArray[np.float64]) -> LearningCurve:
    """Of nDCG by group and number of trees, shape (n_groups, len(trees))."""
    return LearningCurve(
        loss=loss,
        trees=trees,
        ndcg=tuple(quality.mean(axis=0).tolist()),
        standard_errors=tuple((quality.std(axis=0) / np.sqrt(len(quality))).tolist()),
    )


def _smoothed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Each value's mean with its neighbours, shape as given."""
    padded = np.pad(values, 1, mode="edge")
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3
