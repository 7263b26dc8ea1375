"""Weighted links from each movie to others, and what the last movies of a user lead to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from serving.features.group import Columns, FeatureCall, FeatureGroup
from serving.ids import Rows
from serving.ratings import History


@dataclass(frozen=True)
class LinkFeatures(FeatureGroup):
    """Weights of the links from the last movies that the user rated to the candidate, added up."""

    LAST: ClassVar[tuple[int, ...]]
    """The k of each feature, ascending."""

    indptr: npt.NDArray[np.int64]
    """Shape (n_movies + 1,)."""
    movie_rows: Rows
    """Shape (n_links,): where each link leads; those of one movie lead to different ones."""
    weights: npt.NDArray[np.float32]
    """Shape (n_links,): positive."""

    def __post_init__(self) -> None:
        if self.indptr[-1] != self.movie_rows.size or self.movie_rows.size != self.weights.size:
            raise ValueError("indptr, movie_rows and weights do not belong together")

    @override
    def compute(self, call: FeatureCall, out: Columns) -> None:
        # One user at a time: a table of one user's places stays in the processor's cache.
        places = np.zeros(self.indptr.size - 1, np.int32)
        for query, rows in zip(call.queries, call.slices, strict=True):
            weights = self._weights(query.history, query.movie_rows, places)
            for column, k in zip(out, self.LAST, strict=True):
                column[rows] = weights[:k].sum(axis=0)

    @override
    def movies_behind(self, history: History, movie_rows: Rows) -> Mapping[str, Rows]:
        """The movie with the strongest of the links that were added up."""
        weights = self._weights(history, movie_rows, np.zeros(self.indptr.size - 1, np.int32))
        newest_first = np.full(self.LAST[-1], -1, np.int32)
        newest_first[: len(history)] = _newest_first(history, self.LAST[-1])
        behind = {}
        for feature, k in zip(self.FEATURES, self.LAST, strict=True):
            strongest = weights[:k].argmax(axis=0)
            is_linked = weights[strongest, np.arange(movie_rows.size)] > 0
            behind[feature.name] = np.where(is_linked, newest_first[strongest], np.int32(-1))
        return behind

    def _weights(
        self, history: History, movie_rows: Rows, places: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.float64]:
        """Of the link from each of the last movies, newest first, to each movie; 0 where there is none.

        Args:
            history: of the user.
            movie_rows: shape (n_movies,).
            places: shape (n_movies of the catalogue,), zeros, and zeros again afterwards.

        Returns:
            Shape (LAST[-1], n_movies).
        """
        newest_first = _newest_first(history, self.LAST[-1])
        starts, ends = self.indptr[newest_first], self.indptr[newest_first + 1]
        width = movie_rows.size + 1
        weights = np.zeros((self.LAST[-1], width))
        if newest_first.size:
            links = [slice(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
            places[movie_rows] = np.arange(1, width, dtype=np.int32)
            cells = places.take(np.concatenate([self.movie_rows[one] for one in links]))
            cells += np.repeat(np.arange(0, newest_first.size * width, width, dtype=np.int32), ends - starts)
            # Links to other movies all end in the first column; no movie has two links to one.
            weights.ravel()[cells] = np.concatenate([self.weights[one] for one in links])
            places[movie_rows] = 0
        return weights[:, 1:]


def _newest_first(history: History, most: int) -> Rows:
    """Movie rows of the last ratings, shape (at most `most`,)."""
    return history.movie_rows[: -most - 1 : -1]
