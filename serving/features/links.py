"""Weighted links from each movie to others, and what the last movies of a user lead to."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from serving.features.group import Columns, FeatureCall, FeatureGroup
from serving.ids import Rows
from serving.ratings import History


@dataclass(frozen=True)
class LinkFeatures(FeatureGroup):
    """Weights of the links from the last movies of the user to the candidate, added up."""

    SHARES: ClassVar[tuple[tuple[float, ...], ...]]
    """Of each feature: what the link from the last movie counts, from the one before it, and so on: up to 1,
    and never rising. The longest comes last."""

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
        # One user at a time: a table of one user's places stays in the processor's cache, and the bits of a
        # product depend on its size.
        places = np.zeros(self.indptr.size - 1, np.int32)
        for query, rows in zip(call.queries, call.slices, strict=True):
            out[:, rows] = self._shares @ self._weights(
                self._newest_first(query.history), query.movie_rows, places
            )

    @override
    def movies_behind(self, history: History, movie_rows: Rows) -> Mapping[str, Rows]:
        """The movie with the strongest of the links that were added up."""
        newest_first = np.full(len(self.SHARES[-1]), -1, np.int32)
        found = self._newest_first(history)
        newest_first[: found.size] = found
        weights = self._weights(found, movie_rows, np.zeros(self.indptr.size - 1, np.int32))
        behind = {}
        for feature, shares in zip(self.FEATURES, self._shares, strict=True):
            added = shares[:, None] * weights
            strongest = added.argmax(axis=0)
            is_linked = added[strongest, np.arange(movie_rows.size)] > 0
            behind[feature.name] = np.where(is_linked, newest_first[strongest], np.int32(-1))
        return behind

    @cached_property
    def _shares(self) -> npt.NDArray[np.float64]:
        """Shape (n_features, len(SHARES[-1]))."""
        most = len(self.SHARES[-1])
        return np.array([shares + (0.0,) * (most - len(shares)) for shares in self.SHARES])

    def _newest_first(self, history: History) -> Rows:
        """The last movies whose links count, shape (at most `len(SHARES[-1])`,)."""
        return history.movie_rows[: -len(self.SHARES[-1]) - 1 : -1]

    def _weights(
        self, newest_first: Rows, movie_rows: Rows, places: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.float64]:
        """Of the link from each of the last movies to each movie; 0 where there is none.

        Args:
            newest_first: shape (at most `len(SHARES[-1])`,).
            movie_rows: shape (n_movies,).
            places: shape (n_movies of the catalogue,), zeros, and zeros again afterwards.

        Returns:
            Shape (len(SHARES[-1]), n_movies).
        """
        starts, ends = self.indptr[newest_first], self.indptr[newest_first + 1]
        width = movie_rows.size + 1
        weights = np.zeros((len(self.SHARES[-1]), width))
        if newest_first.size:
            links = [slice(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
            places[movie_rows] = np.arange(1, width, dtype=np.int32)
            cells = places.take(np.concatenate([self.movie_rows[one] for one in links]))
            cells += np.repeat(np.arange(0, newest_first.size * width, width, dtype=np.int32), ends - starts)
            # Links to other movies all end in the first column; no movie has two links to one.
            weights.ravel()[cells] = np.concatenate([self.weights[one] for one in links])
            places[movie_rows] = 0
        return weights[:, 1:]


def last(k: int) -> tuple[float, ...]:
    """The share of each of the last k movies: all the same."""
    return (1.0,) * k


def decayed(by: float, k: int) -> tuple[float, ...]:
    """The share of each of the last k movies: that of the one after it, times `by`."""
    return tuple(by**place for place in range(k))
