"""Truncated SVD of the user-centred rating matrix: a baseline to compare with, never served."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds

from serving.ids import Rows
from serving.ratings import Ratings


@dataclass(frozen=True)
class Svd:
    """Scores a movie as `mean rating of the user + (U Σ) · V`."""

    user_means: npt.NDArray[np.float64]
    """Shape (n_users,); 0 for a user without ratings."""
    user_factors: npt.NDArray[np.float64]
    """Shape (n_users, n_factors): U Σ."""
    item_factors: npt.NDArray[np.float64]
    """Shape (n_movies, n_factors): V."""

    @classmethod
    def fit(cls, ratings: Ratings, n_movies: int, *, n_factors: int = 50, seed: int = 0) -> "Svd":
        """Factorises; `n_factors` is lowered when the matrix is smaller.

        Where there is nothing to factorise, as each user gave all movies the same stars or there is but one
        user or movie, there are no factors, and the mean is all that is expected.
        """
        counts = ratings.counts()
        sums = np.add.reduceat(np.append(ratings.values.astype(np.float64), 0.0), ratings.indptr[:-1])
        means = np.where(counts > 0, sums / np.maximum(counts, 1), 0.0)
        centred = ratings.values - np.repeat(means, counts)
        matrix = csr_array((centred, ratings.movie_rows, ratings.indptr), shape=(counts.size, n_movies))
        rank = min(n_factors, min(matrix.shape) - 1)
        if rank < 1 or not centred.any():  # ARPACK refuses both
            return cls(means, np.zeros((counts.size, 0)), np.zeros((n_movies, 0)))
        left: npt.NDArray[Any]
        strengths: npt.NDArray[Any]
        right: npt.NDArray[Any]
        left, strengths, right = svds(matrix, k=rank, rng=np.random.default_rng(seed))
        return cls(user_means=means, user_factors=left * strengths, item_factors=right.T)

    def scores(self, user_rows: Rows) -> npt.NDArray[np.float64]:
        """Predicted stars, shape (n_user_rows, n_movies)."""
        products = self.user_factors[user_rows] @ self.item_factors.T
        return self.user_means[user_rows, None] + products
