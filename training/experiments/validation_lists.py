"""A validation part for the ranker: what it learns from before it, and the lists that it is judged by."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from serving.features.sets import FeatureGroups, feature_names
from serving.ratings import Ratings
from serving.retrieval import Candidates, best_first
from training.evaluation.judging import ndcg_at_10
from training.evaluation.splits import Split
from training.experiments.regularization import validation_part
from training.models.first_stage import FirstStage
from training.models.job_context import JobContext
from training.models.ranker import Groups
from training.models.ranker_groups import TooFewUsersError, ranker_groups


@dataclass(frozen=True)
class ValidationLists:
    """Candidates of the judged users of a validation part, with all groups of features of the recipe."""

    job: JobContext
    judged: Split
    learned_from: Groups
    found: Sequence[Candidates]
    """Per judged user."""
    features: npt.NDArray[np.float32]
    """Of all candidates of all judged users."""

    @classmethod
    def of(cls, past: Ratings, job: JobContext) -> "ValidationLists":
        """Cuts the validation part off `past`, and labels as it is cut.

        Empty if too few users are left for the ranker to learn from.
        """
        judged, protocol = validation_part(past, job.recipe.protocol)
        by_protocol = job.with_recipe(protocol=protocol).part("validation-lists")
        try:
            return cls.prepared(judged, by_protocol)
        except TooFewUsersError:
            n_features = len(feature_names(job.recipe.feature_groups, job.table.movies.genres))
            nothing = Groups.of_lists([], [], [], n_features=n_features)
            return cls(by_protocol, judged.only(np.empty(0, np.intp)), nothing, [], nothing.features)

    @classmethod
    def prepared(cls, judged: Split, job: JobContext) -> "ValidationLists":
        """Fits stage one before a validation part, and on its inner cuts, by the protocol of the job.

        Raises:
            TooFewUsersError: too few users give the ranker anything to learn from before it.
        """
        learned_from, _ = ranker_groups(judged.train, job)
        stage = FirstStage.fit(judged.train, job, "what was before the validation part", users=judged.users)
        found = list(stage.candidates(judged.users))
        features = np.empty((sum(own.movie_rows.size for own in found), len(stage.tables.names)), np.float32)
        start = 0
        for user, own in zip(judged.users.tolist(), found, strict=True):
            features[start : start + own.movie_rows.size] = stage.features([user], [own])
            start += own.movie_rows.size
        return cls(job, judged, learned_from, found, features)

    def columns(self, groups: FeatureGroups) -> npt.NDArray[np.bool_]:
        """Shape (n_features,): which features are of these groups."""
        genres = self.job.table.movies.genres
        kept = set(feature_names(groups, genres))
        return np.array([name in kept for name in feature_names(self.job.recipe.feature_groups, genres)])

    def groups_with(self, groups: FeatureGroups) -> Groups:
        """What a ranker with these groups of features learns from."""
        columns = self.columns(groups)
        return replace(self.learned_from, features=np.asfortranarray(self.learned_from.features[:, columns]))

    def lists_with(self, groups: FeatureGroups) -> Groups:
        """The whole lists, with these groups of features, of users who like a candidate later."""
        labels = [
            np.isin(own.movie_rows, relevant)
            for own, relevant in zip(self.found, self.judged.relevant, strict=True)
        ]
        ids = np.repeat(np.arange(len(labels)), [own.size for own in labels])
        is_liked = np.concatenate([np.empty(0, np.bool_), *labels])
        counted = np.isin(ids, ids[is_liked])
        return Groups(
            np.asfortranarray(self.features[np.ix_(counted, self.columns(groups))]),
            is_liked[counted].astype(np.float32),
            ids[counted],
        )

    def ndcg_of(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """nDCG@10 of each judged user by the scores of all candidates, shape (n_candidates of all users,)."""
        ends = np.cumsum([own.movie_rows.size for own in self.found])
        lists = [
            own.movie_rows[best_first(own_scores, own.movie_rows)]
            for own, own_scores in zip(self.found, np.split(scores, ends[:-1]), strict=True)
        ]
        return ndcg_at_10(lists, self.judged)
