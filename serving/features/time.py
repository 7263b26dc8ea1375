"""What a candidate was at the time at which the user rated last."""

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from serving.features.group import Columns, Feature, FeatureCall, FeatureGroup
from serving.ratings import NO_TIME, History

_SECONDS_PER_DAY: Final = 86_400
_SECONDS_PER_YEAR: Final = 365.2425 * _SECONDS_PER_DAY
RECENT_SECONDS: Final = 90 * _SECONDS_PER_DAY
"""Width of the time bins in which recent ratings are counted."""


@dataclass(frozen=True)
class TimeFeatures(FeatureGroup):
    """Age in years, days since first rated, and recent ratings."""

    NAME: ClassVar = "time"
    VERSION: ClassVar = 1
    FEATURES: ClassVar = (
        Feature(
            "movie_age_at_last",
            "{value:.0f} years old when you last rated",
            "not older than your last rating",
            "of an unknown year",
            "1 year old when you last rated",
        ),
        Feature(
            "movie_days_at_last",
            "first rated {value:.0f} days before your last rating",
            "first rated after your last rating",
            "never rated",
            "first rated 1 day before your last rating",
        ),
        Feature(
            "movie_recent_ratings",
            "rated {value:.0f} times around the time of your last rating",
            "not rated around the time of your last rating",
            one="rated once around the time of your last rating",
        ),
    )

    first_times: npt.NDArray[np.float64]
    """Shape (n_movies,): Unix seconds of each movie's first rating; NaN where there is none."""
    recent_ratings: npt.NDArray[np.int32]
    """Shape (n_movies, n_bins): each movie's ratings in a bin of `RECENT_SECONDS` and the one before."""
    span: npt.NDArray[np.int64]
    """Shape (2,): Unix seconds of the oldest rating, where the bins begin, and of the newest."""

    @override
    def compute(self, call: FeatureCall, out: Columns) -> None:
        age, days, recent = out
        years = self.catalogue.movies.known_years.take(call.movie_rows)
        first_times = self.first_times.take(call.movie_rows)
        oldest, newest = self.span.tolist()
        last_bin = self.recent_ratings.shape[1] - 1
        for query, rows in call.parts:
            last = _last_time(query.history, otherwise=newest)
            age[rows] = 1970 + last / _SECONDS_PER_YEAR - years[rows]
            days[rows] = (last - first_times[rows]) / _SECONDS_PER_DAY
            now = min(max((last - oldest) // RECENT_SECONDS, 0), last_bin)
            recent[rows] = self.recent_ratings[query.movie_rows, now]


def _last_time(history: History, *, otherwise: int) -> int:
    """Unix seconds of the last rating; `otherwise` when that is unknown."""
    times = history.times
    return int(times[-1]) if times.size and times[-1] != NO_TIME else otherwise
