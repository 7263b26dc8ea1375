"""How a candidate's genres match those of the last movies that the user rated."""

from functools import cached_property
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from serving.features.group import Columns, Feature, FeatureCall, FeatureGroup

_LAST: Final = 20


class RecentGenreFeatures(FeatureGroup):
    """Share of the user's last movies that have the candidate's genres, in the mean over these."""

    NAME: ClassVar = "recent_genres"
    VERSION: ClassVar = 1
    FEATURES: ClassVar = (
        Feature(
            "genre_share_last20",
            "of genres that {value:.0%} of your last 20 movies have",
            "of genres that none of your last 20 movies has",
        ),
    )

    @override
    def compute(self, call: FeatureCall, out: Columns) -> None:
        (shares,) = out
        # One product per user: the bits of a product depend on its size.
        for query, rows in zip(call.queries, call.slices, strict=True):
            rated = self._flags[query.history.movie_rows[-_LAST:]]
            share = rated.sum(axis=0) / np.float32(max(len(rated), 1))
            shares[rows] = self._mean_flags.take(query.movie_rows, axis=0) @ share

    @cached_property
    def _flags(self) -> npt.NDArray[np.float32]:
        """Shape (n_movies, n_genres)."""
        return self.catalogue.movies.genre_flags()

    @cached_property
    def _mean_flags(self) -> npt.NDArray[np.float32]:
        """Shape (n_movies, n_genres): the flags of each movie, over how many there are."""
        means: npt.NDArray[np.float32] = self._flags / np.maximum(self._flags.sum(axis=1, keepdims=True), 1)
        return means
