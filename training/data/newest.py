"""When the newest rating was given, whatever a few wrong clocks say."""

from typing import Final

import numpy as np
import numpy.typing as npt

_RATINGS_PER_WRONG_TIME: Final = 1_000
_YEAR_SECONDS: Final = 365 * 24 * 60 * 60


def newest_time(times: npt.NDArray[np.int64]) -> int:
    """Unix seconds of the newest rating; at least one is given.

    Of each 1,000 ratings one may be more than a year ahead of the others, as those of the year 2100 are: it
    does not count.
    """
    place = times.size - 1 - times.size // _RATINGS_PER_WRONG_TIME
    latest = np.partition(times, place)[place:]
    return int(latest[latest <= latest[0] + _YEAR_SECONDS].max())
