"""Candidates for users: whose vector, which movies are out, and the best of the rest."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from candidate_service.reasons import reasons_for
from serving.bundle.catalogue import read_movies
from serving.bundle.factors import read_item_factors, read_ratings, read_user_factors
from serving.bundle.golden import WARM_UP_REQUESTS, check_movie_ids, check_scores
from serving.bundle.manifest import GoldenCandidates
from serving.bundle.sources import read_sources
from serving.bundle.store import BundleStore
from serving.filters import left_out
from serving.fold_in import MAX_RATINGS, AlsParameters, FoldIn
from serving.ids import NO_IDS, NO_ROWS, Rows
from serving.movies import Movies
from serving.ratings import History, Ratings
from serving.retrieval import SMALL_SHARE, RowsByNorm, finite_factors, retrieve, retrieve_by_norm
from serving.shards import UserShard
from serving.sources import CandidateSources, FusedCandidates
from serving.stages.candidate import (
    NO_LIKES,
    CandidateList,
    CandidateProbe,
    CandidateQuery,
    LikedMovies,
    UserVector,
)

_FOLDER: Final = "candidate"
_NOTHING: Final = FusedCandidates(NO_ROWS, np.empty(0, np.float32), np.empty(0, np.float32))


@dataclass(frozen=True)
class _User:
    """What a query comes to."""

    origin: UserVector
    vector: npt.NDArray[np.float32]
    """Shape (n_factors,), finite, not zero."""
    history: History
    """Ratings in training and in the request's history, joined."""


class Retriever:
    """Answers candidate queries from one bundle. Immutable.

    Args:
        bundle_id: the bundle.
        movies: the catalogue; its rows are those of every array.
        ratings: what was trained on; its user rows are those of `user_factors`.
        sources: what offers candidates; its item factors have shape (n_movies, n_factors), finite, and a zero
            row for a cold movie.
        user_factors: shape (n_users, n_factors); a zero row for a user who has no vector.
        parameters: what the factors were fitted with.
        n_candidates: what a query without a limit gets, and the movies that each source offers at the least.
        least_history: ratings below which a user has no candidates.
        scan_share: share of the item factors that a scan by norm reads, which is chosen where this is small;
            None where it was not measured. It changes what a request costs, not what it is answered.
        user_shard: whose users `ratings` has; None: everybody.
    """

    def __init__(
        self,
        *,
        bundle_id: str,
        movies: Movies,
        ratings: Ratings,
        sources: CandidateSources,
        user_factors: npt.NDArray[np.float32],
        parameters: AlsParameters,
        n_candidates: int,
        least_history: int = 0,
        scan_share: float | None = None,
        user_shard: UserShard | None = None,
    ) -> None:
        self.bundle_id = bundle_id
        self._user_shard = user_shard
        self._n_candidates = n_candidates
        self._movies = movies
        self._ratings = ratings
        self._least_history = least_history
        self._sources = sources
        self._user_factors = finite_factors(user_factors)
        self._cold: npt.NDArray[np.bool_] = ~np.any(sources.item_factors, axis=1)
        self._fold_in = FoldIn(sources.item_factors, parameters)
        self._best = (
            partial(retrieve_by_norm, RowsByNorm.of(sources.item_factors))
            if scan_share is not None and scan_share <= SMALL_SHARE
            else partial(retrieve, sources.item_factors)
        )

    @classmethod
    def load(cls, store: BundleStore, bundle_id: str) -> "Retriever":
        """Reads a bundle and answers from it, as a check and to warm up.

        Raises:
            BundleError: the bundle is damaged, or its golden values do not come out again.
        """
        folder = store.folder(bundle_id, _FOLDER)
        with ThreadPoolExecutor() as pool:  # most of the time goes into hashes, which hold no lock
            ratings = pool.submit(read_ratings, folder)
            user_factors, parameters = read_user_factors(folder)
            record, sources = read_sources(folder, finite_factors(read_item_factors(folder)))
        retriever = cls(
            bundle_id=bundle_id,
            movies=read_movies(folder),
            ratings=ratings.result(),
            sources=sources,
            user_factors=user_factors,
            parameters=parameters,
            n_candidates=folder.manifest.n_candidates,
            least_history=record.least_history,
            scan_share=folder.manifest.scan_share,
            user_shard=folder.user_shard,
        )
        for _ in range(WARM_UP_REQUESTS):
            retriever.check(folder.golden.candidate)
        return retriever

    def check(self, golden: GoldenCandidates) -> None:
        """Answers the golden query.

        Raises:
            BundleError: the answer is not the golden one.
        """
        (answer,) = self.retrieve([CandidateQuery(user_id=golden.user_id, limit=len(golden.movie_ids))])
        check_movie_ids(self.bundle_id, answer.movie_ids, golden.movie_ids)
        check_scores(self.bundle_id, answer.scores, golden.scores)

    def retrieve(self, queries: Sequence[CandidateQuery]) -> list[CandidateList]:
        """Candidates of each user, in order; the same whatever else is in the call.

        Raises:
            FailedPreconditionError: a user belongs to another shard.
        """
        if self._user_shard is not None:
            self._user_shard.require([query.user_id for query in queries])
        users = [self._user(query) for query in queries]
        served = {
            place: (query, user)
            for place, (query, user) in enumerate(zip(queries, users, strict=True))
            if user is not None and len(user.history) >= self._least_history
        }
        found = dict(zip(served, self._found(list(served.values())), strict=True))
        return [
            self._list(query, user, found.get(place))
            for place, (query, user) in enumerate(zip(queries, users, strict=True))
        ]

    def _found(self, asking: Sequence[tuple[CandidateQuery, _User]]) -> list[FusedCandidates]:
        """What the sources have for each user."""
        if not asking:
            return []
        masks = [self._blocked(query, user) for query, user in asking]
        best_of_als = self._best(
            np.stack([user.vector for _, user in asking]), masks, [self._depth(query) for query, _ in asking]
        )
        return [
            self._sources.fuse(
                als,
                user.vector,
                user.history,
                blocked,
                depth=self._depth(query),
                limit=query.limit or self._n_candidates,
            )
            for (query, user), blocked, als in zip(asking, masks, best_of_als, strict=True)
        ]

    def _list(
        self, query: CandidateQuery, user: _User | None, found: FusedCandidates | None
    ) -> CandidateList:
        """The answer to a query, out of what was found: none where nothing was looked for."""
        shown = _NOTHING if found is None else found
        return CandidateList(
            movie_ids=self._movies.ids.ids[shown.movie_rows],
            scores=shown.scores,
            user_vector=UserVector.NONE if user is None else user.origin,
            bundle_id=self.bundle_id,
            because_of=NO_LIKES if user is None else self._because_of(query, user, shown.movie_rows),
            probes=() if user is None else tuple(self._probes(query, user)),
            fused_scores=shown.fused_scores,
            source_ranks=shown.source_ranks,
            short_history=user is not None and found is None,
            seen_movie_ids=self._movies.ids.ids[self._ratings.known_of(query.user_id).movie_rows]
            if query.return_seen
            else NO_IDS,
        )

    def ratings_to_solve(self, user_id: int, new_ratings: int, because_of: int) -> int:
        """How many ratings a query's systems of equations are made of.

        A new vector takes one system and reasons another, each of all that is known of the user; a query
        that asks for neither takes none.
        """
        systems = bool(new_ratings) + bool(because_of)
        if not systems:
            return 0
        return systems * min(len(self._ratings.known_of(user_id)) + new_ratings, MAX_RATINGS)

    def _depth(self, query: CandidateQuery) -> int:
        """Movies that each source offers: what a shorter list begins with does not depend on its length."""
        return max(query.limit, self._n_candidates)

    def _user(self, query: CandidateQuery) -> _User | None:
        row = self._ratings.users.row(query.user_id)
        new = query.history.history(self._movies.ids)
        history = self._ratings.known_of(query.user_id).joined_by(new)
        vector: npt.NDArray[np.float32] | None = None
        if len(new) > 0:
            folded = self._fold_in.user_vector(history)
            vector = folded if folded is not None and np.isfinite(folded).all() else None
        elif row >= 0:
            vector = self._user_factors[row]
        if vector is None or not vector.any():
            return None
        return _User(UserVector.FOLDED_IN if len(new) > 0 else UserVector.TRAINED, vector, history)

    def _blocked(self, query: CandidateQuery, user: _User) -> npt.NDArray[np.bool_]:
        """Shape (n_movies,), fresh: cold, not matching, excluded, seen."""
        blocked = left_out(self._movies, query.movie_filter, query.exclude_movie_ids)
        blocked |= self._cold
        if not query.include_seen:
            blocked[user.history.movie_rows] = True
        return blocked

    def _because_of(self, query: CandidateQuery, user: _User, candidates: Rows) -> LikedMovies:
        if query.because_of == 0 or not candidates.size:
            return NO_LIKES
        rows, weights = reasons_for(candidates, user.history, self._fold_in, query.because_of)
        return LikedMovies(np.where(rows >= 0, self._movies.ids.ids[rows], 0), weights)

    def _probes(self, query: CandidateQuery, user: _User) -> Iterator[CandidateProbe]:
        if not query.probe_movie_ids:
            return
        blocked = self._blocked(query, user)
        matching = query.movie_filter.matches(self._movies)
        for movie_id in query.probe_movie_ids:
            row = self._movies.ids.row(movie_id)
            if row < 0:
                yield CandidateProbe(movie_id, unknown=True)
                continue
            standing = self._sources.standing(
                user.vector, user.history, blocked, depth=self._depth(query), movie_row=row
            )
            scored = not self._cold[row] and np.isfinite(standing.score)
            yield CandidateProbe(
                movie_id,
                seen=row in user.history.movie_rows,
                excluded=movie_id in query.exclude_movie_ids,
                filtered_out=not matching[row],
                score=standing.score if scored else None,
                rank=standing.rank if scored else None,
                fused_score=standing.fused_score if scored else None,
                source_ranks=standing.source_ranks if scored else {},
            )
