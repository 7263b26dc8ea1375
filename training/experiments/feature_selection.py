"""Which groups of features the ranker keeps: what pays on one data set is noise on another."""

import hashlib
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.features.group import FeatureGroup
from serving.features.place import PlaceFeatures
from serving.features.sets import FeatureGroups, FeatureSet, names_of_groups
from training.checkpoints import Arrays
from training.evaluation.splits import ENOUGH_USERS
from training.experiments.validation_lists import ValidationLists
from training.models.ranker import Groups, fit_ranker, ranker_seeds
from training.models.ranker_groups import LEAST_GROUPS
from training.models.ranker_selection import LOSS_SHARE, estimated_seconds
from training.models.recipe import Loss

_ALWAYS: Final = frozenset({*FeatureSet.REFERENCE.groups, PlaceFeatures})
"""What no data set does without."""
_TREES: Final = 60


@dataclass(frozen=True)
class GroupGain:
    """What a group of features was worth when it was tried to do without it."""

    name: str
    gain: float
    """nDCG@10 of the groups that were left, less that without this one as well."""
    standard_error: float
    """Of the gain, over users."""
    kept: bool


@dataclass(frozen=True)
class FeatureSelection:
    """Groups of features that were kept, and why."""

    groups: FeatureGroups
    """Those kept, in column order."""
    gains: tuple[GroupGain, ...]
    """In the order in which they were tried; empty where there were too few users to try any."""
    users: int
    """Who judged."""


def choose_feature_groups(lists: ValidationLists) -> FeatureSelection:
    """Leaves out the groups of the recipe that a validation part does not miss.

    Tries to do without each group in turn, the least important of a ranker with all of them first. A group
    goes if the set without it is as good: what is noise costs a ranker something, on most data. A stricter
    rule, such as a significant gain, would drop groups that pay.

    Each set is judged by the mean of a few rankers with few trees and Logloss, which learn from as many
    groups of candidates as the recipe's `selection_seconds` allow by estimate. Where fewer than 300 users
    judge, nothing is tried, and the groups of `compact` are taken: more features need more users.
    """
    recipe, progress = lists.job.recipe, lists.job.progress
    n_users = lists.judged.users.size
    if n_users < ENOUGH_USERS:
        compact = FeatureSet.COMPACT.groups
        return FeatureSelection(
            tuple(group for group in recipe.feature_groups if group in compact), (), n_users
        )
    lists, kept = affordable(lists), recipe.feature_groups
    first = tried(lists, kept)
    order, best = by_importance(lists, first["importance"]), first["ndcg"]
    gains = []
    with progress.step("Leaving out groups of features, on a validation part", len(order)) as advance:
        for group in order:
            fewer = tuple(other for other in kept if other is not group)
            without = tried(lists, fewer)["ndcg"]
            gain = best - without
            missed = bool(gain.mean() > 0)
            error = float(gain.std() / np.sqrt(gain.size))
            gains.append(GroupGain(group.NAME, float(gain.mean()), error, missed))
            if not missed:
                kept, best = fewer, without
            advance()
    return FeatureSelection(kept, tuple(gains), n_users)


def affordable(lists: ValidationLists) -> ValidationLists:
    """Bounds what is learned from by what the recipe's `selection_seconds` allow, by estimate."""
    recipe, groups = lists.job.recipe, lists.learned_from
    n_sets = 1 + sum(group not in _ALWAYS for group in recipe.feature_groups)
    n_fits = n_sets * len(ranker_seeds(recipe.seed))
    seconds = n_fits * estimated_seconds(Loss.LOGLOSS, groups, _TREES)
    allowed = (1 - LOSS_SHARE) * recipe.ranker.selection_seconds
    return replace(lists, learned_from=_sampled(groups, min(1.0, allowed / seconds), recipe.seed))


def tried(lists: ValidationLists, groups: FeatureGroups) -> Arrays:
    """What a few rankers with these groups of features reach.

    Returns:
        `ndcg`, shape (n_judged_users,), and `importance`, shape (n_features of the groups,): their means.
    """
    job = lists.job

    def fit_and_judge() -> Arrays:
        learned_from = lists.groups_with(groups)
        rankers = [
            fit_ranker(learned_from, Loss.LOGLOSS, _TREES, job.with_recipe(feature_groups=groups), seed=seed)
            for seed in ranker_seeds(job.recipe.seed)
        ]
        features = lists.features[:, lists.columns(groups)]
        ndcg_of_each = [lists.ndcg_of(ranker.predict(features, "RawFormulaVal")) for ranker in rankers]
        importance = [ranker.get_feature_importance(type="PredictionValuesChange") for ranker in rankers]
        return {"ndcg": np.mean(ndcg_of_each, axis=0), "importance": np.mean(importance, axis=0)}

    names = " ".join(names_of_groups(groups))
    key = hashlib.sha256(names.encode()).hexdigest()[:16]
    return job.checkpoints.step(f"groups-{key}", fit_and_judge)


def by_importance(lists: ValidationLists, importance: npt.NDArray[np.float64]) -> list[type[FeatureGroup]]:
    """The recipe's groups that may go, the least important first, ties in column order.

    `importance` is that of each feature of all its groups, shape (n_features,).
    """
    every = lists.job.recipe.feature_groups
    sums = {group: importance[lists.columns((group,))].sum() for group in every}
    return sorted((group for group in every if group not in _ALWAYS), key=lambda group: sums[group])


def _sampled(groups: Groups, share: float, seed: int) -> Groups:
    """So large a share of the groups, drawn at random, and as many as a choice needs at the least."""
    unique = np.unique(groups.group_ids)
    n_sampled = min(unique.size, max(LEAST_GROUPS, int(share * unique.size)))
    if n_sampled == unique.size:
        return groups
    sampled = np.random.default_rng(seed).choice(unique, n_sampled, replace=False)
    return groups.where(np.isin(groups.group_ids, sampled))
