"""What a movie is, and how it was rated."""

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from serving.ratings import Ratings
from training.data.movielens.movies import MovieTable
from training.data.newest import newest_time
from training.data.popularity import MovieStatistics, popularity
from training.engine.engine import Engine


def build(ratings: Ratings, table: MovieTable, _engine: Engine) -> dict[str, npt.NDArray[np.float32]]:
    """The values of `MovieFeatures`, in the order of its names; NaN where unknown."""
    statistics = MovieStatistics.of(ratings, len(table.movies.ids))
    years = table.movies.known_years.astype(np.float64)
    newest = datetime.fromtimestamp(newest_time(ratings.times), UTC).year if ratings.is_timed else np.nan
    flags = table.movies.genre_flags()
    columns = [
        statistics.means,
        statistics.deviations,
        statistics.counts,
        statistics.counts,
        popularity(statistics),
        years,
        newest - years,
        years // 10 * 10,
        table.title_lengths,
        flags[:, 1:].sum(axis=1),  # the first flag is "no genres listed"
        *flags.T,
    ]
    return {"values": np.column_stack(columns).astype(np.float32)}
