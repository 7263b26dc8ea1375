"""How a user rates."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from serving.features.group import Columns, Feature, FeatureCall, FeatureGroup
from serving.features.statistics import mean_and_deviation
from serving.ratings import History


class UserFeatures(FeatureGroup):
    """Statistics of the user's ratings; NaN but for their number when there are none."""

    NAME: ClassVar = "user"
    VERSION: ClassVar = 1
    FEATURES: ClassVar = (
        Feature("user_avg_rating", "you give {value:.1f} stars on average"),
        Feature(
            "user_rating_std", "your ratings differ by {value:.1f} stars", "you always give the same stars"
        ),
        Feature("user_num_ratings", "you rated {value:.0f} movies", one="you rated 1 movie"),
        Feature("user_min_rating", "your lowest rating is {value:g}"),
        Feature("user_max_rating", "your highest rating is {value:g}"),
    )

    @override
    def compute(self, call: FeatureCall, out: Columns) -> None:
        for query, rows in call.parts:
            out[:, rows] = user_statistics(query.history)[:, None]


def user_statistics(history: History) -> npt.NDArray[np.float32]:
    """The group's values, shape (5,)."""
    n = len(history)
    if n == 0:
        return np.array([np.nan, np.nan, 0, np.nan, np.nan], dtype=np.float32)
    values = history.values.astype(np.float64)
    mean, deviation = mean_and_deviation(values, degrees_of_freedom=n - 1)
    return np.array([mean, deviation, n, values.min(), values.max()], dtype=np.float32)
