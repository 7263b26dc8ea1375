"""How a candidate's genres match those that the user rated."""

from functools import cached_property
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from serving.features.group import Columns, Feature, FeatureCall, FeatureGroup
from serving.ratings import History

_SHRINKAGE: Final = 5.0
_LAST: Final = 20


class GenreFeatures(FeatureGroup):
    """Means over the candidate's genres: how far above the user's mean each is rated; its share of late."""

    NAME: ClassVar = "genre"
    VERSION: ClassVar = 1
    FEATURES: ClassVar = (
        Feature(
            "genre_taste",
            "of genres that you rate {value:.2f} stars above your mean",
            "of genres that you do not rate above your mean",
        ),
        Feature(
            "genre_share_last20",
            "of genres that {value:.0%} of your last 20 movies have",
            "of genres that none of your last 20 movies has",
        ),
    )

    @override
    def compute(self, call: FeatureCall, out: Columns) -> None:
        flags = self._flags.take(call.movie_rows, axis=0)
        counts = self._counts[call.movie_rows]
        # One product per user: the bits of a product depend on its size.
        for query, rows in zip(call.queries, call.slices, strict=True):
            out[:, rows] = (flags[rows] @ self._taste_and_share(query.history)).T
        out /= counts

    def _taste_and_share(self, history: History) -> npt.NDArray[np.float32]:
        """Shape (n_genres, 2)."""
        rated = self._flags.take(history.movie_rows, axis=0)
        above = history.values - history.values.mean() if len(history) else history.values
        taste = (above @ rated) / (rated.sum(axis=0) + _SHRINKAGE)
        share = rated[-_LAST:].sum(axis=0) / max(min(len(history), _LAST), 1)
        return np.column_stack([taste, share])

    @cached_property
    def _flags(self) -> npt.NDArray[np.float32]:
        """Shape (n_movies, n_genres)."""
        return self.catalogue.movies.genre_flags()

    @cached_property
    def _counts(self) -> npt.NDArray[np.float32]:
        """Shape (n_movies,): genres of each movie, at least 1."""
        counts: npt.NDArray[np.float32] = np.maximum(self._flags.sum(axis=1), 1)
        return counts
