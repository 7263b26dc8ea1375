"""Candidates in the ranker's order: features of all users in one matrix, one model call, reasons."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ranking_service.diversity import diversified
from serving.bundle.factors import read_ratings
from serving.bundle.golden import WARM_UP_REQUESTS, check_scores
from serving.bundle.manifest import GoldenRanking
from serving.bundle.ranker import RankerContent
from serving.bundle.store import BundleStore
from serving.errors import FieldViolation, InvalidArgumentError
from serving.explanations import Explanation
from serving.features.group import FeatureQuery, ProbeContext
from serving.ids import IdMap, Ids, Rows
from serving.ratings import History, Ratings
from serving.retrieval import best_first
from serving.shards import UserShard
from serving.sources import Source, SourceRanks
from serving.stages.ranking import RankedList, RankedProbe, RankingProbe, RankingQuery

_FOLDER: Final = "ranking"


@dataclass(frozen=True)
class Ranking:
    """The answer to one call."""

    lists: tuple[RankedList, ...]
    """One per query, in order."""
    missing_features: Mapping[str, int]
    """How many values the ranker did not see, for each feature that missed any."""


@dataclass(frozen=True)
class _Part:
    """One query's known movies, and their rows of the feature matrix."""

    history: History
    rows: slice
    movie_rows: Rows
    retrieval_scores: npt.NDArray[np.floating]
    source_ranks: SourceRanks
    unknown_movie_ids: Ids
    probes: tuple[RankingProbe, ...]
    """Known probes that are not in the list; their rows of the matrix follow those of the list."""

    def feature_queries(self, ids: IdMap) -> Iterator[FeatureQuery]:
        """What the rows of the matrix are computed for."""
        yield FeatureQuery(
            self.history, self.movie_rows, self.retrieval_scores, source_ranks=self.source_ranks
        )
        if self.probes:
            yield FeatureQuery(
                self.history,
                ids.rows([probe.movie_id for probe in self.probes]),
                np.array([probe.retrieval_score for probe in self.probes], np.float32),
                ProbeContext(
                    np.array([probe.retrieval_rank for probe in self.probes]), self.retrieval_scores
                ),
                {
                    source: np.array([probe.source_ranks.get(source, 0) for probe in self.probes], np.int32)
                    for source in self.source_ranks
                },
            )


class Ranker:
    """Orders candidates with one bundle. Immutable.

    Args:
        bundle_id: the bundle.
        ratings: what was trained on.
        content: model, features and leaf tables.
        user_shard: whose users `ratings` has; None: everybody.
    """

    def __init__(
        self,
        *,
        bundle_id: str,
        ratings: Ratings,
        content: RankerContent,
        user_shard: UserShard | None = None,
    ) -> None:
        self.bundle_id = bundle_id
        self._user_shard = user_shard
        self._ratings = ratings
        self._content = content
        self._ids = content.tables.catalogue.movies.ids

    @classmethod
    def load(cls, store: BundleStore, bundle_id: str) -> "Ranker":
        """Reads a bundle and ranks with it, as a check and to warm up.

        Raises:
            BundleError: the bundle is damaged, or its golden values do not come out again.
        """
        folder = store.folder(bundle_id, _FOLDER)
        ranker = cls(
            bundle_id=bundle_id,
            ratings=read_ratings(folder),
            content=RankerContent.read(folder),
            user_shard=folder.user_shard,
        )
        for _ in range(WARM_UP_REQUESTS):
            ranker.check(folder.golden.ranking)
        return ranker

    @property
    def base_value(self) -> float:
        """Expected score: with all contributions of a movie it adds up to the movie's score."""
        return self._content.leaf_tables.base_value

    def check(self, golden: GoldenRanking) -> None:
        """Answers the golden query.

        Raises:
            BundleError: the answer is not the golden one.
        """
        query = RankingQuery(
            user_id=golden.user_id,
            movie_ids=np.array(golden.movie_ids, dtype=np.int64),
            retrieval_scores=np.array(golden.retrieval_scores, dtype=np.float32),
            source_ranks={
                Source(name): np.array(ranks, np.int32) for name, ranks in golden.source_ranks.items()
            },
        )
        (answer,) = self.rank([query]).lists
        score_of = dict(zip(answer.movie_ids.tolist(), answer.scores.tolist(), strict=True))
        scores = [score_of.get(movie_id, np.nan) for movie_id in golden.movie_ids]
        check_scores(self.bundle_id, scores, golden.scores)

    def rank(self, queries: Sequence[RankingQuery]) -> Ranking:
        """Orders the candidates of each user; the same whatever else is in the call.

        Raises:
            InvalidArgumentError: nothing is known of a user, neither ratings nor history.
            FailedPreconditionError: a user belongs to another shard.
        """
        if self._user_shard is not None:
            self._user_shard.require([query.user_id for query in queries])
        parts = self._parts(queries, self._histories(queries))
        features = self._content.tables.compute(
            [feature_query for part in parts for feature_query in part.feature_queries(self._ids)]
        )
        scores = self._content.predict(features) if len(features) else np.empty(0, np.float64)
        missing = np.isnan(features).sum(axis=0)
        return Ranking(
            lists=tuple(
                self._list(query, part, features, scores) for query, part in zip(queries, parts, strict=True)
            ),
            missing_features={
                self._content.tables.features[column][1].name: int(missing[column])
                for column in np.flatnonzero(missing)
            },
        )

    def _histories(self, queries: Sequence[RankingQuery]) -> list[History]:
        histories = []
        violations = []
        for place, query in enumerate(queries):
            history = self._ratings.known_of(query.user_id).joined_by(query.history.history(self._ids))
            if len(history) == 0:  # a ranker answers on missing features too, but the order means nothing
                violations.append(
                    FieldViolation(f"queries[{place}].user_id", "must have ratings, or bring a known history")
                )
            histories.append(history)
        if violations:
            raise InvalidArgumentError(violations)
        return histories

    def _parts(self, queries: Sequence[RankingQuery], histories: Sequence[History]) -> list[_Part]:
        parts = []
        start = 0
        for query, history in zip(queries, histories, strict=True):
            rows = self._ids.rows(query.movie_ids)
            is_known = rows >= 0
            known = slice(None) if is_known.all() else is_known  # views, as a rule
            movie_rows = rows[known]
            part = _Part(
                history=history,
                rows=slice(start, start + movie_rows.size),
                movie_rows=movie_rows,
                retrieval_scores=query.retrieval_scores[known],
                source_ranks={source: ranks[known] for source, ranks in query.source_ranks.items()},
                unknown_movie_ids=query.movie_ids[~is_known],
                probes=tuple(
                    probe
                    for probe in query.probes
                    if self._ids.row(probe.movie_id) >= 0 and probe.movie_id not in query.movie_ids
                ),
            )
            parts.append(part)
            start = part.rows.stop + len(part.probes)
        return parts

    def _list(
        self,
        query: RankingQuery,
        part: _Part,
        features: npt.NDArray[np.float32],
        scores: npt.NDArray[np.float64],
    ) -> RankedList:
        """The answer to a query, out of the features and scores of all."""
        order = self._order(query, part.movie_rows, scores[part.rows])
        shown = part.rows.start + order
        return RankedList(
            movie_ids=self._ids.ids[part.movie_rows[order]],
            scores=scores[shown],
            bundle_id=self.bundle_id,
            base_value=self.base_value,
            explanations=self._explanations(
                part, features[shown], part.movie_rows[order], query.explain_features
            ),
            unknown_movie_ids=part.unknown_movie_ids,
            probes=tuple(self._probes(query, part, features, scores)),
            last_explanation=self._full_explanation(part, features[shown[-1]], part.movie_rows[order[-1]])
            if query.probes and shown.size
            else (),
        )

    def _probes(
        self,
        query: RankingQuery,
        part: _Part,
        features: npt.NDArray[np.float32],
        scores: npt.NDArray[np.float64],
    ) -> Iterator[RankedProbe]:
        if not query.probes:
            return
        rows = [*part.movie_rows.tolist(), *(self._ids.row(probe.movie_id) for probe in part.probes)]
        place_of = {row: place for place, row in enumerate(rows, part.rows.start)}
        listed = scores[part.rows]
        for movie_id in (probe.movie_id for probe in query.probes):
            row = self._ids.row(movie_id)
            place = place_of.get(row)
            if place is None or not np.isfinite(scores[place]):
                continue
            ahead = (listed > scores[place]) | ((listed == scores[place]) & (part.movie_rows < row))
            yield RankedProbe(
                movie_id=movie_id,
                score=float(scores[place]),
                rank=1 + int(np.count_nonzero(ahead & np.isfinite(listed))),
                explanation=self._full_explanation(part, features[place], row),
            )

    def _order(
        self, query: RankingQuery, movie_rows: Rows, scores: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.intp]:
        """Places of the movies to return, best first."""
        usable = np.flatnonzero(np.isfinite(scores))
        limit = query.limit or usable.size
        if query.diversity == 0:
            return usable[best_first(scores[usable], movie_rows[usable])[:limit]]
        ascending = usable[np.argsort(movie_rows[usable])]
        unit_factors = self._content.tables.catalogue.item_unit_factors[movie_rows[ascending]]
        return ascending[diversified(scores[ascending], unit_factors, diversity=query.diversity, limit=limit)]

    def _full_explanation(
        self, part: _Part, features: npt.NDArray[np.float32], movie_row: int
    ) -> Explanation:
        """Of one row of the matrix, shape (n_features,)."""
        (explanation,) = self._explanations(part, features[None], np.array([movie_row]), features.size)
        return explanation

    def _explanations(
        self, part: _Part, features: npt.NDArray[np.float32], movie_rows: Rows, n_strongest: int
    ) -> tuple[Explanation, ...]:
        """Of rows of the matrix, shape (n_movies, n_features)."""
        if n_strongest == 0:
            return ()
        return self._content.explain(
            features,
            history=part.history,
            movie_rows=movie_rows,
            n_candidates=part.movie_rows.size,
            limit=n_strongest,
        )
