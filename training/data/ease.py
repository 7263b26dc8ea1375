"""EASE (Steck 2019) on likes: a linear model in closed form, and a baseline that is hard to beat."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.linalg import inv
from scipy.sparse import csr_array, eye_array

from serving.ids import Rows
from serving.ratings import LIKED, Ratings

MOST_MOVIES: Final = 10_000
"""Rated movies up to which EASE is fitted: it may have to invert a dense matrix of that many rows."""


def likes(ratings: Ratings, n_movies: int) -> csr_array:
    """Shape (n_users, n_movies): 1 where the user gave 4 stars or more."""
    liked = ratings.where(ratings.values >= LIKED)
    return csr_array(
        (np.ones(len(liked)), liked.movie_rows, liked.indptr), shape=(len(ratings.users), n_movies)
    )


@dataclass(frozen=True)
class Ease:
    """Scores a movie by the likes of a user, weighted so that no movie explains itself.

    With likes X and `P = (XᵀX + λI)⁻¹` the weights are `B = I - P / diag(P)`. Where there are fewer users
    than movies, P is not computed: it equals `(I - Xᵀ M X) / λ` with `M = (X Xᵀ + λI)⁻¹`.
    """

    regularization: float
    """λ."""
    matrix: csr_array
    """X over the liked movies, shape (n_users, n_liked)."""
    inverse: npt.NDArray[np.float64]
    """P, or M where that is the smaller."""
    diagonal: npt.NDArray[np.float64]
    """diag(P), shape (n_liked,)."""
    liked: Rows
    """Movie rows that somebody liked, ascending."""

    @classmethod
    def fit(cls, ratings: Ratings, n_movies: int, regularization: float) -> "Ease":
        """Fits on the likes among `ratings`; `regularization` is λ."""
        everything = likes(ratings, n_movies)
        liked = np.unique(everything.indices).astype(np.int32)
        matrix = everything[:, liked]
        if matrix.shape[0] < liked.size:
            inverse = _inverse(matrix @ matrix.T, regularization)
            explained = np.asarray(matrix.multiply(inverse @ matrix).sum(axis=0))
            diagonal = (1.0 - explained) / regularization
        else:
            inverse = _inverse(matrix.T @ matrix, regularization)
            diagonal = np.diag(inverse)
        return cls(regularization, matrix, inverse, diagonal, liked)

    def scores(self, own: csr_array) -> npt.NDArray[np.float64]:
        """Scores for the likes of some users, trained on or not; -inf for a movie that nobody liked.

        Shape (n, n_movies), as that of `own`, which is as `likes` gives it.
        """
        mine = own[:, self.liked]
        dense = mine.toarray()
        if self.matrix.shape[0] < self.liked.size:
            explained = ((mine @ self.matrix.T) @ self.inverse) @ self.matrix
            projected = (dense - explained) / self.regularization
        else:
            projected = mine @ self.inverse
        scores = np.full(own.shape, -np.inf)
        scores[:, self.liked] = dense - projected / self.diagonal
        return scores

    def weights_to(self, places: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """Weights from every liked movie to some, shape (n_places, n_liked): columns of B less I, as rows."""
        if self.matrix.shape[0] < self.liked.size:
            explained = (self.matrix[:, places].T @ self.inverse) @ self.matrix
            identity_less_explained = -explained
            identity_less_explained[np.arange(places.size), places] += 1.0
            projected = identity_less_explained / self.regularization
        else:
            projected = self.inverse[places]
        weights: npt.NDArray[np.float64] = -projected / self.diagonal[places, None]
        weights[np.arange(places.size), places] = 0.0
        return weights


def _inverse(gram: csr_array, regularization: float) -> npt.NDArray[np.float64]:
    dense = (gram + regularization * eye_array(gram.shape[0])).toarray()
    inverse: npt.NDArray[np.float64] = inv(dense, overwrite_a=True, assume_a="pos")
    return inverse
