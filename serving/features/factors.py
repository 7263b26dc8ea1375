"""How close a candidate is to what the user rated last, by ALS factors."""

from collections.abc import Collection, Mapping
from typing import ClassVar, Final

import numpy as np
from typing_extensions import override

from serving.features.group import Columns, Feature, FeatureCall, FeatureGroup
from serving.ids import Rows
from serving.ratings import History

_LAST: Final = (1, 5, 20)
"""The k of each feature."""


class FactorFeatures(FeatureGroup):
    """Mean cosines of the candidate's ALS factors with those of the last movies that the user rated.

    Sums of the cosines with the last k movies, divided by k, however short the history.
    """

    NAME: ClassVar = "factors"
    VERSION: ClassVar = 1
    FEATURES: ClassVar = (
        Feature(
            "cos_last1", "liked by the same people as {movie}", "not liked by the same people as {movie}"
        ),
        Feature("cos_last5", "close to your last 5 movies", "not close to your last 5 movies"),
        Feature("cos_last20", "close to your last 20 movies", "not close to your last 20 movies"),
    )

    @override
    def compute(self, call: FeatureCall, out: Columns) -> None:
        vectors = self.catalogue.item_unit_factors
        means = np.empty((vectors.shape[1], len(_LAST)), np.float32)
        # One product per user: the bits of a product depend on its size.
        for query, rows in call.parts:
            last = vectors.take(query.history.movie_rows[-_LAST[-1] :], axis=0)
            # A mean of cosines is one product with the mean of the unit vectors.
            for place, k in enumerate(_LAST):
                means[:, place] = last[-k:].sum(axis=0) / k
            out[:, rows] = (vectors.take(query.movie_rows, axis=0) @ means).T

    @override
    def movies_behind(self, history: History, movie_rows: Rows, names: Collection[str]) -> Mapping[str, Rows]:
        if self.FEATURES[0].name not in names:
            return {}
        newest = history.movie_rows[-1] if len(history) else -1
        return {self.FEATURES[0].name: np.full(movie_rows.size, newest, np.int32)}
