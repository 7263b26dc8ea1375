"""What the ratings say of each movie, and how popular it is of all time: the last fallback."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving.ratings import Ratings


@dataclass(frozen=True)
class MovieStatistics:
    """What the ratings say of each movie. Arrays of shape (n_movies,)."""

    counts: npt.NDArray[np.int64]
    """Ratings, which is also users: there is one rating per user and movie."""
    means: npt.NDArray[np.float64]
    """Mean stars; NaN for a movie never rated."""
    deviations: npt.NDArray[np.float64]
    """Standard deviation with ddof 1; 0 for one rating, NaN for none."""

    @classmethod
    def of(cls, ratings: Ratings, n_movies: int) -> "MovieStatistics":
        """Counts, means and deviations of each movie's ratings."""
        rows, values = ratings.movie_rows, ratings.values.astype(np.float64)
        counts = np.bincount(rows, minlength=n_movies)
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as promised
            means = np.bincount(rows, weights=values, minlength=n_movies) / counts
        squares = np.bincount(rows, weights=(values - means[rows]) ** 2, minlength=n_movies)
        deviations = np.sqrt(squares / np.maximum(counts - 1, 1))
        deviations[counts == 0] = np.nan
        return cls(counts=counts, means=means, deviations=deviations)


def popularity(
    statistics: MovieStatistics,
    *,
    rating_weight: float = 1.0,
    count_weight: float = 1.0,
    min_ratings: int = 1,
) -> npt.NDArray[np.float64]:
    """`rating_weight · mean + count_weight · log(1 + n)`, shape (n_movies,); 0 below `min_ratings`."""
    rated = statistics.counts >= max(min_ratings, 1)
    scores = np.zeros(statistics.counts.shape)
    scores[rated] = rating_weight * statistics.means[rated] + count_weight * np.log1p(
        statistics.counts[rated]
    )
    return scores
