"""Everything of the two-stage recommender that is fitted on one history before the ranker."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.features.group import CatalogueArrays, FeatureGroup, FeatureQuery
from serving.features.tables import FeatureTables
from serving.features.transitions import TransitionFeatures
from serving.ids import Rows
from serving.links import LinkTable
from serving.ratings import Ratings
from serving.retrieval import LARGE_CATALOGUE, Candidates, RowsByNorm
from serving.similarity import unit_factors
from serving.sources import CandidateSources, FusedCandidates, Source
from training.checkpoints import Arrays
from training.data.movielens.cleaning import ratings_digest
from training.data.popularity import MovieStatistics, popularity
from training.features.build import build
from training.models.als import Als
from training.models.job_context import JobContext

_SAMPLED_USERS: Final = 100
_SAMPLED_MOVIES: Final = 10


@dataclass(frozen=True)
class FirstStage:
    """Everything that was fitted on one history: ALS, and what features are computed from."""

    ratings: Ratings
    """The history it was fitted on, and all that it may look at."""
    als: Als
    sources: CandidateSources
    """Over the item factors of `als`."""
    tables: FeatureTables
    n_candidates: int
    """Movies that it hands to stage two for a user."""

    @classmethod
    def fit(cls, ratings: Ratings, job: JobContext, what: str, *, users: Rows | None = None) -> "FirstStage":
        """Fits ALS and what features are computed from on `ratings` alone; `what` names them to who watches.

        What was fitted on the same history before is found in the job's checkpoints, as by `Als.fit`. The job
        has all groups of features that the ranker will see, and all sources that are asked. `users` are the
        rows of those for whom candidates will be wanted, or None for all.
        """
        recipe, table, n_movies = job.recipe, job.table, job.n_movies
        digest = ratings_digest(ratings, table.movies.ids)
        used = recipe.sources.used

        @cache  # a source and a group of features may have the same arrays
        def arrays_of(group: type[FeatureGroup]) -> Arrays:
            if not group.array_names():
                return {}
            return job.checkpoints.whole().step(
                f"features-{group.NAME}-{digest[:16]}", lambda: build(group, ratings, table, job.engine)
            )

        with job.progress.step(f"Stage one on {what}", recipe.als.iterations) as advance:
            als = Als.fit(
                ratings,
                n_movies,
                recipe.als,
                seed=recipe.seed,
                engine=job.engine,
                progress=advance,
                users=users,
                checkpoints=job.checkpoints,
            )
            item_factors = als.item_factors
            catalogue = CatalogueArrays(table.movies, unit_factors(item_factors))
            groups = tuple(group(catalogue, **arrays_of(group)) for group in recipe.feature_groups)
            sources = CandidateSources(
                item_factors,
                recipe.sources,
                LinkTable(**arrays_of(TransitionFeatures)) if Source.TRANSITIONS in used else None,
                popularity(MovieStatistics.of(ratings, n_movies))
                if Source.POPULARITY in used
                else np.empty(0),
            )
        return cls(
            ratings=ratings,
            als=als,
            sources=sources,
            tables=FeatureTables(catalogue, groups),
            n_candidates=recipe.n_candidates,
        )

    def served_users(self) -> Rows:
        """Rows of the users who have candidates: with a vector, and with a movie left that has factors."""
        n_warm = np.count_nonzero(self.als.item_factors.any(axis=1))
        is_served = self.als.user_factors.any(axis=1) & (self.ratings.counts() < n_warm)
        return np.flatnonzero(is_served).astype(np.int32)

    def sample_features(self) -> npt.NDArray[np.float32]:
        """Feature rows of at most 1,000 candidates, of users and places in the list evenly spread."""
        users = self._sampled_users()
        parts = [np.empty((0, len(self.tables.features)), np.float32)]
        for user, found in zip(users, self.candidates(users), strict=True):
            features = self.features([int(user)], [found])
            parts.append(features[:: max(1, -(-len(features) // _SAMPLED_MOVIES))])
        return np.concatenate(parts)

    def scan_share(self) -> float | None:
        """What the manifest says of a large catalogue, measured on at most 100 users; else None."""
        users = self._sampled_users()
        if self.als.item_factors.shape[0] < LARGE_CATALOGUE or not users.size:
            return None
        worst = [
            found.scores[-1] if found.scores.size == self.n_candidates else -np.inf
            for found in self.als.candidates(users, self.ratings, self.n_candidates)
        ]
        items = RowsByNorm.of(self.als.item_factors)
        return items.share_read(self.als.user_factors[users], np.array(worst, np.float32))

    def _sampled_users(self) -> Rows:
        users = self.served_users()
        return users[np.linspace(0, users.size - 1, min(_SAMPLED_USERS, users.size)).astype(np.int64)]

    def candidates(self, user_rows: Rows) -> Iterator[FusedCandidates]:
        """Each user's best unseen movies, as the candidate service finds them; none without a vector."""
        for user_row, als, blocked in self._of_als(user_rows):
            yield self.sources.fuse(
                als,
                self.als.user_factors[user_row],
                self.ratings.of(user_row),
                blocked,
                depth=self.n_candidates,
                limit=self.n_candidates,
            )

    def offers(self, user_rows: Rows) -> Iterator[Mapping[Source, Rows]]:
        """What each source offers each user, best first."""
        for user_row, als, blocked in self._of_als(user_rows):
            yield self.sources.offers(als, self.ratings.of(user_row), blocked, depth=self.n_candidates)

    def _of_als(self, user_rows: Rows) -> Iterator[tuple[int, Candidates, npt.NDArray[np.bool_]]]:
        """Each user's row, what ALS retrieves, and what no source may offer: all, without a vector."""
        of_als = self.als.candidates(user_rows, self.ratings, self.n_candidates)
        for user_row, als in zip(map(int, user_rows), of_als, strict=True):
            blocked = self.als.cold.copy()
            blocked[self.ratings.of(user_row).movie_rows] = True
            blocked |= not self.als.user_factors[user_row].any()
            yield user_row, als, blocked

    def features(
        self, user_rows: Iterable[int], candidates: Iterable[FusedCandidates]
    ) -> npt.NDArray[np.float32]:
        """Features of the candidates of some users, one after the other, as the ranking service has them.

        Returns:
            Shape (n_rows, n_features), fresh and in Fortran order; each user's rows have the same bits
            whoever else there is.
        """
        return self.tables.compute(
            [
                FeatureQuery(
                    self.ratings.of(user_row),
                    found.movie_rows,
                    found.scores,
                    source_ranks=found.source_ranks,
                )
                for user_row, found in zip(user_rows, candidates, strict=True)
            ]
        )
