"""How a candidate's genres match those that the user likes."""

from functools import cached_property
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from serving.features.group import Columns, Feature, FeatureCall, FeatureGroup
from serving.ratings import History

_SHRINKAGE: Final = 5.0


class GenreFeatures(FeatureGroup):
    """How far above the user's mean the candidate's genres are rated, in the mean over them."""

    NAME: ClassVar = "genre"
    VERSION: ClassVar = 1
    FEATURES: ClassVar = (
        Feature(
            "genre_taste",
            "of genres that you rate {value:.2f} stars above your mean",
            "of genres that you do not rate above your mean",
        ),
    )

    @override
    def compute(self, call: FeatureCall, out: Columns) -> None:
        flags = self._flags.take(call.movie_rows, axis=0)
        counts = self._counts[call.movie_rows]
        # One product per user: the bits of a product depend on its size.
        for query, rows in zip(call.queries, call.slices, strict=True):
            out[:, rows] = flags[rows] @ self._taste(query.history)
        out /= counts

    def _taste(self, history: History) -> npt.NDArray[np.float32]:
        """Stars above the user's mean, shape (n_genres,)."""
        rated = self._flags.take(history.movie_rows, axis=0)
        above = history.values - history.values.mean() if len(history) else history.values
        taste: npt.NDArray[np.float32] = (above @ rated) / (rated.sum(axis=0) + np.float32(_SHRINKAGE))
        return taste

    @cached_property
    def _flags(self) -> npt.NDArray[np.float32]:
        """Shape (n_movies, n_genres)."""
        return self.catalogue.movies.genre_flags()

    @cached_property
    def _counts(self) -> npt.NDArray[np.float32]:
        """Shape (n_movies,): genres of each movie, at least 1."""
        counts: npt.NDArray[np.float32] = np.maximum(self._flags.sum(axis=1), 1)
        return counts
