"""The ranker's features: names, order, and the one function that computes them.

Training and serving call `FeatureTables.compute`, so that a model never sees features that were computed
in another way than those it learned from. All features are numeric float32; NaN stands for unknown.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

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
    """Shape (n_links,): where each link leads."""
    weights: npt.NDArray[np.float32]
    """Shape (n_links,)."""

    def __post_init__(self) -> None:
        if self.indptr[-1] != self.movie_rows.size or self.movie_rows.size != self.weights.size:
            raise ValueError("indptr, movie_rows and weights do not belong together")

    def sums(self, sources: Rows, n_movies: int) -> npt.NDArray[np.float64]:
        """Shape (n_movies,): for each movie, the weights of the links from `sources` to it, added up."""
        slices = [slice(self.indptr[row], self.indptr[row + 1]) for row in sources]
        if not slices:
            return np.zeros(n_movies)
        sums: npt.NDArray[np.float64] = np.bincount(
            np.concatenate([self.movie_rows[s] for s in slices]),
            weights=np.concatenate([self.weights[s] for s in slices]),
            minlength=n_movies,
        ).astype(np.float64, copy=False)
        return sums


def user_features(history: History) -> npt.NDArray[np.float32]:
    """The values of `USER_FEATURES`, shape (7,); NaN but for the counts when there are no ratings."""
    n = len(history)
    if n == 0:
        return np.array([np.nan, np.nan, 0, np.nan, np.nan, 0, 0], dtype=np.float32)
    values = history.values.astype(np.float64)
    known = history.times[history.times != NO_TIME]
    days = (known.max() - known.min()) / _SECONDS_PER_DAY if known.size else 0.0
    return np.array(
        [
            values.mean(),
            values.std(ddof=1) if n > 1 else 0.0,
            n,
            values.min(),
            values.max(),
            days,
            n / max(days, 1.0),
        ],
        dtype=np.float32,
    )


@dataclass(frozen=True)
class Standing:
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
    item_directions: npt.NDArray[np.float32]
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
        standing: Standing | None = None,
    ) -> None:
        """Fills one user's rows of a feature matrix.

        Args:
            out: shape (n_candidates, len(names)), written; a slice of a Fortran-ordered matrix is fastest.
            history: all that is known of the user, training ratings and request history joined.
            movie_rows: shape (n_candidates,), the whole candidate list: ranks and standardised scores
                are those within it. With `standing`, movies that are held against another list.
            retrieval_scores: shape (n_candidates,), ALS scores, finite.
            standing: how the movies stand to that list; none: they are the list.
        """
        n_user, n_movie = len(USER_FEATURES), len(MOVIE_FEATURES)
        out[:, :n_user] = user_features(history)
        out[:, n_user : n_user + n_movie] = self.movie_features[movie_rows]
        out[:, n_user + n_movie] = retrieval_scores
        if self.feature_set is FeatureSet.EXTENDED:
            context = out[:, n_user + n_movie + 1 :]
            standing = standing or Standing(_ranks(movie_rows, retrieval_scores), retrieval_scores)
            context[:, 0] = standing.ranks
            context[:, 1] = _standardised(retrieval_scores, standing.list_scores)
            context[:, 2:10] = self._closeness(history.movie_rows, movie_rows)
            context[:, 10:13] = self._at_last_rating(history.times, movie_rows)
            context[:, 13:15] = self._genre_match(history, movie_rows)

    def _closeness(self, rated: Rows, movie_rows: Rows) -> npt.NDArray[np.floating]:
        """To the last k rated movies: three sums of transitions, two of co-occurrence, three cosines."""
        n_movies = self.movie_features.shape[0]
        sums = [
            links.sums(rated[-k:], n_movies)[movie_rows]
            for links, k in (
                (self.transitions, 1),
                (self.transitions, 5),
                (self.transitions, 10),
                (self.cooccurrence, 5),
                (self.cooccurrence, 10),
            )
        ]
        # The mean cosine to the last k movies is one product with the sum of their directions.
        means = [self.item_directions[rated[-k:]].sum(axis=0) / k for k in (1, 5, 20)]
        return np.column_stack([*sums, self.item_directions[movie_rows] @ np.stack(means, axis=1)])

    def _at_last_rating(self, times: npt.NDArray[np.int64], movie_rows: Rows) -> npt.NDArray[np.floating]:
        """What the movies were when the user last rated: age in years, days since first rated, ratings."""
        last = int(times[-1]) if times.size and times[-1] != NO_TIME else self.newest_time
        age = 1970 + last / _SECONDS_PER_YEAR - self.movie_features[movie_rows, _YEAR_COLUMN]
        days = (last - self.first_times[movie_rows]) / _SECONDS_PER_DAY
        bins = self.recent_ratings.shape[1]
        now = min(max((last - self.oldest_time) // RECENT_SECONDS, 0), bins - 1)
        return np.column_stack([age, days, self.recent_ratings[movie_rows, now]])

    def _genre_match(self, history: History, movie_rows: Rows) -> npt.NDArray[np.floating]:
        """Mean over the movie's genres: how far above their mean the user rates each; its share of late."""
        flags = self.movie_features[:, _GENRE_COLUMNS]
        rated = flags[history.movie_rows]
        above = history.values - history.values.mean() if len(history) else history.values
        taste = (above @ rated) / (rated.sum(axis=0) + _GENRE_SHRINKAGE)
        share = rated[-20:].sum(axis=0) / max(min(len(history), 20), 1)
        own = flags[movie_rows]
        sums: npt.NDArray[np.floating] = own @ np.column_stack([taste, share])
        counts: npt.NDArray[np.floating] = own.sum(axis=1, keepdims=True)
        means: npt.NDArray[np.floating] = sums / np.maximum(counts, 1)
        return means


def _ranks(movie_rows: Rows, retrieval_scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Places from 1, ties to the lower movie row."""
    ranks = np.empty(movie_rows.size, dtype=np.int64)
    ranks[np.lexsort((movie_rows, -retrieval_scores))] = np.arange(1, movie_rows.size + 1)
    return ranks


def _standardised(
    retrieval_scores: npt.NDArray[np.float32], list_scores: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Scores in standard deviations from the mean of a list's; all 0 without a list."""
    if not list_scores.size:
        return np.zeros(retrieval_scores.size)
    of_list = list_scores.astype(np.float64)
    deviation = float(of_list.std()) or 1.0
    standardised: npt.NDArray[np.float64] = (retrieval_scores - of_list.mean()) / deviation
    return standardised
