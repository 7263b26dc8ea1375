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
SEQUENCE_FEATURES: Final = (
    "als_rank",
    "als_z",
    "trans_last1",
    "trans_last5",
    "knn_last5",
    "knn_last10",
    "cos_last1",
    "cos_last5",
    "cos_last20",
)


class FeatureSet(StrEnum):
    """Which features a ranker was trained on."""

    REFERENCE = "reference"
    """The 38 of the reference: user, movie, ALS score."""
    EXTENDED = "extended"
    """Those, and the candidate's place in the list and its closeness to what the user rated last."""


FEATURE_NAMES: Final[Mapping[FeatureSet, tuple[str, ...]]] = MappingProxyType(
    {
        FeatureSet.REFERENCE: (*USER_FEATURES, *MOVIE_FEATURES, "als_score"),
        FeatureSet.EXTENDED: (*USER_FEATURES, *MOVIE_FEATURES, "als_score", *SEQUENCE_FEATURES),
    }
)

_SECONDS_PER_DAY = 86_400


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
    ) -> None:
        """Fills one user's rows of a feature matrix.

        Args:
            out: shape (n_candidates, len(names)), written; a slice of a Fortran-ordered matrix is fastest.
            history: all that is known of the user, training ratings and request history joined.
            movie_rows: shape (n_candidates,), the whole candidate list: ranks and standardised scores
                are those within it.
            retrieval_scores: shape (n_candidates,), ALS scores, finite.
        """
        n_user, n_movie = len(USER_FEATURES), len(MOVIE_FEATURES)
        out[:, :n_user] = user_features(history)
        out[:, n_user : n_user + n_movie] = self.movie_features[movie_rows]
        out[:, n_user + n_movie] = retrieval_scores
        if self.feature_set is FeatureSet.EXTENDED:
            self._compute_sequence(
                out[:, n_user + n_movie + 1 :], history.movie_rows, movie_rows, retrieval_scores
            )

    def _compute_sequence(
        self,
        out: npt.NDArray[np.float32],
        rated: Rows,
        movie_rows: Rows,
        retrieval_scores: npt.NDArray[np.float32],
    ) -> None:
        n_movies = self.movie_features.shape[0]
        out[np.lexsort((movie_rows, -retrieval_scores)), 0] = np.arange(1, movie_rows.size + 1)
        scores = retrieval_scores.astype(np.float64)
        out[:, 1] = (scores - scores.mean()) / (scores.std() or 1.0) if scores.size else 0.0
        for column, links, last in (
            (2, self.transitions, 1),
            (3, self.transitions, 5),
            (4, self.cooccurrence, 5),
            (5, self.cooccurrence, 10),
        ):
            out[:, column] = links.sums(rated[-last:], n_movies)[movie_rows]
        # One column per window: the mean cosine to the last k movies is one product with their sum.
        windows = [self.item_directions[rated[-k:]].sum(axis=0) / k for k in (1, 5, 20)]
        out[:, 6:9] = self.item_directions[movie_rows] @ np.stack(windows, axis=1)
