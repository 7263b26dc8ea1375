"""How long and how fast a user has rated."""

from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from serving.features.group import Columns, Feature, FeatureCall, FeatureGroup
from serving.ratings import NO_TIME, History

_SECONDS_PER_DAY: Final = 86_400


class PaceFeatures(FeatureGroup):
    """Days between the user's first and last rating, and ratings a day; 0 when there are none."""

    NAME: ClassVar = "pace"
    VERSION: ClassVar = 1
    FEATURES: ClassVar = (
        Feature("user_activity_days", "you rated for {value:.0f} days", one="you rated for 1 day"),
        Feature("user_rating_velocity", "you rated {value:.1f} movies a day"),
    )

    @override
    def compute(self, call: FeatureCall, out: Columns) -> None:
        for query, rows in call.parts:
            out[:, rows] = user_pace(query.history)[:, None]


def user_pace(history: History) -> npt.NDArray[np.float32]:
    """The group's values, shape (2,)."""
    n_known = int(np.searchsorted(history.times, NO_TIME))  # the unknown times are the last
    days = int(history.times[n_known - 1] - history.times[0]) / _SECONDS_PER_DAY if n_known else 0.0
    return np.array([days, len(history) / max(days, 1.0)], dtype=np.float32)
