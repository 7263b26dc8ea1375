"""Which groups of features the ranker keeps: what pays on one data set is noise on another."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from catboost import CatBoost

from serving.features.group import FeatureGroup
from serving.features.place import PlaceFeatures
from serving.features.sets import FeatureGroups, FeatureSet, feature_names, names_of_groups
from serving.ratings import Ratings
from serving.retrieval import Candidates, best_first
from training.checkpoints import Arrays
from training.evaluation.judging import ndcg_at_10
from training.evaluation.splits import ENOUGH_USERS, Split, SplitProtocol, split
from training.experiments.regularization import validation_part
from training.models.first_stage import fit_first_stage
from training.models.job_context import JobContext
from training.models.ranker import Groups, fit_ranker
from training.models.ranker_groups import ranker_groups
from training.models.ranker_selection import LOSS_SHARE, estimated_seconds, sampled_groups
from training.models.recipe import Loss

_ALWAYS: Final = frozenset({*FeatureSet.REFERENCE.groups, PlaceFeatures})
"""What no data set does without."""
_TREES: Final = 60
_SEEDS: Final = 3
"""Rankers whose nDCG is averaged: one fitted anew differs by as much as a group is worth."""


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


def choose_feature_groups(past: Ratings, job: JobContext) -> FeatureSelection:
    """Leaves out the groups of the recipe that a validation part of `past` does not miss.

    Tries to do without each group in turn, the least important of a ranker with all of them first. A group
    goes if the set without it is as good: what is noise costs a ranker something, on most data. To ask for
    more of a group than a gain in the mean loses, by chance, groups that pay.

    Each set is judged by the mean of three rankers with few trees and Logloss, which learn from as many
    groups of candidates as the recipe's `selection_seconds` allow by estimate. Where fewer than 300 users
    judge, nothing is tried, and the groups of `compact` are taken: more features need more users.

    Args:
        past: all but the test part.
        job: with the λ of ALS that is taken.

    Raises:
        TooFewUsersError: nobody gives the ranker anything to learn from.
    """
    recipe = job.recipe
    judged = validation_part(past, recipe.protocol)
    if judged.users.size < ENOUGH_USERS:
        compact = FeatureSet.COMPACT.groups
        kept = tuple(group for group in recipe.feature_groups if group in compact)
        return FeatureSelection(kept, (), judged.users.size)
    trial = Trial.prepared(judged, replace(job, recipe=replace(recipe, protocol=_protocol_of(past, job))))
    kept = recipe.feature_groups
    order = trial.by_importance()
    best = trial.ndcg(kept)
    gains = []
    with job.progress.step("Leaving out groups of features, on a validation part", len(order)) as advance:
        for group in order:
            fewer = tuple(other for other in kept if other is not group)
            without = trial.ndcg(fewer)
            gain = best - without
            missed = bool(gain.mean() > 0)
            error = float(gain.std() / np.sqrt(gain.size))
            gains.append(GroupGain(group.NAME, float(gain.mean()), error, missed))
            if not missed:
                kept, best = fewer, without
            advance()
    return FeatureSelection(kept, tuple(gains), judged.users.size)


def _protocol_of(past: Ratings, job: JobContext) -> SplitProtocol:
    """How the validation part was cut: labels are cut as it is."""
    protocol = job.recipe.protocol
    enough = split(past, protocol).users.size >= ENOUGH_USERS
    return protocol if enough else SplitProtocol.USER


@dataclass(frozen=True)
class Trial:
    """All that rankers with fewer groups of features have in common."""

    job: JobContext
    judged: Split
    learned_from: Groups
    found: Sequence[Candidates]
    """Per judged user."""
    features: npt.NDArray[np.float32]
    """Of all candidates of all judged users, with all groups."""

    @classmethod
    def prepared(cls, judged: Split, job: JobContext) -> "Trial":
        """Fits stage one before the validation part, and on its inner cuts."""
        part = job.part("features")
        learned_from, _ = ranker_groups(judged.train, part)
        stage = fit_first_stage(judged.train, job, "what was before the validation part", users=judged.users)
        found = list(stage.candidates(judged.users))
        matrices = [
            stage.features([user], [own]) for user, own in zip(judged.users.tolist(), found, strict=True)
        ]
        n_fits = _SEEDS * (1 + sum(group not in _ALWAYS for group in job.recipe.feature_groups))
        seconds = n_fits * estimated_seconds(Loss.LOGLOSS, learned_from, _TREES)
        allowed = (1 - LOSS_SHARE) * job.recipe.ranker.selection_seconds
        return cls(
            job=part,
            judged=judged,
            learned_from=sampled_groups(learned_from, min(1.0, allowed / seconds), job.recipe.seed),
            found=found,
            features=np.concatenate(matrices),
        )

    def ndcg(self, groups: FeatureGroups) -> npt.NDArray[np.float64]:
        """nDCG@10 with these groups, mean of some rankers, shape (n_judged_users,)."""
        return self._tried(groups)["ndcg"]

    def by_importance(self) -> list[type[FeatureGroup]]:
        """The groups that may go, the least important first, ties in column order."""
        every = self.job.recipe.feature_groups
        importance = self._tried(every)["importance"]
        sums = {group: importance[self._columns((group,))].sum() for group in every}
        return sorted((group for group in every if group not in _ALWAYS), key=lambda group: sums[group])

    def _tried(self, groups: FeatureGroups) -> Arrays:
        """Of rankers with these groups, the mean nDCG of each user and the mean importance of each column."""

        def fit_and_judge() -> Arrays:
            first = _SEEDS * self.job.recipe.seed
            rankers = [self._fit(groups, seed) for seed in range(first, first + _SEEDS)]
            features = self.features[:, self._columns(groups)]
            ndcg_of_each = [self._judge(ranker.predict(features, "RawFormulaVal")) for ranker in rankers]
            importance = [ranker.get_feature_importance(type="PredictionValuesChange") for ranker in rankers]
            return {"ndcg": np.mean(ndcg_of_each, axis=0), "importance": np.mean(importance, axis=0)}

        names = " ".join(names_of_groups(groups))
        key = hashlib.sha256(names.encode()).hexdigest()[:16]
        return self.job.checkpoints.step(f"groups-{key}", fit_and_judge)

    def _judge(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """nDCG@10 of each judged user; `scores` of all candidates."""
        ends = np.cumsum([own.movie_rows.size for own in self.found])
        lists = [
            own.movie_rows[best_first(own_scores, own.movie_rows)]
            for own, own_scores in zip(self.found, np.split(scores, ends[:-1]), strict=True)
        ]
        return ndcg_at_10(lists, self.judged)

    def _fit(self, groups: FeatureGroups, seed: int) -> CatBoost:
        columns, recipe = self._columns(groups), self.job.recipe
        return fit_ranker(
            replace(self.learned_from, features=np.asfortranarray(self.learned_from.features[:, columns])),
            Loss.LOGLOSS,
            recipe.ranker,
            iterations=_TREES,
            seed=seed,
            threads=recipe.threads,
        )

    def _columns(self, groups: FeatureGroups) -> npt.NDArray[np.bool_]:
        genres = self.job.table.movies.genres
        kept = set(feature_names(groups, genres))
        return np.array([name in kept for name in feature_names(self.job.recipe.feature_groups, genres)])
