"""What the last movies of a user lead to, by weighted links between movies."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from serving.features.group import Columns, FeatureCall, FeatureGroup
from serving.ids import Rows
from serving.links import LinkTable
from serving.ratings import History


@dataclass(frozen=True)
class LinkFeatures(LinkTable, FeatureGroup):
    """Weights of the links from the last movies of the user to the candidate, added up."""

    SHARES: ClassVar[tuple[tuple[float, ...], ...]]
    """Of each feature: what the link from the last movie counts, from the one before it, and so on: up to 1,
    and never rising. The longest comes last."""

    @override
    def compute(self, call: FeatureCall, out: Columns) -> None:
        places = self._no_places()
        # One product per user: the bits of a product depend on its size.
        for query, rows in zip(call.queries, call.slices, strict=True):
            newest_first = self._newest_first(query.history)
            out[:, rows] = (self._shares @ self._weights(newest_first, query.movie_rows, places))[:, 1:]

    @override
    def movies_behind(self, history: History, movie_rows: Rows, names: Collection[str]) -> Mapping[str, Rows]:
        """The movie with the strongest of the links that were added up."""
        named = [place for place, feature in enumerate(self.FEATURES) if feature.name in names]
        found = self._newest_first(history)[: max((len(self.SHARES[place]) for place in named), default=0)]
        newest_first = np.full(len(self.SHARES[-1]), -1, np.int32)
        newest_first[: found.size] = found
        weights = self._weights(found, movie_rows, self._no_places())[:, 1:]
        behind = {}
        for place in named:
            added = self._shares[place, :, None] * weights
            strongest = added.argmax(axis=0)
            is_linked = added[strongest, np.arange(movie_rows.size)] > 0
            behind[self.FEATURES[place].name] = np.where(is_linked, newest_first[strongest], np.int32(-1))
        return behind

    @cached_property
    def _shares(self) -> npt.NDArray[np.float32]:
        """Shape (n_features, len(SHARES[-1]))."""
        most = len(self.SHARES[-1])
        return np.array([shares + (0.0,) * (most - len(shares)) for shares in self.SHARES], np.float32)

    def _no_places(self) -> npt.NDArray[np.intp]:
        return np.zeros(self.indptr.size - 1, np.intp)

    def _newest_first(self, history: History) -> Rows:
        """The last movies whose links count, shape (at most `len(SHARES[-1])`,)."""
        return history.movie_rows[: -len(self.SHARES[-1]) - 1 : -1]

    def _weights(
        self, newest_first: Rows, movie_rows: Rows, places: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float32]:
        """Of the link from each of the last movies to each movie; 0 where there is none.

        Args:
            newest_first: shape (at most `len(SHARES[-1])`,).
            movie_rows: shape (n_movies,).
            places: shape (n_movies of the catalogue,), zeros, and zeros again afterwards.

        Returns:
            Shape (len(SHARES[-1]), 1 + n_movies); the first column says nothing.
        """
        width = 1 + movie_rows.size
        weights = np.zeros((len(self.SHARES[-1]), width), np.float32)
        links = self.links_of(newest_first)
        places[movie_rows] = np.arange(1, width)
        cells = places.take(links.targets)
        places[movie_rows] = 0
        cells += np.arange(0, newest_first.size * width, width).repeat(links.counts)
        # Links to other movies all end in the first column; no movie has two links to one.
        weights.ravel()[cells] = links.weights
        return weights


def last(k: int) -> tuple[float, ...]:
    """The share of each of the last k movies: all the same."""
    return (1.0,) * k


def decayed(by: float, k: int) -> tuple[float, ...]:
    """The share of each of the last k movies: that of the one after it, times `by`."""
    return tuple(by**place for place in range(k))
