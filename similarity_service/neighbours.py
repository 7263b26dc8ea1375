"""Neighbours of a movie: those stored by training, or computed again where they do not suffice."""

from dataclasses import dataclass
from enum import StrEnum, auto

import numpy as np
import numpy.typing as npt

from serving.bundle.catalogue import read_movies
from serving.bundle.factors import read_item_factors
from serving.bundle.golden import WARM_UP_REQUESTS, check_movie_ids, check_scores
from serving.bundle.manifest import GoldenSimilar
from serving.bundle.neighbours import NeighboursContent
from serving.bundle.store import BundleStore
from serving.errors import NotFoundError, Reason
from serving.filters import UNRESTRICTED, MovieFilter
from serving.ids import Ids
from serving.movies import Movies
from serving.similarity import directions, genre_jaccard, nearest

_FOLDER = "similarity"


class SimilarityMethod(StrEnum):
    """How similarity was measured."""

    ALS_COSINE = auto()
    """Cosine of ALS item factors, -1 to 1."""
    GENRE_JACCARD = auto()
    """Jaccard index of genres, 0 to 1: ALS has no factors for the movie."""


@dataclass(frozen=True)
class SimilarMovies:
    """Neighbours of one movie, nearest first, without the movie itself. Arrays of one length."""

    movie_ids: Ids
    scores: npt.NDArray[np.float32]
    """Finite, descending."""
    method: SimilarityMethod


class SimilarityIndex:
    """Answers from one bundle. Immutable.

    Args:
        bundle_id: the bundle.
        movies: the catalogue; its rows are those of every array.
        item_factors: shape (n_movies, n_factors); a zero row for a cold movie.
        neighbours: what training computed.
    """

    def __init__(
        self,
        *,
        bundle_id: str,
        movies: Movies,
        item_factors: npt.NDArray[np.float32],
        neighbours: NeighboursContent,
    ) -> None:
        self.bundle_id = bundle_id
        self._movies = movies
        self._directions = directions(item_factors)
        self._cold: npt.NDArray[np.bool_] = ~np.any(self._directions, axis=1)
        self._neighbours = neighbours

    @classmethod
    def load(cls, store: BundleStore, bundle_id: str) -> "SimilarityIndex":
        """Reads a bundle and answers from it, as a check and to warm up.

        Raises:
            BundleError: the bundle is damaged, or its golden values do not come out again.
        """
        folder = store.folder(bundle_id, _FOLDER)
        index = cls(
            bundle_id=bundle_id,
            movies=read_movies(folder),
            item_factors=read_item_factors(folder),
            neighbours=NeighboursContent.read(folder),
        )
        for _ in range(WARM_UP_REQUESTS):
            index.check(folder.manifest.golden.similarity)
        return index

    def check(self, golden: GoldenSimilar) -> None:
        """Answers the golden query.

        Raises:
            BundleError: the answer is not the golden one.
        """
        answer = self.similar(golden.movie_id, limit=len(golden.movie_ids))
        check_movie_ids(self.bundle_id, answer.movie_ids, golden.movie_ids)
        check_scores(self.bundle_id, answer.scores, golden.scores)

    def similar(
        self,
        movie_id: int,
        *,
        limit: int,
        movie_filter: MovieFilter = UNRESTRICTED,
        excluded: Ids | None = None,
    ) -> SimilarMovies:
        """The nearest movies that match.

        Args:
            movie_id: movie to compare with.
            limit: movies to return, at least 1; fewer come back when fewer are alike.
            movie_filter: leaves out what does not match.
            excluded: movie ids to leave out; unknown ones are ignored.

        Raises:
            NotFoundError: the index does not hold the movie.
        """
        row = self._movies.ids.row(movie_id)
        if row < 0:
            raise NotFoundError(reason=Reason.UNKNOWN_MOVIE, resource_type="movie", resource_id=movie_id)
        blocked = self._blocked(row, movie_filter, excluded)
        method = SimilarityMethod.GENRE_JACCARD if self._cold[row] else SimilarityMethod.ALS_COSINE
        stored, stored_scores = self._neighbours.movie_rows[row], self._neighbours.scores[row]
        kept = np.flatnonzero((stored >= 0) & ~blocked[stored])[:limit]
        rows, scores = stored[kept], stored_scores[kept]
        if rows.size < limit and (stored >= 0).all():  # a row with room left over holds all there are
            similarities = self._similarities(row, method)
            if method is SimilarityMethod.ALS_COSINE:
                blocked |= self._cold
            else:
                blocked |= similarities <= 0
            rows = nearest(similarities, blocked, limit)
            scores = similarities[rows]
        return SimilarMovies(self._movies.ids.ids[rows], scores, method)

    def _blocked(self, row: int, movie_filter: MovieFilter, excluded: Ids | None) -> npt.NDArray[np.bool_]:
        """Shape (n_movies,): the movie itself, what does not match, what is excluded."""
        blocked = np.zeros(len(self._movies.ids), np.bool_)
        if movie_filter:
            blocked |= ~movie_filter.matches(self._movies)
        if excluded is not None:
            rows = self._movies.ids.rows(excluded)
            blocked[rows[rows >= 0]] = True
        blocked[row] = True
        return blocked

    def _similarities(self, row: int, method: SimilarityMethod) -> npt.NDArray[np.float32]:
        """Shape (n_movies,): to every movie."""
        if method is SimilarityMethod.GENRE_JACCARD:
            return genre_jaccard(self._movies, row)
        cosines: npt.NDArray[np.float32] = self._directions @ self._directions[row]
        return np.clip(cosines, -1, 1, out=cosines)  # rounding can lead out of the range
