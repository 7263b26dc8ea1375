"""A user's exact ALS vector from ratings: one function for trained users and for new histories.

Implicit ALS (Hu, Koren, Volinsky 2008) minimises, for user u with confidence c and preference p = 1 where
rated, `sum_i c_i (p_i - x·y_i)² + λ |x|²`. With the item factors Y fixed the minimum is exact:
`x = (YᵀY + Σ (c_i - 1) y_i y_iᵀ + λ I)⁻¹ Σ c_i y_i`, sums over the rated movies.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

import numpy as np
import numpy.typing as npt

from serving.ids import Rows
from serving.ratings import LIKED, History


class Confidence(StrEnum):
    """How a rating of r stars weighs as confidence."""

    LIKES = "likes"
    """1 + α from 4 stars on, 0.2 below: seen, hardly liked."""
    LINEAR = "linear"
    """1 + α r."""
    LOG = "log"
    """1 + α log(1 + r)."""
    BINARY = "binary"
    """α."""


_DISLIKE_CONFIDENCE: Final = 0.2

MAX_RATINGS: Final = 3_000
"""The newest so many of a user's ratings count, in training and serving alike: each takes 4 µs, in which the
event loop stands still, and one user of MovieLens has 32,202. Nobody in the small data set or 1M has more."""


@dataclass(frozen=True)
class AlsParameters:
    """What the ALS factors were fitted with."""

    factors: int
    """Length of a vector."""
    iterations: int
    """Alternations of implicit's fit."""
    regularization: float
    """λ."""
    alpha: float
    """α of the confidence."""
    confidence: Confidence
    """How ratings become confidence."""

    def confidences(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Confidence of each rating, shape as given, positive."""
        match self.confidence:
            case Confidence.LIKES:
                result = np.where(values >= LIKED, 1.0 + self.alpha, _DISLIKE_CONFIDENCE)
            case Confidence.LINEAR:
                result = 1.0 + self.alpha * values
            case Confidence.LOG:
                result = 1.0 + self.alpha * np.log1p(values)
            case Confidence.BINARY:
                result = np.full(values.shape, self.alpha)
            case _:
                assert_never(self.confidence)
        return result.astype(np.float32)


class FoldIn:
    """Solves for user vectors against fixed item factors.

    Args:
        item_factors: shape (n_movies, n_factors), float32; a zero row for a movie ALS does not know.
        parameters: as the factors were fitted.
    """

    def __init__(self, item_factors: npt.NDArray[np.float32], parameters: AlsParameters) -> None:
        self._item_factors = item_factors
        self._parameters = parameters
        wide = item_factors.astype(np.float64)
        self._gram = wide.T @ wide + parameters.regularization * np.eye(item_factors.shape[1])

    def user_vector(self, history: History) -> npt.NDArray[np.float32] | None:
        """The exact vector, shape (n_factors,), or None when the history says nothing to ALS.

        That is when no rated movie has factors, or under `likes` when nothing was liked: dislikes alone
        do not say what to recommend. The newest `MAX_RATINGS` count. Among them the order does not
        matter, not even to the last bit.
        """
        history = history.newest(MAX_RATINGS)
        if self._parameters.confidence is Confidence.LIKES and not np.any(history.values >= LIKED):
            return None
        order = np.argsort(history.movie_rows)
        factors = self._item_factors[history.movie_rows[order]].astype(np.float64)
        if not factors.any():
            return None
        weights = self._parameters.confidences(history.values[order]).astype(np.float64)
        system = self._system(factors, weights)
        vector: npt.NDArray[np.float32] = np.linalg.solve(system, weights @ factors).astype(np.float32)
        return vector

    def score_terms(
        self, history: History, of: npt.NDArray[np.intp], movie_rows: Rows
    ) -> npt.NDArray[np.float32]:
        """What ratings add to the scores of movies: `c_j · y_iᵀ A⁻¹ y_j` (section 5 of the paper).

        A is the system of `user_vector`. Over the whole history, a movie's terms add up to its score.

        Args:
            history: all that counts for the user's vector, at most `MAX_RATINGS`.
            of: shape (n_terms,), places in the history: the ratings whose terms are wanted.
            movie_rows: shape (n_movies,), whose scores they add to.

        Returns:
            Shape (n_movies, n_terms).
        """
        weights = self._parameters.confidences(history.values)
        system = self._system(
            self._item_factors[history.movie_rows].astype(np.float64), weights.astype(np.float64)
        )
        movies = self._item_factors[movie_rows]
        rated = self._item_factors[history.movie_rows[of]] * weights[of][:, None]
        # One solve, for the fewer of both: A is symmetric.
        if movies.shape[0] < rated.shape[0]:
            terms: npt.NDArray[np.float32] = np.linalg.solve(system, movies.T).astype(np.float32).T @ rated.T
        else:
            terms = movies @ np.linalg.solve(system, rated.T).astype(np.float32)
        return terms

    def _system(
        self, factors: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """A, shape (n_factors, n_factors), of rated movies' factors and confidences."""
        system: npt.NDArray[np.float64] = self._gram + (factors * (weights - 1.0)[:, None]).T @ factors
        return system
