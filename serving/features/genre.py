"""How a candidate's genres match those that the user likes."""

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
        genre_shares = self.catalogue.genre_shares
        (column,) = out
        # One product per user: the bits of a product depend on its size.
        for query, rows in call.parts:
            column[rows] = genre_shares.take(query.movie_rows, axis=0) @ self._taste(query.history)

    def _taste(self, history: History) -> npt.NDArray[np.float32]:
        """Stars above the user's mean, shape (n_genres,)."""
        rated = self.catalogue.genre_flags.take(history.movie_rows, axis=0)
        above = history.values - history.values.mean() if len(history) else history.values
        taste: npt.NDArray[np.float32] = (above @ rated) / (rated.sum(axis=0) + np.float32(_SHRINKAGE))
        return taste
