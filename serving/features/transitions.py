"""What is rated after what: weighted links from the last movies of a user."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from serving.features.group import Columns, Feature, FeatureCall, FeatureGroup
from serving.ids import Rows
from serving.links import LinkTable
from serving.ratings import History

_LAST: Final = 30
"""Movies whose links count."""
_BEFORE: Final = np.arange(_LAST)
_SHARES: Final = np.array([*(k > _BEFORE for k in (1, 5, 10)), 0.9**_BEFORE], np.float32)
"""Shape (n_features, 30): what the link from the last movie counts, from the one before it, and so on."""


@dataclass(frozen=True)
class TransitionFeatures(LinkTable, FeatureGroup):
    """How often the candidate is rated soon after the movies that the user rated last."""

    NAME: ClassVar = "transitions"
    VERSION: ClassVar = 1
    FEATURES: ClassVar = tuple(
        Feature(name, f"often rated soon after {{movie}}, {one_of}", f"seldom rated soon after {all_of}")
        for name, one_of, all_of in (
            ("trans_last1", "your last movie", "your last movie"),
            ("trans_last5", "one of your last 5 movies", "your last 5 movies"),
            ("trans_last10", "one of your last 10 movies", "your last 10 movies"),
            ("trans_decayed", "one of your last 30 movies", "your last 30 movies"),
        )
    )

    @override
    def compute(self, call: FeatureCall, out: Columns) -> None:
        places = self._no_places()
        # One product per user: the bits of a product depend on its size.
        for query, rows in call.parts:
            newest_first = _newest_first(query.history)
            out[:, rows] = (_SHARES @ self._weights(newest_first, query.movie_rows, places))[:, 1:]

    @override
    def movies_behind(self, history: History, movie_rows: Rows, names: Collection[str]) -> Mapping[str, Rows]:
        """The movie with the strongest of the links that were added up."""
        named = [place for place, feature in enumerate(self.FEATURES) if feature.name in names]
        found = _newest_first(history)[: np.count_nonzero(_SHARES[named].any(axis=0))]
        newest_first = np.full(_LAST, -1, np.int32)
        newest_first[: found.size] = found
        weights = self._weights(found, movie_rows, self._no_places())[:, 1:]
        behind = {}
        for place in named:
            added = _SHARES[place, :, None] * weights
            strongest = added.argmax(axis=0)
            is_linked = added[strongest, np.arange(movie_rows.size)] > 0
            behind[self.FEATURES[place].name] = np.where(is_linked, newest_first[strongest], np.int32(-1))
        return behind

    def _no_places(self) -> npt.NDArray[np.intp]:
        return np.zeros(self.indptr.size - 1, np.intp)

    def _weights(
        self, newest_first: Rows, movie_rows: Rows, places: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float32]:
        """Of the link from each of the last movies to each movie; 0 where there is none.

        Args:
            newest_first: shape (at most 30,).
            movie_rows: shape (n_movies,).
            places: shape (n_movies of the catalogue,), zeros, and zeros again afterwards.

        Returns:
            Shape (30, 1 + n_movies); the first column says nothing.
        """
        width = 1 + movie_rows.size
        weights = np.zeros((_LAST, width), np.float32)
        links = self.links_of(newest_first)
        places[movie_rows] = np.arange(1, width)
        cells = places.take(links.targets)
        places[movie_rows] = 0
        cells += np.arange(0, newest_first.size * width, width).repeat(links.counts)
        # Links to other movies all end in the first column; no movie has two links to one.
        weights.ravel()[cells] = links.weights
        return weights


def _newest_first(history: History) -> Rows:
    """The last movies, whose links count: shape (at most 30,)."""
    return history.movie_rows[: -_LAST - 1 : -1]
