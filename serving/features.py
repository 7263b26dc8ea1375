"""The ranker's features: names, order, and the one function that computes them.

Training and serving call `FeatureTables.compute`, so that a model never sees features that were computed
in another way than those it learned from. All features are numeric float32; NaN stands for unknown.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from serving.ids import Rows
from serving.movies import GENRES
from serving.ratings import NO_TIME, History

USER_FEATURES: Final = (
    "user_avg_rating",
    "user_rating_std",
    "user_num_ratings",
    "user_min_rating",
    "user_max_rating",
    "user_activity_days",
    "user_rating_velocity",
)
MOVIE_FEATURES: Final = (
    "movie_avg_rating",
    "movie_rating_std",
    "movie_num_ratings",
    "movie_num_users",
    "movie_popularity",
    "year",
    "movie_age",
    "decade",
    "title_length",
    "num_genres",
    *(f"genre_{name.strip('()').lower().replace(' ', '_').replace('-', '_')}" for name in GENRES),
)
CONTEXT_FEATURES: Final = (
    "als_rank",
    "als_z",
    "trans_last1",
    "trans_last5",
    "trans_last10",
    "knn_last5",
    "knn_last10",
    "cos_last1",
    "cos_last5",
    "cos_last20",
    "movie_age_at_last",
    "movie_days_at_last",
    "movie_recent_ratings",
    "genre_taste",
    "genre_share_last20",
)


Column: TypeAlias = npt.NDArray[np.floating] | npt.NDArray[np.integer]
"""Values of one feature, shape (n_movies,)."""


class FeatureSet(StrEnum):
    """Which features a ranker was trained on."""

    REFERENCE = "reference"
    """The 38 of the reference: user, movie, ALS score."""
    EXTENDED = "extended"
    """Those, and the candidate's place in the list, its closeness to what the user rated last, and what
    the movie was at that time."""


FEATURE_NAMES: Final[Mapping[FeatureSet, tuple[str, ...]]] = MappingProxyType(
    {
        FeatureSet.REFERENCE: (*USER_FEATURES, *MOVIE_FEATURES, "als_score"),
        FeatureSet.EXTENDED: (*USER_FEATURES, *MOVIE_FEATURES, "als_score", *CONTEXT_FEATURES),
    }
)

_SECONDS_PER_DAY: Final = 86_400
_SECONDS_PER_YEAR: Final = 365.2425 * _SECONDS_PER_DAY
RECENT_SECONDS: Final = 90 * _SECONDS_PER_DAY
"""Width of the time bins in which recent ratings are counted."""
_GENRE_SHRINKAGE: Final = 5.0
_YEAR_COLUMN: Final = MOVIE_FEATURES.index("year")
_GENRE_COLUMNS: Final = slice(len(MOVIE_FEATURES) - len(GENRES), len(MOVIE_FEATURES))


def feature_hash(names: tuple[str, ...]) -> str:
    """Identifies names and order of a feature set: the first 16 hex digits of a sha256."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class MovieLinks:
    """Weighted links from each movie to others, row-compressed."""

    indptr: npt.NDArray[np.int64]
    """Shape (n_movies + 1,)."""
    movie_rows: Rows
    """Shape (n_links,): where each link leads; those of one movie lead to different ones."""
    weights: npt.NDArray[np.float32]
    """Shape (n_links,)."""

    def __post_init__(self) -> None:
        if self.indptr[-1] != self.movie_rows.size or self.movie_rows.size != self.weights.size:
            raise ValueError("indptr, movie_rows and weights do not belong together")

    def recent_sums(self, rated: Rows, last: Sequence[int], movie_rows: Rows) -> Iterator[Column]:
        """For each movie, the weights of the links to it from the last k rated movies, added up.

        Args:
            rated: shape (n_rated,), oldest first.
            last: each k, ascending.
            movie_rows: shape (n_movies,).

        Yields:
            Shape (n_movies,), for each k.
        """
        newest_first = rated[: -last[-1] - 1 : -1]
        starts, ends = self.indptr[newest_first].tolist(), self.indptr[newest_first + 1].tolist()
        sums = np.zeros(self.indptr.size - 1)
        done = 0
        for k in last:
            for start, end in zip(starts[done:k], ends[done:k], strict=True):
                sums[self.movie_rows[start:end]] += self.weights[start:end]  # no movie has two links to one
            done = k
            yield sums[movie_rows]


def user_features(history: History) -> npt.NDArray[np.float32]:
    """The values of `USER_FEATURES`, shape (7,); NaN but for the counts when there are no ratings."""
    n = len(history)
    if n == 0:
        return np.array([np.nan, np.nan, 0, np.nan, np.nan, 0, 0], dtype=np.float32)
    values = history.values.astype(np.float64)
    mean, deviation = _mean_and_deviation(values, degrees_of_freedom=n - 1)
    n_known = int(np.searchsorted(history.times, NO_TIME))  # the unknown times are the last
    days = int(history.times[n_known - 1] - history.times[0]) / _SECONDS_PER_DAY if n_known else 0.0
    return np.array(
        [mean, deviation, n, values.min(), values.max(), days, n / max(days, 1.0)], dtype=np.float32
    )


@dataclass(frozen=True)
class ProbeContext:
    """How movies stand to a candidate list that they are not on."""

    ranks: npt.NDArray[np.int64]
    """Shape (n_movies,): the place of each in retrieval, from 1."""
    list_scores: npt.NDArray[np.float32]
    """Shape (n_candidates,): the ALS scores of the list."""


@dataclass(frozen=True)
class FeatureTables:
    """What features need besides the user's history and the candidates. Immutable, shared by requests."""

    feature_set: FeatureSet
    movie_features: npt.NDArray[np.float32]
    """Shape (n_movies, len(MOVIE_FEATURES))."""
    item_unit_factors: npt.NDArray[np.float32]
    """Shape (n_movies, n_factors): ALS item factors of length one; a zero row where there are none."""
    transitions: MovieLinks
    """How often one movie is rated soon after another."""
    cooccurrence: MovieLinks
    """How often two movies are rated by the same users."""
    first_times: npt.NDArray[np.float64]
    """Shape (n_movies,): Unix seconds of each movie's first rating; NaN where there is none."""
    recent_ratings: npt.NDArray[np.int32]
    """Shape (n_movies, n_bins): each movie's ratings in a bin of `RECENT_SECONDS` and the one before."""
    oldest_time: int
    """Unix seconds of the oldest rating: where the bins begin."""
    newest_time: int
    """Unix seconds of the newest rating: "now" for a history whose times are unknown."""

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in column order."""
        return FEATURE_NAMES[self.feature_set]

    def compute(
        self,
        out: npt.NDArray[np.float32],
        *,
        history: History,
        movie_rows: Rows,
        retrieval_scores: npt.NDArray[np.float32],
        probe_context: ProbeContext | None = None,
    ) -> None:
        """Fills one user's rows of a feature matrix.

        Args:
            out: shape (n_candidates, len(names)), written; a slice of a Fortran-ordered matrix is fastest.
            history: all that is known of the user, training ratings and request history joined.
            movie_rows: shape (n_candidates,), the whole candidate list: ranks and standardised scores
                are those within it. With `probe_context`, movies that are held against another list.
            retrieval_scores: shape (n_candidates,), ALS scores, finite.
            probe_context: how the movies stand to that list; none: they are the list.
        """
        n_user, n_movie = len(USER_FEATURES), len(MOVIE_FEATURES)
        columns = out.T  # contiguous ones, if out is in Fortran order
        columns[:n_user] = user_features(history)[:, None]
        columns[n_user : n_user + n_movie] = self._movie_columns[:, movie_rows]
        columns[n_user + n_movie] = retrieval_scores
        if self.feature_set is FeatureSet.EXTENDED:
            probe_context = probe_context or ProbeContext(
                _ranks(movie_rows, retrieval_scores), retrieval_scores
            )
            context = (
                probe_context.ranks,
                _standardised(retrieval_scores, probe_context.list_scores),
                *self.transitions.recent_sums(history.movie_rows, (1, 5, 10), movie_rows),
                *self.cooccurrence.recent_sums(history.movie_rows, (5, 10), movie_rows),
                *self._mean_cosines(history.movie_rows, movie_rows),
                *self._at_last_rating(history.times, movie_rows),
                *self._genre_match(history, movie_rows),
            )
            for column, values in zip(columns[n_user + n_movie + 1 :], context, strict=True):
                column[:] = values

    @cached_property
    def _movie_columns(self) -> npt.NDArray[np.float32]:
        """Shape (len(MOVIE_FEATURES), n_movies)."""
        return np.ascontiguousarray(self.movie_features.T)

    @cached_property
    def _genre_flags(self) -> npt.NDArray[np.float32]:
        """Shape (n_movies, n_genres)."""
        return np.ascontiguousarray(self.movie_features[:, _GENRE_COLUMNS])

    @cached_property
    def _genre_counts(self) -> npt.NDArray[np.float32]:
        """Shape (n_movies, 1): genres of each movie, at least 1."""
        counts: npt.NDArray[np.float32] = np.maximum(self._genre_flags.sum(axis=1, keepdims=True), 1)
        return counts

    def _mean_cosines(self, rated: Rows, movie_rows: Rows) -> npt.NDArray[np.float32]:
        """Shape (3, n_movies): the mean cosine to the last 1, 5 and 20 rated movies."""
        # It is one product with the sum of their unit vectors.
        means = [self.item_unit_factors[rated[-k:]].sum(axis=0) / k for k in (1, 5, 20)]
        cosines: npt.NDArray[np.float32] = (self.item_unit_factors[movie_rows] @ np.stack(means, axis=1)).T
        return cosines

    def _at_last_rating(self, times: npt.NDArray[np.int64], movie_rows: Rows) -> Sequence[Column]:
        """What the movies were when the user last rated: age in years, days since first rated, ratings."""
        last = int(times[-1]) if times.size and times[-1] != NO_TIME else self.newest_time
        age = 1970 + last / _SECONDS_PER_YEAR - self._movie_columns[_YEAR_COLUMN, movie_rows]
        days = (last - self.first_times[movie_rows]) / _SECONDS_PER_DAY
        bins = self.recent_ratings.shape[1]
        now = min(max((last - self.oldest_time) // RECENT_SECONDS, 0), bins - 1)
        return age, days, self.recent_ratings[movie_rows, now]

    def _genre_match(self, history: History, movie_rows: Rows) -> npt.NDArray[np.floating]:
        """Means over a movie's genres: how far above their mean the user rates each; its share of late.

        Shape (2, n_movies).
        """
        rated = self._genre_flags[history.movie_rows]
        above = history.values - history.values.mean() if len(history) else history.values
        taste = (above @ rated) / (rated.sum(axis=0) + _GENRE_SHRINKAGE)
        share = rated[-20:].sum(axis=0) / max(min(len(history), 20), 1)
        sums = self._genre_flags[movie_rows] @ np.column_stack([taste, share])
        means: npt.NDArray[np.floating] = (sums / self._genre_counts[movie_rows]).T
        return means


def _ranks(movie_rows: Rows, retrieval_scores: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """Places from 1, ties to the lower movie row."""
    places = np.arange(1, movie_rows.size + 1)
    if (retrieval_scores[1:] < retrieval_scores[:-1]).all():  # as they come from retrieval, but for ties
        return places
    ranks = np.empty_like(places)
    ranks[np.lexsort((movie_rows, -retrieval_scores))] = places
    return ranks


def _standardised(
    retrieval_scores: npt.NDArray[np.floating], list_scores: npt.NDArray[np.floating]
) -> npt.NDArray[np.floating]:
    """Scores in standard deviations from the mean of a list's; all 0 without a list."""
    if not list_scores.size:
        return np.zeros(retrieval_scores.size)
    mean, deviation = _mean_and_deviation(list_scores.astype(np.float64), degrees_of_freedom=list_scores.size)
    return (retrieval_scores - mean) / (deviation or np.float64(1))


def _mean_and_deviation(
    values: npt.NDArray[np.float64], *, degrees_of_freedom: int
) -> tuple[np.float64, np.float64]:
    """As `mean` and `std` of numpy, to the last bit, in a third of the time; of one value, it is 0."""
    mean = np.float64(values.sum() / values.size)
    differences = values - mean
    squares = np.float64((differences * differences).sum())
    return mean, np.sqrt(squares / max(degrees_of_freedom, 1))
