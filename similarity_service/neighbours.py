"""Neighbours of a movie: those stored by training, or computed again where they do not suffice."""

from typing import Final

import numpy as np
import numpy.typing as npt

from serving.bundle.catalogue import read_movies
from serving.bundle.factors import read_item_factors
from serving.bundle.golden import WARM_UP_REQUESTS, check_movie_ids, check_scores
from serving.bundle.manifest import GoldenSimilar
from serving.bundle.neighbours import NeighboursContent
from serving.bundle.store import BundleStore
from serving.errors import NotFoundError, Reason
from serving.filters import left_out
from serving.movies import Movies
from serving.similarity import genre_jaccard, nearest, unit_factors
from serving.stages.similarity import SimilarityMethod, SimilarMovies, SimilarQuery

_FOLDER: Final = "similarity"


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
        self._unit_factors = unit_factors(item_factors)
        self._cold: npt.NDArray[np.bool_] = ~np.any(self._unit_factors, axis=1)
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
        answer = self.similar(SimilarQuery(golden.movie_id, limit=len(golden.movie_ids)))
        check_movie_ids(self.bundle_id, answer.movie_ids, golden.movie_ids)
        check_scores(self.bundle_id, answer.scores, golden.scores)

    def similar(self, query: SimilarQuery) -> SimilarMovies:
        """The nearest movies that match.

        Raises:
            NotFoundError: the index does not hold the movie.
        """
        row, limit = self._movies.ids.row(query.movie_id), query.limit
        if row < 0:
            raise NotFoundError(
                f"movie {query.movie_id} is not in the index.",
                reason=Reason.UNKNOWN_MOVIE,
                resource_type="movie",
                resource_id=query.movie_id,
            )
        blocked = left_out(self._movies, query.movie_filter, query.exclude_movie_ids)
        blocked[row] = True
        method = SimilarityMethod.GENRE_JACCARD if self._cold[row] else SimilarityMethod.ALS_COSINE
        stored, stored_scores = self._neighbours.movie_rows[row], self._neighbours.scores[row]
        kept = np.flatnonzero((stored >= 0) & ~blocked[stored])[:limit]
        rows, scores = stored[kept], stored_scores[kept]
        if rows.size < limit and (stored >= 0).all():  # a row with room left over holds all there are
            if method is SimilarityMethod.ALS_COSINE:
                similarities = self._unit_factors @ self._unit_factors[row]
                np.clip(similarities, -1, 1, out=similarities)  # rounding can lead out of the range
                blocked |= self._cold
            else:
                similarities = genre_jaccard(self._movies, row)
                blocked |= similarities <= 0
            rows = nearest(similarities, blocked, limit)
            scores = similarities[rows]
        return SimilarMovies(self._movies.ids.ids[rows], scores, method, self.bundle_id)
