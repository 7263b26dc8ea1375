"""Item-kNN with plain cosine on likes: the oldest collaborative filter, as a baseline."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, diags_array

from serving.ratings import Ratings
from training.data.ease import likes


@dataclass(frozen=True)
class ItemKnn:
    """Scores a movie by its summed cosine with the movies that a user liked; all neighbours count.

    The same over all ratings in place of likes is weaker (nDCG@10 on ml-latest-small .07 to .09 against
    .11), and a baseline should not be weak.
    """

    unit: csr_array
    """Likes, shape (n_users, n_movies), with every movie's column scaled to length 1."""
    liked: npt.NDArray[np.bool_]
    """Shape (n_movies,): whether anybody liked the movie."""

    @classmethod
    def fit(cls, ratings: Ratings, n_movies: int) -> "ItemKnn":
        """Fits on the likes among `ratings`."""
        matrix = likes(ratings, n_movies)
        counts = np.bincount(matrix.indices, minlength=n_movies)
        scale = diags_array(1.0 / np.sqrt(np.maximum(counts, 1)))
        return cls(unit=csr_array(matrix @ scale), liked=counts > 0)

    def scores(self, own: csr_array) -> npt.NDArray[np.float64]:
        """Scores for the likes of some users, shape (n, n_movies); -inf for a movie that nobody liked.

        A movie's cosine with itself is left in: it was seen, and will not be recommended.
        """
        # In the order that never makes a matrix of movies by movies.
        scores: npt.NDArray[np.float64] = ((own @ self.unit.T) @ self.unit).toarray()
        scores[:, ~self.liked] = -np.inf
        return scores
