"""Candidates for users: whose vector, which movies are out, and the best of the rest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto

import numpy as np
import numpy.typing as npt

from serving.bundle.catalogue import read_movies
from serving.bundle.factors import read_item_factors, read_ratings, read_user_factors
from serving.bundle.golden import WARM_UP_REQUESTS, check_movie_ids, check_scores
from serving.bundle.manifest import GoldenCandidates
from serving.bundle.store import BundleStore
from serving.filters import UNRESTRICTED, MovieFilter
from serving.fold_in import AlsParameters, FoldIn
from serving.ids import Ids, Rows
from serving.movies import Movies
from serving.ratings import EMPTY_HISTORY, History, RatedMovies, Ratings
from serving.retrieval import finite_factors, retrieve

_FOLDER = "candidate"


class UserVector(StrEnum):
    """Where a user's vector came from."""

    TRAINED = auto()
    """Learned in training."""
    FOLDED_IN = auto()
    """Computed from the request's history, joined to the training ratings of a known user."""
    NONE = auto()
    """There is none: nothing that is known of the user says what to recommend."""


@dataclass(frozen=True)
class CandidateQuery:
    """What to retrieve for one user."""

    user_id: int
    """0: only the history counts."""
    limit: int
    """Most candidates to return, at least 1."""
    movie_filter: MovieFilter = UNRESTRICTED
    excluded: Ids = field(default_factory=lambda: np.empty(0, np.int64))
    """Movie ids to leave out; unknown ones are ignored."""
    include_seen: bool = False
    """Whether movies that the user has rated may come back."""
    history: RatedMovies = field(default_factory=RatedMovies)


@dataclass(frozen=True)
class CandidateList:
    """The candidates of one user, best first, ties in ascending movie_id. Arrays of one length."""

    movie_ids: Ids
    scores: npt.NDArray[np.float32]
    """Inner products of the user's and the movies' factors, finite."""
    user_vector: UserVector


_NOTHING = CandidateList(np.empty(0, np.int64), np.empty(0, np.float32), UserVector.NONE)


@dataclass(frozen=True)
class _User:
    """What a query comes to."""

    origin: UserVector
    vector: npt.NDArray[np.float32]
    """Shape (n_factors,), finite, not zero."""
    seen: tuple[Rows, ...]
    """Movies rated in training, and in the request's history."""


class Retriever:
    """Answers candidate queries from one bundle. Immutable.

    Args:
        bundle_id: the bundle.
        movies: the catalogue; its rows are those of every array.
        ratings: what was trained on; its user rows are those of `user_factors`.
        item_factors: shape (n_movies, n_factors); a zero row for a cold movie.
        user_factors: shape (n_users, n_factors); a zero row for a user who has no vector.
        parameters: what the factors were fitted with.
    """

    def __init__(
        self,
        *,
        bundle_id: str,
        movies: Movies,
        ratings: Ratings,
        item_factors: npt.NDArray[np.float32],
        user_factors: npt.NDArray[np.float32],
        parameters: AlsParameters,
    ) -> None:
        self.bundle_id = bundle_id
        self._movies = movies
        self._ratings = ratings
        self._item_factors = finite_factors(item_factors)
        self._user_factors = finite_factors(user_factors)
        self._cold: npt.NDArray[np.bool_] = ~np.any(self._item_factors, axis=1)
        self._fold_in = FoldIn(self._item_factors, parameters)

    @classmethod
    def load(cls, store: BundleStore, bundle_id: str) -> "Retriever":
        """Reads a bundle and answers from it, as a check and to warm up.

        Raises:
            BundleError: the bundle is damaged, or its golden values do not come out again.
        """
        folder = store.folder(bundle_id, _FOLDER)
        user_factors, parameters = read_user_factors(folder)
        retriever = cls(
            bundle_id=bundle_id,
            movies=read_movies(folder),
            ratings=read_ratings(folder),
            item_factors=read_item_factors(folder),
            user_factors=user_factors,
            parameters=parameters,
        )
        for _ in range(WARM_UP_REQUESTS):
            retriever.check(folder.manifest.golden.candidate)
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
        """Candidates of each user, in order; the same whatever travels along."""
        users = [self._user(query) for query in queries]
        asking = [(query, user) for query, user in zip(queries, users, strict=True) if user is not None]
        if not asking:
            return [_NOTHING] * len(queries)
        found = iter(
            retrieve(
                self._item_factors,
                np.stack([user.vector for _, user in asking]),
                self._blocked(asking),
                [query.limit for query, _ in asking],
            )
        )
        answers = []
        for user in users:
            if user is None:
                answers.append(_NOTHING)
                continue
            best = next(found)
            finite = np.isfinite(best.scores)  # finite factors can still overflow
            answers.append(
                CandidateList(
                    movie_ids=self._movies.ids.ids[best.movie_rows[finite]],
                    scores=best.scores[finite],
                    user_vector=user.origin,
                )
            )
        return answers

    def _user(self, query: CandidateQuery) -> _User | None:
        row = self._ratings.users.row(query.user_id)
        trained = self._ratings.of(row) if row >= 0 else EMPTY_HISTORY
        new = query.history.history(self._movies.ids)
        if len(new) > 0:
            origin, vector = UserVector.FOLDED_IN, self._folded_in(trained, new)
        else:
            origin, vector = UserVector.TRAINED, self._user_factors[row] if row >= 0 else None
        if vector is None or not vector.any():
            return None
        return _User(origin, vector, seen=(trained.movie_rows, new.movie_rows))

    def _folded_in(self, trained: History, new: History) -> npt.NDArray[np.float32] | None:
        vector = self._fold_in.user_vector(trained.joined_by(new))
        return vector if vector is not None and np.isfinite(vector).all() else None

    def _blocked(self, asking: Sequence[tuple[CandidateQuery, _User]]) -> Iterator[npt.NDArray[np.bool_]]:
        """Per user, a mask over movies: cold, not matching, excluded, seen."""
        for query, user in asking:
            blocked = self._cold.copy()
            if query.movie_filter:
                blocked |= ~query.movie_filter.matches(self._movies)
            if query.excluded.size:
                rows = self._movies.ids.rows(query.excluded)
                blocked[rows[rows >= 0]] = True
            if not query.include_seen:
                for rows in user.seen:
                    blocked[rows] = True
            yield blocked
