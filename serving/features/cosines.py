"""Cosines of a candidate's vector with those of the last movies that the user rated."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from serving.features.group import Columns, FeatureCall, FeatureGroup
from serving.ids import Rows
from serving.ratings import History


class CosineFeatures(FeatureGroup):
    """Sums of the cosines with the last k movies, divided by k."""

    LAST: ClassVar[tuple[int, ...]]
    """The k of each feature, ascending from 1."""

    @property
    @abstractmethod
    def unit_vectors(self) -> npt.NDArray[np.float32]:
        """Shape (n_movies, n_dimensions): of length one; a zero row where there is none."""

    @override
    def compute(self, call: FeatureCall, out: Columns) -> None:
        vectors = self.unit_vectors
        last = np.zeros((len(call.queries), self.LAST[-1], vectors.shape[1]), np.float32)
        for newest, query in zip(last, call.queries, strict=True):
            rated = query.history.movie_rows[-self.LAST[-1] :]
            newest[self.LAST[-1] - rated.size :] = vectors.take(rated, axis=0)
        # A mean of cosines is one product with the mean of the unit vectors.
        means = np.stack([last[:, -k:].sum(axis=1) / k for k in self.LAST], axis=-1)
        candidates = vectors.take(call.movie_rows, axis=0)
        # One product per user: the bits of a product depend on its size.
        for mean, rows in zip(means, call.slices, strict=True):
            out[:, rows] = (candidates[rows] @ mean).T

    @override
    def movies_behind(self, history: History, movie_rows: Rows) -> Mapping[str, Rows]:
        newest = history.movie_rows[-1] if len(history) else -1
        return {self.FEATURES[0].name: np.full(movie_rows.size, newest, np.int32)}
